"""Probabilities of new images: the mean of the fold models of an experiment."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemoct.base import figure as base_figure, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import networks, predictions
from hemoct.classification.predictions import ClassifierSpec
from hemoct.data import images, named_slices, slices
from hemoct.data.named_images import ImageFiles
from hemoct.data.named_slices import AsImages
from hemoct.data.prepared import Shown
from hemoct.evaluation import overlays, sheets
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
    spec = predictions.read_shared(folders)
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
    return tables.with_columns(about, spec.classes, targets[kept], _mean(pixels, folders, batch_size, device))


def predict_files(paths: list[Path], folders: list[Path], batch_size: int, device: torch.device, shown: Shown) -> pd.DataFrame:
    """Image files: image, p_*. `shown`: how they are prepared. No more than TOGETHER batches of them lie in memory."""
    spec = predictions.read_shared(folders)
    parts = images.decode_parts(paths, spec.image_size, TOGETHER * batch_size, prepared=shown.look_at(paths).of_file)
    load = functools.cache(networks.load)
    predicted = np.concatenate([_mean(pixels, folders, batch_size, device, load) for pixels in parts])
    return tables.with_columns(pd.DataFrame({"image": [str(path) for path in paths]}), spec.classes, None, predicted)


def known(work: Workspace, files: AsImages, folders: list[Path]) -> ImageFiles:
    """What the tables know of files, in the order in which they were found."""
    specs = [ClassifierSpec.read(folder) for folder in folders]
    found = named_slices.look_up(work, files, specs)
    order = pd.Series(np.arange(len(found.table)), index=found.table["image"]).loc[[str(path) for path in files.paths]].to_numpy()
    table, labels = (frame.iloc[order].reset_index(drop=True) for frame in (found.table, found.labels))
    return replace(found, table=table, labels=labels, seen=found.seen[order])


def call(frame: pd.DataFrame, classes: list[str], threshold: float) -> pd.Series | None:
    """Add `threshold` and whether it is reached, of a single label; None of several, of which the highest is meant."""
    if len(classes) > 1:
        return None
    frame["threshold"] = threshold
    frame[classes[0]] = (frame[f"p_{classes[0]}"] >= threshold).astype(int)
    return frame[classes[0]]


def montage(shown: ImageFiles, frame: pd.DataFrame, classes: list[str], path: Path) -> Path:
    """The images with the highest probabilities, of the last label, in the order of the table."""
    name = classes[-1]
    rows = np.sort(np.argsort(-frame[f"p_{name}"].to_numpy(), kind="stable")[: sheets.PAGE])
    tiles = []
    for row, grey in zip(rows, images.decode([shown.paths[row] for row in rows], desc="draw"), strict=True):
        called = " called" if frame.get(name, pd.Series(0, frame.index))[row] else ""
        caption = f"{shown.title(row)}{' *' if shown.seen[row] else ''}\n{name} {frame[f'p_{name}'][row]:.2f}{called}"
        tiles.append((overlays.enlarged(grey, overlays.TILE)[0], caption))
    heading = [f"{len(frame)} images, the {len(rows)} highest probabilities of {name}; no diagnosis"]
    return base_figure.save(overlays.sheet(tiles, heading + [f"* {sheets.SEEN}"] * bool(shown.seen.any())), path)


def _mean(
    pixels: np.ndarray, folders: list[Path], batch_size: int, device: torch.device, load: inference.Load = networks.load
) -> np.ndarray:
    return inference.mean_of_models(load, folders, Store(pixels, device), len(pixels), batch_size)
