"""Pickles read as data: nothing in them is called, imported or allocated for them.

A pickle is a program for a small stack machine whose instructions can name any function of any module and call it. Here
its instructions only make a tree: numbers, texts, bytes, lists, and `Record`s for what would have been a call. A name
that a map or a scaler does not consist of is refused where it stands, before the next instruction is read; and since no
name is ever looked up, even an admitted one runs nothing. Arrays are made from their bytes when they are asked for.

Memory is bounded by the file: lengths, shapes and positions that it only claims are checked against what it holds.
Foreign values are never compared, hashed or printed, which nested ones can make to take for ever.
"""

import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import Damaged
from cloudsom.files.places import local

#: Instructions of a pickle that is read whole: a map has some 500, a susi map some 20 a training spectrum. Each takes
#: about a microsecond and at most some 200 bytes.
MAX_STEPS = 1_000_000

#: All that pickled maps and scalers name: themselves; numpy's arrays, numbers and random state; MiniSom's bound methods
#: (as getattr); and what the protocols before 3 write objects and bytes with.
_ADMITTED = {
    "minisom.MiniSom",
    "sklearn.preprocessing._data.MinMaxScaler",
    "builtins.getattr",
    "builtins.object",
    "copyreg._reconstructor",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._mt19937.MT19937",
    *(f"numpy.{kind}" for kind in ("bool", "bool_", "int32", "int64", "float32", "float64", "str_")),
}

#: Modules as other versions of Python, numpy and scikit-learn call them.
_ALIASES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "sklearn.preprocessing.data": "sklearn.preprocessing._data",
}

_MINISOM_METHODS = {
    "_gaussian",
    "_mexican_hat",
    "_bubble",
    "_triangle",
    "_asymptotic_decay",
    "_inverse_decay_to_zero",
    "_linear_decay_to_zero",
    "_inverse_decay_to_one",
    "_linear_decay_to_one",
    "_euclidean_distance",
    "_cosine_distance",
    "_manhattan_distance",
    "_chebyshev_distance",
}

#: Types of arrays: numbers and text. Objects ("O8") and structures ("V16") can hold anything.
_DTYPE = re.compile(r"[biufcUSM]\d{1,6}")


class Refused(Exception):
    """What stands in the pickle and has no place in a map or a scaler; a few plain words."""


@dataclass(frozen=True, slots=True, eq=False)
class _Name:
    """A function or class that the pickle names."""

    text: str


class _Pairs(list[Any]):
    """A dictionary as the list of its pairs, so that no foreign key is hashed."""


@dataclass(slots=True, eq=False)
class Record:
    """What would have been an object: the name of its class or of the function called, arguments and state."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def get(self, attribute: str) -> Any:
        """An attribute of the object's state; None where it has none of that name."""
        pairs = self.state if isinstance(self.state, _Pairs) else []
        found = [value for key, value in pairs if isinstance(key, str) and key == attribute]
        return found[-1] if found else None


def read(path: Path, pending: str | None = None) -> Any:
    """The tree of a pickle, of which nothing was run.

    pending  an attribute: where the pickle is longer than MAX_STEPS, but its last object has come to that attribute, a
             Record with this one attribute is returned and the rest of the file is not looked at
    Raises Refused, with the name of what was refused, and Damaged.
    """
    machine, path = _Machine(), local(path)
    with open(path, "rb") as handle:
        steps = pickletools.genops(_Bounded(handle, path.stat().st_size))  # type: ignore[arg-type]
        try:
            for count, (step, argument, _) in enumerate(steps):
                if count == MAX_STEPS:
                    return machine.unfinished(pending)
                machine.do(step.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, struct.error) as problem:
            raise Damaged(shown(f"{type(problem).__name__}: {problem}")) from None
    return machine.stack[-1] if machine.stack else None


class _Bounded:
    """A file of which no more is asked than it holds: a length in a pickle is a claim."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self.handle, self.size, self.readline = handle, size, handle.readline

    def read(self, count: int) -> bytes:
        return self.handle.read(min(count, self.size))


def shown(text: str) -> str:
    """Foreign text fit for a message: one short line of plain characters."""
    plain = text[:200].encode("ascii", "backslashreplace").decode("ascii")
    plain = "".join(letter if letter.isprintable() else "?" for letter in plain)
    return plain if len(plain) <= 80 else plain[:80] + "..."


def _name(module: Any, name: Any) -> _Name:
    """A name if it is admitted; Refused otherwise."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise Damaged("a name that is no text")
    text = f"{_ALIASES.get(module, module)}.{name}"
    if text in _ADMITTED or text.startswith("susi."):
        return _Name(text)
    raise Refused(shown(f"{module}.{name}"))


def _call(called: Any, arguments: Any) -> Record:
    """The record of a call, whose kind of arguments is checked where they could stand for something else."""
    if not (isinstance(called, _Name) and isinstance(arguments, tuple)):
        raise Damaged("a call of what is no function")
    first = arguments[0] if arguments else None
    match called.text:
        case "builtins.getattr":
            known = len(arguments) == 2 and isinstance(arguments[1], str) and arguments[1] in _MINISOM_METHODS
            if not (known and isinstance(first, Record) and first.name == "minisom.MiniSom"):
                raise Refused("getattr of anything but MiniSom's own methods")
        case "copyreg._reconstructor":
            if not isinstance(first, _Name):
                raise Damaged("an object without a class")
            return Record(first.text, ())
        case "numpy.core.multiarray._reconstruct":
            if not (isinstance(first, _Name) and first.text == "numpy.ndarray"):
                raise Refused("numpy's _reconstruct of anything but an array")
        case "numpy.dtype":
            if not (isinstance(first, str) and _DTYPE.fullmatch(first)):
                raise Refused(f"numpy.dtype({shown(first)!r})" if isinstance(first, str) else "a numpy.dtype")
    return Record(called.text, arguments)


class _Machine:
    """The stack machine of pickles, making records instead of calls."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}

    def do(self, step: str, argument: Any) -> None:
        """One instruction by its name in `pickletools`; Refused if maps and scalers have no use for it."""
        if step in _LITERALS:
            self.stack.append(argument)
        elif step in _STEPS:
            _STEPS[step](self, argument)
        else:
            raise Refused(f"the instruction {step}")

    def unfinished(self, pending: str | None) -> Record:
        """A record with the one attribute that waits on the stack to be put into the last object."""
        for level in (*self.below, self.stack):
            for key, value in pairwise(level):
                if pending and isinstance(key, str) and key == pending and isinstance(value, Record):
                    owner = next((x.name for x in self.below[0] if isinstance(x, Record)), "?")
                    return Record(owner, (), _Pairs([(key, value)]))
        raise Refused(f"a pickle of more than {MAX_STEPS:,} steps")

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def take(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise Damaged("values are missing")
        del self.stack[-count:]
        return items

    def put(self, position: int | None) -> None:
        self.memo[len(self.memo) if position is None else position] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Damaged("a list is missing")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not _Pairs or len(items) % 2:
            raise Damaged("a dictionary or a value is missing")
        target.extend(zip(items[::2], items[1::2], strict=True))

    def dictionary(self, _: Any) -> None:
        items = self.above_mark()
        self.stack.append(_Pairs())
        self.set_items(items)

    def build(self, _: Any) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if not isinstance(target, Record):
            raise Damaged("an object is missing")
        target.state = state


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine, Any], None]:
    """The instruction that puts what `make` returns on the stack."""

    def step(machine: _Machine, _: Any) -> None:
        value = make(machine)  # which may put another stack in place
        machine.stack.append(value)

    return step


_LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_LITERALS |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LITERALS |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, i: machine.stack.append(machine.memo[i])),
    "NONE": _push(lambda machine: None),
    "NEWTRUE": _push(lambda machine: True),
    "NEWFALSE": _push(lambda machine: False),
    "MARK": _Machine.mark,
    "EMPTY_LIST": _push(lambda machine: []),
    "LIST": _push(_Machine.above_mark),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.above_mark()),
    "EMPTY_TUPLE": _push(lambda machine: ()),
    "TUPLE": _push(lambda machine: tuple(machine.above_mark())),
    "TUPLE1": _push(lambda machine: tuple(machine.take(1))),
    "TUPLE2": _push(lambda machine: tuple(machine.take(2))),
    "TUPLE3": _push(lambda machine: tuple(machine.take(3))),
    "EMPTY_DICT": _push(lambda machine: _Pairs()),
    "DICT": _Machine.dictionary,
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "GLOBAL": lambda machine, text: machine.stack.append(_name(*text.split(" ", 1))),
    "STACK_GLOBAL": _push(lambda machine: _name(*machine.take(2))),
    "REDUCE": _push(lambda machine: _call(*machine.take(2))),
    "NEWOBJ": _push(lambda machine: _call(*machine.take(2))),
    "BUILD": _Machine.build,
}


# --- arrays -----------------------------------------------------------------------------------------------------------


def array(value: Any) -> NDArray[np.float64]:
    """The float64 array that a record stands for; Damaged if it is none, or its bytes do not fill its shape."""
    name = value.name if isinstance(value, Record) else None
    if name == "numpy.core.multiarray._reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, by_columns, content = value.state
        return _filled(shape, _dtype(dtype), "F" if by_columns is True else "C", _bytes(content))
    if name == "numpy.core.numeric._frombuffer" and len(value.arguments) == 4:
        content, dtype, shape, order = value.arguments
        return _filled(shape, _dtype(dtype), "F" if isinstance(order, str) and order == "F" else "C", _bytes(content))
    raise Damaged("an array of numbers is missing")


def _filled(shape: Any, dtype: np.dtype[Any], order: Any, content: bytes) -> NDArray[np.float64]:
    if not (isinstance(shape, tuple) and len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)):
        raise Damaged("the shape of an array is none")
    if max(shape, default=1) > len(content) or prod(shape) * dtype.itemsize != len(content):
        raise Damaged("an array's bytes do not fill its shape")
    return np.ndarray(shape, dtype, content, order=order).astype(np.float64, order="C")


def _dtype(value: Any) -> np.dtype[Any]:
    """The type of an array's numbers, byte order included."""
    kind = value.arguments[0] if isinstance(value, Record) and value.name == "numpy.dtype" else None
    if not (isinstance(kind, str) and re.fullmatch("f[248]|[iu][1248]", kind)):
        raise Damaged("an array does not hold real numbers")
    state = value.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    return np.dtype((order if isinstance(order, str) and order in ("<", ">") else "") + kind)


def _bytes(value: Any) -> bytes:
    """Bytes, also those that the protocols before 3 write as text."""
    if isinstance(value, Record) and value.name == "_codecs.encode" and len(value.arguments) == 2:
        value = value.arguments[0]
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise Damaged("an array's bytes are text") from None
    if not isinstance(value, bytes | bytearray):
        raise Damaged("an array's bytes are missing")
    return bytes(value)
