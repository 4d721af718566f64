"""Images: 13-band scenes, masks, reference maps and other layers as GeoTIFFs, and products' bands as JPEG 2000."""

import functools
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, gdal_array

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Case, Seeds, Target
from campaigns.fuzz.mutations import NUMBERS
from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA, SAFE_BANDS
from cloudsom.images import rasters, safe_to_tiff
from cloudsom.images.products import Files, Granule
from cloudsom.images.references import read_reference

TRANSFORM = (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0)
TAGS = {"QUANTIFICATION_VALUE": "10000", "RADIO_ADD_OFFSET": "-1000", "NODATA": "0", "SATURATED": "65535"}

#: A file of some hundred bytes may declare an image that takes minutes to read: this many blocks of it are.
BLOCKS = 2


def grid(width: int, height: int) -> rasters.Grid:
    from safe_maker import in_memory

    wkt = in_memory(np.ones((1, 1), np.uint16), 60, (600000, 4900020)).GetProjection()
    return rasters.Grid(width, height, TRANSFORM, wkt)


# --- GeoTIFF ----------------------------------------------------------------------------------------------------------


def _scene(path: Path) -> None:
    with rasters.open_scene(path) as scene:
        for _, dn in itertools.islice(scene.blocks(), BLOCKS):
            assert rasters.reflectance(dn, scene.info).shape == dn.shape


def _reference(path: Path) -> None:
    read_reference(path, Path("mask.tif"), grid(24, 20))


def _reduced(path: Path) -> None:
    dataset = rasters.open_raster(path)
    band = dataset.GetRasterBand(1)
    with rasters.gdal_errors(path, "the file is damaged"):
        for i in range(min(3, band.GetOverviewCount())):
            band.GetOverview(i)


READERS: dict[str, Callable[[Path], object]] = {
    "scene": _scene,
    "mask": rasters.read_mask,
    "layer": rasters.read_layer,
    "reference": _reference,
    "reduced": _reduced,
}


def seeds(folder: Path) -> Seeds:
    dn = kit.digital_numbers()
    place = grid(dn.shape[1], dn.shape[0])
    mask = np.where(dn[..., 1] > 2000, CLOUD, CLEAR).astype(np.uint8)
    mask[:3] = MASK_NODATA
    written: dict[str, list[bytes]] = {}

    def add(kind: str, write: Callable[[Path], object]) -> None:
        write(folder / kind)
        written.setdefault(kind, []).append((folder / kind).read_bytes())

    add("scene", lambda p: rasters.write_layer(p, dn, place, nodata=0, descriptions=SAFE_BANDS, tags=TAGS))
    add("mask", lambda p: rasters.write_mask(p, mask, place))
    add("layer", lambda p: rasters.write_layer(p, dn[..., 0] / np.float32(1e4), place, nodata=np.nan))
    add("reference", lambda p: rasters.write_layer(p, (mask % 7).astype(np.uint8), place, nodata=0))
    for options in (
        ["COMPRESS=LZW", "TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=16"],
        ["BIGTIFF=YES"],
        ["COMPRESS=PACKBITS"],
    ):
        written["scene"].append(tiff(dn, options))
        written["mask"].append(tiff(mask[..., None], options))
    return written | {"reduced": [*written["mask"], *written["layer"]]}


def tiff(
    dn: NDArray[Any],
    options: list[str],
    names: tuple[str, ...] = SAFE_BANDS,
    tags: dict[str, str] = TAGS,
    kind: int | None = None,
    nodata: float | None = 0,
) -> bytes:
    """A GeoTIFF made with GDAL's own options, (height, width, bands)."""
    place = "/vsimem/fuzz.tif"
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(dn.dtype) if kind is None else kind
    file = gdal.GetDriverByName("GTiff").Create(place, dn.shape[1], dn.shape[0], dn.shape[2], kind, options)
    file.SetGeoTransform(TRANSFORM)
    file.SetProjection(grid(1, 1).projection)
    file.SetMetadata(tags)
    for i in range(dn.shape[2]):
        band = file.GetRasterBand(i + 1)
        if nodata is not None:
            band.SetNoDataValue(nodata)
        band.SetDescription(names[i] if i < len(names) else "")
        band.WriteArray(dn[..., i])
    file = band = None
    return _taken(place)


def _taken(place: str) -> bytes:
    """The bytes of one of GDAL's files in memory, which is removed."""
    size = gdal.VSIStatL(place).size
    handle = gdal.VSIFOpenL(place, "rb")
    content = bytes(gdal.VSIFReadL(1, size, handle))
    gdal.VSIFCloseL(handle)
    gdal.Unlink(place)
    return content


KINDS = (gdal.GDT_Byte, gdal.GDT_Int16, gdal.GDT_UInt32, gdal.GDT_Float32, gdal.GDT_Float64, gdal.GDT_CFloat64)


def build(draw: random.Random, good: Seeds) -> Case:
    """A valid GeoTIFF with other bands, types, sizes or tags than are expected of it."""
    kind = draw.choice(sorted(READERS))
    if draw.random() < 0.05:
        return Case(kind, _sparse(draw))
    dn = kit.digital_numbers()
    bands = draw.choice((13, 13, 13, 1, 2, 12, 14)) if kind == "scene" else draw.choice((1, 1, 1, 2, 13))
    rows, columns = draw.choice(((20, 24), (20, 24), (1, 1), (1, 24), (20, 1), (7, 24)))
    dn = np.resize(dn[:rows, :columns], (rows, columns, bands))
    names, tags = list(SAFE_BANDS), dict(TAGS)
    nodata: float | None = 0
    match draw.randrange(6):
        case 0:
            draw.shuffle(names)
        case 1:
            tags.pop(draw.choice(sorted(tags)))
        case 2:
            numbers = [n.decode("latin1") for n in NUMBERS]
            tags[draw.choice(sorted(tags))] = draw.choice((",".join(draw.choices(numbers, k=13)), draw.choice(numbers)))
        case 3:
            nodata = draw.choice((None, np.nan, -1, 65536, 1e300, 0.5, 65535))
        case 4:
            names[0] = draw.choice(("", "B01 ", "b01", "\x1b[2J", "\u4e91" * 50, "B01\nB02"))
        case _:
            tags |= {"\x1b]0;x\x07": "\x1b[2J", "EVIL": "\n" * 50}
    stored = draw.choice((None, None, *KINDS))
    options = draw.choice(([], ["TILED=YES"], ["COMPRESS=DEFLATE"], ["PROFILE=BASELINE"], ["INTERLEAVE=BAND"]))
    return Case(kind, tiff(dn, options, tuple(names), tags, stored, nodata))


def _sparse(draw: random.Random) -> bytes:
    """A file of a few hundred bytes that declares an image of any size, without any data."""
    place = "/vsimem/sparse.tif"
    width, height = draw.choice(((32768, 32768), (32769, 1), (1, 100_000), (10980, 10980), (2_000_000, 3), (20000, 20)))
    bands = draw.choice((1, 1, 13))
    options = ["SPARSE_OK=TRUE", "BIGTIFF=YES", draw.choice(("COMPRESS=DEFLATE", "COMPRESS=LZW"))]
    options += draw.choice(
        ([], ["TILED=YES", "BLOCKXSIZE=4096", "BLOCKYSIZE=4096"], [f"BLOCKYSIZE={min(height, 20000)}"])
    )
    options += draw.choice((["INTERLEAVE=BAND"], ["INTERLEAVE=PIXEL"]))
    kind = draw.choice((gdal.GDT_Byte, gdal.GDT_UInt16, gdal.GDT_CFloat64))
    try:
        file = gdal.GetDriverByName("GTiff").Create(place, width, height, bands, kind, options)
        file.SetMetadata(TAGS)
        for i in range(bands):
            file.GetRasterBand(i + 1).SetDescription(SAFE_BANDS[i])
            file.GetRasterBand(i + 1).SetNoDataValue(0)
        file = None
    except (RuntimeError, AttributeError):
        return b"II*\0"
    return _taken(place)


WORDS = (
    b"II*\0", b"MM\0*", b"II+\0", b"GDAL_METADATA", b"<GDALMetadata>", b"<Item name=", b"\xff\xff\xff\xff", b"\0\0\0\0",
    b"VRTDataset", b"/vsicurl/http://127.0.0.1:9/", b"B01", b"QUANTIFICATION_VALUE", b"10000", b"\0\1\3\0", b"\1\1\4\0",
    b"\x11\x01\x10\0", b"\x15\1\3\0", b"\x44\1\4\0",
)  # fmt: skip

GEOTIFF = Target("geotiff", {kind: (".tif", read) for kind, read in READERS.items()}, seeds, WORDS, build)


# --- JPEG 2000 --------------------------------------------------------------------------------------------------------

SIDE = 8  # pixels of 60 m


def read_band(path: Path) -> None:
    """Read a 10 m band in the three ways of step 7."""
    files = Granule("NAME", Files(path.parent), "", {"B02": path.name})
    metadata = rasters.Metadata(10000.0, (0.0,) * 13, 0, 65535, {})
    work = safe_to_tiff.Work(files, metadata, grid(SIDE, SIDE))
    next(iter(safe_to_tiff.bands_in_order(work, 1, safe_to_tiff.exact_layer, ("B02",))))
    safe_to_tiff.read_reduced(work, "B02")
    safe_to_tiff.published_layer(work, "B02")


@functools.cache
def _dn() -> NDArray[np.uint16]:
    """A scene's 60 m pixels as the texture of a 10 m band."""
    return np.resize(kit.digital_numbers()[..., 1], (SIDE * 6, SIDE * 6))


def seed_bands(folder: Path) -> Seeds:
    from safe_maker import write_jp2, write_tiff

    write_jp2(folder / "band.jp2", _dn(), 10)
    write_tiff(folder / "tiff.jp2", _dn(), 10)
    return {"band": [(folder / "band.jp2").read_bytes(), (folder / "tiff.jp2").read_bytes()]}


def build_band(draw: random.Random, good: Seeds) -> Case:
    """A valid image of another place, size, type or layout."""
    from safe_maker import in_memory

    side = draw.choice((SIDE * 6, SIDE * 6, SIDE, SIDE * 2, 1, 47, 600))
    system = draw.choice((32631, 32631, 32632, 4326))
    source = in_memory(
        np.resize(_dn(), (side, side)), draw.choice((10, 60, 20)), (600000, draw.choice((4900020, 0))), system
    )
    driver, options = draw.choice(
        (
            ("JP2OpenJPEG", ["QUALITY=100", "REVERSIBLE=YES", f"RESOLUTIONS={draw.randint(1, 6)}"]),
            ("JP2OpenJPEG", ["QUALITY=20", "CODEC=J2K"]),
            ("GTiff", []),
        )
    )
    gdal.GetDriverByName(driver).CreateCopy("/vsimem/fuzz.jp2", source, options=options)
    return Case("band", _taken("/vsimem/fuzz.jp2"))


JP2 = Target(
    "jp2",
    {"band": (".jp2", read_band)},
    seed_bands,
    (b"\xff\x4f\xff\x51", b"\xff\x52", b"\xff\x5c", b"\xff\x90", b"\xff\x93", b"\xff\xd9", b"jp2c", b"ihdr",
     b"uuid", b"asoc",
     b"gmljp2://", b"http://127.0.0.1:9/", b"\xff\xff\xff\xff", b"\0\0\0\0", b"colr", b"jP  "),
    build_band,
    names=("band B02",),
)  # fmt: skip
