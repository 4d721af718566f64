"""The BMU search against MiniSom.winner, spectrum by spectrum, wherever float32 or float64 might go wrong."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from minisom import MiniSom
from numpy.typing import NDArray

from cloudsom.som.bmu import CHUNK, BMUs, BMUSearch, map_errors
from cloudsom.som.search import LARGE, _candidates, _load_group, make_plan, make_scratch
from cloudsom.som.training_loop import squared_distance

SCALES = (1e-320, 1e-200, 1e-60, 1e-30, 1e-10, 1.0, 1e10, 1e19, 3e38, 1e60, 1e150, 1e300)


def minisom_distances(spectra: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """MiniSom's distances: float64, one spectrum at a time."""
    som = MiniSom(len(weights), 1, weights.shape[1])
    som._weights = weights[:, np.newaxis, :]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array([som.activate(x).ravel() for x in spectra]).reshape(len(spectra), len(weights))


def expected(spectra: Any, weights: NDArray[np.float64]) -> BMUs:
    """What the search must answer, computed the slow way."""
    distances = minisom_distances(spectra, weights)
    finite = np.isfinite(spectra).all(axis=1)
    index = np.where(finite, distances.argmin(axis=1), -1).astype(np.int32)
    second = np.full_like(index, -1)
    for i in np.flatnonzero(finite) if len(weights) > 1 else ():
        others = np.delete(np.arange(len(weights)), index[i])
        second[i] = others[distances[i, others].argmin()]
    return BMUs(index, second, np.where(finite, distances[np.arange(len(spectra)), index], np.nan))


def check(spectra: NDArray[Any], weights: NDArray[np.float64], threads: int = 1) -> None:
    """All three answers, with and without second BMUs (two different ways through the code)."""
    right, search = expected(spectra, weights), BMUSearch(weights)
    one, two = search(spectra, distance=True, threads=threads), search(spectra, second=True, threads=threads)
    np.testing.assert_array_equal(one.index, right.index)
    np.testing.assert_array_equal(one.distance, right.distance)
    np.testing.assert_array_equal(two.index, right.index)
    np.testing.assert_array_equal(two.second, right.second)


def test_by_hand() -> None:
    weights = np.array([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [3.0, 4.0]]])
    spectra = np.array([[0.1, 0.0], [0.9, 0.2], [6.0, 8.0], [np.nan, 0.0], [0.5, 0.5]])
    bmus = BMUSearch(weights)(spectra, second=True, distance=True)
    assert bmus.index.tolist() == [0, 1, 3, -1, 0]  # the last is as far from 0, 1 and 2: the first of them
    assert bmus.second is not None and bmus.distance is not None
    assert bmus.second.tolist() == [1, 0, 2, -1, 1]
    assert bmus.distance[2] == 5.0
    assert np.isnan(bmus.distance[3])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 13, 16, 127, 128])
def test_distances_add_up_as_in_numpy(n: int) -> None:
    draw = np.random.default_rng(n)
    x, w = draw.random(n) ** 3, draw.random((20, n))
    dtypes: tuple[Any, ...] = (np.float64, np.float32)
    for dtype in dtypes:
        here = [np.sqrt(squared_distance(x.astype(dtype), row)) for row in w]
        assert here == np.linalg.norm(x.astype(dtype) - w, axis=-1).tolist()


@st.composite
def maps_and_spectra(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Spectra near a map, with what is hard about them: ties, duplicates, extreme values, missing values."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bands = draw(st.integers(1, 18) | st.sampled_from([33, 128]))
    n_neurons = draw(st.integers(1, 20) | st.sampled_from([63, 64, 65, 150]))
    n = draw(st.sampled_from([0, 1, 5, 16, 40, 549]))
    weights = random.random((n_neurons, n_bands)) * np.exp(-3 * random.random(n_bands))
    spectra = weights[random.integers(0, n_neurons, n)] + random.normal(0, 0.05, (n, n_bands))
    if draw(st.booleans()):  # few different values: exact ties, in float64 too
        weights, spectra = np.round(weights * 4) / 4, np.round(spectra * 8) / 8
    if draw(st.booleans()):  # neurons more than once, and all but alike
        weights[random.integers(0, n_neurons, n_neurons // 2)] = weights[0]
        weights[random.integers(0, n_neurons)] += 1e-9
    if draw(st.booleans()):
        spectra[: n // 2] = weights[random.integers(0, n_neurons, n // 2)]
    if draw(st.booleans()):
        offset = draw(st.sampled_from([-3.0, 1e4, 1e9]))
        weights, spectra = weights + offset, spectra + offset
    scale = draw(st.sampled_from(SCALES) | st.just(1.0))
    with np.errstate(over="ignore"):
        weights, spectra = weights * scale, spectra * scale
        if draw(st.booleans()):
            spectra[random.random(n) < 0.1] *= draw(st.sampled_from(SCALES))
        spectra[random.random((n, n_bands)) < draw(st.sampled_from([0.0, 0.01]))] = draw(
            st.sampled_from([np.nan, np.inf, -np.inf])
        )
        spectra = spectra.astype(draw(st.sampled_from([np.float32, np.float64])))
    return spectra, np.nan_to_num(weights, posinf=1e308, neginf=-1e308)


@settings(max_examples=120, deadline=None)
@given(maps_and_spectra())
def test_every_bmu_is_minisoms(case: tuple[NDArray[Any], NDArray[np.float64]]) -> None:
    check(*case)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_spectra_in_threads(dtype: Any) -> None:
    """More than one chunk a thread, smooth as in an image, with spectra between two neurons."""
    random = np.random.default_rng(5)
    weights = np.sort(random.random((60, 4)), axis=0)
    n = 2 * CHUNK + 700
    spectra: NDArray[Any] = weights[(np.arange(n) // 50) % 60] + random.normal(0, 0.01, (n, 4))
    spectra[::1000] = (weights[3] + weights[4]) / 2
    spectra[17::5000] = np.nan
    spectra = spectra.astype(dtype)
    right = np.linalg.norm(spectra[:, np.newaxis] - weights, axis=-1).argmin(axis=1)
    right[17::5000] = -1
    for threads in (1, 2, None):
        np.testing.assert_array_equal(BMUSearch(weights)(spectra, threads=threads).index, right)


def test_squares_below_float32() -> None:
    """In float32 the squares of the first neuron vanish and that of the second does not: yet it is the nearer one."""
    weights = np.array([[2.0**-75.5] * 13, [2.0**-74.5] + [0.0] * 12])
    check(np.zeros((40, 13), np.float32), weights)


def test_a_large_map() -> None:
    random = np.random.default_rng(6)
    check(random.random((700, 3)), random.random((LARGE + 60, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neurons_close_together_far_from_zero(dtype: Any) -> None:
    """Rounding to float32 moves the neurons by a hundredth of what lies between them: it misplaces many BMUs."""
    random = np.random.default_rng(9)
    weights = 1e4 + 0.1 * random.random((50, 4))
    spectra = (1e4 + 0.1 * random.random((1000, 4))).astype(dtype)
    naive = np.linalg.norm(spectra[:, np.newaxis].astype(np.float32) - weights.astype(np.float32), axis=-1)
    assert (naive.argmin(axis=1) != expected(spectra, weights).index).sum() > 20
    check(spectra, weights)


def test_weights_far_apart_in_size() -> None:
    """Neurons at 0, near 1 and at 1e300: float32 sees the last at infinity."""
    weights = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0 + 1e-12], [1e300, 0.0]])
    spectra = np.array([[1.0, 1.0 + 6e-13], [1e299, 0.0], [9e299, 0.0], [1e-310, 0.0]])
    check(np.tile(spectra, (200, 1)), weights)


@pytest.mark.parametrize("layout", ["fortran", "every other row", "reversed bands", "read only", "integers", "a list"])
def test_any_layout(layout: str) -> None:
    random = np.random.default_rng(7)
    plain, weights = np.round(random.random((1000, 3)) * 50), random.random((12, 3)) * 50
    read_only = plain.copy()
    read_only.flags.writeable = False
    as_laid_out: dict[str, Any] = {
        "fortran": np.asfortranarray(plain),
        "every other row": np.repeat(plain, 2, axis=0)[::2],
        "reversed bands": np.ascontiguousarray(plain[:, ::-1])[:, ::-1],
        "read only": read_only,
        "integers": plain.astype(np.int16),
        "a list": plain.tolist(),
    }
    np.testing.assert_array_equal(BMUSearch(weights)(as_laid_out[layout]).index, expected(plain, weights).index)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spectra of shape \(4,\); \(spectra, 3\)"):
        BMUSearch(np.zeros((2, 3)))(np.zeros(4))
    with pytest.raises(ValueError, match=r"\(spectra, 3\)"):
        BMUSearch(np.zeros((2, 3)))(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="finite"):
        BMUSearch(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="weights of shape"):
        BMUSearch(np.zeros(3))


def _search_in_worker(seed: int) -> bool:
    random = np.random.default_rng(seed)
    spectra, weights = random.random((CHUNK + 600, 5)), random.random((30, 5))
    right = np.linalg.norm(spectra[:, np.newaxis] - weights, axis=-1).argmin(axis=1)
    return bool((BMUSearch(weights)(spectra, threads=2).index == right).all())


def test_inside_worker_processes() -> None:
    """A parent that has searched with threads, then workers that search with threads."""
    assert _search_in_worker(1)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert all(pool.map(_search_in_worker, (2, 3)))


@pytest.mark.parametrize(("n_rows", "n_columns"), [(4, 5), (1, 6), (7, 2)])
def test_errors_of_a_map_are_minisoms(n_rows: int, n_columns: int) -> None:
    random = np.random.default_rng(8)
    som = MiniSom(n_rows, n_columns, 3, random_seed=1)
    spectra = random.random((300, 3))
    theirs = som.quantization_error(spectra), som.topographic_error(spectra)
    assert map_errors(som.get_weights(), spectra) == pytest.approx(theirs, rel=1e-12)


def test_errors_leave_out_spectra_without_a_bmu() -> None:
    """On a row of three neurons at 0, 1, 5: BMUs 0 (distance 1/4) and 2 (1), seconds 1 and 1; then 0 and 2."""
    weights = np.array([[[0.0], [1.0], [5.0]]])
    assert map_errors(weights, np.array([[0.25], [6.0], [np.nan]])) == (0.625, 0.0)
    assert map_errors(weights[:, [0, 2, 1]], np.array([[0.25]])) == (0.25, 1.0)
    assert np.isnan(map_errors(weights, np.full((2, 1), np.nan))).all()


def test_machine_code_on_disk_follows_the_files_it_was_made_of(tmp_path: Path) -> None:
    """A kernel of one file takes in functions of another: a change there must not find the old machine code."""
    shutil.copytree(ROOT / "cloudsom", tmp_path / "cloudsom", ignore=shutil.ignore_patterns("__pycache__"))
    program = "from cloudsom.som.bmu import BMUSearch\nbmus = BMUSearch([[0.0, 0.0]])([[3.0, 4.0]], distance=True)\n"
    program += "print(bmus.distance)"
    command = [sys.executable, "-c", program]

    def distance() -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert distance() == "[5.]\n"
    loop = tmp_path / "cloudsom" / "som" / "training_loop.py"
    changed = loop.read_text().replace("total = -0.0\n    if n >= 8", "total = 11.0\n    if n >= 8")
    loop.write_text(changed)
    assert distance() == "[6.]\n"


def test_a_ball_of_alike_spectra_leaves_few_candidates() -> None:
    """Nothing else tells: without the ball every answer is the same, and three times as slow."""
    draw = np.random.default_rng(0)
    weights = draw.random((300, 13))
    plan = make_plan(weights)
    scratch = make_scratch(plan)
    spectra = (weights[7] + 0.05 + 1e-3 * draw.random((16, 13))).astype(np.float32)
    _load_group(scratch, spectra, np.arange(48, dtype=np.uint32) % 16, 0)
    np.testing.assert_allclose(scratch.mean, spectra.mean(axis=0), rtol=1e-6)
    count, nearest = _candidates(plan, scratch, -1)
    assert nearest == 7 and 7 in scratch.candidates[:count] and count <= 16


def test_the_bounds_are_at_least_those_of_the_proof() -> None:
    """In the docstring of `Plan`: a little less shows in no spectrum that one would think of, and is no proof."""
    plan = make_plan(np.full((4, 13), 0.5))
    u, t = Fraction(1, 2**24), Fraction(1, 2**15)
    gamma = (13 + 8) * u
    least = (1 + t) * (1 + 7 * u) * (1 + gamma) / (1 - gamma)
    assert least <= Fraction(plan.relative) < least + 16 * u
    assert Fraction(plan.absolute) >= 2**15 * 17 * u**2 * Fraction(13, 4)
    assert Fraction(plan.slack) >= 1 + gamma
