"""The tables that a conversion ends with, and the rules by which slices become series.

slices.csv               one row per slice, for scripts/03_make_labels.py; rows of a series follow one another by position
conversion/headers.csv   what else the headers say: thickness, tilt, where HU come from ...
conversion/bad_files.csv `file, problem` of each file that was passed over

Slices are ordered by their position along the slice normal, from base to vertex, never by file name; only a series in which a
position is missing goes by instance number. The same image twice (SOP instance, position and instance number equal) counts once.
Several images at one position of a series, such as two reconstructions under one number, are passes through the head: the second
pass is a series of its own, SERIES#2. All series are kept; slice numbers of a patient's next series or pass start at the next
hundred, so that no step takes slices of two series for neighbours. spacing_z is the distance between planes, half the way to
either neighbour; with a tilted gantry it is less than the table moved, and slices are not sheared back (neighbours are shifted
in the plane). `patient` is PatientID, else the study, or the file of a NIfTI volume; `group` is the study.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.ingest.conversion_journal import FOLDER, Journal, Row

TABLE, HEADERS, BAD = "slices.csv", f"{FOLDER}/headers.csv", f"{FOLDER}/bad_files.csv"
COLUMNS = {
    TABLE: [
        *("image", "patient", "study", "series", "group", "slice"),
        *("spacing_row", "spacing_col", "spacing_z", "position", "file"),
    ],
    HEADERS: [
        *("image", "study_date", "series_number", "acquisition", "instance", "sop", "plane", "tilt"),
        *("thickness", "spacing_between", "level", "width", "rescale", "air"),
    ],
    BAD: ["file", "problem"],
}
SAME_PLACE_MM = 0.01
TWICE = "is there twice: same SOP instance, position and instance number"
NOTES = {
    "slices without a PatientID: their study counts as the patient": lambda row: row["sop"] and row["patient"] == row["study"],
    "slices without rescale tags: slope 1 and intercept 0 were taken": lambda row: row["rescale"] == "missing",
    "slices whose negative HU had wrapped around were put right": lambda row: row["rescale"] == "unwrapped",
    "slices without any air: look at them; if their intercept got lost, convert again with --intercept -1024": (
        lambda row: not row["air"]
    ),
    "slices that are not axial (column plane of conversion/headers.csv)": lambda row: row["plane"] not in ("", "axial"),
    "slices of a tilted gantry: neighbours are shifted against each other": lambda row: (row["tilt"] or 0) > 1,
    "slices without pixel spacing: volumes will be counts of pixels": lambda row: row["spacing_row"] is None,
}
SEVERAL_SERIES = "patients with several series: all were kept; take out of slices.csv what you do not want"
SEVERAL_PASSES = "series with several images at one position: each pass through the head is a series of its own (SERIES#2)"


@dataclass
class Summary:
    """What came of a conversion, for people."""

    slices: int = 0
    patients: int = 0
    series: int = 0
    bad: int = 0
    first_bad: str = ""
    notes: Counter[str] = field(default_factory=Counter)
    """of how many slices, series or patients something should be known"""

    def lines(self) -> Iterator[str]:
        yield f"{self.slices} slices of {self.patients} patients in {self.series} series"
        if self.bad:
            yield f"{self.bad} files passed over, listed in {BAD} (first: {self.first_bad})"
        yield from (f"  {count} {note}" for note, count in self.notes.items())


def write(journal: Journal, target: Path) -> Summary:
    """Write the three tables from the journal: each whole or not at all; memory holds one patient."""
    summary = Summary()
    with ExitStack() as open_files:
        tables = {name: _open(open_files, target / name, columns) for name, columns in COLUMNS.items()}

        def pass_over(file: str, problem: str) -> None:
            tables[BAD].writerow([file, problem])
            summary.bad += 1
            summary.first_bad = summary.first_bad or f"{file} {problem}"

        for row in journal.problems():
            pass_over(row["path"], row["problem"])
        for of_patient in journal.patients():
            summary.patients += 1
            for row in _number(of_patient, summary):
                tables[TABLE].writerow([row[name] for name in COLUMNS[TABLE]])
                tables[HEADERS].writerow([row[name] for name in COLUMNS[HEADERS]])
            for row in _copies(of_patient):
                pass_over(row["path"], TWICE)
                (target / row["image"]).unlink(missing_ok=True)
        if not summary.slices:
            raise UserError(f"none of {summary.bad} files could be converted (first: {summary.first_bad})")
    return summary


def _open(open_files: ExitStack, path: Path, columns: list[str]) -> Any:
    """A CSV writer whose file gets its name when all are whole."""
    temporary = open_files.enter_context(files.replacing(path))
    writer = csv.writer(open_files.enter_context(temporary.open("w", encoding="utf-8", newline="")), lineterminator="\n")
    writer.writerow(columns)
    return writer


def _number(series: list[list[Row]], summary: Summary) -> Iterator[Row]:
    """The rows of a patient as they stand in the tables: series, slice, spacing_z and position settled."""
    start = 0
    summary.notes.update([SEVERAL_SERIES] * (len(series) > 1))
    for rows in series:
        passes = arrange(rows)
        summary.notes.update([SEVERAL_PASSES] * (len(passes) > 1))
        summary.series += len(passes)
        for number, of_pass in enumerate(passes, start=1):
            name = of_pass[0]["series"] + (f"#{number}" if number > 1 else "")
            for place, row in enumerate(of_pass):
                summary.slices += 1
                summary.notes.update(note for note, applies in NOTES.items() if applies(row))
                yield row | {"series": name, "slice": start + place, "group": row["study"], "file": row["path"]}
            start = ((start + len(of_pass)) // 100 + 1) * 100


def _copies(series: list[list[Row]]) -> Iterator[Row]:
    """Images that are there before under another name."""
    for rows in series:
        seen = set()
        for row in rows:
            yield from [row] * (_identity(row) in seen)
            seen.add(_identity(row))


def _identity(row: Row) -> tuple:
    """Equal for the same image. Its SOP instance alone is not enough: some programs that anonymise give all files the same."""
    return (row["sop"], row["position"], row["instance"]) if row["sop"] else (row["image"],)


def arrange(rows: list[Row]) -> list[list[Row]]:
    """The passes through the head of one series, each from base to vertex, copies left out; with `spacing_z` and `position`.

    A position that only some slices of a series have is worth nothing: then all go by instance number, without a position.
    """
    images = [dict(row) for row in {_identity(row): row for row in reversed(rows)}.values()]
    if any(row["position"] is None for row in images):
        images.sort(key=lambda row: (row["acquisition"] or 0, row["instance"] or 0, row["image"]))
        return [[row | {"position": None, "spacing_z": row["spacing_between"] or row["thickness"]} for row in images]]
    images.sort(key=lambda row: (row["position"], row["acquisition"] or 0, row["instance"] or 0, row["image"]))
    places: list[list[Row]] = []
    for row in images:
        if places and row["position"] - places[-1][0]["position"] < SAME_PLACE_MM:
            places[-1].append(row)
        else:
            places.append([row])
    spacing = spacings([place[0]["position"] for place in places])
    for place, extent in zip(places, spacing, strict=True):
        for row in place:
            row["spacing_z"] = extent or row["spacing_between"] or row["thickness"]
    return [[place[number] for place in places if len(place) > number] for number in range(max(map(len, places)))]


def spacings(positions: list[float]) -> list[float | None]:
    """What each of rising positions (mm) stands for: half the way to either neighbour, at the ends the whole way to the only one.

    None for a single position.
    """
    gaps = [above - below for below, above in pairwise(positions)]
    if not gaps:
        return [None] * len(positions)
    return [round((below + above) / 2, 4) for below, above in zip([gaps[0], *gaps], [*gaps, gaps[-1]], strict=True)]
