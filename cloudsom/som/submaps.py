"""Sub-maps: small self-organizing maps that decide inside a neuron that clouds and bright land share.

Flipping such a neuron gives up its clouds, leaving it loses its land. A sub-map learns the training spectra that fall
on the neuron and the bright samples that do, in coordinates standardised within the neuron, and each of its own neurons
(sub-neurons) is cloud or clear by their vote. The large map is not trained again. This goes beyond the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLEAR, CLOUD, N_BANDS, NO_CLASS
from cloudsom.errors import UserError
from cloudsom.files import npz
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labels import CLASS_CODES
from cloudsom.som.model import LabelledMap, Scaler
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

    def coordinates(self, scaled: Floats) -> Floats:
        """Scaled spectra (n, 13) in the sub-map's coordinates (n, 13)."""
        return np.asarray(np.einsum("ij,jk->ik", scaled - self.centre, self.projection))  # the same bits in any block

    def is_cloud(self, scaled: Floats) -> NDArray[np.bool_]:
        """Which of the scaled spectra (n, 13) fall on a cloud sub-neuron."""
        return self.cloud[BMUSearch(self.weights)(self.coordinates(scaled)).index] == CLOUD


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
    blank = SubMap(centre, projection, np.zeros((0, 0, N_BANDS)), np.zeros(0, np.uint8))
    sides = [blank.coordinates(side)[:, : len(bands)] for side in (clouds, clear)]
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


# --- the labelled map -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FineTunedMap:
    """All that masks need: step 5's map, which has no sub-maps, or the corrected one.

    weights       (rows, columns, 13)
    scale, shift  (13,), scaled = reflectance * scale + shift
    labels        step 5's or corrected labels; neurons with a sub-map stay cloud there
    submaps       sub-maps by flat position of their neuron
    """

    weights: Floats
    scale: Floats
    shift: Floats
    labels: LabelledMap
    submaps: Mapping[int, SubMap]

    def scaled(self, reflectance: Floats) -> Floats:
        """(n, 13) reflectances -> the map's inputs, in place, as `model.scale`."""
        reflectance *= self.scale
        reflectance += self.shift
        return reflectance

    def cloud(self, scaled: Floats, bmus: NDArray[np.int32]) -> NDArray[np.uint8]:
        """CLOUD or CLEAR for scaled spectra (n, 13) with BMUs (n,); sub-maps decide on their neurons.

        Spectra without a BMU (index below 0: no data) get an arbitrary label.
        """
        label = self.labels.cloud[bmus]
        split = np.zeros(len(self.labels.cloud), bool)
        split[list(self.submaps)] = True
        contested = np.flatnonzero(split[bmus] & (bmus >= 0))
        for neuron, submap in self.submaps.items():
            here = contested[bmus[contested] == neuron]
            label[here] = np.where(submap.is_cloud(scaled[here]), CLOUD, CLEAR)
        return label


def step_5_map(weights: Floats, scaler: Scaler, labels: LabelledMap) -> FineTunedMap:
    """The map as step 5 labels it, before any fine-tuning."""
    return FineTunedMap(weights, scaler.scale_, scaler.min_, labels, {})


def save(path: Path, tuned: FineTunedMap) -> None:
    """Write a labelled map as a plain .npz: numbers only, nothing that a reader would have to trust.

    The same map gives the same bytes: numpy dates the arrays to 1980.
    """
    neurons = sorted(tuned.submaps)
    submaps = [tuned.submaps[neuron] for neuron in neurons]
    size = submaps[0].weights.shape[0] if submaps else 0
    n, labels = len(submaps), tuned.labels
    with open(path, "wb") as handle:
        np.savez(
            handle,
            weights=tuned.weights,
            scaler_scale=tuned.scale,
            scaler_min=tuned.shift,
            classes=labels.classes,
            cloud=labels.cloud,
            share=labels.share,
            submap_neuron=np.array(neurons, np.int64),
            submap_centre=np.array([s.centre for s in submaps]).reshape(n, N_BANDS),
            submap_projection=np.array([s.projection for s in submaps]).reshape(n, N_BANDS, N_BANDS),
            submap_weights=np.array([s.weights for s in submaps]).reshape(n, size, size, N_BANDS),
            submap_cloud=np.array([s.cloud for s in submaps], np.uint8).reshape(n, size * size),
        )


#: The arrays of the file with their types; `_check` has their shapes.
_DTYPES = {
    "weights": "<f8",
    "scaler_scale": "<f8",
    "scaler_min": "<f8",
    "classes": "|u1",
    "cloud": "|u1",
    "share": "<f8",
    "submap_neuron": "<i8",
    "submap_centre": "<f8",
    "submap_projection": "<f8",
    "submap_weights": "<f8",
    "submap_cloud": "|u1",
}


def load(path: Path) -> FineTunedMap:
    """A labelled map from its .npz, whoever made it; UserError for anything else."""
    try:
        arrays = npz.read(path, _DTYPES)
    except npz.Damaged as problem:
        raise _refused(path, str(problem)) from None
    _check(path, arrays)
    rows, columns, _ = arrays["weights"].shape
    labels = LabelledMap(rows, columns, arrays["classes"], arrays["cloud"], arrays["share"])
    submaps = {
        int(neuron): SubMap(*(arrays[f"submap_{name}"][i] for name in ("centre", "projection", "weights", "cloud")))
        for i, neuron in enumerate(arrays["submap_neuron"])
    }
    return FineTunedMap(arrays["weights"], arrays["scaler_scale"], arrays["scaler_min"], labels, submaps)


def _refused(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not a labelled map ({reason}); make it again (labeling.py, or fine_tuning.py)")


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """UserError unless the arrays have the types, shapes and values of a labelled map."""
    rows, columns = (arrays["weights"].shape + (0, 0))[:2]
    n, k, size = rows * columns, arrays["submap_neuron"].size, (arrays["submap_weights"].shape + (0, 0))[1]
    shapes: dict[str, tuple[int, ...]] = {
        "weights": (rows, columns, N_BANDS),
        "scaler_scale": (N_BANDS,),
        "scaler_min": (N_BANDS,),
        "submap_neuron": (k,),
        "submap_centre": (k, N_BANDS),
        "submap_projection": (k, N_BANDS, N_BANDS),
        "submap_weights": (k, size, size, N_BANDS),
        "submap_cloud": (k, size * size),
    }
    for name, array in arrays.items():
        if array.dtype.str != _DTYPES[name] or array.shape != shapes.get(name, (n,)):
            raise _refused(path, f"{name} is {array.dtype} of shape {array.shape}")
        if name != "share" and not np.isfinite(array).all():
            raise _refused(path, f"{name} is not finite")
    neurons = arrays["submap_neuron"]
    if n == 0 or (k and (neurons.min() < 0 or neurons.max() >= n or len(set(neurons.tolist())) < k or size == 0)):
        raise _refused(path, f"{rows} x {columns} neurons, {k} sub-maps")
    allowed = {"classes": (NO_CLASS, *CLASS_CODES), "cloud": (CLEAR, CLOUD), "submap_cloud": (CLEAR, CLOUD)}
    for name, codes in allowed.items():
        if not np.isin(arrays[name], codes).all():
            raise _refused(path, f"{name} holds codes other than {', '.join(map(str, codes))}")
