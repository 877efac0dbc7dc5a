"""Boxes on image files: by which models, their boxes as one (fused), which boxes are annotated on the files, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes, images, named_images, named_slices
from hemoct.data.fusion import fuse
from hemoct.data.named_images import ImageFiles
from hemoct.data.named_slices import AsImages
from hemoct.detection.predictions import DetectorSpec
from hemoct.evaluation import overlays
from hemoct.prepare.geometry import Geometry

if TYPE_CHECKING:
    import torch

OUTPUTS = ("predicted.csv", "overlays", "patients")
THRESHOLD = 0.25  # where no evaluation has chosen one: Ultralytics' default


# ---- by which models


def models(work: Workspace, experiment: str, fold: int | None, fuse: bool) -> list[Path]:
    """The fold folders to predict with: that of `fold`, or all with `fuse`; a single one needs neither."""
    folders = named_images.models(work, 2, experiment, fold)
    if len(folders) > 1 and not fuse:
        folds = ", ".join(folder.name.removeprefix("fold") for folder in folders)
        raise UserError(
            f"{work.show(work.task(2) / experiment)} has a model for each of the folds {folds}; "
            "join their boxes (--fuse) or name one (--fold K)"
        )
    return folders


# ---- boxes of several models as one

Prepared = Callable[[Path, np.ndarray], tuple[np.ndarray, Geometry]]
"""the grey values of a file as models see them, and how they were turned (data.prepared.Shown.image)"""


def detect(
    paths: list[Path], folders: list[Path], batch_size: int, device: torch.device, prepared: Prepared
) -> list[list[np.ndarray]]:
    """Boxes by each model of each image file, (k, 6) as of networks.detect, in pixels of the file; `prepared`: how it is shown.

    One model after the other reads the files, so that neither all models nor all slices need to lie in memory.
    """
    from hemoct.detection import networks  # not at the top: what can be refused shall not wait for torch

    geometry: dict[Path, Geometry] = {}

    def read(path: Path) -> np.ndarray:
        grey, geometry[path] = prepared(path, images.read_grey(path))
        return grey

    models = (networks.load(folder, device) for folder in folders)
    each = [networks.detect(*model, images.decode(paths, "detect", read), batch_size) for model in models]
    return [[geometry[path].boxes_back(boxes) for path, boxes in zip(paths, of_model, strict=True)] for of_model in each]


def fused(by_model: list[list[np.ndarray]], paths: list[Path]) -> list[np.ndarray]:
    """The boxes of `detect` on each image file as one list, (k, 6), see data.fusion."""
    return [fuse(list(of_image), *images.size_of(path)) for path, *of_image in zip(paths, *by_model, strict=True)]


# ---- what is annotated


@dataclass(frozen=True)
class AnnotatedFiles(ImageFiles):
    """Image files with the boxes that are annotated on them; row i of each is the same image."""

    truth: list[np.ndarray | None]
    """float64 (k, 4) an image, pixels; None where nothing is annotated: images from elsewhere, unknown labels"""
    truth_class: list[np.ndarray]
    """class numbers, int (k,) an image"""
    classes: list[str]
    """those of the models by their numbers, then those that only the annotation has"""


def look_up(work: Workspace, paths: list[Path], specs: Sequence[DetectorSpec], sources: AsImages | None = None) -> AnnotatedFiles:
    """What the tables know of files, see hemoct.data.named_images, with their boxes. `specs`: those of the models."""
    files = named_slices.look_up(work, sources, specs) if sources else named_images.look_up(work, paths, specs)
    classes = specs[0].classes if specs else []
    if files.labels.columns.empty:
        n = len(files.table)
        return AnnotatedFiles(**vars(files), truth=[None] * n, truth_class=[np.zeros(0, dtype=int)] * n, classes=classes)
    table = tables.read_boxes(work)
    classes = list(dict.fromkeys(chain(classes, table["class"])))
    corners, numbers = boxes.by_image(table, files.table["image_id"], classes)
    labelled = files.labels[tables.read_dataset(work).labels].notna().all(axis=1)
    truth = [of_image if len(of_image) or known else None for of_image, known in zip(corners, labelled, strict=True)]
    return AnnotatedFiles(**vars(files), truth=truth, truth_class=numbers, classes=classes)


# ---- pictures


@dataclass(frozen=True)
class BoxDrawing:
    """A sheets.Drawing of predicted boxes, (k, 6) an image, and of the annotated ones."""

    zoom: ClassVar[int] = 1
    files: AnnotatedFiles
    predicted: list[np.ndarray]

    def read(self, row: int) -> np.ndarray:
        return images.read_grey(self.files.paths[row])

    def picture(self, row: int, pixels: np.ndarray, side: int) -> Image.Image:
        files = self.files
        return overlays.picture(pixels, self.predicted[row], files.truth[row], side, files.classes, files.truth_class[row])

    def caption(self, row: int) -> str:
        truth = self.files.truth[row]
        annotated = "" if truth is None else f", {len(truth)} annotated"
        return f"{len(self.predicted[row])} box(es) predicted{annotated}"

    def short(self, row: int) -> str:
        boxes = self.predicted[row]
        return f"predicted, {boxes[0, 4]:.2f}" if len(boxes) else "no box predicted"

    def heading(self, rows: Sequence[int]) -> str:
        annotated = self._annotated(rows)
        positive = f", annotated on {sum(len(truth) > 0 for truth in annotated)}" if annotated else ""
        return f"box predicted on {sum(len(self.predicted[row]) > 0 for row in rows)}{positive}"

    def legend(self, rows: Sequence[int]) -> str:
        return overlays.legend(self.files.layout, bool(self._annotated(rows)))

    def _annotated(self, rows: Sequence[int]) -> list[np.ndarray]:
        return [self.files.truth[row] for row in rows if self.files.truth[row] is not None]
