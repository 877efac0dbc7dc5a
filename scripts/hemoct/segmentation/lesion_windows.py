"""Which windows of which slices a segmentation network learns from and predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes
from hemoct.data import images
from hemoct.detection import predictions, scene
from hemoct.segmentation import windows
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.networks import SegmenterSpec

LEAST_CONFIDENCES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""of a box that is looked into: among these the best one is chosen on validation"""
LURE = 0.01  # least confidence of a detector's false alarm that is learned from
APART = 0.1  # IoU with every true box below which a predicted box is a false alarm
JITTER = {"shift": 0.1, "scale": 0.2}  # of a window around a true box: predicted boxes are not exact either


@dataclass(frozen=True)
class Windows:
    """Windows of slices (see segmentation.windows), in the order of their rows: row numbers int (k,), places float64 (k, 3)."""

    rows: np.ndarray
    places: np.ndarray
    confidence: np.ndarray
    """of the box that a window lies around, float64 (k,); 1 for whole slices and true boxes"""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> Windows:
        return Windows(self.rows[chosen], self.places[chosen], self.confidence[chosen])

    def of(self, rows: np.ndarray) -> Windows:
        """Those of slices `rows`."""
        return self[np.isin(self.rows, rows)]

    def least(self, confidence: float) -> Windows:
        """Those around boxes of at least this confidence."""
        return self[self.confidence >= confidence]


@dataclass(frozen=True)
class Boxes:
    """Boxes of slices in pixels of the cached square: row numbers int (k,), corners (k, 4), confidence (k,)."""

    rows: np.ndarray
    corners: np.ndarray
    confidence: np.ndarray

    def of(self, rows: np.ndarray) -> Boxes:
        chosen = np.isin(self.rows, rows)
        return Boxes(self.rows[chosen], self.corners[chosen], self.confidence[chosen])

    def windows(self, margin: float, least_side: int) -> Windows:
        order = np.argsort(self.rows, kind="stable")
        places = windows.around(self.corners[order], margin, least_side)
        return Windows(self.rows[order], places, self.confidence[order])


def true_boxes(work: Workspace, data: MaskData, size: int) -> Boxes:
    """Boxes of boxes.csv. Stops when there is none."""
    frame = tables.read_boxes(work)
    if frame.empty:
        raise UserError(f"{work.show(work.work / 'boxes.csv')} has no box; use --region slice")
    return _in_squares(work, data, frame.assign(confidence=1.0), size)


def boxes_of_detector(work: Workspace, data: MaskData, folder: Path, size: int) -> Boxes:
    """Boxes that a detector's fold predicted."""
    frame, _ = predictions.read(work, folder, data)
    return _in_squares(work, data, frame[frame["confidence"].notna()], size)


def _in_squares(work: Workspace, data: MaskData, frame: pd.DataFrame, size: int) -> Boxes:
    row_of = pd.Series(np.arange(len(data.table)), index=data.table["image_id"])
    frame = frame[frame["image_id"].isin(row_of.index)]
    rows = row_of[frame["image_id"]].to_numpy()
    shown = images.sizes(work, data.table)[rows]
    corners = frame[scene.CORNERS].to_numpy(dtype=float)
    squared = [data_boxes.to_letterbox(box, *of_image, size)[0] for box, of_image in zip(corners, shown, strict=True)]
    return Boxes(rows, np.array(squared).reshape(-1, 4), frame["confidence"].to_numpy(dtype=float))


class WholeSlices:
    """Whole slices: all with a lesion, and each epoch another draw of the empty ones, `negatives` for each of those."""

    def __init__(self, rows: np.ndarray, positive: np.ndarray, size: int, negatives: float) -> None:
        self.size, self.positives, self.empty = size, rows[positive[rows]], rows[~positive[rows]]
        self.wanted = min(len(self.empty), round(negatives * len(self.positives)))

    def __len__(self) -> int:
        return len(self.positives) + self.wanted

    def draw(self, random: np.random.Generator) -> Windows:
        """The windows of one epoch, in random order."""
        rows = random.permutation(np.concatenate([self.positives, random.choice(self.empty, self.wanted, replace=False)]))
        return whole_slices(rows, self.size)


def whole_slices(rows: np.ndarray, size: int) -> Windows:
    return Windows(rows, windows.whole(len(rows), size), np.ones(len(rows)))


class AroundBoxes:
    """Windows around true boxes, moved a little each time, and windows without any lesion, `negatives` for each of those.

    Half of the empty ones lie where the detector raised a false alarm in a training slice, as far as it did; the others where
    the lesion of another slice lies, in a slice without one. From both the network learns to stay silent.
    """

    def __init__(
        self, rows: np.ndarray, true: Boxes, found: Boxes | None, margin: float, least_side: int, negatives: float
    ) -> None:
        self.margin, self.least_side = margin, least_side
        self.true = true.of(rows)
        self.empty = np.setdiff1d(rows, true.rows)
        lures = found.of(rows) if found else Boxes(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
        false = (lures.confidence >= LURE) & ~_touching(lures, self.true)
        self.lures = Boxes(lures.rows[false], lures.corners[false], lures.confidence[false])
        wanted = round(negatives * len(self.true.rows))
        self.lured = min(wanted // 2, len(self.lures.rows))
        self.borrowed = wanted - self.lured if len(self.empty) else 0

    def __len__(self) -> int:
        return len(self.true.rows) + self.lured + self.borrowed

    def draw(self, random: np.random.Generator) -> Windows:
        """The windows of one epoch, in random order."""
        lured = random.choice(len(self.lures.rows), self.lured, replace=False)
        rows = [self.true.rows, self.lures.rows[lured], random.choice(self.empty, self.borrowed)]
        borrowed = self.true.corners[random.integers(len(self.true.rows), size=self.borrowed)]
        corners = np.concatenate([self.true.corners, self.lures.corners[lured], borrowed])
        places = windows.jitter(windows.around(corners, self.margin, self.least_side), **JITTER, random=random)
        order = random.permutation(len(places))
        return Windows(np.concatenate(rows)[order], places[order], np.ones(len(places)))


def _touching(boxes: Boxes, true: Boxes) -> np.ndarray:
    """Whether a box overlaps a true one of its slice: bool (k,)."""
    return np.array(
        [
            (data_boxes.iou(corners[None], true.corners[true.rows == row]) >= APART).any()
            for row, corners in zip(boxes.rows, boxes.corners, strict=True)
        ],
        dtype=bool,
    )


@dataclass(frozen=True)
class Plan:
    """What a fold's network learns from, and what it is asked to predict: windows of validation and test slices."""

    learned: WholeSlices | AroundBoxes
    asked: Windows
    true: Windows | None
    """as `asked`, around true boxes; None for whole slices"""


def plan(
    work: Workspace, data: MaskData, spec: SegmenterSpec, detector: Path | None, part: np.ndarray, positive: np.ndarray,
    negatives: float,
) -> Plan:  # fmt: skip
    """The windows of a fold. `detector`: its fold folder, None for true boxes; `positive` (n,): whose mask has a pixel."""
    rows, rest = np.flatnonzero((part == "train") & data.known), np.flatnonzero(part != "train")
    if spec.region == "slice":
        learned = WholeSlices(rows, positive, spec.source_size, negatives)
        return Plan(learned, whole_slices(rest, spec.source_size), None)
    true = true_boxes(work, data, spec.source_size)
    found = boxes_of_detector(work, data, detector, spec.source_size) if detector else None
    learned = AroundBoxes(rows, true, found, spec.margin, spec.least_side, negatives)
    if len(learned) < 2:  # batch normalisation cannot use a single one
        raise UserError(
            f"{work.show(work.work / 'boxes.csv')} has {len(learned.true.rows)} box(es) in training slices of fold {spec.fold}; "
            "use more patients, or --region slice"
        )
    around, asked = (boxes.of(rest).windows(spec.margin, spec.least_side) for boxes in (true, found or true))
    return Plan(learned, asked.least(LEAST_CONFIDENCES[0]), around)
