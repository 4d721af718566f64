"""Give masks that lack a georeference the one of their image.

Masks cut or edited in a picture program, or made by other code, often come without. Each takes the georeference of the
image of the same product name in TIFF_DIR; pixels, nodata value, colour table and tags stay as they are.

    python visualization/add_georeference.py --MASK_DIR edited_masks
    python visualization/add_georeference.py --MASK_DIR edited_masks --IN_PLACE

reads   MASK_DIR/NAME*.tif               masks or other layers; NAME is the product's, whatever follows it
        TIFF_DIR/NAME.tif                step 7's images
writes  GEOREFERENCED_DIR/NAME*.tif      the same layers with georeference (IN_PLACE: in MASK_DIR itself)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from osgeo import gdal

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under, visible
from cloudsom.files.stores import Snapshot
from cloudsom.images.rasters import Grid, destroy, gdal_errors, grid_of, open_raster
from cloudsom.running.job import Job
from cloudsom.running.lock import only_run
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
MASK_DIR = "masks"  # the layers that may lack a georeference
TIFF_DIR = "tiff"  # step 7's images

# outputs (relative to DATA_DIR)
GEOREFERENCED_DIR = "masks_georeferenced"  # where the new files go

# running
IN_PLACE = False  # replace the files themselves; each is whole at every moment
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    mask_dir, tiff_dir = under(DATA_DIR, MASK_DIR), under(DATA_DIR, TIFF_DIR)
    layers = visible(mask_dir.glob("*.tif"))
    if not layers:
        raise UserError(f"{mask_dir}: holds no .tif files; give the folder of the masks as MASK_DIR")
    images = {image.stem: image for image in visible(tiff_dir.glob("*.tif"))}
    target_dir = mask_dir if IN_PLACE else under(DATA_DIR, GEOREFERENCED_DIR)
    jobs = [Job(layer.name, (snapshot(globals()), layer, images, target_dir, OVERWRITE)) for layer in layers]
    with only_run([target_dir] if IN_PLACE else [], Path(__file__).name):
        outcomes = run_jobs(georeference, jobs, Engine(1), "georeferencing")
    for line in results_or_errors(outcomes):
        print(line)
    raise_if_any_failed(outcomes)


def georeference(settings: Snapshot, layer: Path, images: dict[str, Path], target_dir: Path, overwrite: bool) -> str:
    """Write one layer with its image's georeference; returns a line of summary."""
    own_grid = grid_of(open_raster(layer))
    if has_georeference(own_grid):
        return f"{layer}: has a georeference already, left as it is"
    image = image_of(layer, images)
    grid = grid_of(open_raster(image))
    if not has_georeference(grid):
        raise UserError(f"{image}: has no georeference itself; run step 7 again")
    if (own_grid.width, own_grid.height) != (grid.width, grid.height):
        raise UserError(
            f"{layer}: has {own_grid.width} x {own_grid.height} pixels, {image} {grid.width} x {grid.height}; "
            "give a mask of the whole image at the same pixel size"
        )
    target = target_dir / layer.name
    if target == layer:  # somebody's own file stays one: it gets no settings file, and no step takes it for its product
        with stores.atomic(target) as partial:
            copy_with_georeference(layer, partial, grid)
        return f"{target}: georeference of {image.name}"
    made_by = stores.recipe(settings, {layer.name: layer, image.name: image})
    if done := stores.up_to_date([target], made_by, overwrite):
        return done
    with stores.product(target, made_by) as product:
        copy_with_georeference(layer, product.partial, grid)
    return f"{target}: georeference of {image.name}"


def has_georeference(grid: Grid) -> bool:
    """Whether a file says where it is: a projection, and another transform than that of bare pixels."""
    return bool(grid.projection) and grid.transform != Grid(0, 0).transform


def image_of(layer: Path, images: dict[str, Path]) -> Path:
    """The image whose name the layer's name begins with, the longest where several do; UserError if none does."""
    fitting = [name for name in images if layer.stem == name or layer.stem.startswith(f"{name}_")]
    if not fitting:
        raise UserError(f"{layer}: none of the {len(images)} images has a name it begins with; name it as its product")
    return images[max(fitting, key=len)]


def copy_with_georeference(layer: Path, target: Path, grid: Grid) -> None:
    """A copy of a GeoTIFF (any bands, types, tags) at `target`, on `grid`."""
    with gdal_errors(target, "could not be written: see that the disk has room and the folder is yours"):
        options = ["COMPRESS=DEFLATE", "TILED=YES"]
        copy = gdal.GetDriverByName("GTiff").CreateCopy(str(target.resolve()), open_raster(layer), options=options)
        copy.SetGeoTransform(grid.transform)
        copy.SetProjection(grid.projection)
        try:
            copy.FlushCache()
        finally:
            destroy(copy)


if __name__ == "__main__":
    run(main, globals())
