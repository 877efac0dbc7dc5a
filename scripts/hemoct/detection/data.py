"""The slices of a data set with their boxes, which detectors learn from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes
from hemoct.data import slices as data_slices


@dataclass(frozen=True, kw_only=True)
class BoxData(data_slices.Slices):
    """Slices with known labels; row i of `table`, `boxes` and `numbers` is the same slice."""

    classes: list[str]
    boxes: list[np.ndarray]
    """float64 (k, 4) a slice, pixels of the image; k = 0 where there is no lesion"""
    numbers: list[np.ndarray]
    """class numbers, int (k,) a slice"""
    unknown: tuple[str, ...] = ()
    """the patient of each slice that is left out because its label is unknown"""

    @property
    def positive(self) -> np.ndarray:
        """Whether a slice has a box: bool (n,)."""
        return np.array([len(of_slice) > 0 for of_slice in self.boxes])


def load(work: Workspace, limit_patients: int | None = None, split: bool = True) -> BoxData:
    """Read labels.csv, boxes.csv and splits.csv. Stops when there is no box, or when boxes are wrong."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    boxes = tables.read_boxes(work)
    _stop_if_unusable(work, dataset, labels, boxes)
    known = labels[dataset.labels].notna().all(axis=1).to_numpy()
    slices, _ = data_slices.choose(work, dataset, labels, known, limit_patients, split)
    corners, numbers = data_boxes.by_image(boxes, slices.table["image_id"], dataset.classes)
    unknown = tuple(labels["patient"][~known])
    return BoxData(**vars(slices), classes=dataset.classes, boxes=corners, numbers=numbers, unknown=unknown)


def choose_negatives(positive: np.ndarray, ratio: float | None, seed: int) -> np.ndarray:
    """Which training slices are learned from: bool (n,). All positives, and `ratio` times as many negatives (None: all)."""
    chosen = np.ones(len(positive), dtype=bool)
    if ratio is not None:
        negatives = np.flatnonzero(~positive)
        count = min(len(negatives), round(ratio * positive.sum()))
        left_out = np.random.default_rng(seed).permutation(negatives)[count:]
        chosen[left_out] = False
    return chosen


def _stop_if_unusable(work: Workspace, dataset: tables.Dataset, labels: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Stop with everything that is wrong with boxes.csv."""
    path = work.show(work.work / "boxes.csv")
    if boxes.empty:
        raise UserError(f"{path} has no box: {dataset.name} cannot be used for detection; use data with VOC XML or YOLO labels")
    problems = []
    corners = boxes[["xmin", "ymin", "xmax", "ymax"]].apply(pd.to_numeric, errors="coerce")
    for wrong, what in (
        (~boxes["image_id"].isin(labels["image_id"]), "belong to no image of labels.csv"),
        (~boxes["class"].isin(dataset.classes), f"have a class that is not in dataset.json ({', '.join(dataset.classes)})"),
        (corners.isna().any(axis=1), "have a corner that is no number"),
        ((corners["xmax"] <= corners["xmin"]) | (corners["ymax"] <= corners["ymin"]), "are empty or reversed"),
    ):
        if wrong.any():
            problems.append(f"{wrong.sum()} box(es) {what} (first: {boxes.loc[wrong, 'image_id'].iloc[0]})")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}; correct the annotations and run scripts/03_make_labels.py again")
