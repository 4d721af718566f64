"""A report of a run in one HTML file: settings, training, figures, scenes with their masks and measures.

The file needs nothing else: styles, script and pictures are inside it, and it opens straight from disk. What has not
been made yet is left out, and named at the end of the report and on the terminal. Its figures are the PNG files of the
other scripts, so it has no FORMATS of its own; `render` gives the page as text, as their functions give figures.

    python visualization/report.py
    python visualization/report.py --SHOW      opens it in the browser

reads   what the steps, fine_tuning.py and the other scripts of this folder have written under DATA_DIR
writes  REPORT_FILE
"""

import base64
import io
import sys
import webbrowser
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.drawing.figures import SOM1, SOM2, Corrections, optional_input, read_corrections
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import local, under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import run, snapshot
from cloudsom.scoring.scores import MEASURES
from cloudsom.som import labelled_map, model
from cloudsom.som.labels import NeuronLabels

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TRAINING_CSV = "training_spectra.csv"  # step 2's table; only its settings are shown
SCALER_FILE = "scaler.p"  # step 2's scaler; only its settings are shown
SOM_FILE = "SOM_trained.p"  # step 3's map
BMUS_CSV = "BMUs.csv"  # step 4's table; only its settings are shown
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's counts
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # fine_tuning.py's labels
FINETUNED_MAP_NPZ = "neuron_labels_finetuned.npz"  # fine_tuning.py's corrected map
MASK_DIR = "masks"  # step 9's masks
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks
RESULTS_DIR = "results"  # step 10's tables
FIGURES_DIR = "figures"  # what the scripts of this folder drew
REPORT_FILE = "report.html"  # the report

# picture
TITLE = "Cloud masks with a self-organizing map"  # the report's heading

# running
SHOW = False  # open the report in the browser too
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
    "sub_maps": "sub_maps.py",  # where fine-tuning has made some
}

#: Measures that have a column in the table of scenes; the scenes' own tables have all of them.
COLUMNS = ("accuracy", "precision", "recall", "f_score")
NAMES = dict(zip(MEASURES, ("accuracy", "precision", "recall", "F-score", "balanced accuracy", "IoU"), strict=True))

COUNTS = ("TP", "FN", "FP", "TN", "excluded")

#: What step 10's summary lines say of the scenes they sum up.
ROLES = ("held out", "tuned on")

#: What the two sets of masks are called in headings.
STAGES = {SOM1: "before", SOM2: "after"}

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
    """One scene (or a summary line of them): results by kind of masks, pictures, and a small one.

    `tuned_on`: fine-tuning took samples from it, so its measures afterwards are no test.
    """

    name: str
    tuned_on: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    thumbnail: Picture | None = None


@dataclass
class Masks:
    """One set of masks, SOM1 or SOM2, and the pictures made of them; by product name."""

    kind: str
    masks: dict[str, Path]
    quicklooks: dict[str, Path]
    coloured: dict[str, Path]

    def inputs(self) -> dict[str, Path]:
        """Its files by role; the masks also by the roles step 10 knows them by."""
        files = {f"{self.kind} {name}": place for name, place in self.masks.items()}
        files |= {f"mask {name}": place for name, place in self.masks.items() if self.kind == SOM1}
        files |= {f"quicklook of {self.kind} {name}": place for name, place in self.quicklooks.items()}
        return files | {f"coloured {self.kind} {name}": place for name, place in self.coloured.items()}

    def only(self, names: Collection[str]) -> "Masks":
        """Those of some products."""
        files = (self.masks, self.quicklooks, self.coloured)
        return Masks(self.kind, *({name: f[name] for name in f if name in names} for f in files))


@dataclass
class Training:
    """Counts (neurons, 6) and labels of the map, what fine-tuning did to it, and its settings file."""

    counts: NDArray[np.int64] | None
    labels: NeuronLabels | None
    corrections: Corrections | None
    record: dict[str, Any]


def main() -> None:
    run_files = find_run_files()
    figures, missing = find_figures(has_sub_maps(run_files))
    sets, tables = find_masks(), find_tables()
    missing += missing_parts(sets, tables)
    if not run_files and not sets[0].masks:
        raise UserError(f"{under(DATA_DIR, '.')}: holds nothing of a run; give its DATA_DIR, or run step 1 and on")
    made_by = recipe_of(run_files, figures, sets, tables)
    report_file = under(DATA_DIR, REPORT_FILE)
    for line in missing:
        print(f"left out: {line}")
    outcomes = []
    if stores.finished(report_file, made_by, OVERWRITE):
        print(f"{report_file}: is up to date")
    else:
        outcomes = read_scenes(sets)
        scenes = {scene.name: scene for scene in results_or_errors(outcomes)}
        if len(scenes) < len(outcomes):
            missing += [f"scene {outcome.name}: a file of it cannot be read" for outcome in outcomes if outcome.error]
            made_by = recipe_of(run_files, figures, [each.only(scenes) for each in sets], tables)
        write_report(report_file, made_by, run_files, figures, scenes, tables, missing)
    if SHOW:
        show(report_file)
    raise_if_any_failed(outcomes)


def write_report(
    report_file: Path,
    made_by: stores.Recipe,
    run_files: dict[str, Path],
    figures: dict[str, Path],
    scenes: dict[str, Scene],
    tables: dict[str, Path],
    missing: list[str],
) -> None:
    """Read the rest, and write the page."""
    totals = add_scores(scenes, tables)
    page = render(
        read_training(run_files),
        list(scenes.values()),
        totals,
        read_surfaces(tables),
        [read_picture(place) for place in figures.values()],
        {place.name: record for place in (run_files | tables).values() if (record := stores.read_record(place))},
        missing,
    )
    with stores.product(report_file, made_by) as product:
        product.partial.write_text(page, encoding="utf-8")
        product.results["summary"] = f"{len(scenes)} scenes, {len(figures)} figures"
    print(f"{report_file}: {product.results['summary']}, {report_file.stat().st_size / 1e6:.1f} MB")


def show(report_file: Path) -> None:
    """Open a file in the user's browser; UserError where there is none."""
    if not webbrowser.open(report_file.resolve().as_uri()):
        raise UserError(f"SHOW: no browser was found here; open {report_file} in one yourself")


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
        "FINETUNED_MAP_NPZ",
    )
    found = {role: optional_input(DATA_DIR, globals()[role]) for role in roles}
    return {role: place for role, place in found.items() if place}


def has_sub_maps(run_files: dict[str, Path]) -> bool:
    """Whether fine-tuning has put sub-maps into neurons; else their figure is neither shown nor missing."""
    tuned = run_files.get("FINETUNED_MAP_NPZ")
    return tuned is not None and bool(labelled_map.load(tuned).submaps)


def find_figures(with_sub_maps: bool) -> tuple[dict[str, Path], list[str]]:
    """The figures drawn so far by name, in the report's order, and a line for each one that is not."""
    folder = under(DATA_DIR, FIGURES_DIR)
    wanted = {pattern: script for pattern, script in FIGURES.items() if with_sub_maps or pattern != "sub_maps"}
    found = {pattern: sorted(folder.glob(f"{pattern}.png")) for pattern in wanted}
    missing = [
        f"{pattern.replace('_*', '')} (python visualization/{script})"
        for pattern, script in wanted.items()
        if not found[pattern]
    ]
    return {place.stem: place for places in found.values() for place in places}, missing


def find_masks() -> list[Masks]:
    """The masks before fine-tuning and after it, with the pictures made of them; a set may be empty."""
    figures_dir, sets = under(DATA_DIR, FIGURES_DIR), []
    for kind, name in ((SOM1, MASK_DIR), (SOM2, MASK_FINETUNED_DIR)):
        mask_dir = under(DATA_DIR, name)
        masks = masks_in(mask_dir)
        quicklooks = {name: figures_dir / "quicklooks" / f"{name}_{mask_dir.name}.png" for name in masks}
        coloured = {name: figures_dir / f"colored_{mask_dir.name}" / f"{name}_colored.png" for name in masks}
        sets.append(Masks(kind, masks, only_existing(quicklooks), only_existing(coloured)))
    return sets


def find_tables() -> dict[str, Path]:
    """The tables of step 10 that are there, by name."""
    names = ("metrics", "confusion_matrix", "surfaces", "comparison")
    return only_existing({name: under(DATA_DIR, RESULTS_DIR) / f"{name}.csv" for name in names})


def only_existing(files: dict[str, Path]) -> dict[str, Path]:
    return {name: place for name, place in files.items() if place.is_file()}


def missing_parts(sets: list[Masks], tables: dict[str, Path]) -> list[str]:
    """A line for each thing the section of scenes lacks."""
    lines = []
    for each, script in zip(sets, ("create_cloudmasks.py", "fine_tuning.py"), strict=True):
        if not each.masks:
            lines.append(f"masks {each.kind} (python {script})")
        if len(each.quicklooks) < len(each.masks):
            lines.append(f"quicklooks of the masks {each.kind} (python visualization/quicklooks.py)")
        if len(each.coloured) < len(each.masks):
            lines.append(f"some coloured masks {each.kind} (python visualization/colored_cloudmasks.py)")
    wanted = {"metrics", "confusion_matrix"} | ({"comparison"} if sets[1].masks else set())
    if sets[0].masks and not wanted <= set(tables):
        lines.append("measures of the masks (python evaluation_metrics.py)")
    return lines


def recipe_of(
    run_files: dict[str, Path], figures: dict[str, Path], sets: list[Masks], tables: dict[str, Path]
) -> stores.Recipe:
    """What the report is made of, settings files included. Refuses files of different runs (an older map's figure)."""
    settings = snapshot(globals())
    files = run_files | {f"figure {name}": place for name, place in figures.items()}
    files |= {f"table {name}": place for name, place in tables.items()}
    for each in sets:
        files |= each.inputs()
    told = only_existing({f"settings of {role}": stores.record_path(place) for role, place in files.items()})
    made_by = stores.recipe(settings, files)
    also = stores.recipe(settings, told)
    return replace(made_by, inputs=made_by.inputs | also.inputs, files=made_by.files + also.files)


def read_training(files: dict[str, Path]) -> Training:
    """What the report tells of the trained map."""
    counts = model.read_hit_maps(files["HIT_MAPS_CSV"])[0] if "HIT_MAPS_CSV" in files else None
    labels = model.read_neuron_labels(files["NEURON_LABELS_CSV"]) if "NEURON_LABELS_CSV" in files else None
    finetuned = files.get("NEURON_LABELS_FINETUNED_CSV")
    corrections = read_corrections(labels, finetuned) if labels and finetuned else None
    record = stores.read_record(files["SOM_FILE"]) if "SOM_FILE" in files else None
    return Training(counts, labels, corrections, record or {})


def read_scenes(sets: list[Masks]) -> list[Outcome]:
    """Every scene with a mask, sorted by name, or why it cannot be read."""
    names = sorted({name for each in sets for name in each.masks})
    return run_jobs(read_scene, [Job(name, (name, sets)) for name in names], Engine(here=True), "reading")


def read_scene(name: str, sets: list[Masks]) -> Scene:
    """One scene: its cloud shares and pictures."""
    scene = Scene(name)
    for each in sets:
        if name in each.masks:
            mask, _ = read_mask(each.masks[name])
            share = float((mask == CLOUD).sum() / max(1, (mask != MASK_NODATA).sum()))
            scene.results[each.kind] = Result(share)
        if name in each.quicklooks:
            scene.pictures.append(read_picture(each.quicklooks[name], jpeg=True))
            scene.thumbnail = read_picture(each.quicklooks[name], jpeg=True, width=320)
    for each in sets:  # those of both sets last, and so beside each other
        if name in each.coloured:
            scene.pictures.append(read_picture(each.coloured[name]))
    return scene


def add_scores(scenes: dict[str, Scene], tables: dict[str, Path]) -> list[Scene]:
    """Give the scenes their measures and counts, from comparison.csv where it is there; the summary lines."""
    totals: dict[str, Scene] = {}
    for row in score_rows(tables):
        name, kind = str(row["product"]), str(row["masks"])
        if name in ("mean", "pooled"):
            role = str(row.get("role", ""))
            scene = totals.setdefault(name, Scene(f"{name} ({role})" if role in ROLES else name))
        elif name in scenes:
            scene = scenes[name]
            scene.tuned_on = row.get("role") == "tuned on"
        else:
            continue
        result = scene.results.setdefault(kind, Result())
        result.measures |= {m: float(row[m]) for m in MEASURES if pd.notna(row.get(m, np.nan))}
        result.counts |= {c: int(row[c]) for c in COUNTS if pd.notna(row.get(c, np.nan))}
    return list(totals.values())


def score_rows(tables: dict[str, Path]) -> list[dict[str, Any]]:
    """The rows of step 10's tables with the masks they are about; those of both sets stand in comparison.csv."""
    if "comparison" in tables:
        table = model.read_table(tables["comparison"], ("product", "role", "masks", *COUNTS, *MEASURES))
        return list(table[table["masks"].isin([SOM1, SOM2])].to_dict("records"))
    needed = {"metrics": MEASURES, "confusion_matrix": COUNTS}
    found = [model.read_table(tables[n], ("product", *columns)) for n, columns in needed.items() if n in tables]
    return [row | {"masks": SOM1} for table in found for row in table.to_dict("records")]


def read_surfaces(tables: dict[str, Path]) -> dict[str, dict[str, tuple[int, float]]]:
    """Of each surface, by kind of masks: pixels of all scored scenes, and the share called cloud."""
    found: dict[str, dict[str, tuple[int, float]]] = {}
    if "surfaces" in tables:
        table = model.read_table(tables["surfaces"], ("product", "masks", "surface", "pixels", "share"))
        for row in table[table["product"] == "pooled"].to_dict("records"):
            pair = int(row["pixels"]), float(row["share"])
            found.setdefault(str(row["surface"]), {})[str(row["masks"])] = pair
    return found


def read_picture(place: Path, jpeg: bool = False, width: int | None = None) -> Picture:
    """A picture file as a data URI, its words from the settings file beside it; as JPEG, or smaller, where asked."""
    try:
        image: Image.Image = Image.open(local(place))
        image.load()
    except OSError:
        raise UserError(f"{place}: is not a readable picture; draw it again with --OVERWRITE") from None
    kind, data = "png", local(place).read_bytes()
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
    totals: list[Scene],
    surfaces: dict[str, dict[str, tuple[int, float]]],
    figures: list[Picture],
    records: dict[str, dict[str, Any]],
    missing: list[str],
) -> str:
    """The whole page as text; `records` are the settings files by product."""
    sections = {
        "Scenes": scenes_section(scenes, totals, surfaces),
        "Training": training_section(training),
        "Figures": "".join(figure_html(picture) for picture in figures),
        "Settings": "".join(settings_html(name, record) for name, record in records.items()),
        "Left out": "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in missing) + "</ul>" if missing else "",
    }
    sections = {name: text for name, text in sections.items() if text}
    links = "".join(f'<li><a href="#{slug(name)}">{name}</a></li>' for name in sections)
    body = "".join(f'<section id="{slug(name)}"><h2>{name}</h2>{text}</section>\n' for name, text in sections.items())
    header = f"<h1>{escape(TITLE)}</h1>{cards(training, scenes, totals)}"
    header += f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(title=escape(TITLE), header=header, body=body, footer=f"<p>{CREDIT}</p>")


def cards(training: Training, scenes: list[Scene], totals: list[Scene]) -> str:
    """The run's main figures."""
    facts: list[tuple[str, str, str]] = []
    results, constants = training.record.get("results", {}), training.record.get("constants", {})
    if training.counts is not None:
        facts.append(("training spectra", f"{training.counts.sum():,}", f"{constants.get('N_ITER', 0):,} steps"))
    if training.labels:
        cloud = int((training.labels.cloud == CLOUD).sum())
        done = training.corrections
        after = "" if done is None else f"fine-tuning flips {done.flipped.sum()}, splits {done.split.sum()}"
        facts.append(("cloud neurons", f"{cloud} of {len(training.labels.cloud)}", after))
    errors = {"quantization_error": "mean distance, scaled units", "topographic_error": "share of spectra"}
    for name, what in errors.items():
        if name in results:
            facts.append((name.replace("_", " "), f"{results[name]:.4f}", what))
    if scenes:
        facts.append(("scenes", str(len(scenes)), ""))
    pooled = next((scene.results for scene in totals if scene.name.startswith("pooled")), {})
    for measure in ("accuracy", "f_score"):
        values = {kind: result.measures.get(measure) for kind, result in pooled.items()}
        if (first := values.get(SOM1)) is not None:
            after = "" if (last := values.get(SOM2)) is None else f"{last:.4f} after fine-tuning"
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


def scenes_section(scenes: list[Scene], totals: list[Scene], surfaces: dict[str, dict[str, tuple[int, float]]]) -> str:
    """The sortable table of scenes, the surfaces, and each scene's pictures and measures."""
    if not scenes:
        return ""
    kinds = [kind for kind in STAGES if any(kind in scene.results for scene in scenes)]
    several = len(kinds) > 1
    heads = [("scene", True), ("picture", False)]
    for name in ("cloud", *(NAMES[measure] for measure in COLUMNS)):
        heads += [(f"{name} {STAGES[kind]}" if several else name, True) for kind in kinds]
    rows = [scene_row(scene, kinds, [head for head, _ in heads]) for scene in scenes + totals]
    note = (
        "<p>Cloud is the share of the pixels with data; the measures compare with the reference masks, cloud being the "
        "positive class. An empty cell is a measure that is not defined. Press a heading to sort.</p>"
    )
    if several:
        note += (
            "<p><em>before</em>: masks of step 9 (SOM1). <em>after</em>: with fine-tuned labels, median filter and "
            "dilation (SOM2).</p>"
        )
    if any(scene.tuned_on for scene in scenes):
        note += "<p>Fine-tuning took samples from the scenes marked *: their measures after it are no test of it.</p>"
    all_scenes = table("Masks of all scenes", heads, rows[: len(scenes)], rows[len(scenes) :], "scenes")
    return note + all_scenes + surfaces_html(surfaces) + "".join(scene_html(scene, kinds) for scene in scenes)


def surfaces_html(surfaces: dict[str, dict[str, tuple[int, float]]]) -> str:
    """A table of the surfaces: how much of each is called cloud."""
    kinds = [kind for kind in STAGES if any(kind in found for found in surfaces.values())]
    rows = []
    for name, found in surfaces.items():
        pixels = max(n for n, _ in found.values())
        cells = [cell(f"{pixels:,}", label="pixels")]
        cells += [cell(f"{found[kind][1]:.2%}" if kind in found else "", label=STAGES[kind]) for kind in kinds]
        rows.append(f'<tr role="row"><td role="cell">{escape(name)}</td>{"".join(cells)}</tr>')
    heads = [("surface", False), ("pixels", False)]
    heads += [(STAGES[kind] if len(kinds) > 1 else "called cloud", False) for kind in kinds]
    return table("Share of each surface that is called cloud, over the scenes scored", heads, rows) if rows else ""


def scene_row(scene: Scene, kinds: Sequence[str], labels: list[str]) -> str:
    """One line of the table of scenes."""
    link = f'<a href="#{anchor(scene.name)}">{escape(scene.name)}</a>' if scene.pictures else escape(scene.name)
    picture = image_html(scene.thumbnail, f"Small picture of {scene.name}") if scene.thumbnail else ""
    results = [scene.results.get(kind, Result()) for kind in kinds]
    cells = [number(result.cloud_share, "{:.1%}") for result in results]
    cells += [number(result.measures.get(measure)) for measure in COLUMNS for result in results]
    values = "".join(cell(text, value, label) for (text, value), label in zip(cells, labels[2:], strict=True))
    first = f'<td role="cell" data-value="{escape(scene.name)}">{link}{" *" * scene.tuned_on}</td>'
    return f'<tr role="row">{first}<td role="cell" class="picture" data-value="">{picture}</td>{values}</tr>'


def scene_html(scene: Scene, kinds: Sequence[str]) -> str:
    """One scene's pictures and all its measures."""
    rows = []
    for name in (*MEASURES, *COUNTS):
        results = [scene.results.get(kind, Result()) for kind in kinds]
        if name in MEASURES:
            values = [number(result.measures.get(name)) for result in results]
        else:
            values = [number(result.counts.get(name), "{:,}") for result in results]
        if any(text for text, _ in values):
            cells = "".join(cell(text, value, STAGES[k]) for (text, value), k in zip(values, kinds, strict=True))
            rows.append(f'<tr role="row"><td role="cell">{escape(NAMES.get(name, name))}</td>{cells}</tr>')
    heads = [("", False), *((STAGES[kind] if len(kinds) > 1 else "", False) for kind in kinds)]
    measures = table(f"Measures and pixel counts of {scene.name}", heads, rows)
    pictures = "".join(figure_html(picture, wide=picture.width > 1.4 * picture.height) for picture in scene.pictures)
    text = f'<div class="pictures">{pictures}</div>{measures if rows else ""}'
    return f'<section id="{anchor(scene.name)}"><h3>{escape(scene.name)}</h3>{text}</section>'


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
    """A heading as the target of a link."""
    return name.lower().replace(" ", "-")


def anchor(name: str) -> str:
    """A scene's name as the target of a link; two names never have the same one."""
    return "scene-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in name)


if __name__ == "__main__":
    run(main, globals())
