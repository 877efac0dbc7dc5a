"""Boxes that a detector predicted: read, checked, and put beside the true ones.

Steps of other tasks build on them (`folders`, `read`): a step of fold K uses the detector of fold K, which was trained without
the test patients of that fold. The detector has seen the training slices, so its boxes there are better than on new slices, and
what learns from them is tested on harder ones. That can cost accuracy on test; it does not make the test dishonest.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes, fusion, images
from hemoct.data.slices import Slices
from hemoct.detection.data import BoxData
from hemoct.evaluation import external, predictions as evaluation_predictions
from hemoct.evaluation.subjects import Subject
from hemoct.training.specs import Spec

CORNERS = ["xmin", "ymin", "xmax", "ymax"]
GEOMETRY = ["confidence", *CORNERS]
COLUMNS = [*tables.PREDICTION_COLUMNS, "class", *GEOMETRY]
NEEDED = ("model.json", "predictions.csv", "train_predictions.csv")
"""what is read of a detector's fold"""
AGAIN = evaluation_predictions.AGAIN[2]


@dataclass(frozen=True, kw_only=True)
class DetectorSpec(Spec):
    """model.json of task 2: how a detector is built and fed. Those of Ultralytics take grey in 0..1, without mean and std."""

    TASK = 2

    model: str
    classes: list[str]
    backbone: str | None = None
    """the network of timm below a detector of torchvision; None: the one in its name"""
    group_norm: bool = False
    """group normalisation instead of batch normalisation; only torchvision's models from scratch"""
    linked: dict[str, Any] | None = None
    """how the boxes of slices were made to support each other, see lesions.choose; None: they are as the detector drew them"""
    made_of: list[dict[str, Any]] = field(default_factory=list)
    """the detectors whose boxes were fused, as evaluation.predictions.stage names them; empty: a single one drew them"""
    made_by: str | None = None
    """the step that fused them"""


# ---- beside the true boxes


@dataclass(frozen=True)
class Scene:
    """Images with their true and predicted boxes; row i of each is the same image. `of` takes a boolean mask or row numbers."""

    table: pd.DataFrame
    """image_id, patient, fold, part: one row an image"""
    classes: list[str]
    truth: list[np.ndarray]
    """float64 (k, 4) an image: xmin, ymin, xmax, ymax in pixels"""
    truth_class: list[np.ndarray]
    """class numbers, int (k,) an image"""
    predicted: list[np.ndarray]
    """float64 (m, 6) an image, most confident first: corners, confidence, class number"""

    def __len__(self) -> int:
        return len(self.table)

    def of(self, rows: np.ndarray) -> Self:
        numbers = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=int)
        lists = ([of_image[row] for row in numbers] for of_image in (self.truth, self.truth_class, self.predicted))
        return Scene(self.table.iloc[numbers].reset_index(drop=True), self.classes, *lists)

    @property
    def true_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """All true boxes, image after image: corners and class number (G, 5); row of their image (G,)."""
        return _flat([np.column_stack(of_image) for of_image in zip(self.truth, self.truth_class, strict=True)], 5)

    @property
    def predicted_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """All predicted boxes, image after image: (D, 6); row of their image (D,)."""
        return _flat(self.predicted, 6)

    @property
    def positive(self) -> np.ndarray:
        """Whether an image has a true box: bool (n,)."""
        return np.array([len(boxes) > 0 for boxes in self.truth], dtype=bool)

    @property
    def score(self) -> np.ndarray:
        """Confidence of the best box of each image, 0 without any: float64 (n,)."""
        return np.array([boxes[:, 4].max(initial=0) for boxes in self.predicted])


def _flat(of_images: list[np.ndarray], columns: int) -> tuple[np.ndarray, np.ndarray]:
    image = [row for row, boxes in enumerate(of_images) for _ in boxes]
    return np.concatenate([np.zeros((0, columns)), *of_images]), np.array(image, dtype=int)


def scene(predicted: pd.DataFrame, boxes: pd.DataFrame, classes: list[str]) -> Scene:
    """Join rows of predictions.csv with boxes.csv. The order is that of the images' first rows."""
    table = predicted[tables.PREDICTION_COLUMNS].drop_duplicates(["image_id", "fold"]).reset_index(drop=True)
    truth = data_boxes.by_image(boxes, table["image_id"], classes)
    return Scene(table, classes, *truth, _of_images(predicted, table, classes))


def _of_images(predicted: pd.DataFrame, table: pd.DataFrame, classes: list[str]) -> list[np.ndarray]:
    """The boxes of each row of `table` (image_id, fold) among rows of predictions.csv: (m, 6), most confident first."""
    real = predicted[predicted["confidence"].notna()].sort_values("confidence", ascending=False, kind="stable")
    numbers = real["class"].map({name: number for number, name in enumerate(classes)})
    values = np.column_stack([real[[*CORNERS, "confidence"]], numbers]).astype(float)
    rows, nothing = real.groupby(["image_id", "fold"]).indices, np.zeros(0, dtype=int)
    return [values[rows.get(key, nothing)] for key in zip(table["image_id"], table["fold"], strict=True)]


# ---- for evaluation: validation and test


def read_folds(subject: Subject, data: BoxData) -> tuple[pd.DataFrame, str]:
    """Predicted boxes of every fold of an experiment for the slices of `data`, and the protocol.

    Stops when they are wrong (see `check`), older than their model, or lack slices of `data` that belong to them.
    """
    work, experiment = subject.work, subject.experiment
    labels = tables.read_labels(work, tables.read_dataset(work))

    def read_fold(folder: Path) -> pd.DataFrame:
        return check(evaluation_predictions.current(work, 2, folder), labels, data.classes)

    frame, protocol = evaluation_predictions.of_slices(work, 2, experiment, data, read_fold)
    if frame.empty:
        raise UserError(f"{work.show(work.task(2) / experiment)}: no slice with a known label is predicted; {AGAIN}")
    return frame, protocol


def read_external(subject: Subject, data: BoxData) -> pd.DataFrame:
    """The boxes of the fused fold models on another data set, as 05_predict.py --on wrote them; `data`: its slices."""
    path, again = subject.other_predictions(), external.again(subject.work, 2, subject.experiment, subject.data.dataset)
    labels = tables.read_labels(subject.data, tables.read_dataset(subject.data))
    frame = check(path, labels, data.classes, again)
    frame = frame[frame["image_id"].isin(data.table["image_id"])]
    evaluation_predictions.stop_if_missing(subject.work.show(path), data.table["image_id"], frame, again)
    return frame.assign(fold="mean", part="test")


def check(
    path: Path, labels: pd.DataFrame, classes: list[str], again: str = AGAIN, parts: tuple[str, ...] = ("val", "test")
) -> pd.DataFrame:
    """Read predicted boxes and stop when they cannot be right; the messages say in which ways. `labels`: labels.csv of the data.

    `again`: how the boxes are made again, for the message. `parts`: those that may be there.
    Returns the columns of the contract, confidence and corners as float64.
    """
    frame = tables.read_csv(path, COLUMNS, numbers=False)
    numbers = frame[GEOMETRY].apply(pd.to_numeric, errors="coerce").astype(float)
    empty = (frame["class"] == "") & frame[GEOMETRY].isna().all(axis=1)
    several = frame.duplicated(["image_id", "fold"], keep=False)
    parts_of_image = frame.groupby(["image_id", "fold"])["part"].transform("nunique")
    wrong = {
        f"class that is not one of {', '.join(classes)}": ~frame["class"].isin(classes) & ~empty,
        "confidence or corner that is no number": ~np.isfinite(numbers).all(axis=1) & ~empty,
        "confidence that is not from 0 to 1": ~numbers["confidence"].between(0, 1) & ~empty,
        "corners out of order": (numbers["xmax"] < numbers["xmin"]) | (numbers["ymax"] < numbers["ymin"]),
        "image in two parts": parts_of_image > 1,
        "empty row of an image that has other rows": empty & several,
    }
    evaluation_predictions.stop_if_wrong(frame, labels, parts, wrong, path, again)
    return frame[[*tables.PREDICTION_COLUMNS, "class"]].join(numbers)


# ---- for steps that build on a detector: all three parts


def folders(work: Workspace, experiment: str, fold: str) -> tuple[list[Path], str]:
    """The folds of a detector with predictions (`fold`: a number or "all"), and their protocol.

    An experiment that is not in outputs/ is looked for among the reference results. Stops when a file of NEEDED is missing, when
    the folds differ in protocol or classes, and when splits.csv has changed since.
    """
    places = [work.task(2) / experiment, work.reference / "task2" / experiment]
    folder = next((place for place in places if experiments.folds(place, "predictions.csv")), places[0])
    of_experiment = experiments.folds(folder, "predictions.csv")
    chosen = [path for path in of_experiment if fold == "all" or path.name == f"fold{fold}"]
    if not chosen:
        wanted = folder / ("fold*" if fold == "all" else f"fold{fold}")
        above = [each for place in (work.task(2), work.reference / "task2") for each in sorted(place.glob("*"))]
        names = ", ".join(dict.fromkeys(each.name for each in above if experiments.folds(each, *NEEDED[1:])))
        train = f"train a detector: python {experiments.train_step(2)} --dataset {work.dataset}"
        there = f"experiments of task 2: {names}" if names else train
        raise UserError(f"{work.show(wanted)} holds no predictions.csv; {there}")
    for path in (of_fold / name for of_fold in chosen for name in NEEDED):
        if not path.exists():
            raise UserError(f"{work.show(path)} is missing; {AGAIN}")
    for of_fold in chosen:
        spec = DetectorSpec.read(of_fold)
        if spec.split == "folds" and f"fold{spec.fold}" != of_fold.name:
            raise UserError(f"{work.show(of_fold / 'model.json')} is of fold {spec.fold}: test patients would leak; restore it")
    return chosen, evaluation_predictions.setting(work, 2, chosen)


def read(work: Workspace, folder: Path, slices: Slices) -> tuple[pd.DataFrame, DetectorSpec]:
    """Checked boxes of all three parts of a fold, for those of `slices` that the detector predicted, and its spec.

    Columns: COLUMNS. Stops when predictions are wrong, or not of the parts that the slices have in this fold.
    """
    spec, fold = DetectorSpec.read(folder), experiments.fold_of(folder)
    labels = tables.read_labels(work, tables.read_dataset(work))
    paths = [evaluation_predictions.current(work, 2, folder, name=name) for name in NEEDED[1:]]
    frame = pd.concat([check(path, labels, spec.classes, parts=tables.PARTS) for path in paths], ignore_index=True)
    part = pd.Series(slices.part_of(fold, spec.protocol, spec.split), index=slices.table["image_id"])
    of_slices = frame[frame["image_id"].isin(part.index)]
    wrong = (of_slices["part"] != of_slices["image_id"].map(part)) | (of_slices["fold"] != fold)
    if wrong.any():
        raise UserError(
            f"{work.show(folder)}: its predictions of {of_slices['image_id'][wrong].iloc[0]} are not those of fold {fold} in "
            f"splits.csv, test patients would leak; {AGAIN}"
        )
    return of_slices, spec


def as_rows(about: pd.DataFrame, predicted: list[np.ndarray], classes: list[str]) -> pd.DataFrame:
    """One row a box with the columns of `about` (one row a slice); a slice without any box has one row with an empty box."""
    counts = np.array([max(1, len(boxes)) for boxes in predicted])
    frame = about.loc[about.index.repeat(counts)].reset_index(drop=True)
    empty = np.full((1, 6), np.nan)
    values = np.concatenate([boxes if len(boxes) else empty for boxes in predicted])
    frame["class"] = ["" if np.isnan(number) else classes[int(number)] for number in values[:, 5]]
    frame["confidence"] = values[:, 4].round(5)
    frame[CORNERS] = values[:, :4].round(1)
    return frame


def fused(of_members: list[Path], slices: Slices, made_by: str) -> tuple[pd.DataFrame, DetectorSpec]:
    """The boxes of several detectors of one fold as those of one, see fusion.fuse, and its spec. `of_members`: their folders.

    `made_by`: the step. Stops where a detector lacks slices that another one has.
    """
    frames, specs = zip(*(read(slices.work, member, slices) for member in of_members), strict=True)
    abouts = [frame[tables.PREDICTION_COLUMNS].drop_duplicates("image_id", ignore_index=True) for frame in frames]
    for member, about in zip(of_members, abouts, strict=True):
        if set(about["image_id"]) != set(abouts[0]["image_id"]):
            raise UserError(f"{member} has predicted other slices than {of_members[0]}; {AGAIN}")
    by_model = [_of_images(frame, abouts[0], specs[0].classes) for frame in frames]
    image_of = dict(zip(slices.table["image_id"], slices.table["image"], strict=True))
    sizes = [images.size_of(slices.work.raw / image_of[name]) for name in abouts[0]["image_id"]]
    joined = [fusion.fuse(list(of_image), *size) for *of_image, size in zip(*by_model, sizes, strict=True)]
    made_of = [evaluation_predictions.stage(DetectorSpec.TASK, member) for member in of_members]
    spec = replace(specs[0], model="ensemble", backbone=None, linked=None, initial_weights=None, made_of=made_of, made_by=made_by)
    return as_rows(abouts[0], joined, spec.classes), spec
