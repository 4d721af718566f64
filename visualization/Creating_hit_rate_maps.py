"""Hit-rate maps: how many training spectra of each class fall on each neuron (paper, section 2.2, stage 2).

    python visualization/Creating_hit_rate_maps.py
    python visualization/Creating_hit_rate_maps.py --PRINT_WIDTH column --FORMATS png pdf

reads   HIT_MAPS_CSV                       step 5's table
writes  FIGURES_DIR/hit_rate_maps.png      six panels, one a class
        FIGURES_DIR/hit_rate_map_total.png all classes together
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from cloudsom.drawing.figures import COLUMN, HIT_PANELS, PRINT_WIDTHS, add_colour_bar, draw_cells, portfolio_of, styled
from cloudsom.running.settings import run, step_files
from cloudsom.som import model

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's counts a neuron and class

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the pictures go

# picture
COLOURS: Literal["log", "linear"] = "log"
# log: by the logarithm, else one neuron with 50,000 hits makes all others equally dark; linear: as in the paper
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figures in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "HIT_MAPS_CSV")
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("hit_rate_maps", "hit_rate_map_total"):
        return
    counts, rows, columns = model.read_hit_maps(inputs["HIT_MAPS_CSV"])
    counts = counts.reshape(rows, columns, -1)
    figure = hit_rate_maps(counts, PRINT_WIDTH, COLOURS)
    portfolio.write("hit_rate_maps", figure, "Hit-rate maps of the six classes", describe(counts))
    total = counts.sum(axis=2)
    alt = f"Map of {rows} x {columns} neurons coloured by all their training spectra: {peak(total)}"
    portfolio.write("hit_rate_map_total", hit_rate_map(total, COLOURS), "Hit-rate map of all classes", alt)
    portfolio.show_windows()


@styled
def hit_rate_maps(counts: NDArray[np.integer], print_width: str = "page", colours: str = "log") -> Figure:
    """Six panels in the paper's order, from counts (rows, columns, 6) in the order of `CLASS_CODES`."""
    rows, columns, _ = counts.shape
    width = PRINT_WIDTHS[print_width]
    down, across, share = (2, 3, 0.66) if print_width == "page" else (3, 2, 0.6)
    figure = Figure(figsize=(width, down * (width / across * share * rows / columns + 0.3)), layout="constrained")
    for axes, (title, column) in zip(figure.subplots(down, across).flat, HIT_PANELS.items(), strict=True):
        draw_counts(axes, counts[:, :, column], colours, title)
    return figure


@styled
def hit_rate_map(counts: NDArray[np.integer], colours: str = "log") -> Figure:
    """One map, from counts (rows, columns)."""
    rows, columns = counts.shape
    figure = Figure(figsize=(COLUMN, COLUMN * 0.72 * rows / columns + 0.3), layout="constrained")
    draw_counts(figure.subplots(), counts, colours, "all classes")
    return figure


def draw_counts(axes: Axes, counts: NDArray[np.integer], colours: str, title: str) -> None:
    """One hit map (rows, columns) and its colour bar: in thousands (paper), or in ones where there are fewer.

    Coloured by the logarithm, neurons without hits are grey.
    """
    axes.set_title(title)
    if colours == "log":
        hit = np.where(counts > 0, counts, np.nan)
        mesh = draw_cells(axes, hit, norm=LogNorm(1, max(10, int(counts.max()))))
        bar = add_colour_bar(axes, mesh, "spectra (k: thousands)", format=FuncFormatter(short))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        return
    mesh = draw_cells(axes, counts)
    mesh.set_clim(0, max(1, int(counts.max())))
    unit, label = (1000, "spectra (thousands)") if counts.max() >= 1000 else (1, "spectra")
    add_colour_bar(axes, mesh, label, format=FuncFormatter(lambda n, _: f"{n / unit:g}"))


def short(n: float, _: object = None) -> str:
    """A count in few letters: 100, 1k, 10k."""
    return f"{n / 1000:g}k" if n >= 1000 else f"{n:g}"


def describe(counts: NDArray[np.integer]) -> str:
    """The six panels in words."""
    rows, columns, _ = counts.shape
    each = [f"{title.partition(' ')[2]}: {peak(counts[:, :, column])}" for title, column in HIT_PANELS.items()]
    return f"Six maps of {rows} x {columns} neurons coloured by the training spectra on them. " + "; ".join(each)


def peak(counts: NDArray[np.integer]) -> str:
    """A hit map (rows, columns) in words: its spectra, neurons hit, and the fullest neuron (counted from 1)."""
    row, column = np.unravel_index(np.argmax(counts), counts.shape)
    return (
        f"{counts.sum():,} spectra on {(counts > 0).sum()} neurons, "
        f"most on row {row + 1}, column {column + 1} ({counts.max():,})"
    )


if __name__ == "__main__":
    run(main, globals())
