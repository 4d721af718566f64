"""Zenodo's record API in the forms it has had, and in those of the software and the deposits behind it.

Written from the documentation of Zenodo and InvenioRDM and from what public clients' tests have for answers (pooch,
zenodo_get, rclone): what a link is called does not say whether bytes or a description lie behind it. zenodo_get 3.1.0,
with this address in place of Zenodo's, fetched the file of the forms `old` and `new`.
"""

import hashlib
from typing import Any

from servers.base import Answer, Seen, Server


class ZenodoServer(Server):
    """One record with the files in `files`; `form` is how the API describes them, see `_described`."""

    def __init__(self, record: str = "1460961", form: str = "new", **options: Any) -> None:
        super().__init__(**options)
        self.record, self.form = record, form
        self.files: dict[str, bytes] = {}

    def answer(self, seen: Seen) -> Answer:
        """The record, or a file."""
        if seen.path == f"/api/records/{self.record}":
            about = {"title": "Reference masks", "doi": f"10.5281/zenodo.{self.record}"}
            return Answer.json({"id": self.record, "metadata": about, "files": self._described()})
        for name, data in self.files.items():
            description = f"/api/records/{self.record}/files/{name}"
            if seen.path.split("?")[0] in (f"{description}/content", f"/api/files/bucket/{name}"):
                return Answer(data, ranged=True)
            if seen.path in (description, f"/api/deposit/depositions/{self.record}/files/{name}"):
                return Answer.json({"key": name, "size": len(data), "status": "completed"})
        return Answer.json({"status": 404, "message": "PID does not exist."}, 404)

    def _described(self) -> Any:
        """The files. old: Zenodo before 2023; deposit: as an owner sees them; new: Zenodo now; invenio: InvenioRDM, a
        map of entries whose `self` is a description."""
        files, bucket = f"{self.url}/api/records/{self.record}/files", f"{self.url}/api/files/bucket"
        deposit = f"{self.url}/api/deposit/depositions/{self.record}/files"
        links: dict[str, dict[str, str]] = {
            "old": {"self": f"{bucket}/NAME"},
            "deposit": {"self": f"{deposit}/NAME", "download": f"{bucket}/NAME"},
            "new": {"self": f"{files}/NAME/content"},
            "invenio": {"self": f"{files}/NAME", "content": f"{files}/NAME/content"},
        }
        entries: dict[str, dict[str, Any]] = {}
        for name, data in self.files.items():
            md5 = hashlib.md5(data).hexdigest()
            entry: dict[str, Any] = {"key": name, "size": len(data), "checksum": f"md5:{md5}"}
            if self.form == "deposit":
                entry = {"filename": name, "filesize": len(data), "checksum": md5}
            entries[name] = entry | {"links": {k: v.replace("NAME", name) for k, v in links[self.form].items()}}
        if self.form == "invenio":
            return {"enabled": True, "count": len(entries), "entries": entries}
        return list(entries.values())
