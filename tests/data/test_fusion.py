"""Weighted box fusion by hand: every number below can be checked on paper."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

from hemoct.data import fusion

SIZE = (100, 50)


def boxes(*rows) -> np.ndarray:
    return np.array(rows, dtype=float).reshape(-1, 6)


NONE = boxes()


def test_one_model_is_left_as_it_is():
    found = boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.5, 0), (-1, 0, 3, 3, 0.1, 1))
    assert np.array_equal(fusion.fuse([found], *SIZE), found)


def test_two_equal_boxes_become_one_with_the_mean_confidence():
    found = fusion.fuse([boxes((10, 20, 30, 40, 0.9, 0)), boxes((10, 20, 30, 40, 0.5, 0))], *SIZE)
    assert found == pytest.approx(boxes((10, 20, 30, 40, 0.7, 0)), abs=1e-4)


def test_corners_are_weighted_by_confidence():
    # IoU 80 / 100; ymax = (0.9 * 10 + 0.3 * 8) / 1.2 = 9.5
    found = fusion.fuse([boxes((0, 0, 10, 10, 0.9, 0)), boxes((0, 0, 10, 8, 0.3, 0))], *SIZE)
    assert found == pytest.approx(boxes((0, 0, 10, 9.5, 0.6, 0)), abs=1e-4)


def test_a_box_counts_by_the_share_of_models_that_found_it():
    lesion, lone = (10, 10, 30, 30), (60, 10, 80, 30)
    models = [boxes((*lesion, 0.8, 0)), boxes((*lesion, 0.6, 0), (*lone, 0.9, 0)), NONE, NONE, NONE]
    found = fusion.fuse(models, *SIZE)  # (0.8 + 0.6) / 2 * 2 / 5 = 0.28 and 0.9 * 1 / 5 = 0.18
    assert found == pytest.approx(boxes((*lesion, 0.28, 0), (*lone, 0.18, 0)), abs=1e-4)


def test_classes_are_not_mixed():
    found = fusion.fuse([boxes((10, 10, 30, 30, 0.8, 0)), boxes((10, 10, 30, 30, 0.6, 2))], *SIZE)
    assert found == pytest.approx(boxes((10, 10, 30, 30, 0.4, 0), (10, 10, 30, 30, 0.3, 2)), abs=1e-4)


def test_boxes_that_overlap_little_stay_apart():
    # IoU of (0, 0, 10, 10) and (0, 0, 10, 5) is 0.5, below 0.55
    found = fusion.fuse([boxes((0, 0, 10, 10, 0.8, 0)), boxes((0, 0, 10, 5, 0.6, 0))], *SIZE)
    assert found == pytest.approx(boxes((0, 0, 10, 10, 0.4, 0), (0, 0, 10, 5, 0.3, 0)), abs=1e-4)


def test_a_model_has_one_vote_a_place():
    first = boxes((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.1, 0), (0, 0, 10, 9, 0.2, 1))  # the second lies on the first
    found = fusion.fuse([first, boxes((0, 0, 10, 10, 0.7, 0))], *SIZE)
    assert found == pytest.approx(boxes((0, 0, 10, 10, 0.8, 0), (0, 0, 10, 9, 0.1, 1)), abs=1e-4)


def test_the_order_of_the_models_does_not_matter():
    random = np.random.default_rng(0)
    models = []
    for _ in range(4):
        corner = random.uniform(0, 30, (12, 2))
        models.append(
            np.column_stack([corner, corner + random.uniform(5, 15, (12, 2)), random.uniform(0, 1, 12), np.arange(12) % 2])
        )
    once, again = fusion.fuse(models, *SIZE), fusion.fuse(models[::-1], *SIZE)
    assert len(once) > 5 and once == pytest.approx(again, abs=1e-6)
    assert (np.diff(once[:, 4]) <= 0).all()


@pytest.mark.filterwarnings("error")
def test_boxes_are_cut_at_the_image_and_faint_or_empty_ones_go():
    first = boxes((-5, -5, 20, 20, 0.5, 0), (90, 10, 120, 60, 0.4, 0), (30, 30, 30, 40, 0.9, 0), (200, 0, 300, 9, 0.9, 0))
    found = fusion.fuse([first, boxes((60, 0, 70, 9, 0.0015, 0))], *SIZE)  # 0.0015 / 2 is below the least confidence
    assert found == pytest.approx(boxes((0, 0, 20, 20, 0.25, 0), (90, 10, 100, 50, 0.2, 0)), abs=1e-4)
    assert fusion.fuse([NONE, NONE], *SIZE).shape == (0, 6)


def test_no_more_boxes_than_a_single_model_may_have():
    many = np.array([(x, 0, x + 1, 1, 0.5 + x / 1000, 0) for x in range(0, 90, 2)], dtype=float)
    found = fusion.fuse([many, NONE], *SIZE)
    assert len(found) == fusion.MOST_BOXES and found[0, 0] == pytest.approx(88)


def test_neither_torch_nor_numba_is_imported_to_fuse():
    code = "import sys, numpy; from hemoct.data.fusion import fuse; box = numpy.array([[0, 0, 9, 9, 0.5, 0]])\n"
    code += "fuse([box, box], 9, 9); sys.exit(bool({'numba', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_overlaps_is_suppressed_as_by_torchvision(dtype):
    random = np.random.default_rng(1)
    for k in (0, 1, 7, 300):
        corner = random.uniform(0, 60, (k, 2))
        corners = np.concatenate([corner, corner + random.choice([0, 5, 20.5], (k, 2))], axis=1).astype(dtype)
        confidence = random.uniform(0, 1, k).round(1).astype(dtype)  # many are equal
        theirs = torchvision.ops.nms(torch.from_numpy(corners), torch.from_numpy(confidence), 0.4).numpy()
        assert np.array_equal(fusion.suppressed(corners, confidence, 0.4), theirs)
        assert np.array_equal(fusion.suppressed(corners, confidence, 0.4, most=5), theirs[:5])
