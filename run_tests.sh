#!/usr/bin/env bash
# Set up and run everything CI runs: lint, layers, types, tests.
#     bash run_tests.sh              what CI runs: some twelve minutes
#     bash run_tests.sh --long       everything: what takes a minute or more by itself too, four minutes more
#     bash run_tests.sh --quick      what starts no process, server, browser or cluster: 1.5 minutes, to run while thinking
#     bash run_tests.sh -k settings  words go on to pytest, here and after --quick
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" # where the file is, also by a link to it

case "${1:-}" in
    --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' run_tests.sh; exit ;;
    --quick) shift; quick=true; set -- -m "not slow and not long" "$@" ;;
    --long) shift; quick=false ;;
    *) quick=false; set -- -m "not long" "$@" ;;
esac
source ./setup_environment.sh requirements.txt requirements-test.txt

# Tests drive a real browser, and real windows on a display without a screen; without those, and without the rights to
# install them, they say that they skip.
if ! $quick && command -v apt-get >/dev/null; then
    command -v chromium >/dev/null || (install_packages chromium) || echo "run_tests.sh: going on without a browser" >&2
    command -v Xvfb >/dev/null || (install_packages xvfb python3-tk) || echo "run_tests.sh: going on without windows" >&2
fi

echo "== ruff"; ruff check .
echo "== format"; ruff format --check .
# The explorer's files in one, as in its page: they share one scope.
echo "== javascript"; cat visualization/explorer/*.js >.explorer.js
oxlint .explorer.js; rm .explorer.js
echo "== rooms"; lint-imports --no-cache >.lint-imports.log || { cat .lint-imports.log; exit 1; }; rm .lint-imports.log
echo "== mypy"; mypy .
echo "== pytest"; python -m pytest -n 2 --dist worksteal "$@"
