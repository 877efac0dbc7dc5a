"""Experiments of task 4 side by side: what 03_evaluate.py left of each, for hemoct.evaluation.comparison."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap, comparison_step, decisions, metrics, predictions, scores
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation, Question
from hemoct.evaluation.thresholds import MAX_F1, Rule
from hemoct.multilabel import evaluate, pooling
from hemoct.multilabel.evaluate import MultiLabel

SHARES = ("f1_macro", "f1_micro", "exact_match", "hamming")
"""metrics over all labels from 0 to 1, that fit on one axis"""
COMPARED = (*SHARES, "rsna_logloss")
OF_LABEL = ("f1", "auroc", "ap")
NEEDED = ("metrics.json", "predictions.csv")
"""what is read of an experiment"""


class Labelled(Evaluated):
    """An evaluated experiment of task 4; `found` is a MultiLabel of its test images."""

    found: MultiLabel

    @property
    def table(self) -> pd.DataFrame:
        return self.found.table

    @property
    def truth(self) -> np.ndarray:
        """A word an image, a sign a label: `1`, `0`, `?` where unknown."""
        signs = np.where(self.found.known, np.where(self.found.truth == 1, "1", "0"), "?")
        return np.array(["".join(row) for row in signs], dtype=object)

    @property
    def cases(self) -> str:
        return "studies" if pooling.NOTE in self.content.get("notes", []) else "images"

    def asks_like(self, other: Evaluated) -> bool:
        return self.found.labels == other.found.labels

    def of(self, rows: np.ndarray) -> Labelled:
        return replace(self, found=self.found.of(rows))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return evaluate.measure(self.found, weights)

    def only(self, labels: list[str], resamples: int, seed: int) -> Labelled:
        """The same as if it had these labels alone, in this order: other values over all labels, with new intervals."""
        absent = [name for name in labels if name not in self.found.labels]
        if absent:
            raise UserError(f"{self.name} has no label {absent[0]}; it has {', '.join(self.found.labels)}; correct --labels")
        places = [self.found.labels.index(name) for name in labels]
        of_label = {name: self.found.of_label[name] for name in labels}
        found = replace(self.found, truth=self.found.truth[:, places], p=self.found.p[:, places], of_label=of_label)
        patients, folds = (self.table[name].to_numpy() for name in ("patient", "fold"))
        weights = bootstrap.weights(patients, folds, resamples, seed)
        block, _ = scores.with_intervals(evaluate.measure(found, metrics.ones(len(folds))), evaluate.measure(found, weights))
        return replace(self, found=found, content=self.content | {"labels": labels, "metrics": block})


def kind(labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42) -> comparison_step.Kind:
    """How experiments of task 4 are compared: by all of their labels, or by `labels` alone."""
    reading = partial(read, labels=labels, resamples=resamples, seed=seed)
    return comparison_step.Kind(4, reading, NEEDED, COMPARED, SHARES, OF_LABEL, apart=apart)


def apart(work: Workspace, experiment: str) -> str:
    """Why an experiment is not compared with the others; "" where it is."""
    pooled = pooling.NOTE in files.read_json(work.task(4) / experiment / "metrics.json").get("notes", [])
    return "it is pooled, its cases are studies; name it, and others that are pooled, to compare them" * pooled


def read(
    work: Workspace, experiment: str, labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42
) -> Labelled:
    """Read metrics.json and the out-of-fold predictions of an experiment, of all its labels or of `labels` alone.

    Stops when the two do not belong together, or a label is not among its own.
    """
    folder, made_by = work.task(4) / experiment, f"task4_multilabel/03_evaluate.py --experiment {experiment}"
    content = files.read_json(work.need(folder / "metrics.json", made_by))
    path = work.need(folder / "predictions.csv", made_by)
    frame = predictions.check(tables.read_predictions(folder), path, several=True)
    known, n = predictions.label_columns(frame), len(frame)
    missing = set(frame["fold"]) - {fold["fold"] for fold in content["folds"]}
    if n != content["n"] or known != content["labels"] or missing or not frame["part"].eq("test").all():
        raise UserError(f"{work.show(folder)}: predictions.csv does not belong to metrics.json; run: python {made_by}")
    one = Labelled(experiment, content, applied(frame, content))
    return one.only(labels, resamples, seed) if labels else one


def applied(frame: pd.DataFrame, content: dict) -> MultiLabel:
    """Test predictions with the thresholds and temperatures of their metrics.json."""
    labels, of_label = content["labels"], {}
    for name in labels:
        rules = [
            Rule(fold["fold"], {MAX_F1: fold["thresholds"][name]}, fold["threshold_rules"][name], fold["temperatures"][name], "")
            for fold in content["folds"]
        ]
        asked = Question([name], name)
        test, are_known = decisions.scored(frame, asked)
        of_label[name] = Evaluation(asked, test, rules, unknown=int((~are_known).sum()))
    values = {sort: frame[[f"{sort}_{name}" for name in labels]].to_numpy(dtype=float) for sort in "yp"}
    return MultiLabel(frame[tables.PREDICTION_COLUMNS], values["y"], values["p"], of_label)
