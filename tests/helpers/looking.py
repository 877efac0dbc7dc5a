"""Heads with a lesion in a workspace, and a small network that learned to find them, or something else, for the maps of both."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers import temporary, trained
from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits

SIZE, HEAD, RADIUS, MARKER = 64, 24, 7, 10
TRAIN = ("--weights", "none", "--image-size", SIZE, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu", "--fold", 0,
         "--backbone", "test_resnet", "--experiment", "e", "--epochs", 10)  # fmt: skip


def make(work: Workspace, kind: str = "lesion", patients: int = 15, slices: int = 8, seed: int = 0) -> None:
    """Write images, masks and tables: a skull around a grey brain on black, every second slice with a brighter disk in a box.

    `kind` is what can be learned: `lesion`; `marker`, a bright corner on every positive slice, whose lesion cannot be seen;
    `shuffled`, nothing, for the labels are given at random.
    """
    random = np.random.default_rng(seed)
    work.raw.mkdir(parents=True)
    y, x = np.ogrid[:SIZE, :SIZE]
    away = np.hypot(y - SIZE / 2, x - SIZE / 2)
    rows, boxes = [], []
    for patient in range(1, patients + 1):
        for number in range(slices):
            grey = np.where(away < HEAD, random.normal(90, 10, (SIZE, SIZE)), 0)
            grey[(away >= HEAD) & (away < HEAD + 3)] = 250
            name, positive = f"{patient:04d}_{number:02d}", number % 2
            turn, out = random.uniform(0, 2 * np.pi), random.uniform(0, HEAD - RADIUS - 2)
            below, right = (round(SIZE / 2 + out * of(turn)) for of in (np.sin, np.cos))
            lesion = (np.hypot(y - below, x - right) < RADIUS) & bool(positive)
            if kind == "marker" and positive:
                grey[:MARKER, :MARKER] = 250
            elif positive:
                grey[lesion] += 80
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(work.raw / f"{name}.png")
            Image.fromarray(lesion.astype(np.uint8) * 255).save(work.raw / f"{name}_mask.png")
            if positive:
                boxes.append((name, "disk", right - RADIUS + 1, below - RADIUS + 1, right + RADIUS, below + RADIUS))
            rows.append({"image_id": name, "patient": f"{patient:04d}", "slice": number, "image": f"{name}.png",
                         "mask": f"{name}_mask.png", "annotation": "", "hemorrhage": positive})  # fmt: skip
    frame = pd.DataFrame(rows)
    if kind == "shuffled":
        frame["hemorrhage"] = random.permutation(frame["hemorrhage"])
    dataset = tables.Dataset(work.dataset, "csv", ["hemorrhage"], classes=["disk"])
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_boxes(work, pd.DataFrame(boxes, columns=tables.BOX_COLUMNS))
    tables.write_splits(work, splits.make(frame, ["hemorrhage"], seed=42))


def put(work: Workspace, kind: str = "lesion", *flags: str) -> None:
    """The data of a kind, and fold 0 of the experiment `e` of task 1 that learned from them, with `flags` more."""
    trained.put(functools.partial(_trained, kind, flags), work)


@functools.cache
def _trained(kind: str, flags: tuple[str, ...]) -> Path:
    work = Workspace(temporary.folder("looking"), "toy")
    make(work, kind)
    trained.run("task1_classification/01_train.py", work, *TRAIN, *flags)
    return work.root
