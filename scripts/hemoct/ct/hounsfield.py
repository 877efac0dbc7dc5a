"""Stored values to Hounsfield units (HU): padding, wrapped values; and HU to grey values: the windows of head CT.

Names and numbers are those of radiology's usual presets (Radiopaedia, 'Windowing (CT)': brain 40/80, subdural 50-100/130-300,
stroke 40/40, bone 600/2800), with the values that entries of the RSNA 2019 challenge used: brain 40/80, subdural 80/200, bone
600/2800.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

AIR_HU = -1000
WRAP_BITS, WRAP_FROM, WRAP_SHARE, WRAP_INTERCEPT = 12, 3072, 0.01, -100  # see hemoct.ct.dicom
OF_FILE = "file"
"""the window that a DICOM file names for itself (WindowCenter, WindowWidth)"""


@dataclass(frozen=True)
class Window:
    """`level` is the HU in the middle of the grey scale, `width` the HU from black to white."""

    level: float
    width: float


WINDOWS = {"brain": Window(40, 80), "subdural": Window(80, 200), "stroke": Window(40, 40), "bone": Window(600, 2800)}


def parse_windows(text: str) -> tuple[Window | None, ...]:
    """`brain`, `40/80` or `file` (None: see OF_FILE) as one window, `brain,subdural,bone` as three. A type for argparse."""
    words = [word.strip() for word in text.split(",")]
    if len(words) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} are {len(words)} windows; give one (grey) or three (channels)")
    return tuple(_parse(word) for word in words)


def words(text: str) -> str:
    """The text of a flag unchanged, if parse_windows accepts it. A type for argparse."""
    parse_windows(text)
    return text


def _parse(word: str) -> Window | None:
    if word == OF_FILE:
        return None
    given = re.fullmatch(r"(-?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)", word)
    if given and float(given[2]) > 0:
        return Window(float(given[1]), float(given[2]))
    if word not in WINDOWS:
        raise argparse.ArgumentTypeError(f"{word!r} is no window; there are {', '.join(WINDOWS)}, {OF_FILE} and LEVEL/WIDTH")
    return WINDOWS[word]


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
