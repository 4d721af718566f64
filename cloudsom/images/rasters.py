"""GeoTIFFs in and out: 13-band scenes, masks and other layers, always with nodata and georeference.

Files may come from strangers, so each is opened with the one driver expected of it, by its content and not its name,
without sidecar files, and never through one of GDAL's virtual file systems (`/vsicurl/` and its like).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, gdal_array

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA, N_BANDS, SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.files.places import local, visible
from cloudsom.images import jpeg2000, mask_codes

gdal.UseExceptions()
gdal.SetConfigOption("GDAL_PAM_ENABLED", "NO")  # read and write no .aux.xml: it can override a file's own content
gdal.SetConfigOption("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")  # nor .ovr, .msk, .tfw...
gdal.SetConfigOption("GDAL_GEOREF_SOURCES", "INTERNAL")

# GDAL's cache of blocks, bytes: a row of tiles of 13 bands at 10 m. By default it grows to a twentieth of all memory.
gdal.SetCacheMax(96 * 1024 * 1024)

#: Side of the square tiles of every GeoTIFF written, in pixels; writers take rows in multiples of it.
TILE = 256

#: Larger images are no Sentinel-2 tiles (10980 pixels a side) but mistakes, or attacks on memory.
MAX_SIDE = 32768

#: A mask or another layer that is read whole, bytes: float32 for every pixel of a 10 m tile has 482 million.
MAX_LAYER_BYTES = 500_000_000

#: A tile or strip that GDAL unpacks as a whole, bytes: those of real images have 2 million.
MAX_BLOCK_BYTES = 64_000_000

#: Index of B10, the cirrus band, among the 13.
B10 = SAFE_BANDS.index("B10")

#: Mask colours (RGB): clouds white, clear ground black, nodata grey.
MASK_COLOURS = {CLOUD: (255, 255, 255), CLEAR: (0, 0, 0), MASK_NODATA: (128, 128, 128)}

Colours = Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True)
class Grid:
    """Where an image's pixels are: size, GDAL's six-number transform (map units), and projection (WKT)."""

    width: int
    height: int
    transform: tuple[float, float, float, float, float, float] = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    projection: str = ""

    def difference(self, other: "Grid") -> str:
        """In words, what keeps the two grids from being the same; empty if nothing does.

        A grid without a projection is compared by size alone.
        """
        if (self.width, self.height) != (other.width, other.height):
            return f"{self.width} x {self.height} pixels against {other.width} x {other.height}"
        if not self.projection or not other.projection:
            return ""
        tolerance = 1e-3 * abs(self.transform[1])
        if not np.allclose(self.transform, other.transform, rtol=0, atol=tolerance):
            return f"transform {self.transform} against {other.transform}"
        return ""


@dataclass(frozen=True)
class Metadata:
    """How the digital numbers of a product, or of the image made of it, become reflectance.

    `offsets` are the 13 RADIO_ADD_OFFSET values in DN, `quantification` is DN per unit of reflectance. `tags` say the
    same, and what else is worth knowing of the product, as they stand in an image.
    """

    quantification: float
    offsets: tuple[float, ...]
    nodata: int
    saturated: int
    tags: dict[str, str]


# --- opening ----------------------------------------------------------------------------------------------------------


@contextmanager
def gdal_errors(shown: object, advice: str) -> Iterator[None]:
    """Turn what GDAL raises into a UserError: `shown`, GDAL's first line, `advice`."""
    gdal.ErrorReset()
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # what GDAL has to say is in the exception
    try:
        yield
    except (RuntimeError, UnicodeDecodeError) as problem:  # the latter for names in a file that are no UTF-8
        reason = " ".join(str(problem).split()) or "GDAL gives no reason"
        raise UserError(f"{shown}: {reason[:300]}; {advice}") from None
    finally:
        gdal.PopErrorHandler()


def destroy(dataset: gdal.Dataset) -> None:
    """Close a dataset that was written, once its last use is over, in a way that can raise (on a full disk).

    When Python's own clearing up closes it, an error can only be printed.
    """
    gdal.Dataset.__swig_destroy__(dataset)


def open_raster(path: Path, drivers: Sequence[str] = ("GTiff",), shown: object = None) -> gdal.Dataset:
    """A file opened for reading by one of `drivers` (by content, whatever it is called), and by no other.

    Raises UserError if there is no such file, or it is of another format; `shown` stands for the path in errors.
    """
    shown = shown or path
    return open_by_name(file_here(path, shown), shown, drivers)


def file_here(path: Path, shown: object) -> str:
    """What GDAL is to open for a path: a whole name, so that no prefix such as GTIFF_DIR: is taken for a command.

    Raises UserError where there is no such file on disk.
    """
    try:
        place = os.path.abspath(local(path))
    except FileNotFoundError:  # behind a URL
        place = ""
    if place.startswith("/vsi"):
        raise UserError(f"{shown}: GDAL's virtual file systems are not read; give a file on disk")
    if not os.path.isfile(place):
        raise UserError(f"{shown}: no such file")
    return place


def open_by_name(name: str, shown: object, drivers: Sequence[str]) -> gdal.Dataset:
    """As `open_raster`, for a GDAL name the program itself made (`/vsimem/...`); `shown` stands for it in errors."""
    kind = " or ".join(drivers)
    if "JP2OpenJPEG" in drivers and (wrong := jpeg2000.fault(name)):
        raise UserError(f"{shown}: {wrong}; get the image again")
    with gdal_errors(shown, f"a {kind} file is needed: it is damaged or of another format"):
        dataset = gdal.OpenEx(name, gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR, allowed_drivers=list(drivers))
        elsewhere = dataset.GetMetadataItem("OVERVIEW_FILE", "OVERVIEWS")
        grid_of(dataset)  # GDAL looks some things up on first use: here, where errors are caught
        piece = _block_bytes(dataset)
    if max(dataset.RasterXSize, dataset.RasterYSize) > MAX_SIDE:
        raise UserError(f"{shown}: {dataset.RasterXSize} x {dataset.RasterYSize} pixels is no Sentinel-2 image")
    if elsewhere:  # GDAL would open it, by any driver and over any network
        raise UserError(f"{shown}: names another file for its reduced images; save it without overviews")
    if piece > MAX_BLOCK_BYTES:
        raise UserError(f"{shown}: is stored in pieces too large to unpack; save it in tiles (TILED=YES)")
    return dataset


def _block_bytes(dataset: gdal.Dataset) -> int:
    """What GDAL unpacks at once: a tile or strip of one band, of all where their values alternate."""
    if not dataset.RasterCount:
        return 0
    band = dataset.GetRasterBand(1)
    width, height = band.GetBlockSize()
    together = dataset.RasterCount if dataset.GetMetadataItem("INTERLEAVE", "IMAGE_STRUCTURE") == "PIXEL" else 1
    return width * height * together * (gdal.GetDataTypeSize(band.DataType) // 8)


def grid_of(dataset: gdal.Dataset) -> Grid:
    """The grid of an open dataset."""
    transform = dataset.GetGeoTransform()
    return Grid(dataset.RasterXSize, dataset.RasterYSize, tuple(transform), as_text(dataset.GetProjection()))


def as_text(value: str | bytes) -> str:
    """What GDAL has as text, which it hands out as bytes where that is no UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# --- 13-band scenes ---------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A 13-band GeoTIFF being read. Made by `open_scene`."""

    path: Path
    dataset: gdal.Dataset
    grid: Grid
    info: Metadata

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint16]]]:
        """The scene from top to bottom, a row of its tiles at a time: (first row, DN (n rows, width, 13) uint16)."""
        for row in range(0, self.grid.height, TILE):
            yield row, self.read(row, min(TILE, self.grid.height - row))

    def read(self, row: int, rows: int) -> NDArray[np.uint16]:
        """DN of `rows` rows from `row` on: (rows, width, 13) uint16."""
        dn = np.empty((rows, self.grid.width, N_BANDS), np.uint16)
        with gdal_errors(self.path, _DAMAGED):
            self.dataset.ReadAsArray(0, row, dn.shape[1], rows, buf_obj=dn, interleave="pixel")
        return dn


@contextmanager
def open_scene(path: Path) -> Iterator[Scene]:
    """A 13-band GeoTIFF as step 7 writes it, open while a block lasts.

    Raises UserError if it is no GeoTIFF, has other bands than SAFE_BANDS in that order, stores another type than
    uint16, declares no nodata, or lacks the tags that turn DN into reflectance: nothing is guessed.
    """
    dataset = open_raster(path)
    with gdal_errors(path, _DAMAGED):
        _check_bands(path, dataset)
        tags = {as_text(key): as_text(value) for key, value in dataset.GetMetadata().items()}
        grid = grid_of(dataset)
    info = Metadata(
        offsets=_numbers(path, tags, "RADIO_ADD_OFFSET", (1, N_BANDS)),
        quantification=_numbers(path, tags, "QUANTIFICATION_VALUE", (1,))[0],
        nodata=_nodata(path, dataset),
        saturated=int(_numbers(path, {"SATURATED": "65535"} | tags, "SATURATED", (1,))[0]),
        tags=tags,
    )
    if info.quantification <= 0:
        raise UserError(f"{path}: QUANTIFICATION_VALUE is {info.quantification:g}, it must be positive; {_REMAKE}")
    scene = Scene(path, dataset, grid, info)
    try:
        yield scene
    finally:
        del scene.dataset  # with the last reference GDAL closes the file


_REMAKE = "make the file again with gdal_commands.sh"
_DAMAGED = "the file is damaged: make it again with gdal_commands.sh"


def _check_bands(path: Path, dataset: gdal.Dataset) -> None:
    if dataset.RasterCount != N_BANDS:
        raise UserError(f"{path}: has {dataset.RasterCount} bands, {N_BANDS} are needed ({', '.join(SAFE_BANDS)})")
    bands = [dataset.GetRasterBand(i + 1) for i in range(N_BANDS)]
    names = [" ".join(as_text(band.GetDescription()).split()) for band in bands]
    wrong = [i for i in range(N_BANDS) if names[i] != SAFE_BANDS[i]]
    if wrong:
        found = ", ".join(f"band {i + 1} is {names[i][:40] or 'unnamed'} instead of {SAFE_BANDS[i]}" for i in wrong)
        raise UserError(f"{path}: {found}; {_REMAKE}, or put the bands in order and name them (descriptions)")
    if any(band.DataType != gdal.GDT_UInt16 for band in bands):
        kind = gdal.GetDataTypeName(bands[0].DataType)
        raise UserError(f"{path}: stores {kind}, step 7's digital numbers are UInt16; {_REMAKE}")


def _nodata(path: Path, dataset: gdal.Dataset) -> int:
    values = {dataset.GetRasterBand(i + 1).GetNoDataValue() for i in range(N_BANDS)}
    value = values.pop()
    if values or value is None or not 0 <= value <= 65535 or value != int(value):
        raise UserError(f"{path}: declares no nodata value, or not one for all bands; {_REMAKE}")
    return int(value)


def _numbers(path: Path, tags: Mapping[str, str], tag: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """The comma-separated finite numbers of a tag; one number stands for all where `counts` allows several."""
    if tag not in tags:
        raise UserError(f"{path}: has no tag {tag}, without which its values have no unit; {_REMAKE}")
    try:
        values = tuple(float(word) for word in tags[tag].split(","))
    except ValueError:
        values = ()
    if len(values) not in counts or not np.isfinite(values).all():
        wanted = " or ".join(map(str, counts))
        raise UserError(f"{path}: tag {tag} is {tags[tag][:80]!r}, {wanted} finite number(s) are needed; {_REMAKE}")
    return values * counts[-1] if len(values) == 1 else values


def deciding_bands(info: Metadata) -> list[int]:
    """Indices of the bands in which a nodata value means that the pixel has no spectrum: all, or all but B10.

    The 13 detectors' footprints end at different places, so along the swath's edge some bands are missing and what is
    left is no spectrum (one pixel in ten of a real swath edge). One zero is a measurement, though: B10 over a clear
    sky is so dark that products without offset hold DN 0 there in valid pixels (stretches of a real coast have B10 of
    0, 1, 2, 3...), and B10 lies in the middle of the focal plane, so it is never the only band missing. With an
    offset, dark pixels are stored above zero and no band is excepted.
    """
    zero_is_dark = info.nodata == 0 and info.offsets[B10] == 0
    return [i for i in range(N_BANDS) if not (zero_is_dark and i == B10)]


def nodata_pixels(dn: NDArray[np.uint16], info: Metadata) -> NDArray[np.bool_]:
    """Which pixels have no spectrum: True where any of `deciding_bands` holds the nodata value. `dn` is (..., 13)."""
    missing = dn == info.nodata
    bands = deciding_bands(info)
    return missing.any(axis=-1) if len(bands) == N_BANDS else missing[..., bands].any(axis=-1)


def reflectance(dn: NDArray[np.uint16], info: Metadata) -> NDArray[np.float64]:
    """TOA reflectance (DN + RADIO_ADD_OFFSET) / QUANTIFICATION_VALUE; NaN in all bands of nodata pixels.

    `dn` is (..., 13) uint16, the answer float64 of the same shape. Saturated values come out as they are stored: 6.55
    is brighter than any reflectance and stays with the brightest neurons.
    """
    out = np.add(dn, info.offsets, dtype=np.float64) if any(info.offsets) else dn.astype(np.float64)
    out /= info.quantification
    out[nodata_pixels(dn, info)] = np.nan
    return out


# --- masks and other layers -------------------------------------------------------------------------------------------


def read_layer(path: Path) -> tuple[NDArray[Any], Grid]:
    """A one-band GeoTIFF, whole: (array (height, width) in its stored type, grid)."""
    dataset = open_raster(path)
    if dataset.RasterCount != 1:
        raise UserError(f"{path}: has {dataset.RasterCount} bands, one is needed")
    width, height, kind = dataset.RasterXSize, dataset.RasterYSize, dataset.GetRasterBand(1).DataType
    if width * height * (gdal.GetDataTypeSize(kind) // 8) > MAX_LAYER_BYTES:
        what = f"{width} x {height} pixels of {gdal.GetDataTypeName(kind)}"
        raise UserError(f"{path}: {what} are more than a layer of a Sentinel-2 image has")
    with gdal_errors(path, "the file is damaged"):
        return dataset.ReadAsArray(), grid_of(dataset)


def masks_in(folder: Path) -> dict[str, Path]:
    """The masks of a folder by product name."""
    return {file.name.removesuffix("_mask.tif"): file for file in visible(folder.glob("*_mask.tif"))}


def read_mask(path: Path) -> tuple[NDArray[np.uint8], Grid]:
    """A cloud mask of ours, whole: (uint8 array of CLOUD, CLEAR and MASK_NODATA, grid).

    UserError on any other code, and where neither the tag that our masks carry nor a declared nodata of MASK_NODATA
    says that these are our codes: others have 1 for cloud.
    """
    mask, grid = read_layer(path)
    if mask.dtype != np.uint8:
        raise UserError(f"{path}: stores {mask.dtype}, a mask is uint8; give a mask that create_cloudmasks.py wrote")
    codes = np.flatnonzero(code_counts(mask)).tolist()
    strange = set(codes) - {CLOUD, CLEAR, MASK_NODATA}
    dataset = open_raster(path)
    tag, nodata = dataset.GetMetadataItem(mask_codes.CODES_TAG), dataset.GetRasterBand(1).GetNoDataValue()
    if strange or not (tag == mask_codes.CODES_TEXT or (not tag and nodata == MASK_NODATA)):
        meaning = f"{CLOUD} (cloud), {CLEAR} (clear) and {MASK_NODATA} (nodata)"
        wrong = f"a mask of ours has {meaning} only" if strange else f"nothing in it says that they are {meaning}"
        raise UserError(
            f"{path}: holds {mask_codes.shown(codes)}; {wrong}: give a mask that create_cloudmasks.py wrote; another "
            f"processor's mask goes into OTHER_MASKS of evaluation_metrics.py: {mask_codes.fitting(codes)}"
        )
    return mask, grid


class RasterWriter:
    """A GeoTIFF being written, band by band or pixel by pixel. Made by `raster_writer`."""

    def __init__(self, path: Path, dataset: gdal.Dataset) -> None:
        self._path, self._dataset = path, dataset
        self._next_row, self._filled = 0, 0

    def write_band(self, index: int, layer: NDArray[Any]) -> None:
        """Write one band, whole: (height, width)."""
        with _write_errors(self._path):
            band = self._dataset.GetRasterBand(index + 1)
            for row in range(0, len(layer), TILE):
                band.WriteArray(layer[row : row + TILE], 0, row)
                band.FlushCache()  # else the order of the tiles depends on what other threads read meanwhile

    def append(self, pixels: NDArray[Any]) -> None:
        """Write pixels (n, count) in row-major order, any number at a time; a row of tiles is kept until it is full."""
        width, count = self._dataset.RasterXSize, pixels.shape[1]
        while len(pixels):
            rows = min(TILE, self._dataset.RasterYSize - self._next_row)
            if not self._filled:
                self._strip = np.empty((rows * width, count), pixels.dtype)
            n = min(len(pixels), len(self._strip) - self._filled)
            if not n:
                raise ValueError("more pixels than the image has")
            self._strip[self._filled : self._filled + n] = pixels[:n]
            self._filled, pixels = self._filled + n, pixels[n:]
            if self._filled == len(self._strip):
                with _write_errors(self._path):
                    for i in range(count):
                        strip = self._strip[:, i].reshape(rows, width)
                        self._dataset.GetRasterBand(i + 1).WriteArray(strip, 0, self._next_row)
                self._next_row, self._filled = self._next_row + rows, 0


@contextmanager
def raster_writer(
    path: Path,
    grid: Grid,
    dtype: Any,
    count: int = 1,
    *,
    nodata: float,
    descriptions: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    colours: Colours | None = None,
) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF of uint8, uint16 or float32 while a block lasts.

    The bytes depend on the content alone. Raises UserError when the disk is full or the place cannot be written.
    `path` is written as it comes: callers hand in the partial path of `stores.product` or `stores.atomic`.
    """
    dataset = None
    try:
        with _write_errors(path):
            place, options = os.path.abspath(path), _creation_options(np.dtype(dtype))
            kind = gdal_array.NumericTypeCodeToGDALTypeCode(dtype)
            dataset = gdal.GetDriverByName("GTiff").Create(place, grid.width, grid.height, count, kind, options)
            dataset.SetGeoTransform(grid.transform)
            if grid.projection:
                dataset.SetProjection(grid.projection)
            dataset.SetMetadata(dict(tags or {}))
            for i in range(count):
                band = dataset.GetRasterBand(i + 1)
                band.SetNoDataValue(nodata)
                if descriptions:
                    band.SetDescription(descriptions[i])
            if colours is not None:
                table = gdal.ColorTable()
                for code, rgb in colours.items():
                    table.SetColorEntry(code, (*rgb, 255))
                dataset.GetRasterBand(1).SetColorTable(table)
        yield RasterWriter(path, dataset)
        with _write_errors(path):
            dataset.FlushCache()
    except BaseException:
        if dataset is not None:
            with suppress(UserError), _write_errors(path):  # what an error leads to is no news
                destroy(dataset)
        raise
    with _write_errors(path):
        destroy(dataset)
        if gdal.GetLastErrorType() >= gdal.CE_Failure:  # closing cannot raise, it only leaves a message
            raise RuntimeError(gdal.GetLastErrorMsg())


def _write_errors(path: Path) -> AbstractContextManager[None]:
    return gdal_errors(path, "could not be written: see that the disk has room and the folder is yours")


def _creation_options(dtype: np.dtype[Any]) -> list[str]:
    predictor = 3 if dtype.kind == "f" else 2 if dtype.itemsize > 1 else 1
    return [
        "TILED=YES",
        f"BLOCKXSIZE={TILE}",
        f"BLOCKYSIZE={TILE}",
        "INTERLEAVE=BAND",
        "COMPRESS=DEFLATE",
        "ZLEVEL=1" if dtype.itemsize > 1 else "ZLEVEL=6",  # level 6 gains 2 % on spectra, in five times the time
        f"PREDICTOR={predictor}",
        "BIGTIFF=IF_SAFER",
    ]


def write_layer(
    path: Path,
    array: NDArray[Any],
    grid: Grid,
    *,
    nodata: float,
    descriptions: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    colours: Colours | None = None,
) -> None:
    """Write an array (height, width) or (height, width, n) of uint8, uint16 or float32 as a GeoTIFF."""
    layers = array[..., None] if array.ndim == 2 else array
    if layers.shape[:2] != (grid.height, grid.width):
        raise ValueError(f"a layer of {array.shape} for {grid.height} rows of {grid.width} pixels")
    settings: dict[str, Any] = {"nodata": nodata, "descriptions": descriptions, "tags": tags, "colours": colours}
    with raster_writer(path, grid, array.dtype, layers.shape[2], **settings) as writer:
        for i in range(layers.shape[2]):
            writer.write_band(i, layers[..., i])


def code_counts(layer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels of a layer (height, width) have each code: (256,). A stripe at a time: bincount widens them."""
    counts = np.zeros(256, np.int64)
    for top in range(0, len(layer), 4 * TILE):
        counts += np.bincount(layer[top : top + 4 * TILE].ravel(), minlength=256)
    return counts


def write_mask(path: Path, mask: NDArray[np.uint8], grid: Grid, *, tags: Mapping[str, str] | None = None) -> None:
    """Write a mask (height, width) of CLOUD, CLEAR and MASK_NODATA.

    Among the tags are the cloud's share of the pixels with data, if there are any, and nodata's share of all.
    """
    counts = code_counts(mask)
    shares = {"NODATA_SHARE": f"{counts[MASK_NODATA] / mask.size:.6f}"}
    if valid := counts[CLOUD] + counts[CLEAR]:
        shares["CLOUD_SHARE"] = f"{counts[CLOUD] / valid:.6f}"
    write_layer(
        path,
        mask,
        grid,
        nodata=MASK_NODATA,
        descriptions=["cloud mask"],
        tags={mask_codes.CODES_TAG: mask_codes.CODES_TEXT, **(tags or {}), **shares},
        colours=MASK_COLOURS,
    )
