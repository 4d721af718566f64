"""One file from a server to the disk: resumed where it stopped, checked, and under its name only when it is right.

The bytes go to `.NAME.partial`, which is a true beginning of the file at any moment, so that a run may end anyhow and
the next one goes on. Beside it, `.NAME.partial.json` holds what the bytes belong to (size, checksum, ETag): bytes of
another version of the file are not continued.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests

from cloudsom.downloads.client import Auth, Client, DownloadError, Transient
from cloudsom.errors import FULL, UserError
from cloudsom.files import stores

MAX_BYTES = 50_000_000_000  # no file here is larger; where a server names no length, it may not send more
RANGE_REFUSED = (400, 416, 501)  # what servers answer that cannot go on from the middle


class Corrupt(Exception):
    """The bytes that came are not the file."""


class Unusable(DownloadError):
    """The file came as the server has it, and must not be used."""


@dataclass(frozen=True)
class Remote:
    """A file on a server: its URL, what it is called here, and what is promised about it.

    `size` in bytes and `checksum` ("md5:..." or "sha256:...", hexadecimal) are None where the server promises nothing.
    Where there is a checksum it decides, and `size` is a guess: catalogues are wrong about it now and then.
    """

    url: str
    name: str
    size: int | None = None
    checksum: str | None = None


def bytes_there(path: Path) -> int:
    """How much of a file is on disk, finished or partial."""
    for place in (path, stores.partial_path(path)):
        try:
            return place.stat().st_size
        except OSError:
            continue
    return 0


def digest(path: Path, algorithm: str) -> str:
    """The file's checksum, hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def verify(path: Path, remote: Remote, check: Callable[[Path], None] | None = None) -> None:
    """Raise Corrupt unless the file has the promised checksum, or else length, and passes `check`."""
    size = path.stat().st_size
    if remote.checksum:
        algorithm, _, promised = remote.checksum.partition(":")
        found = digest(path, algorithm)
        if found != promised.lower():
            raise Corrupt(f"its {algorithm} is {found} where {promised} was promised")
    elif remote.size is not None and size != remote.size:
        raise Corrupt(f"{size:,} bytes came where {remote.size:,} were promised")
    if check:
        check(path)


def fetch(
    client: Client,
    remote: Remote,
    path: Path,
    auth: Auth | None = None,
    check: Callable[[Path], None] | None = None,
    ours: bool = False,
) -> None:
    """Bring `remote` to `path`, which afterwards holds the right bytes or does not exist; shown within the client's
    `display.counting`.

    `check` is called with the finished partial file and raises Corrupt if the content is damaged, Unusable if it is not
    to be used. A wrong length, checksum or content costs one more try from the start. A wrong file that is there
    already is replaced where it is `ours` (in a folder of ours) or a record beside it says that it was fetched; any
    other is left. Raises DownloadError, Stopped, and UserError for a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with client.display.file(PurePosixPath(remote.name).name, remote.size) as at:
        if _is_right(path, remote, check, ours):
            at(path.stat().st_size)
            discard_partial(path)  # a run may have ended between giving the file its name and this
            return
        try:
            _Transfer(client, remote, path, auth, at).bring(check)
        except OSError as problem:
            if problem.errno in FULL:
                raise UserError(
                    f"{path}: {os.strerror(problem.errno)}; make room and run the same command again: it goes on where "
                    "it stopped"
                ) from None
            raise


def _is_right(path: Path, remote: Remote, check: Callable[[Path], None] | None, ours: bool) -> bool:
    """Whether the right file is at `path`; a wrong one is removed where it may be replaced."""
    if not path.exists():
        return False
    try:
        verify(path, remote, check)
    except Corrupt as fault:
        stores.check_replaceable(path)
        record = stores.read_record(path)
        if maker := (record or {}).get("script"):
            raise UserError(f"{path}: was made by {maker}, which alone replaces it; give another name") from None
        if not ours and record is None:
            what = f"is there, was not fetched by this program, and is another file ({fault})"
            raise DownloadError(f"{path}: {what}; move it away, and run the same command again") from None
        path.unlink()
        return False
    return True


def discard_partial(path: Path) -> None:
    """Remove what bringing `path` has left, or has needed so far: the partial file or folder, and its note."""
    partial = stores.partial_path(path)
    note = stores.record_path(partial)
    for place in (partial, note, *stores.attempts(note)):
        stores.remove(place)


def publish(partial: Path, path: Path) -> None:
    """Give a finished file or folder its name; after a power cut it is whole or not there."""
    if partial.is_file():
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Transfer:
    """The partial file and the requests that fill it."""

    def __init__(
        self, client: Client, remote: Remote, path: Path, auth: Auth | None, at: Callable[[int], None]
    ) -> None:
        self.client, self.remote, self.path, self.auth, self.at = client, remote, path, auth, at
        self.partial = stores.partial_path(path)
        self.note = stores.record_path(self.partial)
        self.host = urlsplit(remote.url).hostname
        if self.partial.is_symlink() or not self.partial.is_file():  # what leads elsewhere is not ours to go on with
            discard_partial(path)
        self.furthest = bytes_there(self.path)

    def bring(self, check: Callable[[Path], None] | None) -> None:
        """Fill the partial file and give it its name; see `fetch`."""
        for last_try in (False, True):
            try:
                self.client.persist(self.attempt, self.progressed)
                verify(self.partial, self.remote, check)
                break
            except Unusable:
                discard_partial(self.path)
                raise
            except Corrupt as fault:
                discard_partial(self.path)
                if last_try:
                    told = f"{self.remote.name}: {fault}, twice; nothing of it is kept"
                    raise DownloadError(self.client.clean(told)) from None
                self.client.say(f"{self.host}: {self.remote.name}: {fault}; starting over")
        publish(self.partial, self.path)
        discard_partial(self.path)

    def progressed(self) -> bool:
        """Whether the last attempt brought as many new bytes as a server that is not stalled would."""
        size = bytes_there(self.path)
        limits = self.client.limits
        worth_it = size - self.furthest >= max(1.0, limits.stall_rate * limits.stall_seconds)
        self.furthest = max(self.furthest, size)
        return worth_it

    def _promise(self) -> dict[str, Any]:
        url = None if self.remote.checksum else self.remote.url  # with a checksum, any server's bytes will do
        return {"size": self.remote.size, "checksum": self.remote.checksum, "url": url}

    def _resume_at(self) -> tuple[int, dict[str, Any]]:
        """Where to go on (0: from the start), and what the bytes there belong to.

        Bytes of unknown origin, of another version, or more than promised are dropped.
        """
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            size, version = bytes_there(self.path), note["version"]
            known = note["promise"] == self._promise() and any([*version.values(), self.remote.checksum])
            whole = self._length(version.get("total"))
            if known and size and (whole is None or size <= whole):
                return size, version
        discard_partial(self.path)
        return 0, {}

    def _length(self, total: int | None) -> int | None:
        """How long the file is (None: not known), from what the server that sends it says, `total`, and the promise."""
        binding = total is None or not self.remote.checksum
        return self.remote.size if self.remote.size is not None and binding else total

    def attempt(self) -> None:
        """Ask for what is missing and append it. Raises Transient, Corrupt, DownloadError, Stopped."""
        offset, version = self._resume_at()
        self.at(offset)
        if offset and offset == self._length(version.get("total")):
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        etag = version.get("etag") or ""
        if etag.startswith('"'):  # a weak one does not stand for the same bytes
            headers["If-Range"] = etag
        response = self.client.send("GET", self.remote.url, self.auth, headers=headers)
        with closing(response):
            if offset and response.status_code in RANGE_REFUSED:
                raise self._start_over("refuses to resume")
            self.client.judge(response)
            begin, total = self._extent(response, offset)
            if begin and _differ(version, _version(response, total)):
                raise self._start_over("has another version of the file now")
            self._receive(response, begin, total)

    def _start_over(self, why: str) -> Transient:
        discard_partial(self.path)
        return Transient(f"{self.host}: {self.remote.name}: {why}, starting over", wait=0)

    def _extent(self, response: requests.Response, offset: int) -> tuple[int, int | None]:
        """Position of the response's first byte and length of the whole file, None if not said.

        Raises unless the response is the part of the file that was asked for, of the promised length.
        """
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"{self.host}: {self.remote.name}: sent in an encoding that was not asked for")
        length = response.headers.get("Content-Length", "")
        begin, total = 0, int(length) if length.isdigit() else None
        if response.status_code == 206:
            part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not part or int(part[1]) != offset:
                raise self._start_over("sends another part than asked for")
            begin, total = offset, int(part[2]) if part[2].isdigit() else None
        if total is not None and total != (promised := self._length(total)):
            raise Corrupt(f"{total:,} bytes are offered where {promised:,} were promised")
        return begin, total

    def _receive(self, response: requests.Response, begin: int, total: int | None) -> None:
        """Write the body at `begin`: 0 replaces what is there, anything else is the end of what is there."""
        ends_itself = total is None and response.raw.chunked and self.remote.checksum
        total = None if ends_itself else self._length(total)
        if not begin:
            discard_partial(self.path)
        with open(self.partial, "ab") as out:
            if not begin:
                with stores.atomic(self.note) as place:
                    note = {"promise": self._promise(), "version": _version(response, total)}
                    place.write_text(json.dumps(note), encoding="utf-8")
            count = begin
            for block in self.client.chunks(response):
                out.write(block)
                out.flush()  # the file on disk is what is counted
                count += len(block)
                self.at(count)
                if count > (MAX_BYTES if total is None else total):
                    raise Corrupt(f"more than the {total or MAX_BYTES:,} bytes came that were promised")
        if total is not None and count < total:
            raise Transient(f"{self.host}: {self.remote.name}: the connection was cut")


def _version(response: requests.Response, total: int | None) -> dict[str, Any]:
    """What tells one version of a file from another."""
    return {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified"), "total": total}


def _differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two versions are told apart by anything that both of them say."""
    return any(value and other.get(key) and value != other[key] for key, value in one.items())
