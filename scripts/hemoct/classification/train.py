"""Training of a classifier, of whole slices or of regions of them: its flags, one fold, the loss."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import cli, tables
from hemoct.base.errors import UserError
from hemoct.data import images, slices
from hemoct.training import augment, networks, weights
from hemoct.training import fit as training_fit
from hemoct.training.batches import Store, draw


def add_flags(parser: argparse.ArgumentParser, image_size: int) -> argparse._ArgumentGroup:
    """The flags that say what is trained; returns their group, for a step's own. Those of hemoct.training.fit say how."""
    group = parser.add_argument_group("model")
    group.add_argument("--backbone", default="resnet18", help="any timm model: resnet50, efficientnet_b0, vgg16_bn, densenet121, "
                       "inception_v3, swin_tiny_patch4_window7_224 ...")  # fmt: skip
    group.add_argument("--weights", default="imagenet", help="imagenet, none, or a file with a state_dict")
    group.add_argument("--transfer", default="finetune", choices=("finetune", "partial", "frozen"),
                       help="what is trained: all layers, the upper half of the stages, the head")  # fmt: skip
    group.add_argument("--image-size", type=cli.positive_int, default=image_size, help="side in pixels")
    group.add_argument("--label", help="which of several labels; default: any of them, or all exclusive classes")
    group.add_argument("--augment", default="none", choices=augment.STRENGTHS, help="on training slices only")
    group.add_argument("--mirror", default="auto", choices=("auto", "horizontal", "vertical"),
                       help="axis along which the patient's left and right lie; auto: vertical in PHE-SICH-CT-IDS")  # fmt: skip
    group.add_argument("--balance", default="none", choices=("none", "weights", "sampler"), 
                       help="weigh the loss, or draw classes evenly")  # fmt: skip
    return group


def train_fold(
    folder: Path,
    args: argparse.Namespace,
    inputs: dict[str, Any],
    data: slices.SliceData,
    store: Store,
    region: dict[str, Any] | None = None,
) -> list[Path]:
    """Train the model of the fold that `folder` is named after; any other name: of all slices, for the folds' mean best epoch.

    By `inputs`, hashes of the tables, --resume knows its data again. `region`: see models.ClassifierSpec. Returns the files
    that were written.
    """
    fold = int(folder.name.removeprefix("fold")) if folder.name.startswith("fold") else None
    part = np.full(len(data.table), "train") if fold is None else data.part_of(fold, args.protocol, args.split)
    rows = {name: np.flatnonzero(part == name) for name in tables.PARTS}
    if len(rows["train"]) < 2 or (fold is not None and not len(rows["val"])):
        raise UserError(f"{folder.name}: too few slices to train or validate with; use more patients")
    if fold is None:
        args.epochs = training_fit.epochs_of_folds(folder.parent)

    mean, std = images.grey_statistics(data.pixels, rows["train"])
    mean, std = networks.normalisation(args.backbone, args.weights, mean, std)
    spec = networks.ClassifierSpec(
        image_size=args.image_size, mean=mean, std=std, protocol=args.protocol, split=args.split, fold=fold,
        splits_sha256=data.splits_sha256, backbone=args.backbone, classes=data.classes, exclusive=data.exclusive,
        label=args.label, region=region, initial_weights=weights.origin(args.weights, args.backbone),
    )  # fmt: skip
    networks.stop_if_trained_elsewhere(args.weights, spec)
    torch.manual_seed(args.seed)
    model = networks.build(spec, args.weights)
    networks.freeze(model, args.transfer)
    targets = torch.as_tensor(data.targets, device=store.device)
    loss_of = loss_function(targets[rows["train"]], spec.exclusive, args.balance == "weights")

    steps = -(-len(rows["train"]) // args.batch_size)
    fit = training_fit.Fit(model, folder, args, inputs, steps, store.device)
    spec.save(folder)
    learned, change = torch.as_tensor(rows["train"]), training_fit.augmentation(fit, augment.STRENGTHS[args.augment])
    for epoch in fit.epochs():
        order = learned[draw(targets[learned], args.balance, fit.generator)]
        numbers = {"train_loss": training_fit.one_epoch(fit, spec, store, order, targets, loss_of, change)[0]}
        if len(rows["val"]):
            numbers |= training_fit.validate(fit, spec, store, rows["val"], targets, loss_of)
        fit.log(epoch, **numbers)
    print(f"  best epoch {fit.best_epoch}")
    return [folder / name for name in ("best.pt", "model.json", "last.pt", "history.csv")]


def loss_function(truth: torch.Tensor, exclusive: bool, weigh: bool) -> training_fit.LossFunction:
    """Cross-entropy for exclusive classes, binary cross-entropy else; `weigh` counts each class alike."""
    positives, n = truth.sum(dim=0).clamp(min=1), len(truth)
    if exclusive:
        weight = n / (truth.shape[1] * positives) if weigh else None
        return lambda found, target: F.cross_entropy(found, target, weight=weight)
    weight = (n - positives).clamp(min=1) / positives if weigh else None
    return lambda found, target: F.binary_cross_entropy_with_logits(found, target, pos_weight=weight)
