"""One scan as the viewer shows it: as it is, or with what scripts/80_predict_scan.py found in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hemoct.prepare import orientation as orientations
from hemoct.scan import source
from hemoct.scan.answer import NO_DIAGNOSIS
from hemoct.scan.reading import Wanted
from hemoct.scan.result import Source
from hemoct.viewer.server import Content, as_json
from hemoct.viewer.volumes import Frame

GREY_LOOK = (1, "brain")


@dataclass(frozen=True)
class ScanView:
    """What is shown of a scan."""

    title: str
    slices: np.ndarray
    """int16 HU or uint8 grey values (n, height, width)"""
    frame: Frame
    names: Sequence[str]
    notes: Sequence[str]
    about: str
    """the slices in words"""
    predicted: Sequence[Sequence[dict[str, Any]]] = ()
    """of each task with labels or boxes, of each slice: as outcomes.Slice"""
    drawn: np.ndarray | None = field(default=None)
    """what lies over the slices, see volumes.layer"""

    def content(self) -> Content:
        of_case: dict[str, Callable[[int], bytes]] = {
            "grey.nii.gz": lambda _: self.frame.nifti(self.slices),
            "slices.json": lambda _: as_json(self._about()),
        }
        if self.drawn is not None:
            drawn = self.drawn
            of_case["prediction.nii.gz"] = lambda _: self.frame.nifti(drawn)
        return Content({"index.json": lambda: as_json(self._index())}, of_case, 1)

    def _index(self) -> dict[str, Any]:
        return {
            "title": self.title, "research": NO_DIAGNOSIS, "kind": "scan", "notes": self.notes, "cases": [self.title],
            "counts": [len(self.slices)], "tasks": [], "hu": self.slices.dtype == np.int16, "truth": False,
            "prediction": self.drawn is not None,
        }  # fmt: skip

    def _about(self) -> dict[str, Any]:
        axis, turned = self.frame.along()
        return {"names": self.names, "truth": None, "axis": axis, "turned": turned, "sides": self.frame.known_sides,
                "about": self.about, "predicted": self.predicted}  # fmt: skip


def content(path: Path) -> Content:
    """The content for the folder of a predicted scan, or for a scan; UserError says why it is neither."""
    read = source.read(path, Wanted(looks=[GREY_LOOK])).source
    return ScanView(path.name, _pixels(read), frame_of(read), read.names, _notes(read), read.series).content()


def _pixels(read: Source) -> np.ndarray:
    return read.grey if read.hu is None else read.hu


def frame_of(read: Source) -> Frame:
    """How the slices of a source lie in space."""
    if read.affine is not None:
        return Frame(read.affine)
    return Frame.of_images(read.grey.shape[2], read.spacing, read.orientation)


def _notes(read: Source) -> list[str]:
    known = orientations.words(read.orientation) if read.orientation != orientations.UNKNOWN else "orientation unknown"
    return [read.series, known, *read.notes, *(f"not shown: {other}" for other in read.others)]
