"""Figures of evaluated multi-label networks: a panel for each label. A function returns None where its figure would be empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hemoct.base import figure as base_figure
from hemoct.classification import figures
from hemoct.evaluation import metrics
from hemoct.multilabel import label_figures, tables
from hemoct.multilabel.evaluate import MultiLabel

ABREAST = 3  # panels in a row
STYLES = {"train": ("C1", "--", "training"), "val": ("C0", "-", "validation")}
MEASURED = {"precision": "precision", "recall": "recall", "f1": "F1"}
NO_LINE = {"precision": "nothing called at 0.5", "recall": "no positive", "f1": "no positive,\nnothing called at 0.5"}
"""why a score of MEASURED is undefined in all epochs"""
CELL, FEWEST_INCHES = 0.72, 2.9


def confusion_matrices(found: MultiLabel, heading: str) -> Figure:
    """A 2 x 2 matrix for each label, on the images where it is known."""
    figure, axes = _grid(len(found.labels), width=2.9, height=2.9)
    for axis, (name, one) in zip(axes, found.of_label.items(), strict=True):
        matrix = metrics.confusion(one.test.y, one.decision, metrics.ones(len(one.test.y)))[0]
        base_figure.confusion(axis, matrix.astype(int), ["no", "yes"])
        axis.set(title=name, xlabel="called", ylabel="truth")
    base_figure.title(figure, heading)
    return figure


def roc(found: MultiLabel, content: dict[str, Any], heading: str) -> Figure | None:
    """ROC curves of each label: thin for each fold, thick for their mean, a dot where the thresholds of the folds lead."""
    return _curves(figures.roc_panel, found, content, heading)


def precision_recall(found: MultiLabel, content: dict[str, Any], heading: str) -> Figure | None:
    """Precision over recall of each label: thin for each fold, thick for their mean, a dot where the thresholds lead."""
    return _curves(figures.precision_recall_panel, found, content, heading)


def _curves(draw: Callable[..., bool], found: MultiLabel, content: dict[str, Any], heading: str) -> Figure | None:
    figure, axes = _grid(len(found.labels), width=4.3, height=4.5)
    anything = False
    for axis, (name, one) in zip(axes, found.of_label.items(), strict=True):
        drawn = draw(axis, one, {key.removesuffix(f"_{name}"): cell for key, cell in content["metrics"].items()
                                 if key.endswith(f"_{name}")})  # fmt: skip
        anything = anything or drawn
        axis.set_title(name)
        if not drawn:
            positives = int(one.test.y.sum())
            axis.text(0.5, 0.5, f"nothing to draw: no fold has both classes\n{positives} positive, "
                      f"{len(one.test.y) - positives} negative test images", ha="center", va="center", fontsize=9)  # fmt: skip
            axis.set(xticks=[], yticks=[], box_aspect=1)
    if not anything:
        return None
    base_figure.title(figure, heading)
    return figure


def by_epoch(histories: dict[str, pd.DataFrame], labels: list[str], heading: str) -> Figure | None:
    """Precision, recall and F1 at a probability of 0.5 by epoch: a column for each label; training dashed, validation solid.

    Single folds are thin, each with a ring at the epoch of best.pt (the lowest validation loss); their mean is thick, as far as
    all folds were trained. Precision is undefined where nothing is called: not drawn, and left out of the mean.
    """
    table = tables.by_epoch(histories, labels)
    if table.empty:
        return None
    best = {fold: int(history["epoch"][history["val_loss"].idxmin()]) for fold, history in histories.items()
            if history["val_loss"].notna().any()}  # fmt: skip
    shared = table.groupby("fold")["epoch"].max().min()
    figure, axes = base_figure.figure(
        len(MEASURED), len(labels), width=max(2.3, 9.5 / len(labels)), height=2.3, sharex=True, sharey=True, squeeze=False
    )
    for column, name in zip(axes.T, labels, strict=True):
        column[0].set_title(name)
        for axis, score in zip(column, MEASURED, strict=True):
            for part in STYLES:
                rows = table[(table["label"] == name) & (table["part"] == part)]
                _lines(axis, rows.pivot(index="epoch", columns="fold", values=score), part, best, shared)
            of_label = table[table["label"] == name]
            if of_label[score].isna().all():
                words = NO_LINE[score] if len(of_label) else "not in history.csv"
                axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", fontsize=9)
    for axis, shown in zip(axes[:, 0], MEASURED.values(), strict=True):
        axis.set(ylabel=f"{shown} at 0.5", ylim=(-0.03, 1.03))
    for axis in axes[-1]:
        axis.set(xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    base_figure.title(figure, heading)
    return figure


def _lines(axis: Axes, folds: pd.DataFrame, part: str, best: dict[str, int], shared: int) -> None:
    """The lines of one part, and their mean up to epoch `shared`. `folds`: epochs by folds."""
    colour, style, _ = STYLES[part]
    for fold in folds:
        values = folds[fold].dropna()
        axis.plot(values.index, values, style, color=colour, linewidth=0.8, alpha=0.4)
        if part == "val" and best.get(fold) in values:
            axis.plot(best[fold], values[best[fold]], "o", color="none", markeredgecolor=colour, markersize=5, alpha=0.8)
    mean = folds[folds.index <= shared].mean(axis=1)
    axis.plot(mean.index, mean, style, color=colour, linewidth=2.2)


def _legend() -> list[Line2D]:
    lines = [Line2D([], [], color=colour, linestyle=style, linewidth=2.2, label=f"{words}: mean of folds")
             for colour, style, words in STYLES.values()]  # fmt: skip
    thin = Line2D([], [], color="0.4", linewidth=0.8, label="one fold")
    ring = Line2D([], [], color="none", marker="o", markeredgecolor=STYLES["val"][0], label="its best epoch (validation loss)")
    return [*lines, thin, ring]


def cooccurrence(true: np.ndarray, predicted: np.ndarray, labels: list[str], heading: str) -> Figure:
    """How many images show two labels, on how many both are called, and the difference: int (labels, labels) each."""
    side = max(FEWEST_INCHES, 1.0 + CELL * len(labels))
    figure, axes = base_figure.figure(1, 3, width=side + 0.7, height=side + 0.5)
    most = max(true.max(), predicted.max(), 1)
    for axis, counts, title in zip(axes, (true, predicted), ("truth", "called"), strict=False):
        label_figures.cells(axis, counts / most, np.array([[f"{n:,}" for n in row] for row in counts]), labels, labels)
        axis.set(title=f"Images with both labels: {title}")
    difference = predicted - true
    words = np.array([[f"{n:+,}" if n else "0" for n in row] for row in difference])
    label_figures.cells(axes[2], difference / max(np.abs(difference).max(), 1), words, labels, labels, "RdBu_r", lowest=-1)
    axes[2].set(title="Difference: called - truth")
    base_figure.title(figure, heading)
    return figure


def _grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels; those that would be too many are not shown."""
    rows, columns = -(-panels // ABREAST), min(panels, ABREAST)
    figure, axes = base_figure.figure(rows, columns, width=width, height=height, squeeze=False)
    for axis in axes.flat[panels:]:
        axis.axis("off")
    return figure, list(axes.flat[:panels])
