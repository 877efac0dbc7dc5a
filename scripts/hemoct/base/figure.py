"""The house style of figures: one place that makes them and one that saves them."""

import functools
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures are files here; no step needs a screen

import numpy as np
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, NullFormatter, ScalarFormatter
from PIL import Image

from hemoct.base import files

FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
         "WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS", "Noto Sans",
         "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai")  # fmt: skip
"""in the order in which they are asked for a letter; those that are not there are passed over"""
POWER = re.compile(r"\$\\mathdefault\{-?[\d.]+(\\times ?\d+)?(\^\{-?\d+\})?\}\$")
COLOURS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]
"""which the colour-blind can tell apart: the palette `colorblind` of seaborn"""
NUMBERS = (ScalarFormatter, LogFormatter, NullFormatter)
"""what writes numbers alone, of which every letter can be drawn; asking for their labels would lay out each axis once more"""
STYLE = {
    "figure.dpi": 100, "savefig.dpi": 150, "font.size": 10, "axes.titlesize": 11, "axes.grid": True, "grid.alpha": 0.3,
    # What follows is seaborn's style `ticks`, which a second of imports would set.
    "axes.labelsize": 12, "legend.fontsize": 11, "legend.title_fontsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "axes.linewidth": 1.25, "grid.linewidth": 1, "xtick.major.width": 1.25, "ytick.major.width": 1.25, "xtick.minor.width": 1,
    "ytick.minor.width": 1, "xtick.major.size": 6, "ytick.major.size": 6, "xtick.minor.size": 4, "ytick.minor.size": 4,
    "axes.edgecolor": ".15", "axes.labelcolor": ".15", "text.color": ".15", "xtick.color": ".15", "ytick.color": ".15",
    "grid.color": ".8", "axes.axisbelow": True, "lines.solid_capstyle": "round", "patch.edgecolor": "w",
    "patch.force_edgecolor": True, "axes.prop_cycle": cycler(color=COLOURS),
}  # fmt: skip


def figure(
    rows: int = 1, columns: int = 1, width: float = 4.5, height: float = 3.6, heading: str = "", **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes in the house style; `width` and `height` in inches are those of one panel. `heading`: see `title`."""
    import matplotlib.pyplot as plt  # it takes half a second, and a step that draws no curve does not need it

    plt.rcParams.update(STYLE | {"font.family": list(_fonts())})
    made, axes = plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained", **options)
    if heading:
        title(made, heading)
    return made, axes


@functools.cache
def _fonts() -> tuple[str, ...]:
    """Those of FONTS that this machine has."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in there)


@functools.cache
def _letters(fonts: tuple[str, ...]) -> frozenset[int]:
    """The letters that any of these fonts has."""
    return frozenset().union(*(font_manager.get_font(font_manager.findfont(name)).get_charmap() for name in fonts))


def drawable(text: str, fonts: tuple[str, ...] = ()) -> str:
    """A text without the letters that none of `fonts` (all of this machine) has, which would be empty boxes: U+51FA for them."""
    known = _letters(fonts or _fonts())
    return "".join(letter if letter.isspace() or ord(letter) in known else f"U+{ord(letter):04X} " for letter in text).rstrip()


def _plain(text: str) -> str:
    """A text as it is drawn: `drawable`, and what stands between two $ in a name is no formula. The powers of a log axis are."""
    return drawable(text) if POWER.fullmatch(text) else drawable(text).replace("$", r"\$")


def _escape(shown: Figure) -> None:
    """Replace what cannot be drawn in all texts of a figure; nothing is touched where all can be drawn."""
    for axis in shown.axes:
        for of_axis in (axis.xaxis, axis.yaxis):
            if isinstance(of_axis.get_major_formatter(), NUMBERS):
                continue
            labels = [label.get_text() for label in of_axis.get_ticklabels()]
            if any(_plain(label) != label.rstrip() for label in labels):
                of_axis.set_ticks(of_axis.get_ticklocs(), [_plain(label) for label in labels])
    for text in shown.findobj(Text):
        if _plain(text.get_text()) != text.get_text().rstrip():
            text.set_text(_plain(text.get_text()))


def title(shown: Figure, heading: str) -> None:
    """A heading above all panels, in lines that fit the width of the figure."""
    shown.suptitle(textwrap.fill(heading, int(shown.get_figwidth() * 11.5)), fontsize=10)


def confusion(axis: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """A confusion matrix, truth in rows, int (k, k): counts and the share of their row, which is also the colour."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axis.text(column, row, f"{count:,}\n{share[row, column]:.2%}", ha="center", va="center",
                  color="white" if share[row, column] > 0.5 else "black")  # fmt: skip
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.grid(False)


def save(shown: Figure | Image.Image, path: Path) -> Path:
    """Write a PNG whole or not at all, and free the figure."""
    with files.replacing(path) as temporary:
        if isinstance(shown, Figure):
            _escape(shown)
            import matplotlib.pyplot as plt

            if layout := shown.get_layout_engine():  # savefig would draw everything once more to lay it out
                shown.set_dpi(plt.rcParams["savefig.dpi"])
                layout.execute(shown)
                shown.set_layout_engine("none")
            shown.savefig(temporary)
            plt.close(shown)
        else:
            shown.save(temporary)
    return path


def save_all(figures: Mapping[str, Figure | Image.Image | None], folder: Path) -> list[Path]:
    """Write FOLDER/NAME.png for each figure; those that are None, as they would be empty, are passed over."""
    return [save(shown, folder / f"{name}.png") for name, shown in figures.items() if shown is not None]
