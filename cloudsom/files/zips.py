"""What Python's zipfile raises on damaged archives: nearly anything, as each packing method has its own errors."""

import errno
import lzma
import struct
import zipfile
import zlib

#: The archive, or what is packed in it, is damaged.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, LookupError, ValueError)


def is_damage(problem: OSError) -> bool:
    """Whether the archive is to blame for an OSError, and not the disk.

    A damaged directory sends zipfile to impossible places in the file (EINVAL); bz2 gives no number.
    """
    return problem.errno in (None, errno.EINVAL)
