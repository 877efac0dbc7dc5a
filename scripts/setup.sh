#!/usr/bin/env bash
# Make the Python environment: the active one (VIRTUAL_ENV or CONDA_PREFIX), or else .venv in the repository. Conda's base
# does not count: many shells start in it, and gigabytes of packages do not belong there.
#
#   bash scripts/setup.sh            what requirements.txt pins; on Linux PyTorch comes with CUDA, some 5 GB
#   bash scripts/setup.sh --cpu      PyTorch without CUDA (requirements-cpu.txt), from PyTorch's own index
#   bash scripts/setup.sh --locked   every package, those that others need too, as requirements.lock holds it, by its hash
#
# demo.sh, test.sh and run_all.sh source this file, so that all agree on one environment; they keep what was chosen here.

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

stop() {
    echo "${0##*/}: $*" >&2
    exit 2
}

fits() { # fits PYTHON: it runs, and it is a version that the pinned packages were tried with
    "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3.12 python3.13 python3.11 python3 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    stop "needs Python 3.11, 3.12 or 3.13, and none of them is on the PATH; install one and run the same command again"
}

make_environment() {
    local python
    python=$(find_python)
    echo "Making .venv with $python"
    "$python" -m venv --clear "$repository/.venv" ||
        stop "$python cannot make .venv; on Debian or Ubuntu: sudo apt install ${python}-venv"
}

active_environment() {
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        echo "$VIRTUAL_ENV"
    elif [ "${CONDA_DEFAULT_ENV:-}" != base ]; then
        echo "${CONDA_PREFIX:-}"
    fi
}

own_environment_works() { # its python is in Scripts/ on Windows
    "$repository/.venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        "$repository/.venv/Scripts/python" -m pip --version >/dev/null 2>&1
}

use_environment() { # put the environment's programs first on the PATH
    local programs
    environment=$(active_environment)
    environment=${environment:-$repository/.venv}
    if command -v cygpath >/dev/null; then # Git Bash: a PATH cannot hold C:\...
        environment=$(cygpath --unix "$environment")
    fi
    programs=$environment/bin
    if [ -d "$environment/Scripts" ]; then
        programs=$environment:$environment/Scripts # conda for Windows has python above Scripts
    fi
    export PATH="$programs:$PATH"
}

set_up() { # set_up [HOW]: make the environment where there is none; install only when requirements changed since the last time
    local wanted stamp how
    if [ -z "$(active_environment)" ] && ! own_environment_works; then
        make_environment
    fi
    use_environment
    fits python || stop "$environment has no Python 3.11, 3.12 or 3.13; deactivate or delete it and run the same command again"

    stamp=$environment/hemoct-requirements.sha256
    how=${1-$(sed -n 's/^[^ ]* //p' "$stamp" 2>/dev/null || true)} # as the last time
    # The path belongs to it: two copies of the repository may share an environment, but not the editable install.
    wanted=$(python -c 'import hashlib, pathlib, sys; folder = pathlib.Path(sys.argv[1])
parts = [(folder / name).read_bytes() for name in ("requirements.txt", "pyproject.toml")] + [sys.argv[1].encode()]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())' "$repository")
    wanted=$wanted${how:+ $how}
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing requirements.txt${how:+ ($how)} into $environment (some minutes the first time)"
        (cd -- "$repository" && install_packages "$how") ||
            stop "the installation failed; read the message above, then run the same command again"
        echo "$wanted" >"$stamp"
    fi
}

install_packages() {
    case $1 in
    --cpu) python -m pip install --disable-pip-version-check -r requirements.txt -c requirements-cpu.txt \
        --extra-index-url "$(sed -n 's/^# index: //p' requirements-cpu.txt)" ;;
    --locked) python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock &&
        python -m pip install --disable-pip-version-check --no-deps -e . ;;
    *) # PyTorch first: pip keeps what it downloads until all is installed, and with CUDA that is gigabytes twice
        python -m pip install --disable-pip-version-check $(grep -E '^torch(vision)?==' requirements.txt) &&
            python -m pip install --disable-pip-version-check -r requirements.txt ;;
    esac
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then # run, not sourced
    set -euo pipefail
    case ${1-} in
    "" | --cpu | --locked) set_up "${1-}" && echo "Ready: source $environment/bin/activate" ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" ;;
    *) stop "unknown flag $1; --help lists the flags" ;;
    esac
fi
