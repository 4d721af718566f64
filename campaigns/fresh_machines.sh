#!/usr/bin/env bash
# Try both commands of the README on fresh systems: Debian and Ubuntu, as they are installed, and nothing else on them.
#     sudo bash campaigns/fresh_machines.sh                                           all systems, all trials
#     sudo SYSTEMS=debian:trixie TRIALS=offline bash campaigns/fresh_machines.sh      one
# Every trial gets a fresh copy of a minimal system (debootstrap) and a fresh clone of the checkout: what is committed,
# not what lies about. Its commands run there in a fresh login shell with an empty environment:
#
#   root     both commands, with rights and a network
#   user     the demo as a user without rights and without sudo: it must say what to ask for; root installs just that,
#            until it runs through (once should do). Then the quick tests
#   offline  the demo in the clone of "root", set up by now, with nothing fetched and without a network: it must
#            end well on made-up scenes, and say that they are
#
# What came out is a table, at the end and in $WORK/results.md; all that was printed is in $WORK/logs. The exit status
# is 1 if a trial failed. A system whose archive cannot be reached is left out, and the table says so.
#
# The systems get this machine's own settings of apt (mirror, proxy, certificates) and pip (indexes, constraints, local
# folders), and its certificate authorities, so that this works behind a company's mirror too.
#
# Settings (environment variables), with their defaults:
#   SYSTEMS="debian:bookworm debian:trixie debian:testing ubuntu:noble ubuntu:resolute"  which systems, in this order
#   TRIALS="root user offline"    which trials
#   COMMIT=HEAD                   which commit of this checkout
#   WORK=/var/tmp/fresh_machines  where everything goes: 0.3 GB a system, and up to 10 GB while one is tried. The
#                                 minimal systems in $WORK/base are kept; delete them to have them as they are today
#   KEEP=false                    if true, the systems of the trials stay in $WORK/trees, to look at
#   LIMIT=3h                      a command that takes longer is stopped, and has failed
#   DEBIAN_MIRROR, UBUNTU_MIRROR  archives (default: what apt uses on this machine, or the public ones)
#   DEMO, TESTS, QUICK_TESTS      the commands (default: bash run_demo.sh, bash run_tests.sh, bash run_tests.sh --quick)
# Needs root, debootstrap (apt-get install debootstrap), git, wget, iproute2. Releases of a system for which there is no
# keyring here (for Ubuntu's, on Debian) are taken unchecked: these systems are for trying, not for use.
set -euo pipefail

ROOT=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
SYSTEMS=${SYSTEMS:-debian:bookworm debian:trixie debian:testing ubuntu:noble ubuntu:resolute}
TRIALS=${TRIALS:-root user offline}
COMMIT=${COMMIT:-HEAD}
WORK=${WORK:-${TMPDIR:-/var/tmp}/fresh_machines}
KEEP=${KEEP:-false}
LIMIT=${LIMIT:-3h}
DEMO=${DEMO:-bash run_demo.sh}
TESTS=${TESTS:-bash run_tests.sh}
QUICK_TESTS=${QUICK_TESTS:-bash run_tests.sh --quick}
ROUNDS=4 # how often a user may have to ask for packages before we give up

fail() { printf 'fresh_machines.sh: error: %s\n' "$*" >&2; exit 1; }
say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }

# -- what this machine has: its mirrors, certificates, and settings of apt and pip

# The archive that apt takes packages of "Debian" or "Ubuntu" from here; else the public one.
mirror_of() {
    local url
    # shellcheck disable=SC2016 # apt-get fills these in
    url=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v name="$1" '$1 == name && $2 == name { print $3; exit }') || true
    url=${url:-$2}
    printf '%s\n' "${url%/}"
}

# Variables that a user behind a company's mirror has set. A cache would make a system less fresh.
environment_of_here() {
    local name
    for name in $(compgen -e); do
        case $name in
            PIP_CACHE_DIR) ;;
            PIP_* | SSL_CERT_FILE | SSL_CERT_DIR | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | *_proxy | *_PROXY)
                printf '%s=%s\n' "$name" "${!name}" ;;
        esac
    done
}

apt_settings() {
    apt-config dump | grep -E '^Acquire::(https?|ftp|Retries|Check-[A-Za-z-]+|ForceIPv[46])(::| )' || true
}

pip_files() {
    local file
    for file in /etc/pip.conf /etc/xdg/pip/pip.conf "${PIP_CONFIG_FILE:-}" ~/.config/pip/pip.conf ~/.pip/pip.conf; do
        ! [ -f "$file" ] || printf '%s\n' "$file"
    done
}

# Files and folders that those settings name: constraints, wheels, certificates. Of an index in a folder (file://) the
# folder above, since its pages point to files beside it. System certificates come by way of install_authorities.
named_paths() {
    local files path
    mapfile -t files < <(pip_files)
    { cat /dev/null "${files[@]}"; environment_of_here; apt_settings; } | grep -oE '(file://)?/[^][:space:],;"'"'"']+' |
        while IFS= read -r path; do
            case $path in file://*) path=$(dirname -- "${path#file://}") ;; esac
            case $path in / | //* | /etc/ssl/certs*) ;; *) ! [ -e "$path" ] || printf '%s\n' "$path" ;; esac
        done | sort -u
}

# -- systems

# Make this machine's authorities known in the system $1: at once if it has ca-certificates, else when it gets it.
install_authorities() {
    mkdir -p "$1/usr/local/share/ca-certificates"
    cp -r /usr/local/share/ca-certificates/. "$1/usr/local/share/ca-certificates" 2>/dev/null || true
    ! [ -x "$1/usr/sbin/update-ca-certificates" ] || chroot "$1" update-ca-certificates >/dev/null
}

# Put the minimal system $1 (such as debian:trixie) into the folder $2, from the archive $3.
bootstrap() {
    local os=${1%%:*} suite=${1#*:} components=main script words=() proxy=''
    case $os in debian) script=sid ;; ubuntu) script=gutsy components=main,universe ;; esac
    [ -e "/usr/share/debootstrap/scripts/$suite" ] && script=$suite
    case $3 in https:*) words+=(--include=ca-certificates) ;; esac
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    # In a mount namespace of its own: stopped half-way, it leaves nothing mounted in a folder that is to be deleted.
    http_proxy=${http_proxy:-$proxy} unshare --mount debootstrap --variant=minbase --components="$components" \
        "${words[@]}" "$suite" "$2" "$3" "/usr/share/debootstrap/scripts/$script"
    printf 'deb %s %s %s\n' "$3" "$suite" "${components/,/ }" >"$2/etc/apt/sources.list"
    if reachable "$3/dists/$suite-updates/Release"; then
        printf 'deb %s %s-updates %s\n' "$3" "$suite" "${components/,/ }" >>"$2/etc/apt/sources.list"
    fi
    apt_settings >"$2/etc/apt/apt.conf.d/90here"
    cp -L /etc/resolv.conf /etc/hosts "$2/etc"
    install_authorities "$2"
    local file
    while IFS= read -r file; do install -D -m 644 "$file" "$2/${file/#$HOME//etc/skel}"; done < <(pip_files)
    cp -r "$2/etc/skel/." "$2/root"
    chroot "$2" useradd --create-home --shell /bin/bash visitor
}

reachable() { wget -q --spider --tries=2 --timeout=20 "$1"; }

# The folder of a minimal system, made once; whole or not there.
base_system() {
    local base=$WORK/base/${1/:/-}
    if ! [ -d "$base" ]; then
        rm -rf "$base.partial"
        mkdir -p "$base.partial"
        bootstrap "$1" "$base.partial" "$2" >"$LOGS/bootstrap.log" 2>&1 || return 1
        mv "$base.partial" "$base"
    fi
}

# A fresh copy of the system $1 in the folder $2, with a fresh clone in the home of its user $3.
fresh_tree() {
    rm -rf "$2"
    mkdir -p "$(dirname "$2")"
    cp -a --reflink=auto "$WORK/base/${1/:/-}" "$2"
    local home=$2/home/visitor
    [ "$3" = visitor ] || home=$2/root
    cp -a --reflink=auto "$WORK/clone" "$home/clone"
    chroot "$2" chown -R "$3:" "${home#"$2"}/clone"
}

drop_tree() { $KEEP || rm -rf "$1"; }

# -- commands in a system

# Runs as the first process of a PID and mount namespace of its own: however it ends, its processes and mounts go too.
enter() {
    local tree=$1 limit=$2 user=$3 command=$4 path
    shift 4
    if [ "$user" = offline ]; then user=root; ip link set lo up; fi
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mkdir -p "$tree/dev/pts" "$tree/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$tree/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
    while [ "$1" != -- ]; do # the paths that settings of this machine name, to be read
        path=$1
        shift
        [ ! -e "$tree$path" ] || continue
        if [ -d "$path" ]; then mkdir -p "$tree$path"; else install -D /dev/null "$tree$path"; fi
        mount --bind -o ro "$path" "$tree$path"
    done
    shift
    local home=/root
    [ "$user" = root ] || home=/home/$user
    cd /
    # shellcheck disable=SC2016 # to be expanded there
    timeout -s KILL "$limit" chroot --userspec="$user" "$tree" /usr/bin/env -i HOME="$home" USER="$user" \
        LOGNAME="$user" TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" \
        /bin/bash -l -c 'if [ -d ~/clone ]; then cd ~/clone; fi; eval "$1"' bash "$command"
}

# Run a command in the clone of a system, everything printed into a log; sets STATUS and TOOK (seconds).
# Usage: run_in TREE root|visitor|offline LOG COMMAND
run_in() {
    local network=() begin=$SECONDS
    [ "$2" != offline ] || network=(--net)
    # In the background, for a signal to be heard at once; a command there would ignore Ctrl-C, which tests send.
    env --default-signal=INT,QUIT unshare --mount --pid --fork --kill-child "${network[@]}" \
        bash -e -c "$(declare -f enter); enter \"\$@\"" bash "$1" "$LIMIT" "$2" "$4" "${PATHS[@]}" -- \
        "${VARIABLES[@]}" </dev/null >"$3" 2>&1 &
    CHILD=$!
    STATUS=0
    wait "$CHILD" || STATUS=$?
    CHILD=
    TOOK=$((SECONDS - begin))
}

stop() {
    if [ -n "$CHILD" ]; then
        kill -KILL "$CHILD" || true
        wait "$CHILD" || true
    fi 2>/dev/null # "Killed"
    drop_tree "$WORK/trees"
    exit "$1"
}

# -- what came out

# "Python | GDAL | numpy | pandas | numba", as the clone in a system has them.
versions() {
    # shellcheck disable=SC2016 # to be expanded there
    run_in "$1" "$2" "$LOGS/versions.log" '
        python3 -c "import platform; print(platform.python_version())" 2>/dev/null || echo -
        gdal-config --version 2>/dev/null || echo -
        for name in numpy pandas numba; do
            .venv/bin/python -c "import importlib.metadata as m; print(m.version(\"$name\"))" 2>/dev/null || echo -
        done'
    paste -sd'|' "$LOGS/versions.log" | sed 's/|/ | /g'
}

last_line() { grep -v '^[[:space:]]*$' "$1" | tail -n 1 | tr '|' '/' | cut -c 1-160; }

# Which scenes a demo says at its end that it ran on.
scenes_of() {
    case $(tail -n 6 "$1") in *'scenes are made-up'*) echo made-up ;; *'scenes are real'*) echo real ;; *) echo - ;; esac
}

# How the command of a log went, of which this is the name.
outcome() {
    if [ "$STATUS" -eq 0 ]; then printf 'ok, %s s' "$TOOK"; else printf 'failed (%s), %s s' "$STATUS" "$TOOK"; fi
}

tests_outcome() {
    local counts
    counts=$(grep -E '^=+ .*(passed|failed|error).* in [0-9.]+' "$1" | tail -n 1 | sed 's/^=* *//; s/ in [0-9.]*s.*//')
    printf '%s%s' "$(outcome)" "${counts:+: $counts}"
}

row() { printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$@" >>"$RESULTS"; }

failed() { FAILED=$((FAILED + 1)); say "  FAILED: $*"; }

# -- trials: each takes the system's name and the folder of its tree

# Was the demo that just ran, with this log, one on such scenes (real, made-up)?
check_demo() {
    local scenes; scenes=$(scenes_of "$1")
    [ "$STATUS" -eq 0 ] || { failed "$(last_line "$1")"; return; }
    [ "$scenes" = "$2" ] || { STATUS=1; failed "the demo ran on $scenes scenes instead of $2 ones"; return; }
    PASSED=$((PASSED + 1))
}

check_tests() {
    if [ "$STATUS" -eq 0 ]; then PASSED=$((PASSED + 1)); else failed "$(last_line "$1")"; fi
}

trial_root() {
    local demo tests log=$LOGS/demo.log
    fresh_tree "$1" "$2" root
    run_in "$2" root "$log" "$DEMO"
    check_demo "$log" "$SCENES"
    demo=$(outcome)
    run_in "$2" root "$LOGS/tests.log" "$TESTS"
    check_tests "$LOGS/tests.log"
    tests=$(tests_outcome "$LOGS/tests.log")
    row "$1" root "$(versions "$2" root)" "$demo" "$(scenes_of "$log")" "$tests" "$(last_line "$log")"
}

trial_user() {
    local demo tests round told asked=''
    fresh_tree "$1" "$2" visitor
    for ((round = 1; round <= ROUNDS; round++)); do
        run_in "$2" visitor "$LOGS/demo$round.log" "$DEMO"
        [ "$STATUS" -ne 0 ] || break
        told=$(sed -n 's/.*administrator rights once: sudo apt-get install //p' "$LOGS/demo$round.log" | tail -n 1)
        [ -n "$told" ] || break
        asked+="${asked:+; then }$told"
        local status=$STATUS took=$TOOK
        run_in "$2" root "$LOGS/install$round.log" \
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -q $told"
        [ "$STATUS" -eq 0 ] || { failed "apt-get install $told: $(last_line "$LOGS/install$round.log")"; break; }
        STATUS=$status TOOK=$took
    done
    [ "$round" -le "$ROUNDS" ] || round=$ROUNDS
    if [ -z "$asked" ]; then
        STATUS=1
        failed "the user was not told what to ask for: $(last_line "$LOGS/demo$round.log")"
    else
        check_demo "$LOGS/demo$round.log" "$SCENES"
    fi
    demo=$(outcome)
    run_in "$2" visitor "$LOGS/tests.log" "$QUICK_TESTS"
    check_tests "$LOGS/tests.log"
    tests=$(tests_outcome "$LOGS/tests.log")
    row "$1" user "$(versions "$2" visitor)" "$demo" "$(scenes_of "$LOGS/demo$round.log")" "$tests" \
        "told to ask for: ${asked:-nothing}"
}

trial_offline() {
    local log=$LOGS/demo.log
    if ! [ -x "$2/root/clone/.venv/bin/python" ]; then
        fresh_tree "$1" "$2" root
        run_in "$2" root "$LOGS/setup.log" "source setup_environment.sh requirements.txt"
    fi
    run_in "$2" offline "$log" "export CACHE=.cache/nothing DATA_DIR=data_offline; $DEMO"
    check_demo "$log" made-up
    row "$1" offline "$(versions "$2" root)" "$(outcome)" "$(scenes_of "$log")" - "$(last_line "$log")"
}

try_system() {
    local mirror trial tree
    case $1 in
        debian:*) mirror=$DEBIAN_MIRROR ;;
        ubuntu:*) mirror=$UBUNTU_MIRROR ;;
        *) fail "$1 is not a system; one is debian:SUITE or ubuntu:SUITE" ;;
    esac
    LOGS=$WORK/logs/${1/:/-}
    mkdir -p "$LOGS"
    say "$1"
    if ! reachable "$mirror/dists/${1#*:}/Release"; then
        row "$1" - "- | - | - | - | -" - - - "not reachable: $mirror"
        return
    fi
    if ! base_system "$1" "$mirror"; then
        failed "no minimal system; see $LOGS/bootstrap.log"
        row "$1" - "- | - | - | - | -" failed - - "$(last_line "$LOGS/bootstrap.log")"
        return
    fi
    for trial in $TRIALS; do
        say "  $trial"
        tree=$WORK/trees/${1/:/-}-$trial
        [ "$trial" != offline ] || tree=$WORK/trees/${1/:/-}-root # set up already, if that was tried
        LOGS=$WORK/logs/${1/:/-}/$trial
        mkdir -p "$LOGS"
        "trial_$trial" "$1" "$tree"
        [ "$trial" = root ] || drop_tree "$tree"
    done
    drop_tree "$WORK/trees"
}

main() {
    case "${1:-}" in
        -h | --help) sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; return ;;
        "") ;;
        *) fail "$1 is not a setting; see --help" ;;
    esac
    local tool trial system commit lock
    [ "$(id -u)" -eq 0 ] || fail "needs root, to make systems and enter them"
    for tool in debootstrap git wget ip unshare; do
        command -v "$tool" >/dev/null || fail "needs $tool: apt-get install debootstrap git wget iproute2"
    done
    for trial in $TRIALS; do
        case $trial in root | user | offline) ;; *) fail "$trial is not a trial; they are root, user, offline" ;; esac
    done
    DEBIAN_MIRROR=${DEBIAN_MIRROR:-$(mirror_of Debian http://deb.debian.org/debian)}
    UBUNTU_MIRROR=${UBUNTU_MIRROR:-$(mirror_of Ubuntu http://archive.ubuntu.com/ubuntu)}
    WORK=$(realpath -m -- "$WORK")
    SCENES=real
    case $DEMO in *--offline*) SCENES=made-up ;; esac
    mapfile -t PATHS < <(named_paths)
    mapfile -t VARIABLES < <(environment_of_here)

    mkdir -p "$WORK/base"
    exec {lock}>"$WORK/lock"
    flock --nonblock "$lock" || fail "another run is at work in $WORK"
    rm -rf "$WORK/clone" "$WORK/trees" "$WORK/logs"
    RESULTS=$WORK/results.md FAILED=0 PASSED=0 CHILD=
    trap 'stop 130' INT
    trap 'stop 143' TERM HUP
    commit=$(git -C "$ROOT" rev-parse --verify "$COMMIT^{commit}") || fail "there is no commit $COMMIT"
    [ -z "$(git -C "$ROOT" status --porcelain)" ] || say "changes that are not committed are not tried"
    git clone -q --no-local "$ROOT" "$WORK/clone"
    git -C "$WORK/clone" checkout -q --detach "$commit"
    if [ "$QUICK_TESTS" = "bash run_tests.sh --quick" ] && ! grep -q -- --quick "$WORK/clone/run_tests.sh"; then
        QUICK_TESTS="bash run_tests.sh" # of a commit that has no quick ones
    fi

    printf '%s\n' "Commit $commit, $(date +%F)." "" >"$RESULTS"
    row system as "Python | GDAL | numpy | pandas | numba" "set-up and demo" scenes tests "last line"
    row --- --- "--- | --- | --- | --- | ---" --- --- --- ---
    for system in $SYSTEMS; do try_system "$system"; done
    cat "$RESULTS"
    say "logs: $WORK/logs"
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}

main "$@"
