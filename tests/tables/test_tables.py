"""The CSV tables: what is written is what numpy writes, what is read is what Python reads."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLASSES
from cloudsom.errors import UserError
from cloudsom.processors import share
from cloudsom.tables import csv_tables, decimals

HEADER = ",".join([*BANDS, "label"])
ROW = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2,1.3"
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows, so that small tables cross their borders as large ones do."""
    monkeypatch.setattr(csv_tables, "PIECE_BYTES", 300)
    monkeypatch.setattr(csv_tables, "PIECE_ROWS", 3)
    monkeypatch.setattr(csv_tables, "BEYOND_REFLECTANCE", np.inf)  # numbers of any size become text and back


def all_pixels(path: Path, dtype: Any = np.float32) -> NDArray[Any]:
    """A whole pixel table (N, 13)."""
    return np.concatenate([*csv_tables.read_pixels(path, dtype=dtype)])


def bits(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as integers: equal only where every bit is, -0.0 and NaN included."""
    return values.view(f"i{values.dtype.itemsize}")


def savetxt_bytes(reflectance: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    header = csv_tables.PIXEL_HEADER.removeprefix("# ")
    np.savetxt(file, reflectance, fmt="%10.4f", delimiter=",", header=header)
    return file.getvalue()


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Reflectance as it comes, and what formatting goes wrong on: ties of the fourth decimal and their
# neighbours, the ends of the lookup, negative zero, wide and tiny numbers, NaN and infinities.
grid = st.integers(-30_000, 120_000).map(lambda k: k / 10_000)
ties = st.integers(-70_000, 70_000).map(lambda k: (k + 0.5) / 10_000)
near_ties = st.tuples(ties, st.sampled_from([-np.inf, np.inf])).map(lambda t: np.nextafter(*t))
special = st.sampled_from([-0.0, -1e-9, -1.0, -1.0001, 6.5535, 6.5536, 99999.99995, -9999.99995])
reflectance64 = st.one_of(grid, ties, near_ties, special, st.floats())
reflectance32 = reflectance64.map(lambda v: float(np.float32(np.clip(v, -3e38, 3e38)))) | st.floats(width=32)


def blocks(finite: bool = False) -> st.SearchStrategy[NDArray[Any]]:
    """Blocks (n, 13) of float32 or float64 in C or Fortran order."""

    def block(dtype: type, values: st.SearchStrategy[float]) -> st.SearchStrategy[NDArray[Any]]:
        if finite:
            values = values.filter(np.isfinite)
        rows = st.integers(0, 8).map(lambda n: (n, 13))
        return arrays(dtype, rows, elements=values, fill=grid.map(dtype))

    either = block(np.float64, reflectance64) | block(np.float32, reflectance32)
    return st.tuples(either, st.sampled_from("CF")).map(lambda t: np.asarray(t[0], order=t[1]))


# --- pixels -------------------------------------------------------------------------------------


def test_pixel_table_by_hand(tmp_path: Path) -> None:
    pixels = np.array([[(k + 1) / 10_000 for k in range(13)], [np.nan] * 13])
    assert csv_tables.write_pixels(tmp_path / "p.csv", [pixels]) == (2, 0)
    header, first, nodata = (tmp_path / "p.csv").read_text().splitlines()
    assert header.startswith("#  #B1,  #B2,") and header.endswith(" #B8, #B8a, #B9, #B10, #B11, #B12")
    assert first.startswith("    0.0001,    0.0002,") and first.endswith(",    0.0013")
    assert nodata == ",".join(["       nan"] * 13)


@quick
@given(parts=st.lists(blocks(), min_size=1, max_size=3))
def test_pixels_are_the_bytes_of_savetxt(tmp_path: Path, parts: list[NDArray[Any]]) -> None:
    count = csv_tables.write_pixels(tmp_path / "p.csv", parts)
    body = b"".join(savetxt_bytes(part).split(b"\n", 1)[1] for part in parts)
    header = csv_tables.PIXEL_HEADER.encode() + b"\n"
    assert (tmp_path / "p.csv").read_bytes() == header + body
    assert count.rows == sum(map(len, parts))


def test_header_is_the_one_savetxt_writes(tmp_path: Path) -> None:
    pixels = np.full((2, 13), 0.5)
    csv_tables.write_pixels(tmp_path / "p.csv", [pixels])
    assert (tmp_path / "p.csv").read_bytes() == savetxt_bytes(pixels)


@pytest.mark.parametrize("offset", [0, -1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_dn_comes_back_bit_for_bit(
    tmp_path: Path, offset: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # pieces of full size
    dn = np.resize(np.arange(2**16), (5042, 13))
    reflectance: NDArray[Any] = ((dn + offset) / 10_000).astype(dtype)
    assert csv_tables.write_pixels(tmp_path / "p.csv", [reflectance]).rounded == 0
    assert (tmp_path / "p.csv").read_bytes() == savetxt_bytes(reflectance)
    back = all_pixels(tmp_path / "p.csv", dtype=dtype)
    np.testing.assert_array_equal(bits(back), bits(reflectance))


@quick
@given(block=blocks())
def test_rounded_counts_the_values_that_do_not_come_back(tmp_path: Path, block: NDArray[Any]) -> None:
    count = csv_tables.write_pixels(tmp_path / "p.csv", [block])
    if len(block):
        back = all_pixels(tmp_path / "p.csv", dtype=block.dtype)
        assert count.rounded == np.sum((back != block) & ~np.isnan(block))


@quick
@given(block=blocks().filter(len))
def test_pixels_read_as_pandas_and_loadtxt_do(tmp_path: Path, block: NDArray[Any]) -> None:
    path = tmp_path / "p.csv"
    csv_tables.write_pixels(path, [block])
    ours = all_pixels(path, dtype=np.float64)
    np.testing.assert_array_equal(ours, np.loadtxt(path, delimiter=",", ndmin=2))
    np.testing.assert_allclose(ours, pd.read_csv(path).to_numpy(np.float64), rtol=1e-14)
    with np.errstate(over="ignore"):
        single = ours.astype(np.float32)
    np.testing.assert_array_equal(all_pixels(path), single)


# --- spectra ------------------------------------------------------------------------------------


def test_spectra_table_by_hand(tmp_path: Path) -> None:
    spectra = np.arange(13, dtype=np.float32)[None] / 10
    assert csv_tables.write_spectra(tmp_path / "s.csv", [(spectra, [40])]) == 1
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "B1,B2,B3,B4,B5,B6,B7,B8,B8a,B9,B10,B11,B12,label",
        "0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2,40",
    ]


@quick
@given(parts=st.lists(blocks(finite=True).filter(len), min_size=1, max_size=3), data=st.data())
def test_spectra_come_back_bit_for_bit(tmp_path: Path, parts: list[NDArray[Any]], data: st.DataObject) -> None:
    parts = [part.astype(parts[0].dtype) for part in parts if part.dtype == parts[0].dtype]
    labels = [data.draw(arrays(np.int64, len(part), elements=st.sampled_from(list(CLASSES)))) for part in parts]
    path = tmp_path / "s.csv"
    rows = csv_tables.write_spectra(path, zip(parts, labels, strict=True))
    spectra, codes = csv_tables.read_all_spectra(path, dtype=parts[0].dtype)
    assert rows == len(spectra)
    np.testing.assert_array_equal(bits(spectra), bits(np.concatenate(parts)))
    np.testing.assert_array_equal(codes, np.concatenate(labels))
    as_float64, _ = csv_tables.read_all_spectra(path, dtype=np.float64)
    np.testing.assert_array_equal(as_float64.astype(parts[0].dtype), spectra)
    assert list(pd.read_csv(path, nrows=1)) == [*BANDS, "label"]
    numpys = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    np.testing.assert_array_equal(numpys, np.column_stack([as_float64, codes]))


@quick
@given(block=arrays(np.float32, (5, 13), elements=st.floats(width=32, allow_infinity=False, allow_nan=False)))
def test_float32_texts_are_nearest_to_no_other_float32(tmp_path: Path, block: NDArray[np.float32]) -> None:
    """A reader that goes straight to float32, without float64 between, gets the same bits."""
    csv_tables.write_spectra(tmp_path / "s.csv", [(block, [10] * 5)])
    lines = (tmp_path / "s.csv").read_text().splitlines()[1:]
    cells = [cell for line in lines for cell in line.split(",")[:13]]
    for cell, v in zip(cells, block.ravel(), strict=True):
        exact = Fraction(float(v))
        for towards in (-np.inf, np.inf):
            with np.errstate(over="ignore"):
                neighbour = np.nextafter(v, np.float32(towards))
            if np.isfinite(neighbour):
                gap = abs(Fraction(float(neighbour)) - exact)
                assert abs(Fraction(cell) - exact) < gap / 2


def test_no_text_of_the_lookup_is_a_tie_of_float32() -> None:
    """Half-way between two float32, the way by float64 could differ from the direct one."""
    k = np.arange(decimals.GRID_START, decimals.GRID_STOP)
    assert (bits(k / decimals.GRID) % 2**29 != 2**28).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_off_grid_spectra_are_as_short_as_repr(tmp_path: Path, dtype: type) -> None:
    values: NDArray[Any] = np.random.default_rng(1).uniform(0.001, 2.8, (200, 13)).astype(dtype)
    csv_tables.write_spectra(tmp_path / "s.csv", [(values, np.full(200, 10))])
    cells = (tmp_path / "s.csv").read_text().replace("\n", ",").split(",")[14:-1]
    ours = [len(cell) for i, cell in enumerate(cells) if i % 14 < 13]
    assert ours == [len(str(v)) for v in values.ravel()]


def test_nan_and_infinite_reflectance_is_refused(tmp_path: Path) -> None:
    spectra = np.full((9, 13), 0.25)
    spectra[5, 8], spectra[7, 0] = np.nan, -np.inf
    csv_tables.write_spectra(tmp_path / "s.csv", [(spectra, [10] * 9)])
    with pytest.raises(UserError, match=r"s.csv: line 7: B8a is nan"):
        csv_tables.read_all_spectra(tmp_path / "s.csv")


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 5, 7, 49, 50, 51])
def test_blocks_have_the_rows_asked_for(tmp_path: Path, chunk_rows: int) -> None:
    spectra = np.arange(50 * 13, dtype=np.float32).reshape(50, 13) / 10_000
    labels = np.resize(list(CLASSES), 50)
    csv_tables.write_spectra(tmp_path / "s.csv", [(spectra, labels)])
    parts = list(csv_tables.read_spectra(tmp_path / "s.csv", chunk_rows=chunk_rows))
    sizes = [len(part) for part, _ in parts]
    assert set(sizes[:-1]) <= {chunk_rows} and 0 < sizes[-1] <= chunk_rows
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), spectra)
    np.testing.assert_array_equal(np.concatenate([codes for _, codes in parts]), labels)


# --- BMUs ---------------------------------------------------------------------------------------


@quick
@given(positions=arrays(np.int32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(0, 65_535)))
def test_bmus_come_back(tmp_path: Path, positions: NDArray[np.int32]) -> None:
    path = tmp_path / "b.csv"
    assert csv_tables.write_bmus(path, [positions, positions]) == 2 * len(positions)
    np.testing.assert_array_equal(csv_tables.read_bmus(path), np.concatenate([positions, positions]))
    np.testing.assert_array_equal(pd.read_csv(path).to_numpy()[: len(positions)], positions)
    assert path.read_bytes().startswith(b"position1,position2\n")


@pytest.mark.parametrize("fmt", ["%10.0f", "%10.4f", "%.18e"])
def test_bmus_of_the_authors_are_read(tmp_path: Path, fmt: str) -> None:
    positions = np.array([[0, 14], [19, 0], [7, 3]] * 5)
    np.savetxt(tmp_path / "b.csv", positions, fmt=fmt, delimiter=",", header="position1, #position2")
    read = csv_tables.read_bmus(tmp_path / "b.csv")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, positions)


@pytest.mark.parametrize("cell", ["-1", "0.5", "nan", "inf", "3e9"])
def test_bmus_that_are_no_positions_are_refused(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "b.csv", f"position1,position2\n1,2\n3,{cell}\n")
    with pytest.raises(UserError, match=r"line 3: position2 is .*; positions are whole numbers"):
        csv_tables.read_bmus(path)


# --- any number, any way of writing it ----------------------------------------------------------

numbers = st.one_of(
    st.floats().map(repr),
    st.floats(-10, 10).map("{:10.4f}".format),
    st.floats(-10, 10).map("{:.7g}".format),
    st.floats().map("{:+.3e}".format),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.tuples(st.integers(0, 10**25), st.integers(0, 10**25)).map("{0[0]}.{0[1]}".format),
    st.integers(2**53 - 5, 2**53 + 5).map(str),
    st.sampled_from(["NaN", "-nan", "Infinity", "-inf", ".5", "5.", "-.5", "00.1", "-0", "1E5"]),
)
blanks = st.text(" \t", max_size=3)


@quick
@given(cells=st.lists(st.tuples(blanks, numbers, blanks), min_size=1, max_size=30))
def test_every_number_is_what_float_makes_of_it(cells: list[tuple[str, str, str]]) -> None:
    text = "\n".join("".join(cell) + ", 1" for cell in cells).encode()
    expected = np.array([float(number) for _, number, _ in cells])
    double = decimals.parse_table(text, 2, np.float64)
    single = decimals.parse_table(text, 2, np.float32)
    np.testing.assert_array_equal(double[:, 0], expected)
    np.testing.assert_array_equal(np.signbit(double[:, 0]), np.signbit(expected))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(single[:, 0], expected.astype(np.float32))
    assert (double[:, 1] == 1).all()


def test_more_slow_cells_than_their_list_holds() -> None:
    expected = np.random.default_rng(0).normal(size=(3000, 3)) * 1e-9
    text = "\n".join(",".join(map(repr, row)) for row in expected.tolist()).encode()
    np.testing.assert_array_equal(decimals.parse_table(text, 3, np.float64), expected)


# --- files as other programs leave them ---------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\r\n{ROW},10\r\n{ROW},20\r\n",
        f"\ufeff{HEADER}\n{ROW},10\n{ROW},20",
        f"{HEADER}\n\n{ROW},10\n  \t\n{ROW},20\n\n\r\n\n",
        f"{HEADER}\n {ROW.replace(',', ' , ')} , 10 \n\t{ROW},2.0e1\n",
        f"#  #{HEADER.replace(',', ',  #')}\n{ROW},10.0000\n{ROW},        20\n",
        f"{HEADER.replace('B8a', 'B8A').replace('label', 'Label')}\n{ROW},10\n{ROW},20\n",
        "B01,B02,B03,B04,B05,B06,B07,B08,B8A,B09,B10,B11,B12,label\n" + f"{ROW},10\n{ROW},20\n",
        '"' + HEADER.replace(",", '","') + f'"\n{ROW},10\n{ROW},20\n',
    ],
    ids=["windows", "BOM", "blank lines", "blanks", "savetxt", "capitals", "SAFE names", "quotes"],
)
def test_other_spellings_are_read(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "s.csv", text)
    spectra, labels = csv_tables.read_all_spectra(path)
    expected = np.array(ROW.split(","), np.float32)
    np.testing.assert_array_equal(spectra, [expected, expected])
    assert labels.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("B1,B2,B3,B4,B5,B6,B7,B8,B9,B10,B11,B12,B8a,label", "column 9 is B9 where B8a belongs"),
        (HEADER.replace("B10,", ""), "missing B10"),
        (",".join(BANDS), "missing label"),
        (HEADER.replace("B10", "elevation"), "missing B10; unknown elevation"),
        (HEADER + ",B3", "repeated B3"),
        (HEADER + ",", "unknown .empty."),
        (HEADER.replace(",", ";"), "has other columns"),
        (HEADER.replace(",", "\t"), "has other columns"),
        (f"{ROW},10", "has no header line"),
        ("x,y", "has other columns .x, y."),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: str, fault: str) -> None:
    path = write(tmp_path / "s.csv", f"{header}\n{ROW},10\n")
    with pytest.raises(UserError, match=f"s.csv: .*{fault}.*; expected B1,B2,"):
        csv_tables.read_all_spectra(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        (HEADER, "header but no rows"),
        (HEADER + "\n\n \n", "header but no rows"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), "does not start with a line of column names"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "does not start with a line of column names"),
        (HEADER + "\n" + "1" * 200_000 + "\n", "line 2: longer than"),
        ("x" * 200_000, "line 1: longer than"),
        (HEADER + "\r" + f"{ROW},10", "does not start with a line of column names"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, text: str | bytes, fault: str) -> None:
    path = write(tmp_path / "s.csv", text)
    with pytest.raises(UserError, match=fault):
        csv_tables.read_all_spectra(path)


@pytest.mark.parametrize("good", [0, 1, 40])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (ROW, "13 cells, expected 14"),
        (f"{ROW},10,10", "15 cells, expected 14"),
        (f"{ROW},10,", "15 cells, expected 14"),
        (f"{ROW},", "label is empty"),
        (f"{ROW},snow", "label is 'snow', not a number"),
        (f"{ROW},1_0", "label is '1_0', not a number"),
        (f"{ROW},70", "label is 70; labels are 10, 20, 30, 40, 50, 60"),
        (f"{ROW},10.5", "label is 10.5; labels are"),
        (f"{ROW},nan", "label is nan; labels are"),
        (f"{ROW},10".replace("0.3", "0.3.1"), "B3 is '0.3.1', not a number"),
        (f"{ROW},10".replace("0.9", "0.9 0.9"), "B8a is '0.9 0.9', not a number"),
        (f"{ROW},10".replace("0.3", "--"), "B3 is '--', not a number"),
        (f"{ROW},10".replace("0.3", "1e99"), "B3 is inf; use finite"),
        (f"{ROW},10".replace("0.3", "\u0663"), "B3 is '.*', not a number"),
        (f"{ROW},10".replace("0.3", "\0"), r"B3 is '\\x00', not a number"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, fault: str, good: int) -> None:
    rows = f"{ROW},10\n" * good
    path = write(tmp_path / "s.csv", f"{HEADER}\n\n{rows}{line}\n{ROW},20\n")
    with pytest.raises(UserError, match=f"s.csv: line {good + 3}: {fault}") as caught:
        csv_tables.read_all_spectra(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_user_errors(tmp_path: Path) -> None:
    readers: list[Callable[[Path], object]] = [
        csv_tables.read_all_spectra,
        all_pixels,
        csv_tables.read_bmus,
    ]
    for read in readers:
        with pytest.raises(UserError, match="no such file"):
            read(tmp_path / "absent.csv")
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path)


valid_table = f"{HEADER}\n" + "".join(f"{ROW.replace('0.3', f'{i / 97:.4f}')},10\n" for i in range(12))
edits = st.lists(
    st.tuples(
        st.integers(0, len(valid_table)),
        st.integers(0, 40),
        st.binary(max_size=6) | st.sampled_from([b"\n", b",", b"nan", b"1e400", b"\r\n", b"\n\n", b"  "]),
    ),
    min_size=1,
    max_size=4,
)


@settings(quick, max_examples=200)
@given(edits=edits, cut=st.integers(0, len(valid_table)))
def test_damaged_tables_give_rows_or_a_user_error(
    tmp_path: Path, edits: list[tuple[int, int, bytes]], cut: int
) -> None:
    damaged = valid_table.encode()
    for start, length, new in edits:
        damaged = damaged[:start] + new + damaged[start + length :]
    path = write(tmp_path / "s.csv", damaged[: cut or None])
    readers: list[Callable[[], Any]] = [
        lambda: csv_tables.read_all_spectra(path)[0],
        lambda: csv_tables.read_all_spectra(path, dtype=np.float64)[0],
        lambda: all_pixels(path),
        lambda: csv_tables.read_bmus(path),
    ]
    for read in readers:
        try:
            rows = read()
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            filled = [line for line in path.read_bytes().split(b"\n")[1:] if line.strip(b" \t\r")]
            assert 0 < len(rows) == len(filled)


# --- how it is done -----------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7, 64, 500, 100_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_and_threads_change_nothing(
    tmp_path: Path, piece: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_tables, "PIECE_BYTES", piece)
    monkeypatch.setattr(csv_tables, "PIECE_ROWS", piece)
    spectra = np.random.default_rng(2).integers(0, 28_000, (41, 13)) / 10_000
    labels = np.resize(list(CLASSES), 41)
    with share(threads):
        csv_tables.write_spectra(tmp_path / "s.csv", [(spectra, labels)])
        csv_tables.write_pixels(tmp_path / "p.csv", [spectra])
        back, codes = csv_tables.read_all_spectra(tmp_path / "s.csv", dtype=np.float64)
    assert (tmp_path / "p.csv").read_bytes() == savetxt_bytes(spectra)
    np.testing.assert_array_equal(back, spectra)
    np.testing.assert_array_equal(codes, labels)


def test_a_block_may_be_reused_by_its_caller(tmp_path: Path) -> None:
    def blocks_in_one_array() -> Iterator[NDArray[np.float64]]:
        block = np.empty((10, 13))
        for i in range(20):
            block[:] = i / 10_000
            yield block

    csv_tables.write_pixels(tmp_path / "p.csv", blocks_in_one_array())
    pixels = all_pixels(tmp_path / "p.csv", dtype=np.float64)
    np.testing.assert_array_equal(pixels[:, 0], np.repeat(np.arange(20), 10) / 10_000)


def test_memory_does_not_grow_with_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # pieces of full size
    block = np.full((10_000, 13), 0.1234)
    csv_tables.write_pixels(tmp_path / "warm.csv", [block])  # build the lookup first
    tracemalloc.start()
    try:
        csv_tables.write_pixels(tmp_path / "p.csv", (block for _ in range(40)))
        rows = sum(len(part) for part in csv_tables.read_pixels(tmp_path / "p.csv", chunk_rows=20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 400_000
    assert peak < 25e6 < (tmp_path / "p.csv").stat().st_size / 2


@pytest.mark.parametrize(
    ("spectra", "labels"),
    [
        (np.zeros((2, 12)), [10, 10]),
        (np.zeros(13), [10]),
        (np.zeros((2, 13)), [10]),
        (np.zeros((2, 13)), [10.0, 20.0]),
        (np.zeros((2, 13)), [10, -1]),
        (np.zeros((2, 13)), [10, 256]),
    ],
)
def test_writers_refuse_what_they_cannot_hold(tmp_path: Path, spectra: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        csv_tables.write_spectra(tmp_path / "s.csv", [(spectra, labels)])


def test_float16_is_not_a_reading_type(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", f"{HEADER}\n{ROW},10\n")
    with pytest.raises(ValueError, match="expected float32 or float64"):
        csv_tables.read_all_spectra(path, dtype=np.float16)


@pytest.mark.parametrize("size", [1, 90, 1000, 5000, 10**6])
def test_parts_hold_every_row_once(tmp_path: Path, size: int) -> None:
    spectra, labels = np.random.default_rng(0).random((300, 13)).astype(np.float32), np.full(300, 10)
    path = tmp_path / "x.csv"
    csv_tables.write_spectra(path, [(spectra, labels)])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    parts = csv_tables.parts(path, size)
    assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
    read = [block for part in parts for block, _ in csv_tables.read_spectra(path, part=part)]
    assert (np.concatenate(read) == spectra).all()
    assert (len(parts) == 1) == (size == 10**6) and len(parts) <= 300
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:200], "x" + lines[200], *lines[201:]]))
    with pytest.raises(UserError, match="line 201: B1 is 'x"):
        for part in csv_tables.parts(path, size):
            list(csv_tables.read_spectra(path, part=part))


def test_where_no_machine_code_can_be_kept_kernels_are_compiled_each_time(tmp_path: Path) -> None:
    """As on a read-only installation, for a user without a home; files stand where numba would make its folders."""
    shutil.copytree(ROOT / "cloudsom", tmp_path / "cloudsom", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("tables", "som"):
        (tmp_path / "cloudsom" / folder / "__pycache__").touch()
    code = (
        "import numpy as np\nfrom cloudsom.som import training\nfrom cloudsom.tables import decimals\n"
        "print(type(decimals._skip_blanks._cache).__name__, type(training.train_som).__name__)\n"
        "print(bytes(decimals.integer_text(np.ones((1, 2), np.int32))))"
    )
    env, words = {"HOME": "/dev/null/home"}, [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120)
    assert done.stdout == "NullCache function\nb'1,1\\n'\n" and not done.stderr, done
