"""From checked predictions of images to metrics.json: thresholds, temperature, metrics with intervals.

All that is chosen (thresholds, temperature) is chosen on a fold's validation images; test is only read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.evaluation import bootstrap, metrics
from hemoct.evaluation.predictions import label_columns

MAX_F1 = "max F1"
POINTS: dict[str, Callable[..., float]] = {
    MAX_F1: metrics.max_f1_threshold,
    **{f"sensitivity >= {target:.2f}": partial(metrics.sensitivity_threshold, target=target) for target in (0.90, 0.95, 0.99)},
    **{f"specificity >= {target:.2f}": partial(metrics.specificity_threshold, target=target) for target in (0.90, 0.95, 0.99)},
}
FIXED = {"0.5": 0.5}
"""operating points that nothing is chosen for"""
REASONS = {
    "precision": "nothing was called positive",
    "recall": "no positive case",
    "specificity": "no negative case",
    "fpr": "no negative case",
    "f1_macro": "a class has no case",
    "f1": "no positive case, and nothing was called positive",
    "balanced_accuracy": "a class has no case",
    "mcc": "a single class in the truth or in the decisions",
    "auroc": "no fold has both positive and negative cases",
    "ap": "no fold has both positive and negative cases",
    "box_precision": "no predicted box at or above the threshold",
    "box_recall": "no true box",
    "box_f1": "no true box, and no predicted one at or above the threshold",
    "map50": "no fold has a true box",
    "froc_mean": "no fold has a true box",
    "lesion_recall": "no lesion",
    "exact_match": "on no image all labels are known",
    "hamming": "no label is known",
    "rsna_logloss": "a label is known on no image",
    "brier": "the label is known on no image",
    "ece": "the label is known on no image",
}


@dataclass(frozen=True)
class Question:
    """What is asked of an image: positive or not (`positive` names the class), or which of several classes (None)."""

    labels: list[str]
    positive: str | None
    probability: bool = field(default=True, compare=False)
    """whether `p` is a probability; a score has no temperature, Brier score or calibration"""

    @property
    def names(self) -> list[str]:
        """Names of the class numbers in `y`; of two classes the positive one is 1."""
        if self.positive is None:
            return self.labels
        others = [label for label in self.labels if label != self.positive] or [f"no {self.positive}"]
        return [*others, self.positive]


def question(labels: list[str]) -> Question:
    """One label is positive or not; of two exclusive classes the one without a name like normal or negative is positive."""
    if len(labels) > 2:
        return Question(labels, None)
    abnormal = [label for label in labels if not label_meaning.NORMAL.fullmatch(label)]
    return Question(labels, (abnormal or labels)[-1])


@dataclass(frozen=True)
class Scored:
    """Images with truth and probability; row i of each is the same image. `of` takes a boolean mask or row numbers."""

    table: pd.DataFrame
    """image_id, patient, fold, part"""
    y: np.ndarray
    """class numbers, int (n,)"""
    p: np.ndarray
    """probability of the positive class (n,), or of each class (n, classes)"""

    def of(self, rows: np.ndarray) -> Scored:
        return Scored(self.table.iloc[rows].reset_index(drop=True), self.y[rows], self.p[rows])


FALLBACK = re.compile(r"[^:]+: validation has (.+)")
"""the rule of a threshold or temperature where a class is missing in validation: nothing was chosen"""


@dataclass(frozen=True)
class Rule:
    """What a fold chose on its validation images."""

    fold: int | str
    points: dict[str, float]
    """threshold of each operating point; empty for several classes"""
    threshold_rule: str
    temperature: float | None
    """None where scores are no probabilities"""
    temperature_rule: str
    decides: str = MAX_F1
    """the operating point by which an image is called positive"""

    @property
    def chosen(self) -> bool:
        """Whether validation could choose; else a 0.5 stands in, which no mean of folds should hold."""
        return not FALLBACK.fullmatch(self.threshold_rule)


@dataclass(frozen=True)
class Evaluation:
    """Test images of one or more folds with the decisions that follow from the rules."""

    question: Question
    test: Scored
    rules: list[Rule]
    unknown: int
    """test images that were left out because their label is unknown"""

    def thresholds(self, point: str | None = None) -> np.ndarray:
        """The threshold of an operating point, by default that which decides, for each test image."""
        chosen = {rule.fold: rule.points[point or rule.decides] for rule in self.rules}
        return self.test.table["fold"].map(chosen).to_numpy(dtype=float)

    @property
    def decision(self) -> np.ndarray:
        """Class numbers (n,): p at or above the fold's threshold, or the most probable class."""
        if self.question.positive is None:
            return self.test.p.argmax(axis=1)
        return (self.test.p >= self.thresholds()).astype(int)

    @property
    def calibrated(self) -> np.ndarray:
        """Probabilities after the temperature scaling of each fold."""
        found = self.test.p.copy()
        for rule in self.rules:
            rows = (self.test.table["fold"] == rule.fold).to_numpy()
            found[rows] = metrics.scaled(found[rows], rule.temperature)
        return found

    def of_fold(self, fold: int | str) -> Evaluation:
        rows = (self.test.table["fold"] == fold).to_numpy()
        return replace(self, test=self.test.of(rows), rules=[rule for rule in self.rules if rule.fold == fold])


def evaluate(frame: pd.DataFrame, asked: Question | None = None, fixed: dict[str, float] = FIXED) -> Evaluation:
    """Choose the rules of each fold on its validation images and apply them to its test images.

    `asked`: by default what the columns of `frame` say. `fixed`: thresholds of the operating points that are not chosen.
    """
    asked = asked or question(label_columns(frame))
    val, _ = scored(frame[frame["part"] == "val"], asked)
    folds = sorted(int(fold) for fold in frame["fold"].unique())
    rules = [choose(asked, fold, val.of((val.table["fold"] == fold).to_numpy()), fixed) for fold in folds]
    return applied(frame, rules, asked)


def applied(frame: pd.DataFrame, rules: list[Rule], asked: Question | None = None) -> Evaluation:
    """The test images of predictions with rules that were chosen before. Stops without any, or when one is tested twice."""
    asked = asked or question(label_columns(frame))
    test, known = scored(frame[frame["part"] == "test"], asked)
    twice = test.table["image_id"].duplicated()
    if twice.any() or test.table.empty:
        problem = f"{test.table['image_id'][twice].iloc[0]} is tested in two folds" if twice.any() else "no labelled test image"
        raise UserError(f"predictions.csv of the folds: {problem}; correct them, or train again without --limit-patients")
    return Evaluation(asked, test, rules, unknown=int((~known).sum()))


def evaluate_external(frame: pd.DataFrame, rules: list[Rule], asked: Question | None = None) -> Evaluation:
    """Mean predictions of the fold models for other data (image_id, patient, y_*, p_*), with frozen mean thresholds.

    The mean is that of the folds that could choose; where none could it is 0.5.
    """
    chosen = [rule for rule in rules if rule.chosen] or rules
    warm = [rule for rule in rules if rule.temperature is not None]
    fitted = [rule for rule in warm if not FALLBACK.fullmatch(rule.temperature_rule)]
    temperatures = [rule.temperature for rule in fitted or warm]
    words = "" if chosen[0].decides == MAX_F1 else f": {chosen[0].threshold_rule}"
    frozen = Rule(
        "mean",
        {point: float(np.mean([rule.points[point] for rule in chosen])) for point in chosen[0].points},
        f"mean of {len(chosen)} fold threshold(s), frozen{words}" if chosen[0].chosen else chosen[0].threshold_rule,
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
        f"geometric mean of {len(temperatures)} fold temperature(s), frozen",
        chosen[0].decides,
    )
    return applied(frame.assign(fold="mean", part="test"), [frozen], asked)


def choose(asked: Question, fold: int, val: Scored, fixed: dict[str, float] = FIXED) -> Rule:
    """Thresholds and temperature from validation; 0.5 and 1 where a class is missing there.

    A 0 is never called positive: a slice in which a detector saw nothing, or that a first stage has ruled out.
    """
    present, why = np.unique(val.y), "validation has a single class"
    if asked.positive is not None:
        why = f"validation has no {'negative' if 1 in present else 'positive'}"
    one_class = len(present) < 2
    if asked.probability:
        fitted = (1.0, f"1: {why}") if one_class else (metrics.temperature(val.y, val.p), "least log loss on val")
    else:
        fitted = (None, "none: a score is no probability")
    if asked.positive is None:
        return Rule(fold, {}, "most probable class", *fitted)
    if one_class:
        return Rule(fold, dict.fromkeys(POINTS, 0.5) | fixed, f"0.5: {why}", *fitted)
    chosen = {name: point(val.y, val.p, above=0.0) for name, point in POINTS.items()}
    return Rule(fold, chosen | fixed, f"{MAX_F1} on val", *fitted)


def scored(frame: pd.DataFrame, asked: Question) -> tuple[Scored, np.ndarray]:
    """The rows with a known label, and which rows of `frame` those are."""
    truth = frame[[f"y_{name}" for name in asked.labels]].to_numpy(dtype=float)
    known = ~np.isnan(truth).any(axis=1)
    table = frame.loc[known, tables.PREDICTION_COLUMNS].reset_index(drop=True)
    p = frame.loc[known, [f"p_{name}" for name in asked.labels]].to_numpy(dtype=float)
    if asked.positive is None:
        return Scored(table, truth[known].argmax(axis=1), p), known
    column = asked.labels.index(asked.positive)
    return Scored(table, truth[known, column].astype(int), p[:, column]), known


def measure(found: Evaluation, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of the test images for weights (R, n): name to values (R,).

    Counts are pooled over the folds, each with its own threshold. AUROC and average precision are computed per fold and
    averaged over the folds that have both classes, for five models have five scales.
    """
    y, p, decision = found.test.y, found.test.p, found.decision
    folds = found.test.table["fold"].to_numpy()
    if found.question.positive is not None:
        values = metrics.of_confusion(metrics.confusion(y, decision, weights))
        values |= _ranking(y, p, folds, weights)
        sure, right = p, y
    else:
        matrix = metrics.confusion(y, decision, weights, classes=len(found.question.labels))
        values = metrics.of_many_classes(matrix)
        for number, name in enumerate(found.question.labels):
            of_class = metrics.of_confusion(metrics.one_versus_rest(matrix, number))
            of_class = {key: of_class[key] for key in ("precision", "recall", "specificity", "f1")}
            of_class |= _ranking((y == number).astype(int), p[:, number], folds, weights)
            values |= {f"{key}_{name}": value for key, value in of_class.items()}
        sure, right = p.max(axis=1), (y == decision).astype(int)
    if found.question.probability:
        calibrated = found.calibrated
        values["brier"] = metrics.brier(y, p, weights)
        values["ece"] = metrics.ece(right, sure, weights)
        values["ece_calibrated"] = metrics.ece(right, calibrated if p.ndim == 1 else calibrated.max(axis=1), weights)
    return values


def _ranking(y: np.ndarray, p: np.ndarray, folds: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    parts = [rows for rows in (folds == fold for fold in np.unique(folds)) if 0 < y[rows].sum() < rows.sum()]
    values = {}
    for name, function in (("auroc", metrics.auroc), ("ap", metrics.average_precision)):
        of_folds = [function(y[rows], p[rows], weights[:, rows]) for rows in parts]
        values[name] = np.mean(of_folds, axis=0) if parts else np.full(len(weights), np.nan)
    return values


def with_intervals(values: dict[str, np.ndarray], resampled: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, int]]:
    """The `metrics` block of metrics.json, and per metric the number of resamples in which it was undefined."""
    block, dropped = {}, {}
    for name, value in values.items():
        block[name], dropped[name] = entry(value[0], resampled[name], reason(name))
    return block, dropped


def entry(value: float, resampled: np.ndarray, why: str) -> tuple[dict[str, Any], int]:
    """`{"value", "ci95", "reason"}`, null with the reason where undefined; and the number of dropped resamples."""
    low, high, dropped = bootstrap.interval(resampled)
    if np.isnan(value):
        return {"value": None, "ci95": None, "reason": why}, dropped
    return {"value": float(value), "ci95": None if np.isnan(low) else [low, high], "reason": None}, dropped


def reason(name: str) -> str:
    """Why a metric can be undefined."""
    return next((why for key, why in REASONS.items() if name == key or name.startswith(f"{key}_")), "no case")


def report(found: Evaluation, about: dict[str, Any], per_patient: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ..."""
    table = found.test.table
    patients, folds = table["patient"].to_numpy(), table["fold"].to_numpy()
    weights = bootstrap.weights(patients, folds, resamples, seed)
    block, dropped = with_intervals(measure(found, metrics.ones(len(table))), measure(found, weights))
    content = {
        **about,
        "labels": found.question.labels,
        "positive": found.question.positive,
        "n": len(table),
        "patients": int(table["patient"].nunique()),
        "positives": int(found.test.y.sum()) if found.question.positive else None,
        "unknown_label_left_out": found.unknown,
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in found.rules)),
        "folds": [_rule_record(rule, int((folds == rule.fold).sum())) for rule in found.rules],
        "metrics": block,
    }
    if found.question.positive is not None:
        content["patient_level"] = patient_level(per_patient, weights[:, np.unique(patients, return_index=True)[1]])
    drawn = "patients within folds" if bootstrap.within_folds(patients, folds) else "patients over all folds at once"
    content["bootstrap"] = {"resamples": len(weights), "seed": seed, "drawn": drawn, "dropped": dropped}
    content["notes"] = _notes(found)
    return content


def _rule_record(rule: Rule, n: int) -> dict[str, Any]:
    shown = {"fold": rule.fold, "threshold": rule.points.get(rule.decides), "threshold_rule": rule.threshold_rule}
    if rule.temperature is not None:
        shown |= {"temperature": rule.temperature, "temperature_rule": rule.temperature_rule}
    return shown | {"n": n}


def _notes(found: Evaluation) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    notes = []
    if found.unknown:
        notes.append(f"{found.unknown} image(s) with an unknown label were left out")
    for rule in found.rules:
        y = found.test.y[(found.test.table["fold"] == rule.fold).to_numpy()]
        if len(np.unique(y)) < len(found.question.names):
            notes.append(f"fold {rule.fold}: a class has no test case, so it is left out of that class's mean AUROC and AP")
    patients = found.test.table["patient"].nunique()
    if patients < 10:
        notes.append(f"{patients} patient(s): the intervals are too narrow, a bootstrap needs more")
    return notes


def patient_level(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, Any]:
    """Patients called positive by any of their slices. `frame`: per_patient.csv; `weights` (R, patients) in its order."""
    bleeding = (frame["positive_slices"] > 0).to_numpy()
    called = ((frame["found"] > 0) | (frame["false_alarms"] > 0)).to_numpy()
    ones = metrics.ones(len(frame))
    of = {
        name: metrics.of_confusion(metrics.confusion(bleeding, called, drawn))
        for name, drawn in (("value", ones), ("ci", weights))
    }
    runs = frame["largest_run_missed"]
    longest = None if runs.isna().all() else int(runs.max())
    return {
        "rule": "a patient is called positive when any slice is",
        "patients_positive": int(bleeding.sum()),
        "patients_found": int((frame["found"] > 0).sum()),
        "patients_negative": int((~bleeding).sum()),
        "patients_all_slices_found": int((bleeding & (frame["missed"] == 0)).sum()),
        "sensitivity": entry(of["value"]["recall"][0], of["ci"]["recall"], "no patient has a positive slice")[0],
        "specificity": entry(of["value"]["specificity"][0], of["ci"]["specificity"], "every patient has a positive slice")[0],
        "largest_run_missed": {
            "value": longest,
            "patient": str(frame["patient"][runs.fillna(0).idxmax()]) if longest else None,
            "reason": "slice numbers are unknown" if longest is None else None,
        },
    }
