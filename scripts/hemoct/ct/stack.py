"""Slices of CT from a TIFF of several pages: one page a slice, in their order. 8-bit pages are grey values already, others HU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from hemoct.base import limits
from hemoct.base.errors import UserError, one_line
from hemoct.ct.facts import AIR_BELOW, Facts


def slices(path: Path) -> Iterator[tuple[np.ndarray, Facts]]:
    """Grey values, uint8, or HU, float32 (rows, columns), and facts of each page. Stops at colours and other values."""
    ranges = [_range(path, page) for page in _pages(path)]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    is_grey = lowest >= 0 and highest <= np.iinfo(np.uint8).max
    if not is_grey and lowest >= AIR_BELOW:
        raise UserError(
            f"{path} has values from {lowest:g} to {highest:g}: neither 8-bit grey nor HU, which begin near -1000 (air); write "
            "its pages as 8-bit grey in the brain window"
        )
    for number, page in enumerate(_pages(path)):
        yield page.astype(np.uint8 if is_grey else np.float32), Facts(instance=number, stored=number)


def _pages(path: Path) -> Iterator[np.ndarray]:
    """The pages one by one: memory holds one of them."""
    try:
        with Image.open(path) as image:
            for page in ImageSequence.Iterator(image):
                limits.stop_if_large(path, *page.size)
                yield np.asarray(page)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be decoded ({one_line(error)}); replace the file or leave it out") from None


def _range(path: Path, page: np.ndarray) -> tuple[float, float]:
    if page.ndim != 2:
        raise UserError(f"{path} has pages in colour, no CT slices; leave it out")
    return page.min(), page.max()
