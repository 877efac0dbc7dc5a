"""Figures of evaluated classifiers. Each function takes what it shows and returns one figure, or None where it would be empty."""

import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from hemoct.base import figure as base_figure
from hemoct.classification import label_curve as curve
from hemoct.data import boxes as data_boxes, images
from hemoct.evaluation import metrics, overlays, protocol, text
from hemoct.evaluation.decisions import Evaluation

SHEET_COLUMNS = 6


def confusion(evaluation: Evaluation, heading: str) -> Figure:
    """Counts of truth against decision, coloured by the share of the row."""
    names, y = evaluation.question.names, evaluation.test.y
    matrix = metrics.confusion(y, evaluation.decision, metrics.ones(len(y)), classes=len(names))[0]
    side = 2.6 + 0.7 * len(names)
    figure, axis = base_figure.figure(width=side + 0.6, height=side, heading=heading)
    base_figure.confusion(axis, matrix.astype(int), [textwrap.fill(name.replace("_", " "), 14) for name in names])
    axis.set(xlabel="called", ylabel="truth")
    return figure


def losses(histories: dict[str, pd.DataFrame], heading: str) -> Figure | None:
    """Training and validation loss per epoch, a panel for each fold, the epoch of best.pt marked."""
    if not histories:
        return None
    figure, axes = base_figure.figure(
        1, len(histories), width=max(2.6, 4.5 / len(histories)), height=3.2, sharey=True, squeeze=False, heading=heading
    )
    for axis, (fold, history) in zip(axes[0], histories.items(), strict=True):
        best = history.loc[history["val_loss"].idxmin()]
        axis.plot(history["epoch"], history["train_loss"], label="training", marker=".")
        axis.plot(history["epoch"], history["val_loss"], label="validation", marker=".")
        axis.axvline(best["epoch"], color="grey", linestyle=":", label="best epoch")
        axis.set(title=f"{fold}: best epoch {best['epoch']:.0f}", xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set(ylabel="loss", ylim=(0, None))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def curves(evaluation: Evaluation, content: dict[str, Any], heading: str) -> dict[str, Figure | None]:
    """`roc` and `pr`: thin for each fold, thick for their vertical mean, a dot where the thresholds of the folds lead."""
    drawn = {}
    for name, panel in PANELS.items():
        figure, axis = base_figure.figure(width=5.4, height=5.2, heading=heading)
        drawn[name] = figure if panel(axis, evaluation, content["metrics"]) else None
    return drawn


def roc_panel(axis: Axes, evaluation: Evaluation, values: dict[str, Any]) -> bool:
    """ROC curves on `axis`; False where no fold has both classes. `values`: the block `metrics` of metrics.json."""

    def curve(y: np.ndarray, p: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from sklearn.metrics import roc_curve  # a second, which a step without curves need not wait

        x, height, _ = roc_curve(y, p, drop_intermediate=False)
        return x, height, np.interp(grid, x, height)

    if not _curves(axis, evaluation, values, curve, "auroc"):
        return False
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1, label="chance")
    if evaluation.question.positive is not None:
        _operating_point(axis, values["fpr"]["value"], values["recall"]["value"], evaluation)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.legend(loc="lower right", fontsize=8)
    return True


def precision_recall_panel(axis: Axes, evaluation: Evaluation, values: dict[str, Any]) -> bool:
    """Precision over recall on `axis`; False where no fold has both classes. `values`: the block `metrics` of metrics.json."""

    def curve(y: np.ndarray, p: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from sklearn.metrics import precision_recall_curve

        precision, recall, _ = precision_recall_curve(y, p)
        recall, precision = recall[::-1], precision[::-1]  # steps: precision belongs to the recall that it reaches
        return recall, precision, precision[np.minimum(np.searchsorted(recall, grid), len(recall) - 1)]

    if not _curves(axis, evaluation, values, curve, "ap", steps=True):
        return False
    place = "lower left"
    if evaluation.question.positive is not None:
        place = "lower left" if values["ap"]["value"] > 0.4 else "upper right"  # where the curves are not
        share = evaluation.test.y.mean()
        axis.axhline(share, color="grey", linestyle=":", linewidth=1, label=f"share of positives {share:.2f}")
        _operating_point(axis, values["recall"]["value"], values["precision"]["value"], evaluation)
    axis.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.legend(loc=place, fontsize=8)
    return True


PANELS = {"roc": roc_panel, "pr": precision_recall_panel}


def _curves(axis: Axes, evaluation: Evaluation, values: dict[str, Any], curve: Any, key: str, steps: bool = False) -> bool:
    """Per class (or for the positive one) the curves of the folds and their mean on a common grid; False where there is none."""
    y, p, folds = evaluation.test.y, evaluation.test.p, evaluation.test.table["fold"].to_numpy()
    one = evaluation.question.positive is not None
    classes = {key: (y, p)} if one else {f"{key}_{name}": (y == k, p[:, k]) for k, name in enumerate(evaluation.question.labels)}
    grid, anything = np.linspace(0, 1, 501), False
    for number, (name, (truth, score)) in enumerate(classes.items()):
        means = []
        for fold in np.unique(folds):
            rows = folds == fold
            if not 0 < truth[rows].sum() < rows.sum():
                continue
            x, height, on_grid = curve(truth[rows].astype(int), score[rows], grid)
            axis.plot(x, height, color=f"C{number}", linewidth=0.8, alpha=0.45, drawstyle="steps-pre" if steps else "default")
            means.append(on_grid)
        if means:
            anything = True
            shown = key.upper() if one else f"{name.removeprefix(f'{key}_')}: {key.upper()}"
            of = f"mean of {len(means)} folds, " if len(means) > 1 else ""
            label = f"{of}{shown} {text.metric(values[name])}"
            axis.plot(grid, np.mean(means, axis=0), color=f"C{number}", linewidth=2, label=label)
    return anything


def _operating_point(axis: Axes, x: float | None, y: float | None, evaluation: Evaluation) -> None:
    if x is not None and y is not None:
        rules = Counter(rule.threshold_rule for rule in evaluation.rules)
        words = [rule + f" ({times} fold{'s' * (times > 1)})" * (len(rules) > 1) for rule, times in rules.items()]
        label = "threshold: " + "\n".join(words)
        axis.plot(x, y, "o", color="black", markersize=7, clip_on=False, zorder=3, label=label)


def calibration(evaluation: Evaluation, content: dict[str, Any], heading: str) -> Figure:
    """Observed share against probability in 15 bins of equally many cases, before and after temperature scaling."""
    many = evaluation.question.positive is None
    right = (evaluation.test.y == evaluation.decision).astype(int) if many else evaluation.test.y
    figure, (axis, below) = base_figure.figure(2, 1, width=5, height=2.9, height_ratios=(3, 1), sharex=True, heading=heading)
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for name, key, p in (("before", "ece", evaluation.test.p), ("after", "ece_calibrated", evaluation.calibrated)):
        sure = p.max(axis=1) if many else p
        mean, observed, _ = metrics.reliability(right, sure)
        axis.plot(mean, observed, marker="o", markersize=4, label=f"{name}: ECE {content['metrics'][key]['value']:.3f}")
        below.hist(sure, bins=np.linspace(0, 1, 31), histtype="step", linewidth=1.5)
    axis.set(ylabel="share right" if many else f"share of {evaluation.question.positive}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(title="temperature scaling", loc="upper left")
    below.set(xlabel="probability of the called class" if many else "predicted probability", ylabel=protocol.cases(content))
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    return figure


def worst_mistakes(
    kinds: dict[str, pd.DataFrame], raw: Path, image_files: pd.Series, boxes: pd.DataFrame, lines: list[str]
) -> Image.Image | None:
    """Sheet of mistakes with their probability and the annotated boxes. `image_files`: paths below `raw` by image_id."""
    cases = pd.concat(kinds, names=["kind"]).reset_index("kind")
    if cases.empty:
        return None
    truth, _ = data_boxes.by_image(boxes.assign(**{"class": ""}), cases["image_id"], [""])
    decoded = images.decode([raw / image_files[name] for name in cases["image_id"]], desc="worst mistakes")
    tiles = []
    for case, grey, annotated in zip(cases.itertuples(), decoded, truth, strict=True):
        drawn = overlays.picture(grey, overlays.NO_BOXES, annotated, overlays.TILE)
        tiles.append((drawn, f"{case.kind}{', ' * bool(case.caption)}{case.caption}\n{case.image_id}  p = {case.p:.2g}"))
    return overlays.sheet(tiles, [*lines, "green: annotated box"], SHEET_COLUMNS)


def label_curve(made: dict[str, Any], heading: str) -> Figure:
    """Left: a metric by the share of labelled patients, a line a start, its seeds as dots. Right: the difference to scratch."""
    name, of_start = curve.shown(made), curve.starts(made)
    differ = any(cell["difference"] for cell in made["cells"])
    heading = f"{heading}; mean over seeds, 95 % intervals, dots: single seeds"
    figure, axes = base_figure.figure(1, 1 + differ, width=5.6, height=4.6, heading=heading, squeeze=False)
    for number, cells in enumerate(of_start.values()):
        aside = 1.06 ** (number - (len(of_start) - 1) / 2)  # so that intervals do not lie on one another
        for axis, key in zip(axes[0], ("metrics", "difference"), strict=False):
            drawn = [(100 * aside * cell["share"], cell[key][name]) for cell in cells if name in cell[key]]
            drawn = [(share, entry) for share, entry in drawn if entry["value"] is not None]
            if not drawn:
                continue
            share, entries = zip(*drawn, strict=True)
            axis.plot(share, [entry["value"] for entry in entries], "o-", color=f"C{number}", label=curve.name_of(cells[0]))
            for place, entry in drawn:
                axis.vlines(place, *(entry["ci95"] or [entry["value"]] * 2), color=f"C{number}", linewidth=1.6, alpha=0.6)
                axis.plot([place] * len(entry["by_seed"]), entry["by_seed"], ".", color=f"C{number}", markersize=4, alpha=0.5)
    shares = sorted({100 * cell["share"] for cell in made["cells"]})
    for axis in axes[0]:
        axis.set_xscale("log")
        axis.set_xticks(shares, [f"{share:g}" for share in shares])
        axis.minorticks_off()
        axis.set_xlabel("labelled training patients, %")
    axes[0, 0].set_ylabel(text.metric_name(name))
    if differ:
        axes[0, 1].axhline(0, color="grey", linestyle=":")
        axes[0, 1].set_ylabel("difference to from scratch")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure
