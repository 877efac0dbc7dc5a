"""What a cascade leaves: its folds, and a comparison with one stage on the same images or studies."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import bootstrap, comparison_step, protocol
from hemoct.multilabel import cascade, evaluate, pooling
from hemoct.multilabel import compare as multilabel_compare
from hemoct.multilabel import tables as multilabel_tables
from hemoct.multilabel.cascade import Decided
from hemoct.multilabel.cascade_stages import Stages
from hemoct.multilabel.compare import Labelled

POOLED = "pooled_predictions.csv"


def write_folds(work: Workspace, experiment: Path, stages: Stages, two: Decided, folds: dict[str, list[Path]],
                pool: bool) -> list[Path]:  # fmt: skip
    """Write each fold, take away what an earlier cascade of this name left; returns the files."""
    for old in experiments.folds(experiment, "model.json"):
        shutil.rmtree(old)
    for name in ("predictions.csv", "metrics.json", POOLED):  # an evaluation of other predictions
        (experiment / name).unlink(missing_ok=True)
    found, written = two.gated.predictions, []
    for name, folders in folds.items():
        place = experiment / name
        if not pool:
            of_fold = found[found["fold"] == int(name.removeprefix("fold"))]
            written.append(tables.write_predictions(place, of_fold))
        told = cascade.model_json(work, stages, two.gated, two.protocol, place, folders)
        written.append(files.write_json(place / "model.json", told))
    return written


def compare(work: Workspace, experiment: Path, stages: Stages, two: Decided, folders: list[Path],
            where: pd.DataFrame | None, seed: int) -> list[Path]:  # fmt: skip
    """Set two stages beside one on the same images, or studies (`where`: see pooling.places); returns the files.

    `folders`: those of the folds of the multi-label model.
    """
    asked = {f"one stage: {stages.types}": two.one_stage} | ({"one stage, views": two.gated.frame} if stages.views else {})
    asked |= {f"two stages: {experiment.name}": two.gated.predictions}
    about = protocol.describe(work, 4, experiment.name, work, two.protocol, folders)
    if where is not None:
        asked = {name: pooling.pool(frame, where) for name, frame in asked.items()}
    found, written = [], []
    for name, frame in asked.items():
        labelled = evaluate.evaluate(frame)
        content = evaluate.report(labelled, about, bootstrap.RESAMPLES, seed)
        content["notes"] = [pooling.NOTE] * (where is not None) + content["notes"]
        found.append(Labelled(name, content, labelled))
    if where is not None:
        of_cascade = found[-1]
        written += [
            tables.write_csv(experiment / POOLED, asked[of_cascade.name]),
            tables.write_predictions(experiment, multilabel_tables.predictions_table(of_cascade.found)),
            files.write_json(experiment / "metrics.json", of_cascade.content),
        ]
    points = cascade.operating_points(two.gated, bootstrap.RESAMPLES, seed)
    kind = replace(multilabel_compare.kind(), cases="test images" if where is None else "test studies")
    remarks = [pooling.NOTE] * (where is not None) + cascade.remarks(two.gated, stages, points, two.unknown)
    return [
        *written,
        tables.write_csv(experiment / "stage_one.csv", points),
        *comparison_step.write(experiment, found, kind, work.dataset, seed, "two stages against one", tuple(remarks)),
    ]
