"""Maps for people: heat over a slice with what is annotated on it, a sheet for each kind of decision, numbers beside numbers."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy import ndimage

from hemoct.base import figure as base_figure, label_meaning
from hemoct.evaluation import overlays, text
from hemoct.evaluation.overlays import GREEN, TILE
from hemoct.explain import regions, score
from hemoct.explain.regions import Truth

BLUE, WHITE = (70, 160, 255), (255, 255, 255)
OPACITY = 0.55
"""of the hottest pixel; cold ones show the slice alone"""
MOST, FEW = 24, 3
"""maps on the sheet of a kind of decision, and of each kind on the one of all kinds"""
LARGE = 448  # px of the overlay of a single image
SHARES = ("pointing", "heat_box", "heat_mask", "heat_head", "dice_box", "dice_mask")


def picture(grey: np.ndarray, heat: np.ndarray, truth: Truth, side: int) -> Image.Image:
    """A slice (uint8, square) under its heat (0..1), boxes outlined in green, the mask in blue, a cross at the maximum."""
    drawn, scale = overlays.enlarged(grey, side)
    warm = np.asarray(Image.fromarray(heat).resize((side, side), Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    colour = matplotlib.colormaps["inferno"](warm[..., 0])[..., :3] * 255
    pixels = np.asarray(drawn) * (1 - OPACITY * warm) + colour * OPACITY * warm
    if truth.mask is not None and truth.mask.any():
        mask = np.asarray(Image.fromarray(truth.mask).resize((side, side)))
        pixels[mask & ~ndimage.binary_erosion(mask)] = BLUE
    made = Image.fromarray(pixels.round().astype(np.uint8))
    pen = ImageDraw.Draw(made)
    for box in truth.boxes * scale:
        pen.rectangle([*np.floor(box[:2]) - 1, *np.ceil(box[2:])], outline=GREEN, width=max(1, side // 200))
    if heat.max() > 0:
        y, x = (np.array(np.unravel_index(heat.argmax(), heat.shape)) + 0.5) * scale
        arm = side // 40
        pen.line([x - arm, y, x + arm, y], fill=WHITE)
        pen.line([x, y - arm, x, y + arm], fill=WHITE)
    return made


def caption(case: pd.Series, several: bool, place: str = "head") -> str:
    """Probability, threshold and where the heat lies, in a few words. `place`: what stands for the head."""
    label = f"{case['label']} " if several else ""
    limit = "" if pd.isna(case["threshold"]) else f" / {case['threshold']:.2f}"
    shares = [f"{words} {case[name]:.0%}" for name, words in (("heat_box", "box"), ("heat_head", place)) if pd.notna(case[name])]
    return f"{label}p {case['p']:.2f}{limit}" + (f", {', '.join(shares)}" if shares else "")


def legend(layout: str, truth: list[Truth]) -> str:
    """What the colours mean, of those that are there."""
    box = label_meaning.BOX.get(layout, "")
    words = ["heat: where the model looks, relative to its maximum (cross)"]
    words += [f"green: annotated box{f' ({box})' if box else ''}"] * any(len(one.boxes) for one in truth)
    words += [f"blue: annotated mask ({label_meaning.lesion(layout)})"] * any(
        one.mask is not None and one.mask.any() for one in truth
    )
    return ", ".join(words) + "; p: probability / threshold, then shares of the heat"


def picked(cases: pd.DataFrame, most: int = MOST) -> np.ndarray:
    """Which cases of a kind stand on a sheet: so many, evenly over the probabilities, the highest first."""
    order = np.argsort(-cases["p"].to_numpy(), kind="stable")
    return order if len(order) <= most else order[np.linspace(0, len(order) - 1, most).round().astype(int)]


def tile(grey: np.ndarray, small: np.ndarray, truth: Truth, side: int = TILE) -> Image.Image:
    """A map at the size of its layer (k, k) as a picture of `side` px."""
    return picture(grey, regions.enlarge(small, len(grey)), truth, side)


def scores(content: dict[str, Any], heading: str) -> Figure:
    """The metrics of the model and of what stands beside it, with intervals; boxes hit at each IoU. `content`: metrics.json."""
    of = {"model": content["metrics"]} | {name: one["metrics"] for name, one in content["beside"].items()}
    figure, axes = base_figure.figure(1, 2, width=5.6, height=4.2, heading=heading)
    for number, (name, block) in enumerate(of.items()):
        known = [(place, block[key]) for place, key in enumerate(SHARES) if block[key]["value"] is not None]
        _points(axes[0], [place + (number - len(of) / 2) * 0.14 for place, _ in known], [entry for _, entry in known], name)
        levels = [block[f"localisation_{iou:g}"] for iou in score.IOUS]
        _points(axes[1], score.IOUS + (number - len(of) / 2) * 0.008, levels, name, line="-")
    axes[0].set_xticks(range(len(SHARES)), [text.metric_name(name) for name in SHARES], rotation=25, ha="right")
    axes[0].set(ylim=(-0.03, 1.03), title="where the heat lies (95 % intervals)")
    axes[1].set(ylim=(-0.03, 1.03), xlabel="IoU from which a box is hit", ylabel="boxes hit", title="regions against boxes")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(of), frameon=False)
    return figure


def _points(axis: Any, places: Sequence[float], entries: list[dict[str, Any]], name: str, line: str = "") -> None:
    values = np.array([entry["value"] for entry in entries], dtype=float)
    ends = np.array([entry["ci95"] or [entry["value"]] * 2 for entry in entries], dtype=float).reshape(-1, 2)
    around = np.abs(ends - values[:, None]).T
    axis.errorbar(places, values, yerr=around, fmt=f"o{line}", markersize=4, capsize=2, label=name)
