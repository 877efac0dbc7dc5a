"""From probability maps of task 3 to numbers: one threshold a fold, metrics of pixels, slices, patients and volumes.

Slices are read one after the other and only their counts are kept. A slice without a mask file is not scored; one with an empty
mask is. The metrics `slice_*` ask of a predicted mask what task 1 asks of an image: has the slice the label?
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices, volumes
from hemoct.evaluation import decisions, thresholds
from hemoct.evaluation import metrics as evaluation_metrics
from hemoct.evaluation.decisions import Question
from hemoct.segmentation import metrics, predictions
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.metrics import Histograms

RULE = "max mean Dice by patient on val, a level 1..255 of the 8-bit probability"
CALLS = ("tp", "fp", "fn", "tn")
OF_SLICES = ("accuracy", "precision", "recall", "specificity", "f1")


@dataclass(frozen=True)
class Rule:
    """What a fold chose on its validation slices."""

    fold: int | str
    """`mean`: of all folds, frozen for other data"""
    threshold: int
    """a pixel is predicted when its 8-bit probability is at least this, 1..255"""
    threshold_rule: str
    curve: np.ndarray
    """mean Dice by patient on validation at each threshold 0..255, float64 (256,); NaN where validation has no true pixel"""


@dataclass(frozen=True)
class Segmentation:
    """Scored test slices of one or more folds: row i of `table` and of `counts` is the same slice."""

    table: pd.DataFrame
    """image_id, patient, fold, part; y (the label: 0, 1, NaN where unknown); factor and unit of a pixel's volume; hd95 and nsd
    (NaN where undefined), distance_unit"""
    counts: np.ndarray
    """pixels at the threshold of the fold, int64 (n, 4): see CALLS"""
    rules: list[Rule]
    pixels: pd.DataFrame
    """slice_pixels.csv: all slices of validation and test, also those without a mask file"""
    question: Question | None
    """what `y` says; None where there is no label that is positive or not"""

    def of_fold(self, fold: int) -> Segmentation:
        rows = (self.table["fold"] == fold).to_numpy()
        return replace(
            self,
            table=self.table[rows].reset_index(drop=True),
            counts=self.counts[rows],
            rules=[rule for rule in self.rules if rule.fold == fold],
            pixels=self.pixels[self.pixels["fold"] == fold],
        )

    @property
    def patients(self) -> np.ndarray:
        return self.table["patient"].to_numpy()

    @property
    def true(self) -> np.ndarray:
        """Pixels of the true mask of each slice."""
        return self.counts[:, 0] + self.counts[:, 2]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted pixels of each slice."""
        return self.counts[:, 0] + self.counts[:, 1]

    @property
    def missing(self) -> int:
        """Test slices that are not scored, for they have no mask file."""
        return int((self.pixels["part"] == "test").sum()) - len(self.table)


# ---- thresholds from validation, counts of test


def evaluate(work: Workspace, experiment: str, frame: pd.DataFrame, data: MaskData) -> Segmentation:
    """Choose the threshold of each fold on its validation slices and apply it to its test slices.

    `frame`: rows of predictions.csv of the folds, checked (hemoct.segmentation.predictions).
    """
    question, about = _about(work, data)
    row_of = pd.Series(np.arange(len(about)), index=about["image_id"])
    rules, scored, counts, pixels = [], [], [], []
    for fold, of_fold in frame.groupby("fold"):
        folder = work.task(3) / experiment / f"fold{fold}"
        val, test = (row_of[of_fold.loc[of_fold["part"] == part, "image_id"]].to_numpy() for part in ("val", "test"))
        counted = Histograms.of(predictions.pairs(work, data, folder, val))
        known = data.known[val]
        rule = choose(int(fold), counted[known], about["patient"].to_numpy()[val[known]])
        found = _test(work, data, folder, test, rule, question, about)
        scored.append(found.table)
        counts.append(found.counts)
        rules.append(rule)
        pixels += [_slice_pixels(data, "val", val, rule, counted.at(rule.threshold)), found.pixels]
    table = pd.concat(scored, ignore_index=True)
    return Segmentation(table, np.concatenate(counts), rules, pd.concat(pixels, ignore_index=True), question)


def evaluate_external(work: Workspace, folder: Path, frame: pd.DataFrame, data: MaskData, rule: Rule) -> Segmentation:
    """Apply a frozen rule (see `frozen`) to the slices of `frame`, of the data set of `work`, whose maps lie in `folder`."""
    question, about = _about(work, data)
    test = np.flatnonzero(about["image_id"].isin(frame["image_id"]))
    return _test(work, data, folder, test, rule, question, about)


def frozen(work: Workspace, experiment: str, models: list[Path]) -> Rule:
    """The mean of the folds' thresholds, for other data. `models`: the fold folders with best.pt. Stops where none was chosen."""
    level, chosen = thresholds.threshold(3, work.task(3) / experiment, models, None, np.nan)
    if np.isnan(level):
        raise UserError(
            f"{experiment} has no threshold to freeze ({chosen}); run: python {experiments.evaluate_step(3)} "
            f"--dataset {work.dataset} --experiment {experiment}"
        )
    return Rule("mean", math.ceil(level), f"{chosen}, frozen", np.full(metrics.LEVELS, np.nan))


def _test(
    work: Workspace, data: MaskData, folder: Path, rows: np.ndarray, rule: Rule, question: Question | None, about: pd.DataFrame
) -> Segmentation:
    """Slices `rows`, predicted by the maps in `folder`, at the threshold of a rule."""
    counts, distances = _measured(work, data, folder, rows, rule.threshold)
    table = pd.concat([about.iloc[rows].reset_index(drop=True).assign(fold=rule.fold, part="test"), distances], axis=1)
    known, pixels = data.known[rows], _slice_pixels(data, "test", rows, rule, counts)
    return Segmentation(table[known].reset_index(drop=True), counts[known], [rule], pixels, question)


def choose(fold: int, counted: Histograms, patients: np.ndarray) -> Rule:
    """The threshold with the highest mean Dice by patient; 128 where validation has no true pixel."""
    threshold, best = metrics.best_threshold(counted, patients)
    rule = f"{threshold} of 255: validation has no true pixel" if np.isnan(best) else RULE
    return Rule(fold, threshold, rule, metrics.dice_curve(counted, patients))


def _about(work: Workspace, data: MaskData) -> tuple[Question | None, pd.DataFrame]:
    """What the label asks, and image_id, patient, y, factor and unit of each slice of `data`."""
    factor, unit = volumes.per_slice(data.table, work.show(work.work / "labels.csv"))
    question, y = _labels(work, data)
    return question, data.table[["image_id", "patient"]].assign(y=y, factor=factor, unit=unit)


def _labels(work: Workspace, data: MaskData) -> tuple[Question | None, np.ndarray]:
    """The label that says whether a slice is positive, and its values, float64 (n,); NaN where unknown."""
    dataset = tables.read_dataset(work)
    label = decisions.question_of(dataset.labels).positive if dataset.exclusive else None
    names, values = slices.choose_targets(data.table, dataset, label)
    if len(names) > 1:  # one of several classes: none of them is the positive one
        return None, np.full(len(values), np.nan)
    return Question(names, names[0]), values[:, 0]


def _measured(work: Workspace, data: MaskData, folder: Path, rows: np.ndarray, threshold: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Pixels of slices at a threshold, int64 (k, 4), and hd95, nsd, distance_unit, in mm where spacing_row and _col are known."""
    from hemoct.segmentation import surface

    spacing = data.table.loc[rows].reindex(columns=volumes.SPACINGS[:2]).apply(pd.to_numeric, errors="coerce").to_numpy(float)
    in_mm = ~np.isnan(spacing).any(axis=1)
    counts, distances = np.zeros((len(rows), len(CALLS)), dtype=np.int64), np.full((len(rows), 2), np.nan)
    for index, (found, mask) in enumerate(predictions.pairs(work, data, folder, rows)):
        predicted = found >= threshold
        tp = np.count_nonzero(predicted & mask)
        fp, fn = np.count_nonzero(predicted) - tp, np.count_nonzero(mask) - tp
        counts[index] = tp, fp, fn, mask.size - tp - fp - fn
        if predicted.any() and mask.any():
            distances[index] = surface.compare(predicted, mask, tuple(spacing[index]) if in_mm[index] else (1.0, 1.0))
        elif predicted.any() or mask.any():
            distances[index, 1] = 0.0
    table = pd.DataFrame(distances, columns=["hd95", "nsd"]).assign(distance_unit=np.where(in_mm, "mm", "px"))
    return counts, table


def _slice_pixels(data: MaskData, part: str, rows: np.ndarray, rule: Rule, counts: np.ndarray) -> pd.DataFrame:
    """slice_pixels.csv of one part: true_px is empty where there is no mask file."""
    true = pd.Series(counts[:, 0] + counts[:, 2], dtype="Int64").where(data.known[rows])
    table = data.table.loc[rows, ["image_id", "patient"]].assign(fold=rule.fold, part=part, threshold=rule.threshold)
    return table.assign(true_px=true.array, predicted_px=counts[:, 0] + counts[:, 1])


# ---- metrics


def of_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Dice, IoU, sensitivity, specificity and precision of pixel counts (..., 4), see CALLS; NaN where undefined."""
    tp, fp, fn, tn = np.moveaxis(counts.astype(float), -1, 0)
    return {
        "dice": metrics.dice(counts),
        "iou": evaluation_metrics.ratio(tp, tp + fp + fn),
        "sensitivity": evaluation_metrics.ratio(tp, tp + fn),
        "specificity": evaluation_metrics.ratio(tn, tn + fp),
        "precision": evaluation_metrics.ratio(tp, tp + fp),
    }


@dataclass(frozen=True)
class Patients:
    """Pixel sums over all scored slices of each patient, in the order of np.unique."""

    names: np.ndarray
    first: np.ndarray
    """a row of each patient in the table of slices"""
    counts: np.ndarray
    true: np.ndarray
    """volume, float64 (patients,), in `unit`"""
    predicted: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, found: Segmentation) -> Patients:
        names, first = np.unique(found.patients, return_index=True)
        factor = found.table["factor"].to_numpy()[first]
        counts = metrics.by_group(found.counts, found.patients)
        true, predicted = (counts[:, 0] + counts[:, 2]) * factor, (counts[:, 0] + counts[:, 1]) * factor
        return cls(names, first, counts, true, predicted, found.table["unit"].to_numpy()[first])


def per_case(found: Segmentation) -> dict[str, np.ndarray]:
    """The numbers of single slices or patients that metrics are means of; NaN where undefined.

    `volume_error` is |predicted - true| / true of a patient's volume, `volume_bias` (predicted - true) / true.
    """
    patients = Patients.of(found)
    dice = metrics.dice(patients.counts)
    bias = evaluation_metrics.ratio(patients.predicted - patients.true, patients.true)
    one_unit = found.table["distance_unit"].nunique() == 1
    return {
        "dice_patient": dice,
        "dice_patient_median": dice,
        "dice_slice": metrics.dice(found.counts),
        "nsd_slice": found.table["nsd"].to_numpy(),
        "hd95_slice": np.where(one_unit, found.table["hd95"], np.nan),
        "volume_error": np.abs(bias),
        "volume_bias": bias,
    }


def measure(found: Segmentation, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for weights (R, n) of the slices, alike for all slices of a patient: name to values (R,), NaN where undefined.

    Pooled pixels: see `of_counts`. Means over slices or patients: see `per_case`. `slice_*`: a slice is called positive when any
    pixel is predicted; the truth is its label.
    """
    of_patients = weights[:, Patients.of(found).first]
    values = of_counts(_weighted(weights, found.counts))
    for name, cases in per_case(found).items():
        mean = weighted_median if name.endswith("_median") else weighted_mean
        values[name] = mean(weights if name.endswith("_slice") else of_patients, cases)
    known, y = known_labels(found)
    of_slices = evaluation_metrics.of_confusion(evaluation_metrics.confusion(y, found.predicted[known] > 0, weights[:, known]))
    return values | {f"slice_{name}": of_slices[name] for name in OF_SLICES}


def known_labels(found: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Which slices have a known label, bool (n,), and the labels of those, int (k,)."""
    y = found.table["y"].to_numpy(dtype=float)
    known = ~np.isnan(y)
    return known, y[known].astype(int)


def _weighted(weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Weighted sums (R, k) of columns (n, k)."""
    return np.concatenate([chunk @ columns for chunk in evaluation_metrics.chunks(weights, weights.shape[1])])


def weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the defined values (n,) for weights (R, n); NaN where all that are defined weigh 0."""
    defined = ~np.isnan(values)
    total, weight = _weighted(weights, np.column_stack([np.where(defined, values, 0.0), defined])).T
    return evaluation_metrics.ratio(total, weight)


def weighted_median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median of the defined values (n,), each as often as its whole weight (R, n) says; NaN where there is none."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted to the end
    if not len(order):
        return np.full(len(weights), np.nan)
    reached = np.cumsum(weights[:, order], axis=1, dtype=int)
    total = reached[:, -1:]
    middle = [values[order][(reached <= place).argmin(axis=1)] for place in ((total - 1) // 2, total // 2)]
    return np.where(total[:, 0] > 0, np.mean(middle, axis=0), np.nan)


def support(found: Segmentation) -> dict[str, tuple[int, str]]:
    """How many cases each metric is made of, and what they are."""
    known, _ = known_labels(found)
    of = {name: (int(found.counts.sum()), "pixels") for name in of_counts(found.counts)}
    for name, cases in per_case(found).items():
        of[name] = (int((~np.isnan(cases)).sum()), "slices" if name.endswith("_slice") else "patients")
    return of | {f"slice_{name}": (int(known.sum()), "slices") for name in OF_SLICES}


def examples(found: Segmentation, count: int) -> pd.DataFrame:
    """The `count` best, median and worst slices with a true mask, by Dice: `kind`, `dice`, `threshold` and found.table's.

    Of equally bad slices the one with the larger true mask comes first. No slice is shown twice.
    """
    threshold = found.table["fold"].map({rule.fold: rule.threshold for rule in found.rules})
    table = found.table.assign(dice=metrics.dice(found.counts), threshold=threshold, true_px=found.true)
    table = table[table["true_px"] > 0].sort_values(["dice", "true_px", "image_id"], ascending=[True, False, True])
    middle = max(0, (len(table) - count) // 2)
    places = {"worst": range(count), "median": range(middle, middle + count), "best": range(len(table) - count, len(table))}
    kinds = {place: kind for kind, of in places.items() for place in of if 0 <= place < len(table)}
    shown = table.iloc[sorted(kinds, reverse=True)]
    return shown.assign(kind=[kinds[place] for place in sorted(kinds, reverse=True)])
