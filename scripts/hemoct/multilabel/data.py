"""The working set of task 4 with folds and pixels: what a multi-label network is fed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.data import slices as data_slices
from hemoct.data.slices import ANY
from hemoct.ingest import layouts
from hemoct.multilabel import working_set
from hemoct.multilabel.working_set import WorkingSet


@dataclass(frozen=True, kw_only=True)
class LabelledSlices(data_slices.Slices):
    """The images of the working set; row i of `table`, `targets` and `planes` is the same image."""

    classes: list[str]
    targets: np.ndarray
    """float32 (n, classes): 0, 1, NaN where unknown"""
    pixels: np.ndarray
    """uint8 (planes of all images that are seen, size, size), a memory map"""
    planes: np.ndarray
    """rows of `pixels` that each image is shown with, its own in the middle: int64 (n, channels * (2 * context + 1))"""


def load(
    work: Workspace,
    image_size: int,
    channels: int = 1,
    context: int = 0,
    any_apart: bool = False,
    limit_patients: int | None = None,
    only: list[str] | None = None,
    group: str | None = None,
) -> LabelledSlices:
    """Read the working set and splits.csv, decode what is not yet in the cache.

    `channels`: 1 for grey, 3 for red, green and blue. `context`: neighbouring slices on each side, of the same patient; they
    may lie outside of the working set. `any_apart`: `any` comes first among the classes, see `with_any`. `only` some labels of
    the working set, or the images of one view `group`: for a model that answers for that view alone.
    """
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset).sort_values(["patient", "slice", "image_id"], ignore_index=True)
    chosen = _narrowed(work, working_set.read(work), labels, only, group)
    classes, truth = chosen.labels, chosen.truth
    if any_apart:
        of_any = pd.Series(data_slices.truth_of_any(labels, dataset.labels), index=labels["image_id"])
        classes, truth = with_any(classes, truth, of_any.loc[chosen.table["image_id"]].to_numpy())
    wanted = labels["image_id"].isin(chosen.table["image_id"]).to_numpy()
    slices, kept = data_slices.choose(
        work, dataset, labels, wanted, limit_patients, why="not asked for, or not in the working set"
    )
    pixels, planes = _shown(work, labels, kept, image_size, channels, context)
    rows = pd.Index(chosen.table["image_id"]).get_indexer(slices.table["image_id"])
    return LabelledSlices(**vars(slices), classes=classes, targets=truth[rows].astype(np.float32), pixels=pixels, planes=planes)


def load_other(work: Workspace, asked: list[str], image_size: int, channels: int, context: int) -> LabelledSlices:
    """The images of another data set on which at least one of the labels that are `asked` is known; classes: those it knows.

    Needs neither working set nor folds. See `truth_of_other`.
    """
    dataset = tables.read_dataset(work)
    labels, classes, truth = truth_of_other(work, asked)
    known = ~np.isnan(truth).all(axis=1)
    slices, kept = data_slices.choose(work, dataset, labels, known, split=False, why="no label known that the models answer for")
    pixels, planes = _shown(work, labels, kept, image_size, channels, context)
    return LabelledSlices(**vars(slices), classes=classes, targets=truth[kept].astype(np.float32), pixels=pixels, planes=planes)


def truth_of_other(work: Workspace, asked: list[str]) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """labels.csv of another data set by patient and slice, those of the labels `asked` that it knows, their truth (n, labels).

    `any` is its own column; else 1 where one of the types asked is, and 0 where all its labels are: what else it knows, a
    fracture, may be no bleeding. Stops where no label is known.
    """
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset).sort_values(["patient", "slice", "image_id"], ignore_index=True)
    truth = labels.reindex(columns=asked).astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if ANY in asked and ANY not in dataset.labels:
        of_all = data_slices.truth_of_any(labels, dataset.labels)
        truth[:, asked.index(ANY)] = np.where((truth == 1).any(axis=1), 1.0, np.where(of_all == 0, 0.0, np.nan))
    if not set(asked) & set(dataset.labels):
        truth[:] = np.nan  # it knows that all of its own labels are 0, and of ours none
    classes = [name for name, of_label in zip(asked, truth.T, strict=True) if not np.isnan(of_label).all()]
    if not classes:
        raise UserError(
            f"{work.show(work.work / 'labels.csv')} knows none of the labels {', '.join(asked)}; it has "
            f"{', '.join(dataset.labels)}: name its labels alike"
        )
    return labels, classes, truth[:, [asked.index(name) for name in classes]]


def _shown(
    work: Workspace, labels: pd.DataFrame, kept: np.ndarray, image_size: int, channels: int, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """`pixels` and `planes` (see LabelledSlices) of the rows `kept` (bool) of labels.csv."""
    number = labels["slice"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    around = data_slices.neighbours(labels["patient"].to_numpy(), number, context)[kept]
    if context:
        _stop_if_alone(work, around)
    _say_if_other_channels(work, work.raw / labels["image"][kept.argmax()], channels)
    shown, place = np.unique(around, return_inverse=True)
    return images.cached(work, labels.iloc[shown], image_size, channels), stacked(place.reshape(around.shape), channels)


def _narrowed(work: Workspace, chosen: WorkingSet, labels: pd.DataFrame, only: list[str] | None, group: str | None) -> WorkingSet:
    """The working set with `only` these labels and the images of this `group` of labels.csv (`labels`); None: all."""
    absent = [name for name in only or () if name not in chosen.labels]
    if absent:
        raise UserError(f"--labels {absent[0]}: the working set has no such label; it has {', '.join(chosen.labels)}")
    names = only or chosen.labels
    table = chosen.table[[*working_set.KEYS, *names]]
    if group is not None:
        where = work.show(work.work / "labels.csv")
        if "group" not in labels:
            raise UserError(f"{where} has no column group, which --group chooses from; add it to the source of the labels")
        groups = labels.set_index("image_id")["group"].loc[table["image_id"]].to_numpy()
        if group not in groups:
            raise UserError(f"--group {group}: no image of the working set has it; {where} has {', '.join(sorted(set(groups)))}")
        table = table[groups == group]
    known = table[names].notna().any(axis=1)
    return WorkingSet(table[known].reset_index(drop=True), names)


def _stop_if_alone(work: Workspace, around: np.ndarray) -> None:
    """Stop where no image has a neighbour, and say how many have none. `around`: rows (n, 2 * context + 1)."""
    alone = int((around == around[:, :1]).all(axis=1).sum())
    if alone == len(around):
        raise UserError(
            f"--context: no image has a neighbour, for {work.show(work.work / 'labels.csv')} has no slice numbers that follow "
            "one another; leave --context, or name slice and patient in the source of the labels"
        )
    if alone:
        print(f"{alone} of {len(around)} images have no neighbour; they are their own")


def _say_if_other_channels(work: Workspace, first: Path, channels: int) -> None:
    """Say where the channels that are asked for are not those that the images have. `first`: one of the images."""
    windows = layouts.recorded_window(work.raw) or ""
    if channels == 1 and "," in windows:
        print(f"mind: the images hold three windows ({windows}), which one channel mixes; --channels 3 keeps them apart")
    if channels > 1 and (np.ptp(images.read_planes(first, channels), axis=0) == 0).all():
        print(f"mind: {work.show(first)} is grey: the three channels of --channels 3 are the same there")


def stacked(around: np.ndarray, channels: int) -> np.ndarray:
    """Images (n, neighbours) to planes (n, neighbours * channels): image i has the planes channels * i + 0, 1 ..."""
    return (around[:, :, None] * channels + np.arange(channels)).reshape(len(around), -1)


def with_any(labels: list[str], truth: np.ndarray, of_any: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Labels and truth (n, labels) with `any` as the first: its own column, else `of_any` (n,), what all labels of the data say.

    Not what these labels say: an image that shows a type which is none of them is no image without bleeding. Raises UserError
    where there is no other label.
    """
    types = [place for place, name in enumerate(labels) if name != ANY]
    if not types:
        raise UserError("the working set has no type of bleeding beside any; prepare it with more --labels")
    if ANY in labels:
        of_any = truth[:, labels.index(ANY)]
    return [ANY, *(labels[place] for place in types)], np.column_stack([of_any, truth[:, types]])
