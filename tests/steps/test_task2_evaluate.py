"""04_evaluate.py on simulated boxes: files that agree, thresholds by hand, leaks, bad input, what is hard."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import quick, simulated_boxes, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.classification import figures
from hemoct.detection import data as detection_data, evaluate as detection_evaluate, figures as detection_figures
from hemoct.detection.predictions import COLUMNS, CORNERS, GEOMETRY
from hemoct.evaluation import bootstrap

REPOSITORY = Path(__file__).resolve().parents[2]
EVALUATE = "task2_detection/04_evaluate.py"
DRAWN = ("threshold_tradeoff", "box_precision_recall", "froc", "localisation", "error_types", "size_and_brightness", "hard_cases")
FIGURES = {f"{name}.png" for name in (*DRAWN, "confusion_matrix", "roc", "pr")}
CSV = ("predictions", "predictions_with_none", "classification_summary", "operating_points", "per_patient", "per_lesion", "froc",
       "localisation", "errors", "error_types", "size_and_brightness")  # fmt: skip
TABLES = {"metrics.json", "classification_report.txt", *(f"{name}.csv" for name in CSV)}
SLICES = {"accuracy", "precision", "recall", "specificity", "fpr", "f1", "balanced_accuracy", "mcc", "auroc", "ap"}
BOXES = {"box_precision", "box_recall", "box_f1", "map50", "map50_95", "froc_mean", "lesion_recall"}


@pytest.fixture
def step(work, run_step, monkeypatch):
    """Run the step on the toy workspace; --root and --dataset are given."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 60)
    return lambda *words: run_step(EVALUATE, *words, "--root", work.root, "--dataset", "toy")


@pytest.fixture
def plain(step, monkeypatch):
    """The same without the figures, which take most of its time."""
    for name in DRAWN:
        monkeypatch.setattr(detection_figures, name, lambda *_: None)
    monkeypatch.setattr(figures, "confusion", lambda *_: None)
    monkeypatch.setattr(figures, "curves", lambda *_: {})
    return step


@pytest.fixture
def unrendered(step, monkeypatch):
    """The same with figures that are drawn, but saved as a single pixel."""
    quick.figures(monkeypatch)
    return step


@pytest.fixture
def frame(work):
    return toy.make(work, patients=15, slices=6, size=48, boxes=True)


def test_all_files_are_written_and_agree(work, frame, step):
    simulated_boxes.predict(work)
    result = step()
    assert result.code == 0, result.err
    folder = work.task(2) / "e"
    assert {path.name for path in folder.iterdir() if path.is_file()} == FIGURES | TABLES | {"04_evaluate.run.json"}
    for name in FIGURES:
        assert np.asarray(Image.open(folder / name).convert("L")).std() > 5, f"{name} is empty"
    content = files.read_json(folder / "metrics.json")
    assert set(content["metrics"]) == SLICES | BOXES
    assert all(low <= high for low, high in (cell["ci95"] for cell in content["metrics"].values()))
    assert (content["n"], content["patients"], content["positives"], content["folds_done"]) == (90, 15, 45, "all 5 folds")
    assert set(content["folds"][0]) == {"fold", "threshold", "threshold_rule", "chosen", "n"}, "a confidence has no temperature"

    joined = tables.read_predictions(folder, COLUMNS)
    assert set(joined["image_id"]) == set(frame["image_id"]) and set(joined["part"]) == {"test"}
    summary = pd.read_csv(folder / "classification_summary.csv")
    truth = frame.set_index("image_id")["hemorrhage"].reindex(summary["image"])
    assert (summary["ground_truth"].to_numpy() == truth.to_numpy()).all()
    of_call = summary["classification"].value_counts()
    points = tables.read_csv(folder / "operating_points.csv", ["tp", "fp", "fn", "tn"]).set_index("rule_on_validation")
    assert [of_call[name.upper()] for name in ("tn", "fp", "fn", "tp")] == points.loc["max F1", ["tn", "fp", "fn", "tp"]].tolist()
    assert {"0.5", detection_evaluate.ANY_BOX} < set(points.index)

    shown = pd.read_csv(folder / "predictions_with_none.csv", keep_default_na=False)
    empty = shown[shown["class_name"] == "none"]
    assert set(empty["image"]) == set(summary.loc[summary["predicted"] == 0, "image"]) and (empty["confidence"] == 0).all()
    assert (empty[["x1", "y1", "x2", "y2"]] == "").all(axis=None) and set(shown["image"]) == set(frame["image_id"])
    boxes, errors = content["boxes"], pd.read_csv(folder / "errors.csv")
    assert boxes["predicted"] == len(shown) - len(empty) and boxes["true"] == 45
    assert errors["kind"].value_counts().to_dict() == {"missed": boxes["missed"], "false alarm": boxes["false_alarms"]}
    assert content["metrics"]["box_precision"]["value"] == pytest.approx(boxes["hits"] / boxes["predicted"])
    assert pd.read_csv(folder / "error_types.csv")["boxes"].sum() == len(errors)
    of_size = pd.read_csv(folder / "size_and_brightness.csv").groupby("by")[["found", "missed"]].sum()
    assert (of_size.to_numpy() == [boxes["hits"], boxes["missed"]]).all()
    lesions = pd.read_csv(folder / "per_lesion.csv")
    assert (content["lesions"]["true"], content["lesions"]["found"]) == (len(lesions), lesions["found"].sum())
    froc, at_half = pd.read_csv(folder / "froc.csv"), pd.read_csv(folder / "localisation.csv").set_index("iou").loc[0.5]
    assert froc["sensitivity"].mean() == pytest.approx(content["metrics"]["froc_mean"]["value"])
    assert at_half["accuracy"] == pytest.approx(content["metrics"]["box_recall"]["value"])
    assert at_half["false_positives_per_image"] == pytest.approx(boxes["false_alarms"] / 90)
    report = (folder / "classification_report.txt").read_text()
    assert "patient protocol" in report and f"{boxes['hits']} hits" in report and "lesion box" in report
    assert files.read_json(folder / "fold3" / "metrics.json")["n"] == content["folds"][3]["n"]
    assert step("--skip-if-done").out.startswith("up to date")


def test_the_step_starts_without_torch():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit(bool({'torch', 'ultralytics'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code, REPOSITORY / EVALUATE]).returncode == 0


def perfect(work, experiment: str = "e") -> None:
    """Each true box found exactly, nothing else; confidence 0.9."""
    simulated_boxes.predict(work, experiment, sensitivity=1.0, alarms=0.0)
    boxes = tables.read_boxes(work).set_index("image_id")[CORNERS]
    for folder in (work.task(2) / experiment).glob("fold*"):
        table = tables.read_predictions(folder)
        rows = table["confidence"].notna()
        table.loc[rows, CORNERS] = boxes.loc[table.loc[rows, "image_id"]].to_numpy()
        tables.write_predictions(folder, table.assign(confidence=table["confidence"].where(~rows, 0.9)))


def test_perfect_boxes_score_one_and_leave_nothing_hard(work, frame, unrendered):
    perfect(work)
    assert unrendered().code == 0
    content = files.read_json(work.task(2) / "e" / "metrics.json")
    values = {name: cell["value"] for name, cell in content["metrics"].items()}
    assert values.pop("fpr") == 0 and values == pytest.approx(dict.fromkeys(values, 1.0))
    assert all(level["accuracy"]["value"] == 1 for level in content["localisation"])
    assert pd.read_csv(work.task(2) / "e" / "errors.csv").empty
    there = {path.name for path in (work.task(2) / "e").glob("*.png")}
    assert there == FIGURES - {"hard_cases.png"}


def test_without_any_box_every_table_and_figure_is_made(work, frame, unrendered):
    simulated_boxes.predict(work, sensitivity=0.0, alarms=0.0)
    assert tables.read_predictions(work.task(2) / "e" / "fold0")["confidence"].isna().all()
    result = unrendered()
    assert result.code == 0, result.err
    folder = work.task(2) / "e"
    assert {path.name for path in folder.iterdir() if path.is_file()} == FIGURES | TABLES | {"04_evaluate.run.json"}
    cells = files.read_json(folder / "metrics.json")["metrics"]
    assert cells["recall"]["value"] == 0 and cells["specificity"]["value"] == 1, "a slice without a box is never called positive"
    assert cells["map50"]["value"] == 0 and cells["box_recall"]["value"] == 0 and cells["auroc"]["value"] == 0.5
    assert cells["precision"] == {"value": None, "ci95": None, "reason": "nothing was called positive"}
    assert cells["box_precision"]["value"] is None and "no predicted box" in cells["box_precision"]["reason"]
    assert (pd.read_csv(folder / "errors.csv")["kind"] == "missed").sum() == 45


# ---- which predictions are taken


def test_limited_patients_replace_nothing(work, frame, plain):
    simulated_boxes.predict(work)
    assert plain("--limit-patients", "6").code == 0
    folder = work.task(2) / "e"
    assert not (folder / "metrics.json").exists() and not (folder / "fold0" / "metrics.json").exists()
    content = files.read_json(folder / "first-6-patients" / "metrics.json")
    assert content["patients"] == 6 and content["n"] == 36


def test_predictions_that_are_not_whole_stop_with_the_command(work, frame, plain):
    """As of a training with --limit-patients: the same patients can be evaluated, all cannot."""
    simulated_boxes.predict(work, folds=(0,))
    folder = work.task(2) / "e" / "fold0"
    data = detection_data.load(work, 6)
    part = tables.read_predictions(folder)
    tables.write_predictions(folder, part[part["image_id"].isin(data.table["image_id"])])
    assert refused(plain(), "fold0/predictions.csv lacks", "02_train.py ... --resume", "--limit-patients N")
    assert not (work.task(2) / "e" / "metrics.json").exists()
    assert plain("--limit-patients", "6").code == 0


def test_predictions_older_than_the_model_stop(work, frame, plain):
    simulated_boxes.predict(work, folds=(0,))
    (work.task(2) / "e" / "fold0" / "best.pt").touch()
    assert refused(plain(), "fold0/predictions.csv is missing or older than best.pt", "--resume")


def test_a_changed_split_stops(work, frame, plain):
    simulated_boxes.predict(work)
    table = tables.read_splits(work)
    table["fold"] = (table["fold"] + 1) % 5
    tables.write_splits(work, table)
    assert refused(plain(), "splits.csv", "e was trained with", "task2_detection/02_train.py")


def test_predictions_of_other_parts_stop(work, frame, plain):
    """A test slice that splits.csv has in training of this fold: the model has seen it."""
    simulated_boxes.predict(work)
    folder = work.task(2) / "e" / "fold0"
    moved = tables.read_predictions(folder)
    first = moved["image_id"] == moved["image_id"].iloc[0]
    moved.loc[first, ["image_id", "patient"]] = (
        tables.read_splits(work).query("fold == 3")[["image_id", "patient"]].iloc[0].tolist()
    )
    tables.write_predictions(folder, moved)
    assert refused(plain(), "fold0/predictions.csv", "not those of fold 0")


def test_own_predictions_without_a_model_are_placed_by_their_images(work, frame, plain):
    simulated_boxes.predict(work, protocol="slice")
    for path in work.task(2).glob("e/fold*/model.json"):
        path.unlink()
    assert plain().code == 0
    content = files.read_json(work.task(2) / "e" / "metrics.json")
    assert content["protocol"] == "slice" and content["bootstrap"]["drawn"] == "patients over all folds at once"


def test_one_fold_alone_and_an_unfinished_training_are_said(work, frame, plain):
    simulated_boxes.predict(work, folds=(2,))
    files.write_json(work.task(2) / "e" / "fold2" / "02_train.run.json", {"status": "unfinished", "arguments": {}})
    result = plain()
    assert result.code == 0 and "fold 2 of 5" in result.out and "training is not finished: fold2" in result.out, result.err


def test_a_copy_of_a_fold_is_no_fold(work, frame, plain):
    simulated_boxes.predict(work)
    shutil.copytree(work.task(2) / "e" / "fold0", work.task(2) / "e" / "fold0-old")
    result = plain()
    assert result.code == 0 and "all 5 folds" in result.out, result.err


def test_the_given_split_is_one_model(work, frame, plain):
    given = frame.assign(given_split=np.where(frame["patient"] > "0011", "test", "train"))
    tables.write_labels(work, given, tables.read_dataset(work))
    simulated_boxes.predict(work, folds=(0,), protocol="given")
    result = plain()
    assert result.code == 0 and "given split" in result.out, result.err
    assert files.read_json(work.task(2) / "e" / "metrics.json")["n"] == 24


def test_slices_with_an_unknown_label_are_not_scored(work, frame, plain):
    simulated_boxes.predict(work)
    tables.write_labels(work, frame.assign(hemorrhage=frame["hemorrhage"].where(frame["slice"] > 0)), tables.read_dataset(work))
    assert "15 image(s) with an unknown label were left out" in plain().out
    content = files.read_json(work.task(2) / "e" / "metrics.json")
    assert (content["n"], content["unknown_label_left_out"]) == (75, 15)


def test_a_fold_without_a_true_box_is_said_and_leaves_no_figure_open(work, frame, unrendered):
    plt.close("all")  # those of tests before, which look at figures without saving them
    simulated_boxes.predict(work)
    fold = tables.read_splits(work).set_index("image_id")["fold"]
    boxes = tables.read_boxes(work)
    tables.write_boxes(work, boxes[boxes["image_id"].map(fold) != 2])
    result = unrendered()
    assert result.code == 0 and "fold 2: no true box, so it is left out of mean mAP and FROC" in result.out, result.err
    assert not plt.get_fignums()


BAD = {
    "above one": lambda table: table.assign(confidence=table["confidence"] + 1),
    "text": lambda table: table.assign(confidence="high"),
    "no confidence": lambda table: table.assign(confidence=np.nan),
    "infinite": lambda table: table.assign(xmax=table["xmax"].where(table["xmax"].isna(), np.inf)),
    "corners out of order": lambda table: table.rename(columns={"xmin": "xmax", "xmax": "xmin"}),
    "missing column": lambda table: table.drop(columns="ymin"),
    "not one of disk": lambda table: table.assign(**{"class": table["class"].replace("disk", "cat")}),
    "part must be": lambda table: table.assign(part="train"),
    "no row of labels.csv": lambda table: table.assign(image_id=table["image_id"] + "x"),
    "other patient": lambda table: table.assign(patient="0001"),
    "empty row of an image": lambda table: pd.concat([table, table.assign(**{"class": ""}, **dict.fromkeys(GEOMETRY))]),
    "two parts": lambda table: pd.concat([table, table.assign(part=table["part"].map({"val": "test", "test": "val"}))]),
    "another fold": lambda table: table.assign(fold=1),
    "no rows": lambda table: table.iloc[:0],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_predictions_stop_with_one_line(work, frame, plain, name):
    simulated_boxes.predict(work, folds=(0,))
    folder = work.task(2) / "e" / "fold0"
    tables.write_predictions(folder, BAD[name](tables.read_predictions(folder)))
    assert refused(
        plain(),
        "predictions.csv",
        *([name] if " " in name and name not in ("above one", "missing column", "no confidence") else []),
    )


def test_missing_and_unknown_names_stop(work, frame, plain):
    assert refused(plain(), "no trained experiment", "task2_detection/02_train.py")
    simulated_boxes.predict(work, folds=(0,))
    assert refused(plain("--experiment", "f"), "f holds no trained fold", "there are: e")
    assert refused(plain("--on", "toy"), "--on toy", "on which the models were trained")
    (work.task(2) / "e" / "fold0" / "predictions.csv").write_text("")
    assert refused(plain(), "predictions.csv")


def test_a_data_set_without_boxes_stops(work, frame, plain):
    simulated_boxes.predict(work, folds=(0,))
    tables.write_boxes(work, pd.DataFrame(columns=tables.BOX_COLUMNS))
    assert refused(plain(), "boxes.csv has no box")


def test_other_data_meet_frozen_thresholds(work, frame, plain):
    simulated_boxes.predict(work, folds=(0, 1))
    other = replace(work, dataset="other")
    toy.make(other, patients=6, slices=4, size=48, boxes=True, seed=3)
    assert refused(plain("--on", "other"), "no experiment of task 2 has predictions on other", "05_predict.py")
    missing = plain("--experiment", "e", "--on", "other")
    assert refused(missing, "predictions but no model", "02_train.py --dataset toy --experiment e")
    labels = tables.read_labels(other, tables.read_dataset(other))
    boxes = labels[["image_id", "patient"]].merge(tables.read_boxes(other), on="image_id", how="left").assign(fold=0, part="test")
    boxes["confidence"] = np.where(boxes["xmin"].notna(), 0.95, np.nan)
    folder = work.task(2) / "e" / "on-other"
    written = tables.write_predictions(folder, boxes[COLUMNS]).read_bytes()
    assert plain().code == 0 and plain("--on", "other").code == 0
    here = files.read_json(work.task(2) / "e" / "metrics.json")
    content = files.read_json(folder / "metrics.json")
    assert content["folds"][0]["threshold"] == pytest.approx(np.mean([fold["threshold"] for fold in here["folds"]]))
    assert (content["protocol"], content["evaluated_on"], content["n"]) == ("external", "other", 24)
    assert content["metrics"]["box_f1"]["value"] == content["metrics"]["f1"]["value"] == 1
    assert (folder / "predictions.csv").read_bytes() == written, "what 05_predict.py made is only read"
    tables.write_predictions(folder, boxes[COLUMNS].iloc[:-1])
    again = "run: python task2_detection/05_predict.py --experiment e --on other --dataset toy"
    assert refused(plain("--on", "other"), "on-other/predictions.csv lacks 1 of 24 slices", again)
    tables.write_predictions(folder, boxes[COLUMNS].assign(confidence=2 * boxes["confidence"]))
    assert refused(plain("--on", "other"), "confidence that is not from 0 to 1", again)
    (work.task(2) / "e" / "fold0" / "best.pt").touch()
    assert refused(plain("--on", "other"), "older than the models")


def test_classes_must_agree_and_have_their_own_precision(work, plain):
    """Boxes of the wrong class are false: class b is found as a, so that only a keeps its precision."""
    toy.make(work, patients=15, slices=6, size=48, boxes=True, classes=("a", "b"))
    perfect(work)
    for folder in (work.task(2) / "e").glob("fold*"):
        table = tables.read_predictions(folder)
        tables.write_predictions(folder, table.assign(**{"class": table["class"].replace("b", "a")}))
    assert plain().code == 0
    content = files.read_json(work.task(2) / "e" / "metrics.json")
    a, b = content["classes"]
    assert b["class"] == "b" and b["ap50"]["value"] == 0 and 0 < a["ap50"]["value"] < 1
    assert a["true_boxes"] + b["true_boxes"] == 45 and content["boxes"]["hits"] == a["true_boxes"]
    assert content["metrics"]["accuracy"]["value"] == 1, "slices are positive by any box"
    kinds = pd.read_csv(work.task(2) / "e" / "errors.csv").query("kind == 'false alarm'")["type"]
    assert set(kinds) == {"wrong class"} and len(kinds) == b["true_boxes"]
