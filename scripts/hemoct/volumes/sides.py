"""Left or right of the head's midline: how much of the boxes lies on each side of the patient."""

from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.data import images
from hemoct.prepare import head as heads, orientation as orientations
from hemoct.prepare.geometry import Geometry


def areas(raw: Path, labels: pd.DataFrame, boxes: pd.DataFrame, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """The area of the boxes of each slice on the patient's left, and on the right, float (n,) each; in px, 0 without any.

    `orientation`: where the nose points. Images are taken to be shown as radiologists do, the patient's left on the right side of
    an image with the nose up. A slice in which no head is seen does not count.
    """
    row_of = pd.Series(np.arange(len(labels)), index=labels["image_id"])
    groups = {int(row_of[name]): group for name, group in boxes.groupby("image_id") if name in row_of}
    found = np.zeros((2, len(labels)))
    decoded = images.decode([raw / labels["image"].iloc[row] for row in groups], "side of boxes")
    turns = orientations.turns(orientation, "up")
    for (row, group), grey in zip(groups.items(), decoded, strict=True):
        geometry = Geometry(grey.shape[1], grey.shape[0], turns)
        of_slice = geometry.boxes(group[["xmin", "ymin", "xmax", "ymax"]].to_numpy())
        found[:, row] = left_and_right(geometry.image(grey), of_slice)
    return found[0], found[1]


def left_and_right(grey: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
    """The area of boxes (n, 4) on the patient's left and right, in a slice with the nose up, uint8 (height, width).

    The midline at the height of a box lies midway between the edges of the head there: a tilted head has a tilted one.
    """
    head = heads.find(grey)
    if head is None:
        return 0.0, 0.0
    left = right = 0.0
    for xmin, ymin, xmax, ymax in boxes:
        lines = head.mask[int(ymin / head.scale) : int(np.ceil(ymax / head.scale))]
        edges = [np.flatnonzero(line)[[0, -1]] for line in lines if line.any()]
        if edges:
            middle = (np.mean(edges) + 0.5) * head.scale
            beyond = np.clip(xmax - max(middle, xmin), 0, None) * (ymax - ymin)
            left, right = left + beyond, right + (xmax - xmin) * (ymax - ymin) - beyond
    return left, right
