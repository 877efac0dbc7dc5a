"""Geometry of boxes: float arrays (n, 4) of xmin, ymin, xmax, ymax in pixels, zero-based, width = xmax - xmin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a scan is predicted without it
    import pandas as pd


def by_image(table: pd.DataFrame, image_ids: Iterable[str], classes: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rows of boxes.csv of each of `image_ids`: corners float64 (k, 4), and class numbers int (k,); k may be 0."""
    corners = table[["xmin", "ymin", "xmax", "ymax"]].to_numpy(dtype=float)
    numbers = table["class"].map({name: number for number, name in enumerate(classes)}).to_numpy(dtype=int)
    by_image_id, nothing = table.groupby("image_id").indices, np.zeros(0, dtype=int)
    rows = [by_image_id.get(image_id, nothing) for image_id in image_ids]
    return [corners[each] for each in rows], [numbers[each] for each in rows]


def to_yolo(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Centre x, centre y, width, height as fractions of the image: (n, 4), the numbers of a YOLO label file."""
    xmin, ymin, xmax, ymax = np.asarray(boxes, dtype=float).reshape(-1, 4).T
    return np.stack(
        [(xmin + xmax) / 2 / width, (ymin + ymax) / 2 / height, (xmax - xmin) / width, (ymax - ymin) / height], axis=1
    )


def letterbox(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """How hemoct.data.images.resize places an image in its square: scale x, scale y, left border, top border.

    The long side becomes `size`, the short one is rounded to whole pixels (so that the two scales differ a little) and
    centred as Pillow's ImageOps.pad does.
    """
    if width >= height:
        new_width, new_height = size, max(1, round(height * size / width))
    else:
        new_width, new_height = max(1, round(width * size / height)), size
    left, top = round((size - new_width) * 0.5), round((size - new_height) * 0.5)
    return new_width / width, new_height / height, float(left), float(top)


def to_letterbox(boxes: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """Boxes of an image in the square that hemoct.data.images.resize makes of it: (n, 4)."""
    x, y, left, top = letterbox(width, height, size)
    return np.asarray(boxes, dtype=float).reshape(-1, 4) * [x, y, x, y] + [left, top, left, top]


def from_letterbox(boxes: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """The inverse of `to_letterbox`, cut at the edges of the image: (n, 4)."""
    x, y, left, top = letterbox(width, height, size)
    back = (np.asarray(boxes, dtype=float).reshape(-1, 4) - [left, top, left, top]) / [x, y, x, y]
    return np.clip(back, 0, [width, height, width, height])


MULTIPLE = 2  # of a window's side, so that its centre lies on a pixel's corner


def around(corners: np.ndarray, margin: float, least_side: int) -> np.ndarray:
    """Windows around boxes (k, 4), in whole pixels: float64 (k, 3).

    The side is the longer side of the box plus `margin` of it at both ends, and at least `least_side`: a small lesion is shown
    at native resolution, a large one is made smaller.
    """
    low, high = corners[:, :2], corners[:, 2:]
    longest = (high - low).max(axis=1, initial=0) * (1 + 2 * margin)
    side = np.maximum(np.ceil(longest / MULTIPLE - 1e-6) * MULTIPLE, least_side)[:, None]
    return np.concatenate([np.round((low + high - side) / 2), side], axis=1)


def in_pixels(boxes: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray:
    """Boxes (k, 6) from the square in pixels of an image (height, width), without those that lie in the black border alone."""
    corners = from_letterbox(boxes[:, :4], *shape[::-1], size)
    return np.concatenate([corners, boxes[:, 4:]], axis=1)[area(corners) > 0]


def area(boxes: np.ndarray) -> np.ndarray:
    """Square pixels of boxes (..., 4): (...)."""
    return np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each box of the first (n, 4) with each of the second (m, 4): (n, m)."""
    return overlap(first[:, None], second[None])


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) that stand in the same place: (...); 0 where both boxes are empty."""
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    intersection = area(np.concatenate([low, high], axis=-1))
    union = area(first) + area(second) - intersection
    return np.divide(intersection, union, out=np.zeros(intersection.shape), where=union > 0)
