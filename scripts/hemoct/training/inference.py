"""What a trained network says of slices: logits, probabilities, the rows of predictions.csv."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemoct.base import tables
from hemoct.training import parallel
from hemoct.training.batches import Source
from hemoct.training.specs import Spec

Load = Callable[[Path, torch.device], tuple[nn.Module, Spec]]
"""rebuilds the model of a fold's folder, in evaluation mode on the device"""


@torch.inference_mode()
def logits(
    model: nn.Module, spec: Spec, store: Source, rows: np.ndarray, batch_size: int, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Logits of the slices `rows` of a store: float32 (len(rows), classes) on the store's device. `dtype` is that of autocast."""
    model.eval()
    shared = parallel.share(len(rows), batch_size)
    batches = zip(shared.parts, store.batches(torch.as_tensor(rows)[shared.own], shared.sizes), strict=True)
    with torch.autocast(store.device.type, dtype=dtype, enabled=dtype is not None):
        return torch.cat([part.whole(model(batch.sub_(spec.mean).div_(spec.std)).float()) for part, (_, batch) in batches])


def probabilities(logits: torch.Tensor, exclusive: bool) -> np.ndarray:
    """Softmax over exclusive classes, else a sigmoid for each: float64 (n, classes)."""
    return activated(logits.cpu().double(), exclusive).numpy()  # in this order: MPS has no float64


def activated(logits: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """As `probabilities`, on the device and in the precision of the logits."""
    return logits.softmax(dim=1) if exclusive else logits.sigmoid()


def mean_of_models(load: Load, folders: list[Path], source: Source, slices: int, batch_size: int) -> np.ndarray:
    """Mean probabilities of the models in `folders` for all `slices` of a source: float64 (slices, classes)."""
    total = 0.0
    for folder in folders:
        model, spec = load(folder, source.device)
        total = total + probabilities(logits(model, spec, source, np.arange(slices), batch_size), spec.exclusive)
    return total / len(folders)


def predict_slices(
    model: nn.Module, spec: Spec, source: Source, about: pd.DataFrame, targets: np.ndarray, batch_size: int
) -> pd.DataFrame:
    """The rows of predictions.csv for the slices `about`: image_id, patient, fold, part; its index are their rows in the source.

    `targets`: of all slices of the source (n, classes), NaN where unknown.
    """
    rows = about.index.to_numpy(copy=True)
    predicted = probabilities(logits(model, spec, source, rows, batch_size), spec.exclusive)
    return tables.with_columns(about.reset_index(drop=True), spec.classes, targets[rows], predicted)
