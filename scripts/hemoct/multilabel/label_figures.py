"""Several labels of one image: which go together, how often, and where a fold lacks one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemoct.base import figure as base_figure
from hemoct.base.tables import PARTS

COMBINATIONS = 12  # bars; the others are one bar
SHORT = 6  # letters of a name that fit below a cell without turning it
CELL, FEWEST_INCHES = 0.85, 3.4
DARK = 0.55  # mean of red, green and blue below which words are white


def overview(together: pd.DataFrame, combinations: pd.Series, counts: pd.DataFrame, heading: str) -> Figure:
    """Three panels: co-occurrence, images per combination of labels, positives per label, fold and part.

    The frames are those of `working_set`: cooccurrence_table, combinations, count_parts.
    """
    labels = list(dict.fromkeys(together["label"]))
    side = max(FEWEST_INCHES, 1.2 + CELL * len(labels))
    figure, (left, middle, right) = base_figure.figure(1, 3, width=side + 0.6, height=side)
    cooccurrence(left, together)
    bars(middle, combinations)
    positives(right, counts)
    base_figure.title(figure, heading)
    return figure


def cooccurrence(axis: Axes, together: pd.DataFrame) -> None:
    """Images with both labels, and their share of the row's label, which is also the colour."""
    labels = list(dict.fromkeys(together["label"]))
    images = together["images"].to_numpy().reshape(len(labels), -1)
    share = together["share"].to_numpy(dtype=float).reshape(images.shape)
    words = [f"{n:,}\n{part:.0%}" if np.isfinite(part) else "-" for n, part in zip(images.flat, share.flat, strict=True)]
    cells(axis, np.nan_to_num(share), np.array(words).reshape(share.shape), labels, labels)
    axis.set(title="Images with both labels, and share of the row", xlabel="... also show", ylabel="of the images with")


def bars(axis: Axes, combinations: pd.Series) -> None:
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


def positives(axis: Axes, counts: pd.DataFrame) -> None:
    """Positive images per label in training and test of each fold; a part without any is marked."""
    folds = counts[counts["fold"] != "all"]
    table = folds.pivot_table(index=["fold", "part"], columns="label", values="positive", sort=False)
    table = table[list(dict.fromkeys(counts["label"]))].astype(int)
    rows = [f"{fold} {part}" for fold, part in table.index]
    share = table.to_numpy() / np.maximum(table.groupby("part").transform("max").to_numpy(), 1)
    cells(axis, share, table.to_numpy().astype(str), rows, list(table.columns))
    for row, column in np.argwhere(table.to_numpy() == 0):
        axis.text(column, row, "none", ha="center", va="center", color="white", weight="bold", fontsize=8,
                  bbox={"facecolor": "#d55e00", "edgecolor": "none", "pad": 2})  # fmt: skip
    for line in range(len(PARTS), len(rows), len(PARTS)):
        axis.axhline(line - 0.5, color="white", linewidth=3)
    axis.set(title="Positive images by fold and part", ylabel="fold, part")


def cells(axis: Axes, share: np.ndarray, words: np.ndarray, rows: list[str], columns: list[str],
          colours: str = "Blues", lowest: float = 0) -> None:  # fmt: skip
    """A table as colours (share, from `lowest` to 1) with words in its cells; both (rows, columns)."""
    shown = axis.imshow(share, cmap=colours, vmin=lowest, vmax=1, aspect="auto")
    for (row, column), word in np.ndenumerate(words):
        dark = np.mean(shown.to_rgba(share[row, column])[:3]) < DARK
        axis.text(column, row, word, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    short = max(map(len, columns)) <= SHORT
    axis.set_xticks(range(len(columns)), columns, rotation=0 if short else 35, ha="center" if short else "right")
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(False)
