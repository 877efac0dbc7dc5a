"""02_evaluate.py and 03_compare.py on simulated predictions: files, leaks, bad input, paired differences."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import simulated
from hemoct.base import files, tables
from hemoct.classification import figures
from hemoct.evaluation import bootstrap, predictions

EVALUATE, COMPARE = "task1_classification/02_evaluate.py", "task1_classification/03_compare.py"
FIGURES = {f"{name}.png" for name in ("confusion_matrix", "loss_curves", "roc", "pr", "calibration", "worst_mistakes")}
TABLES = {"predictions.csv", "metrics.json", "classification_report.txt", "operating_points.csv", "per_patient.csv"}


@pytest.fixture
def step(work, run_step, monkeypatch):
    """Run a step on the toy workspace; --root and --dataset are given."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 60)
    return lambda script, *words: run_step(script, *words, "--root", work.root, "--dataset", "toy")


@pytest.fixture
def plain(step, monkeypatch):
    """The same without the figures of 02_evaluate.py, which take most of its time."""
    for name in ("confusion", "losses", "calibration", "worst_mistakes"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    monkeypatch.setattr(figures, "curves", lambda *_: {})
    return step


@pytest.fixture
def frame(work):
    return simulated.make(work, draw=True)


def stopped(result, *words: str) -> None:
    """The step ended with exit code 2 and one line that has all words."""
    assert result.code == 2 and result.err.strip().count("\n") == 0, result.err
    assert all(word in result.err for word in words), result.err


def test_all_files_are_written_and_agree(work, frame, step):
    simulated.predict(work, frame)
    result = step(EVALUATE)
    assert result.code == 0, result.err
    folder = work.task(1) / "e"
    there = {path.name for path in folder.iterdir() if path.is_file()}
    assert there == FIGURES | TABLES | {"02_evaluate.run.json"}
    for name in FIGURES:
        assert np.asarray(Image.open(folder / name).convert("L")).std() > 5, f"{name} is empty"
    content = files.read_json(folder / "metrics.json")
    keys = {"accuracy", "precision", "recall", "specificity", "fpr", "f1", "balanced_accuracy", "mcc", "auroc", "ap", "brier",
            "ece", "ece_calibrated"}  # fmt: skip
    assert set(content["metrics"]) == keys
    assert all(low <= high for low, high in (cell["ci95"] for cell in content["metrics"].values()))
    assert (content["n"], content["patients"], content["protocol"], content["folds_done"]) == (200, 20, "patient", "all 5 folds")
    assert [fold["fold"] for fold in content["folds"]] == [0, 1, 2, 3, 4] and sum(fold["n"] for fold in content["folds"]) == 200
    assert content["bootstrap"]["drawn"] == "patients within folds" and content["patient_level"]["specificity"]["reason"]
    joined = tables.read_predictions(folder)
    assert sorted(joined["image_id"]) == sorted(frame["image_id"]) and set(joined["part"]) == {"test"}
    assert joined.set_index("image_id")["y_hemorrhage"].sum() == content["positives"]
    per_patient = tables.read_csv(folder / "per_patient.csv", ["patient", "found", "missed"])
    found = per_patient["found"].sum() / per_patient["positive_slices"].sum()
    assert found == pytest.approx(content["metrics"]["recall"]["value"])
    points = tables.read_csv(folder / "operating_points.csv", ["sensitivity", "specificity"])
    assert points["specificity"].iloc[0] == pytest.approx(content["metrics"]["specificity"]["value"])
    assert files.read_json(folder / "fold3" / "metrics.json")["n"] == content["folds"][3]["n"]
    assert "patient protocol" in (folder / "classification_report.txt").read_text() and "specificity" in result.out
    assert step(EVALUATE, "--skip-if-done").out.startswith("up to date")


def test_one_fold_alone_is_evaluated_and_said(work, frame, plain):
    simulated.predict(work, frame, folds=(0,))
    result = plain(EVALUATE)
    assert result.code == 0 and "fold 0 of 5" in result.out, result.err
    assert files.read_json(work.task(1) / "e" / "metrics.json")["folds_done"] == "fold 0 of 5"


def test_several_exclusive_classes(work, step):
    labels = ("normal", "ivh", "sah")
    simulated.predict(work, simulated.make(work, labels=labels, draw=True), labels)
    assert step(EVALUATE).code == 0
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    assert content["positive"] is None and {"f1_macro", "auroc_ivh", "recall_normal"} <= set(content["metrics"])
    assert {path.name for path in (work.task(1) / "e").glob("*.png")} == FIGURES


def test_limited_patients_replace_nothing(work, frame, plain):
    simulated.predict(work, frame)
    assert plain(EVALUATE, "--limit-patients", "6").code == 0
    folder = work.task(1) / "e"
    assert not (folder / "metrics.json").exists()
    content = files.read_json(folder / "first-6-patients" / "metrics.json")
    assert content["patients"] == 6 and any("6 patient(s)" in note for note in content["notes"])
    assert len(tables.read_predictions(folder / "fold0")) == 80


def test_a_changed_split_stops(work, frame, step):
    simulated.predict(work, frame)
    table = tables.read_splits(work)
    table["fold"] = (table["fold"] + 1) % 5
    tables.write_splits(work, table)
    stopped(step(EVALUATE), "splits.csv", "e was trained with", "01_train.py")
    assert not (work.task(1) / "e" / "metrics.json").exists()


def test_predictions_of_other_parts_stop(work, frame, step):
    """A test image that splits.csv has in training of this fold: the model has seen it."""
    simulated.predict(work, frame)
    folder = work.task(1) / "e" / "fold0"
    moved = tables.read_predictions(folder)
    moved.loc[0, ["image_id", "patient"]] = tables.read_splits(work).query("fold == 3")[["image_id", "patient"]].iloc[0]
    tables.write_predictions(folder, moved)
    stopped(step(EVALUATE), "fold0/predictions.csv", "not those of fold 0")


def test_folds_of_two_protocols_stop(work, frame, step):
    simulated.predict(work, frame, folds=(0, 1))
    simulated.predict(work, frame, folds=(2,), protocol="slice")
    stopped(step(EVALUATE), "folds differ in protocol")


def test_own_predictions_without_a_model_are_placed_by_their_images(work, frame, plain):
    simulated.predict(work, frame, protocol="slice")
    for path in work.task(1).glob("e/fold*/model.json"):
        path.unlink()
    assert plain(EVALUATE).code == 0
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    assert content["protocol"] == "slice" and content["bootstrap"]["drawn"] == "patients over all folds at once"


BAD = {
    "above one": lambda table: table.assign(p_hemorrhage=table["p_hemorrhage"] + 0.9),
    "NaN": lambda table: table.assign(p_hemorrhage=table["p_hemorrhage"].where(table.index > 0)),
    "text": lambda table: table.assign(p_hemorrhage="high"),
    "missing column": lambda table: table.drop(columns="part"),
    "no truth": lambda table: table.drop(columns="y_hemorrhage"),
    "no label": lambda table: table.drop(columns=["y_hemorrhage", "p_hemorrhage"]),
    "truth 2": lambda table: table.assign(y_hemorrhage=2),
    "part": lambda table: table.assign(part="train"),
    "twice": lambda table: pd.concat([table, table]),
    "other fold": lambda table: table.assign(fold=1),
    "not exclusive": lambda table: table.assign(y_other=1, p_other=0.7),
    "no rows": lambda table: table.iloc[:0],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_predictions_stop_with_one_line(work, frame, step, name):
    simulated.predict(work, frame, folds=(0,))
    folder = work.task(1) / "e" / "fold0"
    tables.write_predictions(folder, BAD[name](tables.read_predictions(folder)))
    stopped(step(EVALUATE), "predictions.csv")


def test_an_empty_file_and_unknown_names_stop(work, frame, step):
    stopped(step(EVALUATE), "no trained experiment", "01_train.py")
    simulated.predict(work, frame, folds=(0,))
    stopped(step(EVALUATE, "--limit-patients", "0"), "above 0")
    stopped(step(EVALUATE, "--experiment", "f"), "f holds no trained fold", "there are: e")
    stopped(step(COMPARE), "no evaluated experiment", "02_evaluate.py")
    stopped(step(COMPARE, "e"), "metrics.json is missing", "02_evaluate.py --experiment e")
    (work.task(1) / "e" / "fold0" / "predictions.csv").write_text("")
    stopped(step(EVALUATE), "predictions.csv")


def test_stale_or_missing_predictions_stop(work, frame, plain):
    """An older predictions.csv than best.pt or labels.csv would score another model or other labels."""
    simulated.predict(work, frame, folds=(0,))
    folder = work.task(1) / "e" / "fold0"
    predictions.current(work, 1, folder)
    (folder / "best.pt").touch()
    stopped(plain(EVALUATE), "older than best.pt or labels.csv", "--resume")
    (folder / "predictions.csv").unlink()
    stopped(plain(EVALUATE), "predictions.csv is missing", "--resume", "only predicts")


def test_without_patient_identifiers_no_number_is_that_of_patients(work, frame, plain):
    tables.write_dataset(work, replace(tables.read_dataset(work), patient_source=tables.NO_PATIENTS))
    simulated.predict(work, frame)
    result = plain(EVALUATE)
    assert result.code == 0 and "patient protocol" not in result.out and "one person may be on both sides" in result.out
    folder = work.task(1) / "e"
    content = files.read_json(folder / "metrics.json")
    assert content["protocol"] == "image" and content["patients"] is None and content["patient_level"] is None
    assert not (folder / "per_patient.csv").exists() and content["metrics"]["f1"]["value"] > 0
    assert plain("scripts/90_make_report.py").code == 0
    assert "one person may be on both sides" in (work.outputs / "report.md").read_text()
    assert plain("task1_classification/03_compare.py").code == 0
    assert "bootstrap over images: no patient is known" in (work.task(1) / "comparison" / "comparison.md").read_text()


def test_the_report_marks_results_of_labels_that_have_changed(work, frame, plain):
    simulated.predict(work, frame)
    labels = work.work / "labels.csv"
    record = {"status": "ok", "command": "c", "step": "s", "inputs": {"data/work/toy/labels.csv": files.fingerprint(labels)}}
    files.write_json(work.task(1) / "e" / "fold0" / "01_train.run.json", record)
    assert plain(EVALUATE).code == 0 and plain("scripts/90_make_report.py").code == 0
    assert "OUT OF DATE" not in (work.outputs / "report.md").read_text()
    labels.write_text(labels.read_text().replace(",1\n", ",0\n", 1))
    assert plain("scripts/90_make_report.py").code == 0
    report = (work.outputs / "report.md").read_text()
    assert report.count("OUT OF DATE: data/work/toy/labels.csv changed since") == 1
    assert report.count("OUT OF DATE: labels.csv changed since") == 1, "in the table, too"


def test_frozen_thresholds_meet_other_data(work, frame, plain):
    for fold in (0, 1):
        tables.write_csv(work.task(1) / "e" / f"fold{fold}" / "best.pt", pd.DataFrame({"weights": [1]}))
    simulated.predict(work, frame, folds=(0, 1))
    files.write_json(work.task(1) / "e" / "fold1" / "01_train.run.json", {"status": "unfinished"})
    result = plain(EVALUATE)
    assert result.code == 0 and "training is not finished: fold1" in result.out, result.err
    own = files.read_json(work.task(1) / "e" / "metrics.json")

    other = replace(work, dataset="other")
    labels = simulated.make(other, patients=5, seed=3)
    stopped(plain(EVALUATE, "--on", "other"), "no experiment of task 1", "04_predict.py --experiment NAME --on other")
    found = labels[["image_id", "patient"]].assign(fold=0, part="test", y_hemorrhage=labels["hemorrhage"])
    given = work.task(1) / "e" / "on-other" / "predictions.csv"
    tables.write_csv(given, found.assign(p_hemorrhage=np.linspace(0, 1, len(found))))
    before = given.read_bytes()
    result = plain(EVALUATE, "--on", "other")
    assert result.code == 0, result.err
    content = files.read_json(work.task(1) / "e" / "on-other" / "metrics.json")
    assert (content["evaluated_on"], content["protocol"], content["n"]) == ("other", "external", 50)
    mean = np.mean([fold["threshold"] for fold in own["folds"]])
    assert content["folds"][0]["threshold"] == pytest.approx(mean) and "frozen" in content["threshold_rule"]
    assert given.read_bytes() == before and files.read_json(work.task(1) / "e" / "metrics.json")["evaluated_on"] == "toy"
    assert plain(EVALUATE, "--on", "other", "--limit-patients", 2).code == 0
    limited = files.read_json(work.task(1) / "e" / "on-other-first-2-patients" / "metrics.json")
    assert limited["n"] == 20
    assert limited["folds"][0]["threshold"] == content["folds"][0]["threshold"], "the limit is not of the validation patients"
    stopped(plain(EVALUATE, "--on", "toy"), "--on toy", "on which the models were trained")


def test_published_numbers_follow_from_the_published_predictions(work, frame, plain):
    simulated.predict(work, frame)
    assert plain(EVALUATE).code == 0
    stopped(plain(EVALUATE, "--reference"), "no published experiment")
    shutil.copytree(work.task(1) / "e", work.reference / "task1" / "e", ignore=shutil.ignore_patterns("fold*", "*.png"))
    shutil.rmtree(work.work)
    result = plain(EVALUATE, "--reference")
    content = files.read_json(work.reference / "task1" / "e" / "metrics.json")
    assert result.code == 0 and f"{content['metrics']['f1']['value']:.3f}" in result.out, result.err
    assert result.out.count("| same |") == len(content["metrics"]) and "DIFFERS" not in result.out
    content["metrics"]["f1"]["value"] += 0.01
    files.write_json(work.reference / "task1" / "e" / "metrics.json", content)
    assert plain(EVALUATE, "--reference").out.count("DIFFERS") == 1


def test_the_given_split_is_one_model(work, frame, plain):
    given = frame.assign(given_split=np.where(frame["patient"] > "0015", "test", "train"))
    tables.write_labels(work, given, tables.read_dataset(work))
    simulated.predict(work, frame, folds=(0,), split="given")
    result = plain(EVALUATE)
    assert result.code == 0 and "given split" in result.out, result.err
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    assert (content["n"], content["folds_done"], content["protocol"]) == (50, "one model", "given")


@pytest.fixture
def three(work, frame, plain):
    """Experiments a, its copy b, and c under the slice protocol, evaluated; figures of the evaluation are not needed."""
    for name, protocol in (("a", "patient"), ("b", "patient"), ("c", "slice")):
        simulated.predict(work, frame, experiment=name, protocol=protocol, skill=3 if name == "c" else 2)
    assert plain(EVALUATE).code == 0
    return plain


def test_differences_are_paired(work, three):
    result = three(COMPARE)
    assert result.code == 0, result.err
    folder = work.task(1) / "comparison"
    table = tables.read_csv(folder / "comparison.csv", ["experiment", "metric", "value", "difference", "n_common", "note"])
    same = table[table["experiment"] == "b"]
    assert (same[["difference", "difference_low", "difference_high"]] == 0).all(axis=None), "a copy differs by exactly nothing"
    other = table[table["experiment"] == "c"].set_index("metric")
    first = table[table["experiment"] == "a"].set_index("metric")
    np.testing.assert_allclose(other["difference"], other["value"] - first["value"], atol=1e-7)
    assert set(other["note"]) == {"patient vs slice protocol"} and set(other["n_common"]) == {200}
    assert (
        "patient vs slice protocol" in (folder / "comparison.md").read_text()
        and (folder / "comparison.png").stat().st_size > 10_000
    )
    assert three(COMPARE, "--skip-if-done").out.startswith("up to date")

    # an experiment with one fold less: only common images are paired, the others counted
    simulated.predict(work, pd.read_csv(work.work / "labels.csv", dtype={"patient": str}), experiment="d", folds=(0, 1, 2, 3))
    assert three(EVALUATE, "--experiment", "d").code == 0 and three(COMPARE, "a", "d").code == 0
    table = tables.read_csv(folder / "comparison.csv", ["experiment", "left_out"])
    row = table[table["experiment"] == "d"].iloc[0]
    assert row["n_common"] == row["n"] == 160 and row["left_out"] == 40 and "40 images" in row["note"]

    # predictions that do not belong to metrics.json
    joined = tables.read_predictions(work.task(1) / "a")
    tables.write_predictions(work.task(1) / "a", joined.iloc[:-1])
    stopped(three(COMPARE, "a", "b"), "does not belong to metrics.json")


def test_the_threshold_may_be_that_of_the_expected_f1(work, frame, plain):
    simulated.predict(work, frame)
    of = {}
    for how in ("max-f1", "expected-f1"):
        assert plain(EVALUATE, "--threshold", how).code == 0
        of[how] = files.read_json(work.task(1) / "e" / "metrics.json")
    assert {fold["threshold_rule"] for fold in of["expected-f1"]["folds"]} == {"expected F1 on val"}
    assert "expected F1" in of["expected-f1"]["threshold_rule"] and "expected" not in of["max-f1"]["threshold_rule"]
    spread = {how: np.std([fold["threshold"] for fold in content["folds"]]) for how, content in of.items()}
    assert spread["expected-f1"] < spread["max-f1"]
    assert of["expected-f1"]["metrics"]["auroc"] == of["max-f1"]["metrics"]["auroc"]
    points = pd.read_csv(work.task(1) / "e" / "operating_points.csv")
    assert points["rule_on_validation"].iloc[0] == "expected F1"
    stopped(plain(EVALUATE, "--threshold", "best"), "--threshold")
