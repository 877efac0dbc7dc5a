"""What a cascade leaves: its folds, stage 1 by itself, and a comparison with one stage on the same images or studies."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.workspace import Workspace
from hemoct.data.slices import ANY
from hemoct.evaluation import bootstrap, comparison_step, metrics, protocol, text
from hemoct.evaluation.predictions import label_columns
from hemoct.multilabel import compare, evaluate, predictions
from hemoct.multilabel import tables as multilabel_tables
from hemoct.multilabel.cascade import Cascade

POOLED = "pooled_predictions.csv"
STUDIES = "The cases are studies, not images: the mean within a view group, the maximum over the groups."
SHOWN = {"sensitivity": "recall", "specificity": "specificity"}


def write(work: Workspace, experiment: Path, cascade: Cascade, group: pd.Series | None, seed: int) -> list[Path]:
    """Write the folds and the comparison of a cascade, take away what an earlier one of this name left; returns the files.

    `group`: by image_id, to pool the images of a patient by; None: images stay images.
    """
    for old in experiments.folds(experiment, "model.json"):
        shutil.rmtree(old)
    for name in ("predictions.csv", "metrics.json", POOLED):  # an evaluation of other predictions
        (experiment / name).unlink(missing_ok=True)
    frame, written = cascade.predictions, []
    for rule in cascade.first.rules:
        folder = experiment / f"fold{rule.fold}"
        if group is None:
            written.append(tables.write_predictions(folder, frame[frame["fold"] == rule.fold]))
        written.append(files.write_json(folder / "model.json", _model(work, cascade, rule.fold)))
    return written + _compare(work, experiment, cascade, group, seed)


def _model(work: Workspace, cascade: Cascade, fold: int) -> dict[str, Any]:
    """model.json of one fold: no network, but what the fold was made of."""
    stages, given = cascade.stages, cascade.protocol == "given"
    paths = {member: work.task(member[0]) / member[1] / f"fold{fold}" / "predictions.csv" for member in stages.members}
    return {
        "task": 4,
        "model": "cascade",
        "stages": [{"task": task, "experiment": name, "sha256": files.sha256(path)} for (task, name), path in paths.items()],
        "types": stages.types,
        "binary": stages.binary or ANY,
        "views": stages.views,
        "asked": cascade.first.question.positive,
        "classes": label_columns(cascade.second),
        **_rule_columns(cascade, fold),
        "protocol": "patient" if given else cascade.protocol,
        "split": "given" if given else "folds",
        "splits_sha256": files.sha256(work.work / "splits.csv"),
    }


def _rule_columns(cascade: Cascade, fold: int | str) -> dict[str, Any]:
    rules = {rule.fold: rule for rule in cascade.first.rules}
    if fold not in rules:
        return {"fold": fold, "threshold": np.nan, "rule": ""}
    return {"fold": fold, "threshold": rules[fold].points[rules[fold].decides], "rule": rules[fold].threshold_rule}


def _compare(work: Workspace, experiment: Path, cascade: Cascade, group: pd.Series | None, seed: int) -> list[Path]:
    stages, cases = cascade.stages, "images" if group is None else "studies"
    frames = {f"one stage: {stages.types}": cascade.one_stage} | ({"one stage, views": cascade.second} if stages.views else {})
    frames |= {f"two stages: {experiment.name}": cascade.predictions}
    trained = experiments.folds(work.task(4) / stages.types, "best.pt", "predictions.csv")
    about = protocol.describe(work, 4, experiment.name, work, cascade.protocol, trained)
    evaluated, written, notes = [], [], [STUDIES] * (group is not None)
    for name, frame in frames.items():
        frames[name] = frame if group is None else pool(frame, group)
        evaluation = evaluate.evaluate(frames[name])
        content = evaluate.report(evaluation, about, bootstrap.RESAMPLES, seed, cases)
        content["notes"] = notes + content["notes"]
        evaluated.append(compare.EvaluatedMultiLabel(name, content, evaluation))
    if group is not None:
        written = [
            tables.write_csv(experiment / POOLED, frames[name]),
            tables.write_predictions(experiment, multilabel_tables.predictions_table(evaluation)),
            files.write_json(experiment / "metrics.json", content),
        ]
    points = operating_points(cascade, bootstrap.RESAMPLES, seed)
    kind = replace(compare.kind(), cases=f"test {cases}")
    remarks = tuple(notes + _remarks(cascade, points))
    return [
        *written,
        tables.write_csv(experiment / "stage_one.csv", points),
        *comparison_step.write(experiment, evaluated, kind, work.dataset, seed, "two stages against one", remarks),
    ]


def operating_points(cascade: Cascade, resamples: int, seed: int) -> pd.DataFrame:
    """stage_one.csv: what stage 1 reaches on the test images, a row a fold and one for all.

    Columns: fold, threshold, rule, images, unknown (truth of stage 1, not counted in what follows), sensitivity and specificity
    with _low, _high, passed (share of all test images), stopped_LABEL (test images that show the type and were stopped).
    """
    frame, rows = cascade.second, []
    for fold in (*(rule.fold for rule in cascade.first.rules), "all"):
        first = cascade.first if fold == "all" else cascade.first.of_fold(fold)
        test = ((frame["part"] == "test") & ((frame["fold"] == fold) | (fold == "all"))).to_numpy()
        row = _rule_columns(cascade, fold) | {"images": int(test.sum()), "unknown": int(test.sum()) - len(first.test.y)}
        weights = bootstrap.weights(*(first.test.table[name].to_numpy() for name in ("patient", "fold")), resamples, seed)
        value, drawn = (metrics.of_confusion(metrics.confusion(first.test.y, first.decision, each))
                        for each in (metrics.ones(len(first.test.y)), weights))  # fmt: skip
        for name, key in SHOWN.items():
            low, high, _ = bootstrap.interval(drawn[key])
            row |= {name: value[key][0], f"{name}_low": low, f"{name}_high": high}
        row["passed"] = cascade.passed[test].mean() if test.any() else np.nan
        stopped = frame[test & ~cascade.passed]
        rows.append(row | {f"stopped_{name}": int((stopped[f"y_{name}"] == 1).sum()) for name in predictions.types(frame)})
    return pd.DataFrame(rows)


def _remarks(cascade: Cascade, points: pd.DataFrame) -> list[str]:
    """Lines below the comparison: the operating point of stage 1 and what it costs."""
    whole, stages = points[points["fold"] == "all"].iloc[0], cascade.stages
    model = f"{stages.binary} of task 1" if stages.binary else f"the output `{ANY}` of {stages.types}"
    reached = [f"{name} {text.interval(whole[name], whole[f'{name}_low'], whole[f'{name}_high'])}" for name in SHOWN]
    rules = dict.fromkeys(rule.threshold_rule for rule in cascade.first.rules)
    stopped = [f"{whole[f'stopped_{name}']} with {name}" for name in predictions.types(cascade.second)]
    return [
        f"Stage 1: {model} ({cascade.first.question.positive}), threshold: {'; '.join(rules)}. On the {whole['images']} test "
        f"images: {', '.join(reached)}; {whole['passed']:.0%} go on to stage 2.",
        f"Stopped by stage 1, for good: {', '.join(stopped)}. A type that is there and was stopped has probability 0, which "
        "rsna_logloss punishes as hard as it can.",
        *(f"Images of the group {group} say nothing about {', '.join(labels)}: probability 0."
          for group, labels in cascade.unknown.items()),
    ]  # fmt: skip


def pool(frame: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Predictions of studies in place of images: the mean within a `group` (by image_id), then the maximum over the groups.

    A study is a patient, who is the image_id too. A label of a study is 1 where it is 1 on any image, 0 where it is 0 on all,
    else unknown. Probabilities are rounded as tables are written, so that what is read later is what was decided on.
    """
    labels, keys = label_columns(frame), ["patient", "fold", "part"]
    placed = frame.assign(group=frame["image_id"].map(group))
    p = placed.groupby([*keys, "group"])[[f"p_{name}" for name in labels]].mean().groupby(level=keys).max()
    p = p.map(lambda value: float(f"{value:.8g}"))
    truth = placed.groupby(keys)[[f"y_{name}" for name in labels]]
    highest = truth.max()
    y = highest.where((highest == 1) | (truth.count().eq(truth.size(), axis=0)))
    pooled = pd.concat([y, p], axis=1).reset_index()
    pooled = pooled.assign(image_id=pooled["patient"]).sort_values(["fold", "part", "image_id"], ignore_index=True)
    return pooled[[*tables.PREDICTION_COLUMNS, *(f"{kind}_{name}" for name in labels for kind in "yp")]]
