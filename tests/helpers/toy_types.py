"""A toy data set with types of bleeding in a workspace, in milliseconds: a bright mark for each label on noise."""

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits
from hemoct.multilabel import working_set

LABELS = ["IVH", "IPH", "SAH"]
MARKS = {"IVH": np.s_[12:20, 12:20], "IPH": np.s_[2:10, 2:10], "SAH": np.s_[26:30, 2:30]}
SIZE = 32


def make(work: Workspace, patients: int = 10, slices: int = 6, colour: bool = False, labels: list[str] = LABELS,
         seed: int = 0) -> pd.DataFrame:  # fmt: skip
    """Write images of SIZE px and the tables, see `save`. Of each patient IVH is on every second slice, IPH on half, SAH on one.

    `labels`: what the three are called. In `colour` red, green and blue are drawn apart.
    """
    random = np.random.default_rng(seed)
    work.raw.mkdir(parents=True)
    rows = []
    for patient in range(1, patients + 1):
        for number in range(slices):
            truth = dict(zip(labels, (number % 2, int(number < slices / 2), int(number == slices - 2)), strict=True))
            pixels = random.integers(20, 90, (SIZE, SIZE, 3) if colour else (SIZE, SIZE))
            for mark, shown in zip(MARKS.values(), truth.values(), strict=True):
                pixels[mark] += 130 * shown
            name = f"{patient:04d}_{number:02d}"
            Image.fromarray(pixels.astype(np.uint8)).save(work.raw / f"{name}.png")
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png", "mask": "",
                         "annotation": "", **truth})  # fmt: skip
    frame = pd.DataFrame(rows).astype(dict.fromkeys(labels, "Int64"))
    save(work, frame, labels)
    return frame


def save(work: Workspace, frame: pd.DataFrame, labels: list[str] = LABELS, chosen: pd.Series | None = None) -> None:
    """Write labels.csv, dataset.json, splits.csv and a working set of the rows `chosen` (bool; default: all)."""
    dataset = tables.Dataset(work.dataset, "csv", labels)
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_splits(work, splits.make(frame, labels, seed=42))
    rows = frame if chosen is None else frame[chosen]
    tables.write_csv(working_set.folder(work) / "working_set.csv", rows[[*working_set.KEYS, *labels]])
