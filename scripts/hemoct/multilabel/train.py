"""Training of a multi-label network: one fold, its loss, what an epoch shows and how it is augmented, scores of each label."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.data import images, slices
from hemoct.data.slices import ANY, Fold
from hemoct.evaluation import metrics
from hemoct.multilabel import networks
from hemoct.multilabel.data import LabelledSlices
from hemoct.multilabel.options import HEADS, Augmentation, Balance, Options
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.multilabel.views import Heads
from hemoct.training import checkpoints, device, fit as training_fit, inference, weights
from hemoct.training.batches import Stacks
from hemoct.training.fit import Augment, Criterion, Fit, Labelled
from hemoct.training.options import STRENGTHS

FOCAL = partial(sigmoid_focal_loss, alpha=-1.0, gamma=2.0, reduction="none")
"""Lin et al. 2017, without its weight of the positives"""
ASYMMETRIC = AsymmetricLossMultiLabel(gamma_pos=0.0, gamma_neg=4.0, clip=0.05, reduction="none")
"""Ridnik et al. 2021"""


def train_fold(run: Run, options: Options, data: LabelledSlices, source: Stacks) -> list[Path]:
    """Train the model of the run's folder and predict the slices of its fold; returns what was written."""
    training, initial = options.training, options.initial.of_fold(data.work, run.folder)
    fold = slices.keep_labels(data, data.fold(run.folder, options.selection), options.labels.labelled, training.seed)
    options = replace(options, initial=initial)
    rows = {part: fold.rows(part) for part in tables.PARTS}
    if len(rows["train"]) < 2 or not len(rows["val"]):
        raise UserError(f"{run.folder.name}: too few images to train or validate with; use more patients")
    heads = Heads.one(len(data.table), len(data.classes))
    if options.view.share_encoder:
        heads = Heads.shared(data, rows["train"], run.folder.name)
    spec = replace(_spec(fold, options, data), views=heads.described(data.classes))
    weights.stop_if_trained_elsewhere(initial, spec)
    torch.manual_seed(training.seed)
    model = device.place(networks.build(spec, initial), source.device, spec.image_size)
    targets = torch.as_tensor(data.targets, device=source.device)
    draws = Draws(rows["train"], data.targets[rows["train"]], spec.classes, options.balance)
    print_gaps(spec.classes, data.targets, rows)

    fitting = Fit(model, run, training, -(-len(draws) // training.batch_size))
    spec.save(run.folder)
    loss = criterion(options.balance, spec.heads, targets[rows["train"]])
    axis = options.augmentation.axis(data.orientation)
    augmented = augmentation(options.augmentation, axis, data.targets, spec.classes, fitting.device_generator)
    labelled = Labelled(spec, source, heads.targets(targets), heads.criterion(loss), augmented)
    for epoch in fitting.epochs():
        mean, shown, logits = training_fit.one_epoch(fitting, labelled, draws.order(fitting.generator))
        logits = heads.own(logits, shown)
        of_training = label_scores("train", spec.classes, logits, targets[shown], draws.weights(shown))
        numbers, of_validation = validate(fitting, labelled, rows["val"], heads, targets)
        fitting.log(epoch, of_training | of_validation, train_loss=mean, **numbers)

    checkpoints.load_trained(model, run.folder)
    about = data.about(fold, np.flatnonzero(fold.part != slices.UNLABELLED))
    predicted = about.index.to_numpy(copy=True)
    logits = heads.own(inference.logits(model, spec, source, predicted, 4 * training.batch_size), predicted)
    probabilities = inference.probabilities(logits, spec.exclusive)
    frame = tables.with_columns(about.reset_index(drop=True), spec.classes, data.targets[predicted], probabilities)
    return [*(run.folder / name for name in checkpoints.MODEL), *tables.write_parts(run.folder, frame)]


def _spec(fold: Fold, options: Options, data: LabelledSlices) -> MultiLabelSpec:
    """model.json of a fold."""
    network, selection = options.network, options.selection
    grey = images.grey_statistics(data.pixels, np.unique(data.planes[fold.rows("train")]))
    mean, std = weights.normalisation(options.initial, network.backbone, *grey)
    return MultiLabelSpec(
        **data.learned(fold, selection), image_size=network.image_size, mean=mean, std=std, backbone=network.backbone,
        classes=data.classes, heads=HEADS[network.heads],
        channels=network.channels, context=network.context, attention=network.attention, head=network.head,
        labelled=fold.labelled, initial_weights=weights.origin(options.initial, network.backbone),
    )  # fmt: skip


# ---- the loss


def loss_function(name: str, pos_weight: torch.Tensor | None = None) -> Criterion:
    """A loss of logits and targets, float (n, labels) each: the mean over all cells whose target is known (0 or 1, not NaN).

    `name`: one of options.LOSSES. `pos_weight` (labels,): how much a positive counts in `weighted-bce`, see `balancing_weights`.
    """
    bce = partial(F.binary_cross_entropy_with_logits, reduction="none", pos_weight=pos_weight)
    of_cells = {"focal": FOCAL, "asymmetric": ASYMMETRIC}.get(name, bce)

    def mean(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = ~torch.isnan(targets)  # not picked out: how many they are only the GPU knows, and the host would wait for it
        losses = of_cells(logits, targets.nan_to_num())
        return torch.where(known, losses, 0).sum() / known.sum().clamp(min=1)

    return mean


def balancing_weights(targets: torch.Tensor) -> torch.Tensor:
    """Negatives over positives of each label among the known targets (n, labels): (labels,); 1 where a label has not both."""
    positive, negative = (targets == 1).sum(dim=0), (targets == 0).sum(dim=0)
    return torch.where((positive > 0) & (negative > 0), negative / positive.clamp(min=1), 1.0)


def criterion(balance: Balance, heads: list[str], targets: torch.Tensor) -> Criterion:
    """The loss of --loss; `targets` (n, labels) of the training slices give the weights. A head for `any` has a loss of its own.

    The losses of the two heads are added, so that both count alike.
    """
    pos_weight = None
    if balance.loss == "weighted-bce":
        given = balance.pos_weight
        pos_weight = balancing_weights(targets) if given == "auto" else torch.tensor(given, device=targets.device)
    if ANY not in heads:
        return loss_function(balance.loss, pos_weight)
    losses = [(part, loss_function(balance.loss, None if pos_weight is None else pos_weight[part]))
              for part in (slice(0, 1), slice(1, None))]  # fmt: skip
    return lambda logits, targets: sum(loss(logits[:, part].contiguous(), targets[:, part].contiguous()) for part, loss in losses)


# ---- what an epoch shows, and how it is augmented


class Draws:
    """Which training slices an epoch shows, and in which order; as many in each epoch."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray, classes: list[str], balance: Balance) -> None:
        """`rows` (n,) of the training slices and their `targets` (n, labels)."""
        self.rows, self.times = torch.as_tensor(rows), torch.as_tensor(times(targets, classes, balance.oversample))
        self.chances = torch.as_tensor(chances(targets)) * self.times if balance.sampler == "balanced" else None
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


def augmentation(
    options: Augmentation, axis: str, targets: np.ndarray, classes: list[str], generator: torch.Generator
) -> Augment:
    """By slice: --augment, or for slices that show a label of --augment-label that of the label (of several the last one).

    `targets`: of all slices, (n, labels). `axis`: along which the patient's left and right lie; where a label is about a side,
    no slice is mirrored.
    """
    mirror = not any(name.startswith(label_meaning.SIDE) for name in classes)
    chosen = [STRENGTHS[name] for name in (options.augment, *options.augment_label.values())]
    strengths = [strength and replace(strength, mirror=mirror) for strength in chosen]
    change = [training_fit.augmentation(strength, axis, generator) for strength in strengths]
    which = torch.zeros(len(targets), dtype=torch.long)
    for number, name in enumerate(options.augment_label, start=1):
        which[torch.as_tensor(targets[:, classes.index(name)] == 1)] = number

    if len(change) == 1:
        return change[0]

    def augmented(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        for number in which[rows].unique().tolist():
            here = (which[rows] == number).nonzero()[:, 0].to(batch.device, non_blocking=True)
            batch[here] = change[number](batch[here], rows)
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
    fitting: Fit, data: Labelled, rows: np.ndarray, heads: Heads, truth: torch.Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """val_loss and val_f1_at_half (mean of the labels that have one) on the slices `rows`; and the scores of each label.

    `truth`: of all slices, (n, labels); the targets of `data` are those of all `heads`.
    """
    batch_size, targets = 4 * fitting.options.batch_size, data.targets[rows]
    logits = inference.logits(fitting.averaged, data.spec, data.source, rows, batch_size, fitting.dtype)
    scores = label_scores("val", data.spec.classes, heads.own(logits, rows), truth[rows])
    f1 = [scores[f"val_f1_{name}"] for name in data.spec.classes]
    mean = float("nan") if np.isnan(f1).all() else float(np.nanmean(f1))
    return {"val_loss": float(data.criterion(logits, targets)), "val_f1_at_half": mean}, scores


def label_scores(
    part: str, classes: list[str], logits: torch.Tensor, targets: torch.Tensor, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Precision, recall and F1 of each label at a probability of 0.5: `val_f1_SAH` ...; NaN where it is undefined.

    `logits` (n, labels); `targets`: 0, 1, NaN where unknown, which is left out; `weights` (n,): what each row counts.
    """
    called, truth = (logits > 0).cpu().numpy(), targets.cpu().numpy()
    counts = np.ones(len(truth)) if weights is None else weights
    matrices = np.array([[counts @ ((truth == y) & (called == is_called)) for is_called in (0, 1)] for y in (0, 1)])
    scores = metrics.of_confusion(matrices.transpose(2, 0, 1))
    of_labels = {name: zip(classes, scores[name], strict=True) for name in ("precision", "recall", "f1")}
    return {f"{part}_{name}_{label}": float(value) for name, values in of_labels.items() for label, value in values}
