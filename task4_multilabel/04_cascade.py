"""Decide in two stages: a binary model says whether there is anything, and only where it does the multi-label model says what.

Stage 1 is an experiment of task 1 (--binary), or the output `any` of the multi-label model itself. Below its threshold, which is
chosen on the validation images of each fold, every type has probability 0. What comes out is an experiment like any other, with
thresholds of the types that are chosen after stage 1, and a comparison with one stage on the same images.

--pool makes one prediction of each study: the mean over the images of a view group (column `group` of labels.csv), the maximum
over the groups; a study is what a column `study` of labels.csv says, else the patient. Stage 1 decides on images, before. --view
lets another experiment answer for a group; it may know fewer types: of the others its images say nothing (probability 0).

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
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hemoct import (
    bootstrap,
    cascade,
    cascade_stages,
    cli,
    comparison_step,
    experiments,
    files,
    multilabel,
    multilabel_comparison,
    multilabel_tables,
    pooling,
    predictions,
    slice_data,
    tables,
)
from hemoct.cascade import Decided
from hemoct.cascade_stages import Stages
from hemoct.multilabel_comparison import Labelled

TABLES = ("labels.csv", "dataset.json", "splits.csv")
NAMED = {"binary": "{}", "rule": "{}", "view": "{}", "pool": {True: "pooled"}}
POOLED = "pooled_predictions.csv"


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = cli.workspace(args)
    stages = Stages(args.types, None if args.binary == slice_data.ANY else args.binary, args.view)
    experiment = work.task(4) / cli.experiment_name(parser, args, f"{args.types}-cascade", NAMED)
    cascade_stages.stop_if_taken(work, experiment)
    folds = cascade_stages.fold_folders(work, stages)
    inputs = [folder / name for folders in folds.values() for folder in folders for name in ("predictions.csv", "model.json")]
    run = cli.Run(__file__, args, experiment, [*inputs, *(work.work / name for name in TABLES)])
    if not cli.due({experiment: run}, args.overwrite):
        return
    where = pooling.places(work) if args.pool else None
    two = decide(work, args, stages)
    with run:
        run.wrote(*write_folds(work, experiment, stages, two, folds, args.pool))
        run.wrote(*compare(work, experiment, args, stages, two, [folders[0] for folders in folds.values()], where))
    print((experiment / "comparison.md").read_text(encoding="utf-8"))
    print(f"{work.show(experiment)}: {len(folds)} fold(s)")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--types", required=True, metavar="EXPERIMENT", help="of task 4: the multi-label model")
    parser.add_argument("--binary", default=slice_data.ANY, metavar="EXPERIMENT",
                        help="of task 1: stage 1; any: the output `any` of the multi-label model")  # fmt: skip
    parser.add_argument("--rule", type=cascade.rule, default=cascade.MAX, metavar="max-f1|median|qNN",
                        help="threshold of stage 1, from validation: max F1, median or quantile of probabilities")  # fmt: skip
    parser.add_argument("--pool", action="store_true", help="one prediction of each study")
    parser.add_argument("--view", action=cascade_stages.View, default={}, metavar="GROUP=EXPERIMENT",
                        help="who answers for the images of a group; may be given several times")  # fmt: skip
    parser.add_argument("--experiment", help="name of the folder; default: TYPES-cascade and the flags that differ")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished cascade of the same name that had other flags"
    )
    return parser


def decide(work: cli.Workspace, args: argparse.Namespace, stages: Stages) -> Decided:
    """Read the predictions of the stages and choose the thresholds of stage 1; stops where they do not fit together."""
    frame, protocol = multilabel.read(work, args.types, argparse.Namespace(limit_patients=None))
    if not [name for name in predictions.label_columns(frame) if name != slice_data.ANY]:
        raise cli.UserError(f"{args.types} tells no types apart; name a multi-label experiment with --types")
    if protocol == "unknown":
        raise cli.UserError(f"{args.types}: its val and test images follow no fold of splits.csv; train it again")
    if args.pool and protocol == "slice":
        raise cli.UserError("--pool: under the slice protocol images of one study are both trained on and tested; leave it")
    asked, answer = cascade_stages.answers(work, stages, frame, protocol)
    seen, unknown = cascade_stages.with_views(work, stages, frame.copy(), protocol) if args.view else (frame, {})
    if unknown and not args.pool:
        group, labels = next(iter(unknown.items()))
        raise cli.UserError(f"--view {group}={args.view[group]} does not know {', '.join(labels)}; add --pool, or name another")
    gated = cascade.gate(asked, seen, answer, args.rule)
    return Decided(gated, frame[answer["p"].notna()].reset_index(drop=True), unknown, protocol)


def write_folds(work: cli.Workspace, experiment: Path, stages: Stages, two: Decided, folds: dict[str, list[Path]],
                pool: bool) -> list[Path]:  # fmt: skip
    """Write each fold, take away what an earlier cascade of this name left; returns the files."""
    for old in experiments.folds(experiment, "model.json"):
        shutil.rmtree(old)
    for name in ("predictions.csv", "metrics.json", POOLED):  # an evaluation of other predictions
        (experiment / name).unlink(missing_ok=True)
    found, written = two.gated.predictions, []
    for name, folders in folds.items():
        place = experiment / name
        if not pool:
            of_fold = found[found["fold"] == int(name.removeprefix("fold"))]
            written.append(tables.write_predictions(place, of_fold))
        told = cascade.model_json(work, stages, two.gated, two.protocol, place, folders)
        written.append(files.write_json(place / "model.json", told))
    return written


def compare(work: cli.Workspace, experiment: Path, args: argparse.Namespace, stages: Stages, two: Decided, folders: list[Path],
            where: pd.DataFrame | None) -> list[Path]:  # fmt: skip
    """Set two stages beside one on the same images, or studies (`where`: see pooling.places); returns the files."""
    asked = {f"one stage: {args.types}": two.one_stage} | ({"one stage, views": two.gated.frame} if args.view else {})
    asked |= {f"two stages: {experiment.name}": two.gated.predictions}
    about = predictions.describe(work, 4, experiment.name, work, two.protocol, folders)
    found, written = [], []
    for name, frame in asked.items():
        pooled = frame if where is None else pooling.pool(frame, where)
        labelled = multilabel.evaluate(pooled)
        content = multilabel.report(labelled, about, bootstrap.RESAMPLES, args.seed)
        found.append(Labelled(name, content, labelled))
    if where is not None:  # `pooled` and the others are those of the cascade, the last
        content["notes"] = [pooling.NOTE, *content["notes"]]
        written += [
            tables.write_csv(experiment / POOLED, pooled),
            tables.write_predictions(experiment, multilabel_tables.predictions_table(labelled)),
            files.write_json(experiment / "metrics.json", content),
        ]
    points = cascade.operating_points(two.gated, bootstrap.RESAMPLES, args.seed)
    kind = replace(multilabel_comparison.kind(), cases="test images" if where is None else "test studies")
    remarks = [pooling.NOTE] * (where is not None) + cascade.remarks(two.gated, stages, points, two.unknown)
    return [
        *written,
        tables.write_csv(experiment / "stage_one.csv", points),
        *comparison_step.write(experiment, found, kind, work.dataset, args.seed, "two stages against one", tuple(remarks)),
    ]


if __name__ == "__main__":
    cli.exit_cleanly(main)
