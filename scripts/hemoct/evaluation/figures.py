"""Figures that every task has: experiments side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hemoct.base import figure as base_figure
from hemoct.evaluation import comparison as evaluation_comparison

MEASURED = ("auroc", "ap", "accuracy", "balanced_accuracy", "recall", "specificity", "precision", "f1", "f1_macro", "mcc")


LEAST_DIFFERENCE = 0.005  # that an axis of differences spans: rounding errors of equal experiments would fill it


ACRONYMS = {"auroc", "ap", "f1", "mcc"}


def side_by_side(table: pd.DataFrame, heading: str, measured: tuple[str, ...] = MEASURED) -> Figure:
    """Left: value and interval of each metric and experiment. Right: paired differences to the first experiment.

    `table` is that of `comparison.table`; of its metrics those that are `measured` are drawn.
    """
    names = [name for name in measured if name in set(table["metric"])]
    shown = list(dict.fromkeys(table["shown"]))
    differ = table["difference"].notna().any()
    height = 1.6 + 0.16 * len(names) * (len(shown) + 1) + 0.2 * len(shown)
    figure, axes = base_figure.figure(1, 1 + differ, width=5.2, height=max(3.6, height), sharey=True, squeeze=False)
    for number, name in enumerate(shown):
        rows = table[table["shown"] == name].set_index("metric").reindex(names)
        place = np.arange(len(names)) + (number - (len(shown) - 1) / 2) * 0.8 / len(shown)
        _points(axes[0, 0], rows, ("value", "low", "high"), place, f"C{number}", name)
        if differ and number:
            _points(axes[0, 1], rows, ("difference", "difference_low", "difference_high"), place, f"C{number}", name)
    axes[0, 0].set(xlabel="value and 95 % interval", ylim=(len(names) - 0.4, -0.6))
    ticks = [name.upper() if name in ACRONYMS else evaluation_comparison.named(name).replace("_", " ") for name in names]
    axes[0, 0].set_yticks(range(len(names)), ticks)
    if differ:
        axes[0, 1].axvline(0, color="grey", linestyle=":")
        axes[0, 1].xaxis.set_major_locator(MaxNLocator(5))
        low, high = axes[0, 1].get_xlim()
        axes[0, 1].set_xlim(min(low, -LEAST_DIFFERENCE), max(high, LEAST_DIFFERENCE))
        axes[0, 1].set(xlabel=f"difference to {table['experiment'].iloc[0]}\n(paired, 95 % interval)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1, frameon=False)
    base_figure.title(figure, heading)
    return figure


def _points(axis: Axes, rows: pd.DataFrame, columns: tuple[str, str, str], place: np.ndarray, colour: str, name: str) -> None:
    value, low, high = (rows[column].to_numpy(dtype=float) for column in columns)
    axis.plot(value, place, "o", markersize=5, color=colour, label=name)
    axis.hlines(place, low, high, color=colour, linewidth=1.6)
