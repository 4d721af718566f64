"""The campaign itself: a supervisor, and a worker process that reads one damaged file after the other.

The worker reports after each input. One that is silent for too long, dies or grows beyond its memory is ended, its
input is kept, and another worker goes on behind it. Inputs depend on target, seed and index alone.
"""

import multiprocessing
import os
import random
import re
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.samples import memory, reset_peak
from campaigns.fuzz.mutations import mutate
from cloudsom.errors import UserError

RESULT, CLEAR_ERROR, FAILURE = "result", "clear error", "failure"

READY = "ready"  # what a worker says when its seeds are made and read
LEFT_BEHIND = "present"  # the file a worker keeps its present input in
ENDED = ("crash", "explosion", "hang")  # failures that a worker does not survive
START_SECONDS = 180.0  # a worker may take to import, make its seeds and compile
KEPT_OF_EACH = 3  # inputs that are kept of one kind of failure
MINIMISING_SECONDS = 4.0  # how long to try to make a failing input smaller


class Case(NamedTuple):
    """A file to read: which of the target's kinds it is to be read as, and its bytes."""

    kind: str
    content: bytes


Seeds = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True)
class Target:
    """A family of readers.

    kinds   by kind, the ending of a file's name, and what reads it; raises UserError for what it refuses
    seeds   makes good files of each kind; the folder is its own
    tokens  words of the formats
    build   makes a valid file with wrong contents out of good ones, if the target has such a thing
    names   words that stand for the file in an error, beside its own name
    """

    name: str
    kinds: Mapping[str, tuple[str, Callable[[Path], object]]]
    seeds: Callable[[Path], Seeds]
    tokens: Sequence[bytes]
    build: Callable[[random.Random, Seeds], Case] | None = None
    names: Sequence[str] = ()


class Verdict(NamedTuple):
    """What became of an input: RESULT, CLEAR_ERROR or FAILURE; which failure, in short and at length; what to keep."""

    what: str
    signature: str = ""
    detail: str = ""
    case: Case | None = None


# --- one input --------------------------------------------------------------------------------------------------------


def case_of(target: Target, seeds: Seeds, seed: int, index: int) -> Case:
    """The input number `index` of a campaign."""
    draw = random.Random(f"{seed}/{target.name}/{index}")
    if target.build and draw.random() < 0.4:
        case = target.build(draw, seeds)
        if draw.random() < 0.6:
            return case
    else:
        kind = draw.choice(sorted(seeds))
        case = Case(kind, draw.choice(seeds[kind]))
    other = draw.choice(seeds[draw.choice(sorted(seeds))])
    return Case(case.kind, mutate(draw, case.content, other, target.tokens))


def attempt(target: Target, case: Case, folder: Path) -> Verdict:
    """Read one input in an empty folder of its own under `folder`."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    suffix, read = target.kinds[case.kind]
    path = place / f"{case.kind}-input{suffix}"
    path.write_bytes(case.content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning says that something was let through that should not have been
            warnings.simplefilter("ignore", DeprecationWarning)  # but not one about the libraries themselves
            read(path)
    except UserError as problem:
        return _judge(str(problem), [f"{case.kind}-input", *target.names])
    except Exception as problem:
        return Verdict(FAILURE, _signature(problem), "".join(traceback.format_exception(problem)))
    return Verdict(RESULT)


def _judge(message: str, names: Sequence[str]) -> Verdict:
    """A clear error is one printable line of a length that can be read, and names the file."""
    faults = [
        (not message.isprintable(), "not one printable line"),
        (len(message) > 1500, "too long"),
        (not any(name in message for name in names), "does not name the file"),
    ]
    wrong = [fault for is_so, fault in faults if is_so]
    if not wrong:
        return Verdict(CLEAR_ERROR)
    kind = re.sub(r"'.*|\d+", "", message.rpartition(": ")[2])[:40]
    return Verdict(FAILURE, f"message {wrong[0]} ({kind!r})", repr(message))


def _signature(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [f for f in frames if f"{os.sep}cloudsom{os.sep}" in f.filename] or frames
    return f"{type(problem).__name__} in {Path(ours[-1].filename).name}, {ours[-1].name}"


def minimised(target: Target, case: Case, signature: str, folder: Path) -> Case:
    """A smaller input with the same failure: pieces are left out, from large to small, while it stays."""
    until, size = time.monotonic() + MINIMISING_SECONDS, len(case.content) // 2
    while size:
        start, before = 0, len(case.content)
        while start < len(case.content) and time.monotonic() < until:
            smaller = Case(case.kind, case.content[:start] + case.content[start + size :])
            if attempt(target, smaller, folder).signature == signature:
                case = smaller
            else:
                start += size
        size = size if len(case.content) < before and time.monotonic() < until else size // 2
    return case


# --- the worker -------------------------------------------------------------------------------------------------------


def _work(pipe: Connection, target: Target, seed: int, first: int, stop: int, folder: Path, growth: float) -> None:
    """Read inputs `first` to `stop`, and say after each what became of it; before them, all the seeds unharmed."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # libraries' own complaints
    good = folder / "seeds"
    good.mkdir(exist_ok=True)
    seeds = target.seeds(good)
    for kind in sorted(seeds):
        for content in seeds[kind]:
            outcome = attempt(target, Case(kind, content), folder)
            if outcome.what != RESULT:
                pipe.send(Verdict(FAILURE, f"the unharmed {kind} is not read: {outcome.signature}", outcome.detail))
                return
    pipe.send(Verdict(READY))
    known: Counter[str] = Counter()
    for index in range(first, stop):
        case = case_of(target, seeds, seed, index)
        (folder / LEFT_BEHIND).write_bytes(case.kind.encode() + b"\n" + case.content)
        reset_peak()
        before = memory("VmRSS")
        outcome = attempt(target, case, folder)
        grown = memory("VmHWM") - before
        if grown > growth:
            outcome = Verdict(FAILURE, "memory", f"grew by {grown / 1e6:.0f} MB")
        known[outcome.signature] += 1
        if outcome.what == FAILURE and known[outcome.signature] <= KEPT_OF_EACH:
            small = case if outcome.signature == "memory" else minimised(target, case, outcome.signature, folder)
            outcome = outcome._replace(case=small)
        pipe.send(outcome)


# --- the supervisor ---------------------------------------------------------------------------------------------------


@dataclass
class Campaign:
    """A run of damaged files past one target, and how it went.

    keep     failing inputs are kept under it, in a folder of the target's name
    seconds  one input may take, and so many bytes (`growth`) beyond those the worker had before it
    took     seconds in all
    """

    target: Target
    seed: int = 0
    keep: Path | None = None
    seconds: float = 10.0
    growth: float = 1e9
    tell: Callable[[str], None] = print
    took: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)

    def run(self, inputs: int, first: int = 0) -> None:
        """Read `inputs` damaged files, from number `first` on."""
        started, index, stop = time.monotonic(), first, first + inputs
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            while index < stop:
                index = self._one_worker(index, stop, Path(scratch))
        self.took = time.monotonic() - started

    def _one_worker(self, first: int, stop: int, scratch: Path) -> int:
        """Run a worker until it is done or has to be ended; returns the index of the input to go on with."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, self.target, self.seed, first, stop, scratch, self.growth)
        worker = context.Process(target=_work, args=arguments, daemon=True)
        worker.start()
        theirs.close()
        try:
            ready = self._answer(ours, worker.pid, START_SECONDS, 1e9)
            if ready.what != READY:
                raise RuntimeError(f"{self.target.name}: the worker did not start: {ready}")
            for index in range(first, stop):
                outcome = self._answer(ours, worker.pid, self.seconds)
                if outcome.signature in ENDED:
                    worker.kill()
                self._count(outcome, index, scratch)
                if outcome.signature in ENDED:
                    return index + 1
            return stop
        finally:
            worker.kill()
            worker.join()
            ours.close()

    def _answer(self, pipe: Connection, pid: int | None, seconds: float, more: float = 0) -> Verdict:
        """The worker's next message, or the failure that keeps it from sending one: it may grow by `more` bytes."""
        until = time.monotonic() + seconds
        allowed = memory("VmRSS", str(pid)) + 2 * self.growth + more
        while time.monotonic() < until:
            try:
                if pipe.poll(0.1):
                    return Verdict(*pipe.recv())
            except EOFError:
                return Verdict(FAILURE, "crash", "the process died")
            if memory("VmRSS", str(pid)) > allowed:
                return Verdict(FAILURE, "explosion", f"grew beyond {allowed / 1e6:.0f} MB")
        return Verdict(FAILURE, "hang", f"no answer in {seconds:g} s")

    def _count(self, outcome: Verdict, index: int, scratch: Path) -> None:
        self.counts[outcome.what] += 1
        if outcome.what != FAILURE:
            return
        self.failures[outcome.signature] += 1
        if self.failures[outcome.signature] > KEPT_OF_EACH:
            return
        self.tell(f"{self.target.name} {index}: {outcome.signature}")
        if self.keep is None:
            return
        case = outcome.case or _left_behind(scratch)
        kept = self.keep / self.target.name / f"{case.kind}-{self.seed}-{index}{self.target.kinds[case.kind][0]}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(case.content)
        reason = kept.with_name(kept.name + ".txt")
        reason.write_text(f"{outcome.signature}\n\n{outcome.detail}\n", encoding="utf-8")
        self.kept.append(kept)


def _left_behind(scratch: Path) -> Case:
    """The input that a worker which had to be ended was at."""
    kind, _, content = (scratch / LEFT_BEHIND).read_bytes().partition(b"\n")
    return Case(kind.decode(), content)
