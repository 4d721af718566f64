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
from numpy.typing import DTypeLike, NDArray

from cloudsom.running.compiling import compiled

Floats = NDArray[Any]  # float32 or float64
Bytes = NDArray[np.uint8]
Codes = NDArray[np.uint32]

GRID = 10_000.0  # steps per unit of reflectance: four decimals
GRID_START, GRID_STOP = -10_000, 65_536  # k of the lookup: every uint16 DN, with or without offset
NAN, INF, MINUS_INF = (GRID_STOP - GRID_START + i for i in range(3))  # codes after the grid's
INTEGERS_START = MINUS_INF + 1  # code of the integer 0 in the shortest lookup
OTHER = np.uint32(2**32 - 1)  # code of a cell that the lookup does not have
TIE_MARGIN = 1e-6  # of one grid step; the error of v * 10000 is below 1e-11 in the lookup's range

POWERS = 10.0 ** np.arange(23)  # exact in float64
EXACT_INTEGER = 2**53  # every integer up to here is exact in float64
MAX_DIGITS = 18  # fits int64
MAX_DECIMALS = 15  # `shortest` without an exponent
TIE_BITS = 1 << 28  # float64 bits below a float32's, when exactly half-way between two float32

# Positions in text are unsigned: numba then leaves out the test for an index below zero, without
# which the compiler merges neighbouring byte loads and stores (`_assemble` is 8 times faster).
U = np.uint64
ONE = U(1)

SPACE, TAB, COMMA, MINUS, DOT, ZERO, NEWLINE, RETURN, LOWER_N, LOWER_A = b" \t,-.0\n\rna"

DONE, NO_ROOM, WRONG_CELLS = range(3)


# --- text to numbers ----------------------------------------------------------------------------


@dataclass(eq=False)
class LineError(ValueError):
    """A line with the wrong number of cells, or a `cell` in a `column` (0-based) that is not a number."""

    offset: int  # in the text
    column: int | None = None
    cell: str = ""


@compiled
def _skip_blanks(text: Bytes, p: np.uint64) -> np.uint64:
    while text[p] == SPACE or text[p] == TAB or text[p] == RETURN:
        p += ONE
    return p


@compiled
def _grid_number(text: Bytes, p: np.uint64) -> np.int64:
    """k of a cell 'd.dddd' at byte p that is exactly k / 10000; -1 of any other cell."""
    end = p + U(6)
    if end >= U(text.size) or text[p + ONE] != DOT or text[end] not in (COMMA, NEWLINE):
        return np.int64(-1)
    a = np.int64(text[p]) - ZERO
    b = np.int64(text[p + U(2)]) - ZERO
    c = np.int64(text[p + U(3)]) - ZERO
    d = np.int64(text[p + U(4)]) - ZERO
    e = np.int64(text[p + U(5)]) - ZERO
    if (0 <= a < 10) & (0 <= b < 10) & (0 <= c < 10) & (0 <= d < 10) & (0 <= e < 10):
        return a * 10_000 + b * 1000 + c * 100 + d * 10 + e
    return np.int64(-1)


@compiled
def _digits(text: Bytes, p: np.uint64, number: int) -> tuple[np.uint64, int]:
    """Append the digits at byte p to `number`; return the byte after them, and the number."""
    while ZERO <= text[p] < ZERO + 10:
        number = number * 10 + (text[p] - ZERO)
        p += ONE
    return p, number


@compiled
def _simple_number(text: Bytes, p: np.uint64) -> tuple[np.uint64, float, bool]:
    """The number or 'nan' at byte p: the byte after it, its value, whether the value is certain."""
    if text[p] == LOWER_N and text[p + ONE] == LOWER_A and text[p + U(2)] == LOWER_N:
        return p + U(3), np.nan, True
    negative = text[p] == MINUS
    if negative:
        p += ONE
    start = p
    p, mantissa = _digits(text, p, 0)
    digits = p - start
    decimals = U(0)
    if text[p] == DOT:
        start = p + ONE
        p, mantissa = _digits(text, start, mantissa)
        decimals = p - start
        digits += decimals
    if not (U(0) < digits <= U(MAX_DIGITS) and mantissa <= EXACT_INTEGER):
        return p, np.nan, False
    value = mantissa / POWERS[decimals]
    return p, -value if negative else value, True


@compiled
def _parse_rows(
    text: Bytes, p: np.uint64, row: int, table: Floats, slow: NDArray[np.int64]
) -> tuple[np.uint64, int, int, int]:
    """Parse lines of `text` (which ends with a newline) from byte p into `table` from `row` on.

    `slow` (capacity, 3) receives start, end and flat index of the cells that need float().
    Returns p, row, number of slow cells, status; p is the start of the line not yet parsed.
    """
    columns = table.shape[1]
    n_slow = 0
    while p < U(text.size):
        line = p
        p = _skip_blanks(text, p)
        if text[p] == NEWLINE:
            p += ONE
            continue
        if n_slow + columns > slow.shape[0]:
            return line, row, n_slow, NO_ROOM
        for column in range(columns):
            p = _skip_blanks(text, p)
            k = _grid_number(text, p)
            if k >= 0:
                table[row, column] = k / GRID
                p += U(6)
            else:
                start = p
                p, value, certain = _simple_number(text, p)
                p = _skip_blanks(text, p)
                if not certain or (text[p] != COMMA and text[p] != NEWLINE):
                    while text[p] != COMMA and text[p] != NEWLINE:
                        p += ONE
                    slow[n_slow, 0] = start
                    slow[n_slow, 1] = p
                    slow[n_slow, 2] = row * columns + column
                    n_slow += 1
                table[row, column] = value
            if (text[p] == NEWLINE) != (column == columns - 1):
                return line, row, n_slow, WRONG_CELLS
            p += ONE
        row += 1
    return p, row, n_slow, DONE


def parse_table(text: bytes, columns: int, dtype: DTypeLike) -> Floats:
    """Parse whole comma-separated lines of `columns` numbers to an array (rows, columns) of dtype.

    Blank lines, blanks around cells and Windows line ends are allowed. Every value equals
    dtype(float(cell)). Raises `LineError` for the first line that is none.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}, expected float32 or float64")
    if not text.endswith(b"\n"):
        text += b"\n"
    table = np.empty((most_rows(text, columns), columns), dtype)
    raw = np.frombuffer(text, np.uint8)
    slow = np.empty((4096 + columns, 3), np.int64)
    p, row, status = U(0), 0, NO_ROOM
    while status == NO_ROOM:
        p, row, n_slow, status = _parse_rows(raw, U(p), row, table, slow)
        _parse_slowly(text, slow[:n_slow].tolist(), table)
    if status == WRONG_CELLS:
        raise LineError(int(p))
    return table[:row]


def most_rows(text: bytes, columns: int) -> int:
    """A number that the rows of `text` do not exceed; parsing it begins no more than so many.

    A row takes a newline, but for the last one, and as many bytes as it has columns, but for one that is cut short.
    """
    newlines = int(np.count_nonzero(np.frombuffer(text, np.uint8) == NEWLINE))
    return min(newlines, len(text) // columns) + 1


def _parse_slowly(text: bytes, cells: list[list[int]], table: Floats) -> None:
    """Let float() read the cells (start, end, flat index) of `text` into `table`."""
    flat = table.reshape(-1)
    with np.errstate(over="ignore"):  # beyond float32: infinite, and treated as such
        for start, end, index in cells:
            cell = text[start:end].decode("ascii", "replace").strip()
            try:
                flat[index] = float("" if "_" in cell else cell)
            except ValueError:
                raise LineError(start, index % table.shape[1], cell) from None


# --- numbers to text ----------------------------------------------------------------------------


@cache
def lookup(fixed: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Texts of cells by code, each with its comma: 16 bytes as two words (codes, 2), and the length used (codes,).

    They are '%10.4f' of the grid, nan, inf and -inf; or repr of these, and then of the integers 0..65535.
    """
    values = [*(k / GRID for k in range(GRID_START, GRID_STOP)), np.nan, np.inf, -np.inf]
    texts = [f"{v:10.4f}," for v in values] if fixed else [f"{v!r}," for v in (*values, *range(2**16))]
    words = np.array(texts, "S16").view("<u8").astype(np.uint64).reshape(-1, 2)
    return words, np.array([len(text) for text in texts], np.uint8)


@compiled
def _grid_codes(values: Floats, exact: bool, codes: Codes) -> tuple[int, int]:
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
                    code = np.uint32(np.int64(k) - GRID_START)
                    rounded += not on_grid
            elif v != v:
                code = np.uint32(NAN)
            elif np.isinf(v):
                code = np.uint32(INF if v > 0 else MINUS_INF)
            others += code == OTHER
            codes[i, j] = code
    return others, rounded


@compiled
def _assemble(
    codes: Codes,
    words: NDArray[np.uint64],
    lengths: NDArray[np.uint8],
    others: Bytes,
    ends: NDArray[np.int64],
    out: Bytes,
) -> np.uint64:
    """Write the cells' texts, commas and newlines to `out`; cells coded OTHER take theirs, in
    order, from `others`, cut at `ends`. Returns the bytes written."""
    p = U(0)
    start = U(0)
    n = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            code = codes[i, j]
            if code != OTHER:  # 16 bytes whatever the length: two stores, the next cell overwrites
                first = words[code, 0]
                second = words[code, 1]
                for b in range(8):
                    out[p + U(b)] = first >> U(8 * b)
                for b in range(8):
                    out[p + U(8 + b)] = second >> U(8 * b)
                p += U(lengths[code])
            else:
                stop = U(ends[n])
                n += 1
                while start < stop:
                    out[p] = others[start]
                    start += ONE
                    p += ONE
                out[p] = COMMA
                p += ONE
        out[p - ONE] = NEWLINE
    return p


@compiled
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


_NO_OTHERS = (np.empty(0, np.uint8), np.empty(0, np.int64))


def _join(texts: Sequence[bytes]) -> tuple[Bytes, NDArray[np.int64]]:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(b"".join(texts), np.uint8), ends


def _fixed_others(values: Floats) -> tuple[Bytes, NDArray[np.int64], int]:
    """'%10.4f' of `values` (n,) by Python: texts, where each ends, how many lost something."""
    texts = [f"{v:10.4f}" for v in values.tolist()]
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
    codes = np.empty(values.shape, np.uint32)
    n_others, rounded = _grid_codes(values, False, codes)
    others, ends, lost = _fixed_others(values[codes == OTHER]) if n_others else _NO_OTHERS + (0,)
    return _text(codes, True, others, ends), rounded + lost


def shortest_text(values: Floats, labels: NDArray[np.integer]) -> memoryview:
    """Rows of `values` (n, columns), float32 or float64, in the fewest decimals that read back to
    the same bits, each followed by its label (n,), an integer 0..255."""
    codes = np.empty((values.shape[0], values.shape[1] + 1), np.uint32)
    n_others, _ = _grid_codes(values, True, codes)
    codes[:, -1] = INTEGERS_START + labels
    others, ends = _NO_OTHERS
    if n_others:
        others, ends = _shortest_others(values[codes[:, :-1] == OTHER])
    return _text(codes, False, others, ends)


def integer_text(values: NDArray[np.integer]) -> memoryview:
    """Rows of integers 0..65535 (n, columns)."""
    return _text((INTEGERS_START + values).astype(np.uint32), False, *_NO_OTHERS)


def _text(codes: Codes, fixed: bool, others: Bytes, ends: NDArray[np.int64]) -> memoryview:
    out = np.empty(16 * (codes.size + 1) + others.size, np.uint8)
    return out[: _assemble(codes, *lookup(fixed), others, ends, out)].data
