"""A report of a run in one HTML file: settings, training, figures, scenes with their masks and measures.

The file needs nothing else: styles, script and pictures are inside it, and it opens straight from disk. What has not
been made yet is left out, and named at the end of the report and on the terminal. Its figures are the PNG files of the
other scripts, so it has no FORMATS of its own; `render` gives the page as text, as their functions give figures.

    python visualization/report.py
    python visualization/report.py --SHOW      opens it in the browser

reads   what the steps, fine_tuning.py and the other scripts of this folder have written under DATA_DIR
writes  REPORT_FILE
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import io
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.drawing.figures import SOM1, SOM2, Corrections, read_corrections
from cloudsom.drawing.pages import data_uri, page, show
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import input_path, is_remote, local, under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.running.job import Job, Outcome
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import optional_files, run, snapshot
from cloudsom.scoring.bootstrap import ALL_MEASURES
from cloudsom.scoring.comparison import OF
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

# outputs (relative to DATA_DIR)
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
    "processors": "compare_masks.py",
    "class_confusion": "compare_masks.py",  # where there are class maps
}

#: Measures that have a column in the table of scenes; the scenes' own tables have all of them.
COLUMNS = ("accuracy", "precision", "recall", "f_score")
NAMES = dict(
    zip(
        ALL_MEASURES,
        ("accuracy", "precision", "recall", "F-score", "balanced accuracy", "IoU", "false alarms", "on bright land"),
        strict=True,
    )
)

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

    def result(self, kind: str) -> Result:
        """What is known of its mask of a kind."""
        return self.results.get(kind, Result())

    @property
    def is_scored(self) -> bool:
        """Whether there are measures or counts of any of its masks."""
        return any(result.measures or result.counts for result in self.results.values())

    def rows(self, kinds: Sequence[str]) -> list[tuple[str, str, list[float | None]]]:
        """Its measures and counts that are known: name, format, and the value for each kind of masks."""
        found: list[tuple[str, str, list[float | None]]] = []
        found += [(name, "{:.4f}", [self.result(kind).measures.get(name) for kind in kinds]) for name in MEASURES]
        found += [(name, "{:,}", [self.result(kind).counts.get(name) for kind in kinds]) for name in COUNTS]
        return [row for row in found if any(value is not None for value in row[2])]


@dataclass
class Masks:
    """One set of masks, SOM1 or SOM2, and the pictures made of them; by product name."""

    kind: str
    masks: dict[str, Path]
    quicklooks: dict[str, Path]
    coloured: dict[str, Path]
    compared: dict[str, Path] = field(default_factory=dict)

    def inputs(self) -> dict[str, Path]:
        """Its files by role; the masks also by the roles step 10 knows them by."""
        files = {f"{self.kind} {name}": place for name, place in self.masks.items()}
        files |= {f"mask {name}": place for name, place in self.masks.items() if self.kind == SOM1}
        files |= {f"comparison of {name}": place for name, place in self.compared.items()}
        files |= {f"quicklook of {self.kind} {name}": place for name, place in self.quicklooks.items()}
        return files | {f"coloured {self.kind} {name}": place for name, place in self.coloured.items()}

    def only(self, names: Collection[str]) -> "Masks":
        """Those of some products."""
        files = (self.masks, self.quicklooks, self.coloured, self.compared)
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
    sets, tables = find_masks(), find_tables()
    of_tables = {"processors": "processors", "class_confusion": "classes"}
    without = {figure for figure, table in of_tables.items() if table not in tables}
    figures, missing = find_figures(without if has_sub_maps(run_files) else without | {"sub_maps"})
    missing += missing_parts(sets, tables)
    if not run_files and not sets[0].masks:
        raise UserError(f"{under(DATA_DIR, '.')}: holds nothing of a run; give its DATA_DIR, or run step 1 and on")
    made_by = recipe_of(run_files, figures, sets, tables)
    if "map to walk in" not in run_files:
        missing.append("map to walk in (python visualization/map_explorer.py)")
    report_file = under(DATA_DIR, REPORT_FILE)
    for line in missing:
        print(f"left out: {line}")
    if any("visualization/" in line for line in missing):
        print("all figures at once: python visualization/all_figures.py")
    outcomes = []
    if done := stores.up_to_date([report_file], made_by, OVERWRITE):
        print(done)
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
        read_standings(tables),
        [read_picture(place) for place in figures.values()],
        {place.name: record for place in (run_files | tables).values() if (record := stores.read_record(place))},
        missing,
        link_to(run_files.get("map to walk in"), report_file),
    )
    with stores.product(report_file, made_by) as product:
        product.partial.write_text(page, encoding="utf-8")
        product.results["summary"] = f"{len(scenes)} scenes, {len(figures)} figures"
    print(f"{report_file}: {product.results['summary']}, {report_file.stat().st_size / 1e6:.1f} MB")


def link_to(file: Path | None, report_file: Path) -> str:
    """A file as the report names it, from the folder it stands in; empty for none, and for one behind a URL."""
    return quote(os.path.relpath(file, report_file.parent)) if file and not is_remote(file) else ""


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
    walk = input_path(DATA_DIR, f"{FIGURES_DIR}/map_explorer.html")
    return optional_files(globals(), *roles) | ({"map to walk in": walk} if walk.is_file() else {})


def has_sub_maps(run_files: dict[str, Path]) -> bool:
    """Whether fine-tuning has put sub-maps into neurons; else their figure is neither shown nor missing."""
    tuned = run_files.get("FINETUNED_MAP_NPZ")
    return tuned is not None and bool(labelled_map.load(tuned).submaps)


def find_figures(not_expected: Collection[str]) -> tuple[dict[str, Path], list[str]]:
    """The figures drawn so far by name, in the report's order, and a line for each one that is not."""
    folder = under(DATA_DIR, FIGURES_DIR)
    wanted = {pattern: script for pattern, script in FIGURES.items() if pattern not in not_expected}
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
        compared = {name: figures_dir / "compared" / f"{name}.png" for name in masks if kind == SOM1}
        sets.append(Masks(kind, masks, *map(only_existing, (quicklooks, coloured, compared))))
    return sets


def find_tables() -> dict[str, Path]:
    """The tables of step 10 that are there, by name."""
    names = ("metrics", "confusion_matrix", "surfaces", "processors", "differences", "classes")
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
        if each.kind == SOM1 and len(each.compared) < len(each.masks):
            lines.append("some masks of all processors side by side (python visualization/compare_masks.py)")
        if len(each.coloured) < len(each.masks):
            lines.append(f"some coloured masks {each.kind} (python visualization/colored_cloudmasks.py)")
    wanted = {"metrics", "confusion_matrix", "processors"}
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
    for each in sets:
        if name in each.compared:
            scene.pictures.append(read_picture(each.compared[name]))
    return scene


def add_scores(scenes: dict[str, Scene], tables: dict[str, Path]) -> list[Scene]:
    """Give the scenes their measures and counts, from processors.csv where it is there; the summary lines."""
    totals: dict[str, Scene] = {}
    for row in score_rows(tables):
        name, kind = str(row["product"]), str(row["processor"])
        if name in ("mean", "pooled"):
            role = str(row.get("role", ""))
            line = f"{name} ({role})" if role in ROLES else name
            scene = totals.setdefault(line, Scene(line))
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
    """The rows of step 10's tables with the masks they are about; those of both sets stand in processors.csv."""
    if "processors" in tables:
        table = model.read_table(tables["processors"], ("product", "role", "processor", *COUNTS, *MEASURES))
        return list(table[table["processor"].isin([SOM1, SOM2])].to_dict("records"))
    needed = {"metrics": MEASURES, "confusion_matrix": COUNTS}
    found = [model.read_table(tables[n], ("product", *columns)) for n, columns in needed.items() if n in tables]
    return [row | {"processor": SOM1} for table in found for row in table.to_dict("records")]


def read_surfaces(tables: dict[str, Path]) -> dict[str, dict[str, tuple[int, float]]]:
    """Of each surface, by kind of masks: pixels of all scored scenes, and the share called cloud."""
    found: dict[str, dict[str, tuple[int, float]]] = {}
    if "surfaces" in tables:
        table = model.read_table(tables["surfaces"], ("product", "role", "masks", "surface", "pixels", "share"))
        pooled = table[table["product"] == "pooled"]
        roles = pooled["role"].astype(object).fillna("")
        for row in pooled[roles == next(iter(roles), "")].to_dict("records"):
            pair = int(row["pixels"]), float(row["share"])
            found.setdefault(str(row["surface"]), {})[str(row["masks"])] = pair
    return found


@dataclass
class Standing:
    """The pooled measures of all processors over the scenes of one role.

    rows  of each processor: its name, and value, low and high end of the 95 % interval of each measure; None: undefined
    """

    of: str
    scenes: int
    pixels: int
    rows: list[tuple[str, list[tuple[float | None, float | None, float | None]]]]


def read_standings(tables: dict[str, Path]) -> tuple[list[Standing], str]:
    """All processors beside each other, held-out scenes first, and whose labels they are scored by."""
    if "processors" not in tables:
        return [], ""
    table = model.read_table(tables["processors"], ("processor", "product", "role", "pixels", *ALL_MEASURES))
    table["role"] = table["role"].astype(object).fillna("")
    found = []
    for role, rows in table[table["product"] == "pooled"].groupby("role", sort=False):
        scenes = table[(table["role"] == role) & ~table["product"].isin(["mean", "pooled"])]
        have = scenes[scenes["processor"].isin(rows["processor"])].groupby("product")["processor"].nunique()
        lines = [(str(row["processor"]), [triple(row, name) for name in ALL_MEASURES]) for _, row in rows.iterrows()]
        found.append(Standing(OF[str(role)], int((have == len(rows)).sum()), int(rows["pixels"].iloc[0]), lines))
    record = stores.read_record(tables["processors"]) or {}
    return found, str(record.get("results", {}).get("labels", ""))


def triple(row: pd.Series, measure: str) -> tuple[float | None, float | None, float | None]:
    """A measure and the ends of its interval."""
    values = [row.get(f"{measure}{end}") for end in ("", "_low", "_high")]
    low_to_high = [None if value is None or pd.isna(value) else float(value) for value in values]
    return low_to_high[0], low_to_high[1], low_to_high[2]


def read_picture(place: Path, jpeg: bool = False, width: int | None = None) -> Picture:
    """A picture file as a data URI, its words from the settings file beside it; as JPEG, or smaller, where asked."""
    try:
        image: Image.Image = Image.open(local(place))
        image.load()
    except OSError as problem:
        if problem.errno:  # the disk's, and not the picture's
            raise
        raise UserError(f"{place}: is not a readable picture; draw it again with --OVERWRITE") from None
    kind, data = "png", local(place).read_bytes()
    if jpeg:
        if width and width < image.width:
            image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
        kind, data = "jpeg", buffer.getvalue()
    words = (stores.read_record(place) or {}).get("results", {})
    uri = data_uri(f"image/{kind}", data)
    return Picture(uri, image.width, image.height, words.get("title", place.stem), words.get("alt", place.stem))


# --- the page ---------------------------------------------------------------------------------------------------------


def render(
    training: Training,
    scenes: list[Scene],
    totals: list[Scene],
    surfaces: dict[str, dict[str, tuple[int, float]]],
    standings: tuple[list[Standing], str],
    figures: list[Picture],
    records: dict[str, dict[str, Any]],
    missing: list[str],
    explorer: str = "",
) -> str:
    """The whole page as text, everything in it escaped; `records` are the settings files by product."""
    return page(
        TEMPLATE,
        {"anchor": anchor, "slug": slug},
        title=TITLE,
        credit=CREDIT,
        facts=facts(training, scenes, totals),
        classes=classes(training),
        scenes=scenes,
        totals=totals,
        kinds=[kind for kind in STAGES if any(kind in scene.results for scene in scenes)],
        surfaces=surfaces,
        surface_kinds=[kind for kind in STAGES if any(kind in found for found in surfaces.values())],
        stages=STAGES,
        standings=standings[0],
        labels=standings[1],
        all_measures=[NAMES[name] for name in ALL_MEASURES],
        columns=COLUMNS,
        names=NAMES,
        figures=figures,
        settings=[(name, str(record.get("script", "?")), settings_lines(record)) for name, record in records.items()],
        missing=missing,
        explorer=explorer,
    )


def facts(training: Training, scenes: list[Scene], totals: list[Scene]) -> list[tuple[str, str, str]]:
    """The run's main figures: what each is, its value, and a note."""
    found: list[tuple[str, str, str]] = []
    results, constants = training.record.get("results", {}), training.record.get("constants", {})
    if training.counts is not None:
        found.append(("training spectra", f"{training.counts.sum():,}", f"{constants.get('N_ITER', 0):,} steps"))
    if training.labels:
        cloud = int((training.labels.cloud == CLOUD).sum())
        done = training.corrections
        after = "" if done is None else f"fine-tuning flips {done.flipped.sum()}, splits {done.split.sum()}"
        found.append(("cloud neurons", f"{cloud} of {len(training.labels.cloud)}", after))
    errors = {"quantization_error": "mean distance, scaled units", "topographic_error": "share of spectra"}
    known = {name: what for name, what in errors.items() if name in results}
    found += [(name.replace("_", " "), f"{results[name]:.4f}", what) for name, what in known.items()]
    if scenes:
        found.append(("scenes", str(len(scenes)), ""))
    pooled = next((scene for scene in totals if scene.name.startswith("pooled")), Scene("pooled"))
    for measure in ("accuracy", "f_score"):
        first, last = (pooled.result(kind).measures.get(measure) for kind in (SOM1, SOM2))
        if last is not None and first is not None:
            found.append((f"{pooled.name}, {NAMES[measure]}", f"{last:.4f}", f"{first:.4f} before fine-tuning"))
        elif first is not None:
            found.append((f"{pooled.name}, {NAMES[measure]}", f"{first:.4f}", "without fine-tuning"))
    return found


def classes(training: Training) -> list[tuple[str, int, float, int]]:
    """Each class with its training spectra, their share of all, and the neurons it labels."""
    if training.counts is None or training.labels is None:
        return []
    totals, labels = training.counts.sum(axis=0), training.labels.classes
    return [
        (name, int(total), float(total / max(1, totals.sum())), int((labels == code).sum()))
        for (code, name), total in zip(CLASSES.items(), totals, strict=True)
    ]


def settings_lines(record: dict[str, Any]) -> dict[str, str]:
    """The settings file of one product in lines."""
    constants = {key: str(value) for key, value in record.get("constants", {}).items()}
    inputs = {
        f"read: {role}": f"{entry.get('name')} (sha256 {str(entry.get('sha256'))[:12]}...)"
        for role, entry in record.get("inputs", {}).items()
    }
    versions = ", ".join(f"{package} {version}" for package, version in record.get("versions", {}).items())
    summary = str(record.get("results", {}).get("summary", ""))
    return constants | inputs | {"result": summary, "versions": versions}


def slug(name: str) -> str:
    """A heading as the target of a link."""
    return name.lower().replace(" ", "-")


def anchor(name: str) -> str:
    """A scene's name as the target of a link; two names never have the same one."""
    return "scene-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in name)


if __name__ == "__main__":
    run(main, globals())
