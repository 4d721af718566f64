"""One run of a script at a time where it writes."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from cloudsom.errors import UserError
from cloudsom.running.lock import only_run
from cloudsom.running.settings import folders_written, read_constants


def test_two_runs_of_a_script_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(
        "import sys, time\nsys.path.insert(0, sys.argv.pop(1))\nfrom cloudsom.running.settings import run\n"
        "# --- constants\n# outputs\nRESULT_DIR = 'results'  # where\n# --- end of constants\n"
        "def main():\n    print('in', flush=True)\n    time.sleep(60)\nrun(main, globals())\n"
    )
    command = [sys.executable, str(script), str(ROOT), "--RESULT_DIR", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "in\n"
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1 and "another run of waits.py" in second.stderr
        first.terminate()
        assert first.wait(30) == 130, "a stop request ends like Ctrl-C"


def test_a_folder_that_is_not_there_yet_is_locked_too_and_a_wrong_one_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "new" / "data"
    with only_run([place], "step.py"):
        with pytest.raises(UserError, match=r"another run of step\.py"), only_run([place], "step.py"):
            pass
        with only_run([place], "other.py"):
            pass
    assert list(tmp_path.iterdir()) == [tmp_path / "new"], "other.py's lock was there: the folder is not empty"
    with pytest.raises(ZeroDivisionError), only_run([tmp_path / "wrong" / "data"], "step.py"):
        raise ZeroDivisionError
    assert not (tmp_path / "wrong").exists()
    with only_run([tmp_path / "kept"], "step.py"):
        (tmp_path / "kept" / "product").touch()
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [".step.py.lock", "product"]


def test_all_folders_are_locked_and_one_of_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with only_run([tmp_path / "a", tmp_path / "link", tmp_path / "a" / ".." / "b"], "step.py"):
        for folder in ("a", "b"):
            with pytest.raises(UserError, match=r"another run of step\.py"), only_run([tmp_path / folder], "step.py"):
                pass
    with only_run([tmp_path / "a"], "step.py"), only_run([tmp_path / "c"], "step.py"):
        pass


def a_link(place: Path) -> None:
    place.with_name("precious").write_text("all I have")
    place.symlink_to("precious")


def a_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(place))


@pytest.mark.parametrize("plant", [a_link, a_socket, os.mkfifo, os.mkdir], ids=["link", "socket", "fifo", "folder"])
def test_what_is_no_plain_file_is_no_lock(
    plant: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    plant(Path(".step.py.lock"))
    with pytest.raises(UserError, match=r"\.step\.py\.lock: is no plain file"), only_run([Path()], "step.py"):
        pass
    assert not Path("precious").exists() or Path("precious").read_text() == "all I have"


def test_a_lock_file_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".step.py.lock").write_text("mine")
    with only_run([tmp_path], "step.py"):
        pass
    assert (tmp_path / ".step.py.lock").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_users_run_in_a_shared_folder_is_seen_and_a_folder_without_locks_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder, only_run([Path(folder)], "step.py"):  # pytest's own are shut
        shared, theirs = Path(folder), Path(folder, "theirs")
        shared.chmod(0o777)
        theirs.mkdir(mode=0o755)
        shut = shared / "shut"
        shut.mkdir()
        shut.chmod(0o777)
        (shut / ".step.py.lock").touch(mode=0o600)  # by a user with a umask of 077
        code = f"""
import fcntl, os, sys  # all there is to import, before its folders are shut
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from cloudsom.errors import UserError
from cloudsom.running.lock import only_run
os.setgroups([]), os.setgid(65534), os.setuid(65534)
with only_run([Path({str(theirs)!r})], "step.py"):
    print("unlocked", flush=True)
with only_run([Path({str(shut)!r})], "step.py"):
    print("unlocked", flush=True)
try:
    with only_run([Path({str(shared)!r})], "step.py"):
        print("both at work")
except UserError as problem:
    print(problem)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()
    assert said[:2] == ["unlocked"] * 2 and "another run of step.py is at work there" in said[2], done
    warnings = [f"step.py: warning: {f}: cannot be locked (Permission denied); let no other" for f in (theirs, shut)]
    assert [line.startswith(w) for line, w in zip(done.stderr.splitlines(), warnings, strict=True)] == [True] * 2


def test_the_folders_of_outputs_are_locked_wherever_they_are(tmp_path: Path) -> None:
    """Those outside DATA_DIR too, which may be another's and read-only."""
    constants = read_constants((ROOT / "labeling.py").read_text(encoding="utf-8"))
    values = {c.name: c.default for c in constants} | {"DATA_DIR": "/theirs", "HIT_MAPS_CSV": f"{tmp_path}/a/hits.csv"}
    assert {str(folder) for folder in folders_written(constants, values)} == {"/theirs", f"{tmp_path}/a"}
    outside = {c.name: f"{tmp_path}/b/{c.name}" for c in constants if c.group == "outputs"}
    assert {str(folder) for folder in folders_written(constants, values | outside)} == {f"{tmp_path}/b"}
