"""Step 9: cloud masks.

Every pixel's spectrum is scaled like the training spectra and falls on its best matching unit; the label of that neuron
is the pixel's: cloud or clear (paper, section 2.2, stage 2: the masks called SOM1).

    python create_cloudmasks.py
    python create_cloudmasks.py --CLASS_MAPS --CONFIDENCE
    python create_cloudmasks.py --MODEL_NPZ SOM_model.npz                 one plain file, from whomever, for the three
    python create_cloudmasks.py --MODEL_NPZ neuron_labels_finetuned.npz   a fine-tuned map on new scenes, unfiltered
    python create_cloudmasks.py --MODEL_NPZ committee.npz --PROBABILITY   several maps that vote (train_committee.py)

reads   CSV_DIR/NAME_converted.csv     step 8's tables (or, with PIXELS = "tiff", the images themselves)
        TIFF_DIR/NAME.tif              step 7's images, for size and georeference
        SCALER_FILE, SOM_FILE, NEURON_LABELS_CSV  steps 2, 3 and 5; or MODEL_NPZ: one map or several that vote
writes  MASK_DIR/NAME_mask.tif         uint8: 255 cloud, 0 clear, 1 nodata
        MASK_DIR/NAME_classes.tif      optional, uint8: 10..60 as in the spectra database, 0 nodata or no class
        MASK_DIR/NAME_probability.tif  optional, of several maps, uint8: per cent of them that say cloud, 255 nodata
        MASK_DIR/NAME_confidence.tif   optional, of one map, float32, two bands: share of cirrus and opaque cloud among
                                       the training spectra on the pixel's neuron, which says how pure the neuron is and
                                       is no probability; distance of the spectrum to the neuron's weights (scaled)
        *.aux.xml                      beside masks and classes, what a GIS shows: names, and clear ground transparent

The tag METHOD of a mask says whether it comes from the three files (SOM1) or from which MODEL_NPZ. Sub-maps of a
fine-tuned map decide on cloud or clear; class and confidence stay those of the neuron.
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.files.stores import Snapshot
from cloudsom.images.filters import check_window, final_mask
from cloudsom.images.pixels import find_sources, grid_of_scene
from cloudsom.images.rasters import Grid, raster_writer, write_mask
from cloudsom.masking.labelling import bmus_of_scene, in_words, layers_of_scene, shares
from cloudsom.masking.layers import LEGENDS, write_class_map, write_legend, write_probability
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som import labelled_map
from cloudsom.som.bmu import BMUs
from cloudsom.som.committee import Committee
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import cloud_share

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
CSV_DIR = "csv"  # step 8's tables
TIFF_DIR = "tiff"  # step 7's images
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's votes; read for CONFIDENCE only
MODEL_NPZ: list[str] = []  # plain files instead of these three: step 5's, fine_tuning.py's with its sub-maps, or
# train_committee.py's; all the maps in them vote
PRODUCTS: list[str] = []  # names of the products to mask; none named: all in CSV_DIR (or TIFF_DIR)

# outputs (relative to DATA_DIR)
MASK_DIR = "masks"  # one mask an image

# source
PIXELS: Literal["csv", "tiff"] = "csv"
# tiff: take the spectra from the images; step 8 and its tables are not needed, the masks are the same

# filters
LEAST_PROBABILITY = 0.5  # (0, 1] share of the maps that must say cloud; one map's word is 0 or 1. Lower:
# thin clouds are found that only some maps know, and more land is called cloud
MEDIAN_SIZE = 0  # [0, 101] pixels, odd; 0: no filter, as in the paper's SOM1. fine_tuning.py's final masks have 3
DILATION_RADIUS = 0  # [0, 100] pixels; 0: none, as in the paper's SOM1. fine_tuning.py's final masks have 1
DILATION_SHAPE: Literal["disk", "square"] = "disk"  # what is dilated by

# running
CLASS_MAPS = False  # write NAME_classes.tif too
PROBABILITY = False  # write NAME_probability.tif too; takes several maps
CONFIDENCE = False  # write NAME_confidence.tif too; of one map
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m, 0.9 GB at
# 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


Model = dict[str, Path]  # files of trained and labelled maps by role: three of one map, or those of MODEL_NPZ


@dataclass(frozen=True)
class MaskJob:
    """All that masking one product takes; fit to send to a worker. `kinds` are the layers to write, the mask first."""

    settings: Snapshot
    source: Path
    tiff: Path
    trained: Model
    mask_dir: Path
    kinds: tuple[str, ...]
    least_probability: float
    filters: tuple[int, int, str]
    overwrite: bool

    def file(self, kind: str) -> Path:
        """The product's layer of a kind: mask, classes, probability or confidence."""
        return self.mask_dir / f"{self.tiff.stem}_{kind}.tif"


def main() -> None:
    check_window(MEDIAN_SIZE)
    trained = model_files()
    settings = snapshot(globals())
    stores.recipe(settings, {}, trained)  # so that a mistake in the model is told once, here, and not by every product
    check_layers(load_model(trained))
    tiff_dir, mask_dir = under(DATA_DIR, TIFF_DIR), under(DATA_DIR, MASK_DIR)
    optional = {"classes": CLASS_MAPS, "probability": PROBABILITY, "confidence": CONFIDENCE}
    kinds = ("mask", *(kind for kind, wanted in optional.items() if wanted))
    filters = (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE)
    jobs = []
    for name, source in find_sources(PIXELS, under(DATA_DIR, CSV_DIR), tiff_dir, PRODUCTS).items():
        tiff = tiff_dir / f"{name}.tif"
        job = MaskJob(settings, source, tiff, trained, mask_dir, kinds, LEAST_PROBABILITY, filters, OVERWRITE)
        jobs.append(Job(name, (job,)))
    outcomes = run_jobs(create_masks, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def check_layers(maps: list[LabelledMap]) -> None:
    """UserError for a layer that these maps do not give."""
    if PROBABILITY and len(maps) == 1:
        raise UserError("PROBABILITY: one map says only yes or no; give several in MODEL_NPZ (train_committee.py)")
    if CONFIDENCE and len(maps) > 1:
        raise UserError(f"CONFIDENCE: is of one map, there are {len(maps)}; take --PROBABILITY instead")
    if CONFIDENCE and maps[0].votes is None:
        raise UserError(f"CONFIDENCE: {MODEL_NPZ[0]} does not tell its neurons' votes; make it again (labeling.py)")


def model_files() -> Model:
    """The files of the maps that the constants name."""
    if MODEL_NPZ:
        advice = "run step 5 (labeling.py), or give the file you were sent"
        return labelled_map.by_role(existing(DATA_DIR, file, advice) for file in MODEL_NPZ)
    with_votes = labelled_map.STEP_FILES
    return step_files(globals(), *(with_votes if CONFIDENCE else with_votes[:-1]))


def load_model(trained: Model) -> list[LabelledMap]:
    """The labelled maps in these files."""
    if "MODEL_NPZ" in trained:
        return labelled_map.load_all(*trained.values())
    return [labelled_map.from_steps(trained)]


def method(job: MaskJob, maps: list[LabelledMap]) -> str:
    """What a mask's tags say of where it comes from."""
    filtered = "unfiltered" if not any(job.filters[:2]) else f"median {job.filters[0]}, dilation {job.filters[1]}"
    if "MODEL_NPZ" not in job.trained:
        return "SOM1" if filtered == "unfiltered" else f"SOM1, {filtered}"
    names = ", ".join(file.name for file in job.trained.values())
    submaps = sum(len(som.submaps) for som in maps)
    count = "map" if len(maps) == 1 else f"{len(maps)} maps"
    return f"{count} of {names} ({submaps} sub-maps), {filtered}"


def create_masks(job: MaskJob) -> str:
    """Write one product's mask and optional layers; returns a line of summary."""
    grid = grid_of_scene(job.source, job.tiff)
    made_by = stores.recipe(job.settings, {job.source.name: job.source, job.tiff.name: job.tiff}, job.trained)
    if done := stores.up_to_date([job.file(kind) for kind in job.kinds], made_by, job.overwrite):
        return done
    maps = load_model(job.trained)
    tags = {"PRODUCT": job.tiff.stem, "METHOD": method(job, maps)}
    for kind in LEGENDS.keys() & job.kinds:
        write_legend(job.file(kind), LEGENDS[kind])
    if "confidence" in job.kinds:
        with stores.product(job.file("confidence"), made_by) as product:
            write_confidence(product.partial, job, maps[0], grid, tags)
    with_classes = "classes" in job.kinds
    layers = layers_of_scene(job.source, job.tiff, Committee(maps), job.least_probability, with_classes)
    if layers.classes is not None:
        with stores.product(job.file("classes"), made_by) as product:
            write_class_map(product.partial, layers.classes, grid, tags)
    if "probability" in job.kinds:
        with stores.product(job.file("probability"), made_by) as product:
            write_probability(product.partial, layers.probability, grid, tags)
    mask = final_mask(layers.mask, *job.filters)
    with stores.product(job.file("mask"), made_by) as product:
        write_mask(product.partial, mask, grid, tags=tags)
        product.results |= shares(mask)
        product.results["summary"] = in_words(mask)
    return f"{job.file('mask')}: {product.results['summary']}"


def write_confidence(place: Path, job: MaskJob, som: LabelledMap, grid: Grid, tags: dict[str, str]) -> None:
    """Two bands: cloud share in the votes of a pixel's neuron, distance to that neuron."""
    assert som.votes is not None, "check_layers refuses such maps"
    share = cloud_share(som.votes)
    names = ["cloud share of the training spectra on the neuron (no probability)", "distance to the BMU (scaled units)"]
    with raster_writer(place, grid, np.float32, 2, nodata=np.nan, descriptions=names, tags=tags) as layer:
        for bmus in bmus_of_scene(job.source, job.tiff, som, distance=True):
            layer.append(confidences(bmus, share))


def confidences(bmus: BMUs, share: NDArray[np.float64]) -> NDArray[np.float32]:
    """The two values (n, 2) of each pixel; NaN without data."""
    values = np.full((len(bmus.index), 2), np.nan, dtype=np.float32)
    valid = bmus.index >= 0
    values[valid, 0] = share[bmus.index[valid]]
    values[:, 1] = bmus.distance
    return values


if __name__ == "__main__":
    run(main, globals())
