"""Tables of an evaluated detector under the names that people expect: test boxes at the thresholds chosen on validation."""

from typing import Any

import pandas as pd

from hemoct.detection.evaluate import BoxEvaluation
from hemoct.detection.predictions import CORNERS

NONE = "none"
NO_CLASS = -1


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
