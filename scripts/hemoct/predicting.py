"""Image files for detectors: by which models, from which confidence on, what the tables know of them. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct import box_data, boxes, experiments, files, splits, tables
from hemoct.box_data import BoxData
from hemoct.cli import UserError, Workspace

OUTPUTS = ("predicted.csv", "overlays", "patients")
THRESHOLD = 0.25  # where no evaluation has chosen one: Ultralytics' default


@dataclass(frozen=True)
class Known:
    """What is known of image files; row i of each is the same image."""

    table: pd.DataFrame
    """image (the path as given), image_id ("" where it is not of the data set), slice, group: the patient, or for an image from
    elsewhere its folder; rows of a group follow one another, by slice number and then by name"""
    truth: list[np.ndarray | None]
    """float64 (k, 4) an image, pixels; None where nothing is annotated: images from elsewhere, unknown labels"""
    truth_class: list[np.ndarray]
    """class numbers, int (k,) an image"""
    classes: list[str]
    """those of the models by their numbers, then those that only the annotation has"""
    seen: np.ndarray
    """bool (n,): an image of the data set that one of the models had in training or validation"""
    layout: str | None
    """that of the data set, for what its boxes mean"""

    @property
    def paths(self) -> list[Path]:
        return [Path(name) for name in self.table["image"]]


def models(work: Workspace, experiment: str, fold: int | None, fuse: bool) -> list[Path]:
    """The fold folders to predict with: that of `fold`, or all with `fuse`; the only one needs neither."""
    folders = experiments.with_model(work, 2, experiment)
    there = ", ".join(folder.name.removeprefix("fold") for folder in folders)
    if fold is not None:
        folders = [folder for folder in folders if folder.name == f"fold{fold}"]
        if not folders:
            raise UserError(f"{work.show(work.task(2) / experiment)} has no model of fold {fold}; there are: {there}")
    elif len(folders) > 1 and not fuse:
        raise UserError(
            f"{work.show(work.task(2) / experiment)} has a model for each of the folds {there}; "
            "join their boxes (--fuse) or name one (--fold K)"
        )
    return folders


def labelled(seen: Workspace, classes: list[str]) -> BoxData:
    """The labelled slices of another data set; stops when its boxes are of other classes than those of the models."""
    theirs = tables.read_dataset(seen).classes
    if sorted(theirs) != sorted(classes):
        raise UserError(
            f"{seen.show(seen.work / 'dataset.json')}: its boxes are of class {', '.join(theirs) or '(none)'}, the models know "
            f"{', '.join(classes)}; name the classes of its annotations alike and run: "
            f"python scripts/03_make_labels.py --dataset {seen.dataset}"
        )
    return box_data.load(seen, split=False)


def stop_if_taken(out: Path, searched: list[Path], step: str) -> None:
    """Stop when `out` holds what another program made under our names, or lies where the next call would take it for images."""
    if any(path.is_dir() and out.resolve().is_relative_to(path.resolve()) for path in searched):
        raise UserError(f"{out} lies in a folder that is searched for images; give --out a place outside of it")
    if out.is_file():
        raise UserError(f"--out {out} is a file; name a folder")
    taken = [name for name in OUTPUTS if (out / name).exists()]
    if taken and not (out / f"{step}.run.json").exists():
        raise UserError(f"{out / taken[0]} is there and not of this step; give another --out DIR")


def threshold(experiment: Path, folders: list[Path], given: float | None) -> tuple[float, str]:
    """The confidence from which on a box counts, and in words where it comes from: the mean of those chosen by 04_evaluate.py."""
    if given is not None:
        return given, "given"
    path = experiment / "metrics.json"
    if not path.exists():
        return THRESHOLD, "not evaluated yet: 04_evaluate.py chooses one on validation"
    if any((folder / "best.pt").stat().st_mtime > path.stat().st_mtime for folder in folders):
        return THRESHOLD, "trained again since the evaluation: 04_evaluate.py chooses one on validation"
    chosen = {f"fold{fold['fold']}": fold["threshold"] for fold in files.read_json(path)["folds"]}
    values = [chosen[folder.name] for folder in folders if chosen.get(folder.name) is not None]
    if not values:
        return THRESHOLD, "not chosen by 04_evaluate.py: these folds are not in metrics.json"
    what = "of the fold" if len(folders) == 1 else f"mean of {len(values)} folds"
    return float(np.mean(values)), f"{what}, chosen on validation"


def counted(found: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """The boxes of each image, (k, 6), from the threshold up, to the five digits of predictions.csv that it was chosen from."""
    return [of_image[of_image[:, 4].round(5) >= threshold] for of_image in found]


def look_up(work: Workspace, paths: list[Path], specs: Sequence) -> Known:
    """Match files with labels.csv by their place (links resolved) and sort them into groups. Without labels.csv none is known.

    `specs` are the models' DetectorSpecs. Where splits.csv is no longer theirs, any image of the data set may have been seen.
    """
    rows, layout, labels = {}, None, None
    if (work.work / "labels.csv").exists():
        dataset = tables.read_dataset(work)
        labels, layout = tables.read_labels(work, dataset), dataset.layout
        rows = {os.path.realpath(work.raw / name): row for row, name in enumerate(labels["image"])}
    real = [os.path.realpath(path) for path in paths]
    of_file = [rows.get(place) for place in real]
    keys = [("folder", str(Path(place).parent)) if row is None else ("", labels["patient"][row])
            for place, row in zip(real, of_file, strict=True)]  # fmt: skip
    names = file_names({key: Path(key[1]).name if key[0] else key[1] for key in sorted(keys)})
    table = pd.DataFrame(
        {"image": [str(path) for path in paths], "image_id": ["" if row is None else labels["image_id"][row] for row in of_file],
         "slice": pd.array([pd.NA if row is None else labels["slice"][row] for row in of_file], dtype="Int64"),
         "group": [names[key] for key in keys]}
    )  # fmt: skip
    table = table.sort_values(["group", "slice", "image"], kind="stable").reset_index(drop=True)
    classes = specs[0].classes if specs else []
    seen = _seen(work, labels, table["image_id"], specs)
    return Known(table, *_truth(work, labels, table["image_id"], classes), seen, layout)


def _truth(
    work: Workspace, labels: pd.DataFrame | None, image_ids: pd.Series, classes: list[str]
) -> tuple[list[np.ndarray | None], list[np.ndarray], list[str]]:
    """Boxes (None where nothing is annotated) and class numbers of each image; `classes` with those that the boxes add."""
    if labels is None:
        return [None] * len(image_ids), [np.zeros(0, dtype=int)] * len(image_ids), classes
    table = tables.read_boxes(work)
    classes = list(dict.fromkeys(chain(classes, table["class"])))
    corners, numbers = boxes.by_image(table, image_ids, classes)
    known = labels.set_index("image_id")[tables.read_dataset(work).labels].notna().all(axis=1)
    annotated = [len(of_image) > 0 or known.get(image_id, False) for of_image, image_id in zip(corners, image_ids, strict=True)]
    return [of_image if told else None for of_image, told in zip(corners, annotated, strict=True)], numbers, classes


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
