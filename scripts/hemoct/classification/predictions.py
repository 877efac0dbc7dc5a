"""Predictions of classifiers, read and checked: of the folds, on other data, as published."""

from pathlib import Path

import pandas as pd

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import predictions
from hemoct.evaluation.subjects import Subject


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
