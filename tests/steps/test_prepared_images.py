"""--prepare and the orientation through the steps: kept with data and models, applied to whatever is predicted, never guessed."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import heads, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import prepared
from hemoct.ingest import layouts
from hemoct.prepare.options import View
from hemoct.training.specs import Spec

LABELS = "scripts/03_make_labels.py"
TRAIN, PREDICT = "task1_classification/01_train.py", "task1_classification/04_predict.py"
SMALL = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu", "--backbone", 
         "test_resnet", "--epochs", 1, "--fold", 0)  # fmt: skip


def put(work: Workspace, turns: int = 0) -> None:
    """Phantom heads of ten patients as a data set of layout csv; the last slice of each is empty; the nose is left."""
    work.raw.mkdir(parents=True)
    rows = []
    for key in range(10):
        shown = heads.slices(key, 4, 96)
        for number, grey in enumerate([*shown, np.zeros_like(shown[0])]):
            name = f"{key:02d}_{number}.png"
            Image.fromarray(np.ascontiguousarray(np.rot90(grey, turns))).save(work.raw / name, compress_level=1 + turns)
            rows.append({"image": name, "patient": f"p{key:02d}", "bleeding": (key + number) % 2})
    pd.DataFrame(rows).to_csv(work.raw / "labels.csv", index=False)


@pytest.fixture
def label(run_step):
    return lambda work, *words: run_step(
        LABELS, "--root", work.root, "--dataset", work.dataset, "--patient-column", "patient", *words
    )


@pytest.fixture
def heads_of(work, label, run_step):
    put(work)
    assert label(work).code == 0
    assert run_step("scripts/05_make_splits.py", "--root", work.root, "--dataset", "toy").code == 0
    return work


@pytest.fixture
def train(heads_of, run_step):
    return lambda *words: run_step(TRAIN, "--root", heads_of.root, "--dataset", "toy", *SMALL, *words)


@pytest.fixture
def predict(work, run_step):
    return lambda *words: run_step(PREDICT, "--root", work.root, "--dataset", "toy", "--device", "cpu", *words)


def test_the_orientation_is_found_given_or_left_open(work, label):
    put(work, turns=1)
    result = label(work)
    assert result.code == 0 and "orientation: nose down (" in result.out
    assert tables.read_dataset(work).orientation == "down"
    assert "orientation: nose left (given)" in label(work, "--orientation", "left").out
    assert tables.read_dataset(work).orientation == "left"
    for origin, word in (("down", "orientation: nose down ("), ("up", "mind: orientation: nose down (")):
        files.write_json(work.raw / layouts.ORIGIN, {"orientation": origin})
        assert word in label(work).out and tables.read_dataset(work).orientation == "down"
    for path in work.raw.glob("*.png"):
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(path)
    assert "orientation: nose up, as converted" in label(work).out
    (work.raw / layouts.ORIGIN).unlink()
    assert "orientation: unknown (0% of 0 agree)" in label(work).out
    assert tables.read_dataset(work).orientation == "unknown"


def test_an_older_data_set_is_looked_at(heads_of, capfd):
    path = heads_of.work / "dataset.json"
    content = files.read_json(path)
    assert content.pop("orientation") == "left"
    files.write_json(path, content)
    assert tables.read_dataset(heads_of).orientation == ""
    assert prepared.orientation_of(heads_of) == "left" and "03_make_labels.py" in capfd.readouterr().out
    assert prepared.orientation_of(heads_of) == "left" and not capfd.readouterr().out, "once"


def test_what_is_predicted_lies_as_what_was_learned(heads_of, train, predict, label):
    result = train("--experiment", "e")
    assert result.code == 0, result.err
    spec = files.read_json(heads_of.task(1) / "e" / "fold0" / "model.json")
    assert spec["orientation"] == "left" and spec["prepare"] == []
    probabilities = {}
    for turns, name in enumerate(("same", "down", "right", "up")):
        other = Workspace(heads_of.root, name)
        put(other, turns)
        if not turns:  # copies are refused by their bytes
            for path in other.raw.glob("*.png"):
                Image.open(path).save(path, compress_level=9)
        assert label(other).code == 0
        result = predict("--experiment", "e", "--on", name, "--map", "bleeding=bleeding")
        assert result.code == 0, result.err
        assert ("turned, as the models know the nose left" in result.out) is bool(turns)
        table = tables.read_predictions(heads_of.task(1) / "e" / f"on-{name}")
        probabilities[name] = table.set_index("image_id")["p_bleeding"]
    for name in ("down", "right", "up"):
        assert (probabilities[name] == probabilities["same"]).all()
    assert predict("--experiment", "e", "--on", "up", "--orientation", "left").code == 0
    table = tables.read_predictions(heads_of.task(1) / "e" / "on-up").set_index("image_id")
    assert (table["p_bleeding"] - probabilities["same"]).abs().max() > 1e-4, "not turned"

    up = Workspace(heads_of.root, "up").raw
    result = predict(up, "--experiment", "e")
    assert "nose up (" in result.out and "turned" in result.out
    frame = tables.read_csv(heads_of.task(1) / "e" / "predicted.csv", ["image"])
    of_file = frame.set_index(frame["image"].map(lambda name: name.rsplit("/", 1)[-1][:-4]))["p_bleeding"]
    np.testing.assert_allclose(of_file[probabilities["same"].index], probabilities["same"], rtol=1e-6)
    result = predict(up / "00_1.png", "--experiment", "e")
    assert result.code == 0 and "1 folder(s) of unknown orientation" in result.out and "--orientation" in result.out
    assert "unknown" not in predict(up / "00_1.png", "--experiment", "e", "--orientation", "up").out


def test_models_are_shown_what_they_were_trained_with(heads_of, train, predict):
    result = train("--prepare", "head,median")
    assert result.code == 0, result.err
    assert "--prepare head: 10 of 50 images have no head that is seen, and are kept whole" in result.out
    name = next(path.name for path in heads_of.task(1).iterdir())
    assert name.endswith("-head-median")
    folder = heads_of.task(1) / name / "fold0"
    assert files.read_json(folder / "model.json")["prepare"] == ["head", "median"]
    assert len(list(heads_of.cache.glob("grey-32px-*.npy"))) == 1
    assert train("--experiment", "plain").code == 0
    assert len(list(heads_of.cache.glob("grey-32px-*.npy"))) == 2, "another cache"

    own = tables.read_predictions(folder).set_index("image_id")["p_bleeding"]
    paths = [heads_of.raw / f"{image}.png" for image in own.index]
    assert predict(*paths, "--experiment", name, "--prepare", "head,median").code == 0
    frame = tables.read_csv(heads_of.task(1) / name / "predicted.csv", ["image"])
    np.testing.assert_allclose(frame["p_bleeding"], own.to_numpy(), rtol=1e-6)
    result = predict(*paths, "--experiment", name, "--prepare", "head")
    assert refused(result, "--prepare head", "prepared by head,median", "leave it out")
    assert refused(predict(*paths, "--experiment", "plain", "--prepare", "text"), "prepared by none")

    other = folder.with_name("fold1")
    shutil.copytree(folder, other)
    for change, word in (({"prepare": ["head"]}, "prepare"), ({"orientation": "up"}, "orientation")):
        files.write_json(other / "model.json", files.read_json(folder / "model.json") | change)
        assert refused(predict(*paths, "--experiment", name), f"differs from {folder} in {word}")
    content = files.read_json(folder / "model.json")
    files.write_json(other / "model.json", {key: value for key, value in content.items() if key != "orientation"})
    assert predict(*paths, "--experiment", name).code == 0, "an older fold does not tell, so it is as the others"


def test_older_models_were_trained_with_nothing(heads_of, capfd):
    spec = Spec(image_size=8, mean=0, std=1, protocol="patient", split="folds", fold=0, splits_sha256="")
    assert spec.prepare == [] and spec.orientation is None
    shown = prepared.for_models(heads_of, spec, View())
    assert shown.preparation.names == () and shown.wanted == "left", "the data set of today tells"
    assert shown.of("up").turns == 1 and shown.of("left").turns == 0 and shown.of("unknown").turns == 0


def test_what_does_not_fit_is_one_line(heads_of, train, run_step, label):
    result = train("--prepare", "head,skull")
    assert refused(result, "--prepare", "'skull' is no preparation; there are: head, text, invert, median, clahe, brain")
    assert refused(label(heads_of, "--orientation", "north"), "--orientation", "north")
    for step, words in (("task2_detection/02_train.py", ("--weights", "none")), ("task3_segmentation/02_train.py", ())):
        toy_work = Workspace(heads_of.root, "disks")
        if not toy_work.raw.exists():
            toy.make(toy_work, boxes=True, masks=True)
        on = ("--root", heads_of.root, "--dataset", "disks", *words)
        assert refused(
            run_step(step, *on, "--prepare", "head"), "--prepare head moves each image by itself", "there text, invert"
        )
    result = run_step("task2_detection/02_train.py", *on, "--weights", "none", "--prepare", "text")
    assert refused(result, "--prepare text: yolov8n reads the files as they are; choose --model")


def test_the_check_shows_before_and_after(heads_of, run_step, monkeypatch):
    words = ("--root", heads_of.root, "--dataset", "toy", "--prepare", "head,brain")
    result = run_step("scripts/04_check_data.py", *words)
    assert result.code == 0 and "--prepare head,brain: " in result.out and "0 of 0 boxes are cut" in result.out
    table = tables.read_csv(heads_of.work / "prepared.csv", ["image_id", "cut", "changed", "boxes_cut"])
    assert len(table) == 50 and table["cut"].between(0, 0.95).all() and table["cut"].mean() > 0.2
    empty = table["image_id"].str.endswith("_4")
    assert (table.loc[empty, "kept_whole"] == "head brain").all() and (table.loc[empty, "cut"] == 0).all()
    assert (heads_of.work / "figures" / "prepared.png").stat().st_size > 10_000
