"""Boxes stay on their lesion: through YOLO's numbers, the square of the cache, and every move of an augmentation."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from helpers.simulated_boxes import some_boxes
from hemoct.data import boxes, images
from hemoct.ingest import annotations as ingest_annotations, yolo_reader
from hemoct.training import augment
from hemoct.training.options import Strength

SIZES = [(512, 512), (64, 48), (48, 64), (333, 97), (31, 400), (17, 16)]


def extent(grey: np.ndarray, above: float) -> list[int]:
    """xmin, ymin, xmax, ymax of the pixels above a value."""
    rows, columns = np.flatnonzero((grey > above).any(axis=1)), np.flatnonzero((grey > above).any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_yolo_numbers_by_hand():
    found = boxes.to_yolo(np.array([[10, 20, 30, 60]]), width=100, height=200)
    np.testing.assert_allclose(found, [[0.20, 0.20, 0.20, 0.20]])
    assert boxes.to_yolo(np.zeros((0, 4)), 10, 10).shape == (0, 4)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_there_and_back(width, height, tmp_path):
    corners = np.unique(some_boxes(np.random.default_rng(width), 200, width, height), axis=0)
    relative = boxes.to_yolo(corners, width, height)
    (tmp_path / "a.txt").write_text("".join(f"0 {' '.join(map(repr, row))}\n" for row in relative.tolist()))
    read = yolo_reader.read_labels(tmp_path / "a.txt", {0: "a"}, width, height).boxes
    np.testing.assert_allclose([[getattr(box, name) for name in ingest_annotations.CORNERS] for box in read], corners, atol=1e-9)
    square = boxes.to_letterbox(corners, width, height, 96)
    assert square.min() >= 0 and square.max() <= 96
    np.testing.assert_allclose(boxes.from_letterbox(square, width, height, 96), corners, atol=1e-9)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(("width", "height"), SIZES[:4])
def test_a_drawn_rectangle_and_its_box_stay_together_in_the_square_of_the_cache(width, height, size):
    random = np.random.default_rng(size)
    for _ in range(20):
        xmin, ymin = random.integers(0, [width // 2, height // 2])
        xmax, ymax = xmin + width // 3, ymin + height // 3
        grey = np.zeros((height, width), np.uint8)
        grey[ymin:ymax, xmin:xmax] = 255
        box = boxes.to_letterbox(np.array([[xmin, ymin, xmax, ymax]]), width, height, size)[0]
        np.testing.assert_allclose(extent(images.resize(grey, size), above=127), box, atol=1.0)


def test_a_box_in_the_border_of_the_square_is_cut_at_the_edge_of_the_image():
    # 64 x 32 in a square of 64: 16 black rows above and below
    found = boxes.from_letterbox(np.array([[10, 0, 20, 20], [10, 0, 20, 10]]), 64, 32, 64)
    np.testing.assert_allclose(found, [[10, 0, 20, 4], [10, 0, 20, 0]])
    np.testing.assert_allclose(boxes.area(found), [40, 0])


def test_iou_is_that_of_torchvision():
    random = np.random.default_rng(3)
    first, second = some_boxes(random, 40, 50, 30), some_boxes(random, 60, 50, 30)
    np.testing.assert_allclose(boxes.iou(first, second), box_iou(torch.tensor(first), torch.tensor(second)).numpy(), atol=1e-12)
    assert boxes.iou(np.zeros((1, 4)), np.zeros((1, 4))) == 0


# --- the moves of augmentation

STILL = Strength(mirror=False, brightness=0, contrast=0)
MOVES = {
    "nothing": STILL,
    "mirror": Strength(mirror=True, brightness=0, contrast=0),
    "rotation": Strength(mirror=False, degrees=30, brightness=0, contrast=0),
    "zoom": Strength(mirror=False, scale=0.3, brightness=0, contrast=0),
    "shift": Strength(mirror=False, shift=0.15, brightness=0, contrast=0),
    "all": Strength(mirror=True, degrees=20, scale=0.2, shift=0.1, brightness=0, contrast=0),
}


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
@pytest.mark.parametrize("name", MOVES)
def test_a_drawn_rectangle_and_its_box_move_together(name, axis):
    side, corners = 96, torch.tensor([[30.0, 40.0, 62.0, 54.0]])
    batch = torch.zeros(24, 1, side, side)
    batch[..., 40:54, 30:62] = 1
    moved, moves = augment.augment(batch, MOVES[name], axis, torch.Generator().manual_seed(5))
    seen = set()
    for grey, move in zip(moved[:, 0].numpy(), moves, strict=True):
        found, kept = augment.move_boxes(corners, move, side)
        assert kept.all()
        # the corners of a turned rectangle are thin: at half the brightness up to 2 px of them are not seen
        np.testing.assert_allclose(extent(grey, above=0.3), found[0], atol=2.0)
        seen.add(tuple(found[0].round().tolist()))
    assert len(seen) == {"nothing": 1, "mirror": 2}.get(name, len(seen)) and (name == "nothing" or len(seen) > 1)


def test_a_quarter_turn_and_a_zoom_by_hand():
    corners = torch.tensor([[10.0, 20.0, 30.0, 26.0]])
    # the new slice shows at (x, y) what the old one had at (-y, x): the box is turned about the centre, 50
    turned, _ = augment.move_boxes(corners, torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]), 100)
    torch.testing.assert_close(turned, torch.tensor([[20.0, 70.0, 26.0, 90.0]]))
    half, _ = augment.move_boxes(corners, torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), 100)
    torch.testing.assert_close(half, torch.tensor([[30.0, 35.0, 40.0, 38.0]]))


def test_boxes_pushed_out_are_cut_and_dropped_below_a_share():
    # shifted 40 px to the left: of 20 px each, 10, 3 and 0 px are left
    corners = torch.tensor([[30.0, 10.0, 50.0, 20.0], [23.0, 10.0, 43.0, 20.0], [5.0, 10.0, 25.0, 20.0]])
    found, kept = augment.move_boxes(corners, torch.tensor([[1.0, 0.0, 0.8], [0.0, 1.0, 0.0]]), 100)
    torch.testing.assert_close(found[:2], torch.tensor([[0.0, 10.0, 10.0, 20.0], [0.0, 10.0, 3.0, 20.0]]))
    assert kept.tolist() == [True, False, False]
    assert augment.move_boxes(torch.zeros(0, 4), torch.eye(2, 3), 100)[1].shape == (0,)
