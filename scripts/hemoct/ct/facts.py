"""What is known of one slice of CT beside its pixels, whether it comes from a DICOM file or from a NIfTI volume."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemoct.ct.windows import Window

PLANES = ("sagittal", "coronal", "axial")
AIR_BELOW = -200
"""a head CT without any value below this (HU) has no air, not even fat: its intercept is doubtful"""
FRAMES, UNITS, UNORIENTED, TWO_ORIENTATIONS, GREY = "frames", "units", "unoriented", "two-orientations", "grey"
"""remarks, see Facts.remarks"""


@dataclass(frozen=True)
class Facts:
    """What a header says about a slice; None or "" if it says nothing. Lengths in mm."""

    patient: str = ""
    study: str = ""
    study_date: str = ""
    series: str = ""
    series_number: int | None = None
    sop: str = ""
    """SOP Instance UID"""
    acquisition: int | None = None
    instance: int | None = None
    position: float | None = None
    """of the slice along its normal, rising towards the head (axial), the front or the right; with a tilted gantry the distance
    between two positions is that between the planes, which is less than the table moved"""
    plane: str = ""
    """one of PLANES, the nearest"""
    tilt: float | None = None
    """degrees between the normal and the axis of `plane`"""
    spacing_row: float | None = None
    """distance between rows"""
    spacing_col: float | None = None
    thickness: float | None = None
    spacing_between: float | None = None
    level: float | None = None
    """of the window in the file, the first if there are several"""
    width: float | None = None
    rescale: str = "tags"
    """source of the HU: `tags`, `missing` (1 and 0 were used), `given` (by the user), `unwrapped`"""
    air: bool = True
    """whether anything is below AIR_BELOW"""
    unreadable: str = ""
    """names of the tags that are there but hold no value that can be used"""
    description: str = ""
    """of the series"""
    pixel_rows: int | None = None
    """in the file"""
    pixel_columns: int | None = None
    pixels: str = ""
    """a digest: equal for equal HU"""
    stored: int | None = None
    """the place of the slice in a file that holds several, from 0, in the file's order"""
    scale_row: float = 1.0
    """by what rows were stretched for square pixels; spacing_row is that of the image"""
    scale_col: float = 1.0
    remarks: str = ""
    """words with a blank between: FRAMES (in a file of several, without a position), UNITS (the volume's voxels were not in mm),
    UNORIENTED (the volume does not say where right and head are), TWO_ORIENTATIONS (it says so twice, and not the same), GREY (it
    holds whole numbers from 0 to 255)"""

    @property
    def window(self) -> Window | None:
        """The window that the file names for itself."""
        return None if self.level is None or self.width is None else Window(self.level, self.width)


def about_pixels(hu: np.ndarray) -> dict[str, Any]:
    """The facts of a slice that its pixels tell."""
    digest = hashlib.blake2b(np.ascontiguousarray(hu), digest_size=12).hexdigest()
    return {"pixel_rows": hu.shape[0], "pixel_columns": hu.shape[1], "pixels": digest, "air": bool(hu.min() < AIR_BELOW)}


def describe_place(normal: np.ndarray, corner: list[float] | np.ndarray) -> tuple[float, str, float]:
    """Position (mm), the nearest of PLANES and the tilt (degrees) of a slice through `corner` with a unit `normal`, both (3,)."""
    axis = int(np.abs(normal).argmax())
    upwards = normal * math.copysign(1, normal[axis])
    return round(float(upwards @ np.asarray(corner)), 4), PLANES[axis], round(math.degrees(math.acos(min(1.0, upwards[axis]))), 2)


def _remarked(word: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: word in row["remarks"].split()


def _is_stretched(row: dict[str, Any]) -> bool:
    return (row["scale_row"], row["scale_col"]) != (1, 1)


def _is_oblong(row: dict[str, Any]) -> bool:
    sides = row["spacing_row"], row["spacing_col"]
    return None not in sides and not 0.1 < sides[0] / sides[1] < 10


NOTES: dict[str, Callable[[dict[str, Any]], object]] = {
    "slices without a PatientID: their study counts as the patient": lambda row: row["sop"] and row["patient"] == row["study"],
    "slices without rescale tags: slope 1 and intercept 0 were used": lambda row: row["rescale"] == "missing",
    "slices whose negative HU had wrapped around were corrected": lambda row: row["rescale"] == "unwrapped",
    "slices without any air: look at them; if their intercept got lost, convert again with --intercept -1024": (
        lambda row: not row["air"] and not _remarked(GREY)(row)
    ),
    "slices that are not axial (column plane of conversion/headers.csv)": lambda row: row["plane"] not in ("", "axial"),
    "slices of a tilted gantry: neighbours are shifted against each other": lambda row: (row["tilt"] or 0) > 1,
    "slices with tags that cannot be read (column unreadable of conversion/headers.csv): unknown": lambda row: row["unreadable"],
    "slices without pixel spacing: volumes will be counts of pixels": lambda row: row["spacing_row"] is None,
    "slices had pixels longer one way than the other and were stretched to square ones": _is_stretched,
    "slices have pixels over ten times longer one way than the other: left as they are; is their spacing right?": _is_oblong,
    "slices are frames without a position of a file of several: they keep its order": _remarked(FRAMES),
    "slices of volumes whose voxel size is not in mm: it was converted": _remarked(UNITS),
    "slices of volumes of grey values from 0 to 255, no HU: to keep these, convert again with --window 127.5/255": _remarked(
        GREY
    ),
    "slices of volumes that do not say where right and left are: look at them, they may be mirrored": _remarked(UNORIENTED),
    "slices of volumes with two orientations that differ: the sform was taken": _remarked(TWO_ORIENTATIONS),
}
"""what a user should know of slices, in words after their number; and whether it is so, from facts as a dictionary"""
