"""Baselines that see no pixel: what the place of a slice in its scan, or the prevalence alone, says of the same test images.

Bleeding lies in the middle of a scan more often than at its ends: counting slices is a strong classifier. What does not beat it
has learned nothing from the image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.data.slices import Slices
from hemoct.evaluation import bootstrap, comparison, text
from hemoct.evaluation.comparison import Evaluated
from hemoct.training.options import Selection

POSITION, PREVALENCE = "position", "prevalence"
WORDS = {
    POSITION: "logistic regression on the slice number, its relative place in the scan and the square of that",
    PREVALENCE: "every slice gets the share of positives in training",
}
NO_NUMBERS = "slices have no numbers, or most of them no other slice of the patient beside them"


def places(table: pd.DataFrame) -> pd.DataFrame | None:
    """What is known of a slice without its pixels, float64 by image_id: relative place in the patient's scan (0 first, 1 last),
    its square, the slice number. None where a slice has no number, and where most patients have a single image, as of X-rays: its
    number is that of a file, and may tell from which collection it came. `table`: image_id, patient, slice of all slices."""
    number = table.set_index("image_id")["slice"].astype("Float64")
    by_patient = number.groupby(table["patient"].to_numpy())
    if number.isna().any() or by_patient.size().median() < 2:
        return None
    first, last = by_patient.transform("min"), by_patient.transform("max")
    relative = (number - first) / (last - first).clip(lower=1)
    return pd.DataFrame({"relative": relative, "squared": relative**2, "number": number}).astype(float)


def framed(slices: Slices, truth: pd.DataFrame, folders: list[Path], of: str) -> pd.DataFrame:
    """Every slice in each fold that a folder is named after: image_id, patient, fold, part (train, val, test), y_LABEL.

    `truth`: y_LABEL of the slices, row by row, NaN where unknown. `of`: a key of protocol.PROTOCOLS.
    """
    chosen = Selection(protocol="slice" if of == "slice" else "patient", split="given" if of == "given" else "folds")
    rows = np.arange(len(slices.table))
    return pd.concat([slices.about(slices.fold(folder, chosen), rows).join(truth) for folder in folders], ignore_index=True)


def predictions(frame: pd.DataFrame, name: str, known: pd.DataFrame | None, exclusive: bool = False) -> pd.DataFrame | None:
    """predictions.csv of a baseline: the validation and test rows of `frame`, by what its training rows of the same fold say.

    `frame`: see `framed`; its labels are `exclusive` classes, or each a question of its own. `known`: see `places`. None where
    the baseline does not exist.
    """
    if name == POSITION and known is None:
        return None
    features = known.loc[frame["image_id"]].to_numpy() if name == POSITION else np.zeros((len(frame), 0))
    truth, train = frame.filter(regex="^y_").astype(float), (frame["part"] == "train").to_numpy()
    targets, p = truth.to_numpy(), np.zeros(truth.shape)
    for fold in frame["fold"].unique():
        learned, asked = ((frame["fold"] == fold).to_numpy() & part for part in (train, ~train))
        if exclusive and len(targets.T) > 1:
            p[asked] = _probabilities(features, targets.argmax(axis=1), learned & ~np.isnan(targets).any(axis=1), asked, len(p.T))
        else:
            for label, target in enumerate(targets.T):
                p[asked, label] = _probabilities(features, target, learned & ~np.isnan(target), asked, 2)[:, 1]
    said = pd.DataFrame(p, columns=truth.columns.str.replace("^y", "p", regex=True))
    return pd.concat([frame.reset_index(drop=True), said], axis=1)[~train].reset_index(drop=True)


def _probabilities(features: np.ndarray, targets: np.ndarray, learned: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of the `classes` for the rows `asked` (bool), (k, classes); one that the rows `learned` lack has 0."""
    probabilities, y = np.zeros((asked.sum(), classes)), targets[learned].astype(int)
    if len(np.unique(y)) < 2 or not features.shape[1]:
        probabilities[:] = np.bincount(y, minlength=classes) / max(1, len(y))
        return probabilities
    from sklearn.linear_model import LogisticRegression  # a second: only where there is something to learn
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[learned], y)
    probabilities[:, model.classes_] = model.predict_proba(features[asked])
    return probabilities


def beside(
    own: Evaluated, judge: Callable[[pd.DataFrame], Evaluated], frame: pd.DataFrame, table: pd.DataFrame, seed: int,
    exclusive: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The `baselines` block of metrics.json: for each its words, metrics, and the paired difference of the model, `own`, to it.

    `judge` evaluates predictions of validation and test images as those of the model were; `frame`: see `framed`; `table`: see
    `places`. Test images are those of the model.
    """
    block, known = {}, places(table)
    for name, words in WORDS.items():
        said = predictions(frame, name, known, exclusive)
        if said is None:
            block[name] = {"what": words, "metrics": None, "reason": NO_NUMBERS}
            continue
        tested = said["image_id"].isin(own.table["image_id"]) | (said["part"] == "val")
        blind = judge(said[tested].reset_index(drop=True))
        values = blind.block(bootstrap.RESAMPLES, seed)
        paired, _ = comparison.differences(blind, own, bootstrap.RESAMPLES, seed)
        block[name] = {"what": words, "n": len(blind.table), "metrics": values, "difference": {
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
