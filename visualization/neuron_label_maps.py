"""Maps of the neurons' labels: the six classes in the paper's colours, cloud or clear, and the fine-tuned labels.

    python visualization/neuron_label_maps.py

reads   NEURON_LABELS_CSV                  step 5's labels
        NEURON_LABELS_FINETUNED_CSV        fine_tuning.py's labels, where there are any
writes  FIGURES_DIR/neuron_label_maps.png  (a) classes, (b) cloud or clear, (c) the same after fine-tuning, the
                                           corrected neurons outlined in red
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cloudsom.bands import CLASSES, CLOUD
from cloudsom.drawing.figures import (
    PRINT_WIDTHS,
    Corrections,
    class_legend,
    cloud_legend,
    draw_classes,
    draw_cloud,
    portfolio_of,
    read_corrections,
    styled,
)
from cloudsom.running.settings import optional_files, run, step_files
from cloudsom.som import model
from cloudsom.som.labels import NeuronLabels

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels; without them panel (c) is left out

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the picture goes

# picture
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figure in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "NEURON_LABELS_CSV")
    without = "the panel of fine-tuned labels is left out"
    inputs |= optional_files(globals(), "NEURON_LABELS_FINETUNED_CSV", without=without)
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("neuron_label_maps"):
        return
    labels = model.read_neuron_labels(inputs["NEURON_LABELS_CSV"])
    finetuned_csv = inputs.get("NEURON_LABELS_FINETUNED_CSV")
    corrections = read_corrections(labels, finetuned_csv) if finetuned_csv else None
    figure = neuron_label_maps(labels, corrections, PRINT_WIDTH)
    portfolio.write("neuron_label_maps", figure, "Labels of the neurons", describe(labels, corrections))
    portfolio.show_windows()


@styled
def neuron_label_maps(labels: NeuronLabels, corrections: Corrections | None, print_width: str = "page") -> Figure:
    """Two panels of the labels before fine-tuning, or three with its corrections."""
    rows, columns = labels.rows, labels.columns
    classes, cloud = labels.classes.reshape(rows, columns), labels.cloud.reshape(rows, columns)
    n = 2 if corrections is None else 3
    down, across, legend_columns = (1, n, 2) if print_width == "page" else (n - 1, 2, 1)
    panel = PRINT_WIDTHS[print_width] / (3 if print_width == "page" else 2)
    lines = -(-len(class_legend(classes)) // legend_columns)
    height = down * (panel * 0.88 * rows / columns + 0.42 + 0.165 * lines)  # inches: map, title and ticks, legend
    figure = Figure(figsize=(panel * across, height), layout="constrained")
    panels = figure.subplots(down, across).ravel()
    for empty in panels[n:]:
        empty.set_axis_off()
    draw_classes(panels[0], classes)
    add_legend(panels[0], "(a) class", class_legend(classes), legend_columns)
    draw_cloud(panels[1], cloud)
    add_legend(panels[1], "(b) cloud or clear", cloud_legend(cloud), legend_columns)
    if corrections is not None:
        draw_cloud(panels[2], cloud, corrections)
        add_legend(panels[2], "(c) fine-tuned", cloud_legend(cloud, corrections), legend_columns)
    return figure


def add_legend(axes: Axes, title: str, entries: list[Patch], legend_columns: int) -> None:
    """Title above a map, its legend below it."""
    axes.set_title(title)
    axes.set_anchor("N")  # what room is over is below the legend
    axes.legend(
        handles=entries,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.07),
        ncols=legend_columns,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.0,
    )


def describe(labels: NeuronLabels, corrections: Corrections | None) -> str:
    """The figure in words."""
    neurons, cloud = f"{labels.rows} x {labels.columns} neurons", (labels.cloud == CLOUD).sum()
    classes = ", ".join(f"{name} {(labels.classes == code).sum()}" for code, name in CLASSES.items())
    text = f"Maps of {neurons} by label. Classes: {classes}. Cloud: {cloud} neurons"
    if corrections is None:
        return text
    flipped, split = corrections.flipped, corrections.split
    places = " ".join(f"({row + 1}, {column + 1})" for row, column in np.argwhere(corrections.corrected))
    return (
        f"{text}; fine-tuning turned {flipped.sum()} of them to clear and split {split.sum()} by sub-maps, at row and "
        f"column {places or '(none)'}"
    )


if __name__ == "__main__":
    run(main, globals())
