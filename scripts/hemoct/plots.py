"""The house style of figures: one place that makes them and one that saves them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures are files here; no step needs a screen

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from hemoct import files

STYLE = {"figure.dpi": 100, "savefig.dpi": 150, "font.size": 10, "axes.titlesize": 11, "axes.grid": True, "grid.alpha": 0.3}


def figure(rows: int = 1, columns: int = 1, width: float = 4.5, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes in the house style; `width` and `height` in inches are those of one panel."""
    sns.set_theme(style="ticks", palette="colorblind", rc=STYLE)
    return plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained", **options)


def title(shown: Figure, heading: str) -> None:
    """A heading above all panels, in lines that fit the width of the figure."""
    shown.suptitle(textwrap.fill(heading, int(shown.get_figwidth() * 11.5)), fontsize=10)


def save(shown: Figure, path: Path) -> Path:
    """Write a PNG whole or not at all, and free the figure."""
    with files.replacing(path) as temporary:
        shown.savefig(temporary)
    plt.close(shown)
    return path


def save_image(drawn: Image.Image, path: Path) -> Path:
    """Write a picture whole or not at all."""
    with files.replacing(path) as temporary:
        drawn.save(temporary)
    return path
