"""Spectra of the classes and of neurons: reflectance against wavelength.

    python visualization/neuron_spectra.py
    python visualization/neuron_spectra.py --NEURONS 1,1 12,5 20,15

reads   TRAINING_CSV                    step 2's table, streamed
        SCALER_FILE, SOM_FILE           steps 2 and 3, for the neurons as reflectance
        HIT_MAPS_CSV, NEURON_LABELS_CSV step 5's tables
        NEURON_LABELS_FINETUNED_CSV     for the bright neurons, where there are fine-tuned labels
writes  FIGURES_DIR/neuron_spectra.png  (a) mean and standard deviation of each class, (b) chosen neurons
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLASSES, WAVELENGTHS_NM
from cloudsom.drawing.class_spectra import LOOKS, ClassSpectra, class_spectra
from cloudsom.drawing.figures import BRIGHT_COLOUR, PRINT_WIDTHS, portfolio_of, read_corrections, styled
from cloudsom.running.settings import optional_files, run, step_files
from cloudsom.som import labelled_map, neurons
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's counts
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # corrected labels; without them no neuron is red

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the picture goes

# picture
NEURONS: list[str] = []  # neurons as row,column counted from 1, as the maps' ticks do
# none named: of each class the neuron that most spectra of the class fall on
PRINT_WIDTH: Literal["page", "column"] = "page"
# a journal's page (180 mm) or column (85 mm); letters are as large in both, column has fewer panels beside each other

# running
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figure in a window too
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    inputs = step_files(globals(), "TRAINING_CSV", *labelled_map.STEP_FILES)
    inputs |= optional_files(globals(), "NEURON_LABELS_FINETUNED_CSV", without="no bright neurons are drawn")
    portfolio = portfolio_of(globals(), inputs)
    if portfolio.finished("neuron_spectra"):
        return
    som = labelled_map.from_steps(inputs)
    assert som.votes is not None
    labels, reflectance = som.labels, som.reflectance
    shown = neurons.parse("NEURONS", NEURONS, labels.rows, labels.columns) or fullest(som.votes, labels.classes)
    finetuned_csv = inputs.get("NEURON_LABELS_FINETUNED_CSV")
    bright = reflectance[read_corrections(labels, finetuned_csv).bright.ravel()] if finetuned_csv else reflectance[:0]
    spectra = class_spectra(csv_tables.read_spectra(inputs["TRAINING_CSV"]))
    figure, alt = neuron_spectra(spectra, som, shown, bright, PRINT_WIDTH), describe(spectra, som, shown, bright)
    portfolio.write("neuron_spectra", figure, "Spectra of the classes and of neurons", alt)
    portfolio.show_windows()


def fullest(counts: NDArray[np.int64], classes: NDArray[np.uint8]) -> list[int]:
    """For each class, of the neurons labelled so, the one with most of its spectra; classes without neurons left out.

    counts (neurons, 6), classes (neurons,), both row-major.
    """
    of_classes = [np.flatnonzero(classes == code) for code in CLASS_CODES]
    return [int(own[np.argmax(counts[own, i])]) for i, own in enumerate(of_classes) if len(own)]


@styled
def neuron_spectra(
    spectra: ClassSpectra, som: LabelledMap, shown: list[int], bright: NDArray[np.float64], print_width: str = "page"
) -> Figure:
    """(a) mean of each class with its standard deviation, (b) the neurons `shown`, as flat positions on the map.

    Reflectances of `bright` neurons (n, 13) are thin red lines.
    """
    width, wide = PRINT_WIDTHS[print_width], print_width == "page"
    figure = Figure(figsize=(width, width * 0.78 if wide else width * 2.1), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    for i, code in enumerate(CLASS_CODES):
        if spectra.number[i]:
            draw(above, spectra.mean[i], code, f"{CLASSES[code]} ({spectra.number[i]:,})")
            spread = spectra.mean[i] - spectra.deviation[i], spectra.mean[i] + spectra.deviation[i]
            above.fill_between(WAVELENGTHS_NM, *spread, color=LOOKS[code][0], alpha=0.13, linewidth=0)
    for j, spectrum in enumerate(bright):
        label = f"bright neurons ({len(bright)})" if j == 0 else None
        below.plot(WAVELENGTHS_NM, spectrum, color=BRIGHT_COLOUR, linewidth=0.5, label=label)
    for neuron in shown:
        code = int(som.labels.classes[neuron])
        draw(below, som.reflectance[neuron], code, f"{place(neuron, som)} {CLASSES.get(code, 'never hit')}")
    name_bands(above, n_rows := 2 if wide else 3)
    what = "shaded one standard deviation (spectra)"
    above.set_title(f"(a) classes: mean,{' ' if wide else chr(10)}{what}", pad=6 + 8 * n_rows, loc="left")
    below.set_title("(b) neurons (row, column) and their class", loc="left")
    for axes in (above, below):
        axes.vlines(WAVELENGTHS_NM, 0, 1, transform=axes.get_xaxis_transform(), color="#DDDDDD", lw=0.5, zorder=0)
        axes.set_ylabel("reflectance")
        beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        under: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.2), "ncols": 2, "columnspacing": 1}
        axes.legend(handlelength=2.6, **(beside if wide else under))
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.set_xlabel("wavelength (nm)")
    below.set_ylim(bottom=min(0, below.get_ylim()[0]))
    return figure


def draw(axes: Axes, spectrum: NDArray[np.float64], code: int, label: str) -> None:
    """One spectrum (13,) in the look of its class."""
    colour, marker, line = LOOKS[code]
    axes.plot(WAVELENGTHS_NM, spectrum, color=colour, marker=marker, linestyle=line, ms=3.2, lw=1.1, label=label)


def place(neuron: int, som: LabelledMap) -> str:
    """A neuron's (row, column), counted from 1."""
    return f"({neurons.name_of(neuron, som.labels.columns).replace(',', ', ')})"


def name_bands(axes: Axes, n_rows: int) -> None:
    """The bands' names above their wavelengths, in turn in each of `n_rows` rows: some are close."""
    for i, (band, wavelength) in enumerate(zip(BANDS, WAVELENGTHS_NM, strict=True)):
        place = (wavelength, 1), (0, 3 + 8 * (i % n_rows))
        axes.annotate(
            band, *place, xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="center", fontsize=7
        )


def describe(spectra: ClassSpectra, som: LabelledMap, shown: list[int], bright: NDArray[np.float64]) -> str:
    """The figure in words."""
    peaks = [
        f"{CLASSES[code]} {spectra.mean[i].max():.2f} in {BANDS[int(spectra.mean[i].argmax())]}"
        for i, code in enumerate(CLASS_CODES)
        if spectra.number[i]
    ]
    places = " ".join(place(neuron, som) for neuron in shown)
    return (
        f"Two graphs of reflectance against wavelength. Peaks of the classes' mean spectra: {', '.join(peaks)}. "
        f"Spectra of the neurons {places} and of {len(bright)} bright neurons"
    )


if __name__ == "__main__":
    run(main, globals())
