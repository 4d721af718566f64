"""Stage 3: fine-tuning, which separates clouds from bright surfaces (between steps 9 and 10).

Bright land - beach, desert, salt, roofs - falls on cloud neurons. Spectra of such land are sampled where the masks of
step 9 (SOM1) call it cloud; the neurons they fall on are corrected, without training the map again; all pixels are
masked again; a median filter and a dilation make the final masks, SOM2 (paper, section 2.2, stage 3).

    python fine_tuning.py                          by default: samples from the references of cloud-free scenes
    python fine_tuning.py --METHOD flip            the paper's correction: whole neurons become clear
    python fine_tuning.py --FOLDS 5                scenes left out in turn, each masked by a map that never saw it
    python fine_tuning.py --POLYGONS sand.geojson --FROM_REFERENCE False
    python fine_tuning.py --METHOD flip --FROM_REFERENCE False --FLIP_NEURONS 7,3 8,2    these, and no samples
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
writes  BRIGHT_SAMPLES_CSV                   product, row, column of the pixel (from 0), 13 reflectances, source
        NEURON_LABELS_FINETUNED_CSV          step 5's columns after fine-tuning, the labels before, action and reason
        FINETUNED_MAP_NPZ                    weights, scaler, labels and sub-maps as plain numbers
        FLIP_TABLE_CSV                       cost and gain of changing each neuron: votes, samples, clouds lost
        with FOLDS, these three also as NAME_fold1 and on
        MASK_FINETUNED_DIR/NAME_mask.tif     SOM2 masks: 255 cloud, 0 clear, 1 nodata
        MASK_FINETUNED_DIR/NAME_unfiltered.tif  the same before median filter and dilation
        with SUGGEST, only: SUGGESTIONS_CSV and FIGURES_DIR/suggested_neurons.png
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from pathlib import Path
from typing import Literal

from cloudsom.errors import UserError
from cloudsom.files.places import existing, input_path, under
from cloudsom.images.filters import check_window
from cloudsom.images.pixels import find_sources
from cloudsom.images.references import check_cloud_codes
from cloudsom.images.vectors import read_features
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som.labelled_map import STEP_FILES
from cloudsom.som.submaps import SubMapRules
from cloudsom.tuning import corrected_files
from cloudsom.tuning.bright_samples import Sampling, read_positions
from cloudsom.tuning.correction import Rules, check_bands_left_out
from cloudsom.tuning.final_masks import FinalMasks, create_final_mask
from cloudsom.tuning.scenes import Scenes, Split, choose_split, clear_scenes, find_scenes, sample

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
FINE_TUNE_PRODUCTS: list[str] = []  # products the samples come from; all: every one that a source gives samples of
# none named: those whose reference shows no cloud; if that is none or all of them, every other product by name
TEST_PRODUCTS: list[str] = []  # products step 10 pools its scores over, or all; none named: all that gave no samples
# naming a product in both lists scores on what was tuned on, as the paper did; the output says so
FOLDS = 0  # [0, 1000] parts that the products are dealt into by tile, each masked by a map tuned on the others; 0: none
# every product is then scored, by a map that never saw its tile; the map tuned on all is made too, for other products
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
FLIP_NEURONS: list[str] = []  # neurons to flip whatever they cost, each as row,column from 1 as in the pictures

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
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a tile at 60 m, 1 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished

# samples, for experts
LEAST_BRIGHTNESS = 0.15  # [0, 1] reflectance, mean of B2, B3, B4; for (a) only
# vegetation, soil and water stay below at the top of the atmosphere (99 % of the clear sample spectra), sand, salt and
# roofs above. Lower: more false alarms are corrected, but those of dark ground under haze or cloud edges too
MOST_CIRRUS = 0.005  # [0, 1] reflectance of B10; for (a) only. Brighter: under thin cirrus, or on high plateaus
CLOUD_MARGIN = 2  # [0, 1000] pixels (120 m) kept away from the reference's clouds, whose edges are mixed; for (a) only
CLOUD_CODES = [2, 3]  # [0, 7] reference codes that are cloud, as in step 10
LEFT_OUT_CODES = [0, 1]  # [0, 7] reference codes that say nothing: no data, not used
SAMPLES_A_PRODUCT = 50_000  # [1, 1e8] at most; more are thinned out at random

# correction, for experts
MIN_SAMPLES = 5  # [1, 1e9] samples on a neuron; fewer are strays: a ship, a boat's wake, an error of the reference
MIN_SAMPLE_SHARE = 0.0  # [0, 1] share of all samples that must fall on a neuron before it is changed
SUBMAP_SIZE = 8  # [1, 100] sub-neurons a side; from 6 to 12 the results differ by no more than from seed to seed
SUBMAP_STEPS = 20_000  # [1, 1e9] training steps, half of them on either side; 300 a sub-neuron
COPY_FACTORS = [1.25, 1.5]  # [0.01, 100] copies of each sample: the same ground in stronger light or of higher albedo
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
    folders = (under(DATA_DIR, folder) for folder in (CSV_DIR, TIFF_DIR, MASK_DIR, REFERENCE_DIR))
    scenes, engine = find_scenes(PIXELS, FROM_REFERENCE, *folders), Engine(WORKERS, DASK_SCHEDULER, DATA_DIR)
    if FROM_REFERENCE or SUGGEST:
        check_cloud_codes(CLOUD_CODES, [file for name, file in scenes.references.items() if name in scenes.sources])
    if SUGGEST:
        suggest(scenes, engine)
        return
    how, samples_csv = sampling(), under(DATA_DIR, BRIGHT_SAMPLES_CSV)
    split = choose_split(scenes, FINE_TUNE_PRODUCTS, TEST_PRODUCTS, how, FOLDS)
    split = sample(samples_csv, scenes, split, how, snapshot(globals()), engine, OVERWRITE)
    print(split)
    maps = [correct(samples_csv, split, fold) for fold in range(len(split.folds) + 1)]
    masked = mask_again(scenes, split, maps, engine)
    raise_if_any_failed(one_each(split.failed, masked))


def check_constants() -> None:
    """UserError for values that make no sense, before anything is read."""
    if FOLDS == 1:
        raise UserError("FOLDS: 1 leaves nothing to tune on; give 2 or more, or 0 for one map")
    check_window(MEDIAN_SIZE)
    check_bands_left_out([*BANDS_LEFT_OUT, *BANDS_LEFT_OUT_IF_OPAQUE])
    if not (FROM_REFERENCE or POLYGONS or SAMPLE_CSVS or SUGGEST or FLIP_NEURONS):
        raise UserError("no source of samples: set FROM_REFERENCE, POLYGONS or SAMPLE_CSVS, or name FLIP_NEURONS")


def sampling() -> Sampling:
    """What samples are taken by; polygons and hand-written tables are read."""
    tables = [existing(DATA_DIR, name, "correct SAMPLE_CSVS") for name in SAMPLE_CSVS]
    polygons = {file: read_features(file) for file in [input_path(DATA_DIR, name) for name in POLYGONS]}
    positions = {file: read_positions(file) for file in tables}
    false_alarms = tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), CLOUD_MARGIN, LEAST_BRIGHTNESS, MOST_CIRRUS
    return Sampling(*false_alarms, polygons, positions, SAMPLES_A_PRODUCT, SEED)


def correct(samples_csv: Path, split: Split, fold: int) -> Path:
    """Write the corrected labels, map and prices, by all samples or those outside a fold (from 1); the map's path."""
    inputs = step_files(globals(), *STEP_FILES)
    if METHOD == "submaps":
        advice = "run the steps before 5, or use --METHOD flip, which does without"
        training = {"TRAINING_CSV": TRAINING_CSV, "BMUS_CSV": BMUS_CSV}
        inputs |= {role: existing(DATA_DIR, name, advice) for role, name in training.items()}
    inputs["BRIGHT_SAMPLES_CSV"] = samples_csv
    outputs = [under(DATA_DIR, name) for name in (NEURON_LABELS_FINETUNED_CSV, FINETUNED_MAP_NPZ, FLIP_TABLE_CSV)]
    return corrected_files.make(outputs, inputs, split, fold, rules(), snapshot(globals()), OVERWRITE)


def rules() -> Rules:
    """The constants that say when a neuron is changed, and how."""
    inner = SubMapRules(SUBMAP_SIZE, SUBMAP_STEPS, CLEAR_SHARE, SHRINKAGE, SEPARATION, SEED)
    return Rules(
        min_samples=MIN_SAMPLES,
        min_share=MIN_SAMPLE_SHARE,
        max_loss=MAX_CLOUD_LOSS,
        by_hand=tuple(FLIP_NEURONS),
        submaps=inner if METHOD == "submaps" else None,
        copy_factors=tuple(COPY_FACTORS),
        min_cloud=MIN_CLOUD,
        min_cloud_for_copies=MIN_CLOUD_FOR_COPIES,
        min_land_votes=MIN_LAND_VOTES,
        left_out=tuple(BANDS_LEFT_OUT),
        left_out_if_opaque=tuple(BANDS_LEFT_OUT_IF_OPAQUE),
        training_land=TRAINING_LAND,
        least_brightness=LEAST_BRIGHTNESS,
        most_cirrus=MOST_CIRRUS,
        seed=SEED,
    )


def mask_again(scenes: Scenes, split: Split, maps: list[Path], engine: Engine) -> list[Outcome]:
    """Final masks of all products, by the maps of all samples and of the folds; what became of each."""
    filters, mask_dir = (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE), under(DATA_DIR, MASK_FINETUNED_DIR)
    how = FinalMasks(snapshot(globals()), split, maps, mask_dir, METHOD, filters, OVERWRITE)
    sources = find_sources(PIXELS, under(DATA_DIR, CSV_DIR), scenes.tiff_dir, PRODUCTS)
    jobs = [Job(name, (name, source, scenes.tiff(name), how)) for name, source in sources.items()]
    outcomes = run_jobs(create_final_mask, jobs, engine, "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    return outcomes


def suggest(scenes: Scenes, engine: Engine) -> None:
    """Rank the cloud neurons by how likely they are bright land; write table and picture, change no label."""
    from cloudsom.tuning import suggestions  # the only part that draws: matplotlib takes a second to load

    files = under(DATA_DIR, SUGGESTIONS_CSV), under(DATA_DIR, FIGURES_DIR) / "suggested_neurons.png"
    clear = clear_scenes(scenes, FINE_TUNE_PRODUCTS, CLOUD_CODES, LEFT_OUT_CODES)
    by = N_SUGGESTIONS, snapshot(globals()), engine, OVERWRITE
    raise_if_any_failed(suggestions.suggest(files, step_files(globals(), *STEP_FILES), clear, scenes.tiff_dir, *by))


if __name__ == "__main__":
    run(main, globals())
