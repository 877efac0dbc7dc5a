"""Detection as a gate: the best region of a detector on every slice, cut out and classified, and what that is compared with.

The gate of fold K classifies the regions of the detector of fold K (see detection.predictions for what that means).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import tables as classification_tables
from hemoct.data import images
from hemoct.data.slices import SliceData
from hemoct.detection import predictions
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import bootstrap, comparison, decisions, scores
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation


@dataclass(frozen=True)
class Regions:
    """The best box of the detector of one fold on each slice; row i of each is that of row i of the slices."""

    boxes: np.ndarray
    """float64 (n, 4): xmin, ymin, xmax, ymax in pixels; NaN where the detector has no box"""
    confidence: np.ndarray
    """float64 (n,), 0 where the detector has no box"""

    def squares(self, margin: float, least_side: int) -> np.ndarray:
        """The pixels to cut out: int64 (n, 4), xmin, ymin, xmax, ymax, the last two exclusive; zeros mean the whole slice.

        A square with the centre of the box, its side that of the longer side of the box with `margin` of that at both ends,
        and no less than `least_side`. It may reach beyond the image.
        """
        has_box = ~np.isnan(self.boxes).any(axis=1)
        low, high = self.boxes[has_box, :2], self.boxes[has_box, 2:]
        longest = (high - low).max(axis=1, initial=0)
        side = np.maximum(np.ceil(longest * (1 + 2 * margin) - 1e-6), least_side)[:, None]  # 1e-6: 10 * 1.2 is 12, not 13
        start = np.floor((low + high) / 2 - side / 2 + 0.5)
        squares = np.zeros((len(self.boxes), 4), dtype=np.int64)
        squares[has_box] = np.concatenate([start, start + side], axis=1)
        return squares


def describe(experiment: str, margin: float, least_side: int) -> dict[str, Any]:
    """`region` of model.json: everything that is needed to cut the same regions again."""
    return {"detector": experiment, "margin": margin, "least_side": least_side}


# ---- the regions of a detector


def read(work: Workspace, folder: Path, data: SliceData) -> tuple[SliceData, Regions]:
    """The best box of a detector's fold folder on each slice of `data`.

    Slices that the detector did not predict, as another of their labels is unknown, are left out of the data that are returned.
    For a label that is one of the detector's classes only boxes of that class count. Stops when predictions are wrong, lack
    slices, or are not of the parts that the slices have in this fold.
    """
    boxes, spec = predictions.read(work, folder, data)
    predicted = data.table["image_id"].isin(boxes["image_id"]).to_numpy()
    dataset = tables.read_dataset(work)
    missing = data.table.loc[~predicted & data.table[dataset.labels].notna().all(axis=1).to_numpy(), "image_id"]
    if len(missing):
        raise UserError(
            f"{work.show(folder)}: its predictions lack {len(missing)} of {len(predicted)} slices (first: {missing.iloc[0]}); "
            f"{predictions.AGAIN}, or give the --limit-patients that the detector was trained with"
        )
    kept = replace(data, table=data.table[predicted].reset_index(drop=True), targets=data.targets[predicted])
    best = _best(boxes, [name for name in data.classes if name in spec.classes]).reindex(kept.table["image_id"])
    return kept, Regions(best[CORNERS].to_numpy(), best["confidence"].fillna(0).to_numpy())


def _best(boxes: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """confidence and corners of the most confident box (of `classes`, unless that is empty) by image_id."""
    counted = boxes[boxes["class"].isin(classes)] if classes else boxes
    ordered = counted[counted["confidence"].notna()].sort_values("confidence", ascending=False, kind="stable")
    return ordered.drop_duplicates("image_id").set_index("image_id")[["confidence", *CORNERS]]


def squares_of(work: Workspace, folders: list[Path], data: SliceData, margin: float, least_side: int) -> pd.DataFrame:
    """Confidence and the corners of the square by (image_id, fold), from the detector's fold folders."""
    frames = []
    for folder in folders:
        slices, regions = read(work, folder, data)
        frame = pd.DataFrame(regions.squares(margin, least_side), columns=CORNERS)
        fold = experiments.fold_of(folder)
        frames.append(frame.assign(image_id=slices.table["image_id"], fold=fold, confidence=regions.confidence))
    return pd.concat(frames).set_index(["image_id", "fold"])


# ---- pixels


def cut(grey: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """One region (uint8, height x width -> size x size) at native resolution, then resized; black beyond the image.

    `square`: a row of Regions.squares; zeros: the whole slice, as hemoct.data.images.resize makes it.
    """
    region = np.asarray(Image.fromarray(grey).crop(tuple(int(edge) for edge in square))) if square.any() else grey
    return images.resize(region, size)


def cached(work: Workspace, table: pd.DataFrame, squares: np.ndarray, size: int) -> np.ndarray:
    """All regions, in the order of `table`, as a read-only uint8 memory map (n, size, size), keyed by images and squares."""
    paths = [work.raw / name for name in table["image"]]
    path = work.cache / f"regions-{size}px-{images.key(paths, size, squares.astype('<i8').tobytes())}.npy"

    def regions() -> Iterable[np.ndarray]:
        decoded = images.decode(paths, desc=f"cut out to {size} px")
        return (cut(grey, square, size) for grey, square in zip(decoded, squares, strict=True))

    return images.memory_map(path, (len(paths), size, size), regions)


# ---- comparison


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
    if whole.content["protocol"] != protocol:
        raise UserError(
            f"--classifier {experiment} has the protocol {whole.content['protocol']}, the detector {protocol}; "
            "name a classifier with the same one"
        )
    if whole.found.question.labels != classes:
        theirs, own = ", ".join(whole.found.question.labels), ", ".join(classes)
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
    slices: dict[str, int | None]
    """how many test slices there are: `common` to all, of the `gate`, of the `whole`-slice classifier (None without it), and
    those which the latter tested in `other_folds`"""


def measure(
    frame: pd.DataFrame, squares: pd.DataFrame, whole: Evaluated | None, about: dict[str, Any], numbers: pd.Series, seed: int
) -> Compared:
    """Evaluate the gate and set it beside the detector alone and, unless None, a whole-slice classifier.

    `frame`: the gate's predictions of its folds; `squares`: see squares_of; `about`: what metrics.json says first; `numbers`:
    slice number by image_id.
    """
    evaluation = decisions.evaluate(frame)
    test = evaluation.test.table
    confidence = squares["confidence"].reindex(pd.MultiIndex.from_frame(test[["image_id", "fold"]]))
    about = about | {"test_slices_without_box": int((confidence == 0).sum())}
    per_patient = classification_tables.patients_table(evaluation, numbers)
    content = scores.report(evaluation, about, per_patient, bootstrap.RESAMPLES, seed)
    alone = detector_alone(frame, squares["confidence"])
    listed, slices = _beside(Evaluated("gate", content, evaluation), alone, whole, seed)
    return Compared(content, evaluation, alone, comparison.table(listed, bootstrap.RESAMPLES, seed), slices)


def _beside(
    gate: Evaluated, alone: Evaluation | None, whole: Evaluated | None, seed: int
) -> tuple[list[Evaluated], dict[str, int | None]]:
    """All on the test slices that all of them have, each with the thresholds of its own validation slices; and how many."""
    tested = gate.found.test.table.set_index("image_id")["fold"]
    common, elsewhere = np.sort(tested.index), 0
    listed = [gate]
    if alone is not None:
        listed.append(Evaluated("detector alone", gate.content, alone))
    if whole is not None:
        other = whole.found.test.table.set_index("image_id")["fold"]
        common = np.intersect1d(common, other.index)
        elsewhere = int((tested.reindex(common) != other.reindex(common)).sum())
        same = gate.content["folds_done"] if not elsewhere else f"other folds for {elsewhere} slices"
        listed.append(replace(whole, name=f"whole slices: {whole.name}", content=whole.content | {"folds_done": same}))
    if not len(common):
        raise UserError(f"{whole.name} and the gate have no test slice in common; name another --classifier")
    slices = {"common": len(common), "gate": len(tested), "whole": None if whole is None else whole.content["n"],
              "other_folds": elsewhere}  # fmt: skip
    return [comparison.restricted(evaluated, common, bootstrap.RESAMPLES, seed) for evaluated in listed], slices


def text(compared: Compared) -> str:
    """gate_comparison.md."""
    slices, content = compared.slices, compared.content
    lines = [
        f"{slices['common']} test slices, the same for all rows, of {slices['gate']} that the gate has"
        + (f" and {slices['whole']} that the whole-slice classifier has." if slices["whole"] else "."),
        "Each row has the thresholds of its own validation slices (max F1).",
        f"The gate sees the best box of {content['detector']} on each slice; {content['test_slices_without_box']} of "
        f"{slices['gate']} test slices without any box are seen whole.",
        "Its training slices were known to the detector, whose regions are better there than on test slices.",
    ]
    if slices["whole"] is None:
        lines.append("No whole-slice classifier beside it: --classifier names one of task 1.")
    if compared.alone is None:
        lines.append("No row for the detector alone: its confidence does not choose among several classes.")
    if slices["other_folds"]:
        lines.append(
            f"The whole-slice classifier was trained with other folds: {slices['other_folds']} slices lie in another one."
        )
    if content["training_unfinished"]:
        lines.append(f"The training of the detector is not finished: {', '.join(content['training_unfinished'])}.")
    if content["labels_mean"]:
        lines.append(f"{content['labels_mean']}.")
    table = comparison.markdown(compared.table, "Task 2: detection as a gate")
    return table.rstrip() + "\n\n" + "\n".join(f"* {line}" for line in lines) + "\n"


# ---- examples


def examples(gate: Evaluation, alone: Evaluation, count: int) -> dict[str, pd.DataFrame]:
    """Test slices for a figure by the detector's answer: image_id, fold, confidence, p (of the gate), called (by the gate).

    Of each kind `count`, evenly spread over the probabilities of the gate, from the least to the highest.
    """
    table = gate.test.table[["image_id", "fold"]].assign(
        confidence=alone.test.p, p=gate.test.p, called=gate.decision == 1, detected=alone.decision == 1, positive=gate.test.y == 1
    )
    kinds = {
        "lesion, called by the detector": table["positive"] & table["detected"],
        "no lesion, false alarm of the detector": ~table["positive"] & table["detected"],
        "lesion, missed by the detector": table["positive"] & ~table["detected"],
    }
    chosen = {}
    for kind, rows in kinds.items():
        ordered = table[rows].sort_values(["p", "image_id"], kind="stable")
        spread = np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int)) if len(ordered) else []
        chosen[kind] = ordered.iloc[spread]
    return {kind: of_kind for kind, of_kind in chosen.items() if len(of_kind)}
