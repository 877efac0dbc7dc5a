"""Decide in two stages: a binary model says whether there is anything, and only where it does the multi-label model says what.

Stage 1 is an experiment of task 1 (--binary), or the output `any` of the multi-label model itself. Below its threshold, which is
chosen on the validation images of each fold, every type has probability 0. What comes out is an experiment like any other, with
thresholds of the types that are chosen after stage 1, and a comparison with one stage on the same images.

--pool makes one prediction of each study: the mean over the images of a view group (column `group` of labels.csv), the maximum
over the groups; a study is a patient. Stage 1 decides on images, before. --view lets another experiment answer for a group; it
may know fewer types: of the others its images say nothing (probability 0).

The label `any` keeps the probability of stage 1, and 03_evaluate.py chooses its threshold by max F1 like that of any label. With
--rule median or qNN that is another one than the gate's: an image may pass with a type called and `any` not, or the other way.

Reads   outputs/NAME/task4/TYPES/foldK/{predictions.csv,model.json}     task4_multilabel/02_train.py, also those of --view
        outputs/NAME/task1/BINARY/foldK/{predictions.csv,model.json}    task1_classification/02_evaluate.py (with --binary)
        data/work/NAME/{labels,splits}.csv, dataset.json                scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/    model.json (names the stages and the threshold),
                                                predictions.csv (val, test; not with --pool)
        outputs/NAME/task4/EXPERIMENT/          stage_one.csv, comparison.csv, comparison.md, comparison.png
        (with --pool)                           pooled_predictions.csv (val, test), predictions.csv (out-of-fold), metrics.json
Next    python task4_multilabel/03_evaluate.py --experiment EXPERIMENT  (without --pool)

    python task4_multilabel/04_cascade.py --types resnet18-two-heads --rule q50
"""

from __future__ import annotations

import argparse

from hemoct.base import cli
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.multilabel import cascade, cascade_results, cascade_stages, pooling
from hemoct.multilabel.cascade_stages import Stages

TABLES = ("labels.csv", "dataset.json", "splits.csv")
NAMED = {"binary": "{}", "rule": "{}", "view": "{}", "pool": {True: "pooled"}}


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    stages = Stages(args.types, None if args.binary == slices.ANY else args.binary, args.view)
    experiment = work.task(4) / cli.experiment_name(parser, args, f"{args.types}-cascade", NAMED)
    cascade_stages.stop_if_taken(work, experiment)
    folds = cascade_stages.fold_folders(work, stages)
    inputs = [folder / name for folders in folds.values() for folder in folders for name in ("predictions.csv", "model.json")]
    run = Run(__file__, args, experiment, [*inputs, *(work.work / name for name in TABLES)])
    if not folders_due({experiment: run}, args.overwrite):
        return
    where = pooling.places(work) if args.pool else None
    two = cascade.decide(work, stages, args.rule, args.pool)
    with run:
        run.wrote(*cascade_results.write_folds(work, experiment, stages, two, folds, args.pool))
        first = [folders[0] for folders in folds.values()]
        run.wrote(*cascade_results.compare(work, experiment, stages, two, first, where, args.seed))
    print((experiment / "comparison.md").read_text(encoding="utf-8"))
    print(f"{work.show(experiment)}: {len(folds)} fold(s)")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--types", required=True, metavar="EXPERIMENT", help="of task 4: the multi-label model")
    parser.add_argument("--binary", default=slices.ANY, metavar="EXPERIMENT",
                        help="of task 1: stage 1; any: the output `any` of the multi-label model")  # fmt: skip
    parser.add_argument("--rule", type=cascade.rule, default=cascade.MAX, metavar="max-f1|median|qNN",
                        help="threshold of stage 1, from validation: max F1, median or quantile of probabilities")  # fmt: skip
    parser.add_argument("--pool", action="store_true", help="one prediction of each study, that is patient")
    parser.add_argument("--view", action=cascade_stages.View, default={}, metavar="GROUP=EXPERIMENT",
                        help="who answers for the images of a group; may be given several times")  # fmt: skip
    parser.add_argument("--experiment", help="name of the folder; default: TYPES-cascade and the flags that differ")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished cascade of the same name that had other flags"
    )
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
