"""05_predict.py with models that find the bright disks exactly: table, pictures, what is seen, other data, every mistake."""

import dataclasses
import os
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import named_images
from hemoct.detection import data, networks, predict as detection_predict
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import overlays, sheets
from hemoct.training import checkpoints

STEP = "task2_detection/05_predict.py"
CONFIDENCE = (0.9, 0.6, 0.0)  # of the models of folds 0, 1, 2; the last one finds nothing
GREEN, RED = overlays.GREEN, overlays.RED


def find_disk(model: torch.nn.Module, _: object):
    """A detector: the box around all bright pixels, with the model's only weight as its confidence."""

    def run(batch: list[np.ndarray]) -> list[np.ndarray]:
        found = []
        for grey in batch:
            y, x = np.nonzero(grey > 200)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1, model.weight.item(), 0] if len(x) else []
            found.append(np.array(box, dtype=float).reshape(-1, 6))
        return found

    return run


@pytest.fixture
def predict(work, run_step, monkeypatch):
    """Run the step on the toy data with such models, in folds 0, 1 and 2 of experiment `e`."""
    family = types.SimpleNamespace(build=lambda _: torch.nn.Linear(1, 1, bias=False), runner=find_disk)
    monkeypatch.setattr(networks, "family", lambda _: family)
    monkeypatch.setattr(sheets, "OVERLAY", 64)  # smaller pictures are drawn faster
    toy.make(work, patients=10, slices=4, size=32, boxes=True)
    for fold, confidence in enumerate(CONFIDENCE):
        put_model(work, fold, confidence)
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", "--device", "cpu", "--experiment", "e", *words)


def put_model(work: Workspace, fold: int, confidence: float, classes: tuple[str, ...] = ("disk",)) -> None:
    folder = work.task(2) / "e" / f"fold{fold}"
    digest = files.sha256(work.work / "splits.csv")
    spec = networks.DetectorSpec(
        model="stub", classes=list(classes), image_size=32, mean=0.0, std=1.0, protocol="patient", split="folds", fold=fold,
        splits_sha256=digest,
    )  # fmt: skip
    spec.save(folder)
    checkpoints.save(folder / "best.pt", {"weight": torch.tensor([[confidence]])})


def out(work: Workspace) -> Path:
    return work.task(2) / "e" / "predicted"


def table_of(work: Workspace, folder: Path | None = None) -> pd.DataFrame:
    frame = pd.read_csv((folder or out(work)) / "predicted.csv")
    return frame.assign(name=frame["image"].map(lambda path: Path(path).stem)).set_index("name")


def colours(path: Path) -> set[tuple[int, int, int]]:
    return {tuple(colour) for colour in np.asarray(Image.open(path)).reshape(-1, 3).tolist()}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".csv")
    }


def test_fused_boxes_are_written_and_drawn(work, predict):
    result = predict(work.raw, "--fuse")
    assert result.code == 0, result.err
    table, truth = table_of(work), tables.read_boxes(work).set_index("image_id")
    assert list(table.columns) == ["image", "class", "confidence", *CORNERS] and len(table) == 40
    found = table[table["confidence"].notna()]
    assert set(found.index) == set(truth.index) and (found["class"] == "disk").all()
    assert (found["confidence"] == 0.5).all()  # (0.9 + 0.6) / 2, found by 2 of 3 models
    assert np.array_equal(found[CORNERS], truth.loc[found.index, CORNERS])
    assert table.loc[~table.index.isin(found.index), ["class", *CORNERS]].isna().all(axis=None)
    pictures = {path.stem: path for path in (out(work) / "overlays").glob("*/*.png")}
    assert set(pictures) == set(table.index)
    for name in ("0001_00", "0001_01"):
        assert pictures[name].parent.name == "0001"
        assert {GREEN, RED} & colours(pictures[name]) == ({GREEN, RED} if name in truth.index else set())
    assert {path.stem for path in (out(work) / "patients").iterdir()} == {f"{patient:04d}" for patient in range(1, 11)}
    assert {GREEN, RED} <= colours(out(work) / "patients" / "0001.png")
    assert "20 with a box" in result.out and "0.25 up (not evaluated yet" in result.out
    assert predict(work.raw, "--fuse", "--skip-if-done").out.startswith("up to date")


def test_images_that_a_model_has_seen_are_counted(work, predict):
    parts = [data.load(work).part_of(fold, "patient", "folds") for fold in range(3)]
    seen = int(np.any([part != "test" for part in parts], axis=0).sum())
    assert f"mind: {seen} of the 40 images" in predict(work.raw, "--fuse", "--no-overlays").out
    test = data.load(work).table["image"][parts[1] == "test"]
    assert "mind" not in predict(*(work.raw / name for name in test), "--fold", "1").out
    assert files.read_json(out(work) / "05_predict.run.json")["seen_in_training"] == 0
    files.write_text(work.work / "splits.csv", (work.work / "splits.csv").read_text() + "\n")
    assert f"mind: {len(test)} of" in predict(*(work.raw / name for name in test), "--fold", "1").out  # no longer known


def test_the_threshold_is_that_of_the_evaluation(work, predict):
    chosen = [{"fold": 0, "threshold": 0.3}, {"fold": 1, "threshold": 0.6}, {"fold": 2, "threshold": None}]
    files.write_json(work.task(2) / "e" / "metrics.json", {"folds": chosen})
    flags = (work.raw / "0001_01.png", "--no-overlays")
    for words, threshold, boxes in ((("--fuse",), "0.45", 1), (("--fold", 1), "0.6", 1), (("--fold", 2), "0.25", 0)):
        result = predict(*flags, *words)
        assert f"confidence from {threshold} up" in result.out and table_of(work)["confidence"].count() == boxes
    assert predict(*flags, "--fuse", "--threshold", 0.51).code == 0
    assert table_of(work)["confidence"].count() == 0


def test_a_threshold_counts_to_the_digits_of_the_table_that_it_comes_from(work, predict):
    put_model(work, 0, 0.123456)  # 0.12346 in predictions.csv, whose best value the evaluation took
    files.write_json(work.task(2) / "e" / "metrics.json", {"folds": [{"fold": 0, "threshold": 0.12346}]})
    assert predict(work.raw / "0001_01.png", "--no-overlays", "--fold", 0).code == 0
    assert table_of(work)["confidence"].tolist() == [0.12346]


def test_a_threshold_of_earlier_models_is_not_taken(work, predict):
    metrics = files.write_json(work.task(2) / "e" / "metrics.json", {"folds": [{"fold": 0, "threshold": 0.95}]})
    os.utime(metrics, (1, 1))
    result = predict(work.raw / "0001_01.png", "--no-overlays", "--fold", 0)
    assert "confidence from 0.25 up (trained again since the evaluation" in result.out
    assert table_of(work)["confidence"].count() == 1


def test_annotation_of_a_class_that_the_models_lack_is_drawn_by_its_own_name(work, predict):
    boxes = tables.read_boxes(work)
    boxes.loc[boxes["image_id"] == "0001_01", "class"] = "another"
    tables.write_boxes(work, boxes)
    dataset = tables.read_dataset(work)
    tables.write_dataset(work, dataclasses.replace(dataset, classes=["another", "disk"]))
    spec = networks.DetectorSpec.read(work.task(2) / "e" / "fold0")
    known = detection_predict.look_up(work, [work.raw / "0001_01.png", work.raw / "0001_03.png"], [spec])
    assert [[known.classes[number] for number in of_image] for of_image in known.truth_class] == [["another"], ["disk"]]
    assert known.classes[0] == "disk", "numbers of the models' boxes stay theirs"
    assert predict(work.raw / "0001_01.png", "--fold", 0).code == 0


def test_images_from_elsewhere_have_no_truth_and_are_grouped_by_folder(work, predict, tmp_path):
    for folder in ("scan", "more/scan", "0001"):
        (tmp_path / "new" / folder).mkdir(parents=True)
        Image.open(work.raw / "0001_01.png").save(tmp_path / "new" / folder / "a.png")
    (tmp_path / "new" / "scan" / "a.bmp").write_bytes((tmp_path / "new" / "scan" / "a.png").read_bytes())
    (tmp_path / "new" / "link.png").symlink_to(work.raw / "0001_01.png")
    result = predict(tmp_path / "new", tmp_path / "new" / "scan" / "a.png", "--fuse")
    assert result.code == 0 and len(table_of(work)) == 5, result.err
    pictures = {str(path.relative_to(out(work) / "overlays")) for path in (out(work) / "overlays").rglob("*.png")}
    assert pictures == {"0001/link.png", "0001-2/a.png", "scan/a.png", "scan-2/a.png", "scan-2/a-2.png"}
    assert {GREEN, RED} <= colours(out(work) / "overlays" / "0001" / "link.png")  # a link to a slice of the data set
    assert {GREEN, RED} & colours(out(work) / "overlays" / "scan" / "a.png") == {RED}
    assert "mind: 1 of the 5 images" in result.out


def test_pages_split_a_large_group(work, predict, monkeypatch):
    monkeypatch.setattr(sheets, "PAGE", 3)
    assert predict(*(work.raw / f"0001_{number:02d}.png" for number in range(4)), "--fold", 0).code == 0
    assert {path.name for path in (out(work) / "patients").iterdir()} == {"0001.png", "0001.page2.png"}


def test_slices_of_a_patient_follow_their_number(work, predict):
    labels = tables.read_labels(work, tables.read_dataset(work))
    labels["slice"] = 9 - labels["slice"]
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert predict(work.raw, "--fold", 0, "--no-overlays").code == 0
    assert list(table_of(work).index[:4]) == ["0001_03", "0001_02", "0001_01", "0001_00"]


def test_no_prediction_at_all_still_makes_everything(work, predict):
    assert predict(work.raw, "--fold", 2).code == 0
    assert table_of(work)["confidence"].isna().all() and len(list((out(work) / "patients").iterdir())) == 10
    assert GREEN in colours(out(work) / "overlays" / "0001" / "0001_01.png")


def test_the_same_call_makes_the_same_bytes_and_other_calls_leave_nothing_behind(work, predict):
    assert predict(work.raw, "--fuse").code == 0
    first = contents(out(work))
    assert predict(work.raw, "--fuse").code == 0 and contents(out(work)) == first
    assert predict(work.raw / "0001_01.png", "--fuse").code == 0
    assert set(contents(out(work))) == {"predicted.csv", "overlays/0001/0001_01.png", "patients/0001.png"}
    assert predict(work.raw / "0001_01.png", "--fuse", "--no-overlays").code == 0
    assert set(contents(out(work))) == {"predicted.csv"}


def test_a_broken_image_stops_and_leaves_the_old_results_whole(work, predict, tmp_path):
    (tmp_path / "new").mkdir()
    Image.open(work.raw / "0001_01.png").save(tmp_path / "new" / "a.png")
    assert predict(tmp_path / "new", "--fuse").code == 0
    before = contents(out(work))
    (tmp_path / "new" / "b.png").write_bytes(b"no image")
    assert refused(predict(tmp_path / "new", "--fuse"), "b.png", "cannot be decoded")
    assert contents(out(work)) == before and not list(out(work).glob(".tmp*"))


def test_which_models_must_be_clear(work, predict):
    assert refused(predict(work.raw), "folds 0, 1, 2", "--fuse", "--fold K")
    assert refused(predict(work.raw, "--fold", 4), "no model of fold 4", "0, 1, 2")
    assert refused(predict(work.raw, "--fuse", "--fold", 0), "not allowed with")
    assert refused(predict(work.raw, "--experiment", "none"), "none holds no trained fold", "e")
    put_model(work, 1, 0.5, classes=("other",))
    assert refused(predict(work.raw, "--fuse"), "fold1 differs", "classes")
    (work.task(2) / "e" / "fold1" / "model.json").unlink()
    assert refused(predict(work.raw, "--fuse"), "model.json is missing", "02_train.py")
    for fold in (1, 2):
        (work.task(2) / "e" / f"fold{fold}" / "best.pt").unlink()
    assert predict(work.raw / "0001_01.png").code == 0  # one model alone needs no flag


def test_mistakes_with_places_are_one_line(work, predict, tmp_path):
    assert refused(predict("--fuse"), "name images or folders")
    (tmp_path / "empty").mkdir()
    assert refused(predict(tmp_path / "empty", "--fuse"), "no image")
    assert refused(predict(tmp_path / "nowhere", "--fuse"), "neither a file nor a folder")
    assert refused(predict(work.raw, "--fuse", "--out", work.raw / "predicted"), "searched for images")
    assert refused(predict(work.raw, "--fuse", "--out", work.work / "labels.csv"), "is a file")
    assert refused(predict(work.raw, "--fuse", "--threshold", 7), "--threshold")
    (tmp_path / "mine" / "overlays").mkdir(parents=True)
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    assert refused(predict(work.raw, "--fuse", "--out", tmp_path / "mine"), "not of this step")
    (tmp_path / "mine" / "overlays").rmdir()
    for _ in range(2):
        assert predict(work.raw / "0001_01.png", "--fuse", "--out", tmp_path / "mine").code == 0
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me" and not out(work).exists()


def test_an_image_with_an_unknown_label_has_no_truth(work, predict):
    labels = tables.read_labels(work, tables.read_dataset(work))
    labels.loc[labels["image_id"] == "0001_00", "hemorrhage"] = pd.NA
    tables.write_labels(work, labels, tables.read_dataset(work))
    known = detection_predict.look_up(work, [work.raw / "0001_00.png", work.raw / "0001_01.png", work.raw / "0001_02.png"], [])
    assert known.truth[0] is None and known.truth[1].shape == (1, 4) and known.truth[2].shape == (0, 4)


def test_another_data_set_is_predicted_by_all_models(work, predict):
    other = Workspace(work.root, "other")
    toy.make(other, patients=5, slices=2, size=(60, 40), boxes=True, seed=1)
    result = predict("--on", "other")
    assert result.code == 0, result.err
    folder = work.task(2) / "e" / "on-other"
    frame, truth = tables.read_predictions(folder), tables.read_boxes(other).set_index("image_id")
    assert list(frame.columns) == ["image_id", "patient", "fold", "part", "class", "confidence", *CORNERS]
    assert len(frame) == 10 and set(frame["fold"]) == {0} and set(frame["part"]) == {"test"}
    found = frame[frame["confidence"].notna()].set_index("image_id")
    assert set(found.index) == set(truth.index) and (found["confidence"] == 0.5).all()
    assert np.array_equal(found[CORNERS], truth.loc[found.index, CORNERS])
    assert predict("--on", "other", "--skip-if-done").out.startswith("up to date")


def test_another_data_set_must_be_another_and_of_the_same_classes(work, predict):
    link = Workspace(work.root, "link")
    link.raw.symlink_to(work.raw)
    assert refused(predict("--on", "link"), "on which the models were trained")
    toy.make(Workspace(work.root, "two"), patients=5, boxes=True, classes=("disk", "hole"), seed=1)
    assert refused(predict("--on", "two"), "of class disk, hole, the models know disk", "03_make_labels.py --dataset two")
    assert refused(predict("--on", "nothing"), "no data set is called nothing", "there are: link, toy, two")
    assert refused(predict("--on", "two", work.raw), "name images or folders, or another data set")
    assert refused(predict("--on", "two", "--no-overlays"), "do not go with it")


def test_names_of_files_are_plain_and_different():
    wanted = {1: "a b/c", 2: "a_b_c", 3: "..", 4: "ä", 5: "A_b_c"}
    assert named_images.file_names(wanted) == {1: "a_b_c", 2: "a_b_c-2", 3: "images", 4: "ä", 5: "A_b_c-3"}


def test_equal_boxes_do_not_hide_each_other_and_their_note_stays_inside():
    grey = np.full((32, 64), 60, dtype=np.uint8)
    box = np.array([[0, 0, 10, 10], [40, 20, 64, 32]], dtype=float)
    found = np.column_stack([box, [0.8, 0.7], [0, 0]])
    drawn = np.asarray(overlays.picture(grey, found, box, 256))  # four times as large, lines of 2 px
    assert drawn.shape == (128, 256, 3)
    # the second box covers columns 160 to 255 and rows 80 to 127: truth just outside its left side, prediction just inside
    assert [tuple(drawn[110, column]) for column in (158, 159, 160, 161)] == [GREEN, GREEN, RED, RED]
    assert tuple(drawn[110, 162]) == tuple(drawn[110, 157]) == (60, 60, 60)
    alone = np.asarray(overlays.picture(grey, found[:0], None, 256))
    assert (alone == 60).all()
