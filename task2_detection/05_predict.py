"""Predict boxes on images: a table, and pictures with the annotation in green and the prediction in red.

In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema. --fuse joins the boxes of all fold models by weighted
box fusion: boxes of one class that overlap by more than IoU 0.55 become one; its confidence is their mean times the share of
models that found it, so that a box of 2 out of 5 models keeps 2/5. The threshold is the mean of those of the single models:
what few of them found seldom reaches it. Images on which a model was trained or validated give no honest result; they are
counted and marked (the honest boxes of the data set are those in predictions.csv of 04_evaluate.py).

Reads   outputs/NAME/task2/EXPERIMENT/foldK/{best.pt,model.json}    task2_detection/02_train.py
        outputs/NAME/task2/EXPERIMENT/metrics.json                  task2_detection/04_evaluate.py (for the threshold, if there)
        any PNG, JPEG, BMP or TIFF images; of those that lie in data/raw/NAME also annotation and patient
Writes  outputs/NAME/task2/EXPERIMENT/predicted/ (or --out DIR)     overlays/PATIENT/IMAGE.png, patients/PATIENT.png,
            predicted.csv: image, class, confidence, xmin, ymin, xmax, ymax (pixels); an image without a box has one empty row
        with --on OTHER: .../EXPERIMENT/on-OTHER/predictions.csv    every box on the labelled images of another data set
Next    look at the pictures; they are no diagnosis. After --on: python task2_detection/04_evaluate.py --on OTHER

    python task2_detection/05_predict.py slices/ one_more.png --experiment yolov8n --fuse
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hemoct.base import cli, tables
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import images, named_images
from hemoct.detection import fusion, networks, predict
from hemoct.detection.drawing import BoxDrawing
from hemoct.evaluation import external, sheets, thresholds
from hemoct.training import device, fit

TABLES = ("labels.csv", "boxes.csv", "dataset.json")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="image files, or folders that are searched with all below them")
    parser.add_argument("--experiment", required=True, help="which models; see outputs/NAME/task2")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fuse", action="store_true", help="join the boxes of all fold models")
    which.add_argument("--fold", type=cli.whole_number, metavar="K", help="the model of one fold")
    which.add_argument("--on", metavar="OTHER", help="instead of images: all labelled images of another data set, fused")
    parser.add_argument("--threshold", type=cli.share, metavar="X", help="least confidence; default: as 04_evaluate.py chose it")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where table and pictures go")
    parser.add_argument("--no-overlays", action="store_true", help="the table alone")
    parser.add_argument("--batch-size", type=cli.positive_int, default=16)
    fit.add_device_flags(parser)
    args = cli.parse(parser, argv, __file__)
    if bool(args.images) == bool(args.on):
        parser.error("name images or folders, or another data set with --on")
    if args.on and (args.out or args.no_overlays or args.threshold is not None):
        parser.error("--on writes every box to a table: --out, --no-overlays and --threshold do not go with it")

    work = Workspace.of(args)
    folders = predict.models(work, args.experiment, args.fold, args.fuse or bool(args.on))
    if args.on:
        predict_other(work, external.other(work, args.on), folders, args)
    else:
        predict_images(work, folders, args)


def predict_images(work: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """Table and pictures of images from anywhere."""
    experiment = work.task(2) / args.experiment
    out = args.out or experiment / "predicted"
    named_images.stop_if_taken(out, args.images, Path(__file__).stem, predict.OUTPUTS)
    paths = list(dict.fromkeys(images.find(args.images)))
    tables_of_data = [work.work / name for name in (*TABLES, "splits.csv")]
    run = Run(__file__, args, out, [*sources(folders), experiment / "metrics.json", *tables_of_data, *args.images])
    if run.up_to_date():
        return
    with run:
        specs = fusion.read_specs(folders)
        known = predict.look_up(work, paths, specs)
        threshold, chosen = thresholds.threshold(2, experiment, folders, args.threshold, predict.THRESHOLD)
        picked = device.pick(args.device, args.threads)
        run.note(device=str(picked), threshold=threshold, seen_in_training=int(known.seen.sum()))
        found = fusion.detect(known.paths, folders, args.batch_size, picked)
        found = predict.counted(found, threshold)
        table = networks.as_rows(known.table[["image"]], found, specs[0].classes)
        run.wrote(*sheets.replace(out, known, None if args.no_overlays else BoxDrawing(known, found)))
        run.wrote(tables.write_csv(out / "predicted.csv", table))
    positive = sum(len(boxes) > 0 for boxes in found)
    print(f"{work.show(out)}: {len(paths)} images, {len(folders)} model(s), confidence from {threshold:.3g} up ({chosen})")
    print(f"  {positive} with a box, {table['confidence'].count()} boxes")
    if known.seen.any():
        print(f"  mind: {known.seen.sum()} of the {len(paths)} images were {sheets.SEEN}")


def predict_other(work: Workspace, other: Workspace, folders: list[Path], args: argparse.Namespace) -> None:
    """Every box on the labelled images of another data set, in the form of predictions.csv, for 04_evaluate.py --on."""
    out = work.task(2) / args.experiment / f"on-{other.dataset}"
    run = Run(__file__, args, out, [*sources(folders), other.raw, *(other.work / name for name in TABLES)])
    if run.up_to_date():
        return
    with run:
        specs = fusion.read_specs(folders)
        data = predict.labelled(other, specs[0].classes)
        picked = device.pick(args.device, args.threads)
        run.note(device=str(picked))
        found = fusion.detect([other.raw / name for name in data.table["image"]], folders, args.batch_size, picked)
        about = data.table[["image_id", "patient"]].assign(fold=0, part="test")
        run.wrote(tables.write_predictions(out, networks.as_rows(about, found, specs[0].classes)))
    print(f"{work.show(out)}: {len(about)} images of {other.dataset}, {len(folders)} model(s)")


def sources(folders: list[Path]) -> list[Path]:
    return [folder / name for folder in folders for name in ("best.pt", "model.json")]


if __name__ == "__main__":
    cli.exit_cleanly(main)
