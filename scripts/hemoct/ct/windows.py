"""The windows of head CT, in which Hounsfield units (HU) are shown as grey values, by their names or numbers.

Names and numbers are those of radiology's usual presets (Radiopaedia, 'Windowing (CT)': brain 40/80, subdural 50-100/130-300,
stroke 40/40, bone 600/2800), with the values that entries of the RSNA 2019 challenge used: brain 40/80, subdural 80/200, bone
600/2800. Imports nothing that computes: --help shall be quick.
"""

import argparse
import re
from dataclasses import dataclass

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
