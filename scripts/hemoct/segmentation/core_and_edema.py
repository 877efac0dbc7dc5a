"""The bleeding's bright core beside the edema that was predicted around it, out of fold, by lesion and by patient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.data.slices import Slices
from hemoct.detection import predictions as detection_predictions
from hemoct.detection.scene import CORNERS
from hemoct.segmentation import hematoma, predictions

Case = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def test_boxes(work: Workspace, detector: str, data: Slices, folds: list[int]) -> pd.DataFrame:
    """Boxes that a detector predicted on the test slices of `folds`, each fold at its validation threshold.

    Columns: those of boxes.csv and `fold`. Stops when the detector lacks a fold or its evaluation.
    """
    folders, _ = detection_predictions.folders(work, detector, "all")
    told = folders[0].parent / "metrics.json"
    if not told.is_file():
        raise UserError(f"{work.show(told)} is missing; run: python task2_detection/04_evaluate.py --dataset {work.dataset}")
    thresholds = {rule["fold"]: rule["threshold"] for rule in files.read_json(told)["folds"]}
    there = {int(folder.name.removeprefix("fold")): folder for folder in folders}
    missing = [str(fold) for fold in folds if fold not in there or fold not in thresholds]
    if missing:
        raise UserError(f"{detector} has no evaluated boxes of fold {', '.join(missing)}; train and evaluate it there first")
    frames = []
    for fold in folds:
        frame, _ = detection_predictions.read(work, there[fold], data)
        frames.append(frame[(frame["part"] == "test") & (frame["confidence"] >= thresholds[fold])])
    return pd.concat(frames, ignore_index=True)[[*tables.BOX_COLUMNS, "fold"]]


def by_patient(lesions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """hematoma_patients.csv: sums over the lesions of each patient beside the edema of per_patient.csv.

    `edema_to_core` is the predicted edema's volume over the core's (relative edema volume); empty without a core, or where
    their units differ.
    """
    sums = lesions.groupby("patient").agg(
        lesions=("lesion", "size"), core_volume=("core_volume", lambda values: values.sum(min_count=1)),
        abc2_volume=("abc2_volume", "sum"), core_unit=("unit", "first"),
    )  # fmt: skip
    frame = patients[["patient", "fold", "true_volume", "predicted_volume", "unit"]].merge(sums, on="patient", how="left")
    frame["lesions"] = frame["lesions"].fillna(0).astype(int)
    same = frame["core_unit"] == frame["unit"]
    frame["edema_to_core"] = (frame["predicted_volume"] / frame["core_volume"]).where(same)
    names = {"true_volume": "true_edema", "predicted_volume": "predicted_edema"}
    return frame.rename(columns=names).drop(columns="core_unit").assign(note=hematoma.NOTE)


def cases(work: Workspace, experiment: Path, data: Slices, boxes: pd.DataFrame, count: int) -> Iterator[Case]:
    """Slices to be drawn, `count` patients spread over the sizes of their predicted edema, each with its largest slice."""
    pixels = tables.read_csv(experiment / "slice_pixels.csv", ["image_id", "fold", "part", "threshold", "predicted_px"])
    pixels = pixels[(pixels["part"] == "test") & pixels["image_id"].isin(boxes["image_id"])]
    largest = pixels.sort_values("predicted_px").drop_duplicates("patient", keep="last")
    chosen = largest.iloc[np.unique(np.linspace(0, len(largest) - 1, min(count, len(largest))).astype(int))]
    paths = data.table.set_index("image_id")["image"]
    for row in chosen.itertuples():
        grey = images.read_grey(work.raw / paths[row.image_id])
        path = experiment / f"fold{row.fold}" / "probability" / f"{row.image_id}.png"
        probability = predictions.read_map(path, grey.shape[::-1])
        corners = boxes.loc[boxes["image_id"] == row.image_id, CORNERS].to_numpy(dtype=float)
        yield str(row.image_id), grey, hematoma.core(grey, corners), probability >= row.threshold
