"""Pre-training of an encoder on the training slices of one fold: what is shown, what is minimised."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import figure
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.data import images, slices
from hemoct.data.slices import Fold, SliceData
from hemoct.pretrain import figures, losses, networks
from hemoct.pretrain.networks import PretrainedSpec
from hemoct.pretrain.options import SUPERVISED, Method, Options
from hemoct.training import checkpoints, device, fit as training_fit, weights
from hemoct.training.batches import Store
from hemoct.training.fit import Augment, Fit
from hemoct.training.options import STRENGTHS

PATCHES = 8  # along one side
SHOWN = 6
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""the loss of images in 0..1 (b, 1, side, side), which are these rows of the data (b,)"""


def train_fold(run: Run, options: Options, data: SliceData, store: Store) -> list[Path]:
    """Pre-train the encoder of the run's folder on the training slices of its fold, no others; returns what was written."""
    options = replace(options, initial=options.initial.of_fold(data.work, run.folder))
    fold, training = data.fold(run.folder, options.selection), options.training
    if data.classes:
        fold = slices.keep_labels(data, fold, options.labels.labelled, training.seed)
    rows = fold.rows("train")
    if len(rows) < 2:
        raise UserError(f"{run.folder.name}: {len(rows)} training slice(s), too few to learn from; use more patients")
    if data.classes:
        slices.stop_at_one_class(run.folder.name, data.classes, data.targets[rows])
    spec = _spec(fold, options, data, rows)
    weights.stop_if_trained_elsewhere(options.initial, spec)
    torch.manual_seed(training.seed)
    model = device.place(networks.build(spec, options.initial), store.device, spec.image_size)

    fitting = Fit(model, run, training, -(-len(rows) // training.batch_size))
    spec.save(run.folder)
    strength, axis = STRENGTHS[options.augmentation.augment], options.augmentation.axis(data.orientation)
    augment = training_fit.augmentation(strength, axis, fitting.device_generator)
    classes = torch.as_tensor(class_numbers(data.targets), device=store.device)
    loss = loss_of(fitting, spec, options.method, augment, classes)
    learned = torch.as_tensor(rows)
    for epoch in fitting.epochs():
        order = learned[torch.randperm(len(learned), generator=fitting.generator)]
        order = order[: len(order) - (len(order) % training.batch_size == 1)]  # a single slice has no others
        total = torch.zeros((), device=store.device)
        for position, batch in store.batches(order, training.batch_size):
            value = loss(batch, order[position])
            fitting.step(value)
            total += value.detach() * len(batch)
        fitting.log(epoch, train_loss=float(total) / len(order))
    drawn = {"curves": figures.curves(fitting.history, data.work.show(run.folder))}
    if spec.method == "autoencoder":
        drawn["restored"] = figures.restored(restoration(fitting, spec, options.method, store, rows), "training slices")
    return [*(run.folder / name for name in checkpoints.MODEL), *figure.save_all(drawn, run.folder)]


def _spec(fold: Fold, options: Options, data: SliceData, rows: np.ndarray) -> PretrainedSpec:
    """model.json of a fold."""
    method, patients = options.method, data.table["patient"].iloc[rows].nunique()
    before = weights.of_pretraining(options.initial) or {}
    mean, std = weights.normalisation(options.initial, method.backbone, *images.grey_statistics(data.pixels, rows))
    return PretrainedSpec(
        **data.learned(fold, options.selection), image_size=method.image_size, mean=mean, std=std, backbone=method.backbone,
        method=method.method, patients=patients, slices=len(rows), classes=data.classes,
        labelled=(fold.labelled or {}) if data.classes else before.get("labelled"),
        initial_weights=weights.origin(options.initial, method.backbone),
    )  # fmt: skip


def class_numbers(targets: np.ndarray) -> np.ndarray:
    """The class of each slice by its targets (n, classes), int64 (n,): slices with the same labels are of one class."""
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1) if targets.shape[1] else np.zeros(len(targets), int)


def loss_of(fitting: Fit, spec: PretrainedSpec, method: Method, augment: Augment, classes: torch.Tensor) -> Loss:
    """What is minimised. `classes` (n,) of all slices of the data."""

    def seen(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (augment(batch, rows) - spec.mean) / spec.std

    def restoring(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        clean = seen(batch, rows)
        with fitting.autocast():
            restored = fitting.model(corrupt(clean, method.noise / spec.std, method.masked, fitting.device_generator))
        return F.mse_loss(restored.float(), clean)

    def contrasting(batch: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        with fitting.autocast():
            views = fitting.model(torch.cat([seen(batch, rows), seen(batch, rows)])).float()
        first, second = views.chunk(2)
        if method.method == "vicreg":
            return losses.vicreg(first, second)
        if method.method == SUPERVISED:
            return losses.supervised_contrastive(first, second, classes[rows.to(classes.device)], method.temperature)
        return losses.nt_xent(first, second, method.temperature)

    return restoring if method.method == "autoencoder" else contrasting


def corrupt(images: torch.Tensor, noise: float, masked: float, generator: torch.Generator) -> torch.Tensor:
    """Images (b, 1, side, side) with Gaussian noise, and a share of their PATCHES x PATCHES patches at 0, the mean."""
    options = {"generator": generator, "device": images.device}
    kept = torch.rand(len(images), 1, PATCHES, PATCHES, **options) >= masked
    noisy = images + noise * torch.randn(images.shape, **options)
    return noisy * F.interpolate(kept.float(), images.shape[2:], mode="nearest")


@torch.inference_mode()
def restoration(fitting: Fit, spec: PretrainedSpec, method: Method, store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    """A few training slices, evenly: as they are, as they are given to the network, as it restores them; (n, side, side) each."""
    some = torch.as_tensor(rows[np.linspace(0, len(rows) - 1, SHOWN).round().astype(int)])
    clean = (next(store.batches(some, SHOWN))[1] - spec.mean) / spec.std
    given = corrupt(clean, method.noise / spec.std, method.masked, torch.Generator(store.device).manual_seed(0))
    fitting.model.eval()
    of_rows = {"slice": clean, "given": given, "restored": fitting.model(given)}
    return {name: (each * spec.std + spec.mean).clamp(0, 1)[:, 0].cpu().numpy() for name, each in of_rows.items()}
