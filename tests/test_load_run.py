"""The load run, with few and small scenes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_reference, write_scene


@pytest.mark.long
def test_many_scenes_and_nothing_lost(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in trained.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    dn = np.random.default_rng(0).integers(500, 6000, (30, 40, 13)).astype(np.uint16)
    write_scene(model / "tiff" / "A.tif", dn)
    write_reference(model, "A", np.where(dn[..., 0] > 3000, 2, 5).astype(np.uint8))
    words = ["--model", model, "--work", tmp_path / "load", "--scenes", 4, "--alone", 2, "--side", 70]
    command = [sys.executable, "-m", "campaigns.load_run", *map(str, words)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "8 products of 4 scenes, none missing; 4 of 4 equal one worker's" in ran.stdout
    assert "all is finished" in ran.stdout
    assert len((tmp_path / "load" / "memory.csv").read_text().splitlines()) > 1
