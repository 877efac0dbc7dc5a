"""Predictions of classifiers, read and checked: of the folds, on other data, as published."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import predictions
from hemoct.evaluation.subjects import Subject
from hemoct.training.options import LINEAR
from hemoct.training.specs import Spec


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(Spec):
    """model.json of task 1: all that rebuilds a classifier and feeds it."""

    TASK = 1

    backbone: str
    classes: list[str]
    """one name: a single logit with sigmoid; several: one logit each"""
    exclusive: bool
    """softmax over the classes instead of a sigmoid for each"""
    label: str | None = None
    joined: list[str] = field(default_factory=list)
    """further backbones, whose features stand beside those of the first"""
    joined_weights: list[dict[str, Any] | None] = field(default_factory=list)
    """`initial_weights` of these"""
    units: list[int] = field(default_factory=list)
    """widths of the layers between joined features and logits"""
    labelled: dict[str, Any] | None = None
    """see data.slices.Fold; None: it learned from the labels of all training patients"""
    head: str = LINEAR
    """what makes logits of the features of a single backbone: see training.options.HEAD"""
    region: dict[str, Any] | None = None
    """None for whole slices; else what is cut out of each: see hemoct.detection.gate.Gate.describe"""


def read_shared(folders: list[Path]) -> ClassifierSpec:
    """What several classifiers, whose mean is taken, have in common; stops where they are none of whole slices."""
    spec = ClassifierSpec.read_all(folders, ("classes", "image_size", "region"))[0]
    if spec.region is not None:
        raise UserError(f"{folders[0] / 'model.json'} is of a classifier of regions that a detector cut out; name another")
    return spec


def read(work: Workspace, experiment: str, limit_patients: int | None = None) -> tuple[pd.DataFrame, str]:
    """Validation and test predictions of all folds of an experiment, and its protocol: a key of PROTOCOLS."""

    def of_fold(folder: Path) -> pd.DataFrame:
        path = predictions.current(work, 1, folder, ("labels.csv",))
        return predictions.check(tables.read_predictions(folder), path)

    frame, protocol = predictions.joined(work, 1, experiment, of_fold, limit_patients)
    predictions.stop_if_relabelled(work, experiment, frame, f"correct them, or {predictions.AGAIN[1]}")
    return frame, protocol


def read_external(subject: Subject) -> pd.DataFrame:
    """Every labelled image of another data set with the mean of the fold models: image_id, patient, y_*, p_*."""
    path = subject.other_predictions()
    frame = predictions.check(tables.read_csv(path, tables.PREDICTION_COLUMNS), path)
    if subject.limit_patients is not None:
        patients = sorted(frame["patient"].unique())[: subject.limit_patients]
        frame = frame[frame["patient"].isin(patients)]
    return frame
