"""What is hard for a detector: grey values, types of errors and recall by quarter, worked by hand."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import simulated_boxes, toy
from hemoct.base import experiments, tables
from hemoct.detection import data as detection_data, errors, evaluate, predictions
from hemoct.detection.predictions import COLUMNS, CORNERS
from hemoct.evaluation import bootstrap, thresholds
from hemoct.evaluation.subjects import Subject


def test_contrast_by_hand():
    """Box of 10 x 10 in grey 100: ten pixels at 180, ninety at 110; the ring (4 px) is 100 but for bone and air."""
    grey = np.full((40, 40), 100, dtype=np.uint8)
    grey[10:20, 10:20] = 110
    grey[10, 10:20] = 180
    grey[8, :] = 255
    grey[21, :] = 0
    assert errors.contrast(grey, np.array([10, 10, 20, 20.0])) == pytest.approx(180 - 100)
    grey[9, 10:20] = 200  # a brighter part of the ring: 10 of its tissue pixels. 18 x 18 - 100, less a row of bone and one of air
    ring = 18 * 18 - 100 - 2 * 18
    assert errors.contrast(grey, np.array([10, 10, 20, 20.0])) == pytest.approx(180 - (100 * (ring - 10) + 2000) / ring)
    assert np.isnan(errors.contrast(np.zeros((40, 40), dtype=np.uint8), np.array([10, 10, 20, 20.0])))
    assert np.isnan(errors.contrast(grey, np.array([50, 50, 60, 60.0]))), "outside of the image"


def test_dense_share_and_midline_by_hand():
    grey = np.zeros((100, 50), dtype=np.uint8)
    grey[20:60] = 100  # tissue in rows 20 to 59, its middle 40
    grey[30:32, 10:20] = 255
    assert errors.dense_share(grey, np.array([10, 30, 20, 40.0])) == pytest.approx(0.2)
    assert errors.dense_share(grey, np.array([10.2, 30.3, 10.4, 30.4])) == 0, "no pixel"
    corners = np.array([[10, 65, 20, 75.0], [0, 35, 50, 45.0]])
    middle = (np.arange(20, 60) + 0.5).sum() * 50 - 10 * (30.5 + 31.5)
    middle /= 40 * 50 - 20
    assert errors.midline_offset(grey, corners, "vertical") == pytest.approx(np.abs([70 - middle, 40 - middle]) / 100)
    along = errors.midline_offset(grey, corners, "horizontal")
    across = (2000 * 25 - 20 * 15) / 1980
    assert along == pytest.approx(np.abs([15 - across, 25 - across]) / 50)
    assert np.isnan(errors.midline_offset(np.zeros_like(grey), corners, "vertical")).all()


def test_quarters():
    assert errors.quarters(pd.Series([4.0, 1, 3, 2, np.nan])).tolist() == [4, 1, 3, 2, 0]
    assert 1 not in errors.quarters(pd.Series([5.0] * 8)), "of equal values none is low"
    assert errors.quarters(pd.Series([], dtype=float)).tolist() == []


def test_types_by_hand(tmp_path):
    """One patient, threshold 0.5. Slices 1 to 3 have a lesion of 40 x 40, slice 6 a small one, slices 4, 5 and 8 none."""
    lesion, small = (100.0, 100.0, 140.0, 140.0), (30.0, 30.0, 36.0, 36.0)
    shifted = (120.0, 100.0, 160.0, 140.0)  # IoU 20 * 40 / (2 * 1600 - 800) = 1/3
    true = {1: lesion, 2: lesion, 3: lesion, 6: small}
    found = {
        1: [(0.9, lesion), (0.8, (101.0, 100.0, 140.0, 140.0))],  # a hit and its duplicate
        2: [(0.9, shifted)],  # the lesion is localised badly, the box overlaps badly
        3: [(0.4, lesion)],  # below the threshold: missed in the last slice
        4: [(0.7, lesion)],  # the lesion of the slice before
        5: [(0.6, (10.0, 150.0, 40.0, 180.0)), (0.55, (60.0, 84.0, 80.0, 100.0))],  # on bone; on the midline
        8: [(0.9, (10.0, 10.0, 20.0, 20.0))],  # nothing known
    }
    rows, boxes = [], []
    for number in range(1, 9):
        grey = np.full((200, 200), 90, dtype=np.uint8)
        grey[150:, :50] = 255
        if number in true:
            left, top, right, bottom = map(int, true[number])
            grey[top:bottom, left:right] = 150 if number != 3 else 100
            boxes.append({"image_id": f"s{number}", "class": "a", **dict(zip(CORNERS, true[number], strict=True))})
        Image.fromarray(grey).save(tmp_path / f"s{number}.png")
        about = {"image_id": f"s{number}", "patient": "p", "fold": 0, "part": "test", "class": "a"}
        rows += [about | {"confidence": sure, **dict(zip(CORNERS, box, strict=True))} for sure, box in found.get(number, [])] or [
            about | {"class": ""}
        ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    slices = pd.DataFrame({"image_id": [f"s{n}" for n in range(1, 9)], "slice": pd.array(range(1, 9), dtype="Int64")})
    data = simulated_boxes.box_data(slices)
    rules = [thresholds.Rule(0, {thresholds.MAX_F1: 0.5}, "told", None, "none")]
    result = evaluate.evaluate(frame.drop(columns=["fold"]).assign(fold="mean"), data, pd.DataFrame(boxes), rules)
    missed, false = errors.true_and_false(result)
    assert missed["found"].tolist() == [True, False, False, False]
    errors.look(missed, false, [tmp_path / f"s{number}.png" for number in range(1, 9)], "vertical")
    table = errors.errors(missed, false).set_index(["kind", "image_id"])
    held = table["flags"].groupby(level=[0, 1]).agg("; ".join)
    assert held["missed", "s2"] == "localised badly"
    assert held["missed", "s3"] == "faint; first or last slice", "150 against 90 elsewhere, 100 in slice 3"
    assert held["missed", "s6"] == "small; first or last slice" and table["type"]["missed", "s6"] == "small"
    types = table["type"]["false alarm"].groupby(level=0).agg(list)
    assert types.to_dict() == {
        "s1": ["duplicate"], "s2": ["overlaps a lesion badly"], "s4": ["neighbouring slice"],
        "s5": ["dense structure", "midline"], "s8": ["other"],
    }  # fmt: skip
    assert "neighbouring slice" in held["false alarm", "s2"], "the lesion of slices 1 and 3 too"
    counted = errors.counts(table.reset_index()).set_index(["kind", "type"])
    assert counted.loc[("missed", "first or last slice"), ["boxes", "holds_for"]].tolist() == [0, 2]
    worst = errors.hardest(table.reset_index(), 2)
    assert worst["image_id"].tolist() == ["s2", "s6", "s2", "s8"], "never met: the larger first; then by confidence"


def test_recall_by_quarter_follows_the_patients(work, monkeypatch):
    toy.make(work, patients=15, slices=6, size=48, boxes=True)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    simulated_boxes.predict(work)
    data = detection_data.load(work)
    table, _ = predictions.read_folds(
        Subject(2, "e", work, work, experiments.folds(work.task(2) / "e", "predictions.csv"), None), data
    )
    evaluation = evaluate.evaluate(table, data, tables.read_boxes(work))
    true = errors.true_and_false(evaluation)[0].assign(contrast=np.nan)
    true["area"] = np.arange(len(true))
    rows = errors.by_quarter(evaluation, true, 42)
    areas, none = rows[rows["by"] == "area"], rows[rows["by"] == "contrast"]
    assert areas["boxes"].tolist() == [11, 11, 11, 12] and areas["found"].sum() == true["found"].sum()
    assert areas["recall"].tolist() == pytest.approx((areas["found"] / areas["boxes"]).tolist())
    assert (areas["recall_low"] <= areas["recall"]).all() and (areas["recall"] <= areas["recall_high"]).all()
    assert none["boxes"].eq(0).all() and none["recall"].isna().all()
