"""Experiments that version 0.1 trained still load, resume, are evaluated and compared."""

from pathlib import Path

import pytest
import torch

from helpers import simulated, toy
from hemoct.base import files, tables
from hemoct.evaluation import thresholds

TRAIN, EVALUATE, COMPARE = (f"task1_classification/{name}.py" for name in ("01_train", "02_evaluate", "03_compare"))
FLAGS = ("--dataset", "toy", "--weights", "none", "--image-size", "32", "--batch-size", "8", "--lr", "1e-3", "--device", "cpu",
         "--backbone", "test_resnet", "--experiment", "e", "--fold", "0")  # fmt: skip
SETTINGS = ("seed", "epochs", "batch_size", "lr", "optimizer", "weight_decay", "schedule", "warmup", "patience", "image_size",
            "augment", "mirror", "precision", "backbone", "weights", "transfer", "balance", "protocol", "split", "label",
            "limit_patients", "refit")  # fmt: skip


def as_version_0_1(folder: Path) -> None:
    """What that version left of the same training: some flags in last.pt, no predictions, no origin of weights, an old record."""
    state = torch.load(folder / "last.pt", weights_only=True)
    arguments = state.pop("arguments")
    state["settings"] = {name: arguments[name] for name in SETTINGS} | {"mirror": "horizontal"}
    torch.save(state, folder / "last.pt")
    (folder / "predictions.csv").unlink()
    spec = files.read_json(folder / "model.json")
    del spec["initial_weights"]
    files.write_json(folder / "model.json", spec)
    record = files.read_json(folder / "01_train.run.json")
    del record["sha256"]
    record["arguments"] = {name: value for name, value in record["arguments"].items() if name != "weights_dir"}
    record["outputs"] = [name for name in record["outputs"] if not name.endswith("predictions.csv")]
    files.write_json(folder / "01_train.run.json", record)


@pytest.fixture
def step(work, run_step):
    return lambda name, *words: run_step(name, "--root", work.root, *words)


def test_a_training_of_version_0_1_goes_on_and_is_evaluated(work, step):
    toy.make(work, patients=12, slices=6)
    assert step(TRAIN, *FLAGS, "--epochs", "3").code == 0
    folder = work.task(1) / "e" / "fold0"
    before = (folder / "predictions.csv").read_bytes()
    as_version_0_1(folder)
    result = step(TRAIN, *FLAGS, "--epochs", "3", "--resume")
    assert result.code == 0 and "goes on after epoch 3" in result.out, result.err
    assert (folder / "predictions.csv").read_bytes() == before
    assert step(EVALUATE, "--dataset", "toy").code == 0
    result = step(TRAIN, *FLAGS, "--epochs", "3", "--lr", "0.1", "--resume", "--overwrite")
    assert result.code == 2 and "was trained with --lr 0.001" in result.err


def test_metrics_of_version_0_1_are_compared_and_their_thresholds_read(work, step):
    frame = simulated.make(work, draw=True)
    for name in ("a", "b"):
        simulated.predict(work, frame, experiment=name)
    assert step(EVALUATE, "--dataset", "toy").code == 0
    for name in ("a", "b"):
        path = work.task(1) / name / "metrics.json"
        content = files.read_json(path)
        for fold in content["folds"]:
            del fold["chosen"], fold["temperature_chosen"]
        content["folds"][0] |= {"threshold": 0.5, "threshold_rule": "0.5: validation has no positive"}
        files.write_json(path, content)
    result = step(COMPARE, "a", "b", "--dataset", "toy")
    assert result.code == 0, result.err
    compared = tables.read_csv(work.task(1) / "comparison" / "comparison.csv", ["experiment", "metric"])
    assert set(compared["experiment"]) == {"a", "b"}
    folders = [work.task(1) / "a" / f"fold{fold}" for fold in range(5)]
    for folder in folders:
        (folder / "best.pt").touch()
    (work.task(1) / "a" / "metrics.json").touch()
    value, words = thresholds.threshold(1, work.task(1) / "a", folders, None, 0.5)
    folds = files.read_json(work.task(1) / "a" / "metrics.json")["folds"]
    assert value == pytest.approx(sum(fold["threshold"] for fold in folds[1:]) / 4) and "mean of 4 folds" in words
