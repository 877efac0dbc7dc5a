"""Train a network with one sigmoid output for each label, one model a fold, and predict the slices of its fold.

Labels that are unknown on an image are left out of its loss. Best epoch: the lowest validation loss. For labels that few images
show: --sampler balanced, --oversample SAH=3, --loss weighted-bce, focal or asymmetric, --augment-label SAH=strong.
--heads any,types trains one network with two heads: is there any bleeding, and of which types.

Reads   data/work/NAME/task4/working_set.csv                task4_multilabel/01_prepare_labels.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/                best.pt, model.json, last.pt,
                                                            history.csv (precision, recall and F1 of each label by epoch),
                                                            predictions.csv (val, test), train_predictions.csv
Next    python task4_multilabel/03_evaluate.py

On a laptop without a GPU or network: --weights none --image-size 128 --lr 1e-3
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from hemoct.base import cli, experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.multilabel import data as multilabel_data
from hemoct.multilabel import networks, train, working_set
from hemoct.training import augment, device, inference
from hemoct.training import fit as training_fit
from hemoct.training import networks as training_networks
from hemoct.training.batches import Stacks, Store

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if args.pos_weight != "auto" and args.loss != "weighted-bce":
        parser.error("--pos-weight goes with --loss weighted-bce")
    work = Workspace.of(args)
    experiment = work.task(4) / cli.experiment_name(parser, args, args.backbone, NAMED)
    folders = [experiment / f"fold{fold}" for fold in slices.folds(args)]
    inputs = [working_set.folder(work) / "working_set.csv", *(work.work / name for name in TABLES)]
    inputs += [Path(args.weights)] if args.weights not in training_networks.WORDS else []
    runs = {folder: Run(__file__, args, folder, inputs) for folder in folders}
    due = folders_due(runs, args.overwrite)
    if not due:
        return
    picked = device.pick(args.device, args.threads)
    choice = multilabel_data.Choice(args.labels, args.group, slices.ANY in networks.HEADS[args.heads], args.limit_patients)
    data = multilabel_data.load(work, multilabel_data.Input(args.image_size, args.channels, args.context), choice)
    train.stop_if_unfit(args, data.classes)
    args.mirror = augment.mirror_axis(args.mirror, data.layout)
    source = Stacks(Store(data.pixels, picked), torch.as_tensor(data.planes))
    for folder in due:
        print(f"{work.show(folder)}: {args.backbone}, {', '.join(data.classes)}, {args.protocol} protocol")
        with runs[folder] as run:
            run.note(device=str(picked))
            run.wrote(*train_fold(folder, args, run.record["inputs"], data, source))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("model")
    group.add_argument("--backbone", default="resnet18", help=f"any timm model, or {networks.SIMPLE}: two convolutions "
                       "and two linear layers")  # fmt: skip
    group.add_argument("--weights", default="imagenet", help="imagenet, none, or a file with a state_dict")
    group.add_argument("--heads", default="types", choices=networks.HEADS, help="any,types: a head for any bleeding too")
    group.add_argument("--attention", action="store_true", help="each label weighs the places of the feature map by itself")
    group.add_argument("--image-size", type=cli.positive_int, default=224, help="side in pixels")
    group.add_argument(
        "--channels", type=int, choices=(1, 3), default=1, help="1: grey; 3: red, green, blue, for three CT windows"
    )
    group.add_argument(
        "--context", type=int, choices=range(6), default=0, help="neighbouring slices on each side as further channels"
    )
    group.add_argument("--experiment", help="name of the folder; default: made of the flags that differ from their defaults")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    train.add_flags(parser)
    group = parser.add_argument_group("one view alone, for 04_cascade.py --view")
    group.add_argument("--labels", type=cli.names, metavar="A,B", help="labels of the working set; default: all")
    group.add_argument("--group", metavar="GROUP", help="images of one view, by the column group of labels.csv; default: all")
    slices.add_flags(parser)
    training_fit.add_flags(parser, epochs=20, batch_size=32, lr=3e-4, batch=cli.above_one, ema=0.0)
    parser.set_defaults(optimizer="adam", weight_decay=0.0)
    training_fit.add_device_flags(parser)
    return parser


# How a flag that differs from its default shows in the name of the experiment, in this order.
NAMED = {
    "weights": {"none": "scratch"}, "heads": {"any,types": "two-heads"}, "attention": {True: "attention"}, "image_size": "{}px",
    "labels": "{}", "group": "{}", "channels": "{}channels", "context": "context{}", "loss": "{}", "pos_weight": "weights-{}",
    "sampler": "{}", "oversample": "oversample-{}", "augment": "augment-{}", "augment_label": "augment-{}", "epochs": "{}ep",
    "batch_size": "batch{}", "lr": "lr{:g}", "optimizer": "{}", "weight_decay": "decay{:g}", "schedule": "{}",
    "warmup": "warmup{:g}", "patience": "patience{}", "ema": "ema{:g}", "precision": "{}", "seed": "seed{}",
    "limit_patients": "{}patients", "mirror": "{}", "protocol": "{}", "split": "{}",
}  # fmt: skip


def train_fold(
    folder: Path, args: argparse.Namespace, inputs: dict, data: multilabel_data.LabelledSlices, source: Stacks
) -> list[Path]:
    """Train one model and predict the slices of its fold; returns the files that were written."""
    fold = experiments.fold_of(folder)
    part = data.part_of(fold, args.protocol, args.split)
    rows = {name: np.flatnonzero(part == name) for name in tables.PARTS}
    if len(rows["train"]) < 2 or not len(rows["val"]):
        raise UserError(f"{folder.name}: too few images to train or validate with; use more patients")
    spec = train.spec_of(args, data, fold, rows["train"])
    torch.manual_seed(args.seed)
    model = networks.build(spec, args.weights)
    targets = torch.as_tensor(data.targets, device=source.device)
    criterion = train.training_loss(args, spec, targets[rows["train"]])
    draws = train.Draws(rows["train"], data.targets[rows["train"]], spec.classes, args)
    train.print_gaps(spec.classes, data.targets, rows)

    fit = training_fit.Fit(model, folder, args, inputs, -(-len(draws) // args.batch_size), source.device)
    spec.save(folder)
    augmentation = train.augmentation(fit, data.targets, spec.classes)
    for epoch in fit.epochs():
        order = draws.order(fit.generator)
        loss, shown, logits = training_fit.one_epoch(fit, spec, source, order, targets, criterion, augmentation)
        of_training = train.label_scores("train", spec.classes, logits, targets[shown], draws.weights(shown))
        numbers, of_validation = train.validate(fit, spec, source, rows["val"], targets, criterion)
        fit.log(epoch, of_training | of_validation, train_loss=loss, **numbers)
    print(f"  best epoch {fit.best_epoch}")

    training_networks.load_trained(model, folder, args.backbone)
    frame = inference.predict_slices(model, spec, data, source, part, np.arange(len(part)), 4 * args.batch_size)
    is_train = frame["part"] == "train"
    return [
        *(folder / name for name in ("best.pt", "model.json", "last.pt", "history.csv")),
        tables.write_csv(folder / "train_predictions.csv", frame[is_train]),
        tables.write_predictions(folder, frame[~is_train]),
    ]


if __name__ == "__main__":
    cli.exit_cleanly(main)
