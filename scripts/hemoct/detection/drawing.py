"""Pictures of slices with boxes: predicted ones as hemoct.evaluation.sheets draws them, and the regions that a gate sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from hemoct.base import figure as base_figure
from hemoct.base import label_meaning, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.data.slices import SliceData
from hemoct.detection import gate
from hemoct.detection.predict import AnnotatedFiles
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import overlays

TRUTH, SQUARE = "#ffb000", "#56b4e9"


@dataclass(frozen=True)
class BoxDrawing:
    """A sheets.Drawing of predicted boxes, (k, 6) an image, and of the annotated ones."""

    zoom: ClassVar[int] = 1
    files: AnnotatedFiles
    predicted: list[np.ndarray]

    def read(self, row: int) -> np.ndarray:
        return images.read_grey(self.files.paths[row])

    def picture(self, row: int, pixels: np.ndarray, side: int) -> Image.Image:
        files = self.files
        return overlays.picture(pixels, self.predicted[row], files.truth[row], side, files.classes, files.truth_class[row])

    def caption(self, row: int) -> str:
        truth = self.files.truth[row]
        annotated = "" if truth is None else f", {len(truth)} annotated"
        return f"{len(self.predicted[row])} box(es) predicted{annotated}"

    def short(self, row: int) -> str:
        boxes = self.predicted[row]
        return f"predicted, {boxes[0, 4]:.2f}" if len(boxes) else "no box predicted"

    def heading(self, rows: Sequence[int]) -> str:
        annotated = self._annotated(rows)
        positive = f", annotated on {sum(len(truth) > 0 for truth in annotated)}" if annotated else ""
        return f"box predicted on {sum(len(self.predicted[row]) > 0 for row in rows)}{positive}"

    def legend(self, rows: Sequence[int]) -> str:
        return overlays.legend(self.files.layout, bool(self._annotated(rows)))

    def _annotated(self, rows: Sequence[int]) -> list[np.ndarray]:
        return [self.files.truth[row] for row in rows if self.files.truth[row] is not None]


# ---- the regions of a gate


def regions(work: Workspace, data: SliceData, compared: gate.Compared, squares: pd.DataFrame, count: int) -> Figure | None:
    """Test slices by the detector's answer, `count` of each kind, with the region that the gate saw below each.

    `squares`: see gate.squares_of. None where there is nothing to show, or where the detector alone gives no answer.
    """
    kinds = {} if compared.alone is None else gate.examples(compared.evaluation, compared.alone, count)
    if not kinds:
        return None
    boxes, files_of = tables.read_boxes(work), data.table.set_index("image_id")["image"]
    figure, axes = base_figure.figure(2 * len(kinds), count, width=1.75, height=2.1, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for line, (kind, table) in enumerate(kinds.items()):
        for column, case in enumerate(table.itertuples()):
            truth = boxes.loc[boxes["image_id"] == case.image_id, CORNERS].to_numpy(dtype=float)
            grey = images.read_grey(work.raw / files_of[case.image_id])
            square = squares.loc[(case.image_id, case.fold), CORNERS].to_numpy(dtype=int)
            _pair(axes[2 * line : 2 * line + 2, column], grey, square, truth)
            detector = f"detector {case.confidence:.3f}" if square.any() else "no box: whole slice"
            axes[2 * line, column].set_title(f"{case.image_id}\n{detector}", fontsize=7.5)
            answer = "positive" if case.called else "negative"
            axes[2 * line + 1, column].set_title(f"gate {case.p:.3f}: {answer}", fontsize=7.5)
        _headline(axes[2 * line, 0], kind)
    base_figure.title(figure, _caption(compared, data.layout))
    return figure


def _headline(axis: Axes, kind: str) -> None:
    """Name a row: left above the titles of its slices, which get two empty lines for it."""
    axis.set_title(f"\n\n{axis.get_title()}", fontsize=7.5)
    shown = axis.annotate(
        kind, (0, 1), (0, 32), xycoords="axes fraction", textcoords="offset points", fontsize=9, fontweight="bold"
    )
    shown.set_in_layout(False)  # it may be wider than its column


def _caption(compared: gate.Compared, layout: str) -> str:
    means = f" ({label_meaning.BOX[layout]})" if layout in label_meaning.BOX else ""
    content = compared.content
    return (
        f"{content['experiment']} on {content['dataset']}, {content['folds_done']}, test slices from the least to the most "
        "probable: above the slice, below the region that the gate saw. "
        f"Amber: annotated box{means}; blue, dashed: region"
    )


def _pair(axes: np.ndarray, grey: np.ndarray, square: np.ndarray, truth: np.ndarray) -> None:
    """The slice with its region marked, and below it the region alone, black beyond the slice."""
    height, width = grey.shape
    x, y, right, bottom = square if square.any() else (0, 0, width, height)
    axes[1].add_patch(Rectangle((x - 0.5, y - 0.5), right - x, bottom - y, color="black", zorder=-1))
    for axis in axes:
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
        for box in truth:
            _outline(axis, box, TRUTH, "-")
    if square.any():
        _outline(axes[0], square, SQUARE, "--")
    axes[1].set(xlim=(x - 0.5, right - 0.5), ylim=(bottom - 0.5, y - 0.5))


def _outline(axis: Axes, box: np.ndarray, colour: str, style: str) -> None:
    corner = box[0] - 0.5, box[1] - 0.5  # imshow puts the middle of the first pixel at 0
    axis.add_patch(Rectangle(corner, box[2] - box[0], box[3] - box[1], fill=False, color=colour, linestyle=style))
