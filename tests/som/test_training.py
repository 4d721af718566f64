"""The compiled trainer against MiniSom, bit for bit, and the published law against the library the paper used."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import minisom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minisom import MiniSom
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.som import training
from cloudsom.som.training import TrainingLaw, train_som

# Small maps with a wide radius, and data that overflow, are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. sigma might", "ignore::RuntimeWarning")


def fit(
    som: MiniSom, data: Any, n: int, *, random_order: bool = False, use_epochs: bool = False, progress: Any = None
) -> None:
    """`MiniSom.train` with the compiled loop in place of MiniSom's own."""
    generator = som._random_generator if random_order else None
    rows = minisom._build_iteration_indexes(len(data), n, False, generator, use_epochs)
    steps = np.arange(len(rows)) // (len(data) if use_epochs else 1)  # the radius stands still for an epoch
    size = training.STEPS_A_BATCH
    parts = [slice(start, start + size) for start in range(0, len(rows), size)]
    training._train_compiled(som, iter([(steps[p], data[rows[p]]) for p in parts]), n, progress)


class Halving:
    """A decay function that is neither MiniSom's nor a formula: it counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, start: float, t: int, n: int) -> float:
        self.calls += 1
        return start * 0.5 ** (t / n) / (1 + self.calls % 3)


def state(som: MiniSom) -> tuple[Any, ...]:
    """What training changes."""
    return som._weights, som._activation_map, som._random_generator.get_state()[1:3]


def assert_same(one: MiniSom, other: MiniSom) -> None:
    """The same weights, last activation and random state, to the bit."""
    for here, there in zip(state(one)[:2], state(other)[:2], strict=True):
        np.testing.assert_array_equal(here, there)
        finite = np.isfinite(here)
        np.testing.assert_array_equal(np.signbit(here)[finite], np.signbit(there)[finite])
    for here, there in zip(state(one)[2], state(other)[2], strict=True):
        np.testing.assert_array_equal(here, there)


def assert_fits_as_minisom(data: Any, n: int, make: dict[str, Any], weights: Any = None, **order: bool) -> None:
    """Two trainings in a row, by both."""
    soms = []
    trainers: tuple[Any, ...] = (fit, MiniSom.train)
    for train in trainers:
        decay = make.get("decay_function", "asymptotic_decay")
        som = MiniSom(**{**make, "decay_function": Halving() if decay == "halving" else decay})
        if weights is not None:
            som._weights[:] = weights
        train(som, data, n, **order)
        train(som, data, max(1, n // 2), **order)
        soms.append(som)
    assert_same(*soms)


def test_one_step_by_hand() -> None:
    """On two neurons at 0 and 1, a spectrum at 0.25, rate 1/2, radius 1: the BMU goes half the way there, the
    other one exp(-1/2) of that, 0.75 * exp(-1/2) / 2.
    """
    som = MiniSom(1, 2, 1, sigma=1, learning_rate=0.5)
    som._weights[0, :, 0] = 0.0, 1.0
    fit(som, np.array([[0.25]]), 1)
    assert som._weights[0, 0, 0] == 0.125
    assert som._weights[0, 1, 0] == pytest.approx(1 - 0.75 * np.exp(-0.5) / 2, rel=1e-15)


@st.composite
def trainings(draw: st.DrawFn) -> tuple[Any, ...]:
    """Data, number of steps, MiniSom's options, and the order of the data."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bands = draw(st.integers(1, 17) | st.sampled_from([40, 128]))
    data = random.random((draw(st.integers(1, 30)), n_bands))
    if draw(st.booleans()):
        data = np.round(data * 3) / 3 - draw(st.sampled_from([0.0, 1.0]))  # ties, equal spectra, zeros
    data = data * draw(st.sampled_from([1.0, 1.0, 1e-300, 1e155, 1e308]))
    if draw(st.integers(0, 7)) == 0:
        data[random.integers(0, len(data))] = draw(st.sampled_from([np.nan, np.inf, -0.0]))
    make = {
        "x": draw(st.integers(1, 9)),
        "y": draw(st.integers(1, 18)),
        "input_len": n_bands,
        "sigma": draw(st.sampled_from([1, 2, 0.3, 1.0, 4.5, 20.0])),
        "learning_rate": draw(st.sampled_from([0.5, 1, 0.1, 3.0])),
        "decay_function": draw(
            st.sampled_from(["asymptotic_decay", "inverse_decay_to_zero", "linear_decay_to_zero", "halving"])
        ),
        "sigma_decay_function": draw(
            st.sampled_from(["asymptotic_decay", "inverse_decay_to_one", "linear_decay_to_one"])
        ),
        "random_seed": draw(st.integers(0, 2**32 - 1)),
    }
    order = {"random_order": draw(st.booleans()), "use_epochs": draw(st.booleans())}
    n = draw(st.integers(1, 3 if order["use_epochs"] else 70))
    return data.astype(draw(st.sampled_from([np.float32, np.float64]))), n, make, order


@settings(max_examples=200, deadline=None)
@given(trainings(), st.sampled_from([1, 4, 8192]))
def test_fit_is_minisom_train(case: tuple[Any, ...], steps_a_batch: int) -> None:
    data, n, make, order = case
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(training, "STEPS_A_BATCH", steps_a_batch)
        assert_fits_as_minisom(data, n, make, **order)


def test_the_map_ends_where_it_ends() -> None:
    """Nine neurons fill one block of eight and an eighth of the next: the rest of it must never take part."""
    make = {"x": 1, "y": 9, "input_len": 3, "sigma": 20, "learning_rate": 0.9, "random_seed": 1}
    assert_fits_as_minisom(np.random.default_rng(4).random((50, 3)), 6000, make)


@pytest.mark.parametrize("n", [1, 7])
def test_equal_neurons_and_negative_zeros(n: int) -> None:
    """All neurons alike: the first wins every time; and MiniSom's sums make 0.0 of -0.0."""
    make = {"x": 3, "y": 3, "input_len": 3, "sigma": 0.05, "random_seed": 1}
    for data in ([[-0.0, 0.0, 1.0], [0.0, -0.0, -0.0], [1.0, 1.0, 1.0]], [[-0.0, 0.0, -0.0]]):
        for weights in (-0.0, 0.0, 1.0):
            assert_fits_as_minisom(np.array(data), n, make, weights)


def test_a_neuron_that_is_not_a_number() -> None:
    """numpy's argmin, and so MiniSom's winner, is the first NaN."""
    weights = np.random.default_rng(1).random((3, 3, 2))
    weights[1, 2], weights[2, 2] = np.nan, np.inf
    make = {"x": 3, "y": 3, "input_len": 2, "sigma": 0.01, "random_seed": 1}
    assert_fits_as_minisom(np.random.default_rng(2).random((5, 2)), 4, make, weights)


@pytest.mark.parametrize(("n", "use_epochs", "total"), [(25, False, 25), (3, True, 30)])
def test_progress_of_a_fit(monkeypatch: pytest.MonkeyPatch, n: int, use_epochs: bool, total: int) -> None:
    monkeypatch.setattr(training, "STEPS_A_BATCH", 8)
    done: list[int] = []
    fit(MiniSom(2, 2, 3), np.zeros((10, 3)), n, use_epochs=use_epochs, progress=done.append)
    assert sum(done) == total


# --- the published law ------------------------------------------------------------------------------------------------

LAW = TrainingLaw(n_rows=6, n_columns=5, n_iter=300, radius_start=3.0, seed=4)


@pytest.fixture
def spectra() -> NDArray[np.float64]:
    random = np.random.default_rng(3)
    return np.cumsum(random.random((500, 13)), axis=1) / 13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("law", [LAW, TrainingLaw(n_iter=50), TrainingLaw(3, 7, 100, 0.9, 0.01, 4.5, 0.5, 7)])
def test_trainers_agree(
    monkeypatch: pytest.MonkeyPatch, spectra: NDArray[np.float64], law: TrainingLaw, dtype: type
) -> None:
    monkeypatch.setattr(training, "STEPS_A_BATCH", 64)
    compiled = train_som(spectra.astype(dtype), law)
    assert_same(compiled, train_som(spectra.astype(dtype), law, trainer="minisom"))


def test_the_law_as_a_user_of_minisom_would_write_it(spectra: NDArray[np.float64]) -> None:
    """Draws, start weights and decays by the formulas of the paper, training by MiniSom."""
    draw = np.random.RandomState(4)
    som = MiniSom(6, 5, 13, sigma=3.0, sigma_decay_function="linear_decay_to_one",
                  decay_function=lambda rate, t, n: rate * (0.05 / 0.5) ** (t / n))  # fmt: skip
    som._weights = draw.rand(6, 5, 13)
    som.train(spectra[[draw.randint(0, 500) for _ in range(300)]], 300)
    np.testing.assert_array_equal(train_som(spectra, LAW)._weights, som._weights)


def test_decays_run_from_start_to_end() -> None:
    rate, radius = TrainingLaw().decays()
    assert [rate(0.5, t, 10) for t in (0, 5, 10)] == pytest.approx([0.5, 0.5 * 10**-0.5, 0.05])
    assert [radius(10.0, t, 10) for t in (0, 5, 10)] == pytest.approx([10, 5.5, 1])
    wide = TrainingLaw(radius_end=2.0).decays()[1]
    assert [wide(10.0, t, 10) for t in (0, 5, 10)] == pytest.approx([10, 6, 2])


@pytest.mark.parametrize("trainer", training.TRAINERS)
def test_the_map_of_susi(spectra: NDArray[np.float64], trainer: str) -> None:
    """The same seed gives the map of the library the paper used."""
    import susi

    for seed, n_iter in ((0, 1), (1, 37), (2, 2000)):
        theirs = susi.SOMClustering(n_rows=20, n_columns=15, n_iter_unsupervised=n_iter, random_state=seed, n_jobs=1)
        theirs.fit(spectra)
        ours = train_som(spectra, TrainingLaw(n_iter=n_iter, seed=seed), trainer=trainer)
        np.testing.assert_allclose(ours._weights, theirs.unsuper_som_, rtol=0, atol=1e-12)


def test_seeds(spectra: NDArray[np.float64]) -> None:
    first, again = train_som(spectra, LAW), train_som(spectra, LAW)
    np.testing.assert_array_equal(first._weights, again._weights)
    other = train_som(spectra, TrainingLaw(n_rows=6, n_columns=5, n_iter=300, radius_start=3.0, seed=5))
    assert not np.allclose(first._weights, other._weights)
    free = TrainingLaw(n_rows=6, n_columns=5, n_iter=300, radius_start=3.0, seed=None)
    assert not np.allclose(train_som(spectra, free)._weights, train_som(spectra, free)._weights)


def test_the_map_is_minisoms_alone(spectra: NDArray[np.float64], tmp_path: Path) -> None:
    """Loaded where there is no cloudsom, it can do all a MiniSom can, further training included."""
    som = train_som(spectra, LAW)
    (tmp_path / "som.p").write_bytes(pickle.dumps(som))
    np.save(tmp_path / "spectra.npy", spectra)
    program = """
import pickle, sys
import numpy as np
som, x = pickle.load(open("som.p", "rb")), np.load("spectra.npy")
assert not any(name.startswith("cloudsom") for name in sys.modules)
print(float(som.quantization_error(x)).hex(), *som.winner(x[0]), float(som.distance_map().sum()).hex())
som.train(x, 20, random_order=True)
print(float(som.get_weights().sum()).hex())
"""
    run = [sys.executable, "-I", "-W", "error", "-c", program]
    first, then = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    error, roughness = float(som.quantization_error(spectra)), float(som.distance_map().sum())
    assert first.split() == [error.hex(), *map(str, som.winner(spectra[0])), roughness.hex()]
    fit(som, spectra, 20, random_order=True)
    assert then == float(som.get_weights().sum()).hex()


@pytest.mark.parametrize("trainer", training.TRAINERS)
def test_progress_and_interruption(monkeypatch: pytest.MonkeyPatch, spectra: NDArray[np.float64], trainer: str) -> None:
    monkeypatch.setattr(training, "STEPS_A_BATCH", 64)
    done: list[int] = []
    train_som(spectra, LAW, trainer=trainer, progress=done.append)
    assert done == [64, 64, 64, 64, 44]

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    som = MiniSom(6, 5, 13, random_seed=1)
    expected = MiniSom(6, 5, 13, random_seed=1)
    with pytest.raises(KeyboardInterrupt):
        fit(som, spectra, 200, progress=interrupt)
    for t in range(64):  # what was trained until then is kept
        expected.update(spectra[t], expected.winner(spectra[t]), t, 200)
    np.testing.assert_array_equal(som._weights, expected._weights)


def test_mistakes(spectra: NDArray[np.float64]) -> None:
    with pytest.raises(UserError, match=r"shape \(0, 13\)"):
        train_som(spectra[:0], LAW)
    spectra[::50] = np.nan
    for trainer in training.TRAINERS:
        with pytest.raises(UserError, match="not finite"):
            train_som(spectra, LAW, trainer=trainer)


def test_no_warnings_of_our_own(spectra: NDArray[np.float64]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_som(spectra, LAW)
