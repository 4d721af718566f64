"""The page to walk in: its numbers beside the files', and pointing, marking, flipping and saving in a real browser."""

import base64
import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from conftest import write_scene
from numpy.typing import NDArray
from PIL import Image
from runs import call, made_submap, make_run

import fine_tuning
from cloudsom.bands import CLOUD
from cloudsom.errors import UserError
from cloudsom.images import vectors
from cloudsom.images.rasters import open_scene, read_mask, reflectance, write_mask
from cloudsom.images.references import open_reference
from cloudsom.som import labelled_map, model
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.tuning.bright_samples import read_positions
from visualization import map_explorer, report

SCENES = ("SCENE_A", "SCENE_B")


@dataclass(frozen=True)
class Made:
    """A run and what its page must show: neurons (40, 30), -1 without data, distances, and sub-neurons of `split`."""

    folder: Path
    som: LabelledMap
    neurons: dict[str, np.ndarray]
    distances: dict[str, np.ndarray]
    inner: dict[str, np.ndarray]
    split: int

    @property
    def page(self) -> Path:
        return self.folder / "figures" / "map_explorer.html"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two small scenes, a fine-tuned map with one sub-map, suggestions, and the page of them."""
    folder = make_run(tmp_path_factory.mktemp("walk") / "data", SCENES)
    files = [folder / name for name in ("scaler.p", "SOM_trained.p", "neuron_labels.csv", "hit_maps.csv")]
    som = labelled_map.from_steps(dict(zip(labelled_map.STEP_FILES, files, strict=True)))
    neurons, distances, scaled = {}, {}, {}
    for name in SCENES:
        with open_scene(folder / "tiff" / f"{name}.tif") as scene:
            spectra = reflectance(scene.read(0, 40), scene.info).reshape(-1, 13)
        scaled[name] = som.scaled(spectra)
        found = BMUSearch(som.weights)(scaled[name], distance=True)
        assert found.distance is not None
        neurons[name], distances[name] = found.index.reshape(40, 30), found.distance.reshape(40, 30)
    split = int(neurons["SCENE_A"][10, 12])  # what the bright square falls on
    assert som.labels.cloud[split] == CLOUD
    submap = made_submap(np.where(np.arange(16) % 2, CLOUD, 0))
    inner = {name: np.where(neurons[name] == split, submap.bmus(scaled[name]).reshape(40, 30), -1) for name in SCENES}
    labelled_map.save(folder / "neuron_labels_finetuned.npz", replace(som, submaps={split: submap}))
    table = model.read_table(folder / "neuron_labels.csv", model.LABEL_COLUMNS)
    actions = np.where(np.arange(30) == split, "split", "kept")
    table = table.assign(samples=7, action=actions, reason=np.where(actions == "split", "<b>why</b> & how", ""))
    table.to_csv(folder / "neuron_labels_finetuned.csv", index=False)
    (folder / "masks_finetuned").mkdir()
    mask, grid = read_mask(folder / "masks" / "SCENE_A_mask.tif")
    write_mask(folder / "masks_finetuned" / "SCENE_A_mask.tif", mask, grid)
    call(fine_tuning, folder, PIXELS="tiff", SUGGEST=True)
    call(map_explorer, folder)
    return Made(folder, som, neurons, distances, inner, split)


def start_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="start">(.*?)</script>', text, re.S)
    assert found
    return dict(json.loads(found[1]))


# --- what is in the page ----------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_files(made: Made) -> None:
    for scene in start_of(made.page)["scenes"]:
        neurons = made.neurons[scene["name"]]
        place = made.folder / "reference" / scene["name"] / "Classification" / "classification_map.tif"
        reference, _ = open_reference(place)
        for counts, codes in (("pixels", range(8)), ("clear", (4, 5, 6, 7)), ("clouds", (2, 3))):
            chosen = neurons[(neurons >= 0) & np.isin(reference, list(codes))]
            assert scene[counts] == np.bincount(chosen, minlength=30).tolist(), counts
        assert (scene["width"], scene["height"], scene["step"]) == (30, 40, 1)


def test_the_page_needs_nothing_from_elsewhere_and_files_cannot_write_into_it(made: Made) -> None:
    text = made.page.read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert "<b>why" not in text and "\\u003cb>why" in text


def layer(page: Path, name: str) -> np.ndarray:
    """A layer of the page's first scene."""
    found = re.search(rf'"{name}": "data:image/webp;base64,([^"]*)"', page.read_text(encoding="utf-8"))
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")).astype(int)


def check_reduced(made: Made, page: Path) -> None:
    """Every second row and column of SCENE_A can be pointed at, and all its pixels are counted."""
    [scene] = start_of(page)["scenes"]
    assert scene["step"] == 2 and sum(scene["pixels"]) == 40 * 29
    stored, expected = layer(page, "neurons"), made.neurons["SCENE_A"][::2, ::2]
    np.testing.assert_array_equal(stored[..., 0] * 5 + stored[..., 1], np.where(expected < 0, 255 * 6, expected))


def test_a_large_scene_is_reduced_but_counted_whole(made: Made, tmp_path: Path) -> None:
    call(map_explorer, made.folder, FIGURES_DIR=str(tmp_path), MOST_PIXELS=300, PRODUCTS=["SCENE_A"])
    check_reduced(made, tmp_path / "map_explorer.html")


def test_a_page_that_would_be_too_large_has_its_largest_scenes_reduced(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = made.page.read_text(encoding="utf-8")
    size = sum(len(found) for found in re.findall(r'"(?:neurons|rest)": "(data:[^"]*)"', text)) // 2
    monkeypatch.setattr(map_explorer, "SMALL", size * 3 // 4)
    call(map_explorer, made.folder, FIGURES_DIR=str(tmp_path), MOST_MB=0.01, PRODUCTS=["SCENE_A"])
    check_reduced(made, tmp_path / "map_explorer.html")
    said = capsys.readouterr().out
    assert "SCENE_A: one row and column in 2 can be pointed at" in said and "a phone may not open" in said


def test_a_second_run_writes_nothing(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    call(map_explorer, made.folder)
    assert "map_explorer.html: is up to date; 2 scenes" in capsys.readouterr().out


def test_one_bad_scene_never_stops_the_others(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made.folder / "tiff", tmp_path / "tiff")
    with open(tmp_path / "tiff" / "SCENE_A.tif", "r+b") as handle:
        handle.truncate(3000)
    with pytest.raises(UserError, match="1 of 2 products failed"):
        call(map_explorer, made.folder, TIFF_DIR=str(tmp_path / "tiff"), FIGURES_DIR=str(tmp_path))
    assert "SCENE_A.tif" in capsys.readouterr().err
    assert [scene["name"] for scene in start_of(tmp_path / "map_explorer.html")["scenes"]] == ["SCENE_B"]


def test_a_map_of_another_run_is_refused(made: Made, tmp_path: Path) -> None:
    other = replace(made.som, weights=made.som.weights[::-1].copy())
    labelled_map.save(tmp_path / "other.npz", other)
    with pytest.raises(UserError, match=r"other.npz: is of another map than .*SOM_trained.p; run fine_tuning.py"):
        call(map_explorer, made.folder, FINETUNED_MAP_NPZ=str(tmp_path / "other.npz"), FIGURES_DIR=str(tmp_path))


# --- the page in a browser --------------------------------------------------------------------------------------------

READY = "new Promise(done => {const wait = () => byId('page').getAttribute('aria-busy') === 'false' ? "
READY += "requestAnimationFrame(() => requestAnimationFrame(done)) : setTimeout(wait, 10); wait()})"
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture
def page(browser: Browser, made: Made, tmp_path: Path) -> Iterator[Browser]:
    """The page, just opened in a wide window; downloads go to `tmp_path`. Nothing may complain until the test ends."""
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    open_page(browser, made.page, 1400)
    yield browser
    assert browser.problems() == []


def open_page(browser: Browser, place: Path, width: int) -> None:
    browser.open(place, width)
    browser.run(READY)


def text(page: Browser, element: str) -> str:
    page.run(DRAWN)
    return str(page.run(f"byId('{element}').innerText"))


def cell(page: Browser, neuron: int) -> tuple[float, float]:
    """The middle of a neuron's cell on the screen."""
    page.run("mapCanvas.scrollIntoView({block: 'center'})")
    x, y, size = page.run("(() => {const b = mapCanvas.getBoundingClientRect(); return [b.x, b.y, cellSize()]})()")
    return x + (neuron % 5 + 0.5) * size, y + (neuron // 5 + 0.5) * size


def pixel(page: Browser, row: int, column: int) -> tuple[float, float]:
    """The middle of a pixel on the screen."""
    page.run("sceneCanvas.scrollIntoView({block: 'center'})")
    box = "(() => {const b = sceneCanvas.getBoundingClientRect(), v = fitting();"
    x, y, zoom, middle = page.run(
        f"{box} return [b.x + b.width / 2, b.y + b.height / 2, v.zoom, [v.row, v.column]]}})()"
    )
    return x + (column + 0.5 - middle[1]) * zoom, y + (row + 0.5 - middle[0]) * zoom


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_opens_at_any_width(browser: Browser, made: Made, width: int) -> None:
    open_page(browser, made.page, width)
    assert browser.run("document.title") == "A map one can walk in" and text(browser, "said") == ""
    assert browser.run("document.documentElement.scrollWidth") <= width
    unnamed = "[...document.querySelectorAll('canvas, svg, select, input')].filter(e => !(e.ariaHidden || "
    assert browser.run(f"{unnamed}e.ariaLabel || e.labels?.length)).map(e => e.id)") == []
    assert browser.problems() == []


def test_pointing_at_a_neuron_lights_up_its_pixels(page: Browser, made: Made) -> None:
    page.mouse("Moved", *cell(page, made.split))
    row, column = divmod(made.split, 5)
    n, votes = int((made.neurons["SCENE_A"] == made.split).sum()), made.som.votes
    assert votes is not None
    said = text(page, "neuron-text")
    assert f"Neuron ({row + 1}, {column + 1})" in said and f"; {n:,} pixels of this scene" in said
    assert f"Votes of {votes[made.split].sum():,} training spectra" in said
    assert "<b>why</b> & how" in said and "Suggestion" in said and "4 x 4 sub-neurons, 8 of them cloud" in said
    lit = "layers.lit.getContext('2d').getImageData(0, 0, scene.columns, scene.rows).data"
    assert page.run(f"{lit}.filter((byte, i) => i % 4 === 3 && byte).length") == n
    np.testing.assert_allclose(page.run(f"reflectanceOf({made.split})"), made.som.reflectance[made.split], rtol=1e-12)


def test_pointing_at_a_pixel_names_its_neuron_and_sub_neuron(page: Browser, made: Made) -> None:
    page.mouse("Moved", *pixel(page, 10, 12))
    inner = int(made.inner["SCENE_A"][10, 12])
    said = text(page, "pixel-text")
    assert f"row 10, column 12 (from 0). Distance {made.distances['SCENE_A'][10, 12]:.4f} scaled" in said
    label = "cloud" if inner % 2 else "clear"
    assert (
        f"Sub-neuron ({inner // 4 + 1}, {inner % 4 + 1}), {label}. fine-tuned labels: {label}; final mask: cloud"
        in said
    )
    page.mouse("Moved", *pixel(page, 10, 0))
    assert "It has no data" in text(page, "pixel-text")
    found = "scene.neurons.length && Array.from(scene.neurons, (n, i) => n === NO_NEURON ? null : "
    found = page.run(f"{found}distance(spectrumNear(scene, Math.floor(i / 30), i % 30).values, n))")
    expected = made.distances["SCENE_A"].ravel()
    np.testing.assert_allclose(np.array(found, float), expected, rtol=1e-9, atol=1e-12)


def mark(page: Browser, made: Made) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Mark ground with box and brush: the marked pixels, and how many of them fall on each neuron."""
    page.click("#box")
    page.drag(pixel(page, 8, 10), pixel(page, 9, 15), pixel(page, 12, 19))
    page.click("#brush")
    page.drag(pixel(page, 25, 20), pixel(page, 25, 24))
    marked = np.zeros((40, 30), bool)
    marked[8:13, 10:20] = True
    rows, columns = np.mgrid[:40, :30]
    for column in range(20, 25):
        marked |= (rows - 25) ** 2 + (columns - column) ** 2 <= 9
    neurons = made.neurons["SCENE_A"]
    return marked, np.bincount(neurons[marked & (neurons >= 0)], minlength=30)


def test_marks_are_counted_and_saved_as_what_fine_tuning_reads(page: Browser, made: Made, tmp_path: Path) -> None:
    marked, counts = mark(page, made)
    assert page.run("[...markedCounts()].sort((a, b) => a[0] - b[0])") == [
        [i, int(counts[i])] for i in np.flatnonzero(counts)
    ]
    page.click("#save-csv")
    page.click("#save-geojson")
    for name in ("marked_samples.csv", "marked_ground.geojson"):
        page.wait_for(tmp_path / name)
    table = read_positions(tmp_path / "marked_samples.csv")
    assert set(table["product"]) == {"SCENE_A"}
    np.testing.assert_array_equal(table[["row", "column"]].to_numpy(), np.argwhere(marked))
    _, grid = read_mask(made.folder / "masks" / "SCENE_A_mask.tif")
    [feature] = vectors.read_features(tmp_path / "marked_ground.geojson")
    assert feature.product == "SCENE_A"
    np.testing.assert_array_equal(vectors.marked([feature], grid, "scene").astype(bool), marked)


def test_flips_are_priced_and_fine_tuning_makes_the_mask_that_is_shown(
    page: Browser, made: Made, tmp_path: Path
) -> None:
    neurons, (_, counts) = made.neurons["SCENE_A"], mark(page, made)
    page.click("#flip-marked")
    cloud = made.som.labels.cloud == CLOUD
    flipped = np.flatnonzero((counts >= 5) & cloud)
    assert len(flipped) and text(page, "prices").split("\n")[-1].startswith(f"all {len(flipped)}")
    prices = page.run("[...byId('prices').lastElementChild.cells].map(c => c.innerText)")
    votes = made.som.votes
    assert votes is not None
    assert prices[1:3] == [f"{votes[flipped, i].sum():,}" for i in (3, 4)]
    assert prices[4] == f"{np.isin(neurons, flipped).sum():,}"
    assert prices[7] == f"{sum(np.isin(made.neurons[name], flipped).sum() for name in SCENES):,}"
    page.click("#undo")
    assert text(page, "prices").startswith("all 0")
    page.click("#redo")
    page.click("#wipe")
    page.run(DRAWN)
    words = shlex.split(text(page, "command"))
    assert words[:2] == ["python", "fine_tuning.py"]
    named = words[words.index("--FLIP_NEURONS") + 1 :]
    assert named == [f"{n // 5 + 1},{n % 5 + 1}" for n in flipped]

    # the address alone brings it back, and fine_tuning.py makes the mask that the page shows
    page.run("new Promise(done => setTimeout(done, 300))")
    page.reload()
    page.run(READY)
    assert page.run("[...flipped()].sort((a, b) => a - b)") == flipped.tolist()
    outputs = (
        "BRIGHT_SAMPLES_CSV",
        "NEURON_LABELS_FINETUNED_CSV",
        "FINETUNED_MAP_NPZ",
        "FLIP_TABLE_CSV",
        "MASK_FINETUNED_DIR",
    )
    elsewhere = {name: str(tmp_path / name) for name in outputs}
    assert words[words.index("--PIXELS") + 1 :][:5] == ["tiff", "--FROM_REFERENCE", "False", "--METHOD", "flip"]
    call(fine_tuning, made.folder, PIXELS="tiff", FROM_REFERENCE=False, METHOD="flip", FLIP_NEURONS=named, **elsewhere)
    for i, name in enumerate(SCENES):
        page.run(f"show({i})")
        shown = np.array(page.run("Array.from(cloudPixels())")).reshape(40, 30)
        mask, _ = read_mask(tmp_path / "MASK_FINETUNED_DIR" / f"{name}_unfiltered.tif")
        np.testing.assert_array_equal(shown == 1, mask == CLOUD)


def test_all_of_it_by_the_keyboard(page: Browser, made: Made) -> None:
    page.run("mapCanvas.focus(); change({neuron: 0, pinned: true})")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.press(key)
    assert text(page, "neuron-text").startswith("Neuron (3, 2)")
    assert text(page, "said").startswith("neuron (3, 2), ")  # a live region: screen readers say it
    page.run(f"change({{neuron: {made.split}}})")
    page.press("f", "f")
    assert page.run("[...flipped()]") == [made.split]
    page.press("z", ctrl=True)
    assert page.run("[...flipped()]") == []
    page.press("y", ctrl=True)
    assert page.run("[...flipped()]") == [made.split]
    page.run("change({tool: 'box'}); sceneCanvas.focus(); pointAtPixel(10, 12, true)")
    page.press("Enter", "\r")
    page.press("ArrowRight")
    page.press("ArrowDown")
    page.press("Enter", "\r")
    assert page.run("marks()") == [{"scene": 0, "box": [10, 12, 11, 13]}]
    zoom = page.run("zoom()")
    page.press("+", "+")
    assert page.run("zoom()") == pytest.approx(1.5 * zoom)


def test_planes_and_masks_can_be_chosen(page: Browser, made: Made) -> None:
    for plane in page.run("Object.keys(PLANES)"):
        page.run(f"change({{plane: {json.dumps(plane)}}})")
        assert text(page, "map-legend")
    neurons, inner = made.neurons["SCENE_A"], made.inner["SCENE_A"]
    labels = (made.som.labels.cloud == CLOUD)[neurons] & (neurons >= 0)
    final = read_mask(made.folder / "masks" / "SCENE_A_mask.tif")[0] == CLOUD
    expected = {"now": labels, "tuned": np.where(inner >= 0, inner % 2 == 1, labels), "final": final}
    for mask, cloud in expected.items():
        for style in ("veil", "outline"):
            page.run(f"change({{mask: '{mask}', style: '{style}'}})")
            page.run(DRAWN)
        np.testing.assert_array_equal(np.array(page.run("Array.from(cloudPixels())")).reshape(40, 30) == 1, cloud)
    page.run("show(1)")
    assert page.run("[...byId('mask').options].filter(o => o.disabled).map(o => o.value)") == ["final"]


@pytest.mark.long
def test_a_full_tile_is_walked_in_whole(browser: Browser, made: Made, tmp_path: Path) -> None:
    dn = np.random.default_rng(3).integers(300, 900, (61, 61, 13)).astype(np.uint16)
    dn[10:30, 10:40] = 7000
    write_scene(tmp_path / "tiff" / "TILE.tif", np.tile(dn, (30, 30, 1)))
    call(map_explorer, made.folder, TIFF_DIR=str(tmp_path / "tiff"), FIGURES_DIR=str(tmp_path))
    open_page(browser, tmp_path / "map_explorer.html", 1400)
    assert browser.run("scene.neurons.length") == 1830 * 1830
    times = {
        "pointing at a neuron": "change({neuron: (7 * i) % N_NEURONS, pixel: -1}); draw()",
        "pointing at a pixel": "pointAtPixel((97 * i) % scene.rows, (89 * i) % scene.columns); draw()",
        "a frame of zooming": "zoomMiddle(i < 10 ? 1.2 : 1 / 1.2); draw()",
        "a flip": f"act({{neurons: [{made.split}]}}); draw()",
    }
    paint = browser.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    ready = browser.run("performance.getEntriesByName('ready')[0].startTime")
    print(f"\nfull tile: first paint after {paint} ms, ready after {ready:.0f} ms")
    for what, work in times.items():
        each = f"const from = performance.now(); {work}; took.push(performance.now() - from);"
        loop = f"for (let i = 0; i < 21; i++) {{{each} await new Promise(requestAnimationFrame)}}"
        took = browser.run(f"(async () => {{const took = []; {loop} return took.sort((a, b) => a - b)}})()")
        print(f"{what}: {took[10]:.1f} ms, the slowest of 21 {took[-1]:.1f} ms")
    assert browser.problems() == []


def test_maps_that_vote_are_walked_in_too(browser: Browser, made: Made, tmp_path: Path) -> None:
    other = replace(made.som, labels=replace(made.som.labels, cloud=np.full(30, CLOUD, np.uint8)))
    labelled_map.save(tmp_path / "two.npz", other, made.som)
    (tmp_path / "masks").mkdir()
    mask, grid = read_mask(made.folder / "masks" / "SCENE_A_mask.tif")
    write_mask(tmp_path / "masks" / "SCENE_A_mask.tif", mask, grid)
    names = {"MODEL_NPZ": [str(tmp_path / "two.npz")], "PRODUCTS": ["tiff/SCENE_A.tif"], "MAP": 2}
    folders = {"OUT_DIR": str(tmp_path / "masks"), "FIGURES_DIR": str(tmp_path)}
    call(map_explorer, made.folder, **names, **folders)
    open_page(browser, tmp_path / "map_explorer.html", 1400)
    assert text(browser, "map-name") == "map 2 of 2 that vote"
    neurons = made.neurons["SCENE_A"]
    votes = np.where(neurons < 0, 0, 1 + ((made.som.labels.cloud == CLOUD)[neurons]))
    found = browser.run("Array.from(scene.votes).filter((_, i) => i % 4 === 0)")
    np.testing.assert_array_equal(np.array(found).reshape(40, 30), votes)
    browser.run("pointAtPixel(10, 12, true)")
    assert "2 of 2 maps say cloud. fine-tuned labels: cloud; final mask: cloud" in text(browser, "pixel-text")
    assert browser.run("[byId('flip').disabled, byId('flips').hidden]") == [True, True]
    assert browser.problems() == []
    with pytest.raises(UserError, match="MAP: 3 is not one of the 2 maps"):
        call(map_explorer, made.folder, **(names | {"MAP": 3}), **(folders | {"FIGURES_DIR": str(tmp_path / "none")}))


def test_the_report_links_the_page(made: Made) -> None:
    call(report, made.folder)
    assert '<a href="figures/map_explorer.html">' in (made.folder / "report.html").read_text(encoding="utf-8")
