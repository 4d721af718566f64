"""Step 8: the spectrum of every pixel of an image, as a table.

Digital numbers become top-of-atmosphere reflectance, (DN + RADIO_ADD_OFFSET) / QUANTIFICATION_VALUE, with both taken
from the image's own metadata.

    python convert_image_to_csv.py
    python convert_image_to_csv.py --PRODUCTS S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024

reads   TIFF_DIR/NAME.tif           step 7's 13-band images
writes  CSV_DIR/NAME_converted.csv  one row a pixel, row by row from the top: reflectance in B1..B12, B8a after B8;
                                    `nan` in every band of a pixel without data
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.files import stores
from cloudsom.files.places import under, visible
from cloudsom.files.stores import Snapshot
from cloudsom.images.pixels import spectra_of
from cloudsom.images.rasters import open_scene
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TIFF_DIR = "tiff"  # step 7's images
PRODUCTS: list[str] = []  # names of the products to convert; none named: all in TIFF_DIR

# outputs (relative to DATA_DIR)
CSV_DIR = "csv"  # one table an image

# running
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m or 10 m
DASK_SCHEDULER: str | None = None  # address of a running Dask scheduler (tcp://host:8786)
# the jobs run on its workers instead, which reach DATA_DIR under the same path or URL
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    tiff_dir, csv_dir = under(DATA_DIR, TIFF_DIR), under(DATA_DIR, CSV_DIR)
    tiffs = choose_products({f.stem: f for f in visible(tiff_dir.glob("*.tif"))}, PRODUCTS, tiff_dir, "run step 7")
    settings = snapshot(globals())
    jobs = [Job(name, (settings, tiff, csv_dir / f"{name}_converted.csv", OVERWRITE)) for name, tiff in tiffs.items()]
    outcomes = run_jobs(convert, jobs, Engine(WORKERS, DASK_SCHEDULER, DATA_DIR), "converting")
    for summary in results_or_errors(outcomes):
        print(summary)
    raise_if_any_failed(outcomes)


def convert(settings: Snapshot, tiff: Path, csv_file: Path, overwrite: bool) -> str:
    """Write one image's pixel table; returns a line of summary."""
    made_by = stores.recipe(settings, {tiff.name: tiff})
    if done := stores.up_to_date([csv_file], made_by, overwrite):
        return done
    counts = {"pixels": 0, "nodata": 0}
    with open_scene(tiff) as scene, stores.product(csv_file, made_by) as product:
        written = csv_tables.write_pixels(product.partial, counted(spectra_of(scene), counts))
        product.results |= counts | {"rounded_values": written.rounded}
        product.results["summary"] = (
            f"{counts['pixels']:,} pixels; {counts['nodata'] / counts['pixels']:.2%} without data; "
            f"offset {scene.info.tags['RADIO_ADD_OFFSET']}, quantification {scene.info.quantification:g}"
        )
        if written.rounded:  # with a quantification of 10000 never
            product.results["summary"] += f"; {written.rounded:,} values are rounded to 4 decimals"
    return f"{csv_file}: {product.results['summary']}"


def counted(blocks: Iterable[NDArray[np.float64]], counts: dict[str, int]) -> Iterator[NDArray[np.float64]]:
    """The same blocks (n, 13) of reflectance; `counts` grows with them."""
    for spectra in blocks:
        counts["pixels"] += len(spectra)
        counts["nodata"] += int(np.isnan(spectra[:, 0]).sum())
        yield spectra


if __name__ == "__main__":
    run(main, globals())
