"""Tables as other programs write them: each is read as what it says, or refused in one line; never as something else.

    python -m campaigns.tables --inputs 2000 --seed 0
    python -m campaigns.tables --inputs 2000 --first 2000      goes on behind the first two thousand

The good tables of `campaigns.fuzz` are written again in one to three dialects at a time: line ends, byte order marks,
semicolons and tabs, decimal commas, quotes, other orders of columns, padding, sentinels for missing values,
digital numbers or per cent in place of reflectance. What a reader returns for it must be what it returns for the good
table. The same seed gives the same tables.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.fuzz.targets.tables import COLS, ROWS, seeds
from cloudsom.bands import BANDS
from cloudsom.errors import UserError
from cloudsom.som import model
from cloudsom.tables import csv_tables
from cloudsom.tuning.bright_samples import read_positions, read_samples

#: A table as text, cell by cell.
Cells = list[list[str]]


def neurons(path: Path) -> list[Any]:
    found = model.read_neuron_labels(path)
    return [found.classes, found.cloud, found.share]


#: What a reader makes of a table: arrays, each with a row for each of the table's.
READERS: dict[str, Callable[[Path], list[Any]]] = {
    "spectra": lambda path: list(csv_tables.read_all_spectra(path)),
    "pixels": lambda path: [np.concatenate([*csv_tables.read_pixels(path)])],
    "bmus": lambda path: [model.read_bmus(path, ROWS, COLS)],
    "labels": neurons,
    "hits": lambda path: [model.read_hit_maps(path)[0]],
    "positions": lambda path: [read_positions(path).astype(str).to_numpy()],
    "samples": lambda path: [read_samples(path)[list(BANDS)].to_numpy()],
}


# --- dialects ---------------------------------------------------------------------------------------------------------


def other_column_order(draw: random.Random, cells: Cells) -> Cells:
    order = list(range(len(cells[0])))
    draw.shuffle(order)
    return [[row[i] for i in order] for row in cells]


def with_sentinel(draw: random.Random, cells: Cells) -> Cells:
    able = [i for i, name in enumerate(cells[0]) if name not in ("product", "source", "share")]  # texts; NaN is a share
    row, column = draw.randrange(1, len(cells)), draw.choice(able)
    sentinel = draw.choice(["-9999", "-9999.0", "NA", "NULL", "nan", "", "1e20", "-3.4e38", "65535", "#N/A", "-"])
    if (sentinel == "65535" and "." not in cells[row][column]) or (sentinel == "nan" and "#" in cells[0][0]):
        sentinel = "NULL"  # that is a count or position like any other, and this a pixel without data
    return [*cells[:row], [sentinel if c == column else cell for c, cell in enumerate(cells[row])], *cells[row + 1 :]]


def scaled(by: float) -> Callable[[random.Random, Cells], Cells]:
    def change(draw: random.Random, cells: Cells) -> Cells:
        def times(cell: str) -> str:
            return f"{float(cell) * by:g}" if "." in cell else cell

        return [cells[0], *([times(cell) for cell in row] for row in cells[1:])]

    return change


def with_index(draw: random.Random, cells: Cells) -> Cells:
    return [[str(i - 1) if i else draw.choice(["", "index", "Unnamed: 0"]), *row] for i, row in enumerate(cells)]


def with_units(draw: random.Random, cells: Cells) -> Cells:
    units = [draw.choice(["-", "1", "m", "reflectance"]) for _ in cells[0][1:]]
    return [cells[0], [*units, "-"], *cells[1:]]  # with 1 in all columns it would be a row like any other


def other_names(draw: random.Random, cells: Cells) -> Cells:
    form = draw.choice(["{} [-]", " {} ", "#{}", "b_{}"])
    change = draw.choice([str.lower, str.upper, form.format, form.format])
    return [[change(name) for name in cells[0]], *cells[1:]]


def without_header(draw: random.Random, cells: Cells) -> Cells:
    return cells[1:]


CHANGES: list[Callable[[random.Random, Cells], Cells]] = [
    *(other_column_order, with_sentinel, scaled(10_000), scaled(100)),
    *(with_index, with_units, other_names, without_header),
]


def written(draw: random.Random, cells: Cells) -> bytes:
    """The table's bytes in some dialect."""
    point, between = draw.choice([(".", ","), (".", ","), (".", ";"), (",", ";"), (",", ","), (".", "\t"), (".", " ")])
    quote, pad = draw.choice(["", "", "", '"', "'"]), draw.choice(["", "", "", " "])
    lines = [between.join(f"{quote}{pad}{cell.replace('.', point)}{quote}" for cell in row) for row in cells]
    end = draw.choice(["\n", "\n", "\r\n", "\r", "\n\n"])
    first = draw.choice(["", "", "", "sep=;", "# made by another program", ""])
    text = (first + end if first else "") + end.join(lines) + draw.choice([end, end, "", end * 2, "\x1a"])
    return text.encode(draw.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))


# --- the campaign -----------------------------------------------------------------------------------------------------


def table(kind: str, good: bytes, seed: int, number: int) -> bytes:
    draw = random.Random(f"{seed}/{kind}/{number}")
    cells = [line.split(",") for line in good.decode().splitlines()]
    for change in draw.sample(CHANGES, draw.choice([0, 0, 1, 1, 2])):
        cells = change(draw, cells)
    return written(draw, cells)


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def fault_of(kind: str, content: bytes, path: Path, expected: Sequence[Any]) -> str | None:
    """What is wrong with how a table is read; None if it is read as what it is, or refused."""
    path.write_bytes(content)
    try:
        found = READERS[kind](path)
    except UserError as problem:
        return None if path.name in str(problem) else f"an error that does not name the file: {problem}"
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    return None if same(found, expected) else "read as another table"


def campaign(seed: int, first: int, inputs: int, tell: Callable[[str], None]) -> Counter[str]:
    """Read so many tables of each kind; how many were read, refused, and wrong."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        good = {kind: found[0] for kind, found in seeds(Path(folder)).items()}
        path = Path(folder, "table.csv")
        for kind, reader in READERS.items():
            path.write_bytes(good[kind])
            expected = reader(path)
            for number in range(first, first + inputs):
                content = table(kind, good[kind], seed, number)
                fault = fault_of(kind, content, path, expected)
                counts["wrong" if fault else "right"] += 1
                if fault:
                    tell(f"{kind} {number}: {fault}: {content[:150]!r}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m campaigns.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1000, help="tables of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the dialects")
    parser.add_argument("--first", type=int, default=0, help="number of the first table")
    given: Any = parser.parse_args()
    counts = campaign(given.seed, given.first, given.inputs, print)
    print(f"{counts.total():,} tables: {counts['right']:,} read as what they are or refused, {counts['wrong']:,} wrong")
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
