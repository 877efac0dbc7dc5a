"""The networks of one task that look at a scan together: how they are fed, from which threshold on their mean counts.

From experiments (choose) or from a bundle (bundle): what follows knows no difference, and imports no torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hemoct.prepare import methods
from hemoct.prepare.orientation import turns
from hemoct.prepare.preparation import Preparation
from hemoct.scan.result import Model
from hemoct.scan.runners import Classifier, Detector, Segmenter


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What networks see of a scan; of model.json. It is the same for all networks of a group."""

    image_size: int
    """side of what they see, in pixels; of a detector of Ultralytics the longer side"""
    orientation: str
    """where the nose points in what they learned from (prepare.orientation), or unknown"""
    window: str | None = None
    """in which HU became grey; None: not recorded"""
    prepare: Sequence[str] = ()
    """preparation.NAMES, in this order"""
    bone: int = methods.BONE
    """grey value from which on it is bone, in that window (data.prepared.bone)"""
    channels: int = 1
    """planes of a slice: 1 grey, or 3 CT windows"""
    context: int = 0
    """neighbouring slices on each side that are seen too"""
    source_size: int = 0
    """task 3: side of the square that windows are cut from, in pixels"""
    region: str = "slice"
    """task 3: `slice`, the whole square, or `box`, windows around boxes"""
    margin: float = 0.0
    """task 3: of a window around a box, at both ends, in parts of its longer side"""
    least_side: int = 0
    """task 3: of a window around a box, in pixels of the square"""

    def preparation(self, present: str) -> Preparation:
        """How slices are prepared whose nose points to `present` (prepare.orientation), or whose orientation is unknown."""
        return Preparation(tuple(self.prepare), turns(present, self.orientation), self.bone)


@dataclass(frozen=True)
class Network:
    """One network of a group. It is read when it is loaded, so that not all need to lie in memory at a time."""

    fold: int
    load: Callable[[], Classifier | Detector | Segmenter]
    weights: str
    """sha256 of the file"""
    least_confidence: float = 0.0
    """task 3: of the boxes that it looks around"""
    detector: Network | None = None
    """task 3: of the boxes that it looks around; None: none is needed, or its weights are gone and others have to do"""


@dataclass(frozen=True)
class Group:
    """All networks of a task, or of one fold; the mean of what they say is the answer."""

    task: int
    experiment: str
    dataset: str
    classes: list[str]
    """labels of tasks 1 and 4, classes of boxes, none in task 3"""
    fed: Fed
    networks: list[Network]
    thresholds: list[float]
    """tasks 1 and 4: of each of `classes`; task 2: one, a confidence; task 3: one, a level of 8-bit probabilities, 1 to 255"""
    rule: str
    """where the thresholds come from, in words"""
    score: str = ""
    """what the experiment reached out of fold, with its interval, in words; empty where it was not evaluated"""
    detectors: Fed | None = None
    """task 3: how the detectors of the networks are fed"""

    @property
    def model(self) -> Model:
        """What a result says of the group."""
        return Model(
            self.task, self.experiment, self.dataset, [each.fold for each in self.networks], self.score,
            [each.weights for each in self.networks],
        )  # fmt: skip
