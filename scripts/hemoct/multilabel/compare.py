"""Experiments of task 4 side by side: what 03_evaluate.py left of each, for hemoct.evaluation.comparison."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap, comparison_step, metrics, scores
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.predictions import check, label_columns
from hemoct.evaluation.thresholds import MAX_F1, Rule
from hemoct.multilabel import evaluate
from hemoct.multilabel.evaluate import MultiLabel

SHARES = ("f1_macro", "f1_micro", "exact_match", "hamming")
"""metrics over all labels from 0 to 1, that fit on one axis"""
COMPARED = (*SHARES, "rsna_logloss")
OF_LABEL = ("f1", "auroc", "ap")
NEEDED = ("metrics.json", "predictions.csv")
"""what is read of an experiment"""


class EvaluatedMultiLabel(Evaluated):
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
        return cases(self.content)

    def asks_like(self, other: Evaluated) -> bool:
        return self.found.labels == other.found.labels

    def of(self, rows: np.ndarray) -> EvaluatedMultiLabel:
        return replace(self, found=self.found.of(rows))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return evaluate.measure(self.found, weights)

    def only(self, labels: list[str], resamples: int, seed: int) -> EvaluatedMultiLabel:
        """The same as if it had these labels alone, in this order: other values over all labels, with new intervals."""
        absent = [name for name in labels if name not in self.found.labels]
        if absent:
            raise UserError(f"{self.name} has no label {absent[0]}; it has {', '.join(self.found.labels)}; correct --labels")
        places = [self.found.labels.index(name) for name in labels]
        by_label = {name: self.found.by_label[name] for name in labels}
        chosen = replace(self.found, truth=self.found.truth[:, places], p=self.found.p[:, places], by_label=by_label)
        patients, folds = (self.table[name].to_numpy() for name in ("patient", "fold"))
        weights = bootstrap.weights(patients, folds, resamples, seed)
        block, _ = scores.with_intervals(evaluate.measure(chosen, metrics.ones(len(folds))), evaluate.measure(chosen, weights))
        return replace(self, found=chosen, content=self.content | {"labels": labels, "metrics": block})


def cases(content: dict[str, Any]) -> str:
    """What a metrics.json counts: `images`, or `studies` of a pooled cascade. Older versions told it in a note alone."""
    pooled = any(note.startswith("The cases are studies") for note in content.get("notes", []))
    return content.get("cases") or ("studies" if pooled else "images")


def kind(labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42) -> comparison_step.Kind:
    """How experiments of task 4 are compared: by all of their labels, or by `labels` alone."""
    reading = partial(read, labels=labels, resamples=resamples, seed=seed)
    return comparison_step.Kind(4, reading, NEEDED, COMPARED, SHARES, OF_LABEL, apart=apart)


def apart(work: Workspace, experiment: str) -> str:
    """Why an experiment is not compared with the others unless it is named; "" where it is."""
    counted = cases(files.read_json(work.task(4) / experiment / "metrics.json"))
    return "" if counted == "images" else f"it is pooled, its cases are {counted}; name it, and others that are pooled"


def read(
    work: Workspace, experiment: str, labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42
) -> EvaluatedMultiLabel:
    """Read metrics.json and the out-of-fold predictions of an experiment, of all its labels or of `labels` alone.

    Stops when the two do not belong together, or a label is not among its own.
    """
    folder, made_by = work.task(4) / experiment, f"task4_multilabel/03_evaluate.py --experiment {experiment}"
    content = files.read_json(work.need(folder / "metrics.json", made_by))
    path = work.need(folder / "predictions.csv", made_by)
    frame = check(tables.read_predictions(folder), path, several=True)
    missing = set(frame["fold"]) - {fold["fold"] for fold in content["folds"]}
    same = (len(frame), label_columns(frame)) == (content["n"], content["labels"])
    if not same or missing or not frame["part"].eq("test").all():
        raise UserError(f"{work.show(folder)}: predictions.csv does not belong to metrics.json; run: python {made_by}")
    rules = {name: [_rule(fold, name) for fold in content["folds"]] for name in content["labels"]}
    evaluated = EvaluatedMultiLabel(experiment, content, evaluate.applied(frame, rules))
    return evaluated.only(labels, resamples, seed) if labels else evaluated


def _rule(fold: dict[str, Any], label: str) -> Rule:
    """The rule of a label in a fold of metrics.json."""
    points = {MAX_F1: fold["thresholds"][label]}
    return Rule(fold["fold"], points, fold["threshold_rules"][label], fold["temperatures"][label], "")
