#!/usr/bin/env bash
# Step 7: one 13-band GeoTIFF a Sentinel-2 L1C product, on a 60 m grid.
#
#     bash gdal_commands.sh
#     bash gdal_commands.sh --RESAMPLING fast
#     PIXEL_SIZE=20 bash gdal_commands.sh
#
# reads   PRODUCTS_DIR/NAME.SAFE, NAME.SAFE.zip, NAME.zip   (zips are read as they are, nothing is extracted)
# writes  TIFF_DIR/NAME.tif   bands B01..B12 with B8A after B08; nodata, offset and quantification recorded
#
# The constants are here; environment variables of the same names go before them, and words on the command line
# (--NAME value) before both. The work is done by cloudsom/images/safe_to_tiff.py; --help lists what can be set.
set -euo pipefail

# --- constants ---------------------------------------------------------------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR=${DATA_DIR:-data}              # folder everything is read from and written to, or its URL (s3://...)
PRODUCTS_DIR=${PRODUCTS_DIR:-products}  # SAFE folders and zipped SAFE
TIFF_DIR=${TIFF_DIR:-tiff}              # one GeoTIFF a product

# grid
PIXEL_SIZE=${PIXEL_SIZE:-60}      # m: 60 as in the paper, 20 or 10; coarser bands are repeated, finer ones averaged
RESAMPLING=${RESAMPLING:-exact}   # exact: mean of all native pixels with data
# fast: 60 m only; decodes at reduced resolutions, in under a third of the time: 5 to 18 DN rms from exact, no shift
# published: the original's gdal_translate commands; their reduced-resolution level displaces the bands by
# (2^n - 1) / 2 native pixels - 15 m for 10 m bands, 10 m for 20 m bands - and mixes nodata into the swath's edge

# checks
VERIFY=${VERIFY:-True}            # compare a product's files with the checksums in its download's record or its manifest.safe

# running
WORKERS=${WORKERS:-0}             # processors to use; 0: all. A product takes one or two: under 1 GB at 60 m, 1.5 GB at 10 m
DASK_SCHEDULER=${DASK_SCHEDULER:-None}  # address of a running Dask scheduler (tcp://host:8786), whose workers do the work
OVERWRITE=${OVERWRITE:-False}     # True: make again what is finished
# --- end of constants --------------------------------------------------------------------------------------------------

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")") # where the file is, also by a link to it

# The Python of an active environment, else of the one that set-up makes, else the system's: the first that has GDAL's
# bindings, with numpy, and the other packages.
packages='from importlib.util import find_spec
from osgeo import gdal_array
assert all(map(find_spec, ("defusedxml", "numba", "scipy")))'
for python in "${VIRTUAL_ENV:-$here/.venv}/bin/python" "$here/.venv/bin/python" python3; do
    "$python" -P -c "$packages" 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    printf 'gdal_commands.sh: error: no Python here has GDAL with numpy; set up what it needs, once: bash %q\n' \
        "$(realpath --relative-to=. -- "$here")/setup_environment.sh" >&2
    exit 1
fi

# -P: modules lying about in the present folder are not imported.
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m cloudsom.images.safe_to_tiff \
    "--DATA_DIR=$DATA_DIR" "--PRODUCTS_DIR=$PRODUCTS_DIR" "--TIFF_DIR=$TIFF_DIR" "--PIXEL_SIZE=$PIXEL_SIZE" \
    "--RESAMPLING=$RESAMPLING" "--VERIFY=$VERIFY" "--WORKERS=$WORKERS" "--DASK_SCHEDULER=$DASK_SCHEDULER" \
    "--OVERWRITE=$OVERWRITE" "$@"
