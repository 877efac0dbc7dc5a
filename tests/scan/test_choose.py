"""Which models look at a scan: by validation alone, whole experiments, and said why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import toy
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.classification import networks as classification_networks
from hemoct.classification.networks import ClassifierSpec
from hemoct.explain import maps
from hemoct.scan import choose
from hemoct.scan.choose import Which
from hemoct.scan.torch_runners import TorchClassifier
from hemoct.training.batches import Store

TASK1 = {
    "task": 1, "backbone": "resnet10t", "classes": ["hemorrhage"], "exclusive": False, "image_size": 32, "mean": 0.2, "std": 0.3,
    "protocol": "patient", "split": "folds", "splits_sha256": "x", "orientation": "left", "window": "brain",
}  # fmt: skip


def put(work, name: str, val: float, test: float, folds: tuple[int, ...] = (0, 1), number: int = 1, **more) -> Path:
    """An experiment of task 1 whose probabilities are so good on validation and on test: 1 perfect, 0 wrong."""
    random = np.random.default_rng(0)
    for fold in folds:
        folder = work.task(number) / name / f"fold{fold}"
        folder.mkdir(parents=True)
        files.write_json(folder / "model.json", TASK1 | {"fold": fold} | more)
        (folder / "best.pt").write_bytes(name.encode())
        rows = []
        for part, good in (("val", val), ("test", test)):
            truth = random.integers(0, 2, 200)
            right = random.random(200) < good
            rows.append(pd.DataFrame({"part": part, "y_hemorrhage": truth, "p_hemorrhage": np.where(right, truth, 1 - truth)}))
        pd.concat(rows).to_csv(folder / "predictions.csv", index=False)
    return work.task(number) / name


def test_validation_chooses_and_test_has_no_say(work):
    put(work, "a", val=0.9, test=0.5), put(work, "b", val=0.6, test=1.0)
    found = choose.of_dataset(work, Which())
    (task,) = found.tasks
    assert task.model.experiment == "a" and task.model.folds == [0, 1] and task.orientation == "left" and task.window == "brain"
    assert any("a, the best of 2 on validation (AUROC 0." in line for line in found.said)
    assert choose.of_dataset(work, Which(experiments={1: "b"})).tasks[0].model.experiment == "b"
    assert choose.of_dataset(work, Which(fast=True)).tasks[0].model.folds == [0]


def test_what_cannot_look_at_a_scan_by_itself_is_passed_over_and_said(work):
    put(work, "a", 0.6, 0.5, folds=(0, 1, 2, 3)), put(work, "one-fold", 1, 1, folds=(0,))
    put(work, "cut", 1, 1, region={"box": 1}), put(work, "several", 1, 1, classes=["a", "b"])
    for path in put(work, "mean", 1, 1).glob("fold*/best.pt"):
        path.unlink()
    head = put(work, "head", 1, 1) / "fold0" / "model.json"
    files.write_json(head, {name: value for name, value in files.read_json(head).items() if name != "backbone"})
    found = choose.of_dataset(work, Which())
    assert found.tasks[0].model.experiment == "a"
    said = "\n".join(found.said)
    for name, why in (("one-fold", "1 fold(s) of 4"), ("cut", "regions"), ("several", "several classes"), ("mean", "ensemble"),
                      ("head", "features of whole scans")):  # fmt: skip
        assert any(name in line and why in line for line in found.said), said
    with pytest.raises(UserError, match="several classes"):
        choose.of_dataset(work, Which(experiments={1: "several"}))


@pytest.mark.parametrize(("layout", "outlined"), [("phe-sich", "perihematomal edema"), ("csv", "lesion")])
def test_masks_are_called_what_the_data_set_outlines(work, layout, outlined):
    toy.make(work)
    tables.write_dataset(work, replace(tables.read_dataset(work), layout=layout))
    put(work, "a", 0.9, 0.9)
    assert choose.of_dataset(work, Which()).tasks[0].means == outlined


def test_a_protocol_whose_validation_knows_the_patients_is_chosen_only_where_nothing_else_is(work):
    put(work, "leaky", 1, 1, protocol="slice")
    assert choose.of_dataset(work, Which()).tasks[0].model.experiment == "leaky"
    put(work, "honest", 0.6, 0.6)
    found = choose.of_dataset(work, Which())
    assert found.tasks[0].model.experiment == "honest" and any(
        "passed over: leaky: patients in training" in line for line in found.said
    )
    assert choose.of_dataset(work, Which(experiments={1: "leaky"})).tasks[0].model.experiment == "leaky"


def test_what_was_validated_around_true_boxes_is_chosen_only_where_nothing_else_is(work):
    for name, boxes, dice in (("truth", None, 0.9), ("boxes", "yolov8n", 0.6)):
        place = put(work, name, 1, 1, (0,), 3, task=3, model="unet", region="box", boxes=boxes, margin=0.1, least_side=8)
        pd.DataFrame({"val_dice": [dice]}).to_csv(place / "fold0" / "history.csv", index=False)
    found = choose.of_dataset(work, Which())
    assert found.of(3).model.experiment == "boxes" and any("passed over: truth: validated around" in line for line in found.said)
    assert choose.of_dataset(work, Which(experiments={3: "truth"})).of(3).model.experiment == "truth"


def test_of_experiments_without_validation_nothing_is_called_the_best(work):
    for name in ("a", "b"):
        for path in put(work, name, 1, 1).glob("fold*/predictions.csv"):
            path.unlink()
    (line,) = choose.of_dataset(work, Which()).said
    assert "one of 2: what they reach on validation is not known" in line


def test_of_several_places_the_first_that_knows_a_task_is_taken(work, tmp_path):
    put(work, "a", 0.9, 0.9)
    other = type(work)(tmp_path, "other")
    put(other, "b", 1, 1), put(other, "types", 1, 1, number=4, task=4, heads=[], classes=["IPH"])
    found = choose.models([work.outputs, other.outputs], Which())
    assert [(task.model.experiment, task.model.dataset) for task in found.tasks] == [("a", "toy"), ("types", "other")]
    assert not any("task 1: b" in line for line in found.said)
    with pytest.raises(UserError, match="no task has a trained model"):
        choose.models([type(work)(tmp_path, "none").outputs], Which()) if (
            tmp_path / "outputs" / "none"
        ).mkdir() is None else None


def test_an_older_model_learns_its_orientation_from_its_data_set(work):
    toy.make(work)
    put(work, "a", 1, 1, orientation=None)
    assert choose.of_dataset(work, Which()).tasks[0].orientation == "unknown"


def test_maps_are_those_of_the_room_that_explains(tmp_path):
    torch.manual_seed(0)
    spec = ClassifierSpec(**{name: value for name, value in TASK1.items() if name != "task"} | {"image_size": 96}, fold=0)
    model = classification_networks.build(spec).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 1, 96, 96)).astype(np.uint8)
    one = TorchClassifier(model, spec, torch.device("cpu"), tmp_path / "fold0")
    found = one.maps(pixels)
    assert np.array_equal(one.probabilities(pixels), one.probabilities(pixels.copy()))
    cases = np.arange(3), np.zeros(3, int)
    told = maps.heat(maps.prepare(model), spec, Store(pixels[:, 0], torch.device("cpu")), cases, ("hirescam", one.layer, 8))
    assert found.shape == told.shape and np.allclose(found, told, atol=1e-6) and found.max() > 0
