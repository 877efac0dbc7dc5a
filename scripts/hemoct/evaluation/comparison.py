"""Experiments side by side, and their differences paired by image with the same resampled patients for both."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap, decisions, metrics, predictions, protocol, scores, text
from hemoct.evaluation.thresholds import MAX_F1, Rule

ABOUT = ("protocol", "n", "patients")
"""what comparison.csv repeats of each experiment's metrics.json"""
VALUE, DIFFERENCE = ("value", "low", "high"), ("difference", "difference_low", "difference_high")
"""a number with its interval in comparison.csv"""
NONE = (np.nan, np.nan, np.nan)
LOWER = re.compile(r"(hamming|rsna_logloss|hd95|volume_error|brier|ece)(_.*)?")
"""metrics of which less is better"""


def named(metric: str) -> str:
    """A metric in a table or a figure: `hamming (lower is better)`."""
    return f"{metric} (lower is better)" if LOWER.fullmatch(metric) else metric


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation left of an experiment: of task 1 here; other tasks say what is other there."""

    name: str
    content: dict[str, Any]
    """metrics.json"""
    evaluation: Any
    """its test images with the thresholds of metrics.json: an Evaluation"""

    @property
    def table(self) -> pd.DataFrame:
        """image_id, patient, fold of each test image."""
        return self.evaluation.test.table

    @property
    def truth(self) -> np.ndarray:
        """(n,), what must be equal where two experiments tested the same image."""
        return self.evaluation.test.y

    def asks_like(self, other: Self) -> bool:
        return self.evaluation.question == other.evaluation.question

    @property
    def cases(self) -> str:
        """What is tested, in words."""
        return "images"

    def of(self, rows: np.ndarray) -> Self:
        """The same on some of its images, by their places in the table."""
        return replace(self, evaluation=replace(self.evaluation, test=self.evaluation.test.of(rows)))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric for weights (R, n) of the images: (R,)."""
        return scores.measure(self.evaluation, weights)

    def block(self, resamples: int, seed: int) -> dict[str, Any]:
        """The `metrics` of metrics.json: each with the interval of resampled patients."""
        patients, folds = (self.table[name].to_numpy() for name in ("patient", "fold"))
        weights = bootstrap.weights(patients, folds, resamples, seed)
        return scores.blocks(self.measure, self.table, weights, seed)[0]

    def at(self, common: np.ndarray) -> Self:
        """The same on the images `common` (image_ids, each of them tested), in their order."""
        return self.of(pd.Index(self.table["image_id"]).get_indexer(common))

    @property
    def shown(self) -> str:
        return f"{self.name} ({protocol.short_protocol(self.content)}, n = {self.content['n']}, {self.content['folds_done']})"


def read(work: Workspace, experiment: str, folder: Path | None = None) -> Evaluated:
    """Read metrics.json and the out-of-fold predictions of an experiment; `folder`: where they are kept, if elsewhere."""
    folder = folder or work.task(1) / experiment
    content, mismatch = evaluated(work, 1, folder, "predictions.csv")
    frame = predictions.check(tables.read_predictions(folder), folder / "predictions.csv")
    rules = [
        Rule(fold["fold"], {MAX_F1: fold["threshold"]}, fold["threshold_rule"], fold["temperature"], fold["temperature_rule"])
        for fold in content["folds"]
    ]
    evaluation = decisions.applied(frame, rules)
    if len(evaluation.test.y) != content["n"]:
        raise mismatch
    return Evaluated(experiment, content, evaluation)


def evaluated(work: Workspace, task: int, folder: Path, name: str) -> tuple[dict[str, Any], UserError]:
    """metrics.json of an experiment's folder, and the error for a file `name` beside it that was not written together with it."""
    made_by = f"{experiments.evaluate_step(task)} --experiment {folder.name}"
    content = files.read_json(work.need(folder / "metrics.json", made_by))
    work.need(folder / name, made_by)
    return content, UserError(f"{work.show(folder)}: {name} does not belong to metrics.json; run: python {made_by}")


def table(experiments: list[Evaluated], resamples: int, seed: int) -> pd.DataFrame:
    """comparison.csv: a row per experiment and metric; the difference is that to the first experiment, over common images.

    Columns: experiment, shown, protocol, n, patients, metric, value, low, high, difference, difference_low, difference_high,
    n_common, left_out, note.
    """
    first, rows = experiments[0], []
    for one in experiments:
        paired, facts = ({}, {"note": ""}) if one is first else differences(first, one, resamples, seed)
        about = {"experiment": one.name, "shown": one.shown, **facts, **{key: one.content[key] for key in ABOUT}}
        for metric, cell in one.content["metrics"].items():
            numbers = (cell["value"], *(cell["ci95"] or NONE[:2]), *paired.get(metric, NONE))
            rows.append({**about, "metric": metric, **dict(zip((*VALUE, *DIFFERENCE), numbers, strict=True))})
    columns = ["experiment", "shown", *ABOUT, "metric", *VALUE, *DIFFERENCE, "n_common", "left_out", "note"]
    kinds = dict.fromkeys((*VALUE, *DIFFERENCE), float) | {"n_common": object, "left_out": object}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def differences(
    first: Evaluated, other: Evaluated, resamples: int, seed: int
) -> tuple[dict[str, tuple[float, float, float]], dict[str, Any]]:
    """Other minus first for every metric with its interval, over the images that both tested; and what to know about them.

    Each keeps its own folds and thresholds. Patients are drawn within folds when both have the same folds, else over all.
    """
    if not first.asks_like(other):
        return {}, {"note": f"no difference: other labels than {first.name}"}
    if first.cases != other.cases:
        return {}, {"note": f"no difference: its cases are {other.cases}, those of {first.name} {first.cases}"}
    common = np.intersect1d(first.table["image_id"], other.table["image_id"])
    facts = {"n_common": len(common), "left_out": len(first.table) + len(other.table) - 2 * len(common)}
    if not len(common):
        return {}, facts | {"note": f"no difference: no image in common with {first.name}"}
    a, b = (one.at(common) for one in (first, other))
    if (a.truth != b.truth).any():
        image = common[a.truth != b.truth][0]
        raise UserError(f"{first.name} and {other.name} have another truth for {image}; evaluate both again")
    both_folds = a.table["fold"].astype(str).to_numpy() + "/" + b.table["fold"].astype(str).to_numpy()
    weights = bootstrap.weights(a.table["patient"].to_numpy(), both_folds, resamples, seed)
    values, drawn = ([one.measure(w) for one in (a, b)] for w in (metrics.ones(len(common)), weights))
    paired = {}
    for metric in (name for name in values[0] if name in values[1]):  # a score that is no probability has no calibration
        low, high, _ = bootstrap.interval(drawn[1][metric] - drawn[0][metric])
        paired[metric] = (float(values[1][metric][0] - values[0][metric][0]), low, high)
    protocols = [one.content["protocol"] for one in (first, other)]
    notes = [f"{protocols[0]} vs {protocols[1]} protocol"] * (protocols[0] != protocols[1])
    notes += [f"{facts['left_out']} images not in common left out"] * bool(facts["left_out"])
    return paired, facts | {"note": "; ".join(notes)}


def restricted(one: Evaluated, common: np.ndarray, resamples: int, seed: int) -> Evaluated:
    """The same on the images `common` (image_ids, each of them tested) alone: new values and intervals, the old thresholds."""
    one = one.at(common)
    now = {"n": len(common), "patients": one.table["patient"].nunique(), "metrics": one.block(resamples, seed)}
    return replace(one, content=protocol.as_known(one.content | now))


METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "f1_macro", "balanced_accuracy", "mcc", "auroc", "ap", "brier",
           "ece")  # fmt: skip


def markdown(frame: pd.DataFrame, title: str = "Task 1: experiments side by side", compared: tuple[str, ...] = METRICS) -> str:
    """comparison.md: values with intervals, an experiment a row; below, the differences to the first. `compared`: metrics."""
    wanted = [name for name in compared if name in set(frame["metric"])]
    first = frame["experiment"].iloc[0]
    drawn = "images: no patient is known" if set(frame["protocol"]) == {"image"} else "patients"
    lines = [f"# {title}", "", f"Value (95 % interval, bootstrap over {drawn}), test images out of fold.", ""]
    lines += _block(frame, wanted, VALUE)
    if frame["difference"].notna().any():
        others = frame[frame["shown"] != frame["shown"].iloc[0]]
        lines += ["", f"Difference to {first}, paired by image, the same resampled {drawn.partition(':')[0]} for both.", ""]
        lines += _block(others, wanted, DIFFERENCE, sign="+")
    notes = frame.loc[frame["note"] != "", ["experiment", "note"]].drop_duplicates()
    lines += ["", *(f"* {row.experiment} against {first}: {row.note}" for row in notes.itertuples())]
    return text.plain("\n".join(lines).rstrip()) + "\n"


def _block(frame: pd.DataFrame, wanted: list[str], columns: tuple[str, str, str], sign: str = "") -> list[str]:
    lines = ["| experiment | " + " | ".join(map(named, wanted)) + " |", "| --- |" + " ---: |" * len(wanted)]
    for name, of_one in frame.groupby("shown", sort=False):
        lines.append(f"| {name} | " + " | ".join(cells(of_one, wanted, columns, sign, " to ")) + " |")
    return lines


def cells(
    of_one: pd.DataFrame, wanted: Iterable[str], columns: tuple[str, str, str], sign: str = "", between: str = "-"
) -> list[str]:
    """A cell for each of the `wanted` metrics, from the rows of one experiment in comparison.csv; see text.interval."""
    numbers = of_one.set_index("metric").reindex(list(wanted))[list(columns)].to_numpy(dtype=float)
    return [text.interval(*row, sign, between) for row in numbers]
