"""05_predict.py of task 4 with networks that tell how bright their planes are: files of all kinds, thresholds, every mistake."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from helpers import brightness_networks, toy_types
from helpers.brightness_networks import STEP, brightness, put_network, put_networks
from helpers.dicom_files import head, write_series
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield
from hemoct.ct.windows import WINDOWS
from hemoct.data import images, named_images, splits
from hemoct.data.named_slices import Slice
from hemoct.evaluation import decisions
from hemoct.multilabel import networks, predict as multilabel_predict

LABELS = toy_types.LABELS
P = [f"p_{name}" for name in LABELS]
SIZE, MEAN = toy_types.SIZE, brightness_networks.MEAN


@pytest.fixture
def predict(work, run_step, monkeypatch):
    return brightness_networks.predicting(work, run_step, monkeypatch)


def out(work: Workspace) -> Path:
    return work.task(4) / "e" / "predicted"


def table_of(work: Workspace) -> pd.DataFrame:
    """predicted.csv by the names of the files without their folder."""
    text = dict.fromkeys(["image", "image_id", "group", "labels", "most_likely"], str)
    frame = pd.read_csv(out(work) / "predicted.csv", dtype=text).fillna({"image_id": "", "most_likely": ""})
    return frame.assign(name=frame["image"].map(lambda path: Path(path).name)).set_index("name")


def in_window(hu: np.ndarray, name: str) -> float:
    return brightness(hounsfield.window(hu, WINDOWS[name]))


def put_thresholds(work: Workspace, *folds: list[float | None], rule: str = "max F1 on val") -> Path:
    records = [
        {"fold": fold, "thresholds": dict(zip(LABELS, values, strict=True)), "threshold_rules": dict.fromkeys(LABELS, rule)}
        for fold, values in enumerate(folds)
    ]
    return files.write_json(work.task(4) / "e" / "metrics.json", {"folds": records})


def figures(work: Workspace) -> set[str]:
    folder = out(work) / "figures"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


# ---- probabilities and labels


def test_the_mean_of_the_models_is_written_and_called(work, predict):
    result = predict(work.raw, "--threshold", 0.13)
    assert result.code == 0, result.err
    table, shown = table_of(work), [images.read_grey(path) for path in sorted(work.raw.glob("*.png"))]
    truth = [f"y_{name}" for name in LABELS]
    assert list(table.columns) == ["image", "image_id", "group", "slice", *P, *LABELS, "labels", "most_likely", *truth, "seen"]
    expected = MEAN * np.array([grey.mean() / 255 for grey in shown])
    for name in P:
        np.testing.assert_allclose(table[name], expected, rtol=1e-4)
    called = (expected >= 0.13).astype(int)
    assert 0 < called.sum() < len(called) == 60
    assert all((table[name] == called).all() for name in LABELS)
    assert set(table["labels"]) == {"none", "IVH + IPH + SAH"} and (table["labels"] == "none").tolist() == (called == 0).tolist()
    assert "60 slices, 3 model(s)" in result.out and f"SAH 0.13: {called.sum()} slice(s)" in result.out
    assert predict(work.raw, "--threshold", 0.13, "--skip-if-done").out.startswith("up to date")


def test_one_fold_alone(work, predict):
    assert predict(work.raw / "0001_01.png", "--fold", 1).code == 0
    expected = 0.5 * images.read_grey(work.raw / "0001_01.png").mean() / 255
    np.testing.assert_allclose(table_of(work).loc["0001_01.png", P].astype(float), expected, rtol=1e-4)


def test_truth_and_what_was_seen_in_training_are_told(work, predict):
    frame = tables.read_labels(work, tables.read_dataset(work))
    frame.loc[frame["image_id"] == "0001_01", "IPH"] = pd.NA
    tables.write_labels(work, frame, tables.read_dataset(work))
    result = predict(work.raw, "--fold", 0)
    table = table_of(work).set_index("image_id")
    part = splits.part_of(frame, tables.read_splits(work), 0, "patient", "folds")
    assert (table["seen"] == part.reindex(table.index).ne("test").astype(int)).all() and 0 < table["seen"].sum() < 60
    assert f"mind: {table['seen'].sum()} of the 60 slices were in training or validation" in result.out
    expected = frame.set_index("image_id").loc[table.index, LABELS].astype("Float64")
    assert np.array_equal(table[[f"y_{name}" for name in LABELS]].to_numpy(), expected.to_numpy(float, na_value=np.nan), True)
    assert np.isnan(table.loc["0001_01", "y_IPH"])


def test_thresholds_are_those_of_the_evaluation(work, predict):
    put_thresholds(work, [0.2, 0.04, None], [0.3, 0.08, None], [0.4, 0.12, None])
    result = predict(work.raw / "0001_00.png")
    assert "mean of 3 folds: max F1 on val; 0.5 for SAH, which has none there" in result.out, result.out
    assert [f"{name} {value}: {count}" in result.out for name, value, count in
            (("IVH", 0.3, 0), ("IPH", 0.08, 1), ("SAH", 0.5, 0))] == [True] * 3  # fmt: skip
    assert table_of(work).loc["0001_00.png", [*LABELS, "labels"]].tolist() == [0, 1, 0, "IPH"]
    assert "IVH 0.3: 0" in predict(work.raw / "0001_00.png", "--fold", 1).out
    assert files.read_json(out(work) / "05_predict.run.json")["thresholds"] == {"IVH": 0.3, "IPH": 0.08, "SAH": 0.5}
    assert "SAH 0.07: 1" in predict(work.raw / "0001_00.png", "--threshold", 0.07).out


def test_folds_that_could_choose_no_threshold_are_not_averaged(work, predict):
    rows = pd.DataFrame(
        {"image_id": list("ab"), "patient": list("ab"), "fold": 0, "part": "val", "y_SAH": 0, "p_SAH": [0.1, 0.2]}
    )
    asked = decisions.Question(["SAH"], "SAH")
    rule = decisions.choose(asked, 0, decisions.scored(rows, asked)[0]).threshold_rule
    metrics = put_thresholds(work, [0.5, 0.04, 0.5], [0.1, 0.08, 0.5], [0.5, 0.12, 0.5])
    content = files.read_json(metrics)
    for fold, labels in enumerate((["IVH", "SAH"], ["SAH"], ["IVH", "SAH"])):
        content["folds"][fold]["threshold_rules"] |= dict.fromkeys(labels, rule)
    files.write_json(metrics, content)
    result = predict(work.raw / "0001_00.png")
    assert (
        "mean of 3 folds: max F1 on val; 0.5 for SAH, which has none there; "
        "IVH: no positive in validation of 2 folds, which are left out)" in result.out
    ), result.out
    assert files.read_json(out(work) / "05_predict.run.json")["thresholds"] == pytest.approx(
        {"IVH": 0.1, "IPH": 0.08, "SAH": 0.5}
    )
    put_thresholds(work, *[[0.5] * 3] * 3, rule=rule)
    assert "up (IVH: no positive in validation of 3 folds; IPH:" in predict(work.raw / "0001_00.png").out


def test_without_thresholds_it_is_half_and_says_why(work, predict):
    image = work.raw / "0001_00.png"
    assert "up (not evaluated yet: 03_evaluate.py" in predict(image).out
    metrics = put_thresholds(work, [0.1] * 3)
    assert "up (not chosen by 03_evaluate.py: these folds are not in metrics.json)" in predict(image, "--fold", 2).out
    put_thresholds(work, [None] * 3)
    assert "IVH 0.5: 0" in predict(image, "--fold", 0).out
    os.utime(metrics, (1, 1))
    assert "up (trained again since the evaluation" in predict(image, "--fold", 0).out


def test_words_for_labels():
    p = np.array([[0.9, 0.6, 0.2], [0.9, 0.4, 0.3], [0.1, 0.2, 0.3]])
    table = pd.DataFrame({"image": list("abc"), "image_id": "", "group": "g", "slice": pd.array([pd.NA] * 3, dtype="Int64")})
    shown = named_images.ImageFiles(table, pd.DataFrame(index=range(3)), np.zeros(3, dtype=bool), None)
    limits = {"any": 0.5, "IPH": 0.6, "SAH": 0.2}
    found = multilabel_predict.PredictedLabels(shown, ["any", "IPH", "SAH"], p, limits, np.full((3, 3), np.nan))
    assert found.table()["labels"].tolist() == ["IPH + SAH", "SAH", "SAH"], "a threshold that is reached calls"
    assert found.table()["most_likely"].tolist() == ["IPH", "IPH", "SAH"], "apart from any, called or not"
    strict = replace(found, thresholds={"any": 0.5, "IPH": 0.95, "SAH": 0.95})
    assert strict.table()["labels"].tolist() == ["any", "any", "none"]
    alone = multilabel_predict.PredictedLabels(shown, ["any"], p[:, :1], limits, np.full((3, 1), np.nan))
    assert alone.table()["labels"].tolist() == ["any", "any", "none"] and alone.table()["most_likely"].tolist() == [""] * 3


def test_truth_of_any_is_made_of_all_types_of_the_data(work, predict):
    """Also of IVH, which these networks do not know."""
    put_networks(work, classes=["any", "IPH", "SAH"])
    frame = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    assert predict(work.raw).code == 0
    table = table_of(work).set_index("image_id")
    assert (table["y_any"] == frame.loc[table.index, LABELS].max(axis=1)).all()
    assert (table["y_any"] > table[["y_IPH", "y_SAH"]].max(axis=1)).any()


# ---- files of all kinds


def test_dicom_is_shown_in_the_brain_window_by_position(work, predict, tmp_path):
    hu = head(4)
    for number, path in enumerate(write_series(tmp_path / "new", hu)):
        path.rename(path.with_name(("c.dcm", "a", "d.ima", "1.2.840.7")[number]))
    result = predict(tmp_path / "new", "--figures", 9)
    assert result.code == 0, result.err
    table = table_of(work)
    assert table.index.tolist() == ["c.dcm", "a", "d.ima", "1.2.840.7"] and table["slice"].tolist() == [0, 1, 2, 3]
    assert set(table["group"]) == {"dicom"} and (table["image_id"] == "").all() and (table["seen"] == 0).all()
    np.testing.assert_allclose(table["p_IVH"], [MEAN * in_window(one, "brain") for one in hu], rtol=1e-4)
    assert "4 slice(s) in HU were shown in window brain (no other is recorded" in result.out
    assert figures(work) == {f"dicom/{name}.png" for name in ("c", "a", "d", "1.2.840.7")}


def test_the_window_is_given_or_that_of_the_training_data(work, predict, tmp_path):
    hu = head(1)[0]
    path = write_series(tmp_path / "new", hu[None])[0]
    assert "window bone (given)" in predict(path, "--window", "bone").out
    np.testing.assert_allclose(table_of(work)["p_IVH"], MEAN * in_window(hu, "bone"), rtol=1e-4)
    files.write_json(work.raw / "hemoct_origin.json", {"converted": str(tmp_path), "window": "subdural", "intercept": None})
    assert "window subdural (as the training data were converted)" in predict(path).out
    np.testing.assert_allclose(table_of(work)["p_IVH"], MEAN * in_window(hu, "subdural"), rtol=1e-4)
    for model in work.task(4).glob("*/fold*/model.json"):  # the data set of today may be another one than the models learned from
        files.write_json(model, files.read_json(model) | {"window": "bone"})
    assert "window bone (as the training data were converted)" in predict(path).out


def test_three_channels_are_three_windows_or_the_colours(work, predict, tmp_path):
    put_networks(work, channels=3)
    hu = head(1)[0]
    path = write_series(tmp_path / "new", hu[None])[0]
    assert "window brain,subdural,bone" in predict(path).out
    expected = [MEAN * in_window(hu, name) for name in ("brain", "subdural", "bone")]
    assert len(set(np.round(expected, 3))) == 3
    np.testing.assert_allclose(table_of(work)[P].iloc[0].astype(float), expected, rtol=1e-4)
    predict(path, "--window", "brain")
    np.testing.assert_allclose(table_of(work)[P].iloc[0].astype(float), expected[0], rtol=1e-4)
    colours = np.full((SIZE, SIZE, 3), (30, 90, 240), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    assert predict(tmp_path / "colour.png", "--figures", 1).code == 0
    np.testing.assert_allclose(table_of(work)[P].iloc[0].astype(float), MEAN * np.array([30, 90, 240]) / 255, rtol=1e-4)


def test_a_volume_gives_the_same_as_its_dicom_slices(work, predict, tmp_path):
    hu = head(3)
    write_series(tmp_path / "new", hu)
    # rows run to the back, columns to the patient's left, slices up: x and y of NIfTI point to the right and the front
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-0.5, -0.5, 5, 1])), tmp_path / "new" / "scan.nii.gz")
    assert predict(tmp_path / "new", "--figures", 9).code == 0
    table = table_of(work).groupby("group")
    of_dicom, of_volume = table.get_group("dicom"), table.get_group("scan.nii.gz")
    assert of_volume["image"].tolist() == [str(tmp_path / "new" / "scan.nii.gz" / f"{number:03d}") for number in range(3)]
    np.testing.assert_allclose(of_volume["p_IVH"], of_dicom["p_IVH"], rtol=1e-6)
    assert {f"scan.nii.gz/{number:03d}.png" for number in range(3)} < figures(work)


def test_neighbours_are_those_of_the_series_or_of_the_folder(work, predict, tmp_path):
    put_networks(work, context=1)
    hu = head(3)
    for number, path in enumerate(write_series(tmp_path / "new", hu)):
        path.rename(path.with_name(f"{9 - number}.dcm"))
    for number in (1, 2, 10):
        Image.fromarray(np.full((SIZE, SIZE), 10 * number, dtype=np.uint8)).save(tmp_path / "new" / f"s{number}.png")
    assert predict(tmp_path / "new").code == 0
    table = table_of(work)
    grey = [in_window(one, "brain") for one in hu]
    around = [[grey[0], grey[0], grey[1]], grey, [grey[1], grey[2], grey[2]]]
    np.testing.assert_allclose(table.loc[["9.dcm", "8.dcm", "7.dcm"], P], MEAN * np.array(around), rtol=1e-4)
    around = np.array([[10, 10, 20], [10, 20, 100], [20, 100, 100]]) / 255
    np.testing.assert_allclose(table.loc[["s1.png", "s2.png", "s10.png"], P], MEAN * around, rtol=1e-4)


def test_two_series_in_a_folder_are_no_neighbours_and_copies_count_once(work, predict, tmp_path):
    put_networks(work, context=1)
    hu = np.stack([head(2), np.full((2, 64, 64), 40, dtype=np.int16)])  # the second series is an even grey
    hu[1, :, 0] = -1000
    for number, of_series in enumerate(hu):
        for path in write_series(tmp_path / str(number), of_series, number=number + 1):
            (tmp_path / "all").mkdir(exist_ok=True)
            (tmp_path / "all" / f"{path.stem}_{number}.dcm").write_bytes(path.read_bytes())
    (tmp_path / "all" / "z.dcm").write_bytes((tmp_path / "all" / "01_0.dcm").read_bytes())
    result = predict(tmp_path / "all")
    assert "z.dcm is there twice" in result.out and "4 slices" in result.out
    table = table_of(work)
    assert sorted(table["group"]) == ["all", "all", "all-2", "all-2"]
    even = table.loc[["01_1.dcm", "02_1.dcm"], P].to_numpy()
    np.testing.assert_allclose(even, MEAN * brightness(hounsfield.window(hu[1, 0], WINDOWS["brain"])), rtol=1e-4)


def test_the_source_of_a_converted_image_is_known_as_that_image(work, run_step, monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "build", lambda _: brightness_networks.Brightness())
    place = ("--root", work.root, "--dataset", "toy")
    for number in range(1, 6):
        write_series(tmp_path / "in" / str(number), head(2, seed=number), number=number)
    told = run_step("scripts/01_get_data.py", "--from", tmp_path / "in", "--workers", 1, "--window", "40/100", *place)
    assert told.code == 0, told.err
    frame = tables.read_csv(work.raw / "slices.csv", ["image", "patient", "slice", "file"])
    frame = frame.assign(image_id=frame["image"].map(lambda name: name.replace("/", "_")), mask="", annotation="")
    frame[LABELS] = [[row % 2, 1, 0] for row in range(len(frame))]
    toy_types.save(work, frame.astype(dict.fromkeys(LABELS, "Int64")))
    put_network(work, 0, 1.0, context=1)
    words = ("--device", "cpu", "--experiment", "e", "--figures", 0, *place)
    keep = ["image_id", "group", "slice", *P, *(f"y_{name}" for name in LABELS), "seen"]
    assert run_step(STEP, work.raw, *words).code == 0
    of_images = table_of(work)[keep].reset_index(drop=True)
    result = run_step(STEP, tmp_path / "in", *words)
    assert "window 40/100 (as the training data were converted)" in result.out and "mind: 8 of the 10" in result.out
    pd.testing.assert_frame_equal(table_of(work)[keep].reset_index(drop=True), of_images)
    assert of_images["image_id"].ne("").all() and of_images["seen"].sum() == 8


def test_slices_without_neighbours_or_colours_are_counted(work, predict, tmp_path):
    hu = head(3)
    path = write_series(tmp_path / "new", hu)[0]
    assert "no neighbour" not in predict(path).out, "without context none is missed"
    put_networks(work, context=1, channels=3)
    result = predict(path, work.raw / "0001_00.png", work.raw / "0001_01.png")
    assert "1 slice(s) have no neighbour: name their whole series or folder" in result.out
    assert "2 image(s) are grey: the three channels are the same" in result.out
    result = predict(tmp_path / "new")
    assert "neighbour" not in result.out and "are grey" not in result.out
    assert "are grey" not in predict(path, "--window", "brain").out, "that is what was asked for"


def test_a_cascade_has_no_network_and_names_what_it_was_made_of(work, predict):
    for fold in range(2):
        files.write_json(work.task(4) / "c" / f"fold{fold}" / "model.json", {"task": 4, "stages": [], "types": "e"})
    assert refused(predict(work.raw, "--experiment", "c"), "c is a cascade itself", "name e, which it was made of")


# ---- what cannot be read


def test_a_broken_file_of_a_folder_is_listed_and_passed_over(work, predict, tmp_path):
    paths = write_series(tmp_path / "new", head(3))
    (tmp_path / "new" / "cut.dcm").write_bytes(paths[0].read_bytes()[:3000])
    (tmp_path / "new" / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(tmp_path / "new" / "deep.png")
    (tmp_path / "new" / "notes.txt").write_text("no slice")
    (tmp_path / "new" / ".hidden.png").write_bytes(b"no image")
    result = predict(tmp_path / "new")
    assert result.code == 0 and "3 slices" in result.out, result.err
    listed = tables.read_csv(out(work) / "passed_over.csv", ["file", "problem"]).set_index("file")["problem"]
    assert {Path(name).name for name in listed.index} == {"cut.dcm", "bad.png", "deep.png"}
    for name, problem in (("cut.dcm", "cannot be"), ("bad.png", "cannot be decoded"), ("deep.png", "16 or 32 bit")):
        assert problem in listed[str(tmp_path / "new" / name)]
        assert result.out.count(f"passed over: {tmp_path / 'new' / name} ") == 1
        assert refused(predict(tmp_path / "new" / name, paths[0]), name, problem)
    assert predict(paths[0]).code == 0 and not (out(work) / "passed_over.csv").exists()


def test_other_than_ct_is_no_slice_unless_in_its_own_window(work, predict, tmp_path):
    def edit(header, _):
        header.Modality, header.WindowCenter, header.WindowWidth = "MR", 40, 80

    path = write_series(tmp_path / "new", head(1), edit=edit)[0]
    assert refused(predict(path), "modality MR")
    assert refused(predict(tmp_path / "new"), "none of 1 files can be read", "modality MR")
    assert predict(path, "--window", "file").code == 0
    np.testing.assert_allclose(table_of(work)["p_IVH"], MEAN * in_window(head(1)[0], "brain"), rtol=1e-4)


def test_a_lost_intercept_is_noted_and_given(work, predict, tmp_path):
    def edit(header, _):
        stored = header.pixel_array.astype(np.int32) * int(header.RescaleSlope) + int(header.RescaleIntercept) + 1024
        header.PixelRepresentation, header.RescaleSlope, header.RescaleIntercept = 0, 1, 0
        header.PixelData = stored.astype("<u2").tobytes()

    path = write_series(tmp_path / "new", head(1), edit=edit)[0]
    assert "1 slice(s) are without any air" in predict(path).out
    assert "without any air" not in predict(path, "--intercept", -1024).out
    np.testing.assert_allclose(table_of(work)["p_IVH"], MEAN * in_window(head(1)[0], "brain"), rtol=1e-4)


def test_many_broken_files_do_not_fill_the_screen(work, predict, tmp_path):
    (tmp_path / "new").mkdir()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "new" / "a.png")
    for number in range(13):
        (tmp_path / "new" / f"{number}.jpg").write_bytes(b"")
    result = predict(tmp_path / "new")
    assert result.out.count("passed over: ") == 11 and "passed over: 3 more, listed in passed_over.csv" in result.out
    assert len(tables.read_csv(out(work) / "passed_over.csv", ["file"])) == 13


def test_mistakes_are_one_line(work, predict, tmp_path):
    (tmp_path / "empty").mkdir()
    image = work.raw / "0001_00.png"
    assert refused(predict(tmp_path / "empty"), "no image, DICOM file or NIfTI volume in")
    assert refused(predict(tmp_path / "nowhere"), "neither a file nor a folder")
    assert refused(predict(), "images")
    assert refused(predict(image, "--experiment", "none"), "none holds no trained fold", "e")
    assert refused(predict(image, "--fold", 4), "no model of fold 4", "0, 1, 2")
    assert refused(predict(image, "--threshold", 2), "--threshold")
    assert refused(predict(image, "--window", "liver"), "'liver' is no window")
    assert refused(predict(image, "--window", "brain,subdural,bone"), "one channel", "give one window")
    assert refused(predict(image, "--figures", -1), "--figures")
    assert refused(predict(work.raw, "--out", work.raw / "predicted"), "searched for images")
    assert refused(predict(image, "--out", image), "is a file")
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    assert refused(predict(image, "--out", tmp_path / "mine"), "not of this step")
    put_network(work, 1, 0.5, classes=LABELS[::-1])
    assert refused(predict(image), "fold1", "classes", "train the folds again")
    put_network(work, 1, 0.5, context=2)
    assert refused(predict(image), "fold1", "context")
    (work.task(4) / "e" / "fold1" / "model.json").unlink()
    assert refused(predict(image), "model.json is missing", "task4_multilabel/02_train.py")


# ---- figures


def test_figures_are_those_of_the_highest_probabilities(work, predict, tmp_path):
    (tmp_path / "new").mkdir()
    for number, grey in enumerate((10, 200, 50, 120)):
        Image.fromarray(np.full((SIZE, SIZE), grey, dtype=np.uint8)).save(tmp_path / "new" / f"{number}.png")
    result = predict(tmp_path / "new", "--figures", 2)
    assert figures(work) == {"new/1.png", "new/3.png"} and "figures of the 2 highest probabilities; 2 left out" in result.out
    assert "left out" not in predict(tmp_path / "new", "--figures", 4).out and len(figures(work)) == 4
    assert predict(tmp_path / "new").code == 0 and figures(work) == set()


def test_a_figure_shows_the_slice_its_bars_thresholds_and_truth():
    table = pd.DataFrame({"image": ["x/a.dcm"], "image_id": "a", "group": "g", "slice": pd.array([7], dtype="Int64")})
    shown = named_images.ImageFiles(table, pd.DataFrame(index=[0]), np.array([True]), None)
    limits = {"IVH": 0.7, "IPH": 0.2, "SAH": 0.5}
    found = multilabel_predict.PredictedLabels(shown, LABELS, np.array([[0.6, 0.3, 0.1]]), limits, np.array([[1, 0, np.nan]]))
    planes = np.random.default_rng(0).integers(0, 255, (1, 16, 16), dtype=np.uint8)
    drawn = multilabel_predict.figure(found, 0, Slice(Path("x/a.dcm"), planes, None), "brain", "Mean of 5 model(s).")
    picture, bars = drawn.axes
    assert np.array_equal(picture.images[0].get_array(), planes[0])
    assert [bar.get_width() for bar in bars.patches] == [0.6, 0.3, 0.1]
    assert [bar.get_facecolor()[:3] == to_rgb(multilabel_predict.CALLED) for bar in bars.patches] == [False, True, False]
    assert [segment[0][0] for segment in bars.collections[0].get_segments()] == [0.7, 0.2, 0.5]
    marks = {float(line.get_ydata()[0]): line.get_fillstyle() for line in bars.lines}
    assert marks == {0: "full", 1: "none"}, "annotated, annotated as absent, unknown"
    assert drawn.get_suptitle() == "a (g, slice 7): IPH; highest: IVH (not called)"
    assert "no diagnosis" in drawn.get_supxlabel() and "no honest result" in drawn.get_supxlabel()
    long = multilabel_predict.figure(found, 0, Slice(Path("x/a.dcm"), planes, None), "brain", f"Models of {'resnet18-' * 20}.")
    long.canvas.draw()
    place = long._supxlabel.get_window_extent()
    assert place.x0 >= 0 and place.x1 <= long.bbox.width, "nothing is cut off"


def test_a_figure_names_the_windows_of_hu_alone():
    from hemoct.ct.facts import Facts

    table = pd.DataFrame({"image": ["a"], "image_id": "", "group": "g", "slice": pd.array([pd.NA], dtype="Int64")})
    shown = named_images.ImageFiles(table, pd.DataFrame(index=[0]), np.array([False]), None)
    found = multilabel_predict.PredictedLabels(shown, ["IPH"], np.array([[0.6]]), {"IPH": 0.5}, np.array([[np.nan]]))
    planes = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)
    for facts, names in ((Facts(), ["brain", "subdural", "40/400"]), (None, ["red channel", "green channel", "blue channel"])):
        drawn = multilabel_predict.figure(found, 0, Slice(Path("a"), planes, facts), "brain,subdural,40/400", "")
        assert [axis.get_title() for axis in drawn.axes] == [*names, "probability"]
        assert drawn.get_suptitle() == "a (g): IPH" and "honest" not in drawn.get_supxlabel()


def test_titles_claim_no_window_that_is_not_shown():
    from hemoct.ct.facts import Facts

    one, three = np.zeros((1, 8, 8), dtype=np.uint8), np.zeros((3, 8, 8), dtype=np.uint8)
    for planes, facts, windows, told in (
        (one, Facts(), "brain,subdural,bone", ["grey mix of brain, subdural, bone"]),
        (one, Facts(), "brain", ["brain"]),
        (three, Facts(), "brain", ["brain"]),
        (three, None, "brain,subdural,bone", ["grey, in all channels"]),
        (one, None, "brain", []),
    ):
        assert list(multilabel_predict.titles(Slice(Path("a"), planes, facts), windows)) == told


@pytest.mark.parametrize(("p", "title", "mismatch"), [
    ([0.9, 0.6, 0.2], "IPH", False), ([0.4, 0.6, 0.2], "IPH", True), ([0.9, 0.3, 0.2], "any; highest: IPH (not called)", False),
    ([0.9, 0.6, 0.8], "IPH + SAH; highest: SAH", False), ([0.1, 0.3, 0.2], "none; highest: IPH (not called)", False),
])  # fmt: skip
def test_the_title_says_whether_the_highest_type_is_called_and_the_footer_that_any_is_not(p, title, mismatch):
    table = pd.DataFrame({"image": ["a"], "image_id": "", "group": "g", "slice": pd.array([pd.NA], dtype="Int64")})
    shown = named_images.ImageFiles(table, pd.DataFrame(index=[0]), np.array([False]), None)
    labels = ["any", "IPH", "SAH"]
    found = multilabel_predict.PredictedLabels(shown, labels, np.array([p]), dict.fromkeys(labels, 0.5), np.full((1, 3), np.nan))
    drawn = multilabel_predict.figure(found, 0, Slice(Path("a"), np.zeros((1, 8, 8), dtype=np.uint8), None), "brain", "")
    assert drawn.get_suptitle() == f"a (g): {title}"
    assert ("A type is called but any is not" in drawn.get_supxlabel().replace("\n", " ")) == mismatch


# ---- a network that was really trained, real data


@pytest.mark.parametrize("flags", [("--context", 1), ("--channels", 3, "--heads", "any,types")])
def test_a_really_trained_network_predicts_the_same_again(work, run_step, flags):
    toy_types.make(work, colour="--channels" in flags)
    place = ("--root", work.root, "--dataset", "toy", "--device", "cpu", "--experiment", "e")
    small = ("--weights", "none", "--backbone", "simplecnn", "--image-size", 32, "--epochs", 1, "--batch-size", 8, "--fold", 0)
    assert run_step("task4_multilabel/02_train.py", *place, *small, *flags).code == 0
    told = tables.read_predictions(work.task(4) / "e" / "fold0").set_index("image_id").sort_index()
    result = run_step(STEP, *place, work.raw, "--figures", 1)
    assert result.code == 0, result.err
    table = table_of(work).set_index("image_id").loc[told.index]
    columns = [name for name in told.columns if name.startswith("p_")]
    assert len(columns) == (4 if "--heads" in flags else 3) and len(figures(work)) == 1
    np.testing.assert_allclose(table[columns], told[columns], atol=1e-6)
    truth = [name for name in told.columns if name.startswith("y_")]
    assert np.array_equal(table[truth].to_numpy(float), told[truth].to_numpy(float))


def test_a_real_series(real_data, work, predict):
    series = real_data / "head-ct-dicom"
    if not series.is_dir():
        pytest.skip("no real DICOM series on this machine")
    result = predict(series, "--figures", 1)
    assert result.code == 0, result.err
    table = table_of(work)
    assert len(table) == len(list(series.glob("*.dcm"))) and table["slice"].tolist() == list(range(len(table)))
    assert table["group"].nunique() == 1 and len(figures(work)) == 1 and table["p_IVH"].between(0.001, 0.5).all()
