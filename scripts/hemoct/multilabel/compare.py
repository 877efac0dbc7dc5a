"""Experiments of task 4 side by side, for hemoct.evaluation.comparison: as 03_evaluate.py left them; two stages against one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data.slices import ANY
from hemoct.evaluation import bootstrap, comparison_step, metrics, protocol, scores, text
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.predictions import check, label_columns
from hemoct.evaluation.thresholds import MAX_F1, Rule
from hemoct.multilabel import evaluate, predictions, tables as multilabel_tables
from hemoct.multilabel.cascade import POOLED, Cascade
from hemoct.multilabel.evaluate import MultiLabel

STUDIES = "The cases are studies, not images: the mean within a view group, the maximum over the groups."
SHARES = ("f1_macro", "f1_micro", "exact_match", "hamming")
"""metrics over all labels from 0 to 1, that fit on one axis"""
COMPARED = (*SHARES, "rsna_logloss")
OF_LABEL = ("f1", "auroc", "ap")
NEEDED = ("metrics.json", "predictions.csv")
"""what is read of an experiment"""


class EvaluatedMultiLabel(Evaluated):
    """An evaluated experiment of task 4; `evaluation` is a MultiLabel of its test images."""

    evaluation: MultiLabel

    @property
    def table(self) -> pd.DataFrame:
        return self.evaluation.table

    @property
    def truth(self) -> np.ndarray:
        """A word an image, a sign a label: `1`, `0`, `?` where unknown."""
        signs = np.where(self.evaluation.known, np.where(self.evaluation.truth == 1, "1", "0"), "?")
        return np.array(["".join(row) for row in signs], dtype=object)

    @property
    def cases(self) -> str:
        return cases(self.content)

    def asks_like(self, other: Evaluated) -> bool:
        return self.evaluation.labels == other.evaluation.labels

    def of(self, rows: np.ndarray) -> EvaluatedMultiLabel:
        return replace(self, evaluation=self.evaluation.of(rows))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return evaluate.measure(self.evaluation, weights)

    def only(self, labels: list[str], resamples: int, seed: int) -> EvaluatedMultiLabel:
        """The same as if it had these labels alone, in this order: other values over all labels, with new intervals."""
        own = self.evaluation
        absent = [name for name in labels if name not in own.labels]
        if absent:
            raise UserError(f"{self.name} has no label {absent[0]}; it has {', '.join(own.labels)}; correct --labels")
        places = [own.labels.index(name) for name in labels]
        by_label = {name: own.by_label[name] for name in labels}
        chosen = replace(own, truth=own.truth[:, places], p=own.p[:, places], by_label=by_label)
        patients, folds = (self.table[name].to_numpy() for name in ("patient", "fold"))
        weights = bootstrap.weights(patients, folds, resamples, seed)
        block, _ = scores.with_intervals(evaluate.measure(chosen, metrics.ones(len(folds))), evaluate.measure(chosen, weights))
        return replace(self, evaluation=chosen, content=self.content | {"labels": labels, "metrics": block})


def cases(content: dict[str, Any]) -> str:
    """What a metrics.json counts: `images`, or `studies` of a pooled cascade. Older versions told it in a note alone."""
    pooled = STUDIES in content.get("notes", [])
    return content.get("cases") or ("studies" if pooled else "images")


def kind(labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42) -> comparison_step.Kind:
    """How experiments of task 4 are compared: by all of their labels, or by `labels` alone."""
    reading = partial(read, labels=labels, resamples=resamples, seed=seed)
    return comparison_step.Kind(4, reading, NEEDED, COMPARED, SHARES, OF_LABEL, apart=apart)


def apart(work: Workspace, experiment: str) -> str:
    """Why an experiment is not compared with the others unless it is named; "" where it is."""
    counted = cases(files.read_json(work.task(4) / experiment / "metrics.json"))
    return "" if counted == "images" else f"it is pooled, its cases are {counted}; name it, and others that are pooled"


def read(
    work: Workspace, experiment: str, labels: list[str] | None = None, resamples: int = bootstrap.RESAMPLES, seed: int = 42
) -> EvaluatedMultiLabel:
    """Read metrics.json and the out-of-fold predictions of an experiment, of all its labels or of `labels` alone.

    Stops when the two do not belong together, or a label is not among its own.
    """
    folder, made_by = work.task(4) / experiment, f"task4_multilabel/03_evaluate.py --experiment {experiment}"
    content = files.read_json(work.need(folder / "metrics.json", made_by))
    path = work.need(folder / "predictions.csv", made_by)
    frame = check(tables.read_predictions(folder), path, several=True)
    missing = set(frame["fold"]) - {fold["fold"] for fold in content["folds"]}
    same = (len(frame), label_columns(frame)) == (content["n"], content["labels"])
    if not same or missing or not frame["part"].eq("test").all():
        raise UserError(f"{work.show(folder)}: predictions.csv does not belong to metrics.json; run: python {made_by}")
    rules = {name: [_rule(fold, name) for fold in content["folds"]] for name in content["labels"]}
    evaluated = EvaluatedMultiLabel(experiment, content, evaluate.applied(frame, rules))
    return evaluated.only(labels, resamples, seed) if labels else evaluated


def _rule(fold: dict[str, Any], label: str) -> Rule:
    """The rule of a label in a fold of metrics.json."""
    points = {MAX_F1: fold["thresholds"][label]}
    return Rule(fold["fold"], points, fold["threshold_rules"][label], fold["temperatures"][label], "")


# ---- two stages against one


def two_stages(work: Workspace, experiment: Path, cascade: Cascade, group: pd.Series | None, seed: int) -> list[Path]:
    """Set a cascade beside one stage on the same images, or studies (`group`: see predictions.pool); returns the files.

    Of studies also the evaluation is written, which 03_evaluate.py cannot make.
    """
    stages, counted, notes = cascade.stages, "images" if group is None else "studies", [STUDIES] * (group is not None)
    frames = {f"one stage: {stages.types}": cascade.one_stage} | ({"one stage, views": cascade.second} if stages.view else {})
    frames |= {f"two stages: {experiment.name}": cascade.predictions}
    trained = experiments.folds(work.task(4) / stages.types, "best.pt", "predictions.csv")
    about, evaluated, written = protocol.describe(work, 4, experiment.name, work, cascade.protocol, trained), [], []
    for name, images in frames.items():
        frame = images if group is None else predictions.pool(images, group)
        evaluation = evaluate.evaluate(frame)
        content = evaluate.report(evaluation, about, bootstrap.RESAMPLES, seed, counted)
        evaluated.append(EvaluatedMultiLabel(name, content | {"notes": notes + content["notes"]}, evaluation))
    if group is not None:  # the last one is the cascade
        written = [
            tables.write_csv(experiment / POOLED, frame),
            tables.write_predictions(experiment, multilabel_tables.predictions_table(evaluation)),
            files.write_json(experiment / "metrics.json", evaluated[-1].content),
        ]
    points = multilabel_tables.stage_one(cascade, bootstrap.RESAMPLES, seed)
    shown = replace(kind(), cases=f"test {counted}", title="two stages against one")
    return [
        *written,
        tables.write_csv(experiment / "stage_one.csv", points),
        *comparison_step.write(experiment, evaluated, shown, work.dataset, seed, tuple(notes + _remarks(cascade, points))),
    ]


def _remarks(cascade: Cascade, points: pd.DataFrame) -> list[str]:
    """Lines below the comparison: the operating point of stage 1 and what it costs. `points`: stage_one.csv."""
    whole, stages = points[points["fold"] == "all"].iloc[0], cascade.stages
    model = f"the output `{ANY}` of {stages.types}" if stages.binary == ANY else f"{stages.binary} of task 1"
    rates = {name: (whole[name], whole[f"{name}_low"], whole[f"{name}_high"]) for name in multilabel_tables.STAGE_ONE}
    reached, rules = [f"{name} {text.interval(*rate)}" for name, rate in rates.items()], dict.fromkeys(cascade.rules.values())
    stopped = [f"{whole[f'stopped_{name}']} with {name}" for name in predictions.types(cascade.second)]
    return [
        f"Stage 1: {model} ({cascade.first.question.positive}), threshold: {'; '.join(rules)}. On the {whole['images']} test "
        f"images: {', '.join(reached)}; {whole['passed']:.0%} go on to stage 2.",
        f"Stopped by stage 1, for good: {', '.join(stopped)}. A type that is there and was stopped has probability 0, which "
        "rsna_logloss punishes as hard as it can.",
        *(f"Images of the group {group} say nothing about {', '.join(labels)}: probability 0."
          for group, labels in cascade.unknown.items()),
    ]  # fmt: skip
