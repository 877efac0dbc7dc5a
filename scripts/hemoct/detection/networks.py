"""Detectors of both families behind one interface: what describes one, its training on a fold, its boxes.

Each family is a module (detection.yolo, detection.torchvision_models) with the same names: LR, stop_if_unfit, group_norm,
build, train, runner.
"""

import difflib
import importlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from hemoct.base import tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import fusion, images, prepared
from hemoct.detection.data import BoxData, choose_negatives
from hemoct.detection.options import FAMILIES, Options
from hemoct.detection.predictions import DetectorSpec, as_rows
from hemoct.training import weights
from hemoct.training.checkpoints import load_trained
from hemoct.training.options import Strength

# Augmentation that suits a CT slice. A grey image has no colours, and its brightness is HU: it may vary as between scanners,
# no more. A head may be turned and shifted a little and mirrored left to right, never front to back.
CT = Strength(mirror=True, degrees=10.0, scale=0.25, shift=0.1, brightness=0.0, contrast=0.15)


@dataclass(frozen=True)
class FoldTraining:
    """All that the training of one fold needs, whatever the family."""

    run: Run
    options: Options
    spec: DetectorSpec
    data: BoxData
    rows: dict[str, np.ndarray]
    """row numbers in `data` of the slices of `train` and `val`"""


def family(model: str) -> ModuleType:
    """The module of a model's family: torchvision's detectors by their name, all others are of Ultralytics."""
    name = "torchvision_models" if model.startswith(FAMILIES) else "yolo"
    return importlib.import_module(f"hemoct.detection.{name}")


def unknown(model: str, problem: str, known: Iterable[str]) -> UserError:
    """The error for a --model that there is not; `problem`: what it is not."""
    near = difflib.get_close_matches(model, list(known), n=3, cutoff=0.4)
    return UserError(f"--model {model} is {problem}; near it: {', '.join(near) or 'none'}")


def not_fetched(model: str, error: Exception) -> UserError:
    """The error for COCO weights that could not be downloaded."""
    return UserError(
        f"--weights coco: the weights of {model} could not be fetched ({one_line(error)}); connect to the internet, "
        "name a local file (--weights FILE), or train from scratch (--weights none)"
    )


def load(folder: Path, device: torch.device) -> tuple[nn.Module, DetectorSpec]:
    """Rebuild the detector of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = DetectorSpec.read(folder)
    return load_trained(family(spec.model).build(spec), folder).to(device).eval(), spec


def train_fold(run: Run, options: Options, work: Workspace, data: BoxData, device: torch.device) -> list[Path]:
    """Train the detector of the run's folder and predict the slices of its fold; returns what was written."""
    fold, network, selection = data.fold(run.folder, options.selection), options.network, options.selection
    of_family = family(network.model)
    rows = {part: fold.rows(part) for part in ("train", "val")}
    for part, of_part in rows.items():
        if not data.positive[of_part].any():
            raise UserError(f"{run.folder.name}: no slice of {part} has a box; use more patients, or another --split")
    chosen = choose_negatives(data.positive[rows["train"]], options.sampling.ratio, options.training.seed + fold.number)
    rows["train"] = rows["train"][chosen]
    preparation = prepared.for_training(work, selection.prepare)
    mean, std = images.grey_statistics(
        images.cached(work, data.table, network.image_size, preparation=preparation), rows["train"]
    )
    if network.backbone:
        mean, std = weights.normalisation(options.initial, network.backbone, mean, std)
    spec = DetectorSpec(
        **data.learned(fold, selection), image_size=network.image_size, mean=mean, std=std,
        initial_weights=weights.origin(options.initial, network.backbone or network.model),
        model=network.model, backbone=network.backbone, classes=data.classes, group_norm=of_family.group_norm(options.initial),
    )  # fmt: skip
    weights.stop_if_trained_elsewhere(options.initial, spec)
    training = replace(options.training, lr=options.training.lr or of_family.LR)
    of_family.train(FoldTraining(run, replace(options, training=training), spec, data, rows), work, device)
    written = predict_fold(work, run.folder, data, 4 * training.batch_size, device)
    return [*(run.folder / name for name in ("best.pt", "model.json", "history.csv")), *written]


def detect(model: nn.Module, spec: DetectorSpec, slices: Iterable[np.ndarray], batch_size: int) -> list[np.ndarray]:
    """Boxes of grey slices (uint8, any size), most confident first: float64 (k, 6) each, in pixels of the slice.

    Columns: xmin, ymin, xmax, ymax, confidence, class number. See fusion.strongest.
    """
    predicted, run = [], family(spec.model).runner(model, spec)
    following = iter(slices)
    while batch := list(itertools.islice(following, batch_size)):
        for boxes in run(batch):
            predicted.append(fusion.strongest(boxes))
    return predicted


def predict_fold(work: Workspace, folder: Path, data: BoxData, batch_size: int, device: torch.device) -> list[Path]:
    """Write predictions.csv (val, test) and train_predictions.csv of a fold, from its best.pt, for the slices of `data`.

    The boxes of training slices are for steps that learn from a detector's output; nothing is measured on them.
    """
    model, spec = load(folder, device)
    if data.splits_sha256 != spec.splits_sha256:
        raise UserError(f"{work.show(folder)} was trained with another splits.csv; train it again, or restore the old splits.csv")
    part = data.part_of(spec.fold or 0, spec.protocol, spec.split)
    prepared_as = prepared.for_training(work, spec.prepare)
    paths = [work.raw / name for name in data.table["image"]]
    decoded = images.decode(paths, "detect", lambda path: prepared_as.grey(images.read_grey(path)))
    predicted = detect(model, spec, decoded, batch_size)
    about = data.table[["image_id", "patient"]].assign(fold=spec.fold or 0, part=part)
    return tables.write_parts(folder, as_rows(about, predicted, spec.classes))
