#!/usr/bin/env bash
# The paper in one command: set-up, spectra, training, the 37 products with reference masks, masks, fine-tuning, scores,
# every figure, the report, and a page that sets each figure and table of the paper beside ours.
#     bash run_paper.sh                       all of it, in data/
#     bash run_paper.sh --products 3          the first three products only, for a trial
#     bash run_paper.sh --protocol heldout    sub-maps, and scenes left out in turn; on the training that is there
#     bash run_paper.sh --help                says more, and names the settings
# Stopped at any moment, the same command goes on where it was.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")") # where the file is, also by a link to it
# Help needs no environment where Python has what it takes.
case " $* " in *" --help "* | *" -h "*) python3 "$here/paper/run_paper.py" --help 2>/dev/null && exit ;; esac
source "$here/setup_environment.sh" "$here/requirements.txt"
exec python "$here/paper/run_paper.py" "$@"
