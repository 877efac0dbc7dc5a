"""Experiments of task 4 side by side, for hemoct.evaluation.comparison: as 03_evaluate.py left them; two stages against one."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.data import slices as data_slices
from hemoct.evaluation import baselines, bootstrap, comparison, comparison_step, protocol, text
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.predictions import check, label_columns
from hemoct.evaluation.subjects import Subject
from hemoct.evaluation.thresholds import MAX_F1, Rule
from hemoct.multilabel import data, evaluate, predictions, tables as multilabel_tables, working_set
from hemoct.multilabel.cascade import POOLED, STAGE_ONE, Cascade, stage_one
from hemoct.multilabel.evaluate import MultiLabel
from hemoct.multilabel.options import VAL, View

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

    def of(self, rows: np.ndarray) -> Self:
        return replace(self, evaluation=self.evaluation.of(rows))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return evaluate.measure(self.evaluation, weights)


def cases(content: dict[str, Any]) -> str:
    """What a metrics.json counts: `images`, or `studies` of a pooled cascade. Older versions told it in a note alone."""
    pooled = STUDIES in content.get("notes", [])
    return content.get("cases") or ("studies" if pooled else "images")


def kind(labels: list[str] | None = None, seed: int = 42) -> comparison_step.Kind:
    """How experiments of task 4 are compared: by all of their labels, or by `labels` alone."""
    return comparison_step.Kind(4, partial(read, labels=labels, seed=seed), NEEDED, COMPARED, SHARES, OF_LABEL, apart=apart)


def apart(work: Workspace, experiment: str) -> str:
    """Why an experiment is not compared with the others unless it is named; "" where it is."""
    counted = cases(files.read_json(work.task(4) / experiment / "metrics.json"))
    return "" if counted == "images" else f"it is pooled, its cases are {counted}; name it, and others that are pooled"


def read(work: Workspace, experiment: str, labels: list[str] | None = None, seed: int = 42) -> EvaluatedMultiLabel:
    """Read metrics.json and the out-of-fold predictions of an experiment.

    With `labels` as if it had these alone: other values over all labels, with new intervals. Stops when the two files do not
    belong together, or a label is not among its own.
    """
    folder = work.task(4) / experiment
    content, mismatch = comparison.evaluated(work, 4, folder, "predictions.csv")
    frame, own = check(tables.read_predictions(folder), folder / "predictions.csv", several=True), content["labels"]
    missing = set(frame["fold"]) - {fold["fold"] for fold in content["folds"]}
    same = (len(frame), label_columns(frame)) == (content["n"], own)
    if not same or missing or not frame["part"].eq("test").all():
        raise mismatch
    rules = {name: [Rule(fold["fold"], {MAX_F1: fold["thresholds"][name]}, fold["threshold_rules"][name],
                         fold["temperatures"][name], "") for fold in content["folds"]] for name in own}  # fmt: skip
    evaluation = evaluate.applied(frame, rules)
    if labels:
        absent = [name for name in labels if name not in own]
        if absent:
            raise UserError(f"{experiment} has no label {absent[0]}; it has {', '.join(own)}; correct --labels")
        evaluation = evaluation.only(labels)
        content |= {"labels": labels, "metrics": evaluate.report(evaluation, {}, bootstrap.RESAMPLES, seed)["metrics"]}
    return EvaluatedMultiLabel(experiment, content, evaluation)


def beside_baselines(subject: Subject, evaluation: MultiLabel, of: str, seed: int) -> dict[str, Any]:
    """The `baselines` block of metrics.json: see evaluation.baselines; they learn from the training images of the working set.

    `of`: a key of PROTOCOLS. Empty for other data, where predictions follow no split that is known, or the working set does not
    have their labels.
    """
    work = subject.work
    if subject.on_other_data or of == "unknown" or not (working_set.folder(work) / "working_set.csv").exists():
        return {}
    learned = [name for name in evaluation.labels if name in working_set.read(work).labels]
    if set(evaluation.labels) - {ANY, *learned}:
        return {}
    table = tables.read_labels(work, tables.read_dataset(work))
    slices, kept = data_slices.choose(work, table, np.ones(len(table), dtype=bool), subject.own_limit)
    truth = data.truth_of(work, table, learned != evaluation.labels, View(labels=learned))[kept]

    def judged(frame: pd.DataFrame) -> EvaluatedMultiLabel:
        return EvaluatedMultiLabel("a baseline", {"protocol": ""}, evaluate.evaluate(frame))

    own = EvaluatedMultiLabel("the model", {"protocol": ""}, evaluation)
    frame = baselines.framed(slices, truth[evaluation.labels].add_prefix("y_").reset_index(drop=True), subject.folders, of)
    return baselines.beside(own, judged, frame, slices.table, seed)


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
    training = None
    if stages.threshold_from != VAL:
        training = predictions.pool(predictions.read_training_of(work, stages), group)
    for name, images in frames.items():
        frame = images if group is None else predictions.pool(images, group)
        evaluation = evaluate.evaluate(frame, stages.threshold_from, training)
        content = evaluate.report(evaluation, about, bootstrap.RESAMPLES, seed, counted)
        evaluated.append(EvaluatedMultiLabel(name, content | {"notes": notes + content["notes"]}, evaluation))
    if group is not None:  # the last one is the cascade
        written = [
            tables.write_csv(experiment / POOLED, frame),
            tables.write_predictions(experiment, multilabel_tables.predictions_table(evaluation)),
            files.write_json(experiment / "metrics.json", evaluated[-1].content),
        ]
    points = stage_one(cascade, bootstrap.RESAMPLES, seed)
    shown = replace(kind(), cases=f"test {counted}", title="two stages against one")
    return [
        *written,
        tables.write_csv(experiment / "stage_one.csv", points),
        *comparison_step.write(experiment, evaluated, shown, work.dataset, seed, tuple(notes + _remarks(cascade, points))),
    ]


def _remarks(cascade: Cascade, points: pd.DataFrame) -> list[str]:
    """Lines below the comparison: the operating point of stage 1 and what it costs. `points`: stage_one.csv."""
    whole, stages, first = points[points["fold"] == "all"].iloc[0], cascade.stages, cascade.first
    model = f"the output `{ANY}` of {stages.types}" if stages.binary == ANY else f"{stages.binary} of task 1"
    reached = [f"{name} {text.interval(*whole[[name, f'{name}_low', f'{name}_high']])}" for name in STAGE_ONE]
    rules = dict.fromkeys(rule.threshold_rule for rule in first.rules)
    stopped = [f"{whole[f'stopped_{name}']} with {name}" for name in predictions.types(cascade.second)]
    return [
        f"Stage 1: {model} ({first.question.positive}), threshold: {'; '.join(rules)}. On the {whole['images']} test "
        f"images: {', '.join(reached)}; {whole['passed']:.0%} go on to stage 2.",
        f"Stopped by stage 1, for good: {', '.join(stopped)}. A type that is there and was stopped has probability 0, which "
        "rsna_logloss punishes as hard as it can.",
        *(f"Images of the group {group} say nothing about {', '.join(labels)}: probability 0."
          for group, labels in cascade.unknown.items()),
    ]  # fmt: skip
