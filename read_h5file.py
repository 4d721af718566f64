"""Step 1: from the spectra database (HDF5) to spectra tables (CSV).

The database holds labelled Sentinel-2 spectra (Hollstein et al. 2016, doi 10.3390/rs8080666): 13 reflectances and one
of six classes a row. The paper trains on its 2016 and 2017 files (section 2.1).

    python read_h5file.py
    python read_h5file.py --DOWNLOAD
    python read_h5file.py --H5_FILES my_2016.h5 my_2017.h5 --DATA_DIR elsewhere

reads   H5_FILES      one or more of the published files
writes  SPECTRA_CSVS  one table a file: columns B1..B8, B8a, B9..B12 (reflectance) and label (10..60)
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cloudsom.bands import CLASSES
from cloudsom.downloads.spectra import download_spectra
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, folder_here, input_path, under
from cloudsom.progress import progress
from cloudsom.running.lock import only_run
from cloudsom.running.settings import run, snapshot
from cloudsom.tables import csv_tables
from cloudsom.tables.spectra_database import SpectraBlock, SpectraFile, open_spectra

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
H5_FILES = [  # the database's files, in the order of SPECTRA_CSVS
    "20160914_s2_manual_classification_data.h5",
    "20170710_s2_manual_classification_data.h5",
]

# outputs (relative to DATA_DIR)
SPECTRA_CSVS = ["2016_spectraSOMs.csv", "2017_spectraSOMs.csv"]  # one table for each of H5_FILES

# checks
REFLECTANCE_MIN = -0.1  # [-10, 10] fraction; the lowest an L1C product can hold (DN 0 with an offset of -1000)
REFLECTANCE_MAX = 5.0  # [-10, 100] fraction; the published files reach 2.8: above this the values are not reflectances
NON_FINITE: Literal["refuse", "drop"] = "refuse"
# refuse: a row with a NaN or infinite reflectance is an error; drop: such rows are counted and left out

# running
DOWNLOAD = False  # fetch the files of H5_FILES that are not there
SPECTRA_URL = "https://git.gfz-potsdam.de/EnMAP/sentinel2_manual_classification_clouds/-/raw/master"  # from this folder
OVERWRITE = False  # make tables again that are finished
# --- end of constants -------------------------------------------------------------------------------------------------

ROWS_AT_ONCE = 500_000  # 26 MB of float32 spectra; memory does not grow with the file


def main() -> None:
    if len(H5_FILES) != len(SPECTRA_CSVS):
        raise UserError(
            f"H5_FILES names {len(H5_FILES)} files and SPECTRA_CSVS {len(SPECTRA_CSVS)} tables; give one table a file"
        )
    for h5_name, csv_name in zip(H5_FILES, SPECTRA_CSVS, strict=True):
        if DOWNLOAD and not input_path(DATA_DIR, h5_name).exists():
            place = folder_here(under(DATA_DIR, h5_name), "DOWNLOAD")
            with only_run([place.parent], "download"):
                download_spectra(f"{SPECTRA_URL}/{Path(h5_name).name}", place)
        h5_file = existing(DATA_DIR, h5_name, "fetch it with --DOWNLOAD, or name yours with --H5_FILES")
        convert(h5_file, under(DATA_DIR, csv_name))


def convert(h5_file: Path, csv_file: Path) -> None:
    """Write one database file's spectra and labels as a table, and say what is in it."""
    made_by = stores.recipe(snapshot(globals()), {h5_file.name: h5_file})
    if done := stores.up_to_date([csv_file], made_by, OVERWRITE):
        print(done)
        return
    with (
        open_spectra(h5_file, REFLECTANCE_MIN, REFLECTANCE_MAX, NON_FINITE == "drop") as spectra_file,
        stores.product(csv_file, made_by) as product,
    ):
        rows = csv_tables.write_spectra(product.partial, read_with_progress(spectra_file))
        product.results |= {"rows": rows, "classes": spectra_file.class_counts}
        product.results |= {"non_finite_rows": spectra_file.non_finite, "summary": summary(spectra_file, rows)}
    print(f"{csv_file}: {product.results['summary']}")


def read_with_progress(spectra_file: SpectraFile) -> Iterator[SpectraBlock]:
    """The file's blocks of (spectra, labels), with a progress bar."""
    with progress(spectra_file.n_rows, f"reading {spectra_file.path.name}") as bar:
        for spectra, labels in spectra_file.blocks(ROWS_AT_ONCE):
            yield spectra, labels
            bar.update(len(spectra))


def summary(spectra_file: SpectraFile, rows: int) -> str:
    """One line: rows read, rows of each class, rows that are not finite."""
    counts = ", ".join(f"{CLASSES[code]} {n:,}" for code, n in spectra_file.class_counts.items())
    return f"{rows:,} rows read ({counts}); {spectra_file.non_finite:,} rows not finite"


if __name__ == "__main__":
    run(main, globals())
