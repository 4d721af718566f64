"""Whole job, a product in and a cloud mask out: mask_products.py beside s2cloudless and ukis-csmask.

    python -m benchmarks.bench_masks S2A_MSIL1C_..._20170430T103024.SAFE.zip tiff/NAME.tif
    python -m benchmarks.bench_masks --labelled scenes/

Of each product (SAFE folder, zip, or step 7's 13-band GeoTIFF) every way makes a mask in a process of its own, in
turns: medians of wall and CPU time and peak memory by the system's account, and the share of the pixels with data that
it calls cloud, filters and all. Beside them the decoding of the JPEG 2000 files alone, of the resolutions that
RESAMPLING fast takes and in full, by two threads. Peers are fed the bands they need at the resolution their makers
recommend, averaged by the same GDAL: s2cloudless 60 m with its averaging and dilation, ukis-csmask 30 m.

With `--labelled`, a folder of npz files (`dn`, reflectance x 10000, and `labels`; scene_*.npz at any depth): per cent
of each surface called cloud by the spectra alone, mean over scenes with 50 pixels of it or more, and the worst scenes;
and what a vote costs. The ready-made maps may have been fine-tuned on these places: what they are worth elsewhere,
committee_study.py says.

A peer that is not installed is left out: pip install s2cloudless "ukis-csmask[cpu]". python-fmask has no package that
pip finds, and is not here.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_products import PROCESSORS, ROOT
from benchmarks.samples import alone, read_scene
from cloudsom.bands import MASK_NODATA, SAFE_BANDS

Array = NDArray[Any]

#: Bands that the peers take, and how they call them.
S2CLOUDLESS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
UKIS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16", "B12": "swir22"}


# --- ways, each alone in a process ------------------------------------------------------------------------------------


def ours(product: Path, folder: Path) -> float:
    """The share that mask_products.py calls cloud."""
    from cloudsom.images.rasters import masks_in, read_mask

    words = ["--DATA_DIR", str(folder), "--WORKERS", str(PROCESSORS), "--OVERWRITE"]
    command = [sys.executable, str(ROOT / "mask_products.py"), str(product.resolve()), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (mask,) = masks_in(folder / "cloud_masks").values()
    codes, _ = read_mask(mask)
    return float((codes == 255).sum() / (codes != MASK_NODATA).sum())


def decoding(in_full: bool, product: Path, folder: Path) -> float:
    """Decode all images, as RESAMPLING fast does or in full; nothing is called cloud."""
    from osgeo import gdal

    from cloudsom.images.products import granules_at
    from cloudsom.images.safe_to_tiff import GUIDES, STRIP_ROWS

    gdal.SetConfigOption("GDAL_NUM_THREADS", "1")  # as in step 7
    os.environ["OPJ_NUM_THREADS"] = "0"
    (granule,) = granules_at(product)

    def decode(name: str) -> None:
        with granule.open_band(name) as dataset:
            band = dataset.GetRasterBand(1)
            octaves = {10980: 1 if name in GUIDES else 2, 5490: 1}.get(band.XSize, 0)
            level = band if in_full or not octaves else band.GetOverview(octaves - 1)
            for row in range(0, level.YSize, STRIP_ROWS):
                level.ReadAsArray(0, row, level.XSize, min(STRIP_ROWS, level.YSize - row))

    with ThreadPoolExecutor(PROCESSORS) as pool:
        list(pool.map(decode, SAFE_BANDS))
    return float("nan")


def by_peer(bands: Sequence[str], metres: int, peer: Callable[[Array], Array], product: Path, folder: Path) -> float:
    """The share that a peer calls cloud in the bands that it needs."""
    image, with_data = bands_of(product, bands, metres)
    return float(peer(image)[with_data].mean())


def s2cloudless(image: Array, average_over: int | None = 4, dilation_size: int | None = 2) -> Array:
    """What s2cloudless calls cloud in (rows, columns, 10) reflectance."""
    from s2cloudless import S2PixelCloudDetector

    detector = S2PixelCloudDetector(threshold=0.4, average_over=average_over, dilation_size=dilation_size)
    return np.asarray(detector.get_cloud_masks(image[None])[0] == 1)


def ukis(image: Array) -> Array:
    """What ukis-csmask calls cloud in (rows, columns, 6) reflectance."""
    from ukis_csmask.mask import CSmask

    return np.asarray(CSmask(image, list(UKIS.values()), providers=["CPUExecutionProvider"]).csm[..., 0] == 1)


def bands_of(product: Path, bands: Sequence[str], metres: int) -> tuple[Array, NDArray[np.bool_]]:
    """Reflectance (rows, columns, bands) float32 of a product, and where it has data; GeoTIFFs in their own pixels."""
    from osgeo import gdal

    from cloudsom.images.products import granules_at
    from cloudsom.images.rasters import open_scene

    if product.suffix == ".tif":
        with open_scene(product) as scene:
            indices = [SAFE_BANDS.index(band) for band in bands]
            dn, info = scene.read(0, scene.grid.height)[..., indices], scene.info
        offsets, quantification = [info.offsets[i] for i in indices], info.quantification
    else:
        (granule,) = granules_at(product)
        metadata, layers = granule.metadata(), []
        for band in bands:
            with granule.open_band(band) as dataset:
                size = round(dataset.RasterXSize * dataset.GetGeoTransform()[1] / metres)
                average = {"resample_alg": gdal.GRIORA_Average}
                layers.append(dataset.GetRasterBand(1).ReadAsArray(buf_xsize=size, buf_ysize=size, **average))
        dn = np.stack(layers, axis=-1)
        offsets = [metadata.offsets[SAFE_BANDS.index(band)] for band in bands]
        quantification = metadata.quantification
    reflectance = (dn + np.array(offsets, np.float32)) / np.float32(quantification)
    return reflectance, np.asarray((dn > 0).all(axis=-1))


WAYS: dict[str, Callable[[Path, Path], float]] = {
    "decoding, as for fast": partial(decoding, False),
    "decoding in full": partial(decoding, True),
    "mask_products.py": ours,
    "s2cloudless": partial(by_peer, S2CLOUDLESS, 60, s2cloudless),
    "ukis-csmask": partial(by_peer, tuple(UKIS), 30, ukis),
}


# --- labelled scenes --------------------------------------------------------------------------------------------------


def votes(spectra: list[Array]) -> tuple[list[Array], float]:
    """What the ready-made maps call cloud in scenes (rows, columns, 13), and CPU seconds a pixel and map."""
    from cloudsom import cloud_mask
    from cloudsom.som import labelled_map

    n_maps = sum(len(labelled_map.load_all(file)) for file in labelled_map.READY_MADE)
    cloud_mask(spectra[0])  # compiles the search, once a machine
    began = time.process_time()
    called = [cloud_mask(scene)[0] for scene in spectra]
    return called, (time.process_time() - began) / sum(scene.size // 13 for scene in spectra) / n_maps


def of_bands(names: Sequence[str], function: Callable[[Array], Array]) -> Callable[[list[Array]], Any]:
    """A peer on scenes (rows, columns, 13), of which it takes some bands."""
    indices = [SAFE_BANDS.index(band) for band in names]
    return lambda spectra: ([function(scene[..., indices].astype(np.float32)) for scene in spectra], None)


LABELLED: dict[str, Callable[[list[Array]], tuple[list[Array], float | None]]] = {
    "ready-made maps": votes,
    "s2cloudless": of_bands(S2CLOUDLESS, lambda image: s2cloudless(image, None, None)),
    "s2cloudless, its filters": of_bands(S2CLOUDLESS, s2cloudless),
    "ukis-csmask": of_bands(tuple(UKIS), ukis),
}


def by_surface(way: str, folder: Path) -> None:
    """One line of the table by surface."""
    from benchmarks.committee_study import show

    scenes = [read_scene(file) for file in sorted(folder.rglob("scene_*.npz"))]
    called, cost = LABELLED[way]([scene.spectra.reshape(*scene.shape, 13) for scene in scenes])
    show(way, [cloud.ravel() for cloud in called], scenes)
    if cost is not None:
        print(f"{'':28}{1e6 * cost:.3f} us of CPU a pixel and map", flush=True)


# --- the comparison ---------------------------------------------------------------------------------------------------


def installed(way: str) -> bool:
    """Whether the package a way is of is there."""
    package = {"s2cloudless": "s2cloudless", "ukis-csmask": "ukis_csmask"}.get(way.split(",")[0])
    return package is None or importlib.util.find_spec(package) is not None


def spent(way: str, product: Path, folder: Path) -> tuple[float, float, int]:
    """The share that a way calls cloud; CPU seconds and peak bytes of this process and all it started."""
    share = WAYS[way](product, folder)
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return share, sum(u.ru_utime + u.ru_stime for u in used), 1024 * max(u.ru_maxrss for u in used)


def compare(product: Path, runs: int, wanted: list[str]) -> None:
    ways = [w for w in wanted if installed(w) and not (product.suffix == ".tif" and w.startswith("decoding"))]
    costs, share = defaultdict(list), {}
    for _ in range(runs):
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                share[way], cpu, peak = alone(spent, way, product, Path(folder))
                costs[way].append((time.perf_counter() - start, cpu, peak))
                print(f"{way}: {costs[way][-1][0]:.1f} s wall, {cpu:.1f} s CPU", flush=True)
    print(f"\n{product.name}\n{'':24}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}{'cloud %':>9}")
    took = {}
    for way in ways:
        walls, cpus, peaks = zip(*costs[way], strict=True)
        wall, cpu = took[way] = statistics.median(walls), statistics.median(cpus)
        print(f"{way:24}{wall:8.1f}{cpu:8.1f}{max(peaks) / 1e6:9.0f}{100 * share[way]:9.2f}")
    for way in (way for way in ways if way.startswith("decoding") and "mask_products.py" in ways):
        wall, cpu = (ours / theirs for ours, theirs in zip(took["mask_products.py"], took[way], strict=True))
        print(f"mask_products.py / {way}: {wall:.2f} of the wall time, {cpu:.2f} of the CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("products", nargs="*", type=Path, help="SAFE folders, zips, 13-band GeoTIFFs")
    parser.add_argument("--labelled", type=Path, help="folder of labelled scenes")
    parser.add_argument("--runs", type=int, default=3, help="times that each way is run")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure")
    words = parser.parse_args()
    for product in words.products:
        compare(product, words.runs, words.ways)
    if words.labelled:
        from benchmarks.committee_study import head

        head()
        for way in filter(installed, LABELLED):
            alone(by_surface, way, words.labelled)


if __name__ == "__main__":
    main()
