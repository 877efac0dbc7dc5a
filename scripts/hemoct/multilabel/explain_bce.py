"""Binary cross entropy (BCE) of a multi-label output, cell by cell: what a training minimises, in numbers small enough to follow.

A cell is one label of one image: z is its logit, y its truth (0 or 1), p = sigmoid(z) = 1 / (1 + exp(-z)) its probability.
"""

import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.special import expit

from hemoct.base import figure as base_figure, tables
from hemoct.base.errors import UserError

CONFIDENT = 0.8  # probability of what is true from which on a cell is called confident
IMAGE_COLUMNS = ("image_id", "image")
LARGEST = 1e6  # no network gives a logit beyond it; sums stay finite
EXAMPLE = '"[[2.0,-1.2,0.5],[-0.5,0.8,1.5]]"'
TRUTHS = {1: ("C0", "truth 1: the label is there"), 0: ("C1", "truth 0: it is not")}
MARKERS = "osD^"  # one an image, as many as fit beside each other
COLUMNS = 3  # panels in a row
LEAST_LOGIT = 3.0  # the axis of logits reaches at least so far to both sides
NO_IDEA = float(np.log(2))  # BCE of p = 0.5, whatever the truth
BEHIND = {"color": "white", "alpha": 0.95, "pad": 0.5}  # of a value that may lie on a line
NAME = 8  # characters of an image's name that fit below a bar


def read(logits: str, truths: str, labels: list[str] | None, default_labels: list[str]) -> pd.DataFrame:
    """One row per cell, `image_id, label, logit, truth`, from two JSON lists or CSV files of images x labels.

    `labels` names the columns of a list and picks those of a CSV; without it the names are those of the CSV, else the default.
    Raises UserError where the two do not fit together, a truth is not 0 or 1, or a logit is no finite number.
    """
    score = _matrix("--logits", logits, labels)
    truth = _matrix("--truths", truths, labels or _names(score.columns))
    if score.shape != truth.shape:
        shapes = (" x ".join(map(str, matrix.shape)) for matrix in (score, truth))
        raise UserError("--logits is {} and --truths is {} (images x labels); give both the same shape".format(*shapes))
    images = _names(score.index) or _names(truth.index) or [f"image {number + 1}" for number in range(len(score))]
    if images != (_names(truth.index) or images):
        raise UserError(f"{logits} and {truths} do not name the same images in the same order; sort both by image")
    for row, column in np.argwhere(~truth.isin([0, 1]).to_numpy()):
        wrong = f"row {row + 1}, column {column + 1} is {truth.iloc[row, column]:g}"
        raise UserError(f"--truths: {wrong} where 0 or 1 is allowed; leave out what is not known")
    labels = labels or _names(score.columns) or _names(truth.columns) or default_labels
    if len(labels) != score.shape[1]:
        wrong = f"{len(labels)} label names ({', '.join(labels)}) for {score.shape[1]} columns"
        raise UserError(f"{wrong}; name them with --labels A,B,...")
    for kind, names in (("label", labels), ("image", images)):
        if len(set(names)) != len(names) or "" in names:
            raise UserError(f"the {kind} names {', '.join(names)} are not {len(names)} different words; correct them")
    cells = {"image_id": np.repeat(images, len(labels)), "label": np.tile(labels, len(images))}
    return pd.DataFrame(cells | {"logit": score.to_numpy().ravel(), "truth": truth.to_numpy().ravel().astype(int)})


def _names(axis: pd.Index) -> list[str] | None:
    """What a source calls its rows or columns; None where it only counts them."""
    return None if isinstance(axis, pd.RangeIndex) else axis.tolist()


def _matrix(flag: str, text: str, labels: list[str] | None) -> pd.DataFrame:
    """Numbers of images (rows) and labels (columns), float64, with the names that their source gives."""
    matrix = _of_json(flag, text) if text.lstrip().startswith("[") else _of_csv(flag, Path(text), labels)
    for row, column in np.argwhere(~(matrix.abs() <= LARGEST).to_numpy()) + 1:
        raise UserError(f"{flag} {text}: row {row}, column {column} is not a number from -{LARGEST:g} to {LARGEST:g}; correct it")
    return matrix


def _of_json(flag: str, text: str) -> pd.DataFrame:
    """A list of rows; one flat list is one image. What is no number becomes NaN, for the caller to report."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{flag} {text} is not JSON; write it like {EXAMPLE}, in quotes") from None
    rows = content if content and isinstance(content[0], list) else [content]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) > 0 for row in rows):
        raise UserError(f"{flag} {text} is not a list of rows of one length; write it like {EXAMPLE}")
    return pd.DataFrame([[_number(value) for value in row] for row in rows])


def _number(value: object) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if numeric and abs(value) <= LARGEST else np.nan


def _of_csv(flag: str, path: Path, labels: list[str] | None) -> pd.DataFrame:
    """One row per image, one column per label; `image_id` or `image` names the rows. An empty cell or a word becomes NaN."""
    if not path.is_file():
        raise UserError(f"{flag} {path} is neither a CSV file nor a JSON list; write a list like {EXAMPLE}, in quotes")
    frame = tables.read_csv(path, labels or [], numbers=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes cells beyond the header for row names, and shifts the others
        raise UserError(f"{path} has rows with more cells than its header; correct it")
    named = [name for name in IMAGE_COLUMNS if name in frame.columns][:1]
    chosen = labels or [name for name in frame.columns if name not in IMAGE_COLUMNS]
    if not chosen:
        raise UserError(f"{path} has no column of a label; give it one per label")
    frame = frame.set_index(named[0]) if named else frame
    return frame[chosen].apply(pd.to_numeric, errors="coerce").astype(float)


def losses(logits: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """BCE of each cell, -log p where the truth is 1 and -log(1 - p) where it is 0; float64, any shape, natural logarithm.

    Computed as max(z, 0) - z y + log(1 + exp(-|z|)), which is the same but neither overflows nor takes the logarithm of 0
    (derived in TensorFlow's documentation of `sigmoid_cross_entropy_with_logits`; PyTorch's `BCEWithLogitsLoss` likewise).
    """
    z, y = np.asarray(logits, dtype=float), np.asarray(truths, dtype=float)
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))


def explain(cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` (see `read`) with `probability`, `bce` and `verdict`, a word on how the probability fits the truth."""
    probability = expit(cells["logit"])
    of_truth = expit(np.where(cells["truth"] == 1, cells["logit"], -cells["logit"]))
    verdict = np.select(
        [of_truth >= CONFIDENT, of_truth > 0.5, of_truth == 0.5, of_truth > 1 - CONFIDENT],
        ["confident and right", "right but unsure", "undecided", "wrong but unsure"],
        "confident and wrong",
    )
    return cells.assign(probability=probability, bce=losses(cells["logit"], cells["truth"]), verdict=verdict)


def sums(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sum of BCE: `of` (an image, a label or all), `name, cells, mean, sum`. The mean of all is what a training sees."""
    groups = {"image": table["image_id"], "label": table["label"], "all": np.full(len(table), "")}
    sums = {of: table.groupby(names, sort=False)["bce"].agg(cells="size", mean="mean", sum="sum") for of, names in groups.items()}
    return pd.concat(sums, names=["of", "name"]).reset_index()


def head(table: pd.DataFrame, images: int, labels: int) -> pd.DataFrame:
    """The cells of the first few images and labels: what can be read in a figure or on a screen."""
    first = {"image_id": images, "label": labels}
    return table[np.all([table[name].isin(table[name].unique()[:count]) for name, count in first.items()], axis=0)]


def grid(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column of the cells as images (rows) x labels (columns), in the order of the table."""
    shown = table.pivot(index="image_id", columns="label", values=column)
    return shown.loc[table["image_id"].unique(), table["label"].unique()].rename_axis(index=None, columns=None)


# ---- figures: a panel for each label; blue is a label that is there, orange one that is not


def curves(table: pd.DataFrame, heading: str) -> Figure:
    """The sigmoid with the cells on it and the distance of each to its truth; below, the two curves of the loss with the cells.

    `table`: see `explain`, of no more images than there are markers.
    """
    labels = table["label"].unique()
    marks = dict(zip(table["image_id"].unique(), MARKERS, strict=False))
    reach = max(LEAST_LOGIT, 1.4 * table["logit"].abs().max())  # room for a value right of the last cell
    columns = min(COLUMNS, len(labels))
    figure, axes = base_figure.figure(2 * -(-len(labels) // columns), columns, 3.5, 2.7, heading, squeeze=False)
    pairs = list(axes.reshape(-1, 2, columns).swapaxes(1, 2).reshape(-1, 2))
    for (above, below), label in zip(pairs, labels, strict=False):
        above.set(title=label, xlim=(-reach, reach), ylim=(-0.16, 1.06), yticks=np.linspace(0, 1, 5))
        below.set(xlabel="logit z", xlim=(-reach, reach), ylim=(-0.16 * reach, 1.06 * reach))
        of_label = table[table["label"] == label]
        _lines(above, below, of_label, np.linspace(-reach, reach, 301))
        _points(above, of_label, marks, "probability")
        _points(below, of_label, marks, "bce")
    for above, below in pairs[::columns]:
        above.set(ylabel="p = sigmoid(z)")
        below.set(ylabel="BCE")
    for axis in (axis for pair in pairs[len(labels) :] for axis in pair):
        axis.axis("off")
    images = [Line2D([], [], linestyle="none", marker=mark, color="0.35", markersize=7, label=name)
              for name, mark in marks.items()]  # fmt: skip
    return _with_legend(figure, [*images, Line2D([], [], color="0.35", linestyle="--", label="|p - truth|")])


def _lines(above: Axes, below: Axes, cells: pd.DataFrame, z: np.ndarray) -> None:
    """The curves, and the distance of each cell's probability to its truth."""
    above.plot(z, expit(z), color="0.6", zorder=1)
    above.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
    for cell in cells.itertuples():
        above.plot([cell.logit] * 2, [cell.probability, cell.truth], "--", color=TRUTHS[cell.truth][0], linewidth=1.2, zorder=2)
    for truth, (colour, _) in TRUTHS.items():
        below.plot(z, losses(z, np.full(len(z), truth)), color=colour, alpha=0.6, linewidth=1.5, zorder=1)


def _points(axis: Axes, cells: pd.DataFrame, marks: dict[str, str], column: str) -> None:
    """The cells of one label on their curve; right of each its value, unless that would lie on one that stands already."""
    wide, high = (np.ptp(limits) for limits in (axis.get_xlim(), axis.get_ylim()))
    standing: list[tuple[float, float]] = []
    for cell in cells.sort_values("logit").itertuples():
        value, colour = getattr(cell, column), TRUTHS[cell.truth][0]
        falling = column == "bce" and cell.truth == 1  # the curve is below right; the value goes above
        axis.plot(cell.logit, value, marks[cell.image_id], color=colour, markersize=8, markeredgecolor="white", zorder=3)
        place = cell.logit / wide, value / high + (0.09 if falling else -0.09)
        if all(abs(place[0] - x) > 0.15 or abs(place[1] - y) > 0.09 for x, y in standing):
            axis.annotate(f"{value:.2f}", (cell.logit, value), (8, 4 if falling else -4), textcoords="offset points",
                          fontsize=8.5, va="bottom" if falling else "top", bbox=BEHIND, zorder=2.5)  # fmt: skip
            standing.append(place)


def bars(table: pd.DataFrame, mean: float, heading: str) -> Figure:
    """BCE of each image, a panel for each label, over truth, probability and verdict; `mean` is that of all cells."""
    labels, images = table["label"].unique(), table["image_id"].unique()
    columns, width = min(COLUMNS, len(labels)), max(2.6, 0.75 * len(images) + 0.5)
    figure, axes = base_figure.figure(-(-len(labels) // columns), columns, width, 3.6, heading, squeeze=False, sharey=True)
    for axis, label in zip(axes.flat, labels, strict=False):
        of_label = table[table["label"] == label]
        places, colours = np.arange(len(of_label)), [TRUTHS[truth][0] for truth in of_label["truth"]]
        drawn = axis.bar(places, of_label["bce"], width=0.6, color=colours, zorder=2)
        axis.bar_label(drawn, fmt="%.2f", fontsize=8.5, padding=2, bbox=BEHIND)
        axis.axhline(mean, color="0.2", linestyle="--", linewidth=1.2, zorder=1)
        axis.axhline(NO_IDEA, color="0.5", linestyle=":", linewidth=1.2, zorder=1)
        axis.set_xticks(places, [_below(cell) for cell in of_label.itertuples()], fontsize=8)
        axis.set(title=label, xlim=(-0.6, len(of_label) - 0.4))
        axis.grid(False, axis="x")
    for axis in axes.flat[len(labels) :]:
        axis.axis("off")
    axes[0, 0].set(ylim=(0, 1.15 * max(table["bce"].max(), NO_IDEA)))
    for axis in axes[:, 0]:
        axis.set(ylabel="BCE")
    lines = [("--", "0.2", f"mean of all cells: {mean:.2f}"), (":", "0.5", f"p = 0.5, no idea: ln 2 = {NO_IDEA:.2f}")]
    return _with_legend(figure, [Line2D([], [], linestyle=style, color=grey, label=text) for style, grey, text in lines])


def _below(cell: tuple) -> str:
    name = cell.image_id if len(cell.image_id) <= NAME else f"…{cell.image_id[1 - NAME :]}"
    return f"{name}\ntruth {cell.truth}\np = {cell.probability:.2f}\n{textwrap.fill(cell.verdict, 10)}"


def _with_legend(figure: Figure, handles: list[Line2D]) -> Figure:
    """The figure with a legend of the two truths and the `handles`."""
    handles = [*(Patch(color=colour, label=text) for colour, text in TRUTHS.values()), *handles]
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 2.1)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
    return figure
