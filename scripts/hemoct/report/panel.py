"""The picture at the head of README.md: one drawn slice, and what each task says about it. No pixel of a patient."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from hemoct.base import figure
from hemoct.ct import hounsfield
from hemoct.evaluation import overlays
from hemoct.sources import phantom

SIDE, GAP = 256, 8  # px
DRAWN, TOP, LEFT = 320, 36, 16  # px of the drawing, and where the part that is shown begins
LEVEL = 0.54  # where ventricles and basal ganglia can both be seen
BLUE, ORANGE, VIOLET = (86, 180, 233), (255, 176, 0), (204, 121, 220)
TASKS = ("1  hemorrhage: yes", "2  where: box", "3  edema around it", "4  types: IPH and IVH")


def draw(path: Path) -> Path:
    """Write the panel: the slice; its box; its edema; the bleeding in the tissue (IPH) and in the ventricles (IVH) by colour."""
    pixels, bleeding, edema, ventricles = (layer[TOP : TOP + SIDE, LEFT : LEFT + SIDE] for layer in _slice())
    grey = Image.fromarray(pixels).convert("RGB")
    rows, columns = (np.flatnonzero((bleeding | edema).any(axis=axis)) for axis in (1, 0))
    box = grey.copy()
    corners = (columns[0] - 2, rows[0] - 2, columns[-1] + 2, rows[-1] + 2)
    ImageDraw.Draw(box).rectangle(corners, outline=overlays.GREEN, width=2)
    types = _tinted(_tinted(grey, bleeding, ORANGE), ventricles, VIOLET)
    pictures = (grey, box, _tinted(grey, edema, BLUE), types)
    whole = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE + 26), overlays.PAPER)
    pen = ImageDraw.Draw(whole)
    for number, (picture, title) in enumerate(zip(pictures, TASKS, strict=True)):
        left = number * (SIDE + GAP)
        whole.paste(picture, (left, 0))
        pen.text((left + SIDE / 2, SIDE + 13), title, fill=overlays.INK, font=ImageFont.load_default(15), anchor="mm")
    return figure.save(whole.quantize(128, dither=Image.Dither.NONE), path)


def _slice() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A phantom with blood in tissue and ventricles: grey (uint8), bleeding, edema, blood in the ventricles (bool)."""
    head = phantom.make_head((42, 3), slices=12)
    lesion = replace(head.lesion, level=LEVEL, half_height=0.3, radius=0.22, along=0.05, across=-0.42, rim=0.09, hu=66)
    head = replace(head, lesion=lesion, types=frozenset({"IPH", "IVH"}))
    level = np.array([LEVEL])
    volume, without = (phantom.draw_volume(one, level, DRAWN) for one in (head, replace(head, types=frozenset({"IPH"}))))
    ventricles = volume.hu[0] - without.hu[0] > 10  # the same noise in both
    return hounsfield.window(volume.hu[0], phantom.BRAIN), volume.bleeding[0], volume.edema[0], ventricles


def _tinted(picture: Image.Image, mask: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """A mask in half-transparent colour, with a line around it."""
    coloured = np.array(picture, dtype=float)
    coloured[mask] += 0.4 * (np.array(colour) - coloured[mask])
    coloured[ndimage.binary_dilation(mask) & ~mask] = colour
    return Image.fromarray(coloured.round().astype(np.uint8))
