"""One scan as the viewer shows it: as it is, or with what scripts/80_predict_scan.py found in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError, one_line
from hemoct.ct import nifti
from hemoct.data import images
from hemoct.detection.predictions import CORNERS
from hemoct.prepare import orientation as orientations
from hemoct.scan import source
from hemoct.scan.answer import NO_DIAGNOSIS
from hemoct.scan.reading import Wanted
from hemoct.viewer.server import Content, as_json
from hemoct.viewer.volumes import Frame, layer

WORDS = {"boxes": "box(es)", "edema_px": "px edema", "core_px_unvalidated": "px core (unvalidated)"}
"""columns of slices.csv that are told of a slice"""
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
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)
    """what lies over the slices, `prediction` and `core`, see volumes.layer"""

    def content(self) -> Content:
        of_case: dict[str, Callable[[int], bytes]] = {
            "grey.nii.gz": lambda _: self.frame.nifti(self.slices),
            "slices.json": lambda _: as_json(self._about()),
        }
        for name, drawn in self.drawn.items():
            of_case[f"{name}.nii.gz"] = lambda _, drawn=drawn: self.frame.nifti(drawn)
        return Content({"index.json": lambda: as_json(self._index())}, of_case, 1)

    def _index(self) -> dict[str, Any]:
        return {
            "title": self.title, "research": NO_DIAGNOSIS, "kind": "scan", "notes": self.notes, "cases": [self.title],
            "counts": [len(self.slices)], "tasks": [], "hu": self.slices.dtype == np.int16, "truth": False,
            "layers": list(self.drawn),
        }  # fmt: skip

    def _about(self) -> dict[str, Any]:
        axis, turned = self.frame.along()
        return {"names": self.names, "truth": None, "axis": axis, "turned": turned, "sides": self.frame.known_sides,
                "about": self.about, "predicted": self.predicted}  # fmt: skip


def content(path: Path) -> Content:
    """The content for the folder of a predicted scan, or for a scan; UserError says why it is neither."""
    return (_predicted(path) if (path / "scan.json").is_file() else _alone(path)).content()


def _alone(path: Path) -> ScanView:
    read = source.read(path, Wanted(looks=[GREY_LOOK])).source
    pixels = read.grey if read.hu is None else read.hu
    lies = Frame(read.affine) if read.affine is not None else _of_images(read.grey.shape[2], read.spacing, read.orientation)
    notes = [_nose(read.orientation), *read.notes, *(f"not shown: {other}" for other in read.others)]
    return ScanView(path.resolve().name, pixels, lies, read.names, notes, read.series)


def _of_images(width: int, spacing: Sequence[float] | None, nose: str) -> Frame:
    return Frame.of_images(width, tuple(spacing) if spacing else None, nose)


def _nose(orientation: str) -> str:
    return orientations.words(orientation) if orientation != orientations.UNKNOWN else "orientation unknown"


# ---- the folder of a predicted scan


def _predicted(folder: Path) -> ScanView:
    said = files.read_json(folder / "scan.json")
    about = said["scan"]
    shape = (about["slices"], about["rows"], about["columns"])
    table = tables.read_csv(folder / "slices.csv", ["slice", "name"])
    pixels = _volume(folder / "scan.nii.gz", about["kind"] == "nifti")
    if pixels.shape != shape or len(table) != len(pixels):
        raise UserError(
            f"{folder}: scan.nii.gz, slices.csv and scan.json are not of one scan; run scripts/80_predict_scan.py again"
        )
    lies = _of_images(shape[2], about["spacing"], about["nose"]) if about["affine"] is None else Frame(np.array(about["affine"]))
    none = [np.zeros((0, 4))] * len(table)
    edema, core, boxes = (
        _masks(folder / "masks" / "edema", shape),
        _masks(folder / "masks" / "core", shape),
        _boxes(folder, shape[0]),
    )
    drawn = {} if edema is None and boxes is None else {"prediction": layer(edema, boxes or none, shape)}
    drawn |= {} if core is None else {"core": layer(core, none, shape)}
    notes = [
        *(f"{line['asked']}: {line['said']}. {line['more']}" for line in said["answer"]),
        *said["notes"],
        _nose(about["nose"]),
    ]
    slices = [_labels(said["labels"], table, number) for number in range(len(table))]
    return ScanView(
        folder.resolve().name, pixels, lies, table["name"].astype(str).tolist(), notes, about["series"], [slices], drawn
    )


def _volume(path: Path, cut: bool) -> np.ndarray:
    """The slices of scan.nii.gz (n, height, width). `cut`: they are those that are cut of a volume, which is stored as it was."""
    if cut:
        slices = (np.clip(np.rint(hu), -32768, 32767).astype(np.int16) for hu, _ in nifti.read(path))
        return np.stack(list(slices))
    try:
        stored = np.asarray(nib.load(path).dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); run scripts/80_predict_scan.py again") from None
    return stored.transpose(2, 1, 0).astype(np.uint8 if stored.dtype == np.uint8 else np.int16)


def _masks(folder: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The masks of a folder as scan.write numbers them, bool of `shape`; None without any."""
    if not folder.is_dir():
        return None
    masks = np.stack([images.read_grey(folder / f"{number:03d}.png") > 0 for number in range(1, shape[0] + 1)])
    if masks.shape != shape:
        raise UserError(f"{folder} holds masks of another size than the scan; run scripts/80_predict_scan.py again")
    return masks


def _boxes(folder: Path, slices: int) -> list[np.ndarray] | None:
    """boxes.csv slice by slice, float (k, 4); None where task 2 has not looked."""
    if not (folder / "boxes.csv").exists():
        return None
    frame = tables.read_csv(folder / "boxes.csv", ["slice", *CORNERS], rows=False)
    return [frame.loc[frame["slice"] == number, CORNERS].to_numpy(dtype=float) for number in range(1, slices + 1)]


def _labels(labels: Sequence[dict[str, Any]], table: pd.DataFrame, number: int) -> dict[str, Any]:
    """A row of slices.csv as outcomes.Slice."""
    row, found = table.iloc[number], []
    for label in labels:
        name = (
            f"p_{label['label']}_types" if label["task"] == 4 and f"p_{label['label']}_types" in table else f"p_{label['label']}"
        )
        called = number + 1 in label["slices"]
        found.append([label["label"], round(float(row[name]), 4), label["threshold"], called, None])
    words = [f"{row[name]:.0f} {text}" for name, text in WORDS.items() if name in table and row[name] > 0]
    words += ["in training or validation of a model"] * bool(row.get("seen", 0))
    return {"labels": found, "words": ", ".join(words)}
