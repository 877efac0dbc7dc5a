"""From what maps say to numbers: means over cases with a box, with intervals over patients, and beside other sources.

Every number is a mean over cases (an image and a label) for weights (R, n) of these, see hemoct.evaluation.bootstrap: ones give
the value, drawn patients its interval.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hemoct.detection import metrics as detection_metrics
from hemoct.detection.metrics import Matched
from hemoct.detection.predictions import Scene
from hemoct.evaluation import metrics as evaluation_metrics, scores

IOUS = np.array([0.1, 0.25, 0.5, 0.7])
MEANS = ("pointing", "heat_box", "heat_mask", "heat_head", "dice_box", "dice_mask", "black")
REASONS = {
    "heat_mask": "no case has a mask with a pixel, and heat",
    "dice_mask": "no case has a mask with a pixel",
    "heat_head": "no head was found",
}
MOST = 0.5
"""share of the heat outside of the head from which on a map lies outside"""
MEANINGS = {
    "pointing": "maximum inside a box (pointing game, Zhang et al. 2018, without tolerance)",
    "heat_box": "share of the heat inside the boxes",
    "heat_mask": "share of the heat inside the mask",
    "heat_head": "share of the heat inside the head",
    "dice_box": "Dice of the thresholded map and the boxes",
    "dice_mask": "Dice of the thresholded map and the mask",
    "black": "maps without any heat",
    **{f"localisation_{iou:g}": f"boxes hit with IoU >= {iou:g}" for iou in IOUS},
    **{f"false_positives_{iou:g}": f"regions an image without such a hit, IoU >= {iou:g}" for iou in IOUS},
    "rank_correlation": "Spearman correlation with the map of the network with random weights",
}


@dataclass(frozen=True)
class Source:
    """What one source, the model or another, says of the cases that are scored; row i of each is the same case."""

    name: str
    table: pd.DataFrame
    """image_id, patient, fold, part, label ... of the cases"""
    values: pd.DataFrame
    """of each case, see regions.measure"""
    boxes: list[np.ndarray]
    """of its regions, (k, 6) a case, see regions.Shown"""
    truth: list[np.ndarray]
    """float64 (k, 4) a case"""

    @cached_property
    def matched(self) -> Matched:
        none = [np.zeros(len(boxes), dtype=int) for boxes in self.truth]
        return detection_metrics.match(Scene(self.table, ["lesion"], self.truth, none, self.boxes))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric for weights (R, n) of the cases: (R,) each."""
        found = {name: mean(self.values[name].to_numpy(dtype=float), weights) for name in MEANS}
        none = np.zeros(len(self.table))
        both = detection_metrics.localisation(self.matched, none, weights, IOUS)
        for name, of_ious in zip(("localisation", "false_positives"), both, strict=True):
            found |= {f"{name}_{iou:g}": of_ious[:, column] for column, iou in enumerate(IOUS)}
        return found


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of values (n,), NaN left out, for weights (R, n): (R,)."""
    known = ~np.isnan(values)
    sums = evaluation_metrics.weighted_sum(weights, np.column_stack([np.where(known, values, 0), known]))
    return evaluation_metrics.ratio(sums[:, 0], sums[:, 1])


def reason(name: str) -> str:
    return REASONS.get(name, "no case with a box")


def block(
    of: Callable[[np.ndarray], dict[str, np.ndarray]], table: pd.DataFrame, weights: np.ndarray, seed: int
) -> dict[str, Any]:
    """Metrics with their intervals, by name."""
    return scores.blocks(of, table, weights, seed, reason)[0]


def difference(one: Source, other: Source) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What measures how much higher each metric of one source is than that of another, on the same cases."""

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        theirs = other.measure(weights)
        return {name: value - theirs[name] for name, value in one.measure(weights).items()}

    return measured


def wrong_reason(table: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """True positives, those first whose heat lies elsewhere: outside of the head, then outside of the boxes.

    `values`: of the same cases, see regions.measure. Adds heat_box, heat_head, and whether the maximum lies outside.
    """
    columns = ["image_id", "patient", "fold", "label", "p", "threshold"]
    frame = table[columns].assign(heat_head=values["heat_head"], heat_box=values["heat_box"])
    frame["peak_outside_head"] = 1 - values["peak_head"]
    frame["peak_outside_boxes"] = (1 - values["pointing"]).where(values["black"] == 0)
    frame["outside_head"] = ((frame["heat_head"] < MOST) | (frame["peak_outside_head"] == 1)).astype(int)
    frame = frame[(table["kind"] == "true positive").to_numpy()]
    return frame.sort_values(
        ["outside_head", "peak_outside_boxes", "heat_head", "image_id"], ascending=[False, False, True, True], ignore_index=True
    )


def outside(frame: pd.DataFrame, weights: np.ndarray, seed: int) -> dict[str, Any]:
    """How often a correct call has its heat elsewhere. `frame`: of `wrong_reason`; `weights` (R, n) in its order."""

    def measured(of: np.ndarray) -> dict[str, np.ndarray]:
        named = ("outside_head", "peak_outside_head", "peak_outside_boxes")
        return {name: mean(frame[name].to_numpy(dtype=float), of) for name in named}

    counts = {"true_positives": len(frame), "outside_head_cases": int(frame["outside_head"].sum())}
    return counts | scores.blocks(measured, frame, weights, seed, lambda name: "no true positive")[0]
