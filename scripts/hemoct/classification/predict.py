"""Probabilities of new images: the mean of the fold models of an experiment."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import networks
from hemoct.data import images, slices
from hemoct.data.prepared import Shown
from hemoct.prepare.preparation import NOTHING, Preparation
from hemoct.training import inference
from hemoct.training.batches import Store

TOGETHER = 8  # batches of files that are decoded before they are predicted


def predict_data(
    work: Workspace, folders: list[Path], batch_size: int, device: torch.device, names: dict[str, str] | None = None,
    preparation: Preparation = NOTHING,
) -> pd.DataFrame:  # fmt: skip
    """Every labelled image of a data set: image_id, patient, fold, part, y_*, p_*. Stops at other labels than the models'.

    `names`: what the models call a label of the data set, by its name there. `preparation`: see data.prepared.for_other.
    """
    spec = networks.read_shared(folders)
    dataset = tables.read_dataset(work)
    labels, dataset = tables.rename_labels(tables.read_labels(work, dataset), dataset, names or {})
    one = spec.classes[0] if len(spec.classes) == 1 else None
    if not ({one} <= {*dataset.labels, slices.ANY} if one else spec.classes == dataset.labels):
        raise UserError(
            f"{work.dataset} has the label(s) {', '.join(dataset.labels)}, the models know {', '.join(spec.classes)}; if one of "
            f"them is the same under another name: --map {dataset.labels[-1]}={spec.classes[0]}; else train anew"
        )
    _, targets = slices.choose_targets(labels, dataset, one)
    chosen, kept = slices.choose(work, labels, ~np.isnan(targets).any(axis=1), None, split=False)
    about = chosen.table[["image_id", "patient"]].assign(fold=0, part="test")
    pixels = images.cached(work, chosen.table, spec.image_size, preparation=preparation)
    return inference.with_columns(about, spec.classes, targets[kept], _mean(pixels, folders, batch_size, device))


def predict_files(paths: list[Path], folders: list[Path], batch_size: int, device: torch.device, shown: Shown) -> pd.DataFrame:
    """Image files: image, p_*. `shown`: how they are prepared. No more than TOGETHER batches of them lie in memory."""
    spec = networks.read_shared(folders)
    parts = images.decode_parts(paths, spec.image_size, TOGETHER * batch_size, prepared=shown.look_at(paths).of_file)
    load = functools.cache(networks.load)
    predicted = np.concatenate([_mean(pixels, folders, batch_size, device, load) for pixels in parts])
    return inference.with_columns(pd.DataFrame({"image": [str(path) for path in paths]}), spec.classes, None, predicted)


def _mean(
    pixels: np.ndarray, folders: list[Path], batch_size: int, device: torch.device, load: inference.Load = networks.load
) -> np.ndarray:
    return inference.mean_of_models(load, folders, Store(pixels, device), len(pixels), batch_size)
