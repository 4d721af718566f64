"""Damaged files: a short campaign past every reader, what longer ones have found, and the engine that runs them."""

import random
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import pytest
from faulty_reader import FAULTS, FAULTY, UNREADABLE, good_files

from campaigns.fuzz.__main__ import table
from campaigns.fuzz.engine import CLEAR_ERROR, FAILURE, RESULT, Campaign, Case, attempt, case_of, minimised
from campaigns.fuzz.mutations import OPERATIONS, mutate
from campaigns.fuzz.targets import TARGETS

CASES = Path(__file__).parent / "fuzz_cases"  # TARGET/KIND-WHAT.SUFFIX

#: Those of them that can be read.
READ = ("prj-name-not-utf8.prj",)

#: Inputs a target: a few seconds each.
INPUTS = dict.fromkeys(TARGETS, 300) | {"geotiff": 200, "pickle": 150}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_files_give_a_result_or_a_clear_error(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.seeds(tmp_path)
    counts: Counter[str] = Counter()
    for index in range(INPUTS[name]):
        outcome = attempt(target, case_of(target, seeds, 1, index), tmp_path)
        assert outcome.what != FAILURE, f"input {index} of seed 1: {outcome.signature}\n{outcome.detail}"
        counts[outcome.what] += 1
    assert counts[RESULT] > 3 and counts[CLEAR_ERROR] > 30


@pytest.mark.parametrize("file", sorted(CASES.glob("*/*")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_was_found_stays_mended(file: Path, tmp_path: Path) -> None:
    target = TARGETS[file.parent.name]
    target.seeds(tmp_path)
    kind, content = file.name.partition("-")[0], file.read_bytes()
    outcome = attempt(target, Case(kind, content), tmp_path)
    assert outcome.what != FAILURE, f"{outcome.signature}\n{outcome.detail}"
    assert outcome.what == CLEAR_ERROR or file.name in READ


#: A seed whose first inputs have every fault of `faulty_reader`, and one hang.
SEED = 906


# --- the engine -------------------------------------------------------------------------------------------------------


def test_hangs_crashes_and_explosions_end_the_worker_and_not_the_campaign(tmp_path: Path) -> None:
    seed, inputs = SEED, 24
    planned = [case_of(FAULTY, good_files(tmp_path), seed, index).content for index in range(inputs)]
    assert set(FAULTS) <= set(planned)
    told: list[str] = []
    campaign = Campaign(FAULTY, seed, tmp_path, seconds=6, growth=100e6, tell=told.append)
    campaign.run(inputs)
    assert campaign.counts.total() == inputs
    found = {"hang": b"hang", "crash": b"crash", "explosion": b"explode", "memory": b"grow"}
    assert {word: campaign.failures[word] for word in found} == {w: planned.count(text) for w, text in found.items()}
    assert sum(n for word, n in campaign.failures.items() if "does not name" in word) == planned.count(b"silent")
    assert campaign.failures["KeyError in faulty_reader.py, read_number"] == sum(b"broken" in text for text in planned)
    assert {b"hang", b"crash", b"explode", b"grow", b"silent"} <= {file.read_bytes() for file in campaign.kept}
    assert len(told) == len(campaign.kept)
    lines = table([campaign]).splitlines()
    assert lines[1].split()[:2] == ["faulty", str(inputs)] and any("1 x hang" in line for line in lines)


def test_a_campaign_is_the_same_again(tmp_path: Path) -> None:
    for name, target in TARGETS.items():
        first, second = (target.seeds(Path(mkdtemp(dir=tmp_path))) for _ in range(2))
        for index in range(5):
            assert case_of(target, first, 7, index) == case_of(target, second, 7, index), name


def test_good_files_that_are_not_read_end_the_campaign() -> None:
    with pytest.raises(RuntimeError, match="the unharmed number is not read"):
        Campaign(UNREADABLE).run(1)


def test_a_failing_input_is_made_smaller(tmp_path: Path) -> None:
    case = Case("number", b"a" * 500 + b"broken" + b"b" * 300)
    outcome = attempt(FAULTY, case, tmp_path)
    assert minimised(FAULTY, case, outcome.signature, tmp_path).content == b"broken"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_every_operation_changes_files_of_any_size(operation: object) -> None:
    draw, changed = random.Random(0), 0
    for size in (0, 1, 40, 5000):
        before = (b"value 12.5, 77 " * 400)[:size]
        for _ in range(20):
            content = bytearray(before)
            operation(draw, content, b"other 99", (b"value", b"12"))  # type: ignore[operator]
            changed += content != before
    assert changed > 10
    assert len(mutate(draw, before * 100, b"", (b"x",))) <= 400_000
