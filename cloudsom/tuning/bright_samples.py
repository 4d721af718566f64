"""Bright samples: spectra of bright ground without cloud, from the places where users know of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.bands import BANDS, BEYOND_REFLECTANCE, CLOUD, MASK_NODATA
from cloudsom.brightness import is_bright
from cloudsom.errors import UserError
from cloudsom.images.filters import dilate
from cloudsom.images.pixels import spectra_at, spectra_blocks
from cloudsom.images.rasters import read_mask
from cloudsom.images.references import read_reference
from cloudsom.images.stripes import stripes
from cloudsom.images.vectors import Feature, pixels_marked, sidecars
from cloudsom.som.model import read_table, whole_numbers

#: Columns of bright_samples.csv: row and column counted from 0, reflectance, and which source the sample comes from.
COLUMNS = ("product", "row", "column", *BANDS, "source")

#: Where samples come from, as pixels are marked by; one named twice keeps the first of these.
REFERENCE, POLYGONS, CSV = 1, 2, 3
SOURCES = {REFERENCE: "reference", POLYGONS: "polygons", CSV: "csv"}


@dataclass(frozen=True)
class Sampling:
    """What samples are taken by; fit to send to a worker. `fine_tuning.py` gives the numbers' reasons.

    polygons, tables  where people have marked bright ground, by file; the numbers before them say which false alarms
                      of a mask are taken for it
    most_samples      of a product; more are thinned out at random, by `seed`
    """

    cloud_codes: tuple[int, ...]
    left_out_codes: tuple[int, ...]
    cloud_margin: int
    least_brightness: float
    most_cirrus: float
    polygons: dict[Path, list[Feature]]
    tables: dict[Path, pd.DataFrame]
    most_samples: int
    seed: int

    def marks(self) -> dict[str, Path]:
        """The files in which people have marked bright ground, by role."""
        return {str(file.name): file for marked in (*self.polygons, *self.tables) for file in sidecars(marked)}

    def products(self) -> set[str]:
        """The products that polygons and tables are tied to; "" stands for polygons that may lie in any."""
        tied = {feature.product for features in self.polygons.values() for feature in features}
        return tied.union(*(table["product"] for table in self.tables.values()))


def false_alarms(mask: NDArray[np.uint8], reference: NDArray[np.integer], how: Sampling) -> NDArray[np.bool_]:
    """Which pixels a mask calls cloud and its reference clear, away from the reference's clouds."""
    clouds, found = np.zeros_like(mask), np.empty(mask.shape, np.bool_)
    for rows in stripes(len(mask)):
        clouds[rows][np.isin(reference[rows], how.cloud_codes)] = CLOUD
        found[rows] = (mask[rows] == CLOUD) & ~np.isin(reference[rows], (*how.cloud_codes, *how.left_out_codes))
    return found & (dilate(clouds, how.cloud_margin, "square") != CLOUD)


def read_positions(path: Path) -> pd.DataFrame:
    """A hand-written CSV of product, row, column (counted from 0); UserError with the line for anything else."""
    table = read_table(path, ("product", "row", "column"))
    if list(table.columns) != ["product", "row", "column"]:
        raise UserError(f"{path}: has the columns {', '.join(map(str, table.columns))}; needed: product, row, column")
    if table.empty:
        raise UserError(f"{path}: names no pixels; write one a line: product, row, column")
    table[["row", "column"]] = whole_numbers(path, table, ("row", "column"))
    unnamed = np.flatnonzero(table["product"].isna())
    if len(unnamed):
        raise UserError(f"{path}: line {unnamed[0] + 2}: names no product; write product, row, column")
    table["product"] = table["product"].astype(str).str.strip().str.removesuffix(".SAFE")
    return table


def check_positions(path: Path, table: pd.DataFrame, mask: NDArray[np.uint8]) -> None:
    """UserError for the first of one product's positions that is outside its mask or has no data there."""
    for line, row, column in zip(table.index + 2, table["row"], table["column"], strict=True):
        if row >= mask.shape[0] or column >= mask.shape[1]:
            raise UserError(
                f"{path}: line {line}: row {row}, column {column} is outside the image, which has {mask.shape[0]} rows "
                f"and {mask.shape[1]} columns (counted from 0); correct it"
            )
        if mask[row, column] == MASK_NODATA:
            raise UserError(f"{path}: line {line}: row {row}, column {column} has no data; name another pixel")


def read_samples(path: Path) -> pd.DataFrame:
    """bright_samples.csv; UserError for anything else."""
    table = read_table(path, COLUMNS)
    try:
        spectra = table[list(BANDS)].to_numpy(np.float64)
    except (ValueError, TypeError):
        raise UserError(f"{path}: its reflectances are not all numbers; run fine_tuning.py again") from None
    if not np.isfinite(spectra).all():
        raise UserError(f"{path}: holds reflectances that are not finite; run fine_tuning.py again")
    if len(spectra) and np.abs(spectra).max() >= BEYOND_REFLECTANCE:
        raise UserError(f"{path}: holds {np.abs(spectra).max():g} for a reflectance, which is a fraction; correct it")
    return table


@dataclass(frozen=True)
class TunedScene:
    """The files of a product to tune on: spectra, image, SOM1 mask, and its reference where that is sampled."""

    name: str
    source: Path
    tiff: Path
    mask: Path
    reference: Path | None = None

    def inputs(self) -> dict[str, Path]:
        """What sampling reads of it, by role."""
        files = {f"mask {self.name}": self.mask, self.source.name: self.source}
        return files | ({f"reference {self.name}": self.reference} if self.reference else {})


def sample_scene(scene: TunedScene, how: Sampling) -> pd.DataFrame:
    """The bright samples of one product, in the columns of bright_samples.csv.

    What a person has marked is taken as it is; false alarms of the reference are taken where they are bright.
    """
    mask, grid = read_mask(scene.mask)
    marked = np.zeros(mask.size, np.uint8)  # 0, or the source that a pixel comes from
    for path, table in how.tables.items():
        rows = table[table["product"] == scene.name]
        check_positions(path, rows, mask)
        marked[(rows["row"] * grid.width + rows["column"]).to_numpy(np.int64)] = CSV
    features = [f for found in how.polygons.values() for f in found if f.product in ("", scene.name)]
    if features:
        inside = pixels_marked(features, grid, scene.tiff)
        marked[inside[mask.ravel()[inside] != MASK_NODATA]] = POLYGONS
    if scene.reference:
        reference = read_reference(scene.reference, scene.mask, grid)
        marked[false_alarms(mask, reference, how).ravel()] = REFERENCE
    _drop_unfit(marked, scene, how)
    pixels = np.flatnonzero(marked)
    if len(pixels) > how.most_samples:
        pixels = np.sort(np.random.default_rng(how.seed).choice(pixels, how.most_samples, replace=False))
    row, column = np.divmod(pixels, grid.width)
    spectra = spectra_at(scene.source, scene.tiff, pixels)
    source = [SOURCES[code] for code in marked[pixels]]
    values = (scene.name, row, column, *spectra.T, source)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def _drop_unfit(marked: NDArray[np.uint8], scene: TunedScene, how: Sampling) -> None:
    """Take the mark from pixels without data, and from those of the reference that are not bright.

    Their spectra are dropped, and those of the few that are chosen in the end read again: a false alarm may have
    millions of pixels. UserError where the spectra are of another number of pixels.
    """
    start = 0
    for block in spectra_blocks(scene.source, scene.tiff):
        part = marked[start : start + len(block)]
        here = np.flatnonzero(part)
        spectra = block[here]
        bright = is_bright(spectra, how.least_brightness, how.most_cirrus)
        fit = np.isfinite(spectra).all(axis=1) & ((part[here] != REFERENCE) | bright)
        part[here[~fit]] = 0
        start += len(block)
    if start != len(marked):
        raise UserError(f"{scene.source}: holds {start:,} pixels, the image {len(marked):,}; run step 8 again")


def refuse_empty(samples: pd.DataFrame, polygon_files: Sequence[Path]) -> None:
    """UserError where there is no sample at all, or none in the polygons somebody drew."""
    if polygon_files and not (samples["source"] == "polygons").any():
        names = ", ".join(str(file) for file in polygon_files)
        raise UserError(
            f"{names}: mark no pixel with data of the products to tune on; check the place and the coordinate system"
        )
    if samples.empty:
        raise UserError(
            "no bright samples: the SOM1 masks call no bright clear pixel of the references cloud; nothing is to be "
            "fine-tuned there: name other FINE_TUNE_PRODUCTS, lower LEAST_BRIGHTNESS, or give POLYGONS or SAMPLE_CSVS"
        )
