"""Independent jobs: one bad product never stops the others."""

import os
from pathlib import Path

import pytest

from cloudsom.errors import UserError
from cloudsom.jobs import Engine, Job, choose_products, raise_if_any_failed, results_or_errors, run_jobs


def square_or_fail(value: int) -> int:
    if value == 2:
        raise UserError("two: is not wanted; give another")
    if value == 3:
        raise OSError(28, "No space left on device", "x.tif")
    if value == 4:
        raise MemoryError
    return value * value


def die(value: int) -> int:
    if value == 1:
        os._exit(9)
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_the_others_are_done_and_the_bad_ones_named(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run_jobs(square_or_fail, [Job(f"P{i}", (i,)) for i in range(6)], Engine(workers), "squaring")
    assert results_or_errors(outcomes) == [0, 1, 25]
    error = capsys.readouterr().err
    assert "two: is not wanted" in error and "P3: x.tif: No space left" in error and "P4: out of memory" in error
    with pytest.raises(UserError, match=r"3 of 6 products failed \(P2, P3, P4\)"):
        raise_if_any_failed(outcomes)


def test_a_killed_worker_is_told() -> None:
    outcomes = run_jobs(die, [Job(str(i), (i,)) for i in range(2)], Engine(2), "dying")
    assert outcomes[1].error is not None and "was killed" in outcomes[1].error


def test_products_are_chosen_by_name() -> None:
    found = {"b": Path("b"), "a": Path("a")}
    assert list(choose_products(found, [], Path("d"), "do")) == ["a", "b"]
    assert list(choose_products(found, ["b"], Path("d"), "do")) == ["b"]
    with pytest.raises(UserError, match="d: has no product bb; the nearest name there is b"):
        choose_products(found, ["bb"], Path("d"), "do")
    with pytest.raises(UserError, match="d: holds no products"):
        choose_products({}, [], Path("d"), "run step 7")
