"""What maps are made of: the models of an experiment, the images as they saw them, the cases, and what is known of these.

A case is an image and one label of the models. Boxes are of the label of the same name, else of any: they count where the label
is 1. All places are in the square that the models see, `spec.image_size` pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemoct.base import experiments, files, tables
from hemoct.base.cache import Cached
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import networks as classification_networks, predictions as classification_predictions
from hemoct.data import boxes as data_boxes, contents, images, prepared, slices
from hemoct.data.slices import Slices
from hemoct.detection import predictions as detection_predictions
from hemoct.evaluation import predictions as evaluation_predictions, thresholds
from hemoct.explain import regions
from hemoct.explain.regions import Truth
from hemoct.multilabel import (
    data as multilabel_data,
    networks as multilabel_networks,
    predict,
    predictions as multilabel_predictions,
)
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.prepare.geometry import Geometry
from hemoct.prepare.preparation import Preparation
from hemoct.segmentation import data as segmentation_data
from hemoct.training.batches import Source, Stacks, Store
from hemoct.training.specs import Spec

DECIDES = 0.5
"""the threshold of a label for which validation has chosen none"""
CONFIDENCE = 0.25
"""the same for boxes of a detector"""
KINDS = {(1, 1): "true positive", (0, 1): "false positive", (1, 0): "false negative", (0, 0): "true negative"}
"""by truth and decision"""


@dataclass(frozen=True)
class Seen:
    """The images of a data set as the models of an experiment see them; row i of each is the same image."""

    slices: Slices
    source: Source
    targets: np.ndarray
    """float (n, classes), NaN where unknown"""
    pixels: Cached
    """uint8 (k, side, side), and which of them shows each image: int (n,)"""
    middle: np.ndarray
    planes: int
    """of an input"""

    def grey(self, row: int) -> np.ndarray:
        """An image, uint8 (side, side)."""
        return np.asarray(self.pixels[self.middle[row]])


def specs(task: int, folders: list[Path]) -> list[Spec]:
    """The descriptions of the models; stops where they are none of whole slices, or not alike."""
    if task == 4:
        return MultiLabelSpec.read_all(folders, predict.ALIKE)
    classification_predictions.read_shared(folders)
    return [classification_predictions.ClassifierSpec.read(folder) for folder in folders]


def load(task: int, folder: Path, device: torch.device) -> nn.Module:
    """The network of a fold."""
    return (multilabel_networks if task == 4 else classification_networks).load(folder, device)[0]


def fresh(task: int, spec: Spec, device: torch.device, seed: int) -> nn.Module:
    """The same network with random weights, for the sanity check of Adebayo et al. 2018."""
    torch.manual_seed(seed)
    return (multilabel_networks if task == 4 else classification_networks).build(spec).to(device).eval()


def see(work: Workspace, spec: Spec, limit_patients: int | None, device: torch.device) -> Seen:
    """Read the images, in the form that the models of `spec` take."""
    if isinstance(spec, MultiLabelSpec):
        data = multilabel_data.load(work, *multilabel_predictions.seen_by(spec), limit_patients, spec.prepare)
        source = Stacks(Store(data.pixels, device), torch.as_tensor(data.planes))
        return Seen(data, source, data.targets, data.pixels, data.planes[:, spec.planes // 2], spec.planes)
    data = slices.load(work, spec.image_size, spec.label, limit_patients, known_only=False, prepare=spec.prepare)
    return Seen(data, Store(data.pixels, device), data.targets, data.pixels, np.arange(len(data.pixels)), 1)


def cases(work: Workspace, task: int, experiment: str, folders: list[Path], asked: tuple[str | None, int | None]) -> pd.DataFrame:
    """A row for each validation and test image and label: image_id, patient, fold, part, label, column, y, p, threshold, called.

    `asked`: one label or all (None), and a limit of patients. Probabilities are those of predictions.csv, thresholds those of the
    evaluation.
    """
    wanted, limit = asked
    read = multilabel_predictions.read if task == 4 else classification_predictions.read
    frame, _ = read(work, experiment, limit)
    names = evaluation_predictions.label_columns(frame)
    if wanted not in (None, *names):
        raise UserError(f"--label {wanted} is no label of {experiment}; it has {', '.join(names)}")
    exclusive = task == 1 and len(names) > 1
    likeliest = frame[[f"p_{name}" for name in names]].to_numpy().argmax(axis=1)
    parts = []
    for folder in folders:
        rows = (frame["fold"] == experiments.fold_of(folder)).to_numpy()
        limits, _ = thresholds.thresholds(4, folder.parent, [folder], None, DECIDES, names) if task == 4 else ({}, "")
        if task == 1 and not exclusive:
            limits = {names[0]: thresholds.threshold(1, folder.parent, [folder], None, DECIDES)[0]}
        for column, name in enumerate(names):
            if wanted not in (None, name):
                continue
            part = frame.loc[rows, tables.PREDICTION_COLUMNS].assign(
                label=name,
                column=column,
                y=frame[f"y_{name}"].astype("Float64"),
                p=frame[f"p_{name}"],
                threshold=limits.get(name),
            )
            part["called"] = likeliest[rows] == column if exclusive else part["p"] >= part["threshold"]
            parts.append(part)
    joined = pd.concat(parts, ignore_index=True)
    known = joined["y"].notna()
    joined["kind"] = None
    joined.loc[known, "kind"] = [KINDS[int(y), int(called)] for y, called in joined.loc[known, ["y", "called"]].to_numpy()]
    return joined


@dataclass(frozen=True)
class Known:
    """What a data set knows of its images: boxes, masks, heads, where they lie in the square of the models."""

    work: Workspace
    seen: Seen
    spec: Spec
    mask_value: int | None
    field: list[float] | None = None
    """left, top, right, bottom as shares of the image: what stands in place of the head; None: it is found in each image"""

    @property
    def side(self) -> int:
        return self.spec.image_size

    @cached_property
    def _boxes(self) -> pd.DataFrame:
        return tables.read_boxes(self.work)

    @cached_property
    def _classes(self) -> list[str]:
        return tables.read_dataset(self.work).classes

    @cached_property
    def _sizes(self) -> np.ndarray:
        return images.sizes(self.work, self.seen.slices.table)

    @cached_property
    def _preparation(self) -> Preparation:
        return prepared.for_training(self.work, self.spec.prepare)

    @cached_property
    def _geometries(self) -> dict[int, Geometry]:
        return {}

    def geometry(self, row: int) -> Geometry:
        """Which part of an image the models see."""
        if row not in self._geometries:
            found = Geometry(*self._sizes[row].tolist())
            if self.spec.prepare:
                path = self.work.raw / self.seen.slices.table["image"].iloc[row]
                found = self._preparation.apply(images.read_planes(path, getattr(self.spec, "channels", 1))).geometry
            self._geometries[row] = found
        return self._geometries[row]

    def has_box(self, cases: pd.DataFrame) -> np.ndarray:
        """Whether the image of each case has a box of its label: bool (n,)."""
        named = {name: set(self._of_label(name)["image_id"]) for name in cases["label"].unique()}
        pairs = zip(cases["image_id"], cases["label"], strict=True)
        return np.array([image in named[label] for image, label in pairs], dtype=bool)

    def _of_label(self, label: str) -> pd.DataFrame:
        return self._boxes[self._boxes["class"] == label] if label in self._classes else self._boxes

    def to_square(self, corners: np.ndarray, row: int) -> np.ndarray:
        """Boxes of an image (k, 4) in the square, as far as they lie in it."""
        part = self.geometry(row)
        return data_boxes.to_letterbox(part.boxes(corners), *part.size, self.side).clip(0, self.side)

    def from_square(self, corners: np.ndarray, row: int) -> np.ndarray:
        """The inverse of `to_square`."""
        part = self.geometry(row)
        return part.boxes_back(data_boxes.from_letterbox(corners, *part.size, self.side))

    def mask(self, row: int) -> np.ndarray | None:
        """The annotated mask of an image, bool (side, side); None where there is no file."""
        name = self.seen.slices.table["mask"].iloc[row]
        if not name:
            return None
        lesion = segmentation_data.read_mask(self.work.raw / name, tuple(self._sizes[row].tolist()), self.mask_value)
        part = self.geometry(row).image(lesion.astype(np.uint8) * 255)
        return images.resize(part, self.side) >= segmentation_data.THRESHOLD

    def mask_back(self, region: np.ndarray, row: int) -> np.ndarray:
        """A region of the square (side, side) as a mask of the image: bool (height, width)."""
        part = self.geometry(row)
        return part.image_back(images.restore(region.astype(np.uint8) * 255, *part.size) >= segmentation_data.THRESHOLD)

    def _in_field(self, row: int) -> np.ndarray:
        width, height = self._sizes[row]
        corners = np.array([self.field]) * [width, height, width, height]
        return regions.within(self.to_square(corners, row), self.side)

    def truth(self, cases: pd.DataFrame) -> list[Truth]:
        """What is known of cases, whose rows in the data are their column `row`; each has an index of its own."""
        rows = cases["row"].to_numpy()
        named = self.seen.slices.table["mask"].iloc[np.unique(rows)]
        contents.checked(self.work, named[named != ""])
        found = {}
        for name, of in cases.groupby("label"):
            corners, _ = data_boxes.by_image(self._of_label(name), of["image_id"], self._classes)
            found |= dict(zip(of.index, corners, strict=True))
        truth = []
        for case, row, y in zip(cases.index, rows, cases["y"].fillna(0), strict=True):
            boxes = found[case] if y == 1 else np.zeros((0, 4))
            head = regions.head(self.seen.grey(row)) if self.field is None else self._in_field(row)
            truth.append(Truth(self.to_square(boxes, row) if len(boxes) else boxes, self.mask(row) if y == 1 else None, head))
        return truth


def detector(work: Workspace, experiment: str, folder: Path, known: Known) -> tuple[Callable[[int], np.ndarray], float]:
    """What a detector found on an image of a fold, by its row: boxes in the square, confidence and class, float64 (k, 6), the
    most confident first; and the confidence from which on it calls a box."""
    places, _ = detection_predictions.folders(work, experiment, folder.name.removeprefix("fold"))
    frame, _ = detection_predictions.read(work, places[0], known.seen.slices)
    frame = frame[frame["confidence"].notna()].sort_values("confidence", ascending=False, kind="stable")
    found = frame.groupby("image_id").indices
    values = frame[[*detection_predictions.CORNERS, "confidence"]].to_numpy(dtype=float)
    evaluated = places[0].parent / "metrics.json"
    folds = files.read_json(evaluated)["folds"] if evaluated.exists() else []
    limits = [of["threshold"] for of in folds if f"fold{of['fold']}" == folder.name and of.get("threshold") is not None]

    def of_row(row: int) -> np.ndarray:
        boxes = values[found.get(known.seen.slices.table["image_id"].iloc[row], [])].reshape(-1, 5)
        corners = known.to_square(boxes[:, :4], row)
        return np.column_stack([corners, boxes[:, 4], np.zeros(len(boxes))])

    return of_row, limits[0] if limits else CONFIDENCE
