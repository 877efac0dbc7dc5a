#!/usr/bin/env bash
# Run every step of the chain on one data set, in order. Steps that are up to date are skipped.
#
#   bash scripts/run_all.sh --dataset NAME [--profile laptop|gpu|demo] [--root DIR] [--from-step N] [--mask-value V]
#                           [--force] [--all] [--list] [-- FLAGS]
#
#   --dataset NAME   data/raw/NAME must be there: step 1 is yours, but "demo" is drawn
#   --root DIR       folder that holds data/ and outputs/ (default: the repository)
#   --from-step N    begin with step N of the list
#   --profile NAME   what is trained, see scripts/profiles.txt: laptop (two CPU cores, no network), gpu or demo; by default
#                    demo for the data set demo, gpu where there is an NVIDIA GPU, else laptop
#   --mask-value V   the lesion in masks of several values (task 3)
#   --force          run also what is up to date
#   --all            also what stands with a plus in the profile: pre-training without labels ...
#   --list           print the numbered steps and stop
#   -- FLAGS         flags of scripts/03_make_labels.py: -- --layout yolo --patient-regex '^(\d+)_'
#                    (--layout and --image-set go to scripts/02_merge_annotations.py too)
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

dataset="" root="" from_step="" force="" skip="--skip-if-done" profile="" all="" list="" mask_value="" label_flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --dataset | --profile | --root | --from-step | --mask-value) [ $# -ge 2 ] || stop "$1 needs a value" ;;
    esac
    case $1 in
    --dataset) dataset=$2 && shift ;;
    --root) root=$(cd -- "$2" 2>/dev/null && pwd) || stop "--root $2 is no folder" && shift ;;
    --from-step) from_step=$2 && shift ;;
    --force) force=--force && skip="" ;;
    --all) all=--all ;;
    --list) list=yes ;;
    --small) profile=laptop ;; # as it was called before
    --profile) [[ $2 =~ ^(laptop|gpu|demo)$ ]] && profile=$2 && shift || stop "--profile $2 is none of laptop, gpu and demo" ;;
    --mask-value) [[ $2 =~ ^[0-9]+$ ]] && mask_value="--mask-value $2" && shift || stop "--mask-value $2 is no whole number" ;;
    --) shift && label_flags=("$@") && break ;;
    --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}" && exit ;;
    --layout* | --patient-* | --label* | --image-set* | --without-xml*)
        stop "$1 is a flag of scripts/03_make_labels.py: put it behind two dashes: bash scripts/run_all.sh --dataset NAME -- $*" ;;
    *) stop "unknown flag $1; --help lists the flags" ;;
    esac
    shift
done
[ -n "$dataset" ] || stop "say which data: --dataset NAME"

place=(--dataset "$dataset" ${root:+--root "$root"})
chosen=(${profile:+--profile "$profile"} $mask_value ${force:+"$force"} ${all:+"$all"})
first=2
[ "$dataset" != demo ] || first=1

chain() { # chain list|time|steps: what scripts/hemoct/workflow says of this data set; it needs no more than a Python
    PYTHONPATH=$repository/scripts "$python" -m hemoct.workflow.commands "$1" "${place[@]}" ${chosen[@]+"${chosen[@]}"} \
        -- ${label_flags[@]+"${label_flags[@]}"}
}

go_on() { # go_on STEP STATUS: how to continue once the cause is mended
    local change_folder=""
    [ "$PWD" = "$started_in" ] || printf -v change_folder 'cd %q && ' "$PWD"
    {
        printf '\nStep %s stopped with exit code %s. When the cause is mended, go on with:\n' "$1" "$2"
        printf '  %sbash scripts/run_all.sh%s\n' "$change_folder" "$(printf ' %q' "${place[@]}" --from-step "$1" ${chosen[@]+"${chosen[@]}"} ${label_flags[@]+-- "${label_flags[@]}"})"
    } >&2
    exit "$2"
}

lane() { # lane FOLD...: train these folds one after the other, with half of the cores
    local fold
    for fold in "$@"; do
        python "${command[@]}" --fold "$fold" --threads $((cores / 2)) $skip 2>&1 </dev/null |
            while IFS= read -r line; do printf 'fold %s: %s\n' "$fold" "$line"; done || return
    done
}

two_lanes() { # folds 0, 2, 4 beside 1, 3 take less time than one process with all cores; the first failure stops both
    local first other status=0
    set -m # each lane is a process group of its own, so that all of it can be stopped
    lane 0 2 4 & first=$!
    lane 1 3 & other=$!
    set +m
    trap 'kill -- "-$first" "-$other" 2>/dev/null; exit 130' INT TERM HUP
    while kill -0 "$first" 2>/dev/null && kill -0 "$other" 2>/dev/null; do sleep 0.2; done
    ! kill -0 "$first" 2>/dev/null || { local ended=$other && other=$first && first=$ended; }
    wait "$first" || { status=$? && kill -- "-$other" 2>/dev/null || true; }
    wait "$other" 2>/dev/null || status=$((status ? status : $?))
    trap - INT TERM HUP
    return "$status"
}

if [ "$first" -gt 1 ] && [ -z "$list" ] && [ ! -e "${root:-$repository}/data/raw/$dataset" ]; then
    stop "data/raw/$dataset is missing; register your copy: python scripts/01_get_data.py --from DIR ${place[*]}"
fi

use_environment
python=python
fits python || python=$(find_python)
steps=$(chain steps)
last=$(wc -l <<<"$steps")
from_step=${from_step:-$first}
if ! [[ $from_step =~ ^[1-9][0-9]?$ ]] || [ "$from_step" -gt "$last" ]; then
    stop "--from-step $from_step is not one of the steps 1 to $((last)); --list shows them"
fi
if [ -n "$list" ]; then
    chain list
    exit
fi

started_in=$PWD cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export PYTHONUNBUFFERED=1 # so that both lanes are heard at once
chain time
cd -- "$repository"
[ "$from_step" -ge "$first" ] || from_step=$first
for ((number = from_step; number <= last; number++)); do
    IFS=$'\t' read -r lanes lacking words < <(sed -n "${number}p" <<<"$steps")
    printf '\n[%d/%d] python %s\n' "$number" "$last" "$words"
    if [ "$lacking" != - ]; then
        echo "skipped: $lacking"
        continue
    fi
    eval "command=($words)"
    if [ "$lanes" = lanes ] && [ "$cores" -gt 1 ]; then
        two_lanes || go_on "$number" $?
    else
        python "${command[@]}" $skip || go_on "$number" $?
    fi
    case $words in scripts/03_make_labels.py*) steps=$(chain steps) ;; esac # now it is known what the data set has
done
printf '\nDone. Look at %s first; all results lie beside it.\n' "${root:-$repository}/outputs/$dataset/report.html"
[ "$dataset" != demo ] || printf 'The types of bleeding: %s\nA patient that no model has seen: %s\n%s\n' \
    "${root:-$repository}/outputs/demo-types/report.html" "${root:-$repository}/outputs/$dataset/scans/unseen/scan.html" \
    "All patients in the browser: python scripts/81_view.py ${root:+$root/}outputs/$dataset"
