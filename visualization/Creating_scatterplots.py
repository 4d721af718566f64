"""Scatterplots: the training spectra in two bands, and the map's neurons among them.

One plot of all spectra and one a class. The spectra are counted in small squares, so that millions of them show where
they are dense; the neurons are joined by a thin line in grid order, and those that fine_tuning.py's
bright samples fall on are red.

    python visualization/Creating_scatterplots.py
    python visualization/Creating_scatterplots.py --X_BAND B2 --Y_BAND B10

reads   TRAINING_CSV                 step 2's table, streamed
        SCALER_FILE, SOM_FILE        steps 2 and 3, for the neurons as reflectance
        NEURON_LABELS_CSV, NEURON_LABELS_FINETUNED_CSV  for the bright neurons, where there are fine-tuned labels
writes  FIGURES_DIR/scatterplot_X_Y_all.png, scatterplot_X_Y_CLASS.png  (X, Y: the bands)
        FIGURES_DIR/scatterplots_X_Y.png                                the seven on one sheet
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLASSES
from cloudsom.drawing.figures import (
    BRIGHT_COLOUR,
    COLUMN,
    PRINT_WIDTHS,
    portfolio_of,
    read_corrections,
    styled,
)
from cloudsom.errors import UserError
from cloudsom.progress import progress
from cloudsom.running.settings import optional_files, run, step_files
from cloudsom.som import model
from cloudsom.som.labels import CLASS_CODES
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels; without them no neuron is red

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the pictures go

# picture
X_BAND = "B8"  # band along x (paper: B8)
Y_BAND = "B11"  # band along y (paper: B11)
BIN_WIDTH = 0.004  # [0.0001, 10] reflectance; side of the squares spectra are counted in
# a multiple of 0.0001, the step of stored reflectance; others give stripes. Wider than 1000 squares: it is doubled
FRAME_SHARE = 0.999  # (0, 1] share of the spectra the frame holds in each band; the rest is outside it, and its number
# told
LINE: Literal["order", "grid", "none"] = "order"
# order: one line through the neurons row by row, as in the paper; grid: neighbours joined, which shows the map's folds
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
SINGLE_PLOTS = True  # write each plot as a picture of its own too
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figures in windows too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

#: Counts from light to dark, the lightest still seen on white; by lightness alone, so legible to any eye.
COUNT_COLOURS = LinearSegmentedColormap.from_list("counts", colormaps["YlGnBu"](np.linspace(0.18, 1, 256)))

MOST_BINS = 1000  # a band

#: The spectra of each plot, as a part of the classes in the order of `CLASS_CODES`.
ALL = "all classes"
PARTS = {ALL: slice(None)} | {name: slice(i, i + 1) for i, name in enumerate(CLASSES.values())}


@dataclass(frozen=True)
class Density:
    """Spectra counted by class in squares of two bands; counts (6, x bins, y bins) in the order of `CLASS_CODES`."""

    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    def of(self, part: str) -> NDArray[np.int64]:
        """The counts (x bins, y bins) of one of `PARTS`."""
        return np.asarray(self.counts[PARTS[part]].sum(axis=0))


@dataclass(frozen=True)
class Neurons:
    """Reflectance of the neurons (rows, columns) in the two bands, and which of them are bright."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    bright: NDArray[np.bool_]
    line: str = "order"


@dataclass(frozen=True)
class Plots:
    """What all plots share; `frame` is the limits of x, then of y, `bands` are the names of both."""

    density: Density
    neurons: Neurons
    frame: tuple[float, float, float, float]
    bands: tuple[str, str]


def main() -> None:
    inputs = find_inputs()
    x, y = band_index("X_BAND", X_BAND), band_index("Y_BAND", Y_BAND)
    portfolio = portfolio_of(globals(), inputs)
    suffix = f"{X_BAND}_{Y_BAND}"
    names = [f"scatterplot_{suffix}_{name}" for name in ("all", *model.HIT_COLUMNS)]
    singles = dict(zip(names, PARTS, strict=True)) if SINGLE_PLOTS else {}
    if portfolio.finished(f"scatterplots_{suffix}", *singles):
        return
    scaler = model.load_scaler(inputs["SCALER_FILE"])
    neurons = read_neurons(inputs, scaler, x, y)
    ranges = [(scaler.data_min_[band], scaler.data_max_[band]) for band in (x, y)]
    density = count(csv_tables.read_spectra(inputs["TRAINING_CSV"]), x, y, *(edges(*r, BIN_WIDTH) for r in ranges))
    plots = Plots(density, neurons, frame_of(density, neurons, FRAME_SHARE), (X_BAND, Y_BAND))
    figure, alt = scatterplots(plots, PRINT_WIDTH), describe(plots, ALL, "one of all, one a class")
    portfolio.write(f"scatterplots_{suffix}", figure, f"Scatterplots of {X_BAND} against {Y_BAND}", alt)
    for name, part in singles.items():
        title = f"Scatterplot of {X_BAND} against {Y_BAND}: {part}"
        portfolio.write(name, scatterplot(plots, part), title, describe(plots, part, part))
    portfolio.show_windows()


def find_inputs() -> dict[str, Path]:
    """The files by role; the two tables of labels only where both are there."""
    inputs, without = step_files(globals(), "TRAINING_CSV", "SCALER_FILE", "SOM_FILE"), "no neuron is marked as bright"
    tuned = optional_files(globals(), "NEURON_LABELS_FINETUNED_CSV", without=without)
    labels = optional_files(globals(), "NEURON_LABELS_CSV", without=without) if tuned else {}
    return inputs | labels | tuned if labels else inputs


def band_index(setting: str, band: str) -> int:
    """Position of a band among the columns; UserError if there is no such band."""
    if band not in BANDS:
        raise UserError(f"{setting}: {band!r} is not a band; the bands are {', '.join(BANDS)}")
    return BANDS.index(band)


def read_neurons(inputs: dict[str, Path], scaler: model.Scaler, x: int, y: int) -> Neurons:
    """The map's weights in bands x and y, and its bright neurons where there are fine-tuned labels."""
    weights = scaler.reflectance(model.load_weights(inputs["SOM_FILE"]))
    bright = np.zeros(weights.shape[:2], bool)
    if "NEURON_LABELS_FINETUNED_CSV" in inputs:
        labels = model.read_neuron_labels(inputs["NEURON_LABELS_CSV"])
        rows, columns = labels.rows, labels.columns
        model.check_same_map(inputs["SOM_FILE"], weights.shape, inputs["NEURON_LABELS_CSV"], rows, columns)
        bright = read_corrections(labels, inputs["NEURON_LABELS_FINETUNED_CSV"]).bright
    return Neurons(weights[:, :, x], weights[:, :, y], bright, LINE)


# --- counting ---------------------------------------------------------------------------------------------------------


def edges(low: float, high: float, width: float) -> NDArray[np.float64]:
    """Edges of squares that hold low..high, between the steps of stored reflectance so that none falls on an edge."""
    while (high - low) / width > MOST_BINS - 2:
        width *= 2
    first, last = np.floor(low / width), np.floor(high / width) + 1
    return np.arange(first, last + 1) * width - 0.00005


def count(
    blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.integer]]],
    x: int,
    y: int,
    x_edges: NDArray[np.float64],
    y_edges: NDArray[np.float64],
) -> Density:
    """Count blocks of spectra (n, 13) and labels (n,) by class in squares of bands x and y.

    Memory is that of a block and of the counts (at most 48 MB), whatever the number of spectra. What lies beyond the
    edges is counted in the outermost squares.
    """
    shape = len(CLASS_CODES), len(x_edges) - 1, len(y_edges) - 1
    counts = np.zeros(shape, np.int64)
    of_class = np.full(max(CLASS_CODES) + 1, -1)
    of_class[list(CLASS_CODES)] = range(len(CLASS_CODES))
    with progress(None, "counting spectra") as bar:
        for spectra, labels in blocks:
            place = of_class[labels], position(spectra[:, x], x_edges), position(spectra[:, y], y_edges)
            flat = np.ravel_multi_index(place, shape)
            counts += np.bincount(flat, minlength=counts.size).reshape(shape)
            bar.update(len(labels))
    return Density(x_edges, y_edges, counts)


def position(values: NDArray[np.floating], bin_edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin (n,) of each value (n,), bins being of equal width."""
    width = bin_edges[1] - bin_edges[0]
    bins = np.floor((values.astype(np.float64) - bin_edges[0]) / width).astype(np.int64)
    return np.clip(bins, 0, len(bin_edges) - 2)


def frame_of(density: Density, neurons: Neurons, share: float) -> tuple[float, float, float, float]:
    """The frame of every plot: x and y limits that hold `share` of the spectra in each band, and every neuron."""
    limits: list[float] = []
    for bin_edges, other_axis, values in ((density.x_edges, 2, neurons.x), (density.y_edges, 1, neurons.y)):
        below = np.cumsum(density.counts.sum(axis=(0, other_axis)))
        low, high = np.searchsorted(below, [(1 - share) / 2 * below[-1], (1 + share) / 2 * below[-1]])
        margin = 0.02 * (bin_edges[high + 1] - bin_edges[low])
        limits += [min(bin_edges[low], values.min()) - margin, max(bin_edges[high + 1], values.max()) + margin]
    return limits[0], limits[1], limits[2], limits[3]


def outside(plots: Plots, part: str) -> int:
    """How many spectra of a plot are outside its frame."""
    density, frame, counts = plots.density, plots.frame, plots.density.of(part)
    x = (density.x_edges[1:] > frame[0]) & (density.x_edges[:-1] < frame[1])
    y = (density.y_edges[1:] > frame[2]) & (density.y_edges[:-1] < frame[3])
    return int(counts.sum() - counts[np.ix_(x, y)].sum())


# --- drawing ----------------------------------------------------------------------------------------------------------


@styled
def scatterplot(plots: Plots, part: str) -> Figure:
    """One plot at column width, of one of `PARTS`."""
    figure = Figure(figsize=(COLUMN, COLUMN * 0.95), layout="constrained")
    axes = figure.subplots()
    draw(axes, plots, part, size=0.8)
    axes.set(xlabel=f"reflectance in {plots.bands[0]}", ylabel=f"reflectance in {plots.bands[1]}")
    figure.legend(handles=legend(plots, part), loc="outside lower center", ncols=2, columnspacing=1.2)
    add_scale(figure, plots.density, ax=axes, aspect=30)
    return figure


@styled
def scatterplots(plots: Plots, print_width: str = "page") -> Figure:
    """Seven plots: all classes, then each one; one scale of counts for all."""
    width, down, across = PRINT_WIDTHS[print_width], *((2, 4) if print_width == "page" else (4, 2))
    figure = Figure(figsize=(width, width / across * down * 1.12), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True)
    for axes, part in zip(panels.flat, PARTS, strict=False):
        draw(axes, plots, part, size=0.45)
        axes.xaxis.set_tick_params(labelbottom=True)
    last = panels.flat[-1]
    last.set_axis_off()
    last.legend(handles=legend(plots, ALL), loc="upper left", borderaxespad=0, handlelength=1.4)
    add_scale(figure, plots.density, cax=last.inset_axes((0.05, 0.3, 0.85, 0.05)), orientation="horizontal")
    figure.supxlabel(f"reflectance in {plots.bands[0]}", fontsize=7.5)
    figure.supylabel(f"reflectance in {plots.bands[1]}", fontsize=7.5)
    return figure


def add_scale(figure: Figure, density: Density, **place: Any) -> None:
    """The colour bar of the counts, its numbers written out: exponents would be too small to read."""
    scale = ScalarMappable(norm_of(density), COUNT_COLOURS)
    figure.colorbar(scale, label="spectra a square", format=FuncFormatter(lambda n, _: f"{n:,.0f}"), **place)


def norm_of(density: Density) -> LogNorm:
    """The scale of counts, logarithmic, from 1 to the fullest square of all classes together."""
    return LogNorm(1, max(2, int(density.of(ALL).max())))


def draw(axes: Axes, plots: Plots, part: str, size: float) -> None:
    """The counts of a part, the neurons over them; `size` is that of marks and lines, in points."""
    density, neurons, counts = plots.density, plots.neurons, plots.density.of(part)
    extent = density.x_edges[0], density.x_edges[-1], density.y_edges[0], density.y_edges[-1]
    shown, norm = np.ma.masked_equal(counts.T, 0), norm_of(density)
    axes.imshow(shown, COUNT_COLOURS, norm, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    for x, y in lines(neurons):
        axes.plot(x, y, color="#333333", linewidth=0.5 * size, zorder=2)
    calm = ~neurons.bright
    for chosen, marker, colour, wide in ((calm, "o", "#222222", 3.4), (~calm, "D", BRIGHT_COLOUR, 4.4)):
        place = neurons.x[chosen], neurons.y[chosen]
        axes.plot(*place, marker, color=colour, ms=wide * size, mec="white", mew=0.4 * size, zorder=3)
    axes.set_xlim(plots.frame[:2])
    axes.set_ylim(plots.frame[2:])
    n = int(counts.sum())
    axes.set_title(f"{part} ({n:,})" if n < 1e6 else f"{part} ({n / 1e6:.2f} million)")


def lines(neurons: Neurons) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The lines that join the neurons, as x and y of each."""
    if neurons.line == "none":
        return []
    if neurons.line == "order":
        return [(neurons.x.ravel(), neurons.y.ravel())]
    return [*zip(neurons.x, neurons.y, strict=True), *zip(neurons.x.T, neurons.y.T, strict=True)]


def legend(plots: Plots, part: str) -> list[Line2D]:
    """Legend entries: neurons, bright neurons where there are any, spectra outside the frame where there are any."""
    bright = plots.neurons.bright
    entries = [Line2D([], [], color="#333333", lw=0.5, marker="o", ms=3.4, mec="white", mew=0.3, label="neurons")]
    if bright.any():
        label = f"bright neurons ({bright.sum()})"
        entries.append(Line2D([], [], color=BRIGHT_COLOUR, lw=0, marker="D", ms=4.4, mec="white", label=label))
    if n := outside(plots, part):
        entries.append(Line2D([], [], lw=0, label=f"{n:,} outside the frame"))
    return entries


def describe(plots: Plots, part: str, what: str) -> str:
    """A plot in words."""
    neurons, (rows, columns), n = plots.neurons, plots.neurons.x.shape, plots.density.of(part).sum()
    bright = f", {neurons.bright.sum()} of them bright and red" if neurons.bright.any() else ""
    return (
        f"Scatterplot of {' against '.join(plots.bands)} ({what}): density of {n:,} spectra, logarithmic, and the "
        f" {rows} x {columns} neurons joined by a thin line{bright}. The neurons span reflectances of "
        f"{neurons.x.min():.2f} to {neurons.x.max():.2f} and {neurons.y.min():.2f} to {neurons.y.max():.2f}"
    )


if __name__ == "__main__":
    run(main, globals())
