"""What is known of one scan after all tasks have looked at it. Imports no torch.

Row i of every array is slice i of the scan, from base to vertex where that is known. Pixels are those of the scan's own matrix as
it is stored (rows, columns): boxes, masks and maps that a model saw turned or cropped are turned back. A NIfTI volume has no rows
of its own: its slices lie as in radiology, nose up, the patient's right at the left (ct.nifti); `Source.affine` is that of these
slices, and files are written in the volume's own order of voxels (`Source.volume`).

Large arrays are mapped files without a name: they go when nothing holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemoct.ct import nifti


@dataclass(frozen=True)
class Source:
    """The slices that were read, once, for all tasks. Large arrays lie in mapped files: a thin-slice CT need not fit."""

    path: Path
    """as the user named it"""
    kind: str
    """images, dicom or nifti"""
    names: list[str]
    """of each slice: its file's name; VOLUME/NUMBER of a volume"""
    grey: np.ndarray
    """uint8 (n, height, width), in the window that the models learned from"""
    hu: np.ndarray | None
    """int16 (n, height, width); None of images, which hold grey values alone"""
    window: str | None
    """in which HU became grey; None of images"""
    affine: np.ndarray | None
    """float64 (4, 4): (column, row, slice, 1) to mm in RAS+, as nibabel has it; None of images"""
    spacing: tuple[float, float, float] | None
    """mm between columns, rows and slices; None where unknown"""
    stands_for: np.ndarray | None
    """mm of the scan that each slice stands for, float64 (n,): gaps between slices may differ; None where unknown"""
    orientation: str
    """where the nose points in the stored matrix (prepare.orientation.KNOWN), or unknown"""
    volume: nifti.Volume | None
    """of a NIfTI file: `own` puts an array (n, height, width) into its own order of voxels"""
    series: str
    """of the slices, in words that name no person: `axial, 2.5 mm, 32 slices`"""
    others: list[str]
    """series of the same folder that were not taken, likewise"""
    passed_over: Mapping[str, str]
    """file to its problem"""
    notes: list[str]
    """what a reader has to know of the slices, in words"""
    about: Mapping[str, str]
    """identifiers of a DICOM header (patient, study, series), for those who ask for them; no output holds them unasked"""


@dataclass(frozen=True)
class Model:
    """The models of a task whose mean is taken."""

    task: int
    experiment: str
    dataset: str
    folds: list[int]
    score: str
    """what it reached out of fold, with its interval, in words; empty where it was not evaluated"""
    weights: list[str]
    """sha256 of each"""


@dataclass(frozen=True)
class Label:
    """One label of tasks 1 or 4, on each slice."""

    task: int
    name: str
    probability: np.ndarray
    """float64 (n,)"""
    threshold: float
    rule: str
    """where the threshold comes from, in words"""

    @property
    def called(self) -> np.ndarray:
        """bool (n,): the probability reaches the threshold."""
        return self.probability >= self.threshold


@dataclass(frozen=True)
class Boxes:
    """Task 2: those at or above the threshold."""

    each: list[np.ndarray]
    """float64 (k, 6) a slice: xmin, ymin, xmax, ymax (pixels), confidence, class number; most confident first"""
    classes: list[str]
    threshold: float
    rule: str


@dataclass(frozen=True)
class Masks:
    """Task 3: bool (n, height, width) each."""

    edema: np.ndarray
    core: np.ndarray | None
    """bright core in certain boxes, an unvalidated estimate of the bleeding (segmentation.hematoma); None without boxes"""
    threshold: float
    """least probability of the edema, 0 to 1"""
    rule: str
    means: str = "lesion"
    """what `edema` is of these models in truth: other data sets outline other things (label_meaning.lesion)"""


@dataclass(frozen=True)
class Scan:
    """`hemoct.scan.predict.predict(path, models)`: everything that is known of a scan."""

    source: Source
    models: list[Model]
    seen: np.ndarray
    """bool (n,): slices that one of the models had in training or validation; their result is not honest"""
    bleeding: Label | None
    """task 1; None where no model of it was given, likewise below"""
    types: list[Label]
    boxes: Boxes | None
    masks: Masks | None
    heat: np.ndarray | None
    """uint8 (n, height, width): class activation map of task 1, 255 its maximum in the scan; None where no model gives one"""
    seconds: Mapping[str, float]
    """wall time of reading, of each task, of maps"""

    def __len__(self) -> int:
        return len(self.source.names)

    @property
    def labels(self) -> list[Label]:
        """Those of tasks 1 and 4."""
        return [*([self.bleeding] if self.bleeding else []), *self.types]

    def volume(self, mask: np.ndarray) -> tuple[float, str]:
        """Of a mask (n, height, width): ml where the spacing is known, else the number of its pixels; and the unit."""
        if self.source.spacing is None or self.source.stands_for is None:
            return float(np.count_nonzero(mask)), "px, spacing unknown"
        pixels = np.array([np.count_nonzero(of_slice) for of_slice in mask])
        return float(pixels @ self.source.stands_for) * float(np.prod(self.source.spacing[:2])) / 1000, "ml"
