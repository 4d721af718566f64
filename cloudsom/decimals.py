"""Numbers as decimal text, exactly and fast: the text kernels under `cloudsom.tables`.

Reading. A cell of at most 18 digits whose digits, read as an integer m, are at most 2**53 is
m / 10**d: both operands are exact in float64 and IEEE division rounds once, so the quotient is
the float64 nearest to the text, which is what Python's float(text) gives (Clinger, 1990). Any
other cell (exponents, longer mantissas, words) goes to float() itself. A float32 destination gets
float32(float(text)).

Writing. Reflectance is nearly always on the grid k/10000, so a cell's text is looked up by k:
  fixed      the text of '%10.4f': k = rint(v * 10000). The product is off by less than 1e-6 in
             the lookup's range, so k is certain unless v * 10000 is within 1e-6 of a tie.
  shortest   the fewest decimals that read back to v, bit for bit: k only if k / 10000 == v.
Everything else is formatted by itself: `fixed` by Python's own '%10.4f', `shortest` by trying
more decimals (see `_shortest_texts`) and then by repr().
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

Floats = NDArray[Any]  # float32 or float64
Bytes = NDArray[np.uint8]

GRID = 10_000.0  # steps per unit of reflectance: four decimals
GRID_START, GRID_STOP = -10_000, 65_536  # k of the lookup: every uint16 DN, with or without offset
NAN, INF, MINUS_INF = (GRID_STOP - GRID_START + i for i in range(3))  # codes after the grid's
OTHER = np.int32(2**31 - 1)  # code of a cell that the lookup does not have
TIE_MARGIN = 1e-6  # of one grid step; the error of v * 10000 is below 1e-11 in the lookup's range

POWERS = 10.0 ** np.arange(23)  # exact in float64
EXACT_INTEGER = 2**53  # every integer up to here is exact in float64
MAX_DIGITS = 18  # fits int64
MAX_DECIMALS = 15  # `shortest` without an exponent
TIE_BITS = 1 << 28  # float64 bits below a float32's, when exactly half-way between two float32

SPACE, TAB, COMMA, MINUS, DOT, ZERO, NEWLINE, RETURN, LOWER_N, LOWER_A = b" \t,-.0\n\rna"

DONE, NO_ROOM, WRONG_CELLS = range(3)


# --- text to numbers ----------------------------------------------------------------------------


class CellError(ValueError):
    """A cell that is not a number: `offset` in the text, `column` (0-based), the `cell`."""

    def __init__(self, offset: int, column: int, cell: str) -> None:
        super().__init__(f"column {column}: {cell!r} is not a number")
        self.offset, self.column, self.cell = offset, column, cell


class RowError(ValueError):
    """A line with the wrong number of cells: its `offset` in the text."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"wrong number of cells at byte {offset}")
        self.offset = offset


@njit(nogil=True, cache=True, inline="always")
def _skip_blanks(text: Bytes, p: int) -> int:
    while text[p] == SPACE or text[p] == TAB or text[p] == RETURN:
        p += 1
    return p


@njit(nogil=True, cache=True)
def _parse_rows(
    text: Bytes, p: int, row: int, table: Floats, slow: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Parse lines of `text` (which ends with a newline) from byte p into `table` from `row` on.

    `slow` (capacity, 3) receives start, end and flat index of the cells that need float().
    Returns p, row, number of slow cells, status; p is the start of the line not yet parsed.
    """
    columns = table.shape[1]
    n_slow = 0
    while p < text.size:
        line = p
        p = _skip_blanks(text, p)
        if text[p] == NEWLINE:
            p += 1
            continue
        if n_slow + columns > slow.shape[0]:
            return line, row, n_slow, NO_ROOM
        for column in range(columns):
            p = _skip_blanks(text, p)
            cell = p
            negative = text[p] == MINUS
            if negative:
                p += 1
            first = p
            mantissa = np.int64(0)
            while ZERO <= text[p] < ZERO + 10:
                mantissa = mantissa * 10 + (text[p] - ZERO)
                p += 1
            digits = p - first
            decimals = 0
            if text[p] == DOT:
                p += 1
                first = p
                while ZERO <= text[p] < ZERO + 10:
                    mantissa = mantissa * 10 + (text[p] - ZERO)
                    p += 1
                decimals = p - first
                digits += decimals
            simple = 0 < digits <= MAX_DIGITS and mantissa <= EXACT_INTEGER
            value = np.nan
            if simple:
                value = mantissa / POWERS[decimals]
                if negative:
                    value = -value
            elif p == cell and text[p] == LOWER_N and text[p + 1] == LOWER_A:
                simple = text[p + 2] == LOWER_N
                p += 3 if simple else 0
            p = _skip_blanks(text, p)
            if not simple or (text[p] != COMMA and text[p] != NEWLINE):
                while text[p] != COMMA and text[p] != NEWLINE:
                    p += 1
                slow[n_slow, 0] = cell
                slow[n_slow, 1] = p
                slow[n_slow, 2] = row * columns + column
                n_slow += 1
            table[row, column] = value
            if (text[p] == NEWLINE) != (column == columns - 1):
                return line, row, n_slow, WRONG_CELLS
            p += 1
        row += 1
    return p, row, n_slow, DONE


def parse_table(text: bytes, columns: int, dtype: DTypeLike) -> Floats:
    """Parse whole comma-separated lines of `columns` numbers to an array (rows, columns) of dtype.

    Blank lines, blanks around cells and Windows line ends are allowed. Every value equals
    dtype(float(cell)). Raises `CellError` and `RowError`, whichever comes first in the text.
    """
    if not text.endswith(b"\n"):
        text += b"\n"
    table = np.empty((text.count(b"\n"), columns), dtype)
    raw = np.frombuffer(text, np.uint8)
    slow = np.empty((4096 + columns, 3), np.int64)
    p, row, status = 0, 0, NO_ROOM
    while status == NO_ROOM:
        p, row, n_slow, status = _parse_rows(raw, p, row, table, slow)
        _parse_slowly(text, slow[:n_slow].tolist(), table)
    if status == WRONG_CELLS:
        raise RowError(p)
    return table[:row]


@njit(nogil=True, cache=True)
def _count_lines(text: Bytes) -> int:
    lines = 0
    filled = False
    for byte in text:
        if byte == NEWLINE:
            lines += filled
            filled = False
        else:
            filled |= byte != SPACE and byte != TAB and byte != RETURN
    return lines + filled


def count_lines(text: bytes) -> int:
    """Lines of `text` that are not blank."""
    return int(_count_lines(np.frombuffer(text, np.uint8)))


def _parse_slowly(text: bytes, cells: list[list[int]], table: Floats) -> None:
    """Let float() read the cells (start, end, flat index) of `text` into `table`."""
    flat = table.reshape(-1)
    with np.errstate(over="ignore"):  # beyond float32: infinite, and treated as such
        for start, end, index in cells:
            cell = text[start:end].decode("ascii", "replace").strip()
            try:
                flat[index] = float("" if "_" in cell else cell)
            except ValueError:
                raise CellError(start, index % table.shape[1], cell) from None


# --- numbers to text ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Lookup:
    """Texts of cells by code, each with its comma: 16 bytes as two words, and the length used."""

    words: NDArray[np.uint64]  # (codes, 2)
    lengths: NDArray[np.uint8]  # (codes,)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Lookup:
        cells = np.array([text + "," for text in texts], "S16")
        lengths = np.array([len(text) + 1 for text in texts], np.uint8)
        return cls(cells.view("<u8").astype(np.uint64).reshape(-1, 2), lengths)


@cache
def fixed_lookup() -> Lookup:
    """'%10.4f' of the grid, nan, inf, -inf."""
    grid = ["%10.4f" % (k / GRID) for k in range(GRID_START, GRID_STOP)]
    return Lookup.of([*grid, *("%10.4f" % float(word) for word in ("nan", "inf", "-inf"))])


@cache
def shortest_lookup() -> Lookup:
    """repr of the grid, nan, inf, -inf; then the labels 0..255."""
    grid = [repr(k / GRID) if abs(k) != 0 else "0.0" for k in range(GRID_START, GRID_STOP)]
    return Lookup.of([*grid, "nan", "inf", "-inf", *map(str, range(256))])


@cache
def integer_lookup() -> Lookup:
    """The integers 0..65535."""
    return Lookup.of(list(map(str, range(2**16))))


LABELS_START = MINUS_INF + 1  # code of label 0 in the shortest lookup


@njit(nogil=True, cache=True)
def _grid_codes(values: Floats, exact: bool, codes: NDArray[np.int32]) -> tuple[int, int]:
    """Fill `codes` (rows, at least the columns of `values`) with the lookup's code of each value.

    Returns how many values got no code (OTHER) and how many coded values are not k / 10000.
    """
    others = 0
    rounded = 0
    to_dtype = values.dtype.type
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            v = values[i, j]
            scaled = np.float64(v) * GRID
            k = np.rint(scaled)
            code = OTHER
            if GRID_START <= k < GRID_STOP and (k != 0.0 or not np.signbit(v)):
                on_grid = to_dtype(k / GRID) == v
                if on_grid or (not exact and abs(scaled - k) < 0.5 - TIE_MARGIN):
                    code = np.int32(k) - GRID_START
                    rounded += not on_grid
            elif v != v:
                code = NAN
            elif np.isinf(v):
                code = INF if v > 0 else MINUS_INF
            others += code == OTHER
            codes[i, j] = code
    return others, rounded


@njit(nogil=True, cache=True)
def _assemble(
    codes: NDArray[np.int32],
    words: NDArray[np.uint64],
    lengths: NDArray[np.uint8],
    others: Bytes,
    ends: NDArray[np.int64],
    out: Bytes,
) -> int:
    """Write the cells' texts, commas and newlines to `out`; cells coded OTHER take theirs, in
    order, from `others`, cut at `ends`. Returns the bytes written."""
    p = 0
    start = 0
    n = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            code = codes[i, j]
            if code != OTHER:
                first = words[code, 0]
                second = words[code, 1]
                for b in range(8):
                    out[p + b] = (first >> np.uint64(8 * b)) & np.uint64(255)
                for b in range(8):
                    out[p + 8 + b] = (second >> np.uint64(8 * b)) & np.uint64(255)
                p += lengths[code]
            else:
                for b in range(start, ends[n]):
                    out[p] = others[b]
                    p += 1
                out[p] = COMMA
                p += 1
                start = ends[n]
                n += 1
        out[p - 1] = NEWLINE
    return p


@njit(nogil=True, cache=True)
def _shortest_texts(values: Floats, out: Bytes, ends: NDArray[np.int64]) -> None:
    """Write the fewest decimals that read back to each of `values` (n,); nothing where that fails.

    m / 10**d, with m < 2**53, is the float64 nearest to the decimal. If its float32 is v, and it is
    not half-way between two float32 (where the text itself may lie on the other side), then the
    decimal is read as v by way of float64 and directly.
    """
    single = values.dtype.type(0.1) != 0.1
    bits = np.empty(1, np.float64)
    digits = np.empty(20, np.uint8)
    p = 0
    for n in range(values.size):
        v = values[n]
        size = abs(np.float64(v))
        for decimals in range(1, MAX_DECIMALS + 1):
            scaled = np.rint(size * POWERS[decimals])
            if not scaled < EXACT_INTEGER:
                break
            bits[0] = scaled / POWERS[decimals]
            tie = single and bits.view(np.int64)[0] % (2 * TIE_BITS) == TIE_BITS
            if values.dtype.type(bits[0]) != abs(v) or tie:
                continue
            if np.signbit(v):
                out[p] = MINUS
                p += 1
            rest = np.int64(scaled)
            count = 0
            while rest > 0 or count <= decimals:
                digits[count] = ZERO + rest % 10
                rest //= 10
                count += 1
            for place in range(count - 1, -1, -1):
                out[p] = digits[place]
                p += 1
                if place == decimals:
                    out[p] = DOT
                    p += 1
            break
        ends[n] = p


def _join(texts: Sequence[bytes]) -> tuple[Bytes, NDArray[np.int64]]:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(b"".join(texts), np.uint8), ends


def _fixed_others(values: Floats) -> tuple[Bytes, NDArray[np.int64], int]:
    """'%10.4f' of `values` (n,) by Python: texts, where each ends, how many lost something."""
    texts = ["%10.4f" % v for v in values.tolist()]
    lost = np.array([float(text) for text in texts]).astype(values.dtype) != values
    return *_join([text.encode() for text in texts]), int(lost.sum())


def _shortest_others(values: Floats) -> tuple[Bytes, NDArray[np.int64]]:
    """The shortest texts of `values` (n,), and where each ends; exponents where repr has them."""
    out = np.empty(values.size * (MAX_DECIMALS + 9), np.uint8)
    ends = np.empty(values.size, np.int64)
    _shortest_texts(values, out, ends)
    starts = np.concatenate([[0], ends[:-1]])
    missing = ends == starts
    if not missing.any():
        return out[: ends[-1]], ends
    written = out.tobytes()
    cells = zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True)
    return _join([written[start:end] or repr(v).encode() for start, end, v in cells])


def fixed_text(values: Floats) -> tuple[memoryview, int]:
    """Rows of `values` (n, columns), float32 or float64, as np.savetxt(fmt="%10.4f", delimiter=",")
    writes them, byte for byte; and how many finite values do not read back as they were."""
    codes = np.empty(values.shape, np.int32)
    n_others, rounded = _grid_codes(values, False, codes)
    others, ends, lost = _fixed_others(values[codes == OTHER]) if n_others else _NO_OTHERS + (0,)
    return _text(codes, fixed_lookup(), others, ends), rounded + lost


def shortest_text(values: Floats, labels: NDArray[np.integer]) -> memoryview:
    """Rows of `values` (n, columns), float32 or float64, in the fewest decimals that read back to
    the same bits, each followed by its label (n,), an integer 0..255."""
    codes = np.empty((values.shape[0], values.shape[1] + 1), np.int32)
    n_others, _ = _grid_codes(values, True, codes)
    codes[:, -1] = LABELS_START + labels
    others, ends = _NO_OTHERS
    if n_others:
        others, ends = _shortest_others(values[codes[:, :-1] == OTHER])
    return _text(codes, shortest_lookup(), others, ends)


def integer_text(values: NDArray[np.integer]) -> memoryview:
    """Rows of integers 0..65535 (n, columns)."""
    return _text(values.astype(np.int32), integer_lookup(), *_NO_OTHERS)


_NO_OTHERS = (np.empty(0, np.uint8), np.empty(0, np.int64))


def _text(
    codes: NDArray[np.int32], lookup: Lookup, others: Bytes, ends: NDArray[np.int64]
) -> memoryview:
    out = np.empty(16 * (codes.size + 1) + others.size, np.uint8)
    return out[: _assemble(codes, lookup.words, lookup.lengths, others, ends, out)].data
