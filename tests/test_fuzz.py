"""Damaged files: a short campaign past every reader, what longer ones have found, and the engine that runs them."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from campaigns.fuzz.engine import (
    CLEAR_ERROR,
    FAILURE,
    RESULT,
    Campaign,
    Case,
    Limits,
    Target,
    attempt,
    case_of,
    minimised,
    replay,
)
from campaigns.fuzz.mutations import OPERATIONS, mutate
from campaigns.fuzz.targets import TARGETS
from cloudsom.errors import UserError

CASES = Path(__file__).parent / "fuzz_cases"  # TARGET/KIND-WHAT.SUFFIX

#: Those of them that can be read.
READ = ("prj-name-not-utf8.prj",)

#: Inputs a target: a few seconds each.
INPUTS = dict.fromkeys(TARGETS, 300) | {"geotiff": 200, "pickle": 150}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_files_give_a_result_or_a_clear_error(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.seeds(tmp_path / "seeds")
    counts: Counter[str] = Counter()
    for index in range(INPUTS[name]):
        outcome = attempt(target, case_of(target, seeds, 1, index), tmp_path)
        assert outcome.what != FAILURE, f"input {index} of seed 1: {outcome.signature}\n{outcome.detail}"
        counts[outcome.what] += 1
    assert counts[RESULT] > 3 and counts[CLEAR_ERROR] > 30


@pytest.mark.parametrize("file", sorted(CASES.glob("*/*")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_was_found_stays_mended(file: Path, tmp_path: Path) -> None:
    target = TARGETS[file.parent.name]
    target.seeds(tmp_path / "seeds")
    outcome = replay(target, file, tmp_path)
    assert outcome.what != FAILURE, f"{outcome.signature}\n{outcome.detail}"
    assert outcome.what == CLEAR_ERROR or file.name in READ


# --- the engine -------------------------------------------------------------------------------------------------------


def good_files(folder: Path) -> Mapping[str, Sequence[bytes]]:
    return {"number": [b"12", b"345"]}


def read_number(kind: str, path: Path) -> None:
    """A reader with every fault there is, by what the file says."""
    text = path.read_bytes()
    if text.startswith(b"hang"):
        time.sleep(60)
    if text.startswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if text.startswith(b"grow"):
        bytearray(300_000_000).find(b"x")
    if text.startswith(b"explode"):
        filled = [bytearray(b"x") * 50_000_000 for _ in range(40)]
        time.sleep(60 + len(filled))
    if text.startswith(b"silent"):
        raise UserError("something is wrong")
    if not text.strip(b"0123456789") and text:
        return
    if b"\xff" in text:
        raise KeyError("no clear error")
    raise UserError(f"{path}: is no number; write one")


def one_of_the_faults(draw: random.Random, seeds: Mapping[str, Sequence[bytes]]) -> Case:
    return Case("number", draw.choice((b"hang", b"crash", b"grow", b"explode", b"silent", b"7", b"seven")))


FAULTY = Target("faulty", {"number": ".txt"}, good_files, read_number, (b"1", b"\xff"), one_of_the_faults)


def test_hangs_crashes_and_explosions_end_the_worker_and_not_the_campaign(tmp_path: Path) -> None:
    limits = Limits(seconds=1.5, growth=100e6)
    told: list[str] = []
    tally = Campaign(FAULTY, 3, tmp_path, limits, told.append).run(30)
    assert tally.inputs == 30 and tally.counts[RESULT] and tally.counts[CLEAR_ERROR]
    assert {"hang", "crash", "memory", "explosion"} <= set(tally.failures)
    assert any("does not name the file" in signature for signature in tally.failures)
    assert any(signature.startswith("KeyError in") for signature in tally.failures)
    kept = {file.read_bytes() for file in tally.kept}
    assert {b"hang", b"crash", b"explode", b"grow"} <= kept
    assert len(told) == len(tally.kept)
    again = Campaign(FAULTY, 3, None, limits, told.append).run(8, first=20)
    assert again.inputs == 8


def test_a_campaign_is_the_same_again(tmp_path: Path) -> None:
    for name, target in TARGETS.items():
        first, second = (target.seeds(tmp_path / name / str(i)) for i in range(2))
        for index in range(5):
            assert case_of(target, first, 7, index) == case_of(target, second, 7, index), name


def test_a_seed_that_is_not_read_ends_the_campaign() -> None:
    broken = Target("broken", {"number": ".txt"}, bad_seeds, read_number, (b"1",))
    with pytest.raises(RuntimeError, match="the unharmed number is not read"):
        Campaign(broken).run(1)


def bad_seeds(folder: Path) -> Mapping[str, Sequence[bytes]]:
    return {"number": [b"many"]}


def test_a_failing_input_is_made_smaller(tmp_path: Path) -> None:
    case = Case("number", b"a" * 500 + b"\xff" + b"b" * 300)
    outcome = attempt(FAULTY, case, tmp_path)
    assert minimised(FAULTY, case, outcome.signature, tmp_path).content == b"\xff"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_every_operation_changes_files_of_any_size(operation: object) -> None:
    draw, changed = random.Random(0), 0
    for size in (0, 1, 40, 5000):
        before = (b"value 12.5, 77 " * 400)[:size]
        for _ in range(20):
            content = bytearray(before)
            operation(draw, content, b"other 99", (b"value", b"12"))  # type: ignore[operator]
            changed += content != before
    assert changed > 20
    assert len(mutate(draw, before * 100, b"", (b"x",))) <= 400_000
