"""Which cloud neurons are likely to be bright land, for a person to judge; nothing here changes a label.

Five things speak for it, each ranked among the cloud neurons: training votes that are not cloud; neighbours on the map
that are clear; pixels of cloud-free scenes that fall on it; weights that rise from the visible to the short-wave
infrared as dry ground does and clouds do not; no signal in the cirrus band.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from cloudsom.bands import CLEAR, CLOUD, WAVELENGTHS_NM
from cloudsom.brightness import CIRRUS, SHORT_WAVE, brightness
from cloudsom.drawing.figures import PAGE, add_colour_bar, draw_cells, outline, styled
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot
from cloudsom.masking.labelling import hits_of_scene
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.som import labelled_map, neurons
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES
from cloudsom.tuning.relabelling import Evidence

#: The columns that are ranked, and whether more of it speaks for bright land (1) or against (-1).
SIGNS = {"clear_votes": 1, "clear_neighbours": 1, "scene_share": 1, "short_wave_rise": 1, "cirrus": -1}


def clear_neighbours(cloud: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.float64]:
    """Share of each neuron's up to eight neighbours on the map that are clear; (rows * columns,)."""
    around = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    layers = (cloud == CLEAR).astype(np.float64).reshape(rows, columns), np.ones((rows, columns))
    clear, there = (ndimage.convolve(layer, around, mode="constant") for layer in layers)
    return np.asarray(clear / np.maximum(there, 1)).ravel()


def rank_neurons(som: LabelledMap, pixels: NDArray[np.int64] | None) -> pd.DataFrame:
    """The cloud neurons of a map whose votes are known, most likely bright land first.

    pixels  (neurons,) pixels of cloud-free scenes on each neuron; None where there are no such scenes

    The score is the mean of the ranks (0 to 1) by each of the columns in `SIGNS` that is known. A neuron no training
    spectrum fell on has no votes to rank.
    """
    evidence = Evidence.before_samples(som)
    total = evidence.votes.sum(axis=1)
    rows, columns, weights = som.labels.rows, som.labels.columns, som.reflectance
    table = pd.DataFrame(
        {
            "neuron": [neurons.name_of(neuron, columns) for neuron in range(len(total))],
            "votes": total,
            "clear_votes": evidence.clear_votes / np.where(total, total, np.nan),
            "clear_neighbours": clear_neighbours(evidence.cloud, rows, columns),
            "scene_pixels": 0 if pixels is None else pixels,
            "scene_share": np.nan if pixels is None else pixels / max(int(pixels.sum()), 1),
            "short_wave_rise": weights[:, SHORT_WAVE].mean(axis=1) / brightness(weights),
            "cirrus": weights[:, CIRRUS],
        }
    )[evidence.cloud == CLOUD]
    ranks = pd.DataFrame({name: (sign * table[name]).rank(pct=True) for name, sign in SIGNS.items()})
    table.insert(0, "score", ranks.mean(axis=1))
    table = table.sort_values("score", ascending=False, kind="stable")
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table.reset_index(drop=True)


def suggest(
    files: tuple[Path, Path],
    trained: dict[str, Path],
    sources: dict[str, Path],
    tiff_dir: Path,
    n_best: int,
    settings: Snapshot,
    engine: Engine,
    overwrite: bool,
) -> list[Outcome]:
    """Write the table of `rank_neurons` and its picture, in which the `n_best` are outlined; what became of each scene.

    trained  the files of the labelled map by role
    sources  spectra of cloud-free scenes by name; none: ranked without. UserError where none of them can be read
    """
    table_csv, picture = files
    made_by = stores.recipe(settings, trained | {source.name: source for source in sources.values()})
    for file in files:
        stores.finished(file, made_by, overwrite)  # refuses to write over somebody's own file
    som = labelled_map.from_steps(trained)
    jobs = [Job(name, (source, tiff_dir / f"{name}.tif", som)) for name, source in sources.items()]
    outcomes = run_jobs(hits_of_scene, jobs, engine, "counting") if jobs else []
    counts = results_or_errors(outcomes)
    if not counts:
        raise_if_any_failed(outcomes)
    good = [outcome.name for outcome in outcomes if not outcome.error]
    made_by = made_by.only([*trained, *(sources[name].name for name in good)])
    table = rank_neurons(som, sum(counts) if counts else None)
    if table.empty:
        raise UserError(f"{trained['NEURON_LABELS_CSV']}: no neuron is cloud; there is nothing to suggest")
    with stores.product(table_csv, made_by) as product:
        table.to_csv(product.partial, index=False)
    with stores.product(picture, made_by) as product:
        figure = suggestion_figure(table, som, n_best)
        figure.savefig(product.partial, format="png", dpi=300, metadata={"Software": None})
    print(table.head(n_best).to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}"))
    of = f"with the cloud-free scenes {', '.join(good)}" if good else "without a cloud-free scene"
    print(f"{table_csv}, {picture}: {len(table)} cloud neurons ranked {of}; nothing is changed")
    print("look at the picture; to accept some, run again with --FLIP_NEURONS row,column ..., or sample such ground")
    return outcomes


@styled
def suggestion_figure(table: pd.DataFrame, som: LabelledMap, n_best: int) -> Figure:
    """Scores of the cloud neurons on the map, the `n_best` numbered and outlined, and their spectra beside it."""
    rows, columns = som.labels.rows, som.labels.columns
    figure = Figure(figsize=(PAGE, PAGE * 0.52), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    scores = np.full(rows * columns, np.nan)
    flat = np.array(neurons.parse("neuron", table["neuron"], rows, columns))
    scores[flat] = table["score"]
    mesh = draw_cells(left, scores.reshape(rows, columns))
    add_colour_bar(left, mesh, "score: likely bright land")
    best = flat[:n_best].tolist()
    chosen = np.isin(np.arange(rows * columns), best).reshape(rows, columns)
    outline(left, chosen)
    for i, neuron in enumerate(best):
        y, x = divmod(neuron, columns)
        colour = "black" if scores[neuron] > scores[flat].mean() else "white"  # on yellow and on dark cells
        left.text(x + 1, y + 1, str(i + 1), ha="center", va="center", color=colour, fontsize=6)
    left.set_title(f"cloud neurons; the {len(best)} likeliest outlined")
    _draw_spectra(right, som.reflectance, Evidence.before_samples(som).votes, best)
    return figure


def _draw_spectra(axes: Axes, weights: NDArray[np.float64], votes: NDArray[np.int64], best: Sequence[int]) -> None:
    """Weights of the likeliest neurons against wavelength, over the mean of the neurons that are opaque cloud.

    The lines differ in colour, dashes and marker.
    """
    opaque = (votes.argmax(axis=1) == CLASS_CODES.index(50)) & (votes.sum(axis=1) > 0)
    order = np.argsort(WAVELENGTHS_NM)
    nm = np.asarray(WAVELENGTHS_NM)[order]
    for i, neuron in enumerate(best):
        colour, look = colormaps["viridis"](0.85 * i / max(len(best) - 1, 1)), ("-", "--", ":")[i % 3] + "osv^D"[i % 5]
        axes.plot(nm, weights[neuron][order], look, color=colour, linewidth=0.9, markersize=2.5, label=str(i + 1))
    if opaque.any():
        axes.plot(nm, weights[opaque].mean(axis=0)[order], color="black", linewidth=2, label="opaque cloud (mean)")
    axes.set_xlabel("wavelength (nm)")
    axes.set_ylabel("reflectance")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.16), handlelength=2.2, columnspacing=1)
    axes.set_title("their weights")
