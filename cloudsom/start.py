"""Scripts run as printed: with the project's `.venv`, where the Python that was typed lacks their packages.

Every script imports this module before all others. If one of those fails, the script starts again with the environment
that setup_environment.sh has made, or ends with one line that says what to type. Standard library only, and nothing
that an older Python could not read.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)

#: Where scripts are. A program that imports one of them fails in its own way.
FOLDERS = (ROOT, ROOT / "visualization", ROOT / "demo", ROOT / "paper", ROOT / "cloudsom" / "images")


def start_again(fault: str) -> None:
    """Become the same command in the project's environment; without it, or in it, say the fault and its remedy."""
    python = ENVIRONMENT / "bin" / "python"
    if python.exists() and sys.executable != str(python):
        os.execv(python, [str(python), *getattr(sys, "orig_argv", [sys.executable, *sys.argv])[1:]])
    set_up = shlex.quote(os.path.relpath(ROOT / "setup_environment.sh"))
    print(f"{Path(sys.argv[0]).name}: error: {fault}; set up what it needs, once: bash {set_up}", file=sys.stderr)


def _unless_missing(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    """What Python does about an exception that nothing has caught, before it ends with status 1."""
    if isinstance(problem, ModuleNotFoundError):
        start_again(f"{sys.executable} has no package {problem.name}")
    else:
        sys.__excepthook__(kind, problem, trace)


def _stop(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C does until the script has begun (`cloudsom.running.stops`): nothing is to be cleared up yet."""
    try:
        os.write(2, f"{Path(sys.argv[0]).name}: stopped\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(130)


if Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent in FOLDERS:
    if sys.version_info < OLDEST_PYTHON:
        start_again(f"{sys.executable} is older than Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}")
        raise SystemExit(1)
    sys.excepthook = _unless_missing
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants none of it
        signal.signal(signal.SIGINT, _stop)
