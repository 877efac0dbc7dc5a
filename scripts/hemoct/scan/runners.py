"""One trained network, whatever runs it: PyTorch (torch_runners) or ONNX Runtime (onnx_runners). Arrays in, arrays out.

What stands around networks, reading, preparing, resizing, joining of folds, is the same for both and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hemoct.base.workspace import Workspace
from hemoct.scan.result import Model


class Classifier(Protocol):
    """Tasks 1 and 4."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Of uint8 (b, channels, side, side), grey values as they are cached: float64 (b, classes)."""

    def maps(self, pixels: np.ndarray) -> np.ndarray | None:
        """Class activation maps of the first class, float32 (b, k, k), none below 0; None where the network has none."""


class Detector(Protocol):
    """Task 2."""

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        """Of uint8 (h, w) each, of any size: float64 (k, 6) each, as detection.networks.detect gives them."""


class Segmenter(Protocol):
    """Task 3."""

    def patches(self, squares: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Probabilities in windows, uint8 (k, side, side), 255 is 1, as training writes them.

        `squares`: uint8 (n, channels, source_size, source_size); `rows`: int (k,), the square of each window; `places`: float64
        (k, 3), left, top, side of each in its square (segmentation.windows.Windows.places).
        """


@dataclass(frozen=True)
class Around:
    """Where a segmenter looks: windows around boxes (segmentation.windows)."""

    margin: float
    least_side: int
    least_confidence: list[float]
    """of a box, by fold"""
    detector: Task | None
    """of the same folds, in their order; None where its weights are not there: then the boxes of the scan's task 2 stand in"""


@dataclass(frozen=True)
class Task:
    """The networks of a task and how they are fed, as an experiment (choose) or a bundle says it. None is loaded yet."""

    model: Model
    size: int
    """px of the square that each slice is fitted into (data.images.resize); of task 2, whose networks take any size, not used"""
    channels: int
    """1 grey, or 3 of red, green and blue (three windows)"""
    context: int
    """neighbouring slices on each side that are seen too"""
    window: str | None
    """in which HU are shown (ct.windows.parse_windows); None: it is not recorded, named_slices.BY_CHANNELS stands in"""
    prepare: list[str]
    orientation: str
    """where the nose points in what the networks know, or unknown"""
    classes: list[str]
    """labels of tasks 1 and 4, classes of boxes of task 2; empty of task 3"""
    thresholds: list[float]
    """of each label; of tasks 2 and 3 one. A probability 0 to 1; of task 3 a level 1 to 255 of an 8-bit one"""
    rule: str
    """where the thresholds come from, in words"""
    load: Callable[[], Sequence[Classifier | Detector | Segmenter]]
    """the network of each fold"""
    around: Around | None = None
    """of task 3; None: whole slices"""
    means: str = "lesion"
    """of task 3: what the masks outline"""


@dataclass(frozen=True)
class Learned:
    """Which slices a network had in training or validation (fields of training.specs.Spec)."""

    splits_sha256: str
    protocol: str
    split: str
    fold: int | None


@dataclass(frozen=True)
class Models:
    """All that looks at a scan."""

    tasks: list[Task]
    """one a task at most, in their order"""
    said: list[str]
    """what was chosen and passed over, and why: a line each"""
    learned: list[tuple[Workspace, Learned]]
    """of all networks, and where their data set lies; empty of a bundle, which does not know the slices that it learned from"""
    files: list[Path]
    """what the networks are made of: a run record knows by them whether they have changed"""

    def of(self, number: int) -> Task | None:
        """That of task `number`."""
        return next((task for task in self.tasks if task.model.task == number), None)
