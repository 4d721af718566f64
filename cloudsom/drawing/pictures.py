"""Pictures pixel by pixel: a scene, and beside it the same with the outline of its cloud mask."""

import math
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.drawing.figures import read_true_colour
from cloudsom.images.rasters import Grid

GAP = 8  # pixels between the two panels
FONT = ImageFont.load_default(size=13)

#: What `write_quicklook` shows, as visualization/quicklooks.py does by default: pixels across, reflectance that is
#: white, gamma, colour of the outline.
WIDTH, BRIGHTEST, GAMMA, OUTLINE = 1600, 0.5, 1.7, "#FF00C8"


def write_quicklook(place: Path, tiff: Path, mask: NDArray[np.uint8]) -> None:
    """A JPEG of a 13-band image in true colour, and the same with the outline of its mask (height, width)."""
    scene, grid = read_true_colour(tiff, BRIGHTEST, GAMMA)
    Image.fromarray(side_by_side(scene, mask, grid, WIDTH, OUTLINE)).save(place, "JPEG", quality=90)


def side_by_side(
    scene: NDArray[np.uint8], mask: NDArray[np.uint8], grid: Grid, width: int, colour: str
) -> NDArray[np.uint8]:
    """The two panels as one picture (rows, width, 3), cropped to what has data, with a scale bar on the left one.

    Each is averaged down, or repeated up, to half the width. The outline runs beside the clouds, on the clear side.
    """
    data = with_data(mask)
    scene, mask = scene[data], mask[data]
    panel = (width - GAP) // 2
    rows = max(1, round(panel * scene.shape[0] / scene.shape[1]))
    left = np.asarray(Image.fromarray(scene).resize((panel, rows), Image.Resampling.BOX))
    clouds = (mask == CLOUD).astype(np.uint8) * 255
    shrunk = Image.fromarray(clouds).resize((panel, rows), Image.Resampling.BOX)
    right = left.copy()
    right[border(np.asarray(shrunk) < 128)] = np.multiply(to_rgb(colour), 255).astype(np.uint8)
    pair = np.full((rows, width, 3), 255, np.uint8)
    pair[:, :panel], pair[:, width - panel :] = left, right
    metres = abs(grid.transform[1]) * scene.shape[1] / panel
    return with_scale_bar(pair, metres, panel) if grid.projection else pair


def with_data(mask: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last with data of a mask (height, width); all where none has any.

    A sliver is given room, until its short side is half the long one.
    """
    found = [np.flatnonzero((mask != MASK_NODATA).any(axis=axis)) for axis in (1, 0)]
    if not len(found[0]):
        return slice(None), slice(None)
    ends = [(int(line[0]), int(line[-1]) + 1) for line in found]
    least = max(end - start for start, end in ends) // 2
    rows, columns = (_widened(*end, least, size) for end, size in zip(ends, mask.shape, strict=True))
    return rows, columns


def _widened(start: int, end: int, least: int, size: int) -> slice:
    """From `start` to `end`, or `least` pixels around them as far as there are `size`."""
    start = max(0, min(start, (start + end - least) // 2, size - least))
    return slice(start, min(size, max(end, start + least)))


def with_scale_bar(picture: NDArray[np.uint8], metres: float, panel: int) -> NDArray[np.uint8]:
    """A picture with a bar of a round length, at most a quarter of `panel` pixels; `metres` a pixel."""
    power = 10 ** math.floor(math.log10(panel / 4 * metres))
    length = next(n * power for n in (5, 2, 1) if n * power <= panel / 4 * metres)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    image = Image.fromarray(picture)
    draw, bottom, size = ImageDraw.Draw(image), len(picture) - 8, round(length / metres)
    box = (6, bottom - 24, 18 + max(size, round(draw.textlength(text, font=FONT))), bottom + 3)
    draw.rectangle(box, fill="black")
    draw.text((12, bottom - 22), text, fill="white", font=FONT)
    draw.rectangle((12, bottom - 4, 12 + size, bottom - 2), fill="white")
    return np.asarray(image)


def border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a region (height, width); where it meets the picture's own edge is no border."""
    padded = np.pad(inside, 1, mode="edge")
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return inside & ~neighbours.all(axis=0)
