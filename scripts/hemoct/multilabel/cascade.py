"""Two stages: a binary model says whether there is anything, and only where it does a multi-label model says what.

An image whose probability of stage 1 lies below the threshold of its fold has probability 0 of every type. The threshold is
chosen on the validation images of the fold, those of the types after it, on what stage 1 lets through. Both stages of fold K were
trained without its test patients: they must have the same folds and splits.csv.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data.slices import ANY
from hemoct.evaluation import bootstrap, decisions, metrics, predictions
from hemoct.evaluation.decisions import Evaluation, Question, Scored
from hemoct.evaluation.thresholds import MAX_F1, Rule
from hemoct.multilabel import cascade_stages, evaluate
from hemoct.multilabel.cascade_stages import Stages

MAX, MEDIAN = "max-f1", "median"


def rule(text: str) -> str:
    """A type for argparse: max-f1, median, or qNN, the quantile 0.NN."""
    if text not in (MAX, MEDIAN) and not re.fullmatch(r"q[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {MAX}, {MEDIAN} nor qNN (q90: the 90 % quantile)")
    return text


@dataclass(frozen=True)
class Gated:
    """Images with the answer of stage 1 and its threshold in each fold."""

    asked: str
    """what stage 1 says is there or not"""
    frame: pd.DataFrame
    """predictions of the multi-label model, val and test"""
    answer: pd.DataFrame
    """y (0, 1, NaN where unknown) and p of stage 1 for each row of `frame`"""
    rules: dict[int, Rule]
    """by fold"""

    @cached_property
    def passed(self) -> np.ndarray:
        """Whether an image goes on to stage 2; bool (n,)."""
        chosen = {fold: one.points[one.decides] for fold, one in self.rules.items()}
        return self.answer["p"].to_numpy() >= self.frame["fold"].map(chosen).to_numpy(dtype=float)

    @property
    def predictions(self) -> pd.DataFrame:
        """`frame` with p 0 for each type where stage 1 has stopped an image; `any`, if it is a label, is what stage 1 says."""
        types = [f"p_{name}" for name in predictions.label_columns(self.frame) if name != ANY]
        found = self.frame.assign(**{f"p_{ANY}": self.answer["p"]}) if f"p_{ANY}" in self.frame else self.frame.copy()
        found.loc[~self.passed, types] = 0.0
        return found

    @property
    def evaluation(self) -> Evaluation:
        """Stage 1 by itself on the test images, at its thresholds."""
        test, known = (self.frame["part"] == "test").to_numpy(), self.answer["y"].notna().to_numpy()
        rows = test & known
        scored = Scored(
            self.frame.loc[rows, tables.PREDICTION_COLUMNS].reset_index(drop=True),
            self.answer["y"].to_numpy()[rows].astype(int),
            self.answer["p"].to_numpy()[rows],
        )
        return Evaluation(
            Question([self.asked], self.asked), scored, list(self.rules.values()), unknown=int((test & ~known).sum())
        )


@dataclass(frozen=True)
class Decided:
    """What the two stages say, image by image."""

    gated: Gated
    one_stage: pd.DataFrame
    """the multi-label model alone on the same images"""
    unknown: dict[str, list[str]]
    """types that the experiment of a view does not know, by group"""
    protocol: str


def decide(work: Workspace, stages: Stages, how: str, pool: bool) -> Decided:
    """Read the predictions of the stages and choose the thresholds of stage 1 by the rule `how` (see `rule`).

    Stops where the stages do not fit together, or cannot be pooled to studies where they are to be (`pool`).
    """
    frame, protocol = evaluate.read(work, stages.types, None)
    if not [name for name in predictions.label_columns(frame) if name != ANY]:
        raise UserError(f"{stages.types} tells no types apart; name a multi-label experiment with --types")
    if protocol == "unknown":
        raise UserError(f"{stages.types}: its val and test images follow no fold of splits.csv; train it again")
    if pool and protocol == "slice":
        raise UserError("--pool: under the slice protocol images of one study are both trained on and tested; leave it")
    asked, answer = cascade_stages.answers(work, stages, frame, protocol)
    seen, unknown = cascade_stages.with_views(work, stages, frame.copy(), protocol) if stages.views else (frame, {})
    if unknown and not pool:
        group, labels = next(iter(unknown.items()))
        raise UserError(f"--view {group}={stages.views[group]} does not know {', '.join(labels)}; add --pool, or name another")
    gated = gate(asked, seen, answer, how)
    return Decided(gated, frame[answer["p"].notna()].reset_index(drop=True), unknown, protocol)


def gate(asked: str, frame: pd.DataFrame, answer: pd.DataFrame, how: str) -> Gated:
    """Choose the threshold of stage 1 in each fold by the rule `how` (see `rule`) on its validation images.

    Images without an answer of stage 1 are left out. Stops where a fold has no validation image.
    """
    asked_of = answer["p"].notna()
    if not asked_of.all():
        print(f"{(~asked_of).sum()} of {len(frame)} predictions are left out: stage 1 does not know the truth of the image")
    frame, answer = (one[asked_of].reset_index(drop=True) for one in (frame, answer))
    rules = {}
    for fold in sorted(int(fold) for fold in frame["fold"].unique()):
        rows = ((frame["fold"] == fold) & (frame["part"] == "val")).to_numpy()
        if not rows.any():
            raise UserError(f"fold {fold} has no validation image to choose the threshold of stage 1 on; use more patients")
        rules[fold] = choose(asked, fold, frame[rows], answer[rows], how)
    return Gated(asked, frame, answer, rules)


def choose(asked: str, fold: int, frame: pd.DataFrame, answer: pd.DataFrame, how: str) -> Rule:
    """The threshold of stage 1 for one fold from its validation images; 0.5 where max F1 finds a single class."""
    columns = {f"{sort}_{asked}": answer[sort] for sort in "yp"}
    question = Question([asked], asked)
    val, _ = decisions.scored(frame[tables.PREDICTION_COLUMNS].assign(**columns), question)
    chosen = decisions.choose(question, fold, val)
    if how == MAX:
        return chosen
    share = 0.5 if how == MEDIAN else int(how[1:]) / 100
    name = f"{'median' if how == MEDIAN else f'{share:.0%} quantile'} of validation probabilities"
    points = {MAX_F1: chosen.points[MAX_F1], name: float(answer["p"].quantile(share))}
    return Rule(fold, points, name, chosen.temperature, chosen.temperature_rule, decides=name)


SHOWN = {"sensitivity": "recall", "specificity": "specificity"}


def operating_points(gated: Gated, resamples: int, seed: int) -> pd.DataFrame:
    """stage_one.csv: what stage 1 reaches on the test images, a row a fold and one for all.

    Columns: fold, threshold, rule, images, unknown (truth of stage 1, not counted in what follows), sensitivity and specificity
    with _low, _high, passed (share of all test images), stopped_LABEL (test images that show the type and were stopped).
    """
    whole, rows = gated.evaluation, []
    for fold in (*gated.rules, "all"):
        found = whole if fold == "all" else whole.of_fold(fold)
        test = (gated.frame["part"] == "test").to_numpy() & ((gated.frame["fold"] == fold).to_numpy() | (fold == "all"))
        row = {"fold": fold, "threshold": np.nan, "rule": ""} if fold == "all" else _rule_row(gated.rules[fold])
        row |= {"images": int(test.sum()), "unknown": int(test.sum()) - len(found.test.y)}
        weights = bootstrap.weights(*(found.test.table[name].to_numpy() for name in ("patient", "fold")), resamples, seed)
        one, many = (metrics.of_confusion(metrics.confusion(found.test.y, found.decision, drawn))
                     for drawn in (metrics.ones(len(found.test.y)), weights))  # fmt: skip
        for name, key in SHOWN.items():
            low, high, _ = bootstrap.interval(many[key])
            row |= {name: one[key][0], f"{name}_low": low, f"{name}_high": high}
        row["passed"] = gated.passed[test].mean() if test.any() else np.nan
        for label in predictions.label_columns(gated.frame):
            if label != ANY:
                row[f"stopped_{label}"] = int((gated.frame[f"y_{label}"].eq(1).to_numpy() & test & ~gated.passed).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _rule_row(chosen: Rule) -> dict[str, Any]:
    return {"fold": chosen.fold, "threshold": chosen.points[chosen.decides], "rule": chosen.threshold_rule}


def model_json(work: Workspace, stages: Stages, gated: Gated, protocol: str, fold: Path, folders: list[Path]) -> dict[str, Any]:
    """model.json of one fold: no network, but what the fold was made of. `folders`: those of `stages.members`."""
    number = int(fold.name.removeprefix("fold"))
    made_of = [
        {"task": task, "experiment": name, "sha256": files.sha256(folder / "predictions.csv")}
        for (task, name), folder in zip(stages.members, folders, strict=True)
    ]
    return {
        **{"task": 4, "model": "cascade", "stages": made_of, "types": stages.types, "binary": stages.binary or ANY},
        **{"views": stages.views, "asked": gated.asked, "classes": predictions.label_columns(gated.frame)},
        **_rule_row(gated.rules[number]),
        **{"protocol": "patient" if protocol == "given" else protocol, "split": "given" if protocol == "given" else "folds"},
        "splits_sha256": files.sha256(work.work / "splits.csv"),
    }


def remarks(gated: Gated, stages: Stages, points: pd.DataFrame, unknown: dict[str, list[str]]) -> list[str]:
    """Lines below the comparison: the operating point of stage 1 and what it costs."""
    whole = points[points["fold"] == "all"].iloc[0]
    stage = f"the output `{ANY}` of {stages.types}" if stages.binary is None else f"{stages.binary} of task 1"
    reached = ", ".join(f"{name} {_with_interval(whole, name)}" for name in SHOWN)
    rules = "; ".join(dict.fromkeys(one.threshold_rule for one in gated.rules.values()))
    stopped = ", ".join(
        f"{whole[name]} with {name.removeprefix('stopped_')}" for name in whole.index if name.startswith("stopped_")
    )
    lines = [
        f"Stage 1: {stage} ({gated.asked}), threshold: {rules}. On the {whole['images']} test images: {reached}; "
        f"{whole['passed']:.0%} go on to stage 2.",
        f"Stopped by stage 1, for good: {stopped}.",
        "A type that is there and was stopped has probability 0, which rsna_logloss punishes as hard as it can.",
    ]
    lines += [
        f"Images of the group {name} say nothing about {', '.join(missing)}: probability 0." for name, missing in unknown.items()
    ]
    return lines


def _with_interval(row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return "undefined"
    interval = "" if pd.isna(row[f"{name}_low"]) else f" ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
    return f"{row[name]:.3f}{interval}"
