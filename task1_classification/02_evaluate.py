"""Evaluate classifiers on the test images of their folds, with intervals, curves, operating points and the worst mistakes.

Thresholds and calibration are chosen on the validation images of each fold; test is only read. With --on the mean of the
fold models and the frozen thresholds meet another data set.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/{predictions.csv,model.json,history.csv}    task1_classification/01_train.py
        (predictions.csv alone will do, your own: image_id, patient, fold, part, y_LABEL, p_LABEL)
        outputs/NAME/task1/EXPERIMENT/on-OTHER/predictions.csv          task1_classification/04_predict.py --on OTHER
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json          scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/metrics.json
        outputs/NAME/task1/EXPERIMENT/    predictions.csv (out-of-fold), metrics.json, classification_report.txt,
                                          per_patient.csv, operating_points.csv, confusion_matrix.png, loss_curves.png,
                                          roc.png, pr.png, calibration.png, worst_mistakes.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, --limit-patients N to EXPERIMENT/first-N-patients/)
Next    python task1_classification/03_compare.py

--reference computes the published numbers of outputs/reference again, from the published predictions, and writes nothing.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.evaluation import subjects
from hemoct.evaluation.subjects import Subject

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.evaluation.decisions import Evaluation

TABLES = ("labels.csv", "images.csv", "boxes.csv", "dataset.json")
DECIDING = ("max-f1", "expected-f1")  # the words of evaluation.thresholds.DECIDING, which --help does not wait for
WORST = 12  # mistakes of each kind on the contact sheet
SAME = 1e-6  # predictions.csv holds eight digits


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    subjects.add_flags(parser)
    parser.add_argument("--reference", action="store_true", help="compute the published numbers again from outputs/reference")
    parser.add_argument(
        "--threshold",
        choices=DECIDING,
        default="max-f1",
        help="chosen on validation: the highest F1 there, or the highest F1 to be expected of calibrated probabilities, which "
        "depends less on a few images",
    )
    args = cli.parse(parser, argv, __file__)
    if args.reference:
        print_published(Workspace.of(args), args)
        return
    for subject in subjects.chosen(args, 1):
        evaluate_one(subject, args)
    cli.say_next(Workspace.of(args), "task1_classification/03_compare.py")


def evaluate_one(subject: Subject, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.classification import evaluate, tables as classification_tables
    from hemoct.evaluation import thresholds

    run = Run(__file__, args, subject.folder, subject.inputs(TABLES))
    if run.up_to_date():
        return
    with run:
        labels = tables.read_labels(subject.data, tables.read_dataset(subject.data)).set_index("image_id")
        evaluation, of = evaluate.decide(subject, thresholds.DECIDING[args.threshold])
        run.wrote(*evaluate.write(subject, evaluation, subject.about(of), labels["slice"], args.seed))
        content = files.read_json(subject.folder / "metrics.json")
        run.wrote(*base_figure.save_all(drawn(subject, evaluation, content, labels["image"]), subject.folder))
    print(classification_tables.summary(subject.work, subject.folder, content))


def drawn(subject: Subject, evaluation: Evaluation, content: dict, image_files: pd.Series) -> dict:
    """The figures by name; None where there is nothing to show. `image_files`: by image_id."""
    from hemoct.base import tables
    from hemoct.classification import figures, tables as classification_tables
    from hemoct.evaluation import protocol

    heading = protocol.headline(content)[0]
    lines = [heading, *filter(None, [content["labels_mean"]])]
    worst, boxes = classification_tables.worst(evaluation, WORST), tables.read_boxes(subject.data)
    return {
        "confusion_matrix": figures.confusion(evaluation, heading),
        "loss_curves": figures.losses(subject.histories(), heading),
        **figures.curves(evaluation, content, heading),
        "calibration": figures.calibration(evaluation, content, heading),
        "worst_mistakes": figures.worst_mistakes(worst, subject.data.raw, image_files, boxes, lines),
    }


def print_published(work: Workspace, args: argparse.Namespace) -> None:
    """Print the published numbers beside those that follow from the published predictions."""
    if args.on or args.limit_patients:
        raise UserError("--reference speaks of what is published: --on and --limit-patients do not go with it")
    there = sorted(path.parent.name for path in (work.reference / "task1").glob("*/metrics.json"))
    if not there:
        raise UserError(
            f"{work.show(work.reference / 'task1')} holds no published experiment; name a data set that has one (--dataset)"
        )
    for experiment in args.experiment or there:
        print(published_again(work, experiment), end="\n\n")


def published_again(work: Workspace, experiment: str) -> str:
    """Compute every metric of a published experiment again, from its published predictions alone, for people to read.

    Thresholds and temperatures are those of its metrics.json, for validation predictions are not published.
    """
    from hemoct.evaluation import comparison, protocol, text

    published = comparison.read(work, experiment, work.reference / "task1" / experiment)
    block = published.block(*(published.content["bootstrap"][name] for name in ("resamples", "seed")))
    rows = [
        [text.metric_name(name), text.metric(block[name]), text.metric(cell), "same" if _same(block[name], cell) else "DIFFERS"]
        for name, cell in published.content["metrics"].items()
    ]
    table = text.Table(["metric", "computed again (95 % interval)", "published", ""], rows)
    return "\n".join([*protocol.headline(published.content), "", table.markdown()])


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two values are the same, with their intervals."""
    import numpy as np

    pairs = [(one["value"], other["value"]), *zip(one["ci95"] or [None], other["ci95"] or [None], strict=True)]
    return all(a is b is None or (a is not None and b is not None and np.isclose(a, b, atol=SAME)) for a, b in pairs)


if __name__ == "__main__":
    cli.exit_cleanly(main)
