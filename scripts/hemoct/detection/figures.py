"""Figures of evaluated detectors. Each function takes what it shows and returns one figure, or None where it would be empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from hemoct.base import figure as base_figure
from hemoct.data import images
from hemoct.detection import metrics
from hemoct.detection.evaluate import Detection
from hemoct.detection.metrics import FROC_LEVELS, Matched
from hemoct.evaluation import overlays
from hemoct.evaluation.thresholds import MAX_F1

LOWEST = 0.001  # confidence below which no box is kept
GRID = np.linspace(0, 1, 501)
MOST_ALARMS = 12  # false boxes an image at which FROC curves end
KINDS = ("missed", "false alarm")
NAMES = {"area": "area of the box (px)", "contrast": "contrast (grey values)"}


def _folds(found: Detection) -> Iterator[Matched]:
    """The matched boxes of each fold that has a true box."""
    folds = found.scene.table["fold"].to_numpy()
    for fold in np.unique(folds):
        matched = found.matched.of(folds == fold)
        if len(matched.true_image):
            yield matched


def threshold_tradeoff(found: Detection, heading: str) -> Figure | None:
    """Sensitivity and false-positive rate of slices against the threshold: thin for each fold, thick for their mean.

    Dots lie at the threshold that validation gave to each fold.
    """
    y, p, chosen = found.slices.test.y, found.slices.test.p, found.thresholds
    folds = found.scene.table["fold"].to_numpy()
    parts = [rows for rows in (folds == fold for fold in np.unique(folds)) if 0 < y[rows].sum() < rows.sum()]
    if not parts:
        return None
    figure, axis = base_figure.figure(width=6.4, height=4.4)
    grid = np.geomspace(LOWEST, 1, 301)
    for colour, kind, name in (("C0", 1, "sensitivity"), ("C1", 0, "false-positive rate")):
        curves = []
        for rows in parts:
            scores = np.sort(p[rows][y[rows] == kind])
            curves.append(_share_from(scores, grid))
            axis.plot(grid, curves[-1], color=colour, linewidth=0.8, alpha=0.5)
            threshold = chosen[rows][0]
            axis.plot(
                max(threshold, LOWEST), _share_from(scores, threshold), "o", color=colour, markersize=5, markeredgecolor="black"
            )
        shown = f"{name}, mean of {len(parts)} folds" if len(parts) > 1 else name
        axis.plot(grid, np.mean(curves, axis=0), color=colour, linewidth=2.2, label=shown)
    axis.plot([], [], "o", color="white", markeredgecolor="black", label=f"threshold of a fold ({MAX_F1} on validation)")
    axis.set(
        xscale="log",
        xlim=(LOWEST, 1),
        ylim=(-0.02, 1.02),
        xlabel="confidence threshold",
        ylabel="share of test slices called positive",
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    base_figure.title(figure, heading)
    return figure


def _share_from(ascending: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Share of the scores at or above each threshold."""
    return 1 - np.searchsorted(ascending, threshold, side="left") / len(ascending)


def box_precision_recall(found: Detection, content: dict[str, Any], heading: str) -> Figure | None:
    """Precision over recall of boxes at IoU 0.5: thin for each fold, thick for their mean, precision made to fall as for mAP."""
    of_folds = list(_folds(found))
    if not of_folds:
        return None
    figure, axis = base_figure.figure(width=5.4, height=5.2)
    means = []
    for matched in of_folds:
        _, tp, fp = metrics.curve(matched)
        recall, precision = tp / len(matched.true_image), tp / np.maximum(tp + fp, 1)
        axis.plot(recall, precision, color="C0", linewidth=0.8, alpha=0.5, drawstyle="steps-pre")
        falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        means.append(falling[np.searchsorted(recall, GRID, side="left")])
    of = f"mean of {len(means)} folds, " if len(means) > 1 else ""
    axis.plot(GRID, np.mean(means, axis=0), color="C0", linewidth=2.2, label=f"{of}mAP50 {_shown(content['metrics']['map50'])}")
    recall, precision = (content["metrics"][f"box_{name}"]["value"] for name in ("recall", "precision"))
    if precision is not None:
        axis.plot(recall, precision, "o", color="black", markersize=7, label=f"threshold: {content['threshold_rule']}")
    axis.set(
        xlabel="recall of boxes (IoU >= 0.5)", ylabel="precision of boxes", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal"
    )
    axis.legend(loc="lower left", fontsize=8)
    base_figure.title(figure, heading)
    return figure


def froc(found: Detection, content: dict[str, Any], heading: str) -> Figure | None:
    """Share of the true boxes found over false boxes an image: thin for each fold, points with intervals for their mean."""
    curves = [metrics.froc_curve(matched) for matched in _folds(found)]
    if not curves:
        return None
    figure, axis = base_figure.figure(width=6, height=4.6)
    for number, (per_image, sensitivity) in enumerate(curves):
        label = "a fold" if not number and len(curves) > 1 else None
        x, y = np.append(per_image, MOST_ALARMS), np.append(sensitivity, sensitivity[-1])
        axis.plot(x, y, color="C0", linewidth=0.8, alpha=0.5, drawstyle="steps-post", label=label)
    of = f"mean of {len(curves)} folds; " if len(curves) > 1 else ""
    _points(axis, FROC_LEVELS, content["froc"], "C0", f"{of}mean over the levels {_shown(content['metrics']['froc_mean'])}")
    axis.set_xscale("log", base=2)
    axis.set_xticks(FROC_LEVELS, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axis.set(
        xlim=(1 / 16, MOST_ALARMS),
        ylim=(-0.02, 1.02),
        xlabel="false positive boxes per image",
        ylabel="share of true boxes found (IoU >= 0.5)",
    )
    figure.legend(loc="outside lower center", frameon=False)
    base_figure.title(figure, heading)
    return figure


def localisation(content: dict[str, Any], heading: str) -> Figure:
    """Localisation accuracy and average false positives at the threshold, against the IoU that makes a hit."""
    figure, axes = base_figure.figure(1, 2, width=4.2, height=3.8)
    ious = [level["iou"] for level in content["localisation"]]
    shown = {
        "accuracy": "localisation accuracy\n(share of true boxes found)",
        "false_positives_per_image": "false positives per image",
    }
    for axis, (key, label) in zip(axes, shown.items(), strict=True):
        _points(axis, np.array(ious), [level[key] for level in content["localisation"]], "C0", None, line=True)
        axis.set(xlabel="T(IoU): least overlap of a hit", ylabel=label, ylim=(0, None))
        axis.set_xticks(ious)
    axes[0].set_ylim(-0.02, 1.02)
    base_figure.title(figure, f"{heading}; boxes at or above the threshold")
    return figure


def _points(axis: Axes, x: np.ndarray, cells: list[dict[str, Any]], colour: str, label: str | None, line: bool = False) -> None:
    """Values of metrics.json with their intervals; what is undefined is left out."""
    known = [number for number, cell in enumerate(cells) if cell["value"] is not None]
    place, value = x[known], np.array([cells[number]["value"] for number in known], dtype=float)
    axis.plot(place, value, "o-" if line else "o", color=colour, markersize=5, label=label)
    ends = [cells[number]["ci95"] or (np.nan, np.nan) for number in known]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    axis.vlines(place, low, high, color=colour, linewidth=1.6)


def _shown(cell: dict[str, Any]) -> str:
    interval = f" ({cell['ci95'][0]:.3f} to {cell['ci95'][1]:.3f})" if cell["ci95"] else ""
    return f"{cell['value']:.3f}{interval}" if cell["value"] is not None else "undefined"


def error_types(counts: pd.DataFrame, heading: str) -> Figure:
    """How many missed and false boxes are of each type: full bars by main type, pale bars all for which the type holds."""
    figure, axes = base_figure.figure(1, 2, width=4.6, height=3.4)
    for axis, kind in zip(axes, KINDS, strict=True):
        rows = counts[counts["kind"] == kind]
        axis.barh(rows["type"], rows["holds_for"], color="C0", alpha=0.3, label="boxes for which the type holds")
        axis.barh(rows["type"], rows["boxes"], color="C0", height=0.5, label="boxes of which it is the main type")
        axis.invert_yaxis()
        axis.set(title=f"{kind}: {rows['boxes'].sum()} boxes", xlabel="boxes", xlim=(0, max(1, rows["holds_for"].max()) * 1.08))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    base_figure.title(figure, f"{heading}; what the types mean: error_types.csv")
    return figure


def size_and_brightness(table: pd.DataFrame, heading: str) -> Figure:
    """True boxes found and missed in each quarter of area and contrast, with the share found and its interval."""
    figure, axes = base_figure.figure(1, 2, width=4.8, height=4, sharey=True)
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
    base_figure.title(figure, f"{heading}; above the bars: share found (95 % interval)")
    return figure


def hard_cases(
    found: Detection, hardest: pd.DataFrame, paths: list[Path], layout: str | None, heading: str
) -> Image.Image | None:
    """The slices of `detection_errors.hardest` with true boxes and those at or above the threshold. `paths`: the test images."""
    if hardest.empty:
        return None
    row_of = {image_id: row for row, image_id in enumerate(found.scene.table["image_id"])}
    rows = [row_of[image_id] for image_id in hardest["image_id"]]
    tiles = []
    for case, row, grey in zip(
        hardest.itertuples(), rows, images.decode([paths[row] for row in rows], desc="hard cases"), strict=True
    ):
        boxes = found.scene.found[row]
        boxes = boxes[boxes[:, 4] >= found.thresholds[row]]
        drawn = overlays.picture(
            grey, boxes, found.scene.truth[row], overlays.TILE, found.scene.classes, found.scene.truth_class[row]
        )
        tiles.append((drawn, f"{case.kind}  {case.image_id}\n{case.type}"))
    order = "missed: first the largest that no box met; false alarms: the most confident"
    return overlays.sheet(tiles, [heading, overlays.legend(layout, truth=True), order])
