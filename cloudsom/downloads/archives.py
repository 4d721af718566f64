"""Archives from elsewhere: what a name in them may be, how much may come out, and what a zipped product must hold.

Everything in an archive or a listing was written by someone else. No name leaves the folder it belongs to, nothing but
plain files and folders is made, and sizes are bounded before anything is written.
"""

import filecmp
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from cloudsom.bands import SAFE_BANDS
from cloudsom.downloads.client import DownloadError
from cloudsom.downloads.transfer import Corrupt, Unusable, publish
from cloudsom.files import stores
from cloudsom.files.places import files_below
from cloudsom.files.zips import DAMAGED, is_damage
from cloudsom.safe_names import is_product_metadata, is_tile_metadata

MAX_MEMBERS = 200_000  # the reference set has some thousand, a product some hundred
MAX_PRODUCT_BYTES = 30_000_000_000  # unpacked; an old product of many tiles comes to some 8 GB
MAX_HEADER_BYTES = 1_000_000  # of one tar header; a path takes some hundred
COLLECTIONS = ("Reference_dataset", "Hollstein")  # folders of the reference set; the first wins for a scene in both
MASK = PurePosixPath("Classification/classification_map.tif")

#: The folder itself, which `tar .` and `zip ./` put first.
HERE = (".", "./")


def safe_path(name: str, where: str) -> PurePosixPath:
    """A name from an archive or listing as a relative path that stays where it is put; raises Unusable."""
    parts = name.removeprefix("./").rstrip("/").split("/")
    bad = any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogateescape")) > 255 for part in parts)
    if bad or "\\" in name or ":" in parts[0] or not name.isprintable():
        raise Unusable(f"{where}: holds the name {name[:100]!r}, which could leave its folder; nothing of it is used")
    return PurePosixPath(*parts)


# --- the reference masks ----------------------------------------------------------------------------------------------


class _BoundedTar:
    """A file that is read in small pieces only (tarfile reads a whole header at once), and no further than a limit."""

    def __init__(self, handle: IO[bytes], limit: int, where: str) -> None:
        self._handle, self._limit, self._where = handle, limit, where

    def _check(self, size: int, end: int) -> None:
        if size < 0 or size > max(MAX_HEADER_BYTES, tarfile.RECORDSIZE) or end > self._limit:
            raise Unusable(f"{self._where}: unpacks to more than {self._limit:,} bytes; it is not used")

    def read(self, size: int = -1) -> bytes:
        self._check(size, self._handle.tell())
        return self._handle.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        self._check(0, position)
        return self._handle.seek(position, whence)

    def tell(self) -> int:
        return self._handle.tell()


def unpack_reference(archive: Path, folder: Path, max_bytes: int, tell: Callable[[str], None]) -> dict[str, str]:
    """Unpack the reference masks' archive (tar, gzip) into `folder/SCENE/...`; the collection of each scene by name.

    Scenes appear whole. One that is there already and equal is left alone. A scene in both collections comes from
    Reference_dataset. Raises Unusable, or DownloadError for a damaged archive or one without masks.
    """
    partial = folder / ".unpacking.partial"
    stores.remove(partial)
    partial.mkdir(parents=True)
    try:
        with damage_told(archive):
            for path, content in plain_files(archive, max_bytes):
                place = _destination(path, partial)
                if place:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with open(place, "xb") as out:
                        shutil.copyfileobj(content, out, MAX_HEADER_BYTES // 4)
            return _place_scenes(archive, partial, folder, tell)
    finally:
        stores.remove(partial)


@contextmanager
def damage_told(archive: Path) -> Iterator[None]:
    """Turn what reading a damaged archive raises into a DownloadError."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, ArithmeticError) as problem:
        raise DownloadError(f"{archive}: damaged archive ({problem}); remove it and run again") from None


def plain_files(archive: Path, max_bytes: int) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files of a tar (gzip) in its order: a safe relative path each, and the content to read before the next one.

    Raises Unusable for names that leave their folder, for what is no plain file, and for more than `max_bytes` or
    `MAX_MEMBERS`; what a damaged archive raises, here or as the content is read, `damage_told` puts into words.
    """
    unpacked = 0
    with gzip.open(archive) as stream:
        bounded = _BoundedTar(stream, max_bytes + 2 * MAX_MEMBERS * tarfile.BLOCKSIZE, str(archive))  # type: ignore[arg-type]
        with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(tar):
                unpacked += member.size
                if count >= MAX_MEMBERS or unpacked > max_bytes:
                    raise Unusable(f"{archive}: unpacks to more than {max_bytes:,} bytes or {MAX_MEMBERS:,} files")
                if member.isdir() and member.name in HERE:
                    continue
                path = safe_path(member.name, str(archive))
                if not member.isdir():
                    if hasattr(tarfile, "data_filter") and member.isreg():  # the standard library's opinion too
                        tarfile.data_filter(member, str(archive.parent))
                    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
                    if content is None:
                        told = f"{member.name[:100]!r} is a link or device; nothing of the archive is used"
                        raise Unusable(f"{archive}: {told}")
                    yield path, content
        while bounded.read(MAX_HEADER_BYTES):  # to the end, where gzip compares its own checksum
            continue


def _destination(path: PurePosixPath, partial: Path) -> Path | None:
    """Where a file of the archive goes; None for what is not of a scene."""
    inside = next((i for i, part in enumerate(path.parts) if part in COLLECTIONS), None)
    junk = any(part.startswith("._") or part == "__MACOSX" for part in path.parts)
    if inside is None or junk or len(path.parts) < inside + 3 or path.parts[inside + 1].startswith("."):
        return None
    return partial.joinpath(*path.parts[inside:])


def _place_scenes(archive: Path, partial: Path, folder: Path, tell: Callable[[str], None]) -> dict[str, str]:
    scenes: dict[str, str] = {}
    for collection in COLLECTIONS:
        for scene in sorted((partial / collection).glob("*")):
            if not (scene / MASK).is_file():
                tell(f"{archive.name}: {collection}/{scene.name} has no {MASK}; left out")
            elif scene.name in scenes:
                same = filecmp.cmp(folder / scene.name / MASK, scene / MASK, shallow=False)
                tell(
                    f"{scene.name}: is in {scenes[scene.name]} and in {collection}, with "
                    f"{'equal' if same else 'different'} masks; taken from {scenes[scene.name]}"
                )
            else:
                _place(scene, folder / scene.name)
                scenes[scene.name] = collection
    if not scenes:
        raise DownloadError(f"{archive}: holds no folder {COLLECTIONS[0]}/SCENE/{MASK}; it is another archive")
    return scenes


def _place(scene: Path, target: Path) -> None:
    """Move an unpacked scene to its name, in place of one that differs."""
    _, *others = filecmp.cmpfiles(scene, target, sizes(scene), shallow=False)
    if any(others):
        old = target.with_name(f".{target.name}.old")
        stores.remove(old)
        if target.exists():
            target.rename(old)
        publish(scene, target)
        stores.remove(old)


def files_of(product: Path) -> dict[str, Path]:
    """The files of a folder by their path in it, or a zip by its own name."""
    if product.is_dir():
        return {path.relative_to(product).as_posix(): path for path in sorted(files_below(product))}
    return {product.name: product}


def sizes(product: Path) -> dict[str, int]:
    """The bytes of each of `files_of`."""
    return {name: path.stat().st_size for name, path in files_of(product).items()}


# --- zipped products --------------------------------------------------------------------------------------------------


def lacking(names: Iterable[str]) -> list[str]:
    """What a product's files lack of the 13 bands and the two metadata files, from their paths; empty if nothing."""
    files = [PurePosixPath(name) for name in names]
    images = [f.stem for f in files if f.suffix == ".jp2" and f.parent.name == "IMG_DATA"]
    missing = [band for band in SAFE_BANDS if not any(stem.endswith(f"_{band}") for stem in images)]
    missing += [] if any(is_product_metadata(f.name) for f in files) else ["MTD_MSIL1C.xml"]
    return missing + ([] if any(is_tile_metadata(f.name) for f in files) else ["MTD_TL.xml"])


def check_product_zip(path: Path, name: str) -> None:
    """Raise Corrupt for a zip that is not whole or has a wrong CRC, Unusable for one that is not the product `name`."""
    try:
        with zipfile.ZipFile(path) as product:
            members = product.infolist()
            _check_members(members, path.name)
            roots = {part for m in members for part in PurePosixPath(m.filename).parts[:1]} - {"__MACOSX"}
            if roots != {f"{name}.SAFE"}:
                raise Unusable(f"{path.name}: holds {', '.join(sorted(roots)[:3])} and not {name}.SAFE")
            missing = lacking(m.filename for m in members)
            if missing:
                raise Unusable(f"{name}: the zip lacks {', '.join(missing)}")
            broken = product.testzip()
    except (*DAMAGED, RuntimeError, OSError) as problem:  # RuntimeError: encrypted, or packed in a way unknown here
        if isinstance(problem, OSError) and not is_damage(problem):
            raise
        raise Corrupt(f"not a whole zip file ({problem})") from None
    if broken:
        raise Corrupt(f"its member {broken} is damaged")


def _check_members(members: list[zipfile.ZipInfo], where: str) -> None:
    if len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > MAX_PRODUCT_BYTES:
        raise Unusable(f"{where}: unpacks to more than {MAX_PRODUCT_BYTES:,} bytes or {MAX_MEMBERS:,} files")
    for member in members:
        if member.filename not in HERE:
            safe_path(member.filename, where)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
            raise Unusable(f"{where}: {member.filename[:100]!r} is a link, a device or encrypted")
