"""Slices of phantom heads, the nose to the left, with text that is burnt into them."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.sources import phantom


@cache
def slices(key: int = 0, count: int = 6, size: int = 256) -> np.ndarray:
    """Slices of one head in the brain window, from base to vertex: uint8 (count, size, size)."""
    head = phantom.make_head((7, key), 12)
    hu = phantom.draw_volume(head, np.linspace(0.2, 0.8, count), size).hu
    return hounsfield.window(hu, ct_windows.WINDOWS["brain"])


def written(grey: np.ndarray, text: str, place: tuple[int, int], height: int, fill: int = 255) -> np.ndarray:
    """A copy with a text, whose left upper corner lies at `place` (x, y); `height` of the font in pixels."""
    image = Image.fromarray(grey)
    ImageDraw.Draw(image).text(place, text, fill=fill, font=ImageFont.load_default(size=height))
    return np.asarray(image)
