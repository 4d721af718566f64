"""Sub-maps: small self-organizing maps that decide inside a neuron that clouds and bright land share.

Flipping such a neuron gives up its clouds, leaving it loses its land. A sub-map learns the training spectra that fall
on the neuron and the bright samples that do, in coordinates standardised within the neuron, and each of its own neurons
(sub-neurons) is cloud or clear by their vote. The large map is not trained again. This goes beyond the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLEAR, CLOUD, N_BANDS
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.lanes import kernel
from cloudsom.som.training import TrainingLaw, train_som

Floats = NDArray[np.float64]

#: Least standard deviation of a band within a neuron, in scaled units: 1e-4 of the band's range over all training
#: spectra, about the step of one digital number.
LEAST_DEVIATION = 1e-4


@dataclass(frozen=True)
class SubMapRules:
    """How a sub-map is made; `fine_tuning.py` gives each number's reason."""

    size: int
    steps: int
    clear_share: float
    shrinkage: float
    separation: float
    seed: int


@dataclass(frozen=True)
class SubMap:
    """One neuron's sub-map.

    centre      (13,) scaled spectrum that becomes the origin
    projection  (13, 13), z = (spectrum - centre) @ projection; rows of bands left out and columns beyond are zero
    weights     (size, size, 13) in the coordinates z
    cloud       (size * size,) uint8, CLOUD or CLEAR
    """

    centre: Floats
    projection: Floats
    weights: Floats
    cloud: NDArray[np.uint8]

    @cached_property
    def _search(self) -> BMUSearch:
        return BMUSearch(self.weights)

    def bmus(self, scaled: Floats) -> NDArray[np.int32]:
        """The sub-neurons that scaled spectra (n, 13) fall on, counted row by row from 0."""
        return self._search(coordinates(scaled, self.centre, self.projection)).index

    def is_cloud(self, scaled: Floats) -> NDArray[np.bool_]:
        """Which of the scaled spectra (n, 13) fall on a cloud sub-neuron."""
        return self.cloud[self.bmus(scaled)] == CLOUD


@kernel
def coordinates(scaled: Floats, centre: Floats, projection: Floats) -> Floats:
    """(scaled - centre) @ projection, each sum from the first band on, however many spectra (n, 13) there are."""
    out = np.zeros((len(scaled), N_BANDS))
    for i in range(len(scaled)):
        for j in range(len(centre)):
            offset = scaled[i, j] - centre[j]
            for k in range(N_BANDS):
                out[i, k] += offset * projection[j, k]
    return out


def bands_for(label: int, left_out: Sequence[str], left_out_if_opaque: Sequence[str]) -> list[int]:
    """Indices of the bands a neuron of class `label` is split by."""
    out = set(left_out) | (set() if label == 40 else set(left_out_if_opaque))
    return [i for i, band in enumerate(BANDS) if band not in out]


def train_submap(clouds: Floats, clear: Floats, bands: Sequence[int], rules: SubMapRules, neuron: int) -> SubMap:
    """Train and label the sub-map of one neuron.

    clouds, clear  (n, 13) scaled spectra of the two sides, at least one each
    bands          indices of the bands that take part
    neuron         flat position on the large map: each sub-map has its own reproducible seed
    """
    centre, projection = standardisation(clouds, clear, bands, rules.shrinkage, rules.separation)
    sides = [coordinates(side, centre, projection)[:, : len(bands)] for side in (clouds, clear)]
    draw = np.random.RandomState((rules.seed + neuron) % 2**32)
    half = (rules.steps + 1) // 2
    balanced = np.concatenate([side[draw.randint(0, len(side), half)] for side in sides])
    law = TrainingLaw(rules.size, rules.size, rules.steps, 0.5, 0.05, rules.size / 2, 1.0, int(draw.randint(2**31)))
    weights = train_som(balanced, law).get_weights()
    cloud = vote(sides[0], sides[1], weights, rules.clear_share)
    padded = np.zeros((rules.size, rules.size, N_BANDS))
    padded[..., : len(bands)] = weights
    return SubMap(centre, projection, padded, cloud)


def standardisation(
    clouds: Floats, clear: Floats, bands: Sequence[int], shrinkage: float, separation: float
) -> tuple[Floats, Floats]:
    """Origin (13,) and projection (13, 13) to coordinates in which both sides spread alike in every direction.

    The covariance is that within the two sides, each with half the weight. Its correlations are shrunk by `shrinkage`
    towards none, because 13 bands are highly correlated and a neuron may hold few spectra. The direction from the mean
    of one side to that of the other is then stretched by `separation`: ground that nobody sampled lies far from both
    sides in many directions, and this one says which side it is on.
    """
    means = [side.mean(axis=0) for side in (clouds, clear)]
    used = np.asarray(bands)
    residuals = [(side - mean)[:, used] for side, mean in zip((clouds, clear), means, strict=True)]
    covariance = sum(np.einsum("ij,ik->jk", r, r) / len(r) for r in residuals) / 2
    deviation = np.maximum(np.sqrt(np.diag(covariance)), LEAST_DEVIATION)
    correlation = (1 - shrinkage) * covariance / np.outer(deviation, deviation)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    projection = np.zeros((N_BANDS, N_BANDS))
    projection[used, : len(used)] = vectors / deviation[:, None] / np.sqrt(np.maximum(values, 1e-6))
    apart = np.einsum("i,ij->j", means[1] - means[0], projection)
    apart /= max(float(np.linalg.norm(apart)), 1e-12)
    projection += (separation - 1) * np.outer(np.einsum("ij,j->i", projection, apart), apart)
    return (means[0] + means[1]) / 2, projection


def vote(clouds: Floats, clear: Floats, weights: Floats, clear_share: float) -> NDArray[np.uint8]:
    """CLOUD or CLEAR for each sub-neuron: clear where the clear side has more than `clear_share` of the votes.

    Each side's votes weigh 1 in all, however many spectra it has. A sub-neuron without votes takes the label of the
    voted sub-neuron with the nearest weights.
    """
    search, n = BMUSearch(weights), weights.shape[0] * weights.shape[1]
    shares = [np.bincount(search(side).index, minlength=n) / len(side) for side in (clouds, clear)]
    voted = np.flatnonzero(shares[0] + shares[1] > 0)
    label = np.where(shares[1] > clear_share * (shares[0] + shares[1]), CLEAR, CLOUD).astype(np.uint8)
    flat = weights.reshape(n, -1)
    return label[voted][BMUSearch(flat[voted])(flat).index]
