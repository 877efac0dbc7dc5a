"""What one looks at first in a data set. Each function draws one figure, or returns None if it would be empty."""

import itertools
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hemoct.audit import drift, summary
from hemoct.audit.reading import SIZE, Audited
from hemoct.base import figure as base_figure, pixels
from hemoct.data import images

LABEL_FIGURES = 8  # figures per label stop here; a data set with hundreds of labels stays readable
SHEET_ROWS, SHEET_COLUMNS = 3, 5
PANEL = 2048  # px of an image in a contact sheet; a larger one would take a hundred bytes for each of its pixels
BARS = 1000  # patients that have a bar each
OPAQUE = 256  # half transparent points in one place that nothing can be seen through
PANELS = 6  # facts about patients that are drawn
FIRST_FACTS = ("side", "age", "sex")
BOX_COLOUR, MASK_COLOUR = "#ffb000", "#00d0ff"


def classes(data: Audited) -> dict[str, pd.Series]:
    """Which images (bool, in the order of labels.csv) show what. Several labels that are not exclusive may overlap."""
    names = data.dataset.labels
    held = {name: (data.images[name] == 1).fillna(False) for name in names}
    if data.dataset.exclusive:
        return held
    none = (data.images[names] == 0).fillna(False).all(axis=1)
    return {f"no {names[0]}" if len(names) == 1 else "none": none, **held}


def _disjoint(data: Audited) -> dict[str, pd.Series]:
    """Classes that add up to all images."""
    shown = classes(data)
    if not data.dataset.exclusive and len(data.dataset.labels) > 1:
        shown = {"no label": shown["none"], "any label": (data.images[data.dataset.labels] == 1).fillna(False).any(axis=1)}
    unknown = ~pd.DataFrame(shown).any(axis=1)
    return {**shown, "unknown": unknown} if unknown.any() else shown


def figures(data: Audited, seed: int) -> dict[str, Callable[[], Figure | None]]:
    """What draws each figure, by its name; those of classes and labels end at LABEL_FIGURES."""
    once = (class_balance, slices_per_patient, patients, lesion_size, lesion_position, image_size, drift.mask_drift)
    names, drawn = data.dataset.labels, {draw.__name__: partial(draw, data) for draw in once}
    for name, rows in list(classes(data).items())[: LABEL_FIGURES + 1]:
        drawn[f"contact_sheet_{_file_word(name)}"] = partial(contact_sheet, data, name, rows, seed)
    if data.dataset.exclusive and len(names) == 2:
        return drawn | {"mean_variance": partial(mean_variance, data, 1, *names)}
    for number, name in enumerate(names[:LABEL_FIGURES]):
        word = "mean_variance" if len(names) == 1 else f"mean_variance_{_file_word(name)}"
        drawn[word] = partial(mean_variance, data, number, f"no {name}", name)
    return drawn


def _file_word(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def class_balance(data: Audited) -> Figure:
    """Images, and patients with at least one such image, per class."""
    shown = classes(data)
    unknown = data.images[data.dataset.labels].isna().any(axis=1)
    if unknown.any():
        shown["unknown"] = unknown
    panels = [("images", [int(rows.sum()) for rows in shown.values()], len(data.images))]
    if data.has_patients:
        patient = data.images["patient"]
        panels.append(("patients with such an image", [patient[rows].nunique() for rows in shown.values()], patient.nunique()))
    figure, axes = base_figure.figure(1, len(panels), height=1.6 + 0.35 * len(shown), squeeze=False, sharey=True)
    for axis, (what, counts, total) in zip(axes[0], panels, strict=True):
        bars = axis.barh(list(shown), counts, color=_colours(list(shown)))
        axis.bar_label(bars, [f" {n} ({n / total:.0%})" for n in counts])
        axis.set(xlabel=what, title=f"{total} {what.split()[0]}", xlim=(0, max(*counts, 1) * 1.6))
    axes[0, 0].invert_yaxis()
    return figure


def slices_per_patient(data: Audited) -> Figure | None:
    """One bar per patient, most images first, stacked by class."""
    if not data.has_patients:
        return None
    stacks = pd.DataFrame(_disjoint(data)).astype(int).groupby(data.images["patient"]).sum()
    stacks = stacks.loc[stacks.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    median = stacks.sum(axis=1).median()
    figure, axis = base_figure.figure(width=9, height=3.6)
    if len(stacks) > BARS:  # narrower than a pixel: a bar is an object each, and 10,000 take a minute
        look = {"labels": list(stacks), "colors": _colours(list(stacks)), "linewidth": 0}
        axis.stackplot(range(len(stacks)), stacks.to_numpy().T, step="mid", **look)
        axis.set_xticks([])
    else:
        stacks.plot.bar(ax=axis, stacked=True, width=1.0, color=_colours(list(stacks)), linewidth=0, xticks=[])
    axis.axhline(median, color="black", linestyle=":", label=f"median {median:g}")
    axis.set(title=f"Images of each of {len(stacks)} patients", ylabel="images", xlabel="patients, most images first")
    axis.set_xlim(-0.5, len(stacks) - 0.5)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="upper right" if len(stacks) > BARS else "best")
    return figure


def patients(data: Audited) -> Figure | None:
    """What patients.csv knows: numbers as histograms, words as bars; side, age and sex first."""
    if data.patients is None:
        return None
    known = data.patients.drop(columns="patient").dropna(axis=1, how="all")
    facts = [name for name in known if _is_number(known[name]) or known[name].nunique() <= 12]
    facts = sorted(facts, key=lambda name: (*FIRST_FACTS, name.lower()).index(name.lower()))[:PANELS]
    if not facts:
        return None
    figure, axes = base_figure.figure(-(-len(facts) // 3), min(3, len(facts)), width=3.6, height=3.0, squeeze=False)
    for axis, name in zip(axes.flat, facts, strict=False):
        values = known[name].dropna()
        if _is_number(values):
            axis.hist(values, bins=15)
            axis.set_title(f"{name}: median {values.median():.3g}, n = {len(values)}")
        else:
            counts = values.astype(str).value_counts()
            axis.bar_label(axis.bar(counts.index, counts), padding=2)
            axis.margins(y=0.15)  # room for the numbers
            axis.set_title(f"{name}, n = {len(values)}")
        axis.set(xlabel=name, ylabel="patients")
    for axis in axes.flat[len(facts) :]:
        axis.remove()
    return figure


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and values.nunique() > 5  # 0/1 codes are words


def lesion_size(data: Audited) -> Figure | None:
    """Histograms of box and mask areas on a log scale, in mm2 where every spacing is known, else in pixels."""
    kinds = [("box", BOX_COLOUR), ("mask", MASK_COLOUR)]
    drawn = [(*kind, areas) for kind, areas in zip(kinds, summary.lesion_areas(data), strict=True) if len(areas)]
    if not drawn:
        return None
    figure, axes = base_figure.figure(1, len(drawn), squeeze=False)
    for axis, (kind, colour, areas) in zip(axes[0], drawn, strict=True):
        unit = "mm2" if "mm2" in areas else "px"
        low, high = (values := areas[unit].to_numpy()).min(), values.max()
        axis.hist(values, bins=np.geomspace(low * 0.95, high * 1.05, 31), color=colour, edgecolor="black", linewidth=0.4)
        axis.axvline(np.median(values), color="black", linestyle=":", label=f"median {np.median(values):,.0f}")
        plural = "boxes" if kind == "box" else "masks that are not empty"
        axis.set(xscale="log", xlabel=f"{kind} area ({unit.replace('2', '²')})", ylabel=plural, title=f"{len(values)} {plural}")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.legend()
    figure.supxlabel(data.mask_note, fontsize=8)
    return figure


def lesion_position(data: Audited) -> Figure | None:
    """How often each place of the image is inside a box, inside a mask."""
    masks = int((data.images["mask_pixels"] > 0).sum())
    covers = [("boxes", len(data.boxes), box_cover(data)), ("masks", masks, data.mask_cover)]
    covers = [cover for cover in covers if cover[2].any()]
    if not covers:
        return None
    figure, axes = _maps(1, len(covers))
    for axis, (kind, n, cover) in zip(axes[0], covers, strict=True):
        _map(figure, axis, cover, f"Where {n} {kind} lie", f"{kind} that cover the pixel", cmap="magma")
    figure.supxlabel(data.mask_note, fontsize=8)
    return figure


def box_cover(data: Audited) -> np.ndarray:
    """How many boxes cover each pixel of the padded SIZE x SIZE image: int64."""
    cover = np.zeros((SIZE, SIZE), dtype=np.int64)
    boxes = data.boxes.merge(data.images[["image_id", "width", "height"]], on="image_id").dropna()
    longer = boxes[["width", "height"]].max(axis=1)
    for low, high, side in (("xmin", "xmax", "width"), ("ymin", "ymax", "height")):
        border = (longer - boxes[side]) / 2
        boxes[[low, high]] = boxes[[low, high]].add(border, axis=0).div(longer / SIZE, axis=0).round().clip(0, SIZE)
    for box in boxes[["xmin", "ymin", "xmax", "ymax"]].astype(int).itertuples(index=False):
        cover[box.ymin : box.ymax, box.xmin : box.xmax] += 1
    return cover


def image_size(data: Audited) -> Figure | None:
    """Width against height; per class of several sizes the line height = slope x width, least squares through the origin."""
    table = data.images.dropna(subset="width")
    if table.empty:
        return None
    figure, axis = base_figure.figure(width=5.5, height=4.6)
    shown = {name: table[rows[table.index]] for name, rows in classes(data).items()}
    right = table["width"].max() * 1.05
    for number, ((name, rows), colour) in enumerate(zip(shown.items(), _colours(list(shown)), strict=True)):
        if rows.empty:
            continue
        single = len(rows[["width", "height"]].drop_duplicates()) == 1  # one point has no slope
        label = f"{name}: n = {len(rows)}" if single else None
        points = rows[rows.groupby(["width", "height"]).cumcount() < OPAQUE]
        axis.scatter(points["width"], points["height"], 12, color=colour, alpha=0.5, linewidth=0, label=label)
        if not single:
            slope = float((rows["width"] @ rows["height"]) / (rows["width"] @ rows["width"]))
            dashes = (0, (6, 2 * number)) if number else "-"  # lines that coincide stay visible
            text = f"{name}: height = {slope:.3f} x width, n = {len(rows)}"
            axis.plot([0, right], [0, slope * right], color=colour, linestyle=dashes, label=text)
    sizes = len(table[["width", "height"]].drop_duplicates())
    title = f"{sizes} image sizes" if sizes > 1 else "All images have one size"
    axis.set(title=title, xlabel="width (px)", ylabel="height (px)", xlim=(0, right), ylim=(0, table["height"].max() * 1.05))
    axis.legend(loc="lower right" if len(shown) < 4 else "upper left", fontsize=8)
    return figure


def contact_sheet(data: Audited, name: str, rows: pd.Series, seed: int) -> Figure | None:
    """A sample of one class, different patients as far as there are, with boxes and mask outlines."""
    sample = _sample(data.images[rows & (data.images["image_state"] == "")], seed)
    if sample.empty:
        return None
    rows_drawn = -(-len(sample) // SHEET_COLUMNS)
    figure, axes = base_figure.figure(rows_drawn, SHEET_COLUMNS, width=2.2, height=2.3 + 0.5 / rows_drawn, squeeze=False)
    for axis, (_, image) in zip(axes.flat, sample.iterrows(), strict=False):
        _draw_slice(axis, data, image)
    for axis in axes.flat[len(sample) :]:
        axis.remove()
    figure.suptitle("\n".join([f"{name}: {len(sample)} of {int(rows.sum())} images", *_marks(data, sample)]), fontsize=10)
    return figure


def _marks(data: Audited, sample: pd.DataFrame) -> list[str]:
    """One line that says what the drawn colours mean, or none."""
    boxed, masked = sample["image_id"].isin(data.boxes["image_id"]).any(), (sample["mask_pixels"] > 0).any()
    marks = ["orange: box"] * bool(boxed) + ["light blue: outline of the mask"] * bool(masked)
    return ["; ".join([*marks, data.mask_note]).removesuffix("; ")] if marks else []


def _sample(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One image of each patient in a random order; more of the same patients only when the sheet is not full."""
    shuffled = rows.sample(frac=1, random_state=seed)
    turn = shuffled.groupby("patient").cumcount()
    chosen = shuffled.loc[turn.sort_values(kind="stable").index[: SHEET_ROWS * SHEET_COLUMNS]]
    return chosen.sort_values("image_id")


def _draw_slice(axis: Axes, data: Audited, image: pd.Series) -> None:
    grey = images.read_grey(data.work.raw / image["image"])
    (bottom, right), thin = grey.shape, (slice(None, None, -(-max(grey.shape) // PANEL)),) * 2
    axis.imshow(grey[thin].copy(), cmap="gray", vmin=0, vmax=255, extent=(-0.5, right - 0.5, bottom - 0.5, -0.5))
    mask = pixels.read_mask(data.work.raw / image["mask"], data.mask_value) if image["mask_pixels"] > 0 else None
    if mask and mask.lesion is not None:
        axis.contour(mask.lesion[thin], [0.5], extent=(0, right - 1, 0, bottom - 1), colors=MASK_COLOUR, linewidths=0.7)
    for _, box in data.boxes[data.boxes["image_id"] == image["image_id"]].iterrows():
        corner, sides = (box["xmin"], box["ymin"]), (box["xmax"] - box["xmin"], box["ymax"] - box["ymin"])
        axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=BOX_COLOUR, linewidth=1))
        if len(data.dataset.classes) > 1:
            axis.text(*np.clip(corner, 0, (right, bottom)), box["class"], color=BOX_COLOUR, fontsize=5, va="bottom")
    axis.set_title(image["image_id"] if len(image["image_id"]) <= 24 else f"...{image['image_id'][-22:]}", fontsize=7, pad=2)
    axis.set_axis_off()


def mean_variance(data: Audited, label: int, negative: str, positive: str) -> Figure | None:
    """Mean and variance image of both classes of a label and the difference of the means; images padded to a square."""
    if not (data.count[label] > 0).all():
        return None
    count = data.count[label][:, None, None]
    mean = data.total[label] / count
    variance = data.squares[label] / count - mean**2
    figure, axes = _maps(2, 3)
    bright, wide = mean.max(), variance.max()
    for row, name in enumerate((negative, positive)):
        n = data.count[label, row]
        _map(figure, axes[row, 0], mean[row], f"{name}: mean, n = {n}", "grey value", cmap="gray", vmin=0, vmax=bright)
        _map(figure, axes[row, 1], variance[row], f"{name}: variance", "grey value²", cmap="viridis", vmin=0, vmax=wide)
    change = mean[1] - mean[0]
    limit = max(np.abs(change).max(), 1e-9)
    norm = TwoSlopeNorm(0, -limit, limit)
    _map(figure, axes[0, 2], change, f"mean of {positive}\nminus mean of {negative}", "grey value", cmap="RdBu_r", norm=norm)
    axes[1, 2].remove()
    return figure


def _maps(rows: int, columns: int) -> tuple[Figure, Any]:
    """Panels for square images, each with a colour bar of its own height."""
    figure, axes = base_figure.figure(rows, columns, width=4.2, height=3.6, squeeze=False)
    figure.set_layout_engine("compressed")
    return figure, axes


def _map(figure: Figure, axis: Axes, values: np.ndarray, title: str, unit: str, **shown: Any) -> None:
    """One image with its colour bar; axes in pixels of the padded SIZE x SIZE image."""
    drawn = axis.imshow(values, **shown)
    figure.colorbar(drawn, ax=axis, label=unit)
    axis.set(title=title, xlabel=f"x (px of {SIZE})", ylabel=f"y (px of {SIZE})")
    axis.grid(False)


def _colours(names: list[str]) -> list[Any]:
    """The house palette; what is unknown is grey."""
    return ["0.7" if name == "unknown" else one for name, one in zip(names, itertools.cycle(base_figure.COLOURS))]
