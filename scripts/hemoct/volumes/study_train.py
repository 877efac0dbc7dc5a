"""Training of a network on labels of studies: one fold, its loss, its predictions of studies, and what it says of slices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.data import images, slices
from hemoct.data.slices import Fold, SliceData
from hemoct.training import augment, checkpoints, inference, networks, weights
from hemoct.training.fit import Fit
from hemoct.training.options import STRENGTHS
from hemoct.volumes import study_networks
from hemoct.volumes.arrays import Sequences, Volumes
from hemoct.volumes.features import Cells, Maker
from hemoct.volumes.studies import PREFIX
from hemoct.volumes.study_networks import StudySpec
from hemoct.volumes.study_options import OF_SLICES, Options

PREDICTED_AT_ONCE = 8  # studies
Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""what is seen of studies, and their targets, changed"""


@dataclass(frozen=True)
class Studies:
    """The studies of a data set and their slices."""

    slices: SliceData
    """all slices, and their pixels"""
    data: SliceData
    """the studies, each known by its middle slice: `table`, `classes`, `targets`"""
    rows: np.ndarray
    """rows of the slices that are seen of each study, int64 (studies, most), -1 where there is none"""
    source: Volumes | Sequences


def train_fold(run: Run, options: Options, studies: Studies, made_by: Maker | None) -> list[Path]:
    """Train the network of the run's folder and predict the studies of its fold; returns what was written.

    `made_by`: what makes the features of slices where they are kept.
    """
    data, training, device = studies.data, options.training, studies.source.device
    fold = data.fold(run.folder, options.selection)
    if not len(fold.rows("train")) or not len(fold.rows("val")):
        raise UserError(f"{run.folder.name}: too few studies to train or validate with; use more patients")
    slices.stop_at_one_class(run.folder.name, data.classes, data.targets[fold.rows("train")])
    spec = _spec(run, fold, options, studies, made_by)
    torch.manual_seed(training.seed)
    network = study_networks.build(spec, options.initial)
    seen_in_training = np.unique(studies.rows[fold.rows("train")])
    if made_by is not None:
        _fit_scale(network, studies.source.features, seen_in_training[seen_in_training >= 0])
    network = study_networks.place(network, device, spec)
    targets = torch.tensor(data.targets, device=device)
    learned, validated = (torch.as_tensor(fold.rows(part)) for part in ("train", "val"))
    passes = 1 + (options.labels.least_steps - 1) * training.batch_size // len(learned)
    fitting = Fit(network, run, training, -(-len(_even(learned.repeat(passes), training.batch_size)) // training.batch_size))
    spec.save(run.folder)
    changed = _augment(options, data, fitting.device_generator)
    for epoch in fitting.epochs():
        losses = []
        order = torch.cat([learned[torch.randperm(len(learned), generator=fitting.generator)] for _ in range(passes)])
        for which, seen, inside in studies.source.batches(_even(order, training.batch_size), training.batch_size):
            seen, truth = changed(seen, targets[which.to(device)])
            with fitting.autocast():
                logits = fitting.model(prepared(seen, spec, made_by), inside)
            value = loss(logits.float(), truth, spec.exclusive)
            fitting.step(value)
            losses.append(value.detach())
        logits = logits_of(fitting.averaged, spec, studies, validated, made_by)
        of_validation = loss(logits, targets[validated.to(device)], spec.exclusive)
        fitting.log(epoch, train_loss=float(torch.stack(losses).mean()), val_loss=float(of_validation))
    network = checkpoints.load_trained(network, run.folder)
    written = [run.folder / name for name in checkpoints.MODEL]
    return [*written, *predict(run.folder, fold, spec, studies, (network, made_by))]


def _spec(run: Run, fold: Fold, options: Options, studies: Studies, made_by: Maker | None) -> StudySpec:
    """model.json of a fold."""
    study, features, initial, data = options.study, options.features, options.initial, studies.data
    told: dict[str, Any] = {"backbone": None, "image_size": features.image_size, "made_of": [], "initial_weights": None}
    if made_by is not None:
        told = {name: made_by.about[name] for name in (*told, "mean", "std")}
    else:
        rows = np.unique(studies.rows[fold.rows("train")])
        told["mean"], told["std"] = images.grey_statistics(studies.slices.pixels, rows[rows >= 0])
        name = study.network if study.is_volume else features.backbone
        if not study.is_volume:
            told["backbone"] = name
            told["mean"], told["std"] = weights.normalisation(initial, name, told["mean"], told["std"])
        if not study.is_volume or initial.inputs():
            told["initial_weights"] = weights.origin(initial, name)
    spec = StudySpec(
        **told, **data.learned(fold, options.selection), classes=data.classes, exclusive=data.exclusive,
        width=_width(studies, options, made_by), cells=features.cells, made_by=run.record["step"], **vars(study),
    )  # fmt: skip
    weights.stop_if_trained_elsewhere(initial, spec)
    return spec


def _width(studies: Studies, options: Options, made_by: Maker | None) -> int:
    """How many features a network has of a slice; 0 of a 3D one."""
    if options.study.is_volume:
        return 0
    if made_by is not None:
        return studies.source.features.shape[1]
    size = options.features.image_size
    body = networks.build_backbone(options.features.backbone, size, 1, 0)[0].eval()
    with torch.inference_mode():
        return Cells(body, options.features.cells)(torch.zeros(1, 1, size, size)).shape[1]


def _fit_scale(network: nn.Module, features: np.ndarray, rows: np.ndarray) -> None:
    """Take mean and standard deviation from the features of the slices `rows`, some at a time."""
    parts = [np.asarray(features[chunk], np.float64) for chunk in np.array_split(rows, max(1, len(rows) // 1024))]
    mean = sum(part.sum(axis=0) for part in parts) / len(rows)
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in parts) / len(rows)
    network.mean.copy_(torch.from_numpy(mean))
    std = np.sqrt(variance)
    network.std.copy_(torch.from_numpy(std.clip(0.1 * std.mean())))  # what hardly differs in training may differ widely elsewhere


def _even(order: torch.Tensor, size: int) -> torch.Tensor:
    """The order less a last batch of one study: batch normalisation cannot use a single one."""
    return order[:-1] if len(order) > 1 and len(order) % size == 1 else order


def _augment(options: Options, data: SliceData, generator: torch.Generator) -> Augment:
    """How training volumes are changed, all slices of one alike, and with them their targets.

    A mirrored head bleeds on the other side: of a class that names a side the target is swapped; where several name one, nothing
    is mirrored.
    """
    strength, axis = STRENGTHS[options.augmentation.augment], options.augmentation.axis(data.orientation)
    if strength is None or options.study.keeps_features:
        return lambda seen, targets: (seen, targets)
    sided = any(name.removeprefix(PREFIX).startswith(label_meaning.SIDE) for name in data.classes)
    if sided and len(data.classes) > 1:
        strength = replace(strength, mirror=False)

    def changed(seen: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen, moves = augment.augment(seen, strength, axis, generator)
        mirrored = torch.linalg.det(moves[:, :, :2]) < 0
        return seen, torch.where(mirrored[:, None] & sided, 1 - targets, targets)

    return changed


def prepared(seen: torch.Tensor, spec: StudySpec, made_by: Maker | None) -> torch.Tensor:
    """Grey values in 0..1 as a network takes them; features, which were `made_by` another, are taken as they are."""
    return seen if made_by is not None else (seen - spec.mean) / spec.std


@torch.inference_mode()
def logits_of(
    network: nn.Module, spec: StudySpec, studies: Studies, which: torch.Tensor, made_by: Maker | None,
    of: Callable[[nn.Module, torch.Tensor, torch.Tensor], Any] | None = None,
) -> Any:  # fmt: skip
    """Logits of the studies `which`, float32 (k, classes), on the device; or a list of what `of` says of each batch."""
    network.eval()
    made = []
    for _, seen, inside in studies.source.batches(which, PREDICTED_AT_ONCE):
        seen = prepared(seen, spec, made_by)
        made.append(network(seen, inside).float() if of is None else of(network, seen, inside))
    return torch.cat(made) if of is None else made


def loss(logits: torch.Tensor, targets: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Cross-entropy of exclusive classes, else binary cross-entropy; (n, classes) each."""
    return F.cross_entropy(logits, targets) if exclusive else F.binary_cross_entropy_with_logits(logits, targets)


def predict(folder: Path, fold: Fold, spec: StudySpec, studies: Studies, trained: tuple[nn.Module, Maker | None]) -> list[Path]:
    """Write predictions.csv of a fold's validation and test studies, and of networks that see slices slice_scores.csv."""
    rows = np.flatnonzero(fold.part != "train")
    which, (network, made_by) = torch.as_tensor(rows), trained
    predicted = inference.probabilities(logits_of(network, spec, studies, which, made_by), spec.exclusive)
    about = studies.data.about(fold, rows).reset_index(drop=True)
    frame = tables.with_columns(about, spec.classes, studies.data.targets[rows], predicted)
    written = [tables.write_predictions(folder, frame)]
    if not hasattr(network, "of_slices"):
        return written
    said = logits_of(network, spec, studies, which, made_by, lambda network, *seen: network.of_slices(*seen))
    each = [(logits.float().cpu(), attention.float().cpu()) for batch in said for logits, attention in zip(*batch, strict=True)]
    scores = []
    for number, (row, (logits, attention)) in enumerate(zip(rows, each, strict=True)):
        own = studies.rows[row][studies.rows[row] >= 0]
        relative = attention[: len(own)] * len(own)  # 1 is the mean of the study's slices
        of_slices = studies.slices.table[["image_id", "patient"]].iloc[own].reset_index(drop=True).assign(
            fold=about["fold"][number], part=about["part"][number], study=studies.data.table["study"][row],
            attention=(relative / (1 + relative)).numpy(),
        )  # fmt: skip
        found = inference.probabilities(logits[: len(own)], spec.exclusive)
        scores.append(tables.with_columns(of_slices, spec.classes, None, found))
    scored = pd.concat(scores, ignore_index=True).drop_duplicates("image_id")  # a stretched volume repeats slices
    return [*written, tables.write_csv(folder / OF_SLICES, scored)]
