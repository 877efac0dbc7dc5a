"""From predictions of several labels to metrics.json: a threshold for each label and fold, metrics with intervals.

Each label is a question of its own (evaluation.decisions), asked of the images on which it is known. Thresholds come from a
fold's validation images, or from the probabilities of its training images; test is only read.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.evaluation import bootstrap, decisions, metrics, protocol, scores
from hemoct.evaluation.decisions import Evaluation, Question, Scored
from hemoct.evaluation.predictions import label_columns
from hemoct.evaluation.subjects import Subject
from hemoct.evaluation.thresholds import Rule
from hemoct.multilabel import predictions, working_set
from hemoct.multilabel.options import VAL, quantile

ANY_COUNTS = 2
"""how often `any` counts in the log loss of the RSNA Intracranial Hemorrhage Detection challenge (2019); a type counts once"""
FEW = 20
"""positive images, or patients, below which a note says that a label's numbers are uncertain"""


@dataclass(frozen=True)
class MultiLabel:
    """Test images of one or more folds, and what the folds chose for each label."""

    table: pd.DataFrame
    """image_id, patient, fold, part"""
    truth: np.ndarray
    """float (n, labels): 0, 1, NaN where unknown"""
    p: np.ndarray
    """float (n, labels)"""
    rules: dict[str, list[Rule]]
    """the rules of each label"""

    @property
    def labels(self) -> list[str]:
        return list(self.rules)

    @property
    def known(self) -> np.ndarray:
        return ~np.isnan(self.truth)

    @cached_property
    def by_label(self) -> dict[str, Evaluation]:
        """Each label on the images where it is known."""
        by_label = {}
        for (name, rules), known, truth, p in zip(self.rules.items(), self.known.T, self.truth.T, self.p.T, strict=True):
            test = Scored(self.table[known].reset_index(drop=True), truth[known].astype(int), p[known])
            by_label[name] = Evaluation(Question([name], name), test, rules, unknown=int((~known).sum()))
        return by_label

    @cached_property
    def called(self) -> np.ndarray:
        """bool (n, labels), also where the truth is unknown."""
        by_fold = [{rule.fold: rule.points[rule.decides] for rule in rules} for rules in self.rules.values()]
        return self.p >= np.column_stack([self.table["fold"].map(chosen).to_numpy(dtype=float) for chosen in by_fold])

    def together(self) -> tuple[np.ndarray, np.ndarray]:
        """How many images show two labels, and on how many both are called, of those with all labels known: (labels, labels)."""
        whole = self.known.all(axis=1)
        return working_set.cooccurrence(self.truth[whole]), working_set.cooccurrence(self.called[whole])

    def of(self, rows: np.ndarray) -> Self:
        """The same on some of its images: a boolean mask or row numbers."""
        return MultiLabel(self.table.iloc[rows].reset_index(drop=True), self.truth[rows], self.p[rows], self.rules)

    def of_fold(self, fold: int) -> Self:
        rules = {name: [rule for rule in rules if rule.fold == fold] for name, rules in self.rules.items()}
        return replace(self.of((self.table["fold"] == fold).to_numpy()), rules=rules)

    def only(self, labels: list[str]) -> Self:
        """The same as if it had these of its labels alone, in this order."""
        places = [self.labels.index(name) for name in labels]
        return MultiLabel(self.table, self.truth[:, places], self.p[:, places], {name: self.rules[name] for name in labels})


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
            share, p = quantile(threshold_from), training.groupby("fold")[f"p_{name}"]
            words = f"{share:.0%} quantile of training probabilities"
            rules[name] = [at_quantile(rule, p.get_group(rule.fold), share, words) for rule in rules[name]]
    return applied(test, rules)


def evaluate_external(frame: pd.DataFrame, own: MultiLabel) -> MultiLabel:
    """Mean predictions on other data (predictions.read_external), with the mean of each label's thresholds in `own`, frozen.

    Labels that the other data do not know are left out.
    """
    frame = frame.assign(fold="mean", part="test").reset_index(drop=True)
    names = label_columns(frame)
    frozen = {name: decisions.evaluate_external(frame, own.rules[name], Question([name], name)) for name in names}
    return applied(frame, {name: evaluation.rules for name, evaluation in frozen.items()})


def applied(frame: pd.DataFrame, rules: dict[str, list[Rule]]) -> MultiLabel:
    """Test predictions with the rules of each label that were chosen before."""
    truth, p = (frame[[f"{kind}_{name}" for name in rules]].to_numpy(dtype=float) for kind in "yp")
    return MultiLabel(frame[tables.PREDICTION_COLUMNS], truth, p, rules)


# ---- metrics


def measure(evaluation: MultiLabel, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of the test images for weights (R, n): name to values (R,), those over all labels first.

    `f1_micro` pools the known cells of all labels, `f1_macro` is the mean of the labels' F1 (NaN where one has no positive: there
    a single false alarm would turn no number into 0), `exact_match` the share of images on which every label is right (of those
    with all labels known), `hamming` the share of known cells that are wrong.
    """
    of_labels, matrices, f1 = {}, [], []
    for place, (name, label) in enumerate(evaluation.by_label.items()):
        of_known = weights if evaluation.known[:, place].all() else weights[:, evaluation.known[:, place]]
        matrices.append(metrics.confusion(label.test.y, label.decision, of_known))
        values = scores.measure(label, of_known)
        f1.append(np.where(np.isnan(values["recall"]), np.nan, values["f1"]))
        of_labels |= {f"{key}_{name}": value for key, value in values.items()}
    pooled, whole = np.sum(matrices, axis=0), evaluation.known.all(axis=1)
    right = whole & (evaluation.called == (evaluation.truth == 1)).all(axis=1)
    return {
        "f1_macro": np.mean(f1, axis=0),
        "f1_micro": metrics.of_confusion(pooled)["f1"],
        "exact_match": metrics.ratio(*metrics.weighted_sum(weights, np.column_stack([right, whole])).T),
        "hamming": metrics.ratio(pooled[:, 0, 1] + pooled[:, 1, 0], pooled.sum(axis=(1, 2))),
        "rsna_logloss": rsna_logloss(evaluation, weights),
        **of_labels,
    }


def rsna_logloss(evaluation: MultiLabel, weights: np.ndarray) -> np.ndarray:
    """The weighted multi-label log loss of the RSNA 2019 challenge: mean over images, then over labels, `any` counting twice.

    Without a label `any` all count alike. NaN where a label is known on no image; (R,).
    """
    p = np.clip(evaluation.p, metrics.SMALLEST, 1 - metrics.SMALLEST)
    loss = np.where(evaluation.known, -np.log(np.where(evaluation.truth == 1, p, 1 - p)), 0.0)
    counts = np.array([ANY_COUNTS if name == ANY else 1 for name in evaluation.labels])
    total, known = (metrics.weighted_sum(weights, values) for values in (loss, evaluation.known))
    return metrics.ratio(total, known) @ counts / counts.sum()


def report(evaluation: MultiLabel, about: dict[str, Any], resamples: int, seed: int, cases: str = "images") -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ...; `cases`: what is counted."""
    patients, folds = (evaluation.table[name].to_numpy() for name in ("patient", "fold"))
    weights = bootstrap.weights(patients, folds, resamples, seed)
    block, drawn = scores.blocks(partial(measure, evaluation), evaluation.table, weights, seed)
    rules = [rule for rules in evaluation.rules.values() for rule in rules]
    positive = {name: label.test.table["patient"][label.test.y == 1] for name, label in evaluation.by_label.items()}
    content = {
        **about,
        "labels": evaluation.labels,
        "positive": None,
        "cases": cases,
        "n": len(folds),
        "patients": len(np.unique(patients)),
        "positives": None,
        "positives_by_label": {name: len(of_label) for name, of_label in positive.items()},
        "positive_patients_by_label": {name: of_label.nunique() for name, of_label in positive.items()},
        "unknown_by_label": {name: label.unknown for name, label in evaluation.by_label.items()},
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in rules)),
        "folds": [_fold_record(evaluation, fold) for fold in dict.fromkeys(rule.fold for rule in rules)],
        "metrics": block,
        "bootstrap": drawn,
        "notes": _notes(evaluation, positive),
    }
    return protocol.as_known(content)


def _fold_record(evaluation: MultiLabel, fold: int | str) -> dict[str, Any]:
    rules = {name: next(rule for rule in rules if rule.fold == fold) for name, rules in evaluation.rules.items()}
    return {
        "fold": fold,
        "thresholds": {name: rule.points[rule.decides] for name, rule in rules.items()},
        "threshold_rules": {name: rule.threshold_rule for name, rule in rules.items()},
        "lacks": {name: rule.lacks for name, rule in rules.items() if rule.lacks},
        "temperatures": {name: rule.temperature for name, rule in rules.items()},
        "n": int((evaluation.table["fold"] == fold).sum()),
    }


def _notes(evaluation: MultiLabel, positive: dict[str, pd.Series]) -> list[str]:
    """What a reader of the numbers has to know beyond them. `positive`: the patient of each positive image, by label."""
    notes, images = [], evaluation.table["patient"].value_counts()
    for name, label in evaluation.by_label.items():
        y, fold, patients = label.test.y, label.test.table["fold"], positive[name].nunique()
        if min(len(positive[name]), patients) < FEW:
            notes.append(f"{name}: {len(positive[name])} positive images of {patients} patients, too few to rank methods by")
        single = [str(rule.fold) for rule in label.rules if len(np.unique(y[fold == rule.fold])) < 2]
        if single:
            where = f"in the test images of fold {', '.join(single)}"
            notes.append(f"{name}: a single class {where}, left out of its mean AUROC and AP")
        if label.unknown:
            notes.append(f"{name}: unknown on {label.unknown} images, which are left out of its numbers")
    if images.iloc[0] > len(evaluation.table) / 3:
        many = f"{images.iloc[0]} of {len(evaluation.table)} images"
        notes.append(f"patient {images.index[0]} has {many}: the intervals are too narrow")
    return notes + scores.few_patients(len(images))
