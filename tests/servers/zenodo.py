"""Zenodo's record API, in its older and its newer form."""

import hashlib
from typing import Any

from servers.base import Answer, Seen, Server


class ZenodoServer(Server):
    """One record with the files in `files`; `form` is how the API describes them: old, new, or entries."""

    def __init__(self, record: str = "1460961", form: str = "new", **options: Any) -> None:
        super().__init__(**options)
        self.record, self.form = record, form
        self.files: dict[str, bytes] = {}

    def answer(self, seen: Seen) -> Answer:
        """The record, or a file."""
        if seen.path == f"/api/records/{self.record}":
            return Answer.json({"id": self.record, "files": self._described()})
        for name, data in self.files.items():
            if seen.path.startswith((f"/api/records/{self.record}/files/{name}", f"/old/{name}")):
                return Answer(data, ranged=True)
        return Answer.json({"status": 404, "message": "PID does not exist."}, 404)

    def _described(self) -> Any:
        entries: dict[str, dict[str, Any]] = {}
        for name, data in self.files.items():
            md5, content = hashlib.md5(data).hexdigest(), f"{self.url}/api/records/{self.record}/files/{name}/content"
            if self.form == "old":
                link = {"download": f"{self.url}/old/{name}"}
                entries[name] = {"filename": name, "filesize": len(data), "checksum": md5, "links": link}
            else:
                entries[name] = {"key": name, "size": len(data), "checksum": f"md5:{md5}", "links": {"self": content}}
        if self.form == "entries":
            return {"entries": {name: {k: v for k, v in e.items() if k != "key"} for name, e in entries.items()}}
        return list(entries.values())
