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
from cloudsom.running.settings import folders_written, parse_command_line, read_constants, snapshot

SCRIPT = '''"""Says hello."""
# --- constants: edit here ---
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # where
FILES = ["a", "b"]  # several
NAMES: list[str] = []  # none at first

# training (paper)
N_ITER = 1_000_000  # [1, 1e9] steps
RATE = 0.5  # (0, 2] 100% of it
RADIUS: float | None = None  # [0.5, 9) None: half the side
CODES = [2, 3]  # [0, 7] classes
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
    assert list(by_name) == ["DATA_DIR", "FILES", "NAMES", "N_ITER", "RATE", "RADIUS", "CODES", "KIND", "OVERWRITE"]
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


def test_a_script_that_takes_products_may_be_given_no_word_at_all() -> None:
    source = SCRIPT.replace("NAMES", "PRODUCTS: list[str] = []\nNAMES")
    assert parse_command_line("script.py", "", read_constants(source), []) == {}


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
def test_wrong_words_are_refused_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "Says hello." in text and "--N_ITER INT [1, 1e9] steps (now: 1000000)" in text and "100% of it" in text


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("N_ITER", [1, 10**9], [0, -5, 10**9 + 1, 10**400]),
        ("RATE", [5e-324, 2], [0, 2.1, 1e300]),
        ("RADIUS", [None, 0.5, 8.99], [9, 0.4]),
        ("CODES", [[], [0, 7]], [[2, 999], [-1]]),
        ("KIND", ["slow"], ["medium"]),
    ],
)
def test_a_value_outside_its_interval_is_refused(name: str, good: list, bad: list) -> None:
    constant = next(c for c in constants() if c.name == name)
    for value in good:
        constant.check(value)
    for value in bad:
        with pytest.raises(UserError, match=f"{name} is .*; it is (a number in|one of) "):
            constant.check(value)


def test_a_heading_that_is_none_is_an_error() -> None:
    with pytest.raises(UserError, match="line 16: 'runing' is no heading of constants; known are paths, outputs, run"):
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
    assert snapshot(namespace).constants == {"N_ITER": 7, "RATE": 0.5, "RADIUS": None, "CODES": [2, 3], "KIND": "fast"}


def test_paths_are_under_the_data_folder_unless_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert under("data", "x.csv") == Path("data/x.csv")
    assert under("data", "/abs/x.csv") == Path("/abs/x.csv")
    monkeypatch.chdir(tmp_path)
    Path("here.csv").touch()
    assert input_path("data", "here.csv") == Path("here.csv")
    Path("data").mkdir()
    Path("data/here.csv").touch()
    assert input_path("data", "here.csv") == Path("data/here.csv")


PLACES = {*ROOT.glob("*.py"), ROOT / "cloudsom/images/safe_to_tiff.py", *ROOT.glob("visualization/[!_]*.py")}
PLACES -= {ROOT / "visualization" / "all_figures.py"}  # its settings are those of the others
SCRIPTS = sorted(str(place.relative_to(ROOT)) for place in PLACES)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_and_data_dir_first(script: str) -> None:
    found = read_constants((ROOT / script).read_text())
    assert found[0].name == "DATA_DIR" and found[0].default == "data"
    assert all(c.help for c in found), "every constant has its reason beside it"
    assert [c.name for c in found if ("int" in c.kind or "float" in c.kind) and not c.interval] == []
    for c in found:
        c.check(c.default)
    done = run_script(script, "--help")
    assert done.returncode == 0 and "--DATA_DIR" in done.stdout, done.stderr


def test_a_wrong_folder_is_told_and_not_made(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no such file" in refused("labeling.py", "--DATA_DIR", tmp_path / "dta" / "x")
    assert not list(tmp_path.iterdir())


# --- outputs ----------------------------------------------------------------------------------------------------------

WRITER = """
# --- constants: edit here ---
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # where
TABLE = "table.csv"  # read
OPTIONAL: str | None = None  # read
TIFF_DIR = "tiff"  # read

# outputs (relative to DATA_DIR)
RESULT = "result.csv"  # written
OTHERS: list[str] = ["a.csv", "sub/b.csv"]  # written
MASK_DIR = "masks"  # written

# samples
TITLE = "~nosuch user's result.csv"  # no path
# --- end of constants ---
"""


def folders(**changes: object) -> list[Path]:
    constants = read_constants(WRITER)
    return folders_written(constants, {c.name: c.default for c in constants} | changes)


def test_the_folders_a_script_writes_to_are_those_of_its_outputs() -> None:
    data = Path("data")
    assert folders() == [data, data, data / "sub", data / "masks"]
    assert folders(DATA_DIR="/abs", RESULT="/else/x.csv")[0] == Path("/else")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RESULT": "table.csv"}, "RESULT: table.csv is named in TABLE too"),
        ({"RESULT": "sub/../table.csv"}, "RESULT: sub/../table.csv is named in TABLE too"),
        ({"RESULT": "table.csv.json"}, "RESULT: table.csv.json is named in TABLE too"),
        ({"TABLE": "result.csv.json"}, "RESULT: result.csv is named in TABLE too"),
        ({"OPTIONAL": "here.csv", "RESULT": "{cwd}/here.csv"}, "RESULT: .*here.csv is named in OPTIONAL too"),
        ({"OTHERS": ["a.csv", "./a.csv"]}, "OTHERS: ./a.csv is named in this list too"),
        ({"OTHERS": ["result.csv"]}, "OTHERS: result.csv is named in RESULT too"),
        ({"RESULT": "~nosuch/x.csv"}, "~nosuch/x.csv: there is no user of that name"),
    ],
)
def test_an_output_that_something_else_names_is_refused(changes: dict, said: str) -> None:
    changes = {key: v.format(cwd=Path.cwd()) if isinstance(v, str) else v for key, v in changes.items()}
    with pytest.raises(UserError, match=said):
        folders(**changes)
