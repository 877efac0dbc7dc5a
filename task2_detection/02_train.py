"""Train a detector that draws a box around each lesion, one model a fold, and predict the slices of its fold.

In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema. Best epoch: mAP50:95 on validation.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        data/work/NAME/yolo_dataset/ (Ultralytics' models)          task2_detection/01_make_yolo_dataset.py
Writes  outputs/NAME/task2/EXPERIMENT/foldK/                        best.pt, model.json, history.csv, last.pt or ultralytics/,
                                                                    predictions.csv (val, test), train_predictions.csv
Next    python task2_detection/03_training_curves.py

On a laptop without a GPU or network: --weights none --image-size 256 --epochs 30 --batch-size 16 --negatives 1 --fold 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.data import images, slices
from hemoct.detection import data as detection_data
from hemoct.detection import networks
from hemoct.training import augment, device, fit
from hemoct.training import networks as training_networks

AUGMENTATIONS = ("none", "ct", "ct-mosaic", "ultralytics")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    experiment = work.task(2) / cli.experiment_name(parser, args, args.model, NAMED)
    folders = [experiment / f"fold{fold}" for fold in slices.folds(args)]
    inputs = [work.work / name for name in ("labels.csv", "boxes.csv", "dataset.json", "splits.csv")]
    inputs += [Path(args.weights)] if args.weights not in ("none", "coco") else []
    runs = {folder: Run(__file__, args, folder, inputs) for folder in folders}
    due = folders_due(runs, args.overwrite)
    if not due:
        return
    family = networks.family(args.model)
    family.stop_if_unfit(args)
    chosen = device.pick(args.device, args.threads)
    data = detection_data.load(work, args.limit_patients)
    args.mirror = augment.mirror_axis(args.mirror, data.layout)
    args.lr = args.lr or family.LR
    for folder in due:
        print(f"{work.show(folder)}: {args.model}, {', '.join(data.classes)}, {args.protocol} protocol")
        with runs[folder] as run:
            run.note(device=str(chosen))
            run.wrote(*train_fold(folder, args, run.record["inputs"], work, data, chosen))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="yolov8n", help="any detector of Ultralytics (yolov8n, yolo11n ...), or torchvision's "
                       "fasterrcnn_resnet50_fpn, fasterrcnn_mobilenet_v3_large_fpn, retinanet_resnet50_fpn")  # fmt: skip
    group.add_argument("--weights", default="coco", help="coco, none (from scratch), or a file")
    group.add_argument("--image-size", type=cli.positive_int, default=512, help="side in pixels; YOLO: a multiple of 32")
    group.add_argument("--augment", default="ct", choices=AUGMENTATIONS, help="on training slices only")
    group.add_argument("--mirror", default="auto", choices=("auto", "horizontal", "vertical"),
                       help="axis along which the patient's left and right lie; auto: vertical in PHE-SICH-CT-IDS")  # fmt: skip
    group.add_argument("--negatives", type=negatives, default="all", metavar="all|RATIO",
                       help="training slices without a box: all, or RATIO for each slice with one")  # fmt: skip
    group.add_argument("--experiment", help="name of the folder; default: made of the flags that differ from their defaults")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    slices.add_flags(parser)
    fit.add_flags(parser, epochs=88, batch_size=4, lr=None)
    fit.add_device_flags(parser)
    return parser


def negatives(text: str) -> str | float:
    return text if text == "all" else cli.number_from_0(text)


# How a flag that differs from its default shows in the name of the experiment, in this order.
NAMED = {
    "weights": {"none": "scratch"}, "image_size": "{}px", "epochs": "{}ep", "batch_size": "batch{}", "lr": "lr{:g}",
    "optimizer": "{}", "weight_decay": "decay{:g}", "schedule": "{}", "warmup": "warmup{:g}", "patience": "patience{}",
    "seed": "seed{}", "limit_patients": "{}patients", "negatives": "negatives{}", "augment": "augment-{}", "mirror": "{}",
    "protocol": "{}", "split": "{}",
}  # fmt: skip


def train_fold(folder: Path, args: argparse.Namespace, inputs: dict, work: Workspace, data: detection_data.BoxData,
               chosen: torch.device) -> list[Path]:  # fmt: skip
    """Train one model and predict its fold; returns the files that were written."""
    number = experiments.fold_of(folder)
    part = data.part_of(number, args.protocol, args.split)
    rows = {name: np.flatnonzero(part == name) for name in ("train", "val")}
    positive = data.positive
    for name, of_part in rows.items():
        if not positive[of_part].any():
            raise UserError(f"{folder.name}: no slice of {name} has a box; use more patients, or another --split")
    ratio = None if args.negatives == "all" else args.negatives
    rows["train"] = rows["train"][detection_data.choose_negatives(positive[rows["train"]], ratio, args.seed + number)]

    mean, std = images.grey_statistics(images.cached(work, data.table, args.image_size), rows["train"])
    spec = networks.DetectorSpec(
        image_size=args.image_size, mean=mean, std=std, protocol=args.protocol, split=args.split, fold=number,
        splits_sha256=data.splits_sha256, model=args.model, classes=data.classes,
        group_norm=networks.family(args.model).group_norm(args.weights),
    )  # fmt: skip
    training_networks.stop_if_trained_elsewhere(args.weights, spec)
    spec.family.train(networks.Fold(folder, data, rows, spec, inputs), args, work, chosen)
    spec.save(folder)
    written = networks.predict_fold(work, folder, data, 4 * args.batch_size, chosen)
    return [*(folder / name for name in ("best.pt", "model.json", "history.csv")), *written]


if __name__ == "__main__":
    cli.exit_cleanly(main)
