"""The answer in words: a decision with its threshold, where, how much, and what makes it doubtful."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import scans
from hemoct.scan import answer
from hemoct.scan.result import Boxes, Label

HERE = Path("head")


def said(scan) -> dict[str, answer.Line]:
    return {line.asked: line for line in answer.lines(scan)}


def test_a_scan_with_bleeding():
    lines = said(scans.scan(HERE))
    assert lines["hemorrhage"].said == "yes, on 2 of 6 slices" and lines["hemorrhage"].kind == answer.YES
    assert "0.90, on slice 3 of 6" in lines["hemorrhage"].more and "0.50 up (mean of 2 folds)" in lines["hemorrhage"].more
    assert lines["Where"].said == "slices 3-4, left"
    assert (
        lines["Perihematomal edema"].said == "16 px, spacing unknown" and lines["Bleeding core"].said == "8 px, spacing unknown"
    )
    assert lines["Types"].said == "IPH (2 slices, up to 0.60)"


def test_spacing_makes_ml():
    source = scans.source(HERE, spacing=(10.0, 10.0, 5.0), stands_for=np.full(6, 5.0))
    assert said(scans.scan(HERE, source=source))["Perihematomal edema"].said == "8.0 ml"


def test_masks_are_called_what_they_outline():
    bleeding = replace(scans.scan(HERE).masks, means="lesion")
    lines = said(scans.scan(HERE, masks=bleeding))
    assert lines["Lesion"].said == "16 px, spacing unknown" and not any("dema" in name for name in lines)


def test_nothing_is_called_and_nothing_is_promised():
    label = Label(1, "hemorrhage", np.full(6, 0.2), 0.5, "given")
    none = Boxes([np.zeros((0, 6))] * 6, ["lesion"], 0.3, "given")
    scan = scans.scan(HERE, bleeding=label, boxes=none)
    assert said(scan)["hemorrhage"].said == "no slice is called" and said(scan)["Where"].said == "nowhere"
    assert "the models disagree: no slice is called, but there are perihematomal edema" in answer.notes(scan)


@pytest.mark.parametrize(("nose", "side"), [("up", "left"), ("down", "right"), ("unknown", None)])
def test_left_and_right_are_those_of_a_nose_that_points_up(nose, side):
    scan = scans.scan(HERE, source=scans.source(HERE, orientation=nose))
    assert said(scan)["Where"].said == ("slices 3-4" if side is None else f"slices 3-4, {side}")
    assert any("orientation" in note for note in answer.notes(scan)) == (side is None)


def test_boxes_on_both_sides_and_across():
    both = np.array([[4.0, 18, 10, 26, 0.9, 0], [20, 18, 26, 26, 0.8, 0]])
    across = np.array([[10.0, 18, 22, 26, 0.9, 0]])
    for boxes, side in ((both, "on both sides"), (across, "in the middle")):
        found = Boxes([boxes] + [np.zeros((0, 6))] * 5, ["lesion"], 0.3, "given")
        assert said(scans.scan(HERE, boxes=found))["Where"].said == f"slices 3-4, {side}"


def test_slices_of_training_are_told():
    assert "2 of 6 slices were in training" in answer.notes(scans.scan(HERE, seen=np.arange(6) < 2))[0]


@pytest.mark.parametrize(("rows", "words"), [([], ""), ([0], "1"), ([1, 2, 3, 7], "2-4, 8")])
def test_numbers_of_slices(rows, words):
    assert answer.slices(np.array(rows, int)) == words


@pytest.mark.parametrize(
    ("across", "nose", "patient"),
    [
        ((-1, 0), "up", "right"),
        ((1, 0), "up", "left"),
        ((1, 0), "down", "right"),
        ((0, -1), "left", "left"),
        ((0, 1), "left", "right"),
    ],
)
def test_whose_left_it_is_is_said_by_the_header(across, nose, patient):
    affine = np.eye(4)
    affine[0, :2] = across  # how far columns and rows lead to the patient's right
    scan = scans.scan(HERE, source=scans.source(HERE, orientation=nose, affine=affine))
    assert f"by the header its left is the patient's {patient}" in said(scan)["Where"].more
    assert "in radiology its left is the patient's right" in said(scans.scan(HERE))["Where"].more
