"""Pixel counts, thresholds, means and distances of outlines: by hand, against scikit-learn and MONAI, and against slow loops."""

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, compute_hausdorff_distance, compute_surface_dice
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from hemoct.segmentation import metrics
from hemoct.segmentation.metrics import LEVELS, Histograms


@pytest.fixture
def random():
    return np.random.default_rng(3)


def blobs(random, n: int = 6, shape: tuple[int, int] = (30, 24)) -> list[tuple[np.ndarray, np.ndarray]]:
    """(probability uint8, mask bool): a disk, and the same disk elsewhere with noise."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    pairs = []
    for _ in range(n):
        (a, b), (c, d) = random.integers(8, 16, (2, 2))
        mask = (y - a) ** 2 + (x - b) ** 2 < 36
        soft = 255 * np.exp(-((y - c) ** 2 + (x - d) ** 2) / 60) * random.uniform(0.6, 1, shape)
        pairs.append((soft.astype(np.uint8), mask))
    return pairs


# ---- counts and thresholds


def test_counts_by_hand():
    probability = np.array([[0, 100, 200], [255, 100, 0]], dtype=np.uint8)
    mask = np.array([[False, True, True], [True, False, False]])
    counted = Histograms.of([(probability, mask)])
    assert counted.at(100).tolist() == [[3, 1, 0, 2]], "a pixel at the threshold is predicted"
    assert counted.at(101).tolist() == [[2, 0, 1, 3]]
    assert counted.at(255).tolist() == [[1, 0, 2, 3]]
    assert metrics.dice(counted.at(101)).tolist() == [4 / 5]


def test_counts_of_every_threshold_are_those_of_scikit_learn(random):
    pairs = blobs(random)
    curve = Histograms.of(pairs).curve()
    assert curve.shape == (len(pairs), LEVELS, 4)
    for threshold in (0, 1, 77, 128, 254, 255):
        for row, (probability, mask) in enumerate(pairs):
            (tn, fp), (fn, tp) = confusion_matrix(mask.ravel(), (probability >= threshold).ravel(), labels=[False, True])
            assert curve[row, threshold].tolist() == [tp, fp, fn, tn]


def test_metrics_of_counts_are_those_of_scikit_learn_and_monai(random):
    for probability, mask in blobs(random):
        predicted = probability >= 100
        values = metrics.of_counts(Histograms.of([(probability, mask)]).at(100)[0])
        flat = mask.ravel(), predicted.ravel()
        expected = {
            "dice": f1_score(*flat),
            "iou": jaccard_score(*flat),
            "sensitivity": recall_score(*flat),
            "specificity": recall_score(~flat[0], ~flat[1]),
            "precision": precision_score(*flat),
        }
        assert {name: float(value) for name, value in values.items()} == pytest.approx(expected)
        of_monai = DiceMetric()(torch.tensor(predicted)[None, None], torch.tensor(mask)[None, None])
        assert float(values["dice"]) == pytest.approx(of_monai.item())


def test_what_is_undefined_is_no_number():
    both_empty, no_truth, no_prediction = [0, 0, 0, 9], [0, 4, 0, 5], [0, 0, 4, 5]
    values = metrics.of_counts(np.array([both_empty, no_truth, no_prediction, [9, 0, 0, 0]]))
    assert np.isnan(values["dice"]).tolist() == np.isnan(values["iou"]).tolist() == [True, False, False, False]
    assert values["dice"][1:].tolist() == [0, 0, 1]
    assert np.isnan(values["sensitivity"]).tolist() == [True, True, False, False]
    assert np.isnan(values["precision"]).tolist() == [True, False, True, False]
    assert np.isnan(values["specificity"]).tolist() == [False, False, False, True]


def test_best_threshold_is_that_of_a_slow_search(random):
    pairs, patients = blobs(random, 8), np.array(["a", "a", "b", "b", "b", "c", "d", "d"])
    counted = Histograms.of(pairs)

    def mean_dice(threshold: int) -> float:
        of_patients = []
        for name in "abcd":
            chosen = [pair for pair, patient in zip(pairs, patients, strict=True) if patient == name]
            predicted = np.concatenate([probability.ravel() >= threshold for probability, _ in chosen])
            true = np.concatenate([mask.ravel() for _, mask in chosen])
            of_patients.append(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))
        return float(np.mean(of_patients))

    values = [mean_dice(threshold) for threshold in range(1, 256)]
    threshold, best = metrics.best_threshold(counted, patients)
    assert best == pytest.approx(max(values)) and values[threshold - 1] == pytest.approx(max(values))
    assert metrics.dice_curve(counted, patients)[1:] == pytest.approx(values)


def test_of_equal_thresholds_the_middle_of_the_first_run_is_taken():
    probability, mask = np.array([[50, 200]], dtype=np.uint8), np.array([[False, True]])
    assert metrics.best_threshold(Histograms.of([(probability, mask)]), np.array(["a"])) == (126, 1.0)


# ---- outlines


def test_distances_by_hand():
    """Squares of 5 x 5, one moved by 3 rows: of both outlines each pixel is 0 to 3 px away from the other one."""
    one = np.zeros((20, 20), dtype=bool)
    one[5:10, 5:10] = True
    assert metrics.distances(one, one) == (0, 1)
    hd95, nsd = metrics.distances(np.roll(one, 3, axis=0), one)
    assert hd95 == 3
    # of the 16 outline pixels of each: rows 8 and 9 (2 x 2 sides), and the 5 of the inner edge are 1 or 2 rows from an outline
    near = np.array(
        [min(max(abs(r - a), abs(c - b)) if 0 in (r - a, c - b) else 9 for a, b in outline(5)) for r, c in outline(8)]
    )
    assert nsd == pytest.approx((near <= 1).mean())
    assert metrics.distances(np.roll(one, 3, axis=0), one, spacing=(0.5, 9.0))[0] == 1.5, "rows are 0.5 mm apart"


def outline(top: int) -> list[tuple[int, int]]:
    """Outline pixels of a square of 5 x 5 whose first column is 5."""
    return [(row, column) for row in range(top, top + 5) for column in range(5, 10)
            if row in (top, top + 4) or column in (5, 9)]  # fmt: skip


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8)])
def test_distances_are_those_of_monai_on_the_whole_image(random, spacing):
    for probability, mask in blobs(random):
        predicted = probability >= 60
        whole = [torch.tensor(one)[None, None] for one in (predicted, mask)]
        hd95 = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=spacing).item()
        nsd = compute_surface_dice(*whole, [1.0], include_background=True, spacing=spacing).item()
        assert metrics.distances(predicted, mask, spacing) == (hd95, nsd)


def test_a_mask_at_the_border_of_its_image_has_distances():
    one, other = np.zeros((2, 12, 12), dtype=bool)
    one[:4, :4], other[:4, 2:6] = True, True
    assert metrics.distances(one, other)[0] == 2


# ---- means of resampled patients


def test_weighted_means_and_medians_leave_out_what_is_undefined():
    values = np.array([4.0, np.nan, 1.0, 2.0])
    weights = np.array([[1, 1, 1, 1], [0, 5, 2, 1], [0, 3, 0, 0], [2, 0, 1, 1]], dtype=np.int16)
    mean, median = metrics.weighted_mean(weights, values), metrics.weighted_median(weights, values)
    assert mean[[0, 1, 3]] == pytest.approx([7 / 3, 4 / 3, 11 / 4]) and np.isnan(mean[2])
    assert median[[0, 1, 3]].tolist() == [2, 1, 3] and np.isnan(median[2])
    assert np.isnan(metrics.weighted_median(weights[:, :2], np.array([np.nan, np.nan]))).all()
