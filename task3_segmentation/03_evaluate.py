"""Evaluate masks on the test slices of their folds: Dice by patient and slice, outlines, volumes; with intervals and figures.

One threshold a fold, chosen on its validation slices (highest mean Dice by patient), is applied to its test slices. Reads
probability maps and true masks, never a model. Slices without a mask file are counted, not scored.
--experiment NAME/truth-boxes: the upper bound that 02_train.py --upper-bound left there; every heading says so.
--on OTHER: the mean of the fold models at the mean of their thresholds, frozen, on another data set.
In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding.

Reads   outputs/NAME/task3/EXPERIMENT/foldK/{predictions.csv,probability/,model.json,history.csv}   task3_segmentation/02_train.py
        outputs/NAME/task3/EXPERIMENT/on-OTHER/{predictions.csv,probability/}       task3_segmentation/05_predict.py --on OTHER
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, 05_make_splits.py
        data/raw/NAME (images and masks)                    scripts/01_get_data.py
Writes  outputs/NAME/task3/EXPERIMENT/    metrics.json, foldK/metrics.json, segmentation_metrics.csv, per_slice.csv,
                                          per_patient.csv, volume_agreement.csv, slice_pixels.csv (validation too),
                                          confusion_matrix.png, dice_and_size.png, volumes.png, threshold.png,
                                          training_curves.png, examples.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, --limit-patients N to EXPERIMENT/first-N-patients/)
Next    python task3_segmentation/04_to_classification.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.evaluation import subjects

if TYPE_CHECKING:
    from hemoct.segmentation.evaluate import Segmentation
    from hemoct.segmentation.predictions import Subject

HISTORY = ("epoch", "train_loss", "val_dice")
EXAMPLES = 2  # slices of each kind: best, median, worst


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    subjects.add_flags(parser)
    parser.add_argument("--mask-value", type=cli.whole_number, metavar="V",
                        help="with --on: the lesion in that data set's masks of several values")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    if args.mask_value is not None and not args.on:
        parser.error("--mask-value goes with --on; model.json says it of the data of the training")
    from hemoct.segmentation.predictions import Subject  # what computes is not imported at the top: --help shall be quick

    for subject in subjects.chosen(args, 3):
        evaluate_one(Subject.of(subject), args)
    cli.say_next(Workspace.of(args), "task3_segmentation/04_to_classification.py")


def evaluate_one(subject: Subject, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    from hemoct.classification import tables as classification_tables
    from hemoct.evaluation import bootstrap
    from hemoct.segmentation import evaluate, predictions, tables as segmentation_tables

    run = Run(__file__, args, subject.folder, subject.inputs(("labels.csv", "images.csv", "dataset.json")))
    if run.up_to_date():
        return
    with run:
        spec = predictions.shared_spec(subject.work, subject.folders)
        mask_value = args.mask_value if subject.on_other_data else spec.get("mask_value")
        scored, evaluation, of = evaluate.decide(subject, mask_value)
        about = segmentation_tables.describe(subject.about(of), spec, scored.data.layout)
        content = segmentation_tables.report(evaluation, about, bootstrap.RESAMPLES, args.seed)
        examples = segmentation_tables.examples(evaluation, EXAMPLES)
        shown = predictions.with_images(subject.data, scored.data, subject.maps, examples)
        cases, trainings = list(zip(examples.itertuples(), shown, strict=True)), subject.histories(HISTORY)
        run.wrote(*write_tables(subject.folder, evaluation, content))
        run.wrote(*draw(subject.folder, evaluation, content, trainings, cases))
        for fold, folder in subject.maps.items() if subject.is_whole else ():
            of_fold = evaluation.of_fold(fold)
            if len(of_fold.table):
                of_fold = segmentation_tables.report(of_fold, about, bootstrap.RESAMPLES, args.seed)
                run.wrote(files.write_json(folder / "metrics.json", of_fold))
    print(classification_tables.summary(subject.work, subject.folder, content))


def write_tables(folder: Path, evaluation: Segmentation, content: dict) -> list[Path]:
    """Write metrics.json and all CSV files."""
    from hemoct.base import tables
    from hemoct.segmentation import evaluate, tables as segmentation_tables

    by_name = {
        "segmentation_metrics": segmentation_tables.metrics_table(evaluation, content),
        "per_slice": segmentation_tables.per_slice(evaluation),
        "per_patient": evaluate.per_patient(evaluation),
        "volume_agreement": segmentation_tables.agreement(evaluation),
        "slice_pixels": evaluation.pixels.sort_values(["image_id", "fold"]),
    }
    if not content["patients_known"]:
        del by_name["per_patient"]
    written = [tables.write_csv(folder / f"{name}.csv", table) for name, table in by_name.items()]
    return [files.write_json(folder / "metrics.json", content), *written]


def draw(folder: Path, evaluation: Segmentation, content: dict, trainings: dict, cases: list) -> list[Path]:
    """Draw and save every figure that is not empty."""
    from hemoct.base import figure as base_figure
    from hemoct.evaluation import protocol
    from hemoct.segmentation import figures

    heading = "; ".join(filter(None, [protocol.headline(content)[0], content["labels_mean"]]))
    drawn = {
        "confusion_matrix": figures.confusion(content, heading),
        "dice_and_size": figures.dice_and_size(evaluation, heading),
        "volumes": figures.volumes(evaluation, heading),
        "threshold": figures.threshold(evaluation, heading),
        "training_curves": figures.training(trainings, heading),
        "examples": figures.examples(cases, heading),
    }
    return base_figure.save_all(drawn, folder)


if __name__ == "__main__":
    cli.exit_cleanly(main)
