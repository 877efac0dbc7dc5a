"""Metrics of classifiers, written once for the value and for all its bootstrap resamples; thresholds and calibration.

Every metric takes `(y, score or decision, weights)`. `weights` has shape (R, n): how often each case counts in each of R
resamples, so that `ones(n)` gives the value and `bootstrap.weights` its interval. All return float64 (R,), NaN where undefined.
A case is called positive when its score is at or above the threshold.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

BINS = 15
CHUNK = 2_000_000  # elements of `weights` that are float64 at one time: 16 MB
SMALLEST = 1e-7  # probabilities are kept this far from 0 and 1 before a logarithm


def ones(n: int) -> np.ndarray:
    """The weights of the sample as it is: (1, n)."""
    return np.ones((1, n))


def chunks(weights: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """`weights` (R, n) a few resamples at a time, as float64, so that memory does not grow with their number.

    `width`: elements that the caller makes of each resample. There is one chunk, of no resamples, when R is 0.
    """
    rows = max(1, CHUNK // max(1, width))
    return (weights[start : start + rows].astype(float) for start in range(0, max(1, len(weights)), rows))


def weighted_sum(weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums (R, k) of columns (n, k) for weights (R, n)."""
    return np.concatenate([chunk @ columns for chunk in chunks(weights, len(columns))])


def _in_chunks(measure: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Feed a metric a few resamples at a time."""

    @functools.wraps(measure)
    def chunked(y: np.ndarray, score: np.ndarray, weights: np.ndarray, **options: int) -> np.ndarray:
        parts = [measure(np.asarray(y), np.asarray(score), chunk, **options) for chunk in chunks(weights, len(y))]
        return np.concatenate(parts)

    return chunked


@_in_chunks
def confusion(y: np.ndarray, decision: np.ndarray, weights: np.ndarray, classes: int = 2) -> np.ndarray:
    """Confusion matrices, float64 (R, classes, classes): truth in rows, decision in columns. Both are class numbers (n,)."""
    cell = y.astype(int) * classes + decision.astype(int)
    return (weights @ (cell[:, None] == np.arange(classes**2)).astype(float)).reshape(-1, classes, classes)


def of_confusion(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics of binary confusion matrices (R, 2, 2); class 1 is the positive one.

    Undefined, hence NaN: precision when nothing is called positive, recall without positives, specificity and fpr without
    negatives, balanced accuracy without either, MCC when a row or a column of the matrix is empty.
    """
    (tn, fp), (fn, tp) = matrix[:, 0].T, matrix[:, 1].T
    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "accuracy": ratio(tp + tn, tp + tn + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": recall,
        "specificity": specificity,
        "fpr": 1 - specificity,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (recall + specificity) / 2,
        "mcc": ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    }


def one_versus_rest(matrix: np.ndarray, number: int) -> np.ndarray:
    """Binary confusion matrices (R, 2, 2) of class `number` against all others, from (R, K, K)."""
    tp = matrix[:, number, number]
    fn, fp = matrix[:, number].sum(axis=1) - tp, matrix[:, :, number].sum(axis=1) - tp
    tn = matrix.sum(axis=(1, 2)) - tp - fn - fp
    return np.stack([tn, fp, fn, tp], axis=1).reshape(-1, 2, 2)


def of_many_classes(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro F1 and MCC (Gorodkin 2004) of confusion matrices (R, K, K).

    The means over classes are undefined (NaN) when one of the classes has no case.
    """
    truth, called, right = matrix.sum(axis=2), matrix.sum(axis=1), np.einsum("rkk->rk", matrix)
    total = truth.sum(axis=1)
    covariance = right.sum(axis=1) * total - (truth * called).sum(axis=1)
    spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (called**2).sum(axis=1))
    recall = ratio(right, truth)
    return {
        "accuracy": ratio(right.sum(axis=1), total),
        "balanced_accuracy": recall.mean(axis=1),
        "mcc": ratio(covariance, np.sqrt(spread)),
        "f1_macro": np.where(np.isnan(recall), np.nan, ratio(2 * right, truth + called)).mean(axis=1),
    }


def auroc(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half."""
    return ranking(y, score, weights)[:, 0]


def average_precision(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean precision over the recall gained at each distinct score, not interpolated (as scikit-learn). NaN for one class."""
    return ranking(y, score, weights)[:, 1]


@_in_chunks
def ranking(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`auroc` and `average_precision` side by side, float64 (R, 2): what costs time is the same for both."""
    falling, order = -score, np.argsort(-score, kind="stable")
    negatives, positives = (order[y[order] == kind] for kind in (0, 1))
    levels, starts = np.unique(falling[positives], return_index=True)  # scores that positives have, from the highest down
    positive = np.take(weights, positives, axis=1)
    negative = np.cumsum(np.pad(np.take(weights, negatives, axis=1), [(0, 0), (1, 0)]), axis=1)
    if len(levels) < len(positives):
        positive = np.add.reduceat(positive, starts, axis=1)
    places = (np.searchsorted(falling[negatives], levels, side) for side in ("left", "right"))
    above, reached = (np.take(negative, place, axis=1) for place in places)
    tp, total, total_negative = np.cumsum(positive, axis=1), positive.sum(axis=1), negative[:, -1]
    below = (positive * (total_negative[:, None] - (above + reached) / 2)).sum(axis=1)
    precision = tp / np.maximum(tp + reached, np.finfo(float).tiny)
    scores = np.unique(falling)
    gained = np.zeros((len(weights), len(scores)))  # also where there is no positive: the order of a sum is part of its value
    gained[:, np.searchsorted(scores, levels)] = positive * precision
    precisions = np.where(total_negative > 0, ratio(gained.sum(axis=1), total), np.nan)
    return np.stack([ratio(below, total * total_negative), precisions], axis=1)


@_in_chunks
def brier(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of probabilities (n,); for a matrix (n, K) with class numbers `y`, summed over the classes."""
    error = (p - y) ** 2 if p.ndim == 1 else ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1)
    return ratio(weights @ error, weights.sum(axis=1))


@_in_chunks
def ece(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error over 15 equal-mass bins. `y` is 0 or 1 (n,), `p` its probability (n,).

    The bins are those of the sample, also for resamples. Noise in a bin only ever adds to this error, so that a bootstrap
    interval lies high: the value is often near its lower end.
    """
    members = (equal_mass_bins(p)[:, None] == np.arange(BINS)).astype(float)
    return ratio(np.abs(weights @ (members * (y - p)[:, None])).sum(axis=1), weights.sum(axis=1))


def equal_mass_bins(p: np.ndarray) -> np.ndarray:
    """The bin, 0 to 14, of each probability; bins hold equally many cases, but equal probabilities share one."""
    if not len(p):
        return np.zeros(0, dtype=int)
    return np.searchsorted(np.quantile(p, np.arange(1, BINS) / BINS), p, side="right")


def reliability(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, observed share and number of cases of each bin that is not empty."""
    bins, place, counts = np.unique(equal_mass_bins(p), return_inverse=True, return_counts=True)
    mean = [np.bincount(place, weights=values, minlength=len(bins)) / counts for values in (p, y)]
    return mean[0], mean[1], counts


TEMPERATURES = 0.05, 20.0
"""least and highest that are searched"""


def temperature(y: np.ndarray, p: np.ndarray) -> float:
    """The T that minimises the mean log loss of `scaled(p, T)` (Guo et al. 2017), within TEMPERATURES; fit it on validation."""
    from scipy.optimize import minimize_scalar  # half a second, for this alone
    from scipy.special import log_softmax

    logs = _log(p)

    def log_loss(log_t: float) -> float:
        return -log_softmax(logs / np.exp(log_t), axis=1)[np.arange(len(y)), y.astype(int)].mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def scaled(p: np.ndarray, t: float) -> np.ndarray:
    """Probabilities after temperature scaling: sigmoid(logit(p) / T) for (n,), softmax(log(p) / T) for (n, K)."""
    from scipy.special import softmax

    probabilities = softmax(_log(p) / t, axis=1)
    return probabilities[:, 1] if p.ndim == 1 else probabilities


def _log(p: np.ndarray) -> np.ndarray:
    both = np.column_stack([1 - p, p]) if p.ndim == 1 else p
    return np.log(np.clip(both, SMALLEST, 1 - SMALLEST))


def sweep(y: np.ndarray, score: np.ndarray, above: float = -np.inf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that decides differently, ascending, with its true and false positives.

    The lowest score (all are called positive), the midpoints between neighbouring scores, and one just above the highest.
    Only those above `above`: with 0, a case of score 0 (a slice in which a detector saw nothing) is never called positive.
    """
    scores, place = np.unique(score, return_inverse=True)
    positive = np.bincount(place, weights=y)
    negative = np.bincount(place) - positive
    midpoints = (scores[:-1] + scores[1:]) / 2
    midpoints = np.where(midpoints > scores[:-1], midpoints, scores[1:])  # neighbours that leave no number between them
    thresholds = np.concatenate([scores[:1], midpoints, scores[-1:] + 1e-6])
    tp, fp = (np.append(np.cumsum(counts[::-1])[::-1], 0) for counts in (positive, negative))
    kept = thresholds > above
    return thresholds[kept], tp[kept], fp[kept]


def max_f1_threshold(y: np.ndarray, score: np.ndarray, above: float = -np.inf) -> float:
    """The threshold with the highest F1; of several the lowest, for a missed bleeding costs more than a false alarm.

    Needs at least one positive. `above`: see `sweep`.
    """
    thresholds, tp, fp = sweep(y, score, above)
    return float(thresholds[np.argmax(2 * tp / (tp + fp + y.sum()))])


def expected_f1_threshold(y: np.ndarray, p: np.ndarray, t: float) -> float:
    """The threshold with the highest F1 to be expected of calibrated probabilities: half of that F1 (Lipton et al. 2014).

    The F1 is the highest that `p` reaches on `y`; the threshold is taken back through the temperature `t` that calibrates `p`. It
    follows few cases near the threshold less than `max_f1_threshold` does. Needs at least one positive.
    """
    _, tp, fp = sweep(y, p, above=0.0)
    half = np.array([np.max(2 * tp / (tp + fp + y.sum())) / 2])
    return float(scaled(half, 1 / t)[0])


def sensitivity_threshold(y: np.ndarray, score: np.ndarray, target: float, above: float = -np.inf) -> float:
    """The highest threshold with a sensitivity of at least `target`; the lowest where none above `above` reaches it.

    Needs at least one positive.
    """
    thresholds, tp, _ = sweep(y, score, above)
    reached = thresholds[tp / y.sum() >= target]
    return float(reached[-1] if len(reached) else thresholds[0])


def specificity_threshold(y: np.ndarray, score: np.ndarray, target: float, above: float = -np.inf) -> float:
    """The lowest threshold with a specificity of at least `target`. Needs at least one negative."""
    thresholds, _, fp = sweep(y, score, above)
    return float(thresholds[1 - fp / (len(y) - y.sum()) >= target][0])


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
