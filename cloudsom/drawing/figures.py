"""What the figures share: their look, the drawing of a map's neurons as cells, and their files.

A figure is made by a pure function from arrays to a `Figure`, marked `@styled`, and written by a `Portfolio`.
Nothing here opens a window or needs a display unless a script is asked to show its figures.
"""

import functools
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib import patheffects, style
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, CLEAR, CLOUD, NO_CLASS, SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.images.rasters import Grid, masks_in, open_scene, reflectance
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import snapshot
from cloudsom.som.labels import CLASS_CODES, NeuronLabels
from cloudsom.som.model import LABEL_COLUMNS, read_neuron_labels, read_table

#: Widths of a journal's column and page in inches (85 and 180 mm); figures are drawn at the size they are printed.
COLUMN, PAGE = 85 / 25.4, 180 / 25.4

#: What a sheet of several panels can be laid out for, by the word of PRINT_WIDTH, and its width in inches.
PRINT_WIDTHS = {"page": PAGE, "column": COLUMN}

#: Pixels per inch of a PNG, and of pictures within a PDF or SVG.
DPI = 300

#: Formats a figure can be written in, and the metadata of each that matplotlib would date or sign with its version;
#: without them the bytes depend on the content alone.
FORMATS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None, "Format": None, "Type": None},
}

#: The look of every figure: no letter under 7 points at printed size, letters kept as text in a PDF.
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters, and the same bytes, everywhere
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.titlepad": 4,
    "figure.constrained_layout.w_pad": 0.07,  # inches
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "cloudsom",  # fixed names inside an SVG
}

# Colours that are ours to choose: told apart by lightness alone, so by any eye and on a grey print.
CLOUD_COLOUR, CLEAR_COLOUR = "#C9DBE6", "#45575F"
NO_CLASS_COLOUR = "#FFFFFF"
BRIGHT_COLOUR = "#E0001B"  # the paper's red for neurons that bright surfaces fall on
MISSING_COLOUR = "#BDBDBD"  # neurons without a value, pixels without data

#: The masks before and after fine-tuning, as the paper calls them.
SOM1, SOM2 = "SOM1", "SOM2"

#: The paper's titles of the hit maps in its order, and the column of each in the table of counts.
HIT_PANELS = {
    f"(a{n}) {CLASSES[code]}": CLASS_CODES.index(code) for n, code in enumerate((10, 20, 40, 50, 60, 30), start=1)
}

#: Red, green and blue among the 13 bands.
TRUE_COLOUR_BANDS = [SAFE_BANDS.index(band) for band in ("B04", "B03", "B02")]

_FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # matplotlib's backends without windows

_SPLIT: dict[str, Any] = {"facecolor": CLOUD_COLOUR, "edgecolor": CLEAR_COLOUR, "hatch": "////////", "linewidth": 0}

P = ParamSpec("P")


@dataclass(frozen=True)
class Corrections:
    """What fine-tuning did to cloud neurons; bool (rows, columns).

    flipped  the whole neuron is clear now, as in the paper
    split    a small map inside the neuron tells its clouds from bright surfaces
    bright   the paper's bright neurons, on which bright samples fall; others are split for the training's land alone
    """

    flipped: NDArray[np.bool_]
    split: NDArray[np.bool_]
    bright: NDArray[np.bool_]

    @property
    def corrected(self) -> NDArray[np.bool_]:
        """All that were changed."""
        return self.flipped | self.split


#: No corrections at all, on a map of any size.
UNCORRECTED = Corrections(*np.zeros((3, 1, 1), bool))


def _look() -> Any:
    return style.context(["default", STYLE])


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A figure function drawn in STYLE, whatever the user's own matplotlib settings are."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _look():
            figure = draw(*args, **kwargs)
            for axes in figure.findobj(Axes):  # ticks are made when the figure is drawn, perhaps in another style
                axes.tick_params(which="both", labelsize=STYLE["xtick.labelsize"], width=STYLE["xtick.major.width"])
            return figure

    return in_style


# --- neurons as cells -------------------------------------------------------------------------------------------------


def map_ticks(n: int) -> list[int]:
    """1, 5, 10, 15... up to n, as the paper numbers rows and columns."""
    return [1, *range(5, n + 1, 5)]


def draw_cells(axes: Axes, values: NDArray[Any], norm: Normalize | None = None) -> QuadMesh:
    """Draw values (rows, columns) as square cells with white lines, neuron (1, 1) at the top left (paper's figures).

    Cell (row, column), counted from 1, is centred on the data point x = column, y = row. NaN cells are grey. Values
    (rows, columns, 3) from 0 to 1 are the cells' colours themselves.
    """
    rows, columns = values.shape[:2]
    edges = np.arange(columns + 1) + 0.5, np.arange(rows + 1) + 0.5
    shown = np.ma.masked_invalid(values) if values.ndim == 2 else values
    mesh = axes.pcolormesh(*edges, shown, cmap="viridis", norm=norm, edgecolors="white", linewidth=0.4)
    mesh.set_facecolor(MISSING_COLOUR)
    axes.set_facecolor(MISSING_COLOUR)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks(map_ticks(columns))
    axes.set_yticks(map_ticks(rows))
    axes.tick_params(length=2, pad=1.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def add_colour_bar(axes: Axes, mesh: QuadMesh, label: str = "", below: float = 0, **kwargs: Any) -> Colorbar:
    """A colour bar as long as the map: to its right, or `below` it by that share of the map's height."""
    place = (0, -below - 0.05, 1, 0.05) if below else (1.04, 0, 0.06, 1)
    orientation = "horizontal" if below else "vertical"
    bar = axes.figure.colorbar(mesh, cax=axes.inset_axes(place), orientation=orientation, label=label, **kwargs)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, pad=1.5)
    return bar


def draw_codes(axes: Axes, codes: NDArray[np.integer], colours: dict[int, str]) -> None:
    """Draw a map (rows, columns) of codes as cells, each code in its colour."""
    shown = np.zeros((*codes.shape, 3))
    for code, colour in colours.items():
        shown[codes == code] = to_rgb(colour)
    draw_cells(axes, shown)


def draw_classes(axes: Axes, classes: NDArray[np.integer]) -> None:
    """Draw the neurons' classes (rows, columns), 10..60 or 0, in the paper's colours; a cross on those without one."""
    draw_codes(axes, classes, {NO_CLASS: NO_CLASS_COLOUR, **CLASS_COLOURS})
    rows, columns = np.nonzero(classes == NO_CLASS)
    axes.scatter(columns + 1, rows + 1, marker="x", s=8, linewidth=0.6, color="#555555", zorder=3)


def draw_cloud(axes: Axes, cloud: NDArray[np.integer], corrections: Corrections = UNCORRECTED) -> None:
    """Draw the neurons' cloud/clear labels (rows, columns), 255 or 0.

    With `corrections` (`cloud` being the labels before them) corrected neurons are outlined in red; flipped ones have
    the colour of clear, split ones both.
    """
    draw_codes(axes, np.where(corrections.flipped, CLEAR, cloud), {CLEAR: CLEAR_COLOUR, CLOUD: CLOUD_COLOUR})
    for row, column in np.argwhere(corrections.split) + 1:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **_SPLIT))
    outline(axes, corrections.corrected)


def outline(axes: Axes, chosen: NDArray[np.bool_], colour: str = BRIGHT_COLOUR) -> None:
    """Outline the chosen cells (rows, columns), each within its own border, so that neighbours stay countable."""
    halo = [patheffects.Stroke(linewidth=1.9, foreground="white"), patheffects.Normal()]
    for row, column in np.argwhere(chosen) + 1:
        cell = Rectangle((column - 0.4, row - 0.4), 0.8, 0.8, fill=False, edgecolor=colour, linewidth=1.1, zorder=3)
        cell.set_path_effects(halo)
        axes.add_patch(cell)


def swatch(colour: str, label: str) -> Patch:
    """The legend entry of a colour."""
    return Patch(facecolor=colour, edgecolor="#888888", linewidth=0.4, label=label)


def class_legend(classes: NDArray[np.integer]) -> list[Patch]:
    """Legend entries of the six classes in the paper's order of colours, with the neurons of each."""
    order = (50, 40, 10, 20, 30, 60)
    entries = [(code, CLASSES[code], CLASS_COLOURS[code]) for code in order]
    if (classes == NO_CLASS).any():
        entries.append((NO_CLASS, "never hit", NO_CLASS_COLOUR))
    return [swatch(colour, f"{name} ({(classes == code).sum()})") for code, name, colour in entries]


def cloud_legend(cloud: NDArray[np.integer], corrections: Corrections = UNCORRECTED) -> list[Patch]:
    """Legend entries of what `draw_cloud` draws, with the neurons of each."""
    flipped, split = corrections.flipped, corrections.split
    after = np.where(flipped, CLEAR, cloud)
    entries = [
        swatch(CLOUD_COLOUR, f"cloud ({((after == CLOUD) & ~split).sum()})"),
        swatch(CLEAR_COLOUR, f"clear ({(after == CLEAR).sum()})"),
    ]
    if flipped.any():
        before = f"cloud before ({flipped.sum()})"
        entries.append(Patch(facecolor=CLEAR_COLOUR, edgecolor=BRIGHT_COLOUR, linewidth=1.1, label=before))
    if split.any():
        entries.append(Patch(**_SPLIT | {"linewidth": 0.4}, label=f"split by sub-map ({split.sum()})"))
    return entries


# --- scenes -----------------------------------------------------------------------------------------------------------


def true_colour(red_green_blue: NDArray[np.floating], brightest: float, gamma: float) -> NDArray[np.uint8]:
    """Reflectance of B4, B3, B2 (height, width, 3) as a picture for the eye, uint8 of the same shape.

    `brightest` is the reflectance shown as white; `gamma` above 1 lifts the dark surfaces. NaN becomes grey.
    """
    share = np.clip(red_green_blue / brightest, 0, 1) ** (1 / gamma)
    return np.where(np.isnan(share), 190, np.nan_to_num(share) * 255 + 0.5).astype(np.uint8)


def read_true_colour(tiff: Path, brightest: float, gamma: float) -> tuple[NDArray[np.uint8], Grid]:
    """A 13-band image as `true_colour` (height, width, 3), and its grid; a stripe of spectra in memory at a time."""
    with open_scene(tiff) as scene:
        stripes = (reflectance(dn, scene.info)[..., TRUE_COLOUR_BANDS] for _, dn in scene.blocks())
        return np.concatenate([true_colour(rgb, brightest, gamma) for rgb in stripes]), scene.grid


def find_masks(namespace: dict[str, Any]) -> list[tuple[str, str, Path]]:
    """The masks of step 9 ("SOM1") and those fine-tuning has made ("SOM2"), with the names of their products.

    Where, and of which products, the constants among the script's `globals()` say. Raises UserError when there are no
    masks, or a named product has none.
    """
    mask_dir, finetuned_dir = (under(namespace["DATA_DIR"], namespace[c]) for c in ("MASK_DIR", "MASK_FINETUNED_DIR"))
    first, final, products = masks_in(mask_dir), masks_in(finetuned_dir), namespace["PRODUCTS"]
    found = {SOM1: choose_products(first, products, mask_dir, "run step 9 (create_cloudmasks.py)")}
    if final:
        found[SOM2] = choose_products(final, products, finetuned_dir, "run fine_tuning.py")
    else:
        print(f"no masks in {finetuned_dir}: left out")
    return [(kind, name, mask) for kind, masks in found.items() for name, mask in masks.items()]


# --- inputs and files -------------------------------------------------------------------------------------------------


def read_corrections(labels: NeuronLabels, finetuned_csv: Path) -> Corrections:
    """What the fine-tuned labels change in `labels`; UserError if they are those of another map.

    A neuron is split where the table has a column `action` that says so, and bright where one of `samples` does;
    without that column all that were changed are.
    """
    after, table = read_neuron_labels(finetuned_csv), read_table(finetuned_csv, LABEL_COLUMNS)
    if (after.rows, after.columns) != (labels.rows, labels.columns):
        raise UserError(
            f"{finetuned_csv}: lists {after.rows} x {after.columns} neurons, the labels of step 5 "
            f"{labels.rows} x {labels.columns}; run fine_tuning.py again"
        )
    shape, was_cloud = (labels.rows, labels.columns), labels.cloud == CLOUD
    is_split = table["action"].to_numpy() == "split" if "action" in table.columns else np.zeros(len(table), bool)
    flipped, split = was_cloud & (after.cloud == CLEAR) & ~is_split, was_cloud & is_split
    bright = was_cloud & (table["samples"].to_numpy() > 0) if "samples" in table.columns else flipped | split
    return Corrections(flipped.reshape(shape), split.reshape(shape), bright.reshape(shape))


def save(figure: Figure, path: Path, kind: str, dpi: int = DPI) -> None:
    """Write a figure as 'png', 'pdf' or 'svg'; the same figure gives the same bytes."""
    with _look():
        figure.savefig(path, format=kind, dpi=dpi, metadata=FORMATS[kind])


@dataclass(frozen=True)
class Portfolio:
    """The figures of one script: where they go, what they are made of, in which formats, and whether they are shown.

    Raises UserError for a format there is not, or no display to show them on.
    """

    folder: Path
    made_by: stores.Recipe
    formats: Sequence[str] = ("png",)
    overwrite: bool = False
    show: bool = False

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.formats if kind not in FORMATS]
        if unknown or not self.formats:
            named = repr(unknown[0]) if unknown else "none"
            raise UserError(f"FORMATS: {named} is not one of {', '.join(FORMATS)}; name one or more of them")
        if self.show:
            _check_display()

    def made_of(self, inputs: Mapping[str, Path]) -> "Portfolio":
        """The same for figures that are made of these files by role: of a product's own."""
        settings = stores.Snapshot(self.made_by.script, self.made_by.constants)
        return replace(self, made_by=stores.recipe(settings, inputs))

    def up_to_date(self, *names: str) -> str:
        """A line a file where every figure is there and made of these very inputs and settings; else nothing.

        Figures to be shown are always drawn. Raises UserError where a file is not this pipeline's (`stores.finished`).
        """
        files = [self.folder / f"{name}.{kind}" for name in names for kind in self.formats]
        records = [stores.finished(file, self.made_by, self.overwrite) for file in files]
        done = all(records) and not self.show
        return "\n".join(f"{file}: is up to date" for file in files) if done else ""

    def finished(self, *names: str) -> bool:
        """Whether the figures are `up_to_date`, which is then said."""
        done = self.up_to_date(*names)
        if done:
            print(done)
        return bool(done)

    def keep(self, name: str, figure: Figure, title: str, alt: str, said: str, dpi: int = DPI) -> str:
        """Write a figure in every format, its title and its description in words (`alt`) in its settings file.

        Returns a line a file that ends in what is `said` of it. The figure's window, where one is asked for, belongs to
        this process: figures to be shown are drawn by the main one.
        """
        lines = []
        for kind in self.formats:
            file = self.folder / f"{name}.{kind}"
            with stores.product(file, self.made_by) as product:
                save(figure, product.partial, kind, dpi)
                product.results |= {"title": title, "alt": alt, "matplotlib": matplotlib.__version__}
            lines.append(f"{file}: {said}")
        if self.show:
            _add_window(figure, title)
        return "\n".join(lines)

    def write(self, name: str, figure: Figure, title: str, alt: str) -> None:
        """`keep`, and say what was written."""
        print(self.keep(name, figure, title, alt, title))

    def draw_scenes(self, draw: Callable[..., str], jobs: Sequence[Job], workers: int, what: str) -> None:
        """Run jobs, each of which keeps figures and returns what is said of them, and show the windows.

        Raises UserError for the jobs that failed, once the others are done.
        """
        outcomes = run_jobs(draw, jobs, Engine(workers, here=self.show), what)
        for lines in results_or_errors(outcomes):
            print(lines)
        self.show_windows()
        raise_if_any_failed(outcomes)

    def show_windows(self) -> None:
        """Where windows were asked for, show them and wait until the last one is closed."""
        if self.show:
            import matplotlib.pyplot as plt

            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # all is written: a stop request may end it at once
            with _look():
                plt.show()


def portfolio_of(namespace: dict[str, Any], inputs: dict[str, Path]) -> Portfolio:
    """The figures that a script makes of its inputs by role, as the constants among its `globals()` say."""
    folder, made_by = under(namespace["DATA_DIR"], namespace["FIGURES_DIR"]), stores.recipe(snapshot(namespace), inputs)
    return Portfolio(folder, made_by, namespace["FORMATS"], namespace["OVERWRITE"], namespace["SHOW"])


def _check_display() -> None:
    """UserError unless matplotlib can open a window here."""
    import matplotlib.pyplot as plt

    if plt.get_fignums():  # a window is open already, and switching might close it
        return
    try:
        plt.switch_backend(matplotlib.get_backend())
    except ImportError:
        plt.switch_backend("agg")
    if matplotlib.get_backend().lower() in _FILE_BACKENDS:
        raise UserError(
            "SHOW: there is no display here, or no window toolkit for it (Tk or Qt); look at the files in FIGURES_DIR"
        )


def _add_window(figure: Figure, title: str) -> None:
    """Hand a figure drawn without pyplot to pyplot, which owns the windows."""
    import matplotlib.pyplot as plt

    with _look(), matplotlib.rc_context({"figure.max_open_warning": 0}):  # many windows are meant, one for each scene
        window = plt.figure(FigureClass=lambda *args, **kwargs: figure)  # type: ignore[arg-type]
    if window.canvas.manager is not None:
        window.canvas.manager.set_window_title(title)
