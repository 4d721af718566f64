"""Sentinel-2 L1C products: SAFE folders and zipped SAFE, new and old naming, and what their metadata say.

A product holds one granule (tile) or, before December 2016, several. Everything about them comes from strangers: XML is
read without entities or external references and in bounded size, a zip is never extracted, and the only name that goes
into an output path is one checked path component.
"""

import hashlib
import itertools
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException
from osgeo import gdal

from cloudsom.bands import N_BANDS, SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.files.places import files_below, local, visible
from cloudsom.files.zips import DAMAGED, is_damage
from cloudsom.images.rasters import Metadata, open_by_name, open_raster
from cloudsom.safe_names import PRODUCT_XML

#: Formats of a product's images: JPEG 2000, and GeoTIFF in files called .jp2, as some sample sets ship them.
IMAGE_DRIVERS = ("JP2OpenJPEG", "GTiff")

#: From this processing baseline on, products carry an offset.
FIRST_BASELINE_WITH_OFFSET = 4.0

# What a product can need at most, in bytes. Real metadata have 50 kB to 1 MB and take a hundred times that when read;
# real images have up to 150 MB, held in memory if they come out of a zip.
MAX_XML_BYTES = 4 * 1024**2
MAX_IMAGE_BYTES = 512 * 1024**2
MAX_ENTRIES = 100_000

_IMAGE = re.compile(r"GRANULE/([^/]+)/IMG_DATA/[^/]*_(B\d[\dA])\.jp2", re.IGNORECASE)
_TILE = re.compile(r"_(T\d\d[A-Z]{3})(?=_|$|\.)")
_ASK_L1C = "give the Level-1C product of the same scene"

_counter = itertools.count()  # names for images in memory; next() on it is atomic


# --- where a product's files are --------------------------------------------------------------------------------------


class Files:
    """The files of a SAFE folder, by path relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Relative paths of all files, with forward slashes, sorted."""
        found = (p.relative_to(self.root).as_posix() for p in files_below(self.root))
        return sorted(real_files(self.root, itertools.islice(found, MAX_ENTRIES + 1)))

    def read(self, name: str) -> bytes:
        """The bytes of a metadata file. Raises UserError if there are more than MAX_XML_BYTES."""
        with open(local(self.root / name), "rb") as handle:
            data = handle.read(MAX_XML_BYTES + 1)
        if len(data) > MAX_XML_BYTES:
            what = f"more than {MAX_XML_BYTES:,} bytes is too large for metadata"
            raise UserError(f"{self.root / name}: {what}; get it again")
        return data

    def digest(self, name: str, algorithm: str) -> str:
        """The checksum of a file, or of one that `on_disk` names; hashlib's `algorithm`, hexadecimal."""
        with self._opened(name) as handle:
            return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()

    def _opened(self, name: str) -> AbstractContextManager[Any]:
        return open(local(self.root / name), "rb")

    @contextmanager
    def open_image(self, name: str, shown: str) -> Iterator[gdal.Dataset]:
        """An image as a GDAL dataset; `shown` begins the message where it cannot be opened (UserError)."""
        yield open_raster(self.root / name, IMAGE_DRIVERS, f"{shown}: {self.root / name}")

    def on_disk(self, names: Sequence[str]) -> dict[str, Path]:
        """The files on disk that hold `names`."""
        return {name: self.root / name for name in names}


class ZippedFiles(Files):
    """The files of a SAFE folder inside a zip, read without extracting; every byte read is checked (CRC)."""

    def __init__(self, archive: Path, inside: str) -> None:
        super().__init__(archive)
        self._inside = inside

    def names(self) -> list[str]:
        return sorted(n.removeprefix(self._inside) for n in zip_entries(self.root) if n.startswith(self._inside))

    def read(self, name: str) -> bytes:
        with self._member(name, MAX_XML_BYTES, f"{self.root}: {name}") as member:
            return member.read()

    def _opened(self, name: str) -> AbstractContextManager[Any]:
        if name == self.root.name:
            return open(local(self.root), "rb")
        return self._member(name, MAX_IMAGE_BYTES, f"{self.root}: {name}")

    @contextmanager
    def open_image(self, name: str, shown: str) -> Iterator[gdal.Dataset]:
        """The image, unpacked into memory: compressed as it is, 150 MB at most in real products."""
        place = f"/vsimem/cloudsom/{next(_counter)}"
        try:
            with self._member(name, MAX_IMAGE_BYTES, f"{shown}: {self.root}: {name}") as member:
                _fill(place, member)
            yield open_by_name(place, f"{shown}: {self.root}: {name}", IMAGE_DRIVERS)
        finally:
            if gdal.VSIStatL(place):
                gdal.Unlink(place)

    def on_disk(self, names: Sequence[str]) -> dict[str, Path]:
        return {self.root.name: self.root}

    @contextmanager
    def _member(self, name: str, limit: int, shown: str) -> Iterator[IO[bytes]]:
        with zip_errors(shown), zipfile.ZipFile(local(self.root)) as archive:
            entry = archive.getinfo(self._inside + name)
            if entry.file_size > limit:
                raise UserError(f"{shown}: unpacks to {entry.file_size:,} bytes, far more than a real product has")
            with archive.open(entry) as member:
                yield member


def _fill(place: str, source: IO[bytes]) -> None:
    """Copy a stream into one of GDAL's files in memory, without holding it twice."""
    target = gdal.VSIFOpenL(place, "wb")
    try:
        while piece := source.read(4 * 1024 * 1024):
            gdal.VSIFWriteL(piece, 1, len(piece), target)
    finally:
        gdal.VSIFCloseL(target)


@contextmanager
def zip_errors(shown: object) -> Iterator[None]:
    """Turn what zipfile raises on damaged, encrypted or exotic archives into a UserError."""
    try:
        yield
    except (*DAMAGED, OSError) as problem:
        if isinstance(problem, OSError) and not is_damage(problem):
            raise
        raise UserError(f"{shown}: damaged zip ({problem}); download the product again") from None
    except RuntimeError as problem:  # encrypted, or packed in a way this Python cannot unpack
        raise UserError(f"{shown}: cannot be unpacked ({problem}); zip the SAFE folder again") from None


def zip_entries(archive: Path) -> list[str]:
    """Names of the files in a zip."""
    with zip_errors(archive), archive.open("rb") as file, zipfile.ZipFile(file) as opened:
        if "" in opened.namelist():  # Python up to 3.13 fails on its own at such an entry, later ones pass it over
            raise zipfile.BadZipFile("an entry without a name")
        return real_files(archive, (entry.filename for entry in opened.infolist() if not entry.is_dir()))


def real_files(shown: Path, names: Iterable[str]) -> list[str]:
    """`names` without hidden files, among them the `._` doubles and the `__MACOSX` folder that macOS adds."""
    every = list(names)
    if len(every) > MAX_ENTRIES:
        raise UserError(f"{shown}: holds more than {MAX_ENTRIES:,} files; a product has a few hundred")
    paths = zip(every, map(PurePosixPath, every), strict=True)
    return [n for n, path in paths if path.parts[:1] != ("__MACOSX",) and not path.name.startswith(".")]


# --- metadata ---------------------------------------------------------------------------------------------------------


def read_metadata(shown: str, xml: bytes) -> Metadata:
    """The contents of MTD_MSIL1C.xml (or S2?_OPER_MTD_SAFL1C_*.xml) that matter here; `shown` names it in errors.

    Raises UserError if the file is damaged, of another level, or lacks a value: none is assumed.
    """
    root = parse_xml(shown, xml)
    level = _text(shown, root, "PROCESSING_LEVEL")
    if not level.upper().replace("-", "").startswith(("LEVEL1C", "L1C")):
        raise UserError(f"{shown}: is {level[:40]}, which has no band B10; {_ASK_L1C}")
    baseline = _text(shown, root, "PROCESSING_BASELINE")
    nodata, saturated = (_special_value(shown, root, name) for name in ("NODATA", "SATURATED"))
    offsets = _offsets(shown, root)
    if not offsets and _number(shown, "PROCESSING_BASELINE", baseline) >= FIRST_BASELINE_WITH_OFFSET:
        raise UserError(f"{shown}: has no RADIO_ADD_OFFSET, which baseline {baseline} needs; get the metadata again")
    quantification = _number(shown, "QUANTIFICATION_VALUE", _text(shown, root, "QUANTIFICATION_VALUE"))
    if quantification <= 0:
        raise UserError(f"{shown}: QUANTIFICATION_VALUE is {quantification:g}, it must be positive")
    offsets = offsets or (0.0,) * N_BANDS
    told = {
        "PROCESSING_BASELINE": baseline,
        "PRODUCT_URI": text_of(root, "PRODUCT_URI"),
        "SENSING_TIME": text_of(root, "PRODUCT_START_TIME"),
        "SPACECRAFT": text_of(root, "SPACECRAFT_NAME"),
    }
    tags = {key: " ".join(value.split())[:200] for key, value in told.items() if value} | {
        "QUANTIFICATION_VALUE": f"{quantification:g}",
        "RADIO_ADD_OFFSET": ",".join(f"{v:g}" for v in (offsets if len(set(offsets)) > 1 else offsets[:1])),
        "NODATA": str(nodata),
        "SATURATED": str(saturated),
    }
    return Metadata(quantification, offsets, nodata, saturated, tags)


def parse_xml(shown: str, xml: bytes) -> Element:
    """The root of an XML document without document type, entities or external references."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except DefusedXmlException as problem:
        raise UserError(f"{shown}: {type(problem).__name__}: metadata with a DTD or entities are not read") from None
    except (ParseError, ValueError, LookupError) as problem:
        raise UserError(f"{shown}: not readable as XML ({problem}); get the product again") from None
    return root


def text_of(root: Element, name: str) -> str:
    """The text of the first element called `name` in any namespace; empty if there is none."""
    return (root.findtext(f".//{{*}}{name}") or "").strip()


def _text(shown: str, root: Element, name: str) -> str:
    text = text_of(root, name)
    if not text:
        raise UserError(f"{shown}: has no {name}; get the product's metadata again")
    return text


def _number(shown: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise UserError(f"{shown}: {name} is {text[:40]!r}, a number is needed; get the product's metadata again")
    return value


def _special_value(shown: str, root: Element, name: str) -> int:
    entries = root.iterfind(".//{*}Special_Values")
    found = {text_of(e, "SPECIAL_VALUE_TEXT"): text_of(e, "SPECIAL_VALUE_INDEX") for e in entries}
    if name not in found:
        raise UserError(f"{shown}: has no special value {name}; get the product's metadata again")
    value = _number(shown, name, found[name])
    if not 0 <= value <= 65535 or value != int(value):
        raise UserError(f"{shown}: special value {name} is {found[name]}, not a number from 0 to 65535")
    return int(value)


def _offsets(shown: str, root: Element) -> tuple[float, ...]:
    """The 13 RADIO_ADD_OFFSET values in band order; empty for products without."""
    found: dict[str, float] = {}
    for element in root.iterfind(".//{*}RADIO_ADD_OFFSET"):
        found[element.get("band_id", "")] = _number(shown, "RADIO_ADD_OFFSET", (element.text or "").strip())
    if found and set(found) != set(map(str, range(N_BANDS))):
        raise UserError(f"{shown}: RADIO_ADD_OFFSET is given for band_id {sorted(found)}, 0 to 12 are needed")
    return tuple(found[str(i)] for i in range(N_BANDS)) if found else ()


# --- products and granules --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Granule:
    """One tile of a product: `name` is its output's name, `images` the path of each band's image within the product."""

    name: str
    files: Files
    metadata_file: str
    images: dict[str, str]

    def metadata(self) -> Metadata:
        """The product's metadata. Raises UserError, as `read_metadata`."""
        return read_metadata(f"{self.name}: {self.metadata_file}", self.files.read(self.metadata_file))

    def open_band(self, band: str) -> AbstractContextManager[gdal.Dataset]:
        """A band's image, opened; errors name product and band."""
        return self.files.open_image(self.images[band], f"{self.name}: band {band}")

    def quality_file(self, name: str) -> str | None:
        """The path within the product of the file in the granule's QI_DATA whose name fits an expression, if any."""
        folder = next(iter(self.images.values())).rpartition("/IMG_DATA/")[0]
        wanted = re.compile(rf"{re.escape(folder)}/QI_DATA/{name}", re.IGNORECASE)
        return next((path for path in self.files.names() if wanted.fullmatch(path)), None)

    def input_files(self) -> dict[str, Path]:
        """The files on disk that the output is made from: the zip, or metadata and 13 images."""
        return self.files.on_disk([self.metadata_file, *self.images.values()])


@dataclass(frozen=True)
class Found:
    """A product found: its name (SAFE name without `.SAFE`), and the SAFE folder or zip that it is."""

    name: str
    path: Path
    files: Files

    def granules(self) -> list[Granule]:
        """The product's granules by tile, one for each output.

        Raises UserError for a Level-2A product, missing metadata, no granule, a missing or doubled band.
        """
        names = self.files.names()
        metadata_file = _product_xml(self.name, names)
        images: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name in names:
            if match := _IMAGE.fullmatch(name):
                images[match[1]][match[2].upper()].append(name)
        if not images:
            raise UserError(f"{self.name}: no granule: GRANULE/*/IMG_DATA holds no image; get the product again")
        outputs = self._output_names(sorted(images))
        return [
            Granule(outputs[granule], self.files, metadata_file, _one_of_each(outputs[granule], images[granule]))
            for granule in sorted(images)
        ]

    def _output_names(self, granules: list[str]) -> dict[str, str]:
        """Output name of each granule: the product's, with the tile (`_T31TFH`) where there are several."""
        if len(granules) == 1:
            return {granules[0]: self.name}
        tiles = {granule: match[1] for granule in granules if (match := _TILE.search(granule))}
        if len(set(tiles.values())) != len(granules):
            raise UserError(f"{self.name}: its {len(granules)} granules share tiles; get the product again")
        return {granule: f"{self.name}_{tile}" for granule, tile in tiles.items()}


def _product_xml(product: str, names: list[str]) -> str:
    """The product's own metadata file, at the top of the SAFE folder."""
    found = [name for name in names if PRODUCT_XML.fullmatch(name)]
    if any("L2A" in name.upper() for name in found) or (not found and "MSIL2A" in product.upper()):
        raise UserError(f"{product}: is a Level-2A product, which has no band B10; {_ASK_L1C}")
    if len(found) != 1:
        wrong = "several metadata files: " + ", ".join(found) if found else "no metadata file"
        raise UserError(f"{product}: {wrong}; one MTD_MSIL1C.xml (or *_OPER_MTD_SAFL1C_*.xml) is needed beside GRANULE")
    return found[0]


def _one_of_each(product: str, images: dict[str, list[str]]) -> dict[str, str]:
    missing = [band for band in SAFE_BANDS if band not in images]
    if missing:
        raise UserError(f"{product}: band {', '.join(missing)} is missing; get the product again")
    for band in SAFE_BANDS:
        if len(images[band]) > 1:
            every = ", ".join(images[band])
            raise UserError(f"{product}: band {band} is there {len(images[band])} times ({every}); keep one")
    return {band: images[band][0] for band in SAFE_BANDS}


def find_products(folder: Path) -> tuple[dict[str, Found], dict[str, str]]:
    """The products in a folder by name, and what is wrong with files there that cannot be one, by file name.

    SAFE folders, folders that hold one (as some unpackers make them), and zips of either. Where a product is there as a
    folder and as a zip, the folder is taken. Other files, and hidden ones, are none of our business.
    """
    found: dict[str, Found] = {}
    errors: dict[str, str] = {}
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put the SAFE products there, or name another folder")
    for entry in sorted(visible(folder.iterdir()), key=lambda place: place.is_file()):
        if entry.name == "__MACOSX":
            continue
        try:
            for product in _products_at(entry):
                found.setdefault(product.name, product)
        except UserError as problem:
            errors[entry.name] = str(problem)
    return found, errors


def granules_at(path: Path) -> list[Granule]:
    """The granules of the product at a path: a SAFE folder, a folder that holds one, or a zip of either.

    Raises UserError where there is none, or as `Found.granules`.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; correct PRODUCTS")
    found = _products_at(path)
    if not found:
        raise UserError(f"{path}: is no SAFE folder, zipped SAFE or GeoTIFF; correct PRODUCTS")
    return [granule for product in found for granule in product.granules()]


def sources_at(paths: Iterable[Path]) -> dict[str, Granule | Path]:
    """What can be masked at some paths by the name of its outputs: granules as `granules_at`, and GeoTIFFs.

    Raises UserError for two of one name too.
    """
    found: dict[str, Granule | Path] = {}
    for path in paths:
        own: dict[str, Granule | Path] = (
            {path.stem: path} if path.suffix.lower() in (".tif", ".tiff") else {g.name: g for g in granules_at(path)}
        )
        if twice := found.keys() & own:
            raise UserError(f"{path}: another product has outputs called {min(twice)} too; mask it by itself")
        found |= own
    return found


def _products_at(entry: Path) -> list[Found]:
    if entry.is_dir():
        if _is_safe(entry.name) or any(PRODUCT_XML.fullmatch(p.name) for p in entry.iterdir()):
            return [Found(_product_name(entry.name), entry, Files(entry))]
        inner = [p for p in visible(entry.iterdir()) if p.is_dir() and _is_safe(p.name)]
        return [Found(_product_name(p.name), p, Files(p)) for p in inner]
    if entry.is_file() and entry.suffix.lower() == ".zip":
        return [_zipped_product(entry)]
    return []


def _is_safe(name: str) -> bool:
    return name.upper().endswith(".SAFE")


def _product_name(folder: str) -> str:
    """A SAFE folder's name without `.SAFE`, as one harmless component of an output path."""
    name = folder[:-5] if _is_safe(folder) else folder
    if not name.strip(". ") or name.startswith(".") or re.search(r"[/\\]", name) or not name.isprintable():
        raise UserError(f"{folder!r}: not a name an output can have; rename the product")
    return name


def _zipped_product(archive: Path) -> Found:
    """The one product in a zip: the folder of its metadata file, or of GRANULE if that is missing."""
    entries = zip_entries(archive)
    roots = {n[: n.rfind("/") + 1] for n in entries if PRODUCT_XML.fullmatch(PurePosixPath(n).name)}
    roots = roots or {n.partition("GRANULE/")[0] for n in entries if re.search(r"(^|/)GRANULE/", n)}
    if len(roots) != 1:
        what = f"holds {len(roots)} products, a zip may hold one" if roots else "holds no Sentinel-2 product"
        raise UserError(f"{archive}: {what}; zip each SAFE folder by itself")
    root = roots.pop()
    # NAME.SAFE.zip is product NAME whatever the folder inside is called: a reprocessed product, asked for by its old
    # name and saved under it, goes on by the name that its reference has.
    stem = archive.name[: -len(".zip")]
    name = stem if _is_safe(stem) else PurePosixPath(root).name or stem
    return Found(_product_name(name), archive, ZippedFiles(archive, root))
