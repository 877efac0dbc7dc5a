"""Intervals by resampling patients: slices of one patient are not independent, so patients are drawn, never slices."""

import numpy as np
import pandas as pd

RESAMPLES = 2000
LEVEL = 0.95


def within_folds(patients: np.ndarray | pd.Series, folds: np.ndarray | pd.Series) -> bool:
    """Whether patients can be drawn within each fold: each lies in one fold, and no fold has a single patient."""
    frame = pd.DataFrame({"patient": patients, "fold": folds}).drop_duplicates()
    return not frame["patient"].duplicated().any() and bool((frame["fold"].value_counts() > 1).all())


def weights(patients: np.ndarray, folds: np.ndarray, resamples: int = RESAMPLES, seed: int = 42) -> np.ndarray:
    """How often each case counts in each resample: int16 (resamples, n). All cases of a patient count alike.

    Within each fold as many patients are drawn, with replacement, as it has. Where a patient lies in several folds (slice
    protocol), or a fold has but one patient (it would not vary), patients are drawn over all folds at once.
    A single patient has no resamples: (0, n).
    """
    if len(np.unique(patients)) < 2:
        return np.empty((0, len(patients)), dtype=np.int16)
    folds = np.asarray(folds) if within_folds(patients, folds) else np.zeros(len(patients), dtype=int)
    random = np.random.default_rng(seed)
    drawn, place, before = [], np.empty(len(patients), dtype=int), 0
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        names, member = np.unique(np.asarray(patients)[rows], return_inverse=True)
        counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        drawn.append(counts.astype(np.int16))
        place[rows], before = before + member, before + len(names)
    return np.take(np.concatenate(drawn, axis=1), place, axis=1)


def interval(values: np.ndarray) -> tuple[float, float, int]:
    """95 % percentile interval of a metric's resamples (R,): low, high, and how many were undefined (NaN) and dropped.

    NaN, NaN when fewer than two are defined.
    """
    defined = values[~np.isnan(values)]
    dropped = len(values) - len(defined)
    if len(defined) < 2:
        return np.nan, np.nan, dropped
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), dropped
