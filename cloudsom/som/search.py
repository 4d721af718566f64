"""The BMU search: exactly MiniSom's winners, found in float32 and settled in float64 where float32 cannot tell.

Sixteen spectra are searched at once, one in each lane. Spectra of a chunk are first put in an order in which
neighbours look alike; of sixteen alike ones, a ball around their mean leaves a few neurons that can be nearest to
any of them (`_candidates`), and these are measured in float32 (`_nearest`). Whatever float32 cannot tell apart
is settled in float64 (`_settle`). The proofs are with the bounds, in `Plan`; docs/bmu_search.md explains them.

On real scenes some 25 of 300 neurons are left. Bounds from the BMU of the pixel before (triangle inequality, sorted
neighbours of each neuron) leave as few, but spectrum by spectrum: branches mispredicted and sums across lanes then cost
more than the distances.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudsom.som.lanes import (
    Bits,
    Four32,
    Sixteen32,
    address,
    count_bits,
    eight_load,
    eight_spread,
    f32_load,
    f32_spread,
    f32_spread_from,
    first_bit,
    inline,
    ints_spread,
    kernel,
    largest,
    multiply_add,
    not_above,
    pick,
    prefetch,
    quad_load,
    quad_spread,
    quad_spread_from,
    root,
    smallest,
    store,
    to_ints,
    where_less,
)
from cloudsom.som.training_loop import squared_distance

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int32]
Order = NDArray[np.uint32]  # unsigned, as a sign costs time in an index


class Plan(NamedTuple):
    """What a search needs to know of a map of K neurons and B bands.

    Why the answers are exact. u = 2**-24; x, w stand for float64 values, x~, w~ for them rounded to float32; d for
    a true distance, v for MiniSom's (float64, relative error some B * 2**-53); s for a squared distance |x~ - w~|**2
    computed in float32, in any order, fused or not: it is off by a factor 1 +- gamma, gamma = (B + 8) u, and by
    `tiny` where it underflows. M >= |w| for all neurons.

    1. `nearly(s) = relative * s + absolute`. If s_c > nearly(s_b), then v_b < v_c: neuron c is not x's BMU.
       Rounding moves |x - w| by at most e = u (|x| + |w|) <= u (2 M + d_b), as |x| <= |w_b| + d_b. Were v_c <= v_b,
       then d_c <= d_b up to float64's error, so, with p = |x~ - w~_b|, |x~ - w~_c| <= p (1 + 3 u) + 4.05 u M. With
       (a + b)**2 <= (1 + t) a**2 + (1 + 1/t) b**2, t = 2**-15, that is s_c <= s_b (1 + t)(1 + 7 u)(1 + gamma) /
       (1 - gamma) + 2**15 * 17 u**2 M**2, up to `tiny`: `relative` and `absolute`, each with something to spare.
    2. Of a group of spectra within rho of a point g, with neuron b near g: for any neuron w and any x~ of the group
       |x~ - w~|**2 - |x~ - w~_b|**2 = |g - w~|**2 - |g - w~_b|**2 - 2 (x~ - g).(w~ - w~_b), whose last term is at
       most 2 rho |w~ - w~_b|. If the whole exceeds (relative - 1)|x~ - w~_b|**2 + absolute, w is ruled out by 1,
       and |x~ - w~_b|**2 <= 2 |g - w~_b|**2 + 2 rho**2. `slack` covers the roundings of this comparison.

    A value or square beyond float32's range makes these comparisons infinite or NaN; they are written so that this
    rules nothing out, and the spectrum ends in float64.
    """

    exact: NDArray[np.float64]  # (K, B) weights
    rounded: NDArray[np.float32]  # (padded K, B) the same; neuron K and the padding stand at infinity
    blocks: NDArray[np.float32]  # (padded K / 16, B, 16) the same, sixteen neurons side by side
    axes: NDArray[np.float32]  # (B, 4) how spectra are put in order: axes to project on, in units of cells,
    origin: NDArray[np.float32]  # (4,) from where,
    top: NDArray[np.float32]  # (4,) and the last cell on each axis, a power of 2 less 1
    apart: NDArray[np.float32]  # (K, padded K) distances between the neurons; of a large map (0, padded K)
    relative: float
    absolute: float
    slack: float
    tiny: float


class Scratch(NamedTuple):
    """Working memory of one thread."""

    group: NDArray[np.float32]  # (B, 16) sixteen spectra, one a lane
    mean: NDArray[np.float32]  # (B,)
    squares: NDArray[np.float32]  # (padded K,) squared distances of the neurons from the mean
    apart: NDArray[np.float32]  # (padded K,) distances of the neurons from neuron b
    candidates: NDArray[np.int32]  # (padded K + 16,)
    lanes: NDArray[np.int32]  # (16,)
    places: NDArray[np.int32]  # (256, 8) PLACES_OF_BITS


UNSETTLED = -2  # in place of a BMU: to be found in float64
N_CELLS = 2**16
LARGE = 4096  # neurons; distances between more (64 MB) are not kept but measured when needed, a third slower


def make_plan(weights: NDArray[np.float64]) -> Plan:
    """Prepare a search on weights (neurons, bands), all of them finite."""
    n_neurons, n_bands = weights.shape
    rounded = np.full((n_neurons // 16 * 16 + 16, n_bands), np.inf, np.float32)
    with np.errstate(over="ignore"):
        rounded[:n_neurons] = weights
        longest = 1.01 * np.sqrt((weights**2).sum(axis=1).max()) + np.sqrt(n_bands) * 2.0**-100
    blocks = np.ascontiguousarray(rounded.reshape(-1, 16, n_bands).transpose(0, 2, 1))
    u = 2.0**-24
    gamma, tiny = (n_bands + 8) * u, n_bands * 2.0**-120
    relative = (1 + 2.0**-15) * (1 + 16 * u) * (1 + gamma) / (1 - gamma)
    absolute = 2.0**15 * 18 * (u * longest) * (u * longest) + 4 * tiny
    apart = np.zeros((n_neurons if n_neurons <= LARGE else 0, len(rounded)), np.float32)
    plan = Plan(weights, rounded, blocks, *_grid(weights), apart, relative, absolute, 1 + 8 * gamma, tiny)
    _measure_neurons_apart(plan)
    return plan


def _grid(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """A grid on the four principal axes of the weights: cells as near to cubes as powers of 2 allow."""
    n_bands = weights.shape[1]
    n_axes = min(4, n_bands)
    unit = max(np.abs(weights).max(), 2.0**-1000)
    scaled = weights / unit
    centred = scaled - scaled.mean(axis=0)
    principal = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_axes]
    along = scaled @ principal
    span = np.ptp(along, axis=0)
    cells = np.ones(4)
    while cells.prod() < N_CELLS:
        cells[np.argmax(span / cells[:n_axes])] *= 2
    axes, origin = np.zeros((n_bands, 4), np.float32), np.zeros(4, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # an order that cannot be computed costs time, nothing else
        per_unit = np.divide(cells[:n_axes], span, out=np.zeros(n_axes), where=span > 0)
        axes[:, :n_axes] = principal * per_unit / unit
        origin[:n_axes] = -along.min(axis=0) * per_unit
    return axes, origin, (cells - 1).astype(np.float32)


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little")
#: For each number below 256 the places of the bits that are set, from the right, and then of the others.
PLACES_OF_BITS = np.argsort(1 - _BITS, axis=1, kind="stable").astype(np.int32)


def make_scratch(plan: Plan) -> Scratch:
    """Working memory for one thread."""
    padded, n_bands = plan.rounded.shape
    return Scratch(
        group=np.empty((n_bands, 16), np.float32),
        mean=np.empty(n_bands, np.float32),
        squares=np.empty(padded, np.float32),
        apart=np.empty(padded, np.float32),
        candidates=np.empty(padded + 16, np.int32),
        lanes=np.empty(16, np.int32),
        places=PLACES_OF_BITS,
    )


@inline
def _cell(projected: Four32, top: Four32) -> int:
    """Number of a grid cell; the last one for what is not finite."""
    zero = quad_spread(np.float32(0))
    inside = where_less(zero, projected, projected, zero)
    inside = where_less(inside, top, inside, top)
    place, end = to_ints(inside), to_ints(top)
    cell = 0
    for a in range(np.int32(4)):
        cell = cell * (pick(end, a) + 1) + pick(place, a)
    return cell if np.isfinite(pick(projected, np.int32(0))) else N_CELLS - 1


@kernel
def _find_cells(plan: Plan, rounded: Floats32, cells: NDArray[np.uint16]) -> None:
    """Grid cells of the spectra (N, B)."""
    n, n_bands = rounded.shape
    axes_at, origin, top = address(plan.axes), quad_load(address(plan.origin)), quad_load(address(plan.top))
    for r in range(n):
        at, projected = address(rounded) + 4 * n_bands * r, origin
        for b in range(n_bands):
            projected = multiply_add(quad_spread_from(at + 4 * b), quad_load(axes_at + 16 * b), projected)
        cells[r] = _cell(projected, top)


@inline
def _load_group(scratch: Scratch, rounded: Floats32, order: Order, start: int) -> None:
    """Sixteen spectra in order, one a lane, and their mean; the next sixteen are sent for."""
    n_bands = rounded.shape[1]
    row, group = 4 * n_bands, scratch.group
    for r in range(np.uint32(16)):
        at = address(rounded) + row * order[np.uint32(start) + 16 + r]
        prefetch(at)
        prefetch(at + row - 4)
    for b in range(np.uint32(n_bands)):
        total = np.float32(0)
        for r in range(np.uint32(16)):
            value = rounded[order[np.uint32(start) + r], b]
            group[b, r] = value
            total += value
        scratch.mean[b] = total * np.float32(1 / 16)


@inline
def _measure_all(plan: Plan, point_at: int, squares: Floats32) -> tuple[float, int]:
    """Squared distances (float32) of a point to all neurons; the least, and whose it is."""
    n_bands = plan.blocks.shape[1]
    low, whose = f32_spread(np.float32(np.inf)), ints_spread(np.int32(0))
    for k in range(len(plan.blocks)):
        s, at = f32_spread(np.float32(0)), address(plan.blocks) + 64 * n_bands * k
        for b in range(n_bands):
            d = f32_load(at + 64 * b) - f32_spread_from(point_at + 4 * b)
            s = multiply_add(d, d, s)
        store(address(squares) + 64 * k, s)
        low, whose = where_less(s, low, s, low), where_less(s, low, ints_spread(np.int32(k)), whose)
    least = smallest(low)
    lane = np.int32(first_bit(not_above(low, f32_spread(least))))
    return least, 16 * pick(whose, lane) + lane


@inline
def _measure_apart(plan: Plan, b: int, apart: Floats32) -> None:
    """Distances of the neurons from neuron b, with all the slack they need; 0 for the padding, to keep it out."""
    _measure_all(plan, address(plan.rounded) + 4 * plan.rounded.shape[1] * b, apart)
    slack, tiny = f32_spread(np.float32(plan.slack)), f32_spread(np.float32(2 * plan.tiny))
    for at in range(address(apart), address(apart) + 4 * len(apart), 64):
        store(at, root(multiply_add(f32_load(at), slack, tiny)))
    apart[len(plan.exact) :] = 0


@kernel
def _measure_neurons_apart(plan: Plan) -> None:
    """Fill in plan.apart."""
    for b in range(len(plan.apart)):
        _measure_apart(plan, b, plan.apart[b])


@inline
def _candidates(plan: Plan, scratch: Scratch, b_before: int) -> tuple[int, int]:
    """Neurons that can be the BMU of any of the group's spectra (2. of `Plan`): their number, and neuron b.

    `b_before` is the neuron scratch.apart was last made for.
    """
    n_bands = plan.exact.shape[1]
    mean_at, group_at, apart_at = address(scratch.mean), address(scratch.group), address(scratch.apart)
    reach = f32_spread(np.float32(0))
    for b in range(n_bands):
        d = f32_load(group_at + 64 * b) - f32_spread_from(mean_at + 4 * b)
        reach = multiply_add(d, d, reach)
    rho = np.sqrt(largest(reach) * plan.slack + 2 * plan.tiny)
    least, nearest = _measure_all(plan, mean_at, scratch.squares)
    if len(plan.apart):
        apart_at = address(plan.apart) + 4 * len(plan.rounded) * nearest
    elif nearest != b_before:
        _measure_apart(plan, nearest, scratch.apart)
    share = 2 * (plan.relative - 1)
    level = f32_spread(np.float32((least * (1 + share) + share * rho * rho + plan.absolute) * plan.slack))
    steep = f32_spread(np.float32(2 * rho * plan.slack))
    squares_at, to_at, places_at = address(scratch.squares), address(scratch.candidates), address(scratch.places)
    count = 0
    for k in range(len(plan.blocks)):
        limit = multiply_add(steep, f32_load(apart_at + 64 * k), level)
        bits = not_above(f32_load(squares_at + 64 * k), limit)
        for half in (np.int32(0), np.int32(8)):
            eight = (bits >> half) & np.uint32(255)
            first = eight_spread(np.int32(16 * k) + half)
            store(to_at + 4 * count, eight_load(places_at + 32 * np.int64(eight)) + first)
            count += count_bits(eight)
    return count, nearest


@inline
def _keep_two(
    s: Sixteen32, number: int, best: Sixteen32, second: Sixteen32, whose: Any
) -> tuple[Sixteen32, Sixteen32, Any]:
    """The two least so far, and the number of the least."""
    second = where_less(s, best, best, where_less(s, second, s, second))
    return where_less(s, best, s, best), second, where_less(s, best, ints_spread(number), whose)


@inline
def _nearest(plan: Plan, scratch: Scratch, count: int) -> Bits:
    """The nearest candidate of each of the group's spectra, into scratch.lanes; bits of those float32 leaves open."""
    n_bands = plan.rounded.shape[1]
    weights_at, group_at, row = address(plan.rounded), address(scratch.group), 4 * n_bands
    best = second = f32_spread(np.float32(np.inf))
    whose = ints_spread(np.int32(0))
    scratch.candidates[count : count + 3] = len(plan.exact)  # at infinity: fills up the last four
    for k in range(0, count, 4):
        c0, c1 = scratch.candidates[k], scratch.candidates[k + 1]
        c2, c3 = scratch.candidates[k + 2], scratch.candidates[k + 3]
        w0, w1 = weights_at + row * c0, weights_at + row * c1
        w2, w3 = weights_at + row * c2, weights_at + row * c3
        s0 = s1 = s2 = s3 = f32_spread(np.float32(0))
        for b in range(n_bands):
            x = f32_load(group_at + 64 * b)
            d0, d1 = x - f32_spread_from(w0 + 4 * b), x - f32_spread_from(w1 + 4 * b)
            d2, d3 = x - f32_spread_from(w2 + 4 * b), x - f32_spread_from(w3 + 4 * b)
            s0, s1 = multiply_add(d0, d0, s0), multiply_add(d1, d1, s1)
            s2, s3 = multiply_add(d2, d2, s2), multiply_add(d3, d3, s3)
        best, second, whose = _keep_two(s0, c0, best, second, whose)
        best, second, whose = _keep_two(s1, c1, best, second, whose)
        best, second, whose = _keep_two(s2, c2, best, second, whose)
        best, second, whose = _keep_two(s3, c3, best, second, whose)
    store(address(scratch.lanes), whose)
    relative, absolute = f32_spread(np.float32(plan.relative)), f32_spread(np.float32(plan.absolute))
    return not_above(second, multiply_add(best, relative, absolute))


@inline
def _settle(plan: Plan, scratch: Scratch, rounded: Floats32, x: NDArray[Any], two: bool) -> tuple[int, int]:
    """MiniSom's winner for one spectrum and, if asked for, the nearest of the others; -1 where there is none.

    float32 tells which neurons come into question (1. of `Plan`), MiniSom's arithmetic decides between them.
    """
    for b in range(len(x)):
        if not np.isfinite(x[b]):
            return -1, -1
    squares, squares_at = scratch.squares, address(scratch.squares)
    least, nearest = _measure_all(plan, address(rounded), squares)
    if two:
        squares[nearest], least = np.inf, squares[nearest]
        low = f32_spread(np.float32(np.inf))
        for at in range(squares_at, squares_at + 4 * len(squares), 64):
            low = where_less(f32_load(at), low, f32_load(at), low)
        squares[nearest], least = least, smallest(low)
    limit = f32_spread(np.float32(least * plan.relative + plan.absolute))
    first: Any = -1
    second: Any = -1
    best, runner_up = np.inf, np.inf
    for k in range(0, len(squares), 16):
        bits = not_above(f32_load(squares_at + 4 * k), limit)
        while bits:
            j = k + np.int64(first_bit(bits))
            bits &= bits - np.uint32(1)
            if j >= len(plan.exact):
                continue
            d = np.sqrt(squared_distance(x, plan.exact[j]))
            if first < 0 or d < best:
                second, runner_up = first, best
                first, best = j, d
            elif second < 0 or d < runner_up:
                second, runner_up = j, d
    return first, second


def search(plan: Plan, scratch: Scratch, rounded: Floats32, spectra: NDArray[Any], index: Ints) -> None:
    """BMU of each of the spectra (N, B), at least one, float32 or float64; `rounded` are the same in float32."""
    n, cells = len(rounded), np.empty(len(rounded), np.uint16)
    _find_cells(plan, rounded, cells)
    order = np.argsort(cells, kind="stable").astype(np.uint32)
    _search_in_order(plan, scratch, rounded, np.resize(order, n + 32), index)
    _settle_the_rest(plan, scratch, rounded, spectra, index)


@kernel
def _search_in_order(plan: Plan, scratch: Scratch, rounded: Floats32, order: Order, index: Ints) -> None:
    """BMU of each of the spectra, or UNSETTLED, in order, sixteen at a time; the order goes on with any 32."""
    n, b = len(rounded), -1
    for start in range(0, n, 16):
        _load_group(scratch, rounded, order, start)
        count, b = _candidates(plan, scratch, b)
        unsettled = _nearest(plan, scratch, count)
        for r in range(np.uint32(min(16, n - start))):
            index[order[np.uint32(start) + r]] = UNSETTLED if (unsettled >> r) & 1 else scratch.lanes[r]


@kernel
def _settle_the_rest(plan: Plan, scratch: Scratch, rounded: Floats32, spectra: NDArray[Any], index: Ints) -> None:
    """BMU of the spectra that are UNSETTLED."""
    for r in range(len(spectra)):
        if index[r] == UNSETTLED:
            index[r] = _settle(plan, scratch, rounded[r], spectra[r], False)[0]


@kernel
def search_two(
    plan: Plan, scratch: Scratch, rounded: Floats32, spectra: NDArray[Any], index: Ints, second: Ints
) -> None:
    """BMU and second BMU of each of the spectra (N, B); `rounded` are the same in float32."""
    for r in range(len(spectra)):
        index[r], second[r] = _settle(plan, scratch, rounded[r], spectra[r], True)


@kernel
def bmu_distances(plan: Plan, spectra: NDArray[Any], index: Ints, distance: NDArray[np.float64]) -> None:
    """Distance of each of the spectra from its BMU, as MiniSom computes it; NaN where there is none."""
    for r in range(len(spectra)):
        distance[r] = np.sqrt(squared_distance(spectra[r], plan.exact[index[r]])) if index[r] >= 0 else np.nan
