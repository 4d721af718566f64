"""Stage 3: fine-tuning, which separates clouds from bright surfaces (between steps 9 and 10).

Bright land - beach, desert, salt, roofs - falls on cloud neurons. Spectra of such land are sampled where the masks of
step 9 (SOM1) call it cloud; the neurons they fall on are corrected, without training the map again; all pixels are
masked again; a median filter and a dilation make the final masks, SOM2 (paper, section 2.2, stage 3).

    python fine_tuning.py                          by default: samples from the references of cloud-free scenes
    python fine_tuning.py --METHOD flip            the paper's correction: whole neurons become clear
    python fine_tuning.py --POLYGONS sand.geojson --FROM_REFERENCE False
    python fine_tuning.py --SUGGEST                only rank the neurons that look like bright land, change nothing

The paper flips the labels of the wrong neurons (METHOD "flip"; it gives no rule for choosing them, so the rules below
are ours). On a map of this size that loses the clouds that share those neurons with bright land. The default,
"submaps", goes beyond the paper: a small map inside each contested neuron decides there. The flip table shows what both
would cost.

reads   MASK_DIR/NAME_mask.tif               SOM1 masks
        CSV_DIR/NAME_converted.csv, TIFF_DIR/NAME.tif      pixels, as in step 9
        REFERENCE_DIR/NAME/Classification/classification_map.tif, POLYGONS, SAMPLE_CSVS      sources of samples
        SCALER_FILE, SOM_FILE, NEURON_LABELS_CSV, HIT_MAPS_CSV                               the labelled map
        TRAINING_CSV, BMUS_CSV               for sub-maps only
writes  BRIGHT_SAMPLES_CSV                   product, row, column (counted from 0), 13 reflectances, source
        NEURON_LABELS_FINETUNED_CSV          step 5's columns after fine-tuning, the labels before, action and reason
        FINETUNED_MAP_NPZ                    weights, scaler, labels and sub-maps as plain numbers
        FLIP_TABLE_CSV                       cost and gain of changing each neuron: votes, samples, clouds lost
        MASK_FINETUNED_DIR/NAME_mask.tif     SOM2 masks: 255 cloud, 0 clear, 1 nodata
        MASK_FINETUNED_DIR/NAME_unfiltered.tif  the same before median filter and dilation
        with SUGGEST, only: SUGGESTIONS_CSV and FIGURES_DIR/suggested_neurons.png
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cloudsom.bands import BANDS
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, input_path, under
from cloudsom.images import vectors
from cloudsom.images.filters import check_window
from cloudsom.images.pixels import find_sources
from cloudsom.images.references import find_references
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.som import labelled_map
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.submaps import SubMapRules
from cloudsom.tables import csv_tables
from cloudsom.tuning import bright_samples, correction
from cloudsom.tuning.bright_samples import ReferenceRules
from cloudsom.tuning.final_masks import FinalMaskJob, create_final_mask
from cloudsom.tuning.scenes import Scenes, Split, check_names, choose_split, is_cloud_free, scenes_to_tune

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
MASK_DIR = "masks"  # step 9's masks (SOM1)
CSV_DIR = "csv"  # step 8's tables
TIFF_DIR = "tiff"  # step 7's images
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
TRAINING_CSV = "training_spectra.csv"  # step 2's table, for sub-maps
BMUS_CSV = "BMUs.csv"  # step 4's table, for sub-maps
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's votes
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
PRODUCTS: list[str] = []  # names of the products to mask; none named: all in CSV_DIR (or TIFF_DIR)

# outputs (relative to DATA_DIR)
BRIGHT_SAMPLES_CSV = "bright_samples.csv"  # the samples
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels
FINETUNED_MAP_NPZ = "neuron_labels_finetuned.npz"  # the corrected map with its sub-maps
FLIP_TABLE_CSV = "flip_table.csv"  # what each change costs and gains
MASK_FINETUNED_DIR = "masks_finetuned"  # final masks (SOM2)
SUGGESTIONS_CSV = "suggested_neurons.csv"  # SUGGEST's table
FIGURES_DIR = "figures"  # SUGGEST's picture

# scenes
FINE_TUNE_PRODUCTS: list[str] = []  # products the samples come from
# none named: those whose reference shows no cloud; if that is none or all of them, every other product by name
TEST_PRODUCTS: list[str] = []  # products step 10 pools its scores over; none named: all that gave no samples
# naming a product in both lists scores on what was tuned on, as the paper did; the output says so
PIXELS: Literal["csv", "tiff"] = "csv"  # where the spectra come from: step 8's tables, or step 7's images

# samples
FROM_REFERENCE = True  # (a) take clear pixels of the reference that SOM1 calls cloud
POLYGONS: list[str] = []  # (b) vector files (GeoJSON, GPKG, Shapefile...) of bright cloud-free ground: polygons, points
# a feature with an attribute "product" holds for that product only, else for every product it lies in
SAMPLE_CSVS: list[str] = []  # (c) hand-written tables: product, row, column, both counted from 0

# correction
METHOD: Literal["flip", "submaps"] = "submaps"  # how a neuron that bright land falls on is corrected
# flip: whole neurons become clear, as in the paper. submaps: a small map inside each contested neuron decides there
MAX_CLOUD_LOSS = 0.005  # [0, 1] share of the training cloud spectra that all changes together may lose
# half a point of recall; what does not fit is refused, the dearest first. 1.0: no limit, as in the paper
FLIP_NEURONS: list[str] = []  # neurons to flip whatever they cost, each as row,column counted from 0

# filters
MEDIAN_SIZE = 3  # [0, 101] pixels (180 m at 60 m), odd; 0: no filter
# removes single pixels and pairs, which are more often roofs than clouds; 5 takes small cumulus with them: a point of
# recall on the sample scene
DILATION_RADIUS = 1  # [0, 100] pixels (60 m); 0: none
# covers the mixed pixel at a cloud's edge: two points of recall for 0.4 % of the clear pixels of a scene full of small
# clouds; 2 pixels give half a point more for 1.1 %
DILATION_SHAPE: Literal["disk", "square"] = "disk"  # what is dilated by

# running
SUGGEST = False  # rank the cloud neurons by how likely they are bright land, and end
N_SUGGESTIONS = 15  # [1, 1e6] neurons that are printed and outlined in the picture
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m, 1 GB at 10
# m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished

# samples, for experts
LEAST_BRIGHTNESS = 0.15  # [0, 1] reflectance, mean of B2, B3, B4; for (a) only
# vegetation, soil and water stay below at the top of the atmosphere (99 % of the clear sample spectra), sand, salt and
# roofs above. Lower: more false alarms are corrected, but those of dark ground under haze or cloud edges too
MOST_CIRRUS = 0.005  # [0, 1] reflectance of B10; for (a) only. Brighter pixels lie under thin cirrus, or on high
# plateaus
CLOUD_MARGIN = 2  # [0, 1000] pixels (120 m) kept away from the reference's clouds, whose edges are mixed; for (a) only
CLOUD_CODES = [2, 3]  # [0, 7] reference codes that are cloud, as in step 10
LEFT_OUT_CODES = [0, 1]  # [0, 7] reference codes that say nothing: no data, not used
SAMPLES_A_PRODUCT = 50_000  # [1, 1e8] at most; more are thinned out at random

# correction, for experts
MIN_SAMPLES = 5  # [1, 1e9] samples on a neuron; fewer are strays: a ship, a boat's wake, an error of the reference
MIN_SAMPLE_SHARE = 0.0  # [0, 1] share of all samples that must fall on a neuron before it is changed
SUBMAP_SIZE = 8  # [1, 100] sub-neurons a side; from 6 to 12 the results differ by no more than from seed to seed
SUBMAP_STEPS = 20_000  # [1, 1e9] training steps, half of them on either side; 300 a sub-neuron
COPY_FACTORS = [1.25, 1.5]  # [0.01, 100] copies of each sample as the same ground looks in stronger light or of higher
# albedo
# the part of the spectrum above dark ground is multiplied; empty: no copies, sub-maps only where samples fall. Without
# copies ground brighter than the sampled stays cloud; larger factors reach brighter ground, and lose grey low clouds
TRAINING_LAND = 2000  # [0, 1e8] spectra of bright dry land from the training table that are copied too; 0: none
# they show other kinds of ground than the samples'; what they cost and gain is in benchmarks/fine_tuning_study.py
MIN_CLOUD = 5  # [1, 1e9] training cloud spectra; a neuron with fewer is flipped, there is nothing to split it by
MIN_CLOUD_FOR_COPIES = 100  # [1, 1e9] training cloud spectra a neuron needs before copies alone may split it
MIN_LAND_VOTES = 5  # [0, 1e9] training spectra of land that have a cloud neuron split though no sample falls on it
# there the map itself says that it mixes land with clouds: on the held-out sample scene this takes the false alarms on
# bright ground from half to a twentieth, for a hundredth of a point of recall. 0: only samples and copies count
CLEAR_SHARE = 0.95  # [0, 1] share of the votes that makes a sub-neuron clear, both sides having equal weight
# 0.5: as many clouds lost as bright land missed; more: in doubt it is cloud
SHRINKAGE = 0.3  # [0, 1] of the bands' correlations within a neuron towards none; 13 bands are far from independent
SEPARATION = 8.0  # [1, 1e6] how much more than others the direction from clouds to bright land counts; 1: as much
BANDS_LEFT_OUT = ["B9"]  # water vapour: tells of the sample's weather, not of its ground
BANDS_LEFT_OUT_IF_OPAQUE = ["B10"]  # cirrus band, left out too unless the neuron's class is cirrus
# sand and low clouds are equally dark in B10, so on opaque neurons it only tells high clouds of the training from sand
SEED = 0  # [0, 4294967295] of the sub-maps and of thinning out
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    check_constants()
    scenes = scenes_there()
    if SUGGEST:
        suggest(scenes)
        return
    tables = {file: bright_samples.read_positions(file) for file in map(sample_csv, SAMPLE_CSVS)}
    split = choose_split(scenes, FINE_TUNE_PRODUCTS, TEST_PRODUCTS, tables, reference_rules())
    print(split)
    samples_csv, split = sample(scenes, split, tables)
    tuned_npz = correct(samples_csv, split)
    masked = mask_again(scenes, split, tuned_npz)
    raise_if_any_failed(one_each(split.failed, masked))


def check_constants() -> None:
    """UserError for values that make no sense, before anything is read."""
    check_window(MEDIAN_SIZE)
    unknown = [band for band in (*BANDS_LEFT_OUT, *BANDS_LEFT_OUT_IF_OPAQUE) if band not in BANDS]
    if unknown or len({*BANDS_LEFT_OUT, *BANDS_LEFT_OUT_IF_OPAQUE}) == len(BANDS):
        raise UserError(f"BANDS_LEFT_OUT: {unknown[0] if unknown else 'nothing is left'}; bands are {', '.join(BANDS)}")
    if not (FROM_REFERENCE or POLYGONS or SAMPLE_CSVS or SUGGEST):
        raise UserError("no source of samples: set FROM_REFERENCE, POLYGONS or SAMPLE_CSVS")


def scenes_there() -> Scenes:
    """What there is of all products."""
    csv_dir, tiff_dir = under(DATA_DIR, CSV_DIR), under(DATA_DIR, TIFF_DIR)
    sources, reference_dir = find_sources(PIXELS, csv_dir, tiff_dir, []), under(DATA_DIR, REFERENCE_DIR)
    references = find_references(reference_dir) if FROM_REFERENCE or SUGGEST else None
    source_dir = csv_dir if PIXELS == "csv" else tiff_dir
    return Scenes(source_dir, sources, tiff_dir, under(DATA_DIR, MASK_DIR), reference_dir, references)


def sample_csv(name: str) -> Path:
    """A hand-written table of positions."""
    return existing(DATA_DIR, name, "correct SAMPLE_CSVS")


def reference_rules() -> ReferenceRules:
    """The constants that say which false alarms are bright ground."""
    return ReferenceRules(tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), CLOUD_MARGIN, LEAST_BRIGHTNESS, MOST_CIRRUS)


def engine() -> Engine:
    """Where jobs run."""
    return Engine(WORKERS, DASK_SCHEDULER, DATA_DIR)


def sample(scenes: Scenes, split: Split, tables: dict[Path, pd.DataFrame]) -> tuple[Path, Split]:
    """Write the bright samples of the products to tune on; the table's path, and the split without what failed."""
    from_reference_alone = FROM_REFERENCE and bool(FINE_TUNE_PRODUCTS) and not (POLYGONS or SAMPLE_CSVS)
    tuned = scenes_to_tune(scenes, split.tune, all_need_references=from_reference_alone)
    check_names(tables, split.tune, scenes.sources)
    polygons = [input_path(DATA_DIR, name) for name in POLYGONS]
    features = [feature for file in polygons for feature in vectors.read_features(file)]
    inputs = {role: file for scene in tuned for role, file in scene.inputs().items()}
    marks = {str(file.name): file for marked in (*polygons, *tables) for file in vectors.sidecars(marked)}
    samples_csv = under(DATA_DIR, BRIGHT_SAMPLES_CSV)
    made_by = stores.recipe(snapshot(globals()), inputs | marks)
    if done := stores.up_to_date([samples_csv], made_by, OVERWRITE):
        print(done)
        return samples_csv, split
    arguments = (reference_rules(), features, list(tables.items()), SAMPLES_A_PRODUCT, SEED)
    samples, failed = bright_samples.sample_scenes(tuned, arguments, engine())
    bright_samples.refuse_empty(samples, polygons)
    good = [scene for scene in tuned if scene.name not in {outcome.name for outcome in failed}]
    made_by = made_by.only([role for scene in good for role in scene.inputs()] + list(marks))
    with stores.product(samples_csv, made_by) as product:
        samples.to_csv(product.partial, index=False)
        counts = ", ".join(f"{source} {n:,}" for source, n in samples["source"].value_counts().items())
        product.results["summary"] = f"{len(samples):,} bright samples ({counts})"
    print(f"{samples_csv}: {product.results['summary']}")
    return samples_csv, replace(split, tune=[scene.name for scene in good], failed=(*split.failed, *failed))


def map_files() -> dict[str, Path]:
    """The files of the labelled map by role."""
    return {
        "SCALER_FILE": existing(DATA_DIR, SCALER_FILE, "run step 2 (data_preprocessing.py)"),
        "SOM_FILE": existing(DATA_DIR, SOM_FILE, "run step 3 (SOM_training.py)"),
        "NEURON_LABELS_CSV": existing(DATA_DIR, NEURON_LABELS_CSV, "run step 5 (labeling.py)"),
        "HIT_MAPS_CSV": existing(DATA_DIR, HIT_MAPS_CSV, "run step 5 (labeling.py)"),
    }


def correct(samples_csv: Path, split: Split) -> Path:
    """Write the corrected labels, the corrected map and the table of prices; the map's path."""
    trained, training_files = map_files(), {}
    if METHOD == "submaps":
        advice = "run the steps before 5, or use --METHOD flip, which does without"
        files = {"TRAINING_CSV": TRAINING_CSV, "BMUS_CSV": BMUS_CSV}
        training_files = {role: existing(DATA_DIR, name, advice) for role, name in files.items()}
    made_by = stores.recipe(snapshot(globals()), trained | training_files | {"BRIGHT_SAMPLES_CSV": samples_csv})
    # Corrected labels may stand in for step 5's everywhere, so they do not count as made from other labels than those.
    made_by = replace(made_by, lineage={k: v for k, v in made_by.lineage.items() if k != "NEURON_LABELS_CSV"})
    products = [under(DATA_DIR, name) for name in (NEURON_LABELS_FINETUNED_CSV, FINETUNED_MAP_NPZ, FLIP_TABLE_CSV)]
    labels_csv, tuned_npz, flip_table_csv = products
    if done := stores.up_to_date(products, made_by, OVERWRITE):
        print(done)
        return tuned_npz
    som = labelled_map.from_steps(*trained.values())
    samples = bright_samples.read_samples(samples_csv)[list(BANDS)].to_numpy(np.float64)
    training = training_of(som, *training_files.values()) if training_files else None
    done_to = correction.correct(som, samples, rules(som), training)
    prices = correction.price_table(som, done_to, MIN_SAMPLES)
    with stores.product(flip_table_csv, made_by) as flips:
        prices.to_csv(flips.partial, index=False)
    with stores.product(tuned_npz, made_by) as tuned:
        labelled_map.save(tuned.partial, done_to.tuned)
    with stores.product(labels_csv, made_by) as table:
        correction.labels_table(som, done_to).to_csv(table.partial, index=False)
        table.results |= {"fine_tune_products": split.tune, "test_products": split.test, "held_out": split.held_out}
        table.results["summary"] = correction.summary(done_to)
    print(correction.shown(prices))
    print(f"{labels_csv}: {table.results['summary']}")
    if not any(d.action in (correction.FLIPPED, correction.SPLIT) for d in done_to.decisions):
        print("no label changed: too few samples on any cloud neuron, or all changes refused (see the table)")
    return tuned_npz


def training_of(som: LabelledMap, training_csv: Path, bmus_csv: Path) -> correction.Training:
    """What sub-maps need of the training table; it is read twice, a piece in memory at a time."""
    on = partial(correction.training_spectra_on, training_csv, bmus_csv, som.weights.shape)
    blocks = csv_tables.read_spectra(training_csv, dtype=np.float64) if COPY_FACTORS and TRAINING_LAND else ()
    limits = LEAST_BRIGHTNESS, MOST_CIRRUS, TRAINING_LAND, SEED
    return correction.Training(on, correction.bright_land_of(blocks, *limits))


def rules(som: LabelledMap) -> correction.Rules:
    """The constants that say when a neuron is changed, and how."""
    inner = SubMapRules(SUBMAP_SIZE, SUBMAP_STEPS, CLEAR_SHARE, SHRINKAGE, SEPARATION, SEED)
    return correction.Rules(
        min_samples=MIN_SAMPLES,
        min_share=MIN_SAMPLE_SHARE,
        max_loss=MAX_CLOUD_LOSS,
        by_hand=correction.neurons_by_hand(FLIP_NEURONS, som.labels),
        submaps=inner if METHOD == "submaps" else None,
        copy_factors=tuple(COPY_FACTORS),
        min_cloud=MIN_CLOUD,
        min_cloud_for_copies=MIN_CLOUD_FOR_COPIES,
        min_land_votes=MIN_LAND_VOTES,
        left_out=tuple(BANDS_LEFT_OUT),
        left_out_if_opaque=tuple(BANDS_LEFT_OUT_IF_OPAQUE),
    )


def mask_again(scenes: Scenes, split: Split, tuned_npz: Path) -> list[Outcome]:
    """Final masks of all products, each with tags that say what it was to fine-tuning; what became of each."""
    filters, settings = (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE), snapshot(globals())
    mask_dir, jobs = under(DATA_DIR, MASK_FINETUNED_DIR), []
    for name, source in choose_products(scenes.sources, PRODUCTS, under(DATA_DIR, CSV_DIR), "run step 8").items():
        tags = {
            "PRODUCT": name,
            "METHOD": f"SOM2 ({METHOD})",
            "FILTERS": f"median {MEDIAN_SIZE}, dilation {DILATION_RADIUS} {DILATION_SHAPE}",
            "TUNED_ON": "yes" if name in split.tune else "no",
            "TEST": "yes" if name in split.test else "no",
        }
        job = FinalMaskJob(settings, source, scenes.tiff(name), tuned_npz, mask_dir, tags, filters, OVERWRITE)
        jobs.append(Job(name, (job,)))
    outcomes = run_jobs(create_final_mask, jobs, engine(), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    return outcomes


def suggest(scenes: Scenes) -> None:
    """Rank the cloud neurons by how likely they are bright land; write table and picture, change no label."""
    from cloudsom.tuning import suggestions  # the only part that draws: matplotlib takes a second to load

    trained, references = map_files(), scenes.references or {}
    known = [name for name in sorted(scenes.sources) if name in references]
    free = sorted(FINE_TUNE_PRODUCTS) or [n for n in known if is_cloud_free(references[n], reference_rules())]
    advice = "correct FINE_TUNE_PRODUCTS"
    sources = choose_products(scenes.sources, free, scenes.source_dir, advice) if free else {}
    made_by = stores.recipe(snapshot(globals()), trained | {source.name: source for source in sources.values()})
    table_csv, picture = under(DATA_DIR, SUGGESTIONS_CSV), under(DATA_DIR, FIGURES_DIR) / "suggested_neurons.png"
    for file in (table_csv, picture):
        stores.finished(file, made_by, OVERWRITE)  # refuses to write over somebody's own file
    som = labelled_map.from_steps(*trained.values())
    outcomes, pixels = suggestions.scene_pixels(som, sources, scenes.tiff_dir, engine())
    good = [outcome.name for outcome in outcomes if not outcome.error]
    made_by = made_by.only([*trained, *(sources[name].name for name in good)])
    table = suggestions.rank_neurons(som, pixels)
    if table.empty:
        raise UserError(f"{trained['NEURON_LABELS_CSV']}: no neuron is cloud; there is nothing to suggest")
    suggestions.write(table_csv, picture, made_by, table, som, N_SUGGESTIONS)
    print(table.head(N_SUGGESTIONS).to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))
    of = f"with the cloud-free scenes {', '.join(good)}" if good else "without a cloud-free scene"
    print(f"{table_csv}, {picture}: {len(table)} cloud neurons ranked {of}; nothing is changed")
    print("rows and columns count from 0 in the table and on the command line, from 1 in the picture (as in the paper)")
    print("look at the picture; to accept some, run again with --FLIP_NEURONS row,column ..., or sample such ground")
    raise_if_any_failed(outcomes)


if __name__ == "__main__":
    run(main, globals())
