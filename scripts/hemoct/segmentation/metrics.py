"""Pixels counted once, for every threshold: how many of each probability lie inside and outside the true mask of a slice.

From these counts come all pixel metrics, the best threshold, and resampled patients, without a pixel kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hemoct.evaluation.metrics import ratio

LEVELS = 256  # of an 8-bit probability; a pixel is predicted at threshold t when its level is at least t


@dataclass(frozen=True)
class Histograms:
    """Pixels of n slices by their probability: int64 (n, 256) each, inside and outside the true mask."""

    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def of(cls, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Histograms:
        """Count (probability uint8, true mask bool), both (height, width), slice by slice."""
        rows = [count(probability, mask) for probability, mask in pairs]
        both = np.stack(rows) if rows else np.zeros((0, 2, LEVELS), dtype=np.int64)
        return cls(both[:, 0], both[:, 1])

    def __getitem__(self, rows: np.ndarray | slice) -> Histograms:
        return Histograms(self.inside[rows], self.outside[rows])

    def at(self, threshold: int) -> np.ndarray:
        """True and false positives, false and true negatives of each slice at a threshold (1..255): int64 (n, 4)."""
        return self.curve()[:, threshold]

    def curve(self) -> np.ndarray:
        """The same for every threshold 0..255: int64 (n, 256, 4), tp, fp, fn, tn."""
        tp, fp = (one[:, ::-1].cumsum(axis=1)[:, ::-1] for one in (self.inside, self.outside))
        return np.stack([tp, fp, tp[:, :1] - tp, fp[:, :1] - fp], axis=2)


def count(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels by probability (uint8, any shape) inside and outside a mask (bool, same shape): int64 (2, 256)."""
    whole = np.bincount(probability.reshape(-1), minlength=LEVELS)
    inside = np.bincount(probability[mask], minlength=LEVELS)
    return np.stack([inside, whole - inside])


def dice(counts: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) (Dice 1945) of counts (..., 4); NaN where truth and prediction are both empty."""
    tp, fp, fn = (counts[..., index].astype(float) for index in range(3))
    return ratio(2 * tp, 2 * tp + fp + fn)


def by_group(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of counts (n, ...) over the slices of each group (patients), in the order of np.unique: (groups, ...)."""
    _, member = np.unique(groups, return_inverse=True)
    total = np.zeros((member.max(initial=-1) + 1, *counts.shape[1:]), dtype=counts.dtype)
    np.add.at(total, member, counts)
    return total


def mean_defined(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean of the numbers that are defined; NaN where none is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=axis), defined.sum(axis=axis).astype(float))


def dice_curve(counted: Histograms, patients: np.ndarray) -> np.ndarray:
    """Mean Dice by patient at each threshold 0..255, float64 (256,); NaN where no slice has a lesion."""
    if not counted.inside.any():
        return np.full(LEVELS, np.nan)
    of_patients = Histograms(by_group(counted.inside, patients), by_group(counted.outside, patients))  # few: flat memory
    return mean_defined(dice(of_patients.curve()))


def best_threshold(counted: Histograms, patients: np.ndarray) -> tuple[int, float]:
    """The threshold (1..255) with the highest mean Dice by patient, and that Dice; 128 and NaN where no slice has a lesion.

    Of equal ones the middle of the first run is taken: it is the least sensitive to a small change.
    """
    values = dice_curve(counted, patients)[1:]
    if np.isnan(values).all():
        return LEVELS // 2, np.nan
    best = np.flatnonzero(values == values.max())
    run = best[: np.flatnonzero(np.diff(best, append=best[-1] + 2) > 1)[0] + 1]
    return int(run[len(run) // 2]) + 1, float(values.max())
