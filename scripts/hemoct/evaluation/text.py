"""Numbers and tables as people read them."""

import math
import re
from dataclasses import dataclass
from typing import Any

METRIC_NAMES = {
    "box_f1": "Box F1", "lesion_recall": "Lesions found", "f1": "F1", "auroc": "AUROC", "ap": "AP", "mcc": "MCC", "ece": "ECE",
    "fpr": "False positive rate",
    "map50": "mAP50", "map50_95": "mAP50:95", "froc_mean": "FROC mean", "ece_calibrated": "ECE after temperature scaling",
    "balanced_accuracy": "Balanced accuracy", "brier": "Brier score",
    "dice": "Dice of all pixels", "iou": "IoU of all pixels", "dice_patient": "Dice by patient, mean",
    "dice_patient_median": "Dice by patient, median", "dice_slice": "Dice by slice, mean",
    "nsd_slice": "NSD by slice", "hd95_slice": "HD95 by slice", "slice_f1": "Slice F1", "slice_fpr": "Slice false positive rate",
}  # fmt: skip


TAG = re.compile(r"<(?=[A-Za-z/!?])")


@dataclass(frozen=True)
class Table:
    """Cells are text, ready to be shown."""

    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        cells = ([plain(" ".join(cell.splitlines())).replace("|", "\\|") for cell in line] for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def plain(words: str) -> str:
    """Words in which Markdown finds no HTML and no picture of another place: names of labels and files come from users."""
    return TAG.sub("&lt;", words).replace("![", "!\\[")


def metric(entry: dict[str, Any]) -> str:
    """`0.912 (0.884-0.935)`; `n/a` where the metric is undefined."""
    low, high = entry.get("ci95") or (math.nan, math.nan)
    return interval(math.nan if entry["value"] is None else entry["value"], low, high)


def interval(value: float, low: float, high: float, sign: str = "", between: str = "-") -> str:
    """With `sign` "+" and `between` " to " for differences: `+0.012 (-0.003 to +0.027)`."""
    if math.isnan(value):
        return "n/a"
    around = "" if math.isnan(low) or math.isnan(high) else f" ({low:{sign}.3f}{between}{high:{sign}.3f})"
    return f"{value:{sign}.3f}{around}"


def metric_name(key: str) -> str:
    return METRIC_NAMES.get(key, key.replace("_", " ").capitalize())
