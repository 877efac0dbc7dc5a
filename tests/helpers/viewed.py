"""A toy data set with results of tasks 1 to 3 as the viewer reads them, written by hand: each mistake in it is known."""

import numpy as np
import pandas as pd
from PIL import Image

from helpers import evaluated, toy
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace

WRONG = {"0001_00": 0.9, "0002_01": 0.1, "0002_03": 0.2}
"""the slices that task 1 gets wrong, with their probability: a false alarm and two missed"""
THRESHOLD, LEVEL = 0.5, 128
COUNTS = ["tp", "fp", "fn", "tn"]


def make(work: Workspace) -> pd.DataFrame:
    """Five patients of four slices, odd ones with a disk, in one fold: tasks 1, 2 and 3 have an experiment `e` each.

    Boxes are as true ones, but of 0002_01 none and in 0003_00 a false one; masks are empty in 0002_01 and else true.
    """
    frame = toy.make(work, patients=5, slices=4, size=48, boxes=True, masks=True)
    files.write_json(work.work / "dataset.json", files.read_json(work.work / "dataset.json") | {"orientation": "up"})
    rows = frame[["image_id", "patient"]].assign(fold=0, part="test")
    for task, column in ((1, {"threshold": THRESHOLD}), (2, {"threshold": THRESHOLD}), (3, {"threshold": LEVEL})):
        metrics = {"auroc": evaluated.metric(0.9), "map50": evaluated.metric(0.8), "dice_patient": evaluated.metric(0.7)}
        content = evaluated.metrics_json(work, "e", metrics, folds=(0,))
        content["folds"] = [{"fold": 0, "threshold_rule": "by hand", "chosen": True, **column}]
        files.write_json(work.task(task) / "e" / "metrics.json", content)
    usual = frame["hemorrhage"].map({0: 0.05, 1: 0.95})
    probability = frame["image_id"].map(WRONG).fillna(usual)
    tables.write_predictions(
        work.task(1) / "e" / "fold0", rows.assign(y_hemorrhage=frame["hemorrhage"], p_hemorrhage=probability)
    )
    _boxes(work, rows)
    _masks(work, frame, rows)
    return frame


def _boxes(work: Workspace, rows: pd.DataFrame) -> None:
    true = tables.read_boxes(work)
    true = true[true["image_id"] != "0002_01"].assign(confidence=0.8)
    false = pd.DataFrame([("0003_00", "disk", 2.0, 3.0, 12.0, 13.0, 0.7), ("0003_02", "disk", 2.0, 3.0, 12.0, 13.0, 0.2)],
                         columns=[*tables.BOX_COLUMNS, "confidence"])  # fmt: skip
    predicted = rows.merge(pd.concat([true, false]), on="image_id", how="left")
    tables.write_predictions(work.task(2) / "e" / "fold0", predicted.assign(**{"class": predicted["class"].fillna("")}))


def _masks(work: Workspace, frame: pd.DataFrame, rows: pd.DataFrame) -> None:
    folder = work.task(3) / "e" / "fold0"
    tables.write_predictions(folder, rows)
    (folder / "probability").mkdir()
    pixels = []
    for name, mask in zip(frame["image_id"], frame["mask"], strict=True):
        true = np.asarray(Image.open(work.raw / mask)) > 0
        predicted = true & (name != "0002_01")
        Image.fromarray((predicted * 200).astype(np.uint8)).save(folder / "probability" / f"{name}.png")
        dice = 2 * (true & predicted).sum() / (true.sum() + predicted.sum()) if (true | predicted).any() else np.nan
        pixels.append((true.sum(), predicted.sum(), dice))
    slices = rows.assign(**dict(zip(["true_px", "predicted_px", "dice"], zip(*pixels, strict=True), strict=True)))
    tables.write_csv(folder.parent / "per_slice.csv", slices)
    by_patient = slices.groupby("patient", as_index=False)["dice"].mean().assign(fold=0)
    tables.write_csv(folder.parent / "per_patient.csv", by_patient)
