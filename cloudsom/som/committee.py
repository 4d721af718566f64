"""Committees: labelled maps that vote.

What one map calls a spectrum is partly luck: maps of other seeds, trained on the same spectra, find from 94 to 99 % of
the opaque clouds of scenes from elsewhere. Several of them outvote each other's accidents, and the share of the maps
that say cloud is a probability, which the vote share in one map's neuron is not: a neuron that cirrus and opaque cloud
share half and half is certainly cloud. Every map has one vote; weights by the shares in a neuron would let crowded
neurons speak louder, not surer ones. This goes beyond the paper, whose one map is a committee of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA, NO_CLASS
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES

#: Code of a probability's nodata; probabilities are whole per cent, 0..100.
PROBABILITY_NODATA = 255


class Votes(NamedTuple):
    """What the maps say of n spectra: how many of `voters` say cloud (-1: no data), and which class wins.

    classes  (n,) the class that most maps' neurons have, of equals the first in the order of `CLASS_CODES`; NO_CLASS
             without data or where no neuron has one. None where nobody asked
    """

    cloud: NDArray[np.int16]
    voters: int
    classes: NDArray[np.uint8] | None = None

    def mask(self, least_probability: float) -> NDArray[np.uint8]:
        """CLOUD where at least that share (0..1) of the maps says so, CLEAR, or MASK_NODATA."""
        mask = np.where(self.cloud >= least_probability * self.voters, np.uint8(CLOUD), np.uint8(CLEAR))
        mask[self.cloud < 0] = MASK_NODATA
        return mask

    def per_cent(self) -> NDArray[np.uint8]:
        """The share of the maps that say cloud in whole per cent; PROBABILITY_NODATA without data."""
        per_cent = np.rint(100 / self.voters * self.cloud).clip(0).astype(np.uint8)
        per_cent[self.cloud < 0] = PROBABILITY_NODATA
        return per_cent


def vote(maps: Sequence[LabelledMap], reflectance: NDArray[np.float64], classes: bool = False) -> Votes:
    """The votes on spectra (n, 13) of reflectance; one with a value that is not finite has no data.

    Maps that were trained with the same scaler, as those of one training table are, share the scaled spectra.
    """
    known = np.asarray(np.isfinite(reflectance).all(axis=1))
    spectra = reflectance if known.all() else reflectance[known]
    cloud = np.zeros(len(spectra), np.int16)
    counts = np.zeros((len(spectra), len(CLASS_CODES)), np.int16) if classes else None
    scaler, scaled = None, spectra
    for som in maps:
        if scaler != (own := (som.scale.tolist(), som.shift.tolist())):
            scaler, scaled = own, som.scaled(spectra.copy())
        bmus = som.search(scaled).index
        cloud += som.cloud(scaled, bmus) == CLOUD
        if counts is not None:
            of_bmus = som.labels.classes[bmus]
            for i, code in enumerate(CLASS_CODES):
                counts[:, i] += of_bmus == code
    cloud[bmus < 0] = -1
    every = np.full(len(known), -1, np.int16)
    every[known] = cloud
    if counts is None:
        return Votes(every, len(maps))
    winner = np.array(CLASS_CODES, np.uint8)[np.argmax(counts, axis=1)]
    winner[(cloud < 0) | ~counts.any(axis=1)] = NO_CLASS
    winners = np.full(len(known), NO_CLASS, np.uint8)
    winners[known] = winner
    return Votes(every, len(maps), winners)
