"""Which scenes bright samples are taken from, and which are held out to score on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot
from cloudsom.images.pixels import find_sources
from cloudsom.images.rasters import masks_in, read_layer
from cloudsom.images.references import find_references
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.safe_names import fields_of
from cloudsom.tuning.bright_samples import COLUMNS, Sampling, TunedScene, read_samples, refuse_empty, sample_scene


@dataclass(frozen=True)
class Scenes:
    """What there is of all products.

    sources     spectra (tables in `source_dir`, or the images themselves) by product name
    references  reference class maps in `reference_dir` by product name
    sampled     whether samples are taken from them
    """

    source_dir: Path
    sources: dict[str, Path]
    tiff_dir: Path
    mask_dir: Path
    reference_dir: Path
    references: dict[str, Path]
    sampled: bool

    def tiff(self, name: str) -> Path:
        """The image of a product."""
        return self.tiff_dir / f"{name}.tif"


def find_scenes(
    pixels: str, sampled: bool, csv_dir: Path, tiff_dir: Path, mask_dir: Path, reference_dir: Path
) -> Scenes:
    """What there is in some folders; `pixels` and errors as `find_sources`."""
    sources, references = find_sources(pixels, csv_dir, tiff_dir, []), find_references(reference_dir)
    source_dir = csv_dir if pixels == "csv" else tiff_dir
    return Scenes(source_dir, sources, tiff_dir, mask_dir, reference_dir, references, sampled)


#: The word that names every product, in FINE_TUNE_PRODUCTS (each that gives samples) and in TEST_PRODUCTS.
ALL = ["all"]


@dataclass(frozen=True)
class Split:
    """Which products are tuned on, and which are scored; `failed` gave no samples because a file of theirs is bad.

    folds   products tuned on that are left out together, and masked by a map tuned on the others; none: one map
    maybe   products that are tuned on only if polygons lie in them, which nobody knows yet
    silent  products without a reference to score by
    named   whether the products to score are named, and stay so whichever gave samples
    """

    tune: list[str]
    test: list[str]
    failed: tuple[Outcome, ...] = ()
    folds: tuple[tuple[str, ...], ...] = ()
    maybe: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    named: bool = False

    def sampled(self, names: Collection[str]) -> "Split":
        """Once it is known which products gave samples: what gave none is held out, unless others are named."""
        none = self.maybe - set(names)
        test = self.test if self.named else sorted({*self.test, *none})
        return replace(self, tune=[name for name in self.tune if name not in none], test=test, maybe=frozenset())

    def fold_of(self, name: str) -> int:
        """The number of a product's fold, from 1; 0 for one in none, which the map tuned on all samples masks."""
        return next((i for i, fold in enumerate(self.folds, 1) if name in fold), 0)

    def left_out(self, fold: int) -> tuple[str, ...]:
        """The products whose samples the map of a fold does without."""
        return self.folds[fold - 1] if fold else ()

    def tuned_on(self, name: str) -> bool:
        """Whether the map that masks a product was tuned on samples of it."""
        return name in self.tune and not self.fold_of(name)

    @property
    def held_out(self) -> bool:
        return bool(self.test) and not any(self.tuned_on(name) for name in self.test)

    def __str__(self) -> str:
        on = f"on {len(self.tune)} products ({', '.join(self.tune)})" if self.tune else "by hand, on no product"
        tuned = f"fine-tuned {on}"
        if not self.test:
            return f"{tuned}; none is left to score on"
        if self.folds:
            folds = "; ".join(f"fold {i}: {', '.join(fold)}" for i, fold in enumerate(self.folds, 1))
            return f"{tuned}, in {len(self.folds)} folds, each masked by a map tuned on the others ({folds})"
        both = sorted(set(self.tune) & set(self.test))
        if both:
            return f"{tuned}; scored on what was tuned on, as in the paper: {', '.join(both)}"
        silent = [name for name in self.test if name in self.silent]
        kinds = {"for scoring": [name for name in self.test if name not in silent], "without a reference": silent}
        said = [f"held out {what}: {len(names)} ({', '.join(names)})" for what, names in kinds.items() if names]
        return "; ".join([tuned, *said])


def choose_split(scenes: Scenes, tune: Sequence[str], test: Sequence[str], how: Sampling, n_folds: int = 0) -> Split:
    """The products to tune on and to score; held out from each other unless both are named.

    tune, test  names of products, or `ALL`; none: those with samples to take, and all others
    how         tables and polygons, whose products are tuned on, among other things
    n_folds     0: one map. Else products tuned on are left out in turn; none named: all that give samples, all scored

    Where nothing is sampled, since neurons are flipped by hand alone, no product is tuned on.
    """
    named = {"FINE_TUNE_PRODUCTS": [] if tune == ALL else tune, "TEST_PRODUCTS": [] if test == ALL else test}
    for constant, wanted in named.items():
        choose_products(scenes.sources, wanted, scenes.source_dir, f"correct {constant}")
    silent = frozenset(scenes.sources.keys() - scenes.references)
    if not (scenes.sampled or how.marks()):
        return Split([], sorted(named["TEST_PRODUCTS"] or scenes.sources), silent=silent)
    tuned, failed, maybe = sorted(named["FINE_TUNE_PRODUCTS"]), list[Outcome](), frozenset[str]()
    if not tuned:
        tuned, failed = _products_with_samples(scenes, how, every=tune == ALL or n_folds > 0)
        maybe = frozenset(() if scenes.sampled else set(tuned) - how.products())
    folds = deal(tuned, n_folds) if n_folds else ()
    rest = [name for name in sorted(scenes.sources) if name not in tuned or folds or test == ALL]
    tested = sorted(named["TEST_PRODUCTS"]) or rest
    return Split(tuned, tested, tuple(failed), folds, maybe, silent, named=bool(test))


def deal(names: Sequence[str], n_folds: int) -> tuple[tuple[str, ...], ...]:
    """Products in `n_folds` folds of about one size, or in as many as there are places, where those are fewer.

    Products of one tile show the same ground, so they are left out together. UserError where all are of one place.
    """
    places: dict[str, list[str]] = {}
    for name in sorted(names):
        places.setdefault(fields_of(name).get("tile", name), []).append(name)
    if len(places) < 2:
        raise UserError("FOLDS: the products to tune on are all of one tile, so none is left to tune on; set it to 0")
    folds: list[list[str]] = [[] for _ in range(min(n_folds, len(places)))]
    for group in sorted(places.values(), key=lambda group: (-len(group), group)):
        min(folds, key=len).extend(group)
    return tuple(tuple(sorted(fold)) for fold in folds)


def _products_with_samples(scenes: Scenes, how: Sampling, every: bool) -> tuple[list[str], list[Outcome]]:
    """The products to tune on where none is named: those that tables and polygons name, and of those with references
    half, or `every`.

    The half is those without cloud; if that is none or all of them, every other one by name. Polygons that name no
    product may lie anywhere: without references they are looked for in all. Beside them, an outcome for each product
    whose reference cannot be read.
    """
    marked = how.products()
    chosen = marked & scenes.sources.keys()
    failed: list[Outcome] = []
    if scenes.sampled:
        known = [name for name in sorted(scenes.sources) if name in scenes.references]
        jobs = [Job(name, (scenes.references[name], how.cloud_codes, how.left_out_codes)) for name in known]
        outcomes = run_jobs(is_cloud_free, jobs, Engine(here=True), "reading references")
        failed = [outcome for outcome in outcomes if outcome.error]
        scored = [outcome.name for outcome in outcomes if not outcome.error]
        free = [name for name, is_free in zip(scored, results_or_errors(outcomes), strict=True) if is_free]
        chosen |= set(scored if every else free if 0 < len(free) < len(scored) else scored[::2])
        if not chosen:
            raise_if_any_failed(failed)
            raise UserError(
                f"{scenes.reference_dir}: has no reference of any product; run step 6, or give POLYGONS or "
                "SAMPLE_CSVS and set FROM_REFERENCE to False"
            )
    elif "" in marked:
        chosen = set(scenes.sources)
    if not chosen:
        names = ", ".join(sorted(marked)[:3])
        raise UserError(
            f"{scenes.source_dir}: has none of the products that samples are marked in ({names}); correct it"
        )
    return sorted(chosen), failed


def clear_scenes(
    scenes: Scenes, named: Sequence[str], cloud_codes: Sequence[int], left_out_codes: Sequence[int]
) -> dict[str, Path]:
    """Spectra of the products that are named, or else of those whose reference shows no cloud, by name."""
    if named and named != ALL:
        return choose_products(scenes.sources, named, scenes.source_dir, "correct FINE_TUNE_PRODUCTS")
    known = [name for name in sorted(scenes.sources) if name in scenes.references]
    codes = cloud_codes, left_out_codes
    return {name: scenes.sources[name] for name in known if is_cloud_free(scenes.references[name], *codes)}


def is_cloud_free(reference_file: Path, cloud_codes: Sequence[int], left_out_codes: Sequence[int]) -> bool:
    """Whether a reference says something of some pixels, and of none that it is cloud."""
    reference, _ = read_layer(reference_file)
    codes = set(np.unique(reference).tolist())
    return not codes & set(cloud_codes) and not codes <= set(left_out_codes)


def sample(
    samples_csv: Path, scenes: Scenes, split: Split, how: Sampling, settings: Snapshot, engine: Engine, overwrite: bool
) -> Split:
    """Write the bright samples of the products to tune on, where that is not done; the split by what gave samples.

    Without products the table is empty. Raises UserError where all of them fail.
    """
    tuned, marks = _scenes_to_tune(scenes, split.tune, how) if split.tune else [], how.marks()
    made_by = stores.recipe(settings, {role: file for scene in tuned for role, file in scene.inputs().items()} | marks)
    if done := stores.up_to_date([samples_csv], made_by, overwrite):
        print(done)
    else:
        samples = pd.DataFrame(columns=list(COLUMNS))
        if tuned:  # else neurons are flipped by hand alone
            outcomes = run_jobs(sample_scene, [Job(scene.name, (scene, how)) for scene in tuned], engine, "sampling")
            found, failed = results_or_errors(outcomes), [outcome for outcome in outcomes if outcome.error]
            if not found:
                raise_if_any_failed(failed)
            samples = pd.concat(found, ignore_index=True)
            refuse_empty(samples, list(how.polygons))
            bad = {outcome.name for outcome in failed}
            good = [name for name in split.tune if name not in bad]
            split = replace(split, tune=good, maybe=split.maybe - bad, failed=(*split.failed, *failed))
        read = [role for scene in tuned if scene.name in split.tune for role in scene.inputs()]
        with stores.product(samples_csv, made_by.only([*read, *marks])) as product:
            samples.to_csv(product.partial, index=False)
            counts = ", ".join(f"{source} {n:,}" for source, n in samples["source"].value_counts().items())
            product.results["summary"] = f"{len(samples):,} bright samples ({counts})"
        print(f"{samples_csv}: {product.results['summary']}")
    return split.sampled(set(read_samples(samples_csv)["product"])) if split.maybe else split


def _scenes_to_tune(scenes: Scenes, names: Sequence[str], how: Sampling) -> list[TunedScene]:
    """The files of the products to tune on.

    UserError for one without a SOM1 mask, or without a reference it needs, and for a hand-written table that names
    another product.
    """
    masks = choose_products(masks_in(scenes.mask_dir), names, scenes.mask_dir, "run step 9 (create_cloudmasks.py)")
    references = scenes.references if scenes.sampled else {}
    if scenes.sampled and not how.marks():
        choose_products(references, names, scenes.reference_dir, "run step 6")
    for file, table in how.tables.items():
        for name in sorted(set(table["product"]) - set(names)):
            there = name in scenes.sources
            reason = "is not among FINE_TUNE_PRODUCTS; add it" if there else "is not there; correct the name"
            raise UserError(f"{file}: names the product {name}, which {reason}")
    return [
        TunedScene(name, scenes.sources[name], scenes.tiff(name), mask, references.get(name))
        for name, mask in masks.items()
    ]
