"""Thresholds, decisions and metrics of predicted boxes, worked by hand."""

import numpy as np
import pandas as pd
import pytest

from helpers import simulated_boxes
from hemoct.base import tables
from hemoct.classification import tables as classification_tables
from hemoct.detection import evaluate, figures
from hemoct.detection.predictions import COLUMNS, CORNERS
from hemoct.evaluation import metrics


def by_hand(fold: int, part: str, slices: list[tuple[bool, list[float]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and true boxes of slices: (whether it has the true box 10, 10, 30, 30; confidences of equal boxes there)."""
    rows, true = [], []
    for number, (positive, confidences) in enumerate(slices):
        about = {"image_id": f"{fold}{part}{number}", "patient": f"{fold}{part}{number // 2}", "fold": fold, "part": part}
        box = dict(zip(CORNERS, (10.0, 10.0, 30.0, 30.0), strict=True))
        rows += [about | {"class": "a", "confidence": sure} | box for sure in confidences] or [about | {"class": ""}]
        true += [{"image_id": about["image_id"], "class": "a"} | box] * positive
    return pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(true, columns=tables.BOX_COLUMNS)


def evaluated(*parts: tuple[pd.DataFrame, pd.DataFrame]) -> evaluate.BoxEvaluation:
    frame, true = (pd.concat(of_kind, ignore_index=True) for of_kind in zip(*parts, strict=True))
    table = pd.DataFrame({"image_id": frame["image_id"].unique()}).assign(slice=range(frame["image_id"].nunique()))
    data = simulated_boxes.box_data(table.astype({"slice": "Int64"}))
    return evaluate.evaluate(frame, data, true)


def test_thresholds_come_from_validation_and_hold_for_slices_and_boxes():
    """Fold 0: validation parts at (0.8 + 0.4) / 2 = 0.6; fold 1: at (0.3 + 0) / 2 = 0.15. On test a second box is a false one."""
    evaluation = evaluated(
        by_hand(0, "val", [(True, [0.9]), (True, [0.8]), (False, [0.4]), (False, [])]),
        by_hand(0, "test", [(True, [0.7, 0.65]), (True, [0.5]), (False, [0.61]), (False, [0.59])]),
        by_hand(1, "val", [(True, [0.3]), (False, [])]),
        by_hand(1, "test", [(True, [0.2]), (True, []), (False, [0.1])]),
    )
    assert [rule.points["max F1"] for rule in evaluation.slices.rules] == pytest.approx([0.6, 0.15])
    assert evaluation.slices.decision.tolist() == [1, 0, 1, 0, 1, 0, 0]
    values, levels = evaluate.measure(evaluation, metrics.ones(7))
    # boxes at or above: 0.7 (hit), 0.65 (second on the same), 0.61 (no lesion), 0.2 (hit); 4 true boxes
    assert values["box_precision"] == pytest.approx(2 / 4) and values["box_recall"] == pytest.approx(2 / 4)
    assert levels["false_positives_per_image"][0] == pytest.approx([2 / 7] * 7)
    summary = classification_tables.calls(evaluation.slices)
    assert summary["classification"].tolist() == ["TP", "FN", "FP", "TN", "TP", "FN", "TN"]
    any_box = evaluation.slices.test.p >= evaluation.slices.thresholds(evaluate.ANY_BOX)
    assert any_box.tolist() == [True, True, True, True, True, False, True]


def test_threshold_free_metrics_are_means_over_folds():
    """Fold 0 ranks its hit first (AP 1), fold 1 behind a false box (AP 1/2): 3/4, whatever the confidences between folds."""
    val = [(True, [0.9]), (False, [])]
    evaluation = evaluated(
        by_hand(0, "val", val),
        by_hand(0, "test", [(True, [0.2]), (False, [0.1])]),
        by_hand(1, "val", val),
        by_hand(1, "test", [(True, [0.8]), (False, [0.9])]),
    )
    values, levels = evaluate.measure(evaluation, metrics.ones(4))
    assert values["map50"] == pytest.approx([(1 + 1 / 2) / 2], abs=1e-6)
    # fold 0 has its hit without any false box; fold 1 needs 1 false box for 2 images, allowed from 1/2 an image on
    assert levels["froc"][0] == pytest.approx([0.5, 0.5, 1, 1, 1, 1, 1])


def test_scores_of_zero_are_never_called_and_thresholds_keep_their_promise_where_they_can():
    y, score = np.array([1, 1, 1, 0]), np.array([0.0, 0.0, 0.4, 0.3])
    assert metrics.max_f1_threshold(y, score) == 0, "all four: F1 6/7"
    threshold = metrics.max_f1_threshold(y, score, above=0)
    assert threshold == pytest.approx(0.35)
    assert metrics.sensitivity_threshold(y, score, 0.9, above=0) == pytest.approx(0.15), "what no threshold reaches: the lowest"
    assert metrics.max_f1_threshold(np.array([1, 0]), np.zeros(2), above=0) > 0


def test_without_a_true_box_there_is_no_curve():
    evaluation = evaluated(by_hand(0, "val", [(True, [0.5]), (False, [])]), by_hand(0, "test", [(False, [0.5]), (False, [])]))
    assert figures.froc(evaluation, {}, "") is None and figures.box_precision_recall(evaluation, {}, "") is None
