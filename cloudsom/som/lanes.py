"""Lanes: several numbers side by side in one register, the vector type of the compiled kernels.

With it the kernels (`training_loop`, `search`) say what runs in parallel instead of hoping that the compiler finds it.
LLVM turns it into the instructions the machine has (AVX-512, AVX2, NEON, ...). The arithmetic is IEEE: nothing is
reordered, and multiplications and additions are fused only where `multiply_add` says so.

How to read a kernel: an address is a whole number of bytes; `f64_load(address)` are the eight float64 there, side by
side; `f64_spread(x)` is x in every lane; + - * work lane by lane.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, njit
from numba.core import types
from numba.core.datamodel import models

from cloudsom.running.compiling import compiled

#: Types of what is in registers, for readers: to Python they are anything, to numba they are `Lanes`.
Eight64 = Any  # eight float64
Sixteen32 = Any  # sixteen float32
Four32 = Any  # four float32
Bits = Any  # uint32, bit i for lane i

intrinsic: Any = extending.intrinsic  # by numba's own type callers would have to pass the typing context

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


def _emitting(emit: Callable[..., Any]) -> Callable[..., Any]:
    """`emit(builder, *values)`, which builds LLVM's instructions, as numba calls it."""

    def emit_for_numba(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        built = emit(builder, *args)
        return context.get_dummy_value() if signature.return_type == types.void else built

    return emit_for_numba


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    """The same value in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector.count), None))


def _at(builder: Any, place: Any, kind: Any) -> Any:
    return builder.inttoptr(place, kind.as_pointer())


def _makers(lanes: Lanes) -> tuple[Callable[..., Any], ...]:
    """`load(address)`, `spread_from(address)` and `spread(value)` for one kind of lanes."""

    vector, align = lanes.vector, lanes.element.bitwidth // 8

    @intrinsic
    def load(_: Any, place: Any) -> Any:
        return lanes(types.intp), _emitting(lambda builder, at: builder.load(_at(builder, at, vector), align=align))

    @intrinsic
    def spread_from(_: Any, place: Any) -> Any:
        return lanes(types.intp), _emitting(
            lambda builder, at: _spread(builder, builder.load(_at(builder, at, vector.element)), vector)
        )

    @intrinsic
    def spread(_: Any, value: Any) -> Any:
        return lanes(lanes.element), _emitting(lambda builder, value: _spread(builder, value, vector))

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
        return x(x, x), _emitting(lambda builder, *values: getattr(builder, name)(*values))

    @extending.overload(symbol, strict=False)
    def lanes_operator(x: Any, y: Any) -> Any:
        if isinstance(x, Lanes) and x == y:
            return lambda x, y: compute(x, y)
        return None


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")


@intrinsic
def store(_: Any, place: Any, value: Any) -> Any:
    """Write lanes to memory."""
    align = value.element.bitwidth // 8
    return types.void(types.intp, value), _emitting(
        lambda builder, at, value: builder.store(value, _at(builder, at, value.type), align=align)
    )


@intrinsic
def multiply_add(_: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, fused where the machine can: only for results that carry an error bound."""
    name = f"llvm.fmuladd.v{x.count}f{x.element.bitwidth}"
    return x(x, x, x), _emitting(lambda builder, *values: _call(builder, name, x.vector, *values))


@intrinsic
def root(_: Any, x: Any) -> Any:
    """Square roots."""
    name = f"llvm.sqrt.v{x.count}f{x.element.bitwidth}"
    return x(x), _emitting(lambda builder, value: _call(builder, name, x.vector, value))


@intrinsic
def where_less(_: Any, x: Any, y: Any, chosen: Any, other: Any) -> Any:
    """`chosen` in the lanes where x < y, else `other`; a comparison with NaN is false."""
    return chosen(x, x, chosen, chosen), _emitting(
        lambda builder, x, y, chosen, other: builder.select(builder.fcmp_ordered("<", x, y), chosen, other)
    )


@intrinsic
def not_above(_: Any, x: Any, y: Any) -> Any:
    """Bits of the lanes where x <= y or either is NaN: bit i is lane i."""
    bits = ir.IntType(x.count)
    return types.uint32(x, x), _emitting(
        lambda builder, x, y: builder.zext(builder.bitcast(builder.fcmp_unordered("<=", x, y), bits), INT32)
    )


def _extreme(reduction: str) -> Callable[..., Any]:
    """The least or largest lane. None is negative, so the order of the bits is that of the numbers, NaN on top."""

    @intrinsic
    def extreme(_: Any, x: Any) -> Any:
        bits = ir.VectorType(ir.IntType(x.element.bitwidth), x.count)
        name = f"llvm.vector.reduce.{reduction}.v{x.count}i{x.element.bitwidth}"

        def emit(builder: Any, value: Any) -> Any:
            return builder.bitcast(_call(builder, name, bits.element, builder.bitcast(value, bits)), x.vector.element)

        return x.element(x), _emitting(emit)

    return extreme


smallest, largest = _extreme("umin"), _extreme("umax")


@intrinsic
def pick(_: Any, x: Any, i: Any) -> Any:
    """Lane i."""
    return x.element(x, types.int32), _emitting(lambda builder, x, i: builder.extract_element(x, i))


@intrinsic
def to_ints(_: Any, x: Any) -> Any:
    """Lanes of finite numbers, truncated."""
    vector = ir.VectorType(INT32, x.count)
    return Lanes(types.int32, x.count)(x), _emitting(lambda builder, x: builder.fptosi(x, vector))


@intrinsic
def count_bits(_: Any, bits: Any) -> Any:
    """Number of bits set."""
    return types.uint32(types.uint32), _emitting(lambda builder, bits: builder.ctpop(bits))


@intrinsic
def first_bit(_: Any, bits: Any) -> Any:
    """Place of the lowest bit set, of a number that is not 0."""
    return types.uint32(types.uint32), _emitting(lambda builder, bits: builder.cttz(bits, BIT(1)))


@intrinsic
def prefetch(_: Any, place: Any) -> Any:
    """Ask for a cache line before it is needed."""
    how = INT32(0), INT32(3), INT32(1)  # to read, to be kept, data
    return types.void(types.intp), _emitting(
        lambda builder, at: _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), _at(builder, at, ir.IntType(8)), *how)
    )


_FILES = [Path(__file__).with_name(name) for name in ("lanes.py", "training_loop.py", "search.py", "submaps.py")]
#: What the machine code on disk was made of. numba by itself notices a change of the file a kernel is in, but not of
#: the files whose functions it takes in.
SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """`compiled`, again where one of `SOURCES` has changed."""
    made = compiled(function, error_model="numpy")
    try:
        made._cache._cache_file._source_stamp = SOURCES
    except AttributeError:  # nothing is kept; or another numba keeps it, of which we do not know how
        return njit(nogil=True, error_model="numpy")(function)
    return made


#: A function that becomes part of the kernel that calls it, so that lanes stay in registers.
inline = njit(forceinline=True, error_model="numpy")


@inline
def address(array: Any) -> Any:
    """Where an array's data starts. Signed: numba's own address is unsigned, and adding the two makes a float."""
    return np.int64(array.ctypes.data)
