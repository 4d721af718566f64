"""A report of a run in one HTML file: settings, training, figures, scenes with their masks and measures.

The file needs nothing else: styles, script and pictures are inside it, and it opens straight from disk. What has not
been made yet is left out, and named at the end of the report and on the terminal.

    python visualization/report.py

reads   what the steps, fine_tuning.py and the other scripts of this folder have written under DATA_DIR
writes  REPORT_FILE
"""

import base64
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

from cloudsom import model, stores
from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.figures import optional_input, read_flipped
from cloudsom.rasters import read_mask
from cloudsom.scores import MEASURES
from cloudsom.settings import path, run, snapshot

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to
TRAINING_CSV = "training_spectra.csv"  # step 2's table; only its settings are shown
SCALER_FILE = "scaler.p"  # step 2's scaler; only its settings are shown
SOM_FILE = "SOM_trained.p"  # step 3's map
BMUS_CSV = "BMUs.csv"  # step 4's table; only its settings are shown
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's counts
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # fine_tuning.py's labels
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks
RESULTS_DIR = "results"  # step 10's tables
RESULTS_FINETUNED_DIR = "results_finetuned"  # step 10's tables for the fine-tuned masks
FIGURES_DIR = "figures"  # what the scripts of this folder drew
REPORT_FILE = "report.html"  # the report

# content
TITLE = "Cloud masks with a self-organizing map"  # the report's heading

# running
OVERWRITE = False  # write again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

TEMPLATE = Path(__file__).with_name("report_template.html")

#: The figures in the order of the report, and the scripts that draw them; `*` stands for the bands chosen.
FIGURES = {
    "methodology": "methodology_figure.py",
    "neuron_label_maps": "neuron_label_maps.py",
    "hit_rate_maps": "Creating_hit_rate_maps.py",
    "hit_rate_map_total": "Creating_hit_rate_maps.py",
    "u_matrix": "U_matrix_creation.py",
    "component_planes": "Creating_component_planes.py",
    "scatterplots_*": "Creating_scatterplots.py",
    "neuron_spectra": "neuron_spectra.py",
}

#: Measures that have a column in the table of scenes; the scenes' own tables have all of them.
COLUMNS = ("accuracy", "precision", "recall", "f_score")
NAMES = dict(zip(MEASURES, ("accuracy", "precision", "recall", "F-score", "balanced accuracy", "IoU"), strict=True))

CREDIT = "Contains modified Copernicus Sentinel data."


@dataclass(frozen=True)
class Picture:
    """A picture inside the report: a data URI, its size in pixels, and its words."""

    uri: str
    width: int
    height: int
    title: str
    alt: str


@dataclass
class Result:
    """What is known of one mask: cloud share, measures and pixel counts; empty where not scored."""

    cloud_share: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Scene:
    """One scene (or a summary line of them): results by stage ("before", "after"), pictures, and a small one."""

    name: str
    results: dict[str, Result] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    thumbnail: Picture | None = None


@dataclass
class Stage:
    """The files of one set of masks: those of step 9 ("before") or the fine-tuned ones ("after")."""

    key: str
    masks: dict[str, Path]
    tables: dict[str, Path]
    quicklooks: dict[str, Path]
    coloured: dict[str, Path]

    def inputs(self) -> dict[str, Path]:
        """Its files by role."""
        files = {f"mask {name}": place for name, place in self.masks.items()}
        files |= {place.name: place for place in self.tables.values()}
        files |= {f"quicklook {name}": place for name, place in self.quicklooks.items()}
        return files | {f"coloured mask {name}": place for name, place in self.coloured.items()}


@dataclass
class Training:
    """Counts (neurons, 6), labels and flipped neurons of the map, and its settings file."""

    counts: NDArray[np.int64] | None
    labels: model.LabelledMap | None
    flipped: NDArray[np.bool_] | None
    record: dict[str, Any]


def main() -> None:
    run_files, figures, missing = find_run_files(), *find_figures()
    stages = find_stages()
    missing += missing_stages(stages)
    if not run_files and not any(stage.masks for stage in stages):
        raise UserError(f"{path(DATA_DIR, '.')}: holds nothing of a run; give its DATA_DIR, or run step 1 and on")
    made_by = recipe_of(run_files, figures, stages)
    report_file = path(DATA_DIR, REPORT_FILE)
    for line in missing:
        print(f"left out: {line}")
    if stores.finished(report_file, made_by, OVERWRITE):
        print(f"{report_file}: is up to date")
        return
    scenes = read_scenes(stages)
    page = render(
        read_training(run_files),
        scenes,
        [read_picture(place) for place in figures.values()],
        {role: (place.name, record) for role, place in run_files.items() if (record := stores.read_record(place))},
        missing,
    )
    with stores.product(report_file, made_by) as product:
        product.partial.write_text(page, encoding="utf-8")
        product.results["summary"] = f"{len(scenes) - 2 * bool(scenes)} scenes, {len(figures)} figures"
    print(f"{report_file}: {product.results['summary']}, {report_file.stat().st_size / 1e6:.1f} MB")


# --- finding and reading ----------------------------------------------------------------------------------------------


def find_run_files() -> dict[str, Path]:
    """The files of the steps by role, as far as they are there."""
    roles = (
        "TRAINING_CSV",
        "SCALER_FILE",
        "SOM_FILE",
        "BMUS_CSV",
        "HIT_MAPS_CSV",
        "NEURON_LABELS_CSV",
        "NEURON_LABELS_FINETUNED_CSV",
    )
    found = {role: optional_input(DATA_DIR, globals()[role]) for role in roles}
    return {role: place for role, place in found.items() if place}


def find_figures() -> tuple[dict[str, Path], list[str]]:
    """The figures drawn so far by name, in the report's order, and a line for each one that is not."""
    folder = path(DATA_DIR, FIGURES_DIR)
    found = {pattern: sorted(folder.glob(f"{pattern}.png")) for pattern in FIGURES}
    missing = [
        f"{pattern.replace('_*', '')} (python visualization/{script})"
        for pattern, script in FIGURES.items()
        if not found[pattern]
    ]
    return {place.stem: place for places in found.values() for place in places}, missing


def find_stages() -> list[Stage]:
    """The masks before fine-tuning and, where there are any, after it, with what was made of them."""
    folders = {"before": (MASK_DIR, RESULTS_DIR), "after": (MASK_FINETUNED_DIR, RESULTS_FINETUNED_DIR)}
    stages = []
    for key, (mask_name, results_name) in folders.items():
        mask_dir, results_dir, figures_dir = (path(DATA_DIR, name) for name in (mask_name, results_name, FIGURES_DIR))
        masks = {f.name.removesuffix("_mask.tif"): f for f in sorted(mask_dir.glob("*_mask.tif"))}
        tables = {name: results_dir / f"{name}.csv" for name in ("metrics", "confusion_matrix")}
        quicklooks = {name: figures_dir / "quicklooks" / f"{name}_{mask_dir.name}.png" for name in masks}
        coloured = {name: figures_dir / f"colored_{mask_dir.name}" / f"{name}_colored.png" for name in masks}
        stages.append(Stage(key, masks, *map(only_existing, (tables, quicklooks, coloured))))
    return stages


def only_existing(files: dict[str, Path]) -> dict[str, Path]:
    return {name: place for name, place in files.items() if place.is_file()}


def missing_stages(stages: list[Stage]) -> list[str]:
    """A line for each thing the table of scenes lacks."""
    lines = []
    for stage in stages:
        if not stage.masks:
            script = "create_cloudmasks.py" if stage.key == "before" else "fine_tuning.py"
            lines.append(f"masks {stage.key} fine-tuning (python {script})")
            continue
        if len(stage.tables) < 2:
            lines.append(f"measures of the masks {stage.key} fine-tuning (python evaluation_metrics.py)")
        if len(stage.quicklooks) < len(stage.masks):
            lines.append(f"quicklooks of the masks {stage.key} fine-tuning (python visualization/quicklooks.py)")
        if len(stage.coloured) < len(stage.masks):
            lines.append(f"some coloured masks {stage.key} fine-tuning (python visualization/colored_cloudmasks.py)")
    return lines


def recipe_of(run_files: dict[str, Path], figures: dict[str, Path], stages: list[Stage]) -> stores.Recipe:
    """What the report is made of, settings files included. Refuses files of different runs (a figure of an older map).

    The two sets of masks have files of the same roles, so each is checked beside the run's own files alone.
    """
    settings = snapshot(globals())
    shared = run_files | {f"figure {name}": place for name, place in figures.items()}
    recipes = {stage.key: stores.recipe(settings, shared | stage.inputs()) for stage in stages}
    inputs = {f"{key}: {role}": entry for key, recipe in recipes.items() for role, entry in recipe.inputs.items()}
    files = shared | {f"{stage.key}: {role}": place for stage in stages for role, place in stage.inputs().items()}
    told = only_existing({f"settings of {role}": stores.record_path(place) for role, place in files.items()})
    return stores.Recipe(settings.script, settings.constants, inputs | stores.recipe(settings, told).inputs)


def read_training(files: dict[str, Path]) -> Training:
    """What the report tells of the trained map."""
    counts = model.read_hit_maps(files["HIT_MAPS_CSV"])[0] if "HIT_MAPS_CSV" in files else None
    labels = model.read_neuron_labels(files["NEURON_LABELS_CSV"]) if "NEURON_LABELS_CSV" in files else None
    finetuned = files.get("NEURON_LABELS_FINETUNED_CSV")
    flipped = read_flipped(labels, finetuned) if labels and finetuned else None
    record = stores.read_record(files["SOM_FILE"]) if "SOM_FILE" in files else None
    return Training(counts, labels, flipped, record or {})


def read_scenes(stages: list[Stage]) -> list[Scene]:
    """Every scene by name, then the lines `mean` and `pooled` of the tables; empty without masks."""
    names = sorted({name for stage in stages for name in stage.masks})
    scenes = {name: Scene(name) for name in [*names, "mean", "pooled"]} if names else {}
    for stage in stages:
        for name, mask_file in stage.masks.items():
            mask, _ = read_mask(mask_file)
            share = float((mask == CLOUD).sum() / max(1, (mask != MASK_NODATA).sum()))
            scenes[name].results[stage.key] = Result(share)
        for table in stage.tables.values():
            add_table(scenes, stage.key, table)
        for name, place in stage.quicklooks.items():
            scenes[name].pictures.append(read_picture(place, jpeg=True))
            scenes[name].thumbnail = read_picture(place, jpeg=True, width=320)
    for stage in stages:  # those of both stages last, and so beside each other
        for name, place in stage.coloured.items():
            scenes[name].pictures.append(read_picture(place))
    return list(scenes.values())


def add_table(scenes: dict[str, Scene], key: str, table_file: Path) -> None:
    """Add the measures or counts of a table of step 10 to the scenes it names."""
    columns = MEASURES if table_file.stem == "metrics" else ("TP", "FN", "FP", "TN", "excluded")
    for _, row in model.read_table(table_file, ("product", *columns)).iterrows():
        if str(row["product"]) not in scenes:
            continue
        result = scenes[str(row["product"])].results.setdefault(key, Result())
        if table_file.stem == "metrics":
            result.measures = {name: float(row[name]) for name in columns if pd.notna(row[name])}
        else:
            result.counts = {name: int(row[name]) for name in columns}


def read_picture(place: Path, jpeg: bool = False, width: int | None = None) -> Picture:
    """A picture file as a data URI, its words from the settings file beside it; as JPEG, or smaller, where asked."""
    try:
        image: Image.Image = Image.open(place)
        image.load()
    except OSError:
        raise UserError(f"{place}: is not a readable picture; draw it again with --OVERWRITE") from None
    kind, data = "png", place.read_bytes()
    if jpeg:
        if width and width < image.width:
            image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
        kind, data = "jpeg", buffer.getvalue()
    words = (stores.read_record(place) or {}).get("results", {})
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(uri, image.width, image.height, words.get("title", place.stem), words.get("alt", place.stem))


# --- the page ---------------------------------------------------------------------------------------------------------


def render(
    training: Training,
    scenes: list[Scene],
    figures: list[Picture],
    records: dict[str, tuple[str, dict[str, Any]]],
    missing: list[str],
) -> str:
    """The whole page as text; `records` are file name and settings file by role."""
    sections = {
        "Scenes": scenes_section(scenes),
        "Training": training_section(training),
        "Figures": "".join(figure_html(picture) for picture in figures),
        "Settings": "".join(settings_html(*record) for record in records.values()),
        "Left out": "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in missing) + "</ul>" if missing else "",
    }
    sections = {name: text for name, text in sections.items() if text}
    links = "".join(f'<li><a href="#{slug(name)}">{name}</a></li>' for name in sections)
    body = "".join(f'<section id="{slug(name)}"><h2>{name}</h2>{text}</section>\n' for name, text in sections.items())
    header = f"<h1>{escape(TITLE)}</h1>{cards(training, scenes)}<nav aria-label='Sections'><ul>{links}</ul></nav>"
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(title=escape(TITLE), header=header, body=body, footer=f"<p>{CREDIT}</p>")


def cards(training: Training, scenes: list[Scene]) -> str:
    """The run's main figures."""
    facts: list[tuple[str, str, str]] = []
    results, constants = training.record.get("results", {}), training.record.get("constants", {})
    if training.counts is not None:
        facts.append(("training spectra", f"{training.counts.sum():,}", f"{constants.get('N_ITER', 0):,} steps"))
    if training.labels:
        cloud = int((training.labels.cloud == CLOUD).sum())
        after = "" if training.flipped is None else f"{cloud - training.flipped.sum()} after fine-tuning"
        facts.append(("cloud neurons", f"{cloud} of {len(training.labels.cloud)}", after))
    errors = {"quantization_error": "mean distance, scaled units", "topographic_error": "share of spectra"}
    for name, what in errors.items():
        if name in results:
            facts.append((name.replace("_", " "), f"{results[name]:.4f}", what))
    if scenes:
        facts.append(("scenes", str(len(scenes) - 2), ""))
        pooled = scenes[-1].results
        for measure in ("accuracy", "f_score"):
            values = {key: pooled[key].measures.get(measure) for key in pooled}
            if (first := values.get("before")) is not None:
                after = "" if (last := values.get("after")) is None else f"{last:.4f} after fine-tuning"
                facts.append((f"pooled {NAMES[measure]}", f"{first:.4f}", after))
    items = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in facts
    )
    return f'<dl class="cards">{"".join(items)}</dl>'


def training_section(training: Training) -> str:
    """A table of the classes: spectra and neurons of each."""
    if training.counts is None or training.labels is None:
        return ""
    totals = training.counts.sum(axis=0)
    rows = []
    for (code, name), total in zip(CLASSES.items(), totals, strict=True):
        neurons, share = int((training.labels.classes == code).sum()), total / max(1, totals.sum())
        bar = f'<span class="bar" style="width:{100 * share:.1f}%"></span>'
        cells = ((name, ""), (f"{total:,}", "spectra"), (f"{share:.1%}", "share"), (str(neurons), "neurons"))
        row = "".join(cell(text, label=label) for text, label in cells)
        rows.append(f'<tr role="row">{row}<td role="cell" class="bars">{bar}</td></tr>')
    heads = [("class", False), ("spectra", False), ("share", False), ("neurons", False), ("", False)]
    return table("Training spectra of each class, and the neurons labelled with it", heads, rows)


def scenes_section(scenes: list[Scene]) -> str:
    """The sortable table of scenes, and each scene's pictures and measures."""
    if not scenes:
        return ""
    stages = [key for key in ("before", "after") if any(key in scene.results for scene in scenes)]
    several = len(stages) > 1
    heads = [("scene", True), ("picture", False)]
    for name in ("cloud", *(NAMES[measure] for measure in COLUMNS)):
        heads += [(f"{name} {key}" if several else name, True) for key in stages]
    rows = [scene_row(scene, stages, [head for head, _ in heads]) for scene in scenes]
    note = (
        "<p>Cloud is the share of the pixels with data; the measures compare with the reference masks, cloud being the "
        "positive class. An empty cell is a measure that is not defined. Press a heading to sort.</p>"
    )
    if several:
        note += (
            "<p><em>before</em>: masks of step 9. <em>after</em>: with fine-tuned labels, median filter, dilation.</p>"
        )
    foot = rows[-2:] if any(scene.results for scene in scenes[-2:]) else []
    all_scenes = table("Masks of all scenes", heads, rows[:-2], foot, "scenes")
    return note + all_scenes + "".join(scene_html(scene, stages) for scene in scenes[:-2])


def scene_row(scene: Scene, stages: Sequence[str], labels: list[str]) -> str:
    """One line of the table of scenes."""
    link = f'<a href="#{slug(scene.name)}">{escape(scene.name)}</a>' if scene.pictures else escape(scene.name)
    picture = image_html(scene.thumbnail, f"Small picture of {scene.name}") if scene.thumbnail else ""
    results = [scene.results.get(key, Result()) for key in stages]
    cells = [number(result.cloud_share, "{:.1%}") for result in results]
    cells += [number(result.measures.get(measure)) for measure in COLUMNS for result in results]
    values = "".join(cell(text, value, label) for (text, value), label in zip(cells, labels[2:], strict=True))
    first = f'<td role="cell" data-value="{escape(scene.name)}">{link}</td>'
    return f'<tr role="row">{first}<td role="cell" class="picture" data-value="">{picture}</td>{values}</tr>'


def scene_html(scene: Scene, stages: Sequence[str]) -> str:
    """One scene's pictures and all its measures."""
    rows = []
    for name in (*MEASURES, "TP", "FN", "FP", "TN", "excluded"):
        results = [scene.results.get(key, Result()) for key in stages]
        if name in MEASURES:
            values = [number(result.measures.get(name)) for result in results]
        else:
            values = [number(result.counts.get(name), "{:,}") for result in results]
        if any(text for text, _ in values):
            cells = "".join(cell(text, value, key) for (text, value), key in zip(values, stages, strict=True))
            rows.append(f'<tr role="row"><td role="cell">{escape(NAMES.get(name, name))}</td>{cells}</tr>')
    measures = table(f"Measures and pixel counts of {scene.name}", [("", False), *((s, False) for s in stages)], rows)
    pictures = "".join(figure_html(picture, wide=picture.width > 1.4 * picture.height) for picture in scene.pictures)
    text = f'<div class="pictures">{pictures}</div>{measures if rows else ""}'
    return f'<section id="{slug(scene.name)}"><h3>{escape(scene.name)}</h3>{text}</section>'


def table(
    caption: str, heads: Iterable[tuple[str, bool]], rows: list[str], foot: Sequence[str] = (), kind: str = "small"
) -> str:
    """A table with a caption; a heading marked True sorts by its column, the first one as text, others as numbers.

    The roles repeat what the elements mean, which browsers forget where a small screen shows rows as cards.
    """
    cells = []
    for i, (head, sortable) in enumerate(heads):
        if sortable:
            sort, text = "number" if i else "text", f'<button type="button">{escape(head)}</button>'
            cells.append(f'<th role="columnheader" scope="col" aria-sort="none" data-kind="{sort}">{text}</th>')
        else:
            cells.append(f'<th role="columnheader" scope="col" class="plain">{escape(head)}</th>')
    last = f'<tfoot role="rowgroup">{"".join(foot)}</tfoot>' if foot else ""
    return (
        f'<div class="scroll"><table role="table" class="{kind}"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{"".join(cells)}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(rows)}</tbody>{last}</table></div>'
    )


def cell(text: str, value: str = "", label: str = "") -> str:
    """One cell: its text, the value it sorts by, and the heading a small screen shows beside it."""
    return f'<td role="cell" data-value="{escape(value)}" data-label="{escape(label)}">{escape(text)}</td>'


def number(value: float | None, form: str = "{:.4f}") -> tuple[str, str]:
    """A number as shown and as sorted by; both empty where there is none."""
    return ("", "") if value is None else (form.format(value), f"{value:.10g}")


def figure_html(picture: Picture, wide: bool = False) -> str:
    """A picture with its title; what it shows in words is its alternative text."""
    size = ' class="wide"' if wide else ""
    return f"<figure{size}>{image_html(picture, picture.alt)}<figcaption>{escape(picture.title)}</figcaption></figure>"


def image_html(picture: Picture, alt: str) -> str:
    return f'<img src="{picture.uri}" width="{picture.width}" height="{picture.height}" alt="{escape(alt)}">'


def settings_html(name: str, record: dict[str, Any]) -> str:
    """The settings file of one product as a fold-out table."""
    constants = {key: str(value) for key, value in record.get("constants", {}).items()}
    inputs = {
        f"read: {role}": f"{entry.get('name')} (sha256 {str(entry.get('sha256'))[:12]}...)"
        for role, entry in record.get("inputs", {}).items()
    }
    versions = ", ".join(f"{package} {version}" for package, version in record.get("versions", {}).items())
    lines = constants | inputs | {"result": str(record.get("results", {}).get("summary", "")), "versions": versions}
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in lines.items() if value)
    return (
        f"<details><summary>{escape(name)} <span class='quiet'>by {escape(str(record.get('script', '?')))}</span>"
        f"</summary><table><tbody>{rows}</tbody></table></details>"
    )


def slug(name: str) -> str:
    """A name as the target of a link."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


if __name__ == "__main__":
    run(main, globals())
