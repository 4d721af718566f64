"""Stop every script at random moments, again and again: nothing half-made is ever seen, and a rerun ends the same.

    python -m campaigns.kill_loop --script create_cloudmasks.py --signal KILL TERM INT --times 50 --seed 0
    python -m campaigns.kill_loop                                   every script, ten times a signal

The scripts run in order on the offline demo's scenes (or on those in --data), once each, undisturbed: that gives the
inputs of every script, and the files it must end with. Then each is started on a fresh copy of its inputs and stopped,
half of the times at a random moment of its work, half of the times when some file has just appeared or gone;
alternately the whole process group, as Ctrl-C does, or the parent alone. Checked each time:

- what is visible is whole: every file has the bytes of the undisturbed run, every product its settings file;
- SIGTERM and Ctrl-C leave no partial file and no traceback, and exit status 130 (downloads keep theirs, to go on);
- no worker outlives its parent;
- the same command, given again, ends with the same files as the undisturbed run, byte for byte, and nothing beside.

Imports take most of a short script's time and are of no interest here, so scripts run in forks of this process, which
has imported the large packages; --fresh starts a new interpreter every time, as a user does.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import importlib
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "demo")]

from servers import step_6  # noqa: E402

SIGNALS = ("KILL", "TERM", "INT")
LONGEST = 300.0  # seconds; a script that takes longer hangs

#: Files of a folder by path from it, with their checksums.
Tree = dict[str, str]


@dataclass(frozen=True)
class Stage:
    """A script and the words it is run with; `locks` names the script that holds the lock, where it is another one."""

    script: str
    words: tuple[str, ...] = ()
    locks: str = ""
    prepare: Callable[[Path], None] | None = None
    pooled: bool = False  # takes WORKERS
    resumes: bool = False  # keeps what is half there, to go on with it

    @property
    def label(self) -> str:
        """The script, and the mode it is in."""
        return " ".join([self.script, *(word for word in ("--SUGGEST", "--IN_PLACE") if word in self.words)])

    @property
    def lock(self) -> str:
        return f".{self.locks or Path(self.script).name}.lock"


def stages(downloads: Sequence[str]) -> list[Stage]:
    """Every script that writes, in the order of a run; `downloads` are the words for the servers to download from."""
    spectra = ("--SPECTRA_CSVS", "spectra.csv")
    layers = ("--CLASS_MAPS", "--CONFIDENCE")
    figures = ["Creating_hit_rate_maps", "neuron_label_maps", "Creating_component_planes", "U_matrix_creation"]
    figures += ["Creating_scatterplots", "neuron_spectra", "sub_maps", "methodology_figure"]
    bare = ("--MASK_DIR", "bare")
    return [
        Stage("read_h5file.py", ("--H5_FILES", "spectra.h5", *spectra)),
        Stage("data_preprocessing.py", spectra),
        Stage("SOM_training.py", ("--N_ITER", "300000")),
        Stage("BMUs_detection.py"),
        Stage("labeling.py"),
        Stage("test_data_downloading.py", tuple(downloads), resumes=True),
        Stage("gdal_commands.sh", locks="safe_to_tiff.py", pooled=True),
        Stage("convert_image_to_csv.py", pooled=True),
        Stage("create_cloudmasks.py", layers, pooled=True),
        Stage("fine_tuning.py", ("--MIN_CLOUD_FOR_COPIES", "1"), pooled=True),  # sub-maps all the same
        Stage("fine_tuning.py", ("--SUGGEST",)),
        Stage("evaluation_metrics.py", pooled=True),
        *(Stage(f"visualization/{name}.py") for name in figures),
        Stage("visualization/colored_cloudmasks.py"),
        Stage("visualization/quicklooks.py"),
        Stage("visualization/add_georeference.py", bare, prepare=bare_masks),
        Stage("visualization/add_georeference.py", (*bare, "--IN_PLACE"), prepare=bare_masks),
        Stage("visualization/map_explorer.py", pooled=True),
        Stage("visualization/report.py"),
    ]


def bare_masks(folder: Path) -> None:
    """Masks without georeference, as if from elsewhere."""
    from cloudsom.images.rasters import Grid, read_mask, write_mask

    (folder / "bare").mkdir(exist_ok=True)
    for place in sorted((folder / "masks").glob("*_mask.tif")):
        mask, grid = read_mask(place)
        (folder / "bare" / place.name).unlink(missing_ok=True)
        write_mask(folder / "bare" / place.name, mask, Grid(grid.width, grid.height))


# --- one run ----------------------------------------------------------------------------------------------------------


@dataclass
class ScriptRun:
    """A script at work in a session of its own, all it says going to a file."""

    pid: int
    said: Path
    status: int | None = None
    hangs: bool = False

    def poll(self) -> int | None:
        """The exit status once it has ended, negative for a signal."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self, longest: float = LONGEST) -> int:
        """Wait for its end; a run that hangs is killed, with its workers, and fails."""
        end = time.monotonic() + longest
        while self.poll() is None:
            if time.monotonic() > end and not self.hangs:
                self.hangs = True
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.002)
        assert self.status is not None
        return self.status

    def members(self) -> list[int]:
        """Processes of its group that are still alive (Linux)."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.pid and state not in "ZX":
                    found.append(int(stat.parent.name))
        return found


def start(stage: Stage, folder: Path, workers: int, fresh: bool) -> ScriptRun:
    words = ["--DATA_DIR", str(folder), *stage.words] + ["--WORKERS", str(workers)] * stage.pooled
    said = folder.with_name(f"{folder.name}.said")
    if fresh or stage.script.endswith(".sh") or stage.resumes:
        command = ["bash"] if stage.script.endswith(".sh") else [sys.executable]
        env = os.environ | {"PYTHONPATH": "", "VIRTUAL_ENV": sys.prefix, "NO_PROXY": "*"}
        with open(said, "wb") as out:
            process = subprocess.Popen(
                [*command, str(ROOT / stage.script), *words], stdout=out, stderr=out, env=env, start_new_session=True
            )
        process.returncode = 0  # waited for by ScriptRun
        return ScriptRun(process.pid, said)
    importlib.import_module("preloaded")  # here, for the forks to have it
    process_here = multiprocessing.get_context("fork").Process(target=become, args=(stage.script, words, said))
    process_here.start()
    assert process_here.pid is not None
    return ScriptRun(process_here.pid, said)


def become(script: str, words: list[str], said: Path) -> None:
    """Turn this fork into a script."""
    os.setsid()
    with open(said, "wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout, sys.stderr = (open(i, "w", buffering=1, closefd=False) for i in (1, 2))  # noqa: SIM115
    faulthandler.enable(sys.stderr)  # a crash says where
    place = ROOT / script
    sys.argv, sys.path[0] = [str(place), *words], str(place.parent)
    runpy.run_path(str(place), run_name="__main__")


def tree(folder: Path) -> Tree:
    """The files of a folder, locks left out."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith(".lock")]
    return {p.relative_to(folder).as_posix(): checksum(p) for p in files}


def checksum(place: Path) -> str:
    """Of a file's bytes. When a downloaded file came, which its record says, is not among what must be the same."""
    content = place.read_bytes()
    content = re.sub(rb'"mtime_ns": \d+', b"", content) if place.suffix == ".json" else content
    return hashlib.sha256(content).hexdigest()


def names(folder: Path) -> set[str]:
    """The files of a folder that is being written in."""
    return {os.path.join(place, name) for place, _, files in os.walk(folder) for name in files}


def is_locked(folder: Path, lock: str) -> bool:
    """Whether a script has begun: its lock is where it writes."""
    return any(os.path.basename(name) == lock for name in names(folder))


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


# --- a script's trial -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A script, the folder it starts from, and what an undisturbed run made of it in how long and how many changes."""

    stage: Stage
    inputs: Path
    before: Tree
    after: Tree
    seconds: float
    changes: int

    @property
    def made(self) -> set[str]:
        return {name for name, found in self.after.items() if self.before.get(name) != found}


@dataclass
class Count:
    """What came of a script's stops by one signal; `under_way` and `writing` of them hit it at work, and in a write."""

    under_way: int = 0
    writing: int = 0
    faults: list[str] = field(default_factory=list)


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder as hard links, no locks with it: products are only ever replaced, never changed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link, ignore=shutil.ignore_patterns("*.lock"))
    return target


def watched(run: ScriptRun, folder: Path, lock: str, moment: Callable[[float, int], bool]) -> tuple[float, int]:
    """Watch a run until it ends or `moment(seconds since its lock, changes of the folder since)` has come."""
    while not is_locked(folder, lock) and run.poll() is None:
        time.sleep(0.001)
    began, seen, changes = time.monotonic(), names(folder), 0
    while run.poll() is None and not moment(time.monotonic() - began, changes):
        now = names(folder)
        changes += now != seen
        seen = now
        time.sleep(0.0005)
    return time.monotonic() - began, changes


def undisturbed(stage: Stage, folder: Path, inputs: Path, fresh: bool) -> Trial:
    """Run a script to its end in `folder`, whose state before goes to `inputs`."""
    if stage.prepare:
        stage.prepare(folder)
    before = tree(copied(folder, inputs))
    for left in folder.rglob(stage.lock):
        left.unlink()
    run = start(stage, folder, 1, fresh)
    seconds, changes = watched(run, folder, stage.lock, lambda seconds, changes: False)
    if run.wait():
        raise SystemExit(f"{stage.script} fails undisturbed: {run.said.read_text()}")
    return Trial(stage, inputs, before, tree(folder), seconds, changes)


def stop_once(trial: Trial, signum: int, whole_group: bool, luck: random.Random, fresh: bool, count: Count) -> None:
    """Start a script, stop it at a random moment, look at what it left, and run it again; faults go to `count`."""
    stage, folder = trial.stage, copied(trial.inputs, trial.inputs.with_name("try"))
    workers = luck.choice([1, 1, 2])
    run = start(stage, folder, workers, fresh)
    wait, change, pause = luck.uniform(0, trial.seconds), luck.randint(1, max(1, trial.changes)), luck.uniform(0, 0.004)
    if luck.random() < 0.5:
        watched(run, folder, stage.lock, lambda seconds, changes: seconds >= wait)
    else:
        watched(run, folder, stage.lock, lambda seconds, changes: changes >= change)
        time.sleep(pause)
    writing = any(".partial" in name for name in names(folder))
    if run.poll() is None:
        (os.killpg if whole_group else os.kill)(run.pid, signum)
    status = run.wait()
    stopped = status != 0
    count.under_way += stopped
    count.writing += stopped and writing
    faults = left_alive(run) + faults_left(trial, folder, signum, status, run.said.read_text(errors="replace"))
    again = start(stage, folder, workers, fresh)
    if again.wait():
        faults.append(f"the rerun fails: {again.said.read_text()[-300:]}")
    faults += differences(trial.after, tree(folder))
    how = f"{'group' if whole_group else 'parent'}, {workers} workers"
    count.faults += [f"{stage.script} {signal.Signals(signum).name} ({how}): {fault}" for fault in faults]


def left_alive(run: ScriptRun) -> list[str]:
    """A fault if processes of a run are still there when it has ended; they get a moment, as the system is busy."""
    end = time.monotonic() + 10
    while run.members() and time.monotonic() < end:
        time.sleep(0.005)
    if not run.members():
        return []
    os.killpg(run.pid, signal.SIGKILL)
    return ["workers outlived their parent"]


def faults_left(trial: Trial, folder: Path, signum: int, status: int, said: str) -> list[str]:
    """What is wrong with the state of a folder in which a script was just stopped."""
    now, faults = tree(folder), []
    for name, found in now.items():
        if not is_hidden(name) and found not in (trial.before.get(name), trial.after.get(name)):
            faults.append(f"{name} is not whole" if name in trial.after else f"{name} has no business there")
    finished = {name for name in trial.made if now.get(name) == trial.after[name]}
    unfinished = trial.made - finished
    for name in finished:
        if f"{name}.json" in unfinished and not trial.stage.resumes:  # an archive not unpacked yet
            faults.append(f"{name} has no settings file")
        product = name.removesuffix(".json")
        if product in unfinished:
            here, beginning = os.path.dirname(product), f".{os.path.basename(product)}."
            waiting = (n for n in now if os.path.dirname(n) == here and os.path.basename(n).startswith(beginning))
            if trial.after[product] not in (now[n] for n in waiting):
                faults.append(f"{name} stands alone")
    if signum == signal.SIGKILL or status == 0:
        return faults
    if status != 130 and not (status == -signum and not differences(trial.after, now)):
        faults.append(f"exit status {status}: {said[-1500:]}")
    if "Traceback" in said:
        faults.append(f"a traceback: {said[-1500:]}")
    if not trial.stage.resumes:
        faults += [f"{name} is left" for name in now if is_hidden(name) and name not in trial.before]
    return faults


def differences(expected: Tree, found: Tree) -> list[str]:
    """One line if two folders differ."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is there too" for name in found.keys() - expected.keys()]
    lines += [f"{name} is different" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return ["; ".join(sorted(lines))] if lines else []


# --- all of them ------------------------------------------------------------------------------------------------------


def make_scenes(folder: Path) -> Path:
    """The offline demo's made scenes: spectra.h5, products and references."""
    command = [sys.executable, str(ROOT / "demo" / "make_sample_data.py"), "--SYNTHETIC", "--DATA_DIR", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def trials(work: Path, scenes: Path, wanted: Sequence[str], fresh: bool) -> Iterator[Trial]:
    """Run the scripts in order in `work`, and yield the trials of those wanted (none named: of all)."""
    data = work / "data"
    data.mkdir(parents=True)
    shutil.copy(scenes / "spectra.h5", data / "spectra.h5")
    with step_6.served(scenes) as (bucket, words):
        bucket.delay, bucket.block = 0.001, 4096  # else all is there in a moment
        chain = stages([*words, "--BACKOFF", "0.02", "--BACKOFF_MAX", "0.1"])
        unknown = set(wanted) - {stage.script for stage in chain}
        if unknown:
            raise SystemExit(f"{unknown.pop()} is none of {', '.join(stage.script for stage in chain)}")
        last = max(i for i, stage in enumerate(chain) if not wanted or stage.script in wanted)
        for stage in chain[: last + 1]:
            trial = undisturbed(stage, data, work / "inputs", fresh)
            if not wanted or stage.script in wanted:
                yield trial


def try_script(trial: Trial, name: str, times: int, luck: random.Random, fresh: bool) -> Count:
    """Stop a script `times` times by a signal, and print what came of it."""
    count = Count()
    for i in range(times):
        stop_once(trial, signal.Signals[f"SIG{name}"], i % 2 == 0, luck, fresh, count)
    numbers = f"{times:>5} {count.under_way:>9} {count.writing:>10} {len(count.faults):>6}"
    print(f"{trial.stage.label:<45} {name:<6} {numbers}", flush=True)
    print("".join(f"    {fault}\n" for fault in count.faults), end="", file=sys.stderr, flush=True)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m campaigns.kill_loop", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--script", nargs="*", default=[], help="scripts to stop; none: all")
    parser.add_argument("--signal", nargs="*", default=SIGNALS, choices=SIGNALS)
    parser.add_argument("--times", type=int, default=10, help="stops of each script by each signal")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data", type=Path, help="scenes as demo/make_sample_data.py leaves them; none: made-up ones")
    parser.add_argument("--fresh", action="store_true", help="start a new interpreter every time")
    given = parser.parse_args()
    faults: list[str] = []
    print(f"{'script':<45} {'signal':<6} {'times':>5} {'under way':>9} {'in a write':>10} {'faults':>6}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scenes = given.data or make_scenes(work / "scenes")
        for trial in trials(work, scenes, given.script, given.fresh):
            luck = random.Random(f"{given.seed} {trial.stage.script} {trial.stage.words}")
            for name in given.signal:
                faults += try_script(trial, name, given.times, luck, given.fresh).faults
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
