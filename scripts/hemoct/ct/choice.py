"""Which of several DICOM series is the axial scan of the brain, from headers alone, in words that name no person.

An axial series comes before others, one of more than two slices before a scout, one in a soft-tissue kernel before one in a bone
kernel, one without contrast agent before one with; of those that cover nearly as much as the longest the one with most slices.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from hemoct.base.errors import UserError
from hemoct.ct import dicom, series as ct_series
from hemoct.ct.facts import Facts
from hemoct.ct.series import MOST_SCOUTS, Row
from hemoct.ct.tags import Tags

SOFT, BONE = "soft tissue", "bone"
BONE_NAMES = re.compile(r"BONE|EDGE|SHARP|LUNG|DETAIL|KNOCHEN|^Y[A-D]$|^FC(30|31|8\d)|PETROUS|INNER ?EAR", re.IGNORECASE)
SOFT_NAMES = re.compile(r"SOFT|STANDARD|STND|BRAIN|SMOOTH|^U[ABC]$|^FC(2\d|6\d|0\d|1\d)", re.IGNORECASE)
NUMBERED = re.compile(r"^[HBJ][A-Z]?(\d\d)")
"""of Siemens: H30s, J40s, Hr60; below SHARP_FROM soft"""
SHARP_FROM, BONE_WIDTH = 50, 1500
NEARLY = 0.8
"""of the length of the longest series"""
WHOLE_HEAD = 100.0
"""mm from which on a series covers the brain"""


@dataclass(frozen=True)
class Candidate:
    """A series, or one of the passes through the head under its number."""

    rows: list[Row]
    """its slices from base to vertex: `image` (path), facts, `corner` (ImagePositionPatient), `lie` (ImageOrientationPatient)"""
    kernel: str
    """SOFT, BONE, or "" where it is not known"""
    contrast: bool
    left: list[tuple[Row, str]] = field(default_factory=list)
    """copies and scouts of the series, with the problem"""

    @property
    def plane(self) -> str:
        return self.rows[0]["plane"]

    @property
    def length(self) -> float:
        """mm from the first to the last slice; 0 where it is not known."""
        first, last = self.rows[0]["position"], self.rows[-1]["position"]
        return 0.0 if first is None or last is None else abs(last - first)

    @property
    def spacing(self) -> float | None:
        """mm between slices: the median."""
        known = [row["spacing_z"] for row in self.rows if row.get("spacing_z")]
        return float(np.median(known)) if known else None

    @property
    def words(self) -> str:
        """`axial, 2.5 mm, 32 slices, soft tissue`: no word of it comes from a person."""
        apart = "" if self.spacing is None else f"{self.spacing:.3g} mm"
        many = f"{len(self.rows)} slice{'s' * (len(self.rows) > 1)}"
        kernel = f"{self.kernel} kernel" if self.kernel else ""
        return ", ".join(filter(None, (self.plane or "plane unknown", apart, many, kernel, "contrast agent" * self.contrast)))

    @property
    def merit(self) -> tuple:
        """Without its length and its slices: higher is better."""
        return self.plane in ("axial", ""), len(self.rows) > MOST_SCOUTS, self.kernel != BONE, not self.contrast


def headers(paths: Iterable[Path], any_modality: bool = False) -> tuple[list[Row], dict[Path, str]]:
    """A row for each slice of DICOM files, and the problem of each file that is no slice of CT."""
    rows, problems = [], {}
    for path in paths:
        try:
            rows += [_row(path, facts, tags) for facts, tags in dicom.headers(path, any_modality)]
        except UserError as error:
            problems[path] = str(error).removeprefix(str(path)).strip()
    return rows, problems


def _row(path: Path, facts: Facts, tags: Tags) -> Row:
    lies = {"corner": tags.numbers("ImagePositionPatient", 3), "lie": tags.numbers("ImageOrientationPatient", 6)}
    kernel, contrast = tags.text("ConvolutionKernel"), bool(tags.text("ContrastBolusAgent"))
    return asdict(facts) | lies | {"image": str(path), "kernel": kernel, "contrast": contrast}


def candidates(rows: list[Row]) -> list[Candidate]:
    """All series of the rows, the one to be taken first."""
    series: dict[tuple, list[Row]] = {}
    for row in rows:
        folder = os.path.realpath(Path(row["image"]).parent)
        series.setdefault((row["study"], row["series"] or folder), []).append(row)
    found = []
    for of_series in series.values():
        arranged = ct_series.arrange(of_series)
        for number, of_pass in enumerate(arranged.passes):
            left = [] if number else arranged.left
            found.append(Candidate(of_pass, _kernel(of_pass[0]), any(row["contrast"] for row in of_pass), left))
    best = max(each.merit for each in found)
    longest = max(each.length for each in found if each.merit == best)

    def order(each: Candidate) -> tuple:
        covers = each.length >= min(NEARLY * longest, WHOLE_HEAD)
        return each.merit, covers, len(each.rows)

    return sorted(found, key=order, reverse=True)


def _kernel(row: Row) -> str:
    """From the kernel's name, else from the window and the name of the series."""
    name = row["kernel"]
    if number := NUMBERED.match(name):
        return BONE if int(number[1]) >= SHARP_FROM else SOFT
    for words in (name, row["description"]):
        if BONE_NAMES.search(words):
            return BONE
        if SOFT_NAMES.search(words):
            return SOFT
    return "" if row["width"] is None else BONE if row["width"] >= BONE_WIDTH else SOFT


def chosen(found: list[Candidate], wanted: str | None, folder: Path) -> int:
    """The place of the one that is taken. `wanted`: a number as they are listed, from 1, or a part of their words or names."""
    if wanted is None:
        return 0
    if wanted.isdecimal():
        fits = [int(wanted) - 1] if 0 < int(wanted) <= len(found) else []
    else:
        text = wanted.lower()
        fits = [place for place, each in enumerate(found) if text in f"{each.words}\n{each.rows[0]['description']}".lower()]
    if len(fits) != 1:
        listed = "; ".join(f"{number} {each.words}" for number, each in enumerate(found, 1))
        raise UserError(
            f"{folder}: --series {wanted} fits {len(fits) or 'none'} of its series ({listed}); name one by its number"
        )
    return fits[0]


def affine(rows: list[Row]) -> np.ndarray | None:
    """(column, row, slice, 1) to mm in RAS+ (nibabel), float64 (4, 4); None where a tag is missing. LPS is DICOM's own world.

    The step from slice to slice is that of their corners, so that a tilted gantry shears the volume as it was.
    """
    first, last = rows[0], rows[-1]
    if not all(len(row["corner"]) == 3 and len(row["lie"]) == 6 for row in rows) or not first["spacing_row"]:
        return None
    across, down = np.array(first["lie"][:3]), np.array(first["lie"][3:])
    if min(np.linalg.norm(across), np.linalg.norm(down), np.linalg.norm(np.cross(across, down))) < 0.5:
        return None
    corner = np.array(first["corner"])
    if len(rows) > 1:
        step = (np.array(last["corner"]) - corner) / (len(rows) - 1)
    else:
        step = np.cross(across, down) * (first["thickness"] or 1.0)
    if not np.linalg.norm(step):
        return None
    made = np.eye(4)
    made[:3] = np.column_stack([across * first["spacing_col"], down * first["spacing_row"], step, corner])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ made


def unevenness(rows: list[Row]) -> float:
    """By how much gaps between slices differ, as a share of the median one: one affine cannot tell such."""
    places = np.array([row["position"] for row in rows if row["position"] is not None])
    gaps = np.abs(np.diff(places))
    return float(np.ptp(gaps) / np.median(gaps)) if len(gaps) > 1 and np.median(gaps) > 0 else 0.0
