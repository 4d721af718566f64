"""What is on disk of a product, and the small JSON beside it that says where it came from.

    products/NAME.SAFE/        or   products/NAME.SAFE.zip
    products/NAME.SAFE.json         products/NAME.SAFE.zip.json

A product has its final name only when it is whole, and its record holds the size, MD5 and time of change of each file.
Files that still have the recorded size and time are taken as they are; others are compared with the recorded MD5. A
product without a record (put there by hand) is looked through: its 13 bands and metadata, and a zip's CRCs.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudsom.downloads.archives import check_product_zip, files_of, lacking, sizes
from cloudsom.downloads.client import DownloadError
from cloudsom.downloads.transfer import Corrupt, digest
from cloudsom.errors import one_line
from cloudsom.files import stores

BY_HAND = "by hand"  # the source of a product this pipeline did not fetch


@dataclass
class OnDisk:
    """A product's folder or zip: `path`, its record (empty if none), and what is wrong with it (None: nothing)."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None

    @property
    def source(self) -> str:
        """Where it came from."""
        return one_line(str(self.record.get("source", BY_HAND)))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(sizes(self.path).values())


def place_of(folder: Path, name: str) -> Path | None:
    """Where the product `name` is, right or damaged; None if it is not there."""
    places = (folder / f"{name}.SAFE", folder / f"{name}.SAFE.zip", folder / f"{name}.zip")
    return next((path for path in places if path.exists()), None)


def find(folder: Path, name: str) -> OnDisk | None:
    """The product `name` as it is on disk, looked through; None if it is not there."""
    path = place_of(folder, name)
    if path is None:
        return None
    record = stores.read_record(path) or {}
    fault = _fault(path, record, name)
    return OnDisk(path, record, one_line(fault) if fault else None)


def _fault(path: Path, record: dict[str, Any], name: str) -> str | None:
    recorded = record.get("files")
    if isinstance(recorded, dict):
        there = files_of(path)  # no file beyond the product is looked at
        changed = [name for name in recorded if name not in there or not _unchanged(there[name], recorded[name])]
        return f"{', '.join(sorted(changed)[:3])} missing or changed since it was checked" if changed else None
    if path.is_dir():
        missing = lacking(file for file, size in sizes(path).items() if size)
        return f"lacks {', '.join(missing)}" if missing else None
    try:
        check_product_zip(path, name)
    except (Corrupt, DownloadError) as problem:
        return str(problem)
    write(path, {"name": name, "source": BY_HAND}, {})  # so that its CRCs are not computed again every time
    return None


def _unchanged(file: Path, recorded: Any) -> bool:
    try:
        status = file.stat()
        if status.st_size != recorded["size"]:
            return False
        return status.st_mtime_ns == recorded["mtime_ns"] or digest(file, "md5") == recorded["md5"]
    except (OSError, KeyError, TypeError):
        return False


def write(path: Path, facts: dict[str, Any], checksums: dict[str, str | None], content: Path | None = None) -> None:
    """Write the record of the product at `path`, or of the partial folder or file `content` that is to be renamed so.

    `checksums` ("md5:...") are those its files were verified against, by path in the product; others are computed.
    """
    content = content or path
    entries = {}
    for name, file in (files_of(content) if content.is_dir() else {path.name: content}).items():
        known = checksums.get(name) or ""
        md5 = known.removeprefix("md5:") if known.startswith("md5:") else digest(file, "md5")
        entries[name] = {"size": file.stat().st_size, "md5": md5.lower(), "mtime_ns": file.stat().st_mtime_ns}
    write_record(path, {**facts, "files": entries})


def write_record(path: Path, facts: dict[str, Any]) -> None:
    """Write the small JSON beside a download, which `stores.read_record` reads."""
    with stores.atomic(stores.record_path(path)) as place:
        place.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
