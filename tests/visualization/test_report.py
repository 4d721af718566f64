"""The report: its content, and how it behaves in a real browser (Debian's chromium, driven over the DevTools pipe)."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from minisom import MiniSom
from runs import call, fine_tune, make_run, split_neurons

import evaluation_metrics
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.som import model
from visualization import (
    Creating_hit_rate_maps,
    U_matrix_creation,
    colored_cloudmasks,
    compare_masks,
    neuron_label_maps,
    quicklooks,
    report,
    sub_maps,
)


def make_figures(folder: Path) -> None:
    for script in (neuron_label_maps, Creating_hit_rate_maps, U_matrix_creation, quicklooks, colored_cloudmasks):
        call(script, folder)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with fine-tuning, figures and measures of both sets of masks, and its report."""
    folder = make_run(tmp_path_factory.mktemp("whole") / "data", ("SCENE_A", "SCENE_B", "A<b>&'\"C"))
    fine_tune(folder)
    make_figures(folder)
    call(evaluation_metrics, folder)
    call(compare_masks, folder)
    call(report, folder)
    return folder


# --- the page as text -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Start tags and their attributes, and the text, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_report_needs_nothing_from_elsewhere(whole_run: Path) -> None:
    text = (whole_run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name][:80])
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text


def test_every_picture_has_words_and_is_whole(whole_run: Path) -> None:
    pictures = page_of(whole_run).all("img")
    # figures; a small picture, two quicklooks, two coloured masks and all masks beside each other for each scene
    assert len(pictures) == 5 + 3 * (1 + 2 + 2 + 1)
    for picture in pictures:
        assert len(picture["alt"]) > 10
        data = base64.b64decode(picture["src"].split(",", 1)[1])
        assert data[:4] == b"\x89PNG" or data[:3] == b"\xff\xd8\xff"


def test_tables_have_the_numbers_of_step_10(whole_run: Path) -> None:
    words = page_of(whole_run).words
    compared = model.read_table(
        whole_run / "results" / "processors.csv", ("product", "processor", *report.ALL_MEASURES)
    )
    assert set(compared["product"]) == {"SCENE_A", "SCENE_B", "A<b>&'\"C", "mean", "pooled"}
    own = compared["processor"].isin(["SOM1", "SOM2"])
    for value in compared.loc[own, list(report.COLUMNS)].to_numpy().ravel():
        assert np.isnan(value) or f"{value:.4f}" in words
    surfaces = model.read_table(whole_run / "results" / "surfaces.csv", ("product", "surface", "share"))
    for surface, share in surfaces.loc[surfaces["product"] == "pooled", ["surface", "share"]].to_numpy():
        assert surface in words and f"{share:.2%}" in words
    assert "accuracy before" in words and "accuracy after" in words


def test_report_before_fine_tuning_has_one_column_a_measure(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "data", ("SCENE_A",))
    call(evaluation_metrics, folder)
    call(report, folder)
    heads = re.findall(r'<button type="button">([^<]*)<', (folder / "report.html").read_text(encoding="utf-8"))
    assert heads == ["scene", "cloud", "accuracy", "precision", "recall", "F-score"]
    table = model.read_table(folder / "results" / "metrics.csv", ("product", *report.COLUMNS))
    words = page_of(folder).words
    for name, value in table[["product", "recall"]].to_numpy():
        assert name in words and f"{value:.4f}" in words


def test_scenes_that_gave_samples_are_marked(whole_run: Path, tmp_path: Path) -> None:
    assert "marked *" not in page_of(whole_run).words
    folder = Path(shutil.copytree(whole_run, tmp_path / "data"))
    place = folder / "results" / "processors.csv"
    table = model.read_table(place, ("product", "role"))
    table.loc[table["product"] == "SCENE_A", "role"] = "tuned on"
    table.to_csv(place, index=False)
    call(report, folder)
    words = page_of(folder).words
    assert "SCENE_A *" in words and "SCENE_B *" not in words and "marked *" in words


def test_names_from_files_cannot_become_markup(whole_run: Path) -> None:
    page = page_of(whole_run)
    assert not page.all("b")
    assert "A<b>&'\"C" in page.words


def test_settings_of_each_step_are_shown(whole_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_run, tmp_path / "data"))
    recipe = stores.Recipe("SOM_training.py", {"N_ITER": 123_456, "SEED": 7}, {})
    (folder / "SOM_trained.p").rename(tmp_path / "som")
    with stores.product(folder / "SOM_trained.p", recipe) as product:
        shutil.copy(tmp_path / "som", product.partial)
        product.results |= {"quantization_error": 0.03725, "topographic_error": 0.03, "summary": "trained well"}
    call(report, folder)
    words = page_of(folder).words
    for part in ("SOM_training.py", "N_ITER", "123456", "trained well", "0.0372", "123,456 steps", "numpy"):
        assert part in words


def test_report_is_the_same_bytes_again_and_is_not_written_twice(
    whole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole_run / "report.html").read_bytes()
    call(report, whole_run)
    assert "is up to date" in capsys.readouterr().out
    call(report, whole_run, OVERWRITE=True)
    assert (whole_run / "report.html").read_bytes() == before


def test_report_of_half_a_run_names_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "data", ("SCENE_A",))
    call(report, folder)
    out, words = capsys.readouterr().out, page_of(folder).words
    for part in ("U_matrix_creation.py", "fine_tuning.py", "evaluation_metrics.py", "quicklooks.py"):
        assert part in out and part in words
    assert "SCENE_A" in words


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds nothing of a run"):
        call(report, tmp_path)


def test_report_refuses_figures_of_another_map(whole_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_run, tmp_path / "data"))
    som = MiniSom(6, 5, 13)
    som._weights = model.load_weights(folder / "SOM_trained.p")[::-1].copy()
    stores.dump_pickle(som, folder / "SOM_trained.p")
    with pytest.raises(UserError, match=r"made with another SOM_FILE"):
        call(report, folder)


def test_report_refuses_a_broken_picture(whole_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_run, tmp_path / "data"))
    (folder / "figures" / "u_matrix.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"u_matrix.png: is not a readable picture"):
        call(report, folder)


def test_a_scene_that_cannot_be_read_is_left_out_and_told_every_time(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(whole_run, tmp_path / "data"))
    (folder / "figures" / "quicklooks" / "SCENE_A_masks.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of \d products failed \(SCENE_A\), the others are done"):
            call(report, folder)
        assert "SCENE_A_masks.png: is not a readable picture" in capsys.readouterr().err
        words = page_of(folder).words
        assert "scene SCENE_A: a file of it cannot be read" in words and "SCENE_B" in words


def test_sub_maps_are_in_the_report_where_fine_tuning_has_made_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = split_neurons(make_run(tmp_path / "data", ("SCENE_A",)), (7,))
    call(report, folder)
    assert "left out: sub_maps (python visualization/sub_maps.py)" in capsys.readouterr().out
    call(sub_maps, folder)
    call(report, folder)
    assert "left out: sub_maps" not in capsys.readouterr().out
    [picture] = [image for image in page_of(folder).all("img") if "sub-maps" in image["alt"]]
    assert "neuron 2,3 69%" in picture["alt"]
    split_neurons(folder, ())  # fine-tuned again, without sub-maps: the figure is of another run
    call(report, folder)
    assert "left out: sub_maps" not in capsys.readouterr().out
    assert not [image for image in page_of(folder).all("img") if "sub-maps" in image["alt"]]


def show_report(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """report.py --SHOW as a user starts it, in an environment of these variables alone."""
    words = [sys.executable, str(report.__file__), "--DATA_DIR", str(folder), "--SHOW"]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)


def test_show_opens_the_report_in_the_browser(whole_run: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    done = show_report(whole_run, BROWSER=f"{browser} %s", PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "opened").read_text() == (whole_run / "report.html").resolve().as_uri()
    assert "is up to date" in done.stdout


def test_show_without_a_browser_says_so(whole_run: Path, tmp_path: Path) -> None:
    done = show_report(whole_run, PATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("report.py: error: SHOW: no browser was found here; open ")


# --- the page in a browser --------------------------------------------------------------------------------------------


NAMES = "[...document.querySelectorAll('table.scenes tbody tr td:first-child')].map(c => c.innerText.trim())"
VALUES = "[...document.querySelectorAll('table.scenes tbody tr')].map(r => r.cells[{}].dataset.value)"
SORT = "document.querySelectorAll('table.scenes th')[{}].getAttribute('aria-sort')"


@pytest.mark.parametrize("width", [1200, 390])
def test_loads_without_errors_and_with_its_pictures(browser: Browser, whole_run: Path, width: int) -> None:
    browser.open(whole_run / "report.html", width)
    widths = browser.run("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) == 23 and all(width > 0 for width in widths)
    assert browser.run("document.title") == "Cloud masks with a self-organizing map"
    assert browser.problems() == []


@pytest.mark.parametrize("width", [320, 390, 800, 1150, 1200])
def test_page_never_scrolls_sideways(browser: Browser, whole_run: Path, width: int) -> None:
    browser.open(whole_run / "report.html", width)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= width
    outside = "[...document.querySelectorAll('td, th button, img, p, h1, h2, h3, dd, li')].filter(e => "
    outside += "{const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1)})"
    assert browser.run(f"{outside}.map(e => e.outerHTML.slice(0, 80))") == []


def test_letters_on_a_phone_are_large_enough(browser: Browser, whole_run: Path) -> None:
    browser.open(whole_run / "report.html", 390)
    sizes = "[...document.querySelectorAll('td, th button, p, dt, dd, small, figcaption, a')]"
    assert browser.run(f"Math.min(...{sizes}.map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 12
    heights = "[...document.querySelectorAll('th button')].map(e => e.getBoundingClientRect().height)"
    assert browser.run(f"Math.min(...{heights})") >= 40  # pixels a finger hits


def test_table_sorts_by_a_click(browser: Browser, whole_run: Path) -> None:
    browser.open(whole_run / "report.html", 1200)
    names = browser.run(NAMES)
    assert len(names) == 3
    browser.click("table.scenes th:nth-child(3) button")
    assert browser.run(SORT.format(2)) == "ascending"
    values = [float(value) for value in browser.run(VALUES.format(2))]
    assert values == sorted(values) and len(set(values)) == 3
    browser.click("table.scenes th:nth-child(3) button")
    assert browser.run(SORT.format(2)) == "descending"
    assert [float(value) for value in browser.run(VALUES.format(2))] == values[::-1]
    browser.click("table.scenes th:nth-child(1) button")
    assert (browser.run(SORT.format(2)), browser.run(SORT.format(0))) == ("none", "ascending")
    assert browser.run(NAMES) == sorted(names, key=str.lower)
    assert browser.run("document.querySelector('table.scenes tfoot').innerText").startswith("mean (held out)")


@pytest.mark.parametrize(("key", "text"), [("Enter", "\r"), (" ", " ")])
def test_table_sorts_by_the_keyboard(browser: Browser, whole_run: Path, key: str, text: str) -> None:
    browser.open(whole_run / "report.html", 1200)
    for _ in range(60):  # the heading must be reached with the tabulator alone
        browser.press("Tab")
        if browser.run("document.activeElement.innerText").startswith("cloud before"):
            break
    assert browser.run("document.activeElement.tagName") == "BUTTON"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(key, text)
    assert browser.run(SORT.format(2)) == "ascending"
    values = [float(value) for value in browser.run(VALUES.format(2))]
    assert values == sorted(values)
    assert browser.run("document.activeElement.innerText").startswith("cloud before")  # focus stays


def test_empty_cells_stay_last_in_both_orders(browser: Browser, whole_run: Path) -> None:
    browser.open(whole_run / "report.html", 1200)
    browser.run("document.querySelector('table.scenes tbody tr').cells[4].dataset.value = ''")
    for _ in range(2):
        browser.click("table.scenes th:nth-child(5) button")
        assert browser.run(VALUES.format(4))[-1] == ""


def test_links_lead_to_the_sections(browser: Browser, whole_run: Path) -> None:
    browser.open(whole_run / "report.html", 1200)
    links = "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
    targets = browser.run(links)
    assert len(targets) >= 7
    assert browser.run(f"{json.dumps(targets)}.filter(id => !document.getElementById(id))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser: Browser, whole_run: Path, scheme: str) -> None:
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(whole_run / "report.html", 1200)
    style = "getComputedStyle(document.querySelector('{}')).{}"
    page = luminance(browser.run(style.format("body", "backgroundColor")))
    assert (page > 0.5) == (scheme == "light")
    for selector in ("body", "p", "nav a", "figcaption", "caption", "dt"):
        text = luminance(browser.run(style.format(selector, "color")))
        assert (max(text, page) + 0.05) / (min(text, page) + 0.05) >= 4.5, selector  # WCAG 2, level AA
    browser.send("Emulation.setEmulatedMedia", features=[])


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of 'rgb(1, 2, 3)'."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(number) / 255 for number in re.findall(r"\d+", colour)[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_table_of_all_masks_is_step_10s(whole_run: Path) -> None:
    words = page_of(whole_run).words
    table = model.read_table(whole_run / "results" / "processors.csv", ("product", "processor", "pixels"))
    pooled = table[table["product"] == "pooled"]
    assert "All masks side by side: 3 scenes held out" in words and f"{pooled['pixels'].iloc[0]:,} pixels" in words
    assert "The labels of the references are of an origin that no file tells" in words
    for measure in report.ALL_MEASURES:
        for value, low in pooled[[measure, f"{measure}_low"]].to_numpy(float):
            assert np.isnan(value) or (f"{value:.4f}" in words and f"{low:.3f} to" in words)
    final = pooled.set_index("processor").loc["SOM2", "accuracy"]
    assert f"pooled (held out), accuracy{final:.4f}" in words


def test_whose_labels_the_references_have(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "data", ("SCENE_A", "SCENE_B"))
    place = folder / "reference" / "SCENE_A" / "Classification" / "classification_map.tif"
    archive = folder / evaluation_metrics.REFERENCE_ARCHIVE
    files = {"Classification/classification_map.tif": place.stat().st_size}
    stores.record_path(archive).write_text(json.dumps({"scenes": {"SCENE_A": {"files": files}}}))
    call(evaluation_metrics, folder)
    call(report, folder)
    words = page_of(folder).words
    assert "of 1 scenes a person's, spread by active learning (Baetens et al. 2019)" in words
    assert "of 1 scenes of an origin that no file tells" in words
