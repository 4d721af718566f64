"""Masks of all processors side by side: each scene, the measures with their intervals, and the six classes.

What step 10 has scored is drawn as it was scored: the same masks, on the pixels that all of them have.

    python visualization/compare_masks.py
    python visualization/compare_masks.py --PRODUCTS NAME --FORMATS png pdf

reads   RESULTS_DIR/processors.csv, classes.csv                   step 10's tables, and the settings file of the first
        TIFF_DIR/NAME.tif                                         step 7's images
        MASK_DIR, MASK_FINETUNED_DIR, and step 10's OTHER_MASKS   the masks
        REFERENCE_DIR/NAME/Classification/classification_map.tif  reference class maps (Baetens et al. 2019 codes)
writes  FIGURES_DIR/compared/NAME.png    true colour, and what is right and wrong in each mask (paper's colours)
        FIGURES_DIR/processors.png       each measure of each processor, pooled, with its 95 % interval
        FIGURES_DIR/class_confusion.png  share of each class of the reference by class of the map, where it was scored
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.bands import MASK_NODATA
from cloudsom.drawing.figures import CLEAR_COLOUR, PAGE, Portfolio, portfolio_of, read_true_colour, styled
from cloudsom.drawing.outcomes import MEANINGS, outcomes_of, patches, picture
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, under
from cloudsom.images.rasters import masks_in
from cloudsom.images.references import find_references
from cloudsom.running.job import Job
from cloudsom.running.pool import choose_products
from cloudsom.running.settings import run
from cloudsom.scoring import classes, comparison, other_masks
from cloudsom.scoring.bootstrap import ALL_MEASURES
from cloudsom.scoring.comparison import ComparedScene
from cloudsom.scoring.scores import ratio
from cloudsom.som.model import read_table

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
RESULTS_DIR = "results"  # step 10's tables
TIFF_DIR = "tiff"  # step 7's images
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks, where there are any
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
PRODUCTS: list[str] = []  # names of the products to draw; none named: all that step 10 has scored

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the figures go

# picture
BRIGHTEST = 0.5  # [0.001, 100] reflectance shown as white, as in quicklooks.py
GAMMA = 1.7  # [0.1, 10] above 1 lifts dark surfaces: forest and sea are 0.02 to 0.1

# running
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.5 GB for a full tile at 60 m
FORMATS = ["png"]  # png (300 dpi), pdf, svg: one or more
SHOW = False  # open the figures in windows too; they are then drawn one after the other
OVERWRITE = False  # draw again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

#: Columns of processors.csv that are read.
COLUMNS = ("processor", "product", "role", "pixels", *ALL_MEASURES)

#: The measures as the figure calls them.
NAMES = {measure: measure.replace("_", " ") for measure in ALL_MEASURES} | {
    "f_score": "F-score",
    "iou": "IoU",
    "false_alarm_rate": "false-alarm rate",
    "bright_land_false_alarms": "false alarms, bright land",
}

#: Panels of a scene side by side.
ACROSS = 3


def main() -> None:
    file = existing(DATA_DIR, f"{RESULTS_DIR}/processors.csv", "run step 10 (evaluation_metrics.py)")
    table, rules = read_table(file, COLUMNS), (stores.read_record(file) or {}).get("constants", {})
    if not {"OTHER_MASKS", "CLOUD_CODES", "LEFT_OUT_CODES", "CLOUD_SHARE"} <= set(rules):
        raise UserError(f"{file}: has no settings file that says what was scored; run step 10 with --OVERWRITE")
    portfolio = portfolio_of(globals(), {})
    draw_measures(table, portfolio.made_of({"processors.csv": file}))
    class_file = file.with_name("classes.csv")
    if class_file.is_file():
        draw_classes(class_file, portfolio.made_of({"classes.csv": class_file}))
    scenes = find_scenes(table, rules)
    jobs = [Job(scene.name, (scene, lines, rules, portfolio, (BRIGHTEST, GAMMA))) for scene, lines in scenes]
    portfolio.draw_scenes(draw_scene, jobs, WORKERS, "drawing")


def find_scenes(table: pd.DataFrame, rules: dict[str, Any]) -> list[tuple[ComparedScene, dict[str, str]]]:
    """The products that step 10 has scored: the files it has scored them by, and `words` on each of their masks."""
    own = table[~table["product"].isin(["mean", "pooled"])]
    references = find_references(under(DATA_DIR, REFERENCE_DIR))
    names = {name: references[name] for name in own["product"].unique() if name in references}
    names = choose_products(names, PRODUCTS, under(DATA_DIR, REFERENCE_DIR), "run step 10 again")
    masks = masks_in(under(DATA_DIR, MASK_DIR))
    others = {p.name: p for p in other_masks.read_entries(rules["OTHER_MASKS"], comparison.OURS)}
    files = {name: other_masks.find(processor, DATA_DIR, names) for name, processor in others.items()}
    found = []
    for name, reference in names.items():
        rows = own[own["product"] == name].set_index("processor")
        ours = {comparison.SOM1: masks.get(name)} | comparison.final_masks(under(DATA_DIR, MASK_FINETUNED_DIR), name)
        scene = ComparedScene(
            name,
            reference,
            {kind: file for kind, file in ours.items() if kind in rows.index and file},
            {other: files[other][name] for other in files if other in rows.index and name in files[other]},
            under(DATA_DIR, TIFF_DIR) / f"{name}.tif",
        )
        found.append((scene, {processor: words(processor, row) for processor, row in rows.iterrows()}))
    return found


def words(processor: str, row: pd.Series) -> str:
    """A mask's name, and below it how much cloud it found and how much was none."""
    alarms = f"false alarms {row['false_alarm_rate']:.2%}"
    return f"{processor}\n{alarms}" if pd.isna(row["recall"]) else f"{processor}\nrecall {row['recall']:.1%}, {alarms}"


# --- scenes -----------------------------------------------------------------------------------------------------------


def draw_scene(
    scene: ComparedScene, lines: dict[str, str], rules: dict[str, Any], portfolio: Portfolio, look: tuple[float, float]
) -> str:
    """Draw one scene as step 10's `rules` scored it, masks under their `lines`; returns a line of summary a file.

    `look` is BRIGHTEST and GAMMA.
    """
    target = f"compared/{scene.name}"
    if not scene.tiff.is_file():
        raise UserError(f"{scene.tiff}: no such file; run step 7, or leave the product out with PRODUCTS")
    portfolio = portfolio.made_of(scene.inputs())
    if done := portfolio.up_to_date(target):
        return done
    reference, grid, masks = comparison.read_masks(scene, rules["CLOUD_SHARE"])
    image, image_grid = read_true_colour(scene.tiff, *look)
    if difference := grid.difference(image_grid):
        raise UserError(f"{scene.tiff}: does not cover the reference's pixels ({difference}); run step 7 again")
    nodata = np.logical_or.reduce([mask == MASK_NODATA for mask in masks.values()])
    codes = rules["CLOUD_CODES"], rules["LEFT_OUT_CODES"]
    panels = {
        lines[name]: outcomes_of(np.where(nodata, np.uint8(MASK_NODATA), mask), reference, *codes)
        for name, mask in masks.items()
    }
    title = f"{scene.name}: masks of {len(masks)} processors"
    alt = f"{title} beside true colour. {'; '.join(' '.join(line.split()) for line in panels)}"
    return portfolio.keep(target, compared(image, panels, scene.name), title, alt, ", ".join(masks))


@styled
def compared(image: NDArray[np.uint8], panels: dict[str, NDArray[np.uint8]], name: str) -> Figure:
    """True colour (height, width, 3), and outcomes (height, width) of each mask under its words, at page width."""
    shape = min(image.shape[0] / image.shape[1], 2.0)
    down = -(-(len(panels) + 1) // ACROSS)
    figure = Figure(figsize=(PAGE, down * (PAGE / ACROSS * shape + 0.35) + 0.5), layout="constrained")
    every = figure.subplots(down, ACROSS, squeeze=False).ravel()
    pictures = {"true colour": image} | {line: picture(codes) for line, codes in panels.items()}
    for axes in every:
        axes.set_axis_off()
    for axes, (line, shown) in zip(every, pictures.items(), strict=False):
        axes.imshow(shown, interpolation="antialiased", interpolation_stage="rgba")
        axes.set_title(line)
    figure.suptitle(name)
    figure.legend(handles=patches(MEANINGS), loc="outside lower center", ncols=4)
    return figure


# --- measures ---------------------------------------------------------------------------------------------------------


def draw_measures(table: pd.DataFrame, portfolio: Portfolio) -> None:
    """Draw the pooled measures, of the scenes held out where there are such."""
    pooled = table[table["product"] == "pooled"]
    if pooled.empty:
        print("no pooled measures in step 10's table: their figure is left out")
        return
    role = pooled["role"].iloc[0]
    rows = pooled[pooled["role"].eq(role) | pooled["role"].isna()]
    of = comparison.OF["" if pd.isna(role) else str(role)]
    title = f"Pooled measures and their 95 % intervals: {of}, {rows['pixels'].iloc[0]:,.0f} pixels"
    if not portfolio.finished("processors"):
        values = "; ".join(f"{row['processor']}: accuracy {row['accuracy']:.4f}" for _, row in rows.iterrows())
        portfolio.write("processors", measures_figure(rows, title), title, f"{title}. {values}")


@styled
def measures_figure(rows: pd.DataFrame, title: str) -> Figure:
    """A panel a measure, a line a processor: its value, and its interval where the table has one."""
    names = rows["processor"].tolist()
    figure = Figure(figsize=(PAGE, 2 * (0.5 + 0.19 * len(names)) + 0.5), layout="constrained")
    every = figure.subplots(2, len(ALL_MEASURES) // 2, sharey=True)
    lines = np.arange(len(names))
    for axes, measure in zip(every.ravel(), ALL_MEASURES, strict=True):
        value = rows[measure].to_numpy(float)
        ends = [rows[f"{measure}_{end}"].to_numpy(float) for end in ("low", "high")]
        axes.hlines(lines, *ends, color=CLEAR_COLOUR, linewidth=1.2)
        ours = np.isin(names, comparison.OURS)
        axes.scatter(value[ours], lines[ours], s=16, color="#006666", zorder=3)
        axes.scatter(value[~ours], lines[~ours], s=16, color="#990000", marker="D", zorder=3)
        axes.set_title(NAMES[measure])
        axes.grid(axis="x", linewidth=0.3)
        axes.locator_params(axis="x", nbins=4)
        if np.isnan(value).all():
            axes.text(0.5, 0.5, "not defined", transform=axes.transAxes, ha="center")
            axes.set_xticks([])
    axes.set_yticks(lines, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(title)
    return figure


# --- classes ----------------------------------------------------------------------------------------------------------


def draw_classes(file: Path, portfolio: Portfolio) -> None:
    """Draw the pooled matrix of classes."""
    if portfolio.finished("class_confusion"):
        return
    table = read_table(file, ("product", "reference", *classes.COLUMNS))
    own = table[(table["product"] == "pooled") & (table["reference"] != classes.USERS_ACCURACY)]
    pixels = own.set_index("reference").loc[classes.REFERENCE_CLASSES, classes.COLUMNS].to_numpy(float)
    title = f"Classes of step 9 against the reference's, {pixels.sum():,.0f} pixels"
    right = zip(classes.REFERENCE_CLASSES, ratio(np.diag(pixels), pixels.sum(axis=1)), strict=True)
    alt = "; ".join(f"{name} {share:.1%}" for name, share in right if np.isfinite(share))
    portfolio.write("class_confusion", confusion_figure(pixels, title), title, f"{title}. Producer's accuracy: {alt}")


@styled
def confusion_figure(pixels: NDArray[np.float64], title: str) -> Figure:
    """Per cent of each class of the reference, rows of (6, 7) pixels, by class of the map; users' accuracies below."""
    share = ratio(pixels, np.broadcast_to(pixels.sum(axis=1, keepdims=True), pixels.shape))
    users = ratio(np.diag(pixels), pixels[:, : len(pixels)].sum(axis=0))
    figure = Figure(figsize=(0.75 * PAGE, 0.5 * PAGE), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(share.shape):
        if np.isfinite(share[row, column]):
            dark = share[row, column] > 0.6
            text = f"{100 * share[row, column]:.1f}"
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    ends = [f"{100 * value:.1f} %" if np.isfinite(value) else "-" for value in users] + [""]
    axes.set_xticks(range(pixels.shape[1]), [f"{name}\n{end}" for name, end in zip(classes.COLUMNS, ends, strict=True)])
    totals = [
        f"{name}\n{total:,.0f}" for name, total in zip(classes.REFERENCE_CLASSES, pixels.sum(axis=1), strict=True)
    ]
    axes.set_yticks(range(len(pixels)), totals)
    axes.set_xlabel("class of the map, and its user's accuracy")
    axes.set_ylabel("reference, and its pixels")
    axes.set_title(f"{title}\nper cent of each row; on the diagonal the producer's accuracy")
    return figure


if __name__ == "__main__":
    run(main, globals())
