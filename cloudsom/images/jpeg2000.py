"""The outline of a JPEG 2000 image (ISO/IEC 15444-1, annexes A and I): that every length in it ends within the file.

The decoder takes lengths on trust, and one that leads beyond the end may end the whole process with it.
"""

from collections.abc import Callable

from osgeo import gdal

START, TILE_PART, END = b"\xff\x4f", b"\xff\x90", b"\xff\xd9"

#: The first box of a JP2 file.
SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

#: Boxes and markers looked at; a 10 m band has about 130.
MAX_STEPS = 100_000

#: `length` bytes from position `at` on; fewer at the end of the file.
Read = Callable[[int, int], bytes]


def fault(name: str) -> str:
    """In words, what is wrong with the outline of a file (a GDAL name); empty if nothing, or it is no JPEG 2000."""
    handle = gdal.VSIFOpenL(name, "rb")
    if handle is None:
        return ""

    def read(at: int, length: int) -> bytes:
        gdal.VSIFSeekL(handle, at, 0)
        return bytes(gdal.VSIFReadL(1, length, handle) or b"")

    try:
        start, end = 0, (size := gdal.VSIStatL(name).size)
        if read(0, len(SIGNATURE)) == SIGNATURE:
            start, end = _codestream(read, size)
        elif read(0, 2) != START:
            return ""
        if end > size or read(start, 2) != START:
            return "a box of the image is damaged, or the file is cut short"
        return "" if _ends_within(read, start, end) else "a part of the image is damaged, or the file is cut short"
    finally:
        gdal.VSIFCloseL(handle)


def _codestream(read: Read, size: int) -> tuple[int, int]:
    """Where the image itself begins and ends among the boxes; behind the end of the file where there is none."""
    at = 0
    for _ in range(MAX_STEPS):
        head = read(at, 16)
        length, begin = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, begin = int.from_bytes(head[8:16]), at + 16
        end = at + length if length else size
        if head[4:8] == b"jp2c":
            return begin, end
        if len(head) < 8 or end <= at:
            break
        at = end
    return size, size + 1


def _ends_within(read: Read, start: int, end: int) -> bool:
    """Whether headers and tile parts follow each other up to the end."""
    at = start + 2
    for _ in range(MAX_STEPS):
        head = read(at, 12)
        if at == end or head[:2] == END:
            return True
        length = 2 + int.from_bytes(head[2:4])
        if head[:2] == TILE_PART:
            length = int.from_bytes(head[6:10]) or end - at  # the last one may leave it open
        if length < 4 or at + length > end:
            return False
        at += length
    return False
