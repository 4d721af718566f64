"""Masks coloured by what is right and wrong in them: TP, TN, FN and FP against the reference masks (paper's colours).

    python visualization/colored_cloudmasks.py
    python visualization/colored_cloudmasks.py --PRODUCTS NAME --FORMATS png pdf --SHOW

reads   MASK_DIR/NAME_mask.tif                                    step 9's masks
        MASK_FINETUNED_DIR/NAME_mask.tif                          fine_tuning.py's masks, where there are any
        REFERENCE_DIR/NAME/Classification/classification_map.tif  reference class maps (Baetens et al. 2019 codes)
writes  FIGURES_DIR/colored_MASKS/NAME_colored.tif  uint8 with a colour table, georeferenced: 1 TP (cloud in both),
                                                    2 TN (clear in both), 3 FN (missed cloud), 4 FP (false alarm),
                                                    0 nodata: not scored. MASKS is the name of the masks' folder
        FIGURES_DIR/colored_MASKS/NAME_colored.png  the same as a picture with its legend
        FIGURES_DIR/colored_cloudmasks_legend.png   the legend alone
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import textwrap

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.drawing.figures import COLUMN, Portfolio, find_masks, portfolio_of, styled
from cloudsom.drawing.outcomes import MEANINGS, NOT_SCORED, OUTCOMES, outcomes_of, patches, picture
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.images.rasters import read_mask, write_layer
from cloudsom.images.references import check_cloud_codes, find_references, read_reference
from cloudsom.running.job import Job
from cloudsom.running.settings import run

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks, where there are any
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
PRODUCTS: list[str] = []  # names of the products to colour; none named: all that have a reference

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the coloured masks go

# scores (as in step 10)
CLOUD_CODES = [2, 3]  # [0, 7] reference codes that are cloud: low and high clouds; the rest is clear
LEFT_OUT_CODES = [0, 1]  # [0, 7] reference codes that are not scored: no data, not used

# running
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m
FORMATS = ["png"]  # of the pictures: png (300 dpi), pdf, svg: one or more
SHOW = False  # open the pictures in windows too; they are then drawn one after the other
OVERWRITE = False  # make again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    references = find_references(under(DATA_DIR, REFERENCE_DIR))
    portfolio = portfolio_of(globals(), {})
    codes = tuple(CLOUD_CODES), tuple(LEFT_OUT_CODES)
    jobs = []
    for kind, name, mask in find_masks(globals()):
        if name in references:
            inputs = {f"{kind} {name}": mask, f"reference {name}": references[name]}
            jobs.append(Job(name, (name, inputs, codes, portfolio)))
        else:
            print(f"{mask}: has no reference in {under(DATA_DIR, REFERENCE_DIR)}, left out")
    if not jobs:
        raise UserError(
            f"{under(DATA_DIR, REFERENCE_DIR)}: has no reference for any mask in {MASK_DIR}; run step 6, or name the "
            "reference folders as the products"
        )
    check_cloud_codes(CLOUD_CODES, {references[job.name] for job in jobs})
    if not portfolio.finished("colored_cloudmasks_legend"):
        alt = "; ".join(MEANINGS)
        portfolio.write("colored_cloudmasks_legend", legend_figure(), "Legend of the coloured masks", alt)
    portfolio.draw_scenes(colour_mask, jobs, WORKERS, "colouring")


def colour_mask(
    name: str, inputs: dict[str, Path], codes: tuple[tuple[int, ...], tuple[int, ...]], portfolio: Portfolio
) -> str:
    """Write one product's coloured mask and its picture; returns a line of summary a file.

    `inputs` are its mask and its reference by role; `codes` the reference codes of cloud, and those left out.
    """
    portfolio = portfolio.made_of(inputs)
    mask_file, reference_file = inputs.values()
    image = f"colored_{mask_file.parent.name}/{name}_colored"
    target = portfolio.folder / f"{image}.tif"
    done = stores.up_to_date([target], portfolio.made_by, portfolio.overwrite)
    if portfolio.up_to_date(image) and done:
        return done
    mask, grid = read_mask(mask_file)
    outcomes = outcomes_of(mask, read_reference(reference_file, mask_file, grid), *codes)
    tags = {"PRODUCT": name, "CODES": ", ".join(f"{code} {short}" for code, (short, _, _) in OUTCOMES.items())}
    colours = {code: colour for code, (_, _, colour) in OUTCOMES.items()}
    with stores.product(target, portfolio.made_by) as product:
        write_layer(
            product.partial, outcomes, grid, nodata=NOT_SCORED, descriptions=["outcome"], tags=tags, colours=colours
        )
        product.results["summary"] = summary(outcomes)
    title = f"{name}: right and wrong pixels ({mask_file.parent.name})"
    alt, said = f"{title}: {summary(outcomes)}", "the same as a picture"
    lines = portfolio.keep(image, colored_mask(outcomes, name), title, alt, said)
    return f"{target}: {summary(outcomes)}\n{lines}"


@styled
def colored_mask(codes: NDArray[np.uint8], name: str) -> Figure:
    """A mask's outcomes (height, width) as a picture at column width, the product's name above, the legend below it."""
    height, width = codes.shape
    shape = min(height / width, 2.0)
    heading = textwrap.fill(name, 44)
    figure = Figure(figsize=(COLUMN, COLUMN * shape + 0.7 + 0.12 * heading.count("\n")), layout="constrained")
    figure.suptitle(heading, fontsize=7)
    axes = figure.subplots()
    axes.imshow(picture(codes), interpolation="antialiased", interpolation_stage="rgba")
    axes.set_axis_off()
    counts = np.bincount(codes.ravel(), minlength=5)
    scored = max(1, counts[1:].sum())
    labels = [f"{text} {counts[code] / scored:.2%}" for code, text in zip(OUTCOMES, MEANINGS, strict=True)]
    if counts[NOT_SCORED]:
        axes.set_title(f"white: not scored, {counts[NOT_SCORED] / codes.size:.2%} of the pixels")
    figure.legend(handles=patches(labels), loc="outside lower center", ncols=2, columnspacing=1, handlelength=1.2)
    return figure


@styled
def legend_figure() -> Figure:
    """The legend alone."""
    figure = Figure(figsize=(COLUMN * 0.45, 0.75))
    figure.legend(handles=patches(MEANINGS), loc="center left", borderaxespad=0.3)
    return figure


def summary(codes: NDArray[np.uint8]) -> str:
    """Pixels of each outcome in words."""
    counts = np.bincount(codes.ravel(), minlength=5)
    pixels = ", ".join(f"{name} {counts[code]:,}" for code, (name, _, _) in OUTCOMES.items())
    return f"{pixels}, not scored {counts[NOT_SCORED]:,} pixels"


if __name__ == "__main__":
    run(main, globals())
