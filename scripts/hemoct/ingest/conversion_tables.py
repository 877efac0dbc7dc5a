"""What a conversion has done so far (a journal on disk), the tables it ends with, and how slices become series.

conversion/journal.sqlite  each source file and the facts of its slices, while the conversion is unfinished
slices.csv                 one row per slice, for scripts/03_make_labels.py; rows of a series follow one another by position
conversion/headers.csv     what else the headers say: thickness, tilt, where HU come from ...
conversion/bad_files.csv   `file, problem` of each file that was skipped

Slices are ordered by their position along the slice normal, from base to vertex, never by file name. Only a series in which a
position is missing is ordered by instance number. The same image twice (equal SOP instance, position and instance number) counts
once. Several images at one position of a series, such as two reconstructions under one series number, are passes through the
head: the second pass is a series of its own, SERIES#2. All series are kept. The slice numbers of a patient's next series or pass
start at the next hundred, so that no step takes slices of two series for neighbours. spacing_z is the distance between planes:
half the way to either neighbour. With a tilted gantry it is less than the table moved, and slices are not sheared back
(neighbours are shifted in the plane). `patient` is PatientID, else the study or the NIfTI file; `group` is the study.
"""

import csv
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, fields
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.ingest.dicom import Facts

IMAGES, FOLDER = "images", "conversion"
TABLE, HEADERS, BAD = "slices.csv", f"{FOLDER}/headers.csv", f"{FOLDER}/bad_files.csv"
COLUMNS = {
    TABLE: [
        *("image", "patient", "study", "series", "group", "slice"),
        *("spacing_row", "spacing_col", "spacing_z", "position", "file"),
    ],
    HEADERS: [
        *("image", "study_date", "series_number", "acquisition", "instance", "sop", "plane", "tilt"),
        *("thickness", "spacing_between", "level", "width", "rescale", "air", "unreadable"),
    ],
    BAD: ["file", "problem"],
}
FACTS = [each.name for each in fields(Facts)]
SCHEMA = f"""
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;  -- nothing waits for the disk, and even a power cut breaks nothing
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS settings (content TEXT);
CREATE TABLE IF NOT EXISTS sources (path TEXT PRIMARY KEY, name TEXT UNIQUE, stamp TEXT, done INTEGER, problem TEXT);
CREATE TABLE IF NOT EXISTS slices (image TEXT PRIMARY KEY, path TEXT, {", ".join(FACTS)});
CREATE INDEX IF NOT EXISTS slices_of ON slices (path);
"""
PAGE = 1000
SAME_PLACE_MM = 0.01
TWICE = "is there twice: same SOP instance, position and instance number"
NOTES = {
    "slices without a PatientID: their study counts as the patient": lambda row: row["sop"] and row["patient"] == row["study"],
    "slices without rescale tags: slope 1 and intercept 0 were used": lambda row: row["rescale"] == "missing",
    "slices whose negative HU had wrapped around were corrected": lambda row: row["rescale"] == "unwrapped",
    "slices without any air: look at them; if their intercept got lost, convert again with --intercept -1024": (
        lambda row: not row["air"]
    ),
    "slices that are not axial (column plane of conversion/headers.csv)": lambda row: row["plane"] not in ("", "axial"),
    "slices of a tilted gantry: neighbours are shifted against each other": lambda row: (row["tilt"] or 0) > 1,
    "slices with tags that cannot be read (column unreadable of conversion/headers.csv): unknown": lambda row: row["unreadable"],
    "slices without pixel spacing: volumes will be counts of pixels": lambda row: row["spacing_row"] is None,
}
SEVERAL_SERIES = "patients with several series: all were kept; delete from slices.csv what you do not want"
SEVERAL_PASSES = "series with several images at one position: each pass through the head is a series of its own (SERIES#2)"
Row = dict[str, Any]
"""a slice: `image`, `path` (its source) and FACTS"""


@dataclass(frozen=True)
class Source:
    """One file to convert: its path below the source folder, and that of its slices below the target, without .png."""

    path: str
    name: str


@dataclass(frozen=True)
class Converted:
    """The result for one file: the images written, each with its facts, or the problem."""

    path: str
    slices: tuple[tuple[str, Facts], ...] = ()
    problem: str = ""


class Journal:
    """An SQLite file in the target folder. It survives a kill at any moment; one process at a time may have it open."""

    def __init__(self, target: Path) -> None:
        self.path = target / FOLDER / "journal.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.base = sqlite3.connect(self.path, timeout=1)
        self.base.row_factory = sqlite3.Row
        self.close = self.base.close
        try:
            self.base.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path} cannot be opened ({error}); wait for the conversion that has it open") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} is broken ({error}); delete {target} and convert again") from None

    def begin(self, settings: str) -> None:
        """Note the settings of a new conversion; an unfinished one that had others stops."""
        with self.base:
            new = "INSERT INTO settings SELECT ? WHERE NOT EXISTS (SELECT * FROM settings)"
            self.base.execute(new, [f"{settings} {FACTS}"])
        if self.base.execute("SELECT content FROM settings").fetchone()["content"] != f"{settings} {FACTS}":
            raise UserError(
                f"{self.path.parents[1]} holds an unfinished conversion of another source or with other flags; "
                "finish that with its flags, or delete the folder"
            )

    def list_sources(self, folder: Path, sources: Iterable[Source]) -> None:
        """List the files below `folder` that are to be converted. A file that has changed since is due again."""
        with self.base:
            for source in sources:
                status = (folder / source.path).stat()
                self._list_source(source, f"{status.st_size} {status.st_mtime_ns}")
            # What was bad may be good now: a decoder was installed, a permission given.
            self.base.execute("UPDATE sources SET done = NULL, problem = NULL WHERE problem IS NOT NULL")

    def _list_source(self, source: Source, stamp: str) -> None:
        values = {"path": source.path, "name": source.name, "whole": f"{IMAGES}/{source.path}", "stamp": stamp}
        try:
            known = self.base.execute("SELECT stamp FROM sources WHERE path = :path", values).fetchone()
        except UnicodeEncodeError:
            raise UserError(f"{source.path!r} has a name that is no text (UTF-8); rename the file") from None
        if known is None:
            taken = "EXISTS (SELECT * FROM sources WHERE name = :name)"  # `1` beside `1.dcm`
            self.base.execute(f"INSERT INTO sources VALUES (:path, iif({taken}, :whole, :name), :stamp, NULL, NULL)", values)
        elif known["stamp"] != stamp:
            self.base.execute("UPDATE sources SET stamp = :stamp, done = NULL WHERE path = :path", values)

    def counts(self) -> tuple[int, int]:
        """How many files there are, and how many of them are done."""
        return tuple(self.base.execute("SELECT COUNT(*), COUNT(done) FROM sources").fetchone())

    def waiting(self) -> Iterator[Source]:
        """The files that are not done, a page at a time, since the table changes meanwhile."""
        last = 0
        query = "SELECT rowid, path, name FROM sources WHERE done IS NULL AND rowid > ? ORDER BY rowid LIMIT ?"
        while rows := self.base.execute(query, [last, PAGE]).fetchall():
            yield from (Source(row["path"], row["name"]) for row in rows)
            last = rows[-1]["rowid"]

    def add(self, results: list[Converted]) -> None:
        """Mark files as done, with their slices or their problem."""
        marks = ", ".join("?" * (len(FACTS) + 2))
        with self.base:
            for result in results:
                self.base.execute("DELETE FROM slices WHERE path = ?", [result.path])
                rows = [(image, result.path, *astuple(facts)) for image, facts in result.slices]
                self.base.executemany(f"INSERT OR REPLACE INTO slices VALUES ({marks})", rows)
                problem = result.problem or None
                self.base.execute("UPDATE sources SET done = 1, problem = ? WHERE path = ?", [problem, result.path])

    def problems(self) -> Iterator[sqlite3.Row]:
        return self.base.execute("SELECT path, problem FROM sources WHERE problem IS NOT NULL ORDER BY path")

    def patients(self) -> Iterator[list[list[Row]]]:
        """The slices of each patient, by series in the order in which they were made: memory holds one patient."""
        rows = map(dict, self.base.execute("SELECT * FROM slices ORDER BY patient, study, series, path, instance"))
        for _, patient in groupby(rows, key=lambda row: row["patient"]):
            series = [list(group) for _, group in groupby(patient, key=lambda row: (row["study"], row["series"]))]
            yield sorted(series, key=lambda rows: (rows[0]["study_date"], rows[0]["study"], rows[0]["series_number"] or 0))


@dataclass
class Summary:
    """The result of a conversion, for people."""

    slices: int = 0
    patients: int = 0
    series: int = 0
    bad: int = 0
    first_bad: str = ""
    notes: Counter[str] = field(default_factory=Counter)
    """for how many slices, series or patients something should be known"""

    def lines(self) -> Iterator[str]:
        yield f"{self.slices} slices of {self.patients} patients in {self.series} series"
        if self.bad:
            yield f"{self.bad} files were skipped, listed in {BAD} (first: {self.first_bad})"
        yield from (f"  {count} {note}" for note, count in self.notes.items())


def write(journal: Journal, target: Path) -> Summary:
    """Write the three tables from the journal: each whole or not at all; memory holds one patient."""
    summary = Summary()
    with ExitStack() as open_files:
        writers = {}
        for name, columns in COLUMNS.items():
            temporary = open_files.enter_context(files.replacing(target / name))
            stream = open_files.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            writers[name] = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
            writers[name].writeheader()

        def skip(file: str, problem: str) -> None:
            writers[BAD].writerow({"file": file, "problem": problem})
            summary.bad += 1
            summary.first_bad = summary.first_bad or f"{file} {problem}"

        for row in journal.problems():
            skip(row["path"], row["problem"])
        for series in journal.patients():
            summary.patients += 1
            numbered = list(_number(series, summary))
            writers[TABLE].writerows(numbered)
            writers[HEADERS].writerows(numbered)
            kept = {row["image"] for row in numbered}
            for copy in (row for rows in series for row in rows if row["image"] not in kept):
                skip(copy["path"], TWICE)
                (target / copy["image"]).unlink(missing_ok=True)
        if not summary.slices:
            raise UserError(f"none of {summary.bad} files could be converted (first: {summary.first_bad})")
    return summary


def _number(series: list[list[Row]], summary: Summary) -> Iterator[Row]:
    """The rows of one patient's series as they stand in the tables, with series, slice, spacing_z and position."""
    start = 0
    summary.notes.update([SEVERAL_SERIES] * (len(series) > 1))
    for rows in series:
        passes = arrange(rows)
        summary.notes.update([SEVERAL_PASSES] * (len(passes) > 1))
        summary.series += len(passes)
        for number, pass_rows in enumerate(passes, start=1):
            name = pass_rows[0]["series"] + (f"#{number}" if number > 1 else "")
            for place, row in enumerate(pass_rows):
                summary.slices += 1
                summary.notes.update(note for note, applies in NOTES.items() if applies(row))
                yield row | {"series": name, "slice": start + place, "group": row["study"], "file": row["path"]}
            start = ((start + len(pass_rows)) // 100 + 1) * 100


def _identity(row: Row) -> tuple:
    """Equal for the same image. The SOP instance alone is not enough: some anonymising programs give all files the same."""
    return (row["sop"], row["position"], row["instance"]) if row["sop"] else (row["image"],)


def arrange(rows: list[Row]) -> list[list[Row]]:
    """The passes through the head of one series, each from base to vertex, without copies; with `spacing_z` and `position`.

    A position that only some slices of a series have is useless: then all are ordered by instance number, without a position.
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
    for place, spacing in zip(places, spacings([place[0]["position"] for place in places]), strict=True):
        for row in place:
            row["spacing_z"] = spacing or row["spacing_between"] or row["thickness"]
    return [[place[number] for place in places if len(place) > number] for number in range(max(map(len, places)))]


def spacings(positions: list[float]) -> list[float | None]:
    """What each of rising positions (mm) stands for: half the way to either neighbour, at the ends the whole way to the only one.

    None for a single position.
    """
    gaps = [above - below for below, above in pairwise(positions)]
    if not gaps:
        return [None] * len(positions)
    return [round((below + above) / 2, 4) for below, above in zip([gaps[0], *gaps], [*gaps, gaps[-1]], strict=True)]
