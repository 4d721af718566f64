"""The labelled map: a trained map with its scaler and the labels of its neurons, which is all that masks need."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLEAR, CLOUD, N_BANDS, NO_CLASS
from cloudsom.errors import Damaged, UserError
from cloudsom.files import npz, stores
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labels import CLASS_CODES, NeuronLabels
from cloudsom.som.submaps import SubMap

Floats = NDArray[np.float64]

#: The maps that come with the package; ready_made/README.md says what they are.
READY_MADE = (Path(__file__).resolve().parents[1] / "ready_made" / "committee.npz",)


@dataclass(frozen=True)
class LabelledMap:
    """A trained map, labelled by step 5 or corrected by fine-tuning.

    weights       (rows, columns, 13), in scaled units
    scale, shift  (13,), scaled = reflectance * scale + shift
    labels        of the neurons; neurons with a sub-map stay cloud there
    votes         (neurons, 6) training spectra by class in the order of `CLASS_CODES`; None where they are not known.
                  A file of one map keeps them
    submaps       by flat position of their neuron; none unless fine-tuning split some
    """

    weights: Floats
    scale: Floats
    shift: Floats
    labels: NeuronLabels
    votes: NDArray[np.int64] | None = None
    submaps: Mapping[int, SubMap] = field(default_factory=dict)

    @cached_property
    def search(self) -> BMUSearch:
        """The search for BMUs on the map."""
        return BMUSearch(self.weights)

    @property
    def reflectance(self) -> Floats:
        """The weights (neurons, 13) as reflectance."""
        return np.asarray((self.weights.reshape(-1, N_BANDS) - self.shift) / self.scale)

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
        contested = np.flatnonzero(split[bmus])
        neurons = bmus[contested]
        for neuron, submap in self.submaps.items():
            here = contested[neurons == neuron]
            if len(here):
                label[here] = np.where(submap.is_cloud(scaled[here]), CLOUD, CLEAR)
        return label


#: What the steps write of a map, by the constants that name it; without the last, the votes, it is a map too.
STEP_FILES = ("SCALER_FILE", "SOM_FILE", "NEURON_LABELS_CSV", "HIT_MAPS_CSV")


def from_steps(files: Mapping[str, Path]) -> LabelledMap:
    """The map of steps 2, 3 and 5 in `STEP_FILES`; UserError unless they are of one map."""
    from cloudsom.som import model  # and with it pandas, which the masks of arrays do without

    som_file, neuron_labels_csv = files["SOM_FILE"], files["NEURON_LABELS_CSV"]
    scaler, weights = model.load_scaler(files["SCALER_FILE"]), model.load_weights(som_file)
    labels, votes = model.read_neuron_labels(neuron_labels_csv), None
    model.check_same_map(som_file, weights.shape, neuron_labels_csv, labels.rows, labels.columns)
    if "HIT_MAPS_CSV" in files:
        votes, rows, columns = model.read_hit_maps(files["HIT_MAPS_CSV"])
        model.check_same_map(som_file, weights.shape, files["HIT_MAPS_CSV"], rows, columns)
    return LabelledMap(weights, scaler.scale_, scaler.min_, labels, votes)


def save(path: Path, *maps: LabelledMap) -> None:
    """Write a labelled map, or several that vote, as a plain .npz: numbers only, nothing that a reader has to trust.

    Of several, each array's name has the map's number before it, from 1. The same maps give the same bytes: numpy dates
    the arrays to 1980.
    """
    arrays: dict[str, Any] = {
        prefix + name: array
        for prefix, labelled in zip(_prefixes(len(maps)), maps, strict=True)
        for name, array in _arrays_of(labelled, prefix).items()
    }
    with open(path, "wb") as handle:
        np.savez(handle, **arrays)


def pack(target: Path, *files: Path) -> None:
    """Put the maps of some files into one, whole or not at all; UserError for a file that holds none."""
    maps = load_all(*files)
    with stores.atomic(target) as partial:
        save(partial, *maps)


def _prefixes(n: int) -> list[str]:
    """What stands before the names of the arrays of each of `n` maps in one file."""
    return [""] if n == 1 else [f"map{i}_" for i in range(1, n + 1)]


def _arrays_of(labelled: LabelledMap, prefix: str) -> dict[str, NDArray[Any]]:
    neurons = sorted(labelled.submaps)
    submaps = [labelled.submaps[neuron] for neuron in neurons]
    size = submaps[0].weights.shape[0] if submaps else 0
    n, labels = len(submaps), labelled.labels
    votes = {} if prefix or labelled.votes is None else {"votes": labelled.votes}  # a committee has no use for them
    return votes | {
        "weights": labelled.weights,
        "scaler_scale": labelled.scale,
        "scaler_min": labelled.shift,
        "classes": labels.classes,
        "cloud": labels.cloud,
        "share": labels.share,
        "submap_neuron": np.array(neurons, np.int64),
        "submap_centre": np.array([s.centre for s in submaps]).reshape(n, N_BANDS),
        "submap_projection": np.array([s.projection for s in submaps]).reshape(n, N_BANDS, N_BANDS),
        "submap_weights": np.array([s.weights for s in submaps]).reshape(n, size, size, N_BANDS),
        "submap_cloud": np.array([s.cloud for s in submaps], np.uint8).reshape(n, size * size),
    }


#: The arrays of the file: types, and shapes by the sizes that `_check` finds. The votes may be missing.
_ARRAYS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "weights": ("<f8", ("rows", "columns", N_BANDS)),
    "scaler_scale": ("<f8", (N_BANDS,)),
    "scaler_min": ("<f8", (N_BANDS,)),
    "classes": ("|u1", ("neurons",)),
    "cloud": ("|u1", ("neurons",)),
    "share": ("<f8", ("neurons",)),
    "submap_neuron": ("<i8", ("sub-maps",)),
    "submap_centre": ("<f8", ("sub-maps", N_BANDS)),
    "submap_projection": ("<f8", ("sub-maps", N_BANDS, N_BANDS)),
    "submap_weights": ("<f8", ("sub-maps", "side", "side", N_BANDS)),
    "submap_cloud": ("|u1", ("sub-maps", "sub-neurons")),
    "votes": ("<i8", ("neurons", len(CLASS_CODES))),
}

#: Maps a file may hold: a committee gains nothing from more.
MOST_MAPS = 64

#: A number that a weight, scale or shift cannot have: reflectance is at most 3, and scaled to about 0..1.
TOO_LARGE = 1e6


def load(path: Path) -> LabelledMap:
    """The one labelled map of an .npz, whoever made it; UserError for anything else."""
    maps = load_all(path)
    if len(maps) > 1:
        raise UserError(f"{path}: holds {len(maps)} maps that vote, one is needed here; give the file of one map")
    return maps[0]


def load_all(*files: Path) -> list[LabelledMap]:
    """The labelled maps of .npz files, one or more in each, whoever made them; UserError for anything else."""
    maps = []
    for path in files:
        try:
            names = npz.names(path)
            n = max(1, sum(re.fullmatch(r"map[1-9]\d*_weights", name) is not None for name in names))
            prefixes = _prefixes(min(n, MOST_MAPS))
            wanted = [name for name in _ARRAYS if name != "votes" or name in names]
            arrays = npz.read(path, [prefix + name for prefix in prefixes for name in wanted])
        except Damaged as problem:
            raise _refused(path, str(problem)) from None
        maps += [_map_of(path, {name: arrays[prefix + name] for name in wanted}) for prefix in prefixes]
    return maps


def by_role(files: Iterable[Path]) -> dict[str, Path]:
    """Files of labelled maps by their roles in a recipe: MODEL_NPZ, MODEL_NPZ 2 and so on."""
    return {f"MODEL_NPZ {i}".removesuffix(" 1"): file for i, file in enumerate(files, 1)}


def _map_of(path: Path, arrays: Mapping[str, NDArray[Any]]) -> LabelledMap:
    _check(path, arrays)
    rows, columns, _ = arrays["weights"].shape
    labels = NeuronLabels(rows, columns, arrays["classes"], arrays["cloud"], arrays["share"])
    submaps = {
        int(neuron): SubMap(*(arrays[f"submap_{name}"][i] for name in ("centre", "projection", "weights", "cloud")))
        for i, neuron in enumerate(arrays["submap_neuron"])
    }
    weights, scale, shift = (arrays[name] for name in ("weights", "scaler_scale", "scaler_min"))
    return LabelledMap(weights, scale, shift, labels, arrays.get("votes"), submaps)


def _refused(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: not a labelled map ({reason}); make it again (labeling.py, or fine_tuning.py)")


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """UserError unless the arrays have the types, shapes and values of a labelled map."""
    rows, columns = (arrays["weights"].shape + (0, 0))[:2]
    n, k, size = rows * columns, arrays["submap_neuron"].size, (arrays["submap_weights"].shape + (0, 0))[1]
    sizes: dict[Any, int] = {"rows": rows, "columns": columns, "neurons": n, "sub-maps": k, "side": size}
    sizes["sub-neurons"] = size * size
    for name, array in arrays.items():
        dtype, shape = _ARRAYS[name]
        if array.dtype.str != dtype or array.shape != tuple(sizes.get(length, length) for length in shape):
            raise _refused(path, f"{name} is {array.dtype} of shape {array.shape}")
        if name != "share" and not np.isfinite(array).all():
            raise _refused(path, f"{name} is not finite")
    if "votes" in arrays and (arrays["votes"] < 0).any():
        raise _refused(path, "votes holds numbers below 0")
    if (arrays["scaler_scale"] <= 0).any():
        raise _refused(path, "scaler_scale is not above 0")
    for name in ("weights", "scaler_scale", "scaler_min"):
        if (np.abs(arrays[name]) > TOO_LARGE).any():
            raise _refused(path, f"{name} holds {np.abs(arrays[name]).max():.3g}, which no reflectance comes to")
    neurons = arrays["submap_neuron"]
    if n == 0 or (k and (neurons.min() < 0 or neurons.max() >= n or len(set(neurons.tolist())) < k or size == 0)):
        raise _refused(path, f"{rows} x {columns} neurons, {k} sub-maps")
    allowed = {"classes": (NO_CLASS, *CLASS_CODES), "cloud": (CLEAR, CLOUD), "submap_cloud": (CLEAR, CLOUD)}
    for name, codes in allowed.items():
        if not np.isin(arrays[name], codes).all():
            raise _refused(path, f"{name} holds codes other than {', '.join(map(str, codes))}")
