"""Step 2: one training table of all spectra, and the scaler fitted on them.

The tables of step 1 are put one after the other, and one min-max scaler to [0, 1] is fitted on all of their rows
(paper, section 2.2). The same scaler, unclipped, later scales every image pixel.

    python data_preprocessing.py
    python data_preprocessing.py --SAMPLE_SIZE 500000

reads   SPECTRA_CSVS  the tables of step 1
writes  TRAINING_CSV  columns B1..B8, B8a, B9..B12 (reflectance, not scaled) and label
        SCALER_FILE   a fitted scikit-learn MinMaxScaler (pickle)
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler

from cloudsom.bands import CLASSES
from cloudsom.brightness import wrong_units
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.progress import progress
from cloudsom.running.settings import run, snapshot
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
SPECTRA_CSVS = ["2016_spectraSOMs.csv", "2017_spectraSOMs.csv"]  # the tables of step 1, in this order

# outputs (relative to DATA_DIR)
TRAINING_CSV = "training_spectra.csv"  # all their rows in one table
SCALER_FILE = "scaler.p"  # the fitted scaler

# rows
SAMPLE_SIZE = 0  # [0, 1e9] rows drawn at random from all rows, without repeats; 0: all of them (paper)
# the scaler is fitted on all rows whatever the sample
SAMPLE_SEED = 0  # [0, 4294967295] seed of that draw
DROP_DUPLICATES = False  # keep only the first of rows with the same spectrum and label
# the published files share 32 products; the paper used every row, and so do we by default

# running
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

ROWS_AT_ONCE = 500_000  # 52 MB of float64 spectra

Block = tuple[NDArray[np.float64], NDArray[np.integer]]


@dataclass(frozen=True)
class Survey:
    """What a first pass over all rows finds."""

    scaler: MinMaxScaler
    class_counts: dict[int, int]
    spectrum_hashes: NDArray[np.uint64]  # (rows,), see `row_hashes`
    row_hashes: NDArray[np.uint64]  # (rows,), of spectrum and label

    @property
    def n_rows(self) -> int:
        return len(self.row_hashes)


def main() -> None:
    csv_files = [existing(DATA_DIR, name, "run step 1 (read_h5file.py)") for name in SPECTRA_CSVS]
    if not csv_files:
        raise UserError("SPECTRA_CSVS names no table; give the tables of step 1")
    training_csv, scaler_file = under(DATA_DIR, TRAINING_CSV), under(DATA_DIR, SCALER_FILE)
    # Roles in capitals: later steps then notice a table and a scaler of different spectra.
    inputs = {f"SPECTRA_CSV_{i}": csv_file for i, csv_file in enumerate(csv_files, 1)}
    made_by = stores.recipe(snapshot(globals()), inputs)
    if done := stores.up_to_date([training_csv, scaler_file], made_by, OVERWRITE):
        print(done)
        return
    survey = survey_rows(csv_files)
    rows, repeated, ambiguous = choose_rows(survey)
    with stores.product(training_csv, made_by) as table, stores.product(scaler_file, made_by) as scaler:
        stores.dump_pickle(survey.scaler, scaler.partial)
        kept = csv_tables.write_spectra(table.partial, chosen_blocks(csv_files, rows, survey.n_rows))
        table.results["summary"] = summary(survey, kept, repeated, ambiguous)
        scaler.results |= {"minimum": survey.scaler.data_min_, "maximum": survey.scaler.data_max_}
    print(f"{training_csv}: {table.results['summary']}")


def survey_rows(csv_files: list[Path]) -> Survey:
    """Fit the scaler and count classes over all rows of all tables; hashes stand for rows, 16 bytes a row."""
    scaler, counts, hashes = MinMaxScaler(), dict.fromkeys(CLASSES, 0), []
    for spectra, labels in all_blocks(csv_files, "fitting the scaler"):
        scaler.partial_fit(spectra)
        for code in CLASSES:
            counts[code] += int((labels == code).sum())
        hashes.append(row_hashes(spectra, labels))
    return Survey(scaler, counts, *map(np.concatenate, zip(*hashes, strict=True)))


def all_blocks(csv_files: list[Path], what: str) -> Iterator[Block]:
    """Blocks of (spectra, labels) of all tables, one table after the other."""
    with progress(None, what) as bar:
        for csv_file in csv_files:
            for spectra, labels in csv_tables.read_spectra(csv_file, chunk_rows=ROWS_AT_ONCE, dtype=np.float64):
                if wrong := wrong_units(spectra):
                    raise UserError(f"{csv_file}: {wrong}; correct the table")
                yield spectra, labels
                bar.update(len(spectra))


def choose_rows(survey: Survey) -> tuple[NDArray[np.int64], int, int]:
    """The sorted rows to keep, how many rows repeat an earlier one, how many spectra have two labels."""
    distinct, first = np.unique(survey.row_hashes, return_index=True)
    repeated = survey.n_rows - len(distinct)
    # Rows that differ as (spectrum, label) but share the spectrum carry more than one label.
    ambiguous = len(distinct) - len(np.unique(survey.spectrum_hashes))
    rows = np.sort(first) if DROP_DUPLICATES else np.arange(survey.n_rows)
    if SAMPLE_SIZE:
        if not 0 < SAMPLE_SIZE <= len(rows):
            raise UserError(f"SAMPLE_SIZE: {SAMPLE_SIZE:,} rows asked for, 1 to {len(rows):,} can be drawn")
        rows = np.sort(np.random.default_rng(SAMPLE_SEED).choice(rows, SAMPLE_SIZE, replace=False))
    return rows, repeated, ambiguous


def chosen_blocks(csv_files: list[Path], rows: NDArray[np.int64], n_rows: int) -> Iterator[Block]:
    """The blocks of all tables, cut down to the chosen rows."""
    start = 0
    for spectra, labels in all_blocks(csv_files, "writing the training table"):
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(spectra))] - start
        yield spectra[here], labels[here]
        start += len(spectra)
    if start != n_rows:
        raise UserError(f"the spectra tables changed while they were read ({n_rows:,} rows, then {start:,}); run again")


def row_hashes(
    spectra: NDArray[np.float64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """64-bit hashes of each spectrum, and of each spectrum with its label.

    Among 9 million rows two different ones share a hash with a probability of 2 in a million.
    """
    table = pd.DataFrame(spectra)
    spectrum = pd.util.hash_pandas_object(table, index=False).to_numpy()
    row = pd.util.hash_pandas_object(table.assign(label=labels), index=False).to_numpy()
    return spectrum, row


def summary(survey: Survey, kept: int, repeated: int, ambiguous: int) -> str:
    """One line: rows read and kept, classes, duplicates."""
    counts = ", ".join(f"{CLASSES[code]} {n:,}" for code, n in survey.class_counts.items())
    return (
        f"{survey.n_rows:,} rows read ({counts}), {kept:,} written; {repeated:,} repeat an earlier row exactly, "
        f"{ambiguous:,} spectra stand there again with another label"
    )


if __name__ == "__main__":
    run(main, globals())
