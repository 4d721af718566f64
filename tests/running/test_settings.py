"""Constants become command-line settings."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from conftest import ROOT, run_script

from cloudsom.errors import UserError
from cloudsom.files.places import input_path, under
from cloudsom.running.lock import only_run
from cloudsom.running.settings import parse_command_line, read_constants, snapshot

SCRIPT = '''"""Says hello."""
# --- constants: edit here ---
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # where
FILES = ["a", "b"]  # several
NAMES: list[str] = []  # none at first

# training (paper)
N_ITER = 1_000_000  # steps
RATE = 0.5  # 100% of it
RADIUS: float | None = None  # None: half the side
KIND: Literal["fast", "slow"] = "fast"  # how
# goes on below

# running
OVERWRITE = False  # redo
# --- end of constants ---
LATER = 3
'''


def constants() -> list:
    return read_constants(SCRIPT)


def parse(*words: str) -> dict:
    return parse_command_line("script.py", "Says hello.", constants(), list(words))


def test_the_block_is_read_with_types_help_and_groups() -> None:
    by_name = {c.name: c for c in constants()}
    assert list(by_name) == ["DATA_DIR", "FILES", "NAMES", "N_ITER", "RATE", "RADIUS", "KIND", "OVERWRITE"]
    assert by_name["N_ITER"].kind == "int" and by_name["N_ITER"].group == "training"
    assert by_name["RADIUS"].kind == "float | None"
    assert by_name["DATA_DIR"].group == "paths"
    assert by_name["KIND"].help == "how goes on below"
    assert by_name["KIND"].choices == ("fast", "slow")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--N_ITER", "1e5"], {"N_ITER": 100_000}),
        (["--N_ITER=1_000"], {"N_ITER": 1000}),
        (["--RATE", "2"], {"RATE": 2.0}),
        (["--RADIUS", "3.5"], {"RADIUS": 3.5}),
        (["--RADIUS", "None"], {"RADIUS": None}),
        (["--FILES", "x", "y", "z"], {"FILES": ["x", "y", "z"]}),
        (["--NAMES"], {"NAMES": []}),
        (["--OVERWRITE"], {"OVERWRITE": True}),
        (["--OVERWRITE", "False"], {"OVERWRITE": False}),
        ([], {}),
    ],
)
def test_words_become_typed_values(words: list[str], expected: dict) -> None:
    found = parse(*words)
    assert found == expected
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("words", "products"),
    [
        ("a.zip b.zip --N_ITER 5", ["a.zip", "b.zip"]),
        ("a.zip --N_ITER 5 b.zip", ["a.zip", "b.zip"]),
        ("--N_ITER=5 --OVERWRITE a.zip", ["a.zip"]),
        ("--OVERWRITE true a.zip --N_ITER 5", ["a.zip"]),
        ("--N_ITER 5 --PRODUCTS a.zip b.zip", ["a.zip", "b.zip"]),
        ("--N_ITER 5 --NAMES x -- a.zip", ["a.zip"]),
    ],
)
def test_words_without_a_name_are_products_where_there_are_any(words: str, products: list[str]) -> None:
    source = SCRIPT.replace("NAMES", "PRODUCTS: list[str] = []\nNAMES")
    found = parse_command_line("script.py", "", read_constants(source), words.split())
    assert found["PRODUCTS"] == products and found["N_ITER"] == 5
    assert found.get("OVERWRITE", False) == ("OVERWRITE" in words)
    with pytest.raises(SystemExit):
        parse_command_line("script.py", "", read_constants(source), ["a.zip", "--N_ITERS", "5"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--N_ITERS", "5"], "nearest setting is --N_ITER"),
        (["--N_ITER", "many"], "not a whole number"),
        (["--N_ITER", "1.5"], "not a whole number"),
        (["--RATE", "nan"], "not a finite number"),
        (["--KIND", "medium"], "medium"),
        (["--OVERWRITE", "perhaps"], "neither True nor False"),
        (["stray"], "not a setting"),
        (["--N_ITER"], "expected one argument"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_help_shows_every_constant_and_its_comment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Says hello." in text and "--N_ITER INT steps (now: 1000000)" in text and "100% of it" in text


def test_a_heading_that_is_none_is_an_error() -> None:
    with pytest.raises(UserError, match=r"line 15: 'runing' is no heading of constants; known are paths, running"):
        read_constants(SCRIPT.replace("# running", "# runing"))


def test_a_word_that_was_edited_into_a_script_must_be_one_of_its_choices(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = f"import sys\nfrom typing import Literal\nsys.path.insert(0, {str(ROOT)!r})\n"
    text += "from cloudsom.running.settings import run\n" + SCRIPT.replace('"] = "fast"', '"] = "medium"')
    script.write_text(text + "run(lambda: None, globals())\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and done.stderr == "script.py: error: KIND is 'medium'; it is one of fast, slow\n"


def test_a_snapshot_leaves_out_paths_and_running(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    namespace: dict = {"__file__": str(file), "Literal": Literal}
    exec(SCRIPT, namespace)
    namespace["N_ITER"] = 7
    assert snapshot(namespace).constants == {"N_ITER": 7, "RATE": 0.5, "RADIUS": None, "KIND": "fast"}


def test_paths_are_under_the_data_folder_unless_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert under("data", "x.csv") == Path("data/x.csv")
    assert under("data", "/abs/x.csv") == Path("/abs/x.csv")
    monkeypatch.chdir(tmp_path)
    Path("here.csv").touch()
    assert input_path("data", "here.csv") == Path("here.csv")
    Path("data").mkdir()
    Path("data/here.csv").touch()
    assert input_path("data", "here.csv") == Path("data/here.csv")


PLACES = [*ROOT.glob("*.py"), *ROOT.glob("visualization/[!_]*.py")]
SCRIPTS = sorted(str(place.relative_to(ROOT)) for place in PLACES)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_and_data_dir_first(script: str) -> None:
    found = read_constants((ROOT / script).read_text())
    assert found[0].name == "DATA_DIR" and found[0].default == "data"
    assert all(c.help for c in found), "every constant has its reason beside it"
    done = run_script(script, "--help")
    assert done.returncode == 0 and "--DATA_DIR" in done.stdout, done.stderr


def test_two_runs_of_a_script_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(
        "import sys, time\nsys.path.insert(0, sys.argv.pop(1))\nfrom cloudsom.running.settings import run\n"
        "# --- constants\nDATA_DIR = 'data'  # where\n# --- end of constants\n"
        "def main():\n    print('in', flush=True)\n    time.sleep(60)\nrun(main, globals())\n"
    )
    command = [sys.executable, str(script), str(ROOT), "--DATA_DIR", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "in\n"
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1 and "another run of waits.py" in second.stderr
        first.terminate()
        assert first.wait(30) == 130, "a stop request ends like Ctrl-C"


def test_a_folder_that_is_not_there_yet_is_locked_too_and_a_wrong_one_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "new" / "data"
    with only_run(place, "step.py"):
        with pytest.raises(UserError, match=r"another run of step\.py"), only_run(place, "step.py"):
            pass
        with only_run(place, "other.py"):
            pass
    assert list(tmp_path.iterdir()) == [tmp_path / "new"], "other.py's lock was there: the folder is not empty"
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "wrong" / "data", "step.py"):
        raise ZeroDivisionError
    assert not (tmp_path / "wrong").exists()
    with only_run(tmp_path / "kept", "step.py"):
        (tmp_path / "kept" / "product").touch()
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [".step.py.lock", "product"]


def test_a_wrong_folder_is_told_and_not_made(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no such file" in refused("labeling.py", "--DATA_DIR", tmp_path / "dta" / "x")
    assert not list(tmp_path.iterdir())
