"""The reference masks: one archive in a Zenodo record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloudsom.downloads.archives import MASK, sizes, unpack_reference
from cloudsom.downloads.client import Client, DownloadError
from cloudsom.downloads.engine import Fetched, check_room
from cloudsom.downloads.records import BY_HAND, write_record
from cloudsom.downloads.transfer import Remote, bytes_there, digest, discard_partial, fetch
from cloudsom.files import stores


@dataclass
class ReferenceMasks:
    """The archive `archive` of record `record` at `url`, its pinned MD5, and the most it may unpack to in bytes."""

    url: str
    record: str
    archive: Path
    md5: str
    max_bytes: int

    def remote(self, client: Client) -> Remote:
        """The archive as the record's API describes it; raises DownloadError if the record has another one now."""
        base, record = self.url.rstrip("/"), quote(self.record, safe="")
        answer = client.json("GET", f"{base}/api/records/{record}")
        try:
            entry = _files(answer).get(self.archive.name)
            if entry is None:
                raise DownloadError(f"record {self.record} has no file {self.archive.name}", "missing")
            checksum = str(entry["checksum"]).removeprefix("md5:").lower()
            size = int(entry["size"] if "size" in entry else entry["filesize"])
            links = entry.get("links") or {}
            link = links.get("content") or links.get("download") or links.get("self")  # in some forms a description
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DownloadError(f"the description of record {self.record} makes no sense") from None
        if checksum != self.md5.lower():
            raise DownloadError(
                f"{self.archive.name}: record {self.record} has an MD5 of {checksum} now, not {self.md5}; "
                "if the new file is wanted, set REFERENCE_MD5"
            )
        direct = f"{base}/records/{record}/files/{quote(self.archive.name)}?download=1"
        return Remote(str(link or direct), self.archive.name, size, f"md5:{self.md5}")

    def obtain(self, folder: Path, client: Client, margin: int) -> Fetched:
        """Bring the masks to `folder/SCENE/...`, unless all of them are there."""
        present = self.look(folder)
        if present.source == "zenodo":
            return present
        try:
            self._fetch(client, margin)
            collections = unpack_reference(self.archive, folder, self.max_bytes, client.tell)
        except DownloadError as problem:
            return Fetched.unavailable("reference masks", "zenodo", problem)
        scenes = {name: {"collection": kind, "files": sizes(folder / name)} for name, kind in collections.items()}
        self._write_record(scenes)
        return Fetched("reference masks", "fetched", "zenodo", _total(scenes), f"{len(scenes)} scenes")

    def look(self, folder: Path) -> Fetched:
        """The masks as they are on disk: those of the archive, or masks put there by hand."""
        note = stores.read_record(self.archive) or {}
        scenes = note.get("scenes") or {}
        if note.get("md5") == self.md5 and _complete(folder, scenes):
            return Fetched("reference masks", "there", "zenodo", _total(scenes), f"{len(scenes)} scenes")
        own = len(list(folder.glob(f"[!.]*/{MASK}")))
        if own:
            return Fetched("reference masks", "there", BY_HAND, None, f"{own} scenes")
        return Fetched("reference masks", "missing", "local", None, "not there")

    def _fetch(self, client: Client, margin: int) -> None:
        """The archive; one that is there already needs no network, only the right checksum."""
        if self.archive.exists() and digest(self.archive, "md5") == self.md5.lower():
            discard_partial(self.archive)
            return
        remote = self.remote(client)
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        size = remote.size or 0
        check_room(self.archive.parent, 2 * size - bytes_there(self.archive), margin)  # the archive and its content
        with client.display.counting(1, remote.size):
            fetch(client, remote, self.archive)
        self._write_record({})  # already now: it says that the archive is ours

    def _write_record(self, scenes: dict[str, Any]) -> None:
        facts = {"record": self.record, "url": self.url, "md5": self.md5, "scenes": scenes}
        write_record(self.archive, facts)


def _files(answer: Any) -> dict[str, dict[str, Any]]:
    """The files of a record by name, from either form of the API: entries by name, or a list."""
    files = answer["files"]
    if isinstance(files, dict):
        return dict(files["entries"])
    return {entry.get("key", entry.get("filename")): entry for entry in files}


def _complete(folder: Path, scenes: Any) -> bool:
    """Whether every file of every recorded scene is there in its recorded size."""
    return bool(scenes) and all(
        (folder / name).is_dir() and scene.get("files", {}).items() <= sizes(folder / name).items()
        for name, scene in scenes.items()
    )


def _total(scenes: dict[str, Any]) -> int:
    return sum(size for scene in scenes.values() for size in scene.get("files", {}).values())
