"""From values of cases to numbers: means, boxes hit, intervals over patients, differences, correct calls with heat elsewhere."""

import numpy as np
import pandas as pd
import pytest

from hemoct.evaluation import bootstrap, metrics
from hemoct.explain import score
from hemoct.explain.score import Source

ONE = [[2.0, 2, 6, 6, 1.0, 0]]
NONE = np.zeros((0, 6))


def source(name: str = "model", boxes: list | None = None, **values: list[float]) -> Source:
    """Four cases of two patients, whose one box each is 2, 2, 6, 6."""
    table = pd.DataFrame({"image_id": list("abcd"), "patient": list("1122"), "fold": 0, "part": "test", "label": "x"})
    known = {key: [1.0, 1, 1, 1] for key in score.MEANS} | values
    truth = [np.array([[2.0, 2, 6, 6]])] * 4
    return Source(name, table, pd.DataFrame(known), [np.array(each) for each in boxes or [ONE] * 4], truth)


def weights(one: Source) -> np.ndarray:
    return bootstrap.weights(one.table["patient"].to_numpy(), one.table["fold"].to_numpy(), 200, 1)


def test_means_leave_out_what_is_undefined():
    one = source(pointing=[1, 0, 0, 0], heat_mask=[0.5, np.nan, np.nan, 0.1], heat_head=[np.nan] * 4)
    value = one.measure(metrics.ones(4))
    assert value["pointing"] == 0.25 and value["heat_mask"] == pytest.approx(0.3) and np.isnan(value["heat_head"])
    made = score.block(one.measure, one.table, weights(one), 1)
    assert made["heat_head"] == {"value": None, "ci95": None, "reason": "no head was found"}
    assert made["pointing"]["ci95"] == [0, 0.5], "patients are drawn: both twice the one, or twice the other"


def test_boxes_hit_and_false_positives_at_each_iou():
    quarter = [[2.0, 2, 4, 4, 1.0, 0]]  # IoU 4 / 16
    two = [[2.0, 2, 6, 5, 1.0, 0], [8.0, 8, 9, 9, 0.5, 0]]  # IoU 12 / 16, and one elsewhere
    value = source(boxes=[ONE[0:1], quarter, two, NONE]).measure(metrics.ones(4))
    assert [value[f"localisation_{iou:g}"][0] for iou in score.IOUS] == [0.75, 0.75, 0.5, 0.5]
    assert [value[f"false_positives_{iou:g}"][0] for iou in score.IOUS] == [0.25, 0.25, 0.5, 0.5]


def test_a_difference_is_paired_by_case():
    better, worse = source(pointing=[1, 1, 1, 0]), source("centre", pointing=[1, 0, 1, 0])
    made = score.block(score.difference(better, worse), better.table, weights(better), 1)
    assert made["pointing"]["value"] == 0.25 and made["pointing"]["ci95"] == [0, 0.5] and made["heat_box"]["value"] == 0


def test_a_correct_call_with_its_heat_elsewhere_comes_first():
    table = pd.DataFrame({"image_id": list("abcd"), "patient": list("1122"), "fold": 0, "label": "x", "p": 0.9, "threshold": 0.5,
                          "kind": ["true positive"] * 3 + ["false positive"]})  # fmt: skip
    values = pd.DataFrame({"heat_head": [0.9, 0.8, 0.2, 0.1], "heat_box": [0.5, 0.1, 0.0, np.nan], "peak_head": [1, 1, 0, 0],
                           "pointing": [1, 0, 0, np.nan], "black": [0.0, 0, 0, 0]})  # fmt: skip
    frame = score.wrong_reason(table, values)
    assert list(frame["image_id"]) == list("cba") and list(frame["outside_head"]) == [1, 0, 0]
    told = score.outside(frame, bootstrap.weights(frame["patient"].to_numpy(), frame["fold"].to_numpy(), 50, 1), 1)
    assert told["true_positives"] == 3 and told["outside_head_cases"] == 1
    assert told["outside_head"]["value"] == pytest.approx(1 / 3) and told["peak_outside_boxes"]["value"] == pytest.approx(2 / 3)
