"""Training of one network for several tasks: one fold, the losses of its heads, validation."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.classification import train as classification_train
from hemoct.data import images, slices as data_slices
from hemoct.data.slices import Fold
from hemoct.evaluation import metrics
from hemoct.multitask import networks, parts as multitask_parts, sizes
from hemoct.multitask.data import Data
from hemoct.multitask.networks import MultiTaskSpec
from hemoct.multitask.options import CLASSIFY, PARTS, SCORES, SEGMENT, SIZE, UNCERTAINTY, Options
from hemoct.segmentation import networks as segmentation_networks
from hemoct.segmentation.options import STRENGTHS
from hemoct.segmentation.train import Slices, Validation
from hemoct.segmentation.windows import whole_slices
from hemoct.training import augment, checkpoints, device, weights
from hemoct.training.fit import Criterion, Fit
from hemoct.training.options import Strength

HALVED = {SIZE: 0.5}
"""of a regression half the loss is weighed by uncertainty (Kendall et al. 2018), of other tasks all of it"""


def train_fold(run: Run, parts: dict[int, Run], options: Options, data: Data, where: torch.device) -> list[Path]:
    """Train the network of the run's folder and predict its fold with what it parts into; returns the files of that folder.

    `parts`: the run of each task, by its number, in whose folder a part goes.
    """
    options = replace(options, initial=options.initial.of_fold(data.labels.work, run.folder))
    fold, training = data.labels.fold(run.folder, options.selection), options.training
    tasks, known = options.network.tasks, known_of(data)
    anything = np.any([known[task] for task in tasks], axis=0)
    rows = {part: fold.rows(part)[anything[fold.rows(part)]] for part in ("train", "val")}
    stop_if_nothing_to_learn(run.folder.name, data, rows, tasks)
    spec = _spec(fold, options, data, rows["train"])
    weights.stop_if_trained_elsewhere(options.initial, spec.classifier)
    torch.manual_seed(training.seed)
    model = device.place(networks.build(spec, options.initial), where, spec.image_size)
    slices = Slices(data.labels.work, data.masks, spec.segmenter, where)
    joint = Joint.of(slices, spec, data, rows["train"], STRENGTHS[options.augmentation.augment])

    fitting = Fit(model, run, training, -(-len(rows["train"]) // training.batch_size), monitor="val_score")
    if fitting.best_epoch == 0:
        spec.save(run.folder)
        for part in parts.values():
            for name in checkpoints.RESULTS:  # those of an earlier network would be taken for this one's
                (part.folder / name).unlink(missing_ok=True)
    patients = data.labels.table["patient"].to_numpy()
    drawn = rows["val"][known[SEGMENT][rows["val"]]]
    validation = Validation.of(slices, drawn, patients[drawn]) if SEGMENT in tasks else None
    for epoch in fitting.epochs():
        order = np.random.default_rng([training.seed, epoch]).permutation(rows["train"])
        loss, of_tasks = one_epoch(fitting, joint, order)
        numbers, of_validation = validate(fitting, joint, rows["val"], validation)
        fitting.log(epoch, of_tasks | of_validation, train_loss=loss, **numbers)

    checkpoints.load_trained(model, run.folder)
    written, made = [run.folder / name for name in checkpoints.MODEL], multitask_parts.Made(model, spec, data, slices, fold)
    for task in tasks:
        if task == SIZE:
            said, _ = said_of(model, joint, made.rows, 4 * training.batch_size, torch.autocast(where.type, enabled=False))
            written += made.write_sizes(said[SIZE])
        else:
            part = parts[PARTS[task]]
            part.wrote(*made.write(task, part.folder, 4 * training.batch_size))
    return written


def known_of(data: Data) -> dict[str, np.ndarray]:
    """Which slices each task can learn from, bool (n,): those with a known label; those with a mask, perhaps an empty one."""
    return {CLASSIFY: data.labels.known, SEGMENT: data.masks.known, SIZE: data.masks.known}


def stop_if_nothing_to_learn(where: str, data: Data, rows: dict[str, np.ndarray], tasks: list[str]) -> None:
    """Stop where a task finds nothing in the training or validation slices `rows` of a fold."""
    if len(rows["train"]) < 2 or not len(rows["val"]):
        raise UserError(f"{where}: too few slices to train or validate with; use more patients")
    if CLASSIFY in tasks:
        data_slices.stop_at_one_class(where, data.labels.classes, data.labels.targets[rows["train"]])
    for part, of_part in rows.items() if set(tasks) - {CLASSIFY} else []:
        if not (data.fractions[of_part] > 0).any():
            raise UserError(f"{where}: no mask of {part} has a pixel; use more patients, or another --split")


def _spec(fold: Fold, options: Options, data: Data, learned: np.ndarray) -> MultiTaskSpec:
    """model.json of a fold. `learned`: the rows of its training slices."""
    network, selection = options.network, options.selection
    grey = images.grey_statistics(data.labels.pixels, learned)
    mean, std = weights.normalisation(options.initial, network.backbone, *grey)
    return MultiTaskSpec(
        **data.labels.learned(fold, selection), image_size=network.image_size, mean=mean, std=std, tasks=network.tasks,
        loss_weights=network.loss_weights, backbone=network.backbone, model=network.model, loss=network.loss,
        classes=data.labels.classes, exclusive=data.labels.exclusive, label=network.label,
        mirror=options.augmentation.axis(data.labels.orientation), mask_value=selection.mask_value,
        size_scale=sizes.scale(data.fractions[learned]), initial_weights=weights.origin(options.initial, network.backbone),
    )  # fmt: skip


# ---- what is minimised


@dataclass(frozen=True)
class Joint:
    """Slices with all that is known of each, on the device, and the loss of each task."""

    slices: Slices
    spec: MultiTaskSpec
    data: Data
    criteria: dict[str, Criterion]
    known: dict[str, torch.Tensor]
    """of all slices, bool (n,), on the CPU"""
    targets: dict[str, torch.Tensor]
    """of all slices, float32 (n, classes) and (n,), on the device; those of segment are masks"""
    strength: Strength | None
    weights: list[float]
    """of the losses, in the order of the tasks; empty where they are learned"""

    @classmethod
    def of(cls, slices: Slices, spec: MultiTaskSpec, data: Data, learned: np.ndarray, strength: Strength | None) -> Self:
        """`learned`: the rows of the training slices."""
        where, labels = slices.grey.device, torch.as_tensor(data.labels.targets)
        criteria = {
            CLASSIFY: classification_train.criterion(labels[learned], spec.exclusive, weigh=False),
            SEGMENT: segmentation_networks.criterion(spec.loss),
            SIZE: F.smooth_l1_loss,
        }
        roots = torch.as_tensor(np.sqrt(data.fractions) / spec.size_scale)
        known = {task: torch.tensor(of_task) for task, of_task in known_of(data).items()}
        numbers = [] if spec.loss_weights == UNCERTAINTY else spec.loss_weights or [1.0] * len(spec.tasks)
        targets = {CLASSIFY: labels.to(where), SIZE: roots.to(where)}
        return cls(slices, spec, data, criteria, known, targets, strength, numbers)

    def batches(
        self, rows: np.ndarray, size: int, moves: torch.Tensor | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]:
        """The rows of a batch (b,), on the CPU, its slices in 0..1, float (b, 1, side, side), and the targets of each task."""
        batches, order = self.slices.batches(whole_slices(rows, self.spec.image_size), size, moves), torch.as_tensor(rows)
        targets = [of_all[order.to(of_all.device)].split(size) for of_all in self.targets.values()]  # at once: a GPU would wait
        for of_batch, (batch, masks), *others in zip(order.split(size), batches, *targets, strict=True):
            yield of_batch, batch, {SEGMENT: masks} | dict(zip(self.targets, others, strict=True))

    def losses(
        self, outputs: dict[str, torch.Tensor], rows: torch.Tensor, targets: dict[str, torch.Tensor]
    ) -> dict[str, tuple[torch.Tensor, int]]:
        """The mean loss of each task over the slices of a batch that it knows, and how many these are; none for none."""
        losses = {}
        for task, output in outputs.items():
            known = self.known[task][rows]
            count = int(known.sum())
            here = slice(None) if count == len(rows) else known.nonzero()[:, 0].to(output.device)
            if count:
                losses[task] = self.criteria[task](output.float()[here], targets[task][here]), count
        return losses

    def total(self, model: networks.MultiTask, losses: dict[str, tuple[torch.Tensor, int]]) -> torch.Tensor:
        """The weighted sum: by fixed numbers, or by exp(-s) with s / 2 added, s being the learned logarithm of a variance."""
        total = torch.zeros((), device=model.log_variances.device)
        for place, task in enumerate(self.spec.tasks):
            if task in losses and self.weights:
                total = total + self.weights[place] * losses[task][0]
            elif task in losses:
                s = model.log_variances[place]
                total = total + HALVED.get(task, 1.0) * torch.exp(-s) * losses[task][0] + s / 2
        return total


def one_epoch(fit: Fit, joint: Joint, order: np.ndarray) -> tuple[float, dict[str, float]]:
    """One pass over the training slices in the `order` given: the mean loss, and what is known of each task."""
    size, generator, strength = fit.options.batch_size, fit.device_generator, joint.strength
    order = order[: len(order) - (len(order) % size == 1)]  # batch normalisation cannot use a single slice
    moves = strength and augment.draw_moves(len(order), strength, joint.spec.mirror, generator)
    total, sums = torch.zeros((), device=fit.device), _Sums(joint.spec.tasks)  # on the device: reading would make it wait
    for rows, batch, targets in joint.batches(order, size, moves):
        if strength is not None:
            batch = augment.regrade(batch, strength, generator)
        with fit.autocast():
            outputs = fit.model(segmentation_networks.normalised(batch, joint.slices.spec))
        losses = joint.losses(outputs, rows, targets)
        loss = joint.total(fit.model, losses)
        fit.step(loss)
        total += loss.detach() * len(rows)
        sums.add(losses)
    told = {f"train_{task}": value for task, value in sums.means().items()}
    if joint.spec.loss_weights == UNCERTAINTY:
        shown = torch.exp(-fit.model.log_variances.detach()).tolist()
        told |= {f"weight_{task}": HALVED.get(task, 1.0) * weight for task, weight in zip(joint.spec.tasks, shown, strict=True)}
    return float(total) / len(order), told


class _Sums:
    """Losses of the tasks, summed over slices."""

    def __init__(self, tasks: list[str]) -> None:
        self.total, self.counts = dict.fromkeys(tasks, torch.zeros(())), dict.fromkeys(tasks, 0)

    def add(self, losses: dict[str, tuple[torch.Tensor, int]]) -> None:
        for task, (loss, count) in losses.items():
            self.total[task] = self.total[task].to(loss.device) + loss.detach() * count
            self.counts[task] += count

    def means(self) -> dict[str, float]:
        return {task: float(self.total[task]) / count if count else float("nan") for task, count in self.counts.items()}


# ---- validation


@torch.inference_mode()
def said_of(
    model: nn.Module, joint: Joint, rows: np.ndarray, size: int, autocast: torch.autocast
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What a network says of slices: logits (n, classes), 8-bit maps (n, side, side), sizes (n,); and its mean losses."""
    model.eval()
    said: dict[str, list[torch.Tensor]] = {task: [] for task in joint.spec.tasks if task != SEGMENT}
    sums = _Sums(joint.spec.tasks)

    def levels() -> Iterator[torch.Tensor]:
        for of_batch, batch, targets in joint.batches(rows, size):
            with autocast:
                outputs = model(segmentation_networks.normalised(batch, joint.slices.spec))
            outputs = {task: output.float() for task, output in outputs.items()}
            sums.add(joint.losses(outputs, of_batch, targets))
            for task, of_task in said.items():
                of_task.append(outputs[task])
            if SEGMENT in outputs:
                yield segmentation_networks.in_8_bit(outputs[SEGMENT].sigmoid())

    maps = list(device.on_host(levels()))
    heads = {task: torch.cat(of_task).cpu().numpy() for task, of_task in said.items()}
    return heads | ({SEGMENT: np.concatenate(maps)} if maps else {}), sums.means()


def validate(
    fit: Fit, joint: Joint, rows: np.ndarray, validation: Validation | None
) -> tuple[dict[str, float], dict[str, float]]:
    """val_loss and the score of each task on the slices `rows`, val_score, their mean; and the loss of each task.

    AUROC of the label (of several classes their mean), Dice by patient at the best threshold, rank correlation of the size.
    A score that is undefined is left out.
    """
    said, losses = said_of(fit.averaged, joint, rows, 4 * fit.options.batch_size, fit.autocast())
    known = {task: of_task[rows].numpy() for task, of_task in joint.known.items()}
    scores = {}
    if CLASSIFY in said:
        truth, logits = joint.data.labels.targets[rows][known[CLASSIFY]], said[CLASSIFY][known[CLASSIFY]]
        every = [metrics.auroc(y, p, metrics.ones(len(y)))[0] for y, p in zip(truth.T, logits.T, strict=True)]
        scores[CLASSIFY] = float(np.mean(every))
    if SEGMENT in said:
        scores[SEGMENT] = validation.best(whole_slices(rows, joint.spec.image_size), said[SEGMENT])[1]
    if SIZE in said:
        scores[SIZE] = sizes.correlation(joint.data.fractions[rows][known[SIZE]], said[SIZE][known[SIZE]])
    defined = {task: score for task, score in scores.items() if np.isfinite(score)}
    numbers = {"val_loss": float(np.nansum(list(losses.values())))} | {SCORES[task]: scores[task] for task in scores}
    mean = {"val_score": float(np.mean(list(defined.values())))} if defined else {}
    return numbers | mean, {f"val_{task}": loss for task, loss in losses.items()}
