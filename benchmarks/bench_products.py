"""From a full-size product to 60 m pixels: step 7's modes beside the commands the paper's code used.

    python -m benchmarks.bench_products
    python -m benchmarks.bench_products --texture PRODUCT.SAFE.zip --folder /tmp/bench_products

Makes one L1C product of real size (13 lossless JPEG 2000 images, tiles, code blocks and resolutions as in real files)
in `--folder` if it is not there yet, then converts it in every way, each in processes of their own, two processors for
all. Wall and CPU time and peak memory are the system's own account; each result is compared with the block means of
the pixels that went in: root mean square error (DN) of the worst of the 10 and 20 m bands and their mean, and the
displacement of the worst band in 60 m pixels. `--texture` takes a real product, the largest rectangle with data of
which is mirrored over the granule; without it the landscape is imaginary. About six minutes, and 1.5 GB in `--folder`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal
from scipy import ndimage

from benchmarks.samples import alone
from cloudsom.bands import SAFE_BANDS
from cloudsom.images.products import Granule, granules_at

ROOT = Path(__file__).parents[1]
SIDE = 1830  # pixels of 60 m a granule has a side
PROCESSORS = 2

Array = NDArray[Any]


@dataclass
class Spent:
    """What the processes of one way of converting took: seconds, seconds of all processors, bytes."""

    cpu: float = 0.0
    peak: int = 0
    wall: float = field(default_factory=lambda: -time.perf_counter())


def spend(cost: Spent, command: list[str]) -> None:
    """Run a command and add what it took."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    cost.cpu += usage.ru_utime + usage.ru_stime
    cost.peak = max(cost.peak, usage.ru_maxrss * 1024)


# --- the product ------------------------------------------------------------------------------------------------------


def make_product(folder: Path, texture: Path | None) -> None:
    """A full-size product under folder/products and its block means in folder/truth.npy, unless they are there."""
    if (folder / "truth.npy").exists():
        return
    sys.path.append(str(ROOT / "demo"))
    from safe_maker import NAME, PIXEL_M, make_safe, textured_bands, write_jp2

    print(f"making the product in {folder} (two minutes)")
    shutil.rmtree(folder / "products", ignore_errors=True)
    small = real_texture(texture) if texture else textured_bands(305)
    truth = np.empty((SIDE, SIDE, len(SAFE_BANDS)), np.float32)
    safe = make_safe(folder / "products", {}, name=NAME)
    images = next(safe.glob("GRANULE/*/IMG_DATA"))
    for i, band in enumerate(SAFE_BANDS):
        factor = 60 // PIXEL_M[band]
        full = mirrored(small[band], SIDE * factor)
        truth[..., i] = full.reshape(SIDE, factor, SIDE, factor).mean(axis=(1, 3))
        write_jp2(images / f"T31TFH_20170430T103021_{band}.jp2", full, PIXEL_M[band])
    np.save(folder / "truth.npy", truth)


def mirrored(dn: Array, side: int) -> Array:
    """An image of side x side pixels that repeats `dn` in mirror images, without seams."""
    rows, columns = (np.concatenate([np.arange(n), np.arange(n)[::-1]]) for n in dn.shape)
    return dn[np.resize(rows, side)][:, np.resize(columns, side)]


def real_texture(product: Path) -> dict[str, Array]:
    """All bands of the largest upright rectangle in which a real product has data."""
    granule = granules_at(product)[0]
    with_data = np.logical_and.reduce([complete_blocks(granule, band) for band in SAFE_BANDS])
    top, bottom, left, right = largest_rectangle(with_data)
    bands = {}
    for band in SAFE_BANDS:
        with granule.open_band(band) as dataset:
            factor = dataset.RasterXSize // SIDE
            window = [n * factor for n in (left, top, right - left, bottom - top)]
            bands[band] = dataset.ReadAsArray(*window)
    return bands


def complete_blocks(granule: Granule, band: str) -> NDArray[np.bool_]:
    """(SIDE, SIDE): blocks in which every pixel of a band has data."""
    with granule.open_band(band) as dataset:
        dn = dataset.ReadAsArray()
        factor = len(dn) // SIDE
        return np.asarray((dn > 0).reshape(SIDE, factor, SIDE, factor).all(axis=(1, 3)))


def largest_rectangle(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the largest upright rectangle of True, found by the histogram method."""
    best, area = (0, 0, 0, 0), 0
    height = np.zeros(inside.shape[1] + 1, int)
    for bottom in range(len(inside)):
        height[:-1] = np.where(inside[bottom], height[:-1] + 1, 0)
        rising: list[tuple[int, int]] = []  # (left, height) of the steps still open
        for column, h in enumerate(height):
            left = column
            while rising and rising[-1][1] >= h:
                left, step = rising.pop()
                if step * (column - left) > area:
                    area, best = step * (column - left), (bottom + 1 - step, bottom + 1, left, column)
            rising.append((left, int(h)))
    return best


# --- the ways ---------------------------------------------------------------------------------------------------------


def published_commands(folder: Path, target: Path, cost: Spent, options: Sequence[str] = ()) -> None:
    """gdal_translate for each band, then gdal_merge.py -separate: as the paper's code does it."""
    (granule,) = granules_at(folder / "products")
    images = granule.files.on_disk(list(granule.images.values()))
    scratch = target.parent / "bands"
    scratch.mkdir(parents=True, exist_ok=True)
    size = ["-outsize", str(SIDE), str(SIDE)]
    commands = [
        ["gdal_translate", "-q", *size, *options, str(images[granule.images[band]]), str(scratch / f"{band}.tif")]
        for band in SAFE_BANDS
    ]
    with ThreadPoolExecutor(PROCESSORS if options else 1) as pool:
        list(pool.map(lambda command: spend(cost, command), commands))
    layers = [str(scratch / f"{band}.tif") for band in SAFE_BANDS]
    spend(cost, [sys.executable, "-m", "osgeo_utils.gdal_merge", "-q", "-separate", "-o", str(target), *layers])
    shutil.rmtree(scratch)


def step_7(folder: Path, target: Path, cost: Spent, resampling: str) -> None:
    words = ["--DATA_DIR", str(folder), "--TIFF_DIR", str(target.parent / "step7"), "--RESAMPLING", resampling]
    spend(cost, ["bash", str(ROOT / "gdal_commands.sh"), *words, "--WORKERS", str(PROCESSORS), "--OVERWRITE"])
    next((target.parent / "step7").glob("*.tif")).replace(target)


WAYS: dict[str, Callable[[Path, Path, Spent], None]] = {
    "published commands": published_commands,
    "-ovr NONE -r average": partial(published_commands, options=("-ovr", "NONE", "-r", "average")),
    "step 7, published": partial(step_7, resampling="published"),
    "step 7, fast": partial(step_7, resampling="fast"),
    "step 7, exact": partial(step_7, resampling="exact"),
}


# --- the comparison ---------------------------------------------------------------------------------------------------


def errors(target: Path, truth: Array) -> Iterator[tuple[float, float]]:
    """Root mean square error and displacement (60 m pixels, the larger of the two axes) of each 10 and 20 m band.

    The displacement is fitted to the smoothed layers' slopes: what differs in fine detail is not in another place.
    """
    dataset = gdal.Open(str(target))
    for i, band in enumerate(SAFE_BANDS):
        if band in ("B01", "B09", "B10"):
            continue
        layer, wanted = dataset.GetRasterBand(i + 1).ReadAsArray().astype(float), truth[..., i].astype(float)
        off = ndimage.uniform_filter(wanted - layer, 9)[9:-9, 9:-9]
        slopes = [slope[9:-9, 9:-9] for slope in np.gradient(ndimage.uniform_filter(wanted, 9))]
        normal = np.array([[(a * b).sum() for b in slopes] for a in slopes])
        moved = np.linalg.solve(normal, [(a * off).sum() for a in slopes])
        yield float(np.sqrt(((wanted - layer) ** 2).mean())), float(np.abs(moved).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texture", type=Path, help="a real product to take the landscape from")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench_products")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure")
    words = parser.parse_args()
    folder = words.folder / ("real" if words.texture else "imaginary")
    folder.mkdir(parents=True, exist_ok=True)
    # In another process: a child's peak memory, as the system counts it, begins with what its parent holds.
    alone(make_product, folder, words.texture)
    costs = {}
    for way in words.ways:
        costs[way] = Spent()
        WAYS[way](folder, folder / f"{way}.tif", costs[way])
        costs[way].wall += time.perf_counter()
        print(f"done: {way}", flush=True)
    truth = np.load(folder / "truth.npy", mmap_mode="r")
    print(f"{'':22}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}{'rmse worst':>12}{'mean':>7}{'displaced':>11}")
    for way, cost in costs.items():
        target = folder / f"{way}.tif"
        rmse, moved = zip(*errors(target, truth), strict=True)
        target.unlink()
        took = f"{cost.wall:8.1f}{cost.cpu:8.1f}{cost.peak / 1e6:9.0f}"
        print(f"{way:22}{took}{max(rmse):12.2f}{np.mean(rmse):7.2f}{max(moved):11.4f}")


if __name__ == "__main__":
    main()
