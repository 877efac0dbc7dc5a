"""Image files that a user names: by which models, from which threshold on, what the tables know of them. Imports no torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices as data_slices, splits


@dataclass(frozen=True)
class ImageFiles:
    """What is known of image files; row i of each is the same image."""

    table: pd.DataFrame
    """image (the path as given), image_id ("" where it is not of the data set), slice, group: the patient, or for an image from
    elsewhere its folder or series; rows of a group follow one another, by slice number and then by name (2 before 10)"""
    labels: pd.DataFrame
    """the row of labels.csv, all missing for an image from elsewhere; without columns where there is no labels.csv"""
    seen: np.ndarray
    """bool (n,): an image of the data set that one of the models had in training or validation"""
    layout: str | None
    """that of the data set, for what its labels mean"""
    read_as: Mapping[str, Path] = field(default_factory=dict, kw_only=True)
    """the image file that stands for a slice of a scan, by its name (named_slices.as_images)"""

    @property
    def paths(self) -> list[Path]:
        """What is read of each."""
        return [self.read_as.get(name, Path(name)) for name in self.table["image"]]

    @cached_property
    def places(self) -> list[str]:
        """GROUP/NAME of each image, for the files that are made of it; no two alike."""
        named = {}
        for group, rows in self.groups().items():
            named |= {row: f"{group}/{name}" for row, name in file_names({row: _stem(self.paths[row]) for row in rows}).items()}
        return [named[row] for row in range(len(self.table))]

    def groups(self) -> dict[str, np.ndarray]:
        """The rows of each group, in the order of the table."""
        return self.table.groupby("group", sort=False).indices

    def neighbours(self, context: int) -> np.ndarray:
        """Rows of the images before and behind each, see slice_data.neighbours; elsewhere all of a folder follow one another."""
        place = self.table.groupby("group").cumcount()
        number = self.table["slice"].astype("Float64").where(self.table["image_id"] != "", place)
        return data_slices.neighbours(self.table["group"].to_numpy(), number.to_numpy(dtype=float, na_value=np.nan), context)

    def title(self, row: int) -> str:
        """What people know an image by."""
        return self.table["image_id"][row] or Path(self.table["image"][row]).name


def models(work: Workspace, task: int, experiment: str, fold: int | None) -> list[Path]:
    """The fold folders of an experiment that hold a model, or that of `fold` alone."""
    folders = experiments.with_model(work, task, experiment)
    if fold is None:
        return folders
    chosen = [folder for folder in folders if folder.name == f"fold{fold}"]
    if not chosen:
        there = ", ".join(folder.name.removeprefix("fold") for folder in folders)
        raise UserError(f"{work.show(work.task(task) / experiment)} has no model of fold {fold}; there are: {there}")
    return chosen


def stop_if_taken(out: Path, searched: list[Path], step: str, names: Sequence[str]) -> None:
    """Stop when `out` holds what another program made under our `names`, or lies where a next call would search for images."""
    if any(path.is_dir() and out.resolve().is_relative_to(path.resolve()) for path in searched):
        raise UserError(f"{out} lies in a folder that is searched for images; give --out a place outside of it")
    if out.is_file():
        raise UserError(f"--out {out} is a file; name a folder")
    taken = [name for name in names if (out / name).exists()]
    if taken and not (out / f"{step}.run.json").exists():
        raise UserError(f"{out / taken[0]} is there and not of this step; give another --out DIR")


@dataclass(frozen=True)
class Place:
    """Where a slice belongs that knows it better than its file's name."""

    series: str
    """what its neighbours share, and no others"""
    name: str
    """of the series, for people"""
    number: int
    spacing: float | None = None
    """mm that the slice stands for, between its neighbours"""


def look_up(
    work: Workspace,
    paths: list[Path],
    specs: Sequence,
    places: Mapping[Path, Place] = MappingProxyType({}),
    known_as: Mapping[str, str] = MappingProxyType({}),
    read_as: Mapping[str, Path] = MappingProxyType({}),
) -> ImageFiles:
    """Match files with labels.csv by their place (links resolved) and sort them into groups. Without labels.csv none is known.

    `specs` are those of the models (training.specs). Where splits.csv is no longer theirs, any image of the data set may
    have been seen. `places`: of paths from elsewhere whose series is known; `known_as`: what the data set made of a file.
    Both of its paths are with links resolved.
    """
    rows, layout, labels = {}, None, None
    if (work.work / "labels.csv").exists():
        dataset = tables.read_dataset(work)
        labels, layout = tables.read_labels(work, dataset), dataset.layout
        rows = {os.path.realpath(work.raw / name): row for row, name in enumerate(labels["image"])}
    real = [os.path.realpath(path) for path in paths]
    of_file = [rows.get(known_as.get(place, place)) for place in real]
    keys, slices = [], []
    for path, at, row in zip(paths, real, of_file, strict=True):
        folder, place = Path(at).parent, places.get(path)
        elsewhere = ("series", place.series, place.name) if place else ("folder", str(folder), folder.name)
        keys.append(elsewhere if row is None else ("", labels["patient"][row], labels["patient"][row]))
        slices.append(labels["slice"][row] if row is not None else place.number if place else pd.NA)
    names = file_names({key: key[2] for key in sorted(set(keys))})
    table = pd.DataFrame(
        {"image": [str(path) for path in paths], "image_id": ["" if row is None else labels["image_id"][row] for row in of_file],
         "slice": pd.array(slices, dtype="Int64"), "group": [names[key] for key in keys],
         "order": [_by_number(str(path)) for path in paths]}
    )  # fmt: skip
    table = table.sort_values(["group", "slice", "order"], kind="stable", ignore_index=True).drop(columns="order")
    known = pd.DataFrame(index=table.index)
    if labels is not None:
        known = labels.set_index("image_id").reindex(table["image_id"]).reset_index(drop=True)
    return ImageFiles(table, known, _seen(work, labels, table["image_id"], specs), layout, read_as=read_as)


def _stem(path: Path) -> str:
    """A file's name without its suffix; `1.2.840.77`, an identifier, has none."""
    return path.name if path.suffix[1:].isdigit() else path.stem


def _by_number(name: str) -> str:
    """A key that sorts numbers in names by their value."""
    return re.sub(r"\d+", lambda number: number[0].zfill(20), name)


def _seen(work: Workspace, labels: pd.DataFrame | None, image_ids: pd.Series, specs: Sequence) -> np.ndarray:
    seen = np.zeros(len(image_ids), dtype=bool)
    path = work.work / "splits.csv"
    for spec in specs if (image_ids != "").any() else ():
        if not path.exists() or files.sha256(path) != spec.splits_sha256:
            return (image_ids != "").to_numpy()
        part = splits.part_of(labels, tables.read_splits(work), spec.fold or 0, spec.protocol, spec.split)
        seen |= part.reindex(image_ids).isin(["train", "val"]).to_numpy()
    return seen


def file_names(wanted: dict) -> dict:
    """A name for each key that may be a file's, made of the `wanted` one; equal ones are told apart by `-2`, `-3` ..."""
    given, taken = {}, set()
    for key, text in wanted.items():
        plain = re.sub(r"[^\w.-]+", "_", text).strip(".") or "images"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        given[key] = name
    return given
