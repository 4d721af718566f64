"""What scripts print."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT

from cloudsom.running.streams import Lines


def test_lines_come_out_whole_printable_and_in_any_encoding(tmp_path: Path) -> None:
    with open(tmp_path / "said", "wb") as file:
        out = Lines(file.fileno(), "ascii")
        print("a \x1b[2J\x9b name\r", "dé\udce9", sep="\n", file=out)
        print("half a line", end="", file=out)
        assert b"half" not in (tmp_path / "said").read_bytes()
        out.flush()
    assert (tmp_path / "said").read_bytes() == b"a \\x1b[2J\\x9b name\\r\nd\\xe9\\udce9\nhalf a line"


def test_lines_of_threads_do_not_run_into_each_other(tmp_path: Path) -> None:
    with open(tmp_path / "said", "wb") as file:
        out = Lines(file.fileno(), "utf-8")

        def say(word: str) -> None:
            for _ in range(500):
                print(word, word, sep="-", file=out)

        threads = [threading.Thread(target=say, args=(word * 20,)) for word in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "said").read_text().splitlines()
    assert len(lines) == 2000 and set(lines) == {f"{w * 20}-{w * 20}" for w in "abcd"}


def run_redirected(folder: Path, main: str, where: str) -> subprocess.CompletedProcess[str]:
    """Run a script of one statement in `folder`, its streams as the shell's `where` says."""
    script = folder / "step.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom cloudsom.running.settings import run\n"
        "# --- constants\nDATA_DIR = 'data'  # where\n# --- end of constants\n"
        f"def main():\n    {main}\nrun(main, globals())\n"
    )
    command = ["sh", "-c", f"{sys.executable} {script} {where}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(tmp_path: Path, closed: str) -> None:
    main = "print('x'); print('y', file=sys.stderr); open('written', 'w').write('whole')"
    done = run_redirected(tmp_path, main, closed)
    assert done.returncode == 0 and "Traceback" not in done.stderr + done.stdout
    assert (tmp_path / "written").read_text() == "whole"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("script", ["labeling.py", "create_cloudmasks.py", "visualization/all_figures.py"])
def test_help_that_cannot_be_printed_ends_in_one_line(script: str) -> None:
    """The help of the second one is longer than a buffer."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(ROOT / script), "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    said = f"{Path(script).name}: error: standard output: No space left on device; free some space"
    assert done.returncode == 1 and done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("where", [">/dev/full", "2>/dev/full", "2>/dev/full >&2"])
def test_a_run_whose_output_is_full_ends_without_a_traceback(tmp_path: Path, where: str) -> None:
    done = run_redirected(tmp_path, "print('y', file=sys.stderr); print('x', end='')", where)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "ignored" not in done.stderr
