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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, input_path, under
from cloudsom.files.stores import Snapshot
from cloudsom.images import vectors
from cloudsom.images.filters import final_mask
from cloudsom.images.pixels import find_sources, grid_of_scene, spectra_blocks
from cloudsom.images.rasters import read_layer, write_mask
from cloudsom.images.references import find_references
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, choose_products, one_each, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.som import model, submaps
from cloudsom.som.bmu import BMUSearch
from cloudsom.tables import csv_tables
from cloudsom.tuning import bright_samples, correction
from cloudsom.tuning.bright_samples import ReferenceRules, Scene
from cloudsom.tuning.relabelling import Evidence

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
BRIGHT_SAMPLES_CSV = "bright_samples.csv"  # the samples
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels
FINETUNED_MAP_NPZ = "neuron_labels_finetuned.npz"  # the corrected map with its sub-maps
FLIP_TABLE_CSV = "flip_table.csv"  # what each change costs and gains
MASK_FINETUNED_DIR = "masks_finetuned"  # final masks (SOM2)
SUGGESTIONS_CSV = "suggested_neurons.csv"  # SUGGEST's table
FIGURES_DIR = "figures"  # SUGGEST's picture
PRODUCTS: list[str] = []  # names of the products to mask; none named: all in CSV_DIR (or TIFF_DIR)

# scenes
FINE_TUNE_PRODUCTS: list[str] = []  # products the samples come from
# none named: those whose reference shows no cloud; if that is none or all of them, every other product by name
TEST_PRODUCTS: list[str] = []  # products step 10 pools its scores over; none named: all that gave no samples
# naming a product in both lists scores on what was tuned on, as the paper did; the output says so
PIXELS = "csv"  # one of: csv, tiff

# samples
FROM_REFERENCE = True  # (a) take clear pixels of the reference that SOM1 calls cloud
POLYGONS: list[str] = []  # (b) vector files (GeoJSON, GPKG, Shapefile...) of bright cloud-free ground: polygons, points
# a feature with an attribute "product" holds for that product only, else for every product it lies in
SAMPLE_CSVS: list[str] = []  # (c) hand-written tables: product, row, column, both counted from 0
LEAST_BRIGHTNESS = 0.15  # reflectance, mean of B2, B3, B4; for (a) only
# vegetation, soil and water stay below at the top of the atmosphere (99 % of the clear sample spectra), sand, salt and
# roofs above. Lower: more false alarms are corrected, but those of dark ground under haze or cloud edges too
MOST_CIRRUS = 0.005  # reflectance of B10; for (a) only. Brighter pixels lie under thin cirrus, or on high plateaus
CLOUD_MARGIN = 2  # pixels (120 m) kept away from the reference's clouds, whose edges are mixed; for (a) only
CLOUD_CODES = [2, 3]  # reference codes that are cloud, as in step 10
LEFT_OUT_CODES = [0, 1]  # reference codes that say nothing: no data, not used
SAMPLES_A_PRODUCT = 50_000  # at most; more are thinned out at random

# correction
METHOD = "submaps"  # one of: flip, submaps
# flip: whole neurons become clear, as in the paper. submaps: a small map inside each contested neuron decides there
MIN_SAMPLES = 5  # samples on a neuron; fewer are strays: a ship, a boat's wake, an error of the reference
MIN_SAMPLE_SHARE = 0.0  # share of all samples that must fall on a neuron before it is changed
MAX_CLOUD_LOSS = 0.005  # share of the training cloud spectra that all changes together may lose
# half a point of recall; what does not fit is refused, the dearest first. 1.0: no limit, as in the paper
FLIP_NEURONS: list[str] = []  # neurons to flip whatever they cost, each as row,column counted from 0

# sub-maps
SUBMAP_SIZE = 8  # sub-neurons a side; from 6 to 12 the results differ by no more than from seed to seed
SUBMAP_STEPS = 20_000  # training steps, half of them on either side; 300 a sub-neuron
COPY_FACTORS = [1.25, 1.5]  # copies of each sample as the same ground looks in stronger light or of higher albedo
# the part of the spectrum above dark ground is multiplied; empty: no copies, sub-maps only where samples fall. Without
# copies ground brighter than the sampled stays cloud; larger factors reach brighter ground, and lose grey low clouds
TRAINING_LAND = 2000  # spectra of bright dry land from the training table that are copied too; 0: none
# they show other kinds of ground than the samples'; what they cost and gain is in benchmarks/fine_tuning_study.py
MIN_CLOUD = 5  # training cloud spectra; a neuron with fewer is flipped, there is nothing to split it by
MIN_CLOUD_FOR_COPIES = 100  # training cloud spectra a neuron needs before copies alone may split it
MIN_LAND_VOTES = 5  # training spectra of land that have a cloud neuron split though no sample falls on it
# there the map itself says that it mixes land with clouds: on the held-out sample scene this takes the false alarms on
# bright ground from half to a twentieth, for a hundredth of a point of recall. 0: only samples and copies count
CLEAR_SHARE = 0.95  # share of the votes that makes a sub-neuron clear, both sides having equal weight
# 0.5: as many clouds lost as bright land missed; more: in doubt it is cloud
SHRINKAGE = 0.3  # of the bands' correlations within a neuron towards none; 13 bands are far from independent
SEPARATION = 8.0  # how much more than others the direction from clouds to bright land counts; 1: as much
BANDS_LEFT_OUT = ["B9"]  # water vapour: tells of the sample's weather, not of its ground
BANDS_LEFT_OUT_IF_OPAQUE = ["B10"]  # cirrus band, left out too unless the neuron's class is cirrus
# sand and low clouds are equally dark in B10, so on opaque neurons it only tells high clouds of the training from sand
SEED = 0  # of the sub-maps and of thinning out

# filters
MEDIAN_SIZE = 3  # pixels (180 m at 60 m), odd; 0: no filter
# removes single pixels and pairs, which are more often roofs than clouds; 5 takes small cumulus with them: a point of
# recall on the sample scene
DILATION_RADIUS = 1  # pixels (60 m); 0: none
# covers the mixed pixel at a cloud's edge: two points of recall for 0.4 % of the clear pixels of a scene full of small
# clouds; 2 pixels give half a point more for 1.1 %
DILATION_SHAPE = "disk"  # one of: disk, square

# running
SUGGEST = False  # rank the cloud neurons by how likely they are bright land, and end
N_SUGGESTIONS = 15  # neurons that are printed and outlined in the picture
WORKERS = 0  # processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m, 1 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


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


def main() -> None:
    check_constants()
    sources = find_sources(PIXELS, under(DATA_DIR, CSV_DIR), under(DATA_DIR, TIFF_DIR), [])
    references = find_references(under(DATA_DIR, REFERENCE_DIR))
    if SUGGEST:
        suggest(sources, references)
        return
    split = choose_split(sources, references)
    print(split)
    samples_csv, split = sample(split, sources, references)
    tuned_npz = correct(samples_csv, split)
    masked = mask_again(tuned_npz, split, choose_products(sources, PRODUCTS, under(DATA_DIR, CSV_DIR), "run step 8"))
    raise_if_any_failed(one_each(split.failed, masked))


def check_constants() -> None:
    """UserError for values that make no sense, before anything is read."""
    for name in ("LEAST_BRIGHTNESS", "MIN_SAMPLE_SHARE", "MAX_CLOUD_LOSS", "CLEAR_SHARE", "SHRINKAGE"):
        if not 0 <= globals()[name] <= 1:
            raise UserError(f"{name}: {globals()[name]} is outside 0..1")
    at_least_1: tuple[str, ...] = ("MIN_SAMPLES", "MIN_CLOUD", "MIN_CLOUD_FOR_COPIES", "SUBMAP_SIZE", "SUBMAP_STEPS")
    at_least_1 += ("SAMPLES_A_PRODUCT", "N_SUGGESTIONS", "SEPARATION")
    at_least_0 = ("MIN_LAND_VOTES", "TRAINING_LAND", "CLOUD_MARGIN", "DILATION_RADIUS", "MEDIAN_SIZE", "SEED")
    for name, least in [(name, 1) for name in at_least_1] + [(name, 0) for name in at_least_0]:
        if globals()[name] < least:
            raise UserError(f"{name}: {globals()[name]} is too small; give {least} or more")
    if MEDIAN_SIZE > 1 and MEDIAN_SIZE % 2 == 0:
        raise UserError(f"MEDIAN_SIZE: {MEDIAN_SIZE} is even; a window needs a middle pixel: give an odd number, or 0")
    if any(factor <= 0 for factor in COPY_FACTORS):
        raise UserError(f"COPY_FACTORS: {min(COPY_FACTORS)} is not above 0")
    unknown = [band for band in (*BANDS_LEFT_OUT, *BANDS_LEFT_OUT_IF_OPAQUE) if band not in BANDS]
    if unknown or len({*BANDS_LEFT_OUT, *BANDS_LEFT_OUT_IF_OPAQUE}) == len(BANDS):
        raise UserError(f"BANDS_LEFT_OUT: {unknown[0] if unknown else 'nothing is left'}; bands are {', '.join(BANDS)}")
    if not (FROM_REFERENCE or POLYGONS or SAMPLE_CSVS or SUGGEST):
        raise UserError("no source of samples: set FROM_REFERENCE, POLYGONS or SAMPLE_CSVS")


# --- which scenes -----------------------------------------------------------------------------------------------------


def choose_split(sources: dict[str, Path], references: dict[str, Path]) -> Split:
    """The products to tune on and to score; held out from each other unless both are named."""
    there = f"{under(DATA_DIR, CSV_DIR if PIXELS == 'csv' else TIFF_DIR)}"
    for name, wanted in (("FINE_TUNE_PRODUCTS", FINE_TUNE_PRODUCTS), ("TEST_PRODUCTS", TEST_PRODUCTS)):
        choose_products(sources, wanted, Path(there), f"correct {name}")
    tune, failed = sorted(FINE_TUNE_PRODUCTS), list[Outcome]()
    if not tune:
        tune, failed = products_with_samples(sources, references)
    return Split(tune, sorted(TEST_PRODUCTS) or [name for name in sorted(sources) if name not in tune], tuple(failed))


def products_with_samples(sources: dict[str, Path], references: dict[str, Path]) -> tuple[list[str], list[Outcome]]:
    """The products to tune on where none is named: those the CSVs name, and the default split of those with references.

    Polygons alone may lie anywhere, so without other sources they are looked for in all products. Beside them, an
    outcome for each product whose reference cannot be read.
    """
    chosen = {name for table in positions().values() for name in table["product"]}
    failed: list[Outcome] = []
    if FROM_REFERENCE:
        known = [name for name in sorted(sources) if name in references]
        jobs = [Job(name, (references[name],)) for name in known]
        outcomes = run_jobs(is_cloud_free, jobs, Engine(here=True), "reading references")
        failed = [outcome for outcome in outcomes if outcome.error]
        scored = [outcome.name for outcome in outcomes if not outcome.error]
        free = [name for name, is_free in zip(scored, results_or_errors(outcomes), strict=True) if is_free]
        chosen |= set(free if 0 < len(free) < len(scored) else scored[::2])
        if not chosen:
            raise_if_any_failed(failed)
            raise UserError(
                f"{under(DATA_DIR, REFERENCE_DIR)}: has no reference of any product; run step 6, or give POLYGONS or "
                "SAMPLE_CSVS and set FROM_REFERENCE to False"
            )
    return sorted(chosen or sources), failed


def is_cloud_free(reference_file: Path) -> bool:
    """Whether a reference says something of some pixels, and of none that it is cloud."""
    reference, _ = read_layer(reference_file)
    codes = set(np.unique(reference).tolist())
    return not codes & set(CLOUD_CODES) and not codes <= set(LEFT_OUT_CODES)


def positions() -> dict[Path, pd.DataFrame]:
    """The tables in SAMPLE_CSVS by file."""
    files = [existing(DATA_DIR, name, "correct SAMPLE_CSVS") for name in SAMPLE_CSVS]
    return {file: bright_samples.read_positions(file) for file in files}


# --- samples ----------------------------------------------------------------------------------------------------------


def sample(split: Split, sources: dict[str, Path], references: dict[str, Path]) -> tuple[Path, Split]:
    """Write the bright samples of the products to tune on; the table's path, and the split without what failed."""
    tables, scenes = positions(), find_scenes(split.tune, sources, references)
    check_names(tables, split.tune, sources)
    files = [input_path(DATA_DIR, name) for name in POLYGONS]
    features = [feature for file in files for feature in vectors.read_features(file)]
    marks = {str(place.name): place for file in (*files, *tables) for place in vectors.sidecars(file)}
    samples_csv = under(DATA_DIR, BRIGHT_SAMPLES_CSV)
    made_by = stores.recipe(snapshot(globals()), inputs_of(scenes) | marks)
    record = stores.finished(samples_csv, made_by, OVERWRITE)
    if record:
        print(f"{samples_csv}: is up to date; {record['results']['summary']}")
        return samples_csv, split
    arguments = (reference_rules(), features, list(tables.items()), SAMPLES_A_PRODUCT, SEED)
    jobs = [Job(scene.name, (scene, *arguments)) for scene in scenes]
    outcomes = run_jobs(bright_samples.sample_scene, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "sampling")
    found = results_or_errors(outcomes)
    if not found:
        raise_if_any_failed(outcomes)
    good = [outcome.name for outcome in outcomes if not outcome.error]
    kept = inputs_of([scene for scene in scenes if scene.name in good]) | marks
    samples = pd.concat(found, ignore_index=True)
    refuse_empty(samples, files)
    with stores.product(samples_csv, replace(made_by, inputs={role: made_by.inputs[role] for role in kept})) as product:
        samples.to_csv(product.partial, index=False)
        counts = ", ".join(f"{source} {n:,}" for source, n in samples["source"].value_counts().items())
        product.results["summary"] = f"{len(samples):,} bright samples ({counts})"
    print(f"{samples_csv}: {product.results['summary']}")
    failed = [outcome for outcome in outcomes if outcome.error]
    return samples_csv, replace(split, tune=good, failed=(*split.failed, *failed))


def inputs_of(scenes: Sequence[Scene]) -> dict[str, Path]:
    """What sampling reads of some products, by role."""
    inputs = {f"mask {scene.name}": scene.mask for scene in scenes}
    inputs |= {scene.source.name: scene.source for scene in scenes}
    return inputs | {f"reference {scene.name}": scene.reference for scene in scenes if scene.reference}


def check_names(tables: dict[Path, pd.DataFrame], tune: Sequence[str], sources: dict[str, Path]) -> None:
    """UserError for a hand-written table that names a product which is not tuned on."""
    for file, table in tables.items():
        for name in sorted(set(table["product"]) - set(tune)):
            reason = "is not among FINE_TUNE_PRODUCTS; add it" if name in sources else "is not there; correct the name"
            raise UserError(f"{file}: names the product {name}, which {reason}")


def find_scenes(names: Sequence[str], sources: dict[str, Path], references: dict[str, Path]) -> list[Scene]:
    """The files of the products to tune on; UserError for one without a SOM1 mask."""
    mask_dir, tiff_dir = under(DATA_DIR, MASK_DIR), under(DATA_DIR, TIFF_DIR)
    masks = {f.name.removesuffix("_mask.tif"): f for f in mask_dir.glob("*_mask.tif")}
    masks = choose_products(masks, names, mask_dir, "run step 9 (create_cloudmasks.py)")
    if FROM_REFERENCE and FINE_TUNE_PRODUCTS and not (POLYGONS or SAMPLE_CSVS):
        choose_products(references, names, under(DATA_DIR, REFERENCE_DIR), "run step 6")
    return [
        Scene(name, sources[name], tiff_dir / f"{name}.tif", mask, references.get(name) if FROM_REFERENCE else None)
        for name, mask in masks.items()
    ]


def reference_rules() -> ReferenceRules:
    """The constants that say which false alarms are bright ground."""
    return ReferenceRules(tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES), CLOUD_MARGIN, LEAST_BRIGHTNESS, MOST_CIRRUS)


def refuse_empty(samples: pd.DataFrame, polygon_files: Sequence[Path]) -> None:
    """UserError where there is no sample at all, or none in the polygons somebody drew."""
    if polygon_files and not (samples["source"] == "polygons").any():
        names = ", ".join(str(file) for file in polygon_files)
        raise UserError(
            f"{names}: mark no pixel with data of the products to tune on; check the place and the coordinate system"
        )
    if samples.empty:
        raise UserError(
            "no bright samples: the SOM1 masks call no bright clear pixel of the references cloud; nothing is to be "
            "fine-tuned there: name other FINE_TUNE_PRODUCTS, lower LEAST_BRIGHTNESS, or give POLYGONS or SAMPLE_CSVS"
        )


# --- correction -------------------------------------------------------------------------------------------------------


def trained_files() -> dict[str, Path]:
    """The files of the labelled map by role."""
    files = {
        "SCALER_FILE": existing(DATA_DIR, SCALER_FILE, "run step 2 (data_preprocessing.py)"),
        "SOM_FILE": existing(DATA_DIR, SOM_FILE, "run step 3 (SOM_training.py)"),
        "NEURON_LABELS_CSV": existing(DATA_DIR, NEURON_LABELS_CSV, "run step 5 (labeling.py)"),
        "HIT_MAPS_CSV": existing(DATA_DIR, HIT_MAPS_CSV, "run step 5 (labeling.py)"),
    }
    if METHOD == "submaps" and not SUGGEST:
        advice = "run the steps before 5, or use --METHOD flip, which does without"
        files["TRAINING_CSV"] = existing(DATA_DIR, TRAINING_CSV, advice)
        files["BMUS_CSV"] = existing(DATA_DIR, BMUS_CSV, advice)
    return files


def load_som(files: dict[str, Path]) -> correction.LabelledSom:
    """Map, scaler, labels and votes, checked to belong together."""
    weights = model.load_som(files["SOM_FILE"]).get_weights()
    labels = model.read_neuron_labels(files["NEURON_LABELS_CSV"])
    votes, rows, columns = model.read_hit_maps(files["HIT_MAPS_CSV"])
    model.check_same_map(files["SOM_FILE"], weights.shape, files["NEURON_LABELS_CSV"], labels.rows, labels.columns)
    model.check_same_map(files["SOM_FILE"], weights.shape, files["HIT_MAPS_CSV"], rows, columns)
    return correction.LabelledSom(weights, model.load_scaler(files["SCALER_FILE"]), labels, votes)


def correct(samples_csv: Path, split: Split) -> Path:
    """Write the corrected labels, the corrected map and the table of prices; the map's path."""
    inputs = trained_files() | {"BRIGHT_SAMPLES_CSV": samples_csv}
    made_by = stores.recipe(snapshot(globals()), inputs)
    # Corrected labels may stand in for step 5's everywhere, so they do not count as made from other labels than those.
    made_by = replace(made_by, lineage={k: v for k, v in made_by.lineage.items() if k != "NEURON_LABELS_CSV"})
    names = (NEURON_LABELS_FINETUNED_CSV, FINETUNED_MAP_NPZ, FLIP_TABLE_CSV)
    files = [under(DATA_DIR, name) for name in names]
    records = [stores.finished(file, made_by, OVERWRITE) for file in files]
    if all(records):
        print(f"{files[0]}: is up to date; {records[0]['results']['summary']}")  # type: ignore[index]
        return files[1]
    som = load_som(inputs)
    samples = bright_samples.read_samples(samples_csv)
    training = training_of(inputs, som) if METHOD == "submaps" else None
    done = correction.correct(som, samples[list(BANDS)].to_numpy(np.float64), rules(som.labels), training)
    prices = correction.price_table(som, done, MIN_SAMPLES)
    with stores.product(files[2], made_by) as flips:
        prices.to_csv(flips.partial, index=False)
    with stores.product(files[1], made_by) as tuned:
        submaps.save(tuned.partial, done.tuned)
    with stores.product(files[0], made_by) as table:
        correction.labels_table(som, done).to_csv(table.partial, index=False)
        table.results |= {"fine_tune_products": split.tune, "test_products": split.test, "held_out": split.held_out}
        table.results["summary"] = correction.summary(done)
    print(correction.shown(prices))
    print(f"{files[0]}: {table.results['summary']}")
    if not any(d.action in (correction.FLIPPED, correction.SPLIT) for d in done.decisions):
        print("no label changed: too few samples on any cloud neuron, or all changes refused (see the table)")
    return files[1]


def training_of(files: dict[str, Path], som: correction.LabelledSom) -> correction.Training:
    """What sub-maps need of the training table; it is read twice, a piece in memory at a time."""
    on = partial(correction.training_spectra_on, files["TRAINING_CSV"], files["BMUS_CSV"], som.weights.shape)
    blocks = csv_tables.read_spectra(files["TRAINING_CSV"], dtype=np.float64) if COPY_FACTORS and TRAINING_LAND else ()
    limits = LEAST_BRIGHTNESS, MOST_CIRRUS, TRAINING_LAND, SEED
    return correction.Training(on, correction.bright_land_of(blocks, *limits))


def rules(labels: model.LabelledMap) -> correction.Rules:
    """The constants that say when a neuron is changed, and how."""
    inner = submaps.SubMapRules(SUBMAP_SIZE, SUBMAP_STEPS, CLEAR_SHARE, SHRINKAGE, SEPARATION, SEED)
    return correction.Rules(
        min_samples=MIN_SAMPLES,
        min_share=MIN_SAMPLE_SHARE,
        max_loss=MAX_CLOUD_LOSS,
        by_hand=neurons_by_hand(labels),
        submaps=inner if METHOD == "submaps" else None,
        copy_factors=tuple(COPY_FACTORS),
        min_cloud=MIN_CLOUD,
        min_cloud_for_copies=MIN_CLOUD_FOR_COPIES,
        min_land_votes=MIN_LAND_VOTES,
        left_out=tuple(BANDS_LEFT_OUT),
        left_out_if_opaque=tuple(BANDS_LEFT_OUT_IF_OPAQUE),
    )


def neurons_by_hand(labels: model.LabelledMap) -> tuple[int, ...]:
    """FLIP_NEURONS as flat positions; UserError for one that is not on the map, or not cloud."""
    found = []
    for text in FLIP_NEURONS:
        try:
            row, column = (int(word) for word in text.split(","))
        except ValueError:
            raise UserError(f"FLIP_NEURONS: {text!r} is not row,column; write for example 6,2") from None
        if not (0 <= row < labels.rows and 0 <= column < labels.columns):
            raise UserError(f"FLIP_NEURONS: {text} is not on the map of {labels.rows} x {labels.columns} (from 0)")
        neuron = row * labels.columns + column
        if labels.cloud[neuron] != CLOUD:
            raise UserError(f"FLIP_NEURONS: {text} is clear already; name a cloud neuron")
        found.append(neuron)
    return tuple(dict.fromkeys(found))


# --- final masks ------------------------------------------------------------------------------------------------------


def mask_again(tuned_npz: Path, split: Split, sources: dict[str, Path]) -> list[Outcome]:
    """Final masks of all products, each with tags that say what it was to fine-tuning; what became of each."""
    settings, tiff_dir, mask_dir = snapshot(globals()), under(DATA_DIR, TIFF_DIR), under(DATA_DIR, MASK_FINETUNED_DIR)
    jobs = []
    for name, source in sources.items():
        tags = {
            "PRODUCT": name,
            "METHOD": f"SOM2 ({METHOD})",
            "FILTERS": f"median {MEDIAN_SIZE}, dilation {DILATION_RADIUS} {DILATION_SHAPE}",
            "TUNED_ON": "yes" if name in split.tune else "no",
            "TEST": "yes" if name in split.test else "no",
        }
        filters = (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE)
        arguments = (settings, source, tiff_dir / f"{name}.tif", tuned_npz, mask_dir, tags, filters, OVERWRITE)
        jobs.append(Job(name, arguments))
    outcomes = run_jobs(create_final_masks, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    return outcomes


def create_final_masks(
    settings: Snapshot,
    source: Path,
    tiff: Path,
    tuned_npz: Path,
    mask_dir: Path,
    tags: dict[str, str],
    filters: tuple[int, int, str],
    overwrite: bool,
) -> str:
    """Write one product's final mask, and the mask before the filters; returns a line of summary."""
    grid = grid_of_scene(source, tiff)
    of_this = replace(settings, constants=settings.constants | tags)
    made_by = stores.recipe(of_this, {source.name: source, tiff.name: tiff, "FINETUNED_MAP_NPZ": tuned_npz})
    mask_file, unfiltered_file = (mask_dir / f"{tiff.stem}_{kind}.tif" for kind in ("mask", "unfiltered"))
    records = [stores.finished(file, made_by, overwrite) for file in (mask_file, unfiltered_file)]
    if all(records):
        return f"{mask_file}: is up to date; {records[0]['results']['summary']}"  # type: ignore[index]
    unfiltered = label_pixels(source, tiff, submaps.load(tuned_npz))
    if unfiltered.size != grid.width * grid.height:
        raise UserError(f"{source}: holds {unfiltered.size:,} pixels, {tiff} has another number; run step 8 again")
    unfiltered = unfiltered.reshape(grid.height, grid.width)
    mask = final_mask(unfiltered, *filters)
    with stores.product(unfiltered_file, made_by) as product:
        write_mask(product.partial, unfiltered, grid, tags=tags | {"FILTERS": "none"})
    with stores.product(mask_file, made_by) as product:
        write_mask(product.partial, mask, grid, tags=tags)
        valid = max(int((mask != MASK_NODATA).sum()), 1)
        shares = [int((layer == CLOUD).sum()) / valid for layer in (mask, unfiltered)]
        product.results |= {"cloud_share": shares[0], "cloud_share_unfiltered": shares[1]}
        text = f"cloud {shares[0]:.2%} of the pixels with data ({shares[1]:.2%} before the filters)"
        product.results["summary"] = text
    return f"{mask_file}: {product.results['summary']}"


def label_pixels(source: Path, tiff: Path, tuned: submaps.FineTunedMap) -> NDArray[np.uint8]:
    """The corrected label of every pixel, row-major; a block of spectra in memory at a time."""
    search, found = BMUSearch(tuned.weights), []
    for spectra in spectra_blocks(source, tiff):
        scaled = tuned.scaled(spectra)
        bmus = search(scaled).index
        found.append(np.where(bmus < 0, np.uint8(MASK_NODATA), tuned.cloud(scaled, bmus)))
    return np.concatenate(found)


# --- suggestions ------------------------------------------------------------------------------------------------------


def suggest(sources: dict[str, Path], references: dict[str, Path]) -> None:
    """Rank the cloud neurons by how likely they are bright land; write table and picture, change no label."""
    from cloudsom.tuning import suggestions  # the only part that draws: matplotlib takes a second to load

    files = trained_files()
    known = [name for name in sorted(sources) if name in references]
    free = sorted(FINE_TUNE_PRODUCTS) or [name for name in known if is_cloud_free(references[name])]
    sources = choose_products(sources, free, under(DATA_DIR, CSV_DIR), "correct FINE_TUNE_PRODUCTS") if free else {}
    inputs = files | {source.name: source for source in sources.values()}
    made_by = stores.recipe(snapshot(globals()), inputs)
    table_csv = under(DATA_DIR, SUGGESTIONS_CSV)
    picture = under(DATA_DIR, FIGURES_DIR) / "suggested_neurons.png"
    for file in (table_csv, picture):
        stores.finished(file, made_by, OVERWRITE)  # refuses to write over somebody's own file
    som = load_som(files)
    outcomes = count_pixels(som, sources)
    counts = results_or_errors(outcomes)
    if sources and not counts:
        raise_if_any_failed(outcomes)
    pixels = sum(counts) if counts else None
    good = {outcome.name: sources[outcome.name].name for outcome in outcomes if not outcome.error}
    made_by = replace(made_by, inputs={role: made_by.inputs[role] for role in (*files, *good.values())})
    none = np.zeros(len(som.votes), np.int64)
    weights = (som.flat - som.scaler.min_) / som.scaler.scale_
    rows, columns = som.weights.shape[:2]
    table = suggestions.rank_neurons(Evidence(som.labels.cloud, som.votes, none, none), weights, rows, columns, pixels)
    if table.empty:
        raise UserError(f"{files['NEURON_LABELS_CSV']}: no neuron is cloud; there is nothing to suggest")
    with stores.product(table_csv, made_by) as product:
        table.to_csv(product.partial, index=False)
    with stores.product(picture, made_by) as product:
        figure = suggestions.suggestion_figure(table, weights, som.votes, rows, columns, N_SUGGESTIONS)
        figure.savefig(product.partial, format="png", dpi=300, metadata={"Software": None})
    print(table.head(N_SUGGESTIONS).to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))
    scenes = f"with the cloud-free scenes {', '.join(good)}" if good else "without a cloud-free scene"
    print(f"{table_csv}, {picture}: {len(table)} cloud neurons ranked {scenes}; nothing is changed")
    print("rows and columns count from 0 in the table and on the command line, from 1 in the picture (as in the paper)")
    print("look at the picture; to accept some, run again with --FLIP_NEURONS row,column ..., or sample such ground")
    raise_if_any_failed(outcomes)


def count_pixels(som: correction.LabelledSom, sources: dict[str, Path]) -> list[Outcome]:
    """How many pixels of each of some scenes fall on each neuron, or why that cannot be said."""
    tiff_dir = under(DATA_DIR, TIFF_DIR)
    jobs = [Job(name, (som, source, tiff_dir / f"{name}.tif")) for name, source in sources.items()]
    return run_jobs(pixels_by_neuron, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "counting") if jobs else []


def pixels_by_neuron(som: correction.LabelledSom, source: Path, tiff: Path) -> NDArray[np.int64]:
    """How many of one scene's pixels fall on each neuron."""
    search, counts = BMUSearch(som.weights), np.zeros(len(som.votes), np.int64)
    for spectra in spectra_blocks(source, tiff):
        bmus = search(model.scale(spectra, som.scaler)).index
        counts += np.bincount(bmus[bmus >= 0], minlength=len(counts))
    return counts


if __name__ == "__main__":
    run(main, globals())
