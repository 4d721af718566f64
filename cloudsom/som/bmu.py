"""Best matching units (BMUs): for each spectrum the neuron `MiniSom.winner` names, for all of them, fast.

The search runs in float32 and settles in float64 what float32 cannot tell apart; `cloudsom.som.search.Plan` has the
method and the proof. Memory is bounded: spectra are worked through in chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloudsom.processors import processors
from cloudsom.som.search import Plan, bmu_distances, make_plan, make_scratch, search, search_two
from cloudsom.som.training_loop import MOST_BANDS

CHUNK = 32_768  # spectra a thread puts in order and searches at a time


@dataclass(frozen=True)
class BMUs:
    """The answer of a search over N spectra. Spectra with a value that is not finite have no BMU."""

    index: NDArray[np.int32]  # (N,) neuron, counted row by row from 0; -1: no BMU
    second: NDArray[np.int32] | None = None  # (N,) second nearest neuron; -1: none
    distance: NDArray[np.float64] | None = None  # (N,) Euclidean distance to the BMU, in scaled units; NaN: no BMU


class BMUSearch:
    """A search prepared once for a map, then called on any number of spectra.

    weights: (rows, columns, bands) or (neurons, bands), finite, up to 128 bands. Raises ValueError for others.
    """

    def __init__(self, weights: ArrayLike) -> None:
        array = np.asarray(weights, np.float64)
        if array.ndim not in (2, 3) or not array.size:
            raise ValueError(f"weights of shape {array.shape}; (rows, columns, bands) or (neurons, bands) is needed")
        if array.shape[-1] > MOST_BANDS:
            raise ValueError(f"weights of {array.shape[-1]} bands; {MOST_BANDS} are the most")
        if not np.isfinite(array).all():
            raise ValueError("the map's weights hold values that are not finite")
        self.plan: Plan = make_plan(np.array(array.reshape(-1, array.shape[-1]), order="C"))

    def __call__(
        self, spectra: ArrayLike, *, second: bool = False, distance: bool = False, threads: int | None = None
    ) -> BMUs:
        """BMUs of spectra (N, bands), float32 or float64, by `threads` threads (None: one a processor).

        A BMU is the first of the neurons at the least distance, both as `MiniSom.winner` computes them in float64;
        the second BMU is the first of the nearest others.
        """
        x = np.asarray(spectra)
        if x.dtype not in (np.float32, np.float64):
            x = x.astype(np.float64)
        n_bands = self.plan.exact.shape[1]
        if x.ndim != 2 or x.shape[1] != n_bands:
            raise ValueError(f"spectra of shape {x.shape}; (spectra, {n_bands}) is needed")
        index = np.empty(len(x), np.int32)
        bmus = BMUs(index, np.empty_like(index) if second else None, np.empty(len(x)) if distance else None)
        starts = iter(range(0, len(x), CHUNK))
        n_threads = min(threads or processors(), -(-len(x) // CHUNK))
        if n_threads <= 1:
            self._work(starts, x, bmus)
            return bmus
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                for done in [pool.submit(self._work, starts, x, bmus) for _ in range(n_threads)]:
                    done.result()
            finally:
                deque(starts, maxlen=0)  # after an exception: leaves the other threads nothing to do
        return bmus

    def _work(self, starts: Iterator[int], x: NDArray[Any], bmus: BMUs) -> None:
        """One thread: take chunk after chunk."""
        scratch = make_scratch(self.plan)
        for start in starts:
            part = slice(start, start + CHUNK)
            chunk = np.require(x[part], requirements=["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])
            with np.errstate(over="ignore"):
                in_float32 = chunk.astype(np.float32, copy=False)
            if bmus.second is not None:
                search_two(self.plan, scratch, in_float32, chunk, bmus.index[part], bmus.second[part])
            else:
                search(self.plan, scratch, in_float32, chunk, bmus.index[part])
            if bmus.distance is not None:
                bmu_distances(self.plan, chunk, bmus.index[part], bmus.distance[part])


def map_errors(weights: NDArray[np.float64], spectra: ArrayLike) -> tuple[float, float]:
    """Quantization and topographic error of a map (rows, columns, bands) on spectra (N, bands), as MiniSom's.

    The mean distance of the spectra from their BMUs, and the share of them whose two nearest neurons do not touch on
    the map, diagonals included; of the spectra that have such neurons, NaN where none has.
    """
    bmus = BMUSearch(weights)(spectra, second=True, distance=True)
    assert bmus.second is not None and bmus.distance is not None
    distance, found = bmus.distance[bmus.index >= 0], bmus.second >= 0
    row, column = np.divmod(bmus.index[found], weights.shape[1])
    second_row, second_column = np.divmod(bmus.second[found], weights.shape[1])
    touch = (np.abs(row - second_row) <= 1) & (np.abs(column - second_column) <= 1)
    quantization = float(distance.mean()) if distance.size else float("nan")
    return quantization, float(1 - touch.mean()) if touch.size else float("nan")
