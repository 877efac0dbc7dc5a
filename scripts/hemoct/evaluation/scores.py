"""From decisions to metrics.json: every metric of the test images, with its interval, or the reason why it is undefined."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hemoct.evaluation import bootstrap, metrics, protocol
from hemoct.evaluation.decisions import Evaluation, Rule

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


def measure(evaluation: Evaluation, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of the test images for weights (R, n): name to values (R,).

    Counts are pooled over the folds, each with its own threshold. AUROC and average precision are computed per fold and
    averaged over the folds that have both classes, for five models have five scales.
    """
    y, p, decision = evaluation.test.y, evaluation.test.p, evaluation.decision
    folds = evaluation.test.table["fold"].to_numpy()
    if evaluation.question.positive is not None:
        values = metrics.of_confusion(metrics.confusion(y, decision, weights))
        values |= _ranking(y, p, folds, weights)
        sure, right = p, y
    else:
        matrix = metrics.confusion(y, decision, weights, classes=len(evaluation.question.labels))
        values = metrics.of_many_classes(matrix)
        for number, name in enumerate(evaluation.question.labels):
            of_class = metrics.of_confusion(metrics.one_versus_rest(matrix, number))
            of_class = {key: of_class[key] for key in ("precision", "recall", "specificity", "f1")}
            of_class |= _ranking((y == number).astype(int), p[:, number], folds, weights)
            values |= {f"{key}_{name}": value for key, value in of_class.items()}
        sure, right = p.max(axis=1), (y == decision).astype(int)
    if evaluation.question.probability:
        calibrated = evaluation.calibrated
        values["brier"] = metrics.brier(y, p, weights)
        values["ece"] = metrics.ece(right, sure, weights)
        values["ece_calibrated"] = metrics.ece(right, calibrated if p.ndim == 1 else calibrated.max(axis=1), weights)
    return values


def _ranking(y: np.ndarray, p: np.ndarray, folds: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    parts = [rows for rows in (folds == fold for fold in np.unique(folds)) if 0 < y[rows].sum() < rows.sum()]
    of_folds = [metrics.ranking(y[rows], p[rows], weights[:, rows]) for rows in parts]
    values = np.mean(of_folds, axis=0) if parts else np.full((len(weights), 2), np.nan)
    return {"auroc": values[:, 0], "ap": values[:, 1]}


def reason(name: str) -> str:
    """Why a metric can be undefined."""
    return next((why for key, why in REASONS.items() if name == key or name.startswith(f"{key}_")), "no case")


def blocks(
    measured: Callable[[np.ndarray], dict[str, np.ndarray]], table: pd.DataFrame, weights: np.ndarray, seed: int,
    why: Callable[[str], str] = reason,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """What metrics.json says under `metrics` and under `bootstrap`. `measured`: every metric for weights of the cases of `table`.

    `weights` (R, n): those that bootstrap.weights drew with the `seed`. `why`: the reason why a metric is undefined, by its name.
    """
    values, drawn = measured(metrics.ones(len(table))), measured(weights)
    block, dropped = {}, {}
    for name, value in values.items():
        block[name], dropped[name] = entry(value[0], drawn[name], why(name))
    within = bootstrap.within_folds(table["patient"], table["fold"])
    words = "patients within folds" if within else "patients over all folds at once"
    return block, {"resamples": len(weights), "seed": seed, "drawn": words, "dropped": dropped}


def entry(value: float, resampled: np.ndarray, why: str) -> tuple[dict[str, Any], int]:
    """`{"value", "ci95", "reason"}`, null with the reason where undefined; and the number of dropped resamples."""
    low, high, dropped = bootstrap.interval(resampled)
    if np.isnan(value):
        return {"value": None, "ci95": None, "reason": why}, dropped
    return {"value": float(value), "ci95": None if np.isnan(low) else [low, high], "reason": None}, dropped


def rates(y: np.ndarray, called: np.ndarray, weights: np.ndarray, named: dict[str, str]) -> tuple[dict, dict]:
    """Columns of a table of decisions: the counts tn, fp, fn, tp; and NAME, NAME_low, NAME_high of metrics of the confusion.

    `y` and `called` (n,): truth and decision, 0 or 1; `named`: the metrics by the NAME of their column.
    """
    matrix = metrics.confusion(y, called, metrics.ones(len(y)))
    value, drawn = metrics.of_confusion(matrix), metrics.of_confusion(metrics.confusion(y, called, weights))
    columns = {}
    for shown, name in named.items():
        low, high, _ = bootstrap.interval(drawn[name])
        columns |= {shown: value[name][0], f"{shown}_low": low, f"{shown}_high": high}
    return dict(zip(("tn", "fp", "fn", "tp"), matrix.astype(int).ravel(), strict=True)), columns


def few_patients(patients: int) -> list[str]:
    """A note for numbers from fewer than ten patients."""
    return [f"{patients} patient(s): the intervals are too narrow, a bootstrap needs more"] * (patients < 10)


def report(evaluation: Evaluation, about: dict[str, Any], per_patient: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ..."""
    table = evaluation.test.table
    patients, folds = table["patient"].to_numpy(), table["fold"].to_numpy()
    weights = bootstrap.weights(patients, folds, resamples, seed)
    block, drawn = blocks(partial(measure, evaluation), table, weights, seed)
    content = {
        **about,
        "labels": evaluation.question.labels,
        "positive": evaluation.question.positive,
        "n": len(table),
        "patients": int(table["patient"].nunique()),
        "positives": int(evaluation.test.y.sum()) if evaluation.question.positive else None,
        "unknown_label_left_out": evaluation.unknown,
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in evaluation.rules)),
        "folds": [_rule_record(rule, int((folds == rule.fold).sum())) for rule in evaluation.rules],
        "metrics": block,
    }
    if evaluation.question.positive is not None:
        content["patient_level"] = patient_level(per_patient, weights[:, np.unique(patients, return_index=True)[1]])
    return protocol.as_known(content | {"bootstrap": drawn, "notes": _notes(evaluation)})


def _rule_record(rule: Rule, n: int) -> dict[str, Any]:
    record = {"fold": rule.fold, "threshold": rule.points.get(rule.decides), "threshold_rule": rule.threshold_rule}
    record["chosen"] = rule.chosen
    if rule.temperature is not None:
        record |= {"temperature": rule.temperature, "temperature_rule": rule.temperature_rule}
        record["temperature_chosen"] = rule.fitted
    return record | {"n": n}


def _notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    notes = []
    if evaluation.unknown:
        notes.append(f"{evaluation.unknown} image(s) with an unknown label were left out")
    for rule in evaluation.rules:
        y = evaluation.test.y[(evaluation.test.table["fold"] == rule.fold).to_numpy()]
        if len(np.unique(y)) < len(evaluation.question.names):
            notes.append(f"fold {rule.fold}: a class has no test case, so it is left out of that class's mean AUROC and AP")
    return notes + few_patients(evaluation.test.table["patient"].nunique())


def patient_level(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, Any]:
    """Patients called positive by any of their slices. `frame`: per_patient.csv; `weights` (R, patients) in its order."""
    bleeding = (frame["positive_slices"] > 0).to_numpy()
    called = ((frame["found"] > 0) | (frame["false_alarms"] > 0)).to_numpy()
    value, drawn = (metrics.of_confusion(metrics.confusion(bleeding, called, of)) for of in (metrics.ones(len(frame)), weights))
    runs = frame["largest_run_missed"]
    longest = None if runs.isna().all() else int(runs.max())
    return {
        "rule": "a patient is called positive when any slice is",
        "patients_positive": int(bleeding.sum()),
        "patients_found": int((frame["found"] > 0).sum()),
        "patients_negative": int((~bleeding).sum()),
        "patients_all_slices_found": int((bleeding & (frame["missed"] == 0)).sum()),
        "sensitivity": entry(value["recall"][0], drawn["recall"], "no patient has a positive slice")[0],
        "specificity": entry(value["specificity"][0], drawn["specificity"], "every patient has a positive slice")[0],
        "largest_run_missed": {
            "value": longest,
            "patient": str(frame["patient"][runs.fillna(0).idxmax()]) if longest else None,
            "reason": "slice numbers are unknown" if longest is None else None,
        },
    }
