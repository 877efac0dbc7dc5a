"""Where the pixels of an image go when it is turned and cut, and back: images, masks and boxes alike, without any rounding."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """An image of `width` x `height` pixels is turned as by np.rot90, then cut to a part.

    Boxes are float (n, 4): xmin, ymin, xmax, ymax as places between pixels, so that the box of a whole image is 0, 0, width,
    height. `turned` and `back` undo one another exactly.
    """

    width: int
    height: int
    turns: int = 0
    """quarter turns against the clock"""
    part: tuple[int, int, int, int] | None = None
    """xmin, ymin, xmax, ymax that is left of the turned image; None: all of it"""

    @property
    def turned_size(self) -> tuple[int, int]:
        """Width and height after the turn, before the cut."""
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What is left of the turned image."""
        return self.part or (0, 0, *self.turned_size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is left."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """An image or mask (..., height, width) of the original, turned and cut."""
        xmin, ymin, xmax, ymax = self.box
        return np.rot90(pixels, self.turns, axes=(-2, -1))[..., ymin:ymax, xmin:xmax]

    def image_back(self, pixels: np.ndarray) -> np.ndarray:
        """What was found on the turned and cut image, (..., height, width), in pixels of the original; 0 where it was cut off."""
        width, height = self.turned_size
        xmin, ymin, xmax, ymax = self.box
        whole = np.zeros((*pixels.shape[:-2], height, width), pixels.dtype)
        whole[..., ymin:ymax, xmin:xmax] = pixels
        return np.ascontiguousarray(np.rot90(whole, -self.turns, axes=(-2, -1)))

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes of the original (n, 4 or more columns) on the turned and cut image; they may reach beyond its edge."""
        found = _turned(np.asarray(boxes, dtype=float), self.turns, self.width, self.height)
        found[:, :4] -= np.tile(self.box[:2], 2)
        return found

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """The inverse of `boxes`: those that were found on the turned and cut image, on the original."""
        found = np.array(boxes, dtype=float)
        found[:, :4] += np.tile(self.box[:2], 2)
        return _turned(found, -self.turns, *self.turned_size)


def _turned(boxes: np.ndarray, turns: int, width: int, height: int) -> np.ndarray:
    """Boxes of an image after quarter turns against the clock, as np.rot90 turns its pixels."""
    found = boxes.copy()
    for _ in range(turns % 4):
        xmin, ymin, xmax, ymax = found[:, :4].T.copy()
        found[:, :4] = np.stack([ymin, width - xmax, ymax, width - xmin], axis=1)
        width, height = height, width
    return found
