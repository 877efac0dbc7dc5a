"""Probability maps that a network of task 3 predicted: found, checked against errors and leaks, read beside the true masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.evaluation import external, predictions
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation.data import MaskData

AGAIN = predictions.AGAIN[3]
NEEDED = ("model.json", "predictions.csv", "probability")
"""what is read of a fold"""
ALIKE = ("task", "model", "encoder", "image_size", "context", "normalise", "region", "boxes", "mask_value",
         "validation", "members", "validated_by")  # fmt: skip


def spec(work: Workspace, folders: list[Path]) -> dict[str, Any]:
    """What model.json says in all folds: the keys of ALIKE; empty without any. Stops when the folds differ."""
    there = [folder / "model.json" for folder in folders if (folder / "model.json").exists()]
    found = [{"normalise": "dataset"} | files.read_json(path) for path in there]  # older ones do not name it
    for key in ALIKE:
        if len({str(one.get(key)) for one in found}) > 1:
            raise UserError(
                f"{work.show(folders[0].parent)}: the folds differ in {key} (model.json); train them again, all alike"
            )
    return {key: found[0].get(key) for key in ALIKE} if found else {}


def around_true_boxes(told: dict[str, Any]) -> bool:
    """Whether a network was shown where the lesions are. `told`: see `spec`."""
    return told.get("region") == "box" and told.get("boxes") in (None, "truth")


def read(work: Workspace, experiment: str, data: MaskData) -> tuple[pd.DataFrame, str]:
    """predictions.csv of all folds for the slices of `data` (columns of tables.PREDICTION_COLUMNS), and their protocol.

    Stops when they are wrong, older than their model, lack a probability map, or do not hold all slices that belong to a fold.
    """
    labels = tables.read_labels(work, tables.read_dataset(work))
    frame, protocol = predictions.joined(work, 3, experiment, lambda folder: _read_fold(work, folder, labels))
    frame = frame[frame["image_id"].isin(data.table["image_id"])]
    for fold, of_fold in frame.groupby("fold") if protocol != "unknown" else []:
        folder = work.task(3) / experiment / f"fold{fold}"
        part = data.part_of(
            fold, protocol, "given" if protocol == "given" else "folds", evaluation_protocol.validation_of(folder)
        )
        wanted = data.table["image_id"][part != "train"]
        missing = wanted[~wanted.isin(of_fold["image_id"])]
        if len(missing):
            path = work.show(folder / "predictions.csv")
            raise UserError(
                f"{path} lacks {len(missing)} of {len(wanted)} slices (first: {missing.iloc[0]}); {AGAIN}, or "
                "evaluate the patients that it was trained with alone: --limit-patients N"
            )
    test = frame.loc[frame["part"] == "test", "image_id"]
    place = work.show(work.task(3) / experiment)
    if test.duplicated().any():
        raise UserError(f"{place}: {test[test.duplicated()].iloc[0]} is tested in two folds; {AGAIN}")
    if not test.isin(data.table["image_id"][data.known]).any():
        raise UserError(f"{place}: no test slice has a mask file, nothing can be scored; use more patients, or data with masks")
    return frame, protocol


def read_external(work: Workspace, experiment: str, other: Workspace, data: MaskData, models: list[Path]) -> pd.DataFrame:
    """predictions.csv of the slices of `data`, of another data set, as 05_predict.py --on left it: all are test, of fold `mean`.

    `models`: the fold folders that predicted. Stops when it is wrong, older than a model, or lacks slices or maps.
    """
    path = external.predictions_csv(work, 3, experiment, other.dataset, models)
    again = external.again(work, 3, experiment, other.dataset)
    frame = _checked(path, work.show(path), tables.read_labels(other, tables.read_dataset(other)), again)
    wanted = data.table["image_id"]
    missing = wanted[~wanted.isin(frame["image_id"])]
    if len(missing):
        raise UserError(
            f"{work.show(path)} lacks {len(missing)} of {len(wanted)} slices (first: {missing.iloc[0]}), {other.dataset} has "
            f"grown; {again}"
        )
    return frame[frame["image_id"].isin(wanted)].assign(fold="mean")


def stop_if_members_changed(work: Workspace, folder: Path) -> None:
    """Stop when the fold of an ensemble was made of other predictions than its members hold now."""
    told = files.read_json(folder / "model.json") if (folder / "model.json").exists() else {}
    for member, digest in zip(told.get("members", []), told.get("members_sha256", []), strict=True):
        path = work.task(3) / member / folder.name / "predictions.csv"
        if files.fingerprint(path) != digest:
            raise UserError(
                f"{work.show(path)} is gone or another one than {folder.parent.name} was made of; "
                "run task3_segmentation/07_ensemble.py again"
            )


def _read_fold(work: Workspace, folder: Path, labels: pd.DataFrame) -> pd.DataFrame:
    path = folder / "predictions.csv"
    stop_if_members_changed(work, folder)
    if not predictions.is_current(work, folder, made_with=()):
        raise UserError(f"{work.show(path)} is missing or older than best.pt; {AGAIN}")
    return _checked(path, work.show(path), labels, AGAIN)


def _checked(path: Path, shown: str, labels: pd.DataFrame, again: str) -> pd.DataFrame:
    """predictions.csv, checked against labels.csv and the maps beside it. `shown`: its name in messages; `again`: the remedy."""
    frame = tables.read_predictions(path.parent)[tables.PREDICTION_COLUMNS]
    patient_of = labels.set_index("image_id")["patient"]
    there = {file.stem for file in (path.parent / "probability").glob("*.png")}
    wrong = {
        "part must be val or test": ~frame["part"].isin(["val", "test"]),
        "image of no row of labels.csv": ~frame["image_id"].isin(patient_of.index),
        "other patient than in labels.csv": frame["patient"].ne(frame["image_id"].map(patient_of)),
        "image that is there twice": frame["image_id"].duplicated(),
        "no probability/IMAGE_ID.png": ~frame["image_id"].isin(there),
    }
    for problem, rows in wrong.items():
        if rows.any():
            first = frame.loc[rows, "image_id"].iloc[0]
            raise UserError(f"{shown}: {rows.sum()} row(s) with {problem} (first: {first}); {again}")
    return frame


def pairs(work: Workspace, data: MaskData, folder: Path, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probability map, uint8 (height, width), 255 = certain, and true mask, bool, of rows of `data`, decoded ahead.

    `folder`: that of the fold. The mask is empty where there is no file.
    """

    def read_both(row: int) -> np.ndarray:
        size = images.size_of(work.raw / data.table["image"][row])
        found = read_map(folder / "probability" / f"{data.table['image_id'][row]}.png", size)
        if not data.known[row]:
            return np.stack([found, np.zeros_like(found)])
        return np.stack([found, segmentation_data.read_mask(work.raw / data.table["mask"][row], size, data.mask_value)])

    for found, mask in images.decode(rows.tolist(), folder.name, read_both):
        yield found, mask.astype(bool)


def with_images(
    work: Workspace, data: MaskData, folders: dict[int | str, Path], chosen: pd.DataFrame
) -> Iterator[tuple[np.ndarray, ...]]:
    """Image, probability map and true mask, each (height, width), of slices with columns `image_id, fold`.

    `folders`: where the maps of a fold lie.
    """
    row_of = pd.Series(data.table.index, index=data.table["image_id"])
    for case in chosen.itertuples():
        row = row_of[case.image_id]
        pair = next(pairs(work, data, folders[case.fold], np.array([row])))
        yield (images.read_grey(work.raw / data.table["image"][row]), *pair)


def read_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The probability map of an image of `size` (width, height): uint8 (height, width). Stops at another size."""
    try:
        found = images.read_grey(path)
    except UserError:
        raise UserError(f"{path} cannot be read as an 8-bit image; {AGAIN}") from None
    if found.shape != size[::-1]:
        raise UserError(f"{path} is {found.shape[1]} x {found.shape[0]} px, its image {size[0]} x {size[1]} px; {AGAIN}")
    return found
