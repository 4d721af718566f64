"""Files behind URLs: a real object store on loopback for the scripts, fsspec's own memory for the parts."""

import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import STEPS, Cluster, files_of, succeed, write_scenes
from conftest import ROOT, run_script
from packed_and_old import zip_safe
from safe_maker import constant_bands, make_safe

from cloudsom.errors import UserError
from cloudsom.files import places, stores
from cloudsom.files.places import under
from cloudsom.files.stores import Snapshot
from cloudsom.running import pool

SETTINGS = Snapshot("script.py", {"SEED": 1})


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    from servers.s3 import object_store

    with object_store("bucket") as url:
        yield url


@pytest.fixture
def folder() -> Path:
    """A new folder behind a URL, of this process alone."""
    return places.named(f"memory://{uuid.uuid4().hex}/run")


def file_system() -> Any:
    import fsspec

    found = fsspec.filesystem("s3")
    found.invalidate_cache()
    return found


def put(here: Path, url: str) -> str:
    """Copy a folder to a URL; the URL."""
    file_system().put(f"{here}/", f"{url}/", recursive=True)
    return url


def files_at(url: str, hidden: bool = True) -> dict[str, bytes]:
    """All files below a URL, without the hidden ones where asked."""
    names = [name for name in names_at(url) if hidden or "/." not in name]
    return {name.removeprefix(f"{url}/".removeprefix("s3://")): file_system().cat_file(name) for name in names}


def names_at(url: str) -> list[str]:
    return list(file_system().find(url))


# --- the scripts, on an object store ----------------------------------------------------------------------------------


@pytest.mark.long
def test_all_steps_give_the_same_bytes_behind_a_url(store: str, trained: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "csv").mkdir(parents=True)
    for place in trained.iterdir():
        if not place.name.startswith((".", "BMUs")):
            (here / place.name).write_bytes(place.read_bytes())
    write_scenes(here, 3)
    url = put(here, f"{store}/steps")
    cluster = Cluster(tmp_path)
    try:
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker(TMPDIR=tmp_path)
        for script, *words in STEPS:
            succeed(str(script), "--DATA_DIR", here, *words)
            words += ["--DASK_SCHEDULER", cluster.address]
            succeed(str(script), "--DATA_DIR", url, *words)
    finally:
        cluster.stop()
    there = files_at(url)
    assert there == files_of(here) and "masks_finetuned/SCENE_000_mask.tif" in there
    assert not list(tmp_path.glob("cloudsom-*/*.tif")), "working copies are removed after each job"
    done = run_script("convert_image_to_csv.py", "--DATA_DIR", url)
    assert done.stdout.count("is up to date") == 3, "a run on processes goes on where one on a cluster ended"


def test_the_steps_before_and_the_figures_read_and_write_there_too(store: str, trained: Path, tmp_path: Path) -> None:
    url = f"{store}/training"
    file_system().put_file(str(trained / "spectra.h5"), f"{url}/spectra.h5")
    succeed("read_h5file.py", "--DATA_DIR", url, "--H5_FILES", "spectra.h5", "--SPECTRA_CSVS", "spectra.csv")
    succeed("data_preprocessing.py", "--DATA_DIR", url, "--SPECTRA_CSVS", "spectra.csv")
    succeed("SOM_training.py", "--DATA_DIR", url, "--N_ROWS", 6, "--N_COLUMNS", 5, "--N_ITER", 3000)
    for script in ("BMUs_detection.py", "labeling.py"):
        succeed(script, "--DATA_DIR", url)
    there = files_at(url)
    assert there == {name: content for name, content in files_of(trained).items() if name in there}
    assert {"SOM_trained.p", "SOM_model.npz", "neuron_labels.csv.json"} <= there.keys()
    succeed("visualization/Creating_hit_rate_maps.py", "--DATA_DIR", url, "--FIGURES_DIR", tmp_path / "here")
    assert (tmp_path / "here" / "hit_rate_maps.png").read_bytes().startswith(b"\x89PNG")


def test_products_are_read_from_a_url_as_folders_and_as_zips(store: str, tmp_path: Path) -> None:
    from scripts import step_7

    make_safe(tmp_path / "products", constant_bands(8))
    step_7(tmp_path)
    url = put(tmp_path / "products", f"{store}/safe/products").removesuffix("/products")
    for name, products in (("folder", "products"), ("zip", "zipped")):
        if name == "zip":
            for safe in (tmp_path / "products").iterdir():
                (tmp_path / "zipped").mkdir()
                zip_safe(safe, tmp_path / "zipped" / f"{safe.name}.zip")
            put(tmp_path / "zipped", f"{url}/zipped")
        done = step_7(tmp_path, "--DATA_DIR", url, "--PRODUCTS_DIR", products, "--TIFF_DIR", name)
        assert done.returncode == 0, done.stderr
    cluster = Cluster(tmp_path)
    try:
        cluster.start_scheduler()
        cluster.start_worker()
        on_it = ("--DATA_DIR", url, "--TIFF_DIR", "dask", "--DASK_SCHEDULER", cluster.address)
        assert step_7(tmp_path, *on_it).returncode == 0
    finally:
        cluster.stop()
    (product,) = (tmp_path / "zipped").iterdir()
    succeed("mask_products.py", f"zipped/{product.name}", "--DATA_DIR", url)
    succeed("mask_products.py", f"{url}/zipped/{product.name}", "--DATA_DIR", tmp_path)
    masks = files_at(f"{url}/cloud_masks")
    assert masks == files_of(tmp_path / "cloud_masks") and len([name for name in masks if name.endswith(".tif")]) == 2
    images = {k: v for k, v in files_of(tmp_path / "tiff").items() if k.endswith(".tif")}
    assert images and images == {k: v for k, v in files_at(f"{url}/folder").items() if k.endswith(".tif")}
    assert images == {k: v for k, v in files_at(f"{url}/zip").items() if k.endswith(".tif")}
    assert images == {k: v for k, v in files_at(f"{url}/dask").items() if k.endswith(".tif")}


def test_killed_at_any_moment_nothing_is_lost_there(store: str, tmp_path: Path) -> None:
    write_scenes(tmp_path / "here", 8, 120, 120)
    url = put(tmp_path / "here", f"{store}/killed")
    succeed("convert_image_to_csv.py", "--DATA_DIR", tmp_path / "here")
    expected, luck = files_of(tmp_path / "here"), random.Random(0)
    command = [sys.executable, str(ROOT / "convert_image_to_csv.py"), "--DATA_DIR", url, "--WORKERS", "1"]
    for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        before = len(names_at(url))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(names_at(url)) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.1))
        process.send_signal(signum)
        said = process.communicate(timeout=60)[1]
        assert process.returncode in (130, -signal.SIGKILL) and "Traceback" not in said, said
        there = files_at(url, hidden=False)
        assert all(there[name] == expected[name] for name in there), "what has its name is whole"
    succeed("convert_image_to_csv.py", "--DATA_DIR", url)
    assert files_at(url, hidden=False) == expected


def test_a_storage_with_folders_does_as_well(trained: Path, tmp_path: Path) -> None:
    from servers.ftp import ftp_server

    here, there = tmp_path / "here", tmp_path / "there" / "run"
    for folder in (here, there):
        write_scenes(folder, 4)
        for name in ("SOM_trained.p", "scaler.p", "neuron_labels.csv"):
            (folder / name).write_bytes((trained / name).read_bytes())
    with ftp_server(tmp_path / "there") as url:
        for _ in range(2):  # both workers make the folder of the masks; then all is finished
            for data in (here, f"{url}/run"):
                succeed("create_cloudmasks.py", "--DATA_DIR", data, "--PIXELS", "tiff", "--WORKERS", 2)
    assert files_of(there) == files_of(here)


def test_mistakes_with_urls_end_in_one_line(
    store: str, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path, 1)
    step_8 = "convert_image_to_csv.py"
    assert "s3://missing/run/tiff: holds no products" in refused(step_8, "--DATA_DIR", "s3://missing/run")
    line = refused(step_8, "--DATA_DIR", tmp_path, "--CSV_DIR", "s3://missing/csv")
    assert "1 of 1 products failed" in line
    assert file_system().ls("") == [store.removeprefix("s3://")], "a misspelt bucket is not made"
    assert "is behind a URL" in refused("test_data_downloading.py", "--DATA_DIR", store)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in refused(step_8, "--DATA_DIR", store)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "the storage cannot be reached, or refuses" in refused(step_8, "--DATA_DIR", store)


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file:///tmp/x", "give the path alone"),
        ("zip://a.csv::s3://bucket/x.zip", "a URL within a URL"),
        ("http://[bad", "is no URL"),
        ("nonsense://bucket/x", "requirements-cluster.txt"),
        ("ftp://me:secret@host/x", "a password in a URL"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        under("data", text)
    assert "secret" not in str(caught.value)


def test_names_are_joined_to_paths_and_urls(folder: Path) -> None:
    assert under(str(folder), "a/b.csv") == folder / "a" / "b.csv"
    assert under(str(folder), ".") == folder and under(str(folder), "../b.csv") == folder.parent / "b.csv"
    assert under(str(folder), "/here/b.csv") == Path("/here/b.csv")
    assert under("here", str(folder)) == folder
    assert under("here", "~/x") == Path.home() / "x"


def write(place: Path, text: str, settings: Snapshot = SETTINGS, **inputs: Path) -> None:
    with stores.product(place, stores.recipe(settings, inputs)) as product:
        product.partial.write_text(text)


def names_in(place: Path) -> list[str]:
    return sorted(p.name for p in place.iterdir())


def test_products_appear_whole_and_are_made_again_when_they_must(folder: Path) -> None:
    source, target = folder / "in.csv", folder / "out" / "x.csv"
    folder.mkdir(parents=True)
    source.write_text("1")
    write(target, "2", INPUT=source)
    assert target.read_text() == "2" and names_in(target.parent) == ["x.csv", "x.csv.json"]
    assert stores.finished(target, stores.recipe(SETTINGS, {"INPUT": source}))
    assert not stores.finished(target, stores.recipe(Snapshot("script.py", {"SEED": 2}), {"INPUT": source}))
    source.write_text("other")
    assert not stores.finished(target, stores.recipe(SETTINGS, {"INPUT": source}))
    with pytest.raises(ZeroDivisionError), stores.product(target, stores.recipe(SETTINGS, {})) as product:
        product.partial.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "2" and names_in(target.parent) == ["x.csv", "x.csv.json"]
    target.write_text("mine")
    with pytest.raises(UserError, match="was changed after it was made"):
        stores.finished(target, stores.recipe(SETTINGS, {"INPUT": source}))


def test_a_run_that_ended_before_the_last_rename_is_completed(folder: Path) -> None:
    target = folder / "x.csv"
    write(target, "whole")
    uploaded = folder / f".x.csv.{stores.sha256(target)[:12]}.partial"
    places.rename(target, uploaded)
    assert not target.exists() and stores.finished(target, stores.recipe(SETTINGS, {}))
    assert target.read_text() == "whole" and names_in(folder) == ["x.csv", "x.csv.json"]
    uploaded.write_text("whol")  # a later attempt's, cut off
    assert stores.finished(target, stores.recipe(SETTINGS, {})) and target.read_text() == "whole"


def test_an_input_that_changes_under_way_makes_nothing(folder: Path) -> None:
    source, target = folder / "in.csv", folder / "x.csv"
    folder.mkdir(parents=True)
    source.write_text("1")
    made_by = stores.recipe(SETTINGS, {"INPUT": source})
    with pytest.raises(UserError, match="was changed while it was read"), stores.product(target, made_by) as product:
        product.partial.write_text("2")
        source.write_text("another one")
    assert names_in(folder) == ["in.csv"]


def test_copies_last_as_long_as_the_job_and_are_fresh_in_the_next(folder: Path) -> None:
    source = folder / "in.csv"
    folder.mkdir(parents=True)
    copies = []

    def look(place: Path) -> str:
        copies.append(places.local(place))
        assert places.local(place) is copies[-1] and copies[-1].name == "in.csv"
        return places.local(place).read_text()

    for text in ("one", "two"):
        source.write_text(text)
        assert pool.attempt(look, pool.Job("look", (source,))).result == text
    assert not any(copy.parent.parent.exists() for copy in copies)
    missing = pool.attempt(look, pool.Job("look", (folder / "missing.csv",)))
    assert missing.error and "missing.csv" in missing.error
