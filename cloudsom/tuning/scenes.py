"""Which scenes bright samples are taken from, and which are held out to score on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cloudsom.errors import UserError
from cloudsom.images.rasters import masks_in, read_layer
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.tuning.bright_samples import ReferenceRules, TunedScene


@dataclass(frozen=True)
class Scenes:
    """What there is of all products.

    sources     spectra (tables in `source_dir`, or the images themselves) by product name
    references  reference class maps in `reference_dir` by product name; None where they are not to be sampled
    """

    source_dir: Path
    sources: dict[str, Path]
    tiff_dir: Path
    mask_dir: Path
    reference_dir: Path
    references: dict[str, Path] | None

    def tiff(self, name: str) -> Path:
        """The image of a product."""
        return self.tiff_dir / f"{name}.tif"


@dataclass(frozen=True)
class Split:
    """Which products are tuned on, and which are scored; `failed` gave no samples because a file of theirs is bad."""

    tune: list[str]
    test: list[str]
    failed: tuple[Outcome, ...] = ()

    @property
    def held_out(self) -> bool:
        return bool(self.test) and not set(self.tune) & set(self.test)

    def __str__(self) -> str:
        tuned = f"fine-tuned on {len(self.tune)} products ({', '.join(self.tune)})"
        if not self.test:
            return f"{tuned}; none is left to score on"
        both = sorted(set(self.tune) & set(self.test))
        if both:
            return f"{tuned}; scored on what was tuned on, as in the paper: {', '.join(both)}"
        return f"{tuned}; held out for scoring: {len(self.test)} ({', '.join(self.test)})"


def choose_split(
    scenes: Scenes, tune: Sequence[str], test: Sequence[str], tables: dict[Path, pd.DataFrame], rules: ReferenceRules
) -> Split:
    """The products to tune on and to score; held out from each other unless both are named.

    tune, test  names of products; none: those with samples to take, and all others
    tables      hand-written positions by file, whose products are tuned on
    """
    for constant, wanted in (("FINE_TUNE_PRODUCTS", tune), ("TEST_PRODUCTS", test)):
        choose_products(scenes.sources, wanted, scenes.source_dir, f"correct {constant}")
    tuned, failed = sorted(tune), list[Outcome]()
    if not tuned:
        tuned, failed = _products_with_samples(scenes, tables, rules)
    rest = [name for name in sorted(scenes.sources) if name not in tuned]
    return Split(tuned, sorted(test) or rest, tuple(failed))


def _products_with_samples(
    scenes: Scenes, tables: dict[Path, pd.DataFrame], rules: ReferenceRules
) -> tuple[list[str], list[Outcome]]:
    """The products to tune on where none is named: those of the tables, and the default split of those with references.

    Polygons alone may lie anywhere, so without other sources they are looked for in all products. Beside them, an
    outcome for each product whose reference cannot be read.
    """
    chosen = {name for table in tables.values() for name in table["product"]}
    failed: list[Outcome] = []
    if scenes.references is not None:
        known = [name for name in sorted(scenes.sources) if name in scenes.references]
        jobs = [Job(name, (scenes.references[name], rules)) for name in known]
        outcomes = run_jobs(is_cloud_free, jobs, Engine(here=True), "reading references")
        failed = [outcome for outcome in outcomes if outcome.error]
        scored = [outcome.name for outcome in outcomes if not outcome.error]
        free = [name for name, is_free in zip(scored, results_or_errors(outcomes), strict=True) if is_free]
        chosen |= set(free if 0 < len(free) < len(scored) else scored[::2])
        if not chosen:
            raise_if_any_failed(failed)
            raise UserError(
                f"{scenes.reference_dir}: has no reference of any product; run step 6, or give POLYGONS or "
                "SAMPLE_CSVS and set FROM_REFERENCE to False"
            )
    return sorted(chosen or scenes.sources), failed


def is_cloud_free(reference_file: Path, rules: ReferenceRules) -> bool:
    """Whether a reference says something of some pixels, and of none that it is cloud."""
    reference, _ = read_layer(reference_file)
    codes = set(np.unique(reference).tolist())
    return not codes & set(rules.cloud_codes) and not codes <= set(rules.left_out_codes)


def scenes_to_tune(scenes: Scenes, names: Sequence[str], all_need_references: bool) -> list[TunedScene]:
    """The files of the products to tune on; UserError for one without a SOM1 mask, or without a reference it needs."""
    masks = choose_products(masks_in(scenes.mask_dir), names, scenes.mask_dir, "run step 9 (create_cloudmasks.py)")
    references = scenes.references or {}
    if all_need_references:
        choose_products(references, names, scenes.reference_dir, "run step 6")
    return [
        TunedScene(name, scenes.sources[name], scenes.tiff(name), mask, references.get(name))
        for name, mask in masks.items()
    ]


def check_names(tables: dict[Path, pd.DataFrame], tune: Sequence[str], sources: dict[str, Path]) -> None:
    """UserError for a hand-written table that names a product which is not tuned on."""
    for file, table in tables.items():
        for name in sorted(set(table["product"]) - set(tune)):
            reason = "is not among FINE_TUNE_PRODUCTS; add it" if name in sources else "is not there; correct the name"
            raise UserError(f"{file}: names the product {name}, which {reason}")
