#!/usr/bin/env bash
# The chain by snakemake, whose flags follow; see README.md beside this file.
#
#   bash scripts/workflow/run.sh --profile local|slurm [RULE or FILE ...] [-n] --config dataset=NAME [profile=laptop] [root=DIR]
#   bash scripts/workflow/run.sh --install     put snakemake into .venv-workflow, an environment of its own
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../setup.sh"
here=$repository/scripts/workflow own=$repository/.venv-workflow

if [ "${1-}" = --install ]; then
    if ! cmp -s "$here/requirements.txt" "$own/installed.txt"; then
        python=$(find_python)
        "$python" -m venv --clear "$own"
        "$own/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
            stop "the installation failed; read the message above, then run the same command again"
        cp "$here/requirements.txt" "$own/installed.txt"
    fi
    exit
fi

case ${1-} in --help | -h | "") sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}" && exit ;; esac
snakemake=$own/bin/snakemake
[ -x "$snakemake" ] || snakemake=$(command -v snakemake) ||
    stop "snakemake is missing; it gets an environment of its own: bash scripts/workflow/run.sh --install"
[ "$1" != --profile ] || [ ! -d "$here/profiles/${2-}" ] || set -- --profile "$here/profiles/$2" "${@:3}"
exec "$snakemake" --snakefile "$here/Snakefile" "$@"
