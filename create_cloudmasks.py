"""Step 9: cloud masks.

Every pixel's spectrum is scaled like the training spectra and falls on its best matching unit; the label of that neuron
is the pixel's: cloud or clear (paper, section 2.2, stage 2: the masks called SOM1).

    python create_cloudmasks.py
    python create_cloudmasks.py --CLASS_MAPS --CONFIDENCE
    python create_cloudmasks.py --MODEL_NPZ SOM_model.npz                 one plain file, from whomever, for the three
    python create_cloudmasks.py --MODEL_NPZ neuron_labels_finetuned.npz   a fine-tuned map on new scenes, unfiltered

reads   CSV_DIR/NAME_converted.csv     step 8's tables (or, with PIXELS = "tiff", the images themselves)
        TIFF_DIR/NAME.tif              step 7's images, for size and georeference
        SCALER_FILE, SOM_FILE, NEURON_LABELS_CSV  steps 2, 3 and 5; or MODEL_NPZ, which is all three
writes  MASK_DIR/NAME_mask.tif         uint8: 255 cloud, 0 clear, 1 nodata
        MASK_DIR/NAME_classes.tif      optional, uint8: 10..60 as in the spectra database, 0 nodata or no class
        MASK_DIR/NAME_confidence.tif   optional, float32, two bands: share of the winning class in the votes of the
                                       pixel's neuron; distance of the spectrum to the neuron's weights (scaled units)

The tag METHOD of a mask says whether it comes from the three files (SOM1) or from which MODEL_NPZ. Sub-maps of a
fine-tuned map decide on cloud or clear; class and confidence stay those of the neuron.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, NO_CLASS
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.files.stores import Snapshot
from cloudsom.images.pixels import find_sources, grid_of_scene
from cloudsom.images.rasters import Grid, RasterWriter, write_layer, write_mask
from cloudsom.masking.labelling import label_pixels, shares
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.som import labelled_map
from cloudsom.som.bmu import BMUs
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import NeuronLabels

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
CSV_DIR = "csv"  # step 8's tables
TIFF_DIR = "tiff"  # step 7's images
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
MODEL_NPZ: str | None = None  # one plain file instead of these three: step 5's, or fine_tuning.py's with its sub-maps
MASK_DIR = "masks"  # one mask an image
PRODUCTS: list[str] = []  # names of the products to mask; none named: all in CSV_DIR (or TIFF_DIR)

# source
PIXELS: Literal["csv", "tiff"] = "csv"
# tiff: take the spectra from the images; step 8 and its tables are not needed, the masks are the same

# running
CLASS_MAPS = False  # write NAME_classes.tif too
CONFIDENCE = False  # write NAME_confidence.tif too
WORKERS = 0  # processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m, 0.9 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


Model = dict[str, Path]  # files of a trained and labelled map by role: three of them, or MODEL_NPZ


@dataclass(frozen=True)
class MaskJob:
    """All that masking one product takes; fit to send to a worker."""

    settings: Snapshot
    source: Path
    tiff: Path
    trained: Model
    mask_dir: Path
    class_map: bool
    confidence: bool
    overwrite: bool

    def file(self, kind: str) -> Path:
        """The product's layer of a kind: mask, classes or confidence."""
        return self.mask_dir / f"{self.tiff.stem}_{kind}.tif"


def main() -> None:
    trained = model_files()
    settings = snapshot(globals())
    stores.recipe(settings, trained)  # so that a mistake in the model is told once, here, and not by every product
    load_model(trained)
    tiff_dir, mask_dir = under(DATA_DIR, TIFF_DIR), under(DATA_DIR, MASK_DIR)
    jobs = []
    for name, source in find_sources(PIXELS, under(DATA_DIR, CSV_DIR), tiff_dir, PRODUCTS).items():
        tiff = tiff_dir / f"{name}.tif"
        job = MaskJob(settings, source, tiff, trained, mask_dir, CLASS_MAPS, CONFIDENCE, OVERWRITE)
        jobs.append(Job(name, (job,)))
    outcomes = run_jobs(create_masks, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def model_files() -> Model:
    """The files of the map that the constants name."""
    if MODEL_NPZ is not None:
        return {"MODEL_NPZ": existing(DATA_DIR, MODEL_NPZ, "run step 5 (labeling.py), or give the file you were sent")}
    return {
        "SCALER_FILE": existing(DATA_DIR, SCALER_FILE, "run step 2 (data_preprocessing.py)"),
        "SOM_FILE": existing(DATA_DIR, SOM_FILE, "run step 3 (SOM_training.py)"),
        "NEURON_LABELS_CSV": existing(DATA_DIR, NEURON_LABELS_CSV, "run step 5 (labeling.py)"),
    }


def load_model(trained: Model) -> LabelledMap:
    """The labelled map in these files."""
    if "MODEL_NPZ" in trained:
        return labelled_map.load(trained["MODEL_NPZ"])
    return labelled_map.from_steps(trained["SCALER_FILE"], trained["SOM_FILE"], trained["NEURON_LABELS_CSV"])


def method(trained: Model, som: LabelledMap) -> str:
    """What a mask's tags say of where it comes from."""
    if "MODEL_NPZ" not in trained:
        return "SOM1"
    return f"map of {trained['MODEL_NPZ'].name} ({len(som.submaps)} sub-maps), unfiltered"


def create_masks(job: MaskJob) -> str:
    """Write one product's mask and optional layers; returns a line of summary."""
    grid = grid_of_scene(job.source, job.tiff)
    made_by = stores.recipe(job.settings, {job.source.name: job.source, job.tiff.name: job.tiff} | job.trained)
    kinds = ["mask"] + ["classes"] * job.class_map + ["confidence"] * job.confidence
    if done := stores.up_to_date([job.file(kind) for kind in kinds], made_by, job.overwrite):
        return done
    som = load_model(job.trained)
    tags = {"PRODUCT": job.tiff.stem, "METHOD": method(job.trained, som)}
    mask = np.empty(grid.width * grid.height, np.uint8)
    classes = np.empty_like(mask) if job.class_map else None
    with ExitStack() as stack:
        if job.confidence:
            product = stack.enter_context(stores.product(job.file("confidence"), made_by))
            layer = stack.enter_context(confidence_writer(product.partial, grid, tags))
        for part, bmus, labels in label_pixels(job.source, job.tiff, som, job.confidence):
            mask[part] = labels
            if classes is not None:
                classes[part] = np.where(bmus.index < 0, np.uint8(NO_CLASS), som.labels.classes[bmus.index])
            if job.confidence:
                layer.append(confidences(bmus, som.labels))
    if classes is not None:
        with stores.product(job.file("classes"), made_by) as product:
            write_class_map(product.partial, classes.reshape(grid.height, grid.width), grid, tags)
    with stores.product(job.file("mask"), made_by) as product:
        write_mask(product.partial, mask.reshape(grid.height, grid.width), grid, tags=tags)
        product.results |= shares(mask)
        product.results["summary"] = (
            f"{mask.size:,} pixels; cloud {product.results['cloud_share']:.2%} of those with data, "
            f"{product.results['nodata_share']:.2%} without data"
        )
    return f"{job.file('mask')}: {product.results['summary']}"


def write_class_map(place: Path, classes: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The class (height, width) of each pixel's neuron, in the paper's colours; 0 without data or without a class."""
    codes = {"CODES": ", ".join(f"{code} {text}" for code, text in CLASSES.items())}
    colours = {code: hex_to_rgb(colour) for code, colour in CLASS_COLOURS.items()}
    write_layer(place, classes, grid, nodata=NO_CLASS, descriptions=["class"], tags=tags | codes, colours=colours)


def confidence_writer(place: Path, grid: Grid, tags: dict[str, str]) -> RasterWriter:
    """A writer for two bands: share of the winning class in the votes of a pixel's neuron, distance to that neuron."""
    names = ["share of the winning class in the neuron's votes", "distance to the BMU (scaled units)"]
    return RasterWriter(place, grid, np.float32, 2, nodata=np.nan, descriptions=names, tags=tags)


def confidences(bmus: BMUs, labels: NeuronLabels) -> NDArray[np.float32]:
    """The two values (n, 2) of each pixel; NaN without data."""
    values = np.full((len(bmus.index), 2), np.nan, dtype=np.float32)
    valid = bmus.index >= 0
    values[valid, 0] = labels.share[bmus.index[valid]]
    values[:, 1] = bmus.distance
    return values


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """'#0066CC' as three numbers."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue


if __name__ == "__main__":
    run(main, globals())
