"""Labels of image files by several multi-label networks together: the mean of their probabilities, called by thresholds."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import named_slices, slices as data_slices
from hemoct.data.named_images import ImageFiles, look_up
from hemoct.data.named_slices import Slice
from hemoct.data.slices import ANY
from hemoct.multilabel import networks
from hemoct.multilabel.networks import MultiLabelSpec
from hemoct.training import inference
from hemoct.training.batches import Stacks, Store

OUTPUTS = ("predicted.csv", "passed_over.csv", "figures")
ALIKE = ("classes", "image_size", "channels", "context")
"""what models must share so that their probabilities can be averaged"""
THRESHOLD = 0.5
NONE, PLUS = "none", " + "
"""words of predicted.csv: no label is called; between two that are"""


@dataclass(frozen=True)
class PredictedLabels:
    """What is predicted on the images of `shown`; row i of each is the same image."""

    shown: ImageFiles
    classes: list[str]
    probability: np.ndarray
    """float64 (n, classes)"""
    thresholds: dict[str, float]
    truth: np.ndarray
    """float64 (n, classes): 0, 1, NaN where unknown"""

    @cached_property
    def called(self) -> np.ndarray:
        """bool (n, classes): the probability reaches the label's threshold."""
        return self.probability >= np.array([self.thresholds[name] for name in self.classes])

    @property
    def types(self) -> list[int]:
        """The columns of the labels apart from `any`."""
        return [column for column, name in enumerate(self.classes) if name != ANY]

    def words(self, row: int) -> str:
        """The types that are called, `IPH + SAH`; `any` where that alone is called, else `none`."""
        called = self.called[row]
        named = [self.classes[column] for column in self.types if called[column]]
        return PLUS.join(named) or (ANY if called.any() else NONE)

    def highest(self, row: int) -> str:
        """The most likely type, in words; "" where the models know no type, or it is the only one that is called."""
        likely = self.most_likely(row)
        is_called = bool(likely) and bool(self.called[row, self.classes.index(likely)])
        if not likely or (is_called and self.words(row) == likely):
            return ""
        return f"highest: {likely}" + " (not called)" * (not is_called)

    def any_is_missing(self, row: int) -> bool:
        """Whether a type is called and `any`, a label of these models, is not."""
        return ANY in self.classes and bool(self.called[row, self.types].any() and not self.called[row, self.classes.index(ANY)])

    def most_likely(self, row: int) -> str:
        """The type with the highest probability, called or not; "" where the models know no type."""
        return self.classes[max(self.types, key=lambda column: self.probability[row, column])] if self.types else ""

    def table(self) -> pd.DataFrame:
        """predicted.csv."""
        frame = self.shown.table[["image", "image_id", "group", "slice"]].copy()
        frame = inference.with_columns(frame, self.classes, None, self.probability)
        frame[self.classes] = self.called.astype(int)
        frame["labels"] = [self.words(row) for row in range(len(frame))]
        frame["most_likely"] = [self.most_likely(row) for row in range(len(frame))]
        for column, name in enumerate(self.classes):
            frame[f"y_{name}"] = pd.array(self.truth[:, column], dtype="Float64").astype("Int64")
        return frame.assign(seen=self.shown.seen.astype(int))


def read_specs(folders: list[Path]) -> list[MultiLabelSpec]:
    """model.json of each folder; stops when their probabilities cannot be averaged."""
    specs = [MultiLabelSpec.read(folder) for folder in folders]
    for folder, spec in zip(folders, specs, strict=True):
        other = [name for name in ALIKE if getattr(spec, name) != getattr(specs[0], name)]
        if other:
            raise UserError(
                f"{folder} differs from {folders[0]} in {', '.join(other)} (model.json); train the folds again, all alike"
            )
    return specs


def known(work: Workspace, slices: list[Slice], specs: list[MultiLabelSpec]) -> tuple[ImageFiles, list[Slice], dict[Path, str]]:
    """What the tables know of slices, the slices in the same order, and the problem of each that was passed over as a copy."""
    places, copies = named_slices.arrange(slices)
    by_path = {str(each.path): each for each in slices}
    paths = [each.path for each in slices if each.path not in set(copies)]
    shown = look_up(work, paths, specs, places, named_slices.converted(work) if places else {})
    return shown, [by_path[name] for name in shown.table["image"]], dict.fromkeys(copies, named_slices.TWICE)


def truth(work: Workspace, shown: ImageFiles, classes: list[str]) -> np.ndarray:
    """What labels.csv says, float64 (n, classes), NaN where unknown; `any` is made of all labels where it has no column."""
    known = shown.labels.reindex(columns=classes).astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if ANY in classes and len(shown.labels.columns):
        known[:, classes.index(ANY)] = data_slices.truth_of_any(shown.labels, tables.read_dataset(work).labels)
    return known


def notes(slices: list[Slice], shown: ImageFiles, context: int) -> list[str]:
    """What a reader has to know of the slices: how many have no neighbour to look at, how many have no colours."""
    around = shown.neighbours(context)
    alone = int((around == around[:, :1]).all(axis=1).sum()) if context else 0
    grey = sum(len(each.planes) > 1 and is_grey(each) for each in slices)
    lines = [f"{alone} slice(s) have no neighbour: name their whole series or folder"] * bool(alone)
    return lines + [f"{grey} image(s) are grey: the three channels are the same"] * bool(grey)


def is_grey(image: Slice) -> bool:
    """Whether all planes of an image are the same; never said of HU, of which one window may fill them all."""
    return image.facts is None and not np.ptp(image.planes, axis=0).any()


def mean_probabilities(
    pixels: np.ndarray, planes: np.ndarray, folders: list[Path], batch_size: int, device: torch.device
) -> np.ndarray:
    """The mean of the models' probabilities: float64 (n, classes). `pixels`, `planes`: see data.LabelledSlices."""
    source = Stacks(Store(pixels, device), torch.as_tensor(planes))
    total = 0.0
    for folder in folders:
        model, spec = networks.load(folder, device)
        logits = inference.logits(model, spec, source, np.arange(len(planes)), batch_size)
        total = total + inference.probabilities(logits, spec.exclusive)
    return total / len(folders)
