"""The big tables on disk: spectra, pixels and BMUs as CSV, streamed in bounded memory.

A file is one header line of column names and rows of comma-separated numbers.

    spectra   B1,...,B8,B8a,B9,...,B12,label     reflectance in the fewest decimals that read back
                                                 to the same bits, then the class (10..60)
    pixels    #  #B1,  #B2, ... #B12             reflectance of a whole image, row-major, '%10.4f':
                                                 the original's layout, byte for byte; nodata: nan
    BMUs      position1,position2                0-based row and column of each spectrum's neuron

Reading accepts more: the original's headers (`#` and blanks around names), B8a or B8A, B1 or B01,
blanks around numbers, exponents, Windows line ends, a byte-order mark, blank lines, no final
newline. It accepts no other column order: a table whose columns stand differently is refused.

Writers and readers work through pieces of the file on a few threads and hold a few pieces at a
time: about 50 MB beside the caller's own blocks, whatever the length of the table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cloudsom.bands import BANDS, BEYOND_REFLECTANCE, CLASSES, N_BANDS, SAFE_BANDS
from cloudsom.errors import FULL, UserError
from cloudsom.files.places import local
from cloudsom.processors import Item, Result, in_order, processors
from cloudsom.tables import decimals
from cloudsom.tables.decimals import Floats

#: The header the original's np.savetxt wrote above the pixels (its own blanks, uneven as they are).
PIXEL_HEADER = "#  #B1,  #B2,  #B3,  #B4, #B5, #B6, #B7, #B8, #B8a, #B9, #B10, #B11, #B12"
SPECTRA_COLUMNS = (*BANDS, "label")
BMU_COLUMNS = ("position1", "position2")

CHUNK_ROWS = 262_144  # rows in a block handed to the caller: 14 MB of float32 spectra
PIECE_ROWS = 8192  # rows one thread formats at a time: 1.2 MB of text
PIECE_BYTES = 2 << 20  # text one thread parses at a time
LONGEST_LINE = 1 << 16  # bytes; a row of 14 numbers has about 150

Labels = NDArray[np.int32]


# --- writing ------------------------------------------------------------------------------------


class PixelCount(NamedTuple):
    """What `write_pixels` wrote."""

    rows: int
    rounded: int  # finite values that 4 decimals cannot hold


Encode = Callable[[slice], memoryview]  # the text of some of a block's rows


def write_spectra(path: str | Path, blocks: Iterable[tuple[ArrayLike, ArrayLike]]) -> int:
    """Write blocks of spectra and labels; return the rows. What is read back has the same bits.

    A block is reflectance (n, 13), float32 or float64, and labels (n,), integers 0..255.
    """

    def text_of(block: tuple[ArrayLike, ArrayLike]) -> tuple[int, Encode]:
        values = _checked_spectra(block[0])
        codes = _checked_integers(block[1], (len(values),), 255)
        return len(values), lambda rows: decimals.shortest_text(_native(values[rows]), codes[rows])

    return _write(path, ",".join(SPECTRA_COLUMNS), map(text_of, blocks))


def write_pixels(path: str | Path, blocks: Iterable[ArrayLike]) -> PixelCount:
    """Write blocks of reflectance with 4 decimals, as np.savetxt(fmt="%10.4f", delimiter=",") does.

    A block is (n, 13), float32 or float64, in any memory order; NaN for nodata. Returns the rows, and how many values
    were rounded: 0 for reflectance (DN + offset) / 10000, which reads back as it was.
    """
    rounded = []

    def text_of(block: ArrayLike) -> tuple[int, Encode]:
        values = _checked_spectra(block)

        def encode(rows: slice) -> memoryview:
            text, lost = decimals.fixed_text(_native(values[rows]))
            rounded.append(lost)
            return text

        return len(values), encode

    return PixelCount(_write(path, PIXEL_HEADER, map(text_of, blocks)), sum(rounded))


def write_bmus(path: str | Path, blocks: Iterable[ArrayLike]) -> int:
    """Write blocks of 0-based rows and columns (n, 2) of BMUs, integers 0..65535; return the rows."""

    def text_of(block: ArrayLike) -> tuple[int, Encode]:
        values = _checked_integers(block, (np.shape(block)[0], 2), 65_535)
        return len(values), lambda rows: decimals.integer_text(values[rows])

    return _write(path, ",".join(BMU_COLUMNS), map(text_of, blocks))


def _write(path: str | Path, header: str, blocks: Iterable[tuple[int, Encode]]) -> int:
    """Write a header, then each block from its number of rows and its text; return the rows of all.

    A block is on disk when the next one is asked for, so the caller may use its memory again.
    """
    written = 0
    with Path(path).open("wb") as file:
        file.write(header.encode() + b"\n")
        for n_rows, encode in blocks:
            pieces = (slice(start, start + PIECE_ROWS) for start in range(0, n_rows, PIECE_ROWS))
            for text in _in_threads(encode, pieces):
                file.write(text)
            written += n_rows
    return written


def _checked_spectra(spectra: ArrayLike) -> Floats:
    values = np.asarray(spectra)
    if values.ndim != 2 or values.shape[1] != N_BANDS:
        raise ValueError(f"spectra have shape {values.shape}, expected (rows, {N_BANDS})")
    return values


def _checked_integers(integers: ArrayLike, shape: tuple[int, ...], top: int) -> NDArray[np.int32]:
    values = np.asarray(integers)
    if values.shape != shape:
        raise ValueError(f"integers have shape {values.shape}, expected {shape}")
    if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() <= top):
        raise ValueError(f"expected integers from 0 to {top}")
    return values.astype(np.int32)


def _native(values: Floats) -> Floats:
    """`values` as the kernels take them: C order, float32 if they are, else float64."""
    single = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return np.ascontiguousarray(values, np.float32 if single else np.float64)


# --- reading ------------------------------------------------------------------------------------


def read_spectra(
    path: Path,
    *,
    chunk_rows: int = CHUNK_ROWS,
    dtype: DTypeLike = np.float32,
    part: tuple[int, int] | None = None,
) -> Iterator[tuple[Floats, Labels]]:
    """Blocks of a spectra table: reflectance (n, 13) of dtype and labels (n,).

    Every block has `chunk_rows` rows but the last. Values are float(text), for float32 rounded once
    more. With a `part`, one of `parts`, its rows alone are read. Raises `UserError` naming file and
    line for anything that is not such a table, NaN, infinite reflectance and other labels included.
    """
    pieces = _read(path, SPECTRA_COLUMNS, dtype, _split_spectra, part)
    return ((spectra, labels) for spectra, labels in _reblock(pieces, chunk_rows))


def _split_spectra(table: Floats, source: _Piece) -> tuple[Floats, Labels]:
    spectra, label = np.ascontiguousarray(table[:, :N_BANDS]), table[:, N_BANDS:]
    _refuse(source, ~np.isfinite(spectra), spectra, BANDS, "use finite reflectance only")
    _refuse_other_units(source, spectra)
    what = f"labels are {', '.join(map(str, CLASSES))}"
    _refuse(source, ~np.isin(label, list(CLASSES)), label, ["label"], what)
    return spectra, label[:, 0].astype(np.int32)


def read_all_spectra(path: Path, *, dtype: DTypeLike = np.float32) -> tuple[Floats, Labels]:
    """A whole spectra table: reflectance (N, 13) and labels (N,), as `read_spectra` reads it.

    Peak memory is the result (56 bytes a row in float32, 487 MB for 8.7 million rows) and about
    50 MB.
    """
    with _open(path) as file:
        rows = sum(_in_threads(lambda piece: decimals.most_rows(piece.text, len(SPECTRA_COLUMNS)), _pieces(file, path)))
    spectra, labels = np.empty((rows, N_BANDS), dtype), np.empty(rows, np.int32)
    start = 0
    for block in _read(path, SPECTRA_COLUMNS, dtype, _split_spectra):
        stop = start + len(block[0])
        spectra[start:stop], labels[start:stop] = block
        start = stop
    return spectra[:start], labels[:start]


def read_pixels(path: Path, *, chunk_rows: int = CHUNK_ROWS, dtype: DTypeLike = np.float32) -> Iterator[Floats]:
    """Blocks of a pixel table: reflectance (n, 13) of dtype, NaN in the rows of nodata pixels.

    As `read_spectra`, but infinite values are let through.
    """

    def whole(table: Floats, source: _Piece) -> tuple[Floats]:
        _refuse_other_units(source, table)
        return (table,)

    pieces = _read(path, BANDS, dtype, whole)
    return (block for (block,) in _reblock(pieces, chunk_rows))


def read_bmus(path: Path) -> NDArray[np.int32]:
    """A whole BMU table, ours or the authors': 0-based row and column (N, 2) of each spectrum.

    Raises `UserError` naming file and line for anything else, a negative or broken number included.
    """

    def whole(table: Floats, source: _Piece) -> tuple[NDArray[np.int32]]:
        wrong = ~((table >= 0) & (table < 2**31) & (table == np.rint(table)))
        _refuse(source, wrong, table, BMU_COLUMNS, "positions are whole numbers from 0")
        return (table.astype(np.int32),)

    pieces = _read(path, BMU_COLUMNS, np.float64, whole)
    return np.concatenate([positions for (positions,) in pieces])


def parts(path: Path, size: int) -> list[tuple[int, int]]:
    """A table's rows in parts of some `size` bytes: first byte and byte after the last of each.

    Nothing is parsed, and of a part only the line at its end is read.
    """
    with _open(path) as file:
        file.readline(LONGEST_LINE)
        bounds, end = [file.tell()], os.fstat(file.fileno()).st_size
        while bounds[-1] + size < end:
            file.seek(bounds[-1] + size)
            file.readline(LONGEST_LINE)
            bounds.append(file.tell())
    return [(first, last) for first, last in pairwise([*bounds, end]) if first < last]


@dataclass(frozen=True)
class _Piece:
    """Whole lines of a file."""

    path: Path
    start: int  # byte of the file
    text: bytes

    def error(self, line: int, what: str) -> UserError:
        """The error to raise about a line of this piece, counted from 0."""
        with local(self.path).open("rb") as file:  # lines are counted only now, when someone asks
            before = sum(piece.text.count(b"\n") for piece in _pieces(file, self.path, self.start))
        return UserError(f"{self.path}: line {before + line + 1}: {what}")

    def line_at(self, offset: int) -> int:
        """The line that byte `offset` of this piece is on, counted from 0."""
        return self.text.count(b"\n", 0, offset)

    def line_of_row(self, row: int) -> int:
        """The line that a row of this piece is on, both counted from 0."""
        lines = enumerate(self.text.split(b"\n"))
        filled = (number for number, line in lines if line.strip(b" \t\r"))
        return next(islice(filled, row, None))


Split = Callable[[Floats, _Piece], tuple[NDArray[Any], ...]]


def _read(
    path: Path,
    columns: Sequence[str],
    dtype: DTypeLike,
    split: Split,
    part: tuple[int, int] | None = None,
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Parse a table of these columns, piece by piece, and let `split` check it."""
    with _open(path) as file:
        _check_header(file, path, columns)

        def parse(piece: _Piece) -> tuple[NDArray[Any], ...]:
            return split(_parse(piece, columns, dtype), piece)

        rows = 0
        if part:
            file.seek(part[0])
        pieces = _pieces(file, path, part[1] if part else sys.maxsize)
        for arrays in _in_threads(parse, pieces):
            rows += len(arrays[0])
            yield arrays
    if not rows and not part:
        raise UserError(f"{path}: has a header but no rows; run the step that writes it again")


def _open(path: Path) -> BufferedReader:
    try:
        return local(path).open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the step that writes it first") from None
    except OSError as error:
        if error.errno in FULL:  # the disk's that a copy from behind a URL was to go to
            raise
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _pieces(file: BufferedReader, path: Path, stop: int = sys.maxsize) -> Iterator[_Piece]:
    """The rest of the file, after its header and before byte `stop`, as pieces of whole lines."""
    start = file.tell()
    while text := file.read(min(PIECE_BYTES, stop - start)):
        if start + len(text) < stop:
            text += file.readline(LONGEST_LINE)
        piece = _Piece(path, start, text)
        start += len(text)
        if not text.endswith(b"\n") and file.peek(1):
            what = f"longer than {LONGEST_LINE:,} bytes; this is not a table of numbers"
            raise piece.error(piece.line_at(len(text)), what)
        yield piece


def _parse(piece: _Piece, names: Sequence[str], dtype: DTypeLike) -> Floats:
    try:
        return decimals.parse_table(piece.text, len(names), dtype)
    except decimals.LineError as error:
        number = piece.line_at(error.offset)
        if error.column is None:
            cells = piece.text.split(b"\n", number + 1)[number].count(b",") + 1
            what = f"{cells} cells, expected {len(names)}; mend the line, or write the file again if it is cut off"
        else:
            found = f"{_short(error.cell)!r}, not a number" if error.cell else "empty"
            what = f"{names[error.column]} is {found}; mend or remove the line"
        raise piece.error(number, what) from None


def _refuse(piece: _Piece, wrong: NDArray[np.bool_], values: Floats, names: Sequence[str], advice: str) -> None:
    """Raise a UserError about the first value (n, columns) that is `wrong`, if any is."""
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        what = f"{names[column]} is {values[row, column]:g}; {advice}"
        raise piece.error(piece.line_of_row(row), what)


def _refuse_other_units(piece: _Piece, spectra: Floats) -> None:
    """Raise a UserError for digital numbers, per cent or sentinels in place of reflectance."""
    if spectra.size and max(np.fmax.reduce(spectra, None), -np.fmin.reduce(spectra, None)) >= BEYOND_REFLECTANCE:
        wrong = np.isfinite(spectra) & (np.abs(spectra) >= BEYOND_REFLECTANCE)
        _refuse(piece, wrong, spectra, BANDS, "give reflectance as a fraction, no digital numbers or per cent")


def _reblock(pieces: Iterable[tuple[NDArray[Any], ...]], rows: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """The same rows in blocks of `rows` rows; the last may have fewer."""
    held: list[tuple[NDArray[Any], ...]] = []
    n_held = 0
    for piece in pieces:
        held.append(piece)
        n_held += len(piece[0])
        if n_held >= rows:
            whole = [np.concatenate(arrays) for arrays in zip(*held, strict=True)]
            stop = n_held - n_held % rows
            for start in range(0, stop, rows):
                yield tuple(array[start : start + rows] for array in whole)
            held, n_held = [tuple(array[stop:] for array in whole)], n_held - stop
    if n_held:
        yield tuple(np.concatenate(arrays) for arrays in zip(*held, strict=True))


# --- headers ------------------------------------------------------------------------------------

_SPELLINGS = {name.upper(): name for name in (*BANDS, "label", *BMU_COLUMNS)}
_SPELLINGS |= {safe.upper(): name for safe, name in zip(SAFE_BANDS, BANDS, strict=True)}


def _check_header(file: BufferedReader, path: Path, columns: Sequence[str]) -> None:
    """Read the header line; UserError unless it names these columns, in any spelling."""
    line = file.readline(LONGEST_LINE)
    if not line:
        raise UserError(f"{path}: is empty; run the step that writes it again")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    text = text.replace("\t", " ").strip()
    if not text.isprintable():
        raise UserError(f"{path}: does not start with a line of column names in plain UTF-8 text")
    cells = [cell.strip(" #\"'") for cell in text.split(",")]
    names = tuple(_SPELLINGS.get(cell.upper(), cell) for cell in cells)
    if names != columns:
        raise UserError(f"{path}: {_header_fault(names, columns)}; expected {','.join(columns)}")


def _header_fault(names: Sequence[str], expected: Sequence[str]) -> str:
    """What is wrong with a header, in words."""
    with suppress(ValueError):
        list(map(float, names))
        return "has no header line"
    missing = [name for name in expected if name not in names]
    unknown = [_short(name) or "(empty)" for name in names if name not in expected]
    doubled = sorted({name for name in names if names.count(name) > 1 and name in expected})
    if len(missing) == len(expected):
        return f"has other columns ({_short(', '.join(names))})"
    faults = [
        f"{what} {', '.join(columns[:5])}{' ...' if len(columns) > 5 else ''}"
        for what, columns in (("missing", missing), ("unknown", unknown), ("repeated", doubled))
        if columns
    ]
    if not faults:
        place = next(i for i, name in enumerate(names) if name != expected[i])
        faults = [f"column {place + 1} is {names[place]} where {expected[place]} belongs"]
    return "has the wrong columns: " + "; ".join(faults)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


# --- threads ------------------------------------------------------------------------------------


def _in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """work(item) of every item, in order, on a few threads."""
    threads = min(4, processors())
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, threads, work, items)
