"""A toy data set in a workspace, in milliseconds: bright disks on noise, written straight as tables and images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from hemoct import cli, splits, tables


def make(work: cli.Workspace, patients: int = 10, slices: int = 4, size: int = 32, labels: tuple[str, ...] = ("hemorrhage",),
         exclusive: bool = False, seed: int = 0) -> pd.DataFrame:  # fmt: skip
    """Write images, labels.csv, dataset.json, boxes.csv and splits.csv. Every second slice is positive (a bright disk)."""
    random = np.random.default_rng(seed)
    work.raw.mkdir(parents=True)
    rows = []
    for patient in range(1, patients + 1):
        for number in range(slices):
            positive = number % 2
            grey = random.integers(40, 90, (size, size))
            if positive:
                y, x = np.ogrid[:size, :size]
                grey[(y - random.integers(8, size - 8)) ** 2 + (x - random.integers(8, size - 8)) ** 2 < 25] = 220
            name = f"{patient:04d}_{number:02d}"
            Image.fromarray(grey.astype(np.uint8)).save(work.raw / f"{name}.png")
            truth = {labels[0]: positive} if len(labels) == 1 else {labels[0]: 1 - positive, labels[1]: positive}
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png",
                         "mask": "", "annotation": "", **truth})  # fmt: skip
    frame = pd.DataFrame(rows)
    dataset = tables.Dataset(work.dataset, "csv", list(labels), exclusive=exclusive)
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_boxes(work, pd.DataFrame(columns=tables.BOX_COLUMNS))
    tables.write_splits(work, splits.make(frame, list(labels), seed=42))
    return frame
