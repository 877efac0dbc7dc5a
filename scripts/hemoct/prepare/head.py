"""Where the head is in a slice of computed tomography: a compact thing on black, apart from holder, pillow and text."""

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 128  # pixels of the longer side in which a head is looked for: finer nothing is needed
TISSUE = 10  # grey value: below it is air, and noise of air
SMALLEST, LARGEST = 0.01, 0.8
"""share of the image that a head covers, an ellipse at most; an X-ray of a chest, or noise, covers more"""


@dataclass(frozen=True)
class Head:
    """A head in pixels of the small image in which it was looked for."""

    small: np.ndarray
    """the slice with a longer side of SIDE, uint8 (h, w)"""
    mask: np.ndarray
    """the head with all that it encloses, bool (h, w)"""
    scale: float
    """pixels of the slice in one of the small image"""

    def full(self, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A mask of the small image at the size of the slice, bool `shape`."""
        return cv2.resize(mask.astype(np.uint8), shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def find(grey: np.ndarray, cut: bool = False) -> Head | None:
    """The head in a slice, uint8 (height, width); None where there is none: an empty slice, or no slice of a head.

    `cut`: it was cut to the head before, which then may cover all of it.
    """
    scale = max(1.0, max(grey.shape) / SIDE)
    size = tuple(max(1, round(side / scale)) for side in grey.shape[::-1])
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale > 1 else grey
    mask = _largest(small > TISSUE)
    if mask is None or not SMALLEST <= mask.mean() <= (1 if cut else LARGEST):
        return None
    return Head(small, mask, scale)


def disc(radius: int) -> np.ndarray:
    """What erodes and dilates by `radius` pixels in all directions: uint8 (2 * radius + 1, ...)."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def filled(mask: np.ndarray) -> np.ndarray:
    """A mask with all that its outer contours enclose: bool, same shape."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED).astype(bool)


def hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull of a mask that is not empty: bool, same shape."""
    points = cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), points, 1).astype(bool)


def _largest(tissue: np.ndarray) -> np.ndarray | None:
    """The most of what is large and compact, with its holes; thin things (holder, text, tubes) break off by opening."""
    radius = max(1, round(max(tissue.shape) / 64))
    parts, label, stats, _ = cv2.connectedComponentsWithStats(
        cv2.morphologyEx(filled(tissue).astype(np.uint8), cv2.MORPH_OPEN, disc(radius)), connectivity=4
    )
    best, most = None, 0.0
    for part in range(1, parts):
        area = stats[part, cv2.CC_STAT_AREA]
        if area > most:  # compactness is 1 at most
            mask = label == part
            compact = area * (area / hull(mask).sum()) ** 2  # an arc fills little of its hull
            if compact > most:
                best, most = mask, compact
    return best
