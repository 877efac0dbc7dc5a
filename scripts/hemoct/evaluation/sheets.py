"""The pictures of predicted images, whatever is predicted on them: an overlay of each, a sheet of each patient."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from hemoct.base import files
from hemoct.data import images
from hemoct.data.named_images import ImageFiles
from hemoct.evaluation.overlays import TILE, overlay, sheet

OVERLAY = 512  # px of an overlay's long side at least
PAGE = 60  # slices on a sheet
SEEN = "in training or validation of a model: what is predicted here is no honest result"


class Drawing(Protocol):
    """What a task shows of images; rows are those of their ImageFiles."""

    zoom: int
    """by how much overlays are larger than OVERLAY"""

    def read(self, row: int) -> np.ndarray:
        """All that `picture` needs of an image: uint8 (..., height, width). Called ahead, in threads."""

    def picture(self, row: int, pixels: np.ndarray, side: int) -> Image.Image:
        """The image with its long side `side` px and what is predicted on it. `pixels`: see `read`."""

    def caption(self, row: int) -> str:
        """What is predicted, in words."""

    def short(self, row: int) -> str:
        """The same in a few words, below a tile."""

    def heading(self, rows: Sequence[int]) -> str:
        """What is predicted on the images of a group, in words."""

    def legend(self, rows: Sequence[int]) -> str:
        """What the colours on these images mean."""


def replace(out: Path, shown: ImageFiles, drawing: Drawing | None) -> list[Path]:
    """Make out/overlays and out/patients anew, see `write`; returns them. Without a `drawing` those of an earlier call go."""
    places = [out / "overlays", out / "patients"]
    if drawing is None:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        return []
    with files.replacing_folder(places[0]) as overlays, files.replacing_folder(places[1]) as sheets:
        write(overlays, sheets, shown, drawing)
    return places


def write(overlays: Path, sheets: Path, shown: ImageFiles, drawing: Drawing) -> None:
    """One overlay an image, overlays/GROUP/NAME.png, and one sheet a group, sheets/GROUP.png (`.page2` ... after PAGE images).

    Images are decoded one after the other in the order of `shown`: memory does not grow with their number.
    """
    decoded = images.decode(range(len(shown.table)), desc="draw", read=drawing.read)
    for group, rows in shown.groups().items():
        heading = [f"{group}: {len(rows)} images, {drawing.heading(rows)}", drawing.legend(rows)]
        heading += [f"* {SEEN}"] if shown.seen[rows].any() else []
        for page, start in enumerate(range(0, len(rows), PAGE), 1):
            tiles = []
            for row in rows[start : start + PAGE]:
                pixels, seen = next(decoded), shown.seen[row]
                side = max(pixels.shape[-2:])
                large = drawing.picture(row, pixels, drawing.zoom * side * -(-OVERLAY // side))  # a whole multiple of the image
                lines = [f"{shown.title(row)}: {drawing.caption(row)}", drawing.legend([row]), *([SEEN] if seen else [])]
                _save(overlay(large, lines), overlays / f"{shown.places[row]}.png")
                caption = f"{shown.title(row)}{' *' if seen else ''}\n{drawing.short(row)}"
                tiles.append((drawing.picture(row, pixels, TILE), caption))
            name = group if page == 1 else f"{group}.page{page}"
            _save(sheet(tiles, heading), sheets / f"{name}.png")


def _save(drawn: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path, compress_level=3)  # twice as fast as the default, no larger
