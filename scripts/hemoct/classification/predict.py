"""Probabilities from trained classifiers: of a fold's own slices, of another data set, of any image files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, slices
from hemoct.training import device as training_device
from hemoct.training import networks
from hemoct.training.batches import Source, Store
from hemoct.training.specs import Spec


class Labelled(Protocol):
    """Slices with truths (n, classes)."""

    table: pd.DataFrame
    targets: np.ndarray


@torch.inference_mode()
def logits(
    model: nn.Module,
    spec: Spec,
    store: Source,
    rows: np.ndarray,
    batch_size: int,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Logits of the slices `rows` of a store: float32 (len(rows), classes) on the store's device. `dtype` is that of autocast."""
    model.eval()
    found = []
    with torch.autocast(store.device.type, dtype=dtype, enabled=dtype is not None):
        for _, batch in store.batches(torch.as_tensor(rows), batch_size):
            found.append(model((batch - spec.mean) / spec.std).float())
    return torch.cat(found)


def probabilities(found: torch.Tensor, exclusive: bool) -> np.ndarray:
    """Softmax over exclusive classes, else a sigmoid for each: float64 (n, classes)."""
    found = found.cpu().double()  # in this order: MPS has no float64
    return (found.softmax(dim=1) if exclusive else found.sigmoid()).numpy()


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
    return predict_slices(model, spec, data, store, part, np.flatnonzero(part != "train"), batch_size)


def predict_slices(
    model: nn.Module, spec: Spec, data: Labelled, source: Source, part: np.ndarray, rows: np.ndarray, batch_size: int
) -> pd.DataFrame:
    """The rows of predictions.csv for the slices `rows` of `data`; `part`: of each of its slices."""
    found = logits(model, spec, source, rows, batch_size)
    start = {"image_id": data.table["image_id"], "patient": data.table["patient"], "fold": spec.fold or 0, "part": part}
    frame = pd.DataFrame(start).iloc[rows].reset_index(drop=True)
    return with_columns(frame, spec.classes, data.targets[rows], probabilities(found, spec.exclusive))


def predict_ensemble(work: Workspace, folders: list[Path], args: argparse.Namespace) -> pd.DataFrame:
    """Every slice of `work` that has a label, with the mean of the models' probabilities: image_id, patient, y_*, p_*."""
    spec = networks.read_spec(folders[0])
    data = slices.load(work, spec.image_size, spec.label, args.limit_patients, split=False)
    _stop_if_other_classes(work, data.classes, spec)
    mean = _mean(data.pixels, folders, args)
    return with_columns(data.table[["image_id", "patient"]].copy(), spec.classes, data.targets, mean)


def predict_files(paths: list[Path], folders: list[Path], args: argparse.Namespace) -> pd.DataFrame:
    """Image files with the mean of the models' probabilities: image, p_*."""
    spec = networks.read_spec(folders[0])
    pixels = images.decode_all(paths, spec.image_size)
    frame = pd.DataFrame({"image": [str(path) for path in paths]})
    return with_columns(frame, spec.classes, None, _mean(pixels, folders, args))


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
        total = total + probabilities(logits(model, spec, store, np.arange(len(pixels)), args.batch_size), spec.exclusive)
    return total / len(folders)


def with_columns(frame: pd.DataFrame, classes: list[str], truths: np.ndarray | None, found: np.ndarray) -> pd.DataFrame:
    """`frame` with y_LABEL (where there are `truths`) and p_LABEL for each class; both arrays are (n, classes)."""
    for column, name in enumerate(classes):
        if truths is not None:
            frame[f"y_{name}"] = pd.array(truths[:, column], dtype="Float64").astype("Int64")  # NaN, unknown, becomes empty
        frame[f"p_{name}"] = found[:, column]
    return frame
