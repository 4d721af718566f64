#!/usr/bin/env bash
# Mutation testing: does a test notice when one token of the core is changed?
#     bash campaigns/mutation.sh                          15 mutants of each room, some twenty minutes on one core
#     SAMPLE=100 SEED=1 bash campaigns/mutation.sh        more, and others
#     ROOMS=tuning bash campaigns/mutation.sh             one room
# A mutant changes one operator, number, comparison, decorator, loop or branch of som/, tuning/, scoring/ or
# images/resampling.py; cosmic-ray makes them all, and a seeded sample of each room is tried in a copy of the checkout
# with the room's quick tests, and if those let it pass with the slow ones. It is killed where a test fails or does not
# end. Survivors are printed with their diffs: each wants a test, or is equal to what it replaces. What has been tried is
# kept in $WORK: the same command goes on.
#
# Settings (environment variables), with their defaults:
#   SAMPLE=15, SEED=0                           mutants of a room, and which
#   ROOMS="som tuning scoring resampling"       which rooms
#   WORK=/var/tmp/mutation                      where the copy and the sessions are; another sample wants another folder
#   LIMIT=300                                   seconds that the tests of one mutant may take
set -euo pipefail

case "${1:-}" in --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "${BASH_SOURCE[0]}"; exit ;; esac
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
SAMPLE=${SAMPLE:-15}
SEED=${SEED:-0}
ROOMS=${ROOMS:-som tuning scoring resampling}
WORK=${WORK:-${TMPDIR:-/var/tmp}/mutation}
LIMIT=${LIMIT:-300}

declare -A modules=([som]=cloudsom/som [tuning]=cloudsom/tuning [scoring]=cloudsom/scoring
    [resampling]=cloudsom/images/resampling.py)
declare -A tests=([som]="tests/som tests/tuning" [tuning]=tests/tuning [scoring]=tests/scoring
    [resampling]="tests/images/test_resampling.py tests/images/test_products.py")

source setup_environment.sh requirements.txt requirements-test.txt
mkdir -p "$WORK/copy"
[ -x "$WORK/tool/bin/cosmic-ray" ] || python3 -m venv "$WORK/tool"
"$WORK/tool/bin/python" -m pip install -q --disable-pip-version-check "cosmic-ray>=8.7" # alive; needs no change of the code
git ls-files -z | xargs -0 cp --parents -t "$WORK/copy" # over what a stopped run left changed
export NUMBA_CACHE_DIR=$WORK/numba                      # compiled again for every mutant of the kernels: see lanes.py
cd "$WORK/copy"

cat >"$WORK/try.sh" <<'TRY'
python -m pytest -q -x -p no:cacheprovider -m "not slow and not long" "$@" || exit 1
python -m pytest -q -x -p no:cacheprovider -m "slow and not long" "$@" || [ $? -eq 5 ] # 5: there are none
TRY

for room in $ROOMS; do
    session=$WORK/$room-$SEED-$SAMPLE.sqlite
    cat >"$WORK/$room.toml" <<TOML
[cosmic-ray]
module-path = "${modules[$room]}"
timeout = $LIMIT
excluded-modules = []
test-command = "bash $WORK/try.sh ${tests[$room]}"
[cosmic-ray.distributor]
name = "local"
TOML
    if [ ! -e "$session" ]; then
        "$WORK/tool/bin/cosmic-ray" baseline "$WORK/$room.toml"
        "$WORK/tool/bin/cosmic-ray" init "$WORK/$room.toml" "$session"
        "$WORK/tool/bin/python" - "$session" "$SAMPLE" "$SEED" <<'PYTHON'
import random
import sys

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

with use_db(sys.argv[1], WorkDB.Mode.open) as session:
    found = {}
    for item in session.work_items:
        (mutation,) = item.mutations
        found[str(mutation.module_path), mutation.start_pos, mutation.operator_name, mutation.occurrence] = item.job_id
    chosen = random.Random(int(sys.argv[3])).sample(sorted(found), min(int(sys.argv[2]), len(found)))
    print(f"{len(chosen)} of {len(found)} mutants")
    for place in found.keys() - set(chosen):
        session.set_result(found[place], WorkResult(WorkerOutcome.SKIPPED, output="not in the sample"))
PYTHON
    fi
    echo "== $room"
    "$WORK/tool/bin/cosmic-ray" exec "$WORK/$room.toml" "$session"
    "$WORK/tool/bin/cr-report" --surviving-only --show-diff "$session"
done
