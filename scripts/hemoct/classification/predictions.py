"""Predictions of classifiers, read and checked: of the folds, on other data, as published."""

from pathlib import Path

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.evaluation import predictions
from hemoct.evaluation.subjects import Subject


def read(work: Workspace, experiment: str, limit_patients: int | None = None) -> tuple[pd.DataFrame, str]:
    """Validation and test predictions of all folds of an experiment, and its protocol: a key of PROTOCOLS."""
    frame, protocol = predictions.joined(work, 1, experiment, lambda folder: _of_fold(work, folder))
    if limit_patients is not None:
        frame = frame[frame["patient"].isin(slices.first_patients(tables.read_splits(work), limit_patients))]
    return frame, protocol


def _of_fold(work: Workspace, folder: Path) -> pd.DataFrame:
    """Checked predictions of a fold; stops when they are missing, or older than what they are made of."""
    path = folder / "predictions.csv"
    predictions.stop_if_stages_changed(work, folder)
    if not predictions.is_current(work, folder):
        problem = "older than the model or labels.csv" if path.exists() else "missing"
        raise UserError(f"{work.show(path)} is {problem}; {predictions.AGAIN[1]}: a trained model only predicts")
    return predictions.check(tables.read_predictions(folder), path)


def read_external(subject: Subject) -> pd.DataFrame:
    """Every labelled image of another data set with the mean of the fold models: image_id, patient, y_*, p_*."""
    path = subject.other_predictions()
    frame = predictions.check(tables.read_csv(path, tables.PREDICTION_COLUMNS), path)
    if subject.limit_patients is not None:
        patients = sorted(frame["patient"].unique())[: subject.limit_patients]
        frame = frame[frame["patient"].isin(patients)]
    return frame
