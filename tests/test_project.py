"""What a public project has: licence, citation, versions, packaging, hooks; each says what the others say."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml
from cffconvert import Citation
from conftest import ROOT
from packaging.requirements import Requirement

import cloudsom

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(*names: str) -> dict[str, Requirement]:
    """The packages of some requirements files, by name."""
    lines = [line.split(" #")[0].strip() for name in names for line in text_of(name).splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    return {requirement.name.lower(): requirement for requirement in found}


def test_the_citation_is_valid_and_names_the_paper() -> None:
    citation = Citation(text_of("CITATION.cff"))
    citation.validate()
    fields = yaml.safe_load(text_of("CITATION.cff"))
    assert fields["references"][0]["doi"] in text_of("README.md")
    assert fields["license"] == PROJECT["license"] == text_of("LICENSE").split()[0]
    assert PROJECT["authors"] == fields["authors"] and fields["authors"][0]["name"] in text_of("LICENSE")


def test_the_newest_release_in_the_changelog_is_the_version() -> None:
    headings = re.findall(r"^## (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    assert not headings[1:] or headings[1].startswith(f"[{cloudsom.__version__}]")


def locked() -> Iterator[tuple[str, str]]:
    """The packages and versions of the lock file; a package comes once for each set of Pythons."""
    for line in text_of("requirements.lock").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            (version,) = requirement.specifier
            assert version.operator == "==", line
            yield requirement.name.lower(), version.version


def test_the_lock_file_has_every_package_within_its_range() -> None:
    needed = requirements("requirements.txt", "requirements-cluster.txt", "requirements-test.txt")
    del needed["gdal"]  # its bindings must equal the system's library
    versions = list(locked())
    assert needed.keys() <= dict(versions).keys()
    for name, version in versions:
        assert name not in needed or needed[name].specifier.contains(version), f"{name} {version}"


def test_hooks_and_hosted_tests_run_what_ci_runs() -> None:
    (local,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    commands = {hook["id"]: hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]}
    assert commands.keys() == {"ruff", "format", "rooms", "mypy"}
    for name, command in commands.items():
        assert f'echo "== {name}"; {command}' in text_of("run_tests.sh")
    job = yaml.safe_load(text_of(".github/workflows/tests.yml"))["jobs"]["tests"]
    assert job["runs-on"].startswith("ubuntu") and job["steps"][-1] == {"run": "bash run_tests.sh"}
    supported = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name}
    assert {"3.11", "3.12", "3.13"} <= set(job["strategy"]["matrix"]["python"]) <= supported
    *_, pip = yaml.safe_load(text_of("environment.yml"))["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]} and "Not tried" in text_of("environment.yml")


# --- the package ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unpacked wheel, built from a copy of what `pip install .` reads."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-cluster.txt"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "cloudsom", source / "cloudsom", ignore=shutil.ignore_patterns("__pycache__"))
    words = "-m pip wheel -q --no-deps --no-build-isolation --disable-pip-version-check --wheel-dir"
    done = subprocess.run([sys.executable, *words.split(), out, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(out)
    return out


def metadata_of(wheel: Path) -> Message:
    (place,) = wheel.glob("*.dist-info/METADATA")
    return message_from_string(place.read_text(encoding="utf-8"))


def core(wheel: Path) -> dict[str, Requirement]:
    """What the wheel needs without any extra, by name."""
    found = [Requirement(line) for line in metadata_of(wheel).get_all("Requires-Dist", [])]
    return {requirement.name: requirement for requirement in found if requirement.marker is None}


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    ours = {f.relative_to(ROOT) for f in (ROOT / "cloudsom").rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert {f.relative_to(wheel) for f in (wheel / "cloudsom").rglob("*") if f.is_file()} == ours
    assert {Path("cloudsom/py.typed"), Path("cloudsom/ready_made/committee.npz")} < ours
    assert {f.name.partition("-")[2].rpartition(".")[2] for f in wheel.iterdir() if f.is_dir()} == {"", "dist-info"}
    metadata = metadata_of(wheel)
    assert metadata["Version"] == cloudsom.__version__ and metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == {"pipeline", "cluster"}
    reasoned = requirements("requirements.txt")
    assert {name: need.specifier for name, need in core(wheel).items()} == {
        name: reasoned[name].specifier for name in core(wheel)
    }


#: Arguments: the wheel, and the packages that it and they need. No other package is to be had, nor what Windows lacks.
BARE = """
import importlib.metadata, sys
allowed = set(sys.argv[2:])
for package, owners in importlib.metadata.packages_distributions().items():
    if not allowed & {owner.lower() for owner in owners}:
        sys.modules[package] = None
for module in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[module] = None
sys.path.insert(0, sys.argv[1])

import cloudsom, numpy
from cloudsom import cloud_mask
assert cloudsom.__file__.startswith(sys.argv[1]), cloudsom.__file__
forest = [.12, .095, .08, .05, .09, .23, .29, .3, .32, .1, .001, .16, .07]
cloud = [.48, .47, .46, .47, .48, .5, .51, .51, .52, .25, .006, .35, .27]
print(cloud_mask(numpy.array([[forest, cloud, [numpy.nan] * 13]]))[0].tolist())
"""


def test_arrays_are_masked_with_nothing_but_what_the_wheel_asks_for(wheel: Path) -> None:
    """As in a bare environment; pandas, GDAL and the modules of Unix are not there."""
    allowed = [*core(wheel), "llvmlite"]  # numba's
    done = subprocess.run([sys.executable, "-I", "-c", BARE, wheel, *allowed], capture_output=True, text=True)
    assert done.stdout == "[[False, True, False]]\n", done.stderr
