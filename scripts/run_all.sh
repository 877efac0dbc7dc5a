#!/usr/bin/env bash
# Run every step of the chain on one data set, in order. Steps that are up to date are skipped.
#
#   bash scripts/run_all.sh --dataset NAME [--root DIR] [--from-step N] [--small] [--mask-value V] [--force] [--list]
#                           [-- FLAGS]
#
#   --dataset NAME   data/raw/NAME must be there: step 1 is yours, but "demo" is drawn
#   --root DIR       folder that holds data/ and outputs/ (default: the repository)
#   --from-step N    begin with step N of the list
#   --small          train from scratch on small images, for a machine without a GPU or a network
#   --mask-value V   the lesion in masks of several values (task 3)
#   --force          run also what is up to date
#   --list           print the numbered steps and stop
#   -- FLAGS         flags of scripts/03_make_labels.py: -- --layout yolo --patient-regex '^(\d+)_'
#                    (--layout and --image-set go to scripts/02_merge_annotations.py too)
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

dataset="" root="" from_step="" force="" skip="--skip-if-done" small="" list="" mask_value="" label_flags=() merge_flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --dataset | --root | --from-step | --mask-value) [ $# -ge 2 ] || stop "$1 needs a value" ;;
    esac
    case $1 in
    --dataset) dataset=$2 && shift ;;
    --root) root=$(cd -- "$2" 2>/dev/null && pwd) || stop "--root $2 is no folder" && shift ;;
    --from-step) from_step=$2 && shift ;;
    --force) force=--force && skip="" ;;
    --list) list=yes ;;
    --small) small=--small ;;
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

# What is trained, and the name that its results get. The demonstration is small enough for two CPU cores: one fold of tasks 2 and 3.
first=2 get="--from DIR" classifier=resnet18 detector=yolov8n segmenter=unet-resnet34 typer=resnet18
classify="" detect="" gate="" segment="" types="" typed=""
if [ -n "$small" ]; then
    classifier=resnet18-small detector=yolov8n-small segmenter=unet-resnet18-small typer=resnet18-small
    classify="--weights none --image-size 128 --epochs 8 --lr 1e-3"
    detect="--weights none --image-size 256 --epochs 20 --batch-size 8 --negatives 1"
    gate="--weights none --epochs 8 --lr 1e-3"
    segment="--encoder resnet18 --weights none --epochs 24"
    types="--weights none --image-size 128 --lr 1e-3"
fi
if [ "$dataset" = demo ]; then
    first=1 get="--demo" classifier=resnet10t detector=yolov8n segmenter=unet-resnet10t typer=resnet10t
    classify="--backbone resnet10t --weights none --image-size 64 --batch-size 16 --epochs 6 --lr 1e-3"
    detect="--weights none --image-size 128 --batch-size 4 --epochs 30 --lr 3e-3 --negatives 0.5 --fold 0"
    gate="--backbone resnet10t --weights none --image-size 64 --batch-size 16 --epochs 6 --lr 1e-3"
    segment="--encoder tu-resnet10t --weights none --image-size 64 --least-side 40 --batch-size 8 --epochs 16 --lr 2e-3 --fold 0"
    # The types of bleeding are on other phantoms, a data set of their own.
    types="--backbone resnet10t --weights none --image-size 80 --batch-size 8 --lr 1e-3 --epochs 20 --augment affine --fold 0"
    typed="--dataset demo-types"
fi

steps=(
    "scripts/01_get_data.py $get"
    "scripts/02_merge_annotations.py"
    "scripts/03_make_labels.py"
    "scripts/04_check_data.py"
    "scripts/05_make_splits.py"
    "task1_classification/01_train.py --experiment $classifier $classify"
    "task1_classification/01_train.py --experiment $classifier-augment $classify --augment affine"
    "task1_classification/02_evaluate.py"
    "task1_classification/03_compare.py"
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
    ${typed:+"task1_classification/01_train.py $typed --experiment $classifier $classify --fold 0"}
    ${typed:+"task1_classification/02_evaluate.py $typed"}
    "task4_multilabel/01_prepare_labels.py $typed"
    "task4_multilabel/02_train.py $typed --experiment $typer $types"
    "task4_multilabel/03_evaluate.py $typed --experiment $typer"
    "task4_multilabel/04_cascade.py $typed --types $typer --binary $classifier"
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
        printf '  %sbash scripts/run_all.sh%s\n' "$change_folder" "$(printf ' %q' "${place[@]}" --from-step "$1" ${small:+"$small"} $mask_value ${force:+"$force"} ${label_flags[@]+-- "${label_flags[@]}"})"
    } >&2
    exit "$2"
}

has_boxes() { # labels alone can be classified, but nothing can be detected in them
    local boxes=${root:-$repository}/data/work/$dataset/boxes.csv
    [ ! -f "$boxes" ] || [ "$(head -n 2 "$boxes" | wc -l)" -gt 1 ]
}

has_masks() {
    local told=${root:-$repository}/data/work/$dataset/dataset.json
    [ ! -f "$told" ] || grep -q '"masks": [1-9]' "$told"
}

has_types() { # several labels that one image may have together
    local told=${root:-$repository}/data/work/$dataset/dataset.json words
    [ -f "$told" ] || return 0
    words=$(tr -d '[:space:]' <"$told")
    [[ $words =~ \"labels\":\[\"[^]]*\",\" && $words != *'"exclusive":true'* ]]
}

from_step=${from_step:-$first}
if ! [[ $from_step =~ ^[1-9][0-9]?$ ]] || [ "$from_step" -gt ${#steps[@]} ]; then
    stop "--from-step $from_step is not one of the steps 1 to ${#steps[@]}; --list shows them"
fi
if [ "$first" -gt 1 ] && [ -z "$list" ] && [ ! -e "${root:-$repository}/data/raw/$dataset" ]; then
    stop "data/raw/$dataset is missing; register your copy: python scripts/01_get_data.py --from DIR ${place[*]}"
fi

use_environment
started_in=$PWD
cd -- "$repository"
for ((number = 1; number <= ${#steps[@]}; number++)); do
    read -ra words <<<"${steps[number - 1]}"
    command=("${words[@]}" "${place[@]}")
    if [[ ${words[1]-} == --dataset ]]; then command=("${words[@]}" ${root:+--root "$root"}); fi
    case ${words[*]} in
    */01_get_data.py\ --dataset*) command+=(--from "${root:+$root/}data/raw/$dataset/types") ;;
    */02_merge_annotations.py*) command+=(${merge_flags[@]+"${merge_flags[@]}"}) ;;
    */03_make_labels.py) command+=(${label_flags[@]+"${label_flags[@]}"}) ;;
    */01_train.py* | */02_train.py* | */06_gate_classifier.py*) [ -z "$skip" ] || command+=(--resume) ;;
    esac
    if [ -n "$list" ]; then
        printf '%2d  %s\n' "$number" "$(shown "${command[@]}")"
    elif [ "$number" -ge "$from_step" ] && [ "$number" -ge "$first" ]; then
        printf '\n[%d/%d] %s\n' "$number" ${#steps[@]} "$(shown "${command[@]}")"
        if [[ ${words[0]} == task2_* || ${words[0]} == */06_estimate_hematoma.py ]] && ! has_boxes; then
            echo "skipped: boxes.csv has no box"
            continue
        fi
        if [[ ${words[0]} == task3_* ]] && ! has_masks; then
            echo "skipped: labels.csv names no mask"
            continue
        fi
        if [[ ${words[0]} == task4_* && -z $typed ]] && ! has_types; then
            echo "skipped: labels.csv has no labels that one image may have together"
            continue
        fi
        [[ ${words[0]} != task3_*/02_train.py ]] || has_boxes || command+=(--region slice)
        python "${command[@]}" $skip || go_on "$number" $?
    fi
done
[ -n "$list" ] || printf '\nDone. Look at %s first; all results lie beside it.\n' "${root:-$repository}/outputs/$dataset/report.html"
[ -n "$list" ] || [ -z "$typed" ] || printf 'The types of bleeding: %s\n' "${root:-$repository}/outputs/demo-types/report.html"
