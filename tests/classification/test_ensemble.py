"""Ensembles of classifiers: what is fitted, on which images, and what of it a permuted test truth can change."""

import numpy as np
import pandas as pd
import pytest

from hemoct.classification import ensemble
from hemoct.classification.ensemble import Members
from hemoct.classification.ensemble_step import RULES


def members(classes: int = 1, n: int = 400, exclusive: bool = False) -> Members:
    """A member that knows much, one that knows little, one that knows nothing; half of the images validate."""
    random = np.random.default_rng(0)
    truth = np.eye(classes)[random.integers(0, classes, n)] if exclusive else random.integers(0, 2, (n, classes)).astype(float)
    logits = [skill * (2 * truth - 1) + random.normal(0, 1, truth.shape) for skill in (1.5, 0.5, 0.0)]
    p = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) if exclusive else 1 / (1 + np.exp(-one)) for one in logits]
    part = np.where(np.arange(n) < n // 2, "val", "test")
    table = pd.DataFrame({"image_id": np.arange(n), "patient": "a", "fold": 0, "part": part})
    return Members(table, [str(place) for place in range(classes)], truth, np.stack(p))


def log_loss(found: Members, p: np.ndarray, exclusive: bool = False) -> float:
    truth, p = found.truth[~found.fitted_on], p[~found.fitted_on].clip(1e-9, 1 - 1e-9)
    return -(truth * np.log(p) + (0 if exclusive else (1 - truth) * np.log(1 - p))).sum(axis=1).mean()


@pytest.mark.parametrize(("classes", "exclusive"), [(1, False), (3, False), (3, True)])
def test_what_is_fitted_beats_the_mean_where_one_member_knows_nothing(classes, exclusive):
    found = members(classes, exclusive=exclusive)
    losses = {}
    for rule in RULES:
        p, fitted = ensemble.combine(found, rule, exclusive)
        losses[rule] = log_loss(found, p, exclusive)
        assert p.shape == (400, classes) and ((p >= 0) & (p <= 1)).all() and len(fitted) == (1 if exclusive else classes)
        if exclusive:
            assert np.allclose(p.sum(axis=1), 1)
        if rule != "stacking":
            assert all(np.isclose(sum(of["weights"]), 1, atol=1e-5) for of in fitted.values())
    assert losses["weights"] < losses["mean"] and losses["stacking"] < losses["mean"]
    weights = ensemble.combine(found, "weights", exclusive)[1]
    assert all(of["weights"][0] > 0.7 for of in weights.values()), "the member that knows most counts most"


def test_the_mean_is_the_mean():
    found = members(2)
    assert np.array_equal(ensemble.combine(found, "mean", False)[0], found.p.mean(axis=0))


@pytest.mark.parametrize("rule", RULES)
def test_truth_of_test_changes_nothing_but_scores(rule):
    found = members(2)
    truth = found.truth.copy()
    truth[~found.fitted_on] = np.random.default_rng(1).permutation(truth[~found.fitted_on])
    other = Members(found.table, found.classes, truth, found.p)
    (p, fitted), (again, fitted_again) = (ensemble.combine(one, rule, False) for one in (found, other))
    assert np.array_equal(p, again) and fitted == fitted_again
    truth[found.fitted_on] = np.random.default_rng(1).permutation(truth[found.fitted_on])
    assert rule == "mean" or not np.array_equal(p, ensemble.combine(other, rule, False)[0]), "validation does"


@pytest.mark.parametrize("rule", ["weights", "stacking"])
def test_a_label_without_both_truths_in_validation_gets_the_mean(rule):
    found = members(1)
    truth = np.where(found.fitted_on[:, None], 0.0, found.truth)
    truth[0] = np.nan
    p, fitted = ensemble.combine(Members(found.table, found.classes, truth, found.p), rule, False)
    assert np.array_equal(p, found.p.mean(axis=0)) and fitted["0"] == {"weights": [1 / 3] * 3}
