"""Predictions that all fold models of an experiment made together on another data set: where they lie, whether they are current.

Task 1 makes them while it evaluates; tasks 2 to 4 with `05_predict.py --on OTHER`, so that their evaluations read tables alone.
"""

from __future__ import annotations

from pathlib import Path

from hemoct import experiments
from hemoct.cli import UserError, Workspace

STEP = "05_predict.py"


def folder(work: Workspace, task: int, experiment: str, other: str) -> Path:
    """Where predictions on the data set `other`, and their evaluation, are kept."""
    return work.task(task) / experiment / f"on-{other}"


def predictions_csv(work: Workspace, task: int, experiment: str, other: str, models: list[Path]) -> Path:
    """predictions.csv of other data; stops when it is missing or older than one of the `models`, folders with best.pt."""
    path = work.need(folder(work, task, experiment, other) / "predictions.csv", _made_by(task, experiment, other))
    if any((of_fold / "best.pt").stat().st_mtime > path.stat().st_mtime for of_fold in models):
        raise UserError(f"{work.show(path)} is older than the models; {again(work, task, experiment, other)}")
    return path


def again(work: Workspace, task: int, experiment: str, other: str) -> str:
    """The remedy where predictions on other data are wrong."""
    return f"run: python {_made_by(task, experiment, other)} --dataset {work.dataset}"


def _made_by(task: int, experiment: str, other: str) -> str:
    return f"{experiments.FOLDERS[task]}/{STEP} --experiment {experiment} --on {other}"
