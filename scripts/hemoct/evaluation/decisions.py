"""From checked predictions of images to decisions: what is asked, the rules that each fold chose, the test images with both.

All that is chosen (thresholds, temperature) is chosen on a fold's validation images; test is only read.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pandas as pd

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.evaluation import metrics
from hemoct.evaluation.predictions import label_columns
from hemoct.evaluation.thresholds import EXPECTED_F1, FIXED, MAX_F1, POINTS, Rule


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


def question_of(labels: list[str]) -> Question:
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

    def of(self, rows: np.ndarray) -> Self:
        return Scored(self.table.iloc[rows].reset_index(drop=True), self.y[rows], self.p[rows])


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
        scaled = self.test.p.copy()
        for rule in self.rules:
            rows = (self.test.table["fold"] == rule.fold).to_numpy()
            scaled[rows] = metrics.scaled(scaled[rows], rule.temperature)
        return scaled

    def of_fold(self, fold: int | str) -> Self:
        rows = (self.test.table["fold"] == fold).to_numpy()
        return replace(self, test=self.test.of(rows), rules=[rule for rule in self.rules if rule.fold == fold])


def evaluate(
    frame: pd.DataFrame, question: Question | None = None, fixed: dict[str, float] = FIXED, decides: str = MAX_F1
) -> Evaluation:
    """Choose the rules of each fold on its validation images and apply them to its test images.

    `question`: by default what the columns of `frame` say. `fixed`: thresholds of the operating points that are not chosen.
    `decides`: one of thresholds.DECIDING.
    """
    question = question or question_of(label_columns(frame))
    val, _ = scored(frame[frame["part"] == "val"], question)
    folds = sorted(int(fold) for fold in frame["fold"].unique())
    rules = [choose(question, fold, val.of((val.table["fold"] == fold).to_numpy()), fixed, decides) for fold in folds]
    return applied(frame, rules, question)


def applied(frame: pd.DataFrame, rules: list[Rule], question: Question | None = None) -> Evaluation:
    """The test images of predictions with rules that were chosen before. Stops without any, or when one is tested twice."""
    question = question or question_of(label_columns(frame))
    test, known = scored(frame[frame["part"] == "test"], question)
    twice = test.table["image_id"].duplicated()
    if twice.any() or test.table.empty:
        problem = f"{test.table['image_id'][twice].iloc[0]} is tested in two folds" if twice.any() else "no labelled test image"
        raise UserError(f"predictions.csv of the folds: {problem}; correct them, or train again without --limit-patients")
    return Evaluation(question, test, rules, unknown=int((~known).sum()))


def evaluate_external(frame: pd.DataFrame, rules: list[Rule], question: Question | None = None) -> Evaluation:
    """Mean predictions of the fold models for other data (image_id, patient, y_*, p_*), with frozen mean thresholds.

    The mean is that of the folds that could choose; where none could it is 0.5.
    """
    chosen = [rule for rule in rules if rule.chosen] or rules
    warm = [rule for rule in rules if rule.temperature is not None]
    fitted = [rule for rule in warm if rule.fitted]
    temperatures = [rule.temperature for rule in fitted or warm]
    words = "" if chosen[0].decides == MAX_F1 else f": {chosen[0].threshold_rule}"
    frozen = Rule(
        "mean",
        {point: float(np.mean([rule.points[point] for rule in chosen])) for point in chosen[0].points},
        f"mean of {len(chosen)} fold threshold(s), frozen{words}" if chosen[0].chosen else chosen[0].threshold_rule,
        float(np.exp(np.mean(np.log(temperatures)))) if temperatures else None,
        f"geometric mean of {len(temperatures)} fold temperature(s), frozen",
        chosen[0].decides,
        chosen[0].lacks,
        bool(fitted),
    )
    return applied(frame.assign(fold="mean", part="test"), [frozen], question)


def choose(question: Question, fold: int, val: Scored, fixed: dict[str, float] = FIXED, decides: str = MAX_F1) -> Rule:
    """Thresholds and temperature from validation; 0.5 and 1 where a class is missing there.

    A 0 is never called positive: a slice in which a detector saw nothing, or that a first stage has ruled out.
    """
    present, lacks = np.unique(val.y), "a single class"
    if question.positive is not None:
        lacks = f"no {'negative' if 1 in present else 'positive'}"
    both = len(present) > 1
    temperature = (None, "none: a score is no probability")
    if question.probability:
        temperature = (1.0, f"1: validation has {lacks}")
    if question.probability and both:
        temperature = (metrics.temperature(val.y, val.p), "least log loss on val")
    rule = Rule(fold, {}, "most probable class", *temperature, decides=decides, fitted=both)
    if question.positive is None:
        return rule
    if not both:
        words = f"0.5: validation has {lacks}"
        return replace(rule, points=dict.fromkeys([*POINTS, decides], 0.5) | fixed, threshold_rule=words, lacks=lacks)
    points = {name: point(val.y, val.p, above=0.0) for name, point in POINTS.items()}
    if decides == EXPECTED_F1:
        points = {decides: metrics.expected_f1_threshold(val.y, val.p, rule.temperature)} | points
    return replace(rule, points=points | fixed, threshold_rule=f"{decides} on val")


def scored(frame: pd.DataFrame, question: Question) -> tuple[Scored, np.ndarray]:
    """The rows with a known label, and which rows of `frame` those are."""
    truth = frame[[f"y_{name}" for name in question.labels]].to_numpy(dtype=float)
    known = ~np.isnan(truth).any(axis=1)
    table = frame.loc[known, tables.PREDICTION_COLUMNS].reset_index(drop=True)
    p = frame.loc[known, [f"p_{name}" for name in question.labels]].to_numpy(dtype=float)
    if question.positive is None:
        return Scored(table, truth[known].argmax(axis=1), p), known
    column = question.labels.index(question.positive)
    return Scored(table, truth[known, column].astype(int), p[:, column]), known
