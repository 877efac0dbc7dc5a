"""Slices from predicted masks: N from validation alone, the ceiling from true masks, wrong input in one line."""

import numpy as np
import pandas as pd
import pytest

from helpers import quick, toy
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.segmentation import slices

STEP = "task3_segmentation/04_to_classification.py"
FILES = {
    "metrics.json", "slice_comparison.csv", "classification_summary.csv", "classification_report.txt", "operating_points.csv",
    "per_patient.csv", "confusion_matrix.png", "roc.png", "pr.png", "04_to_classification.run.json",
}  # fmt: skip


@pytest.fixture
def pixels(work) -> pd.DataFrame:
    """Slices of one fold: positives have 50 predicted pixels or more, some negatives have 3; one positive has an empty mask."""
    toy.make(work, patients=10, slices=6)
    labels = tables.read_labels(work, tables.read_dataset(work))
    split = tables.read_splits(work).set_index("image_id")["fold"]
    fold = split.reindex(labels["image_id"]).to_numpy()
    frame = labels[["image_id", "patient"]].assign(fold=0, part=np.select([fold == 0, fold == 1], ["test", "val"], "train"))
    positive = labels["hemorrhage"].to_numpy(dtype=int)
    number = np.arange(len(frame))
    frame = frame.assign(true_px=positive * 40, predicted_px=np.where(positive, 50 + number % 7, np.where(number % 4, 0, 3)))
    frame = frame[frame["part"] != "train"].reset_index(drop=True)
    first = frame.index[(frame["part"] == "test") & (frame["true_px"] > 0)][0]
    frame.loc[first, "true_px"] = 0
    return frame


def classify(work: Workspace, run_step, frame: pd.DataFrame):
    folder = work.task(3) / "e"
    tables.write_csv(folder / "slice_pixels.csv", frame)
    about = {"dataset": "toy", "experiment": "e", "evaluated_on": "toy", "protocol": "patient", "labels_mean": None,
             "protocol_text": "patient protocol: told", "folds_done": "folds 0 of 5", "training_unfinished": [],
             "notes": ["upper bound: true boxes"]}  # fmt: skip
    files.write_json(folder / "metrics.json", about)
    with pytest.MonkeyPatch.context() as patched:
        quick.evaluations(patched)
        return run_step(STEP, "--root", work.root, "--dataset", "toy"), folder / "classification"


def test_n_comes_from_validation_and_the_ceiling_from_true_masks(work, run_step, pixels):
    result, folder = classify(work, run_step, pixels)
    assert result.code == 0 and result.err == "" and {path.name for path in folder.iterdir()} == FILES
    compared = pd.read_csv(folder / "slice_comparison.csv").set_index("rule")
    test = pixels[pixels["part"] == "test"]
    assert (compared["n"] == len(test)).all()
    at_least, any_pixel, ceiling = (compared.loc[name] for name in compared.index)
    assert at_least["f1"] == 1 and at_least["fp"] == 0
    assert any_pixel["fp"] == (test["predicted_px"] == 3).sum() > 0 and any_pixel["fn"] == 0
    assert ceiling["fn"] == 1 and ceiling["fp"] == 0 and ceiling["recall"] < 1
    content = files.read_json(folder / "metrics.json")
    assert content["metrics"]["f1"]["value"] == 1 and 3 < content["folds"][0]["threshold"] <= 56
    assert "upper bound: true boxes" in content["notes"] and "labels" in content
    summary = pd.read_csv(folder / "classification_summary.csv")
    assert list(summary) == ["image", "ground_truth", "predicted", "classification"]
    assert summary["classification"].value_counts().to_dict() == {"TP": at_least["tp"], "TN": at_least["tn"]}


def test_the_test_slices_do_not_choose_n(work, run_step, pixels):
    chosen = []
    for factor in (1, 10):
        frame = pixels.copy()
        frame.loc[frame["part"] == "test", "predicted_px"] *= factor
        _, folder = classify(work, run_step, frame)
        chosen.append(files.read_json(folder / "metrics.json")["folds"][0]["threshold"])
    assert chosen[0] == chosen[1]
    frame.loc[frame["part"] == "val", "predicted_px"] *= 10
    assert files.read_json(classify(work, run_step, frame)[1] / "metrics.json")["folds"][0]["threshold"] != chosen[0]


def test_slices_without_a_mask_file_are_left_out_and_counted(work, run_step, pixels):
    frame = pixels.assign(true_px=pixels["true_px"].astype("Int64"))
    gone = frame.index[frame["part"] == "test"][:4]
    frame.loc[[*gone, frame.index[frame["part"] == "val"][0]], "true_px"] = pd.NA
    result, folder = classify(work, run_step, frame)
    assert result.code == 0 and "4 test slice(s) without a mask file are left out" in result.out
    assert files.read_json(folder / "metrics.json")["n"] == (frame["part"] == "test").sum() - 4


def test_empty_predictions_everywhere_give_every_table(work, run_step, pixels):
    result, folder = classify(work, run_step, pixels.assign(predicted_px=0))
    assert result.code == 0 and {path.name for path in folder.iterdir()} >= FILES - {"roc.png", "pr.png"}
    metrics = files.read_json(folder / "metrics.json")["metrics"]
    assert metrics["recall"]["value"] == 0 and metrics["precision"]["value"] is None and metrics["precision"]["reason"]


def test_what_cannot_be_classified_stops(work, run_step, pixels):
    assert "03_evaluate.py" in run_step(STEP, "--root", work.root, "--dataset", "toy").err
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    tables.write_labels(work, labels.assign(other=1 - labels["hemorrhage"]), _two(dataset))
    tables.write_dataset(work, _two(dataset))
    result, folder = classify(work, run_step, pixels)
    assert result.code == 2 and "hemorrhage, other" in result.err and not folder.exists()


def _two(dataset: tables.Dataset) -> tables.Dataset:
    return tables.Dataset(dataset.name, dataset.layout, ["hemorrhage", "other"], exclusive=True)


def test_counts_of_the_comparison_add_up(work, pixels):
    evaluation = slices.evaluate(pixels.assign(y_a=(pixels["true_px"] > 0).astype(int), p_a=pixels["predicted_px"]))
    best = slices.ceiling(evaluation, pixels)
    compared = slices.comparison(evaluation, best, resamples=50, seed=0)
    assert (compared[["tn", "fp", "fn", "tp"]].sum(axis=1) == compared["n"]).all()
    assert compared["f1"].between(compared["f1_low"] - 1e-9, compared["f1_high"] + 1e-9).all()
