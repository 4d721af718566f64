"""Every constant of every script against nonsense of its kind: each run gives a result or one line, and harms nothing.

    python -m campaigns.settings --times 20 --seed 0
    python -m campaigns.settings --script labeling.py --times 100 --first 100     goes on behind the first hundred

The scripts run once each, undisturbed, as for `campaigns.kill_loop`: that gives the inputs of every script. Then each
runs on fresh copies of its inputs with one to three constants set to nonsense: numbers beyond all bounds, words of
other kinds, names of folders, links, pipes and files that belong to someone else. Checked each time:

- exit status 0; or 1 or 2, and the last line is the script's own error; never a traceback, never a minute of silence;
- nothing printed steers the terminal;
- every file that the script does not write in an undisturbed run has its bytes, unless named to it with OVERWRITE.

All happens in a folder of its own, two levels deep, from where relative names lead nowhere else; names of the system's
own places are given to other users than root only. The same seed gives the same settings, by script and number.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from campaigns.kill_loop import ROOT, Stage, Tree, copied, make_scenes, stages, start, tree, trials
from cloudsom.running.settings import Constant, read_constants

LONGEST = 60.0  # seconds a run with nonsense may take
LEFT_ALONE = ("DOWNLOAD", "WORKERS")  # constants; one asks a server of the wide world, one starts as many processes

NUMBERS = ["0", "-1", "1e300", "-1e300", "1e-300", "999", "1e12", "nan", "inf", "1_000", "0x10", "", "seven", "1,5"]
TEXTS = ["", " ", "-", "--help", "None", "nonsense", "ünï codé.csv", "a\nb", "\x1b[2Jx", "x" * 300, "%s{0}", "0,0"]
NAMES = [".", "..", "~nosuch/x", "~nosuch", "nosuch/x", "a_link", "a_loop", "a_pipe", "a_folder", "a_text.csv"]
NAMES += ["http://[bad", "file:///x", "s3://", "memory://x", "zip://x::y", "http://a:b@127.0.0.1:9/", "tcp://[::1]:9"]
SYSTEM = ["/dev/null", "/dev/zero", "/proc/self/mem", "/", "/etc/passwd"]


def nonsense(draw: random.Random, constant: Constant, files: Sequence[str]) -> list[str]:
    """Words for a constant on the command line, its name first; `files` are those of the data folder."""
    texts = [*TEXTS, *NAMES, *files, *files] + (SYSTEM if os.geteuid() else [])
    pool = NUMBERS if any(word in constant.kind for word in ("int", "float")) else texts
    pool = ["True", "False", "maybe", "2"] if constant.kind == "bool" else pool
    pool = [*constant.choices, *TEXTS] if constant.choices else pool
    if constant.interval:
        least = float(constant.interval[1:].partition(",")[0])
        pool = [*pool, str(least), f"{least - 1:g}"]
    if not constant.kind.startswith("list"):
        return [f"--{constant.name}={draw.choice(pool)}"]
    words = [draw.choice(pool) for _ in range(draw.randint(0, 3))]
    return [f"--{constant.name}", *(word for word in words if not word.startswith("-"))]


def constants_of(stage: Stage) -> list[Constant]:
    place = ROOT / (stage.script if stage.script.endswith(".py") else "cloudsom/images/safe_to_tiff.py")
    return [c for c in read_constants(place.read_text(encoding="utf-8")) if c.name not in LEFT_ALONE]


def written_in(inputs: Path, stage: Stage) -> set[str]:
    """The files of a data folder that a script wrote there, if its outputs have the names they have by default."""
    outputs = tuple(c.default for c in constants_of(stage) if c.group == "outputs" and isinstance(c.default, str))
    return {name for name in tree(inputs) if name.startswith(outputs)}


def words_of(stage: Stage, seed: int, number: int, files: Sequence[str]) -> list[str]:
    draw, constants = random.Random(f"{seed}/{stage.label}/{number}"), constants_of(stage)
    chosen = draw.sample(constants, draw.choice([1, 1, 2, 3]))
    return [word for constant in chosen for word in nonsense(draw, constant, files)]


def sandbox(inputs: Path, folder: Path) -> Path:
    """A copy of a data folder, with traps in it; the present folder is then the one it is in."""
    data = copied(inputs, folder / "inner" / "data")
    os.chdir(data.parent)
    (data / "a_folder").mkdir()
    (data / "a_text.csv").write_text("a;b\n1,5;x\n", encoding="utf-8")
    (data / "a_link").symlink_to("a_text.csv")
    (data / "a_loop").symlink_to("a_loop")
    os.mkfifo(data / "a_pipe")
    return data


def faults_of(stage: Stage, words: list[str], inputs: Path, folder: Path, written: set[str]) -> list[str]:
    """Run a script with these words; what was wrong with that, each in a line."""
    data = sandbox(inputs, folder)
    before = tree(data)
    if "--OVERWRITE=True" in words:  # a file without a settings file may be replaced then
        written = written | {word.rpartition("=")[2] for word in words}
    run = start(replace(stage, words=(*stage.words, *words)), data, 1, fresh=False)
    status, said = run.wait(LONGEST), run.said.read_text(encoding="utf-8", errors="replace")
    if run.hangs:
        return [f"takes more than {LONGEST:.0f} s"]
    return faults_said(stage, status, said) + harm(before, tree(data), written)


def faults_said(stage: Stage, status: int, said: str) -> list[str]:
    """What is wrong with a run's exit status and all it said."""
    lines = said.splitlines()
    name = "safe_to_tiff.py" if stage.script.endswith(".sh") else Path(stage.script).name
    if "Traceback" in said or status not in (0, 1, 2):
        return [f"status {status}: {' | '.join(lines[-4:])}"]
    if status and not (lines and lines[-1].startswith((f"{name}: error: ", "gdal_commands.sh: error: "))):
        return [f"status {status} without a line that says why: {lines[-1:]}"]
    return ["what it says steers the terminal"] if any(ord(c) < 32 and c not in "\n\t" for c in said) else []


def harm(before: Tree, after: Tree, written: set[str]) -> list[str]:
    """Files that another content or nothing took the place of, beside those the script writes anyway."""
    lost = [name for name in before if name not in written and after.get(name) != before[name]]
    return [f"{name} is lost" for name in lost]


def try_script(stage: Stage, inputs: Path, written: set[str], given: Any, work: Path) -> int:
    """Run a script with all its nonsense, and print a line; how many faults there were."""
    files = sorted(name for name in tree(inputs) if not name.endswith(".json"))[:40]
    faults = []
    for number in range(given.first, given.first + given.times):
        words = words_of(stage, given.seed, number, files)
        found = faults_of(stage, words, inputs, work / "outer", written)
        faults += [f"    {stage.label} {number} {' '.join(map(repr, words))}: {fault}\n" for fault in found]
    os.chdir(work)
    print(f"{stage.label:<45} {given.times:>5} {len(faults):>6}", flush=True)
    print("".join(faults), end="", file=sys.stderr, flush=True)
    return len(faults)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m campaigns.settings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--script", nargs="*", default=[], help="scripts to run; none: all")
    parser.add_argument("--times", type=int, default=20, help="runs of each script")
    parser.add_argument("--seed", type=int, default=0, help="of the settings")
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--inputs", type=Path, help="a data folder that all scripts take their inputs from")
    given: Any = parser.parse_args()
    os.environ["PYTHONPATH"] = ""
    print(f"{'script':<45} {'times':>5} {'faults':>6}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if given.inputs:
            chosen = [stage for stage in stages([]) if stage.script in given.script]
            known = given.inputs.resolve()
            return int(sum(try_script(s, known, written_in(known, s), given, work) for s in chosen) > 0)
        found = trials(work, make_scenes(work / "scenes"), given.script, False)
        return int(sum(try_script(t.stage, t.inputs, t.made, given, work) for t in found) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
