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


@dataclass(frozen=True)
class Density:
    """Spectra counted by class in squares of two bands; counts (6, x bins, y bins) in the order of `CLASS_CODES`."""

    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Neurons:
    """Reflectance of the neurons (rows, columns) in the two bands, and which of them are bright."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    bright: NDArray[np.bool_]
    line: str = "order"


def main() -> None:
    inputs = find_inputs()
    x, y = band_index("X_BAND", X_BAND), band_index("Y_BAND", Y_BAND)
    portfolio = portfolio_of(globals(), inputs)
    suffix = f"{X_BAND}_{Y_BAND}"
    parts = {"all": slice(None)} | {name: slice(i, i + 1) for i, name in enumerate(model.HIT_COLUMNS)}
    plots = {f"scatterplot_{suffix}_{name}": part for name, part in parts.items()} if SINGLE_PLOTS else {}
    if portfolio.finished(f"scatterplots_{suffix}", *plots):
        return
    scaler = model.load_scaler(inputs["SCALER_FILE"])
    neurons = read_neurons(inputs, scaler, x, y)
    ranges = [(scaler.data_min_[band], scaler.data_max_[band]) for band in (x, y)]
    density = count(csv_tables.read_spectra(inputs["TRAINING_CSV"]), x, y, *(edges(*r, BIN_WIDTH) for r in ranges))
    frame = frame_of(density, neurons, FRAME_SHARE)
    figure = scatterplots(density, neurons, frame, (X_BAND, Y_BAND), PRINT_WIDTH)
    alt = describe(density.counts, neurons, "one of all, one a class")
    portfolio.write(f"scatterplots_{suffix}", figure, f"Scatterplots of {X_BAND} against {Y_BAND}", alt)
    for name, part in plots.items():
        figure = scatterplot(density, neurons, frame, (X_BAND, Y_BAND), part)
        what = "all classes" if part == slice(None) else CLASSES[CLASS_CODES[part.start]]
        alt = describe(density.counts[part], neurons, what)
        portfolio.write(name, figure, f"Scatterplot of {X_BAND} against {Y_BAND}: {what}", alt)
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
    weights = scaler.reflectance(model.load_som(inputs["SOM_FILE"]).get_weights())
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


def outside(density: Density, frame: tuple[float, float, float, float]) -> int:
    """How many spectra of a density are outside the frame."""
    x = (density.x_edges[1:] > frame[0]) & (density.x_edges[:-1] < frame[1])
    y = (density.y_edges[1:] > frame[2]) & (density.y_edges[:-1] < frame[3])
    return int(density.counts.sum() - density.counts[:, x][:, :, y].sum())


# --- drawing ----------------------------------------------------------------------------------------------------------


@styled
def scatterplot(
    density: Density,
    neurons: Neurons,
    frame: tuple[float, float, float, float],
    bands: tuple[str, str],
    part: slice = slice(None),
) -> Figure:
    """One plot at column width, of the classes in `part` of the density's counts."""
    figure = Figure(figsize=(COLUMN, COLUMN * 0.95), layout="constrained")
    axes = figure.subplots()
    chosen = Density(density.x_edges, density.y_edges, density.counts[part])
    draw(axes, chosen, neurons, frame, norm_of(density), size=0.8)
    axes.set(xlabel=f"reflectance in {bands[0]}", ylabel=f"reflectance in {bands[1]}")
    axes.set_title(heading(chosen, part))
    figure.legend(handles=legend(neurons, chosen, frame), loc="outside lower center", ncols=2, columnspacing=1.2)
    add_scale(figure, density, ax=axes, aspect=30)
    return figure


@styled
def scatterplots(
    density: Density,
    neurons: Neurons,
    frame: tuple[float, float, float, float],
    bands: tuple[str, str],
    print_width: str = "page",
) -> Figure:
    """Seven plots: all classes, then each one; one scale of counts for all."""
    width, down, across = PRINT_WIDTHS[print_width], *((2, 4) if print_width == "page" else (4, 2))
    figure = Figure(figsize=(width, width / across * down * 1.12), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True)
    parts = [slice(None), *(slice(i, i + 1) for i in range(len(CLASS_CODES)))]
    for axes, part in zip(panels.flat, parts, strict=False):
        chosen = Density(density.x_edges, density.y_edges, density.counts[part])
        draw(axes, chosen, neurons, frame, norm_of(density), size=0.45)
        axes.set_title(heading(chosen, part))
        axes.xaxis.set_tick_params(labelbottom=True)
    last = panels.flat[-1]
    last.set_axis_off()
    last.legend(handles=legend(neurons, density, frame), loc="upper left", borderaxespad=0, handlelength=1.4)
    add_scale(figure, density, cax=last.inset_axes((0.05, 0.3, 0.85, 0.05)), orientation="horizontal")
    figure.supxlabel(f"reflectance in {bands[0]}", fontsize=7.5)
    figure.supylabel(f"reflectance in {bands[1]}", fontsize=7.5)
    return figure


def add_scale(figure: Figure, density: Density, **place: Any) -> None:
    """The colour bar of the counts, its numbers written out: exponents would be too small to read."""
    scale = ScalarMappable(norm_of(density), COUNT_COLOURS)
    figure.colorbar(scale, label="spectra a square", format=FuncFormatter(lambda n, _: f"{n:,.0f}"), **place)


def norm_of(density: Density) -> LogNorm:
    """The scale of counts, logarithmic, from 1 to the fullest square of all classes together."""
    return LogNorm(1, max(2, int(density.counts.sum(axis=0).max())))


def draw(
    axes: Axes,
    density: Density,
    neurons: Neurons,
    frame: tuple[float, float, float, float],
    norm: LogNorm,
    size: float,
) -> None:
    """Counts of all classes in `density`, the neurons over them; `size` is that of marks and lines, in points."""
    counts = density.counts.sum(axis=0).T
    extent = density.x_edges[0], density.x_edges[-1], density.y_edges[0], density.y_edges[-1]
    shown = np.ma.masked_equal(counts, 0)
    axes.imshow(shown, COUNT_COLOURS, norm, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    for x, y in lines(neurons):
        axes.plot(x, y, color="#333333", linewidth=0.5 * size, zorder=2)
    calm = ~neurons.bright
    for chosen, marker, colour, wide in ((calm, "o", "#222222", 3.4), (~calm, "D", BRIGHT_COLOUR, 4.4)):
        place = neurons.x[chosen], neurons.y[chosen]
        axes.plot(*place, marker, color=colour, ms=wide * size, mec="white", mew=0.4 * size, zorder=3)
    axes.set_xlim(frame[:2])
    axes.set_ylim(frame[2:])


def lines(neurons: Neurons) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The lines that join the neurons, as x and y of each."""
    if neurons.line == "none":
        return []
    if neurons.line == "order":
        return [(neurons.x.ravel(), neurons.y.ravel())]
    return [*zip(neurons.x, neurons.y, strict=True), *zip(neurons.x.T, neurons.y.T, strict=True)]


def legend(neurons: Neurons, density: Density, frame: tuple[float, float, float, float]) -> list[Line2D]:
    """Legend entries: neurons, bright neurons where there are any, spectra outside the frame where there are any."""
    entries = [Line2D([], [], color="#333333", lw=0.5, marker="o", ms=3.4, mec="white", mew=0.3, label="neurons")]
    if neurons.bright.any():
        label = f"bright neurons ({neurons.bright.sum()})"
        entries.append(Line2D([], [], color=BRIGHT_COLOUR, lw=0, marker="D", ms=4.4, mec="white", label=label))
    if n := outside(density, frame):
        entries.append(Line2D([], [], lw=0, label=f"{n:,} outside the frame"))
    return entries


def heading(density: Density, part: slice) -> str:
    """'land (1,234)', or '(8.68 million)'."""
    n = int(density.counts.sum())
    name = "all classes" if part == slice(None) else CLASSES[CLASS_CODES[part.start]]
    return f"{name} ({n:,})" if n < 1e6 else f"{name} ({n / 1e6:.2f} million)"


def describe(counts: NDArray[np.int64], neurons: Neurons, what: str) -> str:
    """A plot in words."""
    rows, columns = neurons.x.shape
    bright = f", {neurons.bright.sum()} of them bright and red" if neurons.bright.any() else ""
    return (
        f"Scatterplot of {X_BAND} against {Y_BAND} ({what}): density of {counts.sum():,} spectra, logarithmic, and the "
        f" {rows} x {columns} neurons joined by a thin line{bright}. The neurons span reflectances of "
        f"{neurons.x.min():.2f} to {neurons.x.max():.2f} and {neurons.y.min():.2f} to {neurons.y.max():.2f}"
    )


if __name__ == "__main__":
    run(main, globals())
