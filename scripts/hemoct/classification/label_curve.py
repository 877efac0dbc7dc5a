"""How well classifiers do by how many patients are labelled and by what they start from: means over seeds, paired differences."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices, splits
from hemoct.evaluation import bootstrap, comparison, metrics, protocol, text
from hemoct.evaluation.comparison import Evaluated

SCRATCH, IMAGENET = "none", "imagenet"
"""what --weights calls two of the starts; others are names of pre-trainings, or files"""
NAMES = {SCRATCH: "from scratch", IMAGENET: "ImageNet"}
MEASURED = ("auroc", "ap", "f1", "f1_macro", "accuracy", "balanced_accuracy", "brier")
ABOUT = ("dataset", "protocol", "protocol_text", "fold_numbers", "folds_expected", "complete", "n", "patients", "positives",
         "labels_mean")  # fmt: skip
"""what is taken over from metrics.json of the experiments, which are alike in it"""
FIRST = ("auroc", "f1_macro")
"""the metric that is shown: the first that there is"""
VARIED = {"weights", "labelled", "seed", "experiment", "fold", "device", "threads", "max_megapixels", "dataset", "weights_dir"}
"""flags in which the trainings of a curve differ, or that change no result"""


@dataclass(frozen=True)
class Trained:
    """An evaluated experiment, and its place on the curve."""

    evaluated: Evaluated
    start: str
    """its --weights"""
    method: str | None
    """of the pre-training that it started from"""
    share: float
    patients: int
    """labelled training patients, summed over the folds"""
    of: int
    seed: int
    flags: dict[str, Any]
    """all others of its training"""

    @property
    def cell(self) -> tuple[float, str]:
        return self.share, self.start


def read(work: Workspace, names: Iterable[str]) -> list[Trained]:
    """Evaluated experiments with their places. Stops where they were not tested on the same images, or two are of one place."""
    found = [_read(work, name) for name in dict.fromkeys(names)]
    first, places = found[0].evaluated, {}
    for one in found:
        name = one.evaluated.name
        other = places.setdefault((*one.cell, one.seed), name)
        if other != name:
            raise UserError(f"{other} and {name} have the same share of labels, start and seed; name one of them")
        if not one.evaluated.asks_like(first) or set(one.evaluated.table["image_id"]) != set(first.table["image_id"]):
            raise UserError(f"{name} was tested on other images or labels than {first.name}; name experiments of the same folds")
        if one.evaluated.content["protocol"] != first.content["protocol"]:
            raise UserError(f"{name} and {first.name} differ in protocol; name experiments that are alike")
    return found


def _read(work: Workspace, name: str) -> Trained:
    evaluated = comparison.read(work, name)
    folders = experiments.folds(work.task(1) / name, "model.json")
    records = [record for folder in folders for record in protocol.trainings(folder)]
    if not records or any("weights" not in record["arguments"] for record in records):
        raise UserError(f"{name} was not trained by {experiments.train_step(1)} alone; a curve is of such experiments")
    flags = [{key: value for key, value in record["arguments"].items() if key != "fold"} for record in records]
    specs = [experiments.description(folder) for folder in folders]
    limit = flags[0].get("limit_patients")
    counts = [spec.get("labelled") or {"patients": n, "of": n} for spec in specs for n in [_training_patients(work, spec, limit)]]
    return Trained(
        evaluated, flags[0]["weights"], (specs[0].get("initial_weights") or {}).get("method"), flags[0].get("labelled", 1.0),
        sum(count["patients"] for count in counts), sum(count["of"] for count in counts), flags[0]["seed"],
        {key: value for key, value in flags[0].items() if key not in VARIED},
    )  # fmt: skip


def _training_patients(work: Workspace, spec: dict[str, Any], limit: int | None) -> int:
    labels, table = tables.read_labels(work, tables.read_dataset(work)), tables.read_splits(work)
    part = splits.part_of(labels, table, spec["fold"], spec["protocol"], spec["split"]).reindex(labels["image_id"]).to_numpy()
    known = slices.first_patients(table, limit) if limit else set(labels["patient"])
    return len(known & set(labels["patient"][part == "train"]))


def content(work: Workspace, found: list[Trained], seed: int) -> dict[str, Any]:
    """metrics.json of a curve: of each share and start the mean over its seeds, with the interval of resampled patients, and the
    difference to the start from scratch with the same share and seeds, each resample drawing the same patients for all."""
    first = found[0].evaluated
    table = first.table.sort_values("image_id")
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), bootstrap.RESAMPLES, seed)
    numbers = {(*one.cell, one.seed): measured(one.evaluated.at(table["image_id"].to_numpy()), weights) for one in found}
    cells: dict[tuple[float, str], list[Trained]] = {}
    for one in sorted(found, key=lambda one: (one.share, one.start != SCRATCH, one.start != IMAGENET, one.start, one.seed)):
        cells.setdefault(one.cell, []).append(one)
    names = [name for name in MEASURED if all(name in values for values, _ in numbers.values())]
    made = []
    for cell, members in cells.items():
        seeds = [one.seed for one in members]
        paired = [seed for seed in seeds if (cell[0], SCRATCH, seed) in numbers and cell[1] != SCRATCH]
        made.append({
            "share": cell[0], "patients": members[0].patients, "of": members[0].of, "start": cell[1],
            "method": members[0].method, "seeds": seeds, "experiments": [one.evaluated.name for one in members],
            "metrics": {name: mean(name, [numbers[*cell, seed] for seed in seeds]) for name in names},
            "paired_seeds": paired,
            "difference": {
                name: mean(name, [numbers[*cell, seed] for seed in paired],
                            [numbers[cell[0], SCRATCH, seed] for seed in paired])
                for name in names if paired
            },
        })  # fmt: skip
    about = {key: first.content[key] for key in ABOUT}
    of_bootstrap = {"resamples": bootstrap.RESAMPLES, "seed": seed}
    return {"task": 1, **about, "bootstrap": of_bootstrap, "cells": made, "notes": notes(found)}


Measured = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def measured(one: Evaluated, weights: np.ndarray) -> Measured:
    """Each metric of the images as they are, (1,), and of their resamples, (R,)."""
    return one.measure(metrics.ones(len(one.table))), one.measure(weights)


def mean(name: str, members: list[Measured], less: list[Measured] = ()) -> dict[str, Any]:
    """The mean over members of a metric, or of its differences to those in `less`; with interval, and each member's value."""
    values, drawn = ([each[part][name] for each in members] for part in (0, 1))
    if less:
        values, drawn = ([own - each[part][name] for own, each in zip(of, less, strict=True)]
                         for part, of in enumerate((values, drawn)))  # fmt: skip
    low, high, _ = bootstrap.interval(np.mean(drawn, axis=0))
    each = [float(value[0]) for value in values]
    defined = not np.isnan(each).any()
    return {"value": float(np.mean(each)) if defined else None, "ci95": None if np.isnan(low) else [low, high], "by_seed": each}


def notes(found: list[Trained]) -> list[str]:
    """In which flags the trainings differ beyond share, start and seed: then the curve compares these too."""
    said = {key: sorted({str(one.flags.get(key)) for one in found}) for key in found[0].flags}
    return [f"the trainings differ in --{key.replace('_', '-')}: {', '.join(values)}" for key, values in said.items()
            if len(values) > 1]  # fmt: skip


def name_of(cell: dict[str, Any]) -> str:
    """What a network started from, for people."""
    method = f" ({cell['method']})" if cell["method"] and cell["method"] not in cell["start"] else ""
    return NAMES.get(cell["start"], f"{Path(cell['start']).name}{method}")


def starts(made: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each start, in their order."""
    of_start: dict[str, list[dict[str, Any]]] = {}
    for cell in made["cells"]:
        of_start.setdefault(cell["start"], []).append(cell)
    return of_start


def shown(made: dict[str, Any]) -> str:
    """The metric that the figure and the page show."""
    return next(name for name in (*FIRST, *MEASURED) if name in made["cells"][0]["metrics"])


def frame(made: dict[str, Any]) -> pd.DataFrame:
    """label_curve.csv: a row for each share, start and metric."""
    rows = []
    for cell in made["cells"]:
        for name, entry in cell["metrics"].items():
            row = {key: cell[key] for key in ("share", "patients", "of", "start", "method")} | {"seeds": len(cell["seeds"])}
            for prefix, numbers in (("", entry), ("difference", cell["difference"].get(name))):
                low, high = (numbers or {}).get("ci95") or (np.nan, np.nan)
                words = [f"{prefix}_{end}" if prefix else end for end in ("low", "high")]
                row |= {prefix or "value": (numbers or {}).get("value"), words[0]: low, words[1]: high}
            rows.append(row | {"metric": name})
    return pd.DataFrame(rows)


def markdown(made: dict[str, Any], command: str) -> str:
    """label_curve.md: shares in rows, starts in columns; below, the differences to the start from scratch."""
    of_start, name = starts(made), shown(made)
    shares = {cell["share"]: f"{cell['share']:.3g} ({cell['patients']} of {cell['of']} patients)" for cell in made["cells"]}
    at = {(cell["share"], cell["start"]): cell for cell in made["cells"]}

    def table(key: str, columns: list[str], **how: str) -> str:
        rows = [
            [words, *(_cell(at.get((share, start)), key, name, **how) for start in columns)] for share, words in shares.items()
        ]
        return text.Table(["labelled", *(name_of(of_start[start][0]) for start in columns)], rows).markdown()

    others = [start for start, cells in of_start.items() if any(cell["difference"] for cell in cells)]
    drawn = "images: no patient is known" if made["protocol"] == "image" else "patients"
    lines = [
        f"# Task 1: {text.metric_name(name)} by the share of labelled patients", f"`{command}`",
        f"{made['dataset']}, {protocol.short_protocol(made)}, {protocol.folds_text(made)}, n = {protocol.size(made)}. Mean over "
        f"seeds (how many stands behind it); 95 % intervals, bootstrap over {drawn}, for these seeds. Validation, which chooses "
        "the epoch and the thresholds, keeps all its labels. A seed draws the labelled patients too, the same for all starts.",
        table("metrics", list(of_start)),
    ]  # fmt: skip
    if others:
        lines += ["Difference to the start from scratch with the same labels and seed, paired by image.",
                  table("difference", others, sign="+", between=" to ")]  # fmt: skip
    lines += [f"* {line}" for line in made["notes"]]
    return "\n\n".join(lines) + "\n"


def _cell(cell: dict[str, Any] | None, key: str, name: str, **how: str) -> str:
    if cell is None or name not in cell[key]:
        return ""
    entry = cell[key][name]
    low, high = entry["ci95"] or (np.nan, np.nan)
    value = np.nan if entry["value"] is None else entry["value"]
    return f"{text.interval(value, low, high, **how)}, {len(entry['by_seed'])}"
