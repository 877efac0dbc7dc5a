"""metrics.json of task 3: metrics with intervals and reasons, what is empty, the ceiling of the true masks, volumes, notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import label_meaning
from hemoct.evaluation import bootstrap, metrics, scores
from hemoct.segmentation import predictions
from hemoct.segmentation.evaluate import CALLS, OF_SLICES, Patients, Rule, Segmentation, known_labels, measure

UPPER_BOUND = "upper bound: true boxes"
EMPTY = "truth and prediction are empty everywhere"
NO_VOLUME = "no patient has a true pixel"
REASONS = {
    "dice": EMPTY,
    "iou": EMPTY,
    "sensitivity": "no true pixel",
    "specificity": "no pixel outside the true masks",
    "precision": "no predicted pixel",
    "dice_patient": EMPTY,
    "dice_patient_median": EMPTY,
    "dice_slice": EMPTY,
    "nsd_slice": EMPTY,
    "hd95_slice": "no slice has both true and predicted pixels, or some are measured in mm and others in px",
    "volume_error": NO_VOLUME,
    "volume_bias": NO_VOLUME,
}
NO_LABEL = "no scored slice has a known label"


def ceiling(found: Segmentation) -> dict[str, float | None]:
    """The metrics `slice_*` of the true masks themselves: what no perfect segmentation can exceed."""
    known, y = known_labels(found)
    values = metrics.of_confusion(metrics.confusion(y, found.true[known] > 0, metrics.ones(len(y))))
    return {f"slice_{name}": None if np.isnan(values[name][0]) else float(values[name][0]) for name in OF_SLICES}


def agreement(found: Segmentation) -> pd.DataFrame:
    """volume_agreement.csv: predicted and true volumes of patients (Bland and Altman 1986), one row for each unit.

    bias: mean of predicted - true; limits of agreement: bias -+ 1.96 standard deviations; empty for a single patient.
    """
    patients = Patients.of(found)
    rows = []
    for unit in np.unique(patients.unit):
        true, predicted = patients.true[patients.unit == unit], patients.predicted[patients.unit == unit]
        difference = pd.Series(predicted - true)
        bias, spread = difference.mean(), 1.96 * difference.std()
        rows.append({"unit": unit, "patients": len(true), "mean_true": true.mean(), "mean_predicted": predicted.mean(),
                     "mean_absolute_error": difference.abs().mean(), "bias": bias, "limit_low": bias - spread,
                     "limit_high": bias + spread})  # fmt: skip
    return pd.DataFrame(rows)


def report(found: Segmentation, about: dict[str, Any], resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ..."""
    folds = found.table["fold"].to_numpy()
    weights = bootstrap.weights(found.patients, folds, resamples, seed)
    values, drawn = measure(found, metrics.ones(len(folds))), measure(found, weights)
    block, dropped = {}, {}
    for name, value in values.items():
        block[name], dropped[name] = scores.entry(value[0], drawn[name], _reason(found, name))
    within = "patients within folds" if bootstrap.within_folds(found.patients, folds) else "patients over all folds at once"
    known, y = known_labels(found)
    return {
        **about,
        "positive": None,
        "positives": None,
        "n": len(found.table),
        "patients": len(np.unique(found.patients)),
        "missing_mask_left_out": found.missing,
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in found.rules)),
        "folds": [_rule_record(rule, int((folds == rule.fold).sum())) for rule in found.rules],
        "metrics": block,
        "pixels": dict(zip(CALLS, found.counts.sum(axis=0).tolist(), strict=True)),
        "slices": _slice_counts(found),
        "slice_label": found.question.positive if found.question else None,
        "slice_confusion": metrics.confusion(y, found.predicted[known] > 0, metrics.ones(len(y)))[0].astype(int).tolist(),
        "ceiling": ceiling(found),
        "volumes": agreement(found).replace({np.nan: None}).to_dict("records"),
        "bootstrap": {"resamples": len(weights), "seed": seed, "drawn": within, "dropped": dropped},
        "notes": _notes(found, about),
    }


def _reason(found: Segmentation, name: str) -> str:
    """Why a metric can be undefined."""
    if name in REASONS:
        return REASONS[name]
    return scores.reason(name.removeprefix("slice_")) if known_labels(found)[0].any() else NO_LABEL


def _rule_record(rule: Rule, n: int) -> dict[str, Any]:
    best = rule.curve[rule.threshold]
    val_dice = None if np.isnan(best) else float(best)
    return {"fold": rule.fold, "threshold": rule.threshold, "threshold_rule": rule.threshold_rule, "val_dice": val_dice, "n": n}


def _slice_counts(found: Segmentation) -> dict[str, int]:
    """Scored slices by what is empty, and those of unknown label."""
    true, predicted = found.true > 0, found.predicted > 0
    return {
        "both_drawn": int((true & predicted).sum()),
        "prediction_empty": int((true & ~predicted).sum()),
        "truth_empty": int((~true & predicted).sum()),
        "both_empty": int((~true & ~predicted).sum()),
        "unknown_label": int((~known_labels(found)[0]).sum()),
    }


def _notes(found: Segmentation, about: dict[str, Any]) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    known, y = known_labels(found)
    of = _slice_counts(found)
    notes = (
        [UPPER_BOUND] * about["upper_bound"]
        + about.get("caveats", [])
        + [
            f"slices: {of['both_drawn']} with a true and a predicted mask; {of['prediction_empty']} missed, {of['truth_empty']} "
            f"false alarms (Dice and NSD 0, no HD95); {of['both_empty']} empty in both (left out of means over slices)"
        ]
    )
    if found.missing:
        notes.append(f"{found.missing} test slice(s) without a mask file were not scored (missing mask)")
    if y.any():
        drawn = int((found.true[known] > 0)[y == 1].sum())
        notes.append(
            f"ceiling of slice recall: {drawn} of {y.sum()} slices with the label {found.question.positive} have a true mask "
            f"with a pixel ({drawn / y.sum():.1%})"
        )
    patients = len(np.unique(found.patients))
    if patients < 10:
        notes.append(f"{patients} patient(s): the intervals are too narrow, a bootstrap needs more")
    return notes


def describe(about: dict[str, Any], told: dict[str, Any], layout: str) -> dict[str, Any]:
    """What metrics.json says first (predictions.describe), with what masks mean; `told`: predictions.spec."""
    upper = predictions.around_true_boxes(told)
    done = f"{about['folds_done']}; {UPPER_BOUND}" if upper else about["folds_done"]  # stands in every headline
    about = about | {"folds_done": done, "labels_mean": label_meaning.CAPTION.get(layout), "upper_bound": upper}
    return about | {"caveats": _of_validation(told)}


def _of_validation(told: dict[str, Any]) -> list[str]:
    """What is special about the validation that chose the thresholds."""
    members = told.get("members") or []
    by = told.get("validated_by") or members
    silent = ", ".join(name for name in members if name not in by)
    if silent:
        return [f"thresholds: from the maps of {', '.join(by)} alone; {silent} learned from those slices"]
    if not members and (told.get("validation") or 1) != 1 and told.get("region") == "box":
        return ["thresholds: from slices that the detector learned from; its boxes are truer there than on test"]
    return []
