"""The layers beside a mask: classes and cloud probability as GeoTIFFs."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, NO_CLASS
from cloudsom.images.rasters import Grid, write_layer
from cloudsom.som.committee import PROBABILITY_NODATA


def write_class_map(place: Path, classes: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The class (height, width) of each pixel, in the paper's colours; 0 without data or without a class."""
    codes = {"CODES": ", ".join(f"{code} {text}" for code, text in CLASSES.items())}
    colours = {code: hex_to_rgb(colour) for code, colour in CLASS_COLOURS.items()}
    write_layer(place, classes, grid, nodata=NO_CLASS, descriptions=["class"], tags=tags | codes, colours=colours)


def write_probability(place: Path, per_cent: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The share of the maps that say cloud (height, width), 0..100; 255 without data."""
    meaning = {"CODES": f"0..100 per cent of the maps that say cloud, {PROBABILITY_NODATA} nodata"}
    names = ["cloud probability (%)"]
    write_layer(place, per_cent, grid, nodata=PROBABILITY_NODATA, descriptions=names, tags=tags | meaning)


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """'#0066CC' as three numbers."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue
