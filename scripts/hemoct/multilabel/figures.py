"""Figures of task 4: the labels of a working set, and evaluated networks. A function returns None where its figure is empty."""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hemoct.base import figure as base_figure
from hemoct.base.tables import PARTS
from hemoct.classification import figures as classification_figures
from hemoct.evaluation import metrics
from hemoct.multilabel import tables
from hemoct.multilabel.evaluate import MultiLabel

ABREAST = 3  # panels in a row
STYLES = {"train": ("C1", "--", "training"), "val": ("C0", "-", "validation")}
MEASURED = {"precision": "precision", "recall": "recall", "f1": "F1"}
NO_LINE = {"precision": "nothing called at 0.5", "recall": "no positive", "f1": "no positive,\nnothing called at 0.5"}
"""why a score of MEASURED is undefined in all epochs"""
COMBINATIONS = 12  # bars; the others are one bar
SHORT = 6  # letters of a name that fit below a cell without turning it


# ---- the labels of a working set


def overview(together: pd.DataFrame, combinations: pd.Series, counts: pd.DataFrame, heading: str) -> Figure:
    """Three panels: co-occurrence, images per combination of labels, positives per label, fold and part.

    The frames are those of `working_set`: cooccurrence_table, combinations, count_parts.
    """
    labels = list(dict.fromkeys(together["label"]))
    side = max(3.4, 1.2 + 0.85 * len(labels))
    figure, (left, middle, right) = base_figure.figure(1, 3, side + 0.6, side, heading)
    _together(left, together)
    _combinations(middle, combinations)
    _positives(right, counts)
    return figure


def _together(axis: Axes, together: pd.DataFrame) -> None:
    """Images with both labels, and their share of the row's label, which is also the colour."""
    labels = list(dict.fromkeys(together["label"]))
    words = [f"{row.images:,}\n{row.share:.0%}" if np.isfinite(row.share) else "-" for row in together.itertuples()]
    share = together["share"].astype(float).fillna(0).to_numpy().reshape(len(labels), -1)
    _cells(axis, pd.DataFrame(share, labels, labels), np.array(words).reshape(share.shape))
    axis.set(title="Images with both labels, and share of the row", xlabel="... also show", ylabel="of the images with")


def _combinations(axis: Axes, combinations: pd.Series) -> None:
    """One bar per combination of labels, most frequent first."""
    shown = combinations[:COMBINATIONS]
    if len(combinations) > COMBINATIONS:
        rest = combinations[COMBINATIONS:]
        shown = pd.concat([shown, pd.Series({f"{len(rest)} other": rest.sum()})])
    drawn = axis.barh(range(len(shown)), shown.to_numpy())
    axis.bar_label(drawn, [f" {n:,}" for n in shown])
    axis.set_yticks(range(len(shown)), shown.index, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.grid(False, axis="y")
    axis.set(title="Labels that one image shows", xlabel="images")


def _positives(axis: Axes, counts: pd.DataFrame) -> None:
    """Positive images per label in training and test of each fold; a part without any is marked."""
    folds = counts[counts["fold"] != "all"]
    table = folds.pivot_table(index=["fold", "part"], columns="label", values="positive", sort=False)
    table = table[list(dict.fromkeys(counts["label"]))].astype(int)
    share = table / np.maximum(table.groupby("part").transform("max"), 1)
    _cells(axis, share.set_axis([f"{fold} {part}" for fold, part in table.index]), table.to_numpy().astype(str))
    for row, column in np.argwhere(table.to_numpy() == 0):
        axis.text(column + 0.5, row + 0.5, "none", ha="center", va="center", color="white", weight="bold", fontsize=8,
                  bbox={"facecolor": "#d55e00", "edgecolor": "none", "pad": 2})  # fmt: skip
    axis.hlines(range(len(PARTS), len(table), len(PARTS)), 0, table.shape[1], color="white", linewidth=3)
    axis.set(title="Positive images by fold and part", xlabel="", ylabel="fold, part")


def _cells(axis: Axes, share: pd.DataFrame, words: np.ndarray, colours: str = "Blues", lowest: float = 0) -> None:
    """A table as colours (`share`, from `lowest` to 1) with `words` (rows, columns) in its cells."""
    sns.heatmap(share, annot=words, fmt="", cmap=colours, vmin=lowest, vmax=1, cbar=False, ax=axis, annot_kws={"fontsize": 8},
                xticklabels=True, yticklabels=True)  # fmt: skip
    short = max(map(len, share.columns)) <= SHORT
    axis.set_xticks(axis.get_xticks(), share.columns, rotation=0 if short else 35, ha="center" if short else "right")
    axis.tick_params(axis="y", rotation=0)


# ---- evaluated networks: a panel for each label


def confusion_matrices(evaluation: MultiLabel, heading: str) -> Figure:
    """A 2 x 2 matrix for each label, on the images where it is known."""
    figure, axes = _panels(evaluation, heading, width=2.9, height=2.9)
    for axis, label in zip(axes, evaluation.by_label.values(), strict=True):
        matrix = metrics.confusion(label.test.y, label.decision, metrics.ones(len(label.test.y)))[0]
        base_figure.confusion(axis, matrix.astype(int), ["no", "yes"])
        axis.set(xlabel="called", ylabel="truth")
    return figure


def curves(evaluation: MultiLabel, content: dict[str, Any], heading: str) -> dict[str, Figure | None]:
    """`roc` and `pr` of each label: thin for each fold, thick for their mean, a dot where the thresholds of the folds lead."""
    return {name: _curves(panel, evaluation, content, heading) for name, panel in classification_figures.PANELS.items()}


def _curves(draw: Callable[..., bool], evaluation: MultiLabel, content: dict[str, Any], heading: str) -> Figure | None:
    figure, axes = _panels(evaluation, heading, width=4.3, height=4.5)
    drawn = []
    for axis, (name, label) in zip(axes, evaluation.by_label.items(), strict=True):
        values = {key.removesuffix(f"_{name}"): cell for key, cell in content["metrics"].items() if key.endswith(f"_{name}")}
        drawn.append(draw(axis, label, values))
        if not drawn[-1]:
            positives = int(label.test.y.sum())
            axis.text(0.5, 0.5, f"nothing to draw: no fold has both classes\n{positives} positive, "
                      f"{len(label.test.y) - positives} negative test images", ha="center", va="center", fontsize=9)  # fmt: skip
            axis.set(xticks=[], yticks=[], box_aspect=1)
    return figure if any(drawn) else None


def _panels(evaluation: MultiLabel, heading: str, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each label; those that would be too many are not shown."""
    labels = evaluation.labels
    rows, columns = -(-len(labels) // ABREAST), min(len(labels), ABREAST)
    figure, axes = base_figure.figure(rows, columns, width, height, heading, squeeze=False)
    for axis, name in zip_longest(axes.flat, labels):
        axis.set_title(name) if name else axis.axis("off")
    return figure, list(axes.flat[: len(labels)])


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
    width = max(2.3, 9.5 / len(labels))
    figure, axes = base_figure.figure(len(MEASURED), len(labels), width, 2.3, heading, sharex=True, sharey=True, squeeze=False)
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


def cooccurrence(true: np.ndarray, called: np.ndarray, labels: list[str], heading: str) -> Figure:
    """How many images show two labels, on how many both are called, and the difference: int (labels, labels) each."""
    side, most, difference = max(2.9, 1.0 + 0.72 * len(labels)), max(true.max(), called.max(), 1), called - true
    figure, axes = base_figure.figure(1, 3, side + 0.7, side + 0.5, heading)
    shown = {
        "Images with both labels: truth": (true / most, "{:,}", "Blues", 0),
        "Images with both labels: called": (called / most, "{:,}", "Blues", 0),
        "Difference: called - truth": (difference / max(np.abs(difference).max(), 1), "{:+,}", "RdBu_r", -1),
    }
    for axis, counts, (title, (share, form, *colours)) in zip(axes, (true, called, difference), shown.items(), strict=True):
        words = np.array([[form.format(n) if n else "0" for n in row] for row in counts])
        _cells(axis, pd.DataFrame(share, labels, labels), words, *colours)
        axis.set(title=title)
    return figure
