"""Evaluate detectors on the test slices of their folds: boxes, lesions, slices, what is hard; with intervals and figures.

Each fold has one threshold, chosen on its validation slices (maximum F1 of 'the slice has a box'). Only tables are read, no
model. With --on the fused boxes of the fold models on another data set are evaluated, at the mean of their thresholds, frozen.
In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema.

Reads   outputs/NAME/task2/EXPERIMENT/foldK/{predictions.csv,model.json}    task2_detection/02_train.py
        (or your own foldK/predictions.csv: image_id, patient, fold, part, class, confidence, xmin, ymin, xmax, ymax)
        outputs/NAME/task2/EXPERIMENT/on-OTHER/predictions.csv              task2_detection/05_predict.py --on OTHER
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json              scripts/03_make_labels.py, 05_make_splits.py
Writes  outputs/NAME/task2/EXPERIMENT/    predictions.csv (out-of-fold), metrics.json, foldK/metrics.json,
                                          predictions_with_none.csv, classification_summary.csv, classification_report.txt,
                                          operating_points.csv, per_patient.csv, per_lesion.csv, froc.csv, localisation.csv,
                                          errors.csv, error_types.csv, size_and_brightness.csv,
                                          confusion_matrix.png, threshold_tradeoff.png, roc.png, pr.png,
                                          box_precision_recall.png, froc.png, localisation.png, error_types.png,
                                          size_and_brightness.png, hard_cases.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, --limit-patients N to EXPERIMENT/first-N-patients/)
Next    python scripts/90_make_report.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files, label_meaning
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.evaluation import subjects
from hemoct.evaluation.subjects import Subject

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.detection.evaluate import BoxEvaluation

TABLES = ("labels.csv", "images.csv", "boxes.csv", "dataset.json")
HARDEST = 12  # cases of each kind on the contact sheet


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    subjects.add_flags(parser)
    args = cli.parse(parser, argv, __file__)
    for subject in subjects.chosen(args, 2):
        evaluate_one(subject, args)
    cli.say_next(Workspace.of(args), "scripts/90_make_report.py")


def evaluate_one(subject: Subject, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.classification import tables as classification_tables
    from hemoct.detection import data as detection_data, errors, evaluate as detection_evaluate, figures, predictions
    from hemoct.evaluation import protocol

    folder = subject.folder
    run = Run(__file__, args, folder, subject.inputs(TABLES))
    if run.up_to_date():
        return
    with run:
        data = detection_data.load(subject.work, subject.own_limit)
        frame, of = predictions.read_folds(subject, data)
        evaluation = detection_evaluate.evaluate(frame, data, tables.read_boxes(subject.work))
        if subject.on_other_data:
            data = detection_data.load(subject.data, subject.limit_patients, split=False)
            frame, of = predictions.read_external(subject, data), "external"
            evaluation = detection_evaluate.evaluate(frame, data, tables.read_boxes(subject.data), evaluation.slices.rules)
        about = subject.about(of)
        test = frame[frame["part"] == "test"].sort_values("image_id", kind="stable")
        if not subject.on_other_data or subject.limit_patients:  # else it is the file that was read
            run.wrote(tables.write_predictions(folder, test))
        content = write_tables(run, folder, evaluation, about, test, args.seed)
        names = data.table.set_index("image_id")["image"].reindex(evaluation.scene.table["image_id"])
        test_images = [subject.data.raw / name for name in names]
        hard = write_errors(run, folder, evaluation, test_images, data.orientation, args.seed)
        heading = protocol.headline(content)[0]
        sheet = figures.hard_cases(evaluation, errors.hardest(hard["errors"], HARDEST), test_images, data.layout, heading)
        run.wrote(*base_figure.save_all(drawn(evaluation, content, hard, data.layout), folder))
        run.wrote(*([base_figure.save(sheet, folder / "hard_cases.png")] if sheet else []))
        for fold in subject.folders if subject.is_whole else []:
            write_fold(run, fold, evaluation, about, args.seed)
    print(classification_tables.summary(subject.work, folder, content))


def write_tables(run: Run, folder: Path, evaluation: BoxEvaluation, about: dict, test: pd.DataFrame, seed: int) -> dict:
    """Write the tables of an evaluation; returns the content of metrics.json."""
    from hemoct.base import tables
    from hemoct.classification import tables as classification_tables
    from hemoct.detection import evaluate as detection_evaluate, tables as detection_tables
    from hemoct.evaluation import bootstrap, protocol

    per_patient = classification_tables.patients_table(evaluation.slices, evaluation.numbers)
    content = detection_evaluate.report(evaluation, about, per_patient, seed)
    text = [*protocol.headline(content), *detection_tables.report_lines(content)]
    written = {
        "per_patient": per_patient,
        "per_lesion": evaluation.per_lesion,
        "predictions_with_none": detection_tables.predictions_with_none(evaluation, test),
        "classification_summary": classification_tables.calls(evaluation.slices),
        "operating_points": classification_tables.operating_points(evaluation.slices, bootstrap.RESAMPLES, seed),
        "froc": detection_tables.froc(content),
        "localisation": detection_tables.localisation(content),
    }
    if not about["patients_known"]:
        del written["per_patient"]
    run.wrote(
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt", classification_tables.text_report(evaluation.slices, text)),
        *(tables.write_csv(folder / f"{name}.csv", table) for name, table in written.items()),
    )
    return content


def write_errors(
    run: Run, folder: Path, evaluation: BoxEvaluation, test_images: list[Path], orientation: str, seed: int
) -> dict[str, pd.DataFrame]:
    """Look at missed and false boxes in the images and write what is hard; returns the tables by name."""
    from hemoct.base import tables
    from hemoct.detection import errors
    from hemoct.prepare.options import mirror_axis

    true, false = errors.true_and_false(evaluation)
    errors.look(true, false, test_images, mirror_axis(orientation))
    table = errors.errors(true, false)
    hard = {
        "errors": table,
        "error_types": errors.counts(table),
        "size_and_brightness": errors.by_quarter(evaluation, true, seed),
    }
    run.wrote(*(tables.write_csv(folder / f"{name}.csv", written) for name, written in hard.items()))
    return hard


def drawn(evaluation: BoxEvaluation, content: dict, hard: dict[str, pd.DataFrame], layout: str) -> dict:
    """The figures by name; None where there is nothing to show."""
    from hemoct.classification import figures as classification_figures
    from hemoct.detection import figures as detection_figures
    from hemoct.evaluation import protocol

    heading = protocol.headline(content)[0]
    if layout in label_meaning.BOX:
        heading = f"{heading}; box = {label_meaning.BOX[layout]}"
    return {
        "confusion_matrix": classification_figures.confusion(evaluation.slices, heading),
        **classification_figures.curves(evaluation.slices, content, heading),
        "threshold_tradeoff": detection_figures.threshold_tradeoff(evaluation, heading),
        "box_precision_recall": detection_figures.box_precision_recall(evaluation, content, heading),
        "froc": detection_figures.froc(evaluation, content, heading),
        "localisation": detection_figures.localisation(content, heading),
        "error_types": detection_figures.error_types(hard["error_types"], heading),
        "size_and_brightness": detection_figures.size_and_brightness(hard["size_and_brightness"], heading),
    }


def write_fold(run: Run, fold: Path, evaluation: BoxEvaluation, about: dict, seed: int) -> None:
    """metrics.json of one fold alone, where it has test slices."""
    from hemoct.classification import tables as classification_tables
    from hemoct.detection import evaluate as detection_evaluate

    of_fold = evaluation.of_fold(experiments.fold_of(fold))
    if len(of_fold.scene):
        per_patient = classification_tables.patients_table(of_fold.slices, of_fold.numbers)
        run.wrote(files.write_json(fold / "metrics.json", detection_evaluate.report(of_fold, about, per_patient, seed)))


if __name__ == "__main__":
    cli.exit_cleanly(main)
