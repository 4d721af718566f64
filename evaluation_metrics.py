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

import pandas as pd

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.images.references import check_cloud_codes, find_references, labels_of, read_reference
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.scoring import comparison, other_masks
from cloudsom.scoring.comparison import ComparedScene, Scored
from cloudsom.scoring.other_masks import OtherMask
from cloudsom.scoring.scores import MEASURES, Counts, count, measures

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
    masks = find_masks()
    others, unpaired = find_others(references)
    pairs, alone = find_pairs(masks, references, bool(others))
    scenes = find_scenes(pairs, others, references)
    check_cloud_codes(CLOUD_CODES, [scene.reference for scene in scenes])
    scored = score_masks(pairs, scenes)
    failed = {outcome.name for outcome in scored if outcome.error}
    compared = compare_masks([scene for scene in scenes if scene.name not in failed])
    for line in alone + unpaired:
        print(f"unpaired: {line}", file=sys.stderr)
    raise_if_any_failed(one_each(scored, compared))
    refuse_unpaired(alone + unpaired)


# --- what is scored ---------------------------------------------------------------------------------------------------


def find_masks() -> dict[str, Path]:
    """Step 9's masks by product name; there may be none where others are scored."""
    mask_dir = under(DATA_DIR, MASK_DIR)
    masks = masks_in(mask_dir)
    if OTHER_MASKS and not masks:
        return {}
    return choose_products(masks, [] if OTHER_MASKS else PRODUCTS, mask_dir, "run step 9 (create_cloudmasks.py)")


def find_pairs(
    masks: dict[str, Path], references: dict[str, Path], has_others: bool
) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Mask and reference of each product by name, and a line for each mask or reference that stands alone."""
    mask_dir, reference_dir = under(DATA_DIR, MASK_DIR), under(DATA_DIR, REFERENCE_DIR)
    masks = {name: mask for name, mask in masks.items() if not PRODUCTS or name in PRODUCTS}
    alone = [f"{masks[name]}: has no reference in {reference_dir}" for name in masks if name not in references]
    if not PRODUCTS:
        alone += [f"{references[name]}: has no mask in {mask_dir}" for name in sorted(references.keys() - masks)]
    pairs = {name: (mask, references[name]) for name, mask in masks.items() if name in references}
    if not pairs and not has_others:
        raise UserError(
            f"no pair found: none of the {len(masks)} masks in {mask_dir} ({', '.join(list(masks)[:3])}...) has a "
            f"reference of the same name among the {len(references)} in {reference_dir}; run step 6, or name the "
            "reference folders as the products"
        )
    return pairs, alone


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
    pairs: dict[str, tuple[Path, Path]], others: dict[str, dict[str, OtherMask]], references: dict[str, Path]
) -> list[ComparedScene]:
    """The files of each product that any processor has a mask of, final masks of this run among them."""
    finals_dir = under(DATA_DIR, MASK_FINETUNED_DIR)
    finals = {name: comparison.final_masks(finals_dir, name) for name in pairs if MASK_FINETUNED_DIR != MASK_DIR}
    files = {f"{kind} {name}": file for name, found in finals.items() for kind, file in found.items()}
    try:
        stores.recipe(snapshot(globals()), files | {f"mask {name}": mask for name, (mask, _) in pairs.items()})
    except UserError as problem:  # final masks of an earlier run: step 9's masks are scored all the same
        print(f"not compared: {problem}; or run fine_tuning.py again", file=sys.stderr)
        finals = {}
    scenes = []
    for name in sorted({*pairs, *(name for masks in others.values() for name in masks)}):
        ours = {comparison.SOM1: pairs[name][0], **finals.get(name, {})} if name in pairs else {}
        own = {processor: masks[name] for processor, masks in others.items() if name in masks}
        tiff = under(DATA_DIR, TIFF_DIR) / f"{name}.tif"
        classes = under(DATA_DIR, MASK_DIR) / f"{name}_classes.tif"
        has_classes = bool(ours) and classes.is_file()
        scenes.append(ComparedScene(name, references[name], ours, own, tiff, classes if has_classes else None))
    return scenes


# --- scoring ----------------------------------------------------------------------------------------------------------


def score_masks(pairs: dict[str, tuple[Path, Path]], scenes: list[ComparedScene]) -> list[Outcome]:
    """Score our masks: the first two tables. What became of each product; none where the tables are up to date."""
    if not pairs:
        return []
    results_dir = under(DATA_DIR, RESULTS_DIR)
    files = [results_dir / "confusion_matrix.csv", results_dir / "metrics.csv"]
    finals = {s.name: s.ours[comparison.SOM2] for s in scenes if comparison.SOM2 in s.ours}
    made_by = recipe_of(pairs, finals)
    if done := stores.up_to_date(files[::-1], made_by, OVERWRITE):
        print(done)
        return []
    jobs = [Job(name, (*pair, finals.get(name), CLOUD_CODES, LEFT_OUT_CODES)) for name, pair in pairs.items()]
    outcomes = run_jobs(score, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "scoring")
    scored = dict(zip([o.name for o in outcomes if not o.error], results_or_errors(outcomes), strict=True))
    if scored:
        roles = [f"{kind} {name}" for name in scored for kind in ("mask", "reference", comparison.SOM2)]
        write_tables(files, made_by.only(roles), scored)
    return outcomes


def recipe_of(pairs: dict[str, tuple[Path, Path]], finals: dict[str, Path]) -> stores.Recipe:
    """What the two tables are made of: every mask and every reference that is scored."""
    inputs = {f"mask {name}": mask for name, (mask, _) in pairs.items()}
    inputs |= {f"reference {name}": reference for name, (_, reference) in pairs.items()}
    inputs |= {f"{comparison.SOM2} {name}": final for name, final in finals.items()}
    return stores.recipe(snapshot(globals()), inputs)


def score(
    mask_file: Path, reference_file: Path, final_file: Path | None, cloud_codes: list[int], left_out: list[int]
) -> Scored:
    """Count one product's pixels; UserError if the files do not cover the same pixels or hold unknown codes."""
    found = []
    for file in filter(None, (mask_file, final_file)):
        mask, grid = read_mask(file)
        reference = read_reference(reference_file, file, grid)
        found.append(count(mask, reference, tuple(cloud_codes), tuple(left_out)))
    return Scored(found[0], *([found[1], comparison.role_of(final_file)] if final_file else ()))


def compare_masks(scenes: list[ComparedScene]) -> list[Outcome]:
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
    rules = comparison.Rules(tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), LEAST_BRIGHTNESS, CLOUD_SHARE)
    jobs = [Job(scene.name, (scene, rules)) for scene in scenes]
    outcomes = run_jobs(comparison.compare, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "comparing")
    compared = results_or_errors(outcomes)
    if not compared:
        return outcomes
    good = {outcome.name for outcome in outcomes if not outcome.error}
    made_by = made_by.only([role for scene in scenes if scene.name in good for role in scene.inputs()])
    labels = whose_labels([scene for scene in scenes if scene.name in good])
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


# --- the first two tables ---------------------------------------------------------------------------------------------


def write_tables(files: list[Path], made_by: stores.Recipe, scored: dict[str, Scored]) -> None:
    """Write the counts and the measures, and print the latter."""
    table = metrics_table(scored)
    with stores.product(files[0], made_by) as matrix, stores.product(files[1], made_by) as metrics:
        confusion_table(scored).to_csv(matrix.partial, index=False)
        table.to_csv(metrics.partial, index=False, float_format="%.6f")
        metrics.results["summary"] = summary(table)
    print(f"{files[1]}: {metrics.results['summary']}")
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))


def confusion_table(scored: dict[str, Scored]) -> pd.DataFrame:
    """One row of counts a product, of step 9's masks."""
    return pd.DataFrame([{"product": name, **_upper(found.counts)} for name, found in scored.items()])


def _upper(counts: Counts) -> dict[str, int]:
    return {"TP": counts.tp, "FN": counts.fn, "FP": counts.fp, "TN": counts.tn, "excluded": counts.excluded}


def metrics_table(scored: dict[str, Scored]) -> pd.DataFrame:
    """One row of measures a product, then their mean (undefined values left out), then those of all pixels pooled.

    Where there are final masks, their measures stand beside; where some of their scenes are held out and others are
    not, mean and pooled of those held out come last.
    """
    table = pd.DataFrame([{"product": name, **_both(found), "role": found.role} for name, found in scored.items()])
    parts = [table, _totals(table, list(scored.values()), "")]
    held_out = [found for found in scored.values() if found.role == comparison.HELD_OUT]
    if held_out and len(held_out) < len(scored):
        parts.append(_totals(table[table["role"] == comparison.HELD_OUT], held_out, comparison.HELD_OUT))
    whole = pd.concat(parts, ignore_index=True)
    return whole if any(found.final for found in scored.values()) else whole.drop(columns="role")


def _both(found: Scored) -> dict[str, float]:
    final = measures(found.final) if found.final else {}
    return measures(found.counts) | {f"{comparison.SOM2}_{name}": value for name, value in final.items()}


def _totals(table: pd.DataFrame, scored: list[Scored], role: str) -> pd.DataFrame:
    """The lines `mean` and `pooled` of some products."""
    nothing = Counts(0, 0, 0, 0)
    finals = [found.final for found in scored if found.final]
    pooled = Scored(sum((found.counts for found in scored), nothing), sum(finals, nothing) if finals else None)
    mean = table.drop(columns=["product", "role"]).mean().to_dict()
    lines = {"mean": mean, "pooled": _both(pooled)}
    return pd.DataFrame([{"product": f"{kind} {role}".strip(), **v, "role": role} for kind, v in lines.items()])


def summary(table: pd.DataFrame) -> str:
    """One line: products scored, and the pooled measures of step 9's masks."""
    n = table["product"].tolist().index("mean")  # products come first
    pooled = table.iloc[n + 1]
    values = ", ".join(f"{name} {pooled[name]:.4f}" for name in MEASURES if pd.notna(pooled[name]))
    return f"{n} products scored; {comparison.SOM1}, pooled: {values}"


def refuse_unpaired(lines: list[str]) -> None:
    """UserError for what stands alone, where UNPAIRED says so."""
    if lines and UNPAIRED == "refuse":
        raise UserError(
            f"{len(lines)} masks or references stand alone (named above), the pairs are scored; add what is missing, "
            "name the products to score with --PRODUCTS, or leave out --UNPAIRED refuse"
        )


if __name__ == "__main__":
    run(main, globals())
