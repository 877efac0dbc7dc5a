"""Views: one encoder with a head for each, and the chain of gate, quantile thresholds and pooling on angiograms."""

import numpy as np
import pandas as pd
import pytest

from helpers import quick, toy_types
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.multilabel import cascade, predictions
from hemoct.multilabel.options import Stages

TRAIN, CASCADE, PREDICT = (f"task4_multilabel/{name}.py" for name in ("02_train", "04_cascade", "05_predict"))
SMALL = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "2e-3", "--device", "cpu", "--fold", 0, "--backbone",
         "simplecnn")  # fmt: skip


@pytest.fixture
def views(work, run_step):
    """Toy types in two views: SAH is never on `low`, the first half of the slices."""
    frame = toy_types.make(work)
    frame["group"] = np.where(frame["slice"] < 3, "low", "high")
    frame.loc[frame["group"] == "low", "SAH"] = 0
    toy_types.save(work, frame)
    return lambda step, *words: run_step(step, "--root", work.root, "--dataset", "toy", *words)


def test_one_encoder_learns_all_views(work, views):
    result = views(TRAIN, *SMALL, "--share-encoder", "--epochs", 20)
    assert result.code == 0, result.err
    folder = work.task(4) / "simplecnn-scratch-32px-shared-batch8-lr0.002" / "fold0"
    assert folder.is_dir(), list((work.task(4)).iterdir())
    assert files.read_json(folder / "model.json")["views"] == {"high": ["IVH", "SAH"], "low": ["IVH", "IPH"]}
    frame = tables.read_predictions(folder)
    low = frame["image_id"].str[-2:].astype(int) < 3
    assert (frame["p_SAH"][low] == 0).all() and (frame["p_IPH"][~low] == 0).all()
    called = (frame["p_IVH"] > 0.5).astype(int)
    assert (called == frame["y_IVH"]).mean() > 0.8
    history = tables.read_csv(folder / "history.csv", ["train_loss", "train_f1_IVH"])
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] * 0.7

    images = sorted(work.raw.glob("*_01.png"))
    name = ("--experiment", folder.parent.name, "--device", "cpu", "--figures", 0)
    assert refused(views(PREDICT, *images, *name), "a head for each view (high, low)", "--group")
    assert refused(views(PREDICT, *images, *name, "--group", "side"), "--group side is none of them")
    assert views(PREDICT, *images, *name, "--group", "low").code == 0
    table = pd.read_csv(folder.parent / "predicted" / "predicted.csv").set_index("image_id")
    both = frame.set_index("image_id").index.intersection(table.index)
    assert len(both) and table.loc[both, "p_IVH"].to_numpy() == pytest.approx(
        frame.set_index("image_id").loc[both, "p_IVH"].to_numpy(), abs=1e-5
    )
    explained = views("task4_multilabel/10_explain.py", "--experiment", folder.parent.name, "--device", "cpu")
    assert refused(explained, "has a head for each view")


def test_the_whole_published_chain(work, views, monkeypatch):
    """A gate at the median, thresholds at a quantile, the mean within a view and the maximum over views."""
    quick.evaluations(monkeypatch)
    assert views(TRAIN, *SMALL, "--share-encoder", "--heads", "any,types", "--epochs", 3, "--experiment", "s").code == 0
    chain = (CASCADE, "--types", "s", "--rule", "median", "--threshold-from", "train:q90")
    assert refused(views(*chain), "--threshold-from goes with --pool")
    result = views(*chain, "--pool", "--experiment", "c")
    assert result.code == 0, result.err
    content = files.read_json(work.task(4) / "c" / "metrics.json")
    assert content["cases"] == "studies" and set(content["folds"][0]["threshold_rules"].values()) == {
        "90% quantile of training probabilities"
    }
    training = predictions.pool(predictions.read_training_of(work, Stages(types="s")), predictions.groups(work))
    assert content["folds"][0]["thresholds"]["IVH"] == pytest.approx(training["p_IVH"].quantile(0.9))
    decided = cascade.decide(work, Stages(types="s", rule="median", pool=True))
    pooled = tables.read_csv(work.task(4) / "c" / "predictions.csv", ["p_IVH"])
    images = decided.predictions[decided.predictions["part"] == "test"]
    groups = images["image_id"].map(predictions.groups(work))
    by_hand = images.groupby([images["patient"], groups])["p_IVH"].mean().groupby("patient").max()
    assert pooled.set_index("patient")["p_IVH"].to_dict() == pytest.approx(by_hand.to_dict())


def test_training_probabilities_of_a_view_are_those_of_its_own_model(work, views):
    for name, more in (("all", ()), ("low", ("--group", "low", "--labels", "IVH,IPH"))):
        assert views(TRAIN, *SMALL, *more, "--epochs", 1, "--experiment", name).code == 0
    frame = predictions.read_training_of(work, Stages(types="all", view={"low": "low"}, pool=True)).set_index("image_id")
    whole = {
        name: predictions.read_training(work, evaluation_predictions.fold_folders(work, 4, name)).set_index("image_id")
        for name in ("all", "low")
    }
    assert sorted(frame.index) == sorted(whole["all"].index)
    low = predictions.groups(work)[frame.index] == "low"
    assert frame["p_IPH"][low].equals(whole["low"]["p_IPH"][frame.index[low]]) and (frame["p_SAH"][low] == 0).all()
    assert frame["p_IPH"][~low].equals(whole["all"]["p_IPH"][frame.index[~low]])


def test_mistakes_stop_in_one_line(work, views):
    assert refused(views(TRAIN, *SMALL, "--share-encoder", "--group", "low"), "--share-encoder", "--group low")
    frame = tables.read_labels(work, tables.read_dataset(work))
    toy_types.save(work, frame.assign(group="low"))
    assert refused(views(TRAIN, *SMALL, "--share-encoder"), "all images have the group low")
    toy_types.save(work, frame.drop(columns="group"))
    assert refused(views(TRAIN, *SMALL, "--share-encoder"), "no column group")
    toy_types.save(work, frame.assign(**{name: frame[name].where(frame["group"] == "high", 0) for name in toy_types.LABELS}))
    assert refused(views(TRAIN, *SMALL, "--share-encoder"), "no training image of the view low that shows a label")
