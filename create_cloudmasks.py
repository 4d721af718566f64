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

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, CLOUD, MASK_NODATA, NO_CLASS
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.files.stores import Snapshot
from cloudsom.images.pixels import find_sources, grid_of_scene, spectra_blocks
from cloudsom.images.rasters import Grid, RasterWriter, write_layer, write_mask
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.som import model, submaps
from cloudsom.som.bmu import BMUs, BMUSearch

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

# source and layers
PIXELS = "csv"  # one of: csv, tiff
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


def main() -> None:
    trained = model_files()
    settings = snapshot(globals())
    stores.recipe(settings, trained)  # a mistake in the model is told once, not once a product
    load_model(trained)
    tiff_dir, mask_dir = under(DATA_DIR, TIFF_DIR), under(DATA_DIR, MASK_DIR)
    jobs = [
        Job(name, (settings, source, tiff_dir / f"{name}.tif", trained, mask_dir, CLASS_MAPS, CONFIDENCE, OVERWRITE))
        for name, source in find_sources(PIXELS, under(DATA_DIR, CSV_DIR), tiff_dir, PRODUCTS).items()
    ]
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


def load_model(trained: Model) -> submaps.FineTunedMap:
    """Scaler, weights and neuron labels, checked to belong together."""
    if "MODEL_NPZ" in trained:
        return submaps.load(trained["MODEL_NPZ"])
    scaler = model.load_scaler(trained["SCALER_FILE"])
    weights = model.load_som(trained["SOM_FILE"]).get_weights()
    labels = model.read_neuron_labels(trained["NEURON_LABELS_CSV"])
    model.check_same_map(trained["SOM_FILE"], weights.shape, trained["NEURON_LABELS_CSV"], labels.rows, labels.columns)
    return submaps.step_5_map(weights, scaler, labels)


def method(trained: Model, som: submaps.FineTunedMap) -> str:
    """What a mask's tags say of where it comes from."""
    if "MODEL_NPZ" not in trained:
        return "SOM1"
    return f"map of {trained['MODEL_NPZ'].name} ({len(som.submaps)} sub-maps), unfiltered"


def create_masks(
    settings: Snapshot,
    source: Path,
    tiff: Path,
    trained: Model,
    mask_dir: Path,
    class_maps: bool,
    confidence: bool,
    overwrite: bool,
) -> str:
    """Write one product's mask and optional layers; returns a line of summary."""
    grid = grid_of_scene(source, tiff)
    made_by = stores.recipe(settings, {source.name: source, tiff.name: tiff} | trained)
    name = tiff.stem
    mask_file = mask_dir / f"{name}_mask.tif"
    extra = [mask_dir / f"{name}_classes.tif"] * class_maps + [mask_dir / f"{name}_confidence.tif"] * confidence
    records = [stores.finished(product, made_by, overwrite) for product in (mask_file, *extra)]
    if all(records):
        return f"{mask_file}: is up to date; {records[0]['results']['summary']}"  # type: ignore[index]
    som = load_model(trained)
    tags = {"PRODUCT": name, "METHOD": method(trained, som)}
    mask = np.empty(grid.width * grid.height, np.uint8)
    classes = np.empty_like(mask) if class_maps else None
    with ExitStack() as stack:
        if confidence:
            product = stack.enter_context(stores.product(mask_dir / f"{name}_confidence.tif", made_by))
            layer = stack.enter_context(confidence_writer(product.partial, grid, tags))
        for part, bmus, cloud in label_pixels(source, tiff, grid, som, confidence):
            without = bmus.index < 0
            mask[part] = np.where(without, np.uint8(MASK_NODATA), cloud)
            if classes is not None:
                classes[part] = np.where(without, np.uint8(NO_CLASS), som.labels.classes[bmus.index])
            if confidence:
                layer.append(confidences(bmus, som.labels))
    if classes is not None:
        with stores.product(mask_dir / f"{name}_classes.tif", made_by) as product:
            write_class_map(product.partial, classes.reshape(grid.height, grid.width), grid, tags)
    with stores.product(mask_file, made_by) as product:
        write_mask(product.partial, mask.reshape(grid.height, grid.width), grid, tags=tags)
        product.results |= shares(mask)
        product.results["summary"] = (
            f"{mask.size:,} pixels; cloud {product.results['cloud_share']:.2%} of those with data, "
            f"{product.results['nodata_share']:.2%} without data"
        )
    return f"{mask_file}: {product.results['summary']}"


def label_pixels(
    source: Path, tiff: Path, grid: Grid, som: submaps.FineTunedMap, with_distance: bool
) -> Iterator[tuple[slice, BMUs, NDArray[np.uint8]]]:
    """BMUs of an image's pixels and whether they are cloud, a block at a time; and where in row-major order it stands.

    Raises UserError where a table has another number of pixels than the image.
    """
    search, start, size = BMUSearch(som.weights), 0, grid.width * grid.height
    for spectra in spectra_blocks(source, tiff):
        part = slice(start, start + len(spectra))
        if part.stop <= size:
            scaled = som.scaled(spectra)
            bmus = search(scaled, distance=with_distance)
            yield part, bmus, som.cloud(scaled, bmus.index)
        start = part.stop
    if start != size:
        raise UserError(f"{source}: holds {start:,} pixels, {tiff} has {grid.width} x {grid.height}; run step 8 again")


def write_class_map(place: Path, classes: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The class (height, width) of each pixel's neuron, in the paper's colours; 0 without data or without a class."""
    codes = {"CODES": ", ".join(f"{code} {text}" for code, text in CLASSES.items())}
    colours = {code: hex_to_rgb(colour) for code, colour in CLASS_COLOURS.items()}
    write_layer(place, classes, grid, nodata=NO_CLASS, descriptions=["class"], tags=tags | codes, colours=colours)


def confidence_writer(place: Path, grid: Grid, tags: dict[str, str]) -> RasterWriter:
    """A writer for two bands: share of the winning class in the votes of a pixel's neuron, distance to that neuron."""
    names = ["share of the winning class in the neuron's votes", "distance to the BMU (scaled units)"]
    return RasterWriter(place, grid, np.float32, 2, nodata=np.nan, descriptions=names, tags=tags)


def confidences(bmus: BMUs, labels: model.LabelledMap) -> NDArray[np.float32]:
    """The two values (n, 2) of each pixel; NaN without data."""
    values = np.full((len(bmus.index), 2), np.nan, dtype=np.float32)
    valid = bmus.index >= 0
    values[valid, 0] = labels.share[bmus.index[valid]]
    values[:, 1] = bmus.distance
    return values


def shares(mask: NDArray[np.uint8]) -> dict[str, float]:
    """Share of cloud among the pixels with data, and of pixels without."""
    nodata = int((mask == MASK_NODATA).sum())
    valid = mask.size - nodata
    cloud = int((mask == CLOUD).sum())
    return {"cloud_share": cloud / valid if valid else 0.0, "nodata_share": nodata / mask.size}


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """'#0066CC' as three numbers."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue


if __name__ == "__main__":
    run(main, globals())
