"""Figures of evaluated masks. Each function takes what it shows and returns one figure, or None where it would be empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from hemoct.base import figure as base_figure
from hemoct.segmentation import metrics, report_tables
from hemoct.segmentation.evaluate import Patients, Segmentation

# Okabe and Ito's colours: they differ for the colour-blind, and in brightness
HIT, MISSED, FALSE = (0, 158, 115), (86, 180, 233), (230, 159, 0)
MEANING = {"true and predicted": HIT, "missed": MISSED, "false": FALSE}
STRENGTH = 0.65  # of a colour over the image
CLOSE_UP = 2.2  # side of a close-up in sides of what it shows
LEAST_SIDE = 96  # of a close-up, px
LOSSES = {"train_loss": ("training", "--"), "val_loss": ("validation", "-")}


def confusion(content: dict[str, Any], heading: str) -> Figure:
    """Counts of truth against prediction, coloured by the share of the row: pixels of all slices, and slices."""
    of = content["pixels"]
    shown = {"pixels": ([[of["tn"], of["fp"]], [of["fn"], of["tp"]]], "in the true mask", "in the predicted mask")}
    if content["slice_label"] is not None:
        shown["slices"] = (content["slice_confusion"], f"label {content['slice_label']}", "any predicted pixel")
    figure, axes = base_figure.figure(1, len(shown), width=4.2, height=4, squeeze=False)
    for axis, (name, (matrix, truth, called)) in zip(axes[0], shown.items(), strict=True):
        base_figure.confusion(axis, np.array(matrix), ("no", "yes"))
        axis.set(title=name, ylabel=truth, xlabel=called)
    base_figure.title(figure, heading)
    return figure


def dice_and_size(found: Segmentation, heading: str) -> Figure | None:
    """Dice of each slice with a true mask over the area of that mask, and the median Dice in each quarter of the area."""
    drawn = found.true > 0
    if not drawn.any():
        return None
    area, dice = found.true[drawn], metrics.dice(found.counts)[drawn]
    figure, axis = base_figure.figure(width=6, height=4.2)
    axis.scatter(area, dice, s=12, alpha=0.5, linewidth=0, label=f"slice with a true mask (n = {len(area)})")
    edges = np.quantile(area, [0, 0.25, 0.5, 0.75, 1])
    quarter = np.clip(np.searchsorted(edges, area, side="right") - 1, 0, 3)
    for number in np.unique(quarter):
        ends, middle = edges[number : number + 2], np.median(dice[quarter == number])
        axis.plot(ends, [middle, middle], color="C1", linewidth=3, solid_capstyle="butt",
                  label="median of each quarter" if number == quarter.min() else None)  # fmt: skip
    axis.set(xscale="log", ylim=(-0.03, 1.03), xlabel="area of the true mask (px)", ylabel="Dice of the slice")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    base_figure.title(figure, heading)
    return figure


def volumes(found: Segmentation, heading: str) -> Figure:
    """Predicted over true volume of each patient, and their difference over their mean (Bland-Altman); a row for each unit."""
    patients = Patients.of(found)
    agreement = list(report_tables.agreement(found).itertuples())
    figure, axes = base_figure.figure(len(agreement), 2, width=4.6, height=4, squeeze=False)
    for (left, right), told in zip(axes, agreement, strict=True):
        unit = told.unit
        true, predicted = (values[patients.unit == unit] for values in (patients.true, patients.predicted))
        highest = max(true.max(), predicted.max(), 1e-3) * 1.05
        left.plot([0, highest], [0, highest], color="grey", linestyle=":", label="equal")
        left.scatter(true, predicted, s=18, alpha=0.7)
        left.set(xlabel=f"true volume ({unit})", ylabel=f"predicted volume ({unit})", xlim=(-0.02 * highest, highest),
                 ylim=(-0.02 * highest, highest))  # fmt: skip
        left.legend(loc="upper left", frameon=False)
        _bland_altman(right, true, predicted, told)
    for axis in axes.flat:
        axis.ticklabel_format(style="sci", scilimits=(-3, 4), axis="both")
    base_figure.title(figure, heading)
    return figure


def _bland_altman(axis: Axes, true: np.ndarray, predicted: np.ndarray, told: Any) -> None:
    """`told`: the row of volume_agreement.csv of these patients."""
    axis.scatter((predicted + true) / 2, predicted - true, s=18, alpha=0.7)
    axis.axhline(told.bias, color="C1", label=f"bias {told.bias:.4g}")
    if told.patients > 1:
        axis.axhline(told.limit_low, color="C1", linestyle="--", label=f"limits {told.limit_low:.4g} to {told.limit_high:.4g}")
        axis.axhline(told.limit_high, color="C1", linestyle="--")
    axis.axhline(0, color="grey", linestyle=":")
    axis.set(xlabel=f"mean of both volumes ({told.unit})", ylabel=f"predicted - true ({told.unit})")
    axis.legend(fontsize=8)


def threshold(found: Segmentation, heading: str) -> Figure | None:
    """Mean Dice by patient on validation against the threshold, a curve for each fold, a dot where it was chosen."""
    rules = [rule for rule in found.rules if not np.isnan(rule.curve).all()]
    if not rules:
        return None
    figure, axis = base_figure.figure(width=6, height=4)
    for number, rule in enumerate(rules):
        label = f"fold {rule.fold}: {rule.threshold} ({rule.curve[rule.threshold]:.3f})"
        axis.plot(np.arange(1, len(rule.curve)), rule.curve[1:], color=f"C{number}", label=label)
        axis.plot(rule.threshold, rule.curve[rule.threshold], "o", color=f"C{number}", markeredgecolor="black")
    axis.set(xlim=(0, 255), ylim=(0, 1), xlabel="threshold (8-bit probability)", ylabel="mean Dice by patient, validation")
    axis.legend(title="chosen threshold (Dice)", fontsize=8)
    base_figure.title(figure, heading)
    return figure


def training(histories: dict[str, pd.DataFrame], heading: str) -> Figure | None:
    """Losses, and Dice by patient on validation, by epoch; a colour for each fold, a ring at the epoch of best.pt."""
    if not histories:
        return None
    figure, (left, right) = base_figure.figure(1, 2, width=4.8, height=3.8)
    for number, (fold, history) in enumerate(histories.items()):
        for column, (_, style) in LOSSES.items():
            if column in history:
                left.plot(history["epoch"], history[column], style, color=f"C{number}", linewidth=1.3)
        right.plot(history["epoch"], history["val_dice"], color=f"C{number}", linewidth=1.3, label=fold)
        if history["val_dice"].notna().any():
            best = history.loc[history["val_dice"].idxmax()]
            right.plot(best["epoch"], best["val_dice"], "o", color="none", markeredgecolor=f"C{number}", markersize=10)
    for name, style in LOSSES.values():
        left.plot([], [], style, color="0.35", label=name)
    left.set(ylabel="loss", ylim=(0, None))
    right.set(ylabel="mean Dice by patient, validation", ylim=(0, 1))
    for axis in (left, right):
        axis.set(xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.legend(fontsize=8)
    base_figure.title(figure, heading)
    return figure


def examples(cases: Sequence[tuple[Any, tuple[np.ndarray, ...]]], heading: str) -> Figure | None:
    """A row for each slice: whole image, close-ups of truth and prediction, and both over each other.

    `cases`: what `segmentation.examples` tells of a slice, with its image, probability map and true mask.
    """
    if not cases:
        return None
    figure, axes = base_figure.figure(len(cases), 4, width=2.3, height=2.6, squeeze=False)
    for line, (case, (grey, probability, mask)) in zip(axes, cases, strict=True):
        predicted = probability >= case.threshold
        area = _close_up(mask | predicted)
        overlay = painted(grey, {HIT: mask & predicted, MISSED: mask & ~predicted, FALSE: ~mask & predicted})
        close_ups = {"truth": painted(grey, {MISSED: mask}), "prediction": painted(grey, {FALSE: predicted}), "both": overlay}
        line[0].imshow(painted(grey, {}))
        line[0].add_patch(_frame(area))
        for axis, (name, picture) in zip(line[1:], close_ups.items(), strict=True):
            axis.imshow(picture[area])
            axis.set_title(name, fontsize=8)
        line[0].set_title(f"{case.kind}: {case.image_id}\npatient {case.patient}, Dice {case.dice:.3f}", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    colours = [Patch(color=np.array(colour) / 255, label=name) for name, colour in MEANING.items()]
    figure.legend(handles=colours, title="both:", loc="outside lower center", ncols=3, frameon=False)
    base_figure.title(figure, heading)
    return figure


def painted(grey: np.ndarray, areas: dict[tuple[int, int, int], np.ndarray]) -> np.ndarray:
    """A slice (uint8) with areas (bool, the same shape) in colours: uint8 (height, width, 3)."""
    drawn = np.repeat(grey[:, :, None], 3, axis=2).astype(float)
    for colour, area in areas.items():
        drawn[area] = (1 - STRENGTH) * drawn[area] + STRENGTH * np.array(colour)
    return drawn.round().astype(np.uint8)


def _close_up(area: np.ndarray) -> tuple[slice, slice]:
    """A square around the pixels of an area (bool), as far as it lies in the image."""
    ends = [np.flatnonzero(area.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = max(LEAST_SIDE, CLOSE_UP * max(high - low for low, high in ends))
    low = [max(0, int((first + last - side) / 2)) for first, last in ends]
    return tuple(slice(start, min(length, int(start + side))) for start, length in zip(low, area.shape, strict=True))


def _frame(area: tuple[slice, slice]) -> Rectangle:
    down, right = area
    size = right.stop - right.start, down.stop - down.start
    return Rectangle((right.start, down.start), *size, fill=False, edgecolor="white", linewidth=0.8)
