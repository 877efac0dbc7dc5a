"""The working set of task 4 with folds and pixels: what a multi-label network learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.cache import Cached
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, slices as data_slices
from hemoct.ingest import layouts
from hemoct.multilabel import working_set
from hemoct.multilabel.options import HEADS, Network, View
from hemoct.multilabel.working_set import WorkingSet
from hemoct.prepare.options import stop_if_moving
from hemoct.prepare.preparation import NOTHING, Preparation


@dataclass(frozen=True, kw_only=True)
class LabelledSlices(data_slices.Slices):
    """Images with labels; row i of `table`, `targets` and `planes` is the same image."""

    classes: list[str]
    targets: np.ndarray
    """float32 (n, classes): 0, 1, NaN where unknown"""
    pixels: Cached
    """uint8 (k, size, size): the planes of these images and their neighbours, a memory map"""
    planes: np.ndarray
    """rows of `pixels` that the network sees of each image, its own in the middle: int64 (n, channels * (2 * context + 1))"""


def load(
    work: Workspace, network: Network, view: View | None = None, limit_patients: int | None = None, prepare: Sequence[str] = ()
) -> LabelledSlices:
    """Read the working set and splits.csv, decode what is not yet in the cache. With a head for it `any` comes first.

    Neighbouring slices may lie outside of the working set. `prepare`: see training.options.Selection.
    """
    labels = _by_place(work)
    truth = truth_of(work, labels, ANY in HEADS[network.heads], view or View())
    preparation, why = prepared.for_training(work, prepare), "not chosen, or not in the working set"
    return _with_pixels(work, labels, truth, network, preparation, limit_patients=limit_patients, why=why)


def truth_of(work: Workspace, labels: pd.DataFrame, has_any: bool, view: View) -> pd.DataFrame:
    """What the working set says of the images of labels.csv, a column a label: float by image_id, NaN where it says nothing.

    `has_any`: with a head for it `any` comes first.
    """
    chosen = _narrowed(work, working_set.read(work), labels, view)
    truth = pd.DataFrame(chosen.truth, chosen.table["image_id"], chosen.labels).reindex(labels["image_id"])
    if not has_any:
        return truth
    of_any = data_slices.truth_of_any(labels, tables.read_dataset(work).labels)
    return with_any(truth, np.where(labels["image_id"].isin(chosen.table["image_id"]), of_any, np.nan))


def load_other(work: Workspace, wanted: list[str], network: Network, preparation: Preparation = NOTHING) -> LabelledSlices:
    """The images of another data set on which at least one of the `wanted` labels is known; classes: those that it knows.

    Needs neither working set nor folds. `network`: options, or the description of a trained one. See `truth_of_other`.
    """
    labels, truth = truth_of_other(work, wanted)
    return _with_pixels(work, labels, truth, network, preparation, split=False, why="no label of the models is known")


def truth_of_other(work: Workspace, wanted: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """labels.csv of another data set by patient and slice, and what it knows of the `wanted` labels: float, NaN where unknown.

    `any` is its own column; else 1 where one of the wanted types is 1, and 0 where all labels of the data set are 0: a label of
    its own, such as a fracture, may be no bleeding. Stops where no label is known.
    """
    dataset, labels = tables.read_dataset(work), _by_place(work)
    truth = labels.set_index("image_id").reindex(columns=wanted).astype("Float64").astype(float)
    if ANY in wanted and ANY not in dataset.labels and set(wanted) & set(dataset.labels):  # else it knows nothing of the wanted
        of_all = data_slices.truth_of_any(labels, dataset.labels)
        truth[ANY] = np.where((truth == 1).any(axis=1), 1.0, np.where(of_all == 0, 0.0, np.nan))
    truth = truth.dropna(axis=1, how="all")
    if truth.empty:
        raise UserError(
            f"{work.show(work.work / 'labels.csv')} knows none of the labels {', '.join(wanted)}; it has "
            f"{', '.join(dataset.labels)}; call them alike: scripts/03_make_labels.py --dataset {work.dataset} --map THEIRS=OURS"
        )
    return labels, truth


def _by_place(work: Workspace) -> pd.DataFrame:
    """labels.csv by patient and slice, so that neighbours follow one another."""
    labels = tables.read_labels(work, tables.read_dataset(work))
    return labels.sort_values(["patient", "slice", "image_id"], ignore_index=True)


def _with_pixels(
    work: Workspace, labels: pd.DataFrame, truth: pd.DataFrame, network: Network, preparation: Preparation, **how: Any
) -> LabelledSlices:
    """The images of labels.csv with any known `truth`, row by row, and what `network` sees of them. `how`: see slices.choose."""
    slices, kept = data_slices.choose(work, labels, truth.notna().any(axis=1).to_numpy(), **how)
    truth = truth[kept]
    around = replace(slices, table=labels).neighbours(network.context)[labels["image_id"].isin(truth.index)]
    if network.context:
        stop_if_moving(preparation.names, "neighbouring slices (--context) would not follow")
        _stop_if_alone(work, around)
    _warn_of_channels(work, work.raw / slices.table["image"][0], network.channels)
    rows, place = np.unique(around, return_inverse=True)
    pixels = images.cached(work, labels.iloc[rows], network.image_size, network.channels, preparation)
    planes, targets = stacked(place.reshape(around.shape), network.channels), np.array(truth, dtype=np.float32)
    return LabelledSlices(**vars(slices), classes=list(truth), targets=targets, pixels=pixels, planes=planes)


def _narrowed(work: Workspace, chosen: WorkingSet, labels: pd.DataFrame, view: View) -> WorkingSet:
    """The labels and images of the working set that are chosen. `labels`: labels.csv."""
    absent = [name for name in view.labels or () if name not in chosen.labels]
    if absent:
        raise UserError(f"--labels {absent[0]}: the working set has no such label; it has {', '.join(chosen.labels)}")
    names = view.labels or chosen.labels
    table = chosen.table[[*working_set.KEYS, *names]]
    if view.group is not None:
        source = work.show(work.work / "labels.csv")
        if "group" not in labels:
            raise UserError(f"{source} has no column group, which --group chooses from; add it to the source of the labels")
        groups = labels.set_index("image_id")["group"].loc[table["image_id"]].to_numpy()
        if view.group not in groups:
            there = ", ".join(sorted(set(groups)))
            raise UserError(f"--group {view.group}: no image of the working set has it; {source} has {there}")
        table = table[groups == view.group]
    known = table[names].notna().any(axis=1)
    return WorkingSet(table[known].reset_index(drop=True), names)


def _stop_if_alone(work: Workspace, around: np.ndarray) -> None:
    """Stop where no image has a neighbour, and say how many have none. `around`: rows (n, 2 * context + 1)."""
    alone = int((around == around[:, :1]).all(axis=1).sum())
    if alone == len(around):
        raise UserError(
            f"--context: no image has a neighbour, for the slice numbers of {work.show(work.work / 'labels.csv')} do not follow "
            "one another; leave out --context, or name slice and patient in the source of the labels"
        )
    if alone:
        print(f"{alone} of {len(around)} images have no neighbour; the image itself stands in its place")


def _warn_of_channels(work: Workspace, first: Path, channels: int) -> None:
    """Say where the number of channels does not suit the images. `first`: one of them."""
    windows = layouts.recorded_window(work.raw) or ""
    if channels == 1 and "," in windows:
        print(f"mind: the images hold three windows ({windows}), which one channel mixes; --channels 3 keeps them apart")
    if channels > 1 and (np.ptp(images.read_planes(first, channels), axis=0) == 0).all():
        print(f"mind: {work.show(first)} is grey: the three channels of --channels 3 are the same there")


def stacked(around: np.ndarray, channels: int) -> np.ndarray:
    """Rows of images (n, neighbours) as rows of planes (n, neighbours * channels): those of image i begin at channels * i."""
    return (around[:, :, None] * channels + np.arange(channels)).reshape(len(around), -1)


def with_any(truth: pd.DataFrame, of_any: np.ndarray) -> pd.DataFrame:
    """Truth, a column a label, with `any` first: its own column, else `of_any` (n,), made of all labels of the data set.

    All of them, for an image that shows a type which is none of the columns is no image without bleeding. Raises UserError where
    there is no label beside `any`.
    """
    types = truth.drop(columns=ANY, errors="ignore")
    if types.empty:
        raise UserError("the working set has no type of bleeding beside any; prepare it with more --labels")
    types.insert(0, ANY, truth.get(ANY, of_any))
    return types
