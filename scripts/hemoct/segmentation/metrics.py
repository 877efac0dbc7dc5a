"""Pixels counted once, for every threshold: how many of each probability lie inside and outside the true mask of a slice.

From these counts come all pixel metrics, the best threshold, and resampled patients, without a pixel kept in memory. Distances
between outlines are those of MONAI to the last digit (a test compares them), without the seconds that its import takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from hemoct.evaluation.metrics import ratio, weighted_sum

Measured = tuple[tuple[int, int, int, int], tuple[float, float]]
LEVELS = 256  # of an 8-bit probability; a pixel is predicted at threshold t when its level is at least t
COUNTS = ("tp", "fp", "fn", "tn")
"""what is counted at a threshold: true and false positive, false and true negative pixels"""
HIGH = float(np.float32(0.95))  # as MONAI counts, in float32
TOLERANCE = 1.0
"""of NSD: outlines that are no further apart agree; in the unit of the spacing"""


def as_probability(level: float) -> float:
    """The probability, 0..1, of a level of an 8-bit map, as people read it."""
    return level / (LEVELS - 1)


@dataclass(frozen=True)
class Histograms:
    """Pixels of n slices by their probability: int64 (n, 256) each, inside and outside the true mask."""

    inside: np.ndarray
    outside: np.ndarray

    @classmethod
    def of(cls, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Count (probability uint8, true mask bool), both (height, width), slice by slice."""
        return cls.stacked(count(probability, mask) for probability, mask in pairs)

    @classmethod
    def stacked(cls, counted: Iterable[np.ndarray]) -> Self:
        """Of what `count` says of each slice, int64 (2, 256)."""
        both = np.stack([np.zeros((2, LEVELS), dtype=np.int64), *counted])[1:]
        return cls(both[:, 0], both[:, 1])

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        return Histograms(self.inside[rows], self.outside[rows])

    def at(self, threshold: int) -> np.ndarray:
        """The COUNTS of each slice at a threshold (1..255): int64 (n, 4)."""
        return self.curve()[:, threshold]

    def curve(self) -> np.ndarray:
        """The COUNTS for every threshold 0..255: int64 (n, 256, 4)."""
        tp, fp = (pixels[:, ::-1].cumsum(axis=1)[:, ::-1] for pixels in (self.inside, self.outside))
        return np.stack([tp, fp, tp[:, :1] - tp, fp[:, :1] - fp], axis=2)


def count(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels by probability (uint8, any shape) inside and outside a mask (bool, same shape): int64 (2, 256)."""
    some = probability > 0  # of most maps most pixels are 0: those need not be counted one by one
    whole, inside = (np.bincount(probability[part], minlength=LEVELS) for part in (some, some & mask))
    whole[0], inside[0] = probability.size - whole.sum(), np.count_nonzero(mask) - inside.sum()
    return np.stack([inside, whole - inside])


def measured(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, float]) -> Measured:
    """The COUNTS of two masks, bool (height, width), and their `distances`.

    HD95 is NaN where one of them is empty, and so is NSD where both are; where one is, no outline is near the other: 0.
    """
    of_predicted, of_true = np.count_nonzero(predicted), np.count_nonzero(true)
    tp = np.count_nonzero(predicted & true) if of_predicted and of_true else 0
    counts = (tp, of_predicted - tp, of_true - tp, true.size - of_predicted - of_true + tp)
    if of_predicted and of_true:
        return counts, distances(predicted, true, spacing)
    return counts, (np.nan, 0.0 if of_predicted or of_true else np.nan)


def by_group(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of counts (n, ...) over the slices of each group (patients), in the order of np.unique: (groups, ...)."""
    _, member = np.unique(groups, return_inverse=True)
    total = np.zeros((member.max(initial=-1) + 1, *counts.shape[1:]), dtype=counts.dtype)
    np.add.at(total, member, counts)
    return total


# ---- metrics of counts


def dice(counts: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) (Dice 1945) of COUNTS (..., 4); NaN where truth and prediction are both empty."""
    tp, fp, fn = (counts[..., index].astype(float) for index in range(3))
    return ratio(2 * tp, 2 * tp + fp + fn)


def of_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Dice, IoU, sensitivity, specificity and precision of pixel COUNTS (..., 4); NaN where undefined."""
    tp, fp, fn, tn = np.moveaxis(counts.astype(float), -1, 0)
    return {
        "dice": dice(counts),
        "iou": ratio(tp, tp + fp + fn),
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "precision": ratio(tp, tp + fp),
    }


# ---- thresholds


def dice_curve(histograms: Histograms, patients: np.ndarray) -> np.ndarray:
    """Mean Dice by patient at each threshold 0..255, float64 (256,); NaN where no slice has a lesion."""
    if not histograms.inside.any():
        return np.full(LEVELS, np.nan)
    of_patients = Histograms(by_group(histograms.inside, patients), by_group(histograms.outside, patients))  # few: flat memory
    values = dice(of_patients.curve())
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0).astype(float))


def best_threshold(histograms: Histograms, patients: np.ndarray) -> tuple[int, float]:
    """The threshold (1..255) with the highest mean Dice by patient, and that Dice; 128 and NaN where no slice has a lesion.

    Of equal ones the middle of the first run is taken: it is the least sensitive to a small change.
    """
    values = dice_curve(histograms, patients)[1:]
    if np.isnan(values).all():
        return LEVELS // 2, np.nan
    best = np.flatnonzero(values == values.max())
    run = best[: np.flatnonzero(np.diff(best, append=best[-1] + 2) > 1)[0] + 1]
    return int(run[len(run) // 2]) + 1, float(values.max())


# ---- means of resampled patients


def weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the defined values (n,) for weights (R, n); NaN where all that are defined weigh 0."""
    defined = ~np.isnan(values)
    total, weight = weighted_sum(weights, np.column_stack([np.where(defined, values, 0.0), defined])).T
    return ratio(total, weight)


def weighted_median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Median of the defined values (n,), each as often as its whole weight (R, n) says; NaN where there is none."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted to the end
    if not len(order):
        return np.full(len(weights), np.nan)
    reached = np.cumsum(weights[:, order], axis=1, dtype=int)
    total = reached[:, -1:]
    middle = [values[order][(reached <= place).argmin(axis=1)] for place in ((total - 1) // 2, total // 2)]
    return np.where(total[:, 0] > 0, np.mean(middle, axis=0), np.nan)


# ---- outlines


def distances(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """HD95 and NSD of two masks, bool (height, width), both with a pixel; `spacing` of rows and columns, e.g. in mm.

    HD95: the larger one of the 95th percentiles of the distances from each outline to the other (Huttenlocher et al. 1993), in
    the unit of `spacing`. NSD: the share of both outlines that lies within TOLERANCE of the other one (Nikolov et al. 2018).
    """
    from scipy import ndimage, spatial  # half a second, for this alone

    either = predicted | true
    inside = tuple(slice(along[0], along[-1] + 1) for along in (np.flatnonzero(either.any(axis=axis)) for axis in (1, 0)))
    parts = [np.pad(mask[inside], 1) for mask in (predicted, true)]  # far fewer pixels, the same outlines
    outlines = [np.argwhere(part & ~ndimage.binary_erosion(part)) * np.array(spacing) for part in parts]
    apart = [spatial.KDTree(other).query(one)[0].astype(np.float32) for one, other in (outlines, outlines[::-1])]
    hd95 = max(np.quantile(of_one.astype(float), HIGH) for of_one in apart)
    near, pixels = (sum(map(function, apart)) for function in (lambda of_one: (of_one <= TOLERANCE).sum(), len))
    return float(np.float32(hd95)), float(np.float32(near) / np.float32(pixels))
