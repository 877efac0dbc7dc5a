"""Tables of a detector: of its test boxes at the thresholds chosen on validation, and of its training. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.detection.evaluate import BoxEvaluation
from hemoct.detection.predictions import CORNERS

NONE = "none"
NO_CLASS = -1
RECORD = f"{Path(experiments.STEPS[2][0]).stem}.run.json"
CHOOSES = "map50_95"
"""the column of history.csv whose highest value is the best epoch, that of best.pt"""
LAST, EARLY, UNFINISHED, UNKNOWN = "last epoch", "early stop", "unfinished", "unknown"


def predictions_with_none(evaluation: BoxEvaluation, frame: pd.DataFrame) -> pd.DataFrame:
    """predictions_with_none.csv: the boxes of `frame` (test rows) at or above the threshold of their slice, sorted by image.

    Columns `image, class_id, confidence, x1, y1, x2, y2, class_name`, corners in pixels of the image. A slice without such a
    box has one row: class_name `none`, class_id -1, confidence 0, empty corners.
    """
    scene = evaluation.scene
    threshold = pd.Series(evaluation.thresholds, index=scene.table["image_id"])
    kept = frame[frame["confidence"] >= frame["image_id"].map(threshold)]
    empty = scene.table.loc[~scene.table["image_id"].isin(kept["image_id"]), ["image_id"]]
    rows = pd.concat([kept, empty.assign(**{"class": NONE, "confidence": 0.0})])
    rows["class_id"] = rows["class"].map({name: number for number, name in enumerate(scene.classes)}).fillna(NO_CLASS).astype(int)
    names = {"image_id": "image", "class_id": "class_id", "confidence": "confidence"}
    names |= dict(zip(CORNERS, ("x1", "y1", "x2", "y2"), strict=True)) | {"class": "class_name"}
    table = rows[list(names)].rename(columns=names)
    return table.sort_values(["image", "confidence"], ascending=[True, False], kind="stable")


def froc(content: dict[str, Any]) -> pd.DataFrame:
    """froc.csv: `false_positives_per_image, sensitivity, low, high`, the mean over the folds."""
    name = "false_positives_per_image"
    return pd.DataFrame([{name: level[name], **_columns("sensitivity", level, "")} for level in content["froc"]])


def localisation(content: dict[str, Any]) -> pd.DataFrame:
    """localisation.csv: `iou`, then `accuracy` and `false_positives_per_image`, each with its interval."""
    first, second = "accuracy", "false_positives_per_image"
    of_levels = [
        {"iou": level["iou"], **_columns(first, level[first], f"{first}_"), **_columns(second, level[second], f"{second}_")}
        for level in content["localisation"]
    ]
    return pd.DataFrame(of_levels)


def _columns(name: str, cell: dict[str, Any], prefix: str) -> dict[str, float | None]:
    """A cell of metrics.json as three columns."""
    low, high = cell["ci95"] or (None, None)
    return {name: cell["value"], f"{prefix}low": low, f"{prefix}high": high}


def report_lines(content: dict[str, Any]) -> list[str]:
    """The lines of classification_report.txt about boxes, above the report of the slices."""
    boxes, lesions = content["boxes"], content["lesions"]
    cells = content["metrics"].items()
    shown = {name: "null" if cell["value"] is None else f"{cell['value']:.4f}" for name, cell in cells}
    return [
        f"boxes (IoU >= 0.5, at the threshold): {boxes['true']} true, {boxes['predicted']} predicted, {boxes['hits']} hits; "
        f"precision {shown['box_precision']}, recall {shown['box_recall']}, F1 {shown['box_f1']}",
        f"mAP50 {shown['map50']}, mAP50:95 {shown['map50_95']}, mean FROC sensitivity {shown['froc_mean']} (no threshold)",
        f"lesions (boxes linked across neighbouring slices): {lesions['found']} of {lesions['true']} found",
        "slices (any box at or above the threshold):",
    ]


# ---- training


@dataclass(frozen=True)
class Training:
    """The training of one fold."""

    fold: str
    history: pd.DataFrame
    """float columns, one row an epoch; what is not finite is NaN"""
    asked: int | None
    """epochs that were asked for; None without a run record"""
    ended: str
    """LAST of the epochs asked for, EARLY (no better epoch for as long as --patience says), UNFINISHED (stopped from outside, or
    still running), UNKNOWN (no run record)"""

    @property
    def best(self) -> pd.Series | None:
        """The row of the best epoch, the first of equal ones; None where validation gave no number at all."""
        chooses = self.history[CHOOSES]
        return None if chooses.isna().all() else self.history.loc[chooses.idxmax()]


def trainings(work: Workspace, experiment: str) -> list[Training]:
    """The trainings of all folds of an experiment that have a history.csv; stops when there is none or one is broken."""
    folders = experiments.folds(work.task(2) / experiment, "history.csv")
    if not folders:
        there = ", ".join(experiments.with_history(work, 2))
        raise UserError(f"{work.show(work.task(2) / experiment)} holds no foldK/history.csv; there are: {there}")
    return [_training(folder) for folder in folders]


def _training(folder: Path) -> Training:
    history, path = _history(folder / "history.csv"), folder / RECORD
    if not path.exists():
        return Training(folder.name, history, None, UNKNOWN)
    record = files.read_json(path)
    asked = int(record["arguments"]["epochs"])
    stopped = EARLY if record["status"] == "ok" else UNFINISHED
    return Training(folder.name, history, asked, LAST if history["epoch"].iloc[-1] >= asked else stopped)


def _history(path: Path) -> pd.DataFrame:
    words = tables.read_csv(path, ("epoch", "map50", CHOOSES, "seconds"), numbers=False)
    numbers = words.apply(pd.to_numeric, errors="coerce")
    broken, epochs, problem = (numbers.isna() & words.notna()).any(), numbers["epoch"], None
    if broken.any():
        problem = f"{broken.idxmax()} holds something that is no number"
    elif not (np.diff(epochs, prepend=0) > 0).all():
        problem = "epoch does not count upwards"
    if problem:
        raise UserError(f"{path}: {problem}; train this fold again with {experiments.train_step(2)}")
    return numbers.astype(float).replace([np.inf, -np.inf], np.nan)


def training_summary(of_folds: list[Training]) -> pd.DataFrame:
    """One row a fold: fold, epochs, epochs_asked, ended, best_epoch, map50, map50_95 (both of the best epoch, on validation),
    seconds_per_epoch (median). Empty where it is not known."""
    rows = []
    for training in of_folds:
        history = training.history
        best = pd.Series(np.nan, index=history.columns) if training.best is None else training.best
        rows.append(
            {"fold": int(training.fold.removeprefix("fold")), "epochs": int(history["epoch"].iloc[-1]),
             "epochs_asked": training.asked, "ended": training.ended, "best_epoch": best["epoch"], "map50": best["map50"],
             "map50_95": best["map50_95"], "seconds_per_epoch": history["seconds"].median()}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"epochs_asked": "Int64", "best_epoch": "Int64"})
