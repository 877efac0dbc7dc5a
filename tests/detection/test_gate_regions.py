"""Regions that a gate cuts out around predicted boxes, to the pixel."""

import numpy as np
from PIL import Image

from helpers import simulated_boxes, toy
from hemoct.base import figure as base_figure, files, tables
from hemoct.data import images, slices
from hemoct.detection import compare, gate, predictions
from hemoct.detection.gate import Regions
from hemoct.detection.options import Region
from hemoct.detection.predictions import COLUMNS, CORNERS


def test_squares_by_hand():
    nothing = [np.nan] * 4
    found = Regions(np.array([[10, 20, 20, 24], [0, 0, 2, 2], nothing, [5, 5, 10, 10]]), np.array([0.9, 0.5, 0, 0.1]))
    # 10 x 4 around (15, 22), 12 a side; 2 x 2 around (1, 1), 8 at least; nothing; 5 x 5 around (7.5, 7.5), 8 at least
    expected = [[9, 16, 21, 28], [-3, -3, 5, 5], [0, 0, 0, 0], [4, 4, 12, 12]]
    np.testing.assert_array_equal(found.squares(Region(margin=0.1, least_side=8)), expected)
    sides = np.ptp(found.squares(Region(least_side=1)).reshape(-1, 2, 2), axis=1)
    np.testing.assert_array_equal(sides, [[15, 15], [3, 3], [0, 0], [8, 8]])


def test_regions_are_cut_at_native_resolution_and_black_beyond_the_image():
    grey = np.arange(1, 7 * 11 + 1, dtype=np.uint8).reshape(7, 11)  # wider than high, no black of its own
    np.testing.assert_array_equal(gate.cut(grey, np.array([2, 1, 6, 5]), 4), grey[1:5, 2:6])
    over = gate.cut(grey, np.array([-2, 4, 3, 9]), 5)
    np.testing.assert_array_equal(over[:3, 2:], grey[4:, :3])
    assert (over[:, :2] == 0).all() and (over[3:] == 0).all()
    np.testing.assert_array_equal(gate.cut(grey, np.zeros(4, int), 11), images.resize(grey, 11))
    larger = gate.cut(grey, np.array([2, 1, 4, 3]), 8)
    assert larger[0, 0] == grey[1, 2] and larger[-1, -1] == grey[2, 3]


def test_every_slice_has_its_best_region_in_the_cache(work):
    frame = toy.make(work, size=(40, 32), boxes=True)
    simulated_boxes.predict_exactly(work)
    data = slices.load(work, None, None)
    kept, regions = gate.read(work, work.task(2) / "d" / "fold0", data)
    assert len(kept.table) == len(regions.boxes) == 40
    positive = frame.set_index("image_id")["hemorrhage"].reindex(kept.table["image_id"]).to_numpy() == 1
    assert (regions.confidence[positive] == 0.9).all() and set(regions.confidence[~positive]) == {0.0, 0.2}
    truth = tables.read_boxes(work).set_index("image_id")[CORNERS].reindex(kept.table["image_id"])
    np.testing.assert_array_equal(regions.boxes[positive], truth[positive])

    squares = regions.squares(Region(margin=0.0, least_side=16))
    pixels = gate.cached(work, kept.table, squares, 16)
    assert isinstance(pixels, np.memmap) and pixels.shape == (40, 16, 16) and pixels.dtype == np.uint8
    for row in (0, 1, 2, 39):
        grey = np.asarray(Image.open(work.raw / kept.table["image"][row]))
        expected = np.pad(grey, 16)[squares[row, 1] + 16 :, squares[row, 0] + 16 :][:16, :16] if squares[row].any() else None
        np.testing.assert_array_equal(pixels[row], images.resize(grey, 16) if expected is None else expected)
    assert pixels.filename == gate.cached(work, kept.table, squares, 16).filename
    assert pixels.filename != gate.cached(work, kept.table, squares + 1, 16).filename


def test_only_boxes_of_the_class_of_the_label_count(work):
    toy.make(work, boxes=True, classes=("disk", "hole"))
    simulated_boxes.predict_exactly(work)
    folder = work.task(2) / "d" / "fold0"
    files.write_json(folder / "model.json", files.read_json(folder / "model.json") | {"classes": ["disk", "hemorrhage"]})
    for name in predictions.NEEDED[1:]:
        frame = tables.read_csv(folder / name, COLUMNS)
        frame.loc[frame["confidence"] == 0.3, "class"] = "hemorrhage"
        tables.write_csv(folder / name, frame)
    _, regions = gate.read(work, folder, slices.load(work, None, None))
    assert set(regions.confidence) == {0.0, 0.3}


def test_the_figure_shows_the_region_and_black_beyond_the_slice():
    figure, axes = base_figure.figure(2, 1, width=2, height=2)
    for axis in axes:
        axis.axis("off")
    compare._pair(axes, np.full((20, 20), 200, np.uint8), np.array([-10, 0, 10, 20]), np.zeros((0, 4)))
    assert axes[0].patches[0].get_xy() == (-10.5, -0.5), "the edge of the first pixel, not its middle"
    figure.canvas.draw()
    shown = np.asarray(figure.canvas.buffer_rgba())[..., 0]
    edges = axes[1].get_window_extent()
    rows = shown[len(shown) - int(edges.y1) + 3 : len(shown) - int(edges.y0) - 3]
    left, middle, right = (int(edges.x0 + part * edges.width) for part in (0.03, 0.5, 0.97))
    assert (rows[:, left : middle - 2] == 0).all() and (rows[:, middle + 2 : right] == 200).all()
