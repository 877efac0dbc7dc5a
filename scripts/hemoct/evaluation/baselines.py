"""Baselines that see no pixel: what the place of a slice in its scan, or the prevalence alone, says of the same test images.

Bleeding lies in the middle of a scan more often than at its ends: counting slices is a strong classifier. What does not beat it
has learned nothing from the image.
"""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from hemoct.data.slices import SliceData
from hemoct.evaluation import bootstrap, comparison, decisions, metrics, scores, text
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation
from hemoct.evaluation.thresholds import EXPECTED_F1, MAX_F1

POSITION, PREVALENCE = "position", "prevalence"
WORDS = {
    POSITION: "logistic regression on the slice number, its relative place in the scan and the square of that",
    PREVALENCE: "every slice gets the share of positives in training",
}
NO_NUMBERS = "slices have no numbers"


def places(table: pd.DataFrame) -> np.ndarray | None:
    """What is known of a slice without its pixels, float64 (n, 3): relative place in the patient's scan (0 first, 1 last), its
    square, the slice number. None where a slice has no number. `table`: patient, slice of all slices of each patient."""
    number = table["slice"].astype("Float64")
    if number.isna().any():
        return None
    by_patient = number.groupby(table["patient"])
    first, last = by_patient.transform("min"), by_patient.transform("max")
    relative = ((number - first) / (last - first).clip(lower=1)).to_numpy(dtype=float)
    return np.column_stack([relative, relative**2, number.to_numpy(dtype=float)])


def predictions(data: SliceData, parts: dict[int, np.ndarray], name: str) -> pd.DataFrame | None:
    """predictions.csv of a baseline: the validation and test slices of each fold, by what its training slices say.

    `parts`: train, val or test of each slice of `data`, by fold. None where the baseline does not exist.
    """
    features = places(data.table) if name == POSITION else np.zeros((len(data.table), 1))
    if features is None:
        return None
    frames = []
    for fold, part in parts.items():
        rows = np.flatnonzero(part != "train")
        frame = data.table.loc[rows, ["image_id", "patient"]].assign(fold=fold, part=part[rows])
        frames.append(_with_columns(frame, data, features, rows, np.flatnonzero((part == "train") & data.known)))
    return pd.concat(frames, ignore_index=True)


def _with_columns(
    frame: pd.DataFrame, data: SliceData, features: np.ndarray, rows: np.ndarray, learned: np.ndarray
) -> pd.DataFrame:
    """`frame` with y_LABEL and p_LABEL of the slices `rows`, fitted on the slices `learned`."""
    if data.exclusive and len(data.classes) > 1:
        columns = _probabilities(features, data.targets[learned].argmax(axis=1), learned, rows, len(data.classes))
    else:
        columns = np.column_stack([_probabilities(features, data.targets[learned, label].astype(int), learned, rows, 2)[:, 1]
                                   for label in range(len(data.classes))])  # fmt: skip
    for label, name in enumerate(data.classes):
        frame[f"y_{name}"], frame[f"p_{name}"] = data.targets[rows, label], columns[:, label]
    return frame


def _probabilities(features: np.ndarray, targets: np.ndarray, learned: np.ndarray, rows: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of the `classes` for the slices `rows`, (k, classes); a class that training lacks has 0."""
    probabilities = np.zeros((len(rows), classes))
    present = np.unique(targets)
    if len(present) < 2 or features.shape[1] == 1:
        probabilities[:] = np.bincount(targets, minlength=classes) / max(1, len(targets))
        return probabilities
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[learned], targets)
    probabilities[:, model.classes_] = model.predict_proba(features[rows])
    return probabilities


def beside(evaluation: Evaluation, data: SliceData, parts: dict[int, np.ndarray], resamples: int, seed: int) -> dict[str, Any]:
    """The `baselines` block of metrics.json: for each its words, metrics, and the paired difference of the model to it.

    `data`: all slices with their targets; `parts`: see `predictions`. Test images are those of the evaluation.
    """
    own = Evaluated("model", {"protocol": ""}, evaluation)
    block = {}
    for name in (POSITION, PREVALENCE):
        frame = predictions(data, parts, name)
        if frame is None:
            block[name] = {"what": WORDS[name], "metrics": None, "reason": NO_NUMBERS}
            continue
        tested = frame["image_id"].isin(evaluation.test.table["image_id"]) | (frame["part"] == "val")
        decides = EXPECTED_F1 if evaluation.rules[0].decides == EXPECTED_F1 else MAX_F1
        blind = decisions.evaluate(frame[tested].reset_index(drop=True), evaluation.question, decides=decides)
        table = blind.test.table
        weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), resamples, seed)
        values, _ = scores.with_intervals(scores.measure(blind, metrics.ones(len(table))), scores.measure(blind, weights))
        paired, _ = comparison.differences(Evaluated(name, {"protocol": ""}, blind), own, resamples, seed)
        block[name] = {"what": WORDS[name], "n": len(table), "metrics": values, "difference": {
            key: {"value": value, "ci95": None if np.isnan(low) else [low, high]} for key, (value, low, high) in paired.items()
            if not np.isnan(value)
        }}  # fmt: skip
    return block


def beaten(block: dict[str, Any], name: str, key: str) -> bool | None:
    """Whether a model is better than a baseline in a metric: the interval of their paired difference lies above 0. None where
    that is not known. `block`: `baselines` of metrics.json."""
    difference = ((block.get(name) or {}).get("difference") or {}).get(key) or {}
    return difference["ci95"][0] > 0 if difference.get("ci95") else None


def sentence(block: dict[str, Any], key: str) -> str:
    """Whether a model beats the place of the slice, by the interval of the paired difference in a metric; "" where unknown."""
    beats = beaten(block, POSITION, key)
    if beats is None:
        return ""
    difference, value = block[POSITION]["difference"][key], block[POSITION]["metrics"][key]["value"]
    words = "beats" if beats else "does not beat"
    how = text.interval(difference["value"], *difference["ci95"], "+", " to ")
    return f"{words} the place of the slice alone ({key} {value:.3f}): difference {how}"
