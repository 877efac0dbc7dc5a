"""Figures of the estimated hematoma. Each takes what it shows and returns one figure, or None where that would be empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hemoct.base import figure as base_figure
from hemoct.segmentation.hematoma import NOTE

# Orange and blue differ for every kind of colour vision (Okabe and Ito), solid and dashed lines without any colour.
CORE, EDEMA = ("#E69F00", "solid"), ("#56B4E9", "dashed")
PAIRS = 2  # slices in a row of panels, each as image and overlay
MARGIN = 0.4  # of the longer side of what is drawn, shown around it
LEAST_SIDE = 96  # px of a slice that are shown
UNITS = {"ml": "ml", "px": "pixels: no spacing is known"}


def volumes(table: pd.DataFrame, heading: str) -> Figure | None:
    """Core volume against ABC/2 of the boxes, a dot a lesion of `hematoma.table`; a panel for each unit.

    Lesions without a core are counted in the title of the panel, and have no dot.
    """
    units = [unit for unit in UNITS if (table["unit"] == unit).any()]
    if not units:
        return None
    figure, axes = base_figure.figure(1, len(units), width=5.2, height=5, squeeze=False)
    for axis, unit in zip(axes[0], units, strict=True):
        _scatter(axis, table[table["unit"] == unit], UNITS[unit])
    base_figure.title(figure, f"{heading}; {NOTE}s of the bleeding, no label of it exists; boxes enclose edema and a margin, too")
    return figure


def _scatter(axis: Axes, table: pd.DataFrame, unit: str) -> None:
    seen = table[table["core_volume"].notna()]
    axis.loglog(seen["abc2_volume"], seen["core_volume"], "o", color="C0", markersize=5, alpha=0.7)
    both = seen[["abc2_volume", "core_volume"]].to_numpy()
    ends = np.array([both.min() / 1.5, both.max() * 1.5]) if len(seen) else np.array([1, 10])
    axis.loglog(ends, ends, color="grey", linewidth=1, linestyle="dashed", label="equal")
    axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"ABC/2 of the boxes ({unit})", ylabel=f"bright core ({unit})")
    axis.set_title(f"lesions: {len(seen)} with a core, {len(table) - len(seen)} without")
    axis.legend(loc="upper left", frameon=False)


def panels(
    cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], heading: str, edema_is: str = "annotated"
) -> Figure | None:
    """Slices as image and overlay side by side. A case: caption, grey (uint8), core and edema (bool), all (height, width).

    `edema_is` says in the legend where the edema comes from: `annotated`, `predicted`.
    What is shown is the surroundings of core and edema; the whole slice where both are empty.
    """
    if not cases:
        return None
    rows = -(-len(cases) // PAIRS)
    figure, axes = base_figure.figure(rows, 2 * PAIRS, width=2.6, height=2.8, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for (caption, grey, core, edema), (left, right) in zip(cases, axes.reshape(-1, 2), strict=False):
        shown = _surroundings(core | edema)
        left.set_title(caption, fontsize=9, loc="left")
        for axis in (left, right):
            axis.imshow(grey[shown], cmap="gray", vmin=0, vmax=255)
        overlay(right, core[shown], edema[shown])
    names = (("hematoma, estimated core", CORE), (f"edema, {edema_is}", EDEMA))
    lines = [Line2D([], [], color=colour, linestyle=line, label=name) for name, (colour, line) in names]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    base_figure.title(figure, f"{heading}; core: {NOTE}")
    return figure


def overlay(axis: Axes, core: np.ndarray, edema: np.ndarray) -> None:
    """Draw the outlines of core and edema, bool (height, width), over a slice."""
    for mask, (colour, line) in ((edema, EDEMA), (core, CORE)):
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=colour, linestyles=line, linewidths=1.2)


def _surroundings(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a square around what is true in a mask, cut at the edges of the image."""
    if not mask.any():
        return slice(None), slice(None)
    y, x = np.nonzero(mask)
    half = max(LEAST_SIDE / 2, (0.5 + MARGIN) * max(np.ptp(y), np.ptp(x)))
    middles = ((y.min() + y.max()) / 2, (x.min() + x.max()) / 2)
    rows, columns = (slice(max(0, round(middle - half)), round(middle + half)) for middle in middles)
    return rows, columns
