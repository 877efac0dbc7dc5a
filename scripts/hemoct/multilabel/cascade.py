"""Two stages: a binary model says whether there is any bleeding; only where it does, a multi-label model says of which types.

Where the probability of stage 1 lies below the threshold of the fold, every type gets probability 0. That threshold is chosen on
the validation images of the fold; those of the types are chosen after it. Both stages of fold K were trained without its test
patients: they must have the same folds and splits.csv.
"""

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.classification import predictions as classification_predictions
from hemoct.data import slices
from hemoct.evaluation import bootstrap, decisions, predictions as evaluation_predictions, scores
from hemoct.evaluation.decisions import Evaluation
from hemoct.evaluation.predictions import label_columns
from hemoct.evaluation.thresholds import Rule
from hemoct.multilabel import evaluate, predictions
from hemoct.multilabel.options import MAX_F1, MEDIAN, Stages, quantile

POOLED = "pooled_predictions.csv"
STAGE_ONE = {"sensitivity": "recall", "specificity": "specificity"}
"""columns of stage_one.csv and their metrics"""


@dataclass(frozen=True)
class Cascade:
    """The validation and test images of all folds, and what both stages say of them."""

    stages: Stages
    protocol: str
    one_stage: pd.DataFrame
    """predictions of the multi-label model alone"""
    second: pd.DataFrame
    """predictions of stage 2, whatever stage 1 says: those of the multi-label model, or of the experiment of a view"""
    p: np.ndarray
    """probability of stage 1 for each image, float (n,)"""
    first: Evaluation
    """stage 1 by itself on the test images, with its rule for each fold"""
    unknown: dict[str, list[str]]
    """types that the experiment of a view does not know, by group"""

    @property
    def thresholds(self) -> dict[int, float]:
        """Of stage 1, by fold."""
        return {rule.fold: rule.points[rule.decides] for rule in self.first.rules}

    @cached_property
    def passed(self) -> np.ndarray:
        """Whether an image goes on to stage 2; bool (n,)."""
        return self.p >= self.second["fold"].map(self.thresholds).to_numpy(dtype=float)

    @property
    def predictions(self) -> pd.DataFrame:
        """`second` with probability 0 of each type where stage 1 stops the image; `any`, if it is a label, is that of stage 1."""
        both = self.second.assign(**({f"p_{ANY}": self.p} if f"p_{ANY}" in self.second else {}))
        both.loc[~self.passed, [f"p_{name}" for name in predictions.types(both)]] = 0.0
        return both


# ---- experiments


def folders(work: Workspace, stages: Stages) -> list[Path]:
    """The fold folders of all stages, those of the multi-label model first. Stops where an experiment has none, or no network."""
    every = []
    for task, name in stages.members:
        stop_if_cascade(work.task(task) / name)
        every += evaluation_predictions.fold_folders(work, task, name)
    return every


def stop_if_cascade(experiment: Path) -> None:
    """Stop where networks are wanted, and name the experiment that has them. `experiment`: a folder of a task."""
    types = _made_of(experiment)
    if types:
        raise UserError(f"{experiment.name} is a cascade itself, without a network; name {types}, which it was made of")


def stop_if_taken(work: Workspace, experiment: Path) -> None:
    """Stop rather than write over the folds of another kind of experiment."""
    predicted = experiments.folds(experiment, "predictions.csv")
    if experiments.folds(experiment, "best.pt") or (predicted and not _made_of(experiment)):
        raise UserError(f"{work.show(experiment)} holds a trained experiment; give the cascade another --experiment")


def _made_of(experiment: Path) -> str | None:
    """The multi-label experiment that a cascade was made of; None of any other experiment."""
    models = [files.read_json(folder / "model.json") for folder in experiments.folds(experiment, "model.json")]
    return next((model["types"] for model in models if "stages" in model), None)


# ---- decisions


def decide(work: Workspace, stages: Stages) -> Cascade:
    """Read the predictions of the stages and choose the thresholds of stage 1. Stops where the stages do not fit together."""
    frame, protocol = predictions.read(work, stages.types)
    if not predictions.types(frame):
        raise UserError(f"{stages.types} tells no types apart; name a multi-label experiment with --types")
    if protocol == "unknown":
        raise UserError(f"{stages.types}: its val and test images follow no fold of splits.csv; train it again")
    if stages.pool and protocol == "slice":
        raise UserError("--pool: under the slice protocol images of one study are both trained on and tested; leave it out")
    first = _first_stage(work, stages, frame, protocol)
    second, unknown = _with_views(work, stages, frame, protocol)
    if unknown and not stages.pool:
        group, labels = next(iter(unknown.items()))
        raise UserError(f"--view {group}={stages.view[group]} does not know {', '.join(labels)}; add --pool, or name another")
    p = f"p_{label_columns(first)[0]}"
    known = first[p].notna()
    if not known.all():
        print(f"{(~known).sum()} of {len(frame)} predictions are left out: stage 1 does not know the truth of the image")
    first, second, frame = (table[known].reset_index(drop=True) for table in (first, second, frame))
    return Cascade(stages, protocol, frame, second, first[p].to_numpy(), gate(first, stages.rule), unknown)


def gate(first: pd.DataFrame, how: str) -> Evaluation:
    """Stage 1 on its test images, with the threshold that the rule `how` gives on the validation of each fold.

    `first`: its predictions, y and p of one label.
    """
    validation = first[first["part"] == "val"].groupby("fold")
    for fold in sorted(set(first["fold"]) - validation.groups.keys()):
        raise UserError(f"fold {fold} has no validation image to choose the threshold of stage 1 on; use more patients")
    evaluation = decisions.evaluate(first)
    if how == MAX_F1:
        return evaluation
    share = 0.5 if how == MEDIAN else quantile(how)
    words = f"{'median' if how == MEDIAN else f'{share:.0%} quantile'} of validation probabilities"
    p = validation[f"p_{evaluation.question.positive}"]
    rules = [evaluate.at_quantile(rule, p.get_group(rule.fold), share, words) for rule in evaluation.rules]
    return replace(evaluation, rules=rules)


def _first_stage(work: Workspace, stages: Stages, frame: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The predictions of stage 1 for each row of `frame`: y (NaN where unknown) and p (NaN where it has none) of its label."""
    if stages.binary == ANY:
        if f"p_{ANY}" not in frame:
            raise UserError(
                f"{stages.types} has no output `{ANY}` to be the first stage; name an experiment of task 1 with --binary, "
                f"or train it with --heads any,types"
            )
        return frame[[*tables.PREDICTION_COLUMNS, f"y_{ANY}", f"p_{ANY}"]]
    answers = _beside(classification_predictions.read(work, stages.binary), stages.binary, frame, protocol)
    dataset, types, labels = tables.read_dataset(work), predictions.types(frame), label_columns(answers)
    label = decisions.question_of(labels).positive
    if label is None:
        raise UserError(f"{stages.binary} chooses among {len(labels)} classes; name a binary experiment with --binary")
    if label in types or label not in (ANY, *dataset.labels):
        raise UserError(
            f"{stages.binary} answers for {label}; stage 1 must answer for {ANY}, or for a label of {dataset.name} "
            f"({', '.join(dataset.labels)}) that is none of the types ({', '.join(types)})"
        )
    table = tables.read_labels(work, dataset)
    _, truth = slices.choose_targets(table, dataset, None if dataset.exclusive else label)
    known = frame["image_id"].isin(table["image_id"][~np.isnan(truth).any(axis=1)])
    _stop_if_missing(work.show(work.task(1) / stages.binary), frame["image_id"][answers[f"p_{label}"].isna() & known])
    return frame[tables.PREDICTION_COLUMNS].join(answers[[f"y_{label}", f"p_{label}"]].astype(float))


def _with_views(work: Workspace, stages: Stages, frame: pd.DataFrame, protocol: str) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """`frame` with the probabilities of each view's own experiment, 0 for types that it does not know; and those, by group."""
    if not stages.view:
        return frame, {}
    frame, types, unknown = frame.copy(), predictions.types(frame), {}
    group = frame["image_id"].map(predictions.groups(work))
    columns = [f"p_{label}" for label in types]
    for name, experiment in stages.view.items():
        rows = (group == name).to_numpy()
        if not rows.any():
            there = ", ".join(sorted(set(group)))
            raise UserError(f"--view {name}: no image has this group in labels.csv; its groups are {there}")
        read = predictions.read(work, experiment, made_with=())  # a view may have had another working set
        answers = _beside(read, experiment, frame[rows], protocol)
        own = predictions.types(answers)
        if not own or set(own) - set(types):
            known, wanted = ", ".join(own) or "no type", ", ".join(types)
            raise UserError(f"--view {name}={experiment} knows {known}; name one that knows types of {stages.types} ({wanted})")
        _stop_if_missing(work.show(work.task(4) / experiment), frame["image_id"][rows][answers[f"p_{own[0]}"].isna()])
        frame.loc[rows, columns] = answers.reindex(columns=columns, fill_value=0.0).to_numpy()
        unknown[name] = [label for label in types if label not in own]
    for label in types:
        if all(label in unknown.get(name, []) for name in set(group)):
            raise UserError(f"no view knows the label {label}; name a --view that does, or leave a group to {stages.types}")
    return frame, {name: labels for name, labels in unknown.items() if labels}


def _beside(answers: tuple[pd.DataFrame, str], experiment: str, frame: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Of the predictions and the protocol of another experiment those for each row of `frame`, by image and fold; NaN if none."""
    other, of = answers
    if of != protocol:
        raise UserError(f"{experiment} has the protocol {of}, not {protocol}; name experiments with the same folds")
    keys = ["image_id", "fold"]
    return other.set_index(keys).reindex(pd.MultiIndex.from_frame(frame[keys])).set_index(frame.index)


def _stop_if_missing(experiment: str, images: pd.Series) -> None:
    if len(images):
        raise UserError(
            f"{experiment}: its predictions lack {images.nunique()} images (first: {images.iloc[0]}); train it on the same "
            "images and folds"
        )


# ---- what stage 1 does, and the folds on disk


def stage_one(cascade: Cascade, resamples: int, seed: int) -> pd.DataFrame:
    """stage_one.csv: what stage 1 reaches on the test images, a row a fold and one for all.

    Columns: fold, threshold, rule, images, unknown (truth of stage 1, not counted in what follows), sensitivity and specificity
    with _low, _high, passed (share of all test images), stopped_LABEL (test images that show the type and were stopped).
    """
    frame, rows = cascade.second.assign(passed=cascade.passed)[cascade.second["part"] == "test"], []
    rules = {rule.fold: rule.threshold_rule for rule in cascade.first.rules}
    for fold in (*rules, "all"):
        first, test = (cascade.first, frame) if fold == "all" else (cascade.first.of_fold(fold), frame[frame["fold"] == fold])
        row = {"fold": fold, "threshold": cascade.thresholds.get(fold, np.nan), "rule": rules.get(fold, "")}
        row |= {"images": len(test), "unknown": len(test) - len(first.test.y)}
        weights = bootstrap.weights(*(first.test.table[name].to_numpy() for name in ("patient", "fold")), resamples, seed)
        row |= scores.rates(first.test.y, first.decision, weights, STAGE_ONE)[1]
        stopped = test[~test["passed"]]
        rows.append(row | {"passed": test["passed"].mean()} | {
            f"stopped_{name}": int((stopped[f"y_{name}"] == 1).sum()) for name in predictions.types(frame)
        })  # fmt: skip
    return pd.DataFrame(rows)


def write_folds(work: Workspace, experiment: Path, cascade: Cascade) -> list[Path]:
    """Write the folds, take away what an earlier cascade of this name left; returns the files.

    Without predictions.csv where images are pooled: studies have no folds in splits.csv.
    """
    for old in experiments.folds(experiment, "model.json"):
        shutil.rmtree(old)
    for name in ("predictions.csv", "metrics.json", POOLED):  # an evaluation of other predictions
        (experiment / name).unlink(missing_ok=True)
    frame, written = cascade.predictions, []
    for rule in cascade.first.rules:
        folder = experiment / f"fold{rule.fold}"
        if not cascade.stages.pool:
            written.append(tables.write_predictions(folder, frame[frame["fold"] == rule.fold]))
        written.append(files.write_json(folder / "model.json", _model(work, cascade, rule)))
    return written


def _model(work: Workspace, cascade: Cascade, rule: Rule) -> dict[str, Any]:
    """model.json of one fold: no network, but what the fold was made of. `rule`: of stage 1 there."""
    stages, given = cascade.stages, cascade.protocol == "given"
    folders = [(task, work.task(task) / name / f"fold{rule.fold}") for task, name in stages.members]
    return {
        "task": 4,
        "model": "cascade",
        "stages": [evaluation_predictions.stage(*folder) for folder in folders],
        "types": stages.types,
        "binary": stages.binary,
        "views": stages.view,
        "asked": cascade.first.question.positive,
        "classes": label_columns(cascade.second),
        "fold": rule.fold,
        "threshold": rule.points[rule.decides],
        "rule": rule.threshold_rule,
        "protocol": "patient" if given else cascade.protocol,
        "split": "given" if given else "folds",
        "splits_sha256": files.sha256(work.work / "splits.csv"),
    }
