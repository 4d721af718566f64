"""Compiled inner loops of training and BMU search.

Everything numba compiles stands in this one file, because numba notices a change of the file a kernel is in,
but not of files it imports: kernels cached on disk would go stale.

The first part is a small vector type, `Lanes`: several numbers side by side in one register, so that the
kernels say what runs in parallel instead of hoping that the compiler finds it. LLVM turns it into the
instructions the machine has (AVX-512, AVX2, NEON, ...). The arithmetic is IEEE: nothing is reordered, and
multiplications and additions are fused only where `multiply_add` says so.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, njit
from numba.core import types
from numba.core.datamodel import models
from numpy.typing import DTypeLike, NDArray

# --- lanes ----------------------------------------------------------------------------------------------------

intrinsic: Any = extending.intrinsic  # its own type would have the typing context among a call's arguments

BIT, INT32 = ir.IntType(1), ir.IntType(32)
ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: INT32}


class Lanes(types.Type):
    """Numba type of `count` numbers in one register."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        self.vector = ir.VectorType(ELEMENTS[element], count)
        super().__init__(name=f"Lanes({element}, {count})")


@extending.register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are LLVM vectors."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)


F64, F32, QUAD = Lanes(types.float64, 8), Lanes(types.float32, 16), Lanes(types.float32, 4)
INTS, EIGHT_INTS = Lanes(types.int32, 16), Lanes(types.int32, 8)


def _call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    """The same value in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector.count), None))


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _mask(builder: Any, comparison: Any) -> Any:
    """A comparison of lanes as bits: bit i is lane i."""
    return builder.zext(builder.bitcast(comparison, ir.IntType(comparison.type.count)), INT32)


def _suffix(lanes: Lanes) -> str:
    return f"v{lanes.count}{'i' if lanes.element is types.int32 else 'f'}{lanes.element.bitwidth}"


def _makers(lanes: Lanes) -> tuple[Callable[..., Any], ...]:
    """`load(address)`, `spread_from(address)` and `spread(value)` for one kind of lanes."""

    @intrinsic
    def load(_: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_at(builder, args[0], lanes.vector), align=lanes.element.bitwidth // 8)

        return lanes(types.intp), emit

    @intrinsic
    def spread_from(_: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _spread(builder, builder.load(_at(builder, args[0], lanes.vector.element)), lanes.vector)

        return lanes(types.intp), emit

    @intrinsic
    def spread(_: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _spread(builder, args[0], lanes.vector)

        return lanes(lanes.element), emit

    return load, spread_from, spread


f64_load, f64_spread_from, f64_spread = _makers(F64)
f32_load, f32_spread_from, f32_spread = _makers(F32)
quad_load, quad_spread_from, quad_spread = _makers(QUAD)
_, _, ints_spread = _makers(INTS)
eight_load, _, eight_spread = _makers(EIGHT_INTS)


def _arithmetic(symbol: Any, float_name: str, int_name: str) -> None:
    """Let numba understand `x symbol y` for lanes."""

    @intrinsic
    def compute(_: Any, x: Any, y: Any) -> Any:
        name = int_name if x.element is types.int32 else float_name
        return x(x, x), lambda context, builder, signature, args: getattr(builder, name)(*args)

    @extending.overload(symbol, strict=False)
    def lanes_operator(x: Any, y: Any) -> Any:
        if isinstance(x, Lanes) and x == y:
            return lambda x, y: compute(x, y)
        return None


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")


@intrinsic
def store(_: Any, address: Any, value: Any) -> Any:
    """Write lanes to memory."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _at(builder, args[0], args[1].type), align=value.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.intp, value), emit


@intrinsic
def multiply_add(_: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, fused where the machine can: only for results that carry an error bound."""
    name = f"llvm.fmuladd.{_suffix(x)}"
    return x(x, x, x), lambda context, builder, signature, args: _call(builder, name, x.vector, list(args))


@intrinsic
def root(_: Any, x: Any) -> Any:
    """Square roots."""
    name = f"llvm.sqrt.{_suffix(x)}"
    return x(x), lambda context, builder, signature, args: _call(builder, name, x.vector, list(args))


@intrinsic
def where_less(_: Any, x: Any, y: Any, chosen: Any, other: Any) -> Any:
    """`chosen` in the lanes where x < y, else `other`; a comparison with NaN is false."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return chosen(x, x, chosen, chosen), emit


@intrinsic
def not_above(_: Any, x: Any, y: Any) -> Any:
    """Bits of the lanes where x <= y or either is NaN."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _mask(builder, builder.fcmp_unordered("<=", *args))

    return types.uint32(x, x), emit


def _extreme(reduction: str) -> Callable[..., Any]:
    """The least or largest lane. None is negative, so the order of the bits is that of the numbers, NaN on top."""

    @intrinsic
    def extreme(_: Any, x: Any) -> Any:
        bits = ir.VectorType(ir.IntType(x.element.bitwidth), x.count)
        name = f"llvm.vector.reduce.{reduction}.v{x.count}i{x.element.bitwidth}"

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found = _call(builder, name, bits.element, [builder.bitcast(args[0], bits)])
            return builder.bitcast(found, x.vector.element)

        return x.element(x), emit

    return extreme


smallest, largest = _extreme("umin"), _extreme("umax")


@intrinsic
def pick(_: Any, x: Any, i: Any) -> Any:
    """Lane i."""
    return x.element(x, types.int32), lambda context, builder, signature, args: builder.extract_element(*args)


@intrinsic
def to_ints(_: Any, x: Any) -> Any:
    """Lanes of finite numbers, truncated."""
    vector = ir.VectorType(INT32, x.count)
    result = Lanes(types.int32, x.count)
    return result(x), lambda context, builder, signature, args: builder.fptosi(args[0], vector)


@intrinsic
def count_bits(_: Any, bits: Any) -> Any:
    """Number of bits set."""
    return types.uint32(types.uint32), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def first_bit(_: Any, bits: Any) -> Any:
    """Place of the lowest bit set, of a number that is not 0."""
    return types.uint32(types.uint32), lambda context, builder, signature, args: builder.cttz(args[0], BIT(1))


@intrinsic
def prefetch(_: Any, address: Any) -> Any:
    """Ask for a cache line before it is needed."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _at(builder, args[0], ir.IntType(8))
        to_read, keep, data = INT32(0), INT32(3), INT32(1)
        _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), [where, to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.intp), emit


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL, and keep the machine code on disk: beside this file, or in the user's cache."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder to keep it in can be written
        return njit(nogil=True, error_model="numpy")(function)


#: A function that becomes part of the kernel that calls it, so that lanes stay in registers.
inline = njit(forceinline=True, error_model="numpy")


def aligned(shape: tuple[int, ...], dtype: DTypeLike, fill: float | None = None) -> NDArray[Any]:
    """An array that starts on a cache line: lanes that cross two lines load at half the speed."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + nbytes].view(dtype).reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


@inline
def address(array: Any) -> Any:
    """Where an array's data starts. Signed: numba's own address is unsigned, and adding the two makes a float."""
    return np.int64(array.ctypes.data)


# --- MiniSom's arithmetic -------------------------------------------------------------------------------------


#: numpy adds up to so many terms in eight interleaved sums, more of them in another order, which is not followed here.
MOST_BANDS = 128


@kernel
def squared_distance(x: Any, w: Any) -> float:
    """sum((x - w)**2) in float64 of up to 128 terms, in the order numpy's `add.reduce` takes a contiguous axis.

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


# --- training -------------------------------------------------------------------------------------------------
# Weights stand band by band, neurons side by side (bands, neurons padded to whole lanes), so that eight neurons
# are worked on at once and each of them still sees MiniSom's operations in MiniSom's order.


@inline
def _term(w_at: int, x_at: int, g: Any, y_at: int) -> Any:
    """One band of eight neurons: move the weights towards x by the share g, then (weight - y)**2.

    w - g * (w - x) has the bits of MiniSom's w + g * (x - w): changing both signs changes no rounding.
    """
    w = f64_load(w_at)
    w = w - g * (w - f64_spread_from(x_at))
    store(w_at, w)
    d = w - f64_spread_from(y_at)
    return d * d


@inline
def _move_and_measure(w_at: int, n_bands: int, x_at: int, g: Any, y_at: int) -> Any:
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
def _first_minimum(squares: Any, least: float) -> Any:
    """numpy's argmin of the roots of `squares`, whose least value is given: the first least one, or the first NaN."""
    if np.isnan(least):
        return np.argmax(np.isnan(squares))
    nearly = f64_spread(least * (1 + 2.0**-50))  # whatever is above has a larger root too
    at = address(squares)
    for j in range(0, len(squares), 8):
        bits = not_above(f64_load(at + 8 * j), nearly)
        while bits:
            k = j + first_bit(bits)
            if np.sqrt(squares[k]) == np.sqrt(least):
                return k
            bits &= bits - np.uint32(1)
    return 0


@kernel
def _neighbourhood(g: Any, mirrored: Any, bell: Any, winner: int, rate: float, n_rows: int, n_columns: int) -> None:
    """MiniSom's gaussian times the learning rate around the winner, neuron by neuron into g."""
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
def train_steps(weights: Any, spectra: Any, bells: Any, rates: Any, squares: Any, n_rows: int, n_columns: int) -> None:
    """Run one training step for each row of `spectra`; the weights are changed in place.

    weights: (blocks, bands, 8) float64, aligned, neurons in row-major order, the padding 1e300; spectra: (steps,
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
    least = np.min(squares)  # NaN if any is
    for t in range(len(spectra)):
        winner = _first_minimum(squares, least)
        _neighbourhood(g, mirrored, bells[t], winner, rates[t], n_rows, n_columns)
        g[n_neurons : 8 * n_blocks] = 0.0
        last = t == len(spectra) - 1
        s_at = address(unread) if last else address(squares)
        y_at = x_at if last else x_at + 8 * n_bands
        low, high = f64_spread(np.inf), f64_spread(0.0)
        for i in range(n_blocks):
            j = i if t % 2 else n_blocks - 1 - i  # back and forth: what was touched last is still in the cache
            d = _move_and_measure(w_at + j * 64 * n_bands, n_bands, x_at, f64_load(g_at + 64 * j), y_at)
            store(s_at + 64 * j, d)
            low, high = where_less(d, low, d, low), high + d
        least = smallest(low) if not np.isnan(largest(high)) else np.nan
        x_at = y_at


# --- BMU search -----------------------------------------------------------------------------------------------
# Sixteen spectra are searched at once, one in each lane. Spectra of a chunk are first put in an order in which
# neighbours look alike; of sixteen alike ones, a ball around their mean leaves a few neurons that can be nearest to
# any of them (`_candidates`), and these are measured in float32 (`_nearest`). Whatever float32 cannot tell apart
# is settled in float64 (`_settle`). The proofs are with the bounds, in `Plan`. On real scenes some 25 of 300 neurons
# are left. Bounds from the BMU of the pixel before (triangle inequality, sorted neighbours of each neuron) leave as
# few, but spectrum by spectrum: branches mispredicted and sums across lanes then cost more than the distances.


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
    """Working memory of one thread, for chunks of up to N spectra."""

    order: NDArray[np.uint32]  # (N + 32,) the spectra in order; unsigned, as a sign costs time in an index
    cell: NDArray[np.int32]  # (N + 3,)
    starts: NDArray[np.uint32]  # (N_CELLS + 1,)
    group: NDArray[np.float32]  # (B, 16) sixteen spectra, one a lane
    mean: NDArray[np.float32]  # (B,)
    squares: NDArray[np.float32]  # (padded K,) squared distances of the neurons from the mean
    apart: NDArray[np.float32]  # (padded K,) distances of the neurons from neuron b
    candidates: NDArray[np.int32]  # (padded K + 16,)
    lanes: NDArray[np.int32]  # (16,)
    places: NDArray[np.int32]  # (256, 8) which bits of a number below 256 are set


UNSETTLED = -2  # in place of a BMU: to be found in float64
N_CELLS = 2**16
LARGE = 4096  # neurons; distances between more (64 MB) are not kept but measured when needed, a third slower


def make_plan(weights: NDArray[np.float64]) -> Plan:
    """Prepare a search on weights (neurons, bands), all of them finite."""
    n_neurons, n_bands = weights.shape
    rounded = aligned((n_neurons // 64 * 64 + 64, n_bands), np.float32, np.inf)
    with np.errstate(over="ignore"):
        rounded[:n_neurons] = weights
        longest = 1.01 * np.sqrt((weights**2).sum(axis=1).max()) + np.sqrt(n_bands) * 2.0**-100
    blocks = aligned((len(rounded) // 16, n_bands, 16), np.float32)
    blocks[:] = rounded.reshape(-1, 16, n_bands).transpose(0, 2, 1)
    u = 2.0**-24
    gamma, tiny = (n_bands + 8) * u, n_bands * 2.0**-120
    relative = (1 + 2.0**-15) * (1 + 16 * u) * (1 + gamma) / (1 - gamma)
    absolute = 2.0**15 * 18 * (u * longest) * (u * longest) + 4 * tiny
    apart = aligned((n_neurons if n_neurons <= LARGE else 0, len(rounded)), np.float32)
    plan = Plan(weights, rounded, blocks, *_grid(weights), apart, relative, absolute, 1 + 8 * gamma, tiny)
    measure_neurons_apart(plan, apart)
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
    axes, origin = aligned((n_bands, 4), np.float32, 0.0), aligned((4,), np.float32, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # an order that cannot be computed costs time, nothing else
        per_unit = np.divide(cells[:n_axes], span, out=np.zeros(n_axes), where=span > 0)
        axes[:, :n_axes] = principal * per_unit / unit
        origin[:n_axes] = -along.min(axis=0) * per_unit
    return axes, origin, (cells - 1).astype(np.float32)


def _places_of_bits() -> NDArray[np.int32]:
    """For each number below 256 the places of the bits that are set, from the left; the rest is 0."""
    places = aligned((256, 8), np.int32, 0)
    for number in range(256):
        is_set = [bit for bit in range(8) if number >> bit & 1]
        places[number, : len(is_set)] = is_set
    return places


PLACES_OF_BITS = _places_of_bits()


def make_scratch(plan: Plan, n: int) -> Scratch:
    """Working memory for one thread."""
    padded, n_bands = plan.rounded.shape
    return Scratch(
        order=np.empty(n + 32, np.uint32),
        cell=np.empty(n + 3, np.int32),
        starts=np.empty(N_CELLS + 1, np.uint32),
        group=aligned((n_bands, 16), np.float32),
        mean=aligned((n_bands,), np.float32),
        squares=aligned((padded,), np.float32),
        apart=aligned((padded,), np.float32),
        candidates=aligned((padded + 16,), np.int32),
        lanes=aligned((16,), np.int32),
        places=PLACES_OF_BITS,
    )


@inline
def _cell(projected: Any, top: Any) -> int:
    """Number of a grid cell, counted to and fro, so that cells of consecutive numbers touch; N_CELLS: not finite."""
    zero = quad_spread(np.float32(0))
    inside = where_less(zero, projected, projected, zero)
    inside = where_less(inside, top, inside, top)
    place, end = to_ints(inside), to_ints(top)
    cell = pick(place, np.int32(0))
    end1, end2, end3 = pick(end, np.int32(1)), pick(end, np.int32(2)), pick(end, np.int32(3))
    cell = cell * (end1 + 1) + (pick(place, np.int32(1)) ^ (end1 & -(cell & 1)))
    cell = cell * (end2 + 1) + (pick(place, np.int32(2)) ^ (end2 & -(cell & 1)))
    cell = cell * (end3 + 1) + (pick(place, np.int32(3)) ^ (end3 & -(cell & 1)))
    return cell if np.isfinite(pick(projected, np.int32(0))) else N_CELLS


@inline
def _find_cells(plan: Plan, rounded: Any, cells: Any) -> None:
    """Grid cells of the spectra (N, B), four spectra at a time, at the end some of them more than once."""
    n, n_bands = rounded.shape
    axes_at, origin, top = address(plan.axes), quad_load(address(plan.origin)), quad_load(address(plan.top))
    for r in range(0, n, 4):
        at, row = address(rounded) + 4 * n_bands * r, 4 * n_bands
        at1, at2, at3 = at + row * min(1, n - 1 - r), at + row * min(2, n - 1 - r), at + row * min(3, n - 1 - r)
        p0 = p1 = p2 = p3 = origin
        for b in range(n_bands):
            axis = quad_load(axes_at + 16 * b)
            p0 = multiply_add(quad_spread_from(at + 4 * b), axis, p0)
            p1 = multiply_add(quad_spread_from(at1 + 4 * b), axis, p1)
            p2 = multiply_add(quad_spread_from(at2 + 4 * b), axis, p2)
            p3 = multiply_add(quad_spread_from(at3 + 4 * b), axis, p3)
        cells[r], cells[r + 1] = _cell(p0, top), _cell(p1, top)
        cells[r + 2], cells[r + 3] = _cell(p2, top), _cell(p3, top)


@inline
def _put_in_order(plan: Plan, scratch: Scratch, rounded: Any) -> int:
    """Sort the spectra by grid cell into scratch.order, those not finite last; returns the number of the others."""
    _find_cells(plan, rounded, scratch.cell)
    starts, n = scratch.starts, np.uint32(len(rounded))
    starts[:] = 0
    for r in range(n):
        starts[np.uint32(scratch.cell[r])] += np.uint32(1)
    total: Any = np.uint32(0)
    for c in range(N_CELLS):
        count = starts[c]
        starts[c] = total
        total += count
    starts[N_CELLS] = total
    for r in range(n):
        cell = np.uint32(scratch.cell[r])
        scratch.order[starts[cell]] = r
        starts[cell] += np.uint32(1)
    scratch.order[n : n + np.uint32(32)] = scratch.order[0]
    return total


@inline
def _load_group(scratch: Scratch, rounded: Any, start: int) -> None:
    """Sixteen spectra in order, one a lane, and their mean; the next sixteen are sent for."""
    n_bands = rounded.shape[1]
    row, group, order = 4 * n_bands, scratch.group, scratch.order
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
def _keep_least(to_at: int, s: Any, number: int, low: Any, whose: Any) -> tuple[Any, Any]:
    """Write down s; the least so far, and whose number it has."""
    store(to_at, s)
    return where_less(s, low, s, low), where_less(s, low, ints_spread(np.int32(number)), whose)


@inline
def _measure_all(plan: Plan, point_at: int, squares: Any) -> tuple[float, int]:
    """Squared distances (float32) of a point to all neurons; the least, and whose it is."""
    n_bands = plan.blocks.shape[1]
    blocks_at, to_at, row = address(plan.blocks), address(squares), 64 * n_bands
    low, whose = f32_spread(np.float32(np.inf)), ints_spread(np.int32(0))
    for k in range(0, len(plan.blocks), 4):
        s0 = s1 = s2 = s3 = f32_spread(np.float32(0))
        at = blocks_at + k * row
        for b in range(n_bands):
            x = f32_spread_from(point_at + 4 * b)
            d0, d1 = f32_load(at + 64 * b) - x, f32_load(at + row + 64 * b) - x
            d2, d3 = f32_load(at + 2 * row + 64 * b) - x, f32_load(at + 3 * row + 64 * b) - x
            s0, s1 = multiply_add(d0, d0, s0), multiply_add(d1, d1, s1)
            s2, s3 = multiply_add(d2, d2, s2), multiply_add(d3, d3, s3)
        low, whose = _keep_least(to_at + 64 * k, s0, k, low, whose)
        low, whose = _keep_least(to_at + 64 * k + 64, s1, k + 1, low, whose)
        low, whose = _keep_least(to_at + 64 * k + 128, s2, k + 2, low, whose)
        low, whose = _keep_least(to_at + 64 * k + 192, s3, k + 3, low, whose)
    least = smallest(low)
    lane = np.int32(first_bit(not_above(low, f32_spread(least))))
    return least, 16 * pick(whose, lane) + lane


@inline
def _measure_apart(plan: Plan, b: int, apart: Any) -> None:
    """Distances of the neurons from neuron b, with all the slack they need; 0 for the padding, to keep it out."""
    _measure_all(plan, address(plan.rounded) + 4 * plan.rounded.shape[1] * b, apart)
    slack, tiny = f32_spread(np.float32(plan.slack)), f32_spread(np.float32(2 * plan.tiny))
    for at in range(address(apart), address(apart) + 4 * len(apart), 64):
        store(at, root(multiply_add(f32_load(at), slack, tiny)))
    apart[len(plan.exact) :] = 0


@kernel
def measure_neurons_apart(plan: Plan, apart: Any) -> None:
    """`plan.apart` of all neurons."""
    for b in range(len(apart)):
        _measure_apart(plan, b, apart[b])


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
def _keep_two(s: Any, number: int, best: Any, second: Any, whose: Any) -> tuple[Any, Any, Any]:
    """The two least so far, and the number of the least."""
    second = where_less(s, best, best, where_less(s, second, s, second))
    return where_less(s, best, s, best), second, where_less(s, best, ints_spread(number), whose)


@inline
def _nearest(plan: Plan, scratch: Scratch, count: int) -> int:
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
def _settle(plan: Plan, scratch: Scratch, rounded: Any, x: Any, two: bool) -> tuple[int, int]:
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


@kernel
def search(plan: Plan, scratch: Scratch, rounded: Any, index: Any) -> None:
    """BMU of each of the spectra (N, B) float32 into index, or UNSETTLED."""
    n = len(rounded)
    n_ordered, b = _put_in_order(plan, scratch, rounded), -1
    for start in range(0, n_ordered, 16):
        _load_group(scratch, rounded, start)
        count, b = _candidates(plan, scratch, b)
        unsettled = _nearest(plan, scratch, count)
        for r in range(np.uint32(min(16, n_ordered - start))):
            index[scratch.order[np.uint32(start) + r]] = UNSETTLED if (unsettled >> r) & 1 else scratch.lanes[r]
    for i in range(n_ordered, n):
        index[scratch.order[i]] = UNSETTLED


@kernel
def settle(plan: Plan, scratch: Scratch, rounded: Any, spectra: Any, index: Any) -> None:
    """BMU of the spectra that are UNSETTLED in index; `spectra` as given, float32 or float64, `rounded` in float32."""
    for r in range(len(spectra)):
        if index[r] == UNSETTLED:
            index[r] = _settle(plan, scratch, rounded[r], spectra[r], False)[0]


@kernel
def search_two(plan: Plan, scratch: Scratch, rounded: Any, spectra: Any, index: Any, second: Any) -> None:
    """BMU and second BMU of each of the spectra."""
    for r in range(len(spectra)):
        index[r], second[r] = _settle(plan, scratch, rounded[r], spectra[r], True)


@kernel
def bmu_distances(plan: Plan, spectra: Any, index: Any, distance: Any) -> None:
    """Distance of each of the spectra from its BMU, as MiniSom computes it; NaN where there is none."""
    for r in range(len(spectra)):
        distance[r] = np.sqrt(squared_distance(spectra[r], plan.exact[index[r]])) if index[r] >= 0 else np.nan
