"""The paper's figures and tables beside ours: what each shows, the file here, its settings, and where they differ.

    python visualization/reproduction.py --RUN_DIR paper

run_paper.sh ends with it. Nothing is asserted that the run's own files do not say: what differs from the paper is read
from the settings beside each product, and what has not been made is named.

reads   what the steps have written under DATA_DIR, and fine-tuning, scores and figures under DATA_DIR/RUN_DIR
writes  RUN_DIR/reproduction.html, RUN_DIR/reproduction.md
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cloudsom.bands import CLOUD
from cloudsom.drawing.pages import labels_of, page, read_scores
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import under
from cloudsom.running.settings import run, snapshot
from cloudsom.scoring.comparison import OF, SOM1, SOM2
from cloudsom.som import model

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to

# outputs (relative to DATA_DIR)
RUN_DIR = "."  # where the page goes; fine-tuning, scores and figures of this run are there: paper or heldout after
# run_paper.sh

# running
OVERWRITE = False  # write again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

TEMPLATE = Path(__file__).with_name("reproduction_template.html")

#: Training spectra in the 2016 and 2017 files together, scenes with a reference mask, and the authors' cloud neurons
#: before and after fine-tuning (of 300).
SPECTRA, SCENES, CLOUD_NEURONS = 8_676_458, 37, (125, 107)


@dataclass(frozen=True)
class Item:
    """A figure or table: what it shows in the paper, what makes ours, our files (patterns), and how ours differs.

    of_run  whether the files are under RUN_DIR; else they are under DATA_DIR
    needs   processors it is about
    """

    shows: str
    script: str
    files: tuple[str, ...]
    differs: str
    of_run: bool = True
    needs: tuple[str, ...] = ()


PAPERS = (
    Item(
        "Table: labelled spectra of each class, 2016 and 2017",
        "read_h5file.py, data_preprocessing.py",
        ("training_spectra.csv",),
        "spectra that are twice in the files are counted and kept",
        of_run=False,
    ),
    Item(
        "Figure: the method, from spectra to SOM1 and SOM2",
        "methodology_figure.py",
        ("figures/methodology.png",),
        "drawn from this run's own files, where the paper has a scheme",
    ),
    Item(
        "Figure: hit-rate maps of the six classes, (a1) land to (a6) shadow",
        "Creating_hit_rate_maps.py",
        ("figures/hit_rate_maps.png",),
        "another layout: the paper names no seed, and every seed turns and folds the map otherwise",
    ),
    Item(
        "Figure: class of each neuron, and cloud neurons before and after fine-tuning",
        "neuron_label_maps.py",
        ("figures/neuron_label_maps.png",),
        "another layout; which neurons are wrong follows our rules, for the paper gives none",
    ),
    Item(
        "Figure: U-matrix, and its natural logarithm",
        "U_matrix_creation.py",
        ("figures/u_matrix.png",),
        "another layout",
    ),
    Item(
        "Figure: scatterplots of B8 against B11, all spectra and each class, neurons among them, bright ones red",
        "Creating_scatterplots.py",
        ("figures/scatterplots_B8_B11.png",),
        "spectra are counted in small squares, so that millions of them show where they are dense",
    ),
    Item(
        "Figure: masks coloured by TP, TN, FN, FP, before and after fine-tuning",
        "colored_cloudmasks.py",
        ("figures/colored_*/*_colored.png",),
        "pixels without data have a code of their own and are not scored",
    ),
    Item(
        "Tables: confusion matrices and scores of SOM1 and SOM2 on the reference masks",
        "evaluation_metrics.py",
        ("results/confusion_matrix.csv", "results/metrics.csv", "results/processors.csv"),
        "precision and recall are not swapped, as they are in the published script; 95 % intervals",
    ),
    Item(
        "Tables and figures: beside Sen2Cor and Fmask",
        "compare_masks.py",
        ("figures/processors.png", "figures/compared/*.png"),
        "masks of theirs are the user's to make and to name in --OTHER_MASKS",
        needs=("Sen2Cor", "Fmask"),
    ),
)

BEYOND = (
    Item("Component planes, one a band", "Creating_component_planes.py", ("figures/component_planes.png",), ""),
    Item("Spectra of classes and neurons", "neuron_spectra.py", ("figures/neuron_spectra.png",), ""),
    Item("Six classes against the reference's", "compare_masks.py", ("figures/class_confusion.png",), ""),
    Item("Sub-maps within neurons", "sub_maps.py", ("figures/sub_maps.png",), ""),
    Item("Everything on one page", "report.py", ("report.html",), ""),
)

#: The files of the steps that the results hang on.
FILES = ("training_spectra.csv", "SOM_trained.p", "neuron_labels.csv", "neuron_labels_finetuned.csv")

#: What the paper's settings are, by the file whose settings file has ours; all others are ours alone.
AS_IN_THE_PAPER: dict[str, dict[str, Any]] = {
    "SOM_trained.p": {
        "N_ROWS": 20,
        "N_COLUMNS": 15,
        "N_ITER": 1_000_000,
        "LEARNING_RATE_START": 0.5,
        "LEARNING_RATE_END": 0.05,
        "RADIUS_START": None,
        "RADIUS_END": 1.0,
    },
    "neuron_labels_finetuned.csv": {"METHOD": "flip", "MAX_CLOUD_LOSS": 1.0, "FOLDS": 0},
}

WHY = {
    "METHOD": "a small map inside each contested neuron decides there; the paper flips whole neurons",
    "MAX_CLOUD_LOSS": "changes that lose more cloud spectra are refused; the paper knows no limit",
    "FOLDS": "every scene is scored by a map that never saw its tile; the paper does not say that scenes are held out",
}

#: The measures that are shown, by step 10's names.
MEASURES = ("accuracy", "precision", "recall", "f_score", "false_alarm_rate", "bright_land_false_alarms")


def main() -> None:
    run_dir = under(DATA_DIR, RUN_DIR)
    rows = [(item, found(item, run_dir)) for item in (*PAPERS, *BEYOND)]
    if not any(files for _, files in rows):
        raise UserError(f"{run_dir}: holds nothing of a run; give DATA_DIR and RUN_DIR, or run run_paper.sh")
    told = (*FILES, "results/processors.csv", "results/differences.csv")
    files = {*filter(Path.is_file, map(in_run, told)), *(file for _, files in rows for file in files)}
    inputs = {f"file {os.path.relpath(file, run_dir)}": file for file in sorted(files)}
    made_by = stores.recipe(snapshot(globals()), inputs)
    pages = [run_dir / "reproduction.html", run_dir / "reproduction.md"]
    if done := stores.up_to_date(pages, made_by, OVERWRITE):
        print(done)
        return
    values: dict[str, Any] = {
        "of": RUN_DIR,
        "papers": [shown(item, files, run_dir) for item, files in rows[: len(PAPERS)]],
        "beyond": [shown(item, files, run_dir) for item, files in rows[len(PAPERS) :] if files],
        "differences": differences(),
        "standings": standings(),
        "claims": claims(),
        "settings": settings(),
    }
    for place in pages:
        text = page(TEMPLATE.with_suffix(place.suffix), **values)
        with stores.product(place, made_by) as product:
            product.partial.write_text(text, encoding="utf-8")
            made = sum(row["state"] == "made" for row in values["papers"])
            product.results["summary"] = f"{made} of the paper's {len(PAPERS)} kinds of figures and tables"
    print(f"{pages[0]}, {pages[1].name}: {product.results['summary']}")


# --- what is there ----------------------------------------------------------------------------------------------------


def found(item: Item, run_dir: Path) -> list[Path]:
    """An item's files that are there."""
    folder = run_dir if item.of_run else under(DATA_DIR, ".")
    return [place for pattern in item.files for place in sorted(folder.glob(pattern))]


def in_run(name: str) -> Path:
    """A file of the run: in RUN_DIR, or else what all protocols share."""
    own = under(DATA_DIR, RUN_DIR) / name
    return own if own.is_file() else under(DATA_DIR, name)


def shown(item: Item, files: Sequence[Path], run_dir: Path) -> dict[str, Any]:
    """An item as the pages show it: links are relative to the page, a picture stands for itself."""
    links = [Path(os.path.relpath(file, run_dir)).as_posix() for file in files]
    first = {Path(link).parent: link for link in reversed(links)}  # of each folder: of masks before and after
    chosen = sorted(first.values()) if len(first) > 1 else links[:3]
    absent = [name for name in item.needs if name not in set(scores()["processor"])]
    return {
        "shows": item.shows,
        "script": item.script,
        "links": [(Path(link).name, link) for link in chosen],
        "more": len(links) - len(chosen),
        "pictures": [link for link in chosen if link.endswith(".png")][:2],
        "differs": item.differs,
        "state": f"without {' and '.join(absent)}" if absent else "made" if files else "not made",
    }


def record_of(name: str) -> dict[str, Any]:
    """The settings file of a file of the run; empty where there is none."""
    return stores.read_record(in_run(name)) or {}


def settings() -> list[tuple[str, str, str]]:
    """Script, file and settings of each product that the results hang on."""
    told = []
    for name in (*FILES, "results/metrics.csv"):
        if record := record_of(name):
            words = ", ".join(f"{key} {value}" for key, value in record.get("constants", {}).items())
            told.append((str(record.get("script", "?")), name, words or "none that change it"))
    return told


# --- what differs, and what came out ----------------------------------------------------------------------------------


def differences() -> list[str]:
    """What this run has done otherwise than the paper, by its own files."""
    lines = []
    for name, wanted in AS_IN_THE_PAPER.items():
        constants = record_of(name).get("constants", {})
        for key, value in wanted.items():
            if key in constants and constants[key] != value:
                why = f": {WHY[key]}" if key in WHY else ""
                lines.append(f"{key} is {constants[key]} (the paper: {value}){why}")
    if (hits := in_run("hit_maps.csv")).is_file() and (n := int(model.read_hit_maps(hits)[0].sum())) != SPECTRA:
        lines.append(f"{n:,} training spectra (the paper: {SPECTRA:,})")
    if (table := in_run("results/processors.csv")).is_file():
        scored = len(set(scores()["product"]) - {"mean", "pooled"})
        if scored != SCENES:
            lines.append(f"{scored} scenes are scored (the paper: {SCENES})")
        if labels := labels_of(table):
            lines.append(f"the references' labels are {labels}")
    before, after = in_run("neuron_labels.csv"), in_run("neuron_labels_finetuned.csv")
    if before.is_file() and after.is_file():
        counts = [int((model.read_neuron_labels(file).cloud == CLOUD).sum()) for file in (before, after)]
        lines.append(
            f"{counts[0]} neurons are cloud before fine-tuning and {counts[1]} after "
            f"(the authors' map: {CLOUD_NEURONS[0]} and {CLOUD_NEURONS[1]})"
        )
    return lines


def scores() -> pd.DataFrame:
    """Step 10's table of all processors; without rows before step 10."""
    place, columns = in_run("results/processors.csv"), ("processor", "product", "role", *MEASURES)
    return read_scores(place, columns) if place.is_file() else pd.DataFrame(columns=columns)


def standings() -> list[tuple[str, list[list[str]]]]:
    """Pooled measures of every processor: what the scenes are, and the rows."""
    table = scores()
    return [
        (OF[str(role)], [[str(row["processor"]), *map(number, row[[*MEASURES]])] for _, row in rows.iterrows()])
        for role, rows in table[table["product"] == "pooled"].groupby("role", sort=False)
    ]


def chance(measure: str, other: str) -> str:
    """Whether SOM2 and another processor's masks differ by more than chance, by step 10's intervals."""
    if not (place := in_run("results/differences.csv")).is_file():
        return ""
    table = model.read_table(place, ("of", "minus", "product", "measure", "beyond_chance"))
    wanted = (table["minus"] == other) & (table["product"] == "pooled") & (table["measure"] == measure)
    answers = {"yes": ", beyond chance", "no": ", not beyond chance"}
    return next((answers.get(str(word), "") for word in table[wanted]["beyond_chance"]), "")


def number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def claims() -> list[tuple[str, str]]:
    """The claims of the abstract, and what this run says of each."""
    table = scores()
    pooled = table[table["product"] == "pooled"].drop_duplicates("processor").set_index("processor")

    def beside(measure: str, other: str, sign: int = 1) -> str:
        if not {SOM2, other} <= set(pooled.index):
            return f"not answered: no masks of {other} were scored"
        ours, theirs = float(pooled[measure][SOM2]), float(pooled[measure][other])
        if pd.isna(ours) or pd.isna(theirs):
            return "not answered: the scenes scored do not define it"
        word = "yes" if sign * (ours - theirs) > 0 else "no"
        return f"{word}: {ours:.4f} of SOM2, {theirs:.4f} of {other}{chance(measure, other)}"

    return [
        ("the fine-tuned map recognises bright land (false alarms)", beside("bright_land_false_alarms", SOM1, -1)),
        ("it outperforms the map that was not fine-tuned (accuracy)", beside("accuracy", SOM1)),
        ("the same by F-score", beside("f_score", SOM1)),
        ("it outperforms Sen2Cor (accuracy)", beside("accuracy", "Sen2Cor")),
        ("it outperforms Fmask (accuracy)", beside("accuracy", "Fmask")),
    ]


if __name__ == "__main__":
    run(main, globals())
