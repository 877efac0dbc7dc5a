"""The figure of how detectors were trained: losses and mAP by epoch, all folds in one."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hemoct.base import figure as base_figure
from hemoct.training import histories
from hemoct.training.histories import Training

PANELS = {"box_loss": "box loss", "cls_loss": "class loss", "dfl_loss": "distribution focal loss (DFL)"}
ENDS = {histories.LAST: "s", histories.EARLY: "X", histories.UNFINISHED: ">", histories.UNKNOWN: "d"}
WIDE = 20  # a loss that spans more than this factor needs a logarithmic axis to be seen after its first epochs


def performance(trainings: list[Training], heading: str) -> Figure:
    """Box, class and DFL loss (those that there are), below them mAP50 and mAP50:95 on validation; a colour for each fold."""
    known = set().union(*(training.history.columns for training in trainings))
    losses = [name for name in PANELS if f"train_{name}" in known or f"val_{name}" in known]
    figure, axes = base_figure.figure(2, len(PANELS), width=4.0, height=3.1, squeeze=False)
    for axis, name in zip(axes[0], losses, strict=False):
        for number, training in enumerate(trainings):
            _line(axis, training, f"train_{name}", f"C{number}", "--")
            _line(axis, training, f"val_{name}", f"C{number}", "-", marked=True)
        axis.set(title=PANELS[name], ylabel="loss")
        _scale(axis)
    for axis, name, shown in zip(axes[1], ("map50", "map50_95"), ("mAP50", "mAP50:95"), strict=False):
        for number, training in enumerate(trainings):
            _line(axis, training, name, f"C{number}", "-", marked=True)
        axis.set(title=f"{shown} on validation", ylabel=shown, ylim=(-0.02, 1.02))
    for axis in (*axes[0, : len(losses)], *axes[1, :2]):
        axis.set(xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axis in (*axes[0, len(losses) :], axes[1, 2]):
        axis.axis("off")
    axes[1, 2].legend(handles=_legend(trainings), loc="center left", frameon=False, fontsize=8.5)
    base_figure.title(figure, heading)
    return figure


def _line(axis: Axes, training: Training, name: str, colour: str, style: str, marked: bool = False) -> None:
    """A column by epoch, with its best epoch and its end where `marked`; nothing where the family has no such column."""
    if name not in training.history:
        return
    epoch, values = training.history["epoch"], training.history[name]
    axis.plot(epoch, values, style, color=colour, linewidth=1.4, marker=".", markersize=3, alpha=1 if marked else 0.7)
    if not marked:
        return
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
    lines = [("--", "training"), ("-", "validation")]
    styles = [Line2D([], [], color="0.35", linestyle=style, label=text) for style, text in lines]
    best = Line2D([], [], color="none", marker="o", markeredgecolor="0.35", markeredgewidth=1.8, markersize=10)
    best.set_label("best epoch (mAP50:95): best.pt")
    ends = list(dict.fromkeys(training.ended for training in trainings))
    marks = [Line2D([], [], color="0.35", linestyle="none", marker=ENDS[end], label=f"end: {end}") for end in ends]
    return [*folds, *styles, best, *marks]


def _story(training: Training) -> str:
    asked = f" of {training.asked}" if training.asked is not None else ""
    best = "none" if training.best is None else f"{training.best['epoch']:.0f}"
    return f"{training.fold}: best epoch {best}; ended at {training.history['epoch'].iloc[-1]:.0f}{asked} ({training.ended})"
