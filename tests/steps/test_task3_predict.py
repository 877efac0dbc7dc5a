"""05_predict.py of task 3 with networks that see bright pixels: masks, boxes, neighbours, volumes, pictures, every mistake."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import simulated_boxes, toy
from helpers.simulated_networks import Bright, bright, bright_networks, look_around_boxes, put_detector, put_network
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, named_images
from hemoct.evaluation import overlays
from hemoct.segmentation import (
    data,
    drawing as segmentation_drawing,
    networks as segmentation_networks,
    predict as segmentation_predict,
    predictions,
)

STEP = "task3_segmentation/05_predict.py"
TRAIN = "task3_segmentation/02_train.py"
CORNERS = ["xmin", "ymin", "xmax", "ymax"]


@pytest.fixture
def predict(work, run_step, monkeypatch):
    """Run the step on the toy data with networks of whole slices, in folds 0, 1 and 2 of experiment `e`."""
    return bright_networks(work, run_step, monkeypatch)


def out(work: Workspace) -> Path:
    return work.task(3) / "e" / "predicted"


def mask_of(folder: Path, place: str) -> np.ndarray:
    return np.asarray(Image.open(folder / "masks" / f"{place}.png"))


def table_of(folder: Path) -> pd.DataFrame:
    frame = pd.read_csv(folder / "predicted.csv", dtype={"group": str})
    return frame.assign(name=frame["image"].map(lambda path: Path(path).stem)).set_index("name")


def volumes_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "volumes.csv", dtype={"group": str}).set_index("group")


def stopped(result, *words: str) -> None:
    assert result.code == 2 and result.err.strip().count("\n") == 0, result.err
    assert all(word in result.err for word in words), result.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".png", ".csv")}


# ---- masks, by the mean of the models


def test_the_mean_of_the_models_is_written_counted_and_drawn(work, predict):
    result = predict(work.raw / "0001_00.png", work.raw / "0001_01.png", work.raw / "0002_03.png")
    assert result.code == 0 and result.err == ""
    assert set(contents(out(work))) == {
        *(f"{kind}/{name}.png" for kind in ("masks", "overlays") for name in ("0001/0001_00", "0001/0001_01", "0002/0002_03")),
        *("patients/0001.png", "patients/0002.png", "predicted.csv", "volumes.csv"),
    }  # fmt: skip
    table = table_of(out(work))
    assert list(table) == ["group", "image", "predicted_px"]
    for name, group in (("0001_00", "0001"), ("0001_01", "0001"), ("0002_03", "0002")):
        wanted = bright(work.raw / f"{name}.png")
        assert np.array_equal(mask_of(out(work), f"{group}/{name}"), wanted * 255) and table["predicted_px"][name] == wanted.sum()
    volumes = volumes_of(out(work))
    assert volumes["images"].tolist() == [2, 1] and volumes["positive"].tolist() == [1, 1] and set(volumes["unit"]) == {"px"}
    assert volumes["predicted_volume"].tolist() == [table["predicted_px"]["0001_01"], table["predicted_px"]["0002_03"]]
    assert "3 images, 3 model(s), probability from 0.502 up (not evaluated yet" in result.out and "2 with a mask" in result.out
    again = ("0001_00.png", "0001_01.png", "0002_03.png")
    assert predict(*(work.raw / name for name in again), "--skip-if-done").out.startswith("up to date")


@pytest.mark.parametrize(
    ("words", "predicted"),
    [((), True), (("--threshold", 0.56), True), (("--threshold", 0.57), False), (("--fold", 2), False), (("--fold", 1), True)],
)
def test_probabilities_are_averaged_over_the_folds_that_are_asked(work, predict, words, predicted):
    assert predict(work.raw / "0001_01.png", "--no-overlays", *words).code == 0  # the mean is (0.9 + 0.8 + 0) / 3 = 0.567
    assert mask_of(out(work), "0001/0001_01").any() == predicted


@pytest.mark.parametrize(("threshold", "predicted"), [(0.76, True), (0.77, False)])
def test_an_ensemble_is_the_mean_of_the_models_of_its_members(work, predict, threshold, predicted):
    for fold in range(3):
        put_network(work, fold, 0.96, experiment="f", model="another", image_size=16)
        told = files.read_json(work.task(3) / "e" / f"fold{fold}" / "model.json")
        spec = {"members": ["e", "f"], "members_sha256": [None, None], "model": "ensemble"} | {
            key: told[key] for key in predictions.SHARED
        }
        files.write_json(work.task(3) / "both" / f"fold{fold}" / "model.json", spec)
    result = predict(work.raw / "0001_01.png", "--no-overlays", "--experiment", "both", "--threshold", threshold)
    assert result.code == 0 and "6 model(s)" in result.out  # (0.9 + 0.8 + 0 + 3 * 0.96) / 6 = 0.763
    assert mask_of(work.task(3) / "both" / "predicted", "0001/0001_01").any() == predicted
    put_network(work, 2, 0.9, experiment="f", model="another", image_size=32)
    again = predict(work.raw / "0001_01.png", "--experiment", "both")
    stopped(again, "f/fold2", "image_size")


def test_the_threshold_is_that_of_the_evaluation(work, predict):
    chosen = [{"fold": 0, "threshold": 226}, {"fold": 1, "threshold": 206}, {"fold": 2, "threshold": 3}]
    metrics = files.write_json(work.task(3) / "e" / "metrics.json", {"folds": chosen})
    for words, level, predicted in ((("--fold", 0), 226, True), (("--fold", 1), 206, False), ((), 145, False)):
        result = predict(work.raw / "0001_01.png", "--no-overlays", *words)  # 0.9 is level 230, 0.8 level 204
        assert f"probability from {level / 255:.3g} up" in result.out and "chosen on validation" in result.out
        assert files.read_json(out(work) / "05_predict.run.json")["threshold"] == level
        assert mask_of(out(work), "0001/0001_01").any() == predicted
    os.utime(metrics, (1, 1))
    assert "0.502 up (trained again since the evaluation: 03_evaluate.py" in predict(work.raw / "0001_01.png").out


@pytest.mark.parametrize(
    "flags", [("--region", "slice", "--image-size", 64), ("--region", "box", "--boxes", "d", "--image-size", 32)]
)
def test_a_trained_network_predicts_what_its_training_wrote(work, run_step, monkeypatch, tmp_path, flags):
    toy.make(work, patients=6, slices=5, size=(72, 64), radius=9, boxes=True, masks=True)
    simulated_boxes.predict(work, "d", sensitivity=0.95, alarms=0.2)
    place = ("--root", work.root, "--dataset", "toy", "--experiment", "t", "--device", "cpu")
    small = ("--weights", "none", "--encoder", "resnet18", "--fold", 0, "--epochs", 1, "--batch-size", 8, "--context", 1)
    assert run_step(TRAIN, *place, *flags, *small).code == 0
    fold = work.task(3) / "t" / "fold0"
    written = {path.stem: np.asarray(Image.open(path)) for path in (fold / "probability").iterdir()}
    level = int(np.median(np.concatenate([one[one > 0] for one in written.values()])))
    boxes = tables.read_predictions(work.task(2) / "d" / "fold0").rename(columns={"image_id": "image"})
    tables.write_csv(tmp_path / "boxes.csv", boxes.assign(image=boxes["image"] + ".png"))
    given = ("--boxes-from", tmp_path / "boxes.csv") if "box" in flags else ()
    monkeypatch.setattr(segmentation_predict, "CHUNK", 4)  # chunks end within patients: their neighbours must be there
    shown = [work.raw / f"{name}.png" for name in written]
    result = run_step(STEP, *place, *given, *shown, "--threshold", level / 255, "--no-overlays")
    assert result.code == 0, result.err
    for name, probability in written.items():
        found = mask_of(work.task(3) / "t" / "predicted", f"{name[:4]}/{name}") > 0
        clear = np.abs(probability.astype(int) - level) > 1  # other batches may round otherwise
        assert np.array_equal(found[clear], (probability >= level)[clear])
    assert table_of(work.task(3) / "t" / "predicted")["predicted_px"].sum() > 0


def test_an_image_of_another_size_has_a_mask_of_its_own_size(work, predict, tmp_path):
    grey = np.full((48, 96), 60, dtype=np.uint8)
    grey[12:30, 30:60] = 250
    Image.fromarray(grey).save(tmp_path / "large.png")
    assert predict(tmp_path / "large.png", "--out", tmp_path / "out").code == 0
    found = mask_of(tmp_path / "out", f"{tmp_path.name}/large")
    assert found.shape == (48, 96) and set(np.unique(found)) == {0, 255}
    both = ((found > 0) & (grey == 250)).sum()
    assert 2 * both / ((found > 0).sum() + (grey == 250).sum()) > 0.85  # it was seen three times smaller


def test_memory_does_not_grow_with_the_number_of_images(work, predict, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "AHEAD", 2)
    monkeypatch.setattr(segmentation_predict, "CHUNK", 2)
    side = 256
    (tmp_path / "many").mkdir()
    Image.fromarray(np.zeros((side, side), dtype=np.uint8)).save(tmp_path / "many" / "0.png")
    for number in range(1, 60):
        (tmp_path / "many" / f"{number}.png").symlink_to(tmp_path / "many" / "0.png")

    def peak(n: int) -> int:
        shown = named_images.look_up(work, [tmp_path / "many" / f"{number}.png" for number in range(n)], [])
        tracemalloc.start()
        for _ in segmentation_predict.probabilities(shown, [work.task(3) / "e" / "fold0"], None, 4, torch.device("cpu")):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # what is allocated once
    assert peak(60) - peak(10) < 5 * side**2  # 50 more images are 50 times side**2 bytes, their probabilities 200 times


# ---- neighbours


def test_neighbours_follow_numbers_in_the_data_set_and_names_elsewhere(work, predict, tmp_path):
    for name in ("s1", "s2", "s10"):
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    of_set = [work.raw / f"0001_{number:02d}.png" for number in (0, 1, 3)]
    shown = named_images.look_up(work, [*of_set, *tmp_path.glob("s*.png")], [])
    names = [path.stem for path in shown.paths]
    around = [[names[row] for row in rows] for rows in shown.neighbours(1)]
    assert around == [
        ["0001_00", "0001_00", "0001_01"], ["0001_00", "0001_01", "0001_01"], ["0001_03", "0001_03", "0001_03"],
        ["s1", "s1", "s2"], ["s1", "s2", "s10"], ["s2", "s10", "s10"],
    ]  # fmt: skip


def test_networks_see_their_neighbours_across_chunks(work, predict, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation_predict, "CHUNK", 2)
    monkeypatch.setattr(segmentation_networks, "build", lambda spec: Bright(0))  # it draws what lies `context` images before
    for fold in range(3):
        put_network(work, fold, 0.9, context=2)
    for number in range(7):
        grey = np.zeros((32, 32), dtype=np.uint8)
        grey[number, 4:8] = 255
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    assert predict(*(tmp_path / f"{number}.png" for number in range(7)), "--no-overlays").code == 0
    for number in range(7):
        y, _ = np.nonzero(mask_of(out(work), f"{tmp_path.name}/{number}"))
        assert set(y) == {max(0, number - 2)}


# ---- boxes


def test_networks_look_around_the_boxes_of_their_own_detector(work, predict):
    look_around_boxes(work, least_confidence=(0.5, 0.5, 0.5))
    for fold, confidence in enumerate((0.6, 0.4, 0.9)):
        put_detector(work, fold, confidence)
    assert predict(work.raw / "0001_00.png", work.raw / "0001_01.png", "--no-overlays", "--threshold", 0.29).code == 0
    assert np.array_equal(mask_of(out(work), "0001/0001_01") > 0, bright(work.raw / "0001_01.png"))
    assert predict(work.raw / "0001_01.png", "--no-overlays", "--threshold", 0.31).code == 0
    assert not mask_of(out(work), "0001/0001_01").any()  # 0.9 / 3: the box of fold 1 is too uncertain, its network saw nothing


@pytest.mark.parametrize(("certain", "lesions"), [(0.63, 1), (0.64, 0)])
def test_boxes_of_all_detectors_together_are_lesions_from_a_threshold_on(work, predict, certain, lesions):
    look_around_boxes(work, least_confidence=(0.5, 0.5, 0.5))
    for fold, confidence in enumerate((0.6, 0.4, 0.9)):
        put_detector(work, fold, confidence)  # 0.633 on average, found by all
    models = segmentation_predict.find_models(work, "e", None, own_boxes=False)
    places = segmentation_predict.detect([work.raw / "0001_01.png"], models, certain, 4, torch.device("cpu"))
    assert [len(of_model[0]) for of_model in places.each] == [1, 0, 1] and len(places.lesions[0]) == lesions


def test_a_detector_must_be_there_and_of_the_same_fold(work, predict):
    look_around_boxes(work)
    for fold in range(3):
        put_detector(work, fold, 0.9)
    put_detector(work, 1, 0.9, splits_sha256="0" * 64)
    stopped(predict(work.raw), "fold1 learned from other patients", "--boxes-from")
    (work.task(2) / "d" / "fold1" / "best.pt").unlink()  # as where the results alone were restored
    stopped(predict(work.raw), "task2/d/fold1/best.pt is missing", "02_train.py --experiment d", "--boxes-from")
    assert predict(work.raw / "0001_01.png", "--fold", 0).code == 0
    for fold in range(3):
        put_network(work, fold, 0.9, region="box", boxes="truth", least_side=32)
    stopped(predict(work.raw), "looks around true boxes", "--boxes-from")
    assert not (out(work) / "masks" / "0001" / "0001_00.png").exists()


def test_given_boxes_say_where_to_look(work, predict, tmp_path):
    look_around_boxes(work)
    truth = tables.read_boxes(work).rename(columns={"image_id": "image"})[["image", *CORNERS]]
    truth["image"] = [str(work.raw / f"{name}.png") if name < "0002" else f"{name}.png" for name in truth["image"]]
    truth["confidence"] = np.where(truth["image"] == "0002_03.png", 0.05, np.nan)  # below the least confidence, or not told
    tables.write_csv(tmp_path / "boxes.csv", truth)
    shown = [work.raw / f"{name}.png" for name in ("0001_00", "0001_01", "0002_01", "0002_03")]
    result = predict(*shown, "--boxes-from", tmp_path / "boxes.csv")
    assert result.code == 0, result.err
    assert "boxes on 3 of 4 images, 17 row(s) are of other images" in result.out
    for name, there in (("0001_00", False), ("0001_01", True), ("0002_01", True), ("0002_03", False)):
        wanted = bright(work.raw / f"{name}.png") & there
        assert np.array_equal(mask_of(out(work), f"{name[:4]}/{name}") > 0, wanted)


def test_with_boxes_the_core_is_counted_and_marked_unvalidated(work, predict, tmp_path):
    toy.make(other := Workspace(work.root, "large"), patients=5, slices=2, size=96, radius=12, boxes=True)
    boxes = tables.read_boxes(other)
    wide = boxes[CORNERS] + [-3, -3, 3, 3]
    confidence = np.where(boxes["image_id"] == "0002_01", 0.2, np.nan)  # too low for a lesion, or not told
    tables.write_csv(tmp_path / "boxes.csv", wide.assign(image=boxes["image_id"] + ".png", confidence=confidence))
    shown = [other.raw / f"{name}.png" for name in ("0001_00", "0001_01", "0002_01")]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    for path, folder in zip(shown, ("one", "one", "two"), strict=True):
        (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    result = predict(tmp_path / "one", tmp_path / "two", "--boxes-from", tmp_path / "boxes.csv", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    core = table_of(tmp_path / "out")["core_px_unvalidated"]
    assert core["0001_01"] == pytest.approx(bright(shown[1]).sum(), rel=0.1) and core.drop("0001_01").isna().all()
    volume = volumes_of(tmp_path / "out")["core_volume_unvalidated"]
    assert volume["one"] == core["0001_01"] and np.isnan(volume["two"])  # not seen is not 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0001_01.png,1,1,40,9,1"], ("row 1", "no box in 0001_01.png", "32 x 32")),
        (["0001_01.png,1,1,9,9,1", "0001_01.png,9,1,1,9,1"], ("row 2", "no box")),
        (["0001_01.png,1,1,9,x,1"], ("ymax is 'x' in row 2 where a number belongs",)),
        (["0001_01.png,1,1,,9,1"], ("row 1", "no box")),
        (["0001_01.png,1,1,9,9,7"], ("confidence from 0 to 1",)),
        (["other.png,1,1,9,9,1"], ("names none of the images", "other.png")),
        ([], ("no rows",)),
    ],
)
def test_given_boxes_that_are_none_are_one_line(work, predict, tmp_path, rows, words):
    look_around_boxes(work)
    (tmp_path / "boxes.csv").write_text("\n".join([",".join(["image", *CORNERS, "confidence"]), *rows]) + "\n")
    stopped(predict(work.raw, "--boxes-from", tmp_path / "boxes.csv"), "boxes.csv", *words)
    assert not contents(out(work))


def test_a_name_that_may_be_two_images_needs_more_of_its_path(work, predict, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes((work.raw / "0001_01.png").read_bytes())
    look_around_boxes(work)
    x, y = np.nonzero(bright(work.raw / "0001_01.png").T)
    box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
    for name in ("a.png", "one/a.png"):
        (tmp_path / "boxes.csv").write_text(f"image,xmin,ymin,xmax,ymax\n{name},{box}\n")
        result = predict(tmp_path / "one", tmp_path / "two", "--boxes-from", tmp_path / "boxes.csv", "--no-overlays")
        if name == "a.png":
            stopped(result, "a.png may be", "one/a.png", "two/a.png")
    assert mask_of(out(work), "one/a").any() and not mask_of(out(work), "two/a").any()
    stopped(predict(tmp_path / "one", "--boxes-from", tmp_path / "nothing.csv"), "nothing.csv is missing")


# ---- volumes


def test_volumes_are_in_ml_where_the_spacing_is_known(work, predict, tmp_path):
    labels, dataset = tables.read_labels(work, tables.read_dataset(work)), tables.read_dataset(work)
    of_first = labels["patient"] == "0001"
    spacing = {"spacing_row": 0.5, "spacing_col": 0.5, "spacing_z": 4.0}
    spaced = labels.assign(**{name: np.where(of_first, mm, np.nan) for name, mm in spacing.items()})
    tables.write_labels(work, spaced, dataset)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").write_bytes((work.raw / "0001_01.png").read_bytes())
    shown = (work.raw / "0001_01.png", work.raw / "0002_01.png", tmp_path / "new", "--no-overlays")
    assert predict(*shown).code == 0
    pixels, found = table_of(out(work))["predicted_px"], volumes_of(out(work))
    assert found["unit"].to_dict() == {"0001": "ml", "0002": "px", "new": "px"}
    assert found["predicted_volume"]["0001"] == pytest.approx(pixels["0001_01"] * 0.001)
    assert found["predicted_volume"]["0002"] == pixels["0002_01"]
    result = predict(*shown, "--spacing", 1, 1, 5)
    assert "volumes in ml" in result.out
    found = volumes_of(out(work))["predicted_volume"]
    assert found["0001"] == pytest.approx(pixels["0001_01"] * 0.001)  # labels.csv knows better
    assert found["0002"] == pytest.approx(pixels["0002_01"] * 0.005) and found["new"] == pytest.approx(pixels["a"] * 0.005)
    tables.write_labels(work, spaced.assign(spacing_z=spaced["spacing_z"] * 0), dataset)
    stopped(predict(*shown), "labels.csv", "spacing_z")
    stopped(predict(*shown, "--spacing", 1, 0, 5), "--spacing")


# ---- pictures


def test_annotated_masks_are_outlines_and_predicted_ones_are_filled(work, predict):
    shown = named_images.look_up(work, [work.raw / "0001_01.png"], [])
    drawing = segmentation_drawing.MaskDrawing(shown, Path(), np.array([9]), [np.zeros((0, 6))], [Path()], None)
    pixels = np.full((4, 32, 32), 100, dtype=np.uint8)
    pixels[1:] = 0
    pixels[1, 4:8, 4:8], pixels[2, 20:24, 20:24], pixels[3, 4:8, 4:8] = 1, 1, 1
    drawn = np.asarray(drawing.picture(0, pixels, 64)).astype(int)
    blue, orange = (np.array(colour) / 2 + 50 for colour in (segmentation_drawing.BLUE, segmentation_drawing.ORANGE))
    assert np.abs(drawn[8:16, 8:16] - blue).max() <= 0.5 and np.abs(drawn[40:48, 40:48] - orange).max() <= 0.5
    assert (drawn[8:16, 7] == overlays.GREEN).all() and (drawn[16, 8:16] == overlays.GREEN).all()
    coloured = (drawn != 100).any(axis=2)
    assert coloured.sum() == 2 * 64 + 4 * 8  # nothing else, and the outline is one pixel wide
    assert all(word in drawing.legend([0]) for word in ("blue: predicted", "unvalidated", "green line: annotated"))


def test_pictures_are_of_what_is_known_and_go_with_the_flag(work, predict, tmp_path):
    (tmp_path / "a.png").write_bytes((work.raw / "0001_01.png").read_bytes())
    result = predict(work.raw / "0001_01.png", tmp_path / "a.png")
    green = {path.stem: (np.asarray(Image.open(path)) == overlays.GREEN).all(axis=2).any()
             for path in (out(work) / "overlays").rglob("*.png")}  # fmt: skip
    assert green == {"0001_01": True, "a": False}
    assert "mind: 1 of the 2 images" in result.out
    assert predict(work.raw / "0001_01.png", "--no-overlays").code == 0
    assert set(contents(out(work))) == {"masks/0001/0001_01.png", "predicted.csv", "volumes.csv"}


# ---- mistakes


def test_a_file_that_cannot_be_read_leaves_the_old_results_whole(work, predict):
    assert predict(work.raw / "0001_01.png").code == 0
    before = contents(out(work))
    shown = [work.raw / f"0001_0{number}.png" for number in range(4)]
    for path, words in ((shown[2], ("cannot be decoded",)), (work.raw / "0001_03_mask.png", ("cannot be decoded", "mask"))):
        whole = path.read_bytes()
        path.write_bytes(whole[:40])
        stopped(predict(*shown), path.name, *words)
        assert contents(out(work)) == before and not list(out(work).glob(".*"))
        path.write_bytes(whole)
    assert predict(*shown).code == 0


def test_networks_of_an_experiment_must_be_alike(work, predict):
    put_network(work, 1, 0.9, context=1)
    stopped(predict(work.raw), "fold1 differs from", "fold0 in context", "train the folds again")
    assert predict(work.raw / "0001_01.png", "--fold", 1).code == 0
    (work.task(3) / "e" / "fold1" / "model.json").unlink()
    stopped(predict(work.raw), "model.json is missing", "task3_segmentation/02_train.py")
    stopped(predict(work.raw, "--fold", 4), "no model of fold 4", "0, 1, 2")
    stopped(predict(work.raw, "--experiment", "none"), "none holds no trained fold; there are: e")


def test_mistakes_with_places_are_one_line(work, predict, tmp_path):
    stopped(predict(), "images")
    (tmp_path / "empty").mkdir()
    stopped(predict(tmp_path / "empty"), "no image", "empty")
    stopped(predict(tmp_path / "nowhere"), "neither a file nor a folder")
    stopped(predict(work.raw, "--out", work.raw / "predicted"), "searched for images")
    stopped(predict(work.raw, "--threshold", 1), "--threshold")
    (tmp_path / "mine" / "masks").mkdir(parents=True)
    stopped(predict(work.raw, "--out", tmp_path / "mine"), "masks is there and not of this step")
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine" / "masks"]


def test_masks_of_several_values_are_read_as_in_training(work, predict):
    Image.fromarray(np.tile(np.array([0, 1, 2, 7], dtype=np.uint8), (32, 8))).save(work.raw / "0001_01_mask.png")
    stopped(predict(work.raw / "0001_01.png"), "0001_01_mask.png", "--mask-value")
    for fold in range(3):
        put_network(work, fold, 0.9, mask_value=7)
    assert predict(work.raw / "0001_01.png").code == 0
    assert data.read_mask(work.raw / "0001_01_mask.png", (32, 32), 7).sum() == 256
