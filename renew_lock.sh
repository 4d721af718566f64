#!/usr/bin/env bash
# Renew requirements.lock, the versions that both commands install: the newest of everything that requirements*.txt allow.
#     bash renew_lock.sh
# Says what changed. Run the tests afterwards, on the oldest and the newest Python, before it is committed.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" # where the file is, also by a link to it

tool=$(mktemp -d)
trap 'rm -rf -- "$tool" .requirements.lock.partial' EXIT
"${PYTHON:-python3}" -m venv "$tool/venv"
"$tool/venv/bin/python" -m pip install -q --disable-pip-version-check uv ||
    { echo "renew_lock.sh: error: pip could not install uv; check the network" >&2; exit 1; }

# gdal is not in it: its bindings must equal the system's library. setuptools and wheel compile them.
grep -hv -e '^gdal' -e '^-r' requirements.txt requirements-cluster.txt requirements-test.txt >"$tool/requirements.in"
printf 'setuptools\nwheel\n' >>"$tool/requirements.in"

# One list for every Python: where they need other versions, a line says for which it holds.
# pip's configuration says where packages come from.
index=$("$tool/venv/bin/python" -m pip config get global.index-url 2>/dev/null) || index=https://pypi.org/simple
{
    echo "# The versions that run_demo.sh and run_tests.sh install, on every Python; made by renew_lock.sh."
    "$tool/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
        --no-emit-index-url --default-index "$index" "$tool/requirements.in"
} >.requirements.lock.partial || { echo "renew_lock.sh: error: no versions fit; see above" >&2; exit 1; }

touch requirements.lock
changes=$(diff requirements.lock .requirements.lock.partial | sed -n 's/^< /was  /p; s/^> /now  /p' | sort -k2) || true
mv .requirements.lock.partial requirements.lock
printf '%s\n' "${changes:-nothing changed}"
