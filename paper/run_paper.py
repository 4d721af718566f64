"""The paper in one command (run_paper.sh): every step, every figure, and a page that sets them beside the paper's.

    bash run_paper.sh
    bash run_paper.sh --products 3 --protocol heldout
    bash run_paper.sh --SOURCE cdse --RESAMPLING fast --H5_FILES my_2016.h5 my_2017.h5

Settings of the steps may be given too (--SOURCE, --RESAMPLING, --WORKERS, --OTHER_MASKS...): each goes to the steps
that have it. Training, images and first masks serve both protocols; what follows is in a folder of the protocol's name.
What is finished is not done again.

writes  DATA_DIR/                           what steps 1 to 9 write
        DATA_DIR/paper/, DATA_DIR/heldout/  fine-tuning, final masks, scores, figures and report of a protocol, and
                                            reproduction.html and .md: the paper's figures and tables beside ours
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

from typing import Literal

from cloudsom.running.settings import read_constants, run
from cloudsom.running.steps import Step, distribute, run_steps, span, split_words

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is written to
H5_FILES: list[str] = []  # the spectra database's files, where you have them; none named: the paper's two are fetched

# scenes
PRODUCTS = 0  # the first so many of the products with a reference mask, by name; 0: all 37
PROTOCOL: Literal["paper", "heldout"] = "paper"
# paper: neurons flipped whatever that costs, tuned on all scenes and scored on the same. heldout: sub-maps, every scene
# masked and scored by a map that was tuned on scenes of other tiles only
FOLDS = 5  # parts the scenes are dealt into, for heldout
# --- end of constants -------------------------------------------------------------------------------------------------

ALL_PRODUCTS = 37

#: What is a protocol's own, as the steps call it.
PLACES = {
    "BRIGHT_SAMPLES_CSV": "bright_samples.csv",
    "NEURON_LABELS_FINETUNED_CSV": "neuron_labels_finetuned.csv",
    "FINETUNED_MAP_NPZ": "neuron_labels_finetuned.npz",
    "FLIP_TABLE_CSV": "flip_table.csv",
    "MASK_FINETUNED_DIR": "masks_finetuned",
    "RESULTS_DIR": "results",
    "FIGURES_DIR": "figures",
    "REPORT_FILE": "report.html",
}

#: What the words of the command line that are no settings above are for: the steps.
more: list[str] = []


def main() -> None:
    steps = steps_of(PRODUCTS or ALL_PRODUCTS)
    distribute(more, [step.script for step in steps])  # a wrong word is told before anything is done
    print(needs(PRODUCTS or ALL_PRODUCTS, steps))
    run_steps(DATA_DIR, steps, more)
    print(f"\n{Path(DATA_DIR) / PROTOCOL / 'reproduction.html'}: the paper's figures and tables beside these; open it")


def needs(n: int, steps: list[Step]) -> str:
    """What the run takes, in words, before it starts."""
    hours = span(sum(step.seconds for step in steps))
    return (
        f"run_paper.sh, protocol {PROTOCOL}, {n} products, in {DATA_DIR}. From nothing it takes about:\n"
        f"  downloads  {1 + 0.7 * n:.0f} GB: spectra, reference masks, and 0.7 GB a product\n"
        f"  disk       {4 + 1.3 * n:.0f} GB: products, their images and tables, and 4 GB for the training\n"
        f"  memory     1.5 GB for the training, then 1 GB a processor\n"
        f"  time       {hours} on two processors, a third of it downloads at 100 Mbit/s\n"
        "What is there already is not done again. Stop it at any moment: the same command goes on."
    )


def steps_of(n: int) -> list[Step]:
    """All steps for `n` products, with about how many seconds each takes on two processors."""
    names = tuple(f"{i}_spectraSOMs.csv" for i in range(1, len(H5_FILES) + 1))
    tables = ("--SPECTRA_CSVS", *names) if H5_FILES else ()
    spectra = ("--H5_FILES", *H5_FILES, *tables) if H5_FILES else ("--DOWNLOAD",)
    first = ("--FIRST", str(PRODUCTS)) if PRODUCTS else ()
    return [
        Step("read_h5file.py", spectra, 150),
        Step("data_preprocessing.py", tables, 40),
        Step("SOM_training.py", (), 10),
        Step("BMUs_detection.py", (), 15),
        Step("labeling.py", (), 10),
        Step("test_data_downloading.py", first, 30 + 60 * n),
        Step("gdal_commands.sh", (), 55 * n),
        Step("convert_image_to_csv.py", (), 2 * n),
        Step("create_cloudmasks.py", ("--CLASS_MAPS",), 2 * n),
        *steps_of_protocol(n),
    ]


def steps_of_protocol(n: int) -> list[Step]:
    """What follows the first masks, in the protocol's folder."""
    tuning = {
        "paper": (
            *("--METHOD", "flip", "--MAX_CLOUD_LOSS", "1"),
            *("--FINE_TUNE_PRODUCTS", "all", "--TEST_PRODUCTS", "all"),
        ),
        "heldout": ("--METHOD", "submaps", "--FOLDS", str(FOLDS)),
    }[PROTOCOL]
    tuned = placed("NEURON_LABELS_FINETUNED_CSV", "FINETUNED_MAP_NPZ", "FLIP_TABLE_CSV", "MASK_FINETUNED_DIR")
    scored = placed("MASK_FINETUNED_DIR", "RESULTS_DIR")
    drawn = (*tuned, *placed("RESULTS_DIR", "FIGURES_DIR", "REPORT_FILE"))
    return [
        Step("fine_tuning.py", (*tuning, *placed("BRIGHT_SAMPLES_CSV"), *tuned), 30 + 5 * n),
        Step("evaluation_metrics.py", scored, 10 + 2 * n),
        Step("visualization/all_figures.py", drawn, 90 + 10 * n),
        Step("visualization/reproduction.py", ("--RUN_DIR", PROTOCOL), 5),
    ]


def placed(*constants: str) -> tuple[str, ...]:
    """Paths of the steps as words for them, within the protocol's folder."""
    return tuple(word for name in constants for word in (f"--{name}", f"{PROTOCOL}/{PLACES[name]}"))


if __name__ == "__main__":
    known = {constant.name for constant in read_constants(Path(__file__).read_text(encoding="utf-8"))}
    sys.argv[1:], more = split_words(sys.argv[1:], known)
    run(main, globals())
