"""Networks of task 4 on another data set: predicted by all models with 05_predict.py --on, evaluated with frozen thresholds."""

import numpy as np
import pandas as pd
import pytest

from helpers import brightness_networks, quick, toy_types
from helpers.brightness_networks import MEAN, brightness, put_networks
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, splits
from hemoct.ingest import layouts
from hemoct.multilabel import data

EVALUATE = "task4_multilabel/03_evaluate.py"
FOLDS = (0, 1, 2)


@pytest.fixture
def predict(work, run_step, monkeypatch):
    return brightness_networks.predicting(work, run_step, monkeypatch)


@pytest.fixture
def other(work):
    """Another data set that knows IPH and IVH, in this order, a label of its own, and no SAH; IVH is unknown on one patient."""
    found = Workspace(work.root, "other")
    frame = toy_types.make(found, patients=6, labels=["IVH", "IPH", "fracture"], seed=1)
    frame.loc[frame["patient"] == "0002", "IVH"] = pd.NA
    toy_types.save(found, frame[[*frame.columns.drop("IVH"), "IVH"]], ["IPH", "fracture", "IVH"])
    return found


def predict_own(work, thresholds: dict[str, tuple[float, float, float]]) -> None:
    """predictions.csv of each fold, whose threshold on validation is that given by label; at 0 labels.csv has no positive there.

    It lies in the middle between negatives (0.01) and positives.
    """
    dataset, table = tables.read_dataset(work), tables.read_splits(work)
    labels = tables.read_labels(work, dataset)
    for name, levels in thresholds.items():
        for fold in np.flatnonzero(np.array(levels) == 0):
            validates = labels["image_id"].map(splits.parts(table, fold, "patient")) == "val"
            labels.loc[validates, name] = 0
    tables.write_labels(work, labels, dataset)
    for fold in FOLDS:
        part = splits.parts(table, fold, "patient").reindex(labels["image_id"]).to_numpy()
        frame = labels[["image_id", "patient"]].assign(fold=fold, part=part)
        for name in toy_types.LABELS:
            frame[f"y_{name}"] = labels[name]
            frame[f"p_{name}"] = np.where(labels[name] == 1, 2 * (thresholds[name][fold] or 0.4) - 0.01, 0.01)
        tables.write_predictions(work.task(4) / "e" / f"fold{fold}", frame[part != "train"])


@pytest.fixture
def evaluate(work, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    return lambda *words: run_step(
        EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "e", "--on", "other", *words
    )


def test_labels_that_both_know_are_predicted_by_all_models(work, other, predict):
    result = predict("--on", "other")
    assert result.code == 0 and "labels IVH, IPH" in result.out, result.err
    frame = tables.read_predictions(work.task(4) / "e" / "on-other")
    assert list(frame) == [*tables.PREDICTION_COLUMNS, "y_IVH", "p_IVH", "y_IPH", "p_IPH"] and len(frame) == 36
    truth = tables.read_labels(other, tables.read_dataset(other)).set_index("image_id")
    for row in frame.itertuples():
        expected = MEAN * brightness(images.read_grey(other.raw / f"{row.image_id}.png"))
        assert row.p_IVH == pytest.approx(expected, abs=1e-5) and row.p_IPH == pytest.approx(expected, abs=1e-5)
        assert row.y_IPH == truth["IPH"][row.image_id] and pd.isna(row.y_IVH) == (row.patient == "0002")
    assert predict("--on", "other", "--skip-if-done").out.startswith("up to date")


def test_neighbours_of_the_other_data_are_looked_at(work, other, predict):
    put_networks(work, context=1)
    assert predict("--on", "other").code == 0
    frame = tables.read_predictions(work.task(4) / "e" / "on-other").set_index("image_id")
    of_first = brightness(images.read_grey(other.raw / "0003_01.png"))  # the plane before 0003_02, which tells IVH
    assert frame["p_IVH"]["0003_02"] == pytest.approx(MEAN * of_first, abs=1e-5)
    assert frame["p_IVH"]["0003_00"] == pytest.approx(frame["p_IPH"]["0003_00"], abs=1e-6), "the first slice is its own neighbour"


def test_thresholds_are_frozen_means_of_the_folds_that_chose(work, other, predict, evaluate):
    predict_own(work, {"IVH": (0.07, 0.17, 0.12), "IPH": (0.14, 0, 0.18), "SAH": (0.4, 0.4, 0.4)})
    assert predict("--on", "other").code == 0
    result = evaluate()
    assert result.code == 0 and result.err == "" and "what to try next" not in result.out
    folder = work.task(4) / "e" / "on-other"
    content = files.read_json(folder / "metrics.json")
    assert (content["evaluated_on"], content["protocol"], content["n"], content["patients"]) == ("other", "external", 36, 6)
    assert content["labels"] == ["IVH", "IPH"] and content["unknown_by_label"] == {"IVH": 6, "IPH": 0}
    (fold,) = content["folds"]
    assert fold["fold"] == "mean" and fold["thresholds"] == pytest.approx({"IVH": 0.12, "IPH": 0.16})
    assert fold["threshold_rules"] == {
        "IVH": "mean of 3 fold threshold(s), frozen", "IPH": "mean of 2 fold threshold(s), frozen"
    }  # fmt: skip
    frame = tables.read_predictions(folder)
    known = frame["y_IVH"].notna()
    called, true = frame["p_IVH"][known] >= content["folds"][0]["thresholds"]["IVH"], frame["y_IVH"][known] == 1
    assert 0 < called.sum() < len(called)
    assert content["metrics"]["f1_IVH"]["value"] == pytest.approx(2 * (called & true).sum() / (called.sum() + true.sum()))
    assert not {"diagnosis.md", "by_epoch.csv", "loss_curves.png"} & {path.name for path in folder.iterdir()}
    assert evaluate("--skip-if-done").out.startswith("up to date")
    assert evaluate("--limit-patients", 2).code == 0
    limited = work.task(4) / "e" / "on-other-first-2-patients"
    assert files.read_json(limited / "metrics.json")["patients"] == 2 and "called_IVH" in tables.read_predictions(limited)


def test_any_is_not_made_of_what_is_no_bleeding(work):
    place = Workspace(work.root, "place")
    own = ["IVH", "IPH", "fracture"]
    frame = toy_types.make(place, labels=own)
    frame.loc[frame["patient"] == "0001", own] = 0
    toy_types.save(place, frame, own)
    labels, truth = data.truth_of_other(place, ["any", "IVH", "SAH"])
    assert list(truth) == ["any", "IVH"] and labels["image_id"].tolist() == frame["image_id"].tolist()
    none = (frame[own] == 0).all(axis=1)
    assert np.array_equal(truth["any"], np.select([frame["IVH"] == 1, none], [1.0, 0.0], np.nan), equal_nan=True)
    assert truth["any"].isna().any() and (truth["any"] == 0).any()
    toy_types.save(place, frame.rename(columns={"fracture": "any"}), ["IVH", "IPH", "any"])
    assert np.array_equal(data.truth_of_other(place, ["any"])[1]["any"], frame["fracture"]), "its own column"
    toy_types.save(place, frame.rename(columns={"IVH": "a", "IPH": "b"}), ["a", "b", "fracture"])
    with pytest.raises(UserError, match="knows none of the labels any, IVH"):
        data.truth_of_other(place, ["any", "IVH"])


def test_mistakes_are_one_line(work, other, predict, evaluate):
    predict_own(work, dict.fromkeys(toy_types.LABELS, (0.2, 0.2, 0.2)))
    assert refused(evaluate(), "on-other/predictions.csv", "05_predict.py --experiment e --on other")
    assert predict("--on", "other").code == 0
    assert refused(predict("--on", "toy"), "on which the models were trained")
    assert "name images or folders, or another data set" in predict("--on", "other", work.raw).err
    assert "do not go with it" in predict("--on", "other", "--threshold", "0.5").err
    for place, window in ((work, "brain"), (other, "40/100")):
        files.write_json(place.raw / layouts.ORIGIN, {"window": window})
    assert refused(predict("--on", "other"), "the window 40/100", "learned from brain", "--window brain --dataset other")
    files.write_json(other.raw / layouts.ORIGIN, {"window": "brain"})
    assert predict("--on", "other").code == 0
    frame = tables.read_labels(other, tables.read_dataset(other))
    tables.write_labels(other, frame.assign(IPH=1 - frame["IPH"]), tables.read_dataset(other))
    assert refused(evaluate(), "labels.csv of other has changed since", "05_predict.py --experiment e --on other")
    fewer = frame["patient"] != "0003"
    tables.write_labels(other, frame[fewer], tables.read_dataset(other))
    assert refused(evaluate(), "labels.csv of other has changed since")
    tables.write_labels(other, frame, tables.read_dataset(other))
    assert evaluate("--limit-patients", 1).code == 0
    third = Workspace(work.root, "third")
    toy_types.make(third, labels=["a", "b", "c"], seed=2)
    assert refused(predict("--on", "third"), "knows none of the labels IVH, IPH, SAH", "a, b, c")
