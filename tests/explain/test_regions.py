"""What a map says of an image, by hand: where it points, its regions, shares of heat, Dice, the head, the threshold."""

import numpy as np
import pytest

from hemoct.explain import regions
from hemoct.explain.regions import Truth

SIDE = 10
HEAD = np.ones((SIDE, SIDE), bool)
BOX = np.array([[2.0, 2.0, 5.0, 6.0]])  # columns 2 to 4, rows 2 to 5


def heat(**values: float) -> np.ndarray:
    """A map with the value of each `rROWcCOLUMN`."""
    made = np.zeros((SIDE, SIDE), np.float32)
    for place, value in values.items():
        row, column = place[1:].split("c")
        made[int(row), int(column)] = value
    return made


def test_shares_pointing_and_dice_by_hand():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[3, 3] = mask[3, 4] = True
    head = HEAD.copy()
    head[9] = False
    shown = regions.of_heat(heat(r3c3=1.0, r3c4=0.6, r8c8=0.3, r9c0=0.1), threshold=0.5)
    said = regions.measure(shown, Truth(BOX, mask, head))
    assert shown.peak == (3.5, 3.5) and said["pointing"] == 1 and said["peak_head"] == 1 and said["black"] == 0
    assert said["heat_box"] == pytest.approx(1.6 / 2.0) and said["heat_mask"] == pytest.approx(0.8)
    assert said["heat_head"] == pytest.approx(1.9 / 2.0)
    assert said["dice_box"] == pytest.approx(2 * 2 / (2 + 12)) and said["dice_mask"] == 1.0
    assert shown.boxes.tolist() == [[3, 3, 5, 4, 1, 0]], "0.3 and 0.1 do not reach the threshold"


def test_regions_are_connected_parts_without_specks_the_strongest_first():
    shown = regions.of_heat(heat(r1c1=0.9, r5c5=1.0, r5c6=1.0, r8c1=0.15), threshold=0.1)
    assert shown.boxes[:, :5] == pytest.approx(np.array([[5, 5, 7, 6, 1.0], [1, 1, 2, 2, 0.9]]))
    assert shown.region.sum() == 3, "0.15 of 2.0 is less than a tenth of the strongest region"


def test_a_black_map_points_nowhere_and_has_no_shares():
    said = regions.measure(regions.of_heat(np.zeros((SIDE, SIDE), np.float32), 0.5), Truth(BOX, None, HEAD))
    assert said["pointing"] == 0 and said["black"] == 1 and said["dice_box"] == 0
    assert np.isnan([said[name] for name in ("heat_box", "heat_head", "heat_mask", "dice_mask", "peak_head")]).all()


def test_without_a_box_nothing_is_said_of_boxes():
    said = regions.measure(regions.of_heat(heat(r3c3=1.0), 0.5), Truth(np.zeros((0, 4)), np.zeros((SIDE, SIDE), bool), HEAD))
    assert np.isnan([said[name] for name in ("pointing", "heat_box", "dice_box", "heat_mask", "dice_mask")]).all()
    assert said["heat_head"] == 1


def test_a_detector_points_at_the_middle_of_its_best_box():
    found = np.array([[2.0, 2.0, 5.0, 6.0, 0.8, 0], [8.0, 8.0, 10.0, 10.0, 0.2, 0]])
    said = regions.measure(regions.of_boxes(found, SIDE, threshold=0.5), Truth(BOX, None, HEAD))
    assert said["pointing"] == 1 and said["dice_box"] == 1
    assert said["heat_box"] == pytest.approx(12 * 0.8 / (12 * 0.8 + 4 * 0.2))
    nothing = regions.of_boxes(np.zeros((0, 6)), SIDE, 0.5)
    assert nothing.peak is None and not nothing.region.any()
    assert regions.is_at((10.0, 10.0), HEAD) == 1, "a box at the edge has its middle there at most"


def test_a_map_is_enlarged_with_its_maximum_in_place():
    large = regions.enlarge(np.array([[0, 0], [0, 3.0]], np.float32), 8)
    assert large.shape == (8, 8) and large.max() == 1 and large[7, 7] == 1 and large[0, 0] == 0
    assert not regions.enlarge(np.zeros((2, 2), np.float32), 8).any()


def test_a_gaussian_lies_in_the_middle_of_the_head():
    y, x = np.ogrid[:64, :64]
    away = np.hypot(y - 30, x - 36)
    grey = np.where(away < 20, 90, 0) + np.where((away >= 18) & (away < 20), 150, 0)
    grey[60:62, 4:60] = 240  # the head holder
    head = regions.head(grey.astype(np.uint8))
    assert (head == (away < 20)).mean() > 0.98 and not regions.head(np.zeros((20, 20), np.uint8)).any()
    assert np.unravel_index(regions.centre(head).argmax(), head.shape) == (30, 36)


def test_the_threshold_is_that_of_the_highest_mean_dice():
    filled = np.full((SIDE, SIDE), 0.42, np.float32)
    filled[2:6, 2:5] = 1.0
    limit, dice = regions.best_threshold([filled], [Truth(BOX, None, HEAD)])
    assert limit == pytest.approx(0.45) and dice == 1, "the lowest of those that are alike"
