#!/usr/bin/env bash
# Set up: a Python environment in .venv with everything the pipeline needs. Quick when it is there already.
#     bash setup_environment.sh                                            what requirements.txt names
#     bash setup_environment.sh requirements.txt requirements-cluster.txt  these files instead
# The versions are those of requirements.lock, which were tested together. The other scripts source this file, and have
# the environment's interpreter in $PY and before all others in PATH.
#
# Settings (environment variables):
#   PYTHON  the Python to build the environment with (3.11 or later; default python3)
#   VENV    where the environment goes (default .venv beside this file)

ROOT=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")") # where the file is, also by a link to it
VENV=${VENV:-$ROOT/.venv}
case $VENV in -*) VENV=./$VENV ;; esac
PYTHON=${PYTHON:-python3}
PY=$VENV/bin/python

pip_install() { "$PY" -m pip install -q --disable-pip-version-check -c "$ROOT/requirements.lock" "$@"; }

fail() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# Install Debian or Ubuntu packages, if this user may.
install_packages() {
    command -v apt-get >/dev/null || fail "needs the packages: $* - install them with your system's package manager"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "needs administrator rights once: sudo apt-get install $*"
        as_root=(sudo -n)
    fi
    printf 'set-up: installing %s\n' "$*"
    "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; check the network"
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install failed; try: sudo apt-get install $*"
}

check_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$PYTHON" --version) is too old; Python 3.11 or later is needed: PYTHON=python3.12 bash $0"
}

# All that is missing at once: who has to ask an administrator asks once.
system_packages() {
    local missing=()
    command -v gdal-config >/dev/null || missing+=(libgdal-dev)
    command -v gdal_translate >/dev/null || missing+=(gdal-bin)
    command -v g++ >/dev/null || missing+=(g++)
    if command -v "$PYTHON" >/dev/null; then
        check_python
        "$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
        "$PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || missing+=(python3-dev)
    else
        missing+=(python3 python3-venv python3-dev)
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    install_packages "${missing[@]}"
    check_python
}

# gdal's bindings: no wheels exist, so they are compiled here, with numpy's headers of this environment (hence no build
# isolation), for exactly the library's version, and never from a wheel that was built without numpy (hence no cache).
install_gdal() {
    local version headers; version=$(gdal-config --version)
    "$PY" -c "from osgeo import gdal, gdal_array; assert gdal.__version__ == '$version'" 2>/dev/null && return
    printf 'set-up: compiling the bindings of GDAL %s (about a minute)\n' "$version"
    pip_install numpy setuptools wheel || fail "pip could not install numpy; check the network"
    headers=-I$("$PY" -c 'import numpy; print(numpy.get_include())') # before those of Debian 12's own numpy
    CFLAGS="-O2 $headers" CXXFLAGS="-O2 $headers" \
        pip_install --no-build-isolation --no-cache-dir --force-reinstall --no-deps "gdal[numpy]==$version.*" ||
        fail "the bindings of GDAL $version did not compile; see the messages above"
    "$PY" -c 'from osgeo import gdal, gdal_array' ||
        fail "the compiled GDAL bindings lack numpy support; delete $VENV and run again"
}

setup_environment() {
    system_packages
    local stamp # of everything the environment depends on: what was once set up for it is not set up again
    stamp=$({ "$PYTHON" --version; gdal-config --version; cat "$ROOT/setup_environment.sh" "$ROOT/requirements.lock" "$@"; } | sha256sum)
    stamp=$VENV/.set-up-${stamp%% *}
    if ! [ -e "$stamp" ]; then
        printf 'set-up: Python environment in %s\n' "$VENV"
        [ -x "$PY" ] || "$PYTHON" -m venv "$VENV" || fail "could not make $VENV; delete it and run again"
        install_gdal
        local files=(); for file in "$@"; do files+=(-r "$file"); done
        pip_install "${files[@]}" "gdal==$(gdal-config --version).*" ||
            fail "pip could not install the requirements; check the network and run again"
        install_gdal # numpy may have been replaced: check once more
        : >"$stamp"
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then # on its own
    set -euo pipefail
    case "${1:-}" in --help | -h) sed -n '2,/^ROOT/{s/^# \{0,1\}//;/^ROOT/!p}' "$0"; exit ;; esac
    case $VENV in /* | ./*) ;; *) VENV=$PWD/$VENV PY=$PWD/$PY ;; esac
    cd -- "$ROOT"
    [ $# -gt 0 ] || set -- requirements.txt
    setup_environment "$@"
    printf 'set-up: %s is ready; the scripts find .venv by themselves. To have it as "python" in this terminal:\n' "$VENV"
    printf '    source %q\n' "$VENV/bin/activate"
    exit
fi
setup_environment "$@"
export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
