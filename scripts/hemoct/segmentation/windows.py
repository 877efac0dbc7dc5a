"""Square windows of slices: where a network looks, which windows it learns from, cutting them out and pasting them back.

A window is (x, y, side) in pixels of the cached square, its upper left corner and its side; it may reach beyond the square.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes, images
from hemoct.data.slices import Fold
from hemoct.detection import predictions
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.predictions import SegmenterSpec

LEAST_CONFIDENCES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""least confidence of the boxes that a network looks around: the best of these is chosen on validation"""
FALSE_ALARM = 0.01  # least confidence of a detector's false alarm that a network learns from
APART = 0.1  # IoU with every true box below which a predicted box is a false alarm
JITTER = {"shift": 0.1, "scale": 0.2}  # of a window around a true box: predicted boxes are not exact either


@dataclass(frozen=True)
class Placed:
    """Places in slices; row i of each is the same one."""

    rows: np.ndarray
    """row numbers of the slices, int (k,)"""
    places: np.ndarray
    confidence: np.ndarray
    """of a box, or of the box that a window lies around, float64 (k,); 1 for whole slices and true boxes"""

    def __getitem__(self, chosen: np.ndarray) -> Self:
        return type(self)(self.rows[chosen], self.places[chosen], self.confidence[chosen])

    def of(self, rows: np.ndarray) -> Self:
        """Those of the slices `rows`."""
        return self[np.isin(self.rows, rows)]

    def least(self, confidence: float) -> Self:
        """Those of at least this confidence."""
        return self[self.confidence >= confidence]


class Windows(Placed):
    """Windows of slices, in the order of their rows; places float64 (k, 3)."""

    def __len__(self) -> int:
        return len(self.rows)


class Boxes(Placed):
    """Boxes of slices; places are corners in pixels of the cached square, (k, 4)."""

    def windows(self, margin: float, least_side: int) -> Windows:
        """A window around each box (see data.boxes.around), in the order of the slices."""
        order = np.argsort(self.rows, kind="stable")
        return Windows(self.rows[order], data_boxes.around(self.places[order], margin, least_side), self.confidence[order])


NO_BOXES = Boxes(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
TrueAndPredicted = tuple[Boxes, Boxes | None]
"""of all slices; no predicted ones where a network looks around true boxes"""


# ---- where windows lie


def whole_slices(rows: np.ndarray, size: int) -> Windows:
    """Windows that are the whole square of `size` pixels."""
    return Windows(rows, np.tile([0.0, 0.0, float(size)], (len(rows), 1)), np.ones(len(rows)))


def jitter(places: np.ndarray, shift: float, scale: float, random: np.random.Generator) -> np.ndarray:
    """Windows moved by up to `shift` of their side and resized by up to `scale`: (k, 3), no whole pixels."""
    n = len(places)
    side = places[:, 2] * np.exp(random.uniform(-1, 1, n) * np.log1p(scale))
    centre = places[:, :2] + places[:, 2:] / 2 + random.uniform(-shift, shift, (n, 2)) * places[:, 2:]
    return np.concatenate([centre - side[:, None] / 2, side[:, None]], axis=1)


def read_boxes(work: Workspace, data: MaskData, spec: SegmenterSpec, detector: Path | None) -> TrueAndPredicted | None:
    """boxes.csv, and what the detector of the fold (its folder) predicted; None for whole slices. Stops where there is no box."""
    if spec.region == "slice":
        return None
    frame = tables.read_boxes(work)
    if frame.empty:
        raise UserError(f"{work.show(work.work / 'boxes.csv')} has no box; use --region slice")
    true = _in_squares(work, data, frame.assign(confidence=1.0), spec.source_size)
    if detector is None:
        return true, None
    frame, _ = predictions.read(work, detector, data)
    return true, _in_squares(work, data, frame[frame["confidence"].notna()], spec.source_size)


def _in_squares(work: Workspace, data: MaskData, frame: pd.DataFrame, size: int) -> Boxes:
    row_of = pd.Series(np.arange(len(data.table)), index=data.table["image_id"])
    frame = frame[frame["image_id"].isin(row_of.index)]
    rows = row_of[frame["image_id"]].to_numpy()
    corners, sizes = frame[predictions.CORNERS].to_numpy(dtype=float), images.sizes(work, data.table)[rows]
    squared = [data_boxes.to_letterbox(box, *of_image, size)[0] for box, of_image in zip(corners, sizes, strict=True)]
    return Boxes(rows, np.array(squared).reshape(-1, 4), frame["confidence"].to_numpy(dtype=float))


# ---- what a network learns from


class WholeSlices:
    """Whole slices: all with a lesion, and each epoch another sample of the empty ones, `negatives` for each of those."""

    def __init__(self, rows: np.ndarray, positive: np.ndarray, size: int, negatives: float) -> None:
        self.size, self.positives, self.empty = size, rows[positive[rows]], rows[~positive[rows]]
        self.negatives = min(len(self.empty), round(negatives * len(self.positives)))

    def __len__(self) -> int:
        return len(self.positives) + self.negatives

    def draw(self, random: np.random.Generator) -> Windows:
        """The windows of one epoch, in random order."""
        empty = random.choice(self.empty, self.negatives, replace=False)
        return whole_slices(random.permutation(np.concatenate([self.positives, empty])), self.size)


class AroundBoxes:
    """Windows around true boxes, moved a little each time, and windows without any lesion, `negatives` for each of those.

    Half of the empty windows lie where the detector raised a false alarm in a training slice, as far as it did; the others lie
    in a slice without a lesion, at the place of the lesion of another slice. From both the network learns to predict nothing.
    """

    def __init__(self, rows: np.ndarray, true: Boxes, predicted: Boxes, spec: SegmenterSpec, negatives: float) -> None:
        self.spec = spec
        self.true = true.of(rows)
        self.empty = np.setdiff1d(rows, true.rows)
        predicted = predicted.of(rows)
        same_slice = predicted.rows[:, None] == self.true.rows
        touching = (same_slice & (data_boxes.iou(predicted.places, self.true.places) >= APART)).any(axis=1)
        self.alarms = predicted[(predicted.confidence >= FALSE_ALARM) & ~touching]
        wanted = round(negatives * len(self.true.rows))
        self.at_alarms = min(wanted // 2, len(self.alarms.rows))
        self.at_other_places = wanted - self.at_alarms if len(self.empty) else 0

    def __len__(self) -> int:
        return len(self.true.rows) + self.at_alarms + self.at_other_places

    def draw(self, random: np.random.Generator) -> Windows:
        """The windows of one epoch, in random order."""
        alarms = self.alarms[random.choice(len(self.alarms.rows), self.at_alarms, replace=False)]
        rows = np.concatenate([self.true.rows, alarms.rows, random.choice(self.empty, self.at_other_places)])
        elsewhere = self.true.places[random.integers(len(self.true.rows), size=self.at_other_places)]
        corners = np.concatenate([self.true.places, alarms.places, elsewhere])
        places = jitter(data_boxes.around(corners, self.spec.margin, self.spec.least_side), **JITTER, random=random)
        order = random.permutation(len(places))
        return Windows(rows[order], places[order], np.ones(len(places)))


@dataclass(frozen=True)
class Plan:
    """The windows of a fold: those that its network learns from, and those that it predicts, of validation and test slices."""

    training: WholeSlices | AroundBoxes
    prediction: Windows
    true: Windows | None
    """as `prediction`, around true boxes; None for whole slices"""


def plan(
    spec: SegmenterSpec, boxes: TrueAndPredicted | None, fold: Fold, rows: np.ndarray, positive: np.ndarray, negatives: float
) -> Plan:
    """The windows of a fold. `rows`: the slices to learn from; `positive` (n,): whose mask has a pixel, of all slices."""
    rest = np.flatnonzero(fold.part != "train")
    if boxes is None:
        training = WholeSlices(rows, positive, spec.source_size, negatives)
        return Plan(training, whole_slices(rest, spec.source_size), None)
    true, predicted = boxes
    training = AroundBoxes(rows, true, predicted or NO_BOXES, spec, negatives)
    if len(training) < 2:  # batch normalisation cannot use a single one
        raise UserError(
            f"boxes.csv has {len(training.true.rows)} box(es) in training slices of fold {spec.fold}; use more patients, or "
            "--region slice"
        )
    around_true, around_all = (of.of(rest).windows(spec.margin, spec.least_side) for of in (true, predicted or true))
    return Plan(training, around_all.least(LEAST_CONFIDENCES[0]), around_true)


# ---- cut out on the device, and pasted back


def placement(places: torch.Tensor, size: int) -> torch.Tensor:
    """The affine matrices (k, 2, 3) of torch's affine_grid that map a window to the cached square of `size` pixels."""
    scale = places[:, 2] / size
    shift = (2 * places[:, :2] + places[:, 2:]) / size - 1
    matrices = torch.zeros(places.shape[0], 2, 3, device=places.device)  # no len(): it would be fixed in an exported graph
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, :, 2] = shift
    return matrices


def compose(placed: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Affine matrices (k, 2, 3) that apply `moves` (see training.augment.draw_moves) within a window, then `placed`."""
    last = torch.tensor([[[0.0, 0.0, 1.0]]], device=placed.device).expand(len(placed), 1, 3)
    return placed @ torch.cat([moves, last], dim=1)


def cut(slices: torch.Tensor, placed: torch.Tensor, side: int) -> torch.Tensor:
    """Resample float slices (k, channels, size, size) at windows `placed` (see `placement`): (k, channels, side, side)."""
    return sample(slices, F.affine_grid(placed, [placed.shape[0], 1, side, side], align_corners=False))


def sample(slices: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Float slices (k, channels, size, size) at places (k, side, side, 2): (k, channels, side, side)."""
    return F.grid_sample(slices, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def paste(canvas: np.ndarray, patch: np.ndarray, window: np.ndarray) -> None:
    """Write a patch of probabilities (side, side) into `canvas` (size, size), float32, at a window of whole pixels.

    Where windows overlap the higher probability stays.
    """
    x, y, side = window.astype(int).tolist()
    if patch.shape[0] != side:
        resized = F.interpolate(torch.from_numpy(patch)[None, None], (side, side), mode="bilinear", align_corners=False)
        patch = resized[0, 0].numpy()
    height, width = canvas.shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    if top < bottom and left < right:
        place = canvas[top:bottom, left:right]
        np.maximum(place, patch[top - y : bottom - y, left - x : right - x], out=place)
