"""Step 4: the best matching unit (BMU) of every training spectrum.

The BMU is the neuron whose weights are nearest to the scaled spectrum, the first one in row-major order where several
are (paper, section 2.2, stage 2). The answer equals `MiniSom.winner` for every row.

    python BMUs_detection.py

reads   TRAINING_CSV, SCALER_FILE (step 2), SOM_FILE (step 3)
writes  BMUS_CSV      one row a spectrum: position1 (row on the map), position2 (column), both from 0
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom import model, stores, tables
from cloudsom.bmu import BMUSearch
from cloudsom.progress import progress
from cloudsom.settings import existing, path, run, snapshot

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
BMUS_CSV = "BMUs.csv"  # the BMU of every row of TRAINING_CSV, in its order

# running
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

ROWS_AT_ONCE = 500_000  # 52 MB of float64 spectra


def main() -> None:
    inputs = {
        "TRAINING_CSV": existing(DATA_DIR, TRAINING_CSV, "run step 2 (data_preprocessing.py)"),
        "SCALER_FILE": existing(DATA_DIR, SCALER_FILE, "run step 2 (data_preprocessing.py)"),
        "SOM_FILE": existing(DATA_DIR, SOM_FILE, "run step 3 (SOM_training.py)"),
    }
    bmus_csv = path(DATA_DIR, BMUS_CSV)
    made_by = stores.recipe(snapshot(globals()), inputs)
    record = stores.finished(bmus_csv, made_by, OVERWRITE)
    if record:
        print(f"{bmus_csv}: is up to date; {record['results']['summary']}")
        return
    scaler, som = model.load_scaler(inputs["SCALER_FILE"]), model.load_som(inputs["SOM_FILE"])
    rows, columns, _ = som.get_weights().shape
    hits = np.zeros(rows * columns, dtype=np.int64)
    with stores.product(bmus_csv, made_by) as product:
        n_rows = tables.write_bmus(product.partial, positions(inputs["TRAINING_CSV"], scaler, som, hits))
        product.results["summary"] = f"{n_rows:,} rows; {(hits > 0).sum()} of {hits.size} neurons are hit"
    print(f"{bmus_csv}: {product.results['summary']}")


def positions(training_csv: Path, scaler: Any, som: Any, hits: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
    """Blocks (n, 2) of the row and column of each spectrum's BMU; `hits` counts the spectra of each neuron."""
    weights = som.get_weights()
    search = BMUSearch(weights)
    with progress(None, "finding BMUs") as bar:
        for spectra, _ in tables.read_spectra(training_csv, chunk_rows=ROWS_AT_ONCE, dtype=np.float64):
            index = search(model.scale(spectra, scaler)).index
            hits += np.bincount(index, minlength=hits.size)
            yield np.stack(np.divmod(index, weights.shape[1]), axis=1)
            bar.update(len(spectra))


if __name__ == "__main__":
    run(main, globals())
