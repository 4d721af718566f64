"""Quicklooks: each scene in true colour, and beside it the same with the outline of its cloud mask.

    python visualization/quicklooks.py
    python visualization/quicklooks.py --PRODUCTS NAME --SHOW

reads   TIFF_DIR/NAME.tif                      step 7's images
        MASK_DIR/NAME_mask.tif                 step 9's masks
        MASK_FINETUNED_DIR/NAME_mask.tif       fine_tuning.py's masks, where there are any
writes  FIGURES_DIR/quicklooks/NAME_MASKS.png  WIDTH pixels wide; MASKS is the name of the masks' folder
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import numpy as np
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.drawing.figures import Portfolio, find_masks, portfolio_of, read_true_colour, styled
from cloudsom.drawing.pictures import side_by_side
from cloudsom.errors import UserError
from cloudsom.files.places import under
from cloudsom.images.rasters import Grid, read_mask
from cloudsom.running.job import Job
from cloudsom.running.settings import run

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TIFF_DIR = "tiff"  # step 7's images
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks, where there are any
PRODUCTS: list[str] = []  # names of the products; none named: all in MASK_DIR

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the quicklooks go

# picture
WIDTH = 1000  # [200, 20000] pixels
BRIGHTEST = 0.5  # [0.001, 100] reflectance shown as white: clouds are mostly brighter, land and sea darker
GAMMA = 1.7  # [0.1, 10] above 1 lifts dark surfaces: forest and sea are 0.02 to 0.1
OUTLINE = "#FF00C8"  # colour of the mask's outline: no surface has it, and it is seen on white clouds and dark sea

# running
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m
FORMATS = ["png"]  # png, pdf, svg: one or more
SHOW = False  # open the quicklooks in windows too; they are then drawn one after the other
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

PIXELS_PER_INCH = 100
CAPTION = 26  # pixels for the line of text above the two panels


def main() -> None:
    if not is_color_like(OUTLINE):
        raise UserError(f"OUTLINE: {OUTLINE!r} is not a colour; give one such as #FF00C8")
    picture = (WIDTH, BRIGHTEST, GAMMA, OUTLINE)
    portfolio = portfolio_of(globals(), {})
    jobs = []
    for kind, name, mask in find_masks(globals()):
        inputs = {f"image {name}": under(DATA_DIR, TIFF_DIR) / f"{name}.tif", f"{kind} {name}": mask}
        jobs.append(Job(name, (name, inputs, portfolio, picture)))
    portfolio.draw_scenes(write_quicklook, jobs, WORKERS, "drawing")


def write_quicklook(
    name: str, inputs: dict[str, Path], portfolio: Portfolio, picture: tuple[int, float, float, str]
) -> str:
    """Write one quicklook; returns a line of summary a file.

    `inputs` are its image and its mask by role; `picture` is WIDTH, BRIGHTEST, GAMMA and OUTLINE.
    """
    tiff, mask_file = inputs.values()
    if not tiff.is_file():
        raise UserError(f"{tiff}: no such file, but there is {mask_file}; run step 7, or remove the mask")
    portfolio = portfolio.made_of(inputs)
    target = f"quicklooks/{name}_{mask_file.parent.name}"
    if done := portfolio.up_to_date(target):
        return done
    mask, grid = read_mask(mask_file)
    width, brightest, gamma, colour = picture
    scene, scene_grid = read_true_colour(tiff, brightest, gamma)
    if difference := grid.difference(scene_grid):
        raise UserError(f"{mask_file}: does not cover the pixels of {tiff} ({difference}); run step 9 again")
    share = (mask == CLOUD).sum() / max(1, (mask != MASK_NODATA).sum())
    title = f"{name}: {share:.1%} cloud, outlined ({mask_file.parent.name})"
    alt = f"{title}. Left: true colour. Right: the same with the mask's outline"
    figure = quicklook(scene, mask, grid, title, width, colour)
    return portfolio.keep(target, figure, title, alt, f"{share:.1%} cloud", PIXELS_PER_INCH)


@styled
def quicklook(
    scene: NDArray[np.uint8], mask: NDArray[np.uint8], grid: Grid, title: str, width: int, colour: str
) -> Figure:
    """`side_by_side` under its title, `width` pixels wide at 100 pixels an inch."""
    pair = side_by_side(scene, mask, grid, width, colour)
    height = len(pair) + CAPTION
    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, len(pair) / height))
    axes.imshow(pair, aspect="auto", interpolation="none")  # pixel by pixel
    axes.set_axis_off()
    size = min(9.5, 1.45 * width / max(1, len(title)))  # points: a long product name stays within the picture
    figure.text(0.003, 1 - CAPTION / 2 / height, title, va="center_baseline", fontsize=size)
    return figure


if __name__ == "__main__":
    run(main, globals())
