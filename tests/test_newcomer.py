"""A newcomer's first hour: a Python without packages, a fresh shell, and what the README prints."""

import ast
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import ROOT, run_script

from cloudsom import start
from cloudsom.running.settings import read_constants

SCRIPTS = sorted(
    file
    for folder in start.FOLDERS
    for file in folder.glob("*.py")
    if "run(main, globals())" in file.read_text("utf-8")
)

#: What is not part of a fresh clone, or only weighs.
NOT_COPIED = (".git", ".venv*", ".cache", ".*_cache", ".hypothesis", "build", "*.egg-info", "tests", "*data", "*data_*")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a Python without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout whose `.venv` is the environment of these tests; demo_data and data are empty."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def in_a_fresh_shell(command: str, clone: Path, bare: Path) -> "subprocess.CompletedProcess[str]":
    env = {"HOME": str(clone.parent), "PATH": f"{bare}:/usr/bin:/bin"}
    return subprocess.run(["bash", "-ec", command], capture_output=True, text=True, cwd=clone, env=env, timeout=120)


def first_import(script: Path) -> str:
    """The first module that a script imports, but for what puts the package into reach."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "pathlib"):
            return str(node.module)
        if isinstance(node, ast.Import) and node.names[0].name != "sys":
            return node.names[0].name
    raise AssertionError(f"{script} imports nothing")


def test_every_script_starts_itself_and_takes_its_folder_from_the_environment() -> None:
    assert len(SCRIPTS) > 20
    for script in SCRIPTS:
        assert first_import(script) == "cloudsom.start", script
        assert read_constants(script.read_text(encoding="utf-8"))[0].name == "DATA_DIR", script


@pytest.mark.parametrize("environment", ["none", "without packages"])
def test_without_its_packages_a_script_says_in_one_line_what_to_type(
    tmp_path: Path, bare: Path, environment: str
) -> None:
    for name in ("visualization/report.py", "cloudsom/__init__.py", "cloudsom/start.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    if environment != "none":
        (tmp_path / ".venv").symlink_to(bare.parent)
    done = in_a_fresh_shell("cd visualization; python3 report.py", tmp_path, bare)
    assert done.returncode == 1 and done.stderr.startswith("report.py: error: "), done.stderr
    assert done.stderr.endswith("has no package numpy; set up what it needs, once: bash ../setup_environment.sh\n")


def test_another_mistake_keeps_its_traceback(tmp_path: Path, bare: Path) -> None:
    (tmp_path / "cloudsom").mkdir()
    for name in ("__init__.py", "start.py"):
        shutil.copy(ROOT / "cloudsom" / name, tmp_path / "cloudsom")
    (tmp_path / "step.py").write_text("import cloudsom.start\nfrom cloudsom import nothing\n", encoding="utf-8")
    done = in_a_fresh_shell("python3 step.py", tmp_path, bare)
    assert done.returncode == 1 and "Traceback" in done.stderr and "cannot import name" in done.stderr


def test_the_folder_comes_from_the_environment_unless_the_command_line_says_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "environment"))
    assert f"error: {tmp_path / 'environment' / 'BMUs.csv'}: " in run_script("labeling.py").stderr
    words = ("--DATA_DIR", tmp_path / "words")
    assert f"error: {tmp_path / 'words' / 'BMUs.csv'}: " in run_script("labeling.py", *words).stderr
