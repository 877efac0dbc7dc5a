"""The slices of a data set with their boxes: what detectors learn from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemoct import boxes as geometry
from hemoct import files, slice_data, splits, tables
from hemoct.cli import UserError, Workspace


@dataclass(frozen=True)
class BoxData:
    """Slices in one fixed order; row i of `table`, `boxes` and `numbers` is the same slice."""

    table: pd.DataFrame
    """image_id, patient, slice, image ... of labels.csv; slices without a known label are left out"""
    layout: str
    classes: list[str]
    boxes: list[np.ndarray]
    """float64 (k, 4) a slice, pixels of the image; k = 0 where there is no lesion"""
    numbers: list[np.ndarray]
    """class numbers, int (k,) a slice"""
    splits_sha256: str | None
    _labels: pd.DataFrame
    _splits: pd.DataFrame | None
    unknown: tuple[str, ...] = ()
    """the patient of each slice that is left out because its label is unknown"""

    @property
    def positive(self) -> np.ndarray:
        """Whether a slice has a box: bool (n,)."""
        return np.array([len(of_slice) > 0 for of_slice in self.boxes])

    def part_of(self, fold: int, protocol: str, split: str) -> np.ndarray:
        """`train`, `val` or `test` for each row; see hemoct.splits."""
        part = splits.part_of(self._labels, self._splits, fold, protocol, split)
        return part.reindex(self.table["image_id"]).to_numpy()


def load(work: Workspace, limit_patients: int | None = None, split: bool = True) -> BoxData:
    """Read labels.csv, boxes.csv and splits.csv. Stops when there is no box, or a box that no detector can learn."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    boxes = tables.read_boxes(work)
    split_table = tables.read_splits(work) if split else None
    if split_table is not None:
        slice_data.stop_if_unsplit(work, labels, split_table)
    _stop_if_unusable(work, dataset, labels, boxes)

    known = keep = labels[dataset.labels].notna().all(axis=1)
    if limit_patients is not None:
        chosen = (
            slice_data.first_patients(split_table, limit_patients)
            if split
            else sorted(labels["patient"].unique())[:limit_patients]
        )
        keep = known & labels["patient"].isin(chosen)
    if not keep.all():
        print(f"{(~keep).sum()} of {len(keep)} slices are left out (unknown label or --limit-patients)")
    table = labels[keep].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{work.show(work.work / 'labels.csv')}: no slice is left to work with; check its labels")

    corners, numbers = geometry.by_image(boxes, table["image_id"], dataset.classes)
    digest = files.sha256(work.work / "splits.csv") if split else None
    return BoxData(
        table, dataset.layout, dataset.classes, corners, numbers, digest, labels, split_table, tuple(labels["patient"][~known])
    )


def choose_negatives(positive: np.ndarray, share: float | None, seed: int) -> np.ndarray:
    """Which training slices to learn from: bool (n,). All positives, and `share` times as many negatives (None: all)."""
    chosen = np.ones(len(positive), dtype=bool)
    if share is not None:
        negatives = np.flatnonzero(~positive)
        wanted = min(len(negatives), round(share * positive.sum()))
        left_out = np.random.default_rng(seed).permutation(negatives)[wanted:]
        chosen[left_out] = False
    return chosen


def _stop_if_unusable(work: Workspace, dataset: tables.Dataset, labels: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Name what is wrong with boxes.csv, all at once."""
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
