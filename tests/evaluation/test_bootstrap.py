"""Resampling of patients: whole patients, within folds, seeded; the interval covers what it promises."""

import numpy as np
import pytest

from hemoct.evaluation import bootstrap, metrics


@pytest.fixture
def cases():
    """20 patients of 1 to 7 slices in 4 folds."""
    sizes = np.random.default_rng(0).integers(1, 8, 20)
    patients = np.repeat([f"{number:04d}" for number in range(20)], sizes)
    return patients, np.repeat(np.arange(20) % 4, sizes)


def test_slices_of_a_patient_count_alike(cases):
    patients, folds = cases
    drawn = bootstrap.weights(patients, folds, 50)
    assert drawn.shape == (50, len(patients)) and drawn.min() == 0
    for patient in np.unique(patients):
        columns = drawn[:, patients == patient]
        assert (columns == columns[:, :1]).all()


def test_each_fold_keeps_its_number_of_patients(cases):
    patients, folds = cases
    drawn = bootstrap.weights(patients, folds, 50)
    first = np.unique(patients, return_index=True)[1]
    for fold in range(4):
        assert (drawn[:, first[folds[first] == fold]].sum(axis=1) == 5).all()


def test_patients_in_several_folds_are_drawn_over_all_folds(cases):
    patients, _ = cases
    folds = np.arange(len(patients)) % 4
    assert not bootstrap.within_folds(patients, folds)
    drawn = bootstrap.weights(patients, folds, 50)
    names, first = np.unique(patients, return_index=True)
    assert (drawn[:, first].sum(axis=1) == 20).all()
    assert all((drawn[:, patients == names[i]] == drawn[:, [first[i]]]).all() for i in range(20))


def test_a_fold_of_one_patient_still_varies():
    drawn = bootstrap.weights(np.array(["a", "b", "c"]), np.array([0, 1, 2]), 200)
    assert (drawn.std(axis=0) > 0).all()


def test_the_seed_decides(cases):
    assert (bootstrap.weights(*cases, 20, seed=1) == bootstrap.weights(*cases, 20, seed=1)).all()
    assert (bootstrap.weights(*cases, 20, seed=1) != bootstrap.weights(*cases, 20, seed=2)).any()


def test_undefined_resamples_are_dropped_and_counted():
    low, high, dropped = bootstrap.interval(np.array([np.nan, *np.linspace(0, 1, 101)]))
    assert (low, high, dropped) == (pytest.approx(0.025), pytest.approx(0.975), 1)
    low, high, dropped = bootstrap.interval(np.full(10, np.nan))
    assert np.isnan([low, high]).all() and dropped == 10


def test_the_interval_covers_the_truth_only_when_patients_are_drawn():
    """Slices of a patient agree (share correct ~ Beta): 95 % intervals over patients cover, those over slices do not."""
    random = np.random.default_rng(5)
    covered = {"patients": 0, "slices": 0}
    runs = 80
    for run in range(runs):
        patients = np.repeat(np.arange(40), 15)
        right = random.random(600) < np.repeat(random.beta(4, 1, 40), 15)  # mean 0.8
        for name, units in (("patients", patients), ("slices", np.arange(600))):
            drawn = bootstrap.weights(units, np.zeros(600), 200, seed=run)
            matrix = metrics.confusion(np.ones(600, dtype=int), right, drawn)
            low, high, _ = bootstrap.interval(metrics.of_confusion(matrix)["recall"])
            covered[name] += low <= 0.8 <= high
    assert 0.87 <= covered["patients"] / runs <= 1.0
    assert covered["slices"] / runs < 0.8
