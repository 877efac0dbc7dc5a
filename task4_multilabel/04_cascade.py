"""Decide in two stages: a binary model says whether there is any bleeding; only where it does, a multi-label model says which.

Stage 1 is an experiment of task 1 (--binary), or the output `any` of the multi-label model itself. Below its threshold, which is
chosen on the validation images of each fold, every type gets probability 0. The result is an experiment like any other: the
thresholds of its types are chosen after stage 1. A comparison with one stage on the same images goes along.

--pool makes one prediction of each study: the mean over the images of a view group (column `group` of labels.csv), the maximum
over the groups; a study is a patient. Stage 1 decides before that, on images. --view lets another experiment answer for the
images of a group; a type that it does not know gets probability 0 there, which needs --pool.

The label `any` keeps the probability of stage 1, and 03_evaluate.py chooses its threshold by max F1 like that of any label. With
--rule median or qNN that differs from the threshold of stage 1: an image may have a type called and `any` not, or the reverse.

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
from hemoct.multilabel import cascade, cascade_results

TABLES = ("labels.csv", "dataset.json", "splits.csv")
NAMED = {"binary": "{}", "rule": "{}", "view": "{}", "pool": {True: "pooled"}}


class View(argparse.Action):
    """GROUP=EXPERIMENT, gathered as a dictionary from as many flags as are given."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, text: str, flag: str | None = None) -> None:
        group, _, experiment = text.partition("=")
        known = getattr(args, self.dest)
        if not group or not experiment or group in known:
            parser.error(f"{flag} {text}: give GROUP=EXPERIMENT, each group once")
        setattr(args, self.dest, known | {group: experiment})


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    stages = cascade.Stages(args.types, None if args.binary == slices.ANY else args.binary, args.view)
    experiment = work.task(4) / cli.experiment_name(parser, args, f"{args.types}-cascade", NAMED)
    cascade.stop_if_taken(work, experiment)
    inputs = [folder / name for folder in cascade.folders(work, stages) for name in ("predictions.csv", "model.json")]
    run = Run(__file__, args, experiment, [*inputs, *(work.work / name for name in TABLES)])
    if not folders_due({experiment: run}, args.overwrite):
        return
    group = cascade.groups(work) if args.pool else None
    decided = cascade.decide(work, stages, args.rule, args.pool)
    with run:
        run.wrote(*cascade_results.write(work, experiment, decided, group, args.seed))
    print((experiment / "comparison.md").read_text(encoding="utf-8"))
    print(f"{work.show(experiment)}: {len(decided.first.rules)} fold(s)")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--types", required=True, metavar="EXPERIMENT", help="stage 2, the multi-label model, of task 4")
    parser.add_argument("--binary", default=slices.ANY, metavar="EXPERIMENT",
                        help="stage 1, of task 1; any: the output `any` of the multi-label model")  # fmt: skip
    parser.add_argument("--rule", type=cascade.rule, default=cascade.MAX, metavar="max-f1|median|qNN",
                        help="threshold of stage 1 from validation: maximum F1, median or quantile of probabilities")  # fmt: skip
    parser.add_argument("--pool", action="store_true", help="one prediction of each study, that is patient")
    parser.add_argument("--view", action=View, default={}, metavar="GROUP=EXPERIMENT",
                        help="who answers for the images of a group; may be given several times")  # fmt: skip
    parser.add_argument("--experiment", help="name of the folder; default: TYPES-cascade and the flags that differ")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished cascade of the same name that had other flags"
    )
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
