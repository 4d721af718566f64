"""Step 9: cloud masks.

Every pixel's spectrum is scaled like the training spectra and falls on its best matching unit; the label of that neuron
is the pixel's: cloud or clear (paper, section 2.2, stage 2: the masks called SOM1).

    python create_cloudmasks.py
    python create_cloudmasks.py --CLASS_MAPS --CONFIDENCE

reads   CSV_DIR/NAME_converted.csv     step 8's tables (or, with PIXELS = "tiff", the images themselves)
        TIFF_DIR/NAME.tif              step 7's images, for size and georeference
        SCALER_FILE, SOM_FILE, NEURON_LABELS_CSV  steps 2, 3 and 5
writes  MASK_DIR/NAME_mask.tif         uint8: 255 cloud, 0 clear, 1 nodata
        MASK_DIR/NAME_classes.tif      optional, uint8: 10..60 as in the spectra database, 0 nodata or no class
        MASK_DIR/NAME_confidence.tif   optional, float32, two bands: share of the winning class in the votes of the
                                       pixel's neuron; distance of the spectrum to the neuron's weights (scaled units)
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom import model, stores
from cloudsom.bands import CLASS_COLOURS, CLASSES, CLOUD, MASK_NODATA, NO_CLASS
from cloudsom.bmu import BMUs, BMUSearch
from cloudsom.errors import UserError
from cloudsom.jobs import Engine, Job, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.pixels import find_sources, grid_of_scene, spectra_blocks
from cloudsom.rasters import Grid, RasterWriter, write_layer, write_mask
from cloudsom.settings import Snapshot, existing, path, run, snapshot

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to
CSV_DIR = "csv"  # step 8's tables
TIFF_DIR = "tiff"  # step 7's images
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
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
# the jobs run on its workers instead, which see DATA_DIR under the same path
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """Where the files of a trained and labelled map are."""

    scaler_file: Path
    som_file: Path
    neuron_labels_csv: Path


def main() -> None:
    trained = Model(
        existing(DATA_DIR, SCALER_FILE, "run step 2 (data_preprocessing.py)"),
        existing(DATA_DIR, SOM_FILE, "run step 3 (SOM_training.py)"),
        existing(DATA_DIR, NEURON_LABELS_CSV, "run step 5 (labeling.py)"),
    )
    settings = snapshot(globals())
    stores.recipe(settings, vars(trained))  # a mistake in the model is told once, not once a product
    load_model(trained)
    tiff_dir, mask_dir = path(DATA_DIR, TIFF_DIR), path(DATA_DIR, MASK_DIR)
    jobs = [
        Job(name, (settings, source, tiff_dir / f"{name}.tif", trained, mask_dir, CLASS_MAPS, CONFIDENCE, OVERWRITE))
        for name, source in find_sources(PIXELS, path(DATA_DIR, CSV_DIR), tiff_dir, PRODUCTS).items()
    ]
    outcomes = run_jobs(create_masks, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def load_model(trained: Model) -> tuple[Any, NDArray[np.float64], model.LabelledMap]:
    """Scaler, weights (rows, columns, 13) and neuron labels, checked to belong together."""
    scaler = model.load_scaler(trained.scaler_file)
    weights = model.load_som(trained.som_file).get_weights()
    labels = model.read_neuron_labels(trained.neuron_labels_csv)
    model.check_same_map(trained.som_file, weights.shape, trained.neuron_labels_csv, labels.rows, labels.columns)
    return scaler, weights, labels


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
    inputs = {
        source.name: source,
        tiff.name: tiff,
        "SCALER_FILE": trained.scaler_file,
        "SOM_FILE": trained.som_file,
        "NEURON_LABELS_CSV": trained.neuron_labels_csv,
    }
    made_by = stores.recipe(settings, inputs)
    name = tiff.stem
    mask_file = mask_dir / f"{name}_mask.tif"
    extra = [mask_dir / f"{name}_classes.tif"] * class_maps + [mask_dir / f"{name}_confidence.tif"] * confidence
    records = [stores.finished(product, made_by, overwrite) for product in (mask_file, *extra)]
    if all(records):
        return f"{mask_file}: is up to date; {records[0]['results']['summary']}"  # type: ignore[index]
    scaler, weights, labels = load_model(trained)
    tags = {"PRODUCT": name, "METHOD": "SOM1"}
    mask = np.empty(grid.width * grid.height, np.uint8)
    classes = np.empty_like(mask) if class_maps else None
    with ExitStack() as stack:
        if confidence:
            product = stack.enter_context(stores.product(mask_dir / f"{name}_confidence.tif", made_by))
            layer = stack.enter_context(confidence_writer(product.partial, grid, tags))
        for part, bmus in find_bmus(source, tiff, grid, scaler, weights, confidence):
            without = bmus.index < 0
            mask[part] = np.where(without, np.uint8(MASK_NODATA), labels.cloud[bmus.index])
            if classes is not None:
                classes[part] = np.where(without, np.uint8(NO_CLASS), labels.classes[bmus.index])
            if confidence:
                layer.append(confidences(bmus, labels))
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


def find_bmus(
    source: Path, tiff: Path, grid: Grid, scaler: Any, weights: NDArray[np.float64], with_distance: bool
) -> Iterator[tuple[slice, BMUs]]:
    """The BMUs of an image's pixels a block at a time, and where in row-major order the block stands.

    Raises UserError where a table has another number of pixels than the image.
    """
    search, start, size = BMUSearch(weights), 0, grid.width * grid.height
    for spectra in spectra_blocks(source, tiff):
        part = slice(start, start + len(spectra))
        if part.stop <= size:
            yield part, search(model.scale(spectra, scaler), distance=with_distance)
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
