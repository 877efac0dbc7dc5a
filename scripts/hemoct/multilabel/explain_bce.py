"""Binary cross entropy (BCE) of a multi-label output, cell by cell: what a training minimises, in numbers small enough to follow.

A cell is one label of one image: z is its logit, y its truth (0 or 1), p = sigmoid(z) = 1 / (1 + exp(-z)) its probability.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from hemoct.base import tables
from hemoct.base.errors import UserError

CONFIDENT = 0.8  # probability of what is true from which on a cell is called confident
IMAGE_COLUMNS = ("image_id", "image")
LARGEST = 1e6  # no network gives a logit beyond it; sums stay finite
EXAMPLE = '"[[2.0,-1.2,0.5],[-0.5,0.8,1.5]]"'


@dataclass(frozen=True)
class Matrix:
    """Numbers of images (rows) and labels (columns), float64, with the names that their source gives."""

    values: np.ndarray
    labels: list[str] | None = None
    images: list[str] | None = None


def read(logits: str, truths: str, labels: list[str] | None, default_labels: list[str]) -> pd.DataFrame:
    """One row per cell, `image_id, label, logit, truth`, from two JSON lists or CSV files of images x labels.

    `labels` names the columns of a list and picks those of a CSV; without it the names are those of the CSV, else the default.
    Raises UserError where the two do not fit together, a truth is not 0 or 1, or a logit is no finite number.
    """
    score = _matrix("--logits", logits, labels)
    truth = _matrix("--truths", truths, labels or score.labels)
    if score.values.shape != truth.values.shape:
        shapes = (" x ".join(map(str, found.values.shape)) for found in (score, truth))
        raise UserError("--logits is {} and --truths is {} (images x labels); give both the same shape".format(*shapes))
    if score.images and truth.images and score.images != truth.images:
        raise UserError(f"{logits} and {truths} do not name the same images in the same order; sort both by image")
    if not np.isin(truth.values, (0, 1)).all():
        row, column = np.argwhere(~np.isin(truth.values, (0, 1)))[0]
        wrong = f"row {row + 1}, column {column + 1} is {truth.values[row, column]:g}"
        raise UserError(f"--truths: {wrong} where 0 or 1 is allowed; leave out what is not known")
    rows, columns = score.values.shape
    names = labels or score.labels or truth.labels or default_labels
    images = score.images or truth.images or [f"image {number + 1}" for number in range(rows)]
    _check_names("label", names, columns)
    _check_names("image", images, rows)
    cells = {"image_id": np.repeat(images, columns), "label": np.tile(names, rows)}
    return pd.DataFrame(cells | {"logit": score.values.ravel(), "truth": truth.values.ravel().astype(int)})


def _matrix(flag: str, text: str, labels: list[str] | None) -> Matrix:
    found = _of_json(flag, text) if text.lstrip().startswith("[") else _of_csv(flag, Path(text), labels)
    wrong = np.argwhere(~(np.abs(found.values) <= LARGEST))
    if len(wrong):
        row, column = wrong[0] + 1
        raise UserError(f"{flag} {text}: row {row}, column {column} is not a number from -{LARGEST:g} to {LARGEST:g}; correct it")
    return found


def _of_json(flag: str, text: str) -> Matrix:
    """A list of rows; one flat list is one image. What is no number becomes NaN, for the caller to report."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{flag} {text} is not JSON; write it like {EXAMPLE}, in quotes") from None
    rows = content if content and isinstance(content[0], list) else [content]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) > 0 for row in rows):
        raise UserError(f"{flag} {text} is not a list of rows of one length; write it like {EXAMPLE}")
    return Matrix(np.array([[_number(value) for value in row] for row in rows]))


def _number(value: object) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if numeric and abs(value) <= LARGEST else np.nan


def _of_csv(flag: str, path: Path, labels: list[str] | None) -> Matrix:
    """One row per image, one column per label; `image_id` or `image` names the rows. An empty cell or a word becomes NaN."""
    if not path.is_file():
        raise UserError(f"{flag} {path} is neither a CSV file nor a JSON list; write a list like {EXAMPLE}, in quotes")
    frame = tables.read_csv(path, labels or [])
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes cells beyond the header for row names, and shifts the others
        raise UserError(f"{path} has rows with more cells than its header; correct it")
    named = next((name for name in IMAGE_COLUMNS if name in frame.columns), None)
    chosen = labels or [name for name in frame.columns if name not in IMAGE_COLUMNS]
    if not chosen:
        raise UserError(f"{path} has no column of a label; give it one per label")
    values = frame[chosen].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    return Matrix(values, chosen, None if named is None else frame[named].tolist())


def _check_names(kind: str, names: list[str], count: int) -> None:
    if len(names) != count:
        raise UserError(f"{len(names)} {kind} names ({', '.join(names)}) for {count} columns; name them with --labels A,B,...")
    if len(set(names)) != count or "" in names:
        raise UserError(f"the {kind} names {', '.join(names)} are not {count} different words; correct them")


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
    parts = []
    for column, of in (("image_id", "image"), ("label", "label")):
        found = table.groupby(column, sort=False)["bce"].agg(cells="size", mean="mean", sum="sum")
        parts.append(found.rename_axis("name").reset_index().assign(of=of))
    whole = table["bce"].agg(["size", "mean", "sum"])
    parts.append(pd.DataFrame([{"name": "", "cells": len(table), "mean": whole["mean"], "sum": whole["sum"], "of": "all"}]))
    return pd.concat(parts)[["of", "name", "cells", "mean", "sum"]]


def head(table: pd.DataFrame, images: int, labels: int) -> pd.DataFrame:
    """The cells of the first few images and labels: what can be read in a figure or on a screen."""
    first = {"image_id": images, "label": labels}
    return table[np.all([table[name].isin(table[name].unique()[:count]) for name, count in first.items()], axis=0)]


def grid(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column of the cells as images (rows) x labels (columns), in the order of the table."""
    shown = table.pivot(index="image_id", columns="label", values=column)
    return shown.loc[table["image_id"].unique(), table["label"].unique()].rename_axis(index=None, columns=None)
