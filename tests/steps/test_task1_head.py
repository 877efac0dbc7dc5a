"""Heads on the features of slices, as a user trains them: features once, folds apart, evaluated like any experiment."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from helpers import quick, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.training import checkpoints, fit

STEP, TRAIN, EVALUATE = (f"task1_classification/{name}" for name in ("05_train_head.py", "01_train.py", "02_evaluate.py"))
PREDICT = "task1_classification/04_predict.py"
SMALL = ("--dataset", "toy", "--device", "cpu", "--threads", 1)


@pytest.fixture
def weights(tmp_path):
    """Weights of a tiny residual network that never learned anything."""
    torch.manual_seed(0)
    path = tmp_path / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture
def head(work, run_step, weights):
    """The step, on frozen features; the data are there."""
    toy.make(work, patients=15, slices=6)
    frozen = (
        "--backbone",
        "test_resnet",
        "--image-size",
        32,
        "--weights",
        weights,
        "--epochs",
        20,
        "--lr",
        "1e-2",
        "--hidden",
        16,
    )
    return lambda *words: run_step(STEP, "--root", work.root, *SMALL, *frozen, *words)


def test_features_are_made_once_and_each_head_is_an_experiment(work, head, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    assert head("--fold", 0).code == 0
    kept = list(work.cache.glob("features-*.npy"))
    assert len(kept) == 1 and np.load(kept[0]).shape[0] == 90
    made_at = kept[0].stat().st_mtime_ns
    result = head("--head", "linear", "--fold", 0)
    assert result.code == 0 and kept[0].stat().st_mtime_ns == made_at and len(list(work.cache.glob("features-*.npy"))) == 1
    names = sorted(path.name for path in work.task(1).iterdir())
    assert [name.split("-lr")[0] for name in names] == ["test_resnet-gru-32px-test_resnet-hidden16-20ep",
                                                       "test_resnet-linear-32px-test_resnet-hidden16-20ep"]  # fmt: skip
    folder = work.task(1) / names[0] / "fold0"
    expected = {*checkpoints.MODEL, "predictions.csv", "train_predictions.csv", "05_train_head.run.json"}
    assert {path.name for path in folder.iterdir()} == expected
    told = files.read_json(folder / "model.json")
    assert told["made_by"] == STEP and told["made_of"] == [] and told["initial_weights"]["source"] == "file"
    result = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", names[0])
    assert result.code == 0, result.err
    found = files.read_json(work.task(1) / names[0] / "metrics.json")
    assert found["protocol"] == "patient" and found["metrics"]["auroc"]["value"] > 0.8, "bright disks stand out"


def test_a_head_learns_from_the_model_of_its_own_fold(work, head, run_step):
    train = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--backbone", "test_resnet", "--experiment", "cnn",
             "--epochs", 1, "--fold", 1)  # fmt: skip
    assert head().code == 0
    assert refused(run_step(STEP, "--root", work.root, *SMALL, "--features", "cnn"), "cnn holds no trained fold")
    assert run_step(TRAIN, "--root", work.root, *SMALL, *train).code == 0
    step = (STEP, "--root", work.root, *SMALL, "--features", "cnn", "--epochs", 2, "--experiment", "h")
    assert refused(run_step(*step), "cnn/fold0", "train that fold first")
    assert refused(run_step(*step, "--fold", 1, "--protocol", "slice"), "--protocol patient")
    assert run_step(*step, "--fold", 1).code == 0
    told = files.read_json(work.task(1) / "h" / "fold1" / "model.json")
    assert [(one["task"], one["experiment"]) for one in told["made_of"]] == [(1, "cnn")] and told["image_size"] == 32
    frame = tables.read_predictions(work.task(1) / "cnn" / "fold1")
    tables.write_predictions(work.task(1) / "cnn" / "fold1", frame.assign(p_hemorrhage=0.5))
    stale = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "h")
    own = ("--backbone", "test_resnet", "--weights", work.task(1) / "cnn" / "fold1" / "best.pt", "--experiment", "own")
    assert refused(run_step(STEP, "--root", work.root, *SMALL, *own, "--fold", 0), "learned from other slices (fold 1")
    assert refused(stale, "cnn/fold1/predictions.csv has changed", f"run {STEP} again")
    assert refused(run_step(PREDICT, "--root", work.root, "--dataset", "toy", work.raw, "--experiment", "h"), "no single network")


def test_a_resumed_head_equals_an_uninterrupted_one(work, head, monkeypatch):
    flags = ("--fold", 0, "--epochs", 6, "--patience", 30)
    assert head(*flags, "--experiment", "whole").code == 0
    log = fit.Fit.log

    def stop_after_two(self, epoch, *words, **numbers):
        log(self, epoch, *words, **numbers)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit.Fit, "log", stop_after_two)
        assert head(*flags, "--experiment", "parts").code == 130
    assert "goes on after epoch 2" in head(*flags, "--experiment", "parts", "--resume").out
    of = [torch.load(work.task(1) / name / "fold0" / "best.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(of[0][name], of[1][name]) for name in of[0])


def test_bad_input_stops_with_one_line(work, head, weights):
    assert refused(head("--weights", "none"), "never trained", "--features")
    assert refused(head("--weights", "imagenet"), "test_resnet")
    labels = work.work / "labels.csv"
    frame = pd.read_csv(labels, dtype={"patient": str})
    frame.assign(slice=frame["slice"].where(frame.index > 0)).astype({"slice": "Int64"}).to_csv(labels, index=False)
    assert refused(head(), "have no number", "--head linear")
    assert head("--head", "linear", "--fold", 0).code == 0
