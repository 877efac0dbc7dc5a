"""Predicted boxes as hemoct.evaluation.sheets draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from hemoct.data import images
from hemoct.detection.predict import Known
from hemoct.evaluation import overlays


@dataclass(frozen=True)
class BoxDrawing:
    """A plots_predicted.Drawing of the boxes that were found, (k, 6) an image, and of the annotated ones."""

    zoom: ClassVar[int] = 1
    known: Known
    found: list[np.ndarray]

    def read(self, row: int) -> np.ndarray:
        return images.read_grey(self.known.paths[row])

    def picture(self, row: int, pixels: np.ndarray, side: int) -> Image.Image:
        known = self.known
        return overlays.picture(pixels, self.found[row], known.truth[row], side, known.classes, known.truth_class[row])

    def caption(self, row: int) -> str:
        truth = self.known.truth[row]
        annotated = "" if truth is None else f", {len(truth)} annotated"
        return f"{len(self.found[row])} box(es) predicted{annotated}"

    def short(self, row: int) -> str:
        found = self.found[row]
        return f"predicted, {found[0, 4]:.2f}" if len(found) else "no box predicted"

    def heading(self, rows: Sequence[int]) -> str:
        annotated = self._annotated(rows)
        positive = f", annotated on {sum(len(truth) > 0 for truth in annotated)}" if annotated else ""
        return f"box predicted on {sum(len(self.found[row]) > 0 for row in rows)}{positive}"

    def legend(self, rows: Sequence[int]) -> str:
        return overlays.legend(self.known.layout, bool(self._annotated(rows)))

    def _annotated(self, rows: Sequence[int]) -> list[np.ndarray]:
        return [self.known.truth[row] for row in rows if self.known.truth[row] is not None]
