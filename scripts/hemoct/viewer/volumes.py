"""Slices and what is drawn over them as NIfTI volumes for the viewer: made in memory, axes towards right, front and head."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from hemoct.prepare import orientation as orientations

ASSUMED_WIDTH_MM, ASSUMED_STEP_MM = 230.0, 5.0
"""of a slice, and from one slice to the next, where nothing is known: the other planes look about right"""
FILL, EDGE, BOX = 1, 250, 255
"""values of a layer: up to EDGE how certain a pixel is, 255 being 249; the outline of the mask; the frame of a box"""
LINE_SHARE = 256
"""a frame is one pixel thick for so many pixels of the side of a slice"""


@dataclass(frozen=True)
class Frame:
    """How slices lie in space: rows of the arrays are turned by quarters, then the affine holds."""

    affine: np.ndarray
    """float (4, 4): (column, row, slice, 1) to mm, right, front and head being positive"""
    turns: int = 0
    """quarter turns against the clock of each slice before that"""
    known_sides: bool = True
    """whether left and right, front and back, are those of the patient"""

    @classmethod
    def of_images(cls, width: int, spacing: tuple[float, float, float] | None, orientation: str) -> "Frame":
        """That of images without a place in space: nose up where it is known, from base to vertex, sides as in radiology.

        `width`: of a slice in pixels. `spacing`: mm between columns, rows and slices.
        """
        turns = orientations.turns(orientation, "up")
        columns, rows, slices = spacing or (ASSUMED_WIDTH_MM / width, ASSUMED_WIDTH_MM / width, ASSUMED_STEP_MM)
        if turns % 2:
            columns, rows = rows, columns
        return cls(np.diag([-columns, -rows, slices, 1.0]), turns, known_sides=False)

    def along(self) -> tuple[int, bool]:
        """The axis of the volume (0 right, 1 front, 2 head) along which slices lie, and whether the first one has the highest
        place on it."""
        axis, direction = nib.io_orientation(self.affine)[2]
        return int(axis), bool(direction < 0)

    def nifti(self, slices: np.ndarray) -> bytes:
        """Slices (n, height, width), uint8 or int16, as a compressed NIfTI file."""
        turned = np.rot90(slices, self.turns, axes=(1, 2))
        volume = nib.as_closest_canonical(nib.Nifti1Image(turned.transpose(2, 1, 0), self.affine))
        return gzip.compress(volume.to_bytes(), compresslevel=1)


def layer(masks: np.ndarray | None, boxes: Sequence[np.ndarray], shape: tuple[int, int, int],
          probability: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
    """What is drawn over slices of `shape` (n, height, width), uint8 of that shape: see FILL, EDGE and BOX.

    `masks`: bool of that shape, filled and outlined. `probability`: uint8 of that shape, 255 is certain, the filling instead.
    `boxes`: float (k, >= 4) a slice, corners in pixels.
    """
    drawn = np.zeros(shape, dtype=np.uint8)
    if probability is not None:
        drawn[:] = np.minimum(probability, EDGE - 1)
    if masks is not None:
        if probability is None:
            drawn[masks] = (EDGE - 1) // 2
        drawn[_edges(masks)] = EDGE
    thick = max(1, round(max(shape[1:]) / LINE_SHARE))
    for of_slice, corners in zip(drawn, boxes, strict=True):
        for left, top, right, bottom in np.rint(corners[:, :4]).astype(int):
            left, top = max(left, 0), max(top, 0)
            right, bottom = min(max(right, left + 1), shape[2]), min(max(bottom, top + 1), shape[1])
            of_slice[top : top + thick, left:right] = of_slice[max(bottom - thick, top) : bottom, left:right] = BOX
            of_slice[top:bottom, left : left + thick] = of_slice[top:bottom, max(right - thick, left) : right] = BOX
    return drawn


def _edges(masks: np.ndarray) -> np.ndarray:
    """The outermost pixels of masks, slice by slice: bool of their shape (n, height, width)."""
    inside = masks.copy()
    inside[:, 1:] &= masks[:, :-1]
    inside[:, :-1] &= masks[:, 1:]
    inside[:, :, 1:] &= masks[:, :, :-1]
    inside[:, :, :-1] &= masks[:, :, 1:]
    return masks & ~inside
