"""Step 7: one 13-band GeoTIFF a product (run by gdal_commands.sh).

Brings the 13 bands of a Sentinel-2 L1C product, stored in pixels of 10, 20 and 60 m, to one grid: 60 m as in the paper.
Reads SAFE folders and zipped SAFE as they are, new and old naming; an old product's granules become one image each.

    bash gdal_commands.sh
    bash gdal_commands.sh --RESAMPLING fast

reads   PRODUCTS_DIR/NAME.SAFE, NAME.SAFE.zip, NAME.zip
writes  TIFF_DIR/NAME.tif  uint16 digital numbers, bands B01..B12 with B8A after B08, named; nodata declared; offset,
                           quantification and more from the metadata as tags (NAME_T31TFH.tif where a product has
                           several granules)
"""

import cloudsom.start  # first: a script that is stopped while it imports ends in one line

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, osr
from scipy import ndimage

from cloudsom.bands import SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.files.stores import Snapshot
from cloudsom.images.checksums import compare
from cloudsom.images.products import Granule, find_products
from cloudsom.images.rasters import Grid, Metadata, deciding_bands, gdal_errors, grid_of, raster_writer
from cloudsom.images.resampling import BandEstimate, block_mean, carry_details, estimate, estimate_guide, replicate
from cloudsom.processors import in_order, processors
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot

# --- constants: edit in gdal_commands.sh, or set on its command line (--NAME value) -----------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
PRODUCTS_DIR = "products"  # SAFE folders and zipped SAFE
PRODUCTS: list[str] = []  # names of the products to convert; none named: all in PRODUCTS_DIR

# outputs (relative to DATA_DIR)
TIFF_DIR = "tiff"  # one GeoTIFF a granule

# grid
PIXEL_SIZE = 60  # [10, 60] m: 60 as in the paper, 20 or 10; coarser bands are repeated, finer ones averaged
RESAMPLING: Literal["exact", "fast", "published"] = "exact"
# exact: mean of all native pixels with data. fast (60 m only): decodes at half or a quarter of the resolution and makes
# good what that leaves out, in under a third of the time; 5 to 18 DN rms from exact, no shift. published: what the
# original's gdal_translate commands did, nearest sample of a reduced level, which displaces 10 m bands by 15 m and 20 m
# bands by 10 m to the lower right, is 100 to 450 DN rms off and mixes nodata into the swath's edge

# checks
VERIFY = True  # compare a product's files with the checksums in its download's record, or else in its manifest.safe
# damaged images may decode without complaint; 1 to 3 s a product. What was compared is said, and kept beside the output

# running
WORKERS = 0  # [0, 1024] processors to use; 0: all. A product takes one or two: under 1 GB at 60 m, 1.5 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

PIXEL_SIZES = (10, 20, 60)

#: Native rows decoded at once: a row of the 10 m bands' JPEG 2000 tiles.
STRIP_ROWS = 1024

#: GDAL's cache of decoded tiles, bytes a thread: two rows of 1024 x 1024 tiles, so that none is decoded twice.
CACHE_BYTES = 48 * 1024 * 1024

#: Bands of a product that are converted at once; more would be faster where processors idle, but memory grows.
MAX_THREADS = 2

#: The bands whose details fast carries over to the others: one visible, one near infrared.
GUIDES = ("B04", "B08")

#: What a 15-bit sample can hold; above is the saturation code, which must not be averaged.
LARGEST_MEASURED = 32767


def main() -> None:
    check_grid(PIXEL_SIZE, RESAMPLING)
    granules, outcomes = find_granules(under(DATA_DIR, PRODUCTS_DIR))
    settings, tiff_dir = snapshot(globals()), under(DATA_DIR, TIFF_DIR)
    jobs = [
        Job(g.name, (settings, g, tiff_dir / f"{g.name}.tif", PIXEL_SIZE, RESAMPLING, VERIFY, OVERWRITE))
        for g in granules
    ]
    outcomes += run_jobs(convert, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "converting")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def check_grid(pixel_size: int, resampling: str) -> None:
    """UserError for values of the constants of these names that do not go together."""
    if pixel_size not in PIXEL_SIZES:
        raise UserError(f"PIXEL_SIZE: {pixel_size} m is not supported; {', '.join(map(str, PIXEL_SIZES))} are")
    if resampling == "fast" and pixel_size != 60:
        raise UserError(f"RESAMPLING: fast makes 60 m pixels, not {pixel_size} m; use exact")


def find_granules(folder: Path) -> tuple[list[Granule], list[Outcome]]:
    """The granules of all products asked for, and an outcome for each product that cannot be read."""
    found, errors = find_products(folder)
    outcomes = [] if PRODUCTS else [Outcome(name, error=error) for name, error in errors.items()]
    if found or not outcomes:
        advice = "put SAFE folders or zipped SAFE there"
        chosen = choose_products({name: p.path for name, p in found.items()}, PRODUCTS, folder, advice)
        found = {name: found[name] for name in chosen}
    granules: dict[str, Granule] = {}
    for name, product in found.items():
        try:
            for granule in product.granules():
                if granule.name in granules:
                    raise UserError(f"{name}: another product has an output called {granule.name}.tif too; rename one")
                granules[granule.name] = granule
        except UserError as problem:
            outcomes.append(Outcome(name, error=str(problem)))
    return list(granules.values()), outcomes


def convert(
    settings: Snapshot,
    granule: Granule,
    tiff: Path,
    pixel_size: int,
    resampling: str,
    verify: bool,
    overwrite: bool,
) -> str:
    """Write one granule's GeoTIFF; returns a line of summary."""
    made_by = stores.recipe(settings, granule.input_files())
    if done := stores.up_to_date([tiff], made_by, overwrite):
        return done
    threads = min(MAX_THREADS, processors())
    with stores.product(tiff, made_by) as product:
        product.results |= convert_granule(granule, product.partial, pixel_size, resampling, threads, verify)
        product.results["summary"] = (
            "{width} x {height} pixels of {pixel_size} m; {nodata_share:.2%} without data; offset {offset}, "
            "quantification {quantification}, baseline {baseline}; {verified}"
        ).format(**product.results)
    return f"{tiff}: {product.results['summary']}"


# --- one granule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A granule on its way to a target grid; `stop` is set when the run ends early."""

    granule: Granule
    metadata: Metadata
    grid: Grid
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def band(self, name: str) -> Iterator[tuple[gdal.Band, float]]:
        """A band's image, checked to lie on the target grid, and `pixels_per_target_pixel`.

        Errors name product and band.
        """
        with self.granule.open_band(name) as dataset:
            shown = f"{self.granule.name}: band {name}"
            factor = pixels_per_target_pixel(shown, dataset, self.grid)
            with gdal_errors(shown, "the image is damaged; get the product again"):
                yield dataset.GetRasterBand(1), factor

    def strips(self, band: gdal.Band, rows: int) -> Iterator[tuple[int, NDArray[np.uint16]]]:
        """(first row, DN) of the whole width of a band, `rows` rows at a time."""
        for row in range(0, band.YSize, rows):
            yield row, self.read(band, row, 0, min(rows, band.YSize - row), band.XSize)

    def read(self, band: gdal.Band, row: int, column: int, height: int, width: int) -> NDArray[np.uint16]:
        """DN of a window of a band or one of its reduced levels; gives up when the run is ending."""
        if self.stop.is_set():
            raise CancelledError
        dn: NDArray[np.uint16] = band.ReadAsArray(column, row, width, height)
        return dn


def convert_granule(
    granule: Granule, target: Path, pixel_size: int, resampling: str, threads: int, verify: bool = True
) -> dict[str, Any]:
    """Write the 13 bands of a granule to `target`; returns what is worth knowing of them.

    `verify` compares its files with what checksums there are before they are read.
    The result is the same for any number of `threads`. Raises UserError naming product and band.
    """
    gdal.SetConfigOption("GDAL_NUM_THREADS", "1")  # two bands at once beat two tiles at once, and errors stay in sight
    os.environ["OPJ_NUM_THREADS"] = "0"  # else each tile gets a thread of its own: twice the time for 8 x 8 code blocks
    gdal.SetCacheMax(CACHE_BYTES * threads)
    verified = compare(granule, threads) if verify else "checksums not looked at"
    work = Work(granule, granule.metadata(), target_grid(granule, pixel_size))
    tags = work.metadata.tags | {"RESAMPLING": resampling, "PRODUCT": granule.name}
    missing = np.zeros((work.grid.height, work.grid.width), bool)
    nodata = work.metadata.nodata
    decide = deciding_bands(work.metadata)
    with raster_writer(
        target, work.grid, np.uint16, len(SAFE_BANDS), nodata=nodata, descriptions=SAFE_BANDS, tags=tags
    ) as writer:
        for i, layer in enumerate(layers(work, resampling, threads)):
            writer.write_band(i, layer)
            if i in decide:
                missing |= layer == nodata
    return {
        "width": work.grid.width,
        "height": work.grid.height,
        "pixel_size": pixel_size,
        "nodata_share": float(missing.mean()),
        "offset": tags["RADIO_ADD_OFFSET"],
        "quantification": tags["QUANTIFICATION_VALUE"],
        "baseline": tags["PROCESSING_BASELINE"],
        "verified": verified,
    }


def target_grid(granule: Granule, pixel_size: int) -> Grid:
    """The grid of B01, whose pixels are the largest, with pixels of `pixel_size` m."""
    with granule.open_band("B01") as dataset:
        native = grid_of(dataset)
    shown = f"{granule.name}: band B01"
    x, dx, skew_x, y, skew_y, dy = native.transform
    if not native.projection or skew_x or skew_y or dx <= 0 or dy != -dx:
        raise UserError(f"{shown}: has no north-up georeference with square pixels; get the product again")
    width, height = native.width * dx / pixel_size, native.height * dx / pixel_size
    if width != int(width) or height != int(height):
        size = f"{native.width} x {native.height} pixels of {dx:g} m"
        raise UserError(f"{shown}: {size} cannot become pixels of {pixel_size} m; get the product again")
    return Grid(int(width), int(height), (x, pixel_size, 0.0, y, 0.0, -pixel_size), native.projection)


def pixels_per_target_pixel(shown: str, dataset: gdal.Dataset, grid: Grid) -> float:
    """How many of an image's pixels lie along a target pixel: 6, 3, 1, or 1/2, 1/3, 1/6 of a coarser band.

    Raises UserError unless the image covers the target grid's extent exactly, in the same projection.
    """
    native = grid_of(dataset)
    if dataset.RasterCount != 1 or dataset.GetRasterBand(1).DataType != gdal.GDT_UInt16:
        raise UserError(f"{shown}: is not one layer of 16-bit digital numbers; get the product again")
    factor = native.width / grid.width
    whole = factor if factor >= 1 else 1 / factor
    pixel = grid.transform[1] / factor
    expected = (grid.transform[0], pixel, 0.0, grid.transform[3], 0.0, -pixel)
    fits = whole == int(whole) and native.height == grid.height * factor
    if not fits or not np.allclose(native.transform, expected, rtol=0, atol=1e-3 * pixel):
        raise UserError(
            f"{shown}: {native.width} x {native.height} pixels at {native.transform} do not cover the extent of B01 "
            f"({grid.width} x {grid.height} at {grid.transform}); the files are of different products"
        )
    if not osr.SpatialReference(native.projection).IsSame(osr.SpatialReference(grid.projection)):
        raise UserError(f"{shown}: is in another projection than B01; the files are of different products")
    return factor


def layers(work: Work, resampling: str, threads: int) -> Iterator[NDArray[np.uint16]]:
    """Each band in order on the target grid, (height, width)."""
    if resampling != "fast":
        return bands_in_order(work, threads, {"exact": exact_layer, "published": published_layer}[resampling])
    read = zip(GUIDES, bands_in_order(work, threads, read_reduced, GUIDES), strict=True)
    guides = {name: band for name, band in read if band is not None}
    return bands_in_order(work, threads, lambda work, name: fast_layer(work, name, guides))


def bands_in_order(
    work: Work, threads: int, function: Callable[[Work, str], Any], bands: tuple[str, ...] = SAFE_BANDS
) -> Iterator[Any]:
    """`function` of each band, in band order, `threads` bands at a time."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from in_order(pool, threads, lambda name: function(work, name), bands)
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- exact and published ----------------------------------------------------------------------------------------------


def exact_layer(work: Work, name: str) -> NDArray[np.uint16]:
    """The mean of the native pixels with data, or a coarser band's pixels repeated."""
    with work.band(name) as (band, factor):
        if factor < 1:
            return replicate(band.ReadAsArray(), round(1 / factor))
        side = int(factor)
        out = np.empty((work.grid.height, work.grid.width), np.uint16)
        rows = max(1, STRIP_ROWS // side)
        for row, dn in work.strips(band, rows * side):
            first = row // side
            out[first : first + rows] = block_mean(dn, side, work.metadata.nodata, work.metadata.saturated)
        return out


def published_layer(work: Work, name: str) -> NDArray[np.uint16]:
    """As `gdal_translate -outsize` gives it: the nearest sample of a reduced-resolution level.

    The level's samples belong to the first pixel of each 2^n block of native pixels, but are taken to be at the block's
    centre: a displacement of (2^n - 1) / 2 native pixels. Nodata takes part like any value.
    """
    with work.band(name) as (band, _):
        layer: NDArray[np.uint16] = band.ReadAsArray(buf_xsize=work.grid.width, buf_ysize=work.grid.height)
        return layer


# --- fast -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reduced:
    """A band as far as a reduced resolution tells; arrays (h, w).

    `empty` are blocks without any data, `mixed` those in whose samples codes and measurements are mixed.
    """

    factor: int
    estimate: BandEstimate
    empty: NDArray[np.bool_]
    mixed: NDArray[np.bool_]


def fast_layer(work: Work, name: str, guides: Mapping[str, Reduced]) -> NDArray[np.uint16]:
    """A band estimated from a reduced resolution with the guides' details, and exact near missing pixels."""
    band = guides.get(name) or read_reduced(work, name)
    if band is None:
        return exact_layer(work, name)
    mixed, with_data = band.mixed.copy(), ~band.empty
    mean = band.estimate.mean
    if name not in guides:
        for guide in guides.values():
            mixed |= guide.mixed | (guide.empty & with_data)
        clean = with_data & ~widened(mixed)
        mean = carry_details(band.estimate, band.factor, [guide.estimate for guide in guides.values()], clean)
    out = np.clip(np.rint(mean), 1, LARGEST_MEASURED).astype(np.uint16)
    out[band.empty] = work.metadata.nodata
    if mixed.any():
        set_exactly(out, work, name, widened(mixed))
    return out


def widened(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`marked` and two blocks around, which is as far as the details reach."""
    wide: NDArray[np.bool_] = ndimage.binary_dilation(marked, np.ones((5, 5), bool))
    return wide


def read_reduced(work: Work, name: str) -> Reduced | None:
    """Read a guide or 20 m band at half its resolution, another 10 m band at a quarter.

    None for a band that has other pixels or no such levels (60 m bands, GeoTIFFs, tiny images): it is read in full.
    """
    grid = work.grid
    with work.band(name) as (band, along):
        factor = int(along)
        octaves = 2 if factor == 6 and name not in GUIDES else 1
        level = band.GetOverview(octaves - 1) if band.GetOverviewCount() >= octaves else None
        expected = [-(-side * factor // 2**octaves) for side in (grid.width, grid.height)]
        usable = factor in (3, 6) and work.metadata.nodata == 0
        if level is None or not usable or [level.XSize, level.YSize] != expected:
            return None
        samples = np.empty((level.YSize, level.XSize), np.uint16)
        for row, dn in work.strips(level, STRIP_ROWS >> octaves):
            samples[row : row + len(dn)] = dn
    shape = grid.height, grid.width
    guessed = estimate_guide(samples, shape) if name in GUIDES else estimate(samples, shape, factor, octaves)
    missing = patches(samples == 0)
    empty = ~any_sample(~missing, grid)
    return Reduced(factor, guessed, empty, any_sample(missing | (samples > LARGEST_MEASURED), grid) & ~empty)


def patches(zero: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of `zero` in squares of 2 x 2: areas without data. Single zeros are the dark side of a sharp edge."""
    corner = zero[:-1, :-1] & zero[1:, :-1] & zero[:-1, 1:] & zero[1:, 1:]
    out = np.zeros_like(zero)
    if corner.any():
        for part in (out[:-1, :-1], out[1:, :-1], out[:-1, 1:], out[1:, 1:]):
            part |= corner
    return out


def any_sample(marked: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """(height, width): target pixels with a marked sample in their block or next to it."""
    rows = any_along(marked, grid.height)
    return any_along(np.ascontiguousarray(rows.T), grid.width).T


def any_along(marked: NDArray[np.bool_], blocks: int) -> NDArray[np.bool_]:
    """(blocks, n): whether any row of `marked` that a block's mean is made from is marked."""
    samples = len(marked)
    first = np.arange(blocks) * samples // blocks
    last = np.minimum(-(-np.arange(1, blocks + 1) * samples // blocks), samples - 1)
    out = marked[first]
    for offset in range(1, int((last - first).max()) + 1):
        out |= marked[np.minimum(first + offset, last)]
    return out


def set_exactly(out: NDArray[np.uint16], work: Work, name: str, wanted: NDArray[np.bool_]) -> None:
    """Put a band's exact block means into `out` where `wanted`, decoding no more tiles than that takes."""
    with work.band(name) as (band, along):
        factor = int(along)
        side = STRIP_ROWS // factor
        for row in range(0, out.shape[0], side):
            for column in range(0, out.shape[1], side):
                here = wanted[row : row + side, column : column + side]
                if not here.any():
                    continue
                y, x = (np.flatnonzero(here.any(axis=axis)) for axis in (1, 0))
                top, left = int(row + y[0]), int(column + x[0])
                height, width = int(y[-1] - y[0] + 1), int(x[-1] - x[0] + 1)
                part = np.s_[top : top + height, left : left + width]
                dn = work.read(band, top * factor, left * factor, height * factor, width * factor)
                means = block_mean(dn, factor, work.metadata.nodata, work.metadata.saturated)
                out[part] = np.where(wanted[part], means, out[part])


if __name__ == "__main__":
    run(main, globals())
