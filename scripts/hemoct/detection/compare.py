"""A gate beside what it is compared with: the detector alone, and a classifier of whole slices. Table, text, figure."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import tables as classification_tables
from hemoct.data import images
from hemoct.data.slices import SliceData
from hemoct.detection import gate
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import (
    bootstrap,
    comparison,
    decisions,
    overlays,
    predictions as evaluation_predictions,
    protocol as evaluation_protocol,
    scores,
)
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation

NOTHING = np.zeros((0, 6))
EMPTY_TILE = (Image.new("RGB", (1, 1), overlays.PAPER), "")


def detector_alone(frame: pd.DataFrame, confidence: pd.Series) -> Evaluation | None:
    """The detector's best confidence as score of a slice, for the slices and with the truth of the gate's predictions `frame`.

    `confidence` by (image_id, fold). None for several classes: one number does not choose among them.
    """
    question = replace(decisions.question_of(evaluation_predictions.label_columns(frame)), probability=False)
    if question.positive is None:
        return None
    score = confidence.reindex(pd.MultiIndex.from_frame(frame[["image_id", "fold"]])).to_numpy()
    scores_of_labels = {f"p_{label}": score if label == question.positive else 1 - score for label in question.labels}
    return decisions.evaluate(frame.assign(**scores_of_labels), question)


def classifier_folder(work: Workspace, experiment: str) -> Path:
    """Where the results of a classifier of whole slices are: in outputs/, else among the reference results."""
    places = [work.task(1) / experiment, work.reference / "task1" / experiment]
    return next((place for place in places if (place / "metrics.json").exists()), places[0])


def whole_slices(work: Workspace, experiment: str, protocol: str, classes: list[str]) -> Evaluated:
    """A classifier of whole slices (task 1) that may stand beside a gate.

    Stops under another protocol and for other labels. Other folds under the same protocol are allowed, and noted beside its
    name: each model was trained without the patients that it is tested on, but not with the same ones.
    """
    whole = comparison.read(work, experiment, classifier_folder(work, experiment))
    if evaluation_protocol.split_of(whole.content["protocol"]) != protocol:
        raise UserError(
            f"--classifier {experiment} has the protocol {whole.content['protocol']}, the detector {protocol}; "
            "name a classifier with the same one"
        )
    if whole.evaluation.question.labels != classes:
        theirs, own = ", ".join(whole.evaluation.question.labels), ", ".join(classes)
        raise UserError(f"--classifier {experiment} predicts {theirs}, the gate {own}; name one with the same --label")
    return whole


@dataclass(frozen=True)
class Compared:
    """A gate with what it is compared with."""

    content: dict[str, Any]
    """metrics.json of the gate, on all of its test slices"""
    evaluation: Evaluation
    """of the gate"""
    alone: Evaluation | None
    """of the detector's best confidence; None for several classes"""
    table: pd.DataFrame
    """that of comparison.table, the gate first, on the test slices that all have"""
    slices: dict[str, int]
    """how many test slices there are: `common` to all, of the `gate`, of the `whole`-slice classifier (0 without it), and those
    which the latter tested in `other_folds`"""


def measure(
    frame: pd.DataFrame, squares: pd.DataFrame, whole: Evaluated | None, about: dict[str, Any], numbers: pd.Series, seed: int
) -> Compared:
    """Evaluate the gate and set it beside the detector alone and, unless None, a whole-slice classifier.

    All on the test slices that all of them have, each with the thresholds of its own validation slices. `frame`: the gate's
    predictions of its folds; `squares`: see squares_of; `about`: what metrics.json says first; `numbers`: slice number by
    image_id.
    """
    evaluation = decisions.evaluate(frame)
    tested = evaluation.test.table.set_index(["image_id", "fold"]).index
    about = about | {"test_slices_without_box": int((squares["confidence"].reindex(tested) == 0).sum())}
    per_patient = classification_tables.patients_table(evaluation, numbers)
    content = scores.report(evaluation, about, per_patient, bootstrap.RESAMPLES, seed)
    alone = detector_alone(frame, squares["confidence"])
    listed = [Evaluated(name, content, one) for name, one in (("gate", evaluation), ("detector alone", alone)) if one is not None]
    common, elsewhere = np.sort(tested.get_level_values("image_id")), 0
    if whole is not None:
        common = np.intersect1d(common, whole.table["image_id"])
        elsewhere = len(common) - len(tested.intersection(whole.table.set_index(["image_id", "fold"]).index))
        folds_done = f"other folds for {elsewhere} slices" if elsewhere else content["folds_done"]
        listed.append(replace(whole, name=f"whole slices: {whole.name}", content=whole.content | {"folds_done": folds_done}))
    if not len(common):
        raise UserError(f"{whole.name} and the gate have no test slice in common; name another --classifier")
    restricted = [comparison.restricted(one, common, bootstrap.RESAMPLES, seed) for one in listed]
    of_whole = whole.content["n"] if whole else 0
    slices = {"common": len(common), "gate": len(tested), "whole": of_whole, "other_folds": elsewhere}
    return Compared(content, evaluation, alone, comparison.table(restricted, bootstrap.RESAMPLES, seed), slices)


def text(compared: Compared) -> str:
    """gate_comparison.md."""
    slices, content = compared.slices, compared.content
    elsewhere, unfinished = slices["other_folds"], ", ".join(content["training_unfinished"])
    others = f" and {slices['whole']} that the whole-slice classifier has" if slices["whole"] else ""
    lines = {
        f"{slices['common']} test slices, the same for all rows, of {slices['gate']} that the gate has{others}.": True,
        "Each row has the thresholds of its own validation slices (max F1).": True,
        f"The gate sees the best box of {content['detector']} on each slice; {content['test_slices_without_box']} of "
        f"{slices['gate']} test slices without any box are seen whole.": True,
        "Its training slices were known to the detector, whose regions are better there than on test slices.": True,
        "No whole-slice classifier beside it: --classifier names one of task 1.": not slices["whole"],
        "No row for the detector alone: its confidence does not choose among several classes.": compared.alone is None,
        f"The whole-slice classifier was trained with other folds: {elsewhere} slices lie in another one.": elsewhere,
        f"The training of the detector is not finished: {unfinished}.": unfinished,
        f"{content['labels_mean']}.": content["labels_mean"],
    }
    table = comparison.markdown(compared.table, "Task 2: detection as a gate")
    return table.rstrip() + "\n\n" + "".join(f"* {line}\n" for line, holds in lines.items() if holds)


# ---- examples


def examples(of_gate: Evaluation, alone: Evaluation, count: int) -> dict[str, pd.DataFrame]:
    """Test slices for a figure by the detector's answer: image_id, fold, confidence, p (of the gate), called (by the gate).

    Of each kind `count`, evenly spread over the probabilities of the gate, from the least to the highest.
    """
    table = of_gate.test.table[["image_id", "fold"]]
    table = table.assign(confidence=alone.test.p, p=of_gate.test.p, called=of_gate.decision == 1)
    detected, positive = alone.decision == 1, of_gate.test.y == 1
    kinds = {
        "lesion called by the detector": positive & detected,
        "false alarm of the detector": ~positive & detected,
        "lesion missed by the detector": positive & ~detected,
    }
    chosen = {}
    for kind, rows in kinds.items():
        if rows.any():
            spread = np.unique(np.linspace(0, rows.sum() - 1, count).round().astype(int))
            chosen[kind] = table[rows].sort_values(["p", "image_id"], kind="stable").iloc[spread]
    return chosen


def regions(work: Workspace, data: SliceData, compared: Compared, squares: pd.DataFrame, count: int) -> Image.Image | None:
    """Test slices by the detector's answer, `count` of each kind in a row, and in the next the region that the gate saw of each.

    `squares`: see gate.squares_of. None where there is nothing to show, or where the detector alone gives no answer.
    """
    kinds = {} if compared.alone is None else examples(compared.evaluation, compared.alone, count)
    boxes, files_of = tables.read_boxes(work), data.table.set_index("image_id")["image"]
    tiles = []
    for kind, table in kinds.items():
        rows = ([], [])
        for case in table.itertuples():
            truth = boxes.loc[boxes["image_id"] == case.image_id, CORNERS].to_numpy(dtype=float)
            grey = images.read_grey(work.raw / files_of[case.image_id])
            square = squares.loc[(case.image_id, case.fold), CORNERS].to_numpy(dtype=int)
            seen = np.append(square, [case.confidence, 0])[None][: int(square.any())]
            detector = f"detector {case.confidence:.3f}" if square.any() else "no box: whole slice"
            drawn = overlays.picture(grey, seen, truth, overlays.TILE)
            rows[0].append((drawn, f"{kind}\n{case.image_id}, {detector}"))
            within = overlays.picture(gate.crop(grey, square), NOTHING, truth - np.tile(square[:2], 2), overlays.TILE)
            rows[1].append((within, f"gate {case.p:.3f}: {'positive' if case.called else 'negative'}"))
        tiles += [tile for row in rows for tile in (*row, *[EMPTY_TILE] * (count - len(row)))]
    means, content = f" ({label_meaning.BOX[data.layout]})" if data.layout in label_meaning.BOX else "", compared.content
    heading = [
        f"{content['experiment']} on {content['dataset']}, {content['folds_done']}, test slices from the least to the most "
        "probable, below each the region that the gate saw",
        f"green: annotated box{means}, red: region, with the confidence of the detector",
    ]
    return overlays.sheet(tiles, heading, count) if tiles else None
