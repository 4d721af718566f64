"""Step 4: the best matching unit (BMU) of every training spectrum.

The BMU is the neuron whose weights are nearest to the scaled spectrum, the first one in row-major order where several
are (paper, section 2.2, stage 2). The answer equals `MiniSom.winner` for every row.

    python BMUs_detection.py

reads   TRAINING_CSV, SCALER_FILE (step 2), SOM_FILE (step 3)
writes  BMUS_CSV      one row a spectrum: position1 (row on the map), position2 (column), both from 0
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.progress import progress
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, run_jobs
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som import model
from cloudsom.som.bmu import BMUSearch
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map

# outputs (relative to DATA_DIR)
BMUS_CSV = "BMUs.csv"  # the BMU of every row of TRAINING_CSV, in its order

# running
WORKERS = 0  # [0, 1024] processes for a table of several PART_BYTES; 0: one a processor. A worker needs about 0.3 GB
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

ROWS_AT_ONCE = 500_000  # 52 MB of float64 spectra
PART_BYTES = 32 * 1024 * 1024  # of the training table a job works through; its answer has 1.2 MB


def main() -> None:
    inputs = step_files(globals(), "TRAINING_CSV", "SCALER_FILE", "SOM_FILE")
    bmus_csv = under(DATA_DIR, BMUS_CSV)
    made_by = stores.recipe(snapshot(globals()), inputs)
    if done := stores.up_to_date([bmus_csv], made_by, OVERWRITE):
        print(done)
        return
    model.load_scaler(inputs["SCALER_FILE"])  # so that a mistake in the file is told once, here, and not by every part
    rows, columns, _ = model.load_weights(inputs["SOM_FILE"]).shape
    n_neurons = rows * columns
    with stores.product(bmus_csv, made_by) as product:
        blocks = find_bmus(*inputs.values())
        positions = (np.stack(np.divmod(block, columns), axis=1) for block in blocks)
        n_rows = csv_tables.write_bmus(product.partial, positions)
        hits = sum((np.bincount(block, minlength=n_neurons) for block in blocks), np.zeros(n_neurons, np.int64))
        product.results["summary"] = f"{n_rows:,} rows; {(hits > 0).sum()} of {n_neurons} neurons are hit"
    print(f"{bmus_csv}: {product.results['summary']}")


def find_bmus(training_csv: Path, scaler_file: Path, som_file: Path) -> list[NDArray[np.int32]]:
    """Blocks (n,) of the BMU of each spectrum in the table's order, counted row by row over the map.

    One process goes through the table; several work through parts of it, and 4 bytes a spectrum come back.
    """
    parts = csv_tables.parts(training_csv, PART_BYTES)
    if not DASK_SCHEDULER and (WORKERS == 1 or len(parts) <= 1):
        return bmus_of_part(training_csv, scaler_file, som_file)
    jobs = [Job(f"bytes {p[0]} to {p[1]}", (training_csv, scaler_file, som_file, p)) for p in parts]
    outcomes = run_jobs(bmus_of_part, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "finding BMUs")
    for outcome in outcomes:
        if outcome.error:
            raise UserError(outcome.error)
    return [block for outcome in outcomes for block in outcome.result]


def bmus_of_part(
    training_csv: Path, scaler_file: Path, som_file: Path, part: tuple[int, int] | None = None
) -> list[NDArray[np.int32]]:
    """Blocks (n,) of the BMU of each spectrum in a part of the table, or in all of it."""
    scaler, blocks = model.load_scaler(scaler_file), []
    search = BMUSearch(model.load_weights(som_file))
    with progress(None, "finding BMUs") as bar:
        for spectra, _ in csv_tables.read_spectra(training_csv, chunk_rows=ROWS_AT_ONCE, dtype=np.float64, part=part):
            blocks.append(search(model.scale(spectra, scaler)).index)
            bar.update(len(spectra))
    return blocks


if __name__ == "__main__":
    run(main, globals())
