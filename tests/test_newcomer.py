"""A newcomer's first hour: a Python without packages, a fresh shell, and what the README prints."""

import ast
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from safe_maker import constant_bands, make_safe

from cloudsom import start
from cloudsom.running.settings import read_constants

FILES = [file for folder in start.FOLDERS for file in folder.glob("*.py")]
SCRIPTS = [file for file in FILES if "run(main, globals())" in file.read_text(encoding="utf-8")]

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
    """A copy of the checkout whose `.venv` is the environment of these tests."""
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


@pytest.mark.slow
@pytest.mark.parametrize("script", [file for file in SCRIPTS if "cloudsom.downloads" not in file.read_text()])
def test_a_script_without_words_does_what_its_constants_say(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    done = run_script(str(script.relative_to(ROOT)), cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr  # there is nothing in the folder
    assert done.stderr.splitlines()[-1].startswith(f"{script.name}: error: "), done.stderr


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
    assert done.stderr.endswith("has no package pandas; set up what it needs, once: bash ../setup_environment.sh\n")


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


# --- the README -------------------------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")

#: A product of the reader's.
PRODUCT = "S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024"

#: Commands that are run end to end elsewhere, and where.
RUN_ELSEWHERE = {"bash run_demo.sh": "tests/test_demo.py", "bash run_tests.sh": ".ci/run"}


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of the README's bash blocks, as printed."""
    return [line for block in blocks("bash") for line in block.splitlines()]


def bare_command(line: str) -> str:
    return line.partition("  #")[0].strip()


def test_the_readme_has_commands_in_bash_blocks_only() -> None:
    assert set(re.findall(r"^```(\w*)$", README, re.MULTILINE)) == {"bash", "python", ""}
    assert README.count("```") == 2 * (len(blocks("bash")) + len(blocks("python")))
    assert {bare_command(line) for line in commands()} >= RUN_ELSEWHERE.keys()
    for command, place in RUN_ELSEWHERE.items():
        assert command.removeprefix("bash ") in (ROOT / place).read_text(encoding="utf-8")


def test_every_command_of_the_readme_runs_as_printed(clone: Path, bare: Path, trained: Path) -> None:
    """In a fresh shell each, from top to bottom; a small map and product stand for the demo's and the reader's."""
    shutil.copytree(trained, clone / "demo_data")
    for folder in ("demo_data", "data"):
        make_safe(clone / folder / "products", constant_bands(4), name=PRODUCT)
    for line in commands():
        if bare_command(line) not in RUN_ELSEWHERE:
            done = in_a_fresh_shell(line, clone, bare)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (clone / "data" / "cloud_masks" / f"{PRODUCT}_quicklook.jpg").exists()
    assert (clone / "data" / "masks" / f"{PRODUCT}_mask.tif").exists()
    assert '"SEED": 7' in (clone / "demo_data" / "SOM_7.p.json").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs_as_printed() -> None:
    names = {"reflectance": np.full((4, 5, 13), 0.5)}
    for block in blocks("python"):
        exec(block, names)
    assert names["cloud"].shape == names["probability"].shape == (4, 5)


# --- the other pages --------------------------------------------------------------------------------------------------

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """What links can end in to reach a heading of the page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            target, _, anchor = link.partition("#")
            place = (page.parent / target).resolve() if target else page
            assert place.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(place), f"{page.name}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    assert {page.name for page in PAGES if page.parent.name == "docs"} == set(re.findall(r"\(docs/(\w+\.md)", README))


def what_the_code_says() -> str:
    """All strings of the scripts and the package, and the shell scripts whole."""
    texts = [file.read_text(encoding="utf-8") for file in ROOT.glob("*.sh")]
    for file in [*FILES, *(ROOT / "cloudsom").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_troubleshooting_quotes_messages_that_there_are() -> None:
    said = what_the_code_says()
    rows = re.findall(
        r"^\| (`.*?) \|", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 30
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    parts = [part.strip(" ;:,'") for message in quoted for part in message.split("...")]
    assert not [part for part in parts if part not in said]
