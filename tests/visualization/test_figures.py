"""The figures: pixels of small made maps, numbers against independent computations, scripts from end to end."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, make_spectra, run_script, write_reference, write_scene
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from osgeo import gdal
from PIL import Image, ImageGrab
from runs import call, fine_tune, grid_of, made_submap, make_run, split_neurons, tuned_map
from sklearn.preprocessing import MinMaxScaler

from cloudsom.bands import BANDS, CLASS_COLOURS, CLASSES, CLOUD, MASK_NODATA
from cloudsom.drawing import figures, pictures
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.images.rasters import Grid, read_mask, write_layer, write_mask
from cloudsom.running import settings
from cloudsom.scoring import scores
from cloudsom.som import labels, model, neurons
from cloudsom.som.labelled_map import LabelledMap
from visualization import (
    Creating_component_planes,
    Creating_hit_rate_maps,
    Creating_scatterplots,
    U_matrix_creation,
    add_georeference,
    colored_cloudmasks,
    methodology_figure,
    neuron_label_maps,
    neuron_spectra,
    quicklooks,
    sub_maps,
)

# The authors' own map, decoded from their figure: row 1 on top.
AUTHORS_MAP = (
    "OOOOOOOOOONNNNN", "OOOOOOOOOONNNNN", "OOOOOOOOOONNNNN", "OOOOOOOOONNNNNN", "OOOOOOOOONNNNNN",
    "OOOOOOOOONNNNNN", "OOOOOOOOONNNNNN", "OOOLOOOOCNNNNNN", "OOLCCCCCCCCNNNN", "OLLCCLCCCCCNNNN",
    "OLLLCCCCCOONNNN", "LLLLLCCCCCCONSS", "LLLLLCCCCCCOSSS", "LLLLLLCCCCCSSWW", "OLLLLLLLLCCWSWW",
    "CLLLLLLLSLSSWWW", "CLLLLLLLLLSSWWW", "CLLLLLLLLSSSWWW", "LLLLLLLLSSSSSWW", "LLLLLLLSSSSSSWW",
)  # fmt: skip
CODES = {"L": 10, "W": 20, "S": 30, "C": 40, "O": 50, "N": 60}
CLASSES_OF_AUTHORS = np.array([[CODES[letter] for letter in row] for row in AUTHORS_MAP], np.uint8)

# The 18 neurons they turned to clear, counted from 1.
FLIPPED_BY_AUTHORS = (
    (7, 3), (8, 2), (8, 3), (9, 2), (10, 1), (10, 4), (11, 1), (11, 5), (12, 6),
    (12, 11), (12, 12), (13, 6), (13, 11), (13, 12), (14, 7), (14, 9), (15, 1), (15, 10),
)  # fmt: skip


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.lstrip("#")))


def rendered(figure: Figure) -> np.ndarray:
    """The pixels of a figure (height, width, 3); drawn once, for figures do not change in these tests."""
    if not isinstance(figure.canvas, FigureCanvasAgg):
        FigureCanvasAgg(figure).draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # type: ignore[attr-defined]


def pixel(figure: Figure, axes: Axes, x: float, y: float) -> tuple[int, ...]:
    """The colour a figure shows at the data point (x, y) of some axes."""
    picture = rendered(figure)
    column, row = axes.transData.transform((x, y))
    return tuple(int(value) for value in picture[len(picture) - 1 - int(row), int(column)])


def panel(figure: Figure, title: str) -> Axes:
    """The axes with a title that begins so."""
    return next(axes for axes in figure.axes if (axes.get_title() or axes.get_title(loc="left")).startswith(title))


def words_of(figure: Figure) -> list[Any]:
    """Every visible text of a figure."""
    from matplotlib.text import Text

    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


# --- a small run on disk ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "data")


@pytest.fixture
def data(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run that a test may change."""
    return Path(shutil.copytree(made_run, tmp_path / "data"))


# --- shared -----------------------------------------------------------------------------------------------------------


def test_ticks_are_those_of_the_paper() -> None:
    assert figures.map_ticks(20) == [1, 5, 10, 15, 20]
    assert figures.map_ticks(15) == [1, 5, 10, 15]
    assert figures.map_ticks(3) == [1]


def test_true_colour_by_hand() -> None:
    reflectance = np.array([[[0.0, 0.125, 0.5], [0.9, -0.1, np.nan]]])
    assert figures.true_colour(reflectance, brightest=0.5, gamma=1).tolist() == [[[0, 64, 255], [255, 0, 190]]]
    assert figures.true_colour(reflectance, brightest=0.5, gamma=2)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", figures.FORMATS)
def test_the_same_figure_has_the_same_bytes_and_no_date(kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        figures.save(Creating_hit_rate_maps.hit_rate_map(np.arange(30).reshape(6, 5)), tmp_path / name, kind)
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "two").read_bytes()
    for word in (b"Date", b"matplotlib.org", b"Software"):
        assert word not in one


def test_png_has_300_pixels_an_inch_at_printed_width(tmp_path: Path) -> None:
    figures.save(Creating_hit_rate_maps.hit_rate_map(np.ones((6, 5), int)), tmp_path / "a.png", "png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == int(85 / 25.4 * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_users_own_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    figures.save(Creating_hit_rate_maps.hit_rate_map(np.ones((6, 5), int)), tmp_path / "a", "png")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "image.cmap": "gray", "savefig.dpi": 50}):
        figures.save(Creating_hit_rate_maps.hit_rate_map(np.ones((6, 5), int)), tmp_path / "b", "png")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# What people who lack one kind of cone see (Machado, Oliveira & Fernandes 2009, full severity), on linear RGB.
COLOUR_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", COLOUR_BLIND)
@pytest.mark.parametrize(
    "colours",
    [
        [figures.CLOUD_COLOUR, figures.CLEAR_COLOUR],
        [figures.BRIGHT_COLOUR, figures.CLOUD_COLOUR],
        list(methodology_figure.CHANGES.values()),
        [look[0] for code, look in neuron_spectra.LOOKS.items() if code],
        ["#ff00c8", "#ffd400", "#00e5ff", "#0050e0"],
    ],
    ids=["cloud and clear", "bright neurons", "changes", "classes of spectra", "layers of the page to walk in"],
)
def test_our_colours_are_told_apart_by_any_eye(kind: str, colours: list[str]) -> None:
    linear = (np.array([rgb(colour) for colour in colours]) / 255) ** 2.2
    seen = np.clip(linear @ np.array(COLOUR_BLIND[kind]).T, 0, 1) ** (1 / 2.2) * 255
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 40


def test_lines_of_spectra_differ_in_more_than_colour() -> None:
    assert len({look[1] for look in neuron_spectra.LOOKS.values()}) == len(neuron_spectra.LOOKS)


# --- hit-rate maps ----------------------------------------------------------------------------------------------------


def test_hit_rate_maps_show_each_count_in_its_panel_and_cell() -> None:
    counts = np.zeros((20, 15, 6), int)
    for i in range(6):
        counts[2 + i, 4, i] = 1000  # row 3 + i, column 5, counted from 1
    figure = Creating_hit_rate_maps.hit_rate_maps(counts, colours="linear")
    least, most = (tuple(round(255 * value) for value in colormaps["viridis"](v)[:3]) for v in (0.0, 1.0))
    for i, name in enumerate(CLASSES.values()):
        axes = next(axes for axes in figure.axes if axes.get_title().endswith(f") {name}"))
        assert pixel(figure, axes, 5, 3 + i) == most
        assert pixel(figure, axes, 5, 10) == least
        assert pixel(figure, axes, 5, 3 + i + 1) == least
    between = [pixel(figure, panel(figure, "(a1) land"), 5 + step / 20, 10) for step in range(20)]
    assert max(map(min, between)) > 100  # somewhere between two dark cells is a light line


def test_hit_rate_panels_are_in_the_papers_order() -> None:
    figure = Creating_hit_rate_maps.hit_rate_maps(np.zeros((20, 15, 6), int))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["(a1) land", "(a2) water", "(a3) cirrus", "(a4) opaque cloud", "(a5) snow", "(a6) shadow"]
    axes = panel(figure, "(a1)")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "5", "10", "15", "20"]
    assert axes.yaxis_inverted()


def test_hit_rates_are_labelled_in_thousands() -> None:
    counts = np.zeros((20, 15), int)
    counts[0, 0] = 51_094
    figure = Creating_hit_rate_maps.hit_rate_map(counts, "linear")
    rendered(figure)
    words = [text.get_text() for text in words_of(figure)]
    assert {"10", "20", "50", "spectra (thousands)"} <= set(words)
    few = Creating_hit_rate_maps.hit_rate_map(counts // 1000, "linear")
    assert "spectra" in [text.get_text() for text in words_of(few)]


def test_one_full_neuron_does_not_darken_the_others() -> None:
    counts = np.zeros((20, 15), int)
    counts[0, 0], counts[0, 1], counts[0, 2] = 50_000, 224, 1  # 224 is half way from 1 to 50,000
    figure = Creating_hit_rate_maps.hit_rate_map(counts)
    axes = panel(figure, "all classes")
    for column, share in ((1, 1.0), (2, 0.5), (3, 0.0)):
        shade = [round(255 * value) for value in colormaps["viridis"](share)[:3]]
        np.testing.assert_allclose(pixel(figure, axes, column, 1), shade, atol=3)
    assert pixel(figure, axes, 4, 1) == rgb(figures.MISSING_COLOUR)


# --- U-matrix ---------------------------------------------------------------------------------------------------------


def test_u_matrix_of_equal_neurons_has_no_logarithm_and_is_grey() -> None:
    distances = np.ones((4, 3))
    distances[1, 2] = 0
    figure = U_matrix_creation.u_matrix_figure(distances)
    assert pixel(figure, panel(figure, "(b)"), 3, 2) == rgb(figures.MISSING_COLOUR)


# --- component planes -------------------------------------------------------------------------------------------------


def test_component_planes_show_both_units() -> None:
    scaler = scaler_of(0.0, 2.0)
    scaled = np.random.default_rng(5).random((20, 15, 13))
    scaled[4, 6, 8], scaled[10, 2, 8] = 1.0, 0.0
    reflectance = scaler.reflectance(scaled)
    np.testing.assert_allclose(model.scale(reflectance.copy(), scaler), scaled, atol=1e-15)
    figure = Creating_component_planes.component_planes(reflectance, scaler)
    axes = panel(figure, "B8a")
    assert pixel(figure, axes, 7, 5) == tuple(round(255 * v) for v in colormaps["viridis"](1.0)[:3])
    assert pixel(figure, axes, 3, 11) == tuple(round(255 * v) for v in colormaps["viridis"](0.0)[:3])
    assert sum(axes.get_title().startswith("B") for axes in figure.axes) == 13
    single = Creating_component_planes.component_plane(reflectance, scaler, 8)
    rendered(single)
    bar = panel(single, "B8a").child_axes[0]
    assert (bar.get_xlim(), bar.child_axes[0].get_xlim()) == (pytest.approx((0, 2)), pytest.approx((0, 1)))


def scaler_of(low: float, high: float) -> model.Scaler:
    fitted = MinMaxScaler().fit(np.array([np.full(13, low), np.full(13, high)]))
    return model.Scaler(fitted.scale_, fitted.min_, fitted.data_min_, fitted.data_max_)


def test_component_plane_of_one_value_is_drawn() -> None:
    rendered(Creating_component_planes.component_plane(np.full((4, 3, 13), 0.25), scaler_of(0.0, 2.0), 0))


# --- scatterplots -----------------------------------------------------------------------------------------------------


def density_of(spectra: np.ndarray, codes: np.ndarray, width: float = 0.01, block: int = 70) -> Any:
    edges = [
        Creating_scatterplots.edges(float(spectra[:, band].min()), float(spectra[:, band].max()), width)
        for band in (7, 11)
    ]
    blocks = [(spectra[i : i + block], codes[i : i + block]) for i in range(0, len(spectra), block)]
    return Creating_scatterplots.count(blocks, 7, 11, *edges)


def test_counts_equal_numpys_histogram() -> None:
    spectra, codes = make_spectra(1000)
    density = density_of(spectra, codes)
    for i, code in enumerate(CLASSES):
        x, y = (spectra[codes == code, band].astype(np.float64) for band in (7, 11))
        expected, _, _ = np.histogram2d(x, y, bins=(density.x_edges, density.y_edges))
        np.testing.assert_array_equal(density.counts[i], expected)
    assert density.counts.sum() == 1000


def test_no_step_of_stored_reflectance_is_on_an_edge() -> None:
    edges = Creating_scatterplots.edges(0.0, 1.2, 0.004)
    steps = np.arange(0, 12001) / 10000
    bins = Creating_scatterplots.position(steps.astype(np.float32), edges)
    np.testing.assert_array_equal(bins, np.arange(12001) // 40)


def test_bins_stay_few_however_wide_the_range() -> None:
    assert len(Creating_scatterplots.edges(-0.1, 655.35, 0.004)) <= Creating_scatterplots.MOST_BINS + 1
    edges = Creating_scatterplots.edges(0.0, 1.0, 0.1)
    assert Creating_scatterplots.position(np.array([-9.0, 99.0]), edges).tolist() == [0, len(edges) - 2]


def test_frame_holds_the_neurons_and_tells_what_it_leaves_out() -> None:
    spectra, codes = make_spectra(1000)
    spectra[0, 7] = 2.5
    density = density_of(spectra, codes)
    neurons = Creating_scatterplots.Neurons(np.array([[0.9, -0.2]]), np.array([[0.1, 1.4]]), np.zeros((1, 2), bool))
    frame = Creating_scatterplots.frame_of(density, neurons, 0.99)
    assert frame[0] < -0.2
    assert frame[1] < 2.4
    assert frame[3] > 1.4
    for limits, some in ((frame, True), ((-1, 9, -1, 9), False)):
        plots = Creating_scatterplots.Plots(density, neurons, limits, ("B8", "B11"))
        assert (Creating_scatterplots.outside(plots, Creating_scatterplots.ALL) >= 1) == some


def test_scatterplot_shows_spectra_neurons_and_bright_neurons_in_red() -> None:
    spectra = np.full((50, 13), 0.3, np.float32)
    density = density_of(np.concatenate([spectra, spectra * 2]), np.repeat([10, 50], 50))
    neurons = Creating_scatterplots.Neurons(
        np.array([[0.1, 0.5]]), np.array([[0.5, 0.1]]), np.array([[False, True]]), "none"
    )
    plots = Creating_scatterplots.Plots(density, neurons, (0.0, 0.8, 0.0, 0.8), ("B8", "B11"))
    figure = Creating_scatterplots.scatterplot(plots, "land")
    axes = panel(figure, "land (50)")
    assert pixel(figure, axes, 0.3, 0.3) not in ((255, 255, 255), pixel(figure, axes, 0.6, 0.6))
    assert pixel(figure, axes, 0.6, 0.6) == (255, 255, 255)  # opaque cloud is not in the plot of land
    assert pixel(figure, axes, 0.5, 0.1) == rgb(figures.BRIGHT_COLOUR)
    assert pixel(figure, axes, 0.1, 0.5) == (0x22, 0x22, 0x22)


def test_neurons_are_joined_in_grid_order() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    neurons = Creating_scatterplots.Neurons(grid, grid + 10, np.zeros((2, 3), bool), "order")
    [(x, y)] = Creating_scatterplots.lines(neurons)
    assert (x.tolist(), y.tolist()) == ([0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15])
    in_grid = Creating_scatterplots.lines(Creating_scatterplots.Neurons(grid, grid, neurons.bright, "grid"))
    assert [x.tolist() for x, _ in in_grid] == [[0, 1, 2], [3, 4, 5], [0, 3], [1, 4], [2, 5]]


# --- label maps -------------------------------------------------------------------------------------------------------


def test_authors_map_comes_out_in_the_papers_layout_and_colours() -> None:
    cloud = labels.is_cloud(CLASSES_OF_AUTHORS)
    assert (cloud == CLOUD).sum() == 125
    flipped = np.zeros((20, 15), bool)
    flipped[tuple(np.array(FLIPPED_BY_AUTHORS).T - 1)] = True
    figure = label_maps(CLASSES_OF_AUTHORS, cloud, only_flipped(flipped))
    classes, cloud_panel, tuned = (panel(figure, f"({letter})") for letter in "abc")
    known = ((1, 1, 50), (1, 15, 60), (8, 4, 10), (8, 9, 40), (20, 15, 20), (20, 8, 30), (16, 9, 30))
    for row, column, code in known:
        assert pixel(figure, classes, column, row) == rgb(CLASS_COLOURS[code])
    assert pixel(figure, cloud_panel, 1, 1) == rgb(figures.CLOUD_COLOUR)
    assert pixel(figure, cloud_panel, 15, 1) == rgb(figures.CLEAR_COLOUR)
    assert pixel(figure, cloud_panel, 3, 7) == rgb(figures.CLOUD_COLOUR)
    for row, column in FLIPPED_BY_AUTHORS:
        assert pixel(figure, tuned, column, row) == rgb(figures.CLEAR_COLOUR)
        red, green, blue = pixel(figure, tuned, column - 0.4, row)
        assert red > 180 and green < 90 and blue < 90, (row, column)
    assert pixel(figure, tuned, 1, 1) == rgb(figures.CLOUD_COLOUR)
    words = " ".join(text.get_text() for text in words_of(figure))
    opaque = "".join(AUTHORS_MAP).count("O")
    for count in ("cloud (125)", "cloud (107)", "cloud before (18)", f"opaque cloud ({opaque})"):
        assert count in words


def label_maps(
    classes: np.ndarray, cloud: np.ndarray, corrections: figures.Corrections | None = None, print_width: str = "page"
) -> Figure:
    """The maps of labels (rows, columns)."""
    rows, columns = classes.shape
    labelled = labels.NeuronLabels(rows, columns, classes.ravel(), cloud.ravel(), np.ones(classes.size))
    return neuron_label_maps.neuron_label_maps(labelled, corrections, print_width)


def only_flipped(flipped: np.ndarray) -> figures.Corrections:
    return figures.Corrections(flipped, np.zeros_like(flipped), flipped)


def test_split_neurons_show_both_colours_within_a_red_outline() -> None:
    cloud = np.full((4, 3), CLOUD, np.uint8)
    split = np.zeros((4, 3), bool)
    split[1, 2] = True
    figure = label_maps(cloud, cloud, figures.Corrections(np.zeros_like(split), split, split))
    axes = panel(figure, "(c)")
    inside = [pixel(figure, axes, 2.7 + step / 50, 2.0) for step in range(30)]
    assert max(map(sum, inside)) > sum(rgb(figures.CLOUD_COLOUR)) - 60
    assert min(map(sum, inside)) < sum(rgb(figures.CLEAR_COLOUR)) + 200  # thin lines, mixed with what is between them
    red, green, blue = pixel(figure, axes, 2.6, 2)
    assert red > 180 and green < 90 and blue < 90
    words = [text.get_text() for text in words_of(figure)]
    assert "split by sub-map (1)" in words and "cloud (11)" in words


def test_corrections_are_what_the_fine_tuned_table_says(tmp_path: Path) -> None:
    classes, cloud = np.array([50, 50, 50, 10], np.uint8), np.array([255, 255, 255, 0], np.uint8)
    before = labels.NeuronLabels(1, 4, classes, cloud, np.ones(4))
    place = tmp_path / "tuned.csv"
    lines = ["0,0,50,255,1,kept", "0,1,10,0,1,flipped", "0,2,50,255,1,split", "0,3,10,0,1,kept"]
    place.write_text("\n".join(["row,column,class,cloud,share,action", *lines]))
    found = figures.read_corrections(before, place)
    assert np.flatnonzero(found.flipped).tolist() == [1] and np.flatnonzero(found.split).tolist() == [2]
    place.write_text("\n".join(["row,column,class,cloud,share", *(line.rsplit(",", 1)[0] for line in lines)]))
    assert np.flatnonzero(figures.read_corrections(before, place).bright).tolist() == [1]
    lines = [f"{line},{n}" for line, n in zip(lines, (3, 9, 0, 4), strict=True)]  # split for the training's land alone
    place.write_text("\n".join(["row,column,class,cloud,share,action,samples", *lines]))
    assert np.flatnonzero(figures.read_corrections(before, place).bright).tolist() == [0, 1]


def test_every_cell_of_the_authors_map_has_its_class_colour() -> None:
    figure = label_maps(CLASSES_OF_AUTHORS, labels.is_cloud(CLASSES_OF_AUTHORS))
    axes, picture = panel(figure, "(a)"), rendered(figure)
    rows, columns = np.indices((20, 15)) + 1
    place = axes.transData.transform(np.stack([columns.ravel(), rows.ravel()], axis=1)).astype(int)
    shown = picture[len(picture) - 1 - place[:, 1], place[:, 0]]
    expected = [rgb(CLASS_COLOURS[int(code)]) for code in CLASSES_OF_AUTHORS.ravel()]
    np.testing.assert_array_equal(shown, expected)


def test_neurons_never_hit_are_marked_and_named() -> None:
    classes = np.full((4, 3), 10, np.uint8)
    classes[1, 1] = 0
    figure = label_maps(classes, np.zeros((4, 3), np.uint8))
    assert "never hit (1)" in [text.get_text() for text in words_of(figure)]
    assert pixel(figure, panel(figure, "(a)"), 2.3, 2) == rgb(figures.NO_CLASS_COLOUR)


# --- sub-maps ---------------------------------------------------------------------------------------------------------


def test_sub_maps_show_each_sub_neuron_in_the_colour_of_its_label() -> None:
    cloud = np.full(16, CLOUD)
    cloud[6] = 0  # second row, third column
    tuned = tuned_map({7: made_submap(cloud), 3: made_submap(np.full(16, CLOUD))})
    figure = sub_maps.sub_maps_figure(tuned, {7: "neuron (2, 3)", 3: "neuron (1, 4)"})
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["neuron (1, 4)", "neuron (2, 3)"]
    split, whole = panel(figure, "neuron (2, 3)"), panel(figure, "neuron (1, 4)")
    assert pixel(figure, split, 3.35, 2.35) == rgb(figures.CLEAR_COLOUR)
    assert pixel(figure, split, 2.35, 3.35) == rgb(figures.CLOUD_COLOUR)
    assert pixel(figure, whole, 3.35, 2.35) == rgb(figures.CLOUD_COLOUR)
    assert {"cloud (31)", "clear (1)"} <= {text.get_text() for text in words_of(figure)}


def test_distances_of_sub_neurons_by_hand() -> None:
    weights = np.zeros((2, 2, 13))
    weights[0, 1, :2] = (3, 4)  # 5 from its two neighbours; the others are equal
    assert sub_maps.neighbour_distance(weights).tolist() == [[2.5, 5.0], [0.0, 2.5]]


def test_sub_maps_are_named_with_what_fell_on_them(data: Path) -> None:
    call(sub_maps, split_neurons(data, (7,)))
    words = (stores.read_record(data / "figures" / "sub_maps.png") or {})["results"]["alt"]
    assert words == "1 sub-maps as grids of cells, cloud or clear; share of cloud cells: neuron 2,3 69%."
    table = model.read_table(data / "flip_table.csv", ("neuron",))
    assert sub_maps.title_of(7, 5, table) == "neuron 2,3\n430 clouds\n1,234 bright"
    assert sub_maps.title_of(8, 5, table) == "neuron 2,4"


def test_a_map_without_sub_maps_is_refused_or_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split_neurons(data, ())
    with pytest.raises(UserError, match=r"neuron_labels_finetuned.npz: has no sub-maps; run .* --METHOD submaps"):
        call(sub_maps, data)
    call(sub_maps, data, WHERE_NONE="skip")
    assert "has no sub-maps: their figure is left out" in capsys.readouterr().out
    assert not (data / "figures" / "sub_maps.png").exists()


# --- spectra ----------------------------------------------------------------------------------------------------------


def test_class_spectra_equal_numpys_mean_and_deviation() -> None:
    spectra, codes = make_spectra(500)
    codes[codes == 60] = 50  # a class without spectra
    found = neuron_spectra.class_spectra((spectra[i : i + 90], codes[i : i + 90]) for i in range(0, 500, 90))
    for i, code in enumerate(list(CLASSES)[:5]):
        chosen = spectra[codes == code].astype(np.float64)
        np.testing.assert_allclose(found.mean[i], chosen.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.deviation[i], chosen.std(axis=0), rtol=1e-6)
    assert found.number[5] == 0 and np.isnan(found.mean[5]).all()


def test_fullest_neuron_of_each_class_is_chosen_among_those_with_its_label() -> None:
    counts = np.zeros((6, 6), int)
    counts[0, 0], counts[4, 0], counts[5, 0] = 5, 7, 9
    classes = np.array([10, 20, 20, 20, 10, 50])  # neuron 5 has most land spectra, but is opaque cloud
    counts[5, 4], counts[2, 1] = 20, 3
    assert neuron_spectra.fullest(counts, classes) == [4, 2, 5]


@pytest.mark.parametrize(
    ("word", "why"), [("5", "is not row,column"), ("a,b", "is not"), ("7,1", "not on the map"), ("0,1", "count from 1")]
)
def test_neurons_that_are_none_are_refused(word: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        neurons.parse("NEURONS", [word], 6, 5)
    assert neurons.parse("NEURONS", ["6,5", "1,1", "6,5"], 6, 5) == [29, 0] and neurons.name_of(29, 5) == "6,5"


# --- masks in pictures ------------------------------------------------------------------------------------------------


def test_outcomes_equal_the_scores_of_step_10() -> None:
    draw = np.random.default_rng(8)
    mask = draw.choice(np.array([0, 255, 1], np.uint8), (50, 40))
    reference = draw.integers(0, 8, (50, 40)).astype(np.uint8)
    codes = colored_cloudmasks.outcomes_of(mask, reference, (2, 3), (0, 1))
    tp, fn, fp, tn, excluded = scores.count(mask, reference, (2, 3), (0, 1))
    expected = [excluded, tp, tn, fn, fp]
    assert np.bincount(codes.ravel(), minlength=5).tolist() == expected


def test_outcomes_have_the_papers_colours_and_nodata_is_transparent() -> None:
    mask = np.array([[255, 0, 0, 255, 1]], np.uint8)
    reference = np.array([[2, 5, 3, 6, 2]], np.uint8)
    codes = colored_cloudmasks.outcomes_of(mask, reference, (2, 3), (0, 1))
    assert colored_cloudmasks.picture(codes).tolist() == [
        [[0, 102, 102, 255], [0, 102, 204, 255], [255, 102, 102, 255], [153, 0, 0, 255], [0, 0, 0, 0]]
    ]


def test_border_is_the_outermost_line_and_none_at_the_pictures_edge() -> None:
    inside = np.zeros((6, 7), bool)
    inside[2:, 1:5] = True
    expected = inside.copy()
    expected[3:, 2:4] = False  # the inside, down to the picture's edge
    np.testing.assert_array_equal(pictures.border(inside), expected)
    assert not pictures.border(np.ones((4, 4), bool)).any()


@pytest.mark.parametrize("shape", [(40, 30), (1830, 1830), (300, 700)])
def test_quicklook_is_1000_pixels_wide_with_the_outline_on_the_right(shape: tuple[int, int]) -> None:
    scene = np.full((*shape, 3), 50, np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = CLOUD
    buffer = io.BytesIO()
    figure = quicklooks.quicklook(scene, mask, Grid(shape[1], shape[0]), "S2A " * 20, 1000, "#FF00C8")
    figures.save(figure, buffer, "png", quicklooks.PIXELS_PER_INCH)  # type: ignore[arg-type]
    picture = np.asarray(Image.open(buffer))[:, :, :3]
    assert picture.shape[1] == 1000
    magenta = (picture == rgb("#FF00C8")).all(axis=2)
    assert magenta.any() and not magenta[:, :500].any()
    assert (picture[quicklooks.CAPTION + 2 :, :496] == 50).all()


def test_quicklooks_are_cropped_to_the_data_and_the_outline_leaves_the_clouds_free() -> None:
    mask = np.ones((200, 300), np.uint8)
    mask[50:100, 100:150] = 0
    mask[60:70, 110:130] = CLOUD
    scene = np.where(mask == CLOUD, 255, 50)[..., None].repeat(3, axis=2).astype(np.uint8)
    grid = Grid(300, 200, (0, 60, 0, 0, 0, -60), "a system")
    pair = pictures.side_by_side(scene, mask, grid, 108, "#FF00C8")
    assert pair.shape == (50, 108, 3)  # each pixel of the 50 x 50 with data once
    right = pair[:, 58:]
    assert (right[10:20, 10:30] == 255).all()
    assert (right[9, 10:30] == rgb("#FF00C8")).all() and (right[10:20, 30] == rgb("#FF00C8")).all()
    bar = (pair[39] == 255).all(axis=1)[:50]
    assert bar.sum() == 8 + 1  # 500 m, the longest round length within a quarter of 50 pixels of 60 m
    sliver = np.ones((200, 300), np.uint8)
    sliver[:, 297:] = 0
    assert pictures.with_data(sliver) == (slice(0, 200), slice(200, 300))


def test_changes_between_two_masks_have_their_colours() -> None:
    before = np.array([[255, 255, 0, 0, 1]], np.uint8)
    after = np.array([[255, 0, 255, 0, 255]], np.uint8)
    shown = methodology_figure.changes_picture(before, after)[0]
    names = (*methodology_figure.CHANGES.values(), methodology_figure.NODATA_COLOUR)
    assert [tuple(int(v) for v in colour) for colour in shown] == [rgb(name) for name in names]


# --- scripts from end to end ------------------------------------------------------------------------------------------

SCRIPTS: dict[ModuleType, tuple[str, ...]] = {
    Creating_hit_rate_maps: ("hit_rate_maps", "hit_rate_map_total"),
    Creating_component_planes: ("component_planes", *(f"component_plane_{band}" for band in BANDS)),
    Creating_scatterplots: ("scatterplots_B8_B11", "scatterplot_B8_B11_all", "scatterplot_B8_B11_opaque_cloud"),
    U_matrix_creation: ("u_matrix",),
    neuron_label_maps: ("neuron_label_maps",),
    neuron_spectra: ("neuron_spectra",),
    methodology_figure: ("methodology",),
    sub_maps: ("sub_maps",),
    quicklooks: ("quicklooks/SCENE_A_masks", "quicklooks/SCENE_B_masks"),
    colored_cloudmasks: ("colored_masks/SCENE_A_colored", "colored_cloudmasks_legend"),
}


#: What a script says it leaves out without fine-tuning.
LEFT_OUT = {
    neuron_label_maps: "the panel of fine-tuned labels is left out",
    neuron_spectra: "no bright neurons are drawn",
    Creating_scatterplots: "no neuron is marked as bright",
    methodology_figure: "stage 3 is left out",
    quicklooks: "masks_finetuned: left out",
    colored_cloudmasks: "masks_finetuned: left out",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.split(".")[-1])
def test_script_writes_its_figures_once_with_words_for_them(
    script: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split_neurons(data, (7,))
    call(script, data)
    assert LEFT_OUT.get(script, "") in capsys.readouterr().out
    written = {name: data / "figures" / f"{name}.png" for name in SCRIPTS[script]}
    for place in written.values():
        with Image.open(place) as image:
            assert image.width >= 400
        results = (stores.read_record(place) or {})["results"]
        assert len(results["title"]) > 5 and len(results["alt"]) > 20
    times = [place.stat().st_mtime_ns for place in written.values()]
    assert not list(data.rglob("*.partial"))
    capsys.readouterr()
    call(script, data)
    assert "is up to date" in capsys.readouterr().out
    assert [place.stat().st_mtime_ns for place in written.values()] == times


def pages_and_columns(draw: Callable[[str], Figure]) -> tuple[Callable[[], Figure], ...]:
    """A sheet of several panels at both widths."""
    return (lambda: draw("page")), (lambda: draw("column"))


@pytest.mark.parametrize(
    "draw",
    [
        *pages_and_columns(lambda width: Creating_hit_rate_maps.hit_rate_maps(np.full((20, 15, 6), 52_340), width)),
        lambda: Creating_hit_rate_maps.hit_rate_map(np.full((20, 15), 523_400)),
        *pages_and_columns(lambda w: Creating_component_planes.component_planes(made_weights(), scaler_of(0, 1), w)),
        lambda: Creating_component_planes.component_plane(made_weights(), scaler_of(0, 1), 0),
        *pages_and_columns(lambda width: Creating_scatterplots.scatterplots(made_scatter(), width)),
        lambda: Creating_scatterplots.scatterplot(made_scatter(), "opaque cloud"),
        *pages_and_columns(lambda width: U_matrix_creation.u_matrix_figure(made_weights()[:, :, 0], width)),
        *pages_and_columns(
            lambda width: label_maps(CLASSES_OF_AUTHORS, made_stages().cloud, made_stages().corrections, width)
        ),
        *pages_and_columns(
            lambda width: label_maps(
                np.where(np.eye(20, 15) > 0, 0, CLASSES_OF_AUTHORS), made_stages().cloud, None, width
            )
        ),
        *pages_and_columns(lambda width: neuron_spectra.neuron_spectra(*made_spectra_of_classes(), width)),
        *pages_and_columns(lambda width: sub_maps.sub_maps_figure(*made_sub_maps(), width)),
        lambda: methodology_figure.methodology_figure(made_stages()),
        lambda: colored_cloudmasks.colored_mask(np.arange(100, dtype=np.uint8).reshape(10, 10) % 5, "S2A_" * 15),
        colored_cloudmasks.legend_figure,
    ],
)
def test_all_letters_are_at_least_7_points_and_none_is_cut_off(draw: Callable[[], Figure]) -> None:
    figure = draw()
    picture = rendered(figure)
    for text in words_of(figure):
        assert text.get_fontsize() >= 7 and "$" not in text.get_text(), text.get_text()
    for side, edge in {"top": picture[0], "foot": picture[-1], "left": picture[:, 0], "right": picture[:, -1]}.items():
        assert (edge == 255).all(), side  # what is cut off leaves a trace on the edge


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that lie over each other."""
    rendered(figure)
    hidden = set()  # numbers of ticks beyond the end of their axis exist, but are not drawn
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
            hidden |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    drawn = [text for text in words_of(figure) if text not in hidden]
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in drawn]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]


@pytest.mark.parametrize("print_width", figures.PRINT_WIDTHS)
def test_sheets_are_as_wide_as_asked_and_no_text_lies_over_another(print_width: str) -> None:
    wide = {"page": 180, "column": 85}[print_width] / 25.4
    sheets = {
        "hits": Creating_hit_rate_maps.hit_rate_maps(np.full((20, 15, 6), 52_340), print_width),
        "planes": Creating_component_planes.component_planes(made_weights(), scaler_of(0, 0.5), print_width),
        "u": U_matrix_creation.u_matrix_figure(made_weights()[:, :, 0], print_width),
        "labels": label_maps(CLASSES_OF_AUTHORS, made_stages().cloud, made_stages().corrections, print_width),
        "spectra": neuron_spectra.neuron_spectra(*made_spectra_of_classes(), print_width),
        "sub-maps": sub_maps.sub_maps_figure(*made_sub_maps(), print_width),
    }
    for name, sheet in sheets.items():
        assert sheet.get_figwidth() == pytest.approx(wide), name
        assert overlapping(sheet) == [], name


def made_sub_maps() -> tuple[LabelledMap, dict[int, str]]:
    cloud = np.where(np.arange(16) < 5, 0, CLOUD)
    inner = {neuron: made_submap(cloud) for neuron in (3, 7, 200, 256, 290, 299)}
    return tuned_map(inner, 20, 15), dict.fromkeys(inner, "neuron (20, 15)\n52,345 clouds\n101,234 bright")


def made_weights() -> np.ndarray:
    return np.random.default_rng(0).random((20, 15, 13))


def made_scatter() -> Any:
    neurons = Creating_scatterplots.Neurons(np.ones((2, 2)), np.ones((2, 2)), np.eye(2, dtype=bool))
    return Creating_scatterplots.Plots(density_of(*make_spectra(200)), neurons, (0, 1, 0, 1), ("B8a", "B11"))


def made_spectra_of_classes() -> tuple[Any, LabelledMap, list[int], np.ndarray]:
    found = neuron_spectra.class_spectra([make_spectra(200)])
    return found, tuned_map({}, 20, 15), [299], found.mean[:2]


def made_stages() -> Any:
    cloud = labels.is_cloud(CLASSES_OF_AUTHORS)
    scene, mask = np.zeros((50, 60, 3), np.uint8), np.zeros((50, 60), np.uint8)
    neurons, counts = np.zeros((20, 15, 3), np.uint8), np.ones((20, 15, 6), np.int64)
    corrections = figures.Corrections(CLASSES_OF_AUTHORS == 40, CLASSES_OF_AUTHORS == 50, CLASSES_OF_AUTHORS == 40)
    name, facts, classes = "S2A_" * 15, ["988,404 spectra"], CLASSES_OF_AUTHORS
    return methodology_figure.Stages(name, facts, neurons, counts, classes, cloud, scene, [mask, mask], corrections)


def test_figures_use_fine_tuned_labels_where_there_are_some(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine_tune(data)
    for script in (neuron_label_maps, neuron_spectra, Creating_scatterplots, methodology_figure, quicklooks):
        call(script, data, SINGLE_PLOTS=False)
    assert "no " not in capsys.readouterr().out
    alt = {name: (stores.read_record(data / "figures" / f"{name}.png") or {})["results"]["alt"] for name in (
        "neuron_label_maps", "neuron_spectra", "scatterplots_B8_B11", "methodology")}  # fmt: skip
    assert "turned 1 of them to clear and split 0" in alt["neuron_label_maps"]
    assert "1 bright neurons" in alt["neuron_spectra"]
    assert "1 of them bright and red" in alt["scatterplots_B8_B11"]
    assert "Stage 3" in alt["methodology"]
    assert (data / "figures" / "quicklooks" / "SCENE_A_masks_finetuned.png").is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.split(".")[-1])
def test_pdf_and_svg_are_written_where_asked_with_letters_as_letters(script: ModuleType, data: Path) -> None:
    split_neurons(data, (7,))
    call(script, data, FORMATS=["pdf", "svg"], SINGLE_PLOTS=False, SINGLE_PLANES=False)
    name = next(name for name in SCRIPTS[script] if (data / "figures" / f"{name}.pdf").exists())
    pdf, svg = ((data / "figures" / f"{name}.{kind}").read_bytes() for kind in ("pdf", "svg"))
    assert pdf.startswith(b"%PDF") and b"DejaVuSans" in pdf  # the typeface, so the text is no picture
    assert b"<svg" in svg and b"DejaVuSans-" in svg
    assert not list((data / "figures").rglob("*.png"))


def test_every_script_that_draws_has_formats_and_windows() -> None:
    for script in sorted((ROOT / "visualization").glob("*.py")):
        names = {constant.name for constant in settings.read_constants(script.read_text(encoding="utf-8"))}
        expected = {
            "__init__.py": set(),
            "add_georeference.py": set(),  # draws nothing
            "all_figures.py": set(),  # its settings are those of the others
            "report.py": {"SHOW"},  # a page, not a figure
            "reproduction.py": set(),  # a page of what the others have drawn
            "map_explorer.py": {"SHOW"},  # another
        }.get(script.name, {"FORMATS", "SHOW"})
        assert names & {"FORMATS", "SHOW"} == expected, script.name


# Each script, and a colour that one of its windows alone has.
WINDOWS = {
    U_matrix_creation: (253, 231, 37),
    quicklooks: (255, 0, 200),
    colored_cloudmasks: (0, 102, 204),
    sub_maps: rgb(figures.CLEAR_COLOUR),
}


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A display without a screen."""
    pytest.importorskip("tkinter", reason="python3-tk is not installed; no windows are tried")
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed (apt-get install xvfb); no windows are tried")
    words = ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        yield f":{server.stdout.readline().strip()}"
        server.terminate()


def show(script: ModuleType, data: Path, display: str) -> None:
    """Run a script with --SHOW until its colour is on the screen, then ask it to stop."""
    words = [sys.executable, str(script.__file__), "--DATA_DIR", str(data), "--SHOW"]
    env = {**os.environ, "DISPLAY": display, "MPLBACKEND": "tkagg"}
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as process:
        seen, patience = False, time.monotonic() + 120
        while not seen and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.2)
            seen = is_on_screen(WINDOWS[script], display)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert seen and process.returncode == -signal.SIGTERM, said


@pytest.mark.parametrize("script", WINDOWS, ids=lambda script: script.__name__.split(".")[-1])
def test_windows_show_the_figures_and_a_stop_request_closes_them(script: ModuleType, data: Path, display: str) -> None:
    show(script, split_neurons(data, (7,)), display)
    assert list((data / "figures").rglob("*.png"))


def is_on_screen(colour: tuple[int, ...], display: str) -> bool:
    return bool((np.asarray(ImageGrab.grab(xdisplay=display)) == colour).all(axis=2).any())


@pytest.mark.parametrize("script", [quicklooks, colored_cloudmasks])
def test_pictures_that_are_up_to_date_are_shown_all_the_same(script: ModuleType, data: Path, display: str) -> None:
    call(script, data)
    before = {place: place.read_bytes() for place in (data / "figures").rglob("*.*") if place.suffix != ".json"}
    show(script, data, display)
    assert {place: place.read_bytes() for place in before} == before


def test_methodology_shows_the_scene_with_most_data(data: Path) -> None:
    mask, grid = read_mask(data / "masks" / "SCENE_A_mask.tif")
    mask[1:] = MASK_NODATA  # a sliver of a granule, and first by name
    write_mask(data / "masks" / "SCENE_A_mask.tif", mask, grid)
    call(methodology_figure, data)
    picture = data / "figures" / "methodology.png"
    assert "the scene SCENE_B" in (stores.read_record(picture) or {})["results"]["alt"]
    call(methodology_figure, data, SCENE="SCENE_A")
    assert "the scene SCENE_A" in (stores.read_record(picture) or {})["results"]["alt"]


def test_script_runs_from_any_folder(data: Path, tmp_path: Path) -> None:
    done = run_script("visualization/U_matrix_creation.py", "--DATA_DIR", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (data / "figures" / "u_matrix.png").is_file()


@pytest.mark.parametrize("script", WINDOWS, ids=lambda script: script.__name__.split(".")[-1])
def test_show_without_a_display_is_refused(script: ModuleType, data: Path) -> None:
    import matplotlib

    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        with pytest.raises(UserError, match="SHOW: there is no display"):
            call(script, split_neurons(data, (7,)), SHOW=True)
        assert not (data / "figures").exists()
    finally:
        matplotlib.use(before)


@pytest.mark.parametrize(
    ("script", "gone", "words"),
    [
        (Creating_hit_rate_maps, "hit_maps.csv", "run step 5"),
        (U_matrix_creation, "SOM_trained.p", "run step 3"),
        (Creating_component_planes, "scaler.p", "run step 2"),
        (Creating_scatterplots, "training_spectra.csv", "run step 2"),
        (neuron_label_maps, "neuron_labels.csv", "run step 5"),
        (neuron_spectra, "hit_maps.csv", "run step 5"),
        (methodology_figure, "tiff/SCENE_A.tif", "run step 7"),
        (quicklooks, "tiff/SCENE_B.tif", "1 of 2 products failed"),
        (quicklooks, "masks", "run step 9"),
        (colored_cloudmasks, "reference", "run step 6"),
        (sub_maps, "flip_table.csv", "run fine_tuning.py"),
        (add_georeference, "masks", "holds no .tif files"),
    ],
)
def test_what_is_missing_is_named(script: ModuleType, gone: str, words: str, data: Path) -> None:
    place = split_neurons(data, (7,)) / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(UserError, match=words):
        call(script, data)


@pytest.mark.parametrize(
    ("script", "constants", "words"),
    [
        (U_matrix_creation, {"FORMATS": ["jpg"]}, "'jpg' is not one of png, pdf, svg"),
        (U_matrix_creation, {"FORMATS": []}, "FORMATS: none"),
        (quicklooks, {"FORMATS": ["tif"]}, "'tif' is not one of png, pdf, svg"),
        (colored_cloudmasks, {"FORMATS": ["tif"]}, "'tif' is not one of png, pdf, svg"),
        (Creating_scatterplots, {"X_BAND": "B13"}, "X_BAND: 'B13' is not a band"),
        (quicklooks, {"OUTLINE": "mauvish"}, "not a colour"),
        (quicklooks, {"PRODUCTS": ["SCENE_C"]}, "nearest name there is SCENE"),
        (methodology_figure, {"SCENE": "SCENE_X"}, "has no product SCENE_X"),
    ],
)
def test_settings_that_make_no_figure_are_refused(
    script: ModuleType, constants: dict[str, object], words: str, data: Path
) -> None:
    with pytest.raises(UserError, match=words):
        call(script, data, **constants)


def test_labels_of_another_map_are_refused(data: Path) -> None:
    four = labels.NeuronLabels(2, 2, *(np.zeros(4, kind) for kind in (np.uint8, np.uint8, float)))
    table = model.neuron_labels_table(four)
    table.to_csv(data / "neuron_labels_finetuned.csv", index=False)
    with pytest.raises(UserError, match="lists 2 x 2 neurons"):
        call(neuron_label_maps, data)


def test_a_picture_somebody_changed_is_not_overwritten(data: Path) -> None:
    call(U_matrix_creation, data)
    (data / "figures" / "u_matrix.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="was changed after it was made"):
        call(U_matrix_creation, data)
    call(U_matrix_creation, data, OVERWRITE=True)
    assert (data / "figures" / "u_matrix.png").read_bytes() != b"mine"


# --- coloured masks and georeference on disk --------------------------------------------------------------------------


def test_coloured_mask_is_a_georeferenced_geotiff_with_the_papers_colours(data: Path) -> None:
    call(colored_cloudmasks, data)
    tiff = gdal.Open(str(data / "figures" / "colored_masks" / "SCENE_A_colored.tif"))
    assert grid_of(data / "figures" / "colored_masks" / "SCENE_A_colored.tif") == grid_of(data / "tiff" / "SCENE_A.tif")
    band = tiff.GetRasterBand(1)
    colours = [band.GetColorTable().GetColorEntry(code)[:3] for code in (1, 2, 3, 4)]
    assert colours == [(0, 102, 102), (0, 102, 204), (255, 102, 102), (153, 0, 0)]
    assert band.GetNoDataValue() == 0
    codes = band.ReadAsArray()
    assert [codes[10, 15], codes[25, 15], codes[6, 15], codes[25, 0], codes[35, 15]] == [1, 2, 3, 0, 0]
    as_rgba = gdal.Translate("/vsimem/rgba.tif", tiff, rgbExpand="rgba").ReadAsArray()
    assert as_rgba[:, 10, 15].tolist() == [0, 102, 102, 255]
    assert as_rgba[3, 25, 0] == 0  # nodata is transparent


def test_coloured_masks_skip_what_has_no_reference_and_say_so(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "reference" / "SCENE_B")
    call(colored_cloudmasks, data)
    assert "SCENE_B_mask.tif: has no reference" in capsys.readouterr().out
    assert not (data / "figures" / "colored_masks" / "SCENE_B_colored.tif").exists()


def test_coloured_mask_of_another_size_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reference(data, "SCENE_A", np.full((20, 30), 5))
    with pytest.raises(UserError, match="1 of 2 products failed"):
        call(colored_cloudmasks, data)
    assert "30 x 40 pixels against 30 x 20" in capsys.readouterr().err


def bare_mask(path: Path, mask: np.ndarray) -> Path:
    """A mask without georeference, with tags, nodata and colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = {255: (250, 250, 250), 0: (1, 2, 3)}
    write_layer(path, mask, Grid(mask.shape[1], mask.shape[0]), nodata=1, tags={"NOTE": "edited"}, colours=colours)
    return path


def test_georeference_comes_from_the_image_of_the_same_name(data: Path) -> None:
    mask = np.zeros((40, 30), np.uint8)
    mask[3, 4] = 255
    bare_mask(data / "edited" / "SCENE_A_mask.tif", mask)
    write_scene(data / "tiff" / "SCENE.tif", np.ones((9, 9, 13), np.uint16))  # begins alike, is not the image
    call(add_georeference, data, MASK_DIR="edited")
    found = data / "masks_georeferenced" / "SCENE_A_mask.tif"
    assert grid_of(found) == grid_of(data / "tiff" / "SCENE_A.tif")
    copy = gdal.Open(str(found))
    band = copy.GetRasterBand(1)
    np.testing.assert_array_equal(band.ReadAsArray(), mask)
    assert (band.GetNoDataValue(), copy.GetMetadata()["NOTE"]) == (1, "edited")
    assert band.GetColorTable().GetColorEntry(0)[:3] == (1, 2, 3)
    assert not (data / "edited" / "SCENE_A_mask.tif.json").exists()


def test_georeference_in_place_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = bare_mask(data / "edited" / "SCENE_A_mask.tif", np.zeros((40, 30), np.uint8))
    call(add_georeference, data, MASK_DIR="edited", IN_PLACE=True)
    assert grid_of(place) == grid_of(data / "tiff" / "SCENE_A.tif")
    capsys.readouterr()
    call(add_georeference, data, MASK_DIR="edited", IN_PLACE=True)
    assert "has a georeference already" in capsys.readouterr().out
    assert [file.name for file in (data / "edited").glob("[!.]*")] == ["SCENE_A_mask.tif"]


@pytest.mark.parametrize("in_place", [False, True])
def test_georeference_refuses_another_size_and_leaves_the_file(
    in_place: bool, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bare_mask(data / "edited" / "SCENE_A_mask.tif", np.zeros((20, 30), np.uint8))
    bare_mask(data / "edited" / "SCENE_B_mask.tif", np.zeros((40, 30), np.uint8))
    before = place.read_bytes()
    with pytest.raises(UserError, match="1 of 2 products failed"):
        call(add_georeference, data, MASK_DIR="edited", IN_PLACE=in_place)
    assert "has 30 x 20 pixels" in capsys.readouterr().err
    assert place.read_bytes() == before
    assert grid_of(data / ("edited" if in_place else "masks_georeferenced") / "SCENE_B_mask.tif").projection


def test_georeference_needs_an_image_of_that_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare_mask(data / "edited" / "SCENE_AB_mask.tif", np.zeros((40, 30), np.uint8))
    with pytest.raises(UserError, match="1 of 1 products failed"):
        call(add_georeference, data, MASK_DIR="edited")
    assert "none of the 2 images has a name it begins with" in capsys.readouterr().err
