"""Probabilities from trained classifiers: of a fold's own slices, of another data set, of any image files."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, slices
from hemoct.training import device as training_device
from hemoct.training import inference, networks
from hemoct.training.batches import Store


def predict_fold(work: Workspace, folder: Path, args: argparse.Namespace) -> pd.DataFrame:
    """The rows of predictions.csv for the validation and test slices of one fold, from its best.pt."""
    device = training_device.pick(args.device)
    model, spec = networks.load(folder, device)
    data = slices.load(work, spec.image_size, spec.label, args.limit_patients, known_only=False)
    _stop_if_other_classes(work, data.classes, spec)
    if data.splits_sha256 != spec.splits_sha256:
        raise UserError(f"{work.show(folder)} was trained with another splits.csv; train it again, or restore the old splits.csv")
    return predict_parts(model, spec, data, Store(data.pixels, device), args.batch_size)


def predict_parts(
    model: nn.Module, spec: networks.ClassifierSpec, data: slices.SliceData, store: Store, batch_size: int
) -> pd.DataFrame:
    """The rows of predictions.csv for the validation and test slices of `data`, whose pixels are in `store`."""
    part = data.part_of(spec.fold or 0, spec.protocol, spec.split)
    return inference.predict_slices(model, spec, data, store, part, np.flatnonzero(part != "train"), batch_size)


def predict_ensemble(work: Workspace, folders: list[Path], args: argparse.Namespace) -> pd.DataFrame:
    """Every slice of `work` that has a label, with the mean of the models' probabilities: image_id, patient, y_*, p_*."""
    spec = networks.read_spec(folders[0])
    data = slices.load(work, spec.image_size, spec.label, args.limit_patients, split=False)
    _stop_if_other_classes(work, data.classes, spec)
    mean = _mean(data.pixels, folders, args)
    return inference.with_columns(data.table[["image_id", "patient"]].copy(), spec.classes, data.targets, mean)


def predict_files(paths: list[Path], folders: list[Path], args: argparse.Namespace) -> pd.DataFrame:
    """Image files with the mean of the models' probabilities: image, p_*."""
    spec = networks.read_spec(folders[0])
    pixels = images.decode_all(paths, spec.image_size)
    frame = pd.DataFrame({"image": [str(path) for path in paths]})
    return inference.with_columns(frame, spec.classes, None, _mean(pixels, folders, args))


def _stop_if_other_classes(work: Workspace, classes: list[str], spec: networks.ClassifierSpec) -> None:
    if classes != spec.classes:
        raise UserError(
            f"{work.dataset} has the label(s) {', '.join(classes)}, the models know {', '.join(spec.classes)}; train anew"
        )


def _mean(pixels: np.ndarray, folders: list[Path], args: argparse.Namespace) -> np.ndarray:
    device = training_device.pick(args.device)
    store = Store(pixels, device)
    total = 0.0
    first = networks.read_spec(folders[0])
    for folder in folders:
        model, spec = networks.load(folder, device)
        if (spec.classes, spec.image_size) != (first.classes, first.image_size):
            raise UserError(f"{folder} has other classes or another image size than {folders[0]}; keep experiments apart")
        total = total + inference.probabilities(
            inference.logits(model, spec, store, np.arange(len(pixels)), args.batch_size), spec.exclusive
        )
    return total / len(folders)
