"""Metrics against scikit-learn on random data with ties and weights, and against small cases worked by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hemoct.evaluation import metrics


@pytest.fixture
def sample():
    """300 cases, scores in 20 steps (many ties), integer weights in 5 resamples."""
    random = np.random.default_rng(1)
    y = random.integers(0, 2, 300)
    score = np.round(np.clip(random.normal(0.4 + 0.2 * y, 0.25), 0, 1) * 20) / 20
    return y, score, random.integers(0, 4, (5, 300))


def test_ranking_metrics_equal_scikit_learn_with_ties_and_weights(sample):
    y, score, weights = sample
    for ours, theirs in ((metrics.auroc, sk.roc_auc_score), (metrics.average_precision, sk.average_precision_score),
                         (metrics.brier, sk.brier_score_loss)):  # fmt: skip
        expected = [theirs(y, score, sample_weight=row) for row in weights]
        np.testing.assert_allclose(ours(y, score, weights), expected, rtol=1e-12)


def test_decision_metrics_equal_scikit_learn(sample):
    y, score, weights = sample
    decision = score >= 0.5
    found = metrics.of_confusion(metrics.confusion(y, decision, weights))
    theirs = {
        "accuracy": sk.accuracy_score, "precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score,
        "balanced_accuracy": sk.balanced_accuracy_score, "mcc": sk.matthews_corrcoef,
    }  # fmt: skip
    for name, function in theirs.items():
        np.testing.assert_allclose(found[name], [function(y, decision, sample_weight=row) for row in weights], err_msg=name)
    np.testing.assert_allclose(found["specificity"], [sk.recall_score(1 - y, 1 - decision, sample_weight=w) for w in weights])
    np.testing.assert_allclose(found["fpr"], 1 - found["specificity"])


def test_many_classes_equal_scikit_learn():
    random = np.random.default_rng(2)
    y, decision, weights = random.integers(0, 4, 200), random.integers(0, 4, 200), random.integers(0, 3, (4, 200))
    matrix = metrics.confusion(y, decision, weights, classes=4)
    found = metrics.of_many_classes(matrix)
    for name, function in {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "f1_macro": lambda *a, **k: sk.f1_score(*a, average="macro", **k),
    }.items():
        np.testing.assert_allclose(found[name], [function(y, decision, sample_weight=row) for row in weights], err_msg=name)
    rest = metrics.of_confusion(metrics.one_versus_rest(matrix, 2))
    np.testing.assert_allclose(rest["f1"], [sk.f1_score(y == 2, decision == 2, sample_weight=row) for row in weights])


def test_two_classes_and_the_general_formula_agree(sample):
    y, score, weights = sample
    matrix = metrics.confusion(y, score >= 0.4, weights)
    for name in ("accuracy", "balanced_accuracy", "mcc"):
        np.testing.assert_allclose(metrics.of_many_classes(matrix)[name], metrics.of_confusion(matrix)[name])


def test_weights_are_copies_of_a_case(sample):
    y, score, weights = sample
    copied = np.repeat(np.arange(len(y)), weights[0])
    for measure in (metrics.auroc, metrics.average_precision, metrics.brier):
        value = measure(y[copied], score[copied], metrics.ones(len(copied)))
        np.testing.assert_allclose(measure(y, score, weights[:1]), value)


def test_chunks_change_nothing(sample, monkeypatch):
    y, score, weights = sample
    whole = metrics.auroc(y, score, weights)
    monkeypatch.setattr(metrics, "CHUNK", 700)
    np.testing.assert_array_equal(metrics.auroc(y, score, weights), whole)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_is_undefined_and_never_a_number(only):
    y, score = np.full(6, only), np.linspace(0, 1, 6)
    assert np.isnan(metrics.auroc(y, score, metrics.ones(6))).all()
    assert np.isnan(metrics.average_precision(y, score, metrics.ones(6))).all()
    found = metrics.of_confusion(metrics.confusion(y, score >= 0.5, metrics.ones(6)))
    undefined = {name for name, value in found.items() if np.isnan(value[0])}
    assert undefined == {"balanced_accuracy", "mcc"} | ({"recall"} if only == 0 else {"specificity", "fpr"})


def test_nothing_called_positive_has_no_precision():
    found = metrics.of_confusion(metrics.confusion(np.array([0, 1, 1]), np.zeros(3), metrics.ones(3)))
    assert np.isnan(found["precision"][0]) and np.isnan(found["mcc"][0]) and found["f1"][0] == 0 and found["recall"][0] == 0


def test_a_class_that_is_absent_leaves_no_mean_over_classes():
    matrix = metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), metrics.ones(3), classes=3)
    found = metrics.of_many_classes(matrix)
    assert np.isnan(found["f1_macro"][0]) and np.isnan(found["balanced_accuracy"][0]) and found["accuracy"][0] == 2 / 3


def test_no_case_at_all_is_undefined():
    none = np.zeros(0)
    for measure in (metrics.auroc, metrics.average_precision, metrics.brier, metrics.ece):
        assert np.isnan(measure(none, none, np.ones((2, 0)))).all()


def test_ece_by_hand():
    """Two groups: 10 cases at 0.2 of which 4 are positive, 10 at 0.9 of which 8 are: (0.2 + 0.1) / 2."""
    p = np.repeat([0.2, 0.9], 10)
    y = np.array([1] * 4 + [0] * 6 + [1] * 8 + [0] * 2)
    assert metrics.ece(y, p, metrics.ones(20))[0] == pytest.approx(0.15)
    mean, observed, counts = metrics.reliability(y, p)
    np.testing.assert_allclose([mean, observed, counts], [[0.2, 0.9], [0.4, 0.8], [10, 10]])


def test_equal_mass_bins_hold_equally_many():
    assert set(np.bincount(metrics.equal_mass_bins(np.random.default_rng(0).random(300)))) == {20}


def test_max_f1_is_the_best_of_all_thresholds(sample):
    y, score, _ = sample
    threshold = metrics.max_f1_threshold(y, score)
    best = max(sk.f1_score(y, score >= t) for t in np.linspace(0, 1, 401))
    assert sk.f1_score(y, score >= threshold) == pytest.approx(best)
    assert threshold not in set(score), "a threshold on a score itself turns with the last digit"


def test_of_equal_f1_the_lowest_threshold_is_taken():
    """Called positive from 0.9: tp 1, fp 0, fn 1 -> F1 2/3. From 0.2: tp 2, fp 2, fn 0 -> F1 2/3."""
    y, score = np.array([1, 0, 0, 1, 0]), np.array([0.9, 0.7, 0.5, 0.3, 0.1])
    assert metrics.max_f1_threshold(y, score) == pytest.approx(0.2)


def test_neighbouring_floats_keep_their_order():
    low = 0.5
    y, score = np.array([0, 1]), np.array([low, np.nextafter(low, 1)])
    assert list(score >= metrics.max_f1_threshold(y, score)) == [False, True]


@pytest.mark.parametrize("target", [0.9, 0.95, 0.99, 1.0])
def test_operating_points_keep_their_promise_on_validation(sample, target):
    y, score, _ = sample
    called = score >= metrics.sensitivity_threshold(y, score, target)
    assert called[y == 1].mean() >= target
    called = score >= metrics.specificity_threshold(y, score, target)
    assert (~called[y == 0]).mean() >= target
    higher = score > metrics.sensitivity_threshold(y, score, target) + 0.051  # one step of the scores further
    assert higher[y == 1].mean() < target


def test_temperature_recovers_overconfidence():
    random = np.random.default_rng(3)
    logit = random.normal(0, 2, 4000)
    y = (random.random(4000) < 1 / (1 + np.exp(-logit))).astype(int)
    shown = 1 / (1 + np.exp(-3 * logit))
    t = metrics.temperature(y, shown)
    assert t == pytest.approx(3, rel=0.1)
    w = metrics.ones(4000)
    assert metrics.ece(y, metrics.scaled(shown, t), w)[0] < metrics.ece(y, shown, w)[0] / 2
    assert (np.diff(metrics.scaled(np.sort(shown), t)) >= 0).all(), "the order of the cases must not change"


def test_scaling_two_classes_is_scaling_one_probability():
    p = np.array([0.0, 0.1, 0.5, 0.99, 1.0])
    np.testing.assert_allclose(metrics.scaled(np.column_stack([1 - p, p]), 2.5)[:, 1], metrics.scaled(p, 2.5))
    np.testing.assert_allclose(metrics.scaled(p[1:4], 1.0), p[1:4])
    assert np.isfinite(metrics.scaled(p, 0.1)).all()


def test_the_threshold_of_the_expected_f1_is_half_of_the_f1_where_probabilities_are_calibrated():
    y, p = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.8, 0.9])
    best = 6 / 7
    assert metrics.expected_f1_threshold(y, p, 1.0) == pytest.approx(best / 2)
    assert metrics.scaled(np.array([metrics.expected_f1_threshold(y, p, 3.0)]), 3.0)[0] == pytest.approx(best / 2)


def test_the_expected_f1_depends_less_on_a_few_images_than_the_highest():
    random = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        logit = random.normal(-1.5, 3, n)  # overconfident by a factor of two
        return (random.random(n) < 1 / (1 + np.exp(-logit / 2))).astype(int), 1 / (1 + np.exp(-logit))

    y, p = draw(20_000)
    reached = {"highest": [], "expected": []}
    for _ in range(60):
        few_y, few_p = draw(120)
        chosen = {"highest": metrics.max_f1_threshold(few_y, few_p),
                  "expected": metrics.expected_f1_threshold(few_y, few_p, metrics.temperature(few_y, few_p))}  # fmt: skip
        for name, threshold in chosen.items():
            reached[name].append(2 * (y & (p >= threshold)).sum() / (y.sum() + (p >= threshold).sum()))
    assert np.mean(reached["expected"]) > np.mean(reached["highest"]) and np.std(reached["expected"]) < np.std(reached["highest"])
