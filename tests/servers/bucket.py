"""A bucket of Google Cloud Storage: JSON listing with prefix, delimiter and pages; objects over plain HTTP."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from servers.base import Answer, Seen, Server


class BucketServer(Server):
    """Objects by name in `objects`; listings come `page_size` at a time."""

    def __init__(self, bucket: str = "bucket", page_size: int = 7, **options: Any) -> None:
        super().__init__(**options)
        self.bucket, self.page_size = bucket, page_size
        self.objects: dict[str, bytes] = {}
        self.lies: dict[str, dict[str, Any]] = {}  # what the listing says of an object in place of the truth
        self.listed_only: list[str] = []  # names the listing holds and the bucket does not

    def put_product(self, folder: str, files: dict[str, bytes]) -> None:
        """Store the files of a product under `folder`."""
        self.objects |= {f"{folder}/{name}": data for name, data in files.items()}

    def answer(self, seen: Seen) -> Answer:
        """A listing, or an object."""
        parts = urlsplit(seen.path)
        if parts.path == f"/storage/v1/b/{self.bucket}/o":
            return self._listing({key: value[0] for key, value in parse_qs(parts.query).items()})
        data = self.objects.get(unquote(parts.path).removeprefix(f"/{self.bucket}/"))
        return Answer(b"NoSuchKey", 404) if data is None else Answer(data, ranged=True)

    def _listing(self, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        entries: list[tuple[str, bool]] = []
        for name in sorted([*self.objects, *self.listed_only]):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            folder = prefix + rest.split("/", 1)[0] + "/"
            entry = (folder, True) if delimiter and "/" in rest else (name, False)
            if entry not in entries:
                entries.append(entry)
        start = int(query.get("pageToken") or 0)
        page: dict[str, Any] = {"kind": "storage#objects"}
        here = entries[start : start + self.page_size]
        items = [self._item(name) for name, is_folder in here if not is_folder]
        prefixes = [name for name, is_folder in here if is_folder]
        page |= {"items": items} if items else {}
        page |= {"prefixes": prefixes} if prefixes else {}
        if start + self.page_size < len(entries):
            page["nextPageToken"] = str(start + self.page_size)
        return Answer.json(page)

    def _item(self, name: str) -> dict[str, Any]:
        data = self.objects.get(name, b"")
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        return {"name": name, "size": str(len(data)), "md5Hash": md5} | self.lies.get(name, {})
