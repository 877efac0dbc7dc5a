"""Stored values to Hounsfield units (HU): padding, wrapped values; and HU to grey values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from hemoct.ct.windows import Window

AIR_HU = -1000
WRAP_BITS, WRAP_FROM, WRAP_SHARE, WRAP_INTERCEPT = 12, 3072, 0.01, -100  # see hemoct.ct.dicom


def window(hu: np.ndarray, shown: Window) -> np.ndarray:
    """HU of any shape as uint8 grey: level - width / 2 and below is 0, level + width / 2 and above 255 (DICOM: LINEAR_EXACT)."""
    return np.clip((hu - (shown.level - shown.width / 2)) * (255 / shown.width), 0, 255).round().astype(np.uint8)


def to_grey(hu: np.ndarray, windows: tuple[Window, ...]) -> np.ndarray:
    """HU (rows, columns) as uint8: (rows, columns) for one window, (rows, columns, channels) for several."""
    channels = [window(hu, shown) for shown in windows]
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def lowest(header: Dataset) -> int:
    """The lowest value that can be stored."""
    return -(1 << (header.BitsStored - 1)) if header.PixelRepresentation else 0


def is_padding(header: Dataset, stored: np.ndarray, first: int | None, last: int | None) -> np.ndarray:
    """Where the pixels are padding, `first` or `first` to `last`: bool (rows, columns).

    The tag may be signed although the pixels are not, or the other way round: it is converted to the range of stored values.
    """
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    low = lowest(header)
    ends = [(value - low) % (1 << header.BitsStored) + low for value in (first, first if last is None else last)]
    return (stored >= min(ends)) & (stored <= max(ends))


def unwrap(header: Dataset, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """HU below 0 that were stored in 12 unsigned bits, corrected; None if there are none."""
    unsigned = header.BitsStored == WRAP_BITS and not header.PixelRepresentation
    if not unsigned or slope != 1 or intercept <= WRAP_INTERCEPT or (stored >= WRAP_FROM).mean() < WRAP_SHARE:
        return None
    return np.where(stored >= WRAP_FROM, stored.astype(np.int32) - (1 << WRAP_BITS), stored)


def is_framed_by_air(hu: np.ndarray) -> bool:
    """Whether the outermost pixels are mostly air."""
    frame = np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])
    return bool(np.median(frame) < AIR_HU / 2)
