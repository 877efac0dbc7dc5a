"""09_ensemble.py on simulated boxes: the fused boxes of two detectors are an experiment, linked, evaluated and built on."""

import shutil

import numpy as np
import pandas as pd
import pytest

from helpers import quick, simulated_boxes, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.data import fusion
from hemoct.detection import data as detection_data, predictions
from hemoct.evaluation import protocol

FUSE, LINK, EVALUATE = (f"task2_detection/{name}.py" for name in ("09_ensemble", "07_link_slices", "04_evaluate"))


@pytest.fixture
def step(work, run_step, monkeypatch):
    quick.linking(monkeypatch)
    toy.make(work, patients=10, slices=6, size=48, boxes=True)
    simulated_boxes.predict(work, "a", sensitivity=0.9, alarms=0.3)
    simulated_boxes.predict(work, "b", sensitivity=0.7, alarms=1.0)
    return lambda name, *words: run_step(name, "--root", work.root, "--dataset", "toy", *words)


def of_image(frame: pd.DataFrame, name: str, classes: list[str]) -> np.ndarray:
    boxes = frame[(frame["image_id"] == name) & frame["confidence"].notna()].sort_values("confidence", ascending=False)
    numbers = [classes.index(word) for word in boxes["class"]]
    return np.column_stack([boxes[[*predictions.CORNERS, "confidence"]], numbers]).astype(float).reshape(-1, 6)


def test_fused_boxes_are_those_of_the_paper_slice_by_slice(work, step):
    result = step(FUSE, "a", "b", "a", "--experiment", "both")
    assert result.code == 0 and "--experiment both" in result.out, result.err
    folder, data = work.task(2) / "both" / "fold2", detection_data.load(work)
    (fused, spec), (first, _), (second, _) = (
        predictions.read(work, work.task(2) / name / "fold2", data) for name in ("both", "a", "b")
    )
    assert spec.model == "ensemble" and [one["experiment"] for one in spec.made_of] == ["a", "b"]
    assert set(fused["part"]) == set(tables.PARTS) and set(fused["image_id"]) == set(first["image_id"])
    joined = 0
    for name in first["image_id"].unique():
        each = [of_image(frame, name, spec.classes) for frame in (first, second)]
        expected = fusion.rounded(fusion.fuse(each, 48, 48))
        np.testing.assert_array_equal(of_image(fused, name, spec.classes), expected[np.argsort(-expected[:, 4], kind="stable")])
        joined += 0 < len(expected) < sum(map(len, each))
    assert joined, "some boxes of both lie on the same lesion"
    assert {path.name for path in folder.iterdir()} == set(predictions.NEEDED)
    assert step(FUSE, "a", "b", "a", "--experiment", "both", "--skip-if-done").out.startswith("up to date")


def test_they_are_linked_and_evaluated_as_boxes_of_any_detector(work, step):
    assert step(FUSE, "a", "b", "--experiment", "both").code == 0
    assert step(LINK, "--experiment", "both").code == 0
    for name in ("both", "both-linked"):
        result = step(EVALUATE, "--experiment", name)
        assert result.code == 0, result.err
    linked = predictions.DetectorSpec.read(work.task(2) / "both-linked" / "fold0")
    assert linked.linked["experiment"] == "both" and not linked.made_of
    record = work.task(2) / "b" / "fold0" / "02_train.run.json"
    files.write_json(record, {"status": "ok"})
    assert protocol.trained_in(work.task(2) / "both-linked" / "fold0") == [record.parent], "through the fused to the detector"


def test_after_a_member_changed_they_are_not_evaluated(work, step):
    assert step(FUSE, "a", "b", "--experiment", "both").code == 0
    simulated_boxes.predict(work, "b", sensitivity=0.2)
    assert refused(step(EVALUATE, "--experiment", "both"), "b/fold0/predictions.csv has changed", "09_ensemble.py again")


def test_detectors_that_do_not_fit_together_stop(work, step):
    assert refused(step(FUSE, "a", "a", "--experiment", "c"), "a alone is no ensemble")
    assert refused(step(FUSE, "a", "nobody", "--experiment", "c"), "nobody holds no")
    assert refused(step(FUSE, "a", "b", "--experiment", "a/b"), "--experiment")
    shutil.copytree(work.task(2) / "b", work.task(2) / "d")
    spec = files.read_json(work.task(2) / "d" / "fold1" / "model.json")
    files.write_json(work.task(2) / "d" / "fold1" / "model.json", spec | {"classes": ["other"]})
    assert refused(step(FUSE, "a", "d", "--experiment", "c"), "differ in classes", "fold1")
    shutil.copytree(work.task(2) / "b", work.task(2) / "e")
    path = work.task(2) / "e" / "fold3" / "train_predictions.csv"
    trained = tables.read_csv(path, predictions.COLUMNS)
    tables.write_csv(path, trained[trained["image_id"] != trained["image_id"].iloc[0]])
    assert refused(step(FUSE, "a", "e", "--experiment", "c"), "e/fold3 has predicted other slices than")
    (work.task(2) / "b" / "fold0" / "best.pt").touch()
    assert refused(step(FUSE, "a", "e", "--experiment", "b"), "holds a trained model")
    assert not (work.task(2) / "c").exists(), "nothing is half written"
