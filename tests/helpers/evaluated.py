"""Results of task 1 as the evaluation leaves them, written by hand: for what reads results, not for what makes them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.evaluation import protocol

FIGURES = ("confusion_matrix", "roc", "pr", "calibration", "loss_curves", "worst_mistakes")
KEYS = ("accuracy", "precision", "recall", "specificity", "f1", "auroc", "ap")


OPERATING_POINTS = """rule_on_validation,sensitivity,sensitivity_low,sensitivity_high,tn,threshold_fold0
max F1,0.87654321,0.8,0.95,30,0.5
"""
COMPARISON = """experiment,metric,value,low,high,difference,difference_low,difference_high,note
resnet18,auroc,0.9,0.85,0.95,,,,
resnet18-slice,auroc,0.95,0.9,1,0.05,-0.01,0.11,patient vs slice protocol
"""


def record(step: str, work: Workspace, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "command": f"python {step} --dataset {work.dataset} --root {work.root}",
        "status": "ok",
        "arguments": {"dataset": work.dataset, "weights": str(work.root / "data/weights.pt"), "device": "auto"},
        "inputs": {"data/work/toy/splits.csv": "abc", "/home/somebody/elsewhere/weights.pt": "def"},
        "outputs": [],
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "wall_s": 60.0,
        **more,
    }


def metric(value: float) -> dict[str, Any]:
    """An entry of metrics.json."""
    return {"value": value, "ci95": [value - 0.05, value + 0.05], "reason": None}


def metrics_json(work: Workspace, experiment: str, metrics: dict[str, Any], folds: tuple[int, ...] = (0, 1),
                 **more: Any) -> dict[str, Any]:  # fmt: skip
    """What any evaluation says first, and `metrics`."""
    about = {"dataset": work.dataset, "experiment": experiment, "evaluated_on": work.dataset, "protocol": "patient",
             "protocol_text": protocol.PROTOCOLS["patient"], "fold_numbers": list(folds), "folds_expected": 5,
             "complete": len(folds) == 5, "limit_patients": None}  # fmt: skip
    about |= {"folds_done": protocol.folds_text(about), "training_unfinished": [], "labels_mean": None}
    about |= {"positive": "hemorrhage", "n": 40, "patients": 10, "positives": 12, "threshold_rule": "max F1 on val"}
    return about | {"folds": [{"fold": fold} for fold in folds], "metrics": metrics, "notes": [], **more}


def make(work: Workspace, experiment: str, accuracy: float = 0.9, **more: Any) -> Path:
    """One evaluated experiment of two folds; returns its folder. `more`: fields of metrics.json."""
    folder = work.task(1) / experiment
    values = {key: metric(accuracy) for key in KEYS}
    values["mcc"] = {"value": None, "ci95": None, "reason": "no negative slice"}
    files.write_json(folder / "metrics.json", metrics_json(work, experiment, values, **more))
    files.write_text(folder / "operating_points.csv", OPERATING_POINTS)
    files.write_text(folder / "classification_report.txt", "a report\n")
    files.write_text(folder / "per_patient.csv", "patient,slices\n0001,4\n")
    files.write_text(folder / "predictions.csv", "image_id,patient,fold,part,y_hemorrhage,p_hemorrhage\na,0001,0,test,1,0.9\n")
    files.write_json(folder / "02_evaluate.run.json", record("task1_classification/02_evaluate.py", work))
    for name in FIGURES:
        Image.fromarray(np.zeros((8, 12), dtype=np.uint8)).save(folder / f"{name}.png")
    for fold in (0, 1):
        place = folder / f"fold{fold}"
        training = record("task1_classification/01_train.py", work, device="cpu", wall_s=100.0)
        files.write_json(place / "01_train.run.json", training)
        files.write_text(place / "history.csv", "epoch,val_loss\n1,0.5\n")
        files.write_json(place / "model.json", {"backbone": "resnet18", "fold": fold})
        files.write_text(place / "best.pt", "weights")
    return folder


def compare(work: Workspace, *experiments: str) -> Path:
    """The folder of a comparison of these experiments."""
    folder = work.task(1) / "comparison"
    files.write_text(folder / "comparison.csv", COMPARISON)
    files.write_text(folder / "comparison.md", "| experiment |\n")
    made_from = [work.task(1) / name / "metrics.json" for name in experiments]
    inputs = {str(path.relative_to(work.root)): files.fingerprint(path) for path in made_from}
    files.write_json(folder / "03_compare.run.json", record("task1_classification/03_compare.py", work, inputs=inputs))
    Image.fromarray(np.zeros((8, 12), dtype=np.uint8)).save(folder / "comparison.png")
    return folder
