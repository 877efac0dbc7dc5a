"""Figures of detectors, their evaluation and their training. Each function returns one figure, None where it would be empty."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from hemoct.base import figure as base_figure
from hemoct.data import images
from hemoct.detection import metrics, tables
from hemoct.detection.evaluate import BoxEvaluation
from hemoct.detection.metrics import FROC_LEVELS
from hemoct.detection.tables import Training
from hemoct.evaluation import overlays, text
from hemoct.evaluation.thresholds import MAX_F1

LOWEST = 0.001  # confidence below which no box is kept
GRID = np.linspace(0, 1, 501)
MOST_ALARMS = 12  # false boxes an image at which FROC curves end
KINDS = ("missed", "false alarm")
LOSSES = {"box_loss": "box loss", "cls_loss": "class loss", "dfl_loss": "distribution focal loss (DFL)"}
PRECISION = {"map50": "mAP50", "map50_95": "mAP50:95"}
ENDS = {tables.LAST: "s", tables.EARLY: "X", tables.UNFINISHED: ">", tables.UNKNOWN: "d"}
WIDE = 20  # a loss that spans more than this factor needs a logarithmic axis to be seen after its first epochs
NAMES = {"area": "area of the box (px)", "contrast": "contrast (grey values)"}


def threshold_tradeoff(evaluation: BoxEvaluation, heading: str) -> Figure | None:
    """Sensitivity and false-positive rate of slices against the threshold: thin for each fold, thick for their mean.

    Dots lie at the threshold that validation gave to each fold.
    """
    y, p = evaluation.slices.test.y, evaluation.slices.test.p
    parts = [rows for rows in evaluation.rows_of_folds.values() if 0 < y[rows].sum() < rows.sum()]
    if not parts:
        return None
    figure, axis = base_figure.figure(width=6.4, height=4.4, heading=heading)
    grid = np.geomspace(LOWEST, 1, 301)
    for colour, kind, name in (("C0", 1, "sensitivity"), ("C1", 0, "false-positive rate")):
        curves = []
        for rows in parts:
            scores = np.sort(p[rows][y[rows] == kind])
            curves.append(_share_from(scores, grid))
            axis.plot(grid, curves[-1], color=colour, linewidth=0.8, alpha=0.5)
            threshold = evaluation.thresholds[rows][0]
            place = max(threshold, LOWEST), _share_from(scores, threshold)
            axis.plot(*place, "o", color=colour, markersize=5, markeredgecolor="black")
        label = f"{name}, mean of {len(parts)} folds" if len(parts) > 1 else name
        axis.plot(grid, np.mean(curves, axis=0), color=colour, linewidth=2.2, label=label)
    axis.plot([], [], "o", color="white", markeredgecolor="black", label=f"threshold of a fold ({MAX_F1} on validation)")
    axis.set(xscale="log", xlim=(LOWEST, 1), ylim=(-0.02, 1.02))
    axis.set(xlabel="confidence threshold", ylabel="share of test slices called positive")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure


def _share_from(ascending: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Share of the scores at or above each threshold."""
    return 1 - np.searchsorted(ascending, threshold, side="left") / len(ascending)


def box_precision_recall(evaluation: BoxEvaluation, content: dict[str, Any], heading: str) -> Figure | None:
    """Precision over recall of boxes at IoU 0.5: thin for each fold, thick for the mean of their falling envelopes."""
    of_folds = [evaluation.matched.of(rows) for rows in evaluation.folds_with_truth.values()]
    if not of_folds:
        return None
    figure, axis = base_figure.figure(width=5.4, height=5.2, heading=heading)
    means = []
    for matched in of_folds:
        _, tp, fp = metrics.curve(matched)
        recall, precision = tp / len(matched.true_image), tp / np.maximum(tp + fp, 1)
        axis.plot(recall, precision, color="C0", linewidth=0.8, alpha=0.5, drawstyle="steps-pre")
        falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        means.append(falling[np.searchsorted(recall, GRID, side="left")])
    label = f"mean of {len(means)} folds, " if len(means) > 1 else ""
    label += f"mAP50 {text.metric(content['metrics']['map50'])}"
    axis.plot(GRID, np.mean(means, axis=0), color="C0", linewidth=2.2, label=label)
    recall, precision = (content["metrics"][f"box_{name}"]["value"] for name in ("recall", "precision"))
    if precision is not None:
        axis.plot(recall, precision, "o", color="black", markersize=7, label=f"threshold: {content['threshold_rule']}")
    axis.set(
        xlabel="recall of boxes (IoU >= 0.5)", ylabel="precision of boxes", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal"
    )
    axis.legend(loc="lower left", fontsize=8)
    return figure


def froc(evaluation: BoxEvaluation, content: dict[str, Any], heading: str) -> Figure | None:
    """Share of the true boxes found over false boxes an image: thin for each fold, points with intervals for their mean."""
    curves = [metrics.froc_curve(evaluation.matched.of(rows)) for rows in evaluation.folds_with_truth.values()]
    if not curves:
        return None
    figure, axis = base_figure.figure(width=6, height=4.6, heading=heading)
    for number, (per_image, sensitivity) in enumerate(curves):
        label = "a fold" if not number and len(curves) > 1 else None
        x, y = np.append(per_image, MOST_ALARMS), np.append(sensitivity, sensitivity[-1])
        axis.plot(x, y, color="C0", linewidth=0.8, alpha=0.5, drawstyle="steps-post", label=label)
    label = f"mean of {len(curves)} folds; " if len(curves) > 1 else ""
    label += f"mean over the levels {text.metric(content['metrics']['froc_mean'])}"
    _points(axis, FROC_LEVELS, content["froc"], label)
    axis.set_xscale("log", base=2)
    axis.set_xticks(FROC_LEVELS, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axis.set(xlim=(1 / 16, MOST_ALARMS), ylim=(-0.02, 1.02))
    axis.set(xlabel="false positive boxes per image", ylabel="share of true boxes found (IoU >= 0.5)")
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def localisation(content: dict[str, Any], heading: str) -> Figure:
    """Localisation accuracy and average false positives at the threshold, against the IoU that makes a hit."""
    figure, axes = base_figure.figure(1, 2, width=4.2, height=3.8, heading=f"{heading}; boxes at or above the threshold")
    ious = [level["iou"] for level in content["localisation"]]
    accuracy = "localisation accuracy\n(share of true boxes found)"
    panels = {"accuracy": accuracy, "false_positives_per_image": "false positives per image"}
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        _points(axis, np.array(ious), [level[key] for level in content["localisation"]], line=True)
        axis.set(xlabel="T(IoU): least overlap of a hit", ylabel=label, ylim=(0, None))
        axis.set_xticks(ious)
    axes[0].set_ylim(-0.02, 1.02)
    return figure


def _points(axis: Axes, x: np.ndarray, cells: list[dict[str, Any]], label: str | None = None, line: bool = False) -> None:
    """Values of metrics.json with their intervals; what is undefined is left out."""
    known = [number for number, cell in enumerate(cells) if cell["value"] is not None]
    place, value = x[known], np.array([cells[number]["value"] for number in known], dtype=float)
    axis.plot(place, value, "o-" if line else "o", color="C0", markersize=5, label=label)
    ends = [cells[number]["ci95"] or (np.nan, np.nan) for number in known]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    axis.vlines(place, low, high, color="C0", linewidth=1.6)


def error_types(counts: pd.DataFrame, heading: str) -> Figure:
    """How many missed and false boxes are of each type: full bars by main type, pale bars all for which the type holds."""
    figure, axes = base_figure.figure(1, 2, width=4.6, height=3.4, heading=f"{heading}; what the types mean: error_types.csv")
    for axis, kind in zip(axes, KINDS, strict=True):
        rows = counts[counts["kind"] == kind]
        axis.barh(rows["type"], rows["holds_for"], color="C0", alpha=0.3, label="boxes for which the type holds")
        axis.barh(rows["type"], rows["boxes"], color="C0", height=0.5, label="boxes of which it is the main type")
        axis.invert_yaxis()
        axis.set(title=f"{kind}: {rows['boxes'].sum()} boxes", xlabel="boxes", xlim=(0, max(1, rows["holds_for"].max()) * 1.08))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def size_and_brightness(table: pd.DataFrame, heading: str) -> Figure:
    """True boxes found and missed in each quarter of area and contrast, with the share found and its interval."""
    figure, axes = base_figure.figure(
        1, 2, width=4.8, height=4, sharey=True, heading=f"{heading}; above the bars: share found (95 % interval)"
    )
    for axis, (column, rows) in zip(axes, table.groupby("by", sort=False), strict=True):
        place = rows["quarter"]
        axis.bar(place, rows["found"], color="C0", label="found")
        axis.bar(place, rows["missed"], bottom=rows["found"], color="C1", hatch="//", edgecolor="white", label="missed")
        for row in rows[rows["boxes"] > 0].itertuples():
            between = f"\n({row.recall_low:.2f} to {row.recall_high:.2f})" if row.recall_low == row.recall_low else ""
            axis.text(row.quarter, row.boxes, f"{row.recall:.2f}{between}", ha="center", va="bottom", fontsize=8)
        ends = [f"{row.low:.0f} to\n{row.high:.0f}" if row.boxes else "none" for row in rows.itertuples()]
        axis.set_xticks(place, ends, fontsize=8)
        axis.set(xlabel=f"{NAMES[column]}, quarters of the true boxes", ylim=(0, max(1, table["boxes"].max()) * 1.22))
        axis.grid(False, axis="x")
    axes[0].set(ylabel="true boxes")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def hard_cases(
    evaluation: BoxEvaluation, hardest: pd.DataFrame, paths: list[Path], layout: str | None, heading: str
) -> Image.Image | None:
    """The slices of `errors.hardest` with true boxes and those at or above the threshold. `paths`: the test images."""
    if hardest.empty:
        return None
    scene = evaluation.scene
    rows = pd.Index(scene.table["image_id"]).get_indexer(hardest["image_id"])
    decoded = images.decode([paths[row] for row in rows], desc="hard cases")
    tiles = []
    for case, row, grey in zip(hardest.itertuples(), rows, decoded, strict=True):
        boxes = scene.predicted[row][scene.predicted[row][:, 4] >= evaluation.thresholds[row]]
        drawn = overlays.picture(grey, boxes, scene.truth[row], overlays.TILE, scene.classes, scene.truth_class[row])
        tiles.append((drawn, f"{case.kind}  {case.image_id}\n{case.type}"))
    order = "missed: first the largest that no box met; false alarms: the most confident"
    return overlays.sheet(tiles, [heading, overlays.legend(layout, truth=True), order])


# ---- training


def training(trainings: list[Training], heading: str) -> Figure:
    """Box, class and DFL loss (those that there are), below them mAP50 and mAP50:95 on validation; a colour for each fold."""
    known = set().union(*(training.history.columns for training in trainings))
    losses = [name for name in LOSSES if {f"train_{name}", f"val_{name}"} & known]
    figure, axes = base_figure.figure(2, len(LOSSES), width=4.0, height=3.1, squeeze=False, heading=heading)
    columns = {f"{part}_{name}": axis for axis, name in zip(axes[0], losses, strict=False) for part in ("train", "val")}
    columns |= dict(zip(PRECISION, axes[1], strict=False))
    for number, training in enumerate(trainings):
        for name, axis in columns.items():
            if name in training.history:
                _line(axis, training, name, f"C{number}")
    for axis, name in zip(axes[0], losses, strict=False):
        axis.set(title=LOSSES[name], ylabel="loss")
        _scale(axis)
    for axis, name in zip(axes[1], PRECISION.values(), strict=False):
        axis.set(title=f"{name} on validation", ylabel=name, ylim=(-0.02, 1.02))
    for axis in axes.flat:
        if axis in columns.values():
            axis.set(xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        else:
            axis.axis("off")
    axes[1, 2].legend(handles=_legend(trainings), loc="center left", frameon=False, fontsize=8.5)
    return figure


def _line(axis: Axes, training: Training, name: str, colour: str) -> None:
    """A column by epoch: dashed of training slices; of validation with its best epoch and its end."""
    epoch, values, style = training.history["epoch"], training.history[name], {"color": colour, "linewidth": 1.4}
    if name.startswith("train_"):
        axis.plot(epoch, values, "--", marker=".", markersize=3, alpha=0.7, **style)
        return
    axis.plot(epoch, values, "-", marker=".", markersize=3, **style)
    axis.plot(epoch.iloc[-1:], values.iloc[-1:], ENDS[training.ended], color=colour, markersize=7, markeredgecolor="white")
    if training.best is not None:
        best = training.best
        axis.plot(best["epoch"], best[name], "o", color="none", markeredgecolor=colour, markeredgewidth=1.8, markersize=11)


def _scale(axis: Axes) -> None:
    """From 0 up, or logarithmic where single epochs would flatten all others."""
    drawn = np.concatenate([line.get_ydata() for line in axis.lines]).astype(float)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) and drawn.min() > 0 and drawn.max() > WIDE * drawn.min():
        axis.set(yscale="log", ylabel="loss (log scale)")
    else:
        axis.set(ylim=(0, None))


def _legend(trainings: list[Training]) -> list[Line2D]:
    """What each colour, line and mark means; the fold's own story beside its colour."""
    folds = [Line2D([], [], color=f"C{number}", label=_story(training)) for number, training in enumerate(trainings)]
    lines = {"training": "--", "validation": "-"}
    styles = [Line2D([], [], color="0.35", linestyle=style, label=text) for text, style in lines.items()]
    circle = {"color": "none", "marker": "o", "markeredgecolor": "0.35", "markeredgewidth": 1.8, "markersize": 10}
    best = Line2D([], [], label="best epoch (mAP50:95): best.pt", **circle)
    ends = dict.fromkeys(training.ended for training in trainings)
    marks = [Line2D([], [], color="0.35", linestyle="none", marker=ENDS[end], label=f"end: {end}") for end in ends]
    return [*folds, *styles, best, *marks]


def _story(training: Training) -> str:
    asked = f" of {training.asked}" if training.asked is not None else ""
    best = "none" if training.best is None else f"{training.best['epoch']:.0f}"
    return f"{training.fold}: best epoch {best}; ended at {training.history['epoch'].iloc[-1]:.0f}{asked} ({training.ended})"
