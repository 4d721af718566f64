"""One run of a script at a time in one folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cloudsom.errors import UserError
from cloudsom.files import places


@contextmanager
def only_run(data_dir: Path, script: str) -> Iterator[None]:
    """Hold a lock, so that the same script does not write the same folder twice at once.

    The lock is the operating system's and goes with the process, however it ends. A folder that is not there yet is
    made for it, and removed again if nothing was put there (a wrong DATA_DIR). A folder that cannot hold the lock file
    (read-only) is not locked: nothing can be written there either. Nor is a URL, for want of locks: two runs there do
    the same work twice, and the same bytes win.
    """
    if places.is_remote(data_dir):
        yield
        return
    made = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    place = data_dir / f".{script}.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = _lock(place, script)
    except (OSError, ImportError):
        _remove_if_empty(made)
        yield
        return
    with handle:
        try:
            yield
        finally:
            if made and os.listdir(data_dir) == [place.name]:
                place.unlink()
                _remove_if_empty(made)


def _lock(place: Path, script: str) -> IO[str]:
    """The lock file, locked; UserError if another run has it."""
    import fcntl

    while True:
        handle = open(place, "w")  # noqa: SIM115 - held open as long as the script runs
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise UserError(
                f"{place.parent}: another run of {script} is at work there; wait for it or stop it"
            ) from None
        if place.exists() and os.path.samestat(os.fstat(handle.fileno()), place.stat()):
            return handle
        handle.close()  # the run before this one has just removed the file together with its empty folder


def _remove_if_empty(folders: list[Path]) -> None:
    """Remove folders, inner ones first, as far as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
