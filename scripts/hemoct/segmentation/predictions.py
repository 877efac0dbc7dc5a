"""Probability maps of a segmentation experiment: read beside the true masks, checked against errors and leaks, averaged."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, named_images
from hemoct.evaluation import external, predictions as evaluation_predictions, protocol, subjects
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation.data import MaskData
from hemoct.training.specs import Spec

Seen = TypeVar("Seen")
AGAIN = evaluation_predictions.AGAIN[3]
NEEDED = ("model.json", "predictions.csv", "probability")
"""what is read of a fold"""
ALIKE = ("task", "model", "encoder", "image_size", "context", "normalise", "region", "boxes", "mask_value",
         "validation", "members", "validated_by")  # fmt: skip
"""what model.json of all folds must say alike"""
SHARED = ("protocol", "split", "splits_sha256", "region", "boxes", "context", "source_size", "mask_value")
"""what model.json of all members of an ensemble must say alike"""


@dataclass(frozen=True, kw_only=True)
class SegmenterSpec(Spec):
    """model.json of task 3: all that rebuilds a segmentation network and feeds it."""

    TASK = 3

    model: str
    encoder: str
    context: int
    """neighbouring slices on each side that are fed as further channels"""
    source_size: int
    """side of the square that windows are cut from, in pixels"""
    region: str
    """`slice`: the whole square; `box`: windows around boxes"""
    normalise: str = "dataset"
    """`dataset`: by mean and std; `window`: by those of each window's own brain, see `normalised`"""
    boxes: str | None = None
    """the detector's experiment of task 2, or `truth`"""
    margin: float = 0.0
    """of a window, at both ends of a box, in parts of its longer side"""
    least_side: int = 0
    """of a window, in pixels of the square"""
    least_confidence: float = 0.0
    """of a box; chosen on validation"""
    mirror: str | None = None
    """axis along which probabilities of the mirrored image are averaged in; None: not done"""
    mask_value: int | None = None
    validation: int = 1
    """the fold that validates, counted on from the test fold"""


def shared_spec(work: Workspace, folders: list[Path]) -> dict[str, Any]:
    """What model.json says in all folds: the keys of ALIKE; empty without any. Stops when the folds differ."""
    specs = {folder: files.read_json(folder / "model.json") for folder in folders if (folder / "model.json").exists()}
    shared = [{"normalise": "dataset"} | spec for spec in specs.values()]  # older ones do not name it
    for folder, spec in zip(specs, shared, strict=True):
        other = [key for key in ALIKE if spec.get(key) != shared[0].get(key)]
        if other:
            first = work.show(next(iter(specs)))
            raise UserError(
                f"{work.show(folder)} and {first} differ in {', '.join(other)} (model.json); train them again, all alike"
            )
    return {key: shared[0].get(key) for key in ALIKE} if shared else {}


class Subject(subjects.Subject):
    """An evaluated experiment of task 3. It may be an ensemble: then its models are those of its members."""

    @classmethod
    def of(cls, subject: subjects.Subject) -> Self:
        return cls(**vars(subject))

    @property
    def models(self) -> list[Path]:
        return model_folders(self.work, self.experiment, None)

    @property
    def maps(self) -> dict[int | str, Path]:
        """The folders with the maps of each fold; on other data one, `mean`."""
        if self.on_other_data:
            return {"mean": external.folder(self.work, 3, self.experiment, self.data.dataset)}
        return {experiments.fold_of(folder): folder for folder in self.folders}

    def inputs(self, tables: Iterable[str]) -> list[Path]:
        paths = super().inputs(tables)
        paths += [folder / "probability" for folder in (*self.folders, *self.maps.values())]
        return [*paths, self.folders[0].parent / "metrics.json"] if self.on_other_data else paths


# ---- predictions.csv


def read(work: Workspace, experiment: str, data: MaskData) -> tuple[pd.DataFrame, str]:
    """predictions.csv of all folds for the slices of `data` (columns of tables.PREDICTION_COLUMNS), and their protocol.

    Stops when they are wrong, older than their model, lack a probability map, or do not hold all slices that belong to a fold.
    """
    labels = tables.read_labels(work, tables.read_dataset(work))

    def read_fold(folder: Path) -> pd.DataFrame:
        path = evaluation_predictions.current(work, 3, folder)
        return _checked(path, work.show(path), labels, AGAIN)

    frame, setting = evaluation_predictions.of_slices(work, 3, experiment, data, read_fold)
    test = frame.loc[frame["part"] == "test", "image_id"]
    place = work.show(work.task(3) / experiment)
    if test.duplicated().any():
        raise UserError(f"{place}: {test[test.duplicated()].iloc[0]} is tested in two folds; {AGAIN}")
    if not test.isin(data.table["image_id"][data.known]).any():
        raise UserError(f"{place}: no test slice has a mask file, nothing can be scored; use more patients, or data with masks")
    return frame, setting


def read_external(subject: Subject, data: MaskData) -> pd.DataFrame:
    """predictions.csv of the slices of `data`, of another data set, as 05_predict.py --on wrote it: all are test, fold `mean`.

    Stops when it is wrong, older than a model, or lacks slices or maps.
    """
    path, shown, name = subject.other_predictions(), subject.work.show(subject.other_predictions()), subject.data.dataset
    again = external.again(subject.work, 3, subject.experiment, name)
    frame = _checked(path, shown, tables.read_labels(subject.data, tables.read_dataset(subject.data)), again)
    evaluation_predictions.stop_if_missing(shown, data.table["image_id"], frame, f"{name} has grown; {again}")
    return frame[frame["image_id"].isin(data.table["image_id"])].assign(fold="mean")


def _checked(path: Path, shown: str, labels: pd.DataFrame, again: str) -> pd.DataFrame:
    """predictions.csv, checked against labels.csv and the maps beside it. `shown`: its name in messages; `again`: the remedy."""
    frame = tables.read_predictions(path.parent)[tables.PREDICTION_COLUMNS]
    there = {file.stem for file in (path.parent / "probability").glob("*.png")}
    wrong = {
        "image that is there twice": frame["image_id"].duplicated(),
        "no probability/IMAGE_ID.png": ~frame["image_id"].isin(there),
    }
    evaluation_predictions.stop_if_wrong(frame, labels, ("val", "test"), wrong, shown, again)
    return frame


# ---- maps


def look(
    work: Workspace, data: MaskData, folder: Path, rows: np.ndarray, see: Callable[[int, np.ndarray, np.ndarray], Seen]
) -> Iterator[Seen]:
    """What `see` makes of each row of `data`, in order, by several workers: only what it returns waits in memory.

    `see` gets the place among `rows`, the probability map, uint8 (height, width), 255 = certain, and the true mask, bool, empty
    where there is no file. `folder`: that of the fold.
    """
    masks, alike = segmentation_data.TrueMasks(work, data), images.Alike()
    raw, maps_folder = str(work.raw), str(folder / "probability")
    shown = [os.path.join(raw, name) for name in data.table["image"].iloc[rows]]
    maps = [os.path.join(maps_folder, f"{name}.png") for name in data.table["image_id"].iloc[rows]]

    def read(place: int) -> Seen:
        size = images.size_of(Path(shown[place]))
        probability = alike.read(maps[place], size, lambda path: read_map(path, size))
        return see(place, probability, masks.read(int(rows[place]), size))

    return images.decode(range(len(rows)), folder.name, read)


def with_images(
    work: Workspace, data: MaskData, folders: dict[int | str, Path], chosen: pd.DataFrame
) -> Iterator[tuple[np.ndarray, ...]]:
    """Image, probability map and true mask, each (height, width), of slices with columns `image_id, fold`.

    `folders`: where the maps of a fold lie.
    """
    row_of = pd.Series(data.table.index, index=data.table["image_id"])
    for case in chosen.itertuples():
        row = row_of[case.image_id]
        (pair,) = look(work, data, folders[case.fold], np.array([row]), lambda _, *pair: pair)
        yield (images.read_grey(work.raw / data.table["image"][row]), *pair)


def read_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The probability map of an image of `size` (width, height): uint8 (height, width). Stops at another size."""
    try:
        probability = images.read_grey(path)
    except UserError:
        raise UserError(f"{path} cannot be read as an 8-bit image; {AGAIN}") from None
    if probability.shape != size[::-1]:
        height, width = probability.shape
        raise UserError(f"{path} is {width} x {height} px, its image {size[0]} x {size[1]} px; {AGAIN}")
    return probability


# ---- ensembles: experiments that are the mean of others


def members(experiment: Path) -> list[str]:
    """The experiments that this one is the mean of; empty where it is none. `experiment`: its folder."""
    for folder in experiments.folds(experiment, "model.json"):
        return files.read_json(folder / "model.json").get("members", [])
    return []


def model_folders(work: Workspace, experiment: str, fold: int | None) -> list[Path]:
    """The fold folders with a model of an experiment, or of all members of an ensemble; of `fold` alone where it is given."""
    for folder in experiments.folds(work.task(3) / experiment, "model.json"):
        evaluation_predictions.stop_if_stages_changed(work, folder)
    names = members(work.task(3) / experiment) or [experiment]
    return [folder for name in names for folder in named_images.models(work, 3, name, fold)]


def write_mean(work: Workspace, folder: Path, of_members: list[Path], names: list[str], data: MaskData) -> list[Path]:
    """Write the mean maps, predictions.csv and model.json of one fold; returns the files. `of_members`: this fold's folders.

    Validation slices are those of the first member: their maps are the mean of the members that have not learned from them.
    """
    frames = [tables.read_predictions(member)[tables.PREDICTION_COLUMNS] for member in of_members]
    validations = [protocol.validation_of(member) for member in of_members]
    frame, row_of = frames[0], pd.Series(data.table.index, index=data.table["image_id"])
    for other, member, validation in zip(frames, of_members, validations, strict=True):
        parts = ("val", "test") if validation == validations[0] else ("test",)
        if any(set(other["image_id"][other["part"] == part]) != set(frame["image_id"][frame["part"] == part]) for part in parts):
            raise UserError(f"{work.show(member / 'predictions.csv')} holds other slices than that of {names[0]}; {AGAIN}")
    validating = [number for number, validation in enumerate(validations) if validation == validations[0]]
    averaged = {"val": [of_members[number] for number in validating], "test": of_members}
    peaks = []
    with files.replacing_folder(folder / "probability") as temporary:
        means = _means(work, data, row_of[frame["image_id"]].tolist(), frame["part"].map(averaged).tolist())
        for name, mean in zip(frame["image_id"], means, strict=True):
            Image.fromarray(mean).save(temporary / f"{name}.png")
            peaks.append(int(mean.max()))
    first = files.read_json(of_members[0] / "model.json")
    hashes = [files.sha256(member / "predictions.csv") for member in of_members]
    content: dict[str, Any] = {"task": 3, "model": "ensemble", "members": names, "members_sha256": hashes, "fold": first["fold"]}
    content |= {key: first.get(key) for key in SHARED} | {"validation": validations[0]}
    content["validated_by"] = [names[number] for number in validating]
    return [
        files.write_json(folder / "model.json", content),
        tables.write_predictions(folder, frame.assign(peak=peaks)),
        folder / "probability",
    ]


def _means(work: Workspace, data: MaskData, rows: list[int], averaged: list[list[Path]]) -> Iterator[np.ndarray]:
    """The rounded mean of the maps of slices `rows`: uint8 (height, width) each, decoded ahead. `averaged`: whose, for each."""

    def mean(slice_and_folders: tuple[int, list[Path]]) -> np.ndarray:
        row, folders = slice_and_folders
        size = images.size_of(work.raw / data.table["image"][row])
        name = f"{data.table['image_id'][row]}.png"
        total = sum(read_map(folder / "probability" / name, size).astype(np.uint16) for folder in folders)
        return np.rint(total / len(folders)).astype(np.uint8)

    return images.decode(list(zip(rows, averaged, strict=True)), "mean maps", mean)
