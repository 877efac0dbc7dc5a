"""Boxes of a detector that never was, for a data set in a workspace: most lesions found nearly in place, some false boxes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits
from hemoct.detection import scene
from hemoct.detection.scene import CORNERS


def predict(work: Workspace, experiment: str = "e", protocol: str = "patient", folds: tuple[int, ...] = (0, 1, 2, 3, 4),
            split: str = "folds", found: float = 0.8, alarms: float = 0.5, side: int = 48, seed: int = 1) -> None:  # fmt: skip
    """Write foldK/{predictions,train_predictions}.csv and model.json.

    `found`: share of the lesions that get a box; `alarms`: false boxes a slice.
    """
    random = np.random.default_rng(seed)
    dataset, table = tables.read_dataset(work), tables.read_splits(work)
    labels, boxes = tables.read_labels(work, dataset), tables.read_boxes(work)
    for fold in folds:
        part = splits.given_parts(labels, table) if split == "given" else splits.parts(table, fold, protocol)
        rows = labels[["image_id", "patient"]].assign(fold=fold, part=part.reindex(labels["image_id"]).to_numpy())
        folder = work.task(2) / experiment / f"fold{fold}"
        for name, of_parts in (("predictions", rows["part"] != "train"), ("train_predictions", rows["part"] == "train")):
            of_file = rows[of_parts]
            source = random if name == "predictions" else np.random.default_rng([seed, fold])
            drawn = [_on_lesions(of_file, boxes, found, source), _false(of_file, dataset.classes, alarms, side, source)]
            frame = pd.concat(drawn)
            frame = pd.concat([frame, of_file[~of_file["image_id"].isin(frame["image_id"])].assign(**{"class": ""})])
            frame = frame.sort_values(["image_id", "confidence"], ascending=[True, False])[scene.COLUMNS]
            tables.write_csv(folder / f"{name}.csv", frame)
        files.write_json(folder / "model.json", {
            "task": 2, "model": "simulated", "classes": dataset.classes, "image_size": 64, "mean": 0.2, "std": 0.2,
            "protocol": protocol, "split": split, "fold": fold, "splits_sha256": files.sha256(work.work / "splits.csv"),
        })  # fmt: skip


def _on_lesions(rows: pd.DataFrame, boxes: pd.DataFrame, found: float, random: np.random.Generator) -> pd.DataFrame:
    frame = rows.merge(boxes, on="image_id")
    frame = frame[random.random(len(frame)) < found]
    frame[CORNERS] = (frame[CORNERS] + random.normal(0, 1, (len(frame), 4))).round(1)
    return frame.assign(confidence=(0.2 + 0.8 * random.random(len(frame))).round(5))


def _false(rows: pd.DataFrame, classes: list[str], alarms: float, side: int, random: np.random.Generator) -> pd.DataFrame:
    frame = rows.iloc[np.repeat(np.arange(len(rows)), random.poisson(alarms, len(rows)))]
    low = random.uniform(0, 0.7 * side, (len(frame), 2)).round(1)
    corners = np.column_stack([low, low + random.uniform(0.1 * side, 0.3 * side, (len(frame), 2)).round(1)])
    about = {"class": random.choice(classes, len(frame)), **dict(zip(CORNERS, corners.T, strict=True))}
    return frame.assign(**about, confidence=(0.6 * random.random(len(frame)) ** 3 + 0.001).round(5))


def some_boxes(random: np.random.Generator, n: int, width: int, height: int) -> np.ndarray:
    """Boxes of whole pixels, at least 1 px wide and high, inside the image: float (n, 4)."""
    low = random.integers(0, [width, height], (n, 2))
    high = random.integers(low + 1, [width + 1, height + 1])
    return np.concatenate([low, high], axis=1).astype(float)
