"""Where files are: in folders of this machine, or behind a URL that fsspec knows (s3://bucket/folder and its like).

A place is a `pathlib.Path`, or for a URL a `upath.UPath`, which joins, names and lists in the same way. Only the bytes
are reached in another way: what reads a file takes `local(place)`, for a URL a copy that is kept as long as
`working_copies` lasts, and what writes one writes a file of this machine that `stores` uploads when it is whole.

Accounts and passwords are the business of fsspec and the storage's own package (environment, ~/.config/fsspec, ~/.aws).
"""

import errno
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cloudsom.errors import UserError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

#: Packages whose exceptions mean that a storage was not reached, or refused. What else comes from one is an OSError.
STORAGE_PACKAGES = ("aiobotocore", "aiohttp", "azure", "botocore", "ftplib", "gcsfs", "google", "paramiko", "requests")


# --- names ------------------------------------------------------------------------------------------------------------


def is_url(text: str) -> bool:
    """Whether `text` names a place by URL and not by path."""
    return bool(_URL.match(text))


def named(text: str) -> Path:
    """The place that a path or URL names, typed as the Path that a UPath stands in for.

    Raises UserError for a URL that cannot be used here or an unknown `~user`, OSError where its server does not answer.
    """
    if not is_url(text):
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise UserError(f"{text}: there is no user of that name here; write the folder out") from None
    scheme = text.partition(":")[0]
    if scheme == "file":
        raise UserError(f"{text}: give the path alone, without file://")
    if "::" in text:
        raise UserError(f"{text}: a URL within a URL is not read; give the plain one")
    try:
        password = urlsplit(text).password
    except ValueError as problem:
        raise UserError(f"{text}: is no URL ({problem}); correct it") from None
    if password is not None:
        raise UserError(f"{scheme}://...: a password in a URL ends up in messages; put it where fsspec looks for it")
    try:
        import upath

        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # of storages without tests
            found = upath.UPath(text)
        _ = found.fs
    except (ImportError, ValueError) as problem:
        reason = f"{problem}".rstrip(".")
        raise UserError(f"{text}: {reason}; for URLs: pip install -r requirements-cluster.txt") from None
    return cast(Path, found)


def is_remote(place: Path) -> bool:
    """Whether a place is behind a URL."""
    return not isinstance(place, Path)


def under(data_dir: str, name: str) -> Path:
    """The place of a file or folder: an absolute path or a URL `name` as it is, any other under `data_dir`."""
    given = named(name)
    if is_url(name) or given.is_absolute():
        return given
    found = named(data_dir)
    for part in given.parts:
        found = found.parent if part == ".." and is_remote(found) else found / part  # ".." would stay a name in a URL
    return found


def input_path(data_dir: str, name: str) -> Path:
    """`under`, but a name that is only there as seen from the present folder is taken from there."""
    there = under(data_dir, name)
    here = named(name)
    return here if not there.exists() and here.exists() else there


def existing(data_dir: str, name: str, what_to_do: str) -> Path:
    """`input_path` of a file that must be there; a UserError that ends in `what_to_do` if it is not."""
    found = input_path(data_dir, name)
    if not found.exists():
        raise UserError(f"{found}: no such file; {what_to_do}")
    if found.is_dir():
        raise UserError(f"{found}: is a folder, a file is needed; {what_to_do}")
    if not found.is_file():
        raise UserError(f"{found}: is a device or pipe, which is read only once; {what_to_do}")
    return found


def folder_here(place: Path, what: str) -> Path:
    """`place`, which must be on this machine; UserError that begins with `what` it is for."""
    if is_remote(place):
        raise UserError(f"{what}: {place} is behind a URL; choose a folder here, and copy its files there")
    return place


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in those it holds; links to folders are followed, each folder is gone through once."""
    if is_remote(folder):
        yield from (place for place in folder.rglob("*") if place.is_file())
        return
    seen = set[str]()
    for here, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (place for name in names if (place := Path(here, name)).is_file())


def visible(found: Iterable[Path]) -> list[Path]:
    """Files and folders sorted, without hidden ones: our unfinished ones, and the `._` twins that macOS adds."""
    return sorted(place for place in found if not place.name.startswith("."))


def one_name(place: Path) -> str:
    """The same text for all names of a place: absolute, links followed."""
    return str(place) if is_remote(place) else os.path.realpath(place)


def refusal(problem: BaseException) -> str | None:
    """In words, what a storage has against it, if this exception is a storage's; what may be secret is left out."""
    if type(problem).__module__.partition(".")[0] not in STORAGE_PACKAGES:
        return None
    said = re.sub(r"[?]\S+", "?...", str(problem))
    return f"the storage cannot be reached, or refuses: {said[:300]}"


# --- working copies ---------------------------------------------------------------------------------------------------


class _Copies:
    """Files on this machine that stand for places behind URLs, in a folder of their own (of TMPDIR)."""

    def __init__(self) -> None:
        self.of: dict[Path, Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def new(self, name: str) -> Path:
        """A file that is not there yet, called `name`."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cloudsom-")
        return Path(tempfile.mkdtemp(dir=self._folder.name)) / name

    def remove(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


_LOCK = threading.RLock()  # a product's bands are read in threads
_levels = [_Copies()]  # those of the run, which last as long as the process, and above them those of the job at work


@contextmanager
def working_copies() -> Iterator[None]:
    """Copies that are made in the block are removed at its end; for a job."""
    _levels.append(_Copies())
    try:
        yield
    finally:
        _levels.pop().remove()


def local(place: Path) -> Path:
    """The file on this machine to read what is at `place`: itself, or a copy, made on first use.

    Raises FileNotFoundError and other OSErrors as for a file that is here.
    """
    if not is_remote(place):
        return place
    with _LOCK:
        for copies in _levels:
            if place in copies.of:
                return copies.of[place]
        copy = _levels[-1].new(place.name)
        try:
            _fs(place).get_file(_path(place), str(copy))
        except Exception:  # storages differ in what they say of a file that is not there
            if place.exists():
                raise
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place)) from None
        _levels[-1].of[place] = copy
        return copy


def to_hash(place: Path) -> Path:
    """Where to read a file that may not be read again: in a job, which is going to, a copy; else what is there.

    So a script that goes over the inputs of all its products keeps no copy of them all.
    """
    return local(place) if len(_levels) > 1 else place


def new_file(place: Path) -> Path:
    """A file on this machine to write what is to come to `place`, which is behind a URL."""
    with _LOCK:
        return _levels[-1].new(place.name)


# --- storages ---------------------------------------------------------------------------------------------------------


def make_folder(place: Path) -> None:
    """Make a folder, and those it is in, where it is missing and where storages have folders.

    Object stores have none, and would make a bucket, of which a misspelt name is no sign that one is wanted.
    """
    if not is_remote(place):
        place.mkdir(parents=True, exist_ok=True)
        return
    from upath.implementations.cloud import CloudPath

    if isinstance(place, CloudPath):
        return
    try:
        forget(place)
        _fs(place).makedirs(_path(place), exist_ok=True)
    except Exception:  # another worker has made the same file first
        forget(place)
        if not place.is_dir():
            raise


def upload(file: Path, place: Path) -> None:
    """Copy a file of this machine to a place behind a URL, in a folder that is there."""
    _fs(place).put_file(str(file), _path(place))
    forget(place)


def rename(place: Path, target: Path) -> None:
    """Give what is at `place` another name in its folder, in place of what has that name. Raises FileNotFoundError."""
    if is_remote(place):
        _fs(place).mv(_path(place), _path(target))
        forget(target)
    else:
        place.replace(target)


def forget(place: Path) -> None:
    """Drop what is known of a place behind a URL: its copy, and what was listed there."""
    if is_remote(place):
        _fs(place).invalidate_cache()
        with _LOCK:
            for copies in _levels:
                copies.of.pop(place, None)


def stamp(place: Path) -> tuple[int | str, ...]:
    """What shows, without reading it, that a file is still the same. Raises FileNotFoundError.

    Device, inode, size in bytes and time of the last change in ns; of a file behind a URL what its storage tells
    (ETag, time, size).
    """
    if is_remote(place):
        _fs(place).invalidate_cache()
        return (str(_fs(place).ukey(_path(place))),)
    found = place.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _fs(place: Path) -> Any:
    """fsspec's file system of a place behind a URL."""
    return cast(Any, place).fs


def _path(place: Path) -> str:
    """What its file system calls a place behind a URL."""
    return str(cast(Any, place).path)
