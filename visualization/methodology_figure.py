"""The method in one picture, stage by stage, from your own run (the paper's methodology figure).

Stage 1: the trained map. Stage 2: hit maps, labels by majority vote, and the mask they give. Stage 3: the labels after
fine-tuning, what they change, and the final mask. Stage 3 is left out where nothing is fine-tuned yet. The figure
is drawn for a page's width (180 mm).

    python visualization/methodology_figure.py
    python visualization/methodology_figure.py --SCENE S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024

reads   SCALER_FILE, SOM_FILE              steps 2 and 3
        HIT_MAPS_CSV, NEURON_LABELS_CSV    step 5
        TIFF_DIR/NAME.tif, MASK_DIR/NAME_mask.tif  steps 7 and 9, one scene
        NEURON_LABELS_FINETUNED_CSV, MASK_FINETUNED_DIR/NAME_mask.tif  fine_tuning.py, where it has run
writes  FIGURES_DIR/methodology.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.drawing.figures import (
    HIT_PANELS,
    PAGE,
    SOM1,
    SOM2,
    TRUE_COLOUR_BANDS,
    UNCORRECTED,
    Corrections,
    class_legend,
    cloud_legend,
    draw_cells,
    draw_classes,
    draw_cloud,
    portfolio_of,
    read_corrections,
    read_true_colour,
    styled,
    swatch,
    true_colour,
)
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, input_path, under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.running.pool import choose_products
from cloudsom.running.settings import optional_files, run, step_files
from cloudsom.som import labelled_map

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's counts
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels
TIFF_DIR = "tiff"  # step 7's images
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the picture goes

# picture
SCENE: str | None = None  # name of the product to show; None: the one whose mask has most pixels with data
BRIGHTEST = 0.5  # [0.001, 100] reflectance shown as white
GAMMA = 1.7  # [0.1, 10] above 1 lifts dark surfaces

# running
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figure in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

#: What fine-tuning changed in a mask: colours that are ours, told apart by any eye.
CHANGES = {
    "(g) cloud before and after": "#FFFFFF",
    "(g) cloud before only": "#E69F00",
    "(g) cloud after only": "#56B4E9",
    "(g) clear": "#000000",
}
NODATA_COLOUR = "#808080"


@dataclass(frozen=True)
class Stages:
    """What the figure shows. Maps are (rows, columns), pictures (height, width).

    name     of the scene
    facts    lines about the training
    neurons  (rows, columns, 3) uint8, the weights in true colour
    counts   (rows, columns, 6) hits in the order of `CLASS_CODES`
    classes, cloud  labels of the neurons
    scene    (height, width, 3) uint8, true colour
    masks    255, 0 and nodata: step 9's and, where stage 3 has been, that after fine-tuning, median filter and dilation
    corrections  what fine-tuning did to the neurons
    """

    name: str
    facts: list[str]
    neurons: NDArray[np.uint8]
    counts: NDArray[np.int64]
    classes: NDArray[np.uint8]
    cloud: NDArray[np.uint8]
    scene: NDArray[np.uint8]
    masks: list[NDArray[np.uint8]]
    corrections: Corrections = UNCORRECTED


def main() -> None:
    name, inputs = find_inputs()
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("methodology"):
        return
    stages = read_stages(inputs, name)
    portfolio.write("methodology", methodology_figure(stages), "The method, stage by stage", describe(stages))
    portfolio.show_windows()


def find_inputs() -> tuple[str, dict[str, Path]]:
    """The scene's name, and the files by role; those of stage 3 only where both are there."""
    inputs = step_files(globals(), *labelled_map.STEP_FILES)
    mask_dir = under(DATA_DIR, MASK_DIR)
    masks = choose_products(masks_in(mask_dir), [SCENE] if SCENE else [], mask_dir, "run step 9 (create_cloudmasks.py)")
    # The one with most data, the first by name where several have: no sliver of a granule.
    name = max(masks, key=lambda name: int((read_mask(masks[name])[0] != MASK_NODATA).sum()))
    image = existing(DATA_DIR, f"{TIFF_DIR}/{name}.tif", "run step 7, or choose another SCENE")
    inputs |= {f"{SOM1} {name}": masks[name], f"image {name}": image}
    labels = optional_files(globals(), "NEURON_LABELS_FINETUNED_CSV")
    final = input_path(DATA_DIR, f"{MASK_FINETUNED_DIR}/{name}_mask.tif")
    if labels and final.is_file():
        inputs |= labels | {f"{SOM2} {name}": final}
    else:
        print(f"no {under(DATA_DIR, NEURON_LABELS_FINETUNED_CSV)}, or no final mask of {name}: stage 3 is left out")
    return name, inputs


def read_stages(inputs: dict[str, Path], name: str) -> Stages:
    """The arrays of the figure; UserError where they do not belong together."""
    som = labelled_map.from_steps(inputs)
    assert som.votes is not None
    labels, shape = som.labels, som.weights.shape[:2]
    in_colour = som.reflectance.reshape(som.weights.shape)[..., TRUE_COLOUR_BANDS]
    image = inputs[f"image {name}"]
    scene, grid = read_true_colour(image, BRIGHTEST, GAMMA)
    masks = []
    for file in (inputs[role] for role in (f"{SOM1} {name}", f"{SOM2} {name}") if role in inputs):
        mask, mask_grid = read_mask(file)
        if difference := mask_grid.difference(grid):
            raise UserError(f"{file}: does not cover the pixels of {image} ({difference}); mask the scene again")
        masks.append(mask)
    finetuned_csv = inputs.get("NEURON_LABELS_FINETUNED_CSV")
    return Stages(
        name,
        training_facts(inputs["SOM_FILE"], som.votes),
        true_colour(in_colour, BRIGHTEST, GAMMA),
        som.votes.reshape(*shape, -1),
        labels.classes.reshape(shape),
        labels.cloud.reshape(shape),
        scene,
        masks,
        read_corrections(labels, finetuned_csv) if finetuned_csv else UNCORRECTED,
    )


def training_facts(som_file: Path, votes: NDArray[np.int64]) -> list[str]:
    """Lines about the training: spectra a class (neurons, 6), and what the map's settings file says of it."""
    totals = votes.sum(axis=0)
    lines = [f"{totals.sum():,} spectra", "of 13 bands, in 6 classes:", ""]
    lines += [f"   {name} {total:,}" for name, total in zip(CLASSES.values(), totals, strict=True)]
    record = stores.read_record(som_file) or {}
    if "N_ITER" in record.get("constants", {}):
        lines += ["", f"{record['constants']['N_ITER']:,} training steps", "of one spectrum each"]
    return lines


# --- drawing ----------------------------------------------------------------------------------------------------------


@styled
def methodology_figure(stages: Stages) -> Figure:
    """The stages one below the other, at page width."""
    heights = [2.9, 2.75, 2.75][: 1 + len(stages.masks)]  # of the stages, inches
    figure = Figure(figsize=(PAGE, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, hspace=0.02, squeeze=False)[:, 0]
    for part, draw in zip(parts, (draw_stage_1, draw_stage_2, draw_stage_3), strict=False):
        draw(part, stages)
    return figure


def draw_stage_1(part: SubFigure, stages: Stages) -> None:
    """Training spectra, the trained map in true colour, and the six hit maps."""
    heading(part, "Stage 1: train the map")
    grid = part.add_gridspec(2, 7, width_ratios=[1.1, 0.22, 1.5, 0.3, 0.95, 0.95, 0.95])
    text = part.add_subplot(grid[:, 0])
    text.set_axis_off()
    text.text(0, 0.5, "\n".join(stages.facts), va="center", linespacing=1.35, transform=text.transAxes)
    arrow(part.add_subplot(grid[:, 1]))
    neurons = part.add_subplot(grid[:, 2])
    draw_cells(neurons, stages.neurons / 255)
    neurons.set_title("trained map,\nneurons in true colour")
    arrow(part.add_subplot(grid[:, 3]))
    part.text(0.565, 0.985, "Stage 2: count each class on each neuron", va="top", fontweight="bold", fontsize=8)
    for i, (title, column) in enumerate(HIT_PANELS.items()):
        axes = part.add_subplot(grid[i // 3, 4 + i % 3])
        draw_cells(axes, stages.counts[:, :, column])
        axes.set(xticks=[], yticks=[], title=title)


def draw_stage_2(part: SubFigure, stages: Stages) -> None:
    """Labels by majority vote, the scene and its mask."""
    heading(part, "Stage 2: label the neurons by majority vote, and mask a scene")
    panels = row_of_panels(part, [1, 1, 1.3, 1.3])
    draw_classes(panels[0], stages.classes)
    panels[0].set_title("(b) class of each neuron")
    draw_cloud(panels[1], stages.cloud)
    panels[1].set_title("(c) cloud or clear")
    show(panels[2], stages.scene, "(d) scene")
    panels[2].set_xlabel("\n".join(textwrap.wrap(stages.name, 30)), fontsize=7)
    show(panels[3], mask_picture(stages.masks[0]), f"(e) mask: {cloud_share(stages.masks[0]):.1%} cloud (white)")
    legend(part, class_legend(stages.classes) + cloud_legend(stages.cloud))


def draw_stage_3(part: SubFigure, stages: Stages) -> None:
    """Labels after fine-tuning, what they change in the mask, and the final mask."""
    heading(part, "Stage 3: bright surfaces taken for cloud correct the labels; median filter and dilation")
    panels = row_of_panels(part, [1, 1.3, 1.3])
    draw_cloud(panels[0], stages.cloud, stages.corrections)
    panels[0].set_title("(f) fine-tuned labels")
    show(panels[1], changes_picture(*stages.masks), "(g) what changes in the mask")
    final = stages.masks[1]
    show(panels[2], mask_picture(final), f"(h) final mask: {cloud_share(final):.1%} cloud (white)")
    changes = [swatch(colour, label) for label, colour in CHANGES.items()]
    legend(part, cloud_legend(stages.cloud, stages.corrections) + changes)


def heading(part: SubFigure, text: str) -> None:
    part.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=8)


def row_of_panels(part: SubFigure, widths: list[float]) -> list[Axes]:
    """Panels beside each other, with an arrow between each two."""
    ratios = [ratio for width in widths for ratio in (width, 0.13)][:-1]
    grid = part.add_gridspec(1, len(ratios), width_ratios=ratios)
    axes = [part.add_subplot(grid[0, i]) for i in range(len(ratios))]
    for between in axes[1::2]:
        arrow(between)
    return axes[::2]


def arrow(axes: Axes) -> None:
    """An arrow to the right across empty axes."""
    axes.set_axis_off()
    look = {"arrowstyle": "-|>", "linewidth": 1.2, "color": "#444444", "mutation_scale": 9}
    axes.annotate("", (1, 0.5), (0, 0.5), xycoords="axes fraction", arrowprops=look)


def legend(part: SubFigure, entries: list[Patch]) -> None:
    """A legend below a row of panels."""
    part.legend(handles=entries, loc="outside lower left", ncols=4, handlelength=1, handleheight=1, columnspacing=2)


def show(axes: Axes, picture: NDArray[np.uint8], title: str) -> None:
    """A picture (height, width, 3) without axes."""
    axes.imshow(picture, interpolation="antialiased", interpolation_stage="rgba")
    axes.set(xticks=[], yticks=[], title=title)


def mask_picture(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask (height, width) in white, black and grey (height, width, 3)."""
    grey = np.where(mask == MASK_NODATA, 128, np.where(mask == CLOUD, 255, 0)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def changes_picture(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two masks (height, width) against each other, in the colours of CHANGES (height, width, 3)."""
    colours = np.array([list(bytes.fromhex(c[1:])) for c in (*CHANGES.values(), NODATA_COLOUR)], np.uint8)
    kind = 2 * (before != CLOUD) + (after != CLOUD)
    kind[(before == MASK_NODATA) | (after == MASK_NODATA)] = 4
    return colours[kind]


def cloud_share(mask: NDArray[np.uint8]) -> float:
    """Share of cloud among the pixels with data."""
    return float((mask == CLOUD).sum() / max(1, (mask != MASK_NODATA).sum()))


def describe(stages: Stages) -> str:
    """The figure in words."""
    rows, columns = stages.cloud.shape
    text = (
        f"The method in stages. Stage 1: {stages.counts.sum():,} spectra train a map of {rows} x {columns} neurons. "
        f"Stage 2: six hit maps, the class of each neuron, {(stages.cloud == CLOUD).sum()} of them cloud, the scene "
        f"{stages.name} and its mask with {cloud_share(stages.masks[0]):.1%} cloud"
    )
    if len(stages.masks) == 1:
        return text
    flipped, split = stages.corrections.flipped.sum(), stages.corrections.split.sum()
    return (
        f"{text}. Stage 3: fine-tuning turns {flipped} neurons to clear and splits {split}; what that changes in the "
        f"mask; the final mask with {cloud_share(stages.masks[1]):.1%} cloud"
    )


if __name__ == "__main__":
    run(main, globals())
