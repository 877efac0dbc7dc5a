"""Turned and cut there and back: pixels, masks and boxes go the same way."""

import numpy as np
import pytest

from hemoct.prepare.geometry import Geometry


def random_geometry(random):
    width, height = random.integers(5, 41, 2).tolist()
    turns = int(random.integers(4))
    (left, right), (top, bottom) = (np.sort(random.choice(side + 1, 2, replace=False)).tolist()
                                    for side in Geometry(width, height, turns).turned_size)  # fmt: skip
    return Geometry(width, height, turns, (left, top, right, bottom) if random.random() < 0.7 else None)


def extent(mask):
    rows, columns = np.nonzero(mask)
    return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])


@pytest.mark.parametrize("seed", range(100))
def test_boxes_and_masks_move_along_and_come_back(seed):
    random = np.random.default_rng(seed)
    geometry = random_geometry(random)
    xmin, ymin, xmax, ymax = geometry.box
    (left, right), (top, bottom) = (np.sort(random.choice(np.arange(low, high + 1), 2, replace=False))
                                    for low, high in ((xmin, xmax), (ymin, ymax)))  # fmt: skip
    inside = np.array([[left - xmin, top - ymin, right - xmin, bottom - ymin]], dtype=float)
    box = geometry.boxes_back(inside)
    mask = np.zeros((geometry.height, geometry.width), np.uint8)
    x0, y0, x1, y1 = box[0].astype(int)
    mask[y0:y1, x0:x1] = 255
    seen = geometry.image(mask)
    assert seen.shape == geometry.size[::-1]
    np.testing.assert_allclose(extent(seen), inside, atol=0.5)
    np.testing.assert_allclose(geometry.boxes(box), inside)
    assert (geometry.image_back(seen) == mask).all(), "all of the mask was left, so all of it comes back"


def test_confidence_and_class_stay_with_their_box():
    box = np.array([[1, 2, 5, 4, 0.7, 3]])
    turned = Geometry(10, 6, 1).boxes(box)
    np.testing.assert_allclose(turned, [[2, 5, 4, 9, 0.7, 3]])
    np.testing.assert_allclose(Geometry(10, 6, 1).boxes_back(turned), box)
    assert Geometry(10, 6, 1).boxes(np.zeros((0, 6))).shape == (0, 6)


@pytest.mark.parametrize("turns", range(4))
def test_planes_are_turned_alike(turns):
    planes = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    geometry = Geometry(5, 3, turns)
    assert (geometry.image(planes)[1] == np.rot90(planes[1], turns)).all()
    assert (geometry.image_back(geometry.image(planes)) == planes).all()
