"""Training of the self-organizing map: MiniSom's weights to the bit, at the speed of compiled code.

The law is the paper's (section 2.2, stage 1): one spectrum a step, drawn at random with replacement, moves its best
matching unit and the neighbourhood towards it, while learning rate and radius shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from minisom import MiniSom
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.som.training_loop import MOST_BANDS, train_steps

Progress = Callable[[int], Any]

STEPS_A_BATCH = 8192  # steps between two reports of progress: about 10 ms, and 2 MB of spectra and tables
FAR = 1e300  # weight of the neurons that fill up the last block of eight: never the nearest


@dataclass(frozen=True)
class TrainingLaw:
    """The published law: at step t of n, learning rate start * (end / start)**(t/n), radius start + (end - start) t/n.

    Start weights are uniform in [0, 1). Weights, then rows, are drawn from one numpy RandomState in the order the
    paper's library (susi) draws them, so that a seed gives the map it gives there, up to rounding.
    """

    n_rows: int = 20
    n_columns: int = 15
    n_iter: int = 1_000_000
    learning_rate_start: float = 0.5
    learning_rate_end: float = 0.05
    radius_start: float = 10.0
    radius_end: float = 1.0
    seed: int | None = 0

    def decays(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Decay functions (start, step, steps in all) of learning rate and radius, as MiniSom calls them."""
        share, end = self.learning_rate_end / self.learning_rate_start, self.radius_end

        def geometric(start: float, t: int, n: int) -> float:
            return start * share ** (t / n)

        def linear(start: float, t: Any, n: int) -> Any:
            return start + t * (end - start) / n

        return geometric, linear


def train_som(
    spectra: NDArray[np.floating[Any]],
    law: TrainingLaw,
    *,
    trainer: str = "compiled",
    progress: Progress | None = None,
) -> MiniSom:
    """Train a map on scaled spectra (rows, bands) by the published law.

    Both trainers return the same bits: "compiled", and "minisom", which is MiniSom's own winner and update, step
    by step. `progress` is called with the number of steps done since its last call. The map holds nothing but
    numpy and minisom, so its pickle loads wherever minisom is installed.
    """
    if spectra.ndim != 2 or not spectra.size or spectra.shape[1] > MOST_BANDS:
        raise UserError(f"training spectra of shape {spectra.shape}; a table of (rows, bands) is needed")
    som = MiniSom(law.n_rows, law.n_columns, spectra.shape[1], law.radius_start, law.learning_rate_start)
    draw = som._random_generator = np.random.RandomState(law.seed)
    som._weights = draw.rand(law.n_rows, law.n_columns, spectra.shape[1])
    decays = som._learning_rate_decay_function, som._sigma_decay_function
    som._learning_rate_decay_function, som._sigma_decay_function = law.decays()
    try:
        TRAINERS[trainer](som, _drawn_rows(spectra, draw, law.n_iter), law.n_iter, progress)
    finally:
        som._learning_rate_decay_function, som._sigma_decay_function = decays
    return som


Batch = tuple[NDArray[np.int64], NDArray[np.floating[Any]]]  # decay steps (n,), spectra (n, bands)


def _drawn_rows(spectra: NDArray[Any], draw: np.random.RandomState, n_iter: int) -> Iterator[Batch]:
    """Spectra drawn with replacement, in batches; a batch draws what as many single draws would."""
    for start in range(0, n_iter, STEPS_A_BATCH):
        steps = np.arange(start, min(start + STEPS_A_BATCH, n_iter))
        batch = spectra[draw.randint(0, len(spectra), len(steps))]
        if not np.isfinite(batch).all():
            raise UserError("the training spectra hold values that are not finite; remove these rows")
        yield steps, batch


def _train_step_by_step(som: MiniSom, batches: Iterator[Batch], n_iter: int, progress: Progress | None) -> None:
    """What `MiniSom.train` does for each row."""
    for steps, spectra in batches:
        for t, x in zip(steps.tolist(), spectra, strict=True):
            som.update(x, som.winner(x), t, n_iter)
        if progress:
            progress(len(steps))


def _train_compiled(som: MiniSom, batches: Iterator[Batch], n_iter: int, progress: Progress | None) -> None:
    """The same in compiled code; stopped by an exception, the map keeps the steps done so far."""
    n_rows, n_columns, n_bands = som._weights.shape
    n_neurons = n_rows * n_columns
    n_blocks = -(-n_neurons // 8)
    flat = np.full((8 * n_blocks, n_bands), FAR)
    flat[:n_neurons] = som._weights.reshape(n_neurons, n_bands) + 0.0  # -0.0, which MiniSom's first step makes 0.0
    weights = np.ascontiguousarray(flat.reshape(n_blocks, 8, n_bands).transpose(0, 2, 1))
    squares = np.empty(8 * n_blocks)
    prepared = _prepared(som, batches, n_iter)
    try:
        with ThreadPoolExecutor(1) as ahead:  # makes the next batch's tables while this one is trained on
            following = ahead.submit(next, prepared, None)
            while (tables := following.result()) is not None:
                following = ahead.submit(next, prepared, None)
                train_steps(weights, *tables, squares, n_rows, n_columns)
                if progress:
                    progress(len(tables[0]))
    finally:
        flat[:] = weights.transpose(0, 2, 1).reshape(flat.shape)
        som._weights[:] = flat[:n_neurons].reshape(som._weights.shape)
        som._activation_map = np.sqrt(squares[:n_neurons]).reshape(n_rows, n_columns)


TRAINERS = {"compiled": _train_compiled, "minisom": _train_step_by_step}


def _prepared(som: MiniSom, batches: Iterator[Batch], n_iter: int) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """What the kernel needs for each batch: spectra, neighbourhoods by distance, learning rates.

    Radii are computed for all steps at once, rates by Python's power, from which numpy's may differ by a rounding.
    """
    for steps, spectra in batches:
        radii = np.asarray(som._sigma_decay_function(som._sigma, steps, n_iter), np.float64)
        rate = som._learning_rate_decay_function
        rates = np.array([float(rate(som._learning_rate, t, n_iter)) for t in steps.tolist()])
        yield np.ascontiguousarray(spectra, np.float64), _bells(radii, max(som._weights.shape[:2])), rates


def _bells(radii: NDArray[np.float64], span: int) -> NDArray[np.float64]:
    """The gaussian exp(-d**2 / (2 radius**2)) along one axis of the map, (steps, distances 0..span-1).

    By numpy's exp, as in MiniSom: it may differ by a rounding from the C library's.
    """
    distance = np.arange(span, dtype=np.float64)
    return np.exp(-np.power(distance, 2) / (2 * radii * radii)[:, np.newaxis])
