"""Experiments of task 3 side by side: what 03_evaluate.py left of each, for hemoct.evaluation.comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation.comparison import Evaluated
from hemoct.segmentation import evaluate
from hemoct.segmentation.evaluate import Segmentation
from hemoct.segmentation.metrics import COUNTS

COMPARED = (
    *("dice_patient", "dice_patient_median", "dice_slice", "dice", "iou", "sensitivity", "precision", "nsd_slice"),
    *("hd95_slice", "volume_error"),
)
SHARES = tuple(name for name in COMPARED if name not in ("hd95_slice", "volume_error"))
"""those from 0 to 1, that fit on one axis"""
NEEDED = ("metrics.json", "per_slice.csv")
"""what is read of an experiment"""
COLUMNS = ("image_id", "patient", "fold", "part", "true_px", *COUNTS, "hd95", "nsd", "distance_unit")


class Segmented(Evaluated):
    """An evaluated experiment of task 3; `found` is a Segmentation of its scored test slices, without labels."""

    found: Segmentation

    @property
    def table(self):
        return self.found.table

    @property
    def truth(self) -> np.ndarray:
        return self.found.true

    def asks_like(self, other: Evaluated) -> bool:
        return True

    def of(self, rows: np.ndarray) -> Segmented:
        return replace(
            self, found=replace(self.found, table=self.table.iloc[rows].reset_index(drop=True), counts=self.found.counts[rows])
        )

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        measured = evaluate.measure(self.found, weights)
        return {name: values for name, values in measured.items() if name in COMPARED}


def read(work: Workspace, experiment: str) -> Segmented:
    """Read metrics.json and per_slice.csv of an experiment. Stops when they do not belong together."""
    folder, made_by = work.task(3) / experiment, f"task3_segmentation/03_evaluate.py --experiment {experiment}"
    content = files.read_json(work.need(folder / "metrics.json", made_by))
    work.need(folder / "per_slice.csv", made_by)
    frame = tables.read_csv(folder / "per_slice.csv", COLUMNS)
    if len(frame) != content["n"]:
        raise UserError(f"{work.show(folder)}: per_slice.csv does not belong to metrics.json; run: python {made_by}")
    table = frame[["image_id", "patient", "fold", "part", "hd95", "nsd", "distance_unit"]]
    table = table.assign(y=np.nan, factor=1.0, unit="px")  # relative errors of volumes are those of pixels
    counts = frame[list(COUNTS)].to_numpy(dtype=np.int64)
    compared = content | {"metrics": {name: content["metrics"][name] for name in COMPARED}}
    return Segmented(experiment, compared, Segmentation(table, counts, [], frame.iloc[:0], None))
