#!/usr/bin/env bash
# Set up and run everything CI runs: lint, types, tests.
#     bash run_tests.sh              everything
#     bash run_tests.sh -k settings  words go on to pytest
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
source setup_environment.sh requirements.txt requirements-test.txt

# The report's test drives a real browser; without one, and without the rights to install it, that test says it skips.
if ! command -v chromium >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    (install_packages chromium) || true
fi

echo "== ruff"; ruff check .
echo "== mypy"; mypy .
echo "== pytest"; python -m pytest -n 2 --dist worksteal "$@"
