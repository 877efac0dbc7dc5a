#!/usr/bin/env bash
# Run every step of the chain on one data set, in order. Steps that are up to date are skipped.
#
#   bash scripts/run_all.sh --dataset NAME [--profile laptop|gpu|demo] [--root DIR] [--from-step N] [--mask-value V]
#                           [--force] [--list] [-- FLAGS]
#
#   --dataset NAME   data/raw/NAME must be there: step 1 is yours, but "demo" is drawn
#   --root DIR       folder that holds data/ and outputs/ (default: the repository)
#   --from-step N    begin with step N of the list
#   --profile NAME   what is trained, see scripts/profiles.txt: laptop (two CPU cores, no network), gpu or demo; by default
#                    demo for the data set demo, gpu where there is an NVIDIA GPU, else laptop
#   --mask-value V   the lesion in masks of several values (task 3)
#   --force          run also what is up to date
#   --list           print the numbered steps and stop
#   -- FLAGS         flags of scripts/03_make_labels.py: -- --layout yolo --patient-regex '^(\d+)_'
#                    (--layout and --image-set go to scripts/02_merge_annotations.py too)
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

dataset="" root="" from_step="" force="" skip="--skip-if-done" profile="" list="" mask_value="" label_flags=() merge_flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --dataset | --profile | --root | --from-step | --mask-value) [ $# -ge 2 ] || stop "$1 needs a value" ;;
    esac
    case $1 in
    --dataset) dataset=$2 && shift ;;
    --root) root=$(cd -- "$2" 2>/dev/null && pwd) || stop "--root $2 is no folder" && shift ;;
    --from-step) from_step=$2 && shift ;;
    --force) force=--force && skip="" ;;
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

# Steps 2 and 3 must agree on the layout. An empty list is spelled so that also bash 3.2 takes it.
before=""
for word in ${label_flags[@]+"${label_flags[@]}"}; do
    case $before in --layout | --image-set) merge_flags+=("$before" "$word") ;; esac
    case $word in --layout=* | --image-set=*) merge_flags+=("$word") ;; esac
    before=$word
done

# The demonstration has its types of bleeding on other phantoms, a data set of their own.
first=2 get="--from DIR" typed="" chosen=$profile
if [ "$dataset" = demo ]; then
    first=1 get="--demo" typed="--dataset demo-types" profile=${profile:-demo}
elif [ -z "$profile" ] && nvidia-smi -L >/dev/null 2>&1; then
    profile=gpu
fi
profile=${profile:-laptop}

lacks() { # lacks STEP: why the data set cannot have this step; nothing where it can, or where that is not known yet
    local work=${root:-$repository}/data/work/$dataset told="" boxes=2
    [ ! -f "$work/dataset.json" ] || told=$(tr -d '[:space:]' <"$work/dataset.json")
    [ ! -f "$work/boxes.csv" ] || boxes=$(head -n 2 "$work/boxes.csv" | wc -l)
    if [[ ($1 == task2* || $1 == */06_estimate_hematoma.py) && $boxes -lt 2 ]]; then
        echo "boxes.csv has no box" # labels alone can be classified, but nothing can be detected in them
    elif [[ $1 == task3* && -n $told && ! $told =~ \"masks\":[1-9] ]]; then
        echo "labels.csv names no mask"
    elif [[ $1 == task4* && -z $typed && -n $told ]] &&
        [[ ! $told =~ \"labels\":\[\"[^]]*\",\" || $told == *'"exclusive":true'* ]]; then
        echo "labels.csv has no labels that one image may have together"
    fi
}

# What is trained, the name that its results get, and how long it takes.
slices=$(wc -l 2>/dev/null <"${root:-$repository}/data/work/$dataset/labels.csv") && slices=$((slices - 1)) || slices=""
total=0 table="" slower="" of_types=""
[ "$profile" = gpu ] || grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo ||
    slower=", perhaps twice that: this processor has no bfloat16"
while read -r of row minutes name flags; do
    [ "$of" = "$profile" ] || continue
    [ -z "$slower" ] || flags=${flags/ --precision bf16/}
    case $row in
    slices) measured_on=$minutes slices=${slices:-$minutes} && continue ;;
    task1) classifier=$name classify=$flags ;;
    task1-also) also="--experiment $name $flags" ;;
    task2) detector=$name detect=$flags ;;
    task2-gate) gate=$flags ;;
    task3) segmenter=$name segment=$flags ;;
    task4) typer=$name types=$flags && [[ $flags != *"--fold 0"* ]] || of_types="--fold 0" ;; # the cascade needs both
    esac
    [ -z "$(lacks "$row")" ] || continue
    [ "$minutes" = - ] && total="" || minutes=$(((minutes * slices + measured_on - 1) / measured_on))
    [ -z "$total" ] || total=$((total + minutes))
    printf -v table '%s  %-11s %5s min  %-25s %s\n' "$table" "$row" "$minutes" "$name" "$flags"
done <"$repository/scripts/profiles.txt"

steps=(
    "scripts/01_get_data.py $get"
    "scripts/02_merge_annotations.py"
    "scripts/03_make_labels.py"
    "scripts/04_check_data.py $mask_value"
    "scripts/05_make_splits.py"
    "task1_classification/01_train.py --experiment $classifier $classify"
    "task1_classification/01_train.py $also"
    "task1_classification/02_evaluate.py"
    "task1_classification/03_compare.py"
    "task1_classification/08_explain.py --experiment $classifier $mask_value"
    "task2_detection/01_make_yolo_dataset.py"
    "task2_detection/02_train.py --experiment $detector $detect"
    "task2_detection/03_training_curves.py"
    "task2_detection/04_evaluate.py"
    "task2_detection/06_gate_classifier.py --experiment $detector --classifier $classifier $gate"
    "task3_segmentation/01_make_seg_dataset.py $mask_value"
    "task3_segmentation/02_train.py --experiment $segmenter --boxes $detector $segment $mask_value"
    "task3_segmentation/03_evaluate.py"
    "task3_segmentation/04_to_classification.py"
    "task3_segmentation/06_estimate_hematoma.py --experiment $segmenter --boxes $detector"
    ${typed:+"scripts/01_get_data.py $typed"}
    ${typed:+"scripts/03_make_labels.py $typed"}
    ${typed:+"scripts/05_make_splits.py $typed"}
    ${typed:+"task1_classification/01_train.py $typed --experiment $classifier $classify $of_types"}
    ${typed:+"task1_classification/02_evaluate.py $typed"}
    "task4_multilabel/01_prepare_labels.py $typed"
    "task4_multilabel/02_train.py $typed --experiment $typer $types"
    "task4_multilabel/03_evaluate.py $typed --experiment $typer"
    "task4_multilabel/04_cascade.py $typed --types $typer --binary $classifier"
    "task4_multilabel/10_explain.py $typed --experiment $typer $mask_value"
    ${typed:+"scripts/80_predict_scan.py"}
    ${typed:+"scripts/90_make_report.py $typed"}
    "scripts/90_make_report.py"
)
place=(--dataset "$dataset" ${root:+--root "$root"})

shown() { # shown SCRIPT FLAG...: the command as a person would type it
    local word
    printf 'python'
    for word in "$@"; do
        if [[ $word =~ ^[[:alnum:]_./,:=+-]+$ ]]; then printf ' %s' "$word"; else printf ' %q' "$word"; fi
    done
    echo
}

go_on() { # go_on STEP STATUS: how to continue once the cause is mended
    local change_folder=""
    [ "$PWD" = "$started_in" ] || printf -v change_folder 'cd %q && ' "$PWD"
    {
        printf '\nStep %s stopped with exit code %s. When the cause is mended, go on with:\n' "$1" "$2"
        printf '  %sbash scripts/run_all.sh%s\n' "$change_folder" "$(printf ' %q' "${place[@]}" --from-step "$1" ${chosen:+--profile "$chosen"} $mask_value ${force:+"$force"} ${label_flags[@]+-- "${label_flags[@]}"})"
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

from_step=${from_step:-$first}
if ! [[ $from_step =~ ^[1-9][0-9]?$ ]] || [ "$from_step" -gt ${#steps[@]} ]; then
    stop "--from-step $from_step is not one of the steps 1 to ${#steps[@]}; --list shows them"
fi
if [ "$first" -gt 1 ] && [ -z "$list" ] && [ ! -e "${root:-$repository}/data/raw/$dataset" ]; then
    stop "data/raw/$dataset is missing; register your copy: python scripts/01_get_data.py --from DIR ${place[*]}"
fi

use_environment
started_in=$PWD cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export PYTHONUNBUFFERED=1 # so that both lanes are heard at once
if [ -z "$list" ]; then
    told="time not measured: a training says after its first epoch how long it takes"
    [ -z "$total" ] || told="about $((total / 60)) h $((total % 60)) min on two CPU cores$slower" && told=${told/ 0 h/}
    printf 'Profile %s, %s slices: %s\n%s' "$profile" "$slices" "$told" "$table"
fi
cd -- "$repository"
for ((number = 1; number <= ${#steps[@]}; number++)); do
    read -ra words <<<"${steps[number - 1]}"
    command=("${words[@]}" "${place[@]}")
    if [[ ${words[1]-} == --dataset ]]; then command=("${words[@]}" ${root:+--root "$root"}); fi
    case ${words[*]} in
    */80_predict_scan.py) # a patient of no split, seen by the models of both data sets
        at=${root:+$root/}
        command+=("${at}data/raw/$dataset/unseen/dicom" --models "${at}outputs/$dataset" --models "${at}outputs/demo-types"
            --out "${at}outputs/$dataset/scans/unseen") ;;
    */01_get_data.py\ --dataset*) command+=(--from "${root:+$root/}data/raw/$dataset/types") ;;
    */02_merge_annotations.py*) command+=(${merge_flags[@]+"${merge_flags[@]}"}) ;;
    */03_make_labels.py) command+=(${label_flags[@]+"${label_flags[@]}"}) ;;
    */01_train.py* | */02_train.py* | */06_gate_classifier.py*) [ -z "$skip" ] || command+=(--resume) ;;
    esac
    if [ -n "$list" ]; then
        printf '%2d  %s\n' "$number" "$(shown "${command[@]}")"
    elif [ "$number" -ge "$from_step" ] && [ "$number" -ge "$first" ]; then
        printf '\n[%d/%d] %s\n' "$number" ${#steps[@]} "$(shown "${command[@]}")"
        why=$(lacks "${words[0]}")
        if [ -n "$why" ]; then
            echo "skipped: $why"
            continue
        fi
        [[ ${words[0]} != task3_*/02_train.py || -z $(lacks task2) ]] || command+=(--region slice)
        if [[ $profile == laptop && $cores -gt 1 && ${words[0]} == *_train.py && ${words[*]} != *--fold* ]]; then
            two_lanes || go_on "$number" $?
            continue
        fi
        python "${command[@]}" $skip || go_on "$number" $?
    fi
done
[ -n "$list" ] || printf '\nDone. Look at %s first; all results lie beside it.\n' "${root:-$repository}/outputs/$dataset/report.html"
[ -n "$list" ] || [ -z "$typed" ] || printf 'The types of bleeding: %s\nA patient that no model has seen: %s\n%s\n' \
    "${root:-$repository}/outputs/demo-types/report.html" "${root:-$repository}/outputs/$dataset/scans/unseen/scan.html" \
    "All patients in the browser: python scripts/81_view.py ${root:+$root/}outputs/$dataset"
