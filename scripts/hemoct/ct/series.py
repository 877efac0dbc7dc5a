"""How the slices of one series follow one another, and which of its images are none of its slices.

Slices are ordered by their position along the slice normal, from base to vertex. Only a series in which a position is missing, or
in which all have the same, is ordered by acquisition and instance number; where these do not tell the slices apart either, by the
numbers in the file names (2 before 10). The same image twice (equal SOP instance, position, instance number and pixels) counts
once: some anonymising programs give all files one identifier, so different pixels are different slices. Several images at one
position, such as two reconstructions under one series number, are passes through the head.

A scout (localizer, topogram, surview) without a mark of its own is known by what sets it apart from the rest of its series: one
or two images in another plane, or of another matrix or pixel spacing. More images in another plane are a pass of their own.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

Row = dict[str, Any]
"""a slice: `image` (its path), and by name the facts of ingest.dicom.Facts"""
SAME_PLACE_MM = 0.01
MOST_SCOUTS = 2
LEAST_SHARE = 3  # a series has at least so many times as many slices as scouts
TWICE = "is there twice: same SOP instance, position, instance number and pixels"
OTHER_PLANE = "lies in another plane than the slices beside it: a scout, no slice"
OTHER_MATRIX = "has another matrix or pixel spacing than its series: a scout or a report, no slice"
BY_NUMBER, BY_NAME = "instance number", "file name"


@dataclass
class Arranged:
    """The slices of one series in their order, and what was left out."""

    passes: list[list[Row]] = field(default_factory=list)
    """each from base to vertex, rows with `spacing_z` and `position`"""
    left: list[tuple[Row, str]] = field(default_factory=list)
    """copies and scouts, each with the problem"""
    ordered_by: str = ""
    """BY_NUMBER or BY_NAME where positions could not be used"""


def arrange(rows: list[Row]) -> Arranged:
    """The passes through the head of one series, each from base to vertex, without copies and scouts."""
    once = list({_identity(row): row for row in reversed(rows)}.values())
    kept = {id(row) for row in once}
    made = Arranged(left=[(row, TWICE) for row in rows if id(row) not in kept])
    slices, others = _largest(once, lambda row: row.get("plane") or None)
    slices, odd = _largest(slices, _matrix)
    for group in odd:
        if _are_scouts(group, slices):
            made.left += [(row, OTHER_MATRIX) for row in group]
        else:
            slices += group
    for group in [slices, *others]:
        if group is not slices and _are_scouts(group, slices):
            made.left += [(row, OTHER_PLANE) for row in group]
        else:
            passes, ordered_by = _ordered([dict(row) for row in group])
            made.passes += passes
            made.ordered_by = made.ordered_by or ordered_by
    return made


def lone_scouts(series: list[list[Row]]) -> list[list[Row]]:
    """Those series of one study that are no more than one or two images across the axial slices of another series."""
    axial = [rows for rows in series if {row.get("plane") for row in rows} == {"axial"}]
    most = max(map(len, axial), default=0)
    crossing = [rows for rows in series if {row.get("plane") for row in rows} <= {"sagittal", "coronal"}]
    return [rows for rows in crossing if len(rows) <= MOST_SCOUTS and len(rows) * LEAST_SHARE <= most]


def _identity(row: Row) -> tuple:
    """Equal for the same image. What has neither an identifier nor a place is never taken for another image's copy."""
    place = (row["position"], row["instance"], row.get("pixels"))
    return (row["sop"], *place) if row["sop"] or None not in (row["position"], row["instance"]) else (row["image"],)


def _largest(rows: list[Row], key: Callable[[Row], Hashable]) -> tuple[list[Row], list[list[Row]]]:
    """The rows whose key most of them have, with those without a key, and the others by key. Axial wins a tie."""
    counts = Counter(key(row) for row in rows if key(row) is not None)
    if len(counts) < 2:
        return rows, []
    most = max(counts, key=lambda each: (counts[each], each == "axial"))
    others = [[row for row in rows if key(row) == each] for each in counts if each != most]
    return [row for row in rows if key(row) in (most, None)], others


def _matrix(row: Row) -> Hashable:
    spacing = row.get("spacing_row")
    return row.get("pixel_rows"), row.get("pixel_columns"), None if spacing is None else round(spacing, 2)


def _are_scouts(group: list[Row], slices: list[Row]) -> bool:
    return len(group) <= MOST_SCOUTS and len(group) * LEAST_SHARE <= len(slices)


def _ordered(rows: list[Row]) -> tuple[list[list[Row]], str]:
    """The passes of slices in one plane, and what they are ordered by where that is not the position."""
    positions = [row["position"] for row in rows]
    one_place = len(rows) > MOST_SCOUTS and None not in positions and max(positions) - min(positions) < SAME_PLACE_MM
    if None in positions or one_place:
        numbers = [(row["acquisition"] or 0, row["instance"]) for row in rows]
        numbered = None not in [row["instance"] for row in rows] and len({*numbers}) == len(rows)
        rows.sort(key=lambda row: (row["acquisition"] or 0, row["instance"]) if numbered else natural(row["image"]))
        spaced = [row | {"position": None, "spacing_z": row["spacing_between"] or row["thickness"]} for row in rows]
        return [spaced], BY_NUMBER if numbered else BY_NAME
    rows.sort(key=lambda row: (row["position"], row["acquisition"] or 0, row["instance"] or 0, natural(row["image"])))
    places: list[list[Row]] = []
    for row in rows:
        if places and row["position"] - places[-1][0]["position"] < SAME_PLACE_MM:
            places[-1].append(row)
        else:
            places.append([row])
    for place, spacing in zip(places, spacings([place[0]["position"] for place in places]), strict=True):
        for row in place:
            row["spacing_z"] = spacing or row["spacing_between"] or row["thickness"]
    return [[place[number] for place in places if len(place) > number] for number in range(max(map(len, places)))], ""


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts names as people do: `2.dcm` before `10.dcm`, in whatever case they are written."""
    parts = ((digits, "".join(letters)) for digits, letters in groupby(name, key=lambda letter: letter in "0123456789"))
    return [(not digits, int(part) if digits else 0, part.lower()) for digits, part in parts] + [(True, 0, name)]


def spacings(positions: list[float]) -> list[float | None]:
    """What each of rising positions (mm) stands for: half the way to either neighbour, at the ends the whole way to the only one.

    None for a single position.
    """
    gaps = [above - below for below, above in pairwise(positions)]
    if not gaps:
        return [None] * len(positions)
    return [round((below + above) / 2, 4) for below, above in zip([gaps[0], *gaps], [*gaps, gaps[-1]], strict=True)]
