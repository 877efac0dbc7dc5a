"""Figures of predicted slices: beside the slice a bar for each label."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tqdm import tqdm

from hemoct.base import figure as base_figure
from hemoct.data.named_slices import Slice
from hemoct.evaluation.sheets import SEEN
from hemoct.multilabel.predict import PredictedLabels, is_grey

CALLED, NOT_CALLED, THRESHOLD, ANNOTATED = "#d55e00", "#b0b0b0", "#202020", "#009e73"
NO_DIAGNOSIS = "Predicted by a research model; no diagnosis."
NO_ANY = "A type is called but any is not: the thresholds of the labels are chosen one by one."
COLOURS = ("red channel", "green channel", "blue channel")
LEAST_INCHES, LABEL_INCHES = 4.2, 0.42
LETTERS_PER_INCH = 14  # of the lines below a figure


def choose(predicted: PredictedLabels, most: int) -> np.ndarray:
    """The rows that are drawn, in the order of the table: those with the highest probability of any label first."""
    highest = np.argsort(-predicted.probability.max(axis=1), kind="stable")
    return np.sort(highest[:most])


def write(
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
    shown, axes = base_figure.figure(1, len(planes) + 1, width=LEAST_INCHES, height=height)
    for axis, plane in zip(axes, planes, strict=False):
        axis.imshow(plane, cmap="gray", vmin=0, vmax=255)
        axis.axis("off")
    for axis, name in zip(axes[:-1], names, strict=False):  # one window may fill three channels
        axis.set(title=name)
    bars(axes[-1], predicted, row)
    place, highest = predicted.shown.table.iloc[row], predicted.highest(row)
    number = "" if place.isna()["slice"] else f", slice {place['slice']}"
    words = f"{predicted.words(row)}; {highest}" if highest else predicted.words(row)
    base_figure.title(shown, f"{predicted.shown.title(row)} ({place['group']}{number}): {words}")
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
    axis.vlines(limits, places - 0.4, places + 0.4, color=THRESHOLD, linewidth=2)
    for place, value in enumerate(probability):
        axis.text(1.02, place, f"{value:.2f}", va="center", weight="bold" if called[place] else "normal")
    axis.set_yticks(places, predicted.classes)
    for tick, is_called in zip(axis.get_yticklabels(), called, strict=True):
        tick.set_weight("bold" if is_called else "normal")
    known = ~np.isnan(truth)
    for place in places[known]:
        yes = truth[place] == 1
        axis.plot(1.24, place, marker="o", markersize=8, color=ANNOTATED, fillstyle="full" if yes else "none", clip_on=False)
    axis.set(xlim=(0, 1), title="probability")
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(handles=_legend(known.any()), loc="upper left", bbox_to_anchor=(0, -0.1), ncols=3, fontsize=8, frameon=False)


def _legend(annotated: bool) -> list[Patch | Line2D]:
    def sign(words: str, marker: str, colour: str, fill: str = "full") -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, markersize=8, markeredgewidth=2 if marker == "|" else 1,
                      color=colour, fillstyle=fill, label=words)  # fmt: skip

    drawn = [Patch(color=CALLED, label="called"), Patch(color=NOT_CALLED, label="not called"), sign("threshold", "|", THRESHOLD)]
    if annotated:
        drawn += [sign("annotated", "o", ANNOTATED), sign("annotated as absent", "o", ANNOTATED, "none")]
    return drawn
