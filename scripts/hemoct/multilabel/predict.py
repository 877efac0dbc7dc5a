"""Labels of image files by several multi-label networks together: the mean of their probabilities, called by thresholds."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tqdm import tqdm

from hemoct.base import figure as base_figure, tables
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.data import named_slices, slices as data_slices
from hemoct.data.named_images import ImageFiles, look_up
from hemoct.data.named_slices import Slice
from hemoct.evaluation.sheets import SEEN
from hemoct.multilabel.predictions import MultiLabelSpec

if TYPE_CHECKING:
    import torch

OUTPUTS = ("predicted.csv", "passed_over.csv", "figures")
ALIKE = ("classes", "image_size", "channels", "context")
"""what models must share so that their probabilities can be averaged"""
THRESHOLD = 0.5
NONE, PLUS = "none", " + "
"""words of predicted.csv: no label is called; between two that are"""
CALLED, NOT_CALLED, LIMIT, ANNOTATED = "#d55e00", "#b0b0b0", "#202020", "#009e73"
NO_DIAGNOSIS = "Predicted by a research model; no diagnosis."
NO_ANY = "A type is called but any is not: the thresholds of the labels are chosen one by one."
COLOURS = ("red channel", "green channel", "blue channel")
LEAST_INCHES, LABEL_INCHES = 4.2, 0.42
LETTERS_PER_INCH = 14  # of the lines below a figure


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
        named = [self.classes[column] for column in self.types if self.called[row, column]]
        return PLUS.join(named) or (ANY if self.called[row].any() else NONE)

    def most_likely(self, row: int) -> str:
        """The type with the highest probability, called or not; "" where the models know no type."""
        return self.classes[max(self.types, key=lambda column: self.probability[row, column])] if self.types else ""

    def title(self, row: int) -> str:
        """What the image is, the types that are called, and the most likely one where it is not the only one of these."""
        place, likely, words = self.shown.table.iloc[row], self.most_likely(row), self.words(row)
        number = "" if place.isna()["slice"] else f", slice {place['slice']}"
        said = f"{self.shown.title(row)} ({place['group']}{number}): {words}"
        if likely in ("", words):
            return said
        return f"{said}; highest: {likely}" + " (not called)" * (likely not in words.split(PLUS))

    def any_is_missing(self, row: int) -> bool:
        """Whether a type is called and `any`, a label of these models, is not."""
        return ANY in self.classes and bool(self.called[row, self.types].any() and not self.called[row, self.classes.index(ANY)])

    def table(self) -> pd.DataFrame:
        """predicted.csv."""
        frame = self.shown.table[["image", "image_id", "group", "slice"]].copy()
        frame = tables.with_columns(frame, self.classes, None, self.probability)
        frame[self.classes] = self.called.astype(int)
        frame["labels"] = [self.words(row) for row in range(len(frame))]
        frame["most_likely"] = [self.most_likely(row) for row in range(len(frame))]
        frame[[f"y_{name}" for name in self.classes]] = pd.DataFrame(self.truth, dtype="Float64").astype("Int64")
        return frame.assign(seen=self.shown.seen.astype(int))


def known(work: Workspace, slices: list[Slice], specs: list[MultiLabelSpec]) -> tuple[ImageFiles, list[Slice], dict[Path, str]]:
    """What the tables know of slices, the slices in the same order, and the problem of each that was passed over as a copy."""
    places, left = named_slices.arrange(slices)
    by_path = {str(each.path): each for each in slices}
    paths = [each.path for each in slices if each.path not in left]
    shown = look_up(work, paths, specs, places, named_slices.converted(work) if places else {})
    return shown, [by_path[name] for name in shown.table["image"]], left


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
    images: tuple[np.ndarray, np.ndarray], folders: list[Path], batch_size: int, device: torch.device, groups: np.ndarray | None
) -> np.ndarray:
    """The mean of the models' probabilities: float64 (n, classes). `images`: pixels and planes, see data.LabelledSlices.

    `groups`: the view of each image, where the models have a head for each; else None.
    """
    import torch  # not at the top: what can be refused shall not wait for torch

    from hemoct.multilabel import networks, views
    from hemoct.training import inference
    from hemoct.training.batches import Stacks, Store

    pixels, planes = images
    source = Stacks(Store(pixels, device), torch.as_tensor(planes))
    if groups is not None:
        return views.mean_of_models(folders, source, groups, batch_size)
    return inference.mean_of_models(networks.load, folders, source, len(planes), batch_size)


# ---- figures: beside the slice a bar for each label


def draw(
    folder: Path, predicted: PredictedLabels, rows: np.ndarray, read: Callable[[Path], Slice], windows: str, footer: str
) -> None:
    """Write GROUP/NAME.png of each of the `rows`. `read` reads a slice by its path; `windows`: in which HU are shown."""
    for row in tqdm(rows, desc="draw", disable=None):
        drawn = figure(predicted, row, read(predicted.shown.paths[row]), windows, footer)
        base_figure.save(drawn, folder / f"{predicted.shown.places[row]}.png")


def figure(predicted: PredictedLabels, row: int, read: Slice, windows: str, footer: str) -> Figure:
    """The planes of a slice, and the bars of its labels."""
    planes, names = read.planes, titles(read, windows)
    height = max(LEAST_INCHES, 1.8 + LABEL_INCHES * len(predicted.classes))
    shown, axes = base_figure.figure(1, len(planes) + 1, LEAST_INCHES, height, predicted.title(row))
    for axis, plane in zip(axes, planes, strict=False):
        axis.imshow(plane, cmap="gray", vmin=0, vmax=255)
        axis.axis("off")
    for axis, name in zip(axes[:-1], names, strict=False):  # one window may fill three channels
        axis.set(title=name)
    bars(axes[-1], predicted, row)
    lines = [f"{NO_DIAGNOSIS} {footer}", *[f"This image was {SEEN}"] * bool(predicted.shown.seen[row]),
             *[NO_ANY] * predicted.any_is_missing(row)]  # fmt: skip
    width = int(shown.get_figwidth() * LETTERS_PER_INCH)
    shown.supxlabel("\n".join(textwrap.fill(line, width) for line in lines), fontsize=8)  # names of experiments can be long
    return shown


def titles(read: Slice, windows: str) -> Sequence[str]:
    """What the planes of a slice show, as far as it is known. `windows`: in which HU are shown, one or three."""
    if read.facts is None:
        several = ["grey, in all channels"] if is_grey(read) else COLOURS
        return several if len(read.planes) > 1 else []
    names = windows.split(",")
    return names if len(names) <= len(read.planes) else [f"grey mix of {', '.join(names)}"]


def bars(axis: Axes, predicted: PredictedLabels, row: int) -> None:
    """A bar for each label, coloured where it is called; its threshold; and what is annotated, where anything is known."""
    places, called, truth = np.arange(len(predicted.classes)), predicted.called[row], predicted.truth[row]
    probability = predicted.probability[row]
    axis.barh(places, probability, height=0.62, color=np.where(called, CALLED, NOT_CALLED))
    limits = np.array([predicted.thresholds[name] for name in predicted.classes])
    axis.vlines(limits, places - 0.4, places + 0.4, color=LIMIT, linewidth=2)
    axis.set_yticks(places, predicted.classes)
    for place, tick in enumerate(axis.get_yticklabels()):
        weight = "bold" if called[place] else "normal"
        tick.set_weight(weight)
        axis.text(1.02, place, f"{probability[place]:.2f}", va="center", weight=weight)
    for place in places[~np.isnan(truth)]:
        fill = "full" if truth[place] else "none"
        axis.plot(1.24, place, marker="o", markersize=8, color=ANNOTATED, fillstyle=fill, clip_on=False)
    axis.set(xlim=(0, 1), title="probability")
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(
        handles=_legend(not np.isnan(truth).all()), loc="upper left", bbox_to_anchor=(0, -0.1), ncols=3, fontsize=8, frameon=False
    )


def _legend(annotated: bool) -> list[Patch | Line2D]:
    def sign(words: str, marker: str, colour: str, fill: str = "full") -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, markersize=8, markeredgewidth=2 if marker == "|" else 1,
                      color=colour, fillstyle=fill, label=words)  # fmt: skip

    drawn = [Patch(color=CALLED, label="called"), Patch(color=NOT_CALLED, label="not called"), sign("threshold", "|", LIMIT)]
    if annotated:
        drawn += [sign("annotated", "o", ANNOTATED), sign("annotated as absent", "o", ANNOTATED, "none")]
    return drawn
