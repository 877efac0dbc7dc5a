"""Which experiments of a task there are on disk."""

from __future__ import annotations

from hemoct.cli import UserError, Workspace

FOLDERS = {1: "task1_classification", 2: "task2_detection", 3: "task3_segmentation", 4: "task4_multilabel"}


def evaluated(work: Workspace, task: int) -> list[str]:
    """The experiments of a task that have a metrics.json. Raises UserError when there is none."""
    return _holding(work, task, ("metrics.json",), "evaluated", "02_evaluate.py")


def trained(work: Workspace, task: int) -> list[str]:
    """The experiments of a task with a trained or a predicted fold. Raises UserError when there is none."""
    return _holding(work, task, ("fold*/best.pt", "fold*/predictions.csv"), "trained", "01_train.py")


def _holding(work: Workspace, task: int, patterns: tuple[str, ...], state: str, step: str) -> list[str]:
    folder = work.task(task)
    found = {path.relative_to(folder).parts[0] for pattern in patterns for path in folder.glob(f"*/{pattern}")}
    if not found:
        command = f"python {FOLDERS[task]}/{step} --dataset {work.dataset}"
        raise UserError(f"{work.show(folder)} holds no {state} experiment; run: {command}")
    return sorted(found)
