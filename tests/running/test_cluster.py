"""DASK_SCHEDULER: the scripts on a real scheduler and two real workers on loopback, without a copy of the project."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import pytest
from clusters import STEPS, Cluster, files_of, succeed, wait_for, write_scenes
from conftest import ROOT, run_script
from safe_maker import constant_bands, make_safe
from scripts import step_7

from BMUs_detection import PART_BYTES
from cloudsom.files import stores
from cloudsom.running import pool
from cloudsom.som import labelled_map
from cloudsom.tables import csv_tables


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("elsewhere"))
    running.start_scheduler()
    for _ in range(2):
        running.start_worker()
    yield running
    running.stop()


@pytest.mark.long
def test_all_steps_give_the_same_bytes_on_a_cluster(cluster: Cluster, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "one")
    write_scenes(tmp_path / "one", 4)
    shutil.copytree(tmp_path / "one", tmp_path / "dask")
    for script, *words in STEPS:
        succeed(str(script), "--DATA_DIR", tmp_path / "one", "--WORKERS", 1, *words)
        succeed(str(script), "--DATA_DIR", "dask", "--DASK_SCHEDULER", cluster.address, *words, cwd=tmp_path)
    one = files_of(tmp_path / "one")
    assert labelled_map.load(tmp_path / "one" / "neuron_labels_finetuned.npz").submaps
    assert {"BMUs.csv", "masks/SCENE_000_mask.tif", "masks_finetuned/SCENE_003_mask.tif"} <= one.keys()
    assert {f"cloud_masks/SCENE_001_{kind}" for kind in ("mask.tif", "probability.tif", "quicklook.jpg")} <= one.keys()
    sent = cluster.folder.rglob("cloudsom/ready_made/committee.npz")
    assert [file.read_bytes() for file in sent] == [file.read_bytes() for file in labelled_map.READY_MADE]
    other = files_of(tmp_path / "dask")
    assert other.keys() == one.keys() and not [file for file in one if one[file] != other[file]]


def test_the_training_table_in_parts_gives_the_same_bmus(cluster: Cluster, trained: Path, tmp_path: Path) -> None:
    spectra, labels = csv_tables.read_all_spectra(trained / "training_spectra.csv")
    many = (100 * PART_BYTES // (trained / "training_spectra.csv").stat().st_size + 40) // 40  # two parts and a half
    for name in ("one", "two", "dask"):
        (tmp_path / name).mkdir()
        for file in ("scaler.p", "SOM_trained.p"):
            shutil.copy(trained / file, tmp_path / name)
    csv_tables.write_spectra(tmp_path / "one" / "training_spectra.csv", [(spectra, labels)] * many)
    for name, words in (("one", ["--WORKERS", 1]), ("two", []), ("dask", ["--DASK_SCHEDULER", cluster.address])):
        if name != "one":
            os.link(tmp_path / "one" / "training_spectra.csv", tmp_path / name / "training_spectra.csv")
        succeed("BMUs_detection.py", "--DATA_DIR", tmp_path / name, *words)
    assert len(csv_tables.parts(tmp_path / "one" / "training_spectra.csv", PART_BYTES)) == 3
    answers = [(tmp_path / name / "BMUs.csv").read_bytes() for name in ("one", "two", "dask")]
    assert answers[0] == answers[1] == answers[2] and answers[0].count(b"\n") == 1 + many * len(spectra)


def test_step_7_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("here", "there"):
        make_safe(tmp_path / name / "products", constant_bands(8))
    for name, words in (("here", []), ("there", ["--DASK_SCHEDULER", cluster.address])):
        done = step_7(tmp_path / name, *words)
        assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")
    assert len(files_of(tmp_path / "there" / "tiff")) == 2


# --- faults -----------------------------------------------------------------------------------------------------------


def begin(script: str, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def when_under_way(
    running: "subprocess.Popen[str]", products: Path, n: int, act: Callable[[], object]
) -> tuple[str, int]:
    """Act when some of n products are there; what the script said of errors, and its exit status."""
    wait_for(lambda: len(list(products.glob("*.csv"))) >= 3)
    act()
    assert len(list(products.glob("*.csv"))) < n, "the act came too late"
    _, said = running.communicate(timeout=300)
    return said, running.returncode


def test_stopped_and_lost_workers_lose_nothing(cluster: Cluster, tmp_path: Path) -> None:
    n = 60
    for name in ("here", "there"):
        write_scenes(tmp_path / name, n, 200, 200)
    succeed("convert_image_to_csv.py", "--DATA_DIR", tmp_path / "here")
    words = ("convert_image_to_csv.py", "--DATA_DIR", tmp_path / "there", "--DASK_SCHEDULER", cluster.address)

    running = begin(*words, "--CSV_DIR", "stopped")
    stop = lambda: running.send_signal(signal.SIGINT)  # noqa: E731
    said, status = when_under_way(running, tmp_path / "there" / "stopped", n, stop)
    assert status == 130 and said.strip().endswith("run the same command to go on"), said
    assert 3 <= len(list((tmp_path / "there" / "stopped").glob("*.csv"))) < n

    lost = cluster.processes[1]
    said, status = when_under_way(begin(*words), tmp_path / "there" / "csv", n, lost.kill)
    assert status == 0 and not said, said
    here, there = files_of(tmp_path / "here" / "csv"), files_of(tmp_path / "there" / "csv")
    assert here.keys() == there.keys()  # nor anything more: what the lost worker was writing is gone
    assert not [file for file in here if here[file] != there[file]]
    cluster.start_worker()


def test_a_bad_scene_is_named_and_the_others_are_done(cluster: Cluster, tmp_path: Path) -> None:
    names = write_scenes(tmp_path, 4)
    (tmp_path / "tiff" / f"{names[1]}.tif").write_bytes(b"II*\0 no image")
    done = run_script("convert_image_to_csv.py", "--DATA_DIR", tmp_path, "--DASK_SCHEDULER", cluster.address)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    first, last = done.stderr.strip().splitlines()
    assert first.startswith("failed: ") and names[1] in first
    assert f"1 of 4 products failed ({names[1]})" in last
    assert len(list((tmp_path / "csv").glob("*.csv"))) == 3


def test_a_cluster_that_cannot_do_it_is_refused(tmp_path: Path) -> None:
    def run(data: str, address: str) -> "subprocess.Popen[str]":
        write_scenes(tmp_path / data, 1)
        return begin("convert_image_to_csv.py", "--DATA_DIR", tmp_path / data, "--DASK_SCHEDULER", address)

    other = Cluster(tmp_path)
    try:
        other.start_scheduler()
        runs = [run("a", "tcp://127.0.0.1:1"), run("b", other.address), run("c", "nonsense://x:1")]
        said = [running.communicate(timeout=120)[1] for running in runs]
        wrong = tmp_path / "wrong" / "pandas-0.0.1.dist-info"
        wrong.mkdir(parents=True)
        (wrong / "METADATA").write_text("Metadata-Version: 2.1\nName: pandas\nVersion: 0.0.1\n")
        other.start_worker(PYTHONPATH=wrong.parent)
        runs += [run("d", other.address)]
        said += [runs[-1].communicate(timeout=120)[1]]
    finally:
        other.stop()
    assert [running.returncode for running in runs] == [1] * 4
    reasons = ("does not answer", "has no workers", "does not answer", "has pandas 0.0.1")
    for line, reason in zip(said, reasons, strict=True):
        assert line.startswith("convert_image_to_csv.py: error: DASK_SCHEDULER: ") and reason in line, line
        assert len(line.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("csv"))


def end_the_worker(mark: Path) -> None:
    """A job that no worker survives, as one that needs more memory than there is."""
    with open(mark, "a") as file:
        file.write("begun\n")
    os._exit(1)


def test_a_job_that_no_worker_survives_fails_and_the_others_are_done(tmp_path: Path) -> None:
    other = Cluster(tmp_path)
    try:
        other.start_scheduler()
        for _ in range(6):  # the job is given up after four
            other.start_worker(2)
        wait_for(lambda: (tmp_path / "worker.log").read_bytes().count(b"Registered to") == 6)
        work = [pool.Job("bad", (tmp_path / "bad",)), *(pool.Job(f"good {i}", (tmp_path / f"{i}",)) for i in range(4))]
        outcomes = on_cluster(other.address, lambda place: end_the_worker(place) if place.name == "bad" else 1, work)
    finally:
        other.stop()
    assert [outcome.result for outcome in outcomes[1:]] == [1] * 4
    assert outcomes[0].error and outcomes[0].error.startswith("bad: lost several workers, one after the other")
    assert (tmp_path / "bad").read_text().count("begun") == 4


def on_cluster(address: str, function: Callable[..., object], work: list[pool.Job]) -> list[pool.Outcome]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a script's own functions travel
    return pool.run_jobs(function, work, pool.Engine(scheduler=address), "testing")


def test_without_the_packages_of_a_cluster_the_script_says_which(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1)
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(\"No module named 'distributed'\")")
    words = [str(ROOT / "convert_image_to_csv.py"), "--DATA_DIR", str(tmp_path), "--DASK_SCHEDULER", "tcp://x:1"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "pip install -r requirements-cluster.txt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_lost_scheduler_is_told_and_what_is_done_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    n = 60
    write_scenes(tmp_path / "data", n, 200, 200)
    other = Cluster(cluster.folder)
    try:
        scheduler = other.start_scheduler()
        other.start_worker()
        words = ("convert_image_to_csv.py", "--DATA_DIR", tmp_path / "data")
        running = begin(*words, "--DASK_SCHEDULER", other.address)
        said, status = when_under_way(running, tmp_path / "data" / "csv", n, scheduler.kill)
    finally:
        other.stop()
    assert status == 1 and "was lost; what is finished is kept" in said and len(said.strip().splitlines()) == 1, said
    succeed(*words)
    assert len(list((tmp_path / "data" / "csv").glob("*.csv"))) == n


def test_a_worker_that_does_not_see_the_data_says_so(tmp_path: Path) -> None:
    from cloudsom.running.cluster import worker_fault

    assert worker_fault(stores.versions(), tmp_path) == ""
    assert f"does not see {tmp_path}" in worker_fault(stores.versions(), tmp_path / "missing")
    assert "has no-such-package missing" in worker_fault(stores.versions() | {"no-such-package": "1"}, None)


def test_an_attempt_never_disturbs_what_another_one_has_finished(tmp_path: Path) -> None:
    """A worker taken for lost goes on writing while another one makes the same product."""
    slow = "import sys; from pathlib import Path; from cloudsom.files import stores\n"
    slow += "with stores.product(Path(sys.argv[1]), stores.recipe(stores.Snapshot('s', {}), {})) as product:\n"
    slow += "    product.partial.write_text('half'); print('at work', flush=True); input()\n"
    slow += "    product.partial.open('a').write(' of it')\n"
    target, made_by = tmp_path / "x.csv", stores.recipe(stores.Snapshot("s", {}), {})
    command = [sys.executable, "-c", slow, str(target)]
    lost = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert lost.stdout and lost.stdout.readline() == b"at work\n"
    with stores.product(target, made_by) as product:
        product.partial.write_text("whole")
    lost.communicate(b"\n", timeout=60)
    assert target.read_text() == "half of it" and lost.returncode == 0  # whole too: the last one to end is in place
    assert stores.finished(target, made_by)
    lost = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert lost.stdout and lost.stdout.readline() == b"at work\n"
    lost.kill()
    lost.communicate()
    assert len(list(tmp_path.glob(".*.partial"))) == 1
    assert stores.finished(target, made_by)
    assert {f.name for f in tmp_path.iterdir()} == {"x.csv", "x.csv.json"}
