"""Independent jobs: one bad product never stops the others."""

import atexit
import multiprocessing.spawn
import os
import resource
import signal
import subprocess
import sys
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from servers import drive

from campaigns.kill_loop import ScriptRun
from cloudsom.errors import UserError
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs


def square_or_fail(value: int) -> int:
    if value == 2:
        raise UserError("two: is not wanted; give another")
    if value == 3:
        raise OSError(28, "No space left on device", "x.tif")
    if value == 4:
        raise MemoryError
    return value * value


@pytest.mark.parametrize("workers", [1, 2])
def test_the_others_are_done_and_the_bad_ones_named(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run_jobs(square_or_fail, [Job(f"P{i}", (i,)) for i in range(6)], Engine(workers), "squaring")
    assert results_or_errors(outcomes) == [0, 1, 25]
    error = capsys.readouterr().err
    assert "two: is not wanted" in error and "P3: x.tif: No space left" in error and "P4: out of memory" in error
    with pytest.raises(UserError, match=r"3 of 6 products failed \(P2, P3, P4\)"):
        raise_if_any_failed(outcomes)


def die_with(value: int, marks: str, times: int) -> int:
    """Be killed as for want of memory, the first `times` times that the job 1 is tried."""
    mark = Path(marks) / f"{value} {len(os.listdir(marks))}"
    mark.touch()
    if value == 1 and len(list(Path(marks).glob("1 *"))) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def run_and_be_killed(marks: Path, times: int, workers: int = 2) -> list[Outcome]:
    return run_jobs(die_with, [Job(str(i), (i, str(marks), times)) for i in range(6)], Engine(workers), "dying")


def test_a_killed_worker_costs_nothing_if_there_is_memory_for_its_job_alone(tmp_path: Path) -> None:
    outcomes = run_and_be_killed(tmp_path, times=1)
    assert [outcome.result for outcome in outcomes] == list(range(6))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_kills_its_worker_again_is_told_and_the_others_are_done(tmp_path: Path, workers: int) -> None:
    outcomes = run_and_be_killed(tmp_path, 99, workers)
    assert [outcome.result for outcome in outcomes] == [0, None, 2, 3, 4, 5]
    assert "1: its worker process was killed" in (outcomes[1].error or "")
    assert len(list(tmp_path.glob("1 *"))) == 2, "it is tried once more, not for ever"


def test_workers_that_cannot_start_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    executable = multiprocessing.spawn.get_executable()
    resource_tracker.ensure_running()  # a process of Python's own that would not start either
    try:
        multiprocessing.set_executable("/bin/false")
        outcomes = run_jobs(abs, [Job(str(i), (i,)) for i in range(3)], Engine(2), "starting")
    finally:
        multiprocessing.set_executable(executable)
    assert all("was killed" in (outcome.error or "") for outcome in outcomes)


def need_memory(size: int) -> int:
    """Take so many bytes, where the system gives no more than 4 GB."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    return int(np.ones(size, np.uint8)[-1])


def test_a_job_without_memory_fails_alone() -> None:
    outcomes = run_jobs(need_memory, [Job(str(size), (size,)) for size in (10, 1 << 33, 20)], Engine(2), "filling")
    assert [outcome.result for outcome in outcomes] == [1, None, 1]
    assert outcomes[1].error == f"{1 << 33}: out of memory; lower WORKERS"


def be_stopped_at_exit(value: int) -> int:
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)
    return value


def test_a_stop_request_to_a_worker_that_has_ended_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = run_jobs(be_stopped_at_exit, [Job(str(i), (i,)) for i in range(2)], Engine(2), "ending")
    assert results_or_errors(outcomes) == [0, 1] and "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whole_group", [False, True])
def test_no_worker_outlives_its_parent(tmp_path: Path, signum: int, whole_group: bool) -> None:
    script = tmp_path / "waits.py"
    script.write_text(
        "import signal, sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # or ignored, as it was before\n"
        "from cloudsom.running.job import Job\nfrom cloudsom.running.pool import Engine, run_jobs\n"
        "def wait(place):\n    try:\n        Path(place).touch()\n        time.sleep(60)\n"
        "    finally:\n        Path(place).unlink()\n"
        "if __name__ == '__main__':\n"
        "    run_jobs(wait, [Job(n, (sys.argv[2] + '/mark' + n,)) for n in 'abc'], Engine(2), 'waiting')\n"
    )
    command = [sys.executable, str(script), str(ROOT), str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    drive.wait_for(lambda: len(list(tmp_path.glob("mark*"))) == 2, 60)
    (os.killpg if whole_group else os.kill)(process.pid, signum)
    _, said = process.communicate(timeout=60)  # ends when the last one that could write to stderr has ended
    drive.wait_for(lambda: not ScriptRun(process.pid, script).members(), 10)
    if signum == signal.SIGINT:
        assert said.count("Traceback") == 1, "the script's own, for want of settings.run; none of a worker"
        assert not list(tmp_path.glob("mark*")), "a stopped job clears up, and no other is begun"


def test_a_product_counts_once_over_several_rounds() -> None:
    rounds = [Outcome("a"), Outcome("b", error="first")], [Outcome("a", error="later"), Outcome("b", error="second")]
    assert one_each(*rounds) == [Outcome("a", error="later"), Outcome("b", error="first")]


def test_products_are_chosen_by_name() -> None:
    found = {"b": Path("b"), "a": Path("a")}
    assert list(choose_products(found, [], Path("d"), "do")) == ["a", "b"]
    assert list(choose_products(found, ["b"], Path("d"), "do")) == ["b"]
    with pytest.raises(UserError, match="d: has no product bb; the nearest name there is b"):
        choose_products(found, ["bb"], Path("d"), "do")
    with pytest.raises(UserError, match="d: holds no products"):
        choose_products({}, [], Path("d"), "run step 7")
