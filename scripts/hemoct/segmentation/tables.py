"""Tables of evaluated masks, and metrics.json with its reasons, ceiling, volumes, notes; both read again to be compared."""

from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import label_meaning, tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap, comparison, metrics as evaluation_metrics, protocol, scores
from hemoct.evaluation.comparison import Evaluated
from hemoct.segmentation import evaluate, metrics
from hemoct.segmentation.evaluate import OF_PIXELS, OF_SLICES, Rule, Segmentation
from hemoct.segmentation.metrics import COUNTS

UPPER_BOUND = "upper bound: true boxes"
REASONS = {
    **dict.fromkeys(
        ("dice", "iou", "dice_patient", "dice_patient_median", "dice_slice", "nsd_slice"),
        "truth and prediction are empty everywhere",
    ),
    **dict.fromkeys(("volume_error", "volume_bias"), "no patient has a true pixel"),
    "sensitivity": "no true pixel",
    "specificity": "no pixel outside the true masks",
    "precision": "no predicted pixel",
    "hd95_slice": "no slice has both true and predicted pixels, or some are measured in mm and others in px",
}
NO_LABEL = "no scored slice has a known label"
COMPARED = (
    *("dice_patient", "dice_patient_median", "dice_slice", "dice", "iou", "sensitivity", "precision", "nsd_slice"),
    *("hd95_slice", "volume_error"),
)
SHARES = tuple(name for name in COMPARED if name not in ("hd95_slice", "volume_error"))
"""those from 0 to 1, that fit on one axis"""
NEEDED = ("metrics.json", "per_slice.csv")
"""what is read of an experiment"""
COLUMNS = ("image_id", "patient", "fold", "part", "true_px", *COUNTS, "hd95", "nsd", "distance_unit")


# ---- CSV


def per_slice(evaluation: Segmentation) -> pd.DataFrame:
    """per_slice.csv: one row per scored test slice, sorted; what is undefined is empty."""
    counts = dict(zip(COUNTS, evaluation.counts.T, strict=True))
    values = metrics.of_counts(evaluation.counts)
    table = evaluation.table[["image_id", "patient", "fold", "part"]]
    table = table.assign(true_px=evaluation.true, predicted_px=evaluation.predicted, **counts)
    table = table.assign(**{name: values[name] for name in OF_PIXELS})
    return table.join(evaluation.table[["hd95", "nsd", "distance_unit"]]).sort_values("image_id")


def metrics_table(evaluation: Segmentation, content: dict[str, Any]) -> pd.DataFrame:
    """segmentation_metrics.csv: metric, value, low, high, n, of (pixels, slices, patients), ceiling, reason."""
    support = evaluate.support(evaluation)
    rows = []
    for name, cell in content["metrics"].items():
        low, high = cell["ci95"] or (np.nan, np.nan)
        n, of = support[name]
        rows.append({"metric": name, "value": cell["value"], "low": low, "high": high, "n": n, "of": of,
                     "ceiling": content["ceiling"].get(name), "reason": cell["reason"]})  # fmt: skip
    return pd.DataFrame(rows).astype({"value": float, "ceiling": float})


def agreement(evaluation: Segmentation) -> pd.DataFrame:
    """volume_agreement.csv: predicted and true volumes of patients (Bland and Altman 1986), one row for each unit.

    bias: mean of predicted - true; limits of agreement: bias -+ 1.96 standard deviations; empty for a single patient.
    """
    rows = []
    for unit, patients in evaluate.per_patient(evaluation).groupby("unit"):
        true, predicted = patients["true_volume"], patients["predicted_volume"]
        difference = predicted - true
        bias, spread = difference.mean(), 1.96 * difference.std()
        rows.append({"unit": unit, "patients": len(true), "mean_true": true.mean(), "mean_predicted": predicted.mean(),
                     "mean_absolute_error": difference.abs().mean(), "bias": bias, "limit_low": bias - spread,
                     "limit_high": bias + spread})  # fmt: skip
    return pd.DataFrame(rows)


def examples(evaluation: Segmentation, count: int) -> pd.DataFrame:
    """The `count` best, median and worst slices with a true mask, by Dice: `kind`, `dice`, `threshold` and evaluation.table's.

    Of equally bad slices the one with the larger true mask comes first. No slice is shown twice.
    """
    threshold = evaluation.table["fold"].map({rule.fold: rule.threshold for rule in evaluation.rules})
    table = evaluation.table.assign(dice=metrics.dice(evaluation.counts), threshold=threshold, true_px=evaluation.true)
    table = table[table["true_px"] > 0].sort_values(["dice", "true_px", "image_id"], ascending=[True, False, True])
    middle = max(0, (len(table) - count) // 2)
    places = {"worst": range(count), "median": range(middle, middle + count), "best": range(len(table) - count, len(table))}
    kinds = {place: kind for kind, of in places.items() for place in of if 0 <= place < len(table)}
    shown = table.iloc[sorted(kinds, reverse=True)]
    return shown.assign(kind=[kinds[place] for place in sorted(kinds, reverse=True)])


# ---- metrics.json


def report(evaluation: Segmentation, about: dict[str, Any], resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation. `about` comes first in it: data set, experiment, protocol ..."""
    folds = evaluation.table["fold"].to_numpy()
    weights = bootstrap.weights(evaluation.patients, folds, resamples, seed)
    why = partial(_reason, evaluation)
    block, drawn = scores.blocks(partial(evaluate.measure, evaluation), evaluation.table, weights, seed, why)
    known, y = evaluation.labels
    confusion = evaluation_metrics.confusion(y, evaluation.predicted[known] > 0, evaluation_metrics.ones(len(y)))[0]
    content = {
        **about,
        "positive": None,
        "positives": None,
        "n": len(evaluation.table),
        "patients": len(np.unique(evaluation.patients)),
        "missing_mask_left_out": evaluation.missing,
        "threshold_rule": "; ".join(dict.fromkeys(rule.threshold_rule for rule in evaluation.rules)),
        "threshold_unit": "level 1..255 of an 8-bit probability",
        "folds": [_rule_record(rule, int((folds == rule.fold).sum())) for rule in evaluation.rules],
        "metrics": block,
        "pixels": dict(zip(COUNTS, evaluation.counts.sum(axis=0).tolist(), strict=True)),
        "slices": _slice_counts(evaluation),
        "slice_label": evaluation.question.positive if evaluation.question else None,
        "slice_confusion": confusion.astype(int).tolist(),
        "ceiling": _ceiling(evaluation),
        "volumes": agreement(evaluation).replace({np.nan: None}).to_dict("records"),
        "bootstrap": drawn,
        "notes": _notes(evaluation, about),
    }
    return protocol.as_known(content)


def describe(about: dict[str, Any], spec: dict[str, Any], layout: str) -> dict[str, Any]:
    """What metrics.json says first (evaluation.protocol.describe), with what masks mean; `spec`: predictions.shared_spec."""
    upper = spec.get("region") == "box" and spec.get("boxes") in (None, "truth")  # the network was shown where lesions are
    done = f"{about['folds_done']}; {UPPER_BOUND}" if upper else about["folds_done"]  # stands in every headline
    about = about | {"folds_done": done, "labels_mean": label_meaning.CAPTION.get(layout), "upper_bound": upper}
    return about | {"caveats": _of_validation(spec)}


def _of_validation(spec: dict[str, Any]) -> list[str]:
    """What is special about the validation that chose the thresholds."""
    members = spec.get("members") or []
    by = spec.get("validated_by") or members
    others = ", ".join(name for name in members if name not in by)
    if others:
        return [f"thresholds: from the maps of {', '.join(by)} alone; {others} learned from those slices"]
    if not members and (spec.get("validation") or 1) != 1 and spec.get("region") == "box":
        return ["thresholds: from slices that the detector learned from; its boxes are truer there than on test"]
    return []


def _ceiling(evaluation: Segmentation) -> dict[str, float | None]:
    """The metrics `slice_*` of the true masks themselves: what no perfect segmentation can exceed."""
    known, y = evaluation.labels
    confusion = evaluation_metrics.confusion(y, evaluation.true[known] > 0, evaluation_metrics.ones(len(y)))
    values = evaluation_metrics.of_confusion(confusion)
    return {f"slice_{name}": None if np.isnan(values[name][0]) else float(values[name][0]) for name in OF_SLICES}


def _reason(evaluation: Segmentation, name: str) -> str:
    """Why a metric can be undefined."""
    if name in REASONS:
        return REASONS[name]
    return scores.reason(name.removeprefix("slice_")) if evaluation.labels[0].any() else NO_LABEL


def _rule_record(rule: Rule, n: int) -> dict[str, Any]:
    record = {"fold": rule.fold, "threshold": rule.threshold, "threshold_rule": rule.threshold_rule, "chosen": rule.chosen}
    best = rule.curve[rule.threshold]
    return record | {"val_dice": None if np.isnan(best) else float(best), "n": n}


def _slice_counts(evaluation: Segmentation) -> dict[str, int]:
    """Scored slices by what is empty, and those of unknown label."""
    true, predicted = evaluation.true > 0, evaluation.predicted > 0
    return {
        "both_drawn": int((true & predicted).sum()),
        "prediction_empty": int((true & ~predicted).sum()),
        "truth_empty": int((~true & predicted).sum()),
        "both_empty": int((~true & ~predicted).sum()),
        "unknown_label": int((~evaluation.labels[0]).sum()),
    }


def _notes(evaluation: Segmentation, about: dict[str, Any]) -> list[str]:
    """What a reader of the numbers has to know beyond them."""
    known, y = evaluation.labels
    of, label = _slice_counts(evaluation), evaluation.question and evaluation.question.positive
    notes = (
        [UPPER_BOUND] * about["upper_bound"]
        + about.get("caveats", [])
        + [
            f"slices: {of['both_drawn']} with a true and a predicted mask; {of['prediction_empty']} missed, {of['truth_empty']} "
            f"false alarms (Dice and NSD 0, no HD95); {of['both_empty']} empty in both (left out of means over slices)"
        ]
    )
    if evaluation.missing:
        notes.append(f"{evaluation.missing} test slice(s) without a mask file were not scored (missing mask)")
    if y.any():
        drawn = int((evaluation.true[known] > 0)[y == 1].sum())
        notes.append(
            f"ceiling of slice recall: {drawn} of {y.sum()} slices with the label {label} have a true mask "
            f"with a pixel ({drawn / y.sum():.1%})"
        )
    return notes + scores.few_patients(len(np.unique(evaluation.patients)))


# ---- an evaluated experiment, read again


class Segmented(Evaluated):
    """An evaluated experiment of task 3; `evaluation` is a Segmentation of its scored test slices, without labels."""

    evaluation: Segmentation

    @property
    def table(self):
        return self.evaluation.table

    @property
    def truth(self) -> np.ndarray:
        return self.evaluation.true

    def asks_like(self, other: Evaluated) -> bool:
        return True

    def of(self, rows: np.ndarray) -> Self:
        table, counts = self.table.iloc[rows].reset_index(drop=True), self.evaluation.counts[rows]
        return replace(self, evaluation=replace(self.evaluation, table=table, counts=counts))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        measured = evaluate.measure(self.evaluation, weights)
        return {name: values for name, values in measured.items() if name in COMPARED}


def read_evaluated(work: Workspace, experiment: str) -> Segmented:
    """Read metrics.json and per_slice.csv of an experiment. Stops when they do not belong together."""
    folder = work.task(3) / experiment
    content, mismatch = comparison.evaluated(work, 3, folder, "per_slice.csv")
    frame = tables.read_csv(folder / "per_slice.csv", COLUMNS)
    if len(frame) != content["n"]:
        raise mismatch
    table = frame[["image_id", "patient", "fold", "part", "hd95", "nsd", "distance_unit"]]
    table = table.assign(y=np.nan, factor=1.0, unit="px")  # relative errors of volumes are those of pixels
    counts = frame[list(COUNTS)].to_numpy(dtype=np.int64)
    compared = content | {"metrics": {name: content["metrics"][name] for name in COMPARED}}
    return Segmented(experiment, compared, Segmentation(table, counts, [], frame.iloc[:0], None))
