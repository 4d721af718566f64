"""A real product, fetched from both kinds of server by step 6, through steps 7 to 10."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from osgeo import gdal
from servers import drive
from servers.bucket import BucketServer
from servers.cdse import CatalogueServer, FileServer, KeycloakServer
from servers.zenodo import ZenodoServer

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.images.rasters import Grid, open_scene, read_mask, write_layer

NAME = "S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024"
MODEL = ("scaler.p", "SOM_trained.p", "neuron_labels.csv", "hit_maps.csv", "BMUs.csv", "training_spectra.csv")


def safe_files(archive: Path) -> dict[str, bytes]:
    """The files of the real product by path in its SAFE folder."""
    root = f"{NAME}.SAFE/"
    with zipfile.ZipFile(archive) as product:
        names = [name for name in product.namelist() if name.startswith(root) and not name.endswith("/")]
        return {name.removeprefix(root): product.read(name) for name in names}


def masks_archive(archive: Path, tmp_path: Path) -> bytes:
    """A reference archive with one scene on the product's own grid: cloud on the left half, land on the right."""
    band = next(name for name in safe_files(archive) if name.endswith("_B01.jp2"))
    image = gdal.Open(f"/vsizip/{archive}/{NAME}.SAFE/{band}")
    codes = np.full((image.RasterYSize, image.RasterXSize), 5, np.uint8)
    codes[:, : image.RasterXSize // 2] = 2
    place = tmp_path / "classification_map.tif"
    grid = Grid(image.RasterXSize, image.RasterYSize, image.GetGeoTransform(), image.GetProjection())
    write_layer(place, codes, grid, nodata=0)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add(place, f"SENTINEL_2_reference/Reference_dataset/{NAME}/Classification/classification_map.tif")
    return out.getvalue()


def step(data: Path, script: str, *words: str) -> str:
    """Run one later step; what it said."""
    if script.endswith(".sh"):
        env = {**os.environ, "DATA_DIR": str(data), "VIRTUAL_ENV": sys.prefix}
        command = ["bash", str(ROOT / script), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    else:
        done = run_script(script, "--DATA_DIR", data, *words)
    assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
    return done.stdout


def image(data: Path) -> np.ndarray:
    """Step 7 on what was downloaded; the image's digital numbers (1830, 1830, 13)."""
    step(data, "gdal_commands.sh", "--RESAMPLING", "fast")
    with open_scene(data / "tiff" / f"{NAME}.tif") as scene:
        return np.concatenate([dn for _, dn in scene.blocks()])


def masked(data: Path, trained: Path) -> np.ndarray:
    """Steps 8 to 10 on the image, with a trained map; the mask."""
    for name in MODEL:
        for file in (name, f"{name}.json"):
            if (trained / file).exists():
                shutil.copy2(trained / file, data / file)
    step(data, "convert_image_to_csv.py")
    step(data, "create_cloudmasks.py")
    assert (data / "csv" / f"{NAME}_converted.csv").exists()
    step(data, "evaluation_metrics.py")
    assert (data / "results" / "confusion_matrix.csv").exists() and (data / "results" / "metrics.csv").exists()
    mask, _ = read_mask(data / "masks" / f"{NAME}_mask.tif")
    return mask


@pytest.mark.slow
def test_what_was_downloaded_goes_through_the_pipeline(kit: Path, trained: Path, tmp_path: Path) -> None:
    archive = kit / f"{NAME}.SAFE.zip"
    masks = masks_archive(archive, tmp_path)
    with ZenodoServer() as zenodo, BucketServer(page_size=20) as bucket:
        assert isinstance(zenodo, ZenodoServer) and isinstance(bucket, BucketServer)
        zenodo.files["masks.tgz"] = masks
        bucket.put_product(f"tiles/32/U/PV/{NAME}.SAFE", safe_files(archive))
        reference = ["--ZENODO_URL", zenodo.url, "--REFERENCE_ARCHIVE", "masks.tgz"]
        reference += ["--REFERENCE_MD5", hashlib.md5(masks).hexdigest()]
        from_bucket = tmp_path / "from_bucket"
        result = drive.run(from_bucket, *reference, "--GCS_URL", bucket.url, "--GCS_BUCKET", bucket.bucket)
        assert result.returncode == 0, result.stdout + result.stderr
        from_space = tmp_path / "from_space"
        keycloak = KeycloakServer("someone", "a-password")
        files, catalogue = FileServer(keycloak, host="127.0.0.2"), CatalogueServer()
        with keycloak, files, catalogue:
            catalogue.files_url = files.url
            files.zips[catalogue.add(NAME, archive.read_bytes())] = archive.read_bytes()
            hosts = ["--CDSE_TOKEN_URL", keycloak.token_url, "--CDSE_CATALOGUE_URL", catalogue.url]
            hosts += ["--CDSE_DOWNLOAD_URL", catalogue.url, "--CDSE_HOSTS", "127.0.0.1", "127.0.0.2"]
            variables = {"CDSE_USERNAME": "someone", "CDSE_PASSWORD": "a-password"}
            result = drive.run(from_space, *reference, "--SOURCE", "cdse", *hosts, variables=variables)
            assert result.returncode == 0, result.stdout + result.stderr
    assert drive.on_disk(from_bucket / "products" / f"{NAME}.SAFE").items() <= safe_files(archive).items()
    assert (from_space / "products" / f"{NAME}.SAFE.zip").read_bytes() == archive.read_bytes()
    assert json.loads((from_space / "products" / f"{NAME}.SAFE.zip.json").read_text())["source"] == "cdse"
    dn = image(from_bucket)
    assert dn.shape[:2] == (1830, 1830) and np.array_equal(dn, image(from_space))
    mask = masked(from_bucket, trained)
    valid = mask != MASK_NODATA
    assert mask.shape == (1830, 1830) and 0.005 < valid.mean() < 0.05  # a sliver at the swath's edge
    assert set(np.unique(mask[valid]).tolist()) <= {CLEAR, CLOUD}
