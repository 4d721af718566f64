"""Step 9: cloud masks.

Every pixel's spectrum is scaled like the training spectra and falls on its best matching unit; the label of that neuron
is the pixel's: cloud or clear (paper, section 2.2, stage 2: the masks called SOM1).

    python create_cloudmasks.py
    python create_cloudmasks.py --CLASS_MAPS --CONFIDENCE
    python create_cloudmasks.py --MODEL_NPZ SOM_model.npz                 one plain file, from whomever, for the three
    python create_cloudmasks.py --MODEL_NPZ neuron_labels_finetuned.npz   a fine-tuned map on new scenes, unfiltered
    python create_cloudmasks.py --MODEL_NPZ committee.npz --PROBABILITY   several maps that vote (train_committee.sh)

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

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.images.filters import check_window
from cloudsom.images.pixels import find_sources, grid_of_scene
from cloudsom.images.rasters import Grid, raster_writer
from cloudsom.masking.labelling import bmus_of_scene, in_words
from cloudsom.masking.layers import Masking, write_layers
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot, step_files
from cloudsom.som import labelled_map
from cloudsom.som.bmu import BMUs
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
# train_committee.sh's; all the maps in them vote
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


def main() -> None:
    check_window(MEDIAN_SIZE)
    models, settings = model_files(), snapshot(globals())
    stores.recipe(settings, {}, models)  # so that a mistake in the model is told once, here, and not by every product
    check_layers(load_model(models))
    optional = {"classes": CLASS_MAPS, "probability": PROBABILITY, "confidence": CONFIDENCE}
    kinds = ["mask", *(kind for kind, wanted in optional.items() if wanted)]
    rules = (LEAST_PROBABILITY, (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE), OVERWRITE)
    masking, tiff_dir = Masking(settings, models, under(DATA_DIR, MASK_DIR), kinds, *rules), under(DATA_DIR, TIFF_DIR)
    sources = find_sources(PIXELS, under(DATA_DIR, CSV_DIR), tiff_dir, PRODUCTS)
    jobs = [Job(name, (masking, source, tiff_dir / f"{name}.tif")) for name, source in sources.items()]
    outcomes = run_jobs(create_masks, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def check_layers(maps: list[LabelledMap]) -> None:
    """UserError for a layer that these maps do not give."""
    if PROBABILITY and len(maps) == 1:
        raise UserError("PROBABILITY: one map says only yes or no; give several in MODEL_NPZ (train_committee.sh)")
    if CONFIDENCE and len(maps) > 1:
        raise UserError(f"CONFIDENCE: is of one map, there are {len(maps)}; take --PROBABILITY instead")
    if CONFIDENCE and maps[0].votes is None:
        raise UserError(f"CONFIDENCE: {MODEL_NPZ[0]} does not tell its neurons' votes; make it again (labeling.py)")


def model_files() -> dict[str, Path]:
    """The files of the maps that the constants name."""
    if MODEL_NPZ:
        advice = "run step 5 (labeling.py), or give the file you were sent"
        return labelled_map.by_role(existing(DATA_DIR, file, advice) for file in MODEL_NPZ)
    with_votes = labelled_map.STEP_FILES
    return step_files(globals(), *(with_votes if CONFIDENCE else with_votes[:-1]))


def load_model(models: Mapping[str, Path]) -> list[LabelledMap]:
    """The labelled maps in these files."""
    if "MODEL_NPZ" in models:
        return labelled_map.load_all(*models.values())
    return [labelled_map.from_steps(models)]


def method(masking: Masking, maps: list[LabelledMap]) -> str:
    """What a mask's tags say of where it comes from."""
    median, radius, _ = masking.filters
    filtered = f"median {median}, dilation {radius}" if median or radius else "unfiltered"
    if "MODEL_NPZ" not in masking.models:
        return "SOM1" if filtered == "unfiltered" else f"SOM1, {filtered}"
    names = ", ".join(file.name for file in masking.models.values())
    submaps = sum(len(som.submaps) for som in maps)
    count = "map" if len(maps) == 1 else f"{len(maps)} maps"
    return f"{count} of {names} ({submaps} sub-maps), {filtered}"


def create_masks(masking: Masking, source: Path, tiff: Path) -> str:
    """Write one product's mask and optional layers; returns a line of summary."""
    grid, files = grid_of_scene(source, tiff), masking.files(tiff.stem)
    made_by = stores.recipe(masking.settings, {source.name: source, tiff.name: tiff}, masking.models)
    if done := stores.up_to_date(list(files.values()), made_by, masking.overwrite):
        return done
    maps = load_model(masking.models)
    tags = {"PRODUCT": tiff.stem, "METHOD": method(masking, maps)}
    if "confidence" in files:
        with stores.product(files["confidence"], made_by) as product:
            write_confidence(product.partial, bmus_of_scene(source, tiff, maps[0], distance=True), maps[0], grid, tags)
    layers = masking.layers(source, tiff, maps)
    summary = in_words(layers.mask)
    write_layers(files, layers, tags, made_by, {"summary": summary})
    return f"{files['mask']}: {summary}"


def write_confidence(place: Path, blocks: Iterable[BMUs], som: LabelledMap, grid: Grid, tags: dict[str, str]) -> None:
    """Two bands: cloud share in the votes of a pixel's neuron, distance to that neuron."""
    assert som.votes is not None, "check_layers refuses such maps"
    share = cloud_share(som.votes)
    names = ["cloud share of the training spectra on the neuron (no probability)", "distance to the BMU (scaled units)"]
    with raster_writer(place, grid, np.float32, 2, nodata=np.nan, descriptions=names, tags=tags) as layer:
        for bmus in blocks:
            assert bmus.distance is not None
            shares = np.where(bmus.index < 0, np.nan, share[bmus.index])
            layer.append(np.stack([shares, bmus.distance], axis=1).astype(np.float32))


if __name__ == "__main__":
    run(main, globals())
