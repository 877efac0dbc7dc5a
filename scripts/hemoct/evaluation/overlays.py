"""Boxes drawn on slices, for people: a slice, a slice with its caption, all slices of a patient on one sheet.

Truth is green and lies just outside its place, a prediction is red, lies just inside it and carries its confidence: equal boxes
do not hide each other, and the two differ without their colours.
"""

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemoct.base import label_meaning

GREEN, RED, PAPER, INK = (0, 200, 130), (255, 80, 40), (255, 255, 255), (20, 20, 20)
TILE = 224  # px of a slice on a sheet
MARGIN = 6
NO_CLASS, NO_BOXES = np.zeros(0, dtype=int), np.zeros((0, 6))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # for its font alone

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _drawable(text: str) -> str:
    """A text without the letters that the font does not have."""
    if text.isascii() and text.isprintable():
        return text.rstrip()
    from hemoct.base import figure  # half a second, for letters that are rare

    return figure.drawable(text, ("DejaVu Sans",))


def legend(layout: str | None, truth: bool) -> str:
    """What the colours mean; `layout` is that of the data set, `truth` whether anything is annotated."""
    means = f" ({label_meaning.BOX[layout]})" if layout in label_meaning.BOX else ""
    return (f"green: annotated box{means}, " if truth else "") + f"red: predicted box{means}, with confidence"


def enlarged(grey: np.ndarray, side: int) -> tuple[Image.Image, float]:
    """A slice (uint8, height x width), its long side `side` px, in RGB; and by how much it was enlarged."""
    height, width = grey.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resampling = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    return Image.fromarray(grey).resize(size, resampling).convert("RGB"), scale


def picture(
    grey: np.ndarray, found: np.ndarray, truth: np.ndarray | None, side: int, classes: Sequence[str] = (),
    truth_class: np.ndarray = NO_CLASS,
) -> Image.Image:  # fmt: skip
    """A slice (uint8, height x width), its long side `side` px, with boxes `found` (k, 6) and `truth` (m, 4) in its own pixels.

    Columns of `found`: xmin, ymin, xmax, ymax, confidence, class number. With several `classes` each box carries its name.
    """
    drawn, scale = enlarged(grey, side)
    size = drawn.size
    pen, line = ImageDraw.Draw(drawn), max(2, side // 200)
    notes = []
    for number, box in enumerate(() if truth is None else truth):
        place = _placed(box, scale, size, outwards=line)
        pen.rectangle(place, outline=GREEN, width=line)
        if len(classes) > 1:
            notes.append((place, classes[truth_class[number]], GREEN))
    for box in found[::-1]:  # the most confident one on top
        place = _placed(box[:4], scale, size)
        pen.rectangle(place, outline=RED, width=line)
        name = f"{classes[int(box[5])]} " if len(classes) > 1 else ""
        notes.append((place, f"{name}{box[4]:.2f}", RED))
    _write_notes(pen, size, notes[::-1], _font(max(11, side // 36)))
    return drawn


def _placed(box: np.ndarray, scale: float, size: tuple[int, int], outwards: int = 0) -> list[int]:
    """First and last pixel of a box in the drawing, along x and y, never outside of it."""
    low = [round(float(value) * scale) - outwards for value in box[:2]]
    high = [round(float(value) * scale) - 1 + outwards for value in box[2:]]
    low = [min(max(value, 0), end - 1) for value, end in zip(low, size, strict=True)]
    return [*low, *(min(max(value, least), end - 1) for value, least, end in zip(high, low, size, strict=True))]


def _write_notes(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    notes: list[tuple[list[int], str, tuple[int, int, int]]],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write each note at its box: at the first place that is free and inside, else where it hides an earlier one."""
    taken: list[tuple[int, int, int, int]] = []
    for (left, top, right, bottom), name, colour in notes:
        text = _drawable(name)
        width, height = int(font.getlength(text)) + 4, font.size + 3
        wanted = [(x, y) for y in (top - height - 2, bottom + 3, top + 3) for x in (left, right - width)]
        inside = [(min(max(x, 0), max(size[0] - width, 0)), min(max(y, 0), max(size[1] - height, 0))) for x, y in wanted]
        free = [spot for spot in inside if not any(_overlap((*spot, width, height), other) for other in taken)]
        x, y = ([spot for spot in free if spot in wanted] or free or inside)[0]
        taken.append((x, y, width, height))
        pen.rectangle([x, y, x + width - 1, y + height - 1], fill=INK)
        pen.text((x + 2, y + height / 2), text, fill=colour, font=font, anchor="lm")


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return all(one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


def overlay(drawn: Image.Image, lines: Sequence[str]) -> Image.Image:
    """A picture above its caption, whose lines are broken to its width."""
    font = _font(14)
    caption = _wrapped(lines, font, drawn.width - 2 * MARGIN)
    height = len(caption) * (font.size + 5) + 2 * MARGIN
    whole = Image.new("RGB", (drawn.width, drawn.height + height), PAPER)
    whole.paste(drawn)
    text = "\n".join(caption)
    ImageDraw.Draw(whole).multiline_text((MARGIN, drawn.height + MARGIN), text, fill=INK, font=font, spacing=5)
    return whole


def sheet(tiles: Sequence[tuple[Image.Image, str]], heading: Sequence[str], columns: int | None = None) -> Image.Image:
    """Pictures of TILE px with a caption of up to two lines each, row by row below the heading's lines."""
    small, large = _font(12), _font(15)
    columns = columns or min(len(tiles), max(3, round((1.3 * len(tiles)) ** 0.5)))
    across, down = TILE + MARGIN, TILE + 2 * (small.size + 4) + MARGIN
    width = max(columns, 3) * across + MARGIN  # a heading needs some room
    text = _wrapped(heading, large, width - 2 * MARGIN)
    top = len(text) * (large.size + 5) + 2 * MARGIN
    whole = Image.new("RGB", (width, top + -(-len(tiles) // columns) * down), PAPER)
    pen = ImageDraw.Draw(whole)
    pen.multiline_text((MARGIN, MARGIN), "\n".join(text), fill=INK, font=large, spacing=5)
    for number, (drawn, caption) in enumerate(tiles):
        x, y = MARGIN + number % columns * across, top + number // columns * down
        whole.paste(drawn, (x + (TILE - drawn.width) // 2, y + (TILE - drawn.height) // 2))
        shown = "\n".join(_shortened(line, small, TILE) for line in caption.splitlines())
        pen.multiline_text((x, y + TILE + 2), shown, fill=INK, font=small, spacing=3)
    return whole


def _wrapped(lines: Sequence[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines broken to a width in pixels."""
    letters = max(8, int(width / font.getlength("no average letter") * len("no average letter")))
    return [part for line in lines for part in textwrap.wrap(_drawable(line), letters)]


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The end of a text that is too wide: names of slices differ there."""
    text = _drawable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
