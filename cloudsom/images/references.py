"""Reference class maps: where they are, what their codes mean, and that they cover a mask's pixels."""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import visible
from cloudsom.images.rasters import Grid, as_text, open_raster, read_layer

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


#: Codes that are cloud whatever the references of a run hold: one of a cloudless day has none of them.
CLOUDS = {code for code, name in REFERENCE_CODES.items() if name.endswith("clouds")}


def check_cloud_codes(codes: Collection[int], references: Iterable[Path]) -> None:
    """UserError where CLOUD_CODES holds another code than those of clouds that is in none of the references.

    They are read for such a code alone. One that cannot be read may hold any; whoever works on it says so.
    """
    unusual, held = set(codes) - CLOUDS, set[int]()
    for file in references if unusual else ():
        try:
            held |= set(np.unique(open_reference(file)[0]).tolist())
        except UserError:
            return
    if held and (missing := unusual - held):
        known = ", ".join(map(str, sorted(held)))
        raise UserError(f"CLOUD_CODES: no reference holds {min(missing)}; they hold {known}: leave it out")


def find_references(reference_dir: Path) -> dict[str, Path]:
    """Reference class maps by product name; a product with two of them is an error."""
    found: dict[str, Path] = {}
    for folder in visible(reference_dir.glob("*")):
        place = folder / "Classification" / "classification_map.tif"
        if not place.is_file():
            continue
        name = place.parent.parent.name.removesuffix(".SAFE")
        if name in found:
            raise UserError(f"{place}: product {name} has another reference, {found[name]}; remove one of them")
        found[name] = place
    return found


#: Tag of a reference that says whose labels it has.
LABELS_TAG = "LABELS"

#: Whose labels the published references have (Baetens et al. 2019): drawn by people, spread by active learning.
PUBLISHED = "a person's, spread by active learning (Baetens et al. 2019)"


def labels_of(name: str, reference_file: Path, archive: Path) -> str:
    """Whose labels a reference has: what its tag says, or that it is one of the published `archive`; else empty.

    The archive's record, which step 6 writes, lists the files that came out of it with their sizes.
    """
    tag = as_text(open_raster(reference_file).GetMetadataItem(LABELS_TAG) or "")
    if tag:
        return " ".join(tag.split())[:200]
    scenes = (stores.read_record(archive) or {}).get("scenes") or {}
    files = scenes.get(name, {}).get("files", {})
    inside = "/".join(reference_file.parts[-2:])
    return PUBLISHED if files.get(inside) == reference_file.stat().st_size else ""


def open_reference(reference_file: Path) -> tuple[NDArray[np.integer], Grid]:
    """A reference class map and its grid; UserError if it holds unknown codes."""
    reference, grid = read_layer(reference_file)
    if reference.dtype.kind not in "iu":
        raise UserError(f"{reference_file}: stores {reference.dtype}, a reference has whole numbers from 0 to 7")
    unknown = set(np.unique(reference).tolist()) - set(REFERENCE_CODES)
    if unknown:
        raise UserError(f"{reference_file}: holds the code {min(unknown)}; known are 0 to 7 (Baetens et al. 2019)")
    return reference, grid


def read_reference(reference_file: Path, mask_file: Path, mask_grid: Grid) -> NDArray[np.integer]:
    """A reference class map; UserError if it does not cover the mask's pixels or holds unknown codes."""
    reference, reference_grid = open_reference(reference_file)
    check_cover(reference_file, reference_grid, mask_file, mask_grid)
    return reference


def check_cover(reference_file: Path, reference_grid: Grid, mask_file: Path, mask_grid: Grid) -> None:
    """UserError if a mask of ours has other pixels than the reference."""
    if difference := mask_grid.difference(reference_grid):
        raise UserError(f"{mask_file}: does not cover {reference_file} ({difference}); give a mask at 60 m")
