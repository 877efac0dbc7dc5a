"""Predicted masks as hemoct.evaluation.sheets draws them.

What is predicted is filled, what is annotated is an outline around it: equal masks do not hide each other, and the two differ
without their colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image, ImageColor
from scipy import ndimage

from hemoct.base import label_meaning
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.data.named_images import ImageFiles
from hemoct.evaluation.overlays import GREEN, enlarged
from hemoct.segmentation import data, figures, hematoma

BLUE, ORANGE = (ImageColor.getrgb(kind[0]) for kind in (figures.EDEMA, figures.CORE))
OPACITY = 0.5


def annotated_masks(work: Workspace, shown: ImageFiles) -> list[Path | None]:
    """The annotated mask of each image, None where there is no file."""
    names = shown.labels.reindex(columns=["mask"])["mask"].fillna("")
    return [work.raw / name if name else None for name in names]


@dataclass(frozen=True)
class MaskDrawing:
    """A Drawing (evaluation.sheets) of predicted masks, of the estimated core in boxes, and of annotated masks."""

    zoom: ClassVar[int] = 2  # a rim of edema is a few pixels wide
    shown: ImageFiles
    masks: Path
    """folder of GROUP/NAME.png, 0 and 255"""
    predicted: np.ndarray
    """pixels of each mask, int (n,)"""
    boxes: list[np.ndarray] | None
    """in which the core is looked for, (k, 6) an image; None: it is not"""
    truth: list[Path | None]
    """annotated masks; None where there is none"""
    mask_value: int | None
    """see data.read_mask"""

    def read(self, row: int) -> np.ndarray:
        """Image, predicted mask, core, annotated mask: uint8 (4, height, width)."""
        grey, mask = (images.read_grey(path) for path in (self.shown.paths[row], self.masks / f"{self.shown.places[row]}.png"))
        nothing, truth = np.zeros_like(grey), self.truth[row]
        core = nothing if self.boxes is None else hematoma.core(grey, self.boxes[row][:, :4])
        annotated = nothing if truth is None else data.read_mask(truth, grey.shape[::-1], self.mask_value)
        return np.stack([grey, mask > 0, core, annotated])

    def picture(self, row: int, pixels: np.ndarray, side: int) -> Image.Image:
        drawn, _ = enlarged(pixels[0], side)
        predicted, core, annotated = (np.asarray(Image.fromarray(mask > 0).resize(drawn.size)) for mask in pixels[1:])
        coloured = np.array(drawn, dtype=float)
        for mask, colour in ((predicted, BLUE), (core, ORANGE)):
            coloured[mask] += OPACITY * (colour - coloured[mask])
        outline = ndimage.binary_dilation(annotated, iterations=max(1, side // 400)) & ~annotated
        coloured[outline] = GREEN
        return Image.fromarray(coloured.round().astype(np.uint8))

    def caption(self, row: int) -> str:
        return f"{self.predicted[row]} px predicted"

    def short(self, row: int) -> str:
        return f"{self.predicted[row]} px predicted" if self.predicted[row] else "nothing predicted"

    def heading(self, rows: Sequence[int]) -> str:
        return f"{label_meaning.lesion(self.shown.layout)} predicted on {(self.predicted[rows] > 0).sum()}"

    def legend(self, rows: Sequence[int]) -> str:
        name = label_meaning.lesion(self.shown.layout)
        colours = [f"blue: predicted {name}"]
        colours += [f"orange: bright core, {hematoma.NOTE} of the bleeding"] if self.boxes is not None else []
        colours += [f"green line: annotated {name}"] if any(self.truth[row] is not None for row in rows) else []
        return ", ".join(colours)
