"""Stage 3 of the paper on a labelled map: from bright samples to corrected labels, by flips or by sub-maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLOUD, CLOUD_CLASSES, N_BANDS
from cloudsom.brightness import is_bright, is_dry
from cloudsom.errors import UserError
from cloudsom.som import model, neurons
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import NeuronLabels
from cloudsom.som.submaps import SubMap, SubMapRules, bands_for, train_submap
from cloudsom.tables import csv_tables
from cloudsom.tuning.relabelling import (
    FLIPPED,
    LAND,
    REFUSED,
    SPLIT,
    Change,
    Evidence,
    brightened,
    dark_ground,
    decide,
    flip_of,
    relabel,
    touched,
)

Floats = NDArray[np.float64]

#: Spectra (n, 13) in reflectance and their labels (n,).
Labelled = tuple[Floats, NDArray[np.integer]]


@dataclass(frozen=True)
class Rules:
    """When a neuron is changed, and how; `fine_tuning.py` gives each number's reason.

    by_hand        neurons to flip whatever they cost, each as row,column from 1
    submaps        None: flip only
    training_land  at most how many training spectra of bright land are copied: with at least `least_brightness` and at
                   most `most_cirrus`, drawn by `seed`
    """

    min_samples: int
    min_share: float
    max_loss: float
    by_hand: tuple[str, ...] = ()
    submaps: SubMapRules | None = None
    copy_factors: tuple[float, ...] = ()
    min_cloud: int = 1
    min_cloud_for_copies: int = 1
    min_land_votes: int = 0
    left_out: tuple[str, ...] = ()
    left_out_if_opaque: tuple[str, ...] = ()
    training_land: int = 0
    least_brightness: float = 0.0
    most_cirrus: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Training:
    """What sub-maps need of the training table.

    on           training spectra and labels on each of some neurons
    bright_land  (n, 13) spectra of bright land, whose copies stand beside those of the samples
    """

    on: Callable[[Sequence[int]], Mapping[int, Labelled]]
    bright_land: Floats


def training_of(som: LabelledMap, rules: Rules, training_csv: Path, bmus_csv: Path) -> Training:
    """What sub-maps need of the training table; it is read twice, a piece in memory at a time."""
    on = partial(training_spectra_on, training_csv, bmus_csv, som.weights.shape)
    copied = rules.training_land and rules.copy_factors
    blocks = csv_tables.read_spectra(training_csv, dtype=np.float64) if copied else ()
    return Training(on, bright_land_of(blocks, rules))


@dataclass(frozen=True)
class Samples:
    """Bright samples and copies of other brightness, scaled, with their BMUs; the first `n` are the samples."""

    scaled: Floats
    bmus: NDArray[np.int32]
    n: int

    def counts(self, n_neurons: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Samples on each neuron, and samples and copies."""
        return np.bincount(self.bmus[: self.n], minlength=n_neurons), np.bincount(self.bmus, minlength=n_neurons)


@dataclass(frozen=True)
class Correction:
    """What fine-tuning did: the evidence, what was decided, the corrected map, and how many samples are cloud still."""

    evidence: Evidence
    decisions: list[Change]
    tuned: LabelledMap
    samples_left: int

    @property
    def changes(self) -> list[Change]:
        """The changes that were made."""
        return [change for change in self.decisions if change.action != REFUSED]

    @property
    def lost(self) -> int:
        """Training cloud spectra that no longer come out as cloud."""
        return sum(change.lost for change in self.changes)


def place_samples(som: LabelledMap, reflectance: Floats, land: Floats, factors: Sequence[float]) -> Samples:
    """BMUs of bright samples (n, 13), and of the copies of samples and of training `land` (m, 13) in other light."""
    dark = dark_ground(som.reflectance, Evidence.before_samples(som).votes)
    everything = [reflectance, brightened(np.concatenate([reflectance, land]), dark, factors)]
    scaled = som.scaled(np.concatenate(everything))
    return Samples(scaled, BMUSearch(som.weights)(scaled).index, len(reflectance))


def correct(som: LabelledMap, reflectance: Floats, rules: Rules, training: Training | None = None) -> Correction:
    """Correct the labels of a map, whose votes must be known, by bright samples (n, 13) in reflectance.

    training  needed for sub-maps only
    Raises UserError for a neuron named by hand that is not on the map, or not cloud.
    """
    by_hand = neurons_by_hand(rules.by_hand, som.labels)
    land = training.bright_land if training else np.empty((0, N_BANDS))
    evidence = Evidence.before_samples(som)
    samples = place_samples(som, reflectance, land, rules.copy_factors if rules.submaps else ())
    n_samples, n_copies = samples.counts(len(evidence.votes))
    evidence = replace(evidence, samples=n_samples, copies=n_copies)
    flips = touched(evidence, rules.min_samples, rules.min_share)
    named = {neuron: flip_of(evidence, neuron, by_hand=True) for neuron in by_hand}
    splits: dict[int, Change] = {}
    submaps: dict[int, SubMap] = {}
    if rules.submaps and training:
        wanted = [neuron for neuron in contested(evidence, flips, rules) if neuron not in named]
        submaps, splits = train_submaps(som, samples, training.on(wanted), rules)
        flips = flips & (evidence.cloud_votes < rules.min_cloud)
    changes = {neuron: flip_of(evidence, neuron) for neuron in np.flatnonzero(flips).tolist()} | splits | named
    decisions = decide(list(changes.values()), evidence, rules.max_loss)
    flipped = [change.neuron for change in decisions if change.action == FLIPPED]
    kept = {change.neuron: submaps[change.neuron] for change in decisions if change.action == SPLIT}
    tuned = replace(som, labels=relabel(som.labels, evidence.votes, flipped), submaps=kept)
    left = int((tuned.cloud(samples.scaled[: samples.n], samples.bmus[: samples.n]) == CLOUD).sum())
    return Correction(evidence, decisions, tuned, left)


def contested(evidence: Evidence, flips: NDArray[np.bool_], rules: Rules) -> list[int]:
    """Neurons to split, where there are clouds enough to learn from.

    Those that samples touch, those that only copies reach, and those that training spectra of land share with clouds.
    """
    clouds, is_cloud = evidence.cloud_votes, evidence.cloud == CLOUD
    by_copies = is_cloud & (evidence.copies >= rules.min_samples) & (clouds >= rules.min_cloud_for_copies)
    mixed = is_cloud & (evidence.land_votes >= rules.min_land_votes) & (rules.min_land_votes > 0)
    return np.flatnonzero(((flips | mixed) & (clouds >= rules.min_cloud)) | by_copies).tolist()


def train_submaps(
    som: LabelledMap, samples: Samples, training: Mapping[int, Labelled], rules: Rules
) -> tuple[dict[int, SubMap], dict[int, Change]]:
    """A sub-map for each neuron there are training spectra of, and what splitting the neuron by it would do."""
    assert rules.submaps is not None
    submaps, changes = {}, {}
    for neuron, (spectra, labels) in training.items():
        clouds = np.isin(labels, CLOUD_CLASSES)
        scaled = som.scaled(spectra.copy())
        bright = samples.scaled[samples.bmus == neuron]
        bands = bands_for(int(som.labels.classes[neuron]), rules.left_out, rules.left_out_if_opaque)
        clear = np.concatenate([scaled[~clouds], bright])
        submap = train_submap(scaled[clouds], clear, bands, rules.submaps, neuron)
        cleared = ~submap.is_cloud(clear)
        first = len(clear) - len(bright)  # the samples follow the training spectra, their copies come last
        own = cleared[first : first + int((samples.bmus[: samples.n] == neuron).sum())]
        lost = int((~submap.is_cloud(scaled[clouds])).sum())
        submaps[neuron] = submap
        changes[neuron] = Change(neuron, SPLIT, lost, int(own.sum()), int(cleared.sum()))
    return submaps, changes


def training_spectra_on(
    training_csv: Path, bmus_csv: Path, shape: tuple[int, ...], wanted: Sequence[int]
) -> dict[int, Labelled]:
    """Training spectra (n, 13) in reflectance and labels (n,) on each of some neurons; the table is streamed."""
    index = model.read_bmus(bmus_csv, shape[0], shape[1])
    found: list[tuple[Floats, NDArray[np.integer], NDArray[np.int32]]] = []
    start = 0
    for spectra, labels in csv_tables.read_spectra(training_csv, dtype=np.float64):
        bmus = index[start : start + len(labels)]
        if len(bmus) < len(labels):
            break
        here = np.isin(bmus, wanted)
        found.append((spectra[here], labels[here], bmus[here]))
        start += len(labels)
    if start != len(index):
        raise UserError(f"{bmus_csv}: does not have one BMU a spectrum of {training_csv}; run step 4 again")
    spectra, labels, bmus = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {neuron: (spectra[bmus == neuron], labels[bmus == neuron]) for neuron in wanted}


def bright_land_of(blocks: Iterable[Labelled], rules: Rules) -> Floats:
    """The `training_land` of the rules: spectra (n, 13) of bright dry land without cirrus, drawn from all of the table.

    blocks  the table's spectra and labels, piece by piece
    """
    found = [np.empty((0, N_BANDS))]
    for spectra, labels in blocks:
        land = spectra[labels == LAND]
        found.append(land[is_bright(land, rules.least_brightness, rules.most_cirrus) & is_dry(land)])
    land = np.concatenate(found)
    if len(land) <= rules.training_land:
        return land
    return land[np.sort(np.random.default_rng(rules.seed).choice(len(land), rules.training_land, replace=False))]


def check_bands_left_out(bands: Sequence[str]) -> None:
    """UserError unless bands are left for sub-maps, and those left out (ever or at times) are bands."""
    unknown = [band for band in bands if band not in BANDS]
    if unknown or len(set(bands)) == len(BANDS):
        raise UserError(f"BANDS_LEFT_OUT: {unknown[0] if unknown else 'nothing is left'}; bands are {', '.join(BANDS)}")


def neurons_by_hand(names: Sequence[str], labels: NeuronLabels) -> list[int]:
    """FLIP_NEURONS (each as row,column from 1) as flat positions; UserError for one not on the map, or not cloud."""
    found = neurons.parse("FLIP_NEURONS", names, labels.rows, labels.columns)
    for neuron in found:
        if labels.cloud[neuron] != CLOUD:
            place = neurons.name_of(neuron, labels.columns)
            raise UserError(f"FLIP_NEURONS: {place} is clear already; name a cloud neuron")
    return found
