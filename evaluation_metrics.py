"""Step 10: how good the masks are, against reference masks, and beside the masks of other processors.

Each mask is compared pixel by pixel with the reference of the same product (paper, section 3). Pixels the reference
calls "no data" or "not used", and pixels without data in the mask, are not scored.

    python evaluation_metrics.py
    python evaluation_metrics.py --OTHER_MASKS "Sen2Cor=scl:l2a" "Fmask=fmask:fmask/{product}.img" "ESA=l1c:products"

Where fine_tuning.py has made final masks (SOM2), they are set beside step 9's (SOM1), in all and by surface; false
alarms on bright land are what fine-tuning is about. Scenes that samples came from are told from those held out. Masks
of other processors stand beside both, in one table. All are scored there on the same pixels: those that every mask of
the scene has. What a mask's codes mean is never guessed: ours say so themselves, others need a preset.

reads   MASK_DIR/NAME_mask.tif                                   step 9's masks
        REFERENCE_DIR/NAME/Classification/classification_map.tif reference class maps (Baetens et al. 2019 codes)
        MASK_FINETUNED_DIR/NAME_mask.tif, NAME_unfiltered.tif    fine_tuning.py's masks, where there are any
        OTHER_MASKS                                              masks of other processors, where there are any
        MASK_DIR/NAME_classes.tif                                step 9's class maps, where there are any
        TIFF_DIR/NAME.tif                                        step 7's images, where there are any, for bright land
writes  RESULTS_DIR/confusion_matrix.csv  one row a product: TP, FN, FP, TN, excluded (pixels; cloud is positive)
        RESULTS_DIR/metrics.csv           one row a product: accuracy, precision, recall, F-score, balanced accuracy and
                                          IoU; then `mean` over products, and `pooled` over all their pixels. Beside
                                          them, where there are SOM2 masks, theirs (SOM2_accuracy...) and the product's
                                          role; the last two lines then come once more for the products held out
                                          (`mean held out`, `pooled held out`).
                                          A measure that is not defined is empty
        RESULTS_DIR/processors.csv        one row a processor and product: role (held out, or tuned on), the measures,
                                          false-alarm rate, that on bright land, counts, and 95 % intervals of the
                                          measures; then `mean` and `pooled` of each role
        RESULTS_DIR/differences.csv       the final mask's measures minus those of each other processor, with intervals
        RESULTS_DIR/classes.csv           where there are class maps of step 9: pixels of each class by class of the
                                          reference, with producer's and user's accuracy, by product and pooled
        RESULTS_DIR/surfaces.csv          one row a product, masks and surface: pixels, and how many are called cloud;
                                          then `pooled`
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

import sys
from pathlib import Path
from typing import Literal

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.images.rasters import masks_in
from cloudsom.images.references import check_cloud_codes, find_references, labels_of
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.scoring import comparison, metrics, other_masks
from cloudsom.scoring.comparison import SOM1, SOM2, ComparedScene, ScoringRules
from cloudsom.scoring.other_masks import OtherMask

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
MASK_DIR = "masks"  # step 9's masks
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks
TIFF_DIR = "tiff"  # step 7's images
REFERENCE_ARCHIVE = "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle.tgz"  # step 6's: its record tells its references

# outputs (relative to DATA_DIR)
RESULTS_DIR = "results"  # the tables

# scores
PRODUCTS: list[str] = []  # names of the products to score; none named: all in MASK_DIR
OTHER_MASKS: list[str] = []  # masks of other processors to set beside ours, each as NAME=PRESET:PATTERN
# PRESET says what the codes mean: scl (Sen2Cor), fmask (python-fmask), s2cloudless (0 and 1; of probabilities with the
# threshold, s2cloudless(0.4) from 0 to 1, s2cloudless(40) in per cent), ukis (ukis-csmask), omnicloudmask, maja (CLM),
# binary (0 and 1, or 0 and 255), l1c (ESA's own, in L1C products), or codes(cloud=2,3;clear=1,4-6;out=0): without
# `clear` all other codes are clear. PATTERN is where a product's mask is, * standing for any letters: {product} is its
# name, and {satellite} (S2A), {sensed} (20170430T103021), {date} and {tile} (T31TFH) are parts of it, as in
# Fmask=fmask:fmask/{product}.img; for l1c it is a folder of L1C products, for scl it may be one of L2A products. Any
# resolution, in the tile's own UTM zone
CLOUD_SHARE = 0.5  # [0, 1] another processor's mask, brought to the reference's pixels: one is cloud if at least this
# share of its area with data in the mask is
CLOUD_CODES = [2, 3]  # [0, 7] reference codes that are cloud: low and high clouds (as CMIX maps them); the rest is
# clear
LEFT_OUT_CODES = [0, 1]  # [0, 7] reference codes that are not scored: no data, not used
LEAST_BRIGHTNESS = 0.15  # [0, 1] reflectance, mean of B2, B3, B4, from which on land is bright, as in fine_tuning.py

# running
UNPAIRED: Literal["skip", "refuse"] = "skip"
# a mask without a reference, or a reference without a mask: skip names it and goes on; refuse ends with an error once
# the others are scored
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs 0.35 GB for a full tile at 60 m, 0.9 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    references = find_references(under(DATA_DIR, REFERENCE_DIR))
    masks, alone = find_masks(references)
    others, missing = find_others(references)
    scenes = find_scenes(masks, others, references)
    check_cloud_codes(CLOUD_CODES, [scene.reference for scene in scenes])
    rules = ScoringRules(tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), LEAST_BRIGHTNESS, CLOUD_SHARE)
    scored = score_masks([scene for scene in scenes if scene.ours], rules)
    failed = {outcome.name for outcome in scored if outcome.error}
    compared = compare_masks([scene for scene in scenes if scene.name not in failed], rules)
    for line in alone + missing:
        print(f"unpaired: {line}", file=sys.stderr)
    raise_if_any_failed(one_each(scored, compared))
    refuse_unpaired(alone + missing)


# --- what is scored ---------------------------------------------------------------------------------------------------


def find_masks(references: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Step 9's masks of products with a reference, and a line for each mask or reference that stands alone.

    There may be no masks where others are scored.
    """
    mask_dir, reference_dir = under(DATA_DIR, MASK_DIR), under(DATA_DIR, REFERENCE_DIR)
    masks = masks_in(mask_dir)
    if OTHER_MASKS:
        masks = {name: masks[name] for name in sorted(masks) if not PRODUCTS or name in PRODUCTS}
    else:
        masks = choose_products(masks, PRODUCTS, mask_dir, "run step 9 (create_cloudmasks.py)")
    alone = [f"{masks[name]}: has no reference in {reference_dir}" for name in masks if name not in references]
    if not PRODUCTS:
        alone += [f"{references[name]}: has no mask in {mask_dir}" for name in sorted(references.keys() - masks)]
    if not (masks.keys() & references or OTHER_MASKS):
        raise UserError(
            f"no pair found: none of the {len(masks)} masks in {mask_dir} ({', '.join(list(masks)[:3])}...) has a "
            f"reference of the same name among the {len(references)} in {reference_dir}; run step 6, or name the "
            "reference folders as the products"
        )
    return {name: masks[name] for name in masks if name in references}, alone


def find_others(references: dict[str, Path]) -> tuple[dict[str, dict[str, OtherMask]], list[str]]:
    """Masks of each other processor by product name, and a line for each reference that one has no mask of."""
    if not OTHER_MASKS:
        return {}, []
    entries = other_masks.read_entries(OTHER_MASKS, comparison.OURS)
    names = choose_products(references, PRODUCTS, under(DATA_DIR, REFERENCE_DIR), "run step 6")
    found = {entry.name: other_masks.find(entry, DATA_DIR, names) for entry in entries}
    lines = [
        f"{references[name]}: {processor} has no mask of it"
        for processor, masks in found.items()
        for name in names
        if name not in masks
    ]
    return found, lines


def find_scenes(
    masks: dict[str, Path], others: dict[str, dict[str, OtherMask]], references: dict[str, Path]
) -> list[ComparedScene]:
    """The files of each product that any processor has a mask of, final masks of this run among them."""
    finals_dir = under(DATA_DIR, MASK_FINETUNED_DIR)
    finals = {name: comparison.final_masks(finals_dir, name) for name in masks if MASK_FINETUNED_DIR != MASK_DIR}
    files = {f"{kind} {name}": file for name, found in finals.items() for kind, file in found.items()}
    try:
        stores.recipe(snapshot(globals()), files | {f"mask {name}": mask for name, mask in masks.items()})
    except UserError as problem:  # final masks of an earlier run: step 9's masks are scored all the same
        print(f"not compared: {problem}; or run fine_tuning.py again", file=sys.stderr)
        finals = {}
    scenes = []
    for name in sorted({*masks, *(name for found in others.values() for name in found)}):
        ours = {SOM1: masks[name], **finals.get(name, {})} if name in masks else {}
        own = {processor: found[name] for processor, found in others.items() if name in found}
        tiff = under(DATA_DIR, TIFF_DIR) / f"{name}.tif"
        classes = under(DATA_DIR, MASK_DIR) / f"{name}_classes.tif"
        has_classes = bool(ours) and classes.is_file()
        scenes.append(ComparedScene(name, references[name], ours, own, tiff, classes if has_classes else None))
    return scenes


# --- scoring ----------------------------------------------------------------------------------------------------------


def score_masks(scenes: list[ComparedScene], rules: ScoringRules) -> list[Outcome]:
    """Score our masks: the first two tables. What became of each product; none where the tables are up to date."""
    if not scenes:
        return []
    results_dir = under(DATA_DIR, RESULTS_DIR)
    files = [results_dir / "confusion_matrix.csv", results_dir / "metrics.csv"]
    inputs = {f"mask {scene.name}": scene.ours[SOM1] for scene in scenes}
    inputs |= {f"reference {scene.name}": scene.reference for scene in scenes}
    inputs |= {f"{SOM2} {scene.name}": scene.ours[SOM2] for scene in scenes if SOM2 in scene.ours}
    made_by = stores.recipe(snapshot(globals()), inputs)
    if done := stores.up_to_date(files[::-1], made_by, OVERWRITE):
        print(done)
        return []
    jobs = [Job(scene.name, (scene, rules)) for scene in scenes]
    outcomes = run_jobs(metrics.score, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "scoring")
    scored = results_or_errors(outcomes)
    if not scored:
        return outcomes
    made_by = made_by.only([f"{kind} {each.product}" for each in scored for kind in ("mask", "reference", SOM2)])
    table = metrics.metrics_table(scored)
    with stores.product(files[0], made_by) as first, stores.product(files[1], made_by) as second:
        metrics.confusion_table(scored).to_csv(first.partial, index=False)
        table.to_csv(second.partial, index=False, float_format="%.6f")
        second.results["summary"] = metrics.summary(table)
    print(f"{files[1]}: {second.results['summary']}")
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))
    return outcomes


def compare_masks(scenes: list[ComparedScene], rules: ScoringRules) -> list[Outcome]:
    """Set the masks of all processors side by side: the other tables. Returns as `score_masks`."""
    results_dir = under(DATA_DIR, RESULTS_DIR)
    made_by = stores.recipe(snapshot(globals()), {k: v for scene in scenes for k, v in scene.inputs().items()})
    tables = {"surfaces": comparison.surfaces_table, "differences": comparison.differences_table}
    if any(scene.classes for scene in scenes):
        tables["classes"] = comparison.classes_table
    tables["processors"] = comparison.processors_table
    files = [results_dir / f"{name}.csv" for name in tables]
    if done := stores.up_to_date(files[::-1], made_by, OVERWRITE):
        print(done)
        return []
    jobs = [Job(scene.name, (scene, rules)) for scene in scenes]
    outcomes = run_jobs(comparison.compare, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "comparing")
    compared = results_or_errors(outcomes)
    if not compared:
        return outcomes
    names = {each.product for each in compared}
    good = [scene for scene in scenes if scene.name in names]
    made_by = made_by.only([role for scene in good for role in scene.inputs()])
    labels = whose_labels(good)
    for file, table_of in zip(files, tables.values(), strict=True):
        with stores.product(file, made_by) as product:
            table_of(compared).to_csv(product.partial, index=False, float_format="%.6f")
            product.results["summary"] = comparison.summary(compared)
            product.results["labels"] = labels
    print(f"{files[-1]}: {comparison.summary(compared)}")
    print(f"{files[-1]}: the references' labels are {labels}")
    return outcomes


def whose_labels(scenes: list[ComparedScene]) -> str:
    """Whose labels the references have, in words."""
    archive = under(DATA_DIR, REFERENCE_ARCHIVE)
    found = [labels_of(scene.name, scene.reference, archive) or "of an origin that no file tells" for scene in scenes]
    kinds = list(dict.fromkeys(found))
    return kinds[0] if len(kinds) == 1 else "; ".join(f"of {found.count(kind)} scenes {kind}" for kind in kinds)


def refuse_unpaired(lines: list[str]) -> None:
    """UserError for what stands alone, where UNPAIRED says so."""
    if lines and UNPAIRED == "refuse":
        raise UserError(
            f"{len(lines)} masks or references stand alone (named above), the pairs are scored; add what is missing, "
            "name the products to score with --PRODUCTS, or leave out --UNPAIRED refuse"
        )


if __name__ == "__main__":
    run(main, globals())
