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

from hemoct.base import cli, experiments, files, tables
from hemoct.base import figure as base_figure
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import tables as classification_tables
from hemoct.evaluation import bootstrap, external
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation import evaluate as segmentation_evaluate
from hemoct.segmentation import figures, predictions
from hemoct.segmentation import tables as segmentation_tables
from hemoct.segmentation.evaluate import Segmentation
from hemoct.training import histories

TABLES = ("labels.csv", "dataset.json", "splits.csv")
OF_FOLD = (*predictions.NEEDED, "history.csv")
HISTORY = ("epoch", "train_loss", "val_dice")
EXAMPLES = 2  # slices of each kind: best, median, worst


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    evaluation_predictions.add_flags(parser)
    parser.add_argument("--mask-value", type=cli.whole_number, metavar="V",
                        help="with --on: the lesion in that data set's masks of several values")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    if args.mask_value is not None and not args.on:
        parser.error("--mask-value goes with --on; model.json says it of the data of the training")
    work = Workspace.of(args)
    for experiment in args.experiment or (external.predicted(work, 3, args.on) if args.on else experiments.trained(work, 3)):
        evaluate(work, experiment, args)


def evaluate(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    folders = evaluation_predictions.fold_folders(work, 3, experiment)
    evaluated, folder = external.place(work, 3, experiment, args)
    inputs = [fold / name for fold in folders for name in OF_FOLD] + [work.work / name for name in TABLES]
    inputs.append(evaluated.raw)  # a mask that was mended changes no table
    if args.on:
        models = predictions.model_folders(work, experiment, None)
        maps = external.folder(work, 3, experiment, args.on)
        inputs += [external.predictions_csv(work, 3, experiment, args.on, models), maps / "probability"]
        inputs += [work.task(3) / experiment / "metrics.json", *(evaluated.work / name for name in TABLES[:2])]
    run = Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    with run:
        spec = predictions.shared_spec(work, folders)
        if args.on:
            data, protocol = segmentation_data.load(evaluated, args.mask_value, args.limit_patients, split=False), "external"
            frame, places = predictions.read_external(work, experiment, evaluated, data, models), {"mean": maps}
            rule = segmentation_evaluate.frozen(work, experiment, models)
            evaluation = segmentation_evaluate.evaluate_external(evaluated, maps, frame, data, rule)
        else:
            data = segmentation_data.load(work, spec.get("mask_value"), args.limit_patients)
            frame, protocol = predictions.read(work, experiment, data)
            evaluation = segmentation_evaluate.evaluate(work, experiment, frame, data)
            places = {experiments.fold_of(fold): fold for fold in folders}
        about = evaluation_protocol.describe(work, 3, experiment, evaluated, protocol, folders)
        about = segmentation_tables.describe(about, spec, data.layout)
        content = segmentation_tables.report(evaluation, about, bootstrap.RESAMPLES, args.seed)
        examples = segmentation_tables.examples(evaluation, EXAMPLES)
        cases = list(zip(examples.itertuples(), predictions.with_images(evaluated, data, places, examples), strict=True))
        trainings = {} if args.on else histories.read_histories(folders, HISTORY)
        run.wrote(*write_tables(folder, evaluation, content), *draw(folder, evaluation, content, trainings, cases))
        for fold in folders if folder == folders[0].parent else []:
            of_fold = evaluation.of_fold(experiments.fold_of(fold))
            if len(of_fold.table):
                of_fold = segmentation_tables.report(of_fold, about, bootstrap.RESAMPLES, args.seed)
                run.wrote(files.write_json(fold / "metrics.json", of_fold))
    print(classification_tables.summary(work, folder, content))


def write_tables(folder: Path, evaluation: Segmentation, content: dict) -> list[Path]:
    """Write metrics.json and all CSV files."""
    by_name = {
        "segmentation_metrics": segmentation_tables.metrics_table(evaluation, content),
        "per_slice": segmentation_tables.per_slice(evaluation),
        "per_patient": segmentation_tables.per_patient(evaluation),
        "volume_agreement": segmentation_tables.agreement(evaluation),
        "slice_pixels": evaluation.pixels.sort_values(["image_id", "fold"]),
    }
    written = [tables.write_csv(folder / f"{name}.csv", table) for name, table in by_name.items()]
    return [files.write_json(folder / "metrics.json", content), *written]


def draw(folder: Path, evaluation: Segmentation, content: dict, trainings: dict, cases: list) -> list[Path]:
    """Draw and save every figure that is not empty."""
    heading = "; ".join(filter(None, [evaluation_protocol.headline(content)[0], content["labels_mean"]]))
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
