"""What a trained network says of slices: logits, probabilities, the rows of predictions.csv."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemoct.training.batches import Source
from hemoct.training.specs import Spec


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


class Labelled(Protocol):
    """Slices with truths (n, classes)."""

    table: pd.DataFrame
    targets: np.ndarray


def predict_slices(
    model: nn.Module, spec: Spec, data: Labelled, source: Source, part: np.ndarray, rows: np.ndarray, batch_size: int
) -> pd.DataFrame:
    """The rows of predictions.csv for the slices `rows` of `data`; `part`: of each of its slices."""
    found = logits(model, spec, source, rows, batch_size)
    start = {"image_id": data.table["image_id"], "patient": data.table["patient"], "fold": spec.fold or 0, "part": part}
    frame = pd.DataFrame(start).iloc[rows].reset_index(drop=True)
    return with_columns(frame, spec.classes, data.targets[rows], probabilities(found, spec.exclusive))


def with_columns(frame: pd.DataFrame, classes: list[str], truths: np.ndarray | None, found: np.ndarray) -> pd.DataFrame:
    """`frame` with y_LABEL (where there are `truths`) and p_LABEL for each class; both arrays are (n, classes)."""
    for column, name in enumerate(classes):
        if truths is not None:
            frame[f"y_{name}"] = pd.array(truths[:, column], dtype="Float64").astype("Int64")  # NaN, unknown, becomes empty
        frame[f"p_{name}"] = found[:, column]
    return frame
