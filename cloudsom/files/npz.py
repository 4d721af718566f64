"""Plain arrays from .npz files of strangers: read without numpy's pickles, and without trusting a size they claim."""

import re
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import Damaged
from cloudsom.files.places import local
from cloudsom.files.zips import DAMAGED, is_damage

#: A map of 20 x 15 takes 35 kB, or 1 MB with a sub-map in every third neuron. Bytes, packed and unpacked.
MAX_BYTES = 32 * 1024 * 1024

#: What stands before an array's numbers as numpy writes it, for numbers in this machine's byte order.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][fiu][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,9}, ?)*(?:\d{1,9})?)\), \} *\n",
    re.DOTALL,
)


def names(path: Path) -> list[str]:
    """The names of an .npz's arrays, without reading them; Damaged for a file that is none."""
    with _opened(path) as archive:
        return [member.filename.removesuffix(".npy") for member in archive.infolist()]


def read(path: Path, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz that holds exactly the `wanted` ones; Damaged for any other file."""
    with _opened(path) as archive:
        members = archive.infolist()
        _check(members, wanted)
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A file as a zip; Damaged where it is none, or too large."""
    path = local(path)
    if path.stat().st_size > MAX_BYTES:
        raise Damaged(f"{path.stat().st_size:,} bytes is too large")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, RuntimeError, *DAMAGED) as problem:
        if isinstance(problem, OSError) and not is_damage(problem):
            raise
        raise Damaged(" ".join(str(problem).split())[:100] or type(problem).__name__) from None


def _check(members: list[zipfile.ZipInfo], wanted: Collection[str]) -> None:
    """Damaged unless the members are the arrays wanted, each once, and small as a whole when unpacked."""
    found = [member.filename.removesuffix(".npy") for member in members]
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise Damaged(f"{missing[0]} is missing")
    if unknown or len(found) != len(wanted):
        raise Damaged(f"it holds {ascii(unknown[0])[:60]} too" if unknown else "it holds an array twice")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise Damaged("its arrays are too large")
    if any(m.flag_bits & 1 or m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise Damaged("it is encrypted or packed in an unusual way")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; no more is unpacked than the member's size, which was checked."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size)
    header = _HEADER.match(content)
    if not header:
        raise Damaged(f"{member.filename} is not an array of numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in header[3].decode().replace(",", " ").split())
    if len(shape) > 8 or prod(shape) * dtype.itemsize != len(content) - header.end():
        raise Damaged(f"{member.filename} does not fill its shape")
    order: Any = "F" if header[2] == b"True" else "C"
    return np.ndarray(shape, dtype, content, header.end(), order=order).copy()
