"""Training of a multi-label network: its loss, what an epoch shows and how often, augmentation by label, scores of each label."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

from hemoct.base import cli, label_meaning
from hemoct.base.errors import UserError
from hemoct.data import images
from hemoct.data.slices import ANY
from hemoct.multilabel import networks
from hemoct.multilabel.data import LabelledSlices
from hemoct.multilabel.networks import MultiLabelSpec
from hemoct.training import augment, inference, weights
from hemoct.training import fit as training_fit
from hemoct.training import networks as training_networks
from hemoct.training.batches import Stacks
from hemoct.training.fit import LossFunction

LOSSES = ("bce", "weighted-bce", "focal", "asymmetric")
FOCAL = {"alpha": -1.0, "gamma": 2.0}  # Lin et al. 2017, without its weight of the positives
ASYMMETRIC = {"gamma_pos": 0.0, "gamma_neg": 4.0, "clip": 0.05}  # Ridnik et al. 2021
SAMPLERS = ("none", "balanced")


# ---- flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags for labels that few images show."""
    group = parser.add_argument_group("labels that few images show")
    group.add_argument("--loss", default="bce", choices=LOSSES, help="what is minimised")
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
            values = {name.strip(): kind(value.strip()) for name, _, value in pairs}
        except (ValueError, argparse.ArgumentTypeError):
            values = {}
        if not all(values) or len(values) < len(pairs):
            raise argparse.ArgumentTypeError(f"{text!r} is not LABEL={words}[,LABEL={words}], each label once")
        return values

    return parsed


def stop_if_unfit(args: argparse.Namespace, classes: list[str]) -> None:
    """Stop when a flag names a label that is not there, or --pos-weight has not one number for each label."""
    for flag, names in (("--oversample", args.oversample), ("--augment-label", args.augment_label)):
        absent = [name for name in names if name not in classes]
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


def loss_function(name: str, pos_weight: torch.Tensor | None = None) -> LossFunction:
    """A loss of logits and targets, float (n, labels) each: the mean over all cells whose target is known (0 or 1, not NaN).

    `name`: one of LOSSES. `pos_weight` (labels,): how much a positive counts in `weighted-bce`, see `balancing_weights`.
    """
    if (name == "weighted-bce") != (pos_weight is not None):
        raise ValueError("pos_weight belongs to weighted-bce, and to no other loss")
    sum_over_cells = _sum_over_cells(name)

    def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = ~torch.isnan(targets)
        weights = torch.ones_like(logits) if pos_weight is None else pos_weight.to(logits).expand_as(logits)
        return sum_over_cells(logits[known], targets[known], weights[known]) / known.sum().clamp(min=1)

    return criterion


def _sum_over_cells(name: str) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The sum of a loss over logits, targets and weights of positives, (k,) each."""
    if name == "focal":
        return lambda logits, targets, _: sigmoid_focal_loss(logits, targets, **FOCAL, reduction="sum")
    if name == "asymmetric":
        asymmetric = AsymmetricLossMultiLabel(**ASYMMETRIC, reduction="sum")
        return lambda logits, targets, _: asymmetric(logits, targets)
    return lambda logits, targets, weights: F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weights, reduction="sum"
    )


def balancing_weights(targets: torch.Tensor) -> torch.Tensor:
    """Negatives over positives of each label among the known targets (n, labels): (labels,); 1 where a label has not both."""
    positive, negative = (targets == 1).sum(dim=0), (targets == 0).sum(dim=0)
    return torch.where((positive > 0) & (negative > 0), negative / positive.clamp(min=1), 1.0)


def training_loss(args: argparse.Namespace, spec: MultiLabelSpec, targets: torch.Tensor) -> LossFunction:
    """The loss of --loss; `targets` (n, labels) of the training slices give the weights. A head for `any` has a loss of its own.

    The losses of the two heads are added, so that both count alike.
    """
    pos_weight = None
    if args.loss == "weighted-bce":
        given = args.pos_weight
        pos_weight = balancing_weights(targets) if given == "auto" else torch.tensor(given, device=targets.device)
    if ANY not in spec.heads:
        return loss_function(args.loss, pos_weight)
    heads = [slice(0, 1), slice(1, None)]
    losses = [loss_function(args.loss, None if pos_weight is None else pos_weight[head]) for head in heads]
    return lambda logits, targets: sum(loss(logits[:, head], targets[:, head]) for loss, head in zip(losses, heads, strict=True))


# ---- what an epoch shows, and how it is augmented


class Draws:
    """Which training slices an epoch shows, and in which order; as many in each epoch."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray, classes: list[str], args: argparse.Namespace) -> None:
        """`rows` (n,) of the training slices and their targets (n, labels); flags --sampler and --oversample."""
        self.rows, self.times = torch.as_tensor(rows), torch.as_tensor(times(targets, classes, args.oversample))
        self.chances = torch.as_tensor(chances(targets)) * self.times if args.sampler == "balanced" else None
        self.expected = self.times.double() if self.chances is None else self.chances / self.chances.sum() * len(self)
        """how often an epoch shows each slice on average, float64 (n,)"""

    def __len__(self) -> int:
        return int(self.times.sum())

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """The rows of an epoch, int64 (len(self),): each as often as --oversample says, or drawn with replacement."""
        if self.chances is not None:
            return self.rows[torch.multinomial(self.chances, len(self), replacement=True, generator=generator)]
        return self.rows.repeat_interleave(self.times)[torch.randperm(len(self), generator=generator)]

    def weights(self, shown: torch.Tensor) -> np.ndarray:
        """A weight for each of the rows `shown` (k,), float64, so that together they stand for the slices as they came."""
        return (1 / self.expected[torch.searchsorted(self.rows, shown)]).numpy()


def times(targets: np.ndarray, classes: list[str], oversample: dict[str, int]) -> np.ndarray:
    """How often an epoch shows each slice, int (n,): the highest number of --oversample of the labels that it has, else once."""
    counts = np.ones(len(targets), dtype=int)
    for name, number in oversample.items():
        positive = targets[:, classes.index(name)] == 1
        counts[positive] = np.maximum(counts[positive], number)
    return counts


def chances(targets: np.ndarray) -> np.ndarray:
    """How likely the balanced sampler draws each slice, float (n,), up to a factor: 1 over the size of its rarest group.

    Groups: the slices with each label, and those without any. A slice of several labels is drawn for the rarest, so that a label
    which goes along with rarer ones is drawn somewhat more often.
    """
    groups = np.column_stack([targets == 1, ~(targets == 1).any(axis=1)])
    return (groups / np.maximum(groups.sum(axis=0), 1)).max(axis=1)


def augmentation(fit: training_fit.Fit, targets: np.ndarray, classes: list[str]) -> training_fit.Change:
    """By slice: --augment, or for slices that show a label of --augment-label that of the label (of several the last one).

    `targets`: of all slices, (n, labels). Where a label is about a side, no slice is mirrored.
    """
    args = fit.args
    mirror = not any(name.startswith(label_meaning.SIDE) for name in classes)
    chosen = [augment.STRENGTHS[name] for name in (args.augment, *args.augment_label.values())]
    strengths = [strength and replace(strength, mirror=mirror) for strength in chosen]
    which = torch.zeros(len(targets), dtype=torch.long)
    for number, name in enumerate(args.augment_label, start=1):
        which[torch.as_tensor(targets[:, classes.index(name)] == 1)] = number

    def augmented(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of_batch = which[rows]
        for number in of_batch.unique().tolist():
            if strengths[number] is not None:
                here = (of_batch == number).to(batch.device)
                batch[here] = augment.augment(batch[here], strengths[number], args.mirror, fit.device_generator)
        return batch

    return augmented


# ---- how it goes


def print_gaps(classes: list[str], targets: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """A line for each label without a positive image in a part. `targets`: of all slices (n, labels); `rows`: of each part."""
    for place, name in enumerate(classes):
        empty = [part for part, of_part in rows.items() if not (targets[of_part, place] == 1).any()]
        if empty:
            print(f"  {name}: no positive image in {', '.join(empty)}; metrics that need one will be null")


def validate(
    fit: training_fit.Fit,
    spec: MultiLabelSpec,
    source: Stacks,
    rows: np.ndarray,
    targets: torch.Tensor,
    criterion: LossFunction,
) -> tuple[dict[str, float], dict[str, float]]:
    """val_loss and val_f1_at_half (mean of the labels that have one) on the slices `rows`; and the scores of each label."""
    logits = inference.logits(fit.judged, spec, source, rows, 4 * fit.args.batch_size, fit.dtype)
    scores = label_scores("val", spec.classes, logits, targets[rows])
    f1 = [scores[f"val_f1_{name}"] for name in spec.classes]
    mean = float("nan") if np.isnan(f1).all() else float(np.nanmean(f1))
    return {"val_loss": float(criterion(logits, targets[rows])), "val_f1_at_half": mean}, scores


def label_scores(
    part: str, classes: list[str], logits: torch.Tensor, targets: torch.Tensor, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Precision, recall and F1 of each label at a probability of 0.5: `val_f1_SAH` ...; NaN where it is undefined.

    `logits` (n, labels); `targets`: 0, 1, NaN where unknown, which is left out; `weights` (n,): what each row counts.
    """
    called, truth = (logits > 0).cpu().numpy(), targets.cpu().numpy()
    positive, negative = truth == 1, truth == 0
    counts = np.ones(len(truth)) if weights is None else weights
    tp, fp, fn = (counts @ cells for cells in (called & positive, called & negative, ~called & positive))
    with np.errstate(invalid="ignore"):
        scores = {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2 * tp + fp + fn)}
    return {
        f"{part}_{name}_{label}": float(value)
        for name, values in scores.items()
        for label, value in zip(classes, values, strict=True)
    }
