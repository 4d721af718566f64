"""Neuron labels: hit maps, the majority vote, and what a label says of a pixel (paper, section 2.2, stage 2)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASSES, CLEAR, CLOUD, CLOUD_CLASSES, NO_CLASS

#: The class codes in the order of the hit maps' columns.
CLASS_CODES = tuple(CLASSES)


@dataclass(frozen=True)
class NeuronLabels:
    """What each neuron of a map of rows x columns is called; every array has one entry a neuron, in row-major order.

    classes  uint8, the winning class 10..60, or 0 for a neuron without a label
    cloud    uint8, 255 cloud or 0 clear
    share    float64, the winning class's share of the neuron's votes; NaN for a neuron never hit
    """

    rows: int
    columns: int
    classes: NDArray[np.uint8]
    cloud: NDArray[np.uint8]
    share: NDArray[np.float64]


def hit_maps(bmus: NDArray[np.int32], labels: NDArray[np.integer], n_neurons: int) -> NDArray[np.int64]:
    """Count the training spectra of each class on each neuron.

    bmus    (N,) flat row-major neuron index; rows below 0 (not a finite spectrum) are left out
    labels  (N,) class codes 10..60
    Returns (n_neurons, 6), columns in the order of `CLASS_CODES`.
    """
    positions = np.full(max(CLASS_CODES) + 1, -1)
    positions[list(CLASS_CODES)] = range(len(CLASS_CODES))
    keep = bmus >= 0
    cells = bmus[keep].astype(np.int64) * len(CLASS_CODES) + positions[labels[keep]]
    counts = np.bincount(cells, minlength=n_neurons * len(CLASS_CODES))
    return counts.reshape(n_neurons, len(CLASS_CODES)).astype(np.int64)


def is_cloud(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """255 where the class is cirrus or opaque cloud, 0 elsewhere (paper, section 2.2)."""
    return np.where(np.isin(classes, CLOUD_CLASSES), CLOUD, CLEAR).astype(np.uint8)


def majority_vote(
    counts: NDArray[np.int64], weights: NDArray[np.float64], tie_order: tuple[int, ...], unhit_rule: str
) -> NeuronLabels:
    """The class of each neuron by majority of the training spectra that fall on it.

    counts      (neurons, 6) hit maps
    weights     (rows, columns, bands) the map's weights
    tie_order   class codes, the first of the tied ones wins
    unhit_rule  "nearest": a neuron never hit is cloud if the hit neuron with the nearest weights is;
                "clear": it is clear. Its class is 0 either way.

    The paper names neither rule.
    """
    rows, columns, bands = weights.shape
    flat, unhit = weights.reshape(-1, bands), unhit_neurons(counts)
    order = [CLASS_CODES.index(code) for code in tie_order]
    classes = np.array(tie_order, dtype=np.uint8)[np.argmax(counts[:, order], axis=1)]
    classes[unhit] = NO_CLASS
    cloud = is_cloud(classes)
    if unhit_rule == "nearest" and not unhit.all():
        distances = ((flat[unhit][:, np.newaxis] - flat[~unhit]) ** 2).sum(axis=2)
        cloud[unhit] = cloud[~unhit][np.argmin(distances, axis=1)]
    share = counts.max(axis=1) / np.where(unhit, np.nan, counts.sum(axis=1))
    return NeuronLabels(rows, columns, classes, cloud, share)


def cloud_share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of cirrus and opaque cloud in each neuron's votes (neurons, 6); NaN for a neuron never hit."""
    cloud = counts[:, [CLASS_CODES.index(code) for code in CLOUD_CLASSES]].sum(axis=1)
    return np.asarray(cloud / np.where(unhit_neurons(counts), np.nan, counts.sum(axis=1)))


def unhit_neurons(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which neurons no training spectrum fell on, from their hit maps (neurons, 6)."""
    return np.asarray(counts.sum(axis=1) == 0)


def tied_neurons(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which neurons' votes (neurons, 6) were a tie, so that the order of classes decided."""
    return ((counts == counts.max(axis=1)[:, None]).sum(axis=1) > 1) & ~unhit_neurons(counts)
