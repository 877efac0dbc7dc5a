"""Which experiments of a task there are on disk."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

STEPS = {1: ("01_train.py", "02_evaluate.py"), 2: ("02_train.py", "04_evaluate.py"), 3: ("02_train.py", "03_evaluate.py"),
         4: ("02_train.py", "03_evaluate.py")}  # fmt: skip
"""the steps of a task that train and that evaluate"""
PRETRAIN = "scripts/07_pretrain.py"
"""the step that trains encoders without labels, for the tasks to start from; their model.json says task 0"""
PREDICT = {1: "04_predict.py", 2: "05_predict.py", 3: "05_predict.py", 4: "05_predict.py"}
"""the step of a task that predicts new images, or with --on another data set"""
FOLDERS = {1: "task1_classification", 2: "task2_detection", 3: "task3_segmentation", 4: "task4_multilabel"}

FOLDS = 5
"""of a data set, see hemoct.data.splits"""
OWN = re.compile(
    r"comparison|grid|label_curve|explain_bce|gate|truth-boxes|fold\d+|on-.*|first-\d+-patients|unfinished", re.IGNORECASE
)
"""folders of ours, beside those of experiments or in them"""
LONGEST_NAME = 200  # bytes


def new_name(flag: str, name: str) -> str:
    """The name that a flag gives a new experiment: that of a folder, and of none of ours. A path stops."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"{flag} {name}: give the name of a folder, no path")
    if OWN.fullmatch(name):
        raise UserError(f"{flag} {name}: folders of results are called so; choose another name")
    if len(name.encode()) > LONGEST_NAME:
        raise UserError(f"{flag}: {name[:40]}... has {len(name.encode())} bytes, disks take {LONGEST_NAME}; give a shorter name")
    return name


def train_step(task: int) -> str:
    """The step that trains the models of a task: `task2_detection/02_train.py`; 0 is pre-training."""
    return f"{FOLDERS[task]}/{STEPS[task][0]}" if task else PRETRAIN


def evaluate_step(task: int) -> str:
    """The step that evaluates the experiments of a task: `task2_detection/04_evaluate.py`."""
    return f"{FOLDERS[task]}/{STEPS[task][1]}"


def predict_step(task: int) -> str:
    """The step that predicts with the models of a task: `task2_detection/05_predict.py`."""
    return f"{FOLDERS[task]}/{PREDICT[task]}"


def evaluated(work: Workspace, task: int) -> list[str]:
    """The experiments of a task that have a metrics.json. Raises UserError when there is none."""
    return _holding(work, task, lambda folder: (folder / "metrics.json").exists(), "evaluated", STEPS[task][1])


def trained(work: Workspace, task: int) -> list[str]:
    """The experiments of a task with a trained or a predicted fold. Raises UserError when there is none."""
    return _holding(work, task, lambda folder: folds(folder, "best.pt", "predictions.csv"), "trained", STEPS[task][0])


def with_history(work: Workspace, task: int) -> list[str]:
    """The experiments of a task with a fold whose training has begun. Raises UserError when there is none."""
    return _holding(work, task, lambda folder: folds(folder, "history.csv"), "trained", STEPS[task][0])


def with_model(work: Workspace, task: int, experiment: str) -> list[Path]:
    """The fold folders of an experiment that hold a model; stops with the experiments that exist."""
    folder = work.task(task) / experiment
    trained_folds = folds(folder, "best.pt")
    if not trained_folds and folds(folder, "predictions.csv"):
        raise UserError(
            f"{work.show(folder)} has predictions but no model (best.pt); train it: python {train_step(task)} "
            f"--dataset {work.dataset} --experiment {experiment}"
        )
    if not trained_folds:
        raise UserError(f"{work.show(folder)} holds no trained fold; there are: {', '.join(trained(work, task))}")
    return trained_folds


def folds(folder: Path, *names: str) -> list[Path]:
    """The folders `fold0`, `fold1` ... of an experiment that hold one of these files. A copy, `fold0-old`, is no fold."""
    numbered = [path for path in folder.glob("fold*") if re.fullmatch(r"fold\d+", path.name)]
    return sorted(path for path in numbered if any((path / name).exists() for name in names))


def model_files(folders: list[Path]) -> list[Path]:
    """What rebuilds the model of each fold's folder: its weights and its description."""
    return [folder / name for folder in folders for name in ("best.pt", "model.json")]


def description(folder: Path) -> dict[str, Any]:
    """model.json of a fold's folder as it stands; empty where there is none."""
    path = folder / "model.json"
    return files.read_json(path) if path.exists() else {}


def fold_of(folder: Path) -> int:
    """The number of a fold's folder: 2 for `fold2`."""
    return int(folder.name.removeprefix("fold"))


def _holding(work: Workspace, task: int, holds: Callable[[Path], Any], state: str, step: str) -> list[str]:
    folder = work.task(task)
    names = [path.name for path in folder.glob("*") if holds(path)]
    if not names:
        command = f"python {FOLDERS[task]}/{step} --dataset {work.dataset}"
        raise UserError(f"{work.show(folder)} holds no {state} experiment; run: {command}")
    return sorted(names)
