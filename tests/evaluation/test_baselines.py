"""Baselines that see no pixel: they know the place of a slice and nothing else, and learn from training slices alone."""

import numpy as np
import pandas as pd
import pytest

from helpers import quick, simulated
from hemoct.base import files, tables
from hemoct.data import slices
from hemoct.evaluation import baselines

EVALUATE = "task1_classification/02_evaluate.py"


@pytest.fixture
def data(work) -> slices.SliceData:
    """Heads whose middle slices bleed, so that the place of a slice says a lot."""
    frame = simulated.make(work, draw=True)
    middle = frame["slice"].between(4, 5).astype(int)
    tables.write_labels(work, frame.assign(hemorrhage=middle), tables.read_dataset(work))
    return slices.load(work, None, None, known_only=False)


def framed(data: slices.SliceData) -> pd.DataFrame:
    """Every slice in each fold, with its part and truth."""
    truth = pd.DataFrame(data.targets, columns=["y_hemorrhage"])
    parts = {fold: data.part_of(fold, "patient", "folds") for fold in range(5)}
    return pd.concat(
        [data.table[["image_id", "patient"]].assign(fold=fold, part=part).join(truth) for fold, part in parts.items()]
    )


def test_places_are_relative_to_the_scan_of_each_patient():
    table = pd.DataFrame({"image_id": list("wxyz"), "patient": ["a", "a", "a", "b"], "slice": pd.array([10, 12, 20, 5], "Int64")})
    np.testing.assert_allclose(baselines.places(table), [[0, 0, 10], [0.2, 0.04, 12], [1, 1, 20], [0, 0, 5]])
    table["slice"] = pd.array([10, None, 20, 5], dtype="Int64")
    assert baselines.places(table) is None


def test_the_place_tells_the_middle_and_the_prevalence_tells_nothing(data):
    frames = {name: baselines.predictions(framed(data), name, baselines.places(data.table)) for name in baselines.WORDS}
    for frame in frames.values():
        assert sorted(frame.loc[frame["part"] == "test", "image_id"]) == sorted(data.table["image_id"])
        assert frame["p_hemorrhage"].between(0, 1).all()
    mean = frames[baselines.POSITION].groupby("y_hemorrhage")["p_hemorrhage"].mean()
    assert mean[1] - mean[0] > 0.1
    assert (frames[baselines.PREVALENCE].groupby("fold")["p_hemorrhage"].nunique() == 1).all()


def test_test_labels_change_nothing_but_the_truth(data):
    known, frame = baselines.places(data.table), framed(data)
    before = baselines.predictions(frame, baselines.POSITION, known)
    other = frame.assign(y_hemorrhage=frame["y_hemorrhage"].where(frame["part"] != "test", 1 - frame["y_hemorrhage"]))
    after = baselines.predictions(other, baselines.POSITION, known)
    np.testing.assert_array_equal(before["p_hemorrhage"], after["p_hemorrhage"])
    assert (before["y_hemorrhage"] != after["y_hemorrhage"]).any()


def test_each_label_learns_from_the_slices_on_which_it_is_known(data):
    frame = framed(data)
    unknown = frame["y_hemorrhage"].where(frame.index % 3 != 0)
    said = {name: baselines.predictions(of, baselines.PREVALENCE, None) for name, of in (
        ("alone", frame.assign(y_hemorrhage=unknown)), ("beside", frame.assign(y_other=unknown)))}  # fmt: skip
    np.testing.assert_array_equal(said["alone"]["p_hemorrhage"], said["beside"]["p_other"])
    first = frame[(frame["fold"] == 0) & (frame["part"] == "train")]
    assert said["beside"]["p_hemorrhage"].iloc[0] == pytest.approx(first["y_hemorrhage"].mean())


def test_metrics_json_holds_them_with_the_paired_difference(work, data, run_step):
    simulated.predict(work, tables.read_labels(work, tables.read_dataset(work)), skill=3.0)
    result = run_step(EVALUATE, "--root", work.root, "--dataset", "toy")
    assert result.code == 0 and "the place of the slice alone" in result.out, result.err
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    position, prevalence = (content["baselines"][name] for name in (baselines.POSITION, baselines.PREVALENCE))
    assert position["n"] == content["n"] and prevalence["metrics"]["auroc"]["value"] == 0.5
    expected = content["metrics"]["auroc"]["value"] - position["metrics"]["auroc"]["value"]
    assert position["difference"]["auroc"]["value"] == pytest.approx(expected)
    low, high = position["difference"]["auroc"]["ci95"]
    assert low <= expected <= high


def test_a_comparison_says_whether_the_place_is_beaten_and_what_networks_started_from(work, data, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    simulated.predict(work, tables.read_labels(work, tables.read_dataset(work)), skill=3.0)
    path = work.task(1) / "e" / "fold0" / "model.json"
    origin = {"name": "net", "source": "package p 1.0", "licence": "MIT", "sha256": "0123456789ab"}
    files.write_json(path, files.read_json(path) | {"initial_weights": origin})
    files.write_json(path.with_name("01_train.run.json"), {"status": "ok"})
    words = ("--root", work.root, "--dataset", "toy")
    assert run_step(EVALUATE, *words).code == 0 and run_step("task1_classification/03_compare.py", *words).code == 0
    lines = (work.task(1) / "comparison" / "comparison.md").read_text().splitlines()
    assert lines[-1] == "* e started from net (package p 1.0, MIT, sha256 01234567)"
    assert lines[-2].startswith("* e does not beat the place of the slice alone (auroc 1.000): difference -0.0")


def test_without_slice_numbers_there_is_no_place(work, data, run_step):
    frame = tables.read_labels(work, tables.read_dataset(work)).assign(slice=pd.NA)
    tables.write_labels(work, frame, tables.read_dataset(work))
    simulated.predict(work, frame)
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy").code == 0
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    assert content["baselines"]["position"] == {
        "what": baselines.WORDS["position"],
        "metrics": None,
        "reason": baselines.NO_NUMBERS,
    }


def test_the_number_of_a_single_image_is_no_place_in_a_scan():
    """The numbers of X-rays came from their files' names, and told the classes apart with an AUROC of 0.998."""
    table = pd.DataFrame(
        {"image_id": list("abcd"), "patient": ["p", "q", "r", "r"], "slice": pd.array([1, 900, 2, 3], dtype="Int64")}
    )
    assert baselines.places(table) is None
    assert baselines.places(table.assign(patient=["p", "p", "r", "r"])) is not None
