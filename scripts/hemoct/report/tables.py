"""Tables as people read them: each reader turns one file of a step into cells of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.evaluation import text

# The metrics that people compare, by task, with their headings; in task 2 a slice is positive when it has a box.
RESULT_METRICS = {
    1: {key: text.METRIC_NAMES.get(key, key.capitalize())
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


def dataset_facts(path: Path) -> text.Table:
    """dataset.json in words."""
    facts = {name: value for name, value in files.read_json(path).items() if value not in (None, [], {}, False)}
    counts = facts.pop("counts", {})
    rows = [[name.replace("_", " "), _words(value)] for name, value in (facts | counts).items()]
    return text.Table(["", ""], rows)


def mask_ceiling(path: Path) -> text.Table:
    """audit.json: how many slices with a box 'any mask pixel' can find at best; no row without boxes and masks."""
    ceiling = files.read_json(path)["ceiling"]
    if ceiling["value"] is None:
        return text.Table([], [])
    scored = ceiling["boxed_slices"] - ceiling["without_mask_file"]
    found = f"{ceiling['value']:.3f} ({ceiling['with_mask_pixels']} of {scored})"
    return text.Table(["", ""], [[ceiling["explanation"], found]])


def audit_checks(path: Path) -> text.Table:
    """The checks of audit.json that found something, the fatal ones first."""
    found = [(name, check) for name, check in files.read_json(path)["checks"].items() if check["count"]]
    found.sort(key=lambda entry: not entry[1]["fatal"])
    rows = [
        [name.replace("_", " "), _words(check["count"]), "fatal" if check["fatal"] else "to know", check["explanation"],
         (check["examples"] or [""])[0]]
        for name, check in found
    ]  # fmt: skip
    return text.Table(["check", "found", "severity", "meaning", "first example"], rows)


def fold_sizes(path: Path) -> text.Table:
    """splits.csv counted: images, patients and positives in each fold."""
    dataset = tables.Dataset(**files.read_json(path.parent / "dataset.json"))
    labels = tables.read_csv(path.parent / "labels.csv", ["image_id", *dataset.labels])
    frame = tables.read_csv(path, tables.SPLIT_COLUMNS).merge(labels[["image_id", *dataset.labels]], on="image_id")
    counts = {"images": ("image_id", "size"), "patients": ("patient", "nunique")}
    counts |= {f"positive: {label}": (label, "sum") for label in dataset.labels}
    return _from_frame(frame.groupby("fold", as_index=False).agg(**counts).astype(int))


def label_counts(path: Path) -> text.Table:
    """label_counts.csv of task 4 for the whole working set; the folds stay in the file."""
    frame = pd.read_csv(path)
    return _from_frame(frame[frame["fold"] == "all"].drop(columns=["fold", "part"]))


def rates(path: Path) -> text.Table:
    """A CSV of rates at some points: each rate with its interval in one cell; counts and thresholds stay in the file."""
    frame = pd.read_csv(path)
    named = [name for name in frame.columns if f"{name}_low" in frame.columns]
    cells = {name: [text.interval(*row) for row in frame[[name, f"{name}_low", f"{name}_high"]].to_numpy()] for name in named}
    return _from_frame(pd.DataFrame({frame.columns[0]: frame.iloc[:, 0], **cells}))


def whole(path: Path) -> text.Table:
    """A CSV as it is."""
    return _from_frame(pd.read_csv(path))


def side_by_side(path: Path) -> text.Table:
    """The values of comparison.csv, one row an experiment."""
    frame = pd.read_csv(path)
    rows = [
        [str(name), of_one["protocol"].iloc[0], _words(int(of_one["n"].iloc[0])), *_compared(of_one, ["value", "low", "high"])]
        for name, of_one in frame.groupby("experiment", sort=False)
    ]
    return text.Table(["experiment", "protocol", "slices", *_compared_in(frame).values()], rows)


def differences(path: Path) -> text.Table:
    """comparison.csv: the differences to the first experiment, one row an experiment; no row where there is none."""
    frame = pd.read_csv(path)
    first, frame = frame["experiment"].iloc[0], frame.dropna(subset="difference")
    rows = []
    for name, of_one in frame.groupby("experiment", sort=False):
        cells = _compared(of_one, ["difference", "difference_low", "difference_high"], sign="+")
        note = of_one["note"].iloc[0]
        rows.append([str(name), *cells, "" if pd.isna(note) else note])
    return text.Table([f"less {first}", *_compared_in(frame).values(), "note"], rows)


def _compared_in(frame: pd.DataFrame) -> dict[str, str]:
    """The metrics that people compare and a comparison.csv holds, with their headings; what is in it tells the task."""
    there = set(frame["metric"])
    task = next((task for task, mark in MARKS.items() if mark in there), 1)
    return {key: name for key, name in RESULT_METRICS[task].items() if key in there}


def _compared(of_one: pd.DataFrame, columns: list[str], sign: str = "") -> list[str]:
    """A cell for each metric that people compare, from the rows of one experiment in comparison.csv."""
    by_metric = of_one.set_index("metric").reindex(list(_compared_in(of_one)))
    return [text.interval(*row, sign=sign) for row in by_metric[columns].to_numpy(dtype=float)]


def metrics_table(path: Path) -> text.Table:
    """Every metric of a metrics.json, with its interval or the reason why it has no value."""
    content = files.read_json(path)
    rows = [[text.metric_name(key), text.metric(entry), entry.get("reason") or ""] for key, entry in content["metrics"].items()]
    return text.Table(["metric", "value (95 % interval)", "note"], [*rows, ["slices", _words(content["n"]), ""]])


def over_labels(path: Path) -> text.Table:
    """metrics.json of task 4: the numbers over all labels; those of each label are in per_label.csv."""
    content = files.read_json(path)
    rows = [[name, text.metric(content["metrics"][key]), content["metrics"][key].get("reason") or ""]
            for key, name in RESULT_METRICS[4].items()]  # fmt: skip
    return text.Table(["metric", "value (95 % interval)", "note"], [*rows, ["images", _words(content["n"]), ""]])


def results_table(task: Path) -> text.Table:
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
        trained = _training(path.parent, content, chosen_by[0]) if chosen_by else []
        about = [path.parent.relative_to(task).as_posix(), protocol, _words(content["n"]), _words(content["patients"])]
        rows.append([*about, *map(text.metric, entries), *trained])
    return text.Table(columns, rows)


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


def _from_frame(frame: pd.DataFrame) -> text.Table:
    rows = [["" if pd.isna(value) else _words(value) for value in row] for row in frame.itertuples(index=False)]
    return text.Table([str(name).replace("_", " ") for name in frame.columns], rows)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
