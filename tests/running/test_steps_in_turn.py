"""Settings handed to the steps that have them, and steps run in turn."""

import sys
from pathlib import Path

import pytest
from conftest import ROOT

from cloudsom.errors import UserError
from cloudsom.running.steps import Step, distribute, run_steps, span
from visualization import all_figures, reproduction


def test_each_step_gets_the_settings_it_has() -> None:
    words = ["--N_ITER", "100", "--WORKERS=1", "--SPECTRA_CSVS", "a.csv", "b.csv", "--RESAMPLING", "fast"]
    scripts = ["read_h5file.py", "SOM_training.py", "gdal_commands.sh"]
    assert distribute(words, scripts) == {
        "read_h5file.py": ["--SPECTRA_CSVS", "a.csv", "b.csv"],
        "SOM_training.py": ["--N_ITER", "100"],
        "gdal_commands.sh": ["--WORKERS=1", "--RESAMPLING", "fast"],
    }
    with pytest.raises(UserError, match=r"'--N_ITERS' is not a setting of any step; the nearest setting is --N_ITER"):
        distribute(["--N_ITERS", "100"], scripts)
    with pytest.raises(UserError, match="'fast' is no setting"):
        distribute(["fast"], scripts)


def test_a_step_that_fails_ends_the_run_and_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = [Step("gdal_commands.sh", ("--help",), 4000), Step("labeling.py", (), 60), Step("SOM_training.py")]
    with pytest.raises(UserError, match=r"step 2 of 3, labeling.py, ended with status 1 .*the same command goes on"):
        run_steps(str(tmp_path), steps)
    said = capfd.readouterr()
    assert "\n== 1 of 3, 0 s so far, at most about 68 min left: gdal_commands.sh --DATA_DIR=" in said.out
    assert "labeling.py: error: " in said.err and "SOM_training" not in said.out
    assert [span(s) for s in (40, 100, 7200)] == ["40 s", "2 min", "2.0 h"]


def test_all_figures_are_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    there = {place.stem for place in (ROOT / "visualization").glob("[!_]*.py")}
    assert set(all_figures.SCRIPTS) == there - {"all_figures", "add_georeference", "reproduction"}
    assert all_figures.main(["--FORMATZ", "png"]) == 2
    assert "'--FORMATZ' is not a setting of any step; the nearest setting is --FORMATS" in capsys.readouterr().err


def test_a_figure_without_inputs_does_not_stop_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_figures, "SCRIPTS", {"sub_maps": (), "neuron_label_maps": ()})
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert all_figures.main([f"--DATA_DIR={tmp_path}"]) == 1
    said = capfd.readouterr().err
    assert "sub_maps.py: error: " in said and said.endswith("2 failed (see above): sub_maps.py neuron_label_maps.py\n")


def test_the_page_on_the_paper_names_every_figure_that_is_reproduced() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for item in (*reproduction.PAPERS, *reproduction.BEYOND):
        assert all(script in text for script in item.script.split(", ")), item.shows
