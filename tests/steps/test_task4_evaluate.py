"""03_evaluate.py of task 4 on simulated predictions: files that agree, leaks, unknown labels, bad input."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import quick, simulated_types
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.evaluation import baselines, bootstrap

EVALUATE = "task4_multilabel/03_evaluate.py"
FIGURES = {f"{name}.png" for name in ("confusion_matrices", "roc", "pr", "by_epoch", "loss_curves", "cooccurrence")}
TABLES = {"predictions.csv", "metrics.json", "per_label.csv", "by_epoch.csv", "cooccurrence.csv", "confusions.csv",
          "diagnosis.json", "diagnosis.md", "classification_report.txt"}  # fmt: skip


@pytest.fixture
def evaluate(work, run_step, monkeypatch):
    """Run the step on the toy workspace."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40)
    return lambda *words: run_step(EVALUATE, *words, "--root", work.root, "--dataset", "toy")


@pytest.fixture
def plain(evaluate, monkeypatch):
    """The same with figures that are not rendered, which takes most of its time."""
    quick.figures(monkeypatch)
    return evaluate


@pytest.fixture
def frame(work):
    return simulated_types.make(work)


def test_all_files_are_written_and_agree(work, frame, evaluate):
    simulated_types.predict(work, frame)
    result = evaluate()
    assert result.code == 0, result.err
    folder = work.task(4) / "e"
    assert {path.name for path in folder.iterdir() if path.is_file()} == FIGURES | TABLES | {"03_evaluate.run.json"}
    for name in FIGURES:
        assert np.asarray(Image.open(folder / name).convert("L")).std() > 5, f"{name} is empty"
    content = files.read_json(folder / "metrics.json")
    assert (content["n"], content["patients"], content["protocol"], content["folds_done"]) == (200, 20, "patient", "all 5 folds")
    assert [fold["fold"] for fold in content["folds"]] == [0, 1, 2, 3, 4] and sum(fold["n"] for fold in content["folds"]) == 200
    assert set(content["folds"][0]["thresholds"]) == set(simulated_types.TYPES)
    assert {f"{name}_{label}" for name in ("f1", "auroc", "ap") for label in simulated_types.TYPES} <= set(content["metrics"])
    joined = tables.read_predictions(folder)
    assert sorted(joined["image_id"]) == sorted(frame["image_id"]) and set(joined["part"]) == {"test"}
    of_fold = joined["fold"].map({fold["fold"]: fold["thresholds"]["SAH"] for fold in content["folds"]})
    assert ((joined["p_SAH"] >= of_fold) == joined["called_SAH"]).all()
    per_label = tables.read_csv(folder / "per_label.csv", ["label", "tp", "fn"]).set_index("label")
    assert per_label.loc["SAH", "tp"] + per_label.loc["SAH", "fn"] == joined["y_SAH"].sum()
    assert files.read_json(folder / "fold3" / "metrics.json")["n"] == content["folds"][3]["n"]
    assert "0.5" not in content["threshold_rule"] and "f1_macro" in result.out and "diagnosis.md" in result.out
    assert evaluate("--skip-if-done").out.startswith("up to date")


def test_an_experiment_of_its_own_comes_out_the_same_twice(work, frame, plain):
    simulated_types.predict(work, frame)
    assert plain().code == 0
    first = (work.task(4) / "e" / "metrics.json").read_bytes()
    assert plain().code == 0
    assert (work.task(4) / "e" / "metrics.json").read_bytes() == first


def test_quantiles_of_training_are_recorded(work, frame, plain):
    simulated_types.predict(work, frame)
    assert plain("--threshold-from", "train:q80").code == 0
    of_fold = files.read_json(work.task(4) / "e" / "metrics.json")["folds"][0]
    training = pd.read_csv(work.task(4) / "e" / "fold0" / "train_predictions.csv")
    assert of_fold["thresholds"]["IVH"] == pytest.approx(training["p_IVH"].quantile(0.8))
    assert of_fold["threshold_rules"]["IVH"] == "80% quantile of training probabilities"
    (work.task(4) / "e" / "fold1" / "train_predictions.csv").unlink()
    assert refused(plain("--threshold-from", "train:q80"), "fold1/train_predictions.csv is missing", "--threshold-from val")
    assert refused(plain("--threshold-from", "test:q80"), "neither val nor train:qNN")


def test_what_sees_no_pixel_stands_beside_each_label(work, frame, plain, run_step):
    frame["IVH"] = frame["slice"].between(4, 5).astype("Int64").where(frame.index % 7 != 0)  # the place of a slice tells it
    simulated_types.relabel(work, frame)
    simulated_types.predict(work, frame, skill=(1.0, 3.0, 3.0))
    result = plain()
    assert result.code == 0, result.err
    content = files.read_json(work.task(4) / "e" / "metrics.json")
    position, prevalence = content["baselines"]["position"], content["baselines"]["prevalence"]
    assert position["n"] == content["n"] and prevalence["metrics"]["auroc_IPH"]["value"] == 0.5
    for key in ("auroc_IVH", "ap_SAH", "f1_macro", "hamming"):
        expected = content["metrics"][key]["value"] - position["metrics"][key]["value"]
        assert position["difference"][key]["value"] == pytest.approx(expected), key
    assert position["metrics"]["auroc_IVH"]["value"] > 0.9 > content["metrics"]["auroc_IVH"]["value"]
    assert "  does not beat the place of the slice alone (auroc_IVH" in result.out
    assert "  beats the place of the slice alone (auroc_IPH" in result.out
    table = tables.read_csv(work.task(4) / "e" / "per_label.csv", ["label"]).set_index("label")
    assert (table["auroc"] - table["auroc_less_position"]).to_dict() == pytest.approx(table["auroc_position"].to_dict())
    assert run_step("task4_multilabel/07_compare.py", "--root", work.root, "--dataset", "toy").code == 0
    text = (work.task(4) / "comparison" / "comparison.md").read_text()
    assert "* e beats the place of the slice alone (f1_macro" in text


def test_slices_without_numbers_have_no_place(work, frame, plain, run_step):
    frame["slice"] = pd.NA
    simulated_types.relabel(work, frame)
    simulated_types.predict(work, frame, heads=True)
    assert plain().code == 0
    content = files.read_json(work.task(4) / "e" / "metrics.json")
    no_place = {"what": baselines.WORDS["position"], "metrics": None, "reason": baselines.NO_NUMBERS}
    assert content["baselines"]["position"] == no_place and content["baselines"]["prevalence"]["metrics"]
    assert "auroc_position" not in tables.read_csv(work.task(4) / "e" / "per_label.csv", ["label"])


def test_baselines_learn_from_training_images_of_the_working_set(work, frame, plain, run_step):
    """A cascade, which was trained on nothing itself, has the baselines of its experiment; test labels change no probability."""
    simulated_types.predict(work, frame, heads=True)
    place = ("--root", work.root, "--dataset", "toy")
    assert run_step("task4_multilabel/04_cascade.py", *place, "--types", "e").code == 0
    assert plain().code == 0
    of = {name: files.read_json(work.task(4) / name / "metrics.json")["baselines"] for name in ("e", "e-cascade")}
    assert of["e"]["position"]["metrics"] == of["e-cascade"]["position"]["metrics"]
    assert of["e"]["position"]["difference"] != of["e-cascade"]["position"]["difference"]


def test_unknown_labels_and_labels_without_positives_do_not_stop(work, frame, plain):
    frame["SAH"] = 0
    frame.loc[frame["patient"] < "0008", "IPH"] = pd.NA
    simulated_types.relabel(work, frame)
    simulated_types.predict(work, frame)
    result = plain()
    assert result.code == 0, result.err
    content = files.read_json(work.task(4) / "e" / "metrics.json")
    assert content["metrics"]["auroc_SAH"]["value"] is None and content["metrics"]["auroc_SAH"]["reason"]
    assert content["unknown_by_label"]["IPH"] == 70 and content["metrics"]["f1_IPH"]["value"] > 0


def test_one_fold_and_a_first_look(work, frame, plain):
    simulated_types.predict(work, frame, folds=(0,))
    assert plain("--limit-patients", "10").code == 0
    folder = work.task(4) / "e"
    assert (
        files.read_json(folder / "first-10-patients" / "metrics.json")["patients"] == 2 and not (folder / "metrics.json").exists()
    )
    assert plain().code == 0
    assert files.read_json(folder / "metrics.json")["folds_done"] == "fold 0 of 5"


def test_a_new_working_set_makes_predictions_old(work, frame, plain):
    simulated_types.predict(work, frame)
    folder = work.task(4) / "e" / "fold0"
    files.write_text(folder / "best.pt", "weights")
    os.utime(folder / "best.pt", (0, 0))
    assert plain().code == 0
    os.utime(work.work / "task4" / "working_set.csv", (2e9, 2e9))
    assert refused(plain(), "predictions.csv is missing or older than best.pt or task4/working_set.csv", "--resume")


def test_wrong_predictions_stop(work, frame, plain):
    simulated_types.predict(work, frame)
    path = work.task(4) / "e" / "fold2" / "predictions.csv"
    right = pd.read_csv(path, dtype={"patient": str})
    for wrong, words in (
        (right.assign(p_SAH=1.2), "probability that is no number from 0 to 1"),
        (right.drop(columns="y_SAH"), "a column y_LABEL and p_LABEL"),
        (right.assign(y_SAH=2), "y_LABEL must be 0, 1 or empty"),
        (right.assign(part=right["part"].map({"val": "test", "test": "val"})), "val and test are not those of fold 2"),
    ):
        tables.write_csv(path, wrong)
        assert refused(plain(), words, "task4_multilabel/02_train.py ... --resume")


def test_test_patients_in_training_stop(work, frame, plain):
    simulated_types.predict(work, frame)
    table = tables.read_splits(work)
    table["fold"] = (table["fold"] + 1) % 5
    tables.write_splits(work, table)
    assert refused(plain(), "splits.csv is not the one that e was trained with")


def test_unknown_experiments_are_named(work, frame, plain):
    assert refused(plain("--experiment", "other"), "task4 holds no trained experiment", "task4_multilabel/02_train.py")
    simulated_types.predict(work, frame)
    assert refused(plain("--experiment", "other"), "other holds no trained fold; there are: e")


def test_the_report_and_the_kept_results_show_each_label(work, frame, plain, run_step):
    simulated_types.predict(work, frame, heads=True)
    assert plain().code == 0
    place = ("--root", work.root, "--dataset", "toy")
    assert run_step("task4_multilabel/04_cascade.py", "--types", "e", *place).code == 0
    simulated_types.predict(work, frame, "other", heads=True, seed=3)
    assert plain("--experiment", "other").code == 0
    assert run_step("task4_multilabel/07_compare.py", "e", "other", *place).code == 0
    assert run_step("scripts/90_make_report.py", *place).code == 0
    page = (work.outputs / "report.md").read_text(encoding="utf-8")
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## Task 4")]
    assert titles == ["Task 4: all experiments", "Task 4: differences between experiments", "Task 4: e",
                           "Task 4: e-cascade", "Task 4: other"]  # fmt: skip
    assert "| less e |" in page
    f1 = files.read_json(work.task(4) / "e" / "metrics.json")["metrics"]["f1_SAH"]["value"]
    assert "| F1 any | F1 IVH | F1 IPH | F1 SAH |" in page and page.count(f"{f1:.3f} (") >= 2, "of all experiments, and its own"
    assert "The first of two stages" in page and "Two stages less one stage" in page

    files.write_text(work.root / "README.md", "<!-- best: toy/task4 -->\n<!-- end best -->\n")
    done = run_step("scripts/91_publish_results.py", "--task", "4", "--experiment", "e", "other", *place)
    assert done.code == 0, done.err
    assert f"{f1:.3f} (" in (work.reference.parent / "README.md").read_text(encoding="utf-8")
    contents = [files.read_json(work.task(4) / name / "metrics.json") for name in ("e", "other")]
    best = max(content["metrics"]["f1_macro"]["value"] for content in contents)
    assert f"Macro F1 {best:.3f} (" in (work.root / "README.md").read_text(encoding="utf-8")
    kept = {path.name for path in (work.reference / "task4" / "e").iterdir()}
    assert {"metrics.json", "per_label.csv", "predictions.csv", "diagnosis.md", "fold0"} <= kept


def test_predictions_of_truths_that_were_taken_back_stop(work, frame, plain):
    """labels.csv was corrected and the working set not made again: no file is older than what it was made of."""
    simulated_types.predict(work, frame)
    dataset = tables.read_dataset(work)
    tables.write_labels(work, frame.assign(SAH=frame["SAH"].where(frame["image_id"] != "0003_07", 1 - frame["SAH"])), dataset)
    assert refused(plain(), "e: its predictions have another truth than labels.csv for 1 image(s) (first: 0003_07)", "01_prepare")
    tables.write_labels(work, frame.astype({"IVH": "Int64"}).assign(IVH=pd.NA), dataset)
    assert refused(plain(), "another truth than labels.csv for 200 image(s)")
