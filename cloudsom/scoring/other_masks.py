"""Masks of other processors: where they are, what their codes mean, and the same masks in our codes on a given grid."""

import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.files.places import local, under, visible
from cloudsom.images import esa_masks, products, vectors
from cloudsom.images.aligning import mask_on_grid
from cloudsom.images.mask_codes import HOW, UNKNOWN, Codes, fitting, read_preset, shown
from cloudsom.images.rasters import Grid, gdal_errors, grid_of, open_raster
from cloudsom.safe_names import fields_of

#: Formats that masks come in, beside ERDAS Imagine (.img), which python-fmask writes.
DRIVERS = ("GTiff", "JP2OpenJPEG")

#: Entries by which an ERDAS file sends GDAL to another file for its pixels, wherever that is. (Overviews, which may be
#: elsewhere too, are not looked at.)
_LINKS = re.compile(rb"ExternalRasterDMS|(?<!Eimg_)DependentFile")

#: Names in a pattern, made of a product's name.
FIELDS = ("product", "satellite", "sensed", "date", "tile")

_SCL = re.compile(r"GRANULE/[^/]+/IMG_DATA/(?:R20m/)?[^/]*_SCL(?:_20m)?\.jp2", re.IGNORECASE)

#: Polygons are laid out in parts of a pixel, this many a side, so that they cover shares of it.
PARTS = 6


@dataclass(frozen=True)
class Processor:
    """An entry of OTHER_MASKS: NAME=PRESET:PATTERN."""

    name: str
    codes: Codes
    pattern: str

    @property
    def of_products(self) -> bool:
        """Whether the pattern is the name of a folder of products (L1C, or Sen2Cor's L2A) that hold the masks."""
        return self.codes.name == "l1c" or (self.codes.name == "scl" and not re.search(r"[{*?[]", self.pattern))


@dataclass(frozen=True)
class OtherMask:
    """Another processor's mask of one product; fit to send to a worker.

    member  in a SAFE folder or zip, `files`, the mask's path there
    """

    codes: Codes
    path: Path
    files: products.Files | None = None
    member: str = ""

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"{self.path}: {self.member}" if self.files else str(self.path)

    def inputs(self) -> list[Path]:
        """The files on disk it is read from."""
        return list(self.files.on_disk([self.member]).values()) if self.files else [self.path]

    @contextmanager
    def open(self) -> Iterator[gdal.Dataset]:
        """The mask as a GDAL dataset."""
        if self.files:
            with self.files.open_image(self.member, self.codes.name) as dataset:
                yield dataset
        else:
            yield open_raster(self.path, (*DRIVERS, *_erdas(self.path)))


def _erdas(path: Path) -> tuple[str, ...]:
    """The driver for a file in ERDAS format; UserError for one that keeps its pixels in another file."""
    with open(local(path), "rb") as file:
        if file.read(15) != b"EHFA_HEADER_TAG":
            return ()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _LINKS.search(content):
                raise UserError(f"{path}: keeps its pixels in another file; save it as one GeoTIFF")
    return ("HFA",)


# --- finding ----------------------------------------------------------------------------------------------------------


def read_entries(entries: Iterable[str], taken: Iterable[str]) -> list[Processor]:
    """The processors of OTHER_MASKS; `taken` are names of our own masks. Raises UserError."""
    found: list[Processor] = []
    for entry in entries:
        parts = re.fullmatch(r"([^=:]+)=([^:(]+(?:\([^)]*\))?):(.+)", entry.strip())
        if not parts:
            raise UserError(f"OTHER_MASKS: {entry!r} is not NAME=PRESET:PATTERN, as Fmask=fmask:fmask/{{product}}.img")
        name, words, pattern = (part.strip() for part in parts.groups())
        try:
            processor = Processor(name, read_preset(words), pattern)
        except UserError as problem:
            raise UserError(f"OTHER_MASKS: {name}: {problem}") from None
        if name in {*taken, *(other.name for other in found)}:
            raise UserError(f"OTHER_MASKS: {name} is the name of other masks already; choose another")
        fields = re.findall(r"{(\w*)}", pattern)
        if unknown := [field for field in fields if field not in FIELDS]:
            raise UserError(f"OTHER_MASKS: {name}: {{{unknown[0]}}} is none of {', '.join(FIELDS)}")
        if not fields and not processor.of_products:
            raise UserError(f"OTHER_MASKS: {name}: {pattern} names no {{product}}, so one file would stand for all")
        found.append(processor)
    return found


def find(processor: Processor, data_dir: str, names: Iterable[str]) -> dict[str, OtherMask]:
    """A processor's masks of some products, by product name; those it has none of are left out.

    Raises UserError if it has none of any, or two of one.
    """
    search = _in_products if processor.of_products else _by_pattern
    found = search(processor, data_dir, list(names))
    if not found:
        raise UserError(
            f"OTHER_MASKS: {processor.name}: {processor.pattern} under {data_dir} is no mask of any product to score; "
            "correct the pattern, or leave it out"
        )
    return found


def _by_pattern(processor: Processor, data_dir: str, names: list[str]) -> dict[str, OtherMask]:
    found = {}
    for name in names:
        words = fields_of(name)
        if any(field not in words for field in re.findall(r"{(\w+)}", processor.pattern)):
            continue  # a name that says nothing of satellite, time and tile
        places = [part for part in re.split(r"/+", processor.pattern) if part]
        fixed = next((i for i, part in enumerate(places) if re.search(r"[*?[]", part)), len(places) - 1)
        start = "/" if processor.pattern.startswith("/") else ""
        folder = under(data_dir, start + _filled("/".join(places[:fixed]), words))
        pattern = _filled("/".join(places[fixed:]), {key: re.sub(r"([*?[])", r"[\1]", w) for key, w in words.items()})
        files = [file for file in visible(folder.glob(pattern)) if file.is_file()]
        if len(files) > 1:
            raise UserError(f"OTHER_MASKS: {processor.name}: {files[0]} and {files[1]} are both of {name}; keep one")
        if files:
            found[name] = OtherMask(processor.codes, files[0])
    return found


def _filled(pattern: str, words: Mapping[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda field: words[field[1]], pattern)


def _in_products(processor: Processor, data_dir: str, names: list[str]) -> dict[str, OtherMask]:
    """Masks inside SAFE folders and zips: L1C products by name, L2A products by satellite, sensing time and tile."""
    there, _ = products.find_products(under(data_dir, processor.pattern))
    find_one = _in_l1c if processor.codes.name == "l1c" else _in_l2a
    found = ((name, find_one(processor.codes, there, name)) for name in names)
    return {name: mask for name, mask in found if mask}


def _in_l1c(codes: Codes, there: Mapping[str, products.Found], name: str) -> OtherMask | None:
    for product in there.values():
        if name == product.name or re.fullmatch(re.escape(product.name) + r"_T\d\d[A-Z]{3}", name):
            for granule in product.granules():
                if granule.name == name:
                    return OtherMask(codes, product.path, granule.files, esa_masks.find_mask(granule))
    return None


def _in_l2a(codes: Codes, there: Mapping[str, products.Found], name: str) -> OtherMask | None:
    words = fields_of(name)
    if "tile" not in words:
        return None
    level_2 = re.compile(rf"{words['satellite']}_MSIL2A_{words['sensed']}_.*_{words['tile']}(_.*)?")
    same = [product for product in there.values() if level_2.fullmatch(product.name)]
    if len(same) > 1:
        raise UserError(f"{same[0].path} and {same[1].path}: are both the L2A product of {name}; keep one")
    for product in same:
        layers = [member for member in product.files.names() if _SCL.fullmatch(member)]
        if len(layers) != 1:
            raise UserError(f"{product.path}: holds {len(layers)} SCL layers at 20 m, one is needed; get it again")
        return OtherMask(codes, product.path, product.files, layers[0])
    return None


# --- reading ----------------------------------------------------------------------------------------------------------


def read(mask: OtherMask, grid: Grid, cloud_share: float) -> NDArray[np.uint8]:
    """A mask on a reference's grid: uint8 (height, width) of CLOUD, CLEAR and MASK_NODATA (see `mask_on_grid`).

    Raises UserError for values that the preset gives no meaning.
    """
    if mask.member.lower().endswith(".gml"):
        return _read_polygons(mask, grid, cloud_share)
    with mask.open() as dataset, gdal_errors(mask.shown, "the file is damaged"):
        bands, nodata = _bands(mask, dataset)

        def rows(first: int, n: int) -> NDArray[np.uint8]:
            layers = [dataset.GetRasterBand(band).ReadAsArray(0, first, dataset.RasterXSize, n) for band in bands]
            return mask.codes.classify(np.maximum.reduce(layers), nodata)

        _check_codes(mask, dataset, bands, nodata)
        return mask_on_grid(rows, grid_of(dataset), grid, cloud_share, mask.shown)


def _bands(mask: OtherMask, dataset: gdal.Dataset) -> tuple[tuple[int, ...], float | None]:
    """The bands that are read (cloud is what either calls cloud), and the value declared to be no data.

    UserError for another number of bands than expected, and where the preset says of that value that it is cloud or
    clear.
    """
    codes = mask.codes
    needed = esa_masks.IMAGE_BANDS if codes.name == "l1c" else 1
    if dataset.RasterCount != needed:
        raise UserError(f"{mask.shown}: has {dataset.RasterCount} bands, {codes.name} masks have {needed}")
    nodata = dataset.GetRasterBand(1).GetNoDataValue()
    if nodata is not None and not codes.listed and codes.means(nodata):
        raise UserError(
            f"{mask.shown}: declares {nodata:g} to be no data, by the preset {codes.name} it is cloud or clear; say "
            "which: codes(cloud=...;clear=...;out=...), or remove the declaration (gdal_edit.py -unsetnodata)"
        )
    return esa_masks.CLOUD_BANDS if needed > 1 else (1,), nodata


def _check_codes(mask: OtherMask, dataset: gdal.Dataset, bands: Iterable[int], nodata: float | None) -> None:
    """UserError for a mask that holds values its preset does not know, or that cannot be what the preset is for."""
    found: set[float] = set()
    most, unknown, step = 0.0, False, 512
    for first in range(0, dataset.RasterYSize, step):
        n = min(step, dataset.RasterYSize - first)
        for band in bands:
            values = dataset.GetRasterBand(band).ReadAsArray(0, first, dataset.RasterXSize, n)
            codes = mask.codes.classify(values, nodata)
            unknown |= bool((codes == UNKNOWN).any())
            decided = values[(codes == CLOUD) | (codes == CLEAR)]
            most = max(most, float(decided.max())) if decided.size else most
            if len(found) < 1000:
                found |= set(np.unique(values[~np.isnan(values)] if values.dtype.kind == "f" else values).tolist())
    name = mask.codes.name
    if unknown:
        raise UserError(f"{mask.shown}: holds {shown(found)}, not all are {name}'s; {fitting(found)}. Give {HOW}")
    if name == "binary" and found >= {1, 255}:
        raise UserError(f"{mask.shown}: holds both 1 and 255, one of which is no cloud; give codes(cloud=...;out=...)")
    if (mask.codes.threshold or 0) > 1 and most <= 1:
        raise UserError(f"{mask.shown}: holds nothing above 1, so no per cent; give a threshold up to 1, or {HOW}")


def _read_polygons(mask: OtherMask, grid: Grid, cloud_share: float) -> NDArray[np.uint8]:
    assert mask.files
    clouds = esa_masks.read_polygons(mask.shown, mask.files.read(mask.member))
    left, width, _, top, _, height = grid.transform
    step = width / PARTS, height / PARTS
    projection = clouds[0].projection if clouds else grid.projection
    fine = Grid(grid.width * PARTS, grid.height * PARTS, (left, step[0], 0.0, top, 0.0, step[1]), projection)

    def rows(first: int, n: int) -> NDArray[np.uint8]:
        strip = Grid(fine.width, n, (left, step[0], 0.0, top + first * step[1], 0.0, step[1]), projection)
        return np.where(vectors.marked(clouds, strip, mask.shown) > 0, CLOUD, CLEAR).astype(np.uint8)

    found = mask_on_grid(rows, fine, grid, cloud_share, mask.shown)
    assert not (found == MASK_NODATA).any()
    return found
