"""Which experiments of a task there are on disk."""

from __future__ import annotations

from pathlib import Path

from hemoct.cli import UserError, Workspace

STEPS = {1: ("01_train.py", "02_evaluate.py"), 2: ("02_train.py", "04_evaluate.py")}
"""the steps of a task that train and that evaluate"""
FOLDERS = {1: "task1_classification", 2: "task2_detection", 3: "task3_segmentation", 4: "task4_multilabel"}


def evaluated(work: Workspace, task: int) -> list[str]:
    """The experiments of a task that have a metrics.json. Raises UserError when there is none."""
    return _holding(work, task, ("metrics.json",), "evaluated", STEPS[task][1])


def trained(work: Workspace, task: int) -> list[str]:
    """The experiments of a task with a trained or a predicted fold. Raises UserError when there is none."""
    return _holding(work, task, ("fold*/best.pt", "fold*/predictions.csv"), "trained", STEPS[task][0])


def with_history(work: Workspace, task: int) -> list[str]:
    """The experiments of a task with a fold whose training has begun. Raises UserError when there is none."""
    return _holding(work, task, ("fold*/history.csv",), "trained", STEPS[task][0])


def with_model(work: Workspace, task: int, experiment: str) -> list[Path]:
    """The fold folders of an experiment that hold a model; stops with the experiments that exist."""
    folder = work.task(task) / experiment
    found = sorted(path.parent for path in folder.glob("fold*/best.pt"))
    if not found:
        raise UserError(f"{work.show(folder)} holds no trained fold; there are: {', '.join(trained(work, task))}")
    return found


def _holding(work: Workspace, task: int, patterns: tuple[str, ...], state: str, step: str) -> list[str]:
    folder = work.task(task)
    found = {path.relative_to(folder).parts[0] for pattern in patterns for path in folder.glob(f"*/{pattern}")}
    if not found:
        command = f"python {FOLDERS[task]}/{step} --dataset {work.dataset}"
        raise UserError(f"{work.show(folder)} holds no {state} experiment; run: {command}")
    return sorted(found)
