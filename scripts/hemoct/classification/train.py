"""Training of a classifier, of whole slices or of regions of them: one fold, its loss, its predictions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.classification import networks
from hemoct.classification.options import Options
from hemoct.classification.predictions import ClassifierSpec
from hemoct.data import images, slices
from hemoct.data.slices import Fold, SliceData
from hemoct.training import checkpoints, device, fit, inference, networks as training_networks, weights
from hemoct.training.batches import Store, draw
from hemoct.training.fit import Fit, Labelled
from hemoct.training.options import STRENGTHS


def train_fold(run: Run, options: Options, data: SliceData, store: Store, region: dict[str, Any] | None = None) -> list[Path]:
    """Train the model of the run's folder and predict the validation and test slices of its fold; returns what was written.

    A folder that is no fold (`refit`) learns from all slices, for the mean best epoch of the folds. `store`: the pixels of
    `data`. `region`: see ClassifierSpec.
    """
    options = replace(options, initial=options.initial.of_fold(data.work, run.folder))
    fold = slices.keep_labels(data, data.fold(run.folder, options.selection), options.labels.labelled, options.training.seed)
    rows = {part: fold.rows(part)[data.known[fold.rows(part)]] for part in tables.PARTS}
    if len(rows["train"]) < 2 or (fold.number is not None and not len(rows["val"])):
        raise UserError(f"{run.folder.name}: too few slices to train or validate with; use more patients")
    slices.stop_at_one_class(run.folder.name, data.classes, data.targets[rows["train"]])
    training = options.training
    if fold.number is None:
        training = replace(training, epochs=fit.epochs_of_folds(run.folder.parent))
    spec = _spec(fold, options, data, region, images.grey_statistics(data.pixels, rows["train"]))
    weights.stop_if_trained_elsewhere(options.initial, spec)
    torch.manual_seed(training.seed)
    model = networks.build(spec, options.initial)
    training_networks.freeze(model, options.network.transfer)
    model = device.place(model, store.device, spec.image_size)
    targets = torch.as_tensor(data.targets, device=store.device)

    passes = 1 + (options.labels.least_steps - 1) * training.batch_size // len(rows["train"])
    fitting = Fit(model, run, training, -(-passes * len(rows["train"]) // training.batch_size))
    spec.save(run.folder)
    loss = criterion(targets[rows["train"]], spec.exclusive, options.network.balance == "weights")
    strength, axis = STRENGTHS[options.augmentation.augment], options.augmentation.axis(data.orientation)
    labelled = Labelled(spec, store, targets, loss, fit.augmentation(strength, axis, fitting.device_generator))
    learned = torch.as_tensor(rows["train"])
    for epoch in fitting.epochs():
        drawn = [draw(targets[learned], options.network.balance, fitting.generator) for _ in range(passes)]
        order = learned[torch.cat(drawn)]
        numbers = {"train_loss": fit.one_epoch(fitting, labelled, order)[0]}
        if len(rows["val"]):
            numbers |= validate(fitting, labelled, rows["val"])
        fitting.log(epoch, **numbers)
    written = [run.folder / name for name in checkpoints.MODEL]
    return written if fold.number is None else [*written, predict(fold, data, store, 4 * training.batch_size)]


def _spec(
    fold: Fold, options: Options, data: SliceData, region: dict[str, Any] | None, grey: tuple[float, float]
) -> ClassifierSpec:
    """model.json of a fold; `grey`: mean and standard deviation of its training slices."""
    network, selection = options.network, options.selection
    mean, std = weights.normalisation(options.initial, network.backbone, *grey)
    return ClassifierSpec(
        **data.learned(fold, selection), image_size=network.image_size, mean=mean, std=std, backbone=network.backbone,
        classes=data.classes, exclusive=data.exclusive,
        label=network.label, labelled=fold.labelled, region=region, joined=network.join, units=network.units, head=network.head,
        initial_weights=weights.origin(options.initial, network.backbone),
        joined_weights=[weights.origin(options.initial, name) for name in network.join],
    )  # fmt: skip


def criterion(targets: torch.Tensor, exclusive: bool, weigh: bool) -> fit.Criterion:
    """Cross-entropy for exclusive classes, else binary cross-entropy; `weigh` counts each class alike."""
    positives, n = targets.sum(dim=0).clamp(min=1), len(targets)
    if exclusive:
        weight = n / (targets.shape[1] * positives) if weigh else None
        return lambda logits, target: F.cross_entropy(logits, target, weight=weight)
    weight = (n - positives).clamp(min=1) / positives if weigh else None
    return lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def validate(fitting: Fit, data: Labelled, rows: np.ndarray) -> dict[str, float]:
    """Mean loss and accuracy (argmax, or every label on its side of 0.5) of the slices `rows`."""
    batch_size = 4 * fitting.options.batch_size
    logits, targets = (
        inference.logits(fitting.averaged, data.spec, data.source, rows, batch_size, fitting.dtype),
        data.targets[rows],
    )
    if data.spec.exclusive:
        right = logits.argmax(dim=1) == targets.argmax(dim=1)
    else:
        right = ((logits > 0) == (targets > 0.5)).all(dim=1)
    return {"val_loss": float(data.criterion(logits, targets)), "val_accuracy": float(right.float().mean())}


def predict(fold: Fold, data: SliceData, store: Store, batch_size: int) -> Path:
    """Write predictions.csv of a fold: its validation and test slices, those with an unknown label included."""
    model, spec = networks.load(fold.folder, store.device)
    about = data.about(fold, np.flatnonzero(np.isin(fold.part, ("val", "test"))))
    return tables.write_predictions(fold.folder, inference.predict_slices(model, spec, store, about, data.targets, batch_size))
