"""What an evaluated experiment did with the test slices: right or wrong by slice and by patient, from the files that it left."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.detection import metrics as detection_metrics, predictions as detection_predictions
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.report.results import Experiment

Slice = dict[str, Any]
"""`labels`: name, probability, threshold or None, whether it is called, truth or None of each; `words`"""


@dataclass
class Outcome:
    """Slices go by their image_id."""

    measure: str
    """what the error of a patient is"""
    rising: bool
    """whether more of it is worse"""
    errors: dict[str, tuple[float, str]] = field(default_factory=dict)
    """of each patient, and in words"""
    mistakes: list[tuple[float, str, str, str]] = field(default_factory=list)
    """how bad, image_id, kind, words"""
    slices: dict[str, Slice] = field(default_factory=dict)
    boxes: dict[str, np.ndarray] = field(default_factory=dict)
    """float (k, 4): those at or above the threshold"""
    maps: dict[str, tuple[Path, int]] = field(default_factory=dict)
    """the probability map, and the level from which on a pixel is called"""

    def count(self, patient: str, wrong: int) -> None:
        """Add mistakes of a patient."""
        total = self.errors.get(patient, (0, ""))[0] + wrong
        self.errors[patient] = (total, f"{total:.0f} wrong")


def read(work: Workspace, one: Experiment, known: Collection[str], boxes: pd.DataFrame) -> Outcome:
    """The outcome of an experiment. `known`: the images that the data set still has; `boxes`: boxes.csv."""
    if one.task == 3:
        return _of_masks(one, known)
    columns = detection_predictions.COLUMNS if one.task == 2 else []
    numbers = {fold["fold"] for fold in one.content["folds"]}
    folders = [folder for folder in experiments.folds(one.folder, "predictions.csv") if experiments.fold_of(folder) in numbers]
    frames = [tables.read_predictions(folder, columns) for folder in folders]
    if not frames:
        raise UserError(f"{work.show(one.folder)}: no evaluated fold has a predictions.csv; evaluate it again")
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[(frame["part"] == "test") & frame["image_id"].isin(known)].reset_index(drop=True)
    return _of_boxes(one, frame, boxes) if one.task == 2 else _of_labels(one, frame)


def _of_labels(one: Experiment, frame: pd.DataFrame) -> Outcome:
    """Tasks 1 and 4: each label of each slice is right or wrong; without thresholds the most probable class is called."""
    outcome = Outcome("labels wrong" if one.task == 4 else "slices wrong", rising=True)
    names, positive = evaluation_predictions.label_columns(frame), one.content.get("positive")
    names = [positive] if one.task == 1 and positive in names else names
    probability, truth = (frame[[f"{kind}_{name}" for name in names]].to_numpy(dtype=float) for kind in "py")
    folds = one.content["folds"]
    of_fold = {fold["fold"]: fold.get("thresholds") or dict.fromkeys(names, fold.get("threshold")) for fold in folds}
    least = np.array([[of_fold[fold].get(name) for name in names] for fold in frame["fold"]], dtype=float).reshape(len(frame), -1)
    none = np.isnan(least)
    called = np.where(none, probability == probability.max(axis=1, keepdims=True), probability >= least)
    wrong = (called != truth) & ~np.isnan(truth)
    away = abs(probability - np.where(none, 0.5, least))
    for row, (image_id, patient) in enumerate(zip(frame["image_id"], frame["patient"], strict=True)):
        each = zip(names, *(values[row] for values in (probability, least, called, truth)), strict=True)
        labels = [[name, _number(p), _number(limit), bool(call), _number(true)] for name, p, limit, call, true in each]
        outcome.slices[image_id] = {"labels": labels, "words": ""}
        for at in np.flatnonzero(wrong[row]):
            said = f"{names[at]} {probability[row, at]:.2f}" + ("" if none[row, at] else f", threshold {least[row, at]:.2f}")
            outcome.mistakes.append((float(away[row, at]), image_id, "false alarm" if called[row, at] else "missed", said))
        outcome.count(patient, int(wrong[row].sum()) if one.task == 4 else int(wrong[row].any()))
    return outcome


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _of_boxes(one: Experiment, frame: pd.DataFrame, boxes: pd.DataFrame) -> Outcome:
    """Task 2: true boxes that none above the threshold hits (IoU at least HIT_IOU), and boxes that hit none."""
    outcome = Outcome("boxes wrong", rising=True)
    least = {fold["fold"]: fold["threshold"] for fold in one.content["folds"]}
    below = ~(frame["confidence"] >= frame["fold"].map(least).astype(float))
    frame = frame.assign(**{name: frame[name].mask(below) for name in detection_predictions.GEOMETRY})
    boxes = boxes[boxes["image_id"].isin(frame["image_id"])]
    classes = sorted({*boxes["class"], *frame["class"]} - {""})
    scene = detection_predictions.scene(frame, boxes, classes)
    matched = detection_metrics.match(scene)
    partner = matched.partner[:, int(abs(detection_metrics.IOUS - detection_metrics.HIT_IOU).argmin())]
    true, true_image = scene.true_boxes
    missed = np.flatnonzero(~np.isin(np.arange(len(true)), partner))
    names = scene.table["image_id"]
    for box, row in zip(true[missed], true_image[missed], strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        outcome.mistakes.append((1 + width * height, names[row], "missed box", f"{width:.0f} x {height:.0f} px"))
    for confidence, row in zip(matched.confidence[partner < 0], matched.image[partner < 0], strict=True):
        outcome.mistakes.append((float(confidence), names[row], "false box", f"confidence {confidence:.2f}"))
    wrong = np.bincount([*true_image[missed], *matched.image[partner < 0]], minlength=len(scene))
    for row, (image_id, patient) in enumerate(zip(names, scene.table["patient"], strict=True)):
        predicted = scene.predicted[row]
        best = f", confidence {predicted[0, 4]:.2f}" if len(predicted) else ""
        words = f"boxes: {len(predicted)} predicted, {len(scene.truth[row])} true{best}"
        outcome.boxes[image_id] = predicted[:, :4]
        outcome.slices[image_id] = {"labels": [], "words": words}
        outcome.count(patient, int(wrong[row]))
    return outcome


def _of_masks(one: Experiment, known: Collection[str]) -> Outcome:
    """Task 3: Dice of each patient and slice as the evaluation wrote them."""
    outcome = Outcome("Dice", rising=False)
    levels = {fold["fold"]: fold["threshold"] for fold in one.content["folds"]}
    patients = tables.read_csv(one.folder / "per_patient.csv", ["patient", "dice"]).dropna(subset="dice")
    outcome.errors = {name: (dice, f"Dice {dice:.2f}") for name, dice in zip(patients["patient"], patients["dice"], strict=True)}
    slices = tables.read_csv(one.folder / "per_slice.csv", ["image_id", "fold", "part", "true_px", "predicted_px", "dice"])
    for row in slices[(slices["part"] == "test") & slices["image_id"].isin(known)].itertuples():
        said = f"{row.true_px:.0f} px true, {row.predicted_px:.0f} px predicted"
        said = said if np.isnan(row.dice) else f"Dice {row.dice:.2f}, {said}"
        outcome.slices[row.image_id] = {"labels": [], "words": f"mask: {said}"}
        path = one.folder / f"fold{row.fold}" / "probability" / f"{row.image_id}.png"
        if levels.get(row.fold) is not None:
            outcome.maps[row.image_id] = (path, int(levels[row.fold]))
        if row.dice < 1:
            kind = "missed mask" if not row.predicted_px else "false mask" if not row.true_px else "low Dice"
            larger = min(1e-9 * (row.true_px + row.predicted_px), 1e-3)  # of equal ones the larger comes first
            outcome.mistakes.append((1 - row.dice + larger, row.image_id, kind, said))
    return outcome
