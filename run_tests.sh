#!/usr/bin/env bash
# Set up and run everything CI runs: lint, types, tests.
#     bash run_tests.sh              everything
#     bash run_tests.sh -k settings  words go on to pytest
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source setup_environment.sh requirements.txt requirements-test.txt

# Tests drive a real browser, and real windows on a display without a screen; without those, and without the rights to
# install them, they say that they skip.
if command -v apt-get >/dev/null; then
    command -v chromium >/dev/null || (install_packages chromium) || echo "run_tests.sh: going on without a browser" >&2
    command -v Xvfb >/dev/null || (install_packages xvfb python3-tk) || echo "run_tests.sh: going on without windows" >&2
fi

echo "== ruff"; ruff check .
echo "== mypy"; mypy .
echo "== pytest"; python -m pytest -n 2 --dist worksteal "$@"
