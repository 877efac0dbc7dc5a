"""Windows: cut and pasted in place, and which ones a network learns from."""

import numpy as np
import torch

from helpers.simulated_networks import spec_for
from hemoct.data import boxes as data_boxes
from hemoct.segmentation import train, windows
from hemoct.segmentation.windows import NO_BOXES, AroundBoxes, Boxes, WholeSlices, Windows


def test_a_window_at_native_resolution_is_the_slice_itself_and_goes_back_to_its_place():
    random = np.random.default_rng(0)
    slices = torch.as_tensor(random.random((2, 1, 40, 40)), dtype=torch.float32)
    places = data_boxes.around(np.array([[10, 12, 20, 24], [-6, 30, 6, 40]], dtype=float), 0.25, 16)
    assert places.tolist() == [[6, 9, 18], [-9, 26, 18]]
    cut = windows.cut(slices, windows.placement(torch.as_tensor(places, dtype=torch.float32), 40), 18)
    assert torch.allclose(cut[0, 0], slices[0, 0, 9:27, 6:24], atol=1e-5)
    assert torch.allclose(cut[1, 0, :14, 9:], slices[1, 0, 26:40, 0:9], atol=1e-5) and cut[1, 0, :, :9].abs().max() < 1e-5
    canvas = np.zeros((40, 40), dtype=np.float32)
    windows.paste(canvas, cut[1, 0].numpy(), places[1])
    expected = np.zeros((40, 40), dtype=np.float32)
    expected[26:, :9] = slices[1, 0, 26:, :9].numpy()
    assert np.allclose(canvas, expected, atol=1e-5)


def test_a_large_box_is_made_smaller_and_its_mask_comes_back_in_place():
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[20:44, 8:40] = 1
    places = data_boxes.around(np.array([[8.0, 20.0, 40.0, 44.0]]), 0.25, 16)
    placed = windows.placement(torch.as_tensor(places, dtype=torch.float32), 64)
    cut = windows.cut(torch.from_numpy(mask)[None, None], placed, 24)
    canvas = np.zeros((64, 64), dtype=np.float32)
    windows.paste(canvas, cut[0, 0].numpy(), places[0])
    assert ((canvas >= 0.5) == (mask >= 0.5)).all()


def test_overlapping_windows_keep_the_higher_probability():
    canvas = np.zeros((8, 8), dtype=np.float32)
    windows.paste(canvas, np.full((4, 4), 0.3, np.float32), np.array([0, 0, 4]))
    windows.paste(canvas, np.full((4, 4), 0.8, np.float32), np.array([2, 2, 4]))
    windows.paste(canvas, np.full((4, 4), 0.1, np.float32), np.array([2, 2, 4]))
    assert canvas[1, 1] == np.float32(0.3) and canvas[3, 3] == np.float32(0.8) and canvas[7, 7] == 0


def test_a_move_within_a_window_moves_slice_and_mask_alike():
    slices = torch.zeros(1, 2, 40, 40)
    slices[0, :, 10:14, 20:24] = 1
    placed = windows.placement(torch.tensor([[10.0, 4.0, 20.0]]), 40)
    mirrored = torch.tensor([[[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]])
    cut = windows.cut(slices, windows.compose(placed, mirrored), 20)
    plain = windows.cut(slices, placed, 20)
    assert torch.allclose(cut, plain.flip(2), atol=1e-6) and torch.equal(cut[:, 0], cut[:, 1])


def test_whole_slices_are_all_positives_and_another_draw_of_empty_ones():
    positive = np.array([True, False, False, False, True, False])
    source = WholeSlices(np.arange(6), positive, 32, 1.0)
    drawn = [source.draw(np.random.default_rng(seed)) for seed in range(8)]
    assert len(source) == 4 and all(len(one) == 4 and {0, 4} <= set(one.rows) for one in drawn)
    assert set(np.concatenate([one.rows for one in drawn])) == set(range(6))
    assert len(WholeSlices(np.arange(6), positive, 32, 100.0)) == 6


def test_windows_without_a_lesion_lie_at_false_alarms_and_in_empty_slices():
    corners = np.array([[10.0, 10, 30, 30], [40, 40, 60, 60]])
    true = Boxes(np.array([0, 2]), corners, np.ones(2))
    predicted = Boxes(np.array([0, 0, 1, 5]), np.array([[11.0, 11, 31, 31], [50, 5, 60, 15], [70, 70, 90, 90], [1, 1, 9, 9]]),
                  np.array([0.9, 0.5, 0.2, 0.9]))  # fmt: skip
    source = AroundBoxes(np.arange(4), true, predicted, spec_for(margin=0.1, least_side=16), negatives=4.0)
    assert source.alarms.rows.tolist() == [0, 1]  # not the one on the lesion, not that of a slice of another part
    drawn = source.draw(np.random.default_rng(0))
    assert len(drawn) == len(source) == 10 and {1, 3} <= set(drawn.rows) <= set(range(4))
    for row, place in zip(drawn.rows, drawn.places, strict=True):
        if row in (1, 3):
            continue
        low, high = place[:2], place[:2] + place[2]
        of_row = np.concatenate([corners[true.rows == row], predicted.places[[1]]])
        assert data_boxes.iou(np.array([[*low, *high]]), of_row).max() > 0.1


def test_where_every_slice_has_a_lesion_an_epoch_is_as_long_as_it_says():
    true = Boxes(np.array([0, 1]), np.array([[10.0, 10, 30, 30], [40, 40, 60, 60]]), np.ones(2))
    predicted = Boxes(np.array([0]), np.array([[70.0, 70, 90, 90]]), np.array([0.9]))
    for boxes, length in ((predicted, 3), (NO_BOXES, 2)):
        source = AroundBoxes(np.arange(2), true, boxes, spec_for(margin=0.1, least_side=16), negatives=2.0)
        assert len(source.draw(np.random.default_rng(0))) == len(source) == length


def test_windows_keep_the_order_that_pasting_needs():
    boxes = Boxes(np.array([3, 1, 3]), np.array([[0.0, 0, 9, 9], [1, 1, 5, 5], [4, 4, 8, 8]]), np.array([0.2, 0.9, 0.8]))
    around = boxes.windows(0.0, 4)
    assert around.rows.tolist() == [1, 3, 3] and around.least(0.5).confidence.tolist() == [0.9, 0.8]
    rows = [row for row, _ in train.pasted(around, np.ones((3, 4, 4), np.uint8), 16)]
    assert rows == [1, 3] and isinstance(around.of(np.array([1])), Windows)
