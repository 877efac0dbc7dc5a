"""Predictions that all fold models of an experiment made together on another data set: where they lie, whether they are current.

Task 1 makes them while it evaluates; tasks 2 to 4 with `05_predict.py --on OTHER`, so that their evaluations read tables alone.
"""

from __future__ import annotations

from pathlib import Path

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

STEP = "05_predict.py"


def folder(work: Workspace, task: int, experiment: str, other: str) -> Path:
    """Where predictions on the data set `other`, and their evaluation, are kept."""
    return work.task(task) / experiment / f"on-{other}"


def predictions_csv(work: Workspace, task: int, experiment: str, other: str, models: list[Path]) -> Path:
    """predictions.csv of other data; stops when it is missing, older than a model, or made by others than these.

    `models`: folders with best.pt.
    """
    path = work.need(folder(work, task, experiment, other) / "predictions.csv", _made_by(task, experiment, other))
    if any((of_fold / "best.pt").stat().st_mtime > path.stat().st_mtime for of_fold in models):
        raise UserError(f"{work.show(path)} is older than the models; {again(work, task, experiment, other)}")
    record = path.parent / f"{Path(STEP).stem}.run.json"
    inputs = files.read_json(record)["inputs"] if record.exists() else {}
    made_by = {name for name in inputs if name.endswith("best.pt") and name.startswith(work.show(work.task(task)))}
    if made_by and made_by != {work.show(of_fold / "best.pt") for of_fold in models}:
        raise UserError(f"{work.show(path)} is of other models than {experiment} has now; {again(work, task, experiment, other)}")
    return path


def predicted(work: Workspace, task: int, other: str) -> list[str]:
    """The experiments with predictions on other data; stops where there is none."""
    found = sorted(path.parents[1].name for path in work.task(task).glob(f"*/on-{other}/predictions.csv"))
    if not found:
        raise UserError(f"no experiment of task {task} has predictions on {other}; {again(work, task, 'NAME', other)}")
    return found


def again(work: Workspace, task: int, experiment: str, other: str) -> str:
    """The remedy where predictions on other data are wrong."""
    return f"run: python {_made_by(task, experiment, other)} --dataset {work.dataset}"


def _made_by(task: int, experiment: str, other: str) -> str:
    return f"{experiments.FOLDERS[task]}/{STEP} --experiment {experiment} --on {other}"
