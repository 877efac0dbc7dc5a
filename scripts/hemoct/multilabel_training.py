"""Training of a multi-label network: what is drawn and how often, how strongly it is augmented, how each label fares by epoch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from hemoct import cli, inference, meaning, multilabel_losses, train, transforms
from hemoct.batches import Stacks
from hemoct.cli import UserError
from hemoct.multilabel_losses import LossFunction
from hemoct.multilabel_models import ANY, MultiLabelSpec

SAMPLERS = ("none", "balanced")
HALF = 0.0  # the logit of a probability of 0.5


def by_label(kind: Callable[[str], object], words: str) -> Callable[[str], dict[str, object]]:
    """A type for argparse: `SAH=3,IVH=2` as a dictionary. `words` says what stands behind the `=`."""

    def parsed(text: str) -> dict[str, object]:
        pairs = [part.rpartition("=") for part in text.split(",")]
        try:
            found = {name.strip(): kind(value.strip()) for name, _, value in pairs}
        except (ValueError, KeyError):
            found = {}
        if not all(found) or len(found) < len(pairs):
            raise argparse.ArgumentTypeError(f"{text!r} is not LABEL={words}[,LABEL={words}], each label once")
        return found

    return parsed


def stop_if_unknown(classes: list[str], flag: str, named: dict[str, object]) -> None:
    absent = [name for name in named if name not in classes]
    if absent:
        raise UserError(f"{flag} {absent[0]}: the working set has no such label; it has {', '.join(classes)}")


# ---- the loss


def loss_of(args: argparse.Namespace, spec: MultiLabelSpec, truth: torch.Tensor) -> LossFunction:
    """The loss of --loss, weighed by the training truths (n, labels). A head for `any` adds a loss of its own, counted alike."""
    weights = pos_weights(args.pos_weight, spec.classes, truth) if args.loss == "weighted-bce" else None
    if ANY not in spec.heads:
        return multilabel_losses.loss_function(args.loss, weights)
    parts = [slice(0, 1), slice(1, None)]
    losses = [multilabel_losses.loss_function(args.loss, None if weights is None else weights[part]) for part in parts]
    return lambda found, target: sum(one(found[:, part], target[:, part]) for one, part in zip(losses, parts, strict=True))


def weights(text: str) -> str | list[float]:
    """A type for argparse: `auto`, or numbers above 0 separated by commas."""
    return text if text == "auto" else [cli.positive_float(word) for word in text.split(",")]


def pos_weights(wanted: str | list[float], classes: list[str], truth: torch.Tensor) -> torch.Tensor:
    """`auto`: negatives over positives of each label in training; else the numbers given, one a label: (labels,)."""
    if wanted == "auto":
        return multilabel_losses.balancing_weights(truth)
    if len(wanted) != len(classes):
        raise UserError(f"--pos-weight has {len(wanted)} number(s) where {', '.join(classes)} need one each; correct it")
    return torch.tensor(wanted, device=truth.device)


# ---- what is drawn, and how it is changed


def times(truth: np.ndarray, classes: list[str], oversample: dict[str, int]) -> np.ndarray:
    """How often an epoch shows each slice, int (n,): the highest number of --oversample of the labels that it has, else once."""
    found = np.ones(len(truth), dtype=int)
    for name, number in oversample.items():
        shows = truth[:, classes.index(name)] == 1
        found[shows] = np.maximum(found[shows], number)
    return found


def chances(truth: np.ndarray) -> np.ndarray:
    """How likely each slice is drawn with the balanced sampler, float (n,), up to a factor: that of its rarest group.

    Groups: the slices with each label, and those without any. A slice of several labels is drawn for the rarest.
    """
    groups = np.column_stack([truth == 1, ~(truth == 1).any(axis=1)])
    return (groups / np.maximum(groups.sum(axis=0), 1)).max(axis=1)


def draw(
    rows: np.ndarray, truth: np.ndarray, args: argparse.Namespace, classes: list[str], generator: torch.Generator
) -> torch.Tensor:
    """The order of an epoch: rows of the training slices, with truths (n, labels); as many as `epoch_length` says."""
    repeated = times(truth, classes, args.oversample)
    if args.sampler == "balanced":
        weights = torch.as_tensor(chances(truth) * repeated)
        return torch.as_tensor(rows)[torch.multinomial(weights, repeated.sum(), replacement=True, generator=generator)]
    shown = torch.as_tensor(np.repeat(rows, repeated))
    return shown[torch.randperm(len(shown), generator=generator)]


def epoch_length(truth: np.ndarray, args: argparse.Namespace, classes: list[str]) -> int:
    return int(times(truth, classes, args.oversample).sum())


def change(fit: train.Fit, truth: np.ndarray, classes: list[str]) -> train.Change:
    """Augmentation by slice: --augment, or for slices that show a label of --augment-label that of the label.

    `truth`: of all slices, (n, labels). With labels about a side no slice is mirrored.
    """
    args = fit.args
    mirror = not any(name.startswith(meaning.SIDE) for name in classes)
    names = [args.augment, *args.augment_label.values()]
    strengths = [None if one is None else replace(one, mirror=mirror) for one in (transforms.STRENGTHS[name] for name in names)]
    which = torch.zeros(len(truth), dtype=torch.long)
    for number, name in enumerate(args.augment_label, start=1):
        which[torch.as_tensor(truth[:, classes.index(name)] == 1)] = number

    def changed(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of_batch = which[rows]
        for number in of_batch.unique().tolist():
            if strengths[number] is not None:
                chosen = (of_batch == number).to(batch.device)
                batch[chosen] = transforms.augment(batch[chosen], strengths[number], args.mirror, fit.device_generator)
        return batch

    return changed


# ---- how it goes


def say_what_lacks(classes: list[str], truth: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """A line for each label without a positive image in a part. `truth`: of all slices (n, labels); `rows`: of each part."""
    for place, name in enumerate(classes):
        empty = [part for part, of_part in rows.items() if not (truth[of_part, place] == 1).any()]
        if empty:
            print(f"  {name}: no positive image in {', '.join(empty)}; what needs one will be null")


def validate(
    fit: train.Fit,
    spec: MultiLabelSpec,
    source: Stacks,
    rows: np.ndarray,
    targets: torch.Tensor,
    loss: LossFunction,
) -> tuple[dict[str, float], dict[str, float]]:
    """val_loss and val_f1_macro of the slices `rows`, and what each label does: see `by_epoch`."""
    found = inference.logits(fit.judged, spec, source, rows, 4 * fit.args.batch_size, fit.dtype)
    of_labels = by_epoch("val", spec.classes, found, targets[rows])
    f1 = [of_labels[f"val_f1_{name}"] for name in spec.classes]
    macro = float(np.nanmean(f1)) if not np.isnan(f1).all() else float("nan")
    return {"val_loss": float(loss(found, targets[rows])), "val_f1_macro": macro}, of_labels


def by_epoch(part: str, classes: list[str], found: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Precision, recall and F1 of each label at a probability of 0.5: `val_f1_SAH` ...; NaN where nothing says.

    `found`: logits (n, labels); `truth`: 0, 1, NaN where unknown, which is left out.
    """
    called, yes, known = found > HALF, truth == 1, ~torch.isnan(truth)
    tp, fp, fn = ((one & known).sum(dim=0).double().cpu().numpy() for one in (called & yes, called & ~yes, ~called & yes))
    numbers = {}
    with np.errstate(invalid="ignore"):
        scores = {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2 * tp + fp + fn)}
    for name, values in scores.items():
        numbers |= {f"{part}_{name}_{label}": float(value) for label, value in zip(classes, values, strict=True)}
    return numbers
