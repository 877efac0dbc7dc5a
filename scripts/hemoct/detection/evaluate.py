"""From predicted boxes of task 2 to metrics.json: one threshold a fold, metrics of slices, boxes and lesions.

A slice's score is the confidence of its best box (0 without one), its truth whether it has a true box. The threshold of a fold
is that of its slices (hemoct.evaluation.decisions), and the same threshold says which boxes count.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.detection import data as detection_data, lesions, metrics, predictions
from hemoct.detection.data import BoxData
from hemoct.detection.metrics import FROC_LEVELS, LOCALISATION_IOUS, Matched
from hemoct.detection.predictions import Scene
from hemoct.evaluation import (
    bootstrap,
    comparison,
    decisions,
    metrics as evaluation_metrics,
    predictions as evaluation_predictions,
    scores,
    thresholds,
)
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation
from hemoct.evaluation.subjects import Subject
from hemoct.evaluation.thresholds import MAX_F1, Rule

LABEL = "lesion box"
QUESTION = decisions.Question([LABEL], LABEL, probability=False)
ANY_BOX = "any box above 0.001"
FIXED = thresholds.FIXED | {ANY_BOX: 0.001 + 1e-9}
"""operating points with a fixed threshold; ANY_BOX is the rule of the published results"""


@dataclass(frozen=True)
class BoxEvaluation:
    """Test images of one or more folds: row i of `scene` and of `slices.test`, and image i of `matched`, are the same."""

    scene: Scene
    slices: Evaluation
    """positive or not, by the best box, with the rules of the folds"""
    matched: Matched
    numbers: pd.Series
    """slice number by image_id, NA where unknown"""
    linked: pd.DataFrame
    """the true boxes with their lesions (hemoct.detection.lesions), in the order of `matched`"""

    @property
    def thresholds(self) -> np.ndarray:
        """The threshold that applies to the boxes of each test image: float64 (n,)."""
        return self.slices.thresholds(MAX_F1)

    @property
    def above_threshold(self) -> np.ndarray:
        """Which predicted boxes of `matched` are at or above the threshold of their image: bool (D,)."""
        return self.matched.confidence >= self.thresholds[self.matched.image]

    @cached_property
    def per_lesion(self) -> pd.DataFrame:
        """per_lesion.csv"""
        return lesions.per_lesion(self.linked, metrics.best_confidence(self.matched), self.thresholds)

    @property
    def rows_of_folds(self) -> dict[Any, np.ndarray]:
        """The test images of each fold: bool (n,) by fold."""
        folds = self.scene.table["fold"].to_numpy()
        return {fold: folds == fold for fold in np.unique(folds).tolist()}

    @property
    def folds_with_truth(self) -> dict[Any, np.ndarray]:
        """Those of `rows_of_folds` that have a true box."""
        return {fold: rows for fold, rows in self.rows_of_folds.items() if self.scene.positive[rows].any()}

    def of(self, rows: np.ndarray) -> Self:
        """The test images of a boolean mask alone."""
        scene, slices = self.scene.of(rows), replace(self.slices, test=self.slices.test.of(rows))
        return BoxEvaluation(scene, slices, self.matched.of(rows), self.numbers, lesions.link(scene, self.numbers))

    def of_fold(self, fold: int | str) -> Self:
        """The test images of one fold alone."""
        return replace(self.of((self.scene.table["fold"] == fold).to_numpy()), slices=self.slices.of_fold(fold))


def evaluate(frame: pd.DataFrame, data: BoxData, boxes: pd.DataFrame, rules: list[Rule] | None = None) -> BoxEvaluation:
    """Choose the threshold of each fold on its validation slices, and apply it to its test slices.

    `frame`: checked predictions; `boxes`: boxes.csv. With `rules` of other data, their mean thresholds are applied, frozen.
    """
    both_parts = predictions.scene(frame, boxes, data.classes)
    table = both_parts.table.assign(**{f"y_{LABEL}": both_parts.positive.astype(int), f"p_{LABEL}": both_parts.score})
    if rules is None:
        slices = decisions.evaluate(table, QUESTION, FIXED)
    else:
        slices = decisions.evaluate_external(table, rules, QUESTION)
    scene = both_parts.of((both_parts.table["part"] == "test").to_numpy())
    tested = set(scene.table["patient"])
    slices = replace(slices, unknown=sum(patient in tested for patient in data.unknown))
    numbers = data.table.set_index("image_id")["slice"]
    return BoxEvaluation(scene, slices, metrics.match(scene), numbers, lesions.link(scene, numbers))


# ---- metrics


def measure(evaluation: BoxEvaluation, weights: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of the boxes for weights (R, n): name to values (R,), and name to values at several levels (R, levels).

    Of the boxes at or above the thresholds, pooled over the folds: `box_precision`, `box_recall`, `box_f1` (IoU >= 0.5) and
    `lesion_recall`; at LOCALISATION_IOUS `accuracy` and `false_positives_per_image`. Metrics without a threshold are means over
    the folds that have a true box: `map50`, `map50_95`, `froc_mean`; `froc` at FROC_LEVELS; for several classes `ap50` and
    `ap50_95` of each.
    """
    matched, thresholds, resamples = evaluation.matched, evaluation.thresholds, len(weights)
    values = metrics.of_boxes(matched, thresholds, weights)
    accuracy, false_positives = metrics.localisation(matched, thresholds, weights)
    folds = [(matched.of(rows), weights[:, rows]) for rows in evaluation.folds_with_truth.values()]
    average = [metrics.average_precision(*fold) for fold in folds]
    values |= {name: _mean([of_fold[name] for of_fold in average], resamples) for name in ("map50", "map50_95")}
    levels = {"froc": _mean([metrics.froc(*fold) for fold in folds], resamples, len(FROC_LEVELS))}
    levels |= {"accuracy": accuracy, "false_positives_per_image": false_positives}
    values["froc_mean"] = levels["froc"].mean(axis=1)
    patients = evaluation.scene.table["patient"].to_numpy()
    values["lesion_recall"] = lesions.lesion_recall(evaluation.per_lesion, patients, weights)
    if matched.classes > 1 and folds:
        levels |= _of_classes(folds)
    return values, levels


def _mean(of_folds: list[np.ndarray], *shape: int) -> np.ndarray:
    return np.mean(of_folds, axis=0) if of_folds else np.full(shape, np.nan)


def _of_classes(folds: list[tuple[Matched, np.ndarray]]) -> dict[str, np.ndarray]:
    """`ap50` and `ap50_95` (R, classes), each class over the folds that have a true box of it."""
    of_folds = [metrics.class_precision(*fold) for fold in folds]
    means = []
    for label in range(of_folds[0].shape[1]):
        there = [(matched.true_label == label).any() for matched, _ in folds]
        means.append(_mean([values[:, label] for values in compress(of_folds, there)], *of_folds[0][:, label].shape))
    precision = np.stack(means, axis=1)
    return {"ap50": precision[:, :, 0], "ap50_95": precision.mean(axis=2)}


def report(evaluation: BoxEvaluation, about: dict[str, Any], per_patient: pd.DataFrame, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation: that of the slices (hemoct.evaluation.scores), with what the boxes add to it."""
    content = scores.report(evaluation.slices, about, per_patient, bootstrap.RESAMPLES, seed)
    table = evaluation.scene.table
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), bootstrap.RESAMPLES, seed)
    values, levels = measure(evaluation, evaluation_metrics.ones(len(table)))
    drawn, drawn_levels = measure(evaluation, weights)
    for name, value in values.items():
        entry = scores.entry(value[0], drawn[name], scores.reason(name))
        content["metrics"][name], content["bootstrap"]["dropped"][name] = entry

    def cells(name: str) -> list[dict[str, Any]]:
        columns = zip(levels[name][0], drawn_levels[name].T, strict=True)
        return [scores.entry(value, resampled, "no true box")[0] for value, resampled in columns]

    per_lesion, found = len(evaluation.per_lesion), int(evaluation.per_lesion["found"].sum())
    content["boxes"] = _counts(evaluation)
    content["lesions"] = {"true": per_lesion, "found": found, "missed": per_lesion - found}
    lost = sorted(evaluation.rows_of_folds.keys() - evaluation.folds_with_truth.keys())
    content["notes"] += [f"fold {fold}: no true box, so it is left out of mean mAP and FROC" for fold in lost]
    steps = zip(FROC_LEVELS.tolist(), cells("froc"), strict=True)
    content["froc"] = [{"false_positives_per_image": level, **cell} for level, cell in steps]
    of_ious = {name: cells(name) for name in ("accuracy", "false_positives_per_image")}
    content["localisation"] = pd.DataFrame({"iou": LOCALISATION_IOUS.round(1), **of_ious}).to_dict("records")
    if "ap50" in levels:
        classes = evaluation.scene.classes
        counts = np.bincount(evaluation.matched.true_label, minlength=len(classes))
        of_classes = {"class": classes, "true_boxes": counts, "ap50": cells("ap50"), "ap50_95": cells("ap50_95")}
        content["classes"] = pd.DataFrame(of_classes).to_dict("records")
    return content


def _counts(evaluation: BoxEvaluation) -> dict[str, int]:
    kept = evaluation.above_threshold
    true, predicted, hits = len(evaluation.matched.true_image), int(kept.sum()), int(evaluation.matched.hit()[kept].sum())
    return {"true": true, "predicted": predicted, "hits": hits, "missed": true - hits, "false_alarms": predicted - hits}


# ---- an evaluated experiment, read again


class EvaluatedBoxes(Evaluated):
    """An evaluated experiment of task 2; `evaluation` is a BoxEvaluation, its images in the order of their identifiers."""

    evaluation: BoxEvaluation

    @property
    def table(self) -> pd.DataFrame:
        return self.evaluation.scene.table

    @property
    def truth(self) -> np.ndarray:
        return np.array([len(of_image) for of_image in self.evaluation.scene.truth])

    def asks_like(self, other: Evaluated) -> bool:
        return self.evaluation.scene.classes == other.evaluation.scene.classes

    def at(self, common: np.ndarray) -> Self:
        return replace(self, evaluation=self.evaluation.of(self.table["image_id"].isin(common).to_numpy()))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return scores.measure(self.evaluation.slices, weights) | measure(self.evaluation, weights)[0]


def read(work: Workspace, experiment: str) -> EvaluatedBoxes:
    """Read metrics.json and the predicted boxes of an experiment, evaluated as they were."""
    folder = work.task(2) / experiment
    content, mismatch = comparison.evaluated(work, 2, folder, "predictions.csv")
    data = detection_data.load(work, content.get("limit_patients"))
    subject = Subject(2, experiment, work, work, evaluation_predictions.fold_folders(work, 2, experiment), None)
    frame = predictions.read_folds(subject, data)[0].sort_values("image_id", kind="stable")
    evaluation = evaluate(frame, data, tables.read_boxes(work))
    if len(evaluation.scene) != content["n"]:
        raise mismatch
    return EvaluatedBoxes(experiment, content, evaluation)
