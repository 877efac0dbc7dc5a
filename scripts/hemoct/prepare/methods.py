"""The preparations of one image: grey values in, grey values out, uint8 (height, width), same shape.

They are simple thresholds on 8-bit grey values, as published scripts use them, and no validated segmentation. What they change
is decided by the head (hemoct.prepare.head) or by the shape of strokes; where neither is there, an image is left as it is.
"""

import cv2
import numpy as np

from hemoct.prepare import head as heads
from hemoct.prepare.head import Head

BONE = 250
"""grey value from which on it is bone, where the CT window is not known; of a brain window bone is white"""
AROUND = 3  # pixels of the small image that are left around a head
STROKE = 1 / 32  # of the image side: strokes of letters are thinner
CONTRAST = 64  # by which a stroke is brighter than what is around it
LETTER = (1 / 100, 1 / 7)  # of the image side: height of a letter
WORD = 1 / 4  # of the image side: letters that touch, or a line below them
GAP, LETTERS = 1 / 16, 3
"""of the image side, between letters of a line; so many letters are taken beside one that is seen by itself"""
BORDER, FRAME, EDGE = 0.9, 0.7, 0.06
"""share of a row or column that is of one grey value in a border or a frame line; how far from the edge the latter may lie"""
EVEN, LIT = 8, 16
"""grey values: a border differs by less in itself, and is brighter than air"""
MEDIAN = 3  # pixels
CLIP, TILES = 2.0, 8
"""contrast-limited adaptive histogram equalisation (Zuiderveld 1994): as in most published scripts"""
LEAST_BRAIN = 0.25
"""of the head's area, that a brain covers; less is none: the skull is open, or the slice is of its base or vertex"""


def head_part(head: Head, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """xmin, ymin, xmax, ymax of the head with a margin, in an image of a shape (height, width)."""
    low, high = [], []
    for axis, side in ((0, shape[1]), (1, shape[0])):
        places = np.flatnonzero(head.mask.any(axis=axis))
        low.append(max(0, int((places[0] - AROUND) * head.scale)))
        high.append(min(side, int(np.ceil((places[-1] + 1 + AROUND) * head.scale))))
    return low[0], low[1], high[0], high[1]


def outside(head: Head, shape: tuple[int, ...]) -> np.ndarray:
    """What lies outside of the head's convex hull and a margin: holder, pillow, tubes; bool (height, width)."""
    near = cv2.dilate(heads.hull(head.mask).astype(np.uint8), heads.disc(AROUND))
    return ~head.full(near, shape)


def invert(grey: np.ndarray) -> np.ndarray:
    """Dark for bright."""
    return 255 - grey


def median(grey: np.ndarray) -> np.ndarray:
    """The median of each pixel and its eight neighbours."""
    return cv2.medianBlur(np.ascontiguousarray(grey), MEDIAN)


def clahe(grey: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation."""
    return cv2.createCLAHE(CLIP, (TILES, TILES)).apply(np.ascontiguousarray(grey))


# ---- burnt-in text and borders


def without_text(grey: np.ndarray, head: Head | None) -> np.ndarray:
    """Letters, frames and borders outside of the head, filled from what is around them.

    What lies over the head is never touched: nobody can tell a letter from a calcification or a fracture there.
    """
    cleaned, kept = _without_borders(grey), protected(head, grey.shape)
    strokes = text(cleaned, kept)
    if strokes.any():
        halo = cv2.dilate(strokes.astype(np.uint8), heads.disc(2))
        cleaned = cv2.inpaint(np.ascontiguousarray(cleaned), np.where(kept, np.uint8(0), halo), 3, cv2.INPAINT_TELEA)
    return np.where(kept, grey, cleaned)


def text(grey: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The strokes of letters outside of what is `kept`: bool (height, width)."""
    side = max(grey.shape)
    disc = heads.disc(max(2, round(side * STROKE / 2)))
    strokes = (cv2.morphologyEx(np.ascontiguousarray(grey), cv2.MORPH_TOPHAT, disc) >= CONTRAST) & ~kept
    parts, label, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    height, width = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    letter = (height >= max(3, LETTER[0] * side)) & (height <= max(8, LETTER[1] * side)) & (width <= WORD * side)
    edges = cv2.morphologyEx(np.ascontiguousarray(grey), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    sharp = np.bincount(label.ravel(), edges.ravel()) >= CONTRAST * stats[:, cv2.CC_STAT_AREA]  # no rib is
    found = (letter & sharp & (np.arange(parts) > 0))[label]
    line = np.ones((3, 2 * round(GAP * side) + 1), np.uint8)
    for _ in range(LETTERS):  # dots, dashes, letters that touch the holder or the head
        found |= strokes & cv2.dilate(found.astype(np.uint8), line).astype(bool)
    return found


def protected(head: Head | None, shape: tuple[int, ...]) -> np.ndarray:
    """The head, and a pixel of the small image around it: bool `shape`; nothing where there is no head."""
    if head is None:
        return np.zeros(shape, bool)
    return head.full(cv2.dilate(head.mask.astype(np.uint8), heads.disc(1)), shape)


def _without_borders(grey: np.ndarray) -> np.ndarray:
    """An image whose even, bright borders, and whose frame lines near the edge, are black."""
    cleaned, near = grey.copy(), max(1, round(EDGE * min(grey.shape)))
    for turn in range(4):
        side = np.rot90(cleaned, turn)  # a view: what is written there is written in `cleaned`
        for row in side[: len(side) // 2]:
            if not _is_even(row, BORDER):
                break
            row[:] = 0
        for row in side[:near]:
            if _is_even(row, FRAME):
                row[np.abs(row.astype(int) - np.median(row)) < EVEN] = 0
    return cleaned


def _is_even(row: np.ndarray, share: float) -> bool:
    """Whether so much of a row is of one grey value, and not black."""
    middle = np.median(row)
    return bool(middle >= LIT and (np.abs(row.astype(int) - middle) < EVEN).mean() >= share)


# ---- the brain alone


def brain(grey: np.ndarray, head: Head, bone: int = BONE) -> np.ndarray | None:
    """What the skull encloses, bool (height, width); None where no closed skull is seen.

    `bone`: from which grey value on it is bone. A simple form of the published way (threshold, fill, open; Muschelli et al. 2015,
    NeuroImage 114:379, who threshold 0 to 100 HU and then fit a surface): bright blood is kept, since all that lies inside of
    the closed skull is.
    """
    unit = max(1, round(head.scale))
    skull = ((grey >= bone) & protected(head, grey.shape)).astype(np.uint8)
    ring = _largest(cv2.morphologyEx(skull, cv2.MORPH_CLOSE, heads.disc(2 * unit)))
    if ring is None:
        return None
    gap = (heads.filled(ring) & ~ring).astype(np.uint8)
    inside = _largest(cv2.morphologyEx(gap, cv2.MORPH_OPEN, heads.disc(2)))
    if inside is None:
        return None
    inside = heads.filled(cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, heads.disc(4 * unit)))
    return inside if inside.sum() >= LEAST_BRAIN * head.mask.sum() * head.scale**2 else None


def _largest(mask: np.ndarray) -> np.ndarray | None:
    parts, label, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return label == 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if parts > 1 else None
