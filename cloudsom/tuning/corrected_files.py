"""What fine-tuning did, written down: the corrected labels, the corrected map, and what each change costs and gains."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cloudsom.bands import BANDS, CLOUD
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot
from cloudsom.som import labelled_map, model, neurons
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.tuning.bright_samples import read_samples
from cloudsom.tuning.correction import Correction, Rules, correct, training_of
from cloudsom.tuning.relabelling import FLIPPED, KEPT, REFUSED, SPLIT, flip_of
from cloudsom.tuning.scenes import Split


def make(
    outputs: Sequence[Path],
    inputs: dict[str, Path],
    split: Split,
    fold: int,
    rules: Rules,
    settings: Snapshot,
    overwrite: bool,
) -> Path:
    """Write the corrected labels, the corrected map and the table of prices, where that is not done; the map's path.

    outputs  their places in this order; a fold's are called NAME_fold1.csv
    inputs   by role the files of the labelled map, BRIGHT_SAMPLES_CSV, and for sub-maps TRAINING_CSV and BMUS_CSV
    fold     0: all samples count; from 1: those of products outside this fold of the split
    """
    if fold:
        outputs = [file.with_name(f"{file.stem}_fold{fold}{file.suffix}") for file in outputs]
    labels_csv, tuned_npz, flip_table_csv = outputs
    left_out = split.left_out(fold)
    if left_out:
        settings = replace(settings, constants=settings.constants | {"LEFT_OUT": left_out})
    made_by = stores.recipe(settings, inputs)
    # Corrected labels may stand in for step 5's everywhere, so they do not count as made from other labels than those.
    made_by = replace(made_by, lineage={k: v for k, v in made_by.lineage.items() if k != "NEURON_LABELS_CSV"})
    if done := stores.up_to_date(outputs, made_by, overwrite):
        print(done)
        return tuned_npz
    som = labelled_map.from_steps(inputs)
    samples = read_samples(inputs["BRIGHT_SAMPLES_CSV"])
    spectra = samples.loc[~samples["product"].isin(left_out), list(BANDS)].to_numpy(np.float64)
    training = training_of(som, rules, inputs["TRAINING_CSV"], inputs["BMUS_CSV"]) if rules.submaps else None
    corrected = correct(som, spectra, rules, training)
    prices = price_table(som, corrected, rules.min_samples)
    with stores.product(flip_table_csv, made_by) as flips:
        prices.to_csv(flips.partial, index=False)
    with stores.product(tuned_npz, made_by) as tuned:
        labelled_map.save(tuned.partial, corrected.tuned)
    with stores.product(labels_csv, made_by) as table:
        labels_table(som, corrected).to_csv(table.partial, index=False)
        tuned_on = [name for name in split.tune if name not in left_out]
        table.results |= {"fine_tune_products": tuned_on, "test_products": split.test}
        table.results |= {"held_out": split.held_out, "summary": summary(corrected)}
    print(f"fold {fold}:" if fold else shown(prices))
    print(f"{labels_csv}: {table.results['summary']}")
    if not corrected.changes:
        print("no label changed: too few samples on any cloud neuron, or all changes refused (see the table)")
    return tuned_npz


def labels_table(som: LabelledMap, done: Correction) -> pd.DataFrame:
    """neuron_labels_finetuned.csv: step 5's columns after fine-tuning, then the labels before, and the reason."""
    table = model.neuron_labels_table(done.tuned.labels).assign(
        class_before=som.labels.classes,
        cloud_before=som.labels.cloud,
        samples=done.evidence.samples,
        action=KEPT,
        reason="",
    )
    for change in done.decisions:
        table.loc[change.neuron, ["action", "reason"]] = change.action, change.reason
    return table


def price_table(som: LabelledMap, done: Correction, min_samples: int) -> pd.DataFrame:
    """flip_table.csv: what changing each neuron costs and gains.

    A row for each cloud neuron that samples or copies touch, and for each that something was decided on: the neuron as
    row,column from 1, votes by class, samples (and with copies); for the flip and, where there is one, for the sub-map:
    training cloud spectra lost, the same as a share of all (recall), samples cleared; what was done, and why.
    """
    evidence, decided = done.evidence, {change.neuron: change for change in done.decisions}
    reached = np.flatnonzero((evidence.cloud == CLOUD) & (evidence.copies > 0)).tolist()
    rows = sorted({*reached, *decided})
    table = pd.DataFrame(
        {
            "neuron": [neurons.name_of(neuron, som.labels.columns) for neuron in rows],
            **dict(zip(model.HIT_COLUMNS, evidence.votes[rows].T, strict=True)),
            "samples": evidence.samples[rows],
            "samples_and_copies": evidence.copies[rows],
        }
    )
    total = max(int(evidence.cloud_votes.sum()), 1)
    flips = {neuron: flip_of(evidence, neuron) for neuron in rows}
    splits = {change.neuron: change for change in done.decisions if change.kind == SPLIT}
    for kind, changes in (("flip", flips), ("split", splits)):
        found = [changes.get(neuron) for neuron in rows]
        table[f"{kind}_cloud_lost"] = [change.lost if change else pd.NA for change in found]
        table[f"{kind}_recall_lost"] = [change.lost / total if change else pd.NA for change in found]
        table[f"{kind}_samples_cleared"] = [change.cleared if change else pd.NA for change in found]
    kept = f"fewer than {min_samples} samples, or too few clouds to split"
    table["action"] = [decided[neuron].action if neuron in decided else KEPT for neuron in rows]
    table["reason"] = [decided[neuron].reason if neuron in decided else kept for neuron in rows]
    return table


def shown(prices: pd.DataFrame) -> str:
    """The rows of `price_table` where something was decided, in columns narrow enough for a terminal."""
    decided = prices[prices["action"] != KEPT]
    clouds = decided[["cirrus", "opaque_cloud"]].sum(axis=1)
    votes = decided[list(model.HIT_COLUMNS)].sum(axis=1)
    narrow = pd.DataFrame(
        {
            "neuron": decided["neuron"],
            "clear votes": votes - clouds,
            "cloud votes": clouds,
            "samples": decided["samples"],
            "and copies": decided["samples_and_copies"],
            "flip loses": decided["flip_cloud_lost"],
            "split loses": decided["split_cloud_lost"],
            "flip clears": decided["flip_samples_cleared"],
            "split clears": decided["split_samples_cleared"],
            "action": decided["action"],
        }
    ).astype(object)
    return narrow.where(narrow.notna(), "-").to_string(index=False) if len(narrow) else "no neuron to change"


def summary(done: Correction) -> str:
    """One line: what was done to how many neurons, and recall and false alarms before and after."""
    count = {action: sum(d.action == action for d in done.decisions) for action in (FLIPPED, SPLIT, REFUSED)}
    total = max(int(done.evidence.cloud_votes.sum()), 1)
    before, samples = done.evidence.recall, int(done.evidence.samples[done.evidence.cloud == CLOUD].sum())
    return (
        f"{count[FLIPPED]} neurons flipped, {count[SPLIT]} split by sub-maps, {count[REFUSED]} refused; "
        f"training clouds found {before:.4f} before, {before - done.lost / total:.4f} after; "
        f"bright samples called cloud {samples:,} before, {done.samples_left:,} after"
    )
