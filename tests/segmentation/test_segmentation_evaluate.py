"""From counts to metrics, volumes and figures: against slow loops, and by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from hemoct.evaluation import bootstrap, metrics
from hemoct.segmentation import evaluate, figures, tables
from hemoct.segmentation.evaluate import Rule, Segmentation
from hemoct.segmentation.metrics import LEVELS, Histograms


@pytest.fixture
def random():
    return np.random.default_rng(3)


def evaluated(random, n: int = 40) -> Segmentation:
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


def slowly(evaluation: Segmentation, rows: np.ndarray) -> dict[str, float]:
    """The metrics of some rows, perhaps several times each, in plain loops. Rows of a patient come together, drawn anew."""
    table, counts = evaluation.table.iloc[rows], evaluation.counts[rows]
    tp, fp, fn, tn = counts.sum(axis=0)
    draws, seen = [], {}
    for row in rows:  # the k-th time that a slice comes belongs to the k-th time that its patient was drawn
        seen[row] = seen.get(row, 0) + 1
        draws.append((evaluation.table["patient"][row], seen[row]))
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
    evaluation = evaluated(random)
    everything = evaluate.measure(evaluation, metrics.ones(len(evaluation.table)))
    assert {name: value[0] for name, value in everything.items()} == pytest.approx(
        slowly(evaluation, np.arange(len(evaluation.table)))
    )
    weights = bootstrap.weights(evaluation.patients, evaluation.table["fold"].to_numpy(), 25, 7)
    drawn = evaluate.measure(evaluation, weights)
    for number, weight in enumerate(weights):
        expected = slowly(evaluation, np.repeat(np.arange(len(weight)), weight))
        assert {name: value[number] for name, value in drawn.items()} == pytest.approx(expected)


def test_volumes_and_their_agreement_by_hand(random):
    evaluation = evaluated(random, 3)
    evaluation.table["patient"] = ["a", "a", "b"]
    evaluation.counts[:] = [[10, 2, 4, 0], [0, 0, 6, 0], [5, 5, 0, 0]]
    patients = evaluate.per_patient(evaluation)
    assert patients["true_volume"].tolist() == [10, 2.5] and patients["predicted_volume"].tolist() == [6, 5], (
        "half a millilitre a pixel"
    )
    row = tables.agreement(evaluation).iloc[0]
    assert (row["bias"], row["mean_absolute_error"], row["unit"]) == (-0.75, 3.25, "ml")
    assert row["limit_high"] - row["bias"] == pytest.approx(1.96 * np.std([-4, 2.5], ddof=1))
    evaluation.table["unit"] = ["ml", "ml", "px"]
    two = tables.agreement(evaluation).set_index("unit")
    assert two["bias"].to_dict() == {"ml": -4, "px": 2.5} and two["limit_low"].isna().all()


def test_distances_in_mm_and_in_px_have_no_mean(random):
    evaluation = evaluated(random)
    evaluation.table.loc[0, "distance_unit"] = "mm"
    values = evaluate.measure(evaluation, metrics.ones(len(evaluation.table)))
    assert np.isnan(values["hd95_slice"][0]) and values["nsd_slice"][0] > 0


# ---- thresholds


def test_without_a_true_pixel_the_threshold_is_one_half():
    counted = Histograms.of([(np.full((2, 2), 90, np.uint8), np.zeros((2, 2), bool))])
    rule = evaluate.choose(0, counted, np.array(["a"]))
    assert rule.threshold == 128 and not rule.chosen and rule.lacks == "no true pixel" and np.isnan(rule.curve).all()
    assert rule.threshold_rule == "0.5: validation has no true pixel"
    nothing = evaluate.choose(1, Histograms.of([]), np.array([], dtype=str))
    assert nothing.threshold == 128
    evaluation = evaluated(np.random.default_rng(0))
    assert figures.threshold(replace(evaluation, rules=[rule, nothing]), "") is None


def test_a_fold_chooses_the_threshold_with_the_best_dice_by_patient(random):
    histograms = Histograms(*random.integers(0, 9, (2, 6, LEVELS)))
    rule = evaluate.choose(4, histograms, np.array(list("aabbcc")))
    assert (rule.fold, rule.chosen, rule.lacks) == (4, True, "") and rule.curve[rule.threshold] == rule.curve[1:].max()


def test_people_read_thresholds_as_probabilities(random):
    curve = np.linspace(0, 1, LEVELS)
    figure = figures.threshold(replace(evaluated(random), rules=[Rule(0, 51, "chosen", curve)]), "")
    axis = figure.axes[0]
    assert axis.get_xlim() == (0, 1) and axis.get_legend_handles_labels()[1] == ["fold 0: 0.20 (0.200)"]


# ---- volumes as people read them


@pytest.mark.parametrize(("pixels", "unit", "highest"), [(300, "px", 300), (40_000, "thousand px", 40), (3e7, "million px", 30)])
def test_large_volumes_have_short_ticks(random, pixels, unit, highest):
    evaluation = evaluated(random, 3)
    evaluation.table["patient"], evaluation.table["unit"], evaluation.table["factor"] = ["a", "b", "c"], "px", 1.0
    evaluation.counts[:] = 0
    evaluation.counts[:, 0] = [pixels, pixels / 2, pixels / 4]
    left, right = figures.volumes(evaluation, "").axes
    assert left.get_xlabel() == f"true volume ({unit})" and right.get_ylabel() == f"predicted - true ({unit})"
    assert left.collections[0].get_offsets()[:, 0].max() == pytest.approx(highest)


@pytest.mark.parametrize(("patients", "limits"), [("aab", False), ("abc", True)])
def test_two_patients_have_no_bias_and_no_limits(random, patients, limits):
    evaluation = evaluated(random, 3)
    evaluation.table["patient"] = list(patients)
    right = figures.volumes(evaluation, "").axes[1]
    assert (right.get_legend() is not None) == limits and len(right.lines) == (4 if limits else 1)


def test_three_slices_have_no_quarters(random):
    evaluation = evaluated(random, 12)
    evaluation.counts[:, 0] += 5
    rows = np.arange(12) < 3
    few = replace(evaluation, table=evaluation.table[rows], counts=evaluation.counts[rows])
    assert figures.dice_and_size(evaluation, "").axes[0].lines and not figures.dice_and_size(few, "").axes[0].lines
