"""The training loop: MiniSom's steps in MiniSom's order, eight neurons at a time.

Weights stand band by band, neurons side by side (bands, neurons padded to whole lanes), so that eight neurons are
worked on at once and each of them still sees MiniSom's operations in MiniSom's order: the weights are the same to the
bit. One pass over the map moves every neuron towards the spectrum at hand, and measures its distance to the next one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloudsom.som.lanes import (
    Eight64,
    address,
    f64_load,
    f64_spread,
    f64_spread_from,
    inline,
    kernel,
    largest,
    smallest,
    store,
    where_less,
)

Floats = NDArray[np.float64]

#: numpy adds up to so many terms in eight interleaved sums, more of them in another order, which is not followed here.
MOST_BANDS = 128


@kernel
def squared_distance(x: Floats, w: Floats) -> float:
    """sum((x - w)**2) of spectra (bands,), up to 128 bands, in the order numpy's `add.reduce` takes a contiguous axis.

    `MiniSom.winner` takes the root of this number, so its answers, ties included, need the same roundings.
    """
    done, n = 0, len(w)
    total = -0.0
    if n >= 8:
        r0 = r1 = r2 = r3 = r4 = r5 = r6 = r7 = -0.0
        done = n - n % 8
        for i in range(0, done, 8):
            r0 += (x[i] - w[i]) * (x[i] - w[i])
            r1 += (x[i + 1] - w[i + 1]) * (x[i + 1] - w[i + 1])
            r2 += (x[i + 2] - w[i + 2]) * (x[i + 2] - w[i + 2])
            r3 += (x[i + 3] - w[i + 3]) * (x[i + 3] - w[i + 3])
            r4 += (x[i + 4] - w[i + 4]) * (x[i + 4] - w[i + 4])
            r5 += (x[i + 5] - w[i + 5]) * (x[i + 5] - w[i + 5])
            r6 += (x[i + 6] - w[i + 6]) * (x[i + 6] - w[i + 6])
            r7 += (x[i + 7] - w[i + 7]) * (x[i + 7] - w[i + 7])
        total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for i in range(done, n):
        total += (x[i] - w[i]) * (x[i] - w[i])
    return total


@inline
def _term(w_at: int, x_at: int, g: Eight64, y_at: int) -> Eight64:
    """One band of eight neurons: move the weights towards x by the share g, then (weight - y)**2."""
    w = f64_load(w_at)
    w = w + g * (f64_spread_from(x_at) - w)
    store(w_at, w)
    d = w - f64_spread_from(y_at)
    return d * d


@inline
def _move_and_measure(w_at: int, n_bands: int, x_at: int, g: Eight64, y_at: int) -> Eight64:
    """Move eight neurons towards x and return their squared distances to y, summed as `squared_distance` does."""
    done = n_bands - n_bands % 8
    if n_bands < 8:
        total = _term(w_at, x_at, g, y_at)
        done = 1
    else:
        r0 = _term(w_at, x_at, g, y_at)
        r1 = _term(w_at + 64, x_at + 8, g, y_at + 8)
        r2 = _term(w_at + 128, x_at + 16, g, y_at + 16)
        r3 = _term(w_at + 192, x_at + 24, g, y_at + 24)
        r4 = _term(w_at + 256, x_at + 32, g, y_at + 32)
        r5 = _term(w_at + 320, x_at + 40, g, y_at + 40)
        r6 = _term(w_at + 384, x_at + 48, g, y_at + 48)
        r7 = _term(w_at + 448, x_at + 56, g, y_at + 56)
        for b in range(8, done, 8):
            w, x, y = w_at + 64 * b, x_at + 8 * b, y_at + 8 * b
            r0 = r0 + _term(w, x, g, y)
            r1 = r1 + _term(w + 64, x + 8, g, y + 8)
            r2 = r2 + _term(w + 128, x + 16, g, y + 16)
            r3 = r3 + _term(w + 192, x + 24, g, y + 24)
            r4 = r4 + _term(w + 256, x + 32, g, y + 32)
            r5 = r5 + _term(w + 320, x + 40, g, y + 40)
            r6 = r6 + _term(w + 384, x + 48, g, y + 48)
            r7 = r7 + _term(w + 448, x + 56, g, y + 56)
        total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for b in range(done, n_bands):
        total = total + _term(w_at + 64 * b, x_at + 8 * b, g, y_at + 8 * b)
    return total


@kernel
def _first_minimum(squares: Floats, least: float) -> np.intp | int:
    """numpy's argmin of the roots of `squares`, whose least value is given: the first least one, or the first NaN."""
    if np.isnan(least):
        return np.argmax(np.isnan(squares))
    nearly, root = least * (1 + 2.0**-50), np.sqrt(least)  # whatever is above has a larger root too
    k = 0
    while squares[k] > nearly or np.sqrt(squares[k]) != root:
        k += 1
    return k


@kernel
def _neighbourhood(
    g: Floats, mirrored: Floats, bell: Floats, winner: int, rate: float, n_rows: int, n_columns: int
) -> None:
    """MiniSom's gaussian times the learning rate around the winner, neuron by neuron into g.

    bell: (max(n_rows, n_columns),), the gaussian by distance along one axis; mirrored: room for it to both sides.
    """
    row, column = winner // n_columns, winner % n_columns
    for k in range(n_columns):
        mirrored[n_columns - 1 + k] = bell[k]
        mirrored[n_columns - 1 - k] = bell[k]
    from_at, to_at = address(mirrored) + 8 * (n_columns - 1 - column), address(g)
    rates = f64_spread(rate)
    for i in range(n_rows):
        across = f64_spread(bell[abs(i - row)])
        for j in range(0, n_columns, 8):  # what runs over the row's end is overwritten by the next row
            store(to_at + 8 * (i * n_columns + j), (across * f64_load(from_at + 8 * j)) * rates)


@kernel
def train_steps(
    weights: Floats, spectra: Floats, bells: Floats, rates: Floats, squares: Floats, n_rows: int, n_columns: int
) -> None:
    """Run one training step for each row of `spectra`; the weights are changed in place.

    weights: (blocks, bands, 8) float64, neurons in row-major order, the padding 1e300; spectra: (steps,
    bands) float64; bells: (steps, max(n_rows, n_columns)), the neighbourhood along one axis by distance; rates:
    (steps,), the learning rate; squares: (8 * blocks,), on return the last row's squared distances to the
    neurons, as its winner was sought.
    """
    n_blocks, n_bands, _ = weights.shape
    n_neurons = n_rows * n_columns
    g, mirrored, unread = np.zeros(n_neurons + n_columns + 16), np.zeros(2 * n_columns + 16), np.empty(8 * n_blocks)
    w_at, g_at, x_at = address(weights), address(g), address(spectra)
    squares[:] = np.inf
    for j in range(n_neurons):
        squares[j] = squared_distance(spectra[0], weights[j // 8, :, j % 8])
    least: float | np.floating = np.min(squares)  # NaN if any is
    for t in range(len(spectra)):
        winner = _first_minimum(squares, least)
        _neighbourhood(g, mirrored, bells[t], winner, rates[t], n_rows, n_columns)
        g[n_neurons : 8 * n_blocks] = 0.0
        last = t == len(spectra) - 1
        s_at = address(unread) if last else address(squares)
        y_at = x_at if last else x_at + 8 * n_bands
        low, high = f64_spread(np.inf), f64_spread(0.0)
        for i in range(n_blocks):
            d = _move_and_measure(w_at + i * 64 * n_bands, n_bands, x_at, f64_load(g_at + 64 * i), y_at)
            store(s_at + 64 * i, d)
            low, high = where_less(d, low, d, low), high + d
        least = smallest(low) if not np.isnan(largest(high)) else np.nan
        x_at = y_at
