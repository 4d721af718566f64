"""The trained model on disk: map, scaler, neuron labels, hit maps."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.bands import CLASSES, CLEAR, CLOUD, N_BANDS, NO_CLASS
from cloudsom.errors import Damaged, UserError
from cloudsom.files import pickles, stores
from cloudsom.files.places import local
from cloudsom.som.labels import CLASS_CODES, NeuronLabels
from cloudsom.tables import csv_tables

#: Columns of hit_maps.csv after row and column, one a class.
HIT_COLUMNS = tuple(name.replace(" ", "_") for name in CLASSES.values())

LABEL_COLUMNS = ("row", "column", "class", "cloud", "share")


@dataclass(frozen=True)
class Scaler:
    """The numbers of a fitted scaler, each (13,): scaled = reflectance * scale_ + min_, fitted on data_min_..data_max_.

    They are all that scaling takes, whatever version of scikit-learn pickled them.
    """

    scale_: NDArray[np.float64]
    min_: NDArray[np.float64]
    data_min_: NDArray[np.float64]
    data_max_: NDArray[np.float64]

    def reflectance(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map's units back to reflectance; arrays (..., 13)."""
        return (scaled - self.min_) / self.scale_


def load_scaler(path: Path) -> Scaler:
    """The numbers of step 2's fitted scaler; UserError if the file holds anything else or another number of bands."""
    record = stores.load_pickle(path, "scaler")
    if _kind(record) != "MinMaxScaler":
        raise UserError(f"{path}: holds a {_kind(record)}, not a fitted MinMaxScaler; give the file of step 2")
    scaler = Scaler(*(_array(path, record, name, "scaler") for name in Scaler.__dataclass_fields__))
    for values in vars(scaler).values():
        if values.shape != (N_BANDS,):
            size = values.shape[0] if values.ndim == 1 else 0
            raise UserError(f"{path}: the scaler was fitted on {size} bands, {N_BANDS} are needed")
        if not np.isfinite(values).all():
            raise UserError(f"{path}: its numbers are not all finite; fit the scaler again (step 2)")
    return scaler


def _kind(record: Any) -> str:
    """The class of what a pickle held, for messages."""
    return pickles.shown(record.name.rpartition(".")[2]) if isinstance(record, pickles.Record) else "plain value"


def _array(path: Path, record: pickles.Record, attribute: str, what: str) -> NDArray[np.float64]:
    try:
        return pickles.array(record.get(attribute))
    except Damaged as problem:
        raise UserError(f"{path}: not a readable {what} ({attribute}: {problem}); give another file") from None


def scale(reflectance: NDArray[np.float64], scaler: Any) -> NDArray[np.float64]:
    """(n, 13) reflectances -> the map's inputs, unclipped, in place: the array given is the one returned.

    Bit for bit what `scaler.transform` computes (multiply, then add), without its checks and copies.
    """
    reflectance *= scaler.scale_
    reflectance += scaler.min_
    return reflectance


def load_weights(path: Path) -> NDArray[np.float64]:
    """The weights (rows, columns, 13) of step 3's pickled map, of which nothing else is read; UserError for others."""
    record = stores.load_pickle(path, "map")
    if _kind(record) != "MiniSom":
        advice = "give the file of step 3"
        if isinstance(record, pickles.Record) and record.name.startswith("susi."):
            advice = "have step 3 take its weights (SOM_training.py --IMPORT_SUSI)"
        raise UserError(f"{path}: holds a {_kind(record)}, not a MiniSom; {advice}")
    return _weights(path, record, "_weights")


def load_susi_weights(path: Path) -> NDArray[np.float64]:
    """The weights (rows, columns, 13) of a pickled susi map, of which nothing else is kept; UserError for other files.

    susi counts rows and columns as MiniSom does. Its maps hold their training spectra and BMUs too, so the file may be
    gigabytes long; it is read up to where the weights are known if the rest is longer than a map should be.
    """
    record = stores.load_pickle(path, "susi map", pending="unsuper_som_")
    if not (isinstance(record, pickles.Record) and record.name.startswith("susi.")):
        raise UserError(f"{path}: holds a {_kind(record)}, not a map of susi; give such a file, or None to train")
    return _weights(path, record, "unsuper_som_")


def _weights(path: Path, record: pickles.Record, attribute: str) -> NDArray[np.float64]:
    weights = _array(path, record, attribute, "map")
    if weights.ndim != 3 or weights.size == 0:
        raise UserError(f"{path}: its weights have the shape {weights.shape}; rows x columns x bands are needed")
    if weights.shape[2] != N_BANDS:
        raise UserError(f"{path}: the map was trained on {weights.shape[2]} bands, {N_BANDS} are needed")
    if not np.isfinite(weights).all():
        raise UserError(f"{path}: its weights are not all finite; train the map again (step 3)")
    return weights


# --- tables of neurons ------------------------------------------------------------------------------------------------


def _positions(rows: int, columns: int) -> dict[str, NDArray[np.intp]]:
    row, column = np.divmod(np.arange(rows * columns), columns)
    return {"row": row, "column": column}


def hit_maps_table(counts: NDArray[np.int64], rows: int, columns: int) -> pd.DataFrame:
    """Hit maps (neurons, 6) as a table: row, column (0-based), one count a class."""
    return pd.DataFrame(_positions(rows, columns) | dict(zip(HIT_COLUMNS, counts.T, strict=True)))


def neuron_labels_table(labels: NeuronLabels) -> pd.DataFrame:
    """Neuron labels as a table: row, column (0-based), class, cloud, share of the winning class."""
    values = {"class": labels.classes, "cloud": labels.cloud, "share": labels.share}
    return pd.DataFrame(_positions(labels.rows, labels.columns) | values)


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A small CSV that must have these columns; UserError if it does not, or is empty or not a table."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # lines with more cells than the header
            table = pd.read_csv(local(path), index_col=False)  # else pandas takes the first cells for row names
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as problem:
        raise UserError(f"{path}: not a readable table ({' '.join(str(problem).split())}); make it again") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; needed: {', '.join(columns)}")
    return table


def whole_numbers(path: Path, table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """Columns of a table as (rows, columns); UserError with the line unless all are whole numbers from 0 to 2**53."""
    cells = table[list(names)].to_numpy(object)
    values = np.array([[_number(cell) for cell in row] for row in cells], np.float64).reshape(cells.shape)
    wrong = np.argwhere(~((values >= 0) & (values <= 2**53) & (values == np.rint(values))))
    if len(wrong):
        row, column = wrong[0]
        found = str(table[names[column]].iloc[row])[:40]
        raise UserError(f"{path}: line {row + 2}: {names[column]} is {found}; give whole numbers counted from 0")
    return values.astype(np.int64)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (ValueError, TypeError, OverflowError):
        return float("nan")


def _grid_of(path: Path, table: pd.DataFrame) -> tuple[int, int]:
    """Rows and columns of a table of neurons; UserError unless every neuron is there once, in row-major order."""
    row, column = whole_numbers(path, table, ("row", "column")).T
    if len(table) == 0:
        raise UserError(f"{path}: holds no neurons; make it again")
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    if rows * columns != len(table) or (row * columns + column != np.arange(len(table))).any():
        raise UserError(f"{path}: does not list every neuron once, row by row; make it again (step 5)")
    return rows, columns


def read_neuron_labels(path: Path) -> NeuronLabels:
    """Neuron labels of step 5 (or fine-tuned ones); UserError for anything that is not such a table."""
    table = read_table(path, LABEL_COLUMNS)
    rows, columns = _grid_of(path, table)
    classes, cloud = whole_numbers(path, table, ("class", "cloud")).T
    try:
        share = table["share"].to_numpy(np.float64)
    except (ValueError, TypeError):
        raise UserError(f"{path}: 'share' is not all numbers; make the table again") from None
    if (wrong := share[(share < 0) | (share > 1)]).size:
        raise UserError(f"{path}: share {wrong[0]:g} is not from 0 to 1; correct it")
    for name, values, allowed in (("class", classes, (NO_CLASS, *CLASS_CODES)), ("cloud", cloud, (CLEAR, CLOUD))):
        wrong = values[~np.isin(values, allowed)]
        if len(wrong):
            raise UserError(f"{path}: {name} {wrong[0]} is not one of {', '.join(map(str, allowed))}; correct it")
    return NeuronLabels(rows, columns, classes.astype(np.uint8), cloud.astype(np.uint8), share)


def read_hit_maps(path: Path) -> tuple[NDArray[np.int64], int, int]:
    """Hit maps of step 5 as (neurons, 6) counts, with the map's rows and columns."""
    table = read_table(path, ("row", "column", *HIT_COLUMNS))
    rows, columns = _grid_of(path, table)
    return whole_numbers(path, table, HIT_COLUMNS), rows, columns


def read_bmus(path: Path, rows: int, columns: int) -> NDArray[np.int32]:
    """Flat neuron index of every row of a BMU table; UserError for a position outside the map."""
    positions = csv_tables.read_bmus(path)
    outside = (positions < 0).any(axis=1) | (positions >= (rows, columns)).any(axis=1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        place = ", ".join(str(p) for p in positions[first])
        raise UserError(f"{path}: row {first} names the neuron ({place}), the map has {rows} x {columns}")
    return positions[:, 0] * np.int32(columns) + positions[:, 1]


def check_same_map(som_path: Path, shape: tuple[int, ...], table_path: Path, rows: int, columns: int) -> None:
    """UserError unless a table of neurons has the map's size."""
    if shape[:2] != (rows, columns):
        raise UserError(
            f"{table_path}: lists {rows} x {columns} neurons, the map in {som_path} has {shape[0]} x {shape[1]}; "
            "give files of one run"
        )
