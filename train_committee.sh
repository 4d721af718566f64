#!/usr/bin/env bash
# A committee: the same map trained with several seeds, each fine-tuned, to vote on every pixel (goes beyond the paper).
#
#     bash train_committee.sh
#     SEEDS="0 1 2" bash train_committee.sh
#     python create_cloudmasks.py --MODEL_NPZ committee.npz --PROBABILITY
#
# Each seed goes through steps 3, 4, 5 and 9 and fine_tuning.py in a folder of its own, by the settings of those scripts.
# What is finished is not done again: run the same command to go on where it stopped, or with more seeds.
#
# reads   training_spectra.csv, scaler.p                 steps 1 and 2
#         tiff/, reference/                              steps 6 and 7: bright ground to fine-tune on
# writes  committee/SEED/                                the files of these steps, neuron_labels_finetuned.npz among them
#         committee.npz                                  all maps in one plain file, for MODEL_NPZ of step 9
#
# Settings are environment variables; words on the command line go on to fine_tuning.py.
set -euo pipefail

DATA_DIR=${DATA_DIR:-data}       # folder everything is read from and written to
SEEDS=${SEEDS:-0 1 2 3 4 5 6}    # one map each. An odd number leaves no ties. Of 3 maps a third are wrong together now
                                 # and then, beyond 7 little is gained for 0.1 us a pixel and map

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")") # where the file is, also by a link to it
if [ -x "${VIRTUAL_ENV:-}/bin/python" ]; then
    python=$VIRTUAL_ENV/bin/python
elif [ -x "$here/.venv/bin/python" ]; then
    python=$here/.venv/bin/python
else
    python=python3
fi

step() { "$python" "$here/$1" --DATA_DIR "$DATA_DIR" "${@:2}"; }

maps=()
for seed in $SEEDS; do
    folder=committee/$seed
    mkdir -p "$DATA_DIR/$folder"
    som=(--SOM_FILE "$folder/SOM_trained.p")
    bmus=(--BMUS_CSV "$folder/BMUs.csv")
    hits=(--HIT_MAPS_CSV "$folder/hit_maps.csv")
    labels=(--NEURON_LABELS_CSV "$folder/neuron_labels.csv")
    masks=(--MASK_DIR "$folder/masks" --PIXELS tiff)
    step SOM_training.py "${som[@]}" --SEED "$seed"
    step BMUs_detection.py "${som[@]}" "${bmus[@]}"
    step labeling.py "${som[@]}" "${bmus[@]}" "${hits[@]}" "${labels[@]}" --MODEL_NPZ "$folder/SOM_model.npz"
    step create_cloudmasks.py "${som[@]}" "${labels[@]}" "${masks[@]}"
    step fine_tuning.py "${som[@]}" "${bmus[@]}" "${hits[@]}" "${labels[@]}" "${masks[@]}" \
        --BRIGHT_SAMPLES_CSV "$folder/bright_samples.csv" --FLIP_TABLE_CSV "$folder/flip_table.csv" \
        --NEURON_LABELS_FINETUNED_CSV "$folder/neuron_labels_finetuned.csv" \
        --FINETUNED_MAP_NPZ "$folder/neuron_labels_finetuned.npz" --MASK_FINETUNED_DIR "$folder/masks_finetuned" "$@"
    maps+=("$DATA_DIR/$folder/neuron_labels_finetuned.npz")
done
PYTHONPATH=$here "$python" -P -c 'import sys; from pathlib import Path; from cloudsom.som.labelled_map import pack
pack(*map(Path, sys.argv[1:]))' "$DATA_DIR/committee.npz" "${maps[@]}"
echo "$DATA_DIR/committee.npz: ${#maps[@]} maps that vote; take it as MODEL_NPZ of create_cloudmasks.py"
