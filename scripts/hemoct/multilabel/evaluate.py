"""From predictions of several labels to metrics.json: a threshold for each label and fold, metrics with intervals.

Each label is a question of its own (evaluation.decisions), asked of the images on which it is known. Thresholds come from a
fold's validation images, or from the probabilities of its training images; test is only read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.data.slices import ANY
from hemoct.evaluation import bootstrap, decisions, metrics, scores
from hemoct.evaluation.decisions import Evaluation, Question
from hemoct.evaluation.predictions import label_columns
from hemoct.evaluation.subjects import Subject
from hemoct.evaluation.thresholds import Rule
from hemoct.multilabel import predictions
from hemoct.multilabel.options import TRAIN, VAL, quantile

ANY_COUNTS = 2
"""how often `any` counts in the log loss of the RSNA Intracranial Hemorrhage Detection challenge (2019); a type counts once"""
FEW = 20
"""positive images, or patients, below which a note says that a label's numbers are uncertain"""


@dataclass(frozen=True)
class MultiLabel:
    """Test images of one or more folds, and for each label the decisions that follow from its rules."""

    table: pd.DataFrame
    """image_id, patient, fold, part"""
    truth: np.ndarray
    """float (n, labels): 0, 1, NaN where unknown"""
    p: np.ndarray
    """float (n, labels)"""
    by_label: dict[str, Evaluation]
    """each label on the images where it is known"""

    @property
    def labels(self) -> list[str]:
        return list(self.by_label)

    @property
    def known(self) -> np.ndarray:
        return ~np.isnan(self.truth)

    @cached_property
    def called(self) -> np.ndarray:
        """bool (n, labels), also where the truth is unknown."""
        by_fold = [{rule.fold: rule.points[rule.decides] for rule in label.rules} for label in self.by_label.values()]
        return self.p >= np.column_stack([self.table["fold"].map(chosen).to_numpy(dtype=float) for chosen in by_fold])

    def of(self, rows: np.ndarray) -> MultiLabel:
        """The same on some of its images: a boolean mask or row numbers."""
        numbers = np.arange(len(self.table))[rows]
        by_label = {}
        for place, (name, label) in enumerate(self.by_label.items()):
            among_known = np.cumsum(self.known[:, place]) - 1
            by_label[name] = replace(label, test=label.test.of(among_known[numbers[self.known[numbers, place]]]))
        return MultiLabel(self.table.iloc[numbers].reset_index(drop=True), self.truth[numbers], self.p[numbers], by_label)

    def of_fold(self, fold: int) -> MultiLabel:
        chosen = self.of((self.table["fold"] == fold).to_numpy())
        by_label = {
            name: replace(label, rules=[rule for rule in label.rules if rule.fold == fold])
            for name, label in chosen.by_label.items()
        }
        return replace(chosen, by_label=by_label)


# ---- thresholds


def at_quantile(rule: Rule, probabilities: pd.Series, share: float, words: str) -> Rule:
    """The rule of a fold with a quantile of `probabilities` as the threshold that decides; `words` name it."""
    points = rule.points | {words: float(probabilities.quantile(share))}
    return replace(rule, points=points, threshold_rule=words, decides=words, lacks="")


def decide(subject: Subject, threshold_from: str) -> tuple[MultiLabel, str]:
    """What an experiment says of its test images, or of other data with frozen thresholds; and the protocol, see PROTOCOLS."""
    frame, protocol = predictions.read(subject.work, subject.experiment, subject.own_limit)
    training = None if threshold_from == VAL else predictions.read_training(subject.work, subject.folders)
    evaluation = evaluate(frame, threshold_from, training)
    if not subject.on_other_data:
        return evaluation, protocol
    return evaluate_external(predictions.read_external(subject, evaluation.labels), evaluation), "external"


def evaluate(frame: pd.DataFrame, threshold_from: str = VAL, training: pd.DataFrame | None = None) -> MultiLabel:
    """Choose the rules of each label and fold, and apply them to the test images.

    `threshold_from`: see options.threshold_source; a quantile is that of `training`, predictions of the training images of each
    fold. Temperatures are always chosen on validation. Stops without test images, or when one is tested in two folds.
    """
    test = frame[frame["part"] == "test"].reset_index(drop=True)
    twice = test["image_id"].duplicated()
    if twice.any() or test.empty:
        problem = f"{test['image_id'][twice].iloc[0]} is tested in two folds" if twice.any() else "no test image"
        raise UserError(f"predictions.csv of the folds: {problem}; correct them, or train again without --limit-patients")
    folds, rules = sorted(int(fold) for fold in frame["fold"].unique()), {}
    for name in label_columns(frame):
        question = Question([name], name)
        val, _ = decisions.scored(frame[frame["part"] == VAL], question)
        rules[name] = [decisions.choose(question, fold, val.of((val.table["fold"] == fold).to_numpy())) for fold in folds]
        if threshold_from != VAL:
            share = quantile(threshold_from.removeprefix(TRAIN))
            rules[name] = [
                at_quantile(rule, training.loc[training["fold"] == rule.fold, f"p_{name}"], share,
                            f"{share:.0%} quantile of training probabilities") for rule in rules[name]
            ]  # fmt: skip
    return applied(test, rules)


def evaluate_external(frame: pd.DataFrame, own: MultiLabel) -> MultiLabel:
    """Mean predictions on other data (predictions.read_external), with the mean of each label's thresholds in `own`, frozen.

    Labels that the other data do not know are left out.
    """
    frame = frame.assign(fold="mean", part="test").reset_index(drop=True)
    labels = {name: own.by_label[name] for name in label_columns(frame)}
    frozen = {name: decisions.evaluate_external(frame, label.rules, label.question) for name, label in labels.items()}
    return applied(frame, {name: evaluation.rules for name, evaluation in frozen.items()})


def applied(frame: pd.DataFrame, rules: dict[str, list[Rule]]) -> MultiLabel:
    """Test predictions with the rules of each label that were chosen before."""
    by_label = {}
    for name, of_label in rules.items():
        question = Question([name], name)
        test, known = decisions.scored(frame, question)
        by_label[name] = Evaluation(question, test, of_label, unknown=int((~known).sum()))
    truth, p = (frame[[f"{kind}_{name}" for name in rules]].to_numpy(dtype=float) for kind in "yp")
    return MultiLabel(frame[tables.PREDICTION_COLUMNS], truth, p, by_label)


# ---- metrics


def measure(evaluation: MultiLabel, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of the test images for weights (R, n): name to values (R,), those over all labels first.

    `f1_micro` pools the known cells of all labels, `f1_macro` is the mean of the labels' F1 (NaN where one has no positive),
    `exact_match` the share of images on which every label is right (of those with all labels known), `hamming` the share of
    known cells that are wrong.
    """
    of_labels, matrices = {}, []
    for place, (name, label) in enumerate(evaluation.by_label.items()):
        of_known = weights if evaluation.known[:, place].all() else weights[:, evaluation.known[:, place]]
        matrices.append(metrics.confusion(label.test.y, label.decision, of_known))
        of_labels |= {f"{key}_{name}": values for key, values in scores.measure(label, of_known).items()}
    pooled = np.sum(matrices, axis=0)
    wrong = pooled[:, 0, 1] + pooled[:, 1, 0]
    return {
        "f1_macro": np.mean([_f1_with_positives(of_labels, name) for name in evaluation.labels], axis=0),
        "f1_micro": metrics.of_confusion(pooled)["f1"],
        "exact_match": exact_match(evaluation, weights),
        "hamming": metrics.ratio(wrong, pooled.sum(axis=(1, 2))),
        "rsna_logloss": rsna_logloss(evaluation, weights),
        **of_labels,
    }


def _f1_with_positives(of_labels: dict[str, np.ndarray], name: str) -> np.ndarray:
    """F1 of a label, NaN without a positive: there a single false alarm would turn no number into 0."""
    return np.where(np.isnan(of_labels[f"recall_{name}"]), np.nan, of_labels[f"f1_{name}"])


def exact_match(evaluation: MultiLabel, weights: np.ndarray) -> np.ndarray:
    """The share of images, of those with all labels known, on which every label is called as it is; (R,)."""
    whole = evaluation.known.all(axis=1)
    right = (evaluation.called == (evaluation.truth == 1)).all(axis=1)
    parts = [metrics.ratio(chunk[:, whole & right].sum(axis=1), chunk[:, whole].sum(axis=1))
             for chunk in metrics.chunks(weights, len(whole))]  # fmt: skip
    return np.concatenate(parts)


def rsna_logloss(evaluation: MultiLabel, weights: np.ndarray) -> np.ndarray:
    """The weighted multi-label log loss of the RSNA 2019 challenge: mean over images, then over labels, `any` counting twice.

    Without a label `any` all count alike. NaN where a label is known on no image; (R,).
    """
    p = np.clip(evaluation.p, metrics.SMALLEST, 1 - metrics.SMALLEST)
    loss = np.where(evaluation.known, -np.log(np.where(evaluation.truth == 1, p, 1 - p)), 0.0)
    counts = np.array([ANY_COUNTS if name == ANY else 1 for name in evaluation.labels])
    parts = [metrics.ratio(chunk @ loss, chunk @ evaluation.known) @ counts / counts.sum()
             for chunk in metrics.chunks(weights, len(loss))]  # fmt: skip
    return np.concatenate(parts)


def report(evaluation: MultiLabel, about: dict[str, Any], resamples: int, seed: int, cases: str = "images") -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ...; `cases`: what is counted."""
    patients, folds = (evaluation.table[name].to_numpy() for name in ("patient", "fold"))
    weights = bootstrap.weights(patients, folds, resamples, seed)
    block, dropped = scores.with_intervals(measure(evaluation, metrics.ones(len(folds))), measure(evaluation, weights))
    drawn = "patients within folds" if bootstrap.within_folds(patients, folds) else "patients over all folds at once"
    rules = [rule for label in evaluation.by_label.values() for rule in label.rules]
    return {
        **about,
        "labels": evaluation.labels,
        "positive": None,
        "cases": cases,
        "n": len(folds),
        "patients": len(np.unique(patients)),
        "positives": None,
        "positives_by_label": {name: int(label.test.y.sum()) for name, label in evaluation.by_label.items()},
        "positive_patients_by_label": {name: _positive_patients(label) for name, label in evaluation.by_label.items()},
        "unknown_by_label": {name: label.unknown for name, label in evaluation.by_label.items()},
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in rules)),
        "folds": [_fold_record(evaluation, fold) for fold in dict.fromkeys(rule.fold for rule in rules)],
        "metrics": block,
        "bootstrap": {"resamples": len(weights), "seed": seed, "drawn": drawn, "dropped": dropped},
        "notes": _notes(evaluation),
    }


def _positive_patients(label: Evaluation) -> int:
    return int(label.test.table["patient"][label.test.y == 1].nunique())


def _fold_record(evaluation: MultiLabel, fold: int | str) -> dict[str, Any]:
    rules = {name: next(rule for rule in label.rules if rule.fold == fold) for name, label in evaluation.by_label.items()}
    return {
        "fold": fold,
        "thresholds": {name: rule.points[rule.decides] for name, rule in rules.items()},
        "threshold_rules": {name: rule.threshold_rule for name, rule in rules.items()},
        "lacks": {name: rule.lacks for name, rule in rules.items() if rule.lacks},
        "temperatures": {name: rule.temperature for name, rule in rules.items()},
        "n": int((evaluation.table["fold"] == fold).sum()),
    }


def _notes(evaluation: MultiLabel) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    notes = []
    for name, label in evaluation.by_label.items():
        y, fold, positives, patients = label.test.y, label.test.table["fold"], label.test.y.sum(), _positive_patients(label)
        if min(positives, patients) < FEW:
            notes.append(f"{name}: {positives} positive images of {patients} patients, too few to rank methods by")
        single = [str(rule.fold) for rule in label.rules if len(np.unique(y[fold == rule.fold])) < 2]
        if single:
            notes.append(
                f"{name}: a single class in the test images of fold {', '.join(single)}, left out of its mean AUROC and AP"
            )
        if label.unknown:
            notes.append(f"{name}: unknown on {label.unknown} images, which are left out of its numbers")
    images = evaluation.table["patient"].value_counts()
    if images.iloc[0] > len(evaluation.table) / 3:
        notes.append(
            f"patient {images.index[0]} has {images.iloc[0]} of {len(evaluation.table)} images: the intervals are too narrow"
        )
    if len(images) < 10:
        notes.append(f"{len(images)} patient(s): the intervals are too narrow, a bootstrap needs more")
    return notes
