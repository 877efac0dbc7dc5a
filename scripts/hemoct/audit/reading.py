"""A data set read for the audit: its tables, and what one pass over its images and masks measures.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose bleeding and edema.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import label_meaning, pixels, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.ingest import layouts

SIZE = 128  # side of the images of sums, px
TOGETHER = 64  # images that are added at once; 256 is the most whose squares float32 adds without rounding
UNREAD = "not read"
"""state of an image or mask that is there and not in the sample"""
MEASURED = ("width", "height", "bright", "mask_width", "mask_height", "mask_pixels", "mask_value")
NOTHING = {"content": "", "image_state": "", "digest": "", "mask_content": "", "mask_state": "none", "mask_values": "",
           "mask_note": "", "mask_corners": False}  # fmt: skip
"""what is measured in words, before anything was read"""
Decoded = TypeVar("Decoded")
DARK = 10  # grey value up to which a pixel counts as black


@dataclass(frozen=True)
class Audited:
    """A data set as the audit sees it: its tables, and what one pass over the pixels measured: numbers and sums, no images.

    Of a sample of the images alone, if one was asked for: what needs pixels is not known of the others.
    """

    work: Workspace
    dataset: tables.Dataset
    images: pd.DataFrame
    """labels.csv plus image_state, mask_state ('' is good, see UNREAD), width, height, content, mask_content, digest, bright,
    mask_pixels, mask_value, mask_values (text, '' unless more than two), mask_note, mask_corners (whether all four are lesion)"""
    boxes: pd.DataFrame
    patients: pd.DataFrame | None
    repairs: pd.DataFrame
    count: np.ndarray
    """(labels, 2): images known to be negative and positive"""
    total: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of grey values, images padded to a square"""
    squares: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of squared grey values"""
    mask_cover: np.ndarray
    """int64 (SIZE, SIZE): how many masks cover a pixel"""
    mask_value: int | None
    """see `pixels.read_mask`"""
    drawn: pd.Index
    """of `images`: the sample"""

    @property
    def has_patients(self) -> bool:
        """False when each image is its own group because nothing names the patient."""
        told = self.dataset.patient_source
        return self.dataset.knows_patients if told else bool((self.images["patient"] != self.images["image_id"]).any())

    @property
    def read(self) -> pd.DataFrame:
        """The rows of `images` whose pixels were to be read: all of them without a sample."""
        return self.images.loc[self.drawn]

    @property
    def merged(self) -> bool:
        """Whether the boxes come from annotations that step 02 has merged."""
        return self.dataset.layout in layouts.WITH_XML

    @property
    def mask_note(self) -> str:
        """What masks and boxes mean, for captions."""
        return label_meaning.CAPTION.get(self.dataset.layout, "")


def read(work: Workspace, mask_value: int | None = None, sample: int | None = None, seed: int = 42) -> Audited:
    """Read the tables of steps 02 and 03, decode every image and every mask once; memory does not grow with their number.

    `mask_value`: see `pixels.read_mask`. `sample`: decode so many images alone, drawn with `seed`, and their masks.
    """
    dataset = tables.read_dataset(work)
    labels, boxes = tables.read_labels(work, dataset).reset_index(drop=True), tables.read_boxes(work, whole=False)
    corners = tables.BOX_COLUMNS[2:]
    boxes[corners] = boxes[corners].apply(pd.to_numeric, errors="coerce").astype(float)
    repairs = tables.read_repairs(work)

    drawn = labels
    if sample is not None and sample < len(labels):
        drawn = labels.iloc[np.sort(np.random.default_rng(seed).choice(len(labels), sample, replace=False))]
    sums, measurements = _Sums(labels[dataset.labels].astype("float").to_numpy()), []
    pairs = zip(drawn["image"], drawn["mask"], strict=True)
    decoded = images.decode(pairs, "check images", partial(_measure, work.raw, mask_value))
    for row, (numbers, small, small_mask) in zip(drawn.index, decoded, strict=True):
        measurements.append(numbers)
        sums.add(row, small, small_mask)
    sums.finish()
    measured = pd.concat([pd.DataFrame(measurements, index=drawn.index), _unread(work.raw, labels.drop(drawn.index))])
    table = pd.concat([labels, measured.sort_index()], axis=1)
    return Audited(
        work, dataset, table, boxes, tables.read_patients(work), repairs,
        sums.count, sums.total, sums.squares, sums.mask_cover, mask_value, drawn.index,
    )  # fmt: skip


class _Sums:
    """Sums over images and masks of SIZE px; `values`: the labels of all images, float (n, labels), NaN where unknown."""

    def __init__(self, values: np.ndarray) -> None:
        self._shown = np.stack([values == 0, values == 1], axis=2)  # neither where unknown
        self._waiting: list[tuple[int, np.ndarray]] = []
        self.count = np.zeros(self._shown.shape[1:], dtype=np.int64)
        self.total, self.squares = np.zeros((2, *self.count.shape, SIZE, SIZE), dtype=np.int64)
        self.mask_cover = np.zeros((SIZE, SIZE), dtype=np.int64)

    def add(self, row: int, image: np.ndarray | None, mask: np.ndarray | None) -> None:
        """Add what could be read of an image, uint8, and of its mask, bool."""
        if mask is not None:
            self.mask_cover += mask
        if image is not None:
            self._waiting.append((row, image))
        if len(self._waiting) == TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Add the images that wait: whole numbers below 2^24, which float32 holds."""
        if not self._waiting:
            return
        shown = self._shown[[row for row, _ in self._waiting]]
        pixels = np.stack([image for _, image in self._waiting]).reshape(len(shown), -1).astype(np.float32)
        weights = shown.reshape(len(shown), -1).T.astype(np.float32)
        self.count += shown.sum(axis=0)
        self.total += (weights @ pixels).astype(np.int64).reshape(self.total.shape)
        self.squares += (weights @ pixels**2).astype(np.int64).reshape(self.total.shape)
        self._waiting.clear()


def _unread(raw: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """What is known of images outside the sample: whether their files are there."""
    numbers = pd.DataFrame(index=rows.index, columns=MEASURED, dtype=float).assign(**NOTHING)
    for column, state in (("image", "image_state"), ("mask", "mask_state")):
        there = (os.path.isfile(f"{raw}/{name}") if name else None for name in rows[column])
        numbers[state] = [{None: "none", True: UNREAD, False: "missing"}[one] for one in there]
    return numbers


def _measure(
    raw: Path, mask_value: int | None, pair: tuple[str, str]
) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    """Numbers of one image and its mask; the image (uint8) and the mask (bool) at SIZE px, None where unreadable."""
    image, mask = pair
    numbers: dict[str, Any] = dict.fromkeys(MEASURED, np.nan) | NOTHING
    small = small_mask = None
    grey, numbers["content"], numbers["image_state"] = _decode(raw / image)
    if grey is not None:
        numbers["height"], numbers["width"] = grey.shape
        numbers["bright"] = float((grey > DARK).mean())
        numbers["digest"] = hashlib.blake2b(repr(grey.shape).encode() + grey.tobytes(), digest_size=16).hexdigest()
        small = images.resize(grey, SIZE)
    if mask:
        small_mask = _measure_mask(raw / mask, numbers, mask_value)
    return numbers, small, small_mask


def _measure_mask(path: Path, numbers: dict[str, Any], value: int | None) -> np.ndarray | None:
    """Add the numbers of a mask; returns it at SIZE px (bool), None where unreadable.

    Where several values do not tell the lesion, all that is not background counts here.
    """
    mask, numbers["mask_content"], numbers["mask_state"] = _decode(path, partial(pixels.read_mask, value=value))
    if mask is None:
        return None
    lesion = mask.levels > mask.levels.min() if mask.lesion is None else mask.lesion
    numbers["mask_height"], numbers["mask_width"] = lesion.shape
    numbers["mask_pixels"] = int(lesion.sum())
    numbers["mask_note"], numbers["mask_corners"] = mask.note, bool(lesion[[0, 0, -1, -1], [0, -1, 0, -1]].all())
    if mask.lesion is None:
        numbers["mask_values"] = mask.values
    elif value is None and lesion.any() and (mask.value == 255 or numbers["mask_content"] not in pixels.LOSSY):
        numbers["mask_value"] = mask.value
    return images.resize(lesion.astype(np.uint8) * 255, SIZE) >= pixels.THRESHOLD


def _decode(path: Path, read: Callable[[Path], Decoded] = images.read_grey) -> tuple[Decoded | None, str, str]:
    """What `read` makes of a file, the format of its content, and what is wrong with the file ('' if nothing)."""
    if not path.is_file():
        return None, "", "missing"
    try:
        decoded = read(path)
    except UserError as error:
        return None, "", str(error).removeprefix(f"{path} ").split(";")[0]
    with Image.open(path) as header:
        return decoded, header.format or "", ""
