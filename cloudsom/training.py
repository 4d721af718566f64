"""Training of the self-organizing map: the published law, exact and compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from minisom import MiniSom
from numpy.typing import NDArray

Progress = Callable[[int], Any]


@dataclass(frozen=True)
class TrainingLaw:
    """The published training law (paper, section 2.3)."""

    n_rows: int = 20
    n_columns: int = 15
    n_iter: int = 1_000_000
    learning_rate_start: float = 0.5
    learning_rate_end: float = 0.05
    radius_start: float = 10.0
    radius_end: float = 1.0
    seed: int | None = 1


def train_som(
    spectra: NDArray[Any],
    law: TrainingLaw,
    *,
    trainer: str = "compiled",
    progress: Progress | None = None,
) -> MiniSom:
    """Train a map on scaled spectra by the published law."""
    draw = np.random.RandomState(law.seed)
    som = MiniSom(
        law.n_rows,
        law.n_columns,
        spectra.shape[1],
        sigma=law.radius_start,
        learning_rate=law.learning_rate_start,
        decay_function="linear_decay_to_zero",
        sigma_decay_function="linear_decay_to_one",
        random_seed=law.seed,
    )
    som._weights = draw.rand(law.n_rows, law.n_columns, spectra.shape[1])
    rows = draw.randint(0, len(spectra), size=law.n_iter)
    ratio = law.learning_rate_end / law.learning_rate_start
    for t, row in enumerate(rows):
        x = spectra[row]
        eta = law.learning_rate_start * ratio ** (t / law.n_iter)
        sigma = law.radius_start + t * (law.radius_end - law.radius_start) / law.n_iter
        g = som._gaussian(som.winner(x), sigma) * eta
        som._weights += np.einsum("ij,ijk->ijk", g, x - som._weights)
        if progress and (t + 1) % 10_000 == 0:
            progress(10_000)
    return som


def fit(
    som: MiniSom,
    data: Any,
    num_iteration: int,
    *,
    random_order: bool = False,
    use_epochs: bool = False,
    progress: Progress | None = None,
) -> None:
    """Drop-in for `MiniSom.train`."""
    som.train(data, num_iteration, random_order=random_order, use_epochs=use_epochs)
    if progress:
        progress(num_iteration)
