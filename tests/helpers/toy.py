"""A toy data set in a workspace, in milliseconds: bright disks on noise, written straight as tables and images."""

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits


def make(work: Workspace, patients: int = 10, slices: int = 4, size: int | tuple[int, int] = 32,
         labels: tuple[str, ...] = ("hemorrhage",), exclusive: bool = False, seed: int = 0, boxes: bool = False,
         classes: tuple[str, ...] = ("disk",), radius: int = 5, masks: bool = False) -> pd.DataFrame:  # fmt: skip
    """Write images, labels.csv, dataset.json, boxes.csv and splits.csv. Every second slice is positive (a bright disk).

    `size` is a side, or (width, height). With `boxes` the pixels of each disk are enclosed by a box; of two classes, which
    take turns, the disks of the second one are black. With `masks` each slice has one: the outer rim of its disk.
    """
    width, height = size if isinstance(size, tuple) else (size, size)
    random = np.random.default_rng(seed)
    work.raw.mkdir(parents=True)
    rows, drawn, edge = [], [], radius + 3
    for patient in range(1, patients + 1):
        for number in range(slices):
            positive, number_of_class = number % 2, number // 2 % len(classes)
            grey, mask = random.integers(40, 90, (height, width)), np.zeros((height, width), dtype=bool)
            name = f"{patient:04d}_{number:02d}"
            if positive:
                y, x = np.ogrid[:height, :width]
                below, right = random.integers(edge, height - edge), random.integers(edge, width - edge)
                away = (y - below) ** 2 + (x - right) ** 2
                grey[away < radius**2] = 0 if number_of_class else 220
                mask = (away < radius**2) & (away >= (radius / 2) ** 2)
                drawn.append(
                    (name, classes[number_of_class], right - radius + 1, below - radius + 1, right + radius, below + radius)
                )
            Image.fromarray(grey.astype(np.uint8)).save(work.raw / f"{name}.png")
            if masks:
                Image.fromarray(mask.astype(np.uint8) * 255).save(work.raw / f"{name}_mask.png")
            truth = {labels[0]: positive} if len(labels) == 1 else {labels[0]: 1 - positive, labels[1]: positive}
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png",
                         "mask": f"{name}_mask.png" if masks else "", "annotation": "", **truth})  # fmt: skip
    frame = pd.DataFrame(rows)
    dataset = tables.Dataset(work.dataset, "csv", list(labels), exclusive=exclusive, classes=list(classes) if boxes else [],
                             orientation="unknown")  # fmt: skip
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_boxes(work, pd.DataFrame(drawn if boxes else [], columns=tables.BOX_COLUMNS))
    tables.write_splits(work, splits.make(frame, list(labels), seed=42))
    return frame
