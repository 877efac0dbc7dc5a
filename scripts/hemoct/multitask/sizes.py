"""The size of a lesion in a slice, as a head of its own says it: how it is scaled, and how well it is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.evaluation import bootstrap, metrics, scores


def scale(fractions: np.ndarray) -> float:
    """The standard deviation of the roots of the lesions' shares (n,), NaN where unknown; 1 where nothing is known of it.

    Roots, for areas are skewed: most slices have no lesion, and a few a very large one.
    """
    known = np.sqrt(fractions[~np.isnan(fractions)])
    return float(known.std()) or 1.0 if len(known) else 1.0


def correlation(true: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one of them does not vary."""
    from scipy import stats  # a second, in the end of a training alone

    varies = len(true) > 1 and np.ptp(true) > 0 and np.ptp(predicted) > 0
    return float(stats.spearmanr(true, predicted)[0]) if varies else float("nan")


def write(folder: Path, frame: pd.DataFrame, usual: np.ndarray) -> list[Path]:
    """Write sizes.csv, and sizes.json of its test slices with a mask, beside what the mean of training would have said.

    `frame`: image_id, patient, fold, part, true_px (NaN without a mask), predicted_px, in pixels of the image; `usual`: that
    mean in pixels of each image (n,).
    """
    tested = ((frame["part"] == "test") & frame["true_px"].notna()).to_numpy()
    test = frame[tested]
    true, predicted = test["true_px"].to_numpy(), test["predicted_px"].to_numpy()
    drawn = bootstrap.weights(test["patient"].to_numpy(), test["fold"].to_numpy())

    def mean(values: np.ndarray) -> dict[str, Any]:
        of_all, resampled = (
            metrics.ratio(weights @ values, weights.sum(axis=1)) for weights in (np.ones((1, len(values))), drawn)
        )
        return scores.entry(float(of_all[0]), resampled, "no test slice has a mask")[0]

    ranked = correlation(true, predicted)
    content = {
        "n": len(test), "patients": int(test["patient"].nunique()), "rank_correlation": ranked if np.isfinite(ranked) else None,
        "metrics": {
            "mean_absolute_error_px": mean(np.abs(true - predicted)), "of_the_mean_px": mean(np.abs(true - usual[tested])),
        },
    }  # fmt: skip
    return [tables.write_csv(folder / "sizes.csv", frame), files.write_json(folder / "sizes.json", content)]
