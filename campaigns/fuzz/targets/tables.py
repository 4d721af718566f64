"""The CSV tables: spectra, pixels, BMUs, neurons, bright samples and their positions."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Case, Seeds, Target
from campaigns.fuzz.mutations import NUMBERS
from cloudsom.bands import BANDS, CLEAR
from cloudsom.som import model
from cloudsom.tables import csv_tables
from cloudsom.tuning.bright_samples import COLUMNS, check_positions, read_positions, read_samples

ROWS, COLS = 4, 3  # neurons


def _spectra(path: Path) -> None:
    spectra, labels = csv_tables.read_all_spectra(path)
    assert spectra.shape == (len(labels), 13) and np.isfinite(spectra).all()
    blocks = csv_tables.read_spectra(path, chunk_rows=7, dtype=np.float64)
    assert sum(len(block) for block, _ in blocks) == len(labels)


def _pixels(path: Path) -> None:
    assert {pixels.shape[1] for pixels in csv_tables.read_pixels(path)} <= {13}


def _bmus(path: Path) -> None:
    flat = model.read_bmus(path, ROWS, COLS)
    assert ((flat >= 0) & (flat < ROWS * COLS)).all()


def _labels(path: Path) -> None:
    found = model.read_neuron_labels(path)
    assert len(found.cloud) == found.rows * found.columns


def _hits(path: Path) -> None:
    counts, rows, columns = model.read_hit_maps(path)
    assert counts.shape == (rows * columns, 6) and (counts >= 0).all()


def _positions(path: Path) -> None:
    table = read_positions(path)
    check_positions(path, table, np.full((20, 24), CLEAR, np.uint8))


READERS: dict[str, Callable[[Path], object]] = {
    "spectra": _spectra,
    "pixels": _pixels,
    "bmus": _bmus,
    "labels": _labels,
    "hits": _hits,
    "positions": _positions,
    "samples": read_samples,
}


def seeds(folder: Path) -> Seeds:
    spectra, labels = kit.spectra()
    pixels = kit.digital_numbers()[:3].reshape(-1, 13) / 10_000
    pixels[5] = np.nan
    csv_tables.write_spectra(folder / "spectra", [(spectra, labels)])
    csv_tables.write_pixels(folder / "pixels", [pixels])
    csv_tables.write_bmus(folder / "bmus", [np.argwhere(np.ones((ROWS, COLS)))])
    row, column = np.divmod(np.arange(ROWS * COLS), COLS)
    neurons = pd.DataFrame({"row": row, "column": column})
    classes = neurons.assign(**{"class": 10, "cloud": 0, "share": 0.75})
    classes.loc[3, ["class", "cloud"]] = 50, 255
    classes.to_csv(folder / "labels", index=False)
    neurons.assign(**dict.fromkeys(model.HIT_COLUMNS, 12)).to_csv(folder / "hits", index=False)
    positions = neurons.assign(product="S2A_X")[["product", "row", "column"]]
    positions.to_csv(folder / "positions", index=False)
    samples = positions.assign(**dict(zip(BANDS, spectra[: len(positions)].T, strict=True)), source="csv")
    samples[list(COLUMNS)].to_csv(folder / "samples", index=False)
    return {kind: [(folder / kind).read_bytes()] for kind in READERS}


def build(draw: random.Random, good: Seeds) -> Case:
    """A table in which cells, columns or lines are others, and the rest is right."""
    kind = draw.choice(sorted(good))
    rows = [line.split(b",") for line in draw.choice(good[kind]).splitlines()]
    for _ in range(draw.choice((1, 1, 2, 4))):
        row = draw.randrange(len(rows))
        column = draw.randrange(len(rows[row])) if rows[row] else 0
        match draw.randrange(7):
            case 0 | 1 if rows[row]:
                rows[row][column] = draw.choice((*NUMBERS, b'"', b'"a\nb"', b"\x1b[2J", b"\0", b" ", b"'", b"=1+1"))
            case 2:
                rows.insert(row, draw.choice(rows)[:])
            case 3 if len(rows) > 1:
                del rows[row]
            case 4:
                rows = [cells[:column] + cells[column + 1 :] for cells in rows]
            case 5:
                rows = [cells[:column] + cells[column : column + 1] * 2 + cells[column + 1 :] for cells in rows]
            case _:
                draw.shuffle(rows)
    ends = draw.choice((b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b" \n"))
    return Case(kind, draw.choice((b"", b"", b"\xef\xbb\xbf", b"\xff\xfe")) + ends.join(map(b",".join, rows)))


CSV = Target(
    "csv",
    {kind: (".csv", read) for kind, read in READERS.items()},
    seeds,
    (b",", b"\n", b"\r\n", b"\r", b'"', b"#", b"\t", b"\0", b"label", b"B8A", b"row", b"position1", b"share",
     b",,,", b" "),
    build,
)  # fmt: skip
