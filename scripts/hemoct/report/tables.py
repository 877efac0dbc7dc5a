"""Tables as people read them: each reader turns one file of a step into cells of text."""

from pathlib import Path
from typing import Any

import pandas as pd

from hemoct.base import files, tables
from hemoct.evaluation import comparison, text
from hemoct.evaluation.comparison import DIFFERENCE, VALUE
from hemoct.report import results

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
    content = files.read_json(path)
    sample = content.get("sample")
    found = [(name, check) for name, check in content["checks"].items() if check["count"]]
    found.sort(key=lambda entry: not entry[1]["fatal"])
    rows = [
        [name.replace("_", " "), _words(check["count"]), "fatal" if check["fatal"] else "to know", check["explanation"],
         (check["examples"] or [""])[0]]
        for name, check in found
    ]  # fmt: skip
    if sample:
        about = f"pixels were read of so many of {_words(sample['of'])} images; {_words(sample['checks'])} know these alone"
        rows.append(["a sample", _words(sample["images"]), "to know", about, ""])
    return text.Table(["check", "found", "severity", "meaning", "first example"], rows)


def fold_sizes(path: Path) -> text.Table:
    """splits.csv counted: images, patients and positives in each fold."""
    about = path.parent / "dataset.json"
    dataset = files.read_into(tables.Dataset, files.read_json(about), about)
    labels = tables.read_csv(path.parent / "labels.csv", ["image_id", *dataset.labels])
    frame = tables.read_csv(path, tables.SPLIT_COLUMNS).merge(labels[["image_id", *dataset.labels]], on="image_id")
    counts = {"images": ("image_id", "size"), "patients": ("patient", "nunique")}
    counts |= {f"positive: {label}": (label, "sum") for label in dataset.labels}
    return _from_frame(frame.groupby("fold", as_index=False).agg(**counts).astype(int))


def label_counts(path: Path) -> text.Table:
    """label_counts.csv of task 4 for the whole working set; the folds stay in the file."""
    frame = tables.read_csv(path, ["label", "part"]).astype({"fold": str})
    return _from_frame(frame[frame["fold"] == "all"].drop(columns=["fold", "part"]))


def rates(path: Path) -> text.Table:
    """A CSV of rates at some points: each rate with its interval in one cell; counts and thresholds stay in the file."""
    frame = tables.read_csv(path, [])
    named = [name for name in frame.columns if f"{name}_low" in frame.columns]
    cells = {name: [text.interval(*row) for row in frame[[name, f"{name}_low", f"{name}_high"]].to_numpy()] for name in named}
    return _from_frame(pd.DataFrame({frame.columns[0]: frame.iloc[:, 0], **cells}))


def whole(path: Path) -> text.Table:
    """A CSV as it is."""
    return _from_frame(tables.read_csv(path, []))


def looked_at(path: Path) -> text.Table:
    """scores.csv of maps: a row a metric, a column a source, the model first."""
    frame = tables.read_csv(path, ["source", "metric", "means", "value", "value_low", "value_high"], numbers=False)
    sources = frame["source"].unique()
    intervals = map(text.interval, frame["value"], frame["value_low"], frame["value_high"])
    cells = dict(zip(zip(frame["source"], frame["metric"], strict=True), intervals, strict=True))
    rows = [[means, *(cells.get((source, metric), "") for source in sources)]
            for metric, means in frame[["metric", "means"]].drop_duplicates("metric").itertuples(index=False)]  # fmt: skip
    return text.Table(["mean over cases with a box", *sources], rows)


def side_by_side(path: Path) -> text.Table:
    """The values of comparison.csv, one row an experiment."""
    frame = tables.read_csv(path, ["experiment", "metric", "protocol", "n", *VALUE])
    metrics = _compared_in(frame)
    rows = [
        [str(name), of_one["protocol"].iloc[0], _words(int(of_one["n"].iloc[0])), *comparison.cells(of_one, metrics, VALUE)]
        for name, of_one in frame.groupby("experiment", sort=False)
    ]
    return text.Table(["experiment", "protocol", "slices", *metrics.values()], rows)


def differences(path: Path) -> text.Table:
    """comparison.csv: the differences to the first experiment, one row an experiment; no row where there is none."""
    frame = tables.read_csv(path, ["experiment", "metric", "note", *DIFFERENCE]).astype({"note": object}).fillna({"note": ""})
    first, frame = frame["experiment"].iloc[0], frame.dropna(subset="difference")
    metrics = _compared_in(frame)
    rows = [
        [str(name), *comparison.cells(of_one, metrics, DIFFERENCE, "+", " to "), of_one["note"].iloc[0]]
        for name, of_one in frame.groupby("experiment", sort=False)
    ]
    return text.Table([f"less {first}", *metrics.values(), "note"], rows)


def _compared_in(frame: pd.DataFrame) -> dict[str, str]:
    """The metrics that people compare and a comparison.csv holds, with their headings; what is in it tells the task."""
    there = set(frame["metric"])
    task = next((task for task, mark in MARKS.items() if mark in there), 1)
    return {key: name for key, name in results.compared(task).items() if key in there}


def metrics_table(path: Path, names: dict[str, str] | None = None, cases: str = "slices") -> text.Table:
    """Metrics of a metrics.json, by default all, with their intervals or the reasons why they have no value."""
    content = files.read_json(path)
    entries = content["metrics"]
    names = names or {key: text.metric_name(key) for key in entries}
    rows = [[name, text.metric(entries[key]), entries[key].get("reason") or ""] for key, name in names.items()]
    return text.Table(["metric", "value (95 % interval)", "note"], [*rows, [cases, _words(content["n"]), ""]])


def over_labels(path: Path) -> text.Table:
    """metrics.json of task 4: the numbers over all labels; those of each label are in per_label.csv."""
    return metrics_table(path, results.compared(4), "images")


def _from_frame(frame: pd.DataFrame) -> text.Table:
    rows = [["" if pd.isna(value) else _words(value) for value in row] for row in frame.itertuples(index=False)]
    return text.Table([str(name).replace("_", " ") for name in frame.columns], rows)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
