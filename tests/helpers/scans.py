"""A small scan with everything that models may say of it, made by hand."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from hemoct.scan.result import Boxes, Label, Masks, Model, Scan, Source


def source(path: Path, n: int = 6, **changed: Any) -> Source:
    """Slices of 40 x 32 px (height, width) with a bright skull."""
    y, x = np.ogrid[:40, :32]
    head = np.where(np.hypot((y - 20) / 18, (x - 16) / 14) < 1, 90, 0).astype(np.uint8)
    usual = {
        "path": path, "kind": "images", "names": [f"{row}.png" for row in range(n)], "grey": np.stack([head] * n),
        "orientation": "up", "series": f"{n} images", "others": [], "passed_over": {}, "notes": [], "about": {},
    }  # fmt: skip
    return Source(**{field.name: None for field in fields(Source)} | usual | changed)


def scan(path: Path, n: int = 6, **changed: Any) -> Scan:
    """Bleeding on slices 3 and 4, left in the image, with a box, edema and core of 8 and 4 px on each; map on the same."""
    rows = (2, 3)
    edema, core, heat = np.zeros((n, 40, 32), bool), np.zeros((n, 40, 32), bool), np.zeros((n, 40, 32), np.uint8)
    for row in rows:
        edema[row, 20:22, 5:9], core[row, 24:26, 5:7], heat[row, 18:26, 4:10] = True, True, 255
    box = np.array([[4.0, 18, 10, 26, 0.9, 0]])
    usual = {
        "source": source(path, n), "models": [Model(1, "resnet", "toy", [0, 1], "AUROC 0.9", ["a", "b"])],
        "seen": np.zeros(n, bool), "types": [Label(4, "IPH", np.linspace(0.1, 0.6, n), 0.5, "given")], "heat": heat,
        "bleeding": Label(1, "hemorrhage", np.where(np.isin(np.arange(n), rows), 0.9, 0.1), 0.5, "mean of 2 folds"),
        "boxes": Boxes([box if row in rows else np.zeros((0, 6)) for row in range(n)], ["lesion"], 0.3, "given"),
        "masks": Masks(edema, core, 0.5, "given", "perihematomal edema"), "seconds": {"reading": 0.1},
    }  # fmt: skip
    return Scan(**usual | changed)
