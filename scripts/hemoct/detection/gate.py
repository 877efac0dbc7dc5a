"""Detection as a gate: the best region of a detector on every slice, cut out, and a classifier trained on these regions.

The gate of fold K classifies the regions of the detector of fold K (see detection.predictions for what that means).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import cache, experiments, options, tables
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification.options import Options
from hemoct.data import contents, images
from hemoct.data.slices import SliceData
from hemoct.detection import predictions
from hemoct.detection.options import Region
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.training import step

if TYPE_CHECKING:
    import torch

# ---- the regions of a detector


def read(work: Workspace, folder: Path, data: SliceData) -> tuple[SliceData, pd.DataFrame]:
    """The best box of a detector's fold folder on each slice of `data`: confidence, corners; 0 and NaN where it has none.

    Slices that the detector did not predict, as another of their labels is unknown, are left out of the data that are returned.
    For a label that is one of the detector's classes only boxes of that class count. Stops when predictions are wrong, lack
    slices, or are not of the parts that the slices have in this fold.
    """
    boxes, spec = predictions.read(work, folder, data)
    predicted = data.table["image_id"].isin(boxes["image_id"]).to_numpy()
    dataset = tables.read_dataset(work)
    known = data.table["image_id"][data.table[dataset.labels].notna().all(axis=1)]
    again = f"{predictions.AGAIN}, or give the --limit-patients that the detector was trained with"
    evaluation_predictions.stop_if_missing(work.show(folder / "predictions.csv"), known, boxes, again)
    kept = replace(data, table=data.table[predicted].reset_index(drop=True), targets=data.targets[predicted])
    counted = boxes[boxes["class"].isin(set(data.classes) & set(spec.classes) or spec.classes)]
    best = counted.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("image_id").set_index("image_id")
    best = best[predictions.GEOMETRY].reindex(kept.table["image_id"])
    return kept, best.fillna({"confidence": 0.0})


def squares(boxes: np.ndarray, region: Region) -> np.ndarray:
    """The pixels to cut out around boxes (n, 4): int64 (n, 4), xmin, ymin, xmax, ymax, the last two exclusive.

    A square with the centre of the box, its side that of the longer side of the box with the margin at both ends, and no
    less than the least side. It may reach beyond the image. Of NaN, no box, it is all zeros, which means the whole slice.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    longest = (high - low).max(axis=1, keepdims=True)
    side = np.maximum(np.ceil(longest * (1 + 2 * region.margin) - 1e-6), region.least_side)  # 1e-6: 10 * 1.2 is 12, not 13
    start = np.floor((low + high) / 2 - side / 2 + 0.5)
    return np.nan_to_num(np.concatenate([start, start + side], axis=1)).astype(np.int64)


def squares_of(work: Workspace, folders: list[Path], data: SliceData, region: Region) -> pd.DataFrame:
    """Confidence and the corners of the square by (image_id, fold), from the detector's fold folders."""
    frames = []
    for folder in folders:
        _, best = read(work, folder, data)
        best[CORNERS] = squares(best[CORNERS].to_numpy(), region)
        frames.append(best.assign(fold=experiments.fold_of(folder)).set_index("fold", append=True))
    return pd.concat(frames)


# ---- pixels


def crop(grey: np.ndarray, square: np.ndarray) -> np.ndarray:
    """One region of a slice (uint8, height x width) at native resolution, black beyond the image. `square`: see `squares`."""
    return np.asarray(Image.fromarray(grey).crop(tuple(int(edge) for edge in square))) if square.any() else grey


def cached(work: Workspace, table: pd.DataFrame, places: np.ndarray, size: int) -> np.ndarray:
    """All regions, in the order of `table`, as a read-only uint8 memory map (n, size, size), keyed by images and `squares`."""
    paths = [work.raw / name for name in table["image"]]
    key = cache.key(contents.checked(work, table["image"].tolist()), size, places.astype("<i8").tobytes())

    def regions() -> Iterable[np.ndarray]:
        decoded = images.decode(paths, desc=f"cut out to {size} px")
        return (images.resize(crop(grey, square), size) for grey, square in zip(decoded, places, strict=True))

    return cache.memory_map(work.cache / f"regions-{size}px-{key}.npy", lambda: ((len(paths), size, size), regions()))


# ---- training


@dataclass(frozen=True)
class Gate:
    """A classifier of the regions of a detector, with the detector's protocol: what is trained, and where the results go."""

    work: Workspace
    place: Path
    """the folder of the results; below it one for each fold"""
    detector: Path
    """the folder of the detector, which holds its folds"""
    options: Options
    region: Region

    @classmethod
    def of(cls, args: argparse.Namespace, work: Workspace, fold: Path, orientation: str) -> Self:
        """That of a call of 06_gate_classifier.py. `fold`: a fold's folder of the detector; `orientation`: that of the data."""
        spec, chosen = predictions.DetectorSpec.read(fold), options.read(args, Options)
        selection = replace(chosen.selection, protocol=spec.protocol, split=spec.split)
        augmentation = replace(chosen.augmentation, mirror=chosen.augmentation.axis(orientation))
        chosen = replace(chosen, selection=selection, augmentation=augmentation)
        place = work.task(2) / args.experiment / args.name
        return cls(work, place, fold.parent, chosen, options.read(args, Region))

    def recorded(self, args: argparse.Namespace) -> argparse.Namespace:
        """The flags for the run record of a fold, with what follows from the detector; --classifier changes no training."""
        flags = {name: value for name, value in vars(args).items() if name != "classifier"}
        chosen = self.options.selection
        return argparse.Namespace(
            **flags | {"protocol": chosen.protocol, "split": chosen.split, "mirror": self.options.augmentation.mirror}
        )

    def inputs(self, fold: str) -> list[Path]:
        """The files that the fold `fold0`, `fold1` ... is trained from."""
        paths = [self.work.work / name for name in step.TABLES]
        initial = self.options.initial.of_fold(self.work, self.place / fold)
        return paths + [self.detector / fold / name for name in predictions.NEEDED] + initial.inputs()

    def describe(self) -> dict[str, Any]:
        """`region` of model.json: everything that is needed to cut the same regions again."""
        return {"detector": self.detector.name, **asdict(self.region)}


def train_fold(run: Run, gate: Gate, data: SliceData, device: torch.device) -> list[Path]:
    """Cut out the regions of one fold, train on them, predict its validation and test slices; returns the written files."""
    from hemoct.classification import train  # torch: what is missing, or up to date, is said without it
    from hemoct.training.batches import Store

    data, best = read(gate.work, gate.detector / run.folder.name, data)
    network, selection = gate.options.network, gate.options.selection
    places = squares(best[CORNERS].to_numpy(), gate.region)
    data = replace(data, pixels=cached(gate.work, data.table, places, network.image_size))
    print(f"{gate.work.show(run.folder)}: {network.backbone}, {', '.join(data.classes)}, {selection.protocol} protocol")
    print(f"  {(best['confidence'] == 0).sum()} of {len(best)} slices have no box and are taken whole")
    return train.train_fold(run, gate.options, data, Store(data.pixels, device), gate.describe())
