"""Predicted boxes beside the true ones, image by image: what every evaluation of task 2 works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.data import boxes as data_boxes

CORNERS = ["xmin", "ymin", "xmax", "ymax"]
COLUMNS = [*tables.PREDICTION_COLUMNS, "class", "confidence", *CORNERS]


@dataclass(frozen=True)
class Scene:
    """Images with their boxes; row i of each is the same image. `of` takes a boolean mask or row numbers."""

    table: pd.DataFrame
    """image_id, patient, fold, part: one row an image"""
    classes: list[str]
    truth: list[np.ndarray]
    """float64 (k, 4) an image: xmin, ymin, xmax, ymax in pixels"""
    truth_class: list[np.ndarray]
    """class numbers, int (k,) an image"""
    found: list[np.ndarray]
    """float64 (m, 6) an image, most confident first: corners, confidence, class number"""

    def __len__(self) -> int:
        return len(self.table)

    def of(self, rows: np.ndarray) -> Scene:
        numbers = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=int)
        lists = ([of_image[row] for row in numbers] for of_image in (self.truth, self.truth_class, self.found))
        return Scene(self.table.iloc[numbers].reset_index(drop=True), self.classes, *lists)

    @property
    def positive(self) -> np.ndarray:
        """Whether an image has a true box: bool (n,)."""
        return np.array([len(boxes) > 0 for boxes in self.truth], dtype=bool)

    @property
    def score(self) -> np.ndarray:
        """Confidence of the best box of each image, 0 without any: float64 (n,)."""
        return np.array([boxes[:, 4].max(initial=0) for boxes in self.found])


def scene(predictions: pd.DataFrame, boxes: pd.DataFrame, classes: list[str]) -> Scene:
    """Join rows of predictions.csv with boxes.csv. The order is that of the images' first rows."""
    table = predictions[tables.PREDICTION_COLUMNS].drop_duplicates(["image_id", "fold"]).reset_index(drop=True)
    number = {name: index for index, name in enumerate(classes)}
    real = predictions[predictions["confidence"].notna()].sort_values("confidence", ascending=False, kind="stable")
    values = np.column_stack(
        [real[[*CORNERS, "confidence"]].to_numpy(dtype=float), real["class"].map(number).to_numpy(dtype=float)]
    )
    rows, nothing = real.groupby(["image_id", "fold"]).indices, np.zeros(0, dtype=int)
    found = [values[rows.get(key, nothing)] for key in zip(table["image_id"], table["fold"], strict=True)]
    return Scene(table, classes, *data_boxes.by_image(boxes, table["image_id"], classes), found)
