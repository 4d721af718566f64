"""Component planes: the weights of every neuron, one map a band.

    python visualization/Creating_component_planes.py

reads   SOM_FILE                                step 3's map
        SCALER_FILE                             step 2's scaler, to read the weights as reflectance
writes  FIGURES_DIR/component_planes.png        the 13 bands on one sheet
        FIGURES_DIR/component_plane_BAND.png    each band alone (SINGLE_PLANES)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cloudsom.bands import BANDS, N_BANDS, WAVELENGTHS_NM
from cloudsom.drawing.figures import COLUMN, PRINT_WIDTHS, add_colour_bar, draw_cells, portfolio_of, styled
from cloudsom.running.settings import run, step_files
from cloudsom.som import model

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
SOM_FILE = "SOM_trained.p"  # step 3's map
SCALER_FILE = "scaler.p"  # step 2's scaler

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the pictures go

# picture
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
SINGLE_PLANES = True  # write each band's plane as a picture of its own too
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figures in windows too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "SOM_FILE", "SCALER_FILE")
    portfolio = portfolio_of(globals(), inputs)
    singles = list(BANDS) if SINGLE_PLANES else []
    if portfolio.finished("component_planes", *(f"component_plane_{band}" for band in singles)):
        return
    scaler = model.load_scaler(inputs["SCALER_FILE"])
    planes = scaler.reflectance(model.load_weights(inputs["SOM_FILE"]))
    figure, alt = component_planes(planes, scaler, PRINT_WIDTH), describe(planes, range(N_BANDS))
    portfolio.write("component_planes", figure, "Component planes of the 13 bands", alt)
    for i, band in enumerate(singles):
        figure, alt = component_plane(planes, scaler, i), describe(planes, [i])
        portfolio.write(f"component_plane_{band}", figure, f"Component plane of {heading(i)}", alt)
    portfolio.show_windows()


@styled
def component_planes(planes: NDArray[np.float64], scaler: model.Scaler, print_width: str = "page") -> Figure:
    """One panel a band, from the weights (rows, columns, 13) in reflectance."""
    rows, columns, _ = planes.shape
    room = ConstrainedLayoutEngine(w_pad=0.09)  # inches: the last number of a colour bar stands beyond its end
    width, wide = PRINT_WIDTHS[print_width], print_width == "page"
    down, across, share, below, n_ticks = (3, 5, 0.8, 0.25, 3) if wide else (5, 3, 0.66, 0.42, 2)
    figure = Figure(figsize=(width, down * (width / across * share * rows / columns + 0.72)), layout=room)
    panels = list(figure.subplots(down, across).flat)
    for i in range(N_BANDS):
        draw_plane(panels[i], planes, scaler, i, below, n_ticks)
    for axes in panels[N_BANDS:]:
        axes.set_axis_off()
    words = "Colour bars\nabove: scaled units\nbelow: reflectance"
    panels[N_BANDS].text(0, 0.5, words, va="center", linespacing=1.7, in_layout=False)
    return figure


@styled
def component_plane(planes: NDArray[np.float64], scaler: model.Scaler, i: int) -> Figure:
    """The plane of band i alone."""
    rows, columns, _ = planes.shape
    figure = Figure(figsize=(COLUMN * 0.8, COLUMN * 0.72 * rows / columns * 1.2 + 0.5), layout="constrained")
    bar = draw_plane(figure.subplots(), planes, scaler, i, below=0.14, n_ticks=5)
    bar.set_label("above: scaled units; below: reflectance")
    return figure


def draw_plane(
    axes: Axes, planes: NDArray[np.float64], scaler: model.Scaler, i: int, below: float, n_ticks: int
) -> Colorbar:
    """The plane of band i over a colour bar with both units: scaled ones above it, reflectance below."""
    bar = add_colour_bar(axes, draw_cells(axes, planes[:, :, i]), below=below, ticks=MaxNLocator(n_ticks))
    slope, offset = scaler.scale_[i], scaler.min_[i]
    scales: Any = (lambda value: offset + slope * value, lambda value: (value - offset) / slope)
    above = bar.ax.secondary_xaxis("top", functions=scales)
    above.xaxis.set_major_locator(MaxNLocator(n_ticks))
    above.tick_params(length=2, pad=1.5)
    above.spines["top"].set_visible(False)
    axes.set_title(heading(i))
    return bar


def heading(i: int) -> str:
    """'B8a (865 nm)' for band i."""
    return f"{BANDS[i]} ({WAVELENGTHS_NM[i]:.0f} nm)"


def describe(planes: NDArray[np.float64], shown: Iterable[int]) -> str:
    """The planes of these bands in words."""
    rows, columns, _ = planes.shape
    ranges = [f"{BANDS[i]} {planes[:, :, i].min():.3f} to {planes[:, :, i].max():.3f}" for i in shown]
    return f"Map of {rows} x {columns} neurons coloured by its weights, in reflectance: " + ", ".join(ranges)


if __name__ == "__main__":
    run(main, globals())
