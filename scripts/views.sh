#!/usr/bin/env bash
# Views, from angiography: one encoder with a head for each view, a gate at the median, a quantile as threshold, and one answer for
# each patient: the mean within a view, the maximum over the views.
#
#   bash scripts/views.sh [--dataset NAME] [--root DIR] [--list] [-- FLAGS of task4_multilabel/02_train.py]
#
# Without --dataset a phantom is drawn: eight angiograms of each of 40 patients, four of the front and four of the back circulation.
# NAME has to be labelled and split already (scripts/03_make_labels.py, 05_make_splits.py), with a column `group` that names the view.
# --list prints the commands. What is done already is skipped. The numbers: outputs/NAME/task4/views-studies/comparison.md
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

dataset=demo-views root=() list="" flags=()
while [ $# -gt 0 ]; do
    case "$1" in
        --dataset) dataset=${2:?--dataset needs a NAME}; shift ;;
        --root) root=(--root "${2:?--root needs a DIR}"); shift ;;
        --list) list=yes ;;
        --) shift; flags=("$@"); break ;;
        *) stop "$1 is none of --dataset NAME, --root DIR, --list; flags of 02_train.py stand behind --" ;;
    esac
    shift
done

step() { # step WORDS...: print a command, and run it unless --list
    local words=("$@" --dataset "$dataset" ${root[@]+"${root[@]}"})
    printf 'python%s\n' "$(printf ' %q' "${words[@]}")"
    [ -n "$list" ] || (cd -- "$repository" && python "${words[@]}" --skip-if-done)
}

use_environment
if [ "$dataset" = demo-views ]; then
    step scripts/01_get_data.py --demo views --patients 40 --size 128
    step scripts/03_make_labels.py
    step scripts/05_make_splits.py
    [ ${#flags[@]} -gt 0 ] || flags=(--backbone tf_efficientnet_lite0 --image-size 128 --batch-size 16 --lr 2e-3 --epochs 10 --augment affine --fold 0)
fi
step task4_multilabel/01_prepare_labels.py
step task4_multilabel/02_train.py --share-encoder --heads any,types --experiment views ${flags[@]+"${flags[@]}"}
step task4_multilabel/03_evaluate.py --experiment views --threshold-from train:q90
step task4_multilabel/04_cascade.py --types views --rule median --pool --threshold-from train:q90 --experiment views-studies
