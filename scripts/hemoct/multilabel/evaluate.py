"""From checked predictions of several labels to metrics.json: a threshold for each label and fold, metrics with intervals.

Each label is a question of its own (classification.evaluate), asked of the images on which it is known. Thresholds come from a
fold's validation images, or from the probabilities of its training images; test is only read.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.data.slices import ANY
from hemoct.evaluation import bootstrap, decisions, external, metrics, predictions, scores
from hemoct.evaluation.decisions import Evaluation, Question
from hemoct.evaluation.thresholds import Rule
from hemoct.multilabel import cascade_stages, data, working_set

VAL = "val"
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
    of_label: dict[str, Evaluation]
    """each label on the images where it is known"""

    @property
    def labels(self) -> list[str]:
        return list(self.of_label)

    @property
    def known(self) -> np.ndarray:
        return ~np.isnan(self.truth)

    @cached_property
    def called(self) -> np.ndarray:
        """bool (n, labels), also where the truth is unknown."""
        rules = [{rule.fold: rule.points[rule.decides] for rule in one.rules} for one in self.of_label.values()]
        return self.p >= np.column_stack([self.table["fold"].map(of_folds).to_numpy(dtype=float) for of_folds in rules])

    def of(self, rows: np.ndarray) -> MultiLabel:
        """The same on some of its images: a boolean mask or row numbers."""
        numbers = np.arange(len(self.table))[rows]
        of_label = {}
        for place, (name, one) in enumerate(self.of_label.items()):
            among_known = np.cumsum(self.known[:, place]) - 1
            of_label[name] = replace(one, test=one.test.of(among_known[numbers[self.known[numbers, place]]]))
        return MultiLabel(self.table.iloc[numbers].reset_index(drop=True), self.truth[numbers], self.p[numbers], of_label)

    def of_fold(self, fold: int) -> MultiLabel:
        chosen = self.of((self.table["fold"] == fold).to_numpy())
        kept = {
            name: replace(one, rules=[rule for rule in one.rules if rule.fold == fold]) for name, one in chosen.of_label.items()
        }
        return replace(chosen, of_label=kept)


# ---- predictions


def read(work: Workspace, experiment: str, limit_patients: int | None) -> tuple[pd.DataFrame, str]:
    """Predictions of all folds of an experiment, parts train (where there are any), val and test; and its protocol."""
    frame, protocol = predictions.joined(work, 4, experiment, lambda folder: read_fold(work, folder))
    _stop_if_relabelled(work, experiment, frame)
    if limit_patients is not None:
        frame = frame[frame["patient"].isin(slices.first_patients(tables.read_splits(work), limit_patients))]
    return frame, protocol


def read_external(
    work: Workspace, experiment: str, other: Workspace, asked: list[str], limit_patients: int | None, models: list[Path]
) -> pd.DataFrame:
    """The mean predictions of the `models`, that answer for the labels `asked`, as 05_predict.py --on left them.

    Labels that are unknown on all images are left out. Stops where images, labels or truths are no longer those of labels.csv.
    """
    path = external.predictions_csv(work, 4, experiment, other.dataset, models)
    again = external.again(work, 4, experiment, other.dataset)
    frame = predictions.check(tables.read_predictions(path.parent), path, several=True, again=again)
    table, labels, truth = data.truth_of_other(other, asked)
    known = ~np.isnan(truth).all(axis=1)
    now = pd.DataFrame(truth[known], index=table["image_id"][known], columns=[f"y_{name}" for name in labels])
    told = frame.set_index("image_id").reindex(columns=now.columns).astype(float)
    if predictions.label_columns(frame) != labels or not told.sort_index().equals(now.sort_index()):
        raise UserError(f"{work.show(path)} has other images or truths than labels.csv of {other.dataset} has now; {again}")
    frame = frame[frame["patient"].isin(sorted(frame["patient"].unique())[:limit_patients])]
    unknown = [name for name in labels if frame[f"y_{name}"].isna().all()]
    return frame.drop(columns=[f"{kind}_{name}" for name in unknown for kind in "yp"])


def _stop_if_relabelled(work: Workspace, experiment: str, frame: pd.DataFrame) -> None:
    """Stop where labels.csv has other truths by now: the predictions would be measured by labels that were taken back."""
    dataset = tables.read_dataset(work)
    now = tables.read_labels(work, dataset).set_index("image_id").reindex(frame["image_id"])
    shared = [name for name in predictions.label_columns(frame) if name in dataset.labels]
    told = frame[[f"y_{name}" for name in shared]].set_axis(shared, axis=1)
    other = frame["image_id"][~working_set.same_truth(now, told, shared)]
    if len(other):
        raise UserError(
            f"{experiment}: its predictions have another truth than labels.csv for {other.nunique()} image(s) (first: "
            f"{other.iloc[0]}); run task4_multilabel/01_prepare_labels.py and train again"
        )


def read_fold(work: Workspace, folder: Path) -> pd.DataFrame:
    """Checked validation and test predictions of a fold; stops when they are older than the model or the working set.

    Those of a cascade must be of what its stages say now.
    """
    path = folder / "predictions.csv"
    cascade_stages.stop_if_stages_changed(work, folder)
    if not predictions.is_current(work, folder, made_with=("task4/working_set.csv",)):
        raise UserError(f"{work.show(path)} is missing, or older than best.pt or working_set.csv; {predictions.AGAIN[4]}")
    return predictions.check(tables.read_predictions(folder), path, several=True)


def read_training(work: Workspace, folders: list[Path]) -> pd.DataFrame:
    """Predictions of the training images of all folds."""
    frames = []
    for folder in folders:
        path = folder / "train_predictions.csv"
        if not path.exists():
            raise UserError(
                f"{work.show(path)} is missing; a cascade has none: use --threshold-from val; else {predictions.AGAIN[4]}"
            )
        frame = tables.read_csv(path, tables.PREDICTION_COLUMNS)
        frames.append(predictions.check(frame.assign(part=VAL), path, several=True).assign(part="train"))
    return pd.concat(frames, ignore_index=True)


# ---- thresholds


def threshold_source(text: str) -> str:
    """A type for argparse: `val`, or `train:q90`, the quantile 0.90 of the training probabilities."""
    if text != VAL and quantile(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither val nor train:qNN (train:q90: the 90 % quantile)")
    return text


def quantile(text: str) -> float | None:
    found = re.fullmatch(r"train:q([1-9][0-9]?)", text)
    return int(found[1]) / 100 if found else None


def evaluate(frame: pd.DataFrame, threshold_from: str = VAL, training: pd.DataFrame | None = None) -> MultiLabel:
    """Choose the rules of each label and fold, and apply them to the test images.

    `threshold_from`: see `threshold_source`; a quantile is that of `training`, predictions of the training images of each fold.
    Temperatures are always chosen on validation. Stops without test images, or when one is tested in two folds.
    """
    test = frame[frame["part"] == "test"].reset_index(drop=True)
    twice = test["image_id"].duplicated()
    if twice.any() or test.empty:
        problem = f"{test['image_id'][twice].iloc[0]} is tested in two folds" if twice.any() else "no test image"
        raise UserError(f"predictions.csv of the folds: {problem}; correct them, or train again without --limit-patients")
    labels, folds = predictions.label_columns(frame), sorted(int(fold) for fold in frame["fold"].unique())
    of_label = {}
    for name in labels:
        asked = Question([name], name)
        val, _ = decisions.scored(frame[frame["part"] == VAL], asked)
        rules = [decisions.choose(asked, fold, val.of((val.table["fold"] == fold).to_numpy())) for fold in folds]
        if threshold_from != VAL:
            rules = [_at_quantile(rule, training, name, quantile(threshold_from)) for rule in rules]
        found, known = decisions.scored(test, asked)
        of_label[name] = Evaluation(asked, found, rules, unknown=int((~known).sum()))
    values = {kind: test[[f"{kind}_{name}" for name in labels]].to_numpy(dtype=float) for kind in "yp"}
    return MultiLabel(test[tables.PREDICTION_COLUMNS], values["y"], values["p"], of_label)


def evaluate_external(frame: pd.DataFrame, own: MultiLabel) -> MultiLabel:
    """Mean predictions on other data (see read_external), with the mean of each label's thresholds in `own`, frozen.

    Labels that the other data do not know are left out.
    """
    labels = predictions.label_columns(frame)
    frame = frame.assign(fold="mean", part="test").reset_index(drop=True)
    of_label = {
        name: decisions.evaluate_external(frame, own.of_label[name].rules, own.of_label[name].question) for name in labels
    }
    values = {kind: frame[[f"{kind}_{name}" for name in labels]].to_numpy(dtype=float) for kind in "yp"}
    return MultiLabel(frame[tables.PREDICTION_COLUMNS], values["y"], values["p"], of_label)


def _at_quantile(rule: Rule, training: pd.DataFrame, label: str, share: float) -> Rule:
    of_fold = training.loc[training["fold"] == rule.fold, f"p_{label}"]
    name = f"{share:.0%} quantile of training probabilities"
    return replace(rule, points=rule.points | {name: float(of_fold.quantile(share))}, threshold_rule=name, decides=name, lacks="")


# ---- metrics


def measure(found: MultiLabel, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of the test images for weights (R, n): name to values (R,), those over all labels first.

    `f1_micro` pools the known cells of all labels, `f1_macro` is the mean of the labels' F1 (NaN where one has no positive),
    `exact_match` the share of images on which every label is right (of those with all labels known), `hamming` the share of
    known cells that are wrong.
    """
    of_labels, matrices = {}, []
    for place, (name, one) in enumerate(found.of_label.items()):
        of_known = weights if found.known[:, place].all() else weights[:, found.known[:, place]]
        matrices.append(metrics.confusion(one.test.y, one.decision, of_known))
        of_labels |= {f"{key}_{name}": values for key, values in scores.measure(one, of_known).items()}
    pooled = np.sum(matrices, axis=0)
    wrong = pooled[:, 0, 1] + pooled[:, 1, 0]
    return {
        "f1_macro": np.mean([_f1_with_positives(of_labels, name) for name in found.labels], axis=0),
        "f1_micro": metrics.of_confusion(pooled)["f1"],
        "exact_match": exact_match(found, weights),
        "hamming": metrics.ratio(wrong, pooled.sum(axis=(1, 2))),
        "rsna_logloss": rsna_logloss(found, weights),
        **of_labels,
    }


def _f1_with_positives(of_labels: dict[str, np.ndarray], name: str) -> np.ndarray:
    """F1 of a label, NaN without a positive: there a single false alarm would turn no number into 0."""
    return np.where(np.isnan(of_labels[f"recall_{name}"]), np.nan, of_labels[f"f1_{name}"])


def exact_match(found: MultiLabel, weights: np.ndarray) -> np.ndarray:
    """The share of images, of those with all labels known, on which every label is called as it is; (R,)."""
    whole = found.known.all(axis=1)
    right = (found.called == (found.truth == 1)).all(axis=1)
    parts = [metrics.ratio(chunk[:, whole & right].sum(axis=1), chunk[:, whole].sum(axis=1))
             for chunk in metrics.chunks(weights, len(whole))]  # fmt: skip
    return np.concatenate(parts)


def rsna_logloss(found: MultiLabel, weights: np.ndarray) -> np.ndarray:
    """The weighted multi-label log loss of the RSNA 2019 challenge: mean over images, then over labels, `any` counting twice.

    Without a label `any` all count alike. NaN where a label is known on no image; (R,).
    """
    p = np.clip(found.p, metrics.SMALLEST, 1 - metrics.SMALLEST)
    loss = np.where(found.known, -np.log(np.where(found.truth == 1, p, 1 - p)), 0.0)
    counts = np.array([ANY_COUNTS if name == ANY else 1 for name in found.labels])
    parts = [metrics.ratio(chunk @ loss, chunk @ found.known) @ counts / counts.sum()
             for chunk in metrics.chunks(weights, len(loss))]  # fmt: skip
    return np.concatenate(parts)


def report(found: MultiLabel, about: dict[str, Any], resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ..."""
    patients, folds = (found.table[name].to_numpy() for name in ("patient", "fold"))
    weights = bootstrap.weights(patients, folds, resamples, seed)
    block, dropped = scores.with_intervals(measure(found, metrics.ones(len(folds))), measure(found, weights))
    rules = {name: {rule.fold: rule for rule in one.rules} for name, one in found.of_label.items()}
    drawn = "patients within folds" if bootstrap.within_folds(patients, folds) else "patients over all folds at once"
    return {
        **about,
        "labels": found.labels,
        "positive": None,
        "n": len(folds),
        "patients": len(np.unique(patients)),
        "positives": None,
        "positives_by_label": {name: int(one.test.y.sum()) for name, one in found.of_label.items()},
        "positive_patients_by_label": {
            name: int(one.test.table["patient"][one.test.y == 1].nunique()) for name, one in found.of_label.items()
        },
        "unknown_by_label": {name: one.unknown for name, one in found.of_label.items()},
        "threshold_rule": "; ".join(
            dict.fromkeys(one.threshold_rule for of_folds in rules.values() for one in of_folds.values())
        ),
        "folds": [_fold_record(fold, rules, int((folds == fold).sum())) for fold in next(iter(rules.values()))],
        "metrics": block,
        "bootstrap": {"resamples": len(weights), "seed": seed, "drawn": drawn, "dropped": dropped},
        "notes": _notes(found),
    }


def _fold_record(fold: int, rules: dict[str, dict[int, Rule]], n: int) -> dict[str, Any]:
    of_fold = {name: of_folds[fold] for name, of_folds in rules.items()}
    return {
        "fold": fold,
        "thresholds": {name: rule.points[rule.decides] for name, rule in of_fold.items()},
        "threshold_rules": {name: rule.threshold_rule for name, rule in of_fold.items()},
        "lacks": {name: rule.lacks for name, rule in of_fold.items() if rule.lacks},
        "temperatures": {name: rule.temperature for name, rule in of_fold.items()},
        "n": n,
    }


def _notes(found: MultiLabel) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    notes = []
    for name, one in found.of_label.items():
        positive = one.test.y == 1
        patients = one.test.table["patient"][positive].nunique()
        if min(positive.sum(), patients) < FEW:
            notes.append(f"{name}: {positive.sum()} positive images of {patients} patients, too few to rank methods by")
        without = [rule.fold for rule in one.rules if len(np.unique(one.test.y[(one.test.table["fold"] == rule.fold)])) < 2]
        if without:
            folds = ", ".join(map(str, without))
            notes.append(f"{name}: a single class in the test images of fold {folds}, left out of its mean AUROC and AP")
        if one.unknown:
            notes.append(f"{name}: unknown on {one.unknown} images, which are left out of its numbers")
    largest = found.table["patient"].value_counts()
    if largest.iloc[0] > len(found.table) / 3:
        notes.append(
            f"patient {largest.index[0]} has {largest.iloc[0]} of {len(found.table)} images: the intervals are too narrow"
        )
    if len(largest) < 10:
        notes.append(f"{len(largest)} patient(s): the intervals are too narrow, a bootstrap needs more")
    return notes
