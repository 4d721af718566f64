"""Reference class maps: where they are, what their codes mean, and that they cover a mask's pixels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.images.rasters import Grid, read_layer

#: Codes of the reference masks (Baetens, Desjardins & Hagolle 2019).
REFERENCE_CODES = {
    0: "no data",
    1: "not used",
    2: "low clouds",
    3: "high clouds",
    4: "cloud shadows",
    5: "land",
    6: "water",
    7: "snow",
}


def find_references(reference_dir: Path) -> dict[str, Path]:
    """Reference class maps by product name; a product with two of them is an error."""
    found: dict[str, Path] = {}
    for place in sorted(reference_dir.glob("*/Classification/classification_map.tif")):
        name = place.parent.parent.name.removesuffix(".SAFE")
        if name in found:
            raise UserError(f"{place}: product {name} has another reference, {found[name]}; remove one of them")
        found[name] = place
    return found


def read_reference(reference_file: Path, mask_file: Path, mask_grid: Grid) -> NDArray[np.integer]:
    """A reference class map; UserError if it does not cover the mask's pixels or holds unknown codes."""
    reference, reference_grid = read_layer(reference_file)
    if reference.dtype.kind not in "iu":
        raise UserError(f"{reference_file}: stores {reference.dtype}, a reference has whole numbers from 0 to 7")
    difference = mask_grid.difference(reference_grid)
    if difference:
        raise UserError(f"{mask_file}: does not cover {reference_file} ({difference}); give a mask at 60 m")
    unknown = set(np.unique(reference).tolist()) - set(REFERENCE_CODES)
    if unknown:
        raise UserError(f"{reference_file}: holds the code {min(unknown)}; known are 0 to 7 (Baetens et al. 2019)")
    return reference
