"""06_gate_classifier.py on detectors that never were: regions to the pixel, fold rules, training, comparison, mistakes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import interrupted, simulated, simulated_boxes, toy
from helpers.refusals import refused
from hemoct.base import figure as base_figure, files, tables
from hemoct.base.workspace import Workspace
from hemoct.classification import figures
from hemoct.data import images
from hemoct.detection import compare, predictions
from hemoct.detection.predictions import COLUMNS, CORNERS
from hemoct.evaluation import bootstrap, comparison, comparison_step, decisions

GATE = "task2_detection/06_gate_classifier.py"
SMALL = ("--weights", "none", "--backbone", "test_resnet", "--image-size", "32", "--least-side", "8", "--batch-size", "8",
         "--lr", "1e-3", "--device", "cpu", "--threads", "1", "--epochs", "1")  # fmt: skip


@pytest.fixture
def drawn(work, run_step, monkeypatch):
    """Run the step on the toy workspace with a tiny network; later flags win."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40)
    return lambda *words: run_step(GATE, "--root", work.root, "--dataset", "toy", "--experiment", "d", *SMALL, *words)


@pytest.fixture
def step(drawn, monkeypatch):
    """The same without figures, which take most of the time; also of 02_evaluate.py, see `classify`."""
    for name in ("confusion", "losses", "calibration", "worst_mistakes"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    monkeypatch.setattr(figures, "curves", lambda *_: {})
    monkeypatch.setattr(comparison_step, "side_by_side", lambda *_: base_figure.figure(width=1, height=1)[0])
    monkeypatch.setattr(compare, "regions", lambda *_: None)
    return drawn


def classify(work: Workspace, frame: pd.DataFrame, run_step, protocol: str = "patient") -> None:
    """An evaluated classifier of whole slices, `e` of task 1."""
    simulated.predict(work, frame, protocol=protocol)
    assert run_step("task1_classification/02_evaluate.py", "--root", work.root, "--dataset", "toy").code == 0


# ---- regions


# ---- the step


def test_end_to_end_the_gate_finds_the_disks(work, drawn, run_step):
    frame = toy.make(work, patients=15, boxes=True)
    simulated_boxes.predict_exactly(work, folds=(0, 1))
    classify(work, frame, run_step)
    result = drawn("--classifier", "e", "--epochs", "12")
    assert result.code == 0, result.err
    place = work.task(2) / "d" / "gate"
    assert {path.name for path in place.glob("[!.]*")} == {
        "fold0", "fold1", "predictions.csv", "metrics.json", "gate_comparison.csv", "gate_comparison.md", "gate_comparison.png",
        "gate_regions.png", "06_gate_classifier.run.json",
    }  # fmt: skip
    assert {path.name for path in (place / "fold0").glob("[!.]*")} == {
        "best.pt", "last.pt", "model.json", "history.csv", "predictions.csv", "06_gate_classifier.run.json"
    }  # fmt: skip
    content = files.read_json(place / "metrics.json")
    assert content["metrics"]["auroc"]["value"] > 0.95 and content["folds_done"] == "folds 0, 1 of 5"
    of_test = tables.read_splits(work).query("fold in (0, 1)")["image_id"]
    assert sorted(tables.read_predictions(place)["image_id"]) == sorted(of_test) and content["n"] == len(of_test)
    spec = files.read_json(place / "fold1" / "model.json")
    assert spec["region"] == {"detector": "d", "margin": 0.25, "least_side": 8} and spec["fold"] == 1
    for name in ("gate_comparison.png", "gate_regions.png"):
        assert np.asarray(Image.open(place / name).convert("L")).std() > 5

    table = pd.read_csv(place / "gate_comparison.csv").set_index(["experiment", "metric"])
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["gate", "detector alone", "whole slices: e"]
    assert set(table["n"]) == {len(of_test)} and table.loc["whole slices: e", "left_out"].max() == 0
    assert table.loc[("detector alone", "accuracy"), "value"] == 1.0 and "brier" not in table.loc["detector alone"].index
    whole = tables.read_predictions(work.task(1) / "e").set_index("image_id").loc[of_test]
    rules = {fold["fold"]: fold["threshold"] for fold in files.read_json(work.task(1) / "e" / "metrics.json")["folds"]}
    right = (whole["p_hemorrhage"] >= whole["fold"].map(rules)) == (whole["y_hemorrhage"] == 1)
    assert table.loc[("whole slices: e", "accuracy"), "value"] == pytest.approx(right.mean())
    gates = content["metrics"]["accuracy"]["value"]
    assert table.loc[("whole slices: e", "accuracy"), "difference"] == pytest.approx(right.mean() - gates)
    text = (place / "gate_comparison.md").read_text()
    assert f"{len(of_test)} test slices, the same for all rows" in text and text in result.out

    again = drawn("--classifier", "e", "--epochs", "12", "--skip-if-done")
    assert again.out.count("up to date") == 3
    other = drawn("--epochs", "12", "--skip-if-done")  # another comparison trains nothing anew
    assert other.out.count("up to date") == 2 and "--classifier names one" in other.out


def test_a_fold_of_other_flags_is_left_out(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work, folds=(0, 1))
    assert step("--fold", "1", "--margin", "0.5").code == 0
    result = step("--fold", "0")
    assert result.code == 0 and "gate/fold1 was trained with other flags or tables" in result.out
    assert files.read_json(work.task(2) / "d" / "gate" / "metrics.json")["folds_done"] == "fold 0 of 5"
    assert refused(step("--fold", "1"), "--margin 0.5", "--name")
    assert step("--fold", "1", "--name", "narrow").code == 0 and (work.task(2) / "d" / "narrow" / "metrics.json").exists()


def test_resumed_equals_uninterrupted_to_the_bit(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    assert step("--name", "whole", "--epochs", "3", "--augment", "affine").code == 0
    with interrupted.after_epoch(2):
        assert step("--epochs", "3", "--augment", "affine").code == 130
    resumed = step("--epochs", "3", "--augment", "affine", "--resume")
    assert resumed.code == 0 and "goes on after epoch" in resumed.out, resumed.err
    last = [torch.load(work.task(2) / "d" / name / "fold0" / "last.pt", weights_only=True) for name in ("whole", "gate")]
    assert all(torch.equal(last[0]["model"][name], last[1]["model"][name]) for name in last[0]["model"])
    assert refused(step("--epochs", "3", "--augment", "affine", "--resume", "--margin", "1", "--overwrite"), "--margin 0.25")


def test_no_box_anywhere_is_whole_slices_everywhere(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    folder = work.task(2) / "d" / "fold0"
    for name in predictions.NEEDED[1:]:
        frame = tables.read_csv(folder / name, COLUMNS).drop_duplicates("image_id")
        tables.write_csv(folder / name, frame.assign(**{"class": "", "confidence": "", **dict.fromkeys(CORNERS, "")}))
    result = step()
    assert result.code == 0 and "40 of 40 slices have no box" in result.out, result.err
    content = files.read_json(work.task(2) / "d" / "gate" / "metrics.json")
    assert content["test_slices_without_box"] == content["n"] == 8
    pixels = next(work.cache.glob("regions-32px-*.npy"))
    np.testing.assert_array_equal(np.load(pixels)[7], images.read_grey(work.raw / "0002_03.png"))


def test_reference_results_serve_where_the_experiment_is_gone(work, step, run_step):
    frame = toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    classify(work, frame, run_step)
    (work.reference / "task1").mkdir(parents=True)
    (work.task(1) / "e").rename(work.reference / "task1" / "e")
    result = step("--classifier", "e")
    assert result.code == 0 and "whole slices: e" in result.out, result.err
    assert refused(step("--classifier", "f", "--name", "g"), "task1/f/metrics.json", "02_evaluate.py")


def test_other_folds_of_the_classifier_are_said(work, step, run_step):
    frame = toy.make(work, boxes=True)
    table = tables.read_splits(work)
    classify(work, frame, run_step)
    tables.write_splits(work, table.assign(fold=(table["fold"] + 1) % 5))
    simulated_boxes.predict_exactly(work)
    result = step("--classifier", "e")
    assert result.code == 0 and "other folds: 8 slices" in result.out.replace("\n", " "), result.err


def test_without_known_patients_the_classifier_stands_beside_the_gate_as_before(work, step, run_step):
    frame = toy.make(work, boxes=True)
    tables.write_dataset(work, replace(tables.read_dataset(work), patient_source=tables.NO_PATIENTS))
    classify(work, frame, run_step)
    simulated_boxes.predict_exactly(work)
    result = step("--classifier", "e")
    assert result.code == 0 and "patient protocol" not in (work.task(2) / "d" / "gate" / "gate_comparison.md").read_text(), (
        result.err
    )


def test_several_classes_have_no_row_for_the_detector(work, step):
    labels = ("normal", "ivh", "sah")
    frame = simulated.make(work, patients=12, slices=6, labels=labels, draw=True)
    simulated_boxes.predict_exactly(work)
    result = step()
    assert result.code == 0 and "does not choose among several classes" in result.out, result.err
    table = pd.read_csv(work.task(2) / "d" / "gate" / "gate_comparison.csv")
    assert set(table["experiment"]) == {"gate"} and "f1_macro" in set(table["metric"]) and len(frame) == 72


# ---- mistakes


def test_a_classifier_that_cannot_be_compared_stops_before_training(work, step, run_step):
    frame = toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    classify(work, frame, run_step, protocol="slice")
    assert refused(step("--classifier", "e"), "protocol slice", "detector patient")
    assert not (work.task(2) / "d" / "gate").exists()


def test_a_detector_of_other_splits_or_of_another_fold_stops(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work, folds=(0, 1))
    table = tables.read_splits(work)
    tables.write_splits(work, table.assign(fold=(table["fold"] + 1) % 5))
    assert refused(step(), "splits.csv", "d was trained with", "02_train.py")
    tables.write_splits(work, table)
    folder = work.task(2) / "d"
    files.write_json(folder / "fold1" / "model.json", files.read_json(folder / "fold0" / "model.json"))
    assert refused(step("--fold", "1"), "fold1/model.json", "fold 0", "leak")


def test_predictions_of_another_fold_or_part_would_leak(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    folder = work.task(2) / "d" / "fold0"
    frame = tables.read_csv(folder / "train_predictions.csv", COLUMNS)
    tables.write_csv(folder / "train_predictions.csv", frame.assign(fold=1))
    assert refused(step(), frame["image_id"].iloc[0], "not those of fold 0", "leak")
    tested = tables.read_predictions(folder).query("part == 'test'")
    tables.write_csv(folder / "train_predictions.csv", pd.concat([frame, tested.assign(part="train")]))
    assert refused(step(), tested["image_id"].iloc[0], "leak")
    assert not (work.task(2) / "d" / "gate").exists() or not list(work.task(2).glob("d/gate/fold0/best.pt"))


def test_missing_predictions_of_the_training_slices(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    (work.task(2) / "d" / "fold0" / "train_predictions.csv").unlink()
    assert refused(step(), "fold0/train_predictions.csv is missing", "task2_detection/02_train.py ... --resume")


def test_predictions_that_lack_slices(work, step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    path = work.task(2) / "d" / "fold0" / "train_predictions.csv"
    frame = tables.read_csv(path, COLUMNS)
    tables.write_csv(path, frame[frame["image_id"] != frame["image_id"].iloc[0]])
    assert refused(step(), "lacks 1 of 40 slices", frame["image_id"].iloc[0], "--limit-patients")


def test_a_detector_that_is_not_there(work, step):
    toy.make(work, boxes=True)
    assert refused(step(), "task2", "02_train.py")
    simulated_boxes.predict_exactly(work)
    assert refused(step("--experiment", "unknown"), "unknown/fold", "experiments of task 2: d")
    assert refused(step("--fold", "3"), "d/fold3")
    assert refused(step("--name", "fold7"), "--name fold7")


def test_task_1_refuses_a_gate(work, step, run_step):
    toy.make(work, boxes=True)
    simulated_boxes.predict_exactly(work)
    assert step().code == 0
    place = work.task(1) / "g"
    place.mkdir(parents=True)
    (work.task(2) / "d" / "gate" / "fold0").rename(place / "fold0")
    words = ("--root", work.root, "--dataset", "toy", "--experiment", "g", "--device", "cpu")
    assert refused(run_step("task1_classification/04_predict.py", work.raw, *words), "regions")


def test_values_are_made_anew_for_the_common_images(work):
    simulated.predict(work, simulated.make(work))
    frame = pd.concat([tables.read_predictions(work.task(1) / "e" / f"fold{fold}") for fold in range(5)])
    found = decisions.evaluate(frame.reset_index(drop=True))
    one = comparison.Evaluated("e", {"n": 200}, found)
    common = np.sort(found.test.table.query("fold == 2")["image_id"])
    part = comparison.restricted(one, common, 50, 0)
    assert part.content["n"] == len(common) == len(part.evaluation.test.y)
    of_fold = found.of_fold(2)
    assert part.content["metrics"]["accuracy"]["value"] == pytest.approx((of_fold.decision == of_fold.test.y).mean())
