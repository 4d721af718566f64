"""Best matching units of spectra on a trained map: exact, in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from typing import NamedTuple

CHUNK = 4096  # rows in one piece of work


class BMUs(NamedTuple):
    """The answer of a search over N spectra."""

    index: NDArray[np.int32]
    second: NDArray[np.int32] | None = None
    distance: NDArray[np.float64] | None = None


class BMUSearch:
    """A search prepared once for a map's weights, then called on any number of spectra."""

    def __init__(self, weights: ArrayLike) -> None:
        w = np.asarray(weights, dtype=np.float64)
        self.weights = np.ascontiguousarray(w.reshape(-1, w.shape[-1]))

    def __call__(
        self,
        spectra: ArrayLike,
        *,
        second: bool = False,
        distance: bool = False,
        threads: int | None = None,
    ) -> BMUs:
        x = np.asarray(spectra)
        index = np.full(len(x), -1, np.int32)
        runner_up = np.full(len(x), -1, np.int32) if second else None
        d1 = np.full(len(x), np.nan) if distance else None
        for i in range(0, len(x), CHUNK):
            rows = np.flatnonzero(np.isfinite(x[i : i + CHUNK]).all(axis=1)) + i
            d = np.linalg.norm(x[rows, None, :] - self.weights[None], axis=-1)
            best = d.argmin(axis=1)
            index[rows] = best
            if d1 is not None:
                d1[rows] = d[np.arange(len(rows)), best]
            if runner_up is not None and d.shape[1] > 1:
                d[np.arange(len(rows)), best] = np.inf
                runner_up[rows] = d.argmin(axis=1)
        return BMUs(index, runner_up, d1)


def find_bmus(
    spectra: ArrayLike,
    weights: ArrayLike,
    *,
    second: bool = False,
    distance: bool = False,
    threads: int | None = None,
) -> BMUs:
    """BMUs of `spectra` on `weights`: `BMUSearch(weights)(spectra)` in one call."""
    return BMUSearch(weights)(spectra, second=second, distance=distance, threads=threads)


def quantization_error(bmus: BMUs) -> float:
    """Mean distance between the spectra and their BMUs; rows without a BMU are left out."""
    assert bmus.distance is not None
    return float(np.nanmean(bmus.distance))


def topographic_error(bmus: BMUs, n_columns: int) -> float:
    """Share of the spectra whose two nearest neurons are not neighbours on the map."""
    assert bmus.second is not None
    found = bmus.index >= 0
    r1, c1 = np.divmod(bmus.index[found], n_columns)
    r2, c2 = np.divmod(bmus.second[found], n_columns)
    return float(((r1 - r2) ** 2 + (c1 - c2) ** 2 > 2).mean())
