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
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model
from numpy.typing import DTypeLike, NDArray

# --- lanes ----------------------------------------------------------------------------------------------------

BIT, INT32, INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: INT32}


class Lanes(types.Type):
    """Numba type of `count` numbers in one register."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element, self.count = element, count
        self.vector = ir.VectorType(ELEMENTS[element], count)
        super().__init__(name=f"Lanes({element}, {count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Lanes are LLVM vectors."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)


F64, F32, INTS, QUAD = Lanes(types.float64, 8), Lanes(types.float32, 16), Lanes(types.int32, 16), Lanes(types.float32, 4)


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
ints_load, _, ints_spread = _makers(INTS)


def _arithmetic(symbol: Any, float_name: str, int_name: str) -> None:
    """Let numba understand `x symbol y` for lanes."""

    @intrinsic
    def compute(_: Any, x: Any, y: Any) -> Any:
        name = int_name if x.element is types.int32 else float_name
        return x(x, x), lambda context, builder, signature, args: getattr(builder, name)(*args)

    @overload(symbol, strict=False)
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
def compress(_: Any, bits: Any, x: Any) -> Any:
    """The lanes whose bit is set, moved to the front; the rest is undefined."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = builder.bitcast(builder.trunc(args[0], ir.IntType(x.count)), ir.VectorType(BIT, x.count))
        name = f"llvm.experimental.vector.compress.{_suffix(x)}"
        return _call(builder, name, x.vector, [args[1], mask, ir.Constant(x.vector, ir.Undefined)])

    return x(types.uint32, x), emit


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
        kind = ir.FunctionType(ir.VoidType(), [where.type, INT32, INT32, INT32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [where, INT32(0), INT32(3), INT32(1)])
        return context.get_dummy_value()

    return types.void(types.intp), emit


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL, and keep the machine code on disk: beside this file, or in the user's cache."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder to keep it in can be written
        return njit(nogil=True, error_model="numpy")(function)


#: A function that becomes part of the kernel that calls it, so that lanes stay in registers.
inline = njit(inline="always", error_model="numpy")


def aligned(shape: tuple[int, ...], dtype: DTypeLike, fill: float | None = None) -> NDArray[Any]:
    """An array that starts on a cache line: lanes that cross two lines load at half the speed."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + nbytes].view(dtype).reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


# --- MiniSom's arithmetic -------------------------------------------------------------------------------------


@kernel
def _leaf(x: Any, w: Any, start: int, stop: int) -> float:
    """sum((x - w)**2) over [start, stop) as numpy adds up to 128 terms: in eight interleaved sums from 8 on."""
    n = stop - start
    done = start
    total = -0.0
    if n >= 8:
        r0 = r1 = r2 = r3 = r4 = r5 = r6 = r7 = -0.0
        done = stop - n % 8
        for i in range(start, done, 8):
            r0 += (x[i] - w[i]) * (x[i] - w[i])
            r1 += (x[i + 1] - w[i + 1]) * (x[i + 1] - w[i + 1])
            r2 += (x[i + 2] - w[i + 2]) * (x[i + 2] - w[i + 2])
            r3 += (x[i + 3] - w[i + 3]) * (x[i + 3] - w[i + 3])
            r4 += (x[i + 4] - w[i + 4]) * (x[i + 4] - w[i + 4])
            r5 += (x[i + 5] - w[i + 5]) * (x[i + 5] - w[i + 5])
            r6 += (x[i + 6] - w[i + 6]) * (x[i + 6] - w[i + 6])
            r7 += (x[i + 7] - w[i + 7]) * (x[i + 7] - w[i + 7])
        total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for i in range(done, stop):
        total += (x[i] - w[i]) * (x[i] - w[i])
    return total


@kernel
def _halves(x: Any, w: Any) -> float:
    """sum((x - w)**2) as numpy adds more than 128 terms: each half on its own, down to pieces of 128 or less."""
    stop = np.zeros(64, np.int64)  # by level: where the piece at work on that level ends,
    is_left = np.zeros(64, np.bool_)  # whether it is its parent's left half,
    left = np.zeros(64)  # and the sum of the left half, once known
    level, start = 0, 0
    stop[0] = len(w)
    while True:
        while stop[level] - start > 128:
            half = (stop[level] - start) // 2
            level += 1
            stop[level] = start + half - half % 8
            is_left[level] = True
        total = _leaf(x, w, start, stop[level])
        start = stop[level]
        while level > 0 and not is_left[level]:
            level -= 1
            total = left[level] + total
        if level == 0:
            return total
        left[level - 1] = total
        stop[level] = stop[level - 1]
        is_left[level] = False


@kernel
def squared_distance(x: Any, w: Any) -> float:
    """sum((x - w)**2) in float64, in the order numpy's `add.reduce` takes a contiguous axis.

    `MiniSom.winner` takes the root of this number, so its answers, ties included, need the same roundings.
    """
    return _leaf(x, w, 0, len(w)) if len(w) <= 128 else _halves(x, w)


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
def _first_minimum(squares: Any, least: float) -> int:
    """numpy's argmin of the roots of `squares`, whose least value is given: the first least one, or the first NaN."""
    if np.isnan(least):
        return np.argmax(np.isnan(squares))
    nearly = f64_spread(least * (1 + 2.0**-50))  # whatever is above has a larger root too
    at = squares.ctypes.data
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
    from_at, to_at = mirrored.ctypes.data + 8 * (n_columns - 1 - column), g.ctypes.data
    rates = f64_spread(rate)
    for i in range(n_rows):
        across = f64_spread(bell[abs(i - row)])
        for j in range(0, n_columns, 8):  # what runs over the row's end is overwritten by the next row
            store(to_at + 8 * (i * n_columns + j), (across * f64_load(from_at + 8 * j)) * rates)


@kernel
def train_steps(
    weights: Any, spectra: Any, bells: Any, rates: Any, squares: Any, n_rows: int, n_columns: int
) -> None:
    """Run one training step for each row of `spectra`; the weights are changed in place.

    weights: (bands, padded neurons) float64, aligned, the padding 1e300; spectra: (steps + 1, bands) float64,
    the last row only looked at; bells: (steps, max(n_rows, n_columns)), the neighbourhood along one axis by
    distance; rates: (steps,), the learning rate; squares: (padded neurons,) aligned, on entry the squared
    distances of the first row, on return those of the last.
    """
    n_blocks, n_bands, _ = weights.shape
    n_neurons, padded = n_rows * n_columns, 8 * n_blocks
    g, mirrored = np.zeros(n_neurons + n_columns + 16), np.zeros(2 * n_columns + 16)
    w_at, g_at, s_at, x_at = weights.ctypes.data, g.ctypes.data, squares.ctypes.data, spectra.ctypes.data
    least = np.min(squares)  # NaN if any is
    for t in range(len(rates)):
        winner = _first_minimum(squares, least)
        _neighbourhood(g, mirrored, bells[t], winner, rates[t], n_rows, n_columns)
        g[n_neurons:padded] = 0.0
        y_at = x_at + 8 * n_bands
        low, high = f64_spread(np.inf), f64_spread(0.0)
        for i in range(n_blocks):
            j = i if t % 2 else n_blocks - 1 - i  # back and forth: what was touched last is still in the cache
            d = _move_and_measure(w_at + j * 64 * n_bands, n_bands, x_at, f64_load(g_at + 64 * j), y_at)
            store(s_at + 64 * j, d)
            low, high = where_less(d, low, d, low), high + d
        least = smallest(low) if not np.isnan(largest(high)) else np.nan
        x_at = y_at
