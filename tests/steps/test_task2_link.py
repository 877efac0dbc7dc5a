"""07_link_slices.py and 08_compare.py on simulated boxes: an experiment like any other, compared with its source."""

import pandas as pd
import pytest

from helpers import quick, simulated_boxes, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.detection import lesions, predictions

LINK, EVALUATE, COMPARE = (f"task2_detection/{name}.py" for name in ("07_link_slices", "04_evaluate", "08_compare"))


@pytest.fixture
def step(work, run_step, monkeypatch):
    quick.linking(monkeypatch)
    toy.make(work, patients=10, slices=6, size=48, boxes=True)
    simulated_boxes.predict(work)
    return lambda name, *words: run_step(name, "--root", work.root, "--dataset", "toy", *words)


def test_linked_boxes_are_an_experiment_that_is_evaluated_and_compared(work, step):
    result = step(LINK, "--experiment", "e")
    assert result.code == 0 and "--experiment e-linked" in result.out, result.err
    folder = work.task(2) / "e-linked" / "fold2"
    assert {path.name for path in folder.iterdir()} == {*predictions.NEEDED, "07_link_slices.run.json"}
    linked = files.read_json(folder / "model.json")["linked"]
    assert (linked["experiment"], linked["chosen"]) == ("e", "mAP50:95 on val") and set(linked) > set(lesions.SHARES)
    for name in predictions.NEEDED[1:]:
        old, new = (tables.read_csv(work.task(2) / one / "fold2" / name, predictions.COLUMNS) for one in ("e", "e-linked"))
        assert list(old["image_id"]) == list(new["image_id"]) and list(old["part"]) == list(new["part"])
    assert step(EVALUATE).code == 0
    result = step(COMPARE, "e", "e-linked")
    assert result.code == 0, result.err
    table = pd.read_csv(work.task(2) / "comparison" / "comparison.csv").set_index(["experiment", "metric"])
    values = {name: files.read_json(work.task(2) / name / "metrics.json")["metrics"] for name in ("e", "e-linked")}
    for metric in ("map50", "box_f1", "f1"):
        difference = values["e-linked"][metric]["value"] - values["e"][metric]["value"]
        assert table.loc[("e-linked", metric), "difference"] == pytest.approx(difference)
    assert step(LINK, "--experiment", "e", "--skip-if-done").out.count("up to date") == 5


def test_without_an_order_of_slices_or_in_the_place_of_a_detector_it_stops(work, step):
    labels = tables.read_labels(work, tables.read_dataset(work))
    tables.write_labels(work, labels.assign(slice=pd.NA), tables.read_dataset(work))
    assert refused(step(LINK, "--experiment", "e"), "labels.csv", "no two slices", "column slice")
    assert not (work.task(2) / "e-linked").exists()
    (work.task(2) / "e" / "fold0" / "best.pt").touch()
    assert refused(step(LINK, "--experiment", "e", "--name", "e"), "holds a trained detector", "--name")
