"""From predicted boxes of task 2 to metrics.json: read, checked, one threshold a fold, metrics of slices, boxes and lesions.

A slice's score is the confidence of its best box (0 without one), its truth whether it has a true box. The threshold of a fold
is that of its slices (hemoct.evaluation.decisions), and the same threshold says which boxes count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.detection import lesions, metrics
from hemoct.detection import scene as detection_scene
from hemoct.detection.data import BoxData
from hemoct.detection.metrics import FROC_LEVELS, LOCALISATION_IOUS, Matched
from hemoct.detection.scene import Scene
from hemoct.evaluation import bootstrap, decisions, external, predictions, scores, thresholds
from hemoct.evaluation import metrics as evaluation_metrics
from hemoct.evaluation.decisions import Evaluation
from hemoct.evaluation.thresholds import MAX_F1, Rule

LABEL = "lesion box"
ASKED = decisions.Question([LABEL], LABEL, probability=False)
ANY_BOX = "any box above 0.001"
FIXED = thresholds.FIXED | {ANY_BOX: 0.001 + 1e-9}
"""operating points that nothing is chosen for; ANY_BOX is the rule of the published results"""
HIT = f"IoU >= {metrics.HIT_IOU}"
GEOMETRY = ["confidence", *detection_scene.CORNERS]
AGAIN_OR_FEWER = f"{predictions.AGAIN[2]}, or evaluate the patients that it was trained with alone: --limit-patients N"


@dataclass(frozen=True)
class Detection:
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

    def of_fold(self, fold: int | str) -> Detection:
        rows = (self.scene.table["fold"] == fold).to_numpy()
        scene = self.scene.of(rows)
        return Detection(scene, self.slices.of_fold(fold), self.matched.of(rows), self.numbers, lesions.link(scene, self.numbers))

    @property
    def per_lesion(self) -> pd.DataFrame:
        """per_lesion.csv"""
        return lesions.per_lesion(self.linked, metrics.best_confidence(self.matched), self.thresholds)


# ---- predictions, read and checked


def read(work: Workspace, experiment: str, data: BoxData) -> tuple[pd.DataFrame, str]:
    """Predicted boxes of all folds of an experiment for the slices of `data`, and their protocol.

    Stops when they are wrong (see `check`), older than their model, or do not hold all slices of `data` that belong to them.
    """
    table = tables.read_labels(work, tables.read_dataset(work))
    frame, protocol = predictions.joined(work, 2, experiment, lambda folder: _read_fold(work, folder, table, data.classes))
    frame = frame[frame["image_id"].isin(data.table["image_id"])]
    for fold, of_fold in frame.groupby("fold") if protocol != "unknown" else []:
        part = data.part_of(fold, protocol, "given" if protocol == "given" else "folds")
        path = work.task(2) / experiment / f"fold{fold}" / "predictions.csv"
        _stop_if_missing(work.show(path), data.table["image_id"][part != "train"], of_fold, AGAIN_OR_FEWER)
    if frame.empty:
        raise UserError(
            f"{work.show(work.task(2) / experiment)}: no slice with a known label is predicted; {predictions.AGAIN[2]}"
        )
    return frame, protocol


def read_external(work: Workspace, experiment: str, other: Workspace, data: BoxData) -> pd.DataFrame:
    """The boxes of the fused fold models on another data set, as 05_predict.py --on left them."""
    path, again = external_file(work, experiment, other.dataset), external.again(work, 2, experiment, other.dataset)
    table = tables.read_labels(other, tables.read_dataset(other))
    frame = check(tables.read_predictions(path.parent, ["class", *GEOMETRY]), path, table, data.classes, again)
    frame = frame[frame["image_id"].isin(data.table["image_id"])]
    _stop_if_missing(work.show(path), data.table["image_id"], frame, again)
    return frame.assign(fold="mean", part="test")


def external_file(work: Workspace, experiment: str, other: str) -> Path:
    """predictions.csv of other data; stops when it is missing or older than the models."""
    return external.predictions_csv(work, 2, experiment, other, experiments.folds(work.task(2) / experiment, "best.pt"))


def _read_fold(work: Workspace, folder: Path, labels: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    path = folder / "predictions.csv"
    if not predictions.is_current(work, folder, made_with=()):
        raise UserError(f"{work.show(path)} is missing or older than best.pt; {predictions.AGAIN[2]}")
    return check(tables.read_predictions(folder, ["class", *GEOMETRY]), path, labels, classes)


def _stop_if_missing(path: str, wanted: pd.Series, frame: pd.DataFrame, again: str) -> None:
    missing = wanted[~wanted.isin(frame["image_id"])]
    if len(missing):
        raise UserError(f"{path} lacks {len(missing)} of {len(wanted)} slices (first: {missing.iloc[0]}); {again}")


def check(
    frame: pd.DataFrame, path: Path, labels: pd.DataFrame, classes: list[str], again: str = predictions.AGAIN[2]
) -> pd.DataFrame:
    """Stop when predicted boxes cannot be what they should: see the messages. `labels`: labels.csv of the same data.

    `again`: how the boxes are made again, for the message.
    Returns the columns of the contract, confidence and corners as float64.
    """
    numbers = frame[GEOMETRY].apply(pd.to_numeric, errors="coerce").astype(float)
    empty = (frame["class"] == "") & frame[GEOMETRY].isna().all(axis=1)
    patient_of = labels.set_index("image_id")["patient"]
    several = frame.duplicated(["image_id", "fold"], keep=False)
    parts_of_image = frame.groupby(["image_id", "fold"])["part"].transform("nunique")
    wrong = {
        "part must be val or test": ~frame["part"].isin(["val", "test"]),
        "image of no row of labels.csv": ~frame["image_id"].isin(patient_of.index),
        "other patient than in labels.csv": frame["patient"].ne(frame["image_id"].map(patient_of)),
        f"class that is not one of {', '.join(classes)}": ~frame["class"].isin(classes) & ~empty,
        "confidence or corner that is no number": ~np.isfinite(numbers).all(axis=1) & ~empty,
        "confidence that is not from 0 to 1": ~numbers["confidence"].between(0, 1) & ~empty,
        "corners out of order": (numbers["xmax"] < numbers["xmin"]) | (numbers["ymax"] < numbers["ymin"]),
        "image in two parts": parts_of_image > 1,
        "empty row of an image that has other rows": empty & several,
    }
    for problem, rows in wrong.items():
        if rows.any():
            first = frame.loc[rows, "image_id"].iloc[0]
            raise UserError(f"{path}: {rows.sum()} row(s) with {problem} (first: {first}); correct the file, or {again}")
    return frame[[*tables.PREDICTION_COLUMNS, "class"]].join(numbers)


# ---- decisions


def evaluate(frame: pd.DataFrame, data: BoxData, boxes: pd.DataFrame, rules: list[Rule] | None = None) -> Detection:
    """Choose the threshold of each fold on its validation slices, and apply it to its test slices.

    `frame`: checked predictions; `boxes`: boxes.csv. With `rules` of other data, their mean thresholds are applied, frozen.
    """
    whole = detection_scene.scene(frame, boxes, data.classes)
    table = whole.table.assign(**{f"y_{LABEL}": whole.positive.astype(int), f"p_{LABEL}": whole.score})
    if rules is None:
        slices = decisions.evaluate(table, ASKED, FIXED)
    else:
        slices = decisions.evaluate_external(table, rules, ASKED)
    scene = whole.of((whole.table["part"] == "test").to_numpy())
    tested = set(scene.table["patient"])
    slices = replace(slices, unknown=sum(patient in tested for patient in data.unknown))
    numbers = data.table.set_index("image_id")["slice"]
    return Detection(scene, slices, metrics.match(scene), numbers, lesions.link(scene, numbers))


# ---- metrics


def measure(found: Detection, weights: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of the boxes for weights (R, n): name to values (R,), and name to values at several levels (R, levels).

    Of the boxes at or above the thresholds, pooled over the folds: `box_precision`, `box_recall`, `box_f1` (IoU >= 0.5) and
    `lesion_recall`; at LOCALISATION_IOUS `localisation_accuracy` and `false_positives` an image. Free of a threshold, hence
    the mean over the folds that have a true box: `map50`, `map50_95`, `froc_mean`; `froc` at FROC_LEVELS; for several classes
    `ap50` and `ap50_95` of each.
    """
    values = metrics.of_boxes(found.matched, found.thresholds, weights)
    accuracy, false_positives = metrics.localisation(found.matched, found.thresholds, weights)
    parts = [rows for rows in _folds(found) if found.scene.of(rows).positive.any()]
    matched = [found.matched.of(rows) for rows in parts]
    drawn = [weights[:, rows] for rows in parts]
    average = [metrics.average_precision(*of_fold) for of_fold in zip(matched, drawn, strict=True)]
    for name in ("map50", "map50_95"):
        values[name] = _mean([of_fold[name] for of_fold in average], (len(weights),))
    froc = [metrics.froc(*of_fold) for of_fold in zip(matched, drawn, strict=True)]
    levels = {"froc": _mean(froc, (len(weights), len(FROC_LEVELS)))}
    levels |= {"localisation_accuracy": accuracy, "false_positives": false_positives}
    values["froc_mean"] = levels["froc"].mean(axis=1)
    values["lesion_recall"] = lesions.lesion_recall(found.per_lesion, found.scene.table["patient"].to_numpy(), weights)
    if len(found.scene.classes) > 1 and matched:
        levels |= _of_classes(matched, drawn)
    return values, levels


def _folds(found: Detection) -> list[np.ndarray]:
    """The test images of each fold: bool (n,) each."""
    folds = found.scene.table["fold"].to_numpy()
    return [folds == fold for fold in np.unique(folds)]


def _mean(of_folds: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.mean(of_folds, axis=0) if of_folds else np.full(shape, np.nan)


def _of_classes(matched: list[Matched], drawn: list[np.ndarray]) -> dict[str, np.ndarray]:
    """`ap50` and `ap50_95` (R, classes), a class at a time over the folds that have a true box of it."""
    of_folds = [metrics.class_precision(*of_fold) for of_fold in zip(matched, drawn, strict=True)]
    classes, resamples = matched[0].classes, len(drawn[0])
    columns = []
    for label in range(classes):
        kept = [of_fold[:, label] for of_fold, one in zip(of_folds, matched, strict=True) if (one.true_label == label).any()]
        columns.append(_mean(kept, (resamples, len(metrics.COCO_IOUS))))
    precision = np.stack(columns, axis=1)
    return {"ap50": precision[:, :, 0], "ap50_95": precision.mean(axis=2)}


def report(found: Detection, about: dict[str, Any], per_patient: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """metrics.json of an evaluation: that of the slices (hemoct.evaluation.decisions), with what the boxes add to it."""
    content = scores.report(found.slices, about, per_patient, resamples, seed)
    table = found.scene.table
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), resamples, seed)
    values, levels = measure(found, evaluation_metrics.ones(len(table)))
    drawn, drawn_levels = measure(found, weights)
    block, dropped = scores.with_intervals(values, drawn)
    content["metrics"] |= block
    content["bootstrap"]["dropped"] |= dropped

    def cells(name: str) -> list[dict[str, Any]]:
        columns = zip(levels[name][0], drawn_levels[name].T, strict=True)
        return [scores.entry(value, resampled, "no true box")[0] for value, resampled in columns]

    content |= {"boxes": _counts(found), "lesions": _lesion_counts(found.per_lesion)}
    content["notes"] += _notes(found)
    content["froc"] = [
        {"false_positives_per_image": level, **cell} for level, cell in zip(FROC_LEVELS.tolist(), cells("froc"), strict=True)
    ]
    at_ious = zip(LOCALISATION_IOUS.round(1).tolist(), cells("localisation_accuracy"), cells("false_positives"), strict=True)
    content["localisation"] = [
        {"iou": iou, "accuracy": accuracy, "false_positives_per_image": alarms} for iou, accuracy, alarms in at_ious
    ]
    if "ap50" in levels:
        of_classes = zip(found.scene.classes, _true_per_class(found), cells("ap50"), cells("ap50_95"), strict=True)
        content["classes"] = [
            {"class": name, "true_boxes": count, "ap50": ap50, "ap50_95": ap50_95} for name, count, ap50, ap50_95 in of_classes
        ]
    return content


def _notes(found: Detection) -> list[str]:
    folds = found.scene.table["fold"].to_numpy()
    without = [fold for fold in np.unique(folds).tolist() if not found.scene.of(folds == fold).positive.any()]
    return [f"fold {fold}: no true box, so it is left out of mean mAP and FROC" for fold in without]


def _true_per_class(found: Detection) -> list[int]:
    return np.bincount(found.matched.true_label, minlength=len(found.scene.classes)).tolist()


def _counts(found: Detection) -> dict[str, Any]:
    kept = called(found)
    hits = int(found.matched.hit()[kept].sum())
    true = len(found.matched.true_image)
    return {
        "true": true,
        "predicted": int(kept.sum()),
        "hits": hits,
        "missed": true - hits,
        "false_alarms": int(kept.sum()) - hits,
    }


def _lesion_counts(per_lesion: pd.DataFrame) -> dict[str, int]:
    hits = int(per_lesion["found"].sum())
    return {"true": len(per_lesion), "found": hits, "missed": len(per_lesion) - hits}


def called(found: Detection) -> np.ndarray:
    """Which predicted boxes of `found.matched` are at or above the threshold of their image: bool (D,)."""
    return found.matched.confidence >= found.thresholds[found.matched.image]
