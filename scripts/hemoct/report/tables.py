"""Tables as people read them: each reader turns one file of a step into cells of text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables

METRIC_NAMES = {
    "box_f1": "Box F1", "lesion_recall": "Lesions found", "f1": "F1", "auroc": "AUROC", "ap": "AP", "mcc": "MCC", "ece": "ECE",
    "fpr": "False positive rate",
    "map50": "mAP50", "map50_95": "mAP50:95", "froc_mean": "FROC mean", "ece_calibrated": "ECE after temperature scaling",
    "balanced_accuracy": "Balanced accuracy", "brier": "Brier score",
    "dice": "Dice of all pixels", "iou": "IoU of all pixels", "dice_patient": "Dice by patient, mean",
    "dice_patient_median": "Dice by patient, median", "dice_slice": "Dice by slice, mean",
    "nsd_slice": "NSD by slice", "hd95_slice": "HD95 by slice", "slice_f1": "Slice F1", "slice_fpr": "Slice false positive rate",
}  # fmt: skip
# The metrics that people compare, by task, with their headings; in task 2 a slice is positive when it has a box.
RESULT_METRICS = {
    1: {key: METRIC_NAMES.get(key, key.capitalize())
        for key in ("accuracy", "precision", "recall", "specificity", "f1", "auroc", "ap")},
    2: {"map50": "mAP50", "map50_95": "mAP50:95", "froc_mean": "FROC mean", "box_precision": "Box precision",
        "box_recall": "Box recall", "lesion_recall": "Lesions found", "accuracy": "Slice accuracy",
        "precision": "Slice precision", "recall": "Slice recall", "specificity": "Slice specificity", "f1": "Slice F1",
        "auroc": "Slice AUROC"},
    3: {"dice_patient": "Dice by patient", "dice_slice": "Dice by slice", "dice": "Dice, all pixels", "iou": "IoU, all pixels",
        "sensitivity": "Sensitivity, pixels", "nsd_slice": "NSD", "hd95_slice": "HD95",
        "slice_recall": "Slice recall", "slice_specificity": "Slice specificity", "slice_f1": "Slice F1"},
    4: {"f1_macro": "Macro F1", "f1_micro": "Micro F1", "exact_match": "Exact match", "hamming": "Hamming loss",
        "rsna_logloss": "RSNA log loss"},
}  # fmt: skip

CHOSEN_BY = {3: ("val_dice", "Validation Dice")}
"""the number on validation that chooses, by its name in metrics.json and history.csv, with its heading, for tasks that show it"""


MARKS = {3: "dice_patient", 4: "exact_match"}
"""a metric that a task alone has"""


@dataclass(frozen=True)
class Table:
    """Cells are text, ready to be shown."""

    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def dataset_facts(path: Path) -> Table:
    """dataset.json in words."""
    facts = {name: value for name, value in files.read_json(path).items() if value not in (None, [], {}, False)}
    counts = facts.pop("counts", {})
    rows = [[name.replace("_", " "), _words(value)] for name, value in (facts | counts).items()]
    return Table(["", ""], rows)


def mask_ceiling(path: Path) -> Table:
    """audit.json: how many slices with a box 'any mask pixel' can find at best; no row without boxes and masks."""
    ceiling = files.read_json(path)["ceiling"]
    if ceiling["value"] is None:
        return Table([], [])
    scored = ceiling["boxed_slices"] - ceiling["without_mask_file"]
    found = f"{ceiling['value']:.3f} ({ceiling['with_mask_pixels']} of {scored})"
    return Table(["", ""], [[ceiling["explanation"], found]])


def audit_checks(path: Path) -> Table:
    """The checks of audit.json that found something, the fatal ones first."""
    found = [(name, check) for name, check in files.read_json(path)["checks"].items() if check["count"]]
    found.sort(key=lambda entry: not entry[1]["fatal"])
    rows = [
        [name.replace("_", " "), _words(check["count"]), "fatal" if check["fatal"] else "to know", check["explanation"],
         (check["examples"] or [""])[0]]
        for name, check in found
    ]  # fmt: skip
    return Table(["check", "found", "severity", "meaning", "first example"], rows)


def fold_sizes(path: Path) -> Table:
    """splits.csv counted: images, patients and positives in each fold."""
    dataset = tables.Dataset(**files.read_json(path.parent / "dataset.json"))
    labels = tables.read_csv(path.parent / "labels.csv", ["image_id", *dataset.labels])
    frame = tables.read_csv(path, tables.SPLIT_COLUMNS).merge(labels[["image_id", *dataset.labels]], on="image_id")
    counts = {"images": ("image_id", "size"), "patients": ("patient", "nunique")}
    counts |= {f"positive: {label}": (label, "sum") for label in dataset.labels}
    return _from_frame(frame.groupby("fold", as_index=False).agg(**counts).astype(int))


def label_counts(path: Path) -> Table:
    """label_counts.csv of task 4 for the whole working set; the folds stay in the file."""
    frame = pd.read_csv(path)
    return _from_frame(frame[frame["fold"] == "all"].drop(columns=["fold", "part"]))


def rates(path: Path) -> Table:
    """A CSV of rates at some points: each rate with its interval in one cell; counts and thresholds stay in the file."""
    frame = pd.read_csv(path)
    named = [name for name in frame.columns if f"{name}_low" in frame.columns]
    cells = {name: [_interval(*row) for row in frame[[name, f"{name}_low", f"{name}_high"]].to_numpy()] for name in named}
    return _from_frame(pd.DataFrame({frame.columns[0]: frame.iloc[:, 0], **cells}))


def whole(path: Path) -> Table:
    """A CSV as it is."""
    return _from_frame(pd.read_csv(path))


def side_by_side(path: Path) -> Table:
    """The values of comparison.csv, one row an experiment."""
    frame = pd.read_csv(path)
    rows = [
        [str(name), of_one["protocol"].iloc[0], _words(int(of_one["n"].iloc[0])), *_compared(of_one, ["value", "low", "high"])]
        for name, of_one in frame.groupby("experiment", sort=False)
    ]
    return Table(["experiment", "protocol", "slices", *_compared_in(frame).values()], rows)


def differences(path: Path) -> Table:
    """comparison.csv: the differences to the first experiment, one row an experiment; no row where there is none."""
    frame = pd.read_csv(path)
    first, frame = frame["experiment"].iloc[0], frame.dropna(subset="difference")
    rows = []
    for name, of_one in frame.groupby("experiment", sort=False):
        cells = _compared(of_one, ["difference", "difference_low", "difference_high"], sign="+")
        note = of_one["note"].iloc[0]
        rows.append([str(name), *cells, "" if pd.isna(note) else note])
    return Table([f"less {first}", *_compared_in(frame).values(), "note"], rows)


def _compared_in(frame: pd.DataFrame) -> dict[str, str]:
    """The metrics that people compare and a comparison.csv holds, with their headings; what is in it tells the task."""
    there = set(frame["metric"])
    task = next((task for task, mark in MARKS.items() if mark in there), 1)
    return {key: name for key, name in RESULT_METRICS[task].items() if key in there}


def _compared(of_one: pd.DataFrame, columns: list[str], sign: str = "") -> list[str]:
    """A cell for each metric that people compare, from the rows of one experiment in comparison.csv."""
    by_metric = of_one.set_index("metric").reindex(list(_compared_in(of_one)))
    return [_interval(*row, sign=sign) for row in by_metric[columns].to_numpy(dtype=float)]


def metrics_table(path: Path) -> Table:
    """Every metric of a metrics.json, with its interval or the reason why it has no value."""
    content = files.read_json(path)
    rows = [[metric_name(key), metric(entry), entry.get("reason") or ""] for key, entry in content["metrics"].items()]
    return Table(["metric", "value (95 % interval)", "note"], [*rows, ["slices", _words(content["n"]), ""]])


def over_labels(path: Path) -> Table:
    """metrics.json of task 4: the numbers over all labels; those of each label are in per_label.csv."""
    content = files.read_json(path)
    rows = [[name, metric(content["metrics"][key]), content["metrics"][key].get("reason") or ""]
            for key, name in RESULT_METRICS[4].items()]  # fmt: skip
    return Table(["metric", "value (95 % interval)", "note"], [*rows, ["images", _words(content["n"]), ""]])


def results_table(task: Path) -> Table:
    """The experiments of a task folder that have been evaluated, one row each, with the metrics that people compare."""
    number = int(task.name.removeprefix("task"))
    compared, chosen_by = RESULT_METRICS[number], CHOSEN_BY.get(number)
    found = {
        path: files.read_json(path) for path in sorted([*task.glob("*/metrics.json"), *task.glob("*/truth-boxes/metrics.json")])
    }
    if number == 4:
        labels = dict.fromkeys(label for content in found.values() for label in content["labels"])
        compared = compared | {f"f1_{label}": f"F1 {label}" for label in labels}
    columns = ["experiment", "protocol", "slices", "patients", *compared.values()]
    columns += [chosen_by[1], "Seconds an epoch"] if chosen_by else []
    rows = []
    for path, content in found.items():
        entries = [content["metrics"].get(key, {"value": None}) for key in compared]
        done = content.get("folds_done", "")
        noted = (
            done.startswith(("folds", "only")) or "upper bound" in done
        )  # said where folds are missing, or the truth was looked at
        protocol = ", ".join([content["protocol"], *[done] * noted])
        rows.append([path.parent.relative_to(task).as_posix(), protocol, _words(content["n"]), _words(content["patients"]),
                     *map(metric, entries), *(_training(path.parent, content, chosen_by[0]) if chosen_by else [])])  # fmt: skip
    return Table(columns, rows)


def _training(experiment: Path, content: dict[str, Any], chosen_by: str) -> list[str]:
    """The validation number, mean over evaluated folds, and the median seconds of an epoch; empty where nothing tells them.

    The number is that of the evaluation where it has one, else the highest of each training.
    """
    paths = [experiment / f"fold{rule['fold']}" / "history.csv" for rule in content["folds"]]
    found = [tables.read_csv(path, [chosen_by, "seconds"]) for path in paths if path.exists()]
    best = [rule[chosen_by] for rule in content["folds"] if rule.get(chosen_by) is not None]
    best = best or [history[chosen_by].max() for history in found]
    seconds = f"{pd.concat(found)['seconds'].median():.0f}" if found else ""
    return [f"{np.mean(best):.3f}" if best else "", seconds]


def metric(entry: dict[str, Any]) -> str:
    """`0.912 (0.884-0.935)`; `n/a` where the metric is undefined."""
    low, high = entry.get("ci95") or (math.nan, math.nan)
    return _interval(math.nan if entry["value"] is None else entry["value"], low, high)


def _interval(value: float, low: float, high: float, sign: str = "") -> str:
    """With `sign` "+" for differences: `+0.012 (-0.003 to +0.027)`."""
    if math.isnan(value):
        return "n/a"
    between = " to " if sign else "-"
    interval = "" if math.isnan(low) or math.isnan(high) else f" ({low:{sign}.3f}{between}{high:{sign}.3f})"
    return f"{value:{sign}.3f}{interval}"


def metric_name(key: str) -> str:
    return METRIC_NAMES.get(key, key.replace("_", " ").capitalize())


def _from_frame(frame: pd.DataFrame) -> Table:
    rows = [["" if pd.isna(value) else _words(value) for value in row] for row in frame.itertuples(index=False)]
    return Table([str(name).replace("_", " ") for name in frame.columns], rows)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
