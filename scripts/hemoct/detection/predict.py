"""Image files for detectors: by which models, and which boxes are known of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes, named_images
from hemoct.data.named_images import ImageFiles
from hemoct.detection import data
from hemoct.detection.data import BoxData

OUTPUTS = ("predicted.csv", "overlays", "patients")
THRESHOLD = 0.25  # where no evaluation has chosen one: Ultralytics' default


@dataclass(frozen=True)
class Known(ImageFiles):
    """Image files with the boxes that are annotated on them; row i of each is the same image."""

    truth: list[np.ndarray | None]
    """float64 (k, 4) an image, pixels; None where nothing is annotated: images from elsewhere, unknown labels"""
    truth_class: list[np.ndarray]
    """class numbers, int (k,) an image"""
    classes: list[str]
    """those of the models by their numbers, then those that only the annotation has"""


def models(work: Workspace, experiment: str, fold: int | None, fuse: bool) -> list[Path]:
    """The fold folders to predict with: that of `fold`, or all with `fuse`; the only one needs neither."""
    folders = named_images.models(work, 2, experiment, fold)
    if len(folders) > 1 and not fuse:
        there = ", ".join(folder.name.removeprefix("fold") for folder in folders)
        raise UserError(
            f"{work.show(work.task(2) / experiment)} has a model for each of the folds {there}; "
            "join their boxes (--fuse) or name one (--fold K)"
        )
    return folders


def labelled(seen: Workspace, classes: list[str]) -> BoxData:
    """The labelled slices of another data set; stops when its boxes are of other classes than those of the models."""
    theirs = tables.read_dataset(seen).classes
    if sorted(theirs) != sorted(classes):
        raise UserError(
            f"{seen.show(seen.work / 'dataset.json')}: its boxes are of class {', '.join(theirs) or '(none)'}, the models know "
            f"{', '.join(classes)}; name the classes of its annotations alike and run: "
            f"python scripts/03_make_labels.py --dataset {seen.dataset}"
        )
    return data.load(seen, split=False)


def counted(found: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """The boxes of each image, (k, 6), from the threshold up, to the five digits of predictions.csv that it was chosen from."""
    return [of_image[of_image[:, 4].round(5) >= threshold] for of_image in found]


def look_up(work: Workspace, paths: list[Path], specs: Sequence) -> Known:
    """What is known of files, see hemoct.data.named_images, with their boxes. `specs` are the models' DetectorSpecs."""
    found = named_images.look_up(work, paths, specs)
    classes = specs[0].classes if specs else []
    return Known(**vars(found), **_truth(work, found, classes))


def _truth(work: Workspace, found: ImageFiles, classes: list[str]) -> dict[str, list]:
    """Boxes (None where nothing is annotated) and class numbers of each image; `classes` with those that the boxes add."""
    if found.labels.columns.empty:
        n = len(found.table)
        return {"truth": [None] * n, "truth_class": [np.zeros(0, dtype=int)] * n, "classes": classes}
    table = tables.read_boxes(work)
    classes = list(dict.fromkeys(chain(classes, table["class"])))
    corners, numbers = boxes.by_image(table, found.table["image_id"], classes)
    known = found.labels[tables.read_dataset(work).labels].notna().all(axis=1)
    truth = [of_image if len(of_image) or told else None for of_image, told in zip(corners, known, strict=True)]
    return {"truth": truth, "truth_class": numbers, "classes": classes}
