"""The kill loop, in short; the long one is `python -m campaigns.kill_loop`."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_scripts_stopped_at_random_moments_lose_nothing() -> None:
    scripts = ["SOM_training.py", "create_cloudmasks.py", "evaluation_metrics.py"]
    command = [sys.executable, "-m", "campaigns.kill_loop", "--times", "1", "--script", *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert {row[0] for row in rows} == set(scripts) and all(row[-1] == "0" for row in rows)
    assert sum(int(row[-3]) for row in rows) > 1, "some of the nine stops hit a script at work"
