"""What good files are made from: the kit of real sample data where it lies beside the checkout, else made-up values."""

import functools
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import KIT

DEMO = str(Path(__file__).resolve().parents[2] / "demo")
REAL_PRODUCT = "S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024.SAFE"

if DEMO not in sys.path:
    sys.path.append(DEMO)  # safe_maker, which makes products of any size


@functools.cache
def spectra() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Reflectance (60, 13) and class codes (60,), all six classes among them."""
    rows, labels = [], []
    for file in sorted(KIT.glob("silver_*.h5")):
        with h5py.File(file) as handle:
            classes = handle["classes"][:]
            some = np.sort(np.concatenate([np.flatnonzero(classes == c)[:5] for c in np.unique(classes)]))
            rows.append(handle["spectra"][some])
            labels.append(classes[some])
    if rows:
        return np.concatenate(rows).astype(np.float32), np.concatenate(labels).astype(np.int32)
    draw = np.random.default_rng(0)
    made = np.repeat([10, 20, 30, 40, 50, 60], 10).astype(np.int32)
    return np.round(draw.uniform(0.01, 1.2, (60, 13)), 4).astype(np.float32), made


@functools.cache
def digital_numbers() -> NDArray[np.uint16]:
    """A scene of 20 x 24 pixels, (20, 24, 13): a beach where the kit is there."""
    for file in sorted(KIT.glob("scene_*virginia*.npz")):
        with np.load(file) as scene:
            return np.ascontiguousarray(scene["dn"][150:170, 150:174]).astype(np.uint16)
    return np.random.default_rng(0).integers(100, 9000, (20, 24, 13)).astype(np.uint16)


@functools.cache
def real_xml() -> dict[str, bytes]:
    """The metadata files of the kit's product by name; none without it."""
    archive = KIT / f"{REAL_PRODUCT}.zip"
    if not archive.is_file():
        return {}
    with zipfile.ZipFile(archive) as product:
        names = [n for n in product.namelist() if n.endswith(("/MTD_MSIL1C.xml", "/MTD_TL.xml")) and "MACOSX" not in n]
        return {name.rpartition("/")[2]: product.read(name) for name in names}
