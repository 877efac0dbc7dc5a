"""06_estimate_hematoma.py on bright disks: cores of their size in predicted boxes, patients add up, wrong input in one line."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import quick, simulated_boxes, trained
from helpers.refusals import refused
from hemoct.base import files, tables

STEP = "task3_segmentation/06_estimate_hematoma.py"


@pytest.fixture
def estimate(work, run_step, monkeypatch):
    """Evaluated maps, and boxes of a detector in which the disks are looked for."""
    trained.evaluated_disks(work)
    simulated_boxes.predict(work, "d", sensitivity=1.0, alarms=0.0)
    quick.evaluations(monkeypatch)
    words = ("--root", work.root, "--dataset", "toy")
    rules = [{"fold": fold, "threshold": 0.3} for fold in range(5)]
    files.write_json(work.task(2) / "d" / "metrics.json", {"folds": rules})
    return lambda *more: run_step(STEP, *words, "--experiment", "e", "--boxes", "d", *more)


def test_cores_have_the_size_of_the_disks_and_patients_add_up(work, estimate):
    result = estimate()
    assert result.code == 0 and "unvalidated" in result.out
    folder = work.task(3) / "e" / "hematoma"
    assert {path.name for path in folder.iterdir()} == {
        "hematoma_lesions.csv", "hematoma_patients.csv", "core_and_abc2.png", "core_and_edema.png",
        "06_estimate_hematoma.run.json",
    }  # fmt: skip
    lesions = tables.read_csv(folder / "hematoma_lesions.csv", ["patient", "core_volume", "slices", "note"])
    disk = np.pi * 8**2  # of radius 8
    seen = lesions[lesions["core_volume"].notna()]
    assert len(seen) > 20 and (lesions["note"] == "unvalidated estimate").all()
    assert (seen["core_volume"] / seen["core_slices"]).between(0.7 * disk, 1.3 * disk).mean() > 0.9
    patients = tables.read_csv(folder / "hematoma_patients.csv", ["patient", "core_volume", "predicted_edema", "edema_to_core"])
    sums = lesions.groupby("patient")["core_volume"].sum()
    assert np.allclose(patients.set_index("patient")["core_volume"].reindex(sums.index), sums)
    assert np.allclose(patients["edema_to_core"], patients["predicted_edema"] / patients["core_volume"])
    found = tables.read_predictions(work.task(2) / "d" / "fold0")
    assert (found["confidence"] < 0.3).any(), "some boxes lie below the threshold, and are not counted"


def test_only_boxes_from_the_threshold_up_count(work, estimate):
    files.write_json(work.task(2) / "d" / "metrics.json", {"folds": [{"fold": fold, "threshold": 0.9} for fold in range(5)]})
    assert estimate().code == 0
    strict = pd.read_csv(work.task(3) / "e/hematoma/hematoma_lesions.csv")
    files.write_json(work.task(2) / "d" / "metrics.json", {"folds": [{"fold": fold, "threshold": 0.1} for fold in range(5)]})
    assert estimate().code == 0
    assert len(pd.read_csv(work.task(3) / "e/hematoma/hematoma_lesions.csv")) > len(strict) > 0


def test_a_map_that_is_gone_stops_in_one_line(work, estimate):
    for path in (work.task(3) / "e").glob("fold*/probability/*.png"):
        path.unlink()
    result = estimate()
    assert result.code == 2 and result.err.count("\n") == 1 and "02_train.py" in result.err, result.err


def test_without_known_patients_nothing_is_added_up(work, estimate):
    tables.write_dataset(work, replace(tables.read_dataset(work), patient_source=tables.NO_PATIENTS))
    result = estimate()
    assert result.code == 0 and "no patient of toy is known" in result.out, result.err
    assert not (work.task(3) / "e" / "hematoma").exists()


def test_what_is_missing_stops_in_one_line(work, estimate):
    result = estimate("--boxes", "nowhere")
    assert result.code == 2 and result.err.count("\n") == 1 and "nowhere" in result.err
    files.write_json(work.task(2) / "d" / "metrics.json", {"folds": [{"fold": 0, "threshold": 0.3}]})
    result = estimate()
    assert result.code == 2 and "fold 1, 2, 3, 4" in result.err
    (work.task(2) / "d" / "metrics.json").unlink()
    assert "04_evaluate.py" in estimate().err
    result = estimate("--experiment", "nothing")
    assert result.code == 2 and "03_evaluate.py" in result.err
    assert not (work.task(3) / "e" / "hematoma").exists()


def test_an_edema_of_another_protocol_than_the_boxes_stops(work, estimate):
    place = work.task(3) / "e" / "metrics.json"
    files.write_json(place, files.read_json(place) | {"protocol": "slice"})
    assert refused(estimate(), "--boxes d", "patient", "slice")
    assert not (work.task(3) / "e" / "hematoma").exists()
