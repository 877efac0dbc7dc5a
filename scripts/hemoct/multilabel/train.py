"""Training of a multi-label network: what is drawn and how often, how strongly it is augmented, how each label fares by epoch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from hemoct.base import cli, label_meaning
from hemoct.base.errors import UserError
from hemoct.data import images
from hemoct.data.slices import ANY
from hemoct.multilabel import losses as multilabel_losses
from hemoct.multilabel import networks
from hemoct.multilabel.data import LabelledSlices
from hemoct.multilabel.losses import LossFunction
from hemoct.multilabel.networks import MultiLabelSpec
from hemoct.training import augment, inference, weights
from hemoct.training import fit as training_fit
from hemoct.training import networks as training_networks
from hemoct.training.batches import Stacks

SAMPLERS = ("none", "balanced")


# ---- flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags for labels that few images show."""
    group = parser.add_argument_group("labels that few images show")
    group.add_argument("--loss", default="bce", choices=multilabel_losses.NAMES, help="what is minimised")
    group.add_argument("--pos-weight", type=auto_or_numbers, default="auto", metavar="auto|LIST",
                       help="of positives in weighted-bce: auto (negatives over positives) or a number a label")  # fmt: skip
    group.add_argument("--sampler", default="none", choices=SAMPLERS,
                       help="balanced: the slices of each label, and those of none, are drawn about equally often")  # fmt: skip
    group.add_argument("--oversample", type=by_label(cli.positive_int, "TIMES"), default={},
                       metavar="LABEL=TIMES,...", help="show the slices of a label several times an epoch")  # fmt: skip
    group.add_argument("--augment", default="none", choices=augment.STRENGTHS, help="on training slices only")
    group.add_argument("--augment-label", type=by_label(augment.known, "STRENGTH"), default={},
                       metavar="LABEL=STRENGTH,...",
                       help="another augmentation for the slices of a label; of several the last one counts")  # fmt: skip
    group.add_argument("--mirror", default="auto", choices=("auto", "horizontal", "vertical"),
                       help="axis along which the patient's left and right lie; auto: vertical in PHE-SICH-CT-IDS")  # fmt: skip


def auto_or_numbers(text: str) -> str | list[float]:
    """A type for argparse: `auto`, or numbers above 0 separated by commas."""
    return text if text == "auto" else [cli.positive_float(word) for word in text.split(",")]


def by_label(kind: Callable[[str], object], words: str) -> Callable[[str], dict[str, object]]:
    """A type for argparse: `SAH=3,IVH=2` as a dictionary. `words` says what stands behind the `=`."""

    def parsed(text: str) -> dict[str, object]:
        pairs = [part.rpartition("=") for part in text.split(",")]
        try:
            found = {name.strip(): kind(value.strip()) for name, _, value in pairs}
        except (ValueError, argparse.ArgumentTypeError):
            found = {}
        if not all(found) or len(found) < len(pairs):
            raise argparse.ArgumentTypeError(f"{text!r} is not LABEL={words}[,LABEL={words}], each label once")
        return found

    return parsed


def stop_if_unfit(args: argparse.Namespace, classes: list[str]) -> None:
    """Stop when a flag speaks of labels that are not there, or does not speak of each."""
    for flag, named in (("--oversample", args.oversample), ("--augment-label", args.augment_label)):
        absent = [name for name in named if name not in classes]
        if absent:
            raise UserError(f"{flag} {absent[0]}: the working set has no such label; it has {', '.join(classes)}")
    if args.pos_weight != "auto" and len(args.pos_weight) != len(classes):
        raise UserError(f"--pos-weight has {len(args.pos_weight)} number(s) where {', '.join(classes)} need one each; correct it")


def spec_of(args: argparse.Namespace, data: LabelledSlices, fold: int, rows: np.ndarray) -> MultiLabelSpec:
    """model.json of a fold that learns from the images `rows`."""
    grey = images.grey_statistics(data.pixels, np.unique(data.planes[rows]))
    mean, std = training_networks.normalisation(args.backbone, args.weights, *grey)
    spec = MultiLabelSpec(
        image_size=args.image_size, mean=mean, std=std, protocol=args.protocol, split=args.split, fold=fold,
        splits_sha256=data.splits_sha256, backbone=args.backbone, classes=data.classes,
        heads=networks.HEADS[args.heads], channels=args.channels, context=args.context, attention=args.attention,
        initial_weights=weights.origin(args.weights, args.backbone),
    )  # fmt: skip
    training_networks.stop_if_trained_elsewhere(args.weights, spec)
    return spec


# ---- the loss


def training_loss(args: argparse.Namespace, spec: MultiLabelSpec, truth: torch.Tensor) -> LossFunction:
    """The loss of --loss, weighed by the training truths (n, labels). A head for `any` adds a loss of its own, counted alike."""
    of_positives = pos_weights(args.pos_weight, truth) if args.loss == "weighted-bce" else None
    if ANY not in spec.heads:
        return multilabel_losses.loss_function(args.loss, of_positives)
    heads = [slice(0, 1), slice(1, None)]
    losses = [multilabel_losses.loss_function(args.loss, None if of_positives is None else of_positives[head]) for head in heads]
    return lambda found, target: sum(of(found[:, head], target[:, head]) for of, head in zip(losses, heads, strict=True))


def pos_weights(wanted: str | list[float], truth: torch.Tensor) -> torch.Tensor:
    """`auto`: negatives over positives of each label in training; else the numbers given, one a label: (labels,)."""
    return multilabel_losses.balancing_weights(truth) if wanted == "auto" else torch.tensor(wanted, device=truth.device)


# ---- what is drawn, and how it is changed


class Draws:
    """Which training slices an epoch shows, and in which order; as many in each epoch."""

    def __init__(self, rows: np.ndarray, truth: np.ndarray, classes: list[str], args: argparse.Namespace) -> None:
        """`rows` (n,) of the training slices and their truths (n, labels); flags --sampler and --oversample."""
        self.rows, self.times = torch.as_tensor(rows), torch.as_tensor(times(truth, classes, args.oversample))
        self.chances = torch.as_tensor(chances(truth)) * self.times if args.sampler == "balanced" else None
        self.expected = self.times.double() if self.chances is None else self.chances / self.chances.sum() * len(self)
        """how often an epoch shows each slice on average, float64 (n,)"""

    def __len__(self) -> int:
        return int(self.times.sum())

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """The rows of an epoch, int64 (len(self),): each as often as --oversample says, or drawn with replacement."""
        if self.chances is not None:
            return self.rows[torch.multinomial(self.chances, len(self), replacement=True, generator=generator)]
        return self.rows.repeat_interleave(self.times)[torch.randperm(len(self), generator=generator)]

    def weights(self, seen: torch.Tensor) -> np.ndarray:
        """What each row that was seen counts, float64 (k,), so that together they stand for the slices as they came."""
        return (1 / self.expected[torch.searchsorted(self.rows, seen)]).numpy()


def times(truth: np.ndarray, classes: list[str], oversample: dict[str, int]) -> np.ndarray:
    """How often an epoch shows each slice, int (n,): the highest number of --oversample of the labels that it has, else once."""
    found = np.ones(len(truth), dtype=int)
    for name, number in oversample.items():
        shows = truth[:, classes.index(name)] == 1
        found[shows] = np.maximum(found[shows], number)
    return found


def chances(truth: np.ndarray) -> np.ndarray:
    """How likely each slice is drawn with the balanced sampler, float (n,), up to a factor: that of its rarest group.

    Groups: the slices with each label, and those without any. A slice of several labels is drawn for the rarest, so that a label
    which goes along with rarer ones is drawn somewhat more often.
    """
    groups = np.column_stack([truth == 1, ~(truth == 1).any(axis=1)])
    return (groups / np.maximum(groups.sum(axis=0), 1)).max(axis=1)


def augmentation(fit: training_fit.Fit, truth: np.ndarray, classes: list[str]) -> training_fit.Change:
    """By slice: --augment, or for slices that show a label of --augment-label that of the label (of several the last one).

    `truth`: of all slices, (n, labels). With labels about a side no slice is mirrored.
    """
    args = fit.args
    mirror = not any(name.startswith(label_meaning.SIDE) for name in classes)
    names = [args.augment, *args.augment_label.values()]
    strengths = [None if one is None else replace(one, mirror=mirror) for one in (augment.STRENGTHS[name] for name in names)]
    which = torch.zeros(len(truth), dtype=torch.long)
    for number, name in enumerate(args.augment_label, start=1):
        which[torch.as_tensor(truth[:, classes.index(name)] == 1)] = number

    def changed(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of_batch = which[rows]
        for number in of_batch.unique().tolist():
            if strengths[number] is not None:
                chosen = (of_batch == number).to(batch.device)
                batch[chosen] = augment.augment(batch[chosen], strengths[number], args.mirror, fit.device_generator)
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
    fit: training_fit.Fit,
    spec: MultiLabelSpec,
    source: Stacks,
    rows: np.ndarray,
    targets: torch.Tensor,
    loss_of: LossFunction,
) -> tuple[dict[str, float], dict[str, float]]:
    """val_loss, val_f1_at_half (mean of the labels that have one), and how each label fares: see `label_scores`."""
    found = inference.logits(fit.judged, spec, source, rows, 4 * fit.args.batch_size, fit.dtype)
    of_labels = label_scores("val", spec.classes, found, targets[rows])
    f1 = [of_labels[f"val_f1_{name}"] for name in spec.classes]
    mean = float(np.nanmean(f1)) if not np.isnan(f1).all() else float("nan")
    return {"val_loss": float(loss_of(found, targets[rows])), "val_f1_at_half": mean}, of_labels


def label_scores(
    part: str, classes: list[str], found: torch.Tensor, truth: torch.Tensor, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Precision, recall and F1 of each label at a probability of 0.5: `val_f1_SAH` ...; NaN where nothing says.

    `found`: logits (n, labels); `truth`: 0, 1, NaN where unknown, which is left out; `weights` (n,): what each row counts.
    """
    called, truth = (found > 0).cpu().numpy(), truth.cpu().numpy()
    yes, no, count = truth == 1, truth == 0, np.ones(len(truth)) if weights is None else weights
    tp, fp, fn = (count @ (one & other) for one, other in ((called, yes), (called, no), (~called, yes)))
    with np.errstate(invalid="ignore"):
        scores = {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2 * tp + fp + fn)}
    return {
        f"{part}_{name}_{label}": float(value)
        for name, values in scores.items()
        for label, value in zip(classes, values, strict=True)
    }
