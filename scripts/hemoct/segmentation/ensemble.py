"""Experiments of task 3 that are the mean of others: who their members are, and their probability maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, named_images
from hemoct.evaluation import protocol
from hemoct.segmentation import predictions
from hemoct.segmentation.data import MaskData

SHARED = ("protocol", "split", "splits_sha256", "region", "boxes", "context", "source_size", "mask_value")
"""what model.json of all members must say alike"""


def members(experiment: Path) -> list[str]:
    """The experiments that this one is the mean of; empty where it is none. `experiment`: its folder."""
    for folder in experiments.folds(experiment, "model.json"):
        return files.read_json(folder / "model.json").get("members", [])
    return []


def model_folders(work: Workspace, experiment: str, fold: int | None) -> list[Path]:
    """The fold folders with a model of an experiment, or of all members of an ensemble; of `fold` alone where it is given."""
    for folder in experiments.folds(work.task(3) / experiment, "model.json"):
        predictions.stop_if_members_changed(work, folder)
    names = members(work.task(3) / experiment) or [experiment]
    return [folder for name in names for folder in named_images.models(work, 3, name, fold)]


def fold_folders(work: Workspace, names: list[str]) -> dict[str, list[Path]]:
    """The folders of a fold, one of each member, by its name. Stops unless all members have the same folds and fit together."""
    if len(set(names)) < 2:
        raise UserError("an ensemble needs two experiments or more; name others of outputs/NAME/task3")
    of_member = {name: experiments.folds(work.task(3) / name, *predictions.NEEDED) for name in names}
    first = names[0]
    for name, folders in of_member.items():
        if not folders:
            there = ", ".join(experiments.trained(work, 3))
            raise UserError(f"{work.show(work.task(3) / name)} holds no trained fold; there are: {there}")
        if members(work.task(3) / name):
            raise UserError(f"{name} is an ensemble itself; name its members: {' '.join(members(work.task(3) / name))}")
        if [folder.name for folder in folders] != [folder.name for folder in of_member[first]]:
            have = "; ".join(f"{one} has {', '.join(folder.name for folder in of_member[one])}" for one in (first, name))
            raise UserError(f"the members must have the same folds, but {have}; train what is missing")
    found = {folders[0].name: list(folders) for folders in zip(*of_member.values(), strict=True)}
    for folders in found.values():
        _stop_unless_alike(work, folders)
    return found


def _stop_unless_alike(work: Workspace, folders: list[Path]) -> None:
    told = [files.read_json(work.need(folder / "model.json", experiments.train_step(3))) for folder in folders]
    for folder, one in zip(folders, told, strict=True):
        for key in SHARED:
            if one.get(key) != told[0].get(key):
                raise UserError(
                    f"{work.show(folder)} and {work.show(folders[0])} differ in {key} (model.json): {one.get(key)} and "
                    f"{told[0].get(key)}; name members that are alike in it"
                )


def stop_if_trained(work: Workspace, experiment: Path) -> None:
    """Stop rather than write over the models of an experiment."""
    trained = experiments.folds(experiment, "best.pt")
    if trained:
        raise UserError(f"{work.show(trained[0])} holds a trained model; give the ensemble another --experiment")


def write(work: Workspace, folder: Path, of_members: list[Path], names: list[str], data: MaskData) -> list[Path]:
    """Write the mean maps, predictions.csv and model.json of one fold; returns the files. `of_members`: this fold's folders.

    Validation slices are those of the first member: their maps are the mean of the members that have not learned from them.
    """
    frames = [tables.read_predictions(one)[tables.PREDICTION_COLUMNS] for one in of_members]
    validations = [protocol.validation_of(one) for one in of_members]
    frame, row_of = frames[0], pd.Series(data.table.index, index=data.table["image_id"])
    for other, one, validation in zip(frames, of_members, validations, strict=True):
        parts = ("val", "test") if validation == validations[0] else ("test",)
        if any(set(other["image_id"][other["part"] == part]) != set(frame["image_id"][frame["part"] == part]) for part in parts):
            raise UserError(
                f"{work.show(one / 'predictions.csv')} holds other slices than that of {names[0]}; {predictions.AGAIN}"
            )
    unseen = [one for one, validation in zip(of_members, validations, strict=True) if validation == validations[0]]
    speaking = {"val": unseen, "test": of_members}
    peaks = []
    with files.replacing_folder(folder / "probability") as temporary:
        means = _means(work, data, row_of[frame["image_id"]].tolist(), frame["part"].map(speaking).tolist())
        for name, mean in zip(frame["image_id"], means, strict=True):
            Image.fromarray(mean).save(temporary / f"{name}.png")
            peaks.append(int(mean.max()))
    told = files.read_json(of_members[0] / "model.json")
    hashes = [files.sha256(one / "predictions.csv") for one in of_members]
    spec: dict[str, Any] = {"task": 3, "model": "ensemble", "members": names, "members_sha256": hashes, "fold": told["fold"]}
    spec |= {key: told.get(key) for key in SHARED} | {"validation": validations[0]}
    spec["validated_by"] = [name for name, validation in zip(names, validations, strict=True) if validation == validations[0]]
    return [
        files.write_json(folder / "model.json", spec),
        tables.write_predictions(folder, frame.assign(peak=peaks)),
        folder / "probability",
    ]


def _means(work: Workspace, data: MaskData, rows: list[int], speaking: list[list[Path]]) -> Iterator[np.ndarray]:
    """The rounded mean of the maps of slices `rows`: uint8 (height, width) each, decoded ahead. `speaking`: whose, for each."""

    def mean(asked: tuple[int, list[Path]]) -> np.ndarray:
        row, folders = asked
        size = images.size_of(work.raw / data.table["image"][row])
        name = f"{data.table['image_id'][row]}.png"
        total = sum(predictions.read_map(folder / "probability" / name, size).astype(np.uint16) for folder in folders)
        return np.rint(total / len(folders)).astype(np.uint8)

    return images.decode(list(zip(rows, speaking, strict=True)), "mean maps", mean)
