"""Pictures pixel by pixel: a scene, and beside it the same with the outline of its cloud mask."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from cloudsom.bands import CLOUD
from cloudsom.drawing.figures import read_true_colour

GAP = 8  # pixels between the two panels

#: What `write_quicklook` shows, as visualization/quicklooks.py does by default: pixels across, reflectance that is
#: white, gamma, colour of the outline.
WIDTH, BRIGHTEST, GAMMA, OUTLINE = 1600, 0.5, 1.7, "#FF00C8"


def write_quicklook(place: Path, tiff: Path, mask: NDArray[np.uint8]) -> None:
    """A JPEG of a 13-band image in true colour, and the same with the outline of its mask (height, width)."""
    scene, _ = read_true_colour(tiff, BRIGHTEST, GAMMA)
    Image.fromarray(side_by_side(scene, mask == CLOUD, WIDTH, OUTLINE)).save(place, "JPEG", quality=90)


def side_by_side(scene: NDArray[np.uint8], cloud: NDArray[np.bool_], width: int, colour: str) -> NDArray[np.uint8]:
    """The two panels as one picture (rows, width, 3); each is averaged down, or repeated up, to half the width."""
    panel = (width - GAP) // 2
    rows = max(1, round(panel * scene.shape[0] / scene.shape[1]))
    left = np.asarray(Image.fromarray(scene).resize((panel, rows), Image.Resampling.BOX))
    shrunk = Image.fromarray(cloud.astype(np.uint8) * 255).resize((panel, rows), Image.Resampling.BOX)
    right = left.copy()
    right[border(np.asarray(shrunk) >= 128)] = np.multiply(to_rgb(colour), 255).astype(np.uint8)
    pair = np.full((rows, width, 3), 255, np.uint8)
    pair[:, :panel], pair[:, width - panel :] = left, right
    return pair


def border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a region (height, width); where it meets the picture's own edge is no border."""
    padded = np.pad(inside, 1, mode="edge")
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return inside & ~neighbours.all(axis=0)
