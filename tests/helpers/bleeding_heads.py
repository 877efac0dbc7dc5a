"""Heads that bleed on one side, small and quick to draw, as a data set: the nose to the left, so that left is at the top."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield
from hemoct.data import splits
from hemoct.sources.phantom import BRAIN, draw_volume, make_head


def make(work: Workspace, patients: int = 10, slices: int = 6, size: int = 64, plain: bool = False) -> pd.DataFrame:
    """Write images, labels.csv, dataset.json, boxes.csv (around bleeding and edema), splits.csv; returns what is true.

    Columns `patient` and `left`, bool, a row a patient. Every patient bleeds; `plain`: so that it is seen in small images too.
    """
    work.raw.mkdir(parents=True)
    rows, boxes, truth = [], [], []
    for patient in range(1, patients + 1):
        grey, lesion, left = _drawn(patient, slices, size, plain)
        truth.append({"patient": f"{patient:04d}", "left": left})
        for number in range(slices):
            name = f"{patient:04d}_{number:02d}"
            Image.fromarray(grey[number]).save(work.raw / f"{name}.png")
            shown = lesion[number].any()
            if shown:
                below, right = np.nonzero(lesion[number])
                boxes.append((name, "a", right.min(), below.min(), right.max() + 1, below.max() + 1))
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png", "mask": "",
                         "annotation": "", "hemorrhage": int(shown)})  # fmt: skip
    frame = pd.DataFrame(rows)
    dataset = tables.Dataset(work.dataset, "csv", ["hemorrhage"], classes=["a"], orientation="left")
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_boxes(work, pd.DataFrame(boxes, columns=tables.BOX_COLUMNS))
    tables.write_splits(work, splits.make(frame, ["hemorrhage"], seed=42))
    return pd.DataFrame(truth)


@cache
def _drawn(patient: int, slices: int, size: int, plain: bool) -> tuple[np.ndarray, np.ndarray, bool]:
    head = make_head((1, patient), slices)
    if plain:
        lesion = replace(head.lesion, radius=max(head.lesion.radius, 0.2), half_height=0.25, hu=70)
        head = replace(head, lesion=lesion, calcified=False)
    volume = draw_volume(head, np.linspace(0.1, 0.9, slices), size)
    return hounsfield.window(volume.hu, BRAIN), volume.bleeding | volume.edema, bool(head.lesion.across < 0)
