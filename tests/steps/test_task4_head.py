"""Heads for several labels on features of slices, and ensembles of several labels: as a user makes them, end to end."""

import pytest
import timm
import torch

from helpers import quick, toy_types, trained
from hemoct.base import files, tables
from hemoct.multilabel import networks

STEP, TRAIN, EVALUATE = (f"task4_multilabel/{name}" for name in ("08_train_head.py", "02_train.py", "03_evaluate.py"))
ENSEMBLE = "task4_multilabel/09_ensemble.py"


@pytest.fixture
def step(work, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    return lambda name, *words: run_step(name, "--root", work.root, "--dataset", "toy", *words)


def test_a_head_on_the_model_of_its_fold_and_the_mean_of_both_are_experiments(work, step):
    trained.types(work)
    head = ("--features", "e", "--fold", 0, "--epochs", 8, "--lr", "1e-2", "--device", "cpu", "--experiment", "h")
    result = step(STEP, *head)
    assert result.code == 0, result.err
    told = files.read_json(work.task(4) / "h" / "fold0" / "model.json")
    own = networks.MultiLabelSpec.read(work.task(4) / "e" / "fold0")
    assert told["classes"] == own.classes and told["made_of"][0]["experiment"] == "e" and told["made_by"] == STEP
    assert step(ENSEMBLE, "e", "h", "--experiment", "both").code == 0
    evaluated = step(EVALUATE, "--experiment", "e", "h", "both")
    assert evaluated.code == 0, evaluated.err
    assert (
        files.read_json(work.task(4) / "both" / "metrics.json")["n"] == files.read_json(work.task(4) / "e" / "metrics.json")["n"]
    )
    of = {name: tables.read_predictions(work.task(4) / name / "fold0") for name in ("e", "h", "both")}
    column = f"p_{own.classes[0]}"
    mean = (of["e"].set_index("image_id")[column] + of["h"].set_index("image_id")[column]) / 2
    assert (of["both"].set_index("image_id")[column] - mean).abs().max() < 1e-6


def test_frozen_features_serve_several_labels(work, step, tmp_path):
    toy_types.make(work)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    result = step(STEP, "--backbone", "test_resnet", "--weights", tmp_path / "w.pth", "--image-size", 32, "--fold", 0,
                  "--epochs", 3, "--device", "cpu", "--experiment", "h")  # fmt: skip
    assert result.code == 0, result.err
    frame = tables.read_predictions(work.task(4) / "h" / "fold0")
    assert [name for name in frame if name.startswith("p_")] == [f"p_{name}" for name in toy_types.LABELS]
