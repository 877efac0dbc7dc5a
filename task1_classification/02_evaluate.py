"""Evaluate classifiers on the test images of their folds, with intervals, curves, operating points and the worst mistakes.

Thresholds and calibration are chosen on the validation images of each fold; test is only read. With --on the mean of the
fold models and the frozen thresholds meet another data set.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json,history.csv}    task1_classification/01_train.py
        (or foldK/predictions.csv, your own: image_id, patient, fold, part, y_LABEL, p_LABEL)
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json                  scripts/03_make_labels.py, 05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/{predictions.csv,metrics.json}
        outputs/NAME/task1/EXPERIMENT/    predictions.csv (out-of-fold), metrics.json, classification_report.txt,
                                          per_patient.csv, operating_points.csv, confusion_matrix.png, loss_curves.png,
                                          roc.png, pr.png, calibration.png, worst_mistakes.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, --limit-patients N to EXPERIMENT/first-N-patients/)
Next    python task1_classification/03_compare.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from hemoct.base import cli, experiments, files, tables
from hemoct.base import figure as base_figure
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import figures as classification_figures
from hemoct.classification import tables as classification_tables
from hemoct.evaluation import bootstrap, decisions, external, predictions, scores
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.evaluation.decisions import Evaluation
from hemoct.training import histories

TABLES = ("labels.csv", "boxes.csv", "dataset.json")
WORST = 12  # mistakes of each kind on the contact sheet


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    predictions.add_flags(parser)
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="auto: CUDA, then MPS, then CPU")
    parser.add_argument("--batch-size", type=cli.positive_int, default=64)
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    for experiment in args.experiment or experiments.trained(work, 1):
        evaluate(work, experiment, args)


def evaluate(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    folders = predictions.fold_folders(work, 1, experiment)
    seen, folder = external.place(work, 1, experiment, args)
    run = Run(
        __file__, args, folder, [*predictions.sources(folders), work.work / "splits.csv", *(seen.work / name for name in TABLES)]
    )
    if run.up_to_date():
        return
    with run:
        labels = tables.read_labels(seen, tables.read_dataset(seen)).set_index("image_id")
        own = argparse.Namespace(**vars(args) | {"limit_patients": None}) if args.on else args  # the limit is of the other data
        frame, protocol = predictions.read(work, experiment, own)
        found = decisions.evaluate(frame)
        if args.on:
            frame, protocol = predictions.read_external(seen, folders, args), "external"
            found = decisions.evaluate_external(frame, found.rules)
        about = evaluation_protocol.describe(work, 1, experiment, seen, protocol, folders)
        content = write_tables(run, folder, found, about, labels["slice"], args.seed)
        draw(run, folder, found, content, seen, labels["image"], folders)
        for fold in folders if folder == folders[0].parent else []:
            write_fold(run, fold, found, about, labels["slice"], args.seed)
    print(classification_tables.summary(work, folder, content))


def write_tables(run: Run, folder: Path, found: Evaluation, about: dict, slices: pd.Series, seed: int) -> dict:
    """Write the tables of an evaluation; returns the content of metrics.json."""
    per_patient = classification_tables.patients_table(found, slices)
    content = scores.report(found, about, per_patient, bootstrap.RESAMPLES, seed)
    text = classification_tables.text_report(found, evaluation_protocol.headline(content))
    run.wrote(
        tables.write_predictions(folder, classification_tables.predictions_table(found)),
        tables.write_csv(folder / "per_patient.csv", per_patient),
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt", text),
    )
    if found.question.positive is not None:
        points = classification_tables.operating_points(found, bootstrap.RESAMPLES, seed)
        run.wrote(tables.write_csv(folder / "operating_points.csv", points))
    return content


def write_fold(run: Run, fold: Path, found: Evaluation, about: dict, slices: pd.Series, seed: int) -> None:
    """metrics.json of one fold alone, where it has test images."""
    of_fold = found.of_fold(int(fold.name.removeprefix("fold")))
    if len(of_fold.test.y):
        per_patient = classification_tables.patients_table(of_fold, slices)
        content = scores.report(of_fold, about, per_patient, bootstrap.RESAMPLES, seed)
        run.wrote(files.write_json(fold / "metrics.json", content))


def draw(run: Run, folder: Path, found: Evaluation, content: dict, seen: Workspace, files_of: pd.Series,
         folders: list[Path]) -> None:  # fmt: skip
    """Draw and save every figure that is not empty."""
    heading = evaluation_protocol.headline(content)[0]
    with_labels = "; ".join(filter(None, [heading, content["labels_mean"]]))
    worst, boxes = classification_tables.worst(found, WORST), tables.read_boxes(seen)
    figures = {
        "confusion_matrix": classification_figures.confusion(found, heading),
        "loss_curves": classification_figures.losses(histories.read_histories(folders), heading),
        "roc": classification_figures.roc(found, content, heading),
        "pr": classification_figures.precision_recall(found, content, heading),
        "calibration": classification_figures.calibration(found, content, heading),
        "worst_mistakes": classification_figures.worst_mistakes(worst, seen.raw, files_of, boxes, with_labels),
    }
    run.wrote(*(base_figure.save(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None))


if __name__ == "__main__":
    cli.exit_cleanly(main)
