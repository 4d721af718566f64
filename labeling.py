"""Step 5: hit maps, and a label for each neuron.

The training spectra of each class are counted on their BMUs: one hit map a class. The class with most hits labels the
neuron; cirrus and opaque cloud are cloud (255), the other four classes clear (0) (paper, section 2.2, stage 2).

    python labeling.py

reads   BMUS_CSV          step 4's table
        TRAINING_CSV      step 2's table, for the labels
        SOM_FILE          step 3's map
        SCALER_FILE       step 2's scaler
writes  HIT_MAPS_CSV      one row a neuron: row, column, one count a class
        NEURON_LABELS_CSV one row a neuron: row, column, class (10..60, 0: never hit), cloud (255 or 0),
                          share of the winning class in the neuron's votes
        MODEL_NPZ         weights, scaler and labels as plain numbers: all that step 9 needs to mask new scenes, and
                          nothing that whoever is given it would have to trust
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASSES, CLOUD, CLOUD_CLASSES
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som import labelled_map, model
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES, NeuronLabels, hit_maps, majority_vote, tied_neurons, unhit_neurons
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
BMUS_CSV = "BMUs.csv"  # step 4's table; the authors' own file is read too

# outputs (relative to DATA_DIR)
HIT_MAPS_CSV = "hit_maps.csv"  # counts a neuron and class
NEURON_LABELS_CSV = "neuron_labels.csv"  # label of each neuron
MODEL_NPZ = "SOM_model.npz"  # map, scaler and labels in one plain file

# rules (the paper gives none; these are ours)
TIE_ORDER = [50, 40, 10, 20, 30, 60]  # [10, 60] of classes with equal votes the first in this list wins
# clouds first: a cloud taken for land spoils every later product, land taken for cloud is only left out
UNHIT_NEURONS: Literal["nearest", "clear"] = "nearest"
# a neuron no training spectrum fell on keeps the class 0; nearest: it is cloud if the hit neuron with the nearest
# weights is; clear: it is clear, as in the published code

# running
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    if sorted(TIE_ORDER) != sorted(CLASSES):
        raise UserError(f"TIE_ORDER: {TIE_ORDER} must name each of {sorted(CLASSES)} once")
    inputs = step_files(globals(), "BMUS_CSV", "TRAINING_CSV", "SOM_FILE", "SCALER_FILE")
    products = [under(DATA_DIR, name) for name in (NEURON_LABELS_CSV, HIT_MAPS_CSV, MODEL_NPZ)]
    neuron_labels_csv, hit_maps_csv, model_npz = products
    made_by = stores.recipe(snapshot(globals()), inputs)
    if done := stores.up_to_date(products, made_by, OVERWRITE):
        print(done)
        return
    scaler, weights = model.load_scaler(inputs["SCALER_FILE"]), model.load_weights(inputs["SOM_FILE"])
    rows, columns, _ = weights.shape
    index = model.read_bmus(inputs["BMUS_CSV"], rows, columns)
    counts = count_hits(inputs["TRAINING_CSV"], inputs["BMUS_CSV"], index, rows * columns)
    labels = majority_vote(counts, weights, tuple(TIE_ORDER), UNHIT_NEURONS)
    with stores.product(model_npz, made_by) as whole:
        labelled_map.save(whole.partial, LabelledMap(weights, scaler.scale_, scaler.min_, labels, counts))
    with stores.product(hit_maps_csv, made_by) as maps, stores.product(neuron_labels_csv, made_by) as table:
        model.hit_maps_table(counts, rows, columns).to_csv(maps.partial, index=False)
        model.neuron_labels_table(labels).to_csv(table.partial, index=False)
        table.results["summary"] = summary(labels, counts)
    print(f"{neuron_labels_csv}: {table.results['summary']}")


def count_hits(training_csv: Path, bmus_csv: Path, index: NDArray[np.int32], n_neurons: int) -> NDArray[np.int64]:
    """Hit maps (neurons, 6) from the labels of the training table and the BMU of each of its rows."""
    labels = np.concatenate([block for _, block in csv_tables.read_spectra(training_csv)])
    if len(labels) != len(index):
        raise UserError(
            f"{bmus_csv}: holds {len(index):,} BMUs, {training_csv} has {len(labels):,} spectra; "
            "run step 4 again on this training table"
        )
    return hit_maps(index, labels, n_neurons)


def summary(labels: NeuronLabels, counts: NDArray[np.int64]) -> str:
    """One line: neurons of each class, cloud neurons, ties, neurons never hit, agreement on the training spectra."""
    neurons = ", ".join(f"{CLASSES[code]} {(labels.classes == code).sum()}" for code in CLASS_CODES)
    right = counts[np.isin(CLASS_CODES, CLOUD_CLASSES) == (labels.cloud[:, np.newaxis] == CLOUD)].sum()
    return (
        f"{len(labels.classes)} neurons ({neurons}); {(labels.cloud == CLOUD).sum()} are cloud; "
        f"{tied_neurons(counts).sum()} ties, {unhit_neurons(counts).sum()} never hit; "
        f"{right / counts.sum():.4f} of the training spectra come out right as cloud or clear"
    )


if __name__ == "__main__":
    run(main, globals())
