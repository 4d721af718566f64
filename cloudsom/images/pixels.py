"""The spectra of a scene's pixels, from step 8's tables or from the images themselves; a block in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import N_BANDS
from cloudsom.errors import UserError
from cloudsom.files.places import visible
from cloudsom.images.rasters import Grid, Scene, open_scene, reflectance
from cloudsom.running.pool import choose_products
from cloudsom.tables import csv_tables

ROWS_AT_ONCE = 500_000  # pixels; 52 MB of float64 spectra


def find_sources(kind: str, csv_dir: Path, tiff_dir: Path, wanted: Sequence[str]) -> dict[str, Path]:
    """The file each product's spectra come from: NAME_converted.csv, or with `kind` "tiff" NAME.tif.

    All products there are, or those of `wanted`; UserError for one that is not there.
    """
    if kind == "tiff":
        images = {f.stem: f for f in visible(tiff_dir.glob("*.tif"))}
        return choose_products(images, wanted, tiff_dir, "run step 7 (gdal_commands.sh)")
    csv_files = {f.name.removesuffix("_converted.csv"): f for f in visible(csv_dir.glob("*_converted.csv"))}
    advice = "run step 8 (convert_image_to_csv.py), or take the spectra from the images with --PIXELS tiff"
    return choose_products(csv_files, wanted, csv_dir, advice)


def grid_of_scene(source: Path, tiff: Path) -> Grid:
    """The grid of a product's image; UserError where there is a table of its pixels but no image."""
    if not tiff.is_file():
        raise UserError(f"{tiff}: no such file, but there is {source}; run step 7, or remove the table")
    with open_scene(tiff) as scene:
        return scene.grid


def spectra_blocks(source: Path, tiff: Path) -> Iterator[NDArray[np.float64]]:
    """Blocks (n, 13) of reflectance in row-major order, NaN where there is no data, from a table or an image."""
    if source != tiff:
        yield from csv_tables.read_pixels(source, chunk_rows=ROWS_AT_ONCE, dtype=np.float64)
        return
    with open_scene(tiff) as scene:
        yield from spectra_of(scene)


def spectra_of(scene: Scene) -> Iterator[NDArray[np.float64]]:
    """Blocks (n, 13) of an image's reflectance in row-major order, NaN where there is no data."""
    rows = max(1, ROWS_AT_ONCE // scene.grid.width)
    for _, dn in scene.blocks():
        for top in range(0, len(dn), rows):
            yield reflectance(dn[top : top + rows], scene.info).reshape(-1, N_BANDS)


def spectra_at(source: Path, tiff: Path, pixels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Reflectance (n, 13) of some of a scene's pixels, given by their sorted flat positions in row-major order."""
    found, start = [np.empty((0, N_BANDS))], 0
    for block in spectra_blocks(source, tiff):
        here = pixels[np.searchsorted(pixels, start) : np.searchsorted(pixels, start + len(block))]
        found.append(block[here - start])
        start += len(block)
    return np.concatenate(found)
