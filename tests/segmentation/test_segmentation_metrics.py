"""Pixel counts, thresholds, means and distances: by hand, against scikit-learn and MONAI, and against slow loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import DiceMetric, compute_hausdorff_distance, compute_surface_dice
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from hemoct.evaluation import bootstrap, metrics
from hemoct.segmentation import evaluate, figures, report_tables, surface
from hemoct.segmentation import metrics as segmentation_metrics
from hemoct.segmentation.evaluate import Patients, Rule, Segmentation
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
    assert segmentation_metrics.dice(counted.at(101)).tolist() == [4 / 5]


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
        values = evaluate.of_counts(Histograms.of([(probability, mask)]).at(100)[0])
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
    values = evaluate.of_counts(np.array([both_empty, no_truth, no_prediction, [9, 0, 0, 0]]))
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
            of_patients.append(f1_score(np.concatenate([mask.ravel() for _, mask in chosen]), predicted))
        return float(np.mean(of_patients))

    values = [mean_dice(threshold) for threshold in range(1, 256)]
    threshold, best = segmentation_metrics.best_threshold(counted, patients)
    assert best == pytest.approx(max(values)) and values[threshold - 1] == pytest.approx(max(values))
    rule = evaluate.choose(4, counted, patients)
    assert (rule.fold, rule.threshold) == (4, threshold) and rule.curve[1:] == pytest.approx(values)


def test_of_equal_thresholds_the_middle_of_the_first_run_is_taken():
    probability, mask = np.array([[50, 200]], dtype=np.uint8), np.array([[False, True]])
    assert segmentation_metrics.best_threshold(Histograms.of([(probability, mask)]), np.array(["a"])) == (126, 1.0)


def test_without_a_true_pixel_the_threshold_is_one_half():
    counted = Histograms.of([(np.full((2, 2), 90, np.uint8), np.zeros((2, 2), bool))])
    rule = evaluate.choose(0, counted, np.array(["a"]))
    assert rule.threshold == 128 and "no true pixel" in rule.threshold_rule and np.isnan(rule.curve).all()
    nothing = evaluate.choose(1, Histograms.of([]), np.array([], dtype=str))
    assert nothing.threshold == 128
    found = scored(np.random.default_rng(0))
    assert figures.threshold(replace(found, rules=[rule, nothing]), "") is None


# ---- outlines


def test_distances_by_hand():
    """Squares of 5 x 5, one moved by 3 rows: of both outlines each pixel is 0 to 3 px away from the other one."""
    one = np.zeros((20, 20), dtype=bool)
    one[5:10, 5:10] = True
    assert surface.compare(one, one) == (0, 1)
    hd95, nsd = surface.compare(np.roll(one, 3, axis=0), one)
    assert hd95 == 3
    # of the 16 outline pixels of each: rows 8 and 9 (2 x 2 sides), and the 5 of the inner edge are 1 or 2 rows from an outline
    near = np.array(
        [min(max(abs(r - a), abs(c - b)) if 0 in (r - a, c - b) else 9 for a, b in outline(5)) for r, c in outline(8)]
    )
    assert nsd == pytest.approx((near <= 1).mean())
    assert surface.compare(np.roll(one, 3, axis=0), one, spacing=(0.5, 9.0))[0] == 1.5, "rows are 0.5 mm apart"


def outline(top: int) -> list[tuple[int, int]]:
    """Outline pixels of a square of 5 x 5 whose first column is 5."""
    return [(row, column) for row in range(top, top + 5) for column in range(5, 10)
            if row in (top, top + 4) or column in (5, 9)]  # fmt: skip


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8)])
def test_distances_of_a_part_are_those_of_the_whole_image(random, spacing):
    for probability, mask in blobs(random):
        predicted = probability >= 60
        whole = [torch.tensor(one)[None, None] for one in (predicted, mask)]
        hd95 = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=spacing).item()
        nsd = compute_surface_dice(*whole, [1.0], include_background=True, spacing=spacing).item()
        assert surface.compare(predicted, mask, spacing) == pytest.approx((hd95, nsd))


def test_a_mask_at_the_border_of_its_image_has_distances():
    one, other = np.zeros((2, 12, 12), dtype=bool)
    one[:4, :4], other[:4, 2:6] = True, True
    assert surface.compare(one, other)[0] == 2


# ---- means and their resamples


def scored(random, n: int = 40) -> Segmentation:
    """Slices of eight patients in two folds, some empty in truth or prediction."""
    patients = np.sort(random.integers(0, 8, n))
    tp, fp, fn = random.integers(0, 30, (3, n)) * (random.random((3, n)) > 0.3)
    counts = np.column_stack([tp, fp, fn, 400 - tp - fp - fn])
    both = (tp + fp > 0) & (tp + fn > 0)
    table = pd.DataFrame({
        "image_id": [f"s{row:02d}" for row in range(n)], "patient": patients.astype(str), "fold": patients % 2, "part": "test",
        "y": np.where(random.random(n) < 0.1, np.nan, (tp + fn > 0) * 1.0), "factor": 0.5, "unit": "ml",
        "hd95": np.where(both, random.random(n) * 9, np.nan), "distance_unit": "px",
        "nsd": np.where(both, random.random(n), np.where(tp + fp + fn > 0, 0, np.nan)),
    })  # fmt: skip
    rules = [Rule(fold, 128, "told", np.zeros(LEVELS)) for fold in (0, 1)]
    return Segmentation(table, counts, rules, table.assign(threshold=128), evaluate.Question(["bleeds"], "bleeds"))


def slowly(found: Segmentation, rows: np.ndarray) -> dict[str, float]:
    """The metrics of some rows, perhaps several times each, in plain loops. Rows of a patient come together, drawn anew."""
    table, counts = found.table.iloc[rows], found.counts[rows]
    tp, fp, fn, tn = counts.sum(axis=0)
    draws, seen = [], {}
    for row in rows:  # the k-th time that a slice comes belongs to the k-th time that its patient was drawn
        seen[row] = seen.get(row, 0) + 1
        draws.append((found.table["patient"][row], seen[row]))
    sums = [
        np.sum([count for count, own in zip(counts, draws, strict=True) if own == draw], axis=0) for draw in sorted(set(draws))
    ]
    dice = [2 * a / (2 * a + b + c) for a, b, c, _ in sums if a + b + c]
    errors = [(a + b - a - c) / (a + c) for a, b, c, _ in sums if a + c]
    known = table["y"].notna().to_numpy()
    y, called = table["y"][known].astype(int), (counts[:, 0] + counts[:, 1] > 0)[known]
    return {
        "dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn), "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp), "precision": tp / (tp + fp), "dice_patient": np.mean(dice),
        "dice_patient_median": np.median(dice), "nsd_slice": table["nsd"].mean(), "hd95_slice": table["hd95"].mean(),
        "dice_slice": np.mean([2 * a / (2 * a + b + c) for a, b, c, _ in counts if a + b + c]),
        "volume_error": np.mean(np.abs(errors)), "volume_bias": np.mean(errors),
        "slice_accuracy": (y == called).mean(), "slice_precision": precision_score(y, called),
        "slice_recall": recall_score(y, called), "slice_specificity": recall_score(1 - y, ~called),
        "slice_f1": f1_score(y, called),
    }  # fmt: skip


def test_metrics_and_their_resamples_are_those_of_a_slow_loop(random):
    found = scored(random)
    everything = evaluate.measure(found, metrics.ones(len(found.table)))
    assert {name: value[0] for name, value in everything.items()} == pytest.approx(slowly(found, np.arange(len(found.table))))
    weights = bootstrap.weights(found.patients, found.table["fold"].to_numpy(), 25, 7)
    drawn = evaluate.measure(found, weights)
    for number, weight in enumerate(weights):
        expected = slowly(found, np.repeat(np.arange(len(weight)), weight))
        assert {name: value[number] for name, value in drawn.items()} == pytest.approx(expected)


def test_weighted_means_and_medians_leave_out_what_is_undefined():
    values = np.array([4.0, np.nan, 1.0, 2.0])
    weights = np.array([[1, 1, 1, 1], [0, 5, 2, 1], [0, 3, 0, 0], [2, 0, 1, 1]], dtype=np.int16)
    mean, median = evaluate.weighted_mean(weights, values), evaluate.weighted_median(weights, values)
    assert mean[[0, 1, 3]] == pytest.approx([7 / 3, 4 / 3, 11 / 4]) and np.isnan(mean[2])
    assert median[[0, 1, 3]].tolist() == [2, 1, 3] and np.isnan(median[2])
    assert np.isnan(evaluate.weighted_median(weights[:, :2], np.array([np.nan, np.nan]))).all()


def test_volumes_and_their_agreement_by_hand(random):
    found = scored(random, 3)
    found.table["patient"] = ["a", "a", "b"]
    found.counts[:] = [[10, 2, 4, 0], [0, 0, 6, 0], [5, 5, 0, 0]]
    patients = Patients.of(found)
    assert patients.true.tolist() == [10, 2.5] and patients.predicted.tolist() == [6, 5], "half a millilitre a pixel"
    row = report_tables.agreement(found).iloc[0]
    assert (row["bias"], row["mean_absolute_error"], row["unit"]) == (-0.75, 3.25, "ml")
    assert row["limit_high"] - row["bias"] == pytest.approx(1.96 * np.std([-4, 2.5], ddof=1))
    found.table["unit"] = ["ml", "ml", "px"]
    two = report_tables.agreement(found).set_index("unit")
    assert two["bias"].to_dict() == {"ml": -4, "px": 2.5} and two["limit_low"].isna().all()


def test_distances_in_mm_and_in_px_have_no_mean(random):
    found = scored(random)
    found.table.loc[0, "distance_unit"] = "mm"
    values = evaluate.measure(found, metrics.ones(len(found.table)))
    assert np.isnan(values["hd95_slice"][0]) and values["nsd_slice"][0] > 0
