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
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES

#: Code of a probability's nodata; probabilities are whole per cent, 0..100.
PROBABILITY_NODATA = 255


class Votes(NamedTuple):
    """What the maps say of n spectra: how many of `voters` say cloud (-1: no data), and how many say each class.

    classes  (n, 6) in the order of `CLASS_CODES`; None where nobody asked
    """

    cloud: NDArray[np.int16]
    voters: int
    classes: NDArray[np.int16] | None = None

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

    def winning_class(self) -> NDArray[np.uint8]:
        """The class that most maps' neurons have, of equals the first in the order of `CLASS_CODES`; or NO_CLASS."""
        assert self.classes is not None, "ask for the classes"
        winner = np.array(CLASS_CODES, np.uint8)[np.argmax(self.classes, axis=1)]
        winner[(self.cloud < 0) | ~self.classes.any(axis=1)] = NO_CLASS
        return winner


class Committee:
    """Labelled maps, prepared to vote on any number of spectra."""

    def __init__(self, maps: Sequence[LabelledMap]) -> None:
        if not maps:
            raise ValueError("a committee needs a map")
        self.maps = list(maps)
        self._searches = [BMUSearch(som.weights) for som in self.maps]

    def vote(self, reflectance: NDArray[np.float64], classes: bool = False) -> Votes:
        """The votes on spectra (n, 13) of reflectance; one with a value that is not finite has no data.

        Maps that were trained with the same scaler, as those of one training table are, share the scaled spectra.
        """
        known = np.asarray(np.isfinite(reflectance).all(axis=1))
        if not known.all():
            cloud, voters, found = self.vote(reflectance[known], classes)
            return Votes(_spread(cloud, known, -1), voters, None if found is None else _spread(found, known, 0))
        cloud = np.zeros(len(reflectance), np.int16)
        found = np.zeros((len(reflectance), len(CLASS_CODES)), np.int16) if classes else None
        scaled, scaled_for = np.empty(0), None
        for som, search in zip(self.maps, self._searches, strict=True):
            if scaled_for is None or not (
                np.array_equal(som.scale, scaled_for.scale) and np.array_equal(som.shift, scaled_for.shift)
            ):
                scaled, scaled_for = som.scaled(reflectance.copy()), som
            bmus = search(scaled).index
            cloud += som.cloud(scaled, bmus) == CLOUD
            if found is not None:
                own = som.labels.classes[bmus]
                for i, code in enumerate(CLASS_CODES):
                    found[:, i] += own == code
        cloud[bmus < 0] = -1
        return Votes(cloud, len(self.maps), found)


def _spread(votes: NDArray[np.int16], known: NDArray[np.bool_], fill: int) -> NDArray[np.int16]:
    """Votes on the spectra that are `known`, among all: `fill` for the others."""
    every = np.full((len(known), *votes.shape[1:]), fill, np.int16)
    every[known] = votes
    return every
