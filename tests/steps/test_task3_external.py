"""Networks of task 3 on another data set: predicted by all models with 05_predict.py --on, evaluated with frozen thresholds."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import quick, simulated_masks, toy
from helpers.refusals import refused
from helpers.simulated_networks import PROBABILITY, bright, bright_networks, look_around_boxes, put_detector
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images

EVALUATE = "task3_segmentation/03_evaluate.py"


@pytest.fixture
def other(work):
    """Another data set: lesions of other sizes, images that are not square, spacing, one slice without a mask file."""
    found = Workspace(work.root, "other")
    frame = toy.make(found, patients=5, slices=4, size=(60, 40), boxes=True, masks=True, seed=1)
    first = frame.index[frame["hemorrhage"] == 1][0]
    frame.loc[first, "mask"] = ""
    tables.write_labels(found, frame.assign(spacing_row=0.5, spacing_col=0.5, spacing_z=5.0), tables.read_dataset(found))
    return found


@pytest.fixture
def predict(work, run_step, monkeypatch):
    """Run 05_predict.py on the toy data with networks of whole slices."""
    return bright_networks(work, run_step, monkeypatch)


@pytest.fixture
def evaluate(work, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    return lambda *words: run_step(
        EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "e", "--on", "other", *words
    )


def choose(work, *thresholds: int) -> None:
    """What an evaluation would have left."""
    folds = [{"fold": fold, "threshold": level} for fold, level in enumerate(thresholds)]
    files.write_json(work.task(3) / "e" / "metrics.json", {"folds": folds})


def test_all_models_predict_all_slices(work, other, predict):
    assert predict("--on", "other").code == 0
    folder = work.task(3) / "e" / "on-other"
    frame, labels = tables.read_predictions(folder, ["peak"]), tables.read_labels(other, tables.read_dataset(other))
    assert (
        sorted(frame["image_id"]) == sorted(labels["image_id"]) and set(frame["part"]) == {"test"} and set(frame["fold"]) == {0}
    )
    assert frame["patient"].tolist() == frame["image_id"].map(labels.set_index("image_id")["patient"]).tolist()
    level = round(np.mean([round(255 * share) for share in PROBABILITY]))
    for name, peak in zip(frame["image_id"], frame["peak"], strict=True):
        found, seen = images.read_grey(folder / "probability" / f"{name}.png"), bright(other.raw / f"{name}.png")
        assert found.shape == seen.shape and peak == found.max()
        assert not found[~seen].any() or found[~seen].max() < level, "only the edge of a disk, made smaller and larger again"
        assert not seen.any() or abs(int(found.max()) - level) <= 1
    assert predict("--on", "other", "--skip-if-done").out.startswith("up to date")


def test_thresholds_are_frozen_and_nothing_of_the_training_data_is_scored(work, other, predict, evaluate):
    choose(work, 100, 120, 151)
    assert predict("--on", "other").code == 0
    result = evaluate()
    assert result.code == 0 and result.err == ""
    folder = work.task(3) / "e" / "on-other"
    content = files.read_json(folder / "metrics.json")
    assert (content["evaluated_on"], content["protocol"], content["n"], content["patients"]) == ("other", "external", 19, 5)
    assert content["missing_mask_left_out"] == 1 and content["folds"][0]["fold"] == "mean"
    assert content["folds"][0]["threshold"] == 124 and "frozen" in content["threshold_rule"]  # the mean is 123.67
    labels, counts = tables.read_labels(other, tables.read_dataset(other)), np.zeros(3)
    for row in labels[labels["mask"] != ""].itertuples():
        found = images.read_grey(folder / "probability" / f"{row.image_id}.png") >= 124
        true = images.read_grey(other.raw / row.mask) > 127
        counts += (found & true).sum(), found.sum(), true.sum()
    assert content["metrics"]["dice"]["value"] == pytest.approx(2 * counts[0] / (counts[1] + counts[2])) and counts[0] > 0
    volumes = pd.read_csv(folder / "per_patient.csv")
    assert set(volumes["unit"]) == {"ml"}
    drawn = {path.name for path in folder.glob("*.png")}
    assert drawn == {"confusion_matrix.png", "dice_and_size.png", "volumes.png", "examples.png"}, "no curve of validation"
    assert not (work.task(3) / "e" / "per_slice.csv").exists() and evaluate("--skip-if-done").out.startswith("up to date")


@pytest.mark.parametrize(("confidence", "drawn"), [(0.5, True), (0.05, False)])
def test_windows_lie_around_the_boxes_of_the_detectors(work, other, predict, evaluate, confidence, drawn):
    look_around_boxes(work)  # of confidence 0.1 and more
    for fold in range(3):
        put_detector(work, fold, confidence)
    choose(work, 100, 100, 100)
    assert predict("--on", "other").code == 0 and evaluate().code == 0
    content = files.read_json(work.task(3) / "e" / "on-other" / "metrics.json")
    assert (content["metrics"]["dice"]["value"] > 0.3) == drawn and (
        content["pixels"]["fp"] + content["pixels"]["tp"] > 0
    ) == drawn


def test_mistakes_are_one_line(work, other, predict, evaluate, run_step):
    assert refused(evaluate(), "on-other/predictions.csv", "05_predict.py --experiment e --on other")
    every = ("task3_segmentation/03_evaluate.py", "--root", work.root, "--dataset", "toy", "--on", "other")
    assert refused(run_step(*every), "no experiment of task 3 has predictions on other", "05_predict.py", "--on other")
    assert predict("--on", "other").code == 0
    assert refused(evaluate(), "no threshold to freeze", "03_evaluate.py --dataset toy --experiment e")
    choose(work, 100, 100, 100)
    assert refused(predict("--on", "toy"), "on which the models were trained")
    assert "name images or folders, or another data set" in predict("--on", "other", work.raw).err
    assert "do not go with it" in predict("--on", "other", "--threshold", "0.5").err
    assert refused(evaluate("--on", "toy"), "on which the models were trained")
    simulated_masks.predict(work, "maps")  # of a program of one's own
    words = ("--experiment", "maps", "--on", "other")
    assert refused(evaluate(*words), "predictions but no model", "02_train.py --dataset toy --experiment maps")
    copied = Workspace(work.root, "copied")
    toy.make(copied, patients=10, slices=4, size=32, boxes=True, masks=True)  # drawn alike, byte by byte
    assert refused(predict("--on", "copied"), "40 of 40 images of copied are also in toy", "data/raw/copied/0001_00.png")
    labels = tables.read_labels(other, tables.read_dataset(other))
    tables.write_labels(other, labels.iloc[1:], tables.read_dataset(other))
    assert refused(evaluate(), "labels.csv of other has changed since", "on-other/predictions.csv", "--on other")
    tables.write_labels(other, labels, tables.read_dataset(other))
    assert evaluate().code == 0


def test_predictions_of_other_models_than_now_stop(work, other, predict, evaluate):
    choose(work, 100, 100, 100)
    assert predict("--on", "other").code == 0
    shutil.move(work.task(3) / "e" / "fold2", work.task(3) / "fold2")
    assert refused(evaluate(), "of other models than e has now", "--on other")
    shutil.move(work.task(3) / "fold2", work.task(3) / "e" / "fold2")
    assert evaluate().code == 0
    (work.task(3) / "e" / "fold2" / "predictions.csv").write_text("predicted again")
    assert refused(evaluate(), "predicted again since the evaluation")


def test_what_is_black_in_both_is_no_copy(work, other, predict):
    for place in (work, other):
        for name in ("0001_00", "0002_00", "0003_00"):
            Image.fromarray(np.zeros((40, 60), np.uint8)).save(place.raw / f"{name}.png")
    result = predict("--on", "other")
    assert result.code == 0 and "mind" not in result.out, result.err
    (other.raw / "0004_00.png").write_bytes((work.raw / "0004_00.png").read_bytes())
    result = predict("--on", "other")
    assert result.code == 0 and "mind: 1 of 20 images of other are also in toy" in result.out, result.err


def test_masks_of_several_values_are_told(work, other, predict, evaluate):
    choose(work, 100, 100, 100)
    labels = tables.read_labels(other, tables.read_dataset(other))
    for name in labels["mask"][labels["mask"] != ""]:
        mask = np.asarray(Image.open(other.raw / name))
        Image.fromarray(np.where(mask > 0, 2, np.eye(*mask.shape)).astype(np.uint8)).save(other.raw / name)
    assert predict("--on", "other").code == 0
    assert refused(evaluate(), "--mask-value")
    assert evaluate("--mask-value", "2").code == 0


@pytest.mark.parametrize("around_boxes", [False, True])
def test_maps_and_boxes_of_turned_images_come_back(work, other, predict, around_boxes):
    if around_boxes:
        look_around_boxes(work)
        for fold in range(3):
            put_detector(work, fold, 0.5)
    for place, orientation in ((work, "left"), (other, "up")):
        tables.write_dataset(place, replace(tables.read_dataset(place), orientation=orientation))
    folder, found = work.task(3) / "e" / "on-other" / "probability", {}
    for words in ((), ("--orientation", "left")):
        result = predict("--on", "other", *words)
        assert result.code == 0 and ("other: nose up; turned, as the models know the nose left" in result.out) is not bool(words)
        found[words] = np.stack([images.read_grey(path) >= 124 for path in sorted(folder.glob("*.png"))])
    turned, plain = found.values()
    assert turned.shape == plain.shape == (20, 40, 60) and plain.sum() > 200
    assert (turned & plain).sum() > 0.95 * (turned | plain).sum(), "but for the rounding of a smaller image's place in the square"
