"""A data set read for the audit: its tables, and what one pass over its images and masks measures.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose bleeding and edema.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.ingest.reader_tables import NO_PATIENTS

SIZE = 128  # side of the images of sums, px
CHUNK = 128  # images read at a time: memory stays constant however large the data set
MASK_THRESHOLD = 128
DARK = 10  # grey value up to which a pixel counts as black


@dataclass(frozen=True)
class AuditTables:
    """The tables of one data set."""

    work: Workspace
    dataset: tables.Dataset
    labels: pd.DataFrame
    boxes: pd.DataFrame
    patients: pd.DataFrame | None
    repairs: pd.DataFrame | None

    @property
    def has_patients(self) -> bool:
        """False when each image is its own group because nothing names the patient."""
        source = self.dataset.patient_source
        return source != NO_PATIENTS if source else bool((self.labels["patient"] != self.labels["image_id"]).any())

    @property
    def mask_note(self) -> str:
        """What masks and boxes mean, for captions."""
        return label_meaning.CAPTION.get(self.dataset.layout, "")


@dataclass
class Measurements:
    """The result of one pass over the pixels: numbers of each image and running sums, never the images."""

    images: pd.DataFrame
    """labels.csv plus image_state, mask_state ('' is good), width, height, content, mask_content, digest, bright, mask_pixels"""
    count: np.ndarray
    """(labels, 2): images known to be negative and positive"""
    total: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of grey values, images padded to a square"""
    squares: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of squared grey values"""
    mask_cover: np.ndarray
    """int64 (SIZE, SIZE): how many masks cover a pixel"""


def read_tables(work: Workspace) -> AuditTables:
    """Read the tables that step 03 wrote, and the repairs of step 02 if there are any."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    boxes = tables.read_boxes(work)
    corners = tables.BOX_COLUMNS[2:]
    boxes[corners] = boxes[corners].apply(pd.to_numeric, errors="coerce").astype(float)
    path = work.work / "repairs.csv"
    has_repairs = path.exists() and path.read_text(encoding="utf-8").count("\n") > 1
    repairs = tables.read_csv(path, ["file", "problem", "repair"]) if has_repairs else None
    return AuditTables(work, dataset, labels, boxes, tables.read_patients(work), repairs)


def measure(data: AuditTables) -> Measurements:
    """Decode every image and every mask once, in threads; memory does not grow with the number of images."""
    labels, names = data.labels, data.dataset.labels
    sums = np.zeros((2, len(names), 2, SIZE, SIZE), dtype=np.int64)
    count = np.zeros((len(names), 2), dtype=int)
    mask_cover = np.zeros((SIZE, SIZE), dtype=np.int64)
    values = labels[names].astype("float").to_numpy()  # unknown is NaN
    measurements = []
    for row, (numbers, small, small_mask) in enumerate(_measure_all(data)):
        measurements.append(numbers)
        if small is not None:
            for label, value in enumerate(values[row]):
                if value in (0, 1):
                    count[label, int(value)] += 1
                    sums[0, label, int(value)] += small
                    sums[1, label, int(value)] += small**2
        if small_mask is not None:
            mask_cover += small_mask
    table = pd.concat([labels.reset_index(drop=True), pd.DataFrame(measurements)], axis=1)
    return Measurements(table, count, sums[0], sums[1], mask_cover)


def _measure_all(data: AuditTables) -> Iterator[tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]]:
    pairs = list(zip(data.labels["image"], data.labels["mask"], strict=True))
    with ThreadPoolExecutor(images.WORKERS) as pool, tqdm(total=len(pairs), desc="check images", disable=None) as bar:
        for start in range(0, len(pairs), CHUNK):
            for measured in pool.map(lambda pair: _measure(data.work.raw, *pair), pairs[start : start + CHUNK]):
                yield measured
                bar.update()


def _measure(raw: Path, image: str, mask: str) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    """Numbers of one image and its mask; the image (int64) and the mask (bool) at SIZE px, None where unreadable."""
    numbers: dict[str, Any] = dict.fromkeys(("width", "height", "bright", "mask_width", "mask_height", "mask_pixels"), np.nan)
    small = small_mask = None
    grey, numbers["content"], numbers["image_state"] = _decode(raw / image)
    numbers["digest"] = ""
    if grey is not None:
        numbers["height"], numbers["width"] = grey.shape
        numbers["bright"] = float((grey > DARK).mean())
        numbers["digest"] = hashlib.blake2b(repr(grey.shape).encode() + grey.tobytes(), digest_size=16).hexdigest()
        small = images.resize(grey, SIZE).astype(np.int64)
    mask_grey, numbers["mask_content"], numbers["mask_state"] = _decode(raw / mask) if mask else (None, "", "none")
    if mask_grey is not None:
        inside = mask_grey >= MASK_THRESHOLD
        numbers["mask_height"], numbers["mask_width"] = inside.shape
        numbers["mask_pixels"] = int(inside.sum())
        small_mask = images.resize(inside.astype(np.uint8) * 255, SIZE) >= MASK_THRESHOLD
    return numbers, small, small_mask


def _decode(path: Path) -> tuple[np.ndarray | None, str, str]:
    """Grey values, the format of the content, and what is wrong with the file ('' if nothing)."""
    if not path.is_file():
        return None, "", "missing"
    try:
        grey = images.read_grey(path)
    except UserError as error:
        return None, "", str(error).removeprefix(f"{path} ").split(";")[0]
    with Image.open(path) as header:
        return grey, header.format or "", ""
