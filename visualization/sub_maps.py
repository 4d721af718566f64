"""The sub-maps of fine-tuning: which sub-neurons of each split neuron are cloud, and how far apart they lie.

    python visualization/sub_maps.py

reads   FINETUNED_MAP_NPZ            fine_tuning.py's corrected map (METHOD = "submaps")
        FLIP_TABLE_CSV               fine_tuning.py's table, for the samples and clouds on each neuron
writes  FIGURES_DIR/sub_maps.png     one panel a split neuron: sub-neurons that are cloud, and clear; dots are the
                                     larger, the farther a sub-neuron lies from its neighbours
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cloudsom.bands import CLOUD
from cloudsom.drawing.figures import (
    CLEAR_COLOUR,
    CLOUD_COLOUR,
    PRINT_WIDTHS,
    cloud_legend,
    draw_cloud,
    portfolio_of,
    styled,
)
from cloudsom.errors import UserError
from cloudsom.running.settings import run, step_files
from cloudsom.som import labelled_map, neurons, submaps
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.model import read_table

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
FINETUNED_MAP_NPZ = "neuron_labels_finetuned.npz"  # fine_tuning.py's corrected map
FLIP_TABLE_CSV = "flip_table.csv"  # fine_tuning.py's table of costs

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the picture goes

# picture
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
WHERE_NONE: Literal["refuse", "skip"] = "refuse"
# a fine-tuned map without sub-maps (METHOD flip, or no neuron that needs one): refuse ends with an error that says so;
# skip says so and draws nothing, for runs of all figures in a row
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figure in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "FINETUNED_MAP_NPZ", "FLIP_TABLE_CSV")
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("sub_maps"):
        return
    tuned = labelled_map.load(inputs["FINETUNED_MAP_NPZ"])
    if not tuned.submaps:
        none = f"{inputs['FINETUNED_MAP_NPZ']}: has no sub-maps"
        if WHERE_NONE == "skip":
            print(f"{none}: their figure is left out")
            return
        raise UserError(f"{none}; run fine_tuning.py with --METHOD submaps")
    table = read_table(inputs["FLIP_TABLE_CSV"], ("neuron", "cirrus", "opaque_cloud", "samples_and_copies"))
    titles = {neuron: title_of(neuron, tuned.labels.columns, table) for neuron in tuned.submaps}
    figure = sub_maps_figure(tuned, titles, PRINT_WIDTH)
    portfolio.write("sub_maps", figure, "Sub-maps of the neurons split by fine-tuning", describe(tuned))
    portfolio.show_windows()


def title_of(neuron: int, columns: int, table: pd.DataFrame) -> str:
    """A neuron's place, counted from 1 as in the paper, and what fell on it."""
    name = neurons.name_of(neuron, columns)
    place, found = f"neuron {name}", table[table["neuron"] == name]
    if found.empty:
        return place
    clouds = int(found[["cirrus", "opaque_cloud"]].to_numpy().sum())
    return f"{place}\n{clouds:,} clouds\n{int(found['samples_and_copies'].iloc[0]):,} bright"


@styled
def sub_maps_figure(tuned: LabelledMap, titles: dict[int, str], print_width: str = "page") -> Figure:
    """One panel a sub-map, in the order of the neurons; `titles` by flat position of the neuron."""
    n = len(tuned.submaps)
    most = 5 if print_width == "page" else 3  # panels a row
    panel, across = PRINT_WIDTHS[print_width] / most, min(n, most)
    down = -(-n // across)
    figure = Figure(figsize=(panel * across, (panel + 0.45) * down + 0.25), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (neuron, submap) in zip(panels, sorted(tuned.submaps.items()), strict=False):
        draw_submap(axes, submap)
        axes.set_title(titles[neuron])
    for axes in panels[n:]:
        axes.set_axis_off()
    every_label = np.concatenate([submap.cloud for submap in tuned.submaps.values()])
    dot = Line2D([], [], lw=0, marker="o", ms=3, color=CLEAR_COLOUR, label="distance to neighbours")
    entries = [*cloud_legend(every_label), dot]
    figure.legend(handles=entries, loc="outside lower center", ncols=3, handlelength=1, handleheight=1, columnspacing=1)
    return figure


def draw_submap(axes: Axes, submap: submaps.SubMap) -> None:
    """Labels of the sub-neurons as cells, and a dot in each by its distance to its neighbours."""
    size = submap.weights.shape[0]
    draw_cloud(axes, submap.cloud.reshape(size, size))
    colours = np.where(submap.cloud == CLOUD, CLEAR_COLOUR, CLOUD_COLOUR)  # of the other label: seen on either
    distance = neighbour_distance(submap.weights)
    column, row = np.meshgrid(np.arange(size) + 1, np.arange(size) + 1)
    largest = distance.max() or 1.0
    axes.scatter(column, row, s=9 * (distance / largest) ** 2, color=colours, linewidth=0, zorder=3)
    axes.set_xticks([])
    axes.set_yticks([])


def neighbour_distance(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance (rows, columns) of each sub-neuron to those beside, above and below it."""
    padded = np.pad(weights, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    beside = np.stack([padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]])
    distances = np.linalg.norm(beside - weights, axis=-1)
    return np.asarray(np.ma.masked_invalid(distances).mean(axis=0).filled(0))


def describe(tuned: LabelledMap) -> str:
    """The figure in words."""
    shares = {n: float((s.cloud == CLOUD).mean()) for n, s in sorted(tuned.submaps.items())}
    each = "; ".join(f"neuron {neurons.name_of(n, tuned.labels.columns)} {share:.0%}" for n, share in shares.items())
    return f"{len(shares)} sub-maps as grids of cells, cloud or clear; share of cloud cells: {each}."


if __name__ == "__main__":
    run(main, globals())
