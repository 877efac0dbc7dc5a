"""Predict boxes on images: a table, and pictures with the annotation in green and the prediction in red.

In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema. --fuse joins the boxes of all fold models by weighted
box fusion: boxes of one class that overlap by more than IoU 0.55 become one; its confidence is their mean times the share of
models that have it, so that a box of 2 out of 5 models keeps 2/5. The threshold is the mean of those of the single models: a
box of few models seldom reaches it. Images with which a model was trained or validated give no honest result; they are counted
and marked (the honest boxes of the data set are those in predictions.csv of 04_evaluate.py).

HU of DICOM files and NIfTI volumes are shown in the window of the training data.

Reads   outputs/NAME/task2/EXPERIMENT/foldK/{best.pt,model.json}    task2_detection/02_train.py
        outputs/NAME/task2/EXPERIMENT/metrics.json                  task2_detection/04_evaluate.py (for the threshold, if there)
        any images, DICOM files or NIfTI volumes; of those that lie in data/raw/NAME also annotation and patient
Writes  outputs/NAME/task2/EXPERIMENT/predicted/ (or --out DIR)     overlays/PATIENT/IMAGE.png, patients/PATIENT.png,
            predicted.csv: image, class, confidence, xmin, ymin, xmax, ymax (pixels); an image without a box has one empty row
        with --on OTHER: .../EXPERIMENT/on-OTHER/predictions.csv    every box on the labelled images of another data set
Next    look at the pictures; they are no diagnosis. After --on: python task2_detection/04_evaluate.py --on OTHER

    python task2_detection/05_predict.py slices/ one_more.png --experiment yolov8n --fuse
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.prepare.options import View
from hemoct.training.options import Hardware

if TYPE_CHECKING:
    from hemoct.detection.data import BoxData

TABLES = ("labels.csv", "images.csv", "boxes.csv", "dataset.json")


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image, DICOM or NIfTI files, or folders, searched with all in them")
    parser.add_argument("--experiment", required=True, help="the trained models; see outputs/NAME/task2")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fuse", action="store_true", help="join the boxes of all fold models (weighted box fusion)")
    which.add_argument("--fold", type=cli.whole_number, metavar="K", help="use the model of one fold")
    which.add_argument("--on", metavar="OTHER", help="instead of images: all labelled images of another data set, fused")
    parser.add_argument(
        "--threshold", type=cli.share, metavar="X", help="lowest confidence of a box; default: chosen by 04_evaluate.py"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the table and the pictures")
    parser.add_argument("--no-overlays", action="store_true", help="write the table only")
    parser.add_argument("--batch-size", type=cli.positive_int, default=16, help="images in a batch")
    options.add(parser, View, "how the images lie")
    options.add(parser, Hardware, "device")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if bool(args.images) == bool(args.on):
        parser.error("name images or folders, or another data set with --on")
    if args.on and (args.out or args.no_overlays or args.threshold is not None):
        parser.error("--on writes every box to a table: --out, --no-overlays and --threshold do not go with it")

    # what computes is not imported at the top: --help shall be quick, and refusals shall not wait for torch
    from hemoct.detection import predict

    work = Workspace.of(args)
    folders = predict.models(work, args.experiment, args.fold, args.fuse or bool(args.on))
    if args.on:
        predict_other(work, folders, args)
    else:
        predict_images(work, folders, args)


def predict_images(work: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """Table and pictures of images from anywhere."""
    from hemoct.base import tables
    from hemoct.data import fusion, named_images, named_slices, prepared
    from hemoct.detection import predict, predictions
    from hemoct.evaluation import sheets, thresholds

    experiment = work.task(2) / args.experiment
    out = args.out or experiment / "predicted"
    named_images.stop_if_taken(out, args.images, Path(__file__).stem, predict.OUTPUTS)
    found = named_slices.find(args.images)
    tables_of_data = [work.work / name for name in (*TABLES, "splits.csv")]
    models = experiments.model_files(folders)
    run = Run(__file__, args, out, [*models, experiment / "metrics.json", *tables_of_data, *args.images])
    if run.up_to_date():
        return
    run.say_if_replacing()
    from hemoct.training import device

    specs = predictions.DetectorSpec.read_all(folders, ("classes",))
    shown = prepared.for_models(work, specs[0], options.read(args, View))
    how = named_slices.Reading(1, specs[0].window or named_slices.BY_CHANNELS[1], None, shown)
    with run, named_slices.as_images(found, how) as sources:
        files = predict.look_up(work, sources.paths, specs, sources)
        threshold, why = thresholds.threshold(2, experiment, folders, args.threshold, predict.THRESHOLD)
        where = device.pick(args.device, args.threads)
        run.note(device=str(where), threshold=threshold, seen_in_training=int(files.seen.sum()))
        by_model = predict.detect(files.paths, folders, args.batch_size, where, shown.look_at(files.paths).image)
        predicted = fusion.at_threshold(predict.fused(by_model, files.paths), threshold)
        table = predictions.as_rows(files.table[["image"]], predicted, specs[0].classes)
        run.wrote(*sheets.replace(out, files, None if args.no_overlays else predict.BoxDrawing(files, predicted)))
        run.wrote(tables.write_csv(out / "predicted.csv", table))
    positive = sum(len(boxes) > 0 for boxes in predicted)
    print(f"{work.show(out)}: {len(predicted)} images, {len(folders)} model(s), confidence from {threshold:.3g} up ({why})")
    print(f"  {positive} with a box, {table['confidence'].count()} boxes")
    if files.seen.any():
        print(f"  mind: {files.seen.sum()} of the {len(predicted)} images were {sheets.SEEN}")


def predict_other(work: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """Every box on the labelled images of another data set, in the form of predictions.csv, for 04_evaluate.py --on."""
    from hemoct.base import tables
    from hemoct.data import contents, prepared
    from hemoct.detection import predict, predictions
    from hemoct.evaluation import external

    other = external.other(work, args.on)
    out = external.folder(work, 2, args.experiment, other.dataset)
    run = Run(__file__, args, out, [*experiments.model_files(folders), *(other.work / name for name in TABLES)])
    if run.up_to_date():
        return
    from hemoct.training import device

    with run:
        specs = predictions.DetectorSpec.read_all(folders, ("classes",))
        data = labelled_slices(other, specs[0].classes)
        where = device.pick(args.device, args.threads)
        run.note(device=str(where))
        contents.checked(other, data.table["image"])
        paths = [other.raw / name for name in data.table["image"]]
        shown = prepared.for_other(work, specs[0], other, options.read(args, View))
        predicted = predict.fused(predict.detect(paths, folders, args.batch_size, where, shown.image), paths)
        about = data.table[["image_id", "patient"]].assign(fold=0, part="test")
        run.wrote(tables.write_predictions(out, predictions.as_rows(about, predicted, specs[0].classes)))
    print(f"{work.show(out)}: {len(about)} images of {other.dataset}, {len(folders)} model(s)")
    cli.say_next(work, experiments.evaluate_step(2), "--experiment", args.experiment, "--on", other.dataset)


def labelled_slices(other: Workspace, classes: list[str]) -> BoxData:
    """The labelled slices of another data set; stops when its boxes are of other classes than those of the models."""
    from hemoct.base import tables
    from hemoct.detection import data

    theirs = tables.read_dataset(other).classes
    if sorted(theirs) != sorted(classes):
        raise UserError(
            f"{other.show(other.work / 'dataset.json')}: its boxes are of class {', '.join(theirs) or '(none)'}, the models know "
            f"{', '.join(classes)}; give the classes of its annotations the same names and run: "
            f"python scripts/03_make_labels.py --dataset {other.dataset}"
        )
    return data.load(other, split=False)


if __name__ == "__main__":
    cli.exit_cleanly(main)
