"""Probabilities of new images: the mean of the fold models of an experiment."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import networks
from hemoct.data import images, slices
from hemoct.training import inference
from hemoct.training.batches import Store


def predict_data(work: Workspace, folders: list[Path], batch_size: int, device: torch.device) -> pd.DataFrame:
    """Every labelled image of a data set: image_id, patient, fold, part, y_*, p_*. Stops at other labels than the models'."""
    spec = networks.read_shared(folders)
    data = slices.load(work, spec.image_size, spec.label, split=False)
    if data.classes != spec.classes:
        raise UserError(
            f"{work.dataset} has the label(s) {', '.join(data.classes)}, the models know {', '.join(spec.classes)}; train anew"
        )
    about = data.table[["image_id", "patient"]].assign(fold=0, part="test")
    return inference.with_columns(about, spec.classes, data.targets, _mean(data.pixels, folders, batch_size, device))


def predict_files(paths: list[Path], folders: list[Path], batch_size: int, device: torch.device) -> pd.DataFrame:
    """Image files: image, p_*."""
    spec = networks.read_shared(folders)
    pixels = images.decode_all(paths, spec.image_size)
    frame = pd.DataFrame({"image": [str(path) for path in paths]})
    return inference.with_columns(frame, spec.classes, None, _mean(pixels, folders, batch_size, device))


def _mean(pixels: np.ndarray, folders: list[Path], batch_size: int, device: torch.device) -> np.ndarray:
    return inference.mean_of_models(networks.load, folders, Store(pixels, device), len(pixels), batch_size)
