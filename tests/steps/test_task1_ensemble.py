"""Ensembles of classifiers as a user makes them: an experiment like any other, refused where members do not fit together."""

import shutil

import pytest

from helpers import quick, simulated
from helpers.refusals import refused
from hemoct.base import files, tables

STEP, EVALUATE = "task1_classification/06_ensemble.py", "task1_classification/02_evaluate.py"


@pytest.fixture
def join(work, run_step, monkeypatch):
    """Two experiments with predictions of their own, and the step that joins them."""
    quick.evaluations(monkeypatch)
    frame = simulated.make(work, draw=True)
    simulated.predict(work, frame, experiment="a", seed=1)
    simulated.predict(work, frame, experiment="b", seed=2)
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def test_an_ensemble_is_evaluated_like_any_experiment(work, join, run_step):
    result = join("a", "b", "a", "--rule", "stacking")
    assert result.code == 0 and "--experiment stacking-a-b" in result.out
    told = files.read_json(work.task(1) / "stacking-a-b" / "fold2" / "model.json")
    assert [one["experiment"] for one in told["made_of"]] == ["a", "b"] and len(
        told["fitted"]["hemorrhage"]["coefficients"][0]
    ) == 2
    evaluated = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "a", "b", "stacking-a-b")
    assert evaluated.code == 0, evaluated.err
    of = {name: files.read_json(work.task(1) / name / "metrics.json") for name in ("a", "b", "stacking-a-b")}
    assert of["stacking-a-b"]["protocol"] == "patient" and of["stacking-a-b"]["n"] == of["a"]["n"]
    value = {name: content["metrics"]["auroc"]["value"] for name, content in of.items()}
    assert value["stacking-a-b"] > max(value["a"], value["b"]), "their mistakes are independent"
    assert join("a", "b", "a", "--rule", "stacking", "--skip-if-done").out.startswith("up to date")


def test_members_that_do_not_fit_together_stop(work, join):
    assert refused(join("a", "a"), "a alone is no ensemble")
    assert refused(join("a", "c"), "c holds no trained fold; there are: a, b")
    assert refused(join("a", "b", "--experiment", "c", "--rule", "median"), "--rule")
    shutil.copytree(work.task(1) / "a", work.task(1) / "c")
    shutil.rmtree(work.task(1) / "c" / "fold3")
    assert refused(join("a", "c"), "c has fold0, fold1, fold2, fold4", "train the missing folds")
    shutil.copytree(work.task(1) / "a", work.task(1) / "d")
    spec = files.read_json(work.task(1) / "d" / "fold1" / "model.json")
    files.write_json(work.task(1) / "d" / "fold1" / "model.json", spec | {"protocol": "slice"})
    assert refused(join("a", "d"), "differ in protocol", "fold1")
    shutil.copytree(work.task(1) / "a", work.task(1) / "e")
    predicted = tables.read_predictions(work.task(1) / "e" / "fold0")
    tables.write_predictions(work.task(1) / "e" / "fold0", predicted.iloc[1:])
    assert refused(join("a", "e"), "e/fold0/predictions.csv speaks of other images")
    assert not (work.task(1) / "mean-a-e").exists(), "nothing is half written"


def test_an_ensemble_of_members_that_changed_is_not_evaluated(work, join, run_step):
    assert join("a", "b", "--experiment", "both").code == 0
    predicted = tables.read_predictions(work.task(1) / "b" / "fold4")
    tables.write_predictions(work.task(1) / "b" / "fold4", predicted.assign(p_hemorrhage=0.25))
    stale = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "both")
    assert refused(stale, "b/fold4/predictions.csv has changed", f"run {STEP} again")
    assert join("a", "b", "--experiment", "both").code == 0
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "both").code == 0
