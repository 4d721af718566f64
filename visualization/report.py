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
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from cloudsom.bands import CLASSES, CLOUD, MASK_NODATA
from cloudsom.drawing.figures import SOM1, SOM2, read_corrections
from cloudsom.drawing.pages import data_uri, labels_of, page, read_scores, show
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import input_path, is_remote, local, under
from cloudsom.images.rasters import masks_in, read_mask
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import optional_files, run, snapshot
from cloudsom.scoring.bootstrap import ALL_MEASURES
from cloudsom.scoring.comparison import HELD_OUT, OF, TUNED_ON
from cloudsom.scoring.scores import MEASURES
from cloudsom.som import labelled_map, model

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
    "sub_maps": "sub_maps.py",
    "processors": "compare_masks.py",
    "class_confusion": "compare_masks.py",
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

#: How measures and counts are written, in the order of the scenes' own tables.
FORMS = dict.fromkeys(MEASURES, "{:.4f}") | dict.fromkeys(COUNTS, "{:,.0f}")

#: What the two sets of masks are called in headings.
STAGES = {SOM1: "before", SOM2: "after"}


@dataclass(frozen=True)
class Picture:
    """A picture inside the report: a data URI, its size in pixels, and its words."""

    uri: str
    width: int
    height: int
    title: str
    alt: str


@dataclass
class ReportedScene:
    """One scene, or a summary line of step 10.

    numbers   by kind of masks: cloud share, measures and pixel counts by name, as far as they are known
    tuned_on  whether fine-tuning took samples from it, so that its measures afterwards are no test
    """

    name: str
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    thumbnail: Picture | None = None
    tuned_on: bool = False

    def number(self, kind: str, name: str) -> float | None:
        """What is known of its mask of a kind."""
        return self.numbers.get(kind, {}).get(name)

    @property
    def scored(self) -> set[str]:
        """The measures and counts that are known of any of its masks."""
        return {name for numbers in self.numbers.values() for name in numbers if name in FORMS}

    @property
    def anchor(self) -> str:
        """Its name as the target of a link; two names never have the same one."""
        return "scene-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in self.name)


def main() -> None:
    run_files, files, tables = find_run_files(), find_scenes(), find_tables()
    figures, missing = find_figures(run_files, tables)
    missing += missing_parts(files, tables)
    if not run_files and not any(SOM1 in own for own in files.values()):
        raise UserError(f"{under(DATA_DIR, '.')}: holds nothing of a run; give its DATA_DIR, or run step 1 and on")
    made_by = recipe_of(run_files, figures, files, tables)
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
        jobs = [Job(name, (name, own)) for name, own in files.items()]
        outcomes = run_jobs(read_scene, jobs, Engine(here=True), "reading")
        scenes = results_or_errors(outcomes)
        if len(scenes) < len(outcomes):
            missing += [f"scene {outcome.name}: a file of it cannot be read" for outcome in outcomes if outcome.error]
            made_by = recipe_of(run_files, figures, {scene.name: files[scene.name] for scene in scenes}, tables)
        text = render(run_files, figures, scenes, tables, missing)
        with stores.product(report_file, made_by) as product:
            product.partial.write_text(text, encoding="utf-8")
            product.results["summary"] = f"{len(scenes)} scenes, {len(figures)} figures"
        print(f"{report_file}: {product.results['summary']}, {report_file.stat().st_size / 1e6:.1f} MB")
    if SHOW:
        show(report_file)
    raise_if_any_failed(outcomes)


# --- what is there ----------------------------------------------------------------------------------------------------


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


def find_figures(run_files: dict[str, Path], tables: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The figures drawn so far by name, in the report's order, and a line for each one that is not.

    Of a run without sub-maps, or without the tables of others, their figures are neither shown nor missing.
    """
    folder, tuned = under(DATA_DIR, FIGURES_DIR), run_files.get("FINETUNED_MAP_NPZ")
    expected = {
        "sub_maps": tuned is not None and labelled_map.load(tuned).submaps,
        "processors": "processors" in tables,
        "class_confusion": "classes" in tables,
    }
    wanted = {pattern: script for pattern, script in FIGURES.items() if expected.get(pattern, True)}
    found = {pattern: sorted(folder.glob(f"{pattern}.png")) for pattern in wanted}
    missing = [
        f"{pattern.replace('_*', '')} (python visualization/{script})"
        for pattern, script in wanted.items()
        if not found[pattern]
    ]
    return {place.stem: place for places in found.values() for place in places}, missing


def find_scenes() -> dict[str, dict[str, Path]]:
    """Of each scene with a mask, by name, its masks and the pictures made of them, by what they are."""
    figures_dir, scenes = under(DATA_DIR, FIGURES_DIR), dict[str, dict[str, Path]]()
    for kind, folder in ((SOM1, MASK_DIR), (SOM2, MASK_FINETUNED_DIR)):
        mask_dir = under(DATA_DIR, folder)
        for name, mask in masks_in(mask_dir).items():
            pictures = {
                f"quicklook of {kind}": figures_dir / "quicklooks" / f"{name}_{mask_dir.name}.png",
                f"coloured {kind}": figures_dir / f"colored_{mask_dir.name}" / f"{name}_colored.png",
            }
            files = scenes.setdefault(name, {})
            files[kind] = mask
            if kind == SOM1:
                files["mask"] = mask  # what step 10 calls it
                pictures["comparison of"] = figures_dir / "compared" / f"{name}.png"
            files |= only_existing(pictures)
    return dict(sorted(scenes.items()))


def find_tables() -> dict[str, Path]:
    """The tables of step 10 that are there, by name."""
    names = ("metrics", "confusion_matrix", "surfaces", "processors", "differences", "classes")
    return only_existing({name: under(DATA_DIR, RESULTS_DIR) / f"{name}.csv" for name in names})


def only_existing(files: dict[str, Path]) -> dict[str, Path]:
    return {name: place for name, place in files.items() if place.is_file()}


def missing_parts(files: dict[str, dict[str, Path]], tables: dict[str, Path]) -> list[str]:
    """A line for each thing the section of scenes lacks."""
    lines, number = [], Counter(what for own in files.values() for what in own)
    for kind, script in ((SOM1, "create_cloudmasks.py"), (SOM2, "fine_tuning.py")):
        if not number[kind]:
            lines.append(f"masks {kind} (python {script})")
        if number[f"quicklook of {kind}"] < number[kind]:
            lines.append(f"quicklooks of the masks {kind} (python visualization/quicklooks.py)")
        if kind == SOM1 and number["comparison of"] < number[kind]:
            lines.append("some masks of all processors side by side (python visualization/compare_masks.py)")
        if number[f"coloured {kind}"] < number[kind]:
            lines.append(f"some coloured masks {kind} (python visualization/colored_cloudmasks.py)")
    if number[SOM1] and not {"metrics", "confusion_matrix", "processors"} <= set(tables):
        lines.append("measures of the masks (python evaluation_metrics.py)")
    return lines


def recipe_of(
    run_files: dict[str, Path], figures: dict[str, Path], scenes: dict[str, dict[str, Path]], tables: dict[str, Path]
) -> stores.Recipe:
    """What the report is made of, settings files included. Refuses files of different runs (an older map's figure)."""
    files = run_files | {f"figure {name}": place for name, place in figures.items()}
    files |= {f"table {name}": place for name, place in tables.items()}
    files |= {f"{what} {name}": place for name, own in scenes.items() for what, place in own.items()}
    settings = only_existing({f"settings of {role}": stores.record_path(place) for role, place in files.items()})
    return stores.recipe(snapshot(globals()), files | settings)


# --- scenes and their scores ------------------------------------------------------------------------------------------


def read_scene(name: str, files: dict[str, Path]) -> ReportedScene:
    """One scene: its cloud shares and pictures."""
    scene = ReportedScene(name)
    for kind in STAGES:
        if kind in files:
            mask, _ = read_mask(files[kind])
            scene.numbers[kind] = {"cloud": float((mask == CLOUD).sum() / max(1, (mask != MASK_NODATA).sum()))}
        if quicklook := files.get(f"quicklook of {kind}"):
            scene.pictures.append(read_picture(quicklook, jpeg=True))
            scene.thumbnail = read_picture(quicklook, jpeg=True, width=320)
    last = (*(f"coloured {kind}" for kind in STAGES), "comparison of")  # those of both sets beside each other
    scene.pictures += [read_picture(files[what]) for what in last if what in files]
    return scene


def add_scores(scenes: list[ReportedScene], tables: dict[str, Path]) -> list[ReportedScene]:
    """Give the scenes their measures and counts, from processors.csv where it is there; the summary lines."""
    known, totals = {scene.name: scene for scene in scenes}, dict[str, ReportedScene]()
    for row in score_rows(tables):
        name, role = str(row["product"]), row.get("role")
        if name in ("mean", "pooled"):
            line = f"{name} ({role})" if role in (HELD_OUT, TUNED_ON) else name
            scene = totals.setdefault(line, ReportedScene(line))
        elif name in known:
            scene = known[name]
            scene.tuned_on = role == TUNED_ON
        else:
            continue
        numbers = scene.numbers.setdefault(str(row["processor"]), {})
        numbers |= {name: float(row[name]) for name in FORMS if pd.notna(row.get(name))}
    return list(totals.values())


def score_rows(tables: dict[str, Path]) -> list[dict[str, Any]]:
    """The rows of step 10's tables with the masks they are about; those of both sets stand in processors.csv."""
    if "processors" in tables:
        table = model.read_table(tables["processors"], ("product", "role", "processor", *COUNTS, *MEASURES))
        return list(table[table["processor"].isin([SOM1, SOM2])].to_dict("records"))
    needed = {"metrics": MEASURES, "confusion_matrix": COUNTS}
    found = [model.read_table(tables[n], ("product", *columns)) for n, columns in needed.items() if n in tables]
    return [row | {"processor": SOM1} for table in found for row in table.to_dict("records")]


def read_surfaces(tables: dict[str, Path]) -> list[tuple[str, int, dict[str, float]]]:
    """Each surface with its pixels in all scored scenes, and the share called cloud by kind of masks."""
    if "surfaces" not in tables:
        return []
    table = read_scores(tables["surfaces"], ("product", "role", "masks", "surface", "pixels", "share"))
    pooled = table[table["product"] == "pooled"]
    first = pooled[pooled["role"] == next(iter(pooled["role"]), "")]
    return [
        (str(surface), int(rows["pixels"].max()), dict(zip(rows["masks"], rows["share"], strict=True)))
        for surface, rows in first.groupby("surface", sort=False)
    ]


def read_standings(tables: dict[str, Path]) -> list[tuple[str, list[dict[str, Any]]]]:
    """All processors beside each other, pooled: what the scenes are, held-out ones first, and step 10's rows."""
    if "processors" not in tables:
        return []
    table = read_scores(tables["processors"], ("processor", "product", "role", "pixels", *ALL_MEASURES))
    found = []
    for role, rows in table[table["product"] == "pooled"].groupby("role", sort=False):
        scenes = table[(table["role"] == role) & ~table["product"].isin(["mean", "pooled"])]
        have = scenes[scenes["processor"].isin(rows["processor"])].groupby("product")["processor"].nunique()
        of = f"{(have == len(rows)).sum()} {OF[str(role)]}, {rows['pixels'].iloc[0]:,.0f} pixels, pooled"
        found.append((of, rows.astype(object).where(rows.notna(), None).to_dict("records")))
    return found


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
    run_files: dict[str, Path],
    figures: dict[str, Path],
    scenes: list[ReportedScene],
    tables: dict[str, Path],
    missing: list[str],
) -> str:
    """The whole page as text, everything in it escaped."""
    totals, surfaces = add_scores(scenes, tables), read_surfaces(tables)
    walk = run_files.get("map to walk in")
    folder = under(DATA_DIR, REPORT_FILE).parent
    places = (run_files | tables).values()
    records = {place.name: record for place in places if (record := stores.read_record(place))}
    return page(
        TEMPLATE,
        title=TITLE,
        facts=facts(run_files, scenes, totals),
        classes=classes(run_files),
        scenes=scenes,
        totals=totals,
        kinds=[kind for kind in STAGES if any(kind in scene.numbers for scene in scenes)],
        surfaces=surfaces,
        surface_kinds=[kind for kind in STAGES if any(kind in shares for _, _, shares in surfaces)],
        stages=STAGES,
        standings=read_standings(tables),
        labels=labels_of(tables["processors"]) if "processors" in tables else "",
        columns=COLUMNS,
        names=NAMES,
        forms=FORMS,
        figures=[read_picture(place) for place in figures.values()],
        settings=[(name, record.get("script", "?"), settings_lines(record)) for name, record in records.items()],
        missing=missing,
        explorer=quote(os.path.relpath(walk, folder)) if walk and not is_remote(walk) else "",
    )


def facts(
    files: dict[str, Path], scenes: list[ReportedScene], totals: list[ReportedScene]
) -> list[tuple[str, str, str]]:
    """The run's main figures: what each is, its value, and a note."""
    found: list[tuple[str, str, str]] = []
    record = (stores.read_record(files["SOM_FILE"]) if "SOM_FILE" in files else None) or {}
    if "HIT_MAPS_CSV" in files:
        spectra = model.read_hit_maps(files["HIT_MAPS_CSV"])[0].sum()
        found.append(("training spectra", f"{spectra:,}", f"{record.get('constants', {}).get('N_ITER', 0):,} steps"))
    if "NEURON_LABELS_CSV" in files:
        labels, after = model.read_neuron_labels(files["NEURON_LABELS_CSV"]), ""
        if finetuned := files.get("NEURON_LABELS_FINETUNED_CSV"):
            done = read_corrections(labels, finetuned)
            after = f"fine-tuning flips {done.flipped.sum()}, splits {done.split.sum()}"
        found.append(("cloud neurons", f"{(labels.cloud == CLOUD).sum()} of {len(labels.cloud)}", after))
    results = record.get("results", {})
    errors = {"quantization_error": "mean distance, scaled units", "topographic_error": "share of spectra"}
    known = {name: what for name, what in errors.items() if name in results}
    found += [(name.replace("_", " "), f"{results[name]:.4f}", what) for name, what in known.items()]
    if scenes:
        found.append(("scenes", str(len(scenes)), ""))
    pooled = next((scene for scene in totals if scene.name.startswith("pooled")), ReportedScene("pooled"))
    for measure in ("accuracy", "f_score"):
        first, last = (pooled.number(kind, measure) for kind in (SOM1, SOM2))
        if last is not None and first is not None:
            found.append((f"{pooled.name}, {NAMES[measure]}", f"{last:.4f}", f"{first:.4f} before fine-tuning"))
        elif first is not None:
            found.append((f"{pooled.name}, {NAMES[measure]}", f"{first:.4f}", "without fine-tuning"))
    return found


def classes(files: dict[str, Path]) -> list[tuple[str, int, float, int]]:
    """Each class with its training spectra, their share of all, and the neurons it labels."""
    if not {"HIT_MAPS_CSV", "NEURON_LABELS_CSV"} <= set(files):
        return []
    totals = model.read_hit_maps(files["HIT_MAPS_CSV"])[0].sum(axis=0)
    labels = model.read_neuron_labels(files["NEURON_LABELS_CSV"]).classes
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


if __name__ == "__main__":
    run(main, globals())
