"""Figures of evaluated masks and of the estimated hematoma. Each function returns one figure, or None where it would be empty."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from hemoct.base import figure as base_figure
from hemoct.segmentation import metrics, tables
from hemoct.segmentation.evaluate import Segmentation, per_patient
from hemoct.segmentation.hematoma import NOTE

# Okabe and Ito's colours: they differ for the colour-blind, and in brightness; solid and dashed lines without any colour
HIT, MISSED, FALSE = (0, 158, 115), (86, 180, 233), (230, 159, 0)
MEANING = {"true and predicted": HIT, "missed": MISSED, "false": FALSE}
CORE, EDEMA = ("#E69F00", "solid"), ("#56B4E9", "dashed")
STRENGTH = 0.65  # of a colour over the image
CLOSE_UP = 2.2  # side of a close-up in sides of what it shows
LEAST_SIDE = 96  # of a close-up, px
PAIRS = 2  # slices in a row of panels, each as image and overlay
LEAST_PATIENTS = 3  # of which a bias and its limits say anything
LOSSES = {"train_loss": ("training", "--"), "val_loss": ("validation", "-")}
UNITS = {"ml": "ml", "px": "pixels: no spacing is known"}


# ---- evaluated masks


def confusion(content: dict[str, Any], heading: str) -> Figure:
    """Counts of truth against prediction, coloured by the share of the row: pixels of all slices, and slices."""
    of = content["pixels"]
    shown = {"pixels": ([[of["tn"], of["fp"]], [of["fn"], of["tp"]]], "in the true mask", "in the predicted mask")}
    if content["slice_label"] is not None:
        shown["slices"] = (content["slice_confusion"], f"label {content['slice_label']}", "any predicted pixel")
    figure, axes = base_figure.figure(1, len(shown), width=4.2, height=4, squeeze=False, heading=heading)
    for axis, (name, (matrix, truth, called)) in zip(axes[0], shown.items(), strict=True):
        base_figure.confusion(axis, np.array(matrix), ("no", "yes"))
        axis.set(title=name, ylabel=truth, xlabel=called)
    return figure


def dice_and_size(evaluation: Segmentation, heading: str) -> Figure | None:
    """Dice of each slice with a true mask over the area of that mask, and the median Dice in each quarter of the area."""
    drawn = evaluation.true > 0
    if not drawn.any():
        return None
    area, dice = evaluation.true[drawn], metrics.dice(evaluation.counts)[drawn]
    figure, axis = base_figure.figure(width=6, height=4.2, heading=heading)
    axis.scatter(area, dice, s=12, alpha=0.5, linewidth=0, label=f"slice with a true mask (n = {len(area)})")
    edges = np.quantile(area, [0, 0.25, 0.5, 0.75, 1])
    quarter = np.clip(np.searchsorted(edges, area, side="right") - 1, 0, 3)
    for number in np.unique(quarter) if len(area) > 3 else []:  # else a quarter is a single slice, or none
        ends, middle = edges[number : number + 2], np.median(dice[quarter == number])
        axis.plot(ends, [middle, middle], color="C1", linewidth=3, solid_capstyle="butt",
                  label="median of each quarter" if number == quarter.min() else None)  # fmt: skip
    axis.set(xscale="log", ylim=(-0.03, 1.03), xlabel="area of the true mask (px)", ylabel="Dice of the slice")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def volumes(evaluation: Segmentation, heading: str) -> Figure:
    """Predicted over true volume of each patient, and their difference over their mean (Bland-Altman); a row for each unit."""
    patients, agreement = per_patient(evaluation), tables.agreement(evaluation)
    figure, axes = base_figure.figure(len(agreement), 2, width=4.6, height=4, squeeze=False, heading=heading)
    for (left, right), row in zip(axes, agreement.itertuples(), strict=True):
        of_unit = patients[patients["unit"] == row.unit]
        true, predicted = (of_unit[name].to_numpy() for name in ("true_volume", "predicted_volume"))
        scale, unit = _scale(max(true.max(), predicted.max()), row.unit)
        true, predicted = true / scale, predicted / scale
        highest = max(true.max(), predicted.max(), 1e-3) * 1.05
        left.plot([0, highest], [0, highest], color="grey", linestyle=":", label="equal")
        left.scatter(true, predicted, s=18, alpha=0.7)
        left.set(xlabel=f"true volume ({unit})", ylabel=f"predicted volume ({unit})", xlim=(-0.02 * highest, highest),
                 ylim=(-0.02 * highest, highest))  # fmt: skip
        left.legend(loc="upper left", frameon=False)
        right.scatter((predicted + true) / 2, predicted - true, s=18, alpha=0.7)
        right.axhline(0, color="grey", linestyle=":")
        right.set(xlabel=f"mean of both volumes ({unit})", ylabel=f"predicted - true ({unit})")
        if row.patients >= LEAST_PATIENTS:
            bias, low, high = row.bias / scale, row.limit_low / scale, row.limit_high / scale
            right.axhline(bias, color="C1", label=f"bias {bias:.4g}")
            right.axhline(low, color="C1", linestyle="--", label=f"limits {low:.4g} to {high:.4g}")
            right.axhline(high, color="C1", linestyle="--")
            right.legend(fontsize=8)
    return figure


def _scale(highest: float, unit: str) -> tuple[float, str]:
    """By what volumes are divided so that their ticks stay short, and the name of the unit then: `thousand px`."""
    for scale, name in ((1e6, "million"), (1e3, "thousand")):
        if highest >= 10 * scale:
            return scale, f"{name} {unit}"
    return 1.0, unit


def threshold(evaluation: Segmentation, heading: str) -> Figure | None:
    """Mean Dice by patient on validation against the threshold, a curve for each fold, a dot where it was chosen."""
    rules = [rule for rule in evaluation.rules if not np.isnan(rule.curve).all()]
    if not rules:
        return None
    figure, axis = base_figure.figure(width=6, height=4, heading=heading)
    for number, rule in enumerate(rules):
        chosen, dice = metrics.as_probability(rule.threshold), rule.curve[rule.threshold]
        probabilities = metrics.as_probability(np.arange(1, len(rule.curve)))
        axis.plot(probabilities, rule.curve[1:], color=f"C{number}", label=f"fold {rule.fold}: {chosen:.2f} ({dice:.3f})")
        axis.plot(chosen, dice, "o", color=f"C{number}", markeredgecolor="black")
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold (probability)", ylabel="mean Dice by patient, validation")
    axis.legend(title="chosen threshold (Dice)", fontsize=8)
    return figure


def training(histories: dict[str, pd.DataFrame], heading: str) -> Figure | None:
    """Losses, and Dice by patient on validation, by epoch; a colour for each fold, a ring at the epoch of best.pt."""
    if not histories:
        return None
    figure, (left, right) = base_figure.figure(1, 2, width=4.8, height=3.8, heading=heading)
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
    return figure


def examples(cases: Sequence[tuple[Any, tuple[np.ndarray, ...]]], heading: str) -> Figure | None:
    """A row for each slice: whole image, close-ups of truth and prediction, and both over each other.

    `cases`: a row of `tables.examples` with the image, probability map and true mask of its slice.
    """
    if not cases:
        return None
    figure, axes = base_figure.figure(len(cases), 4, width=2.3, height=2.6, squeeze=False, heading=heading)
    for line, (case, (grey, probability, mask)) in zip(axes, cases, strict=True):
        predicted = probability >= case.threshold
        area = around(mask | predicted)
        overlay = painted(grey, {HIT: mask & predicted, MISSED: mask & ~predicted, FALSE: ~mask & predicted})
        close_ups = {"truth": painted(grey, {MISSED: mask}), "prediction": painted(grey, {FALSE: predicted}), "both": overlay}
        line[0].imshow(painted(grey, {}))
        (top, bottom), (left, right) = ((along.start, along.stop) for along in area)
        line[0].add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=0.8))
        for axis, (name, picture) in zip(line[1:], close_ups.items(), strict=True):
            axis.imshow(picture[area])
            axis.set_title(name, fontsize=8)
        line[0].set_title(f"{case.kind}: {case.image_id}\npatient {case.patient}, Dice {case.dice:.3f}", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    colours = [Patch(color=np.array(colour) / 255, label=name) for name, colour in MEANING.items()]
    figure.legend(handles=colours, title="both:", loc="outside lower center", ncols=3, frameon=False)
    return figure


def painted(grey: np.ndarray, areas: dict[tuple[int, int, int], np.ndarray]) -> np.ndarray:
    """A slice (uint8) with areas (bool, the same shape) in colours: uint8 (height, width, 3)."""
    drawn = np.repeat(grey[:, :, None], 3, axis=2).astype(float)
    for colour, area in areas.items():
        drawn[area] = (1 - STRENGTH) * drawn[area] + STRENGTH * np.array(colour)
    return drawn.round().astype(np.uint8)


def around(area: np.ndarray) -> tuple[slice, slice]:
    """A square around the pixels of an area (bool), as far as it lies in the image; the whole image where the area is empty."""
    ends = [np.flatnonzero(area.any(axis=axis))[[0, -1]] for axis in (1, 0)] if area.any() else [(0, n) for n in area.shape]
    side = max(LEAST_SIDE, CLOSE_UP * max(high - low for low, high in ends))
    low = [max(0, int((first + last - side) / 2)) for first, last in ends]
    return tuple(slice(start, min(length, int(start + side))) for start, length in zip(low, area.shape, strict=True))


# ---- the estimated hematoma


def core_and_abc2(table: pd.DataFrame, heading: str) -> Figure | None:
    """Core volume against ABC/2 of the boxes, a dot a lesion of `hematoma.table`; a panel for each unit.

    Lesions without a core are counted in the title of the panel, and have no dot.
    """
    units = [unit for unit in UNITS if (table["unit"] == unit).any()]
    if not units:
        return None
    heading = f"{heading}; {NOTE}s of the bleeding, no label of it exists; boxes enclose edema and a margin, too"
    figure, axes = base_figure.figure(1, len(units), width=5.2, height=5, squeeze=False, heading=heading)
    for axis, unit in zip(axes[0], units, strict=True):
        of_unit = table.loc[table["unit"] == unit, ["abc2_volume", "core_volume"]]
        seen = of_unit.dropna().to_numpy()
        axis.loglog(*seen.T, "o", color="C0", markersize=5, alpha=0.7)
        ends = np.array([seen.min() / 1.5, seen.max() * 1.5]) if len(seen) else np.array([1, 10])
        axis.loglog(ends, ends, color="grey", linewidth=1, linestyle="dashed", label="equal")
        axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"ABC/2 of the boxes ({UNITS[unit]})",
                 ylabel=f"bright core ({UNITS[unit]})")  # fmt: skip
        axis.set_title(f"lesions: {len(seen)} with a core, {len(of_unit) - len(seen)} without")
        axis.legend(loc="upper left", frameon=False)
    return figure


def core_and_edema(cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], heading: str) -> Figure | None:
    """Slices as image and overlay side by side; `cases`: caption, image (uint8), core and predicted edema (bool) of each."""
    if not cases:
        return None
    rows = -(-len(cases) // PAIRS)
    figure, axes = base_figure.figure(rows, 2 * PAIRS, width=2.6, height=2.8, squeeze=False, heading=f"{heading}; core: {NOTE}")
    for axis in axes.flat:
        axis.axis("off")
    for (caption, grey, core, edema), (left, right) in zip(cases, axes.reshape(-1, 2), strict=False):
        shown = around(core | edema)
        left.set_title(caption, fontsize=9, loc="left")
        for axis in (left, right):
            axis.imshow(painted(grey[shown], {}))
        for mask, (colour, line) in ((edema, EDEMA), (core, CORE)):
            if mask[shown].any():
                right.contour(mask[shown], levels=[0.5], colors=colour, linestyles=line, linewidths=1.2)
    names = (("hematoma, estimated core", CORE), ("edema, predicted", EDEMA))
    lines = [Line2D([], [], color=colour, linestyle=line, label=name) for name, (colour, line) in names]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    return figure
