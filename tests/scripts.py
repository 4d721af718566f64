"""Scripts run as a user does, but for the second that Python and the large packages take to start.

They run in forks of one process that has imported those packages, and nothing of a test. The demo's tests and those of
stopped scripts start Python anew, as a user does.
"""

import atexit
import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SECONDS = 600  # a script that takes longer hangs


@functools.cache
def forks() -> "multiprocessing.context.ForkServerContext":
    """The process that is forked, once it runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{ROOT / 'tests'}:{ROOT}"  # where it finds what it imports beforehand
    try:
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONPATH"] = before
    return context


def run_script(script: str, *words: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a script of the checkout with words for its command line; what it printed and its exit status."""
    command = [str(ROOT / script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": ""}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stdout", Path(folder) / "stderr"
        process = forks().Process(target=become, args=(command, environment, cwd or Path.cwd(), *said))
        process.start()
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{command} hangs")
        assert process.exitcode is not None
        text = [place.read_text(encoding="utf-8", errors="replace") if place.exists() else "" for place in said]
    return subprocess.CompletedProcess(command, process.exitcode, *text)


def become(command: list[str], environment: dict[str, str], cwd: Path, stdout: Path, stderr: Path) -> None:
    """Turn this process into a script."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, place in ((0, Path(os.devnull)), (1, stdout), (2, stderr)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(place, flags), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    status = 1
    try:
        runpy.run_path(command[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def step_7(data_dir: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`bash gdal_commands.sh` in a data folder."""
    return subprocess.run(
        ["bash", str(ROOT / "gdal_commands.sh"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"DATA_DIR": str(data_dir)} | variables,
    )
