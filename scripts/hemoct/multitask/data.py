"""The slices of a data set with all that is known of each: its label, its mask, the size of the lesion. Imports no torch."""

from dataclasses import dataclass, fields

import numpy as np

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, slices as data_slices
from hemoct.data.slices import SliceData, Slices
from hemoct.multitask.options import CLASSIFY, Options
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation.data import MaskData


@dataclass(frozen=True)
class Data:
    """The same slices in the same order, as task 1 and as task 3 know them."""

    labels: SliceData
    masks: MaskData
    fractions: np.ndarray
    """of its square that the lesion of a slice takes, float32 (n,); NaN without a mask"""


def load(work: Workspace, options: Options) -> Data:
    """Read the tables; decode what is not yet in the cache. Stops where a task needs masks and there is none."""
    selection, side = options.selection, options.network.image_size
    if set(options.network.tasks) - {CLASSIFY}:
        masks = segmentation_data.load(work, selection.mask_value, selection.limit_patients)
        squares = segmentation_data.cached(work, masks, side)
    else:
        masks, squares = _without(work, selection.limit_patients), None
    dataset = tables.read_dataset(work)
    classes, targets = data_slices.choose_targets(masks.table, dataset, options.network.label)
    pixels = images.cached(work, masks.table, side, preparation=prepared.for_training(work, selection.prepare))
    alike = {one.name: getattr(masks, one.name) for one in fields(Slices)}
    labels = SliceData(**alike, classes=classes, exclusive=dataset.exclusive, targets=targets.astype(np.float32), pixels=pixels)
    return Data(labels, masks, fractions(squares, masks.known))


def _without(work: Workspace, limit_patients: int | None) -> MaskData:
    """All slices of a data set whose masks are not asked for."""
    labels = tables.read_labels(work, tables.read_dataset(work))
    labels = labels.sort_values(["patient", "slice", "image_id"], ignore_index=True)
    every = np.ones(len(labels), dtype=bool)
    slices, _ = data_slices.choose(work, labels, every, limit_patients)
    return MaskData(**vars(slices), known=np.zeros(len(slices.table), dtype=bool), mask_value=None)


def fractions(squares: np.ndarray | None, known: np.ndarray) -> np.ndarray:
    """The share of mask pixels in each of the cached squares (n, size, size), None where there are none; NaN where not known."""
    shares = np.full(len(known), np.nan, dtype=np.float32)
    if squares is not None:
        parts = [(chunk >= segmentation_data.THRESHOLD).mean(axis=(1, 2)) for chunk in np.array_split(squares, len(known))]
        shares[known] = np.concatenate(parts)[known]
    return shares
