"""Train a classifier that tells slices with hemorrhage from slices without, one model a fold.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/                best.pt, model.json, last.pt, history.csv
        (EXPERIMENT is named by the flags that differ from their defaults; --refit writes to EXPERIMENT/refit/)
Next    python task1_classification/02_evaluate.py

On a laptop without a GPU or network: --weights none --image-size 128 --epochs 8 --lr 1e-3
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hemoct import cli, device, images, models, slice_data, tables, train, transforms
from hemoct.batches import Store


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if args.batch_size < 2:
        parser.error("--batch-size 1 leaves batch normalisation nothing to average; 2 is the least")
    work = cli.workspace(args)
    experiment = work.task(1) / cli.experiment_name(parser, args, args.backbone, NAMED)
    folders = [experiment / "refit"] if args.refit else [experiment / f"fold{fold}" for fold in slice_data.folds(args)]
    inputs = [work.work / name for name in ("labels.csv", "dataset.json", "splits.csv")]
    inputs += [Path(args.weights)] if args.weights not in ("none", "imagenet") else []
    inputs += sorted(experiment.glob("fold*/history.csv")) if args.refit else []
    runs = {folder: cli.Run(__file__, args, folder, inputs) for folder in folders}
    due = [folder for folder in folders if not runs[folder].up_to_date()]
    if not due:
        return
    if not args.overwrite:
        for folder in due:
            runs[folder].stop_if_other("give another --experiment NAME, or --overwrite to replace it")

    if args.threads:
        torch.set_num_threads(args.threads)
    chosen = device.pick(args.device)
    data = slice_data.load(work, args.image_size, args.label, args.limit_patients)
    args.mirror = transforms.mirror_axis(args.mirror, data.layout)
    store = Store(data.pixels, chosen)
    for folder in due:
        print(f"{work.show(folder)}: {args.backbone}, {', '.join(data.classes)}, {args.protocol} protocol")
        with runs[folder] as run:
            run.note(device=str(chosen))
            run.wrote(*train_fold(folder, args, run.record["inputs"], data, store))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("model")
    group.add_argument("--backbone", default="resnet18", help="any timm model: resnet50, efficientnet_b0, vgg16_bn, densenet121, "
                       "inception_v3, swin_tiny_patch4_window7_224 ...")  # fmt: skip
    group.add_argument("--weights", default="imagenet", help="imagenet, none, or a file with a state_dict")
    group.add_argument("--transfer", default="finetune", choices=("finetune", "partial", "frozen"),
                       help="what is trained: all layers, the upper half of the stages, the head")  # fmt: skip
    group.add_argument("--image-size", type=cli.positive_int, default=224, help="side in pixels")
    group.add_argument("--label", help="which of several labels; default: any of them, or all exclusive classes")
    group.add_argument("--augment", default="none", choices=transforms.STRENGTHS, help="on training slices only")
    group.add_argument("--mirror", default="auto", choices=("auto", "horizontal", "vertical"),
                       help="axis along which the patient's left and right lie; auto: vertical in PHE-SICH-CT-IDS")  # fmt: skip
    group.add_argument("--balance", default="none", choices=("none", "weights", "sampler"), 
                       help="weigh the loss, or draw classes evenly")  # fmt: skip
    group.add_argument("--experiment", help="name of the folder; default: made of the flags that differ from their defaults")
    group.add_argument("--refit", action="store_true", help="one model from all patients, for the mean best epoch of the folds")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    slice_data.add_flags(parser)
    train.add_flags(parser, epochs=20, batch_size=32, lr=3e-4)
    train.add_device_flags(parser)
    return parser


# How a flag that differs from its default shows in the name of the experiment, in this order.
NAMED = {
    "weights": {"none": "scratch"}, "transfer": "{}", "image_size": "{}px", "label": "{}", "balance": "balance-{}",
    "epochs": "{}ep", "batch_size": "batch{}", "lr": "lr{:g}", "optimizer": "{}", "weight_decay": "decay{:g}", "schedule": "{}",
    "warmup": "warmup{:g}", "patience": "patience{}", "seed": "seed{}", "limit_patients": "{}patients",
    "augment": {"affine": "augment", "light": "augment-light", "rotate": "augment-rotate"}, "mirror": "{}",
    "protocol": "{}", "split": "{}",
}  # fmt: skip


def train_fold(folder: Path, args: argparse.Namespace, inputs: dict, data: slice_data.SliceData, store: Store) -> list[Path]:
    """Train one model; returns the files that were written. By `inputs`, hashes of the tables, --resume knows its data again."""
    fold = None if args.refit else int(folder.name.removeprefix("fold"))
    part = np.full(len(data.table), "train") if fold is None else data.part_of(fold, args.protocol, args.split)
    rows = {name: np.flatnonzero(part == name) for name in tables.PARTS}
    if len(rows["train"]) < 2 or (fold is not None and not len(rows["val"])):
        raise cli.UserError(f"{folder.name}: too few slices to train or validate with; use more patients")
    if args.refit:
        args.epochs = train.epochs_of_folds(folder.parent)

    mean, std = images.grey_statistics(data.pixels, rows["train"])
    mean, std = models.normalisation(args.backbone, args.weights, mean, std)
    spec = models.ClassifierSpec(
        args.backbone, data.classes, data.exclusive, args.image_size, mean, std,
        args.protocol, args.split, fold, data.splits_sha256, args.label,
    )  # fmt: skip
    models.stop_if_trained_elsewhere(args.weights, spec, task=1)
    torch.manual_seed(args.seed)
    model = models.build(spec, args.weights)
    models.freeze(model, args.transfer)
    targets = torch.as_tensor(data.targets, device=store.device)
    loss_of = loss_function(targets[rows["train"]], spec.exclusive, args.balance == "weights")

    steps = -(-len(rows["train"]) // args.batch_size)
    fit = train.Fit(model, folder, args, inputs, steps, store.device)
    models.save_spec(folder, spec)
    for epoch in fit.epochs():
        numbers = {"train_loss": train.one_epoch(fit, spec, store, rows["train"], targets, loss_of)}
        if len(rows["val"]):
            numbers |= train.validate(fit, spec, store, rows["val"], targets, loss_of)
        fit.log(epoch, **numbers)
    print(f"  best epoch {fit.best_epoch}")
    return [folder / name for name in ("best.pt", "model.json", "last.pt", "history.csv")]


def loss_function(truth: torch.Tensor, exclusive: bool, weigh: bool):
    """Cross-entropy for exclusive classes, binary cross-entropy else; `weigh` counts each class alike."""
    positives, n = truth.sum(dim=0).clamp(min=1), len(truth)
    if exclusive:
        weight = n / (truth.shape[1] * positives) if weigh else None
        return lambda found, target: F.cross_entropy(found, target, weight=weight)
    weight = (n - positives).clamp(min=1) / positives if weigh else None
    return lambda found, target: F.binary_cross_entropy_with_logits(found, target, pos_weight=weight)


if __name__ == "__main__":
    cli.exit_cleanly(main)
