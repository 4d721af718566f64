"""Step 10: how good the masks are, against reference masks.

Each mask is compared pixel by pixel with the reference of the same product (paper, section 3). Pixels the reference
calls "no data" or "not used", and pixels without data in the mask, are not scored.

    python evaluation_metrics.py

Where fine_tuning.py has made final masks (SOM2), they are set beside step 9's (SOM1), in all and by surface; false
alarms on bright land are what fine-tuning is about. Scenes that samples came from are told from those held out.

reads   MASK_DIR/NAME_mask.tif                                   step 9's masks
        REFERENCE_DIR/NAME/Classification/classification_map.tif reference class maps (Baetens et al. 2019 codes)
        MASK_FINETUNED_DIR/NAME_mask.tif, NAME_unfiltered.tif    fine_tuning.py's masks, where there are any
        TIFF_DIR/NAME.tif                                        step 7's images, where there are any, for bright land
writes  RESULTS_DIR/confusion_matrix.csv  one row a product: TP, FN, FP, TN, excluded (pixels; cloud is positive)
        RESULTS_DIR/metrics.csv           one row a product: accuracy, precision, recall, F-score, balanced accuracy and
                                          IoU; then `mean` over products, and `pooled` over all their pixels.
                                          A measure that is not defined is empty
        RESULTS_DIR/surfaces.csv          one row a product, masks and surface: pixels, and how many are called cloud;
                                          then `pooled`
        RESULTS_DIR/comparison.csv        where there are SOM2 masks, one row a product and masks: role (held out, or
                                          tuned on), counts, measures, false-alarm rate; then `pooled`
"""

import sys
from pathlib import Path
from typing import Literal

import pandas as pd

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.images.references import find_references, read_reference
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.scoring import comparison
from cloudsom.scoring.scores import MEASURES, Counts, count, measures

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
MASK_DIR = "masks"  # step 9's masks
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks
TIFF_DIR = "tiff"  # step 7's images
RESULTS_DIR = "results"  # the tables

# scores
PRODUCTS: list[str] = []  # names of the products to score; none named: all in MASK_DIR
CLOUD_CODES = [2, 3]  # reference codes that are cloud: low and high clouds (as CMIX maps them); the rest is clear
LEFT_OUT_CODES = [0, 1]  # reference codes that are not scored: no data, not used
LEAST_BRIGHTNESS = 0.15  # reflectance, mean of B2, B3, B4, from which on land is bright, as in fine_tuning.py

# running
UNPAIRED: Literal["refuse", "skip"] = "refuse"
# a mask without a reference, or a reference without a mask: refuse ends with an error that names it, once the others
# are scored; skip names it and goes on
WORKERS = 0  # processes; 0: one a processor. A worker needs 0.35 GB for a full tile at 60 m, 0.9 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    pairs, unpaired = find_pairs()
    scored = score_masks(pairs)
    failed = {outcome.name for outcome in scored if outcome.error}
    compared = compare_masks({name: pair for name, pair in pairs.items() if name not in failed})
    for line in unpaired:
        print(f"unpaired: {line}", file=sys.stderr)
    raise_if_any_failed(one_each(scored, compared))
    refuse_unpaired(unpaired)


def score_masks(pairs: dict[str, tuple[Path, Path]]) -> list[Outcome]:
    """Score step 9's masks: the two tables. What became of each product; none where the tables are up to date."""
    results_dir = under(DATA_DIR, RESULTS_DIR)
    files = [results_dir / "confusion_matrix.csv", results_dir / "metrics.csv"]
    made_by = recipe_of(pairs)
    if done := stores.up_to_date(files[::-1], made_by, OVERWRITE):
        print(done)
        return []
    jobs = [Job(name, (*pair, CLOUD_CODES, LEFT_OUT_CODES)) for name, pair in pairs.items()]
    outcomes = run_jobs(score, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "scoring")
    scored = dict(zip([o.name for o in outcomes if not o.error], results_or_errors(outcomes), strict=True))
    if scored:
        roles = [role for name in scored for role in (f"mask {name}", f"reference {name}")]
        write_tables(files, made_by.only(roles), scored)
    return outcomes


def compare_masks(pairs: dict[str, tuple[Path, Path]]) -> list[Outcome]:
    """Set the masks before and after fine-tuning side by side, in all and by surface. Returns as `score_masks`."""
    finals = under(DATA_DIR, MASK_FINETUNED_DIR) if MASK_FINETUNED_DIR != MASK_DIR else None
    scenes = [
        comparison.ComparedScene(name, mask, reference, finals, under(DATA_DIR, TIFF_DIR) / f"{name}.tif")
        for name, (mask, reference) in pairs.items()
    ]
    results_dir = under(DATA_DIR, RESULTS_DIR)
    try:
        made_by = stores.recipe(snapshot(globals()), {k: v for scene in scenes for k, v in scene.inputs().items()})
    except UserError as problem:  # final masks of an earlier run: step 9's masks are scored all the same
        print(f"not compared: {problem}; or run fine_tuning.py again", file=sys.stderr)
        return []
    files = [results_dir / "surfaces.csv"]
    files += [results_dir / "comparison.csv"] * any(scene.finals for scene in scenes)
    if done := stores.up_to_date(files[::-1], made_by, OVERWRITE):
        print(done)
        return []
    rules = (tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), LEAST_BRIGHTNESS)
    jobs = [Job(scene.name, (scene, *rules)) for scene in scenes]
    outcomes = run_jobs(comparison.compare, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "comparing")
    rows = [row for found in results_or_errors(outcomes) for row in found]
    if not rows:
        return outcomes
    good = {outcome.name for outcome in outcomes if not outcome.error}
    roles = [role for scene in scenes if scene.name in good for role in scene.inputs()]
    made_by = made_by.only(roles)
    for file, table in zip(files, (comparison.surfaces_table(rows), comparison.measures_table(rows)), strict=False):
        with stores.product(file, made_by) as product:
            table.to_csv(product.partial, index=False, float_format="%.6f")
            product.results["summary"] = comparison.summary(rows)
    print(f"{files[-1]}: {comparison.summary(rows)}")
    return outcomes


def recipe_of(pairs: dict[str, tuple[Path, Path]]) -> stores.Recipe:
    """What the two tables are made of: every mask and every reference that is scored."""
    inputs = {f"mask {name}": mask for name, (mask, _) in pairs.items()}
    inputs |= {f"reference {name}": reference for name, (_, reference) in pairs.items()}
    return stores.recipe(snapshot(globals()), inputs)


def write_tables(files: list[Path], made_by: stores.Recipe, scored: dict[str, Counts]) -> None:
    """Write the counts and the measures, and print the latter."""
    table = metrics_table(scored)
    with stores.product(files[0], made_by) as matrix, stores.product(files[1], made_by) as metrics:
        confusion_table(scored).to_csv(matrix.partial, index=False)
        table.to_csv(metrics.partial, index=False, float_format="%.6f")
        metrics.results["summary"] = summary(table)
    print(f"{files[1]}: {metrics.results['summary']}")
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))


def find_pairs() -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Mask and reference of each product by name, and a line for each mask or reference that stands alone."""
    mask_dir, reference_dir = under(DATA_DIR, MASK_DIR), under(DATA_DIR, REFERENCE_DIR)
    masks = choose_products(masks_in(mask_dir), PRODUCTS, mask_dir, "run step 9 (create_cloudmasks.py)")
    references = find_references(reference_dir)
    unpaired = [f"{masks[name]}: has no reference in {reference_dir}" for name in masks if name not in references]
    if not PRODUCTS:
        unpaired += [f"{references[name]}: has no mask in {mask_dir}" for name in sorted(references.keys() - masks)]
    pairs = {name: (mask, references[name]) for name, mask in masks.items() if name in references}
    if not pairs:
        raise UserError(
            f"no pair found: none of the {len(masks)} masks in {mask_dir} ({', '.join(list(masks)[:3])}...) has a "
            f"reference of the same name among the {len(references)} in {reference_dir}; run step 6, or name the "
            "reference folders as the products"
        )
    return pairs, unpaired


def score(mask_file: Path, reference_file: Path, cloud_codes: list[int], left_out: list[int]) -> Counts:
    """Count one product's pixels; UserError if the two do not cover the same pixels or hold unknown codes."""
    mask, grid = read_mask(mask_file)
    reference = read_reference(reference_file, mask_file, grid)
    return count(mask, reference, tuple(cloud_codes), tuple(left_out))


def confusion_table(scored: dict[str, Counts]) -> pd.DataFrame:
    """One row of counts a product."""
    return pd.DataFrame([{"product": name, **_upper(counts)} for name, counts in scored.items()])


def _upper(counts: Counts) -> dict[str, int]:
    return {"TP": counts.tp, "FN": counts.fn, "FP": counts.fp, "TN": counts.tn, "excluded": counts.excluded}


def metrics_table(scored: dict[str, Counts]) -> pd.DataFrame:
    """One row of measures a product, then their mean (undefined values left out), then those of all pixels pooled."""
    table = pd.DataFrame([{"product": name, **measures(counts)} for name, counts in scored.items()])
    mean = {"product": "mean", **table[list(MEASURES)].mean().to_dict()}
    pooled = {"product": "pooled", **measures(sum(scored.values(), Counts(0, 0, 0, 0)))}
    return pd.concat([table, pd.DataFrame([mean, pooled])], ignore_index=True)


def summary(table: pd.DataFrame) -> str:
    """One line: products scored, and the pooled measures."""
    pooled = table.iloc[-1]
    values = ", ".join(f"{name} {pooled[name]:.4f}" for name in MEASURES if pd.notna(pooled[name]))
    return f"{len(table) - 2} products scored; pooled: {values}"


def refuse_unpaired(lines: list[str]) -> None:
    """UserError for what stands alone, where UNPAIRED says so."""
    if lines and UNPAIRED == "refuse":
        raise UserError(
            f"{len(lines)} masks or references stand alone (named above), the pairs are scored; add what is missing, "
            "name the products to score with --PRODUCTS, or leave the others out with --UNPAIRED skip"
        )


if __name__ == "__main__":
    run(main, globals())
