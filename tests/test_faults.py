"""What the world does to a run - a full disk, a read-only folder, bad scenes, changing inputs - with real scripts."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, make_spectra, mask_scenes, run_script, write_h5, write_reference, write_scene
from servers import drive

from cloudsom.images.rasters import Grid, read_mask, write_mask

STEPS_1_TO_5: list[tuple[str, tuple[str, ...]]] = [
    ("read_h5file.py", ("--H5_FILES", "spectra.h5", "--SPECTRA_CSVS", "spectra.csv")),
    ("data_preprocessing.py", ("--SPECTRA_CSVS", "spectra.csv")),
    ("SOM_training.py", ("--N_ROWS", "6", "--N_COLUMNS", "5", "--N_ITER", "3000")),
    ("BMUs_detection.py", ()),
    ("labeling.py", ()),
]
TUNING = ("--SUBMAP_STEPS", "500", "--MIN_SAMPLES", "1", "--MAX_CLOUD_LOSS", "1.0", "--MOST_CIRRUS", "1.0")
LATER: list[tuple[str, tuple[str, ...]]] = [
    ("gdal_commands.sh", ()),
    ("convert_image_to_csv.py", ()),
    ("create_cloudmasks.py", ("--CLASS_MAPS", "--CONFIDENCE")),
    ("fine_tuning.py", TUNING),
    ("evaluation_metrics.py", ()),
    ("visualization/quicklooks.py", ()),
    ("visualization/colored_cloudmasks.py", ()),
]

#: Of each way of writing one: tables, pickles, rasters, several products of a scene, pictures.
WRITERS = [STEPS_1_TO_5[1], *LATER[1:4], LATER[5]]


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder with their bytes, locks left out."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith(".lock"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def ends_in_one_line(done: "subprocess.CompletedProcess[str]") -> bool:
    return done.returncode == 1 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """DN (60, 40, 13) and reference codes; land as bright as cloud on its left side, no cloud where seed is 0."""
    spectra, labels = make_spectra(2400, seed)
    if seed == 0:
        spectra, labels = spectra[np.isin(labels, (10, 20, 30))], labels[np.isin(labels, (10, 20, 30))]
        repeats = np.resize(np.arange(len(labels)), 2400)
        spectra, labels = spectra[repeats], labels[repeats]
    dn = np.round(spectra * 10000).astype(np.uint16).reshape(60, 40, 13)
    codes = np.select([labels == c for c in (10, 20, 30, 40, 50, 60)], [5, 6, 4, 3, 2, 7]).reshape(60, 40)
    dn[:, :8] = (np.linspace(1.0, 0.8, 13) * 6600).astype(np.uint16)
    codes[:, :8] = 5
    return dn, codes.astype(np.uint8)


@pytest.fixture(scope="module")
def masked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained map; three scenes A, B, C with images, tables, masks and references, A without cloud."""
    folder = tmp_path_factory.mktemp("masked") / "data"
    shutil.copytree(trained, folder)
    for i, name in enumerate("ABC"):
        dn, codes = scene(i)
        write_scene(folder / "tiff" / f"{name}.tif", dn)
        write_reference(folder, name, codes)
    mask_scenes(folder)
    return folder


@pytest.fixture
def data(masked: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(masked, tmp_path / "data")
    return tmp_path / "data"


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mount something as root, until the test is over; skips where that is not allowed."""
    places: list[str] = []

    def run(*words: str) -> None:
        if os.geteuid() or not shutil.which("mount") or subprocess.run(["mount", *words]).returncode:
            pytest.skip("nothing can be mounted here")
        places.append(words[-1])

    yield run
    for place in dict.fromkeys(reversed(places)):
        while subprocess.run(["umount", "-l", place], capture_output=True).returncode == 0:
            continue


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_rest_is_done_when_there_is_room(
    masked: Path, tmp_path: Path, mount: Callable[..., None]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk))
    data = disk / "data"
    shutil.copytree(masked, data)
    for script, words in WRITERS:
        before = files_of(data)
        with open(disk / "filler", "wb", buffering=0) as filler:
            while filler.write(bytes(4096)) == 4096 if os.statvfs(disk).f_bavail else False:
                continue
        done = run_script(script, "--DATA_DIR", data, *words, "--OVERWRITE")
        (disk / "filler").unlink()
        assert done.returncode == 1 and "Traceback" not in done.stderr, (script, done.stderr)
        assert "No space left" in done.stderr or "has room" in done.stderr, (script, done.stderr)
        assert files_of(data) == before, script
        done = run_script(script, "--DATA_DIR", data, *words, "--OVERWRITE")
        assert done.returncode == 0, (script, done.stderr)


def test_a_read_only_folder_is_told(data: Path, mount: Callable[..., None]) -> None:
    mount("--bind", str(data), str(data))
    mount("-o", "remount,ro,bind", str(data))
    for script, words in WRITERS:
        done = run_script(script, "--DATA_DIR", data, *words, "--OVERWRITE")
        assert done.returncode == 1 and "Traceback" not in done.stderr, (script, done.stderr)
        assert "Read-only file system" in done.stderr, (script, done.stderr)


# --- inputs that change -----------------------------------------------------------------------------------------------


def test_an_image_that_grows_while_it_is_converted_makes_no_table(tmp_path: Path) -> None:
    dn = np.resize(scene(1)[0], (1500, 1200, 13))
    tiff = write_scene(tmp_path / "tiff" / "A.tif", dn)
    command = [sys.executable, str(ROOT / "convert_image_to_csv.py"), "--DATA_DIR", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    drive.wait_for(lambda: bool(list(tmp_path.glob("csv/.*.partial"))), 60)
    process.send_signal(signal.SIGSTOP)
    assert not (tmp_path / "csv" / "A_converted.csv").exists()
    with open(tiff, "ab") as handle:
        handle.write(b"more")
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "A.tif: was changed while it was read" in said and "Traceback" not in said
    assert {file.suffix for file in tmp_path.glob("csv/*")} <= {".lock"}
    assert run_script("convert_image_to_csv.py", "--DATA_DIR", tmp_path).returncode == 0


def test_a_table_and_a_scaler_of_different_spectra_are_refused(trained: Path, tmp_path: Path) -> None:
    """As a run of step 2 leaves them that was killed between the two, and was not run again."""
    shutil.copytree(trained, tmp_path / "data")
    write_h5(tmp_path / "data" / "other.h5", *make_spectra(2000, 9))
    for script, words in (
        ("read_h5file.py", ("--H5_FILES", "other.h5", "--SPECTRA_CSVS", "other.csv")),
        ("data_preprocessing.py", ("--SPECTRA_CSVS", "other.csv", "--TRAINING_CSV", "other_training.csv")),
    ):
        assert run_script(script, "--DATA_DIR", tmp_path / "data", *words).returncode == 0
    done = run_script("SOM_training.py", "--DATA_DIR", tmp_path / "data", "--N_ITER", 10, "--OVERWRITE")
    assert ends_in_one_line(done) and "was made with another SPECTRA_CSV_1" in done.stderr


# --- one bad scene among many -----------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    with open(file, "r+b") as handle:
        handle.truncate(file.stat().st_size // 3)


@pytest.mark.parametrize(
    ("script", "words", "bad", "product"),
    [
        ("convert_image_to_csv.py", (), "tiff/B.tif", "csv/{}_converted.csv"),
        ("create_cloudmasks.py", (), "csv/B_converted.csv", "masks/{}_mask.tif"),
        ("fine_tuning.py", TUNING, "csv/B_converted.csv", "masks_finetuned/{}_mask.tif"),
        ("visualization/quicklooks.py", (), "masks/B_mask.tif", "figures/quicklooks/{}_masks.png"),
        ("visualization/quicklooks.py", (), "tiff/B.tif", "figures/quicklooks/{}_masks.png"),
        ("visualization/colored_cloudmasks.py", (), "masks/B_mask.tif", "figures/colored_masks/{}_colored.tif"),
        ("visualization/colored_cloudmasks.py", (), "reference/B", "figures/colored_masks/{}_colored.tif"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_scene_never_stops_the_others(
    data: Path, script: str, words: tuple[str, ...], bad: str, product: str, workers: int
) -> None:
    if script.startswith(("convert", "create")):
        shutil.rmtree(data / product.split("/")[0])
    place = data / bad
    cut(place / "Classification" / "classification_map.tif" if place.is_dir() else place)
    if "colored" not in script:
        words = (*words, "--WORKERS", str(workers))
    done = run_script(script, "--DATA_DIR", data, *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "1 of 3 products failed (B)" in done.stderr.splitlines()[-1], done.stderr
    assert [(data / product.format(name)).exists() for name in "ABC"] == [True, False, True]
    assert not list(data.rglob("*.partial"))


@pytest.mark.parametrize("bad", ["masks/A_mask.tif", "reference/A/Classification/classification_map.tif"])
def test_fine_tuning_goes_on_without_a_bad_scene_to_tune_on(data: Path, bad: str) -> None:
    cut(data / bad)
    tune = ("--FINE_TUNE_PRODUCTS", "A", "C") if bad.startswith("masks") else ()
    done = run_script("fine_tuning.py", "--DATA_DIR", data, *TUNING, *tune, "--WORKERS", 1)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "products failed (A), the others are done" in done.stderr.splitlines()[-1], done.stderr
    assert {line.split(",")[0] for line in (data / "bright_samples.csv").read_text().splitlines()[1:]} <= {"B", "C"}
    assert (data / "masks_finetuned" / "B_mask.tif").exists() and (data / "masks_finetuned" / "C_mask.tif").exists()


@pytest.mark.parametrize("bad", ["masks/B_mask.tif", "reference/B/Classification/classification_map.tif", "tiff/B.tif"])
def test_step_10_scores_and_compares_the_others(data: Path, bad: str) -> None:
    assert run_script("fine_tuning.py", "--DATA_DIR", data, *TUNING, "--WORKERS", 1).returncode == 0
    cut(data / bad)
    done = run_script("evaluation_metrics.py", "--DATA_DIR", data, "--WORKERS", 1)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "1 of 3 products failed (B)" in done.stderr.splitlines()[-1], done.stderr
    for table in ("surfaces", "processors"):
        products = set(pd.read_csv(data / "results" / f"{table}.csv")["product"])
        assert {"A", "C"} <= products and "B" not in products


def test_georeference_goes_to_the_masks_that_can_have_one(data: Path) -> None:
    (data / "bare").mkdir()
    for name in "ABC":
        mask, grid = read_mask(data / "masks" / f"{name}_mask.tif")
        mask = mask[1:] if name == "B" else mask
        write_mask(data / "bare" / f"{name}_mask.tif", mask, Grid(grid.width, len(mask)))
    done = run_script("visualization/add_georeference.py", "--DATA_DIR", data, "--MASK_DIR", "bare")
    assert done.returncode == 1 and "1 of 3 products failed (B_mask.tif)" in done.stderr
    assert sorted(p.name for p in (data / "masks_georeferenced").glob("*.tif")) == ["A_mask.tif", "C_mask.tif"]


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_steps_1_to_5_give_the_same_bytes_twice(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        shutil.copy(write_h5(tmp_path / "spectra.h5", *make_spectra(2000)), folder)
        for script, words in STEPS_1_TO_5:
            done = run_script(script, "--DATA_DIR", folder, *words)
            assert done.returncode == 0, done.stderr
    assert files_of(folders[0]) == files_of(folders[1])


@pytest.mark.long
@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    made = run_script("demo/make_sample_data.py", "--SYNTHETIC", "--DATA_DIR", scenes)
    assert made.returncode == 0, made.stderr
    (scenes / "spectra.h5").unlink()
    shutil.copytree(trained, scenes, dirs_exist_ok=True)
    found = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        shutil.copytree(scenes, folder)
        for script, words in LATER[:5]:
            more = ["--DATA_DIR", str(folder), *words, "--WORKERS", str(workers)]
            if script.endswith(".sh"):
                env = os.environ | {"VIRTUAL_ENV": sys.prefix}
                command = ["bash", str(ROOT / script), *more]
                done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
            else:
                done = run_script(script, *more)
            assert done.returncode == 0, (script, done.stderr)
        found.append(files_of(folder))
    assert found[0] == found[1]
    assert any(name.startswith("masks_finetuned") for name in found[0])
