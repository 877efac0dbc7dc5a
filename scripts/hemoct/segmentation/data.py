"""The slices of a data set with their masks: what segmentation learns from. Imports no torch.

A missing mask is not an empty one: such a slice is only ever a neighbour of others, it is neither trained on nor scored.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemoct.base import cache, pixels, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import contents, images, slices as data_slices

THRESHOLD = pixels.THRESHOLD


@dataclass(frozen=True, kw_only=True)
class MaskData(data_slices.Slices):
    """All slices of labels.csv, sorted by patient and slice number; row i of `table` and `known` is the same slice."""

    known: np.ndarray
    """whether there is a mask, perhaps an empty one: bool (n,)"""
    mask_value: int | None
    """grey value that is the lesion in masks of several values; None: see `read_mask`"""
    contents: tuple[str, ...] = ()
    """the hash of each known mask: files of the same bytes need not be decoded twice"""


def load(work: Workspace, mask_value: int | None = None, limit_patients: int | None = None, split: bool = True) -> MaskData:
    """Read labels.csv and splits.csv. Stops when no slice has a mask, and where a file is not that of images.csv."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset).sort_values(["patient", "slice", "image_id"], ignore_index=True)
    slices, _ = data_slices.choose(work, labels, np.ones(len(labels), dtype=bool), limit_patients, split)
    known = (slices.table["mask"] != "").to_numpy()
    if not known.any():
        raise UserError(
            f"{work.show(work.work / 'labels.csv')} names no mask: {dataset.name} cannot be used for segmentation; "
            "use data with masks"
        )
    if not known.all():
        print(f"{(~known).sum()} of {len(known)} slices have no mask file: neither trained on nor scored")
    hashes = contents.checked(work, [*slices.table["image"], *slices.table["mask"][known]])
    return MaskData(**vars(slices), known=known, mask_value=mask_value, contents=tuple(hashes[len(known) :]))


def read_mask(path: Path, size: tuple[int, int], value: int | None = None) -> np.ndarray:
    """Decode a mask of an image of `size` (width, height): bool (height, width), true in the lesion.

    Which pixels: see `pixels.read_mask`. Stops at a mask of another size, and at one of several values without `value`.
    """
    mask = pixels.read_mask(path, value)
    if mask.levels.shape != size[::-1]:
        height, width = mask.levels.shape
        raise UserError(
            f"{path} is {width} x {height} px, its image {size[0]} x {size[1]} px; replace the mask, or take it "
            "out of the data set"
        )
    if mask.lesion is None:
        raise UserError(f"{path} has {mask.values} where two are due; say which one is the lesion with --mask-value")
    return mask.lesion


class TrueMasks:
    """True masks of slices, decoded one by one; of those with the very same bytes, as black ones have, one is decoded."""

    def __init__(self, work: Workspace, data: MaskData) -> None:
        self._known, self._value, self._alike = data.known.tolist(), data.mask_value, images.Alike()
        raw = str(work.raw)
        self._paths = [os.path.join(raw, name) for name in data.table["mask"]]

    def read(self, row: int, size: tuple[int, int]) -> np.ndarray:
        """The mask of a row whose image is of `size` (width, height), as `read_mask`; empty where there is no file."""
        if not self._known[row]:
            return np.zeros(size[::-1], dtype=bool)
        return self._alike.read(self._paths[row], size, lambda path: read_mask(path, size, self._value))


def cached(work: Workspace, data: MaskData, size: int) -> np.ndarray:
    """All masks at training size: a read-only uint8 memory map (n, size, size) of 0 and 255, keyed by their content.

    Black where the mask is not known. A mask that is made smaller is blurred at its edge, as the image is.
    """
    names = data.table["mask"][data.known].tolist()
    # Slices without a mask have no path, yet a place in the map: which those are belongs in the key.
    key = cache.key(contents.checked(work, names), size, f"mask {data.mask_value}".encode() + data.known.tobytes())
    shape = (len(data.table), size, size)
    return cache.memory_map(work.cache / f"mask-{size}px-{key}.npy", lambda: (shape, _squares(work, data, size)))


def _squares(work: Workspace, data: MaskData, size: int) -> Iterator[np.ndarray]:
    masks, due = TrueMasks(work, data), images.sizes(work, data.table).tolist()

    def square(row: int) -> np.ndarray:
        return images.resize(masks.read(row, tuple(due[row])).astype(np.uint8) * 255, size)

    return images.decode(range(len(due)), f"masks to {size} px", square)


def truth(work: Workspace, data: MaskData, rows: np.ndarray, size: np.ndarray) -> Iterator[np.ndarray]:
    """The true masks of `rows` in pixels of their images, decoded ahead: bool (height, width). `size`: of all rows, (n, 2)."""
    masks = TrueMasks(work, data)
    return images.decode(rows.tolist(), "true masks", lambda row: masks.read(row, tuple(size[row].tolist())))


def positive(masks: np.ndarray) -> np.ndarray:
    """Which of the cached masks have a pixel: bool (n,). One pass, flat memory."""
    return np.concatenate([(chunk >= THRESHOLD).any(axis=(1, 2)) for chunk in np.array_split(masks, max(1, len(masks) // 64))])
