"""Ensembles of classifiers, of tasks 1 and 4: the probabilities of several experiments put together, fold by fold.

What is fitted, is fitted on the fold's validation images; test is only predicted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import predictions

SETTING = ("splits_sha256", "protocol", "split", "classes", "exclusive")
"""what members must have in common, by model.json"""
KEYS = tables.PREDICTION_COLUMNS
TINY = 1e-6  # probabilities of 0 and 1 have no finite logit


@dataclass(frozen=True)
class Members:
    """What several experiments say of the validation and test images of a fold."""

    table: pd.DataFrame
    """image_id, patient, fold, part"""
    classes: list[str]
    truth: np.ndarray
    """float (n, classes), NaN where unknown"""
    p: np.ndarray
    """float (members, n, classes)"""

    @property
    def fitted_on(self) -> np.ndarray:
        """The validation images, bool (n,)."""
        return self.table["part"].eq("val").to_numpy()


def folds(work: Workspace, task: int, members: list[str], alike: tuple[str, ...] = SETTING) -> dict[str, list[Path]]:
    """The folders of the members by fold: {"fold0": [...]}. Stops where the members do not fit together.

    `alike`: what model.json of all members has to say alike, as far as it says it.
    """
    members = list(dict.fromkeys(members))  # named twice it would count twice
    if len(members) < 2:
        raise UserError(f"{members[0]} alone is no ensemble; name two experiments or more")
    by_member = {name: predictions.fold_folders(work, task, name) for name in members}
    first = [folder.name for folder in by_member[members[0]]]
    for name, folders in by_member.items():
        here = [folder.name for folder in folders]
        if here != first:
            raise UserError(f"{name} has {', '.join(here)}, {members[0]} has {', '.join(first)}; train the missing folds")
    for of_fold in zip(*by_member.values(), strict=True):
        specs = [files.read_json(work.need(folder / "model.json", experiments.train_step(task))) for folder in of_fold]
        for key in alike:
            said = dict.fromkeys(str(spec[key]) for spec in specs if key in spec)
            if len(said) > 1:
                where = f"{of_fold[0].name}/model.json: {' and '.join(said)}"
                raise UserError(f"{', '.join(members)} differ in {key} ({where}); name others, alike in it")
    return {name: [folders[place] for folders in by_member.values()] for place, name in enumerate(first)}


def read(folders: list[Path], several: bool) -> Members:
    """The predictions of one fold of all members. Stops where they speak of other images or labels. `several`: as in task 4."""
    frames = [predictions.check(tables.read_predictions(folder), folder / "predictions.csv", several) for folder in folders]
    frames = [frame.sort_values(KEYS, ignore_index=True) for frame in frames]
    first, classes = frames[0], predictions.label_columns(frames[0])
    said, truth_columns = ([f"{kind}_{name}" for name in classes] for kind in "py")
    for folder, frame in zip(folders, frames, strict=True):
        if list(frame) != list(first) or not frame.drop(columns=said).equals(first.drop(columns=said)):
            raise UserError(
                f"{folder / 'predictions.csv'} speaks of other images, labels or truth than {folders[0] / 'predictions.csv'}; "
                "train both on the same data"
            )
    truth = first[truth_columns].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    p = np.stack([frame[said].to_numpy(dtype=float) for frame in frames])
    return Members(first[KEYS], classes, truth, p)


def combine(members: Members, rule: str, exclusive: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities (n, classes) of an ensemble, and what was fitted for it, for model.json.

    mean: of the probabilities. weights: one for each member, from 0 to 1 with a sum of 1, that make the log loss of validation
    least; for each label, or for all `exclusive` classes at once. stacking: a logistic regression on the members' logits. A label
    of which validation has not both truths gets the mean.
    """
    columns = {"all": slice(None)} if exclusive else {name: [place] for place, name in enumerate(members.classes)}
    parts = {name: _combined(members.p[:, :, of], members.truth[:, of], members.fitted_on, rule) for name, of in columns.items()}
    return np.hstack([p for p, _ in parts.values()]), {name: fitted for name, (_, fitted) in parts.items()}


def _combined(p: np.ndarray, truth: np.ndarray, fitted_on: np.ndarray, rule: str) -> tuple[np.ndarray, dict[str, Any]]:
    """`combine` of one label (a single column), or of exclusive classes (a column each)."""
    fitted_on = fitted_on & ~np.isnan(truth).any(axis=1)
    target = truth[fitted_on].argmax(axis=1) if truth.shape[1] > 1 else truth[fitted_on, 0].astype(int)
    if rule == "mean" or len(np.unique(target)) < max(2, truth.shape[1]):
        return p.mean(axis=0), {"weights": [1 / len(p)] * len(p)}
    if rule == "weights":
        weights = _best_weights(p[:, fitted_on], target)
        return np.tensordot(weights, p, axes=1), {"weights": weights.round(6).tolist()}
    clipped = p.clip(TINY, 1 - TINY)
    scores = np.log(clipped) if truth.shape[1] > 1 else np.log(clipped / (1 - clipped))
    features = scores.transpose(1, 0, 2).reshape(p.shape[1], -1)
    model = LogisticRegression(max_iter=1000).fit(features[fitted_on], target)
    found = model.predict_proba(features)
    fitted = {"coefficients": model.coef_.round(6).tolist(), "intercept": model.intercept_.round(6).tolist()}
    return found if truth.shape[1] > 1 else found[:, [1]], fitted


def _best_weights(p: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights (members,) of the probabilities `p` (members, n, classes) that make the log loss of `target` (n,) least."""
    of_truth = p[:, np.arange(len(target)), target] if p.shape[2] > 1 else np.where(target == 1, p[:, :, 0], 1 - p[:, :, 0])

    def log_loss(weights: np.ndarray) -> float:
        return -np.log((weights @ of_truth).clip(TINY)).mean()

    start = np.full(len(p), 1 / len(p))
    sums_to_one = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    found = minimize(log_loss, start, method="SLSQP", bounds=[(0, 1)] * len(p), constraints=sums_to_one).x.clip(0)
    return found / found.sum()


def write_fold(folder: Path, members: list[Path], found: Members, rule: str, made_by: str) -> list[Path]:
    """Write model.json and predictions.csv of one fold of an ensemble; returns both. `found`: what its `members` say.

    model.json holds what all members have in common, and of each which network it is.
    """
    specs = [files.read_json(member / "model.json") for member in members]
    task, said = specs[0]["task"], {key: [spec[key] for spec in specs if key in spec] for key in (*SETTING, "label")}
    shared = {key: values[0] if values and values.count(values[0]) == len(values) else None for key, values in said.items()}
    p, fitted = combine(found, rule, bool(shared["exclusive"]) and len(found.classes) > 1)
    frame = tables.with_columns(found.table.copy(), found.classes, found.truth, p)
    networks = [{name: spec.get(name) for name in ("backbone", "head")} for spec in specs]
    made_of = [predictions.stage(task, member) | network for member, network in zip(members, networks, strict=True)]
    content = {"task": task, "made_by": made_by, "made_of": made_of, "rule": rule, "fitted": fitted, **shared,
               "fold": experiments.fold_of(folder)}  # fmt: skip
    return [files.write_json(folder / "model.json", content), tables.write_predictions(folder, frame)]
