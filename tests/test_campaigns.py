"""The campaigns of settings and tables, in short; the long ones are `python -m campaigns.settings` and `.tables`."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from campaigns.tables import campaign


def test_nonsense_in_settings_ends_in_a_result_or_one_line(trained: Path) -> None:
    words = ["--inputs", str(trained), "--script", "labeling.py", "data_preprocessing.py", "--times", "3"]
    command = [sys.executable, "-m", "campaigns.settings", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-2:] for line in done.stdout.splitlines()[1:]] == [["3", "0"]] * 2


def test_tables_in_other_dialects_are_read_as_what_they_are_or_refused() -> None:
    told: list[str] = []
    counts = campaign(seed=0, first=0, inputs=100, tell=told.append)
    assert told == [] and counts == {"right": 700}
