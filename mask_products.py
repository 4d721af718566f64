"""Cloud masks of products, in one command: no training, no tables, no other step.

A committee of ready-made maps votes on every pixel; the median filter and the dilation of the paper's final masks
(SOM2) follow. The maps were trained by steps 1 to 5, and fine-tuned: cloudsom/ready_made/README.md has their data,
their scores beside other processors', and what they are not good at.

    python mask_products.py S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024.SAFE.zip
    python mask_products.py archive/*.zip --OUT_DIR masks_2026
    python mask_products.py tiff/*.tif --MODEL_NPZ committee.npz

reads   PRODUCTS                           L1C products anywhere: SAFE folders, zips of them, step 7's 13-band GeoTIFFs
        MODEL_NPZ                          labelled maps (default: the ready-made ones)
writes  OUT_DIR/NAME_mask.tif              uint8: 255 cloud, 0 clear, 1 nodata
        OUT_DIR/NAME_probability.tif       uint8: per cent of the maps that say cloud, 255 nodata (of several maps)
        OUT_DIR/NAME_classes.tif           optional, uint8: 10..60 as in the spectra database, 0 nodata or no class
        OUT_DIR/NAME_quicklook.jpg         true colour, and the same with the mask's outline
        OUT_DIR/*.aux.xml                  beside masks and classes: names, and clear ground transparent, in a GIS
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

import tempfile
from pathlib import Path
from typing import Literal

from cloudsom.drawing.pictures import write_quicklook
from cloudsom.errors import UserError
from cloudsom.files import places, stores
from cloudsom.files.places import existing, input_path, under
from cloudsom.images.filters import check_window
from cloudsom.images.products import Granule, sources_at
from cloudsom.images.safe_to_tiff import check_grid, convert_granule
from cloudsom.masking.labelling import in_words
from cloudsom.masking.layers import Masking, write_layers
from cloudsom.processors import processors
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.som import labelled_map
from cloudsom.som.labelled_map import READY_MADE

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder that the other paths start from, or its URL (s3://...)
PRODUCTS: list[str] = []  # SAFE folders, zipped SAFE, 13-band GeoTIFFs, from here or DATA_DIR: at least one
MODEL_NPZ: list[str] = []  # labelled maps that vote; none named: the ready-made ones

# outputs (relative to DATA_DIR)
OUT_DIR = "cloud_masks"  # masks and quicklooks

# grid
PIXEL_SIZE = 60  # [10, 60] m: 60 as in the paper, 20 or 10; of GeoTIFFs their own
RESAMPLING: Literal["fast", "exact", "published"] = "fast"
# fast (60 m only): in a quarter of the time, for a mask that differs from exact's in 0.13 % of a product's pixels.
# exact: mean of all native pixels. published: the original's, which displaces the bands against each other

# filters
LEAST_PROBABILITY = 0.25  # (0, 1] share of the maps that must say cloud: two of the ready-made seven.
# Lower: more thin cloud, and more land called cloud. Fine-tuned maps err by missing clouds, so two that see one are
# right; chosen on places that no map was fine-tuned on (cloudsom/ready_made/README.md)
MEDIAN_SIZE = 3  # [0, 101] pixels (180 m at 60 m), odd; 1 or 0: none. Removes single pixels, more often roofs than
# clouds
DILATION_RADIUS = 1  # [0, 100] pixels (60 m at 60 m); 0: none. Covers the mixed pixels at a cloud's edge
DILATION_SHAPE: Literal["disk", "square"] = "disk"  # what is dilated by

# checks
VERIFY = True  # compare a product's files with the checksums in its download's record, or else in its manifest.safe
# damaged images may decode without complaint; 1 to 3 s a product. What was compared is said, and kept beside the output

# running
CLASS_MAPS = False  # write NAME_classes.tif too
WORKERS = 0  # [0, 1024] processors to use; 0: all. A product takes one or two: 1.2 GB at 60 m, 2 GB at 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    check_window(MEDIAN_SIZE)
    check_grid(PIXEL_SIZE, RESAMPLING)
    models = [existing(DATA_DIR, file, "give a file of labelled maps") for file in MODEL_NPZ] or READY_MADE
    n_maps = len(labelled_map.load_all(*models))
    kinds = ["quicklook", *["classes"] * CLASS_MAPS, *["probability"] * (n_maps > 1), "mask"]
    rules = (LEAST_PROBABILITY, (MEDIAN_SIZE, DILATION_RADIUS, DILATION_SHAPE), OVERWRITE)
    masking = Masking(snapshot(globals()), labelled_map.by_role(models), under(DATA_DIR, OUT_DIR), kinds, *rules)
    if not PRODUCTS:
        raise UserError("PRODUCTS: names none; give SAFE folders, zipped SAFE or 13-band GeoTIFFs")
    sources = sources_at(input_path(DATA_DIR, text) for text in PRODUCTS)
    jobs = [Job(name, (masking, name, source, (PIXEL_SIZE, RESAMPLING), VERIFY)) for name, source in sources.items()]
    outcomes = run_jobs(mask_product, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "masking")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def mask_product(masking: Masking, name: str, source: Granule | Path, grid: tuple[int, str], verify: bool) -> str:
    """Write one product's mask and what goes with it; returns a line of summary.

    source  a granule of the product, or a GeoTIFF
    grid    pixel size (m) and resampling of a granule's image
    """
    inputs = source.input_files() if isinstance(source, Granule) else {source.name: source}
    made_by, out_dir = stores.recipe(masking.settings, inputs, masking.models), masking.folder
    if done := stores.up_to_date(list(masking.files(name).values()), made_by, masking.overwrite):
        return done
    if not isinstance(source, Granule):
        return mask_image(masking, name, source, made_by, "image taken as it is")
    places.make_folder(out_dir)
    with tempfile.TemporaryDirectory(prefix=".", dir=None if places.is_remote(out_dir) else out_dir) as folder:
        tiff = Path(folder) / f"{name}.tif"
        facts = convert_granule(source, tiff, *grid, min(2, processors()), verify)
        return mask_image(masking, name, tiff, made_by, facts["verified"])


def mask_image(masking: Masking, name: str, tiff: Path, made_by: stores.Recipe, verified: str) -> str:
    """Write the outputs of an image, the mask last; returns a line of summary."""
    maps, files = labelled_map.load_all(*masking.models.values()), masking.files(name)
    layers = masking.layers(tiff, tiff, maps)
    summary = f"{in_words(layers.mask)}; {verified}"
    names = ", ".join(file.name for file in masking.models.values())
    median, radius, shape = masking.filters
    tags = {
        "PRODUCT": name,
        "METHOD": f"{len(maps)} maps of {names}, cloud from {masking.least_probability:g} of their votes on, median "
        f"{median}, dilation {radius} {shape}",
    }
    with stores.product(files["quicklook"], made_by) as product:
        write_quicklook(product.partial, tiff, layers.mask)
    write_layers(files, layers, tags, made_by, {"verified": verified, "summary": summary})
    return f"{files['mask']}: {summary}"


if __name__ == "__main__":
    run(main, globals())
