"""Several scripts one after the other: which settings go to which, where the run is, and how long it may still take."""

import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudsom.errors import UserError
from cloudsom.running.settings import nearest, read_constants

ROOT = Path(__file__).resolve().parents[2]

#: Where the constants are of scripts that have none of their own.
CONSTANTS_IN = {
    "gdal_commands.sh": "cloudsom/images/safe_to_tiff.py",
    "visualization/all_figures.py": "visualization/[!_]*.py",
}


@dataclass(frozen=True)
class Step:
    """A script of the checkout (`visualization/report.py`), words for its command line, and about how long it takes."""

    script: str
    words: tuple[str, ...] = ()
    seconds: float = 5.0


def distribute(words: Sequence[str], scripts: Sequence[str]) -> dict[str, list[str]]:
    """Words of one command line (--NAME value...) by script: each gets those that are settings of its own.

    UserError for a setting that none of them has; the nearest name is told.
    """
    names = {script: names_of(script) for script in dict.fromkeys(scripts)}
    known = sorted(set().union(*names.values()))
    found: dict[str, list[str]] = {script: [] for script in names}
    takers: list[str] = []
    for word in words:
        if word.startswith("--"):
            name = word[2:].split("=")[0]
            takers = [script for script in names if name in names[script]]
            if not takers:
                raise UserError(f"{word!r} is not a setting of any step{nearest(name, known)}")
        elif not takers:
            raise UserError(f"{word!r} is no setting; settings are written --NAME value")
        for script in takers:
            found[script].append(word)
    return found


def split_words(words: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """A command line in two: settings whose names are known (--products is taken for --PRODUCTS), and the others."""
    own: list[str] = []
    others: list[str] = []
    taker = own
    for word in words:
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            is_own = name[2:].upper() in known or name in ("-h", "--help")
            taker = own if is_own else others
            word = f"{name.upper() if is_own and name[2:].upper() in known else name}{equals}{value}"
        taker.append(word)
    return own, others


def names_of(script: str) -> set[str]:
    """The names of a script's constants."""
    sources = [source.read_text(encoding="utf-8") for source in ROOT.glob(CONSTANTS_IN.get(script, script))]
    return {constant.name for source in sources for constant in read_constants(source)}


def run_steps(data_dir: str, steps: Sequence[Step], words: Sequence[str] = ()) -> None:
    """Run steps in turn, each with those of `words` that are settings of its own; say before each where the run is.

    Raises UserError where one fails: it has said why.
    """
    own, began = distribute(words, [step.script for step in steps]), time.monotonic()
    for i, step in enumerate(steps):
        left = sum(later.seconds for later in steps[i:])
        said = f"{i + 1} of {len(steps)}, {span(time.monotonic() - began)} so far, at most about {span(left)} left"
        words_of_step = [f"--DATA_DIR={data_dir}", *step.words, *own[step.script]]
        print(f"\n== {said}: {' '.join([step.script, *words_of_step])}", flush=True)
        program = "bash" if step.script.endswith(".sh") else sys.executable
        if status := wait_for([program, str(ROOT / step.script), *words_of_step]):
            raise UserError(
                f"step {i + 1} of {len(steps)}, {step.script}, ended with status {status} (see above); "
                "the same command goes on there"
            )


def wait_for(command: Sequence[str]) -> int:
    """Run a command to its end; its exit status. A request to stop is passed on, and its end waited for."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def span(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
