"""Tables of evaluated masks: of slices, of patients, of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hemoct.segmentation import evaluate
from hemoct.segmentation.evaluate import CALLS, Patients, Segmentation

SHOWN = ("dice", "iou", "sensitivity", "specificity")


def per_slice(found: Segmentation) -> pd.DataFrame:
    """per_slice.csv: one row per scored test slice, sorted; what is undefined is empty."""
    counts = {"true_px": found.true, "predicted_px": found.predicted, **dict(zip(CALLS, found.counts.T, strict=True))}
    values = evaluate.of_counts(found.counts)
    table = found.table[["image_id", "patient", "fold", "part"]].assign(**counts, **{name: values[name] for name in SHOWN})
    return table.join(found.table[["hd95", "nsd", "distance_unit"]]).sort_values("image_id")


def per_patient(found: Segmentation) -> pd.DataFrame:
    """per_patient.csv: pixel sums over all scored slices of a patient, what follows from them, volumes and their unit; sorted."""
    patients = Patients.of(found)
    folds = found.table.groupby("patient")["fold"].unique().map(lambda of: "+".join(map(str, sorted(of))))
    slices = found.table["patient"].value_counts()
    values = evaluate.of_counts(patients.counts)
    table = pd.DataFrame({"patient": patients.names, "fold": folds[patients.names].array, "slices": slices[patients.names].array})
    return table.assign(
        **dict(zip(CALLS, patients.counts.T, strict=True)),
        **{name: values[name] for name in SHOWN},
        true_volume=patients.true,
        predicted_volume=patients.predicted,
        unit=patients.unit,
    )


def metrics_table(found: Segmentation, content: dict[str, Any]) -> pd.DataFrame:
    """segmentation_metrics.csv: metric, value, low, high, n, of (pixels, slices, patients), ceiling, reason."""
    support = evaluate.support(found)
    rows = []
    for name, cell in content["metrics"].items():
        low, high = cell["ci95"] or (np.nan, np.nan)
        n, of = support[name]
        rows.append({"metric": name, "value": cell["value"], "low": low, "high": high, "n": n, "of": of,
                     "ceiling": content["ceiling"].get(name), "reason": cell["reason"]})  # fmt: skip
    return pd.DataFrame(rows).astype({"value": float, "ceiling": float})
