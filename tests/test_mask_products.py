"""mask_products.py: a product in, a cloud mask out, with the ready-made maps."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_scene
from PIL import Image
from scripts import run_script

from cloudsom import cloud_mask
from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.downloads import records
from cloudsom.files import stores
from cloudsom.images.rasters import open_raster, open_scene, read_mask, reflectance
from cloudsom.som import labelled_map

Ok = Callable[..., str]

#: Two kinds of ground as every map knows them: forest, and an opaque cloud (reflectance x 10000).
FOREST = [1200, 950, 800, 500, 900, 2300, 2900, 3000, 3200, 1000, 10, 1600, 700]
CLOUDS = [4800, 4700, 4600, 4700, 4800, 5000, 5100, 5100, 5200, 2500, 60, 3500, 2700]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """60 x 80 pixels: forest, a square of cloud of 20 x 20, a strip without data."""
    dn = np.empty((60, 80, 13), np.uint16)
    dn[:] = FOREST
    dn[20:40, 30:50] = CLOUDS
    dn[:, :10] = 0
    return write_scene(tmp_path / "images" / "A.tif", dn)


def legend_of(layer: Path) -> dict[int, tuple[str, int]]:
    """Name and opacity of each code, as gdalinfo (and so a GIS) has them from palette, names and attribute table."""
    told = json.loads(subprocess.run(["gdalinfo", "-json", layer], capture_output=True, check=True).stdout)
    (band,) = told["bands"]
    rows = [row["f"] for row in told["rat"]["row"]]
    for code, name, *colour in rows:
        assert band["categories"][code] == name and band["colorTable"]["entries"][code] == colour
    return {row[0]: (row[1], row[-1]) for row in rows}


def test_an_image_becomes_a_mask_a_probability_and_a_quicklook(ok: Ok, scene: Path, tmp_path: Path) -> None:
    words = ("mask_products.py", "images/A.tif", "--DATA_DIR", tmp_path)
    assert "A_mask.tif: 4,800 pixels; cloud 11.24" in ok(*words, "--CLASS_MAPS")
    out = tmp_path / "cloud_masks"
    assert sorted(f.name for f in out.iterdir() if f.suffix in (".tif", ".jpg")) == [
        "A_classes.tif", "A_mask.tif", "A_probability.tif", "A_quicklook.jpg",
    ]  # fmt: skip
    mask, _ = read_mask(out / "A_mask.tif")
    cloud = np.zeros((60, 80), bool)
    cloud[20:40, 30:50] = True
    grown = cloud.copy()  # by the dilation's disk of one pixel; the median takes the corners first
    grown[19:41, 31:49] = grown[21:39, 29:51] = True
    assert (mask[:, :10] == MASK_NODATA).all() and np.array_equal(mask == CLOUD, grown)
    probability = open_raster(out / "A_probability.tif")
    assert probability.GetRasterBand(1).GetNoDataValue() == 255
    per_cent = probability.ReadAsArray()
    assert (per_cent[cloud] == 100).all() and (per_cent[:, :10] == 255).all() and (per_cent[50:, 60:] == 0).all()
    classes = open_raster(out / "A_classes.tif").ReadAsArray()
    assert (classes[cloud] == 50).all() and (classes[50:, 60:] == 10).all() and (classes[:, :10] == 0).all()
    assert legend_of(out / "A_mask.tif") == {0: ("clear", 0), 1: ("no data", 0), 255: ("cloud", 255)}
    named = {code: (name, 255) for code, name in CLASSES.items()}
    assert legend_of(out / "A_classes.tif") == {0: ("no data or no class", 0)} | named
    assert Image.open(out / "A_quicklook.jpg").size[0] == 1600
    assert "up to date" in ok(*words, "--CLASS_MAPS")
    unfiltered = ok(*words, "--MEDIAN_SIZE", "1", "--DILATION_RADIUS", "0", "--OUT_DIR", "plain")
    assert "A_mask.tif" in unfiltered
    assert np.array_equal(read_mask(tmp_path / "plain" / "A_mask.tif")[0] == CLOUD, cloud)


def test_the_array_and_the_image_have_the_same_mask(ok: Ok, scene: Path, tmp_path: Path) -> None:
    ok("mask_products.py", scene, "--DATA_DIR", tmp_path, "--MEDIAN_SIZE", "0", "--DILATION_RADIUS", "0")
    with open_scene(scene) as opened:
        spectra = reflectance(opened.read(0, 60), opened.info)
    cloud, probability = cloud_mask(spectra)
    mask, _ = read_mask(tmp_path / "cloud_masks" / "A_mask.tif")
    assert np.array_equal(mask == CLOUD, cloud) and np.array_equal(mask == MASK_NODATA, np.isnan(probability))


def test_a_product_from_its_zip(ok: Ok, kit: Path, tmp_path: Path) -> None:
    product = tmp_path / next(kit.glob("*.SAFE.zip")).name
    product.symlink_to(kit / product.name)
    records.write(product, {"source": "cdse"}, {})
    said = ok("mask_products.py", product, "--DATA_DIR", tmp_path)
    name = product.name.removesuffix(".SAFE.zip")
    mask, grid = read_mask(tmp_path / "cloud_masks" / f"{name}_mask.tif")
    assert (grid.width, grid.height) == (1830, 1830) and "98.8" in said and 0 < (mask == CLOUD).mean() < 0.012
    left = [f.name for f in (tmp_path / "cloud_masks").iterdir() if f.is_dir() or "partial" in f.name]
    assert not left  # the image between product and mask is gone
    assert "; 1 of 1 checksums as in the download's record" in said
    record = product.with_name(product.name + ".json")
    record.write_text(json.dumps({"files": {product.name: {"md5": "0"}}}))
    damaged = run_script("mask_products.py", "--DATA_DIR", tmp_path, "--PRODUCTS", product, "--OVERWRITE")
    assert damaged.returncode == 1 and "damaged, its MD5 is not the one in the download's record" in damaged.stderr


def test_what_cannot_be_masked_is_told(refused: Ok, scene: Path, tmp_path: Path) -> None:
    words = ("mask_products.py", "--DATA_DIR", tmp_path)
    assert "PRODUCTS: names none" in refused(*words)
    assert "no such file" in refused(*words, "none.SAFE")
    (tmp_path / "text.txt").write_text("x")
    assert "is no SAFE folder" in refused(*words, "text.txt")
    shutil.copy(scene, tmp_path / "A.tif")
    assert "called A too" in refused(*words, scene, "A.tif")
    assert "LEAST_PROBABILITY" in refused(*words, scene, "--LEAST_PROBABILITY", "0")
    assert "MEDIAN_SIZE" in refused(*words, scene, "--MEDIAN_SIZE", "4")


def test_the_ready_made_maps_are_those_of_the_card() -> None:
    (file,) = labelled_map.READY_MADE
    card = (file.parent / "README.md").read_text(encoding="utf-8")
    assert stores.sha256(file) in card and file.stat().st_size < 4_000_000
    assert f"{len(labelled_map.load_all(file))} maps" in card
