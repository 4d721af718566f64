"""What labelled maps say of every pixel of a scene; a block of spectra in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.brightness import wrong_units
from cloudsom.errors import UserError
from cloudsom.images.pixels import grid_of_scene, spectra_blocks
from cloudsom.images.rasters import Grid
from cloudsom.som.bmu import BMUs
from cloudsom.som.committee import vote
from cloudsom.som.labelled_map import LabelledMap


def bmus_of_scene(source: Path, tiff: Path, som: LabelledMap, distance: bool = False) -> Iterator[BMUs]:
    """The BMUs of a scene's pixels in row-major order, a block at a time.

    source    the table of the scene's spectra, or the image itself
    tiff      the image, for the number of pixels
    distance  give the BMUs' distances too
    Raises UserError where the table has another number of pixels than the image.
    """
    for _, spectra in _blocks(source, tiff):
        yield som.search(som.scaled(spectra), distance=distance)


def _blocks(source: Path, tiff: Path) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """The spectra of a scene, and where they stand; UserError where there are not as many as the image has pixels."""
    grid = grid_of_scene(source, tiff)
    start, size = 0, grid.width * grid.height
    for spectra in spectra_blocks(source, tiff):
        if wrong := wrong_units(spectra):
            raise UserError(f"{source}: {wrong}; make it again (step 8)")
        part = slice(start, start + len(spectra))
        if part.stop <= size:
            yield part, spectra
        start = part.stop
    if start != size:
        raise UserError(f"{source}: holds {start:,} pixels, {tiff} has {grid.width} x {grid.height}; run step 8 again")


class Layers(NamedTuple):
    """What labelled maps say of a scene, (height, width) uint8: CLOUD, CLEAR or MASK_NODATA; per cent; classes."""

    grid: Grid
    mask: NDArray[np.uint8]
    probability: NDArray[np.uint8]
    classes: NDArray[np.uint8] | None


def layers_of_scene(
    source: Path, tiff: Path, maps: Sequence[LabelledMap], least_probability: float, with_classes: bool = False
) -> Layers:
    """The layers of a scene, unfiltered; source, tiff and errors as `bmus_of_scene`.

    least_probability  share (0..1) of the maps that must say cloud
    """
    grid = grid_of_scene(source, tiff)
    shape = grid.height, grid.width
    mask, probability = (np.empty(shape, np.uint8) for _ in range(2))
    classes = np.empty(shape, np.uint8) if with_classes else None
    for part, spectra in _blocks(source, tiff):
        votes = vote(maps, spectra, with_classes)
        mask.ravel()[part] = votes.mask(least_probability)
        probability.ravel()[part] = votes.per_cent()
        if classes is not None and votes.classes is not None:
            classes.ravel()[part] = votes.classes
    return Layers(grid, mask, probability, classes)


def mask_of_scene(source: Path, tiff: Path, som: LabelledMap) -> NDArray[np.uint8]:
    """The mask (height, width) that one map makes of a scene, unfiltered; errors as `bmus_of_scene`."""
    return layers_of_scene(source, tiff, [som], 1).mask


def hits_of_scene(source: Path, tiff: Path, som: LabelledMap) -> NDArray[np.int64]:
    """How many of a scene's pixels fall on each neuron; arguments and errors as `bmus_of_scene`."""
    counts = np.zeros(len(som.labels.cloud), np.int64)
    for bmus in bmus_of_scene(source, tiff, som):
        counts += np.bincount(bmus.index[bmus.index >= 0], minlength=len(counts))
    return counts


def in_words(mask: NDArray[np.uint8]) -> str:
    """A mask's shares, for a line of summary."""
    found = shares(mask)
    cloud, nodata = found["cloud_share"], found["nodata_share"]
    return f"{mask.size:,} pixels; cloud {cloud:.2%} of those with data, {nodata:.2%} without data"


def shares(mask: NDArray[np.uint8]) -> dict[str, float]:
    """Share of cloud among the pixels with data, and of pixels without."""
    nodata = int((mask == MASK_NODATA).sum())
    valid = mask.size - nodata
    cloud = int((mask == CLOUD).sum())
    return {"cloud_share": cloud / valid if valid else 0.0, "nodata_share": nodata / mask.size}
