"""Figures that explain binary cross entropy: a panel for each label. Blue is a label that is there, orange one that is not."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.special import expit

from hemoct.base import figure as base_figure
from hemoct.multilabel import explain_bce

TRUTHS = {1: ("C0", "truth 1: the label is there"), 0: ("C1", "truth 0: it is not")}
MARKERS = "osD^"  # one an image, as many as fit beside each other
COLUMNS = 3  # panels in a row
LEAST_LOGIT = 3.0  # the axis of logits reaches at least so far to both sides
NO_IDEA = float(np.log(2))  # BCE of p = 0.5, whatever the truth
BEHIND = {"color": "white", "alpha": 0.95, "pad": 0.5}  # of a value that may lie on a line
NAME = 8  # characters of an image's name that fit below a bar


def curves(table: pd.DataFrame, heading: str) -> Figure:
    """The sigmoid with the cells on it and what each lacks to its truth; below, the two curves of the loss with the same cells.

    `table`: see bce.explain, of no more images than there are markers.
    """
    labels = table["label"].unique()
    marks = dict(zip(table["image_id"].unique(), MARKERS, strict=False))
    reach = max(LEAST_LOGIT, 1.4 * table["logit"].abs().max())  # room for a value right of the last cell
    columns = min(COLUMNS, len(labels))
    figure, axes = base_figure.figure(2 * -(-len(labels) // columns), columns, width=3.5, height=2.7, squeeze=False)
    pairs = list(axes.reshape(-1, 2, columns).swapaxes(1, 2).reshape(-1, 2))
    for (above, below), label in zip(pairs, labels, strict=False):
        above.set(title=label, xlim=(-reach, reach), ylim=(-0.16, 1.06), yticks=np.linspace(0, 1, 5))
        below.set(xlabel="logit z", xlim=(-reach, reach), ylim=(-0.16 * reach, 1.06 * reach))
        of_label = table[table["label"] == label]
        _lines(above, below, of_label, np.linspace(-reach, reach, 301))
        _points(above, of_label, marks, "probability")
        _points(below, of_label, marks, "bce")
    for above, below in pairs[::columns]:
        above.set(ylabel="p = sigmoid(z)")
        below.set(ylabel="BCE")
    for axis in (axis for pair in pairs[len(labels) :] for axis in pair):
        axis.axis("off")
    images = [
        Line2D([], [], linestyle="none", marker=mark, color="0.35", markersize=7, label=name) for name, mark in marks.items()
    ]
    lack = Line2D([], [], color="0.35", linestyle="--", label="|p - truth|")
    _legend(figure, [*images, *(Line2D([], [], color=colour, label=text) for colour, text in TRUTHS.values()), lack])
    base_figure.title(figure, heading)
    return figure


def _lines(above: Axes, below: Axes, cells: pd.DataFrame, z: np.ndarray) -> None:
    """The curves, and the distance of each cell's probability to its truth."""
    above.plot(z, expit(z), color="0.6", zorder=1)
    above.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
    for cell in cells.itertuples():
        above.plot([cell.logit] * 2, [cell.probability, cell.truth], "--", color=TRUTHS[cell.truth][0], linewidth=1.2, zorder=2)
    for truth, (colour, _) in TRUTHS.items():
        below.plot(z, explain_bce.losses(z, np.full(len(z), truth)), color=colour, alpha=0.6, linewidth=1.5, zorder=1)


def _points(axis: Axes, cells: pd.DataFrame, marks: dict[str, str], column: str) -> None:
    """The cells of one label on their curve; right of each its value, unless that would lie on one that stands already."""
    wide, high = (np.ptp(limits) for limits in (axis.get_xlim(), axis.get_ylim()))
    standing: list[tuple[float, float]] = []
    for cell in cells.sort_values("logit").itertuples():
        value, colour = getattr(cell, column), TRUTHS[cell.truth][0]
        falling = column == "bce" and cell.truth == 1  # the curve is below right; the value goes above
        axis.plot(cell.logit, value, marks[cell.image_id], color=colour, markersize=8, markeredgecolor="white", zorder=3)
        place = cell.logit / wide, value / high + (0.09 if falling else -0.09)
        if all(abs(place[0] - x) > 0.15 or abs(place[1] - y) > 0.09 for x, y in standing):
            axis.annotate(f"{value:.2f}", (cell.logit, value), (8, 4 if falling else -4), textcoords="offset points",
                          fontsize=8.5, va="bottom" if falling else "top", bbox=BEHIND, zorder=2.5)  # fmt: skip
            standing.append(place)


def bars(table: pd.DataFrame, mean: float, heading: str) -> Figure:
    """BCE of each image, a panel for each label, over truth, probability and verdict; `mean` is that of all cells."""
    labels, images = table["label"].unique(), table["image_id"].unique()
    columns, width = min(COLUMNS, len(labels)), max(2.6, 0.75 * len(images) + 0.5)
    figure, axes = base_figure.figure(-(-len(labels) // columns), columns, width=width, height=3.6, squeeze=False, sharey=True)
    for axis, label in zip(axes.flat, labels, strict=False):
        of_label = table[table["label"] == label]
        places, colours = np.arange(len(of_label)), [TRUTHS[truth][0] for truth in of_label["truth"]]
        drawn = axis.bar(places, of_label["bce"], width=0.6, color=colours, zorder=2)
        axis.bar_label(drawn, fmt="%.2f", fontsize=8.5, padding=2, bbox=BEHIND)
        axis.axhline(mean, color="0.2", linestyle="--", linewidth=1.2, zorder=1)
        axis.axhline(NO_IDEA, color="0.5", linestyle=":", linewidth=1.2, zorder=1)
        axis.set_xticks(places, [_below(cell) for cell in of_label.itertuples()], fontsize=8)
        axis.set(title=label, xlim=(-0.6, len(of_label) - 0.4))
        axis.grid(False, axis="x")
    for axis in axes.flat[len(labels) :]:
        axis.axis("off")
    axes[0, 0].set(ylim=(0, 1.15 * max(table["bce"].max(), NO_IDEA)))
    for axis in axes[:, 0]:
        axis.set(ylabel="BCE")
    lines = [("--", "0.2", f"mean of all cells: {mean:.2f}"), (":", "0.5", f"p = 0.5, no idea: ln 2 = {NO_IDEA:.2f}")]
    truths = [Patch(color=colour, label=text) for colour, text in TRUTHS.values()]
    _legend(figure, truths + [Line2D([], [], linestyle=style, color=grey, label=text) for style, grey, text in lines])
    base_figure.title(figure, heading)
    return figure


def _below(cell: tuple) -> str:
    name = cell.image_id if len(cell.image_id) <= NAME else f"…{cell.image_id[1 - NAME :]}"
    return f"{name}\ntruth {cell.truth}\np = {cell.probability:.2f}\n{textwrap.fill(cell.verdict, 10)}"


def _legend(figure: Figure, handles: list[Line2D | Patch]) -> None:
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 2.1)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
