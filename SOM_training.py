"""Step 3: train the self-organizing map.

A 20 x 15 map learns the 13-band spectra of the training table, scaled to [0, 1], one randomly drawn spectrum a step,
for a million steps (paper, section 2.2, stage 1).

    python SOM_training.py
    python SOM_training.py --N_ITER 100000 --SEED 7
    python SOM_training.py --IMPORT_SUSI their_map.p    a map that somebody trained with susi, instead of training

reads   TRAINING_CSV  step 2's table
        SCALER_FILE   step 2's scaler
        or IMPORT_SUSI alone: its weights are taken, nothing else of it is read, and susi need not be installed; the
        scaler that belongs to such a map comes with it, as SCALER_FILE of the later steps
writes  SOM_FILE      a minisom.MiniSom (pickle): `pickle.load` and minisom are all it takes to use it elsewhere
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from pathlib import Path
from typing import Any, Literal

import numpy as np
from minisom import MiniSom
from numpy.typing import NDArray

from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.files.stores import Snapshot
from cloudsom.progress import progress
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som import model
from cloudsom.som.bmu import map_errors
from cloudsom.som.training import TrainingLaw, train_som
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
IMPORT_SUSI: str | None = None  # a pickled susi map, as the authors share theirs: its weights are taken
# None: train

# outputs (relative to DATA_DIR)
SOM_FILE = "SOM_trained.p"  # the trained map

# map (paper, section 2.2)
N_ROWS = 20  # [1, 500] neurons from top to bottom
N_COLUMNS = 15  # [1, 500] neurons from left to right

# training (paper, section 2.2)
N_ITER = 1_000_000  # [1, 1e12] steps; each draws one spectrum at random, with replacement
LEARNING_RATE_START = 0.5  # [1e-6, 1] falls geometrically: start * (end / start) ** (t / T)
LEARNING_RATE_END = 0.05  # [1e-6, 1] share of the way to the spectrum that its BMU moves at the end
RADIUS_START: float | None = None  # [0.01, 1000] neurons; None: half the longer side of the map (10 for the paper's)
RADIUS_END = 1.0  # [0.01, 1000] neurons; the radius falls linearly: start + (end - start) * t / T
SEED = 0  # [0, 4294967295] of the start weights and the draws; the paper gives none, and every seed makes another
# layout

# checks
QUALITY_SAMPLE_SIZE = 100_000  # [1, 1e9] rows the quantization and topographic errors are measured on, drawn with a
# fixed seed

# running
TRAINER: Literal["compiled", "minisom"] = "compiled"
# both give the same weights to the bit; minisom is the library's own loop, some thirty times slower
OVERWRITE = False  # train again although the map is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    som_file = under(DATA_DIR, SOM_FILE)
    if IMPORT_SUSI is None:
        inputs, settings = step_files(globals(), "TRAINING_CSV", "SCALER_FILE"), snapshot(globals())
    else:  # the settings file names the source and no training constants
        source = existing(DATA_DIR, IMPORT_SUSI, "give a pickled susi map, or None to train")
        inputs, settings = {"IMPORT_SUSI": source}, Snapshot(Path(__file__).name, {})
    made_by = stores.recipe(settings, inputs)
    if done := stores.up_to_date([som_file], made_by, OVERWRITE):
        print(done)
        return
    with stores.product(som_file, made_by) as product:
        som, results = train(*inputs.values()) if IMPORT_SUSI is None else import_susi(*inputs.values())
        stores.dump_pickle(som, product.partial)
        product.results |= results
    print(f"{som_file}: {results['summary']}")


def train(training_csv: Path, scaler_file: Path) -> tuple[MiniSom, dict[str, Any]]:
    """The map of the scaled spectra, and the figures for its settings file."""
    radius_start = max(N_ROWS, N_COLUMNS) / 2 if RADIUS_START is None else RADIUS_START
    rates = LEARNING_RATE_START, LEARNING_RATE_END
    law = TrainingLaw(N_ROWS, N_COLUMNS, N_ITER, *rates, radius_start, RADIUS_END, SEED)
    scaler = model.load_scaler(scaler_file)
    spectra, _ = csv_tables.read_all_spectra(training_csv, dtype=np.float64)  # 0.9 GB at 8.7 million rows
    scaled = model.scale(spectra, scaler)
    with progress(N_ITER, "training", "steps") as bar:
        som = train_som(scaled, law, trainer=TRAINER, progress=bar.update)
    return som, quality(som, scaled)


def import_susi(source: Path) -> tuple[MiniSom, dict[str, Any]]:
    """A map with the weights of a susi map, and the line of summary for its settings file."""
    weights = model.load_susi_weights(source)
    rows, columns, bands = weights.shape
    som = MiniSom(rows, columns, bands, sigma=max(rows, columns) / 2, learning_rate=0.5, random_seed=0)
    som._weights = weights
    return som, {"summary": f"{rows} x {columns} neurons, weights of the susi map {source.name}; not trained"}


def quality(som: MiniSom, scaled: NDArray[np.float64]) -> dict[str, Any]:
    """Quantization (mean distance in scaled units) and topographic error (a share) on a fixed sample, and a summary."""
    size = min(QUALITY_SAMPLE_SIZE, len(scaled))
    sample = scaled[np.sort(np.random.default_rng(0).choice(len(scaled), size, replace=False))]
    quantization, topographic = map_errors(som.get_weights(), sample)
    summary = (
        f"{N_ROWS} x {N_COLUMNS} neurons, {N_ITER:,} steps on {len(scaled):,} rows; quantization error "
        f"{quantization:.5f}, topographic error {topographic:.4f} ({size:,} rows)"
    )
    errors = {"quantization_error": quantization, "topographic_error": topographic}
    return errors | {"sample_rows": size, "summary": summary}


if __name__ == "__main__":
    run(main, globals())
