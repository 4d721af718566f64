"""U-matrix: how far each neuron's weights are from its neighbours', and the logarithm of that.

Valleys (dark) are groups of similar neurons, ridges (bright) the borders between them.

    python visualization/U_matrix_creation.py

reads   SOM_FILE                   step 3's map
writes  FIGURES_DIR/u_matrix.png   the U-matrix and its natural logarithm
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.drawing.figures import PRINT_WIDTHS, add_colour_bar, draw_cells, portfolio_of, styled
from cloudsom.errors import UserError
from cloudsom.running.settings import run, step_files
from cloudsom.som import model
from cloudsom.som.u_matrix import u_matrix

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
SOM_FILE = "SOM_trained.p"  # step 3's map

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the pictures go

# picture
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figure in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "SOM_FILE")
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("u_matrix"):
        return
    weights = model.load_weights(inputs["SOM_FILE"])
    if weights.shape[0] * weights.shape[1] < 2:
        raise UserError(f"{inputs['SOM_FILE']}: a map of one neuron has no neighbours to compare")
    distances = u_matrix(weights)
    figure = u_matrix_figure(distances, PRINT_WIDTH)
    portfolio.write("u_matrix", figure, "U-matrix and its natural logarithm", describe(distances))
    portfolio.show_windows()


@styled
def u_matrix_figure(distances: NDArray[np.float64], print_width: str = "page") -> Figure:
    """Two panels: distances (rows, columns) and their natural logarithm; a distance of 0 has none and is left grey."""
    rows, columns = distances.shape
    logarithms = np.log(distances, out=np.full_like(distances, np.nan), where=distances > 0)
    width, down, across = PRINT_WIDTHS[print_width], *((1, 2) if print_width == "page" else (2, 1))
    height = down * (width / across * 0.72 * rows / columns + 0.3)
    figure = Figure(figsize=(width, height), layout="constrained")
    first, second = figure.subplots(down, across)
    add_colour_bar(first, draw_cells(first, distances), "mean distance to neighbours (scaled units)")
    add_colour_bar(second, draw_cells(second, logarithms), "ln(mean distance)")
    first.set_title("(a) U-matrix")
    second.set_title("(b) its natural logarithm")
    return figure


def describe(distances: NDArray[np.float64]) -> str:
    """The figure in words."""
    rows, columns = distances.shape
    row, column = np.unravel_index(np.argmax(distances), distances.shape)
    return (
        f"Two maps of {rows} x {columns} neurons: mean distance of each neuron's weights to its neighbours' and the "
        f"natural logarithm of it. Distances run from {distances.min():.4f} to {distances.max():.4f} scaled units, the "
        f"largest at row {row + 1}, column {column + 1}; their median is {np.median(distances):.4f}"
    )


if __name__ == "__main__":
    run(main, globals())
