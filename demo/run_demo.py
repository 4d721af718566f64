"""The ten steps, fine-tuning and every figure on what make_sample_data.py has laid out (run_demo.sh runs both).

    python demo/run_demo.py --DATA_DIR demo_data

reads   what make_sample_data.py has written under DATA_DIR
writes  what the steps write, and prints the main scores
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import pandas as pd

from cloudsom.files.places import under
from cloudsom.running.settings import run
from cloudsom.running.steps import Step, run_steps

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "demo_data"  # folder everything is read from and written to

# scenes
SCENES = "real"  # what the scenes are, in words
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    real = SCENES == "real"
    # beside ours: the mask inside the products, in the manner of ESA's, and s2cloudless's, which has one scene only
    others = ["ESA-like=l1c:products", *(["s2cloudless=s2cloudless:s2cloudless/{product}.tif"] if real else [])]
    steps = [
        Step("read_h5file.py", ("--H5_FILES", "spectra.h5", "--SPECTRA_CSVS", "spectra.csv")),
        Step("data_preprocessing.py", ("--SPECTRA_CSVS", "spectra.csv")),
        Step("SOM_training.py", seconds=10),
        Step("BMUs_detection.py"),
        Step("labeling.py"),
        Step("test_data_downloading.py", ("--SOURCE", "local")),
        Step("gdal_commands.sh", seconds=15),
        Step("convert_image_to_csv.py"),
        Step("create_cloudmasks.py", ("--CLASS_MAPS", "--CONFIDENCE")),
        Step("fine_tuning.py", seconds=10),  # bright sand of the cloud-free scene; the other one is held out
        Step("fine_tuning.py", ("--SUGGEST",)),  # marks for the map to walk in; changes nothing
        Step("evaluation_metrics.py", ("--OTHER_MASKS", *others)),
        Step("visualization/all_figures.py", seconds=60),
    ]
    run_steps(DATA_DIR, steps)
    results = under(DATA_DIR, "results")
    print(f"\n== the measures of step 9 (SOM1) and of the final masks (SOM2) ({results}/metrics.csv)")
    print((results / "metrics.csv").read_text(encoding="utf-8"), end="")
    print(f"\n== all masks beside each other, on the pixels that all have ({results}/processors.csv)")
    table = pd.read_csv(results / "processors.csv").iloc[:, :12]
    print(table[table["product"].isin(["mean", "pooled"])].to_csv(index=False), end="")
    if real:
        print("The scenes are real. Their labels are an algorithm's (s2cloudless), not a person's: no number here is")
        print("a claim about the paper, least of all s2cloudless's score: its mask comes from the same probabilities.")
    else:
        print(f"The scenes are {SCENES}: these numbers say only that everything runs.")
    masks, finals = under(DATA_DIR, "masks"), under(DATA_DIR, "masks_finetuned")
    print(f"The masks are in {masks} and {finals}, the pictures in {under(DATA_DIR, 'figures')};")
    print(f"the report is {under(DATA_DIR, 'report.html')}: open it in a browser. It links the map to walk in,")
    print(f"{under(DATA_DIR, 'figures')}/map_explorer.html.")


if __name__ == "__main__":
    run(main, globals())
