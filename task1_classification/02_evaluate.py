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

from hemoct import (
    bootstrap,
    classification,
    classification_tables,
    cli,
    experiments,
    files,
    plots,
    plots_classification,
    predictions,
    tables,
)
from hemoct.classification import Evaluation

TABLES = ("labels.csv", "boxes.csv", "dataset.json")
WORST = 12  # mistakes of each kind on the contact sheet


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all of the data set")
    parser.add_argument("--on", metavar="OTHER", help="evaluate on the labelled images of another data set")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="auto: CUDA, then MPS, then CPU")
    parser.add_argument("--batch-size", type=cli.positive_int, default=64)
    parser.add_argument("--limit-patients", type=cli.positive_int, metavar="N", help="a first look; nothing else is replaced")
    args = cli.parse(parser, argv, __file__)
    work = cli.workspace(args)
    for experiment in args.experiment or experiments.trained(work, 1):
        evaluate(work, experiment, args)


def evaluate(work: cli.Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    folders = predictions.fold_folders(work, 1, experiment)
    seen = cli.Workspace(work.root, args.on or work.dataset)
    if args.on and seen.raw.resolve() == work.raw.resolve():
        raise cli.UserError(
            f"--on {args.on} holds the images of {work.dataset}, on which the models were trained; name other data"
        )
    name = "-".join([f"on-{args.on}"] * bool(args.on) + [f"first-{args.limit_patients}-patients"] * bool(args.limit_patients))
    folder = work.task(1) / experiment / name
    run = cli.Run(
        __file__, args, folder, [*predictions.sources(folders), work.work / "splits.csv", *(seen.work / name for name in TABLES)]
    )
    if run.up_to_date():
        return
    with run:
        labels = tables.read_labels(seen, tables.read_dataset(seen)).set_index("image_id")
        frame, protocol = predictions.read(work, experiment, args)
        found = classification.evaluate(frame)
        if args.on:
            frame, protocol = predictions.read_external(seen, folders, args), "external"
            found = classification.evaluate_external(frame, found.rules)
        about = predictions.describe(work, 1, experiment, seen, protocol, folders)
        content = write_tables(run, folder, found, about, labels["slice"], args.seed)
        draw(run, folder, found, content, seen, labels["image"], folders)
        for fold in folders if not name else []:
            write_fold(run, fold, found, about, labels["slice"], args.seed)
    print_summary(work, folder, content)


def write_tables(run: cli.Run, folder: Path, found: Evaluation, about: dict, slices: pd.Series, seed: int) -> dict:
    """Write the tables of an evaluation; returns the content of metrics.json."""
    per_patient = classification_tables.patients_table(found, slices)
    content = classification.report(found, about, per_patient, bootstrap.RESAMPLES, seed)
    text = classification_tables.text_report(found, predictions.headline(content))
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


def write_fold(run: cli.Run, fold: Path, found: Evaluation, about: dict, slices: pd.Series, seed: int) -> None:
    """metrics.json of one fold alone, where it has test images."""
    of_fold = found.of_fold(int(fold.name.removeprefix("fold")))
    if len(of_fold.test.y):
        per_patient = classification_tables.patients_table(of_fold, slices)
        content = classification.report(of_fold, about, per_patient, bootstrap.RESAMPLES, seed)
        run.wrote(files.write_json(fold / "metrics.json", content))


def draw(run: cli.Run, folder: Path, found: Evaluation, content: dict, seen: cli.Workspace, files_of: pd.Series,
         folders: list[Path]) -> None:  # fmt: skip
    """Draw and save every figure that is not empty."""
    heading = predictions.headline(content)[0]
    with_labels = "; ".join(filter(None, [heading, content["labels_mean"]]))
    worst, boxes = classification_tables.worst(found, WORST), tables.read_boxes(seen)
    figures = {
        "confusion_matrix": plots_classification.confusion(found, heading),
        "loss_curves": plots_classification.losses(predictions.histories(folders), heading),
        "roc": plots_classification.roc(found, content, heading),
        "pr": plots_classification.precision_recall(found, content, heading),
        "calibration": plots_classification.calibration(found, content, heading),
        "worst_mistakes": plots_classification.worst_mistakes(worst, seen.raw, files_of, boxes, with_labels),
    }
    run.wrote(*(plots.save(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None))


def print_summary(work: cli.Workspace, folder: Path, content: dict) -> None:
    """The few numbers that a person wants at once."""
    print(f"{work.show(folder)}: " + "\n  ".join(predictions.headline(content)))
    for name, cell in content["metrics"].items():
        interval = f"{cell['ci95'][0]:.4f} to {cell['ci95'][1]:.4f}" if cell["ci95"] else ""
        value = f"{cell['value']:.4f}" if cell["value"] is not None else f"null ({cell['reason']})"
        print(f"  {name:28}{value}   {interval}")
    if content["positive"] is not None:
        points = tables.read_csv(folder / "operating_points.csv", ["rule_on_validation"])
        print(f"achieved on test, threshold chosen on validation:\n{classification_tables.points_text(points)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
