"""What a conversion has done so far (a journal on disk), and the tables it ends with.

conversion/journal.sqlite  each source file and the facts of its slices, while the conversion is unfinished; a shard has its own
slices.csv                 one row per slice, for scripts/03_make_labels.py; rows of a series follow one another by position
conversion/headers.csv     what else the headers say: thickness, tilt, where HU come from ...
conversion/boxes.csv       if there are masks: a box round each connected part of each value (`class`), pixels of the image
conversion/bad_files.csv   `file, problem` of each file that was skipped

How the slices of a series follow one another: hemoct.ct.series. Several images at one position are passes through the head:
the second pass is a series of its own, SERIES#2. All series are kept. The slice numbers of a patient's next series or pass start
at the next hundred, so that no step takes slices of two series for neighbours. spacing_z is the distance between planes: half the
way to either neighbour. With a tilted gantry it is less than the table moved, and slices are not sheared back (neighbours are
shifted in the plane). `patient` is PatientID, else what the volume's name says, else the study; `group` is the study.
"""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field, fields
from itertools import groupby
from pathlib import Path

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.ct import series as ct_series
from hemoct.ct.facts import NOTES, Facts
from hemoct.ct.series import BY_NAME, BY_NUMBER, Row

IMAGES, MASKS, FOLDER = "images", "masks", "conversion"
TABLE, HEADERS, BOXES, BAD = "slices.csv", *(f"{FOLDER}/{name}.csv" for name in ("headers", "boxes", "bad_files"))
COLUMNS = {
    TABLE: [
        *("image", "patient", "study", "series", "group", "slice"),
        *("spacing_row", "spacing_col", "spacing_z", "position", "file"),
    ],
    HEADERS: [
        *("image", "study_date", "series_number", "acquisition", "instance", "sop", "plane", "tilt"),
        *("thickness", "spacing_between", "level", "width", "rescale", "air", "unreadable"),
        *("description", "stored", "pixel_rows", "pixel_columns", "scale_row", "scale_col", "remarks"),
    ],
    BOXES: ["image", "class", "xmin", "ymin", "xmax", "ymax"],
    BAD: ["file", "problem"],
}
FACTS = [each.name for each in fields(Facts)]
SCHEMA = f"""
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;  -- nothing waits for the disk, and even a power cut breaks nothing
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS settings (content TEXT);
CREATE TABLE IF NOT EXISTS sources (path TEXT PRIMARY KEY, name TEXT UNIQUE, mask TEXT, patient TEXT, stamp TEXT, done INTEGER,
                                    problem TEXT, mask_problem TEXT);
CREATE TABLE IF NOT EXISTS slices (image TEXT PRIMARY KEY, path TEXT, mask TEXT, parts TEXT, {", ".join(FACTS)});
CREATE INDEX IF NOT EXISTS slices_of ON slices (path);
"""
TAKE = """
BEGIN;  -- of files that are still what they were
UPDATE main.sources SET done = its.done, problem = its.problem, mask_problem = its.mask_problem
FROM shard.sources AS its WHERE (its.path, its.name, its.stamp) = (sources.path, sources.name, sources.stamp);
INSERT OR REPLACE INTO main.slices SELECT its.* FROM shard.slices AS its JOIN shard.sources USING (path)
JOIN main.sources USING (path, name, stamp) ORDER BY its.rowid;
COMMIT;
"""
PAGE = 1000
ORDERED_BY = {
    BY_NUMBER: "series without positions: ordered by instance number",
    BY_NAME: "series without positions and instance numbers: ordered by the numbers in the file names; look at their order",
}
SEVERAL_SERIES = "patients with several series: all were kept; delete from slices.csv what you do not want"
SEVERAL_PASSES = "series with several images at one position: each pass through the head is a series of its own (SERIES#2)"


@dataclass(frozen=True)
class Source:
    """A file to convert: its path below the source folder, and that of its slices below the target, without .png."""

    path: str
    name: str
    mask: str = ""
    """path of the mask of a volume; "" if it has none"""
    patient: str = ""
    """of a volume, which does not say itself"""


@dataclass(frozen=True)
class Written:
    """One slice: its image and its mask, if it has one, below the target folder."""

    image: str
    facts: Facts
    mask: str = ""
    parts: tuple[tuple[int, int, int, int, int], ...] = ()
    """connected parts of the mask: value, xmin, ymin, xmax, ymax"""


@dataclass(frozen=True)
class Converted:
    """The result for one file: the slices written, or the problem."""

    path: str
    slices: tuple[Written, ...] = ()
    problem: str = ""
    mask_problem: str = ""


class Journal:
    """An SQLite file in the target folder. It survives a kill at any moment; one process at a time may have it open."""

    def __init__(self, target: Path, name: str = "journal.sqlite") -> None:
        self.path = target / FOLDER / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.base = sqlite3.connect(self.path, timeout=1)
        self.base.row_factory = sqlite3.Row
        self.close = self.base.close
        with _opening(self.path):
            self.base.executescript(SCHEMA)

    def begin(self, content: str) -> None:
        """Note the settings of a new conversion; an unfinished one that had others stops."""
        with self.base:
            new = "INSERT INTO settings SELECT ? WHERE NOT EXISTS (SELECT * FROM settings)"
            self.base.execute(new, [content])
        if self.base.execute("SELECT content FROM main.settings").fetchone()["content"] != content:
            raise UserError(
                f"{self.path.parents[1]} holds an unfinished conversion of another source or with other flags; "
                "finish that with its flags, or delete the folder"
            )

    def list_sources(self, folder: Path, sources: Iterable[Source]) -> None:
        """List the files below `folder` that are to be converted. A file that has changed since is due again."""
        listed = 0
        with self.base:
            # Listed anew: what was bad may be good now, a decoder was installed, a permission given; what waits may be gone.
            self.base.execute("DELETE FROM sources WHERE path NOT IN (SELECT path FROM slices)")
            for source in sources:
                listed += 1
                status = (folder / source.path).stat()
                self._list_source(source, f"{status.st_size} {status.st_mtime_ns}")
            if gone := self.counts()[0] - listed:
                remedy = f"restore them, or delete {self.path.parents[1]} and convert again"
                raise UserError(f"{gone} file(s) of an unfinished conversion are no longer in {folder}; {remedy}")
            self.base.execute("UPDATE sources SET done = NULL WHERE mask_problem IS NOT NULL")

    def _list_source(self, source: Source, stamp: str) -> None:
        values = vars(source) | {"whole": f"{IMAGES}/{source.path}", "stamp": stamp}
        try:
            known = self.base.execute("SELECT stamp FROM sources WHERE path = :path", values).fetchone()
        except UnicodeEncodeError:
            raise UserError(f"{source.path!r} has a name that is no text (UTF-8); rename the file") from None
        if known is None:
            taken = "EXISTS (SELECT * FROM sources WHERE name = :name)"  # `1` beside `1.dcm`
            columns = f":path, iif({taken}, :whole, :name), :mask, :patient, :stamp, NULL, NULL, NULL"
            self.base.execute(f"INSERT INTO sources VALUES ({columns})", values)
        elif known["stamp"] != stamp:
            self.base.execute("UPDATE sources SET stamp = :stamp, done = NULL WHERE path = :path", values)

    def counts(self) -> tuple[int, int]:
        """How many files there are, and how many of them are done."""
        return tuple(self.base.execute("SELECT COUNT(*), COUNT(done) FROM sources").fetchone())

    def waiting(self) -> Iterator[Source]:
        """The files that are not done, a page at a time, since the table changes meanwhile."""
        last = 0
        query = "SELECT rowid, path, name, mask, patient FROM sources WHERE done IS NULL AND rowid > ? ORDER BY rowid LIMIT ?"
        while rows := self.base.execute(query, [last, PAGE]).fetchall():
            yield from (Source(*row[1:]) for row in map(tuple, rows))
            last = rows[-1]["rowid"]

    def add(self, results: list[Converted]) -> None:
        """Mark files as done, with their slices or their problem."""
        marks = ", ".join("?" * (len(FACTS) + 4))
        with self.base:
            for result in results:
                self.base.execute("DELETE FROM slices WHERE path = ?", [result.path])
                rows = [
                    (each.image, result.path, each.mask, json.dumps(each.parts), *astuple(each.facts)) for each in result.slices
                ]
                self.base.executemany(f"INSERT OR REPLACE INTO slices VALUES ({marks})", rows)
                outcome = [result.problem or None, result.mask_problem or None, result.path]
                self.base.execute("UPDATE sources SET done = 1, problem = ?, mask_problem = ? WHERE path = ?", outcome)

    def take(self, path: Path) -> str:
        """Take over what the journal of a shard says of files that are as they were then; names one that is gone, if any."""
        with _opening(path):
            self.base.execute("ATTACH ? AS shard", [str(path)])
            for (content,) in self.base.execute("SELECT content FROM shard.settings").fetchall():
                self.begin(content)
            gone = self.base.execute("SELECT path FROM shard.sources EXCEPT SELECT path FROM main.sources").fetchone()
            self.base.executescript(TAKE)
            self.base.execute("DETACH shard")
        return gone["path"] if gone else ""

    def problems(self) -> Iterator[sqlite3.Row]:
        """Path and problem of each file that could not be converted, and of each mask that could not be used."""
        bad = "SELECT path, problem FROM sources WHERE problem IS NOT NULL"
        masks = "SELECT mask AS path, mask_problem AS problem FROM sources WHERE mask_problem IS NOT NULL"
        return self.base.execute(f"{bad} UNION ALL {masks} ORDER BY path")

    def has_masks(self) -> bool:
        """Whether any slice has a mask."""
        return self.base.execute("SELECT 1 FROM slices WHERE mask != '' LIMIT 1").fetchone() is not None

    def patients(self) -> Iterator[list[list[Row]]]:
        """The slices of each patient, by series in the order in which they were made: memory holds one patient."""
        rows = map(dict, self.base.execute("SELECT * FROM slices ORDER BY patient, study, series, path, instance"))
        for _, patient in groupby(rows, key=lambda row: row["patient"]):
            series = [list(group) for _, group in groupby(patient, key=lambda row: (row["study"], row["series"]))]
            yield sorted(series, key=lambda rows: (rows[0]["study_date"], rows[0]["study"], rows[0]["series_number"] or 0))


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(f"{path} cannot be opened ({error}); wait for the conversion that has it open") from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path} is broken ({error}); delete {path.parents[1]} and convert again") from None


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


def write(journal: Journal, target: Path, left_out: Mapping[str, str]) -> Summary:
    """Write the tables from the journal: each whole or not at all; memory holds one patient. `left_out`: file, reason."""
    summary = Summary()
    masks = journal.has_masks()
    made = COLUMNS | {TABLE: [*COLUMNS[TABLE], "mask"]} if masks else {n: c for n, c in COLUMNS.items() if n != BOXES}
    with ExitStack() as open_files:
        writers: dict[str, csv.DictWriter] = {}
        for name, columns in made.items():
            temporary = open_files.enter_context(files.replacing(target / name))
            stream = open_files.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            writers[name] = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
            writers[name].writeheader()

        def skip(file: str, problem: str) -> None:
            writers[BAD].writerow({"file": tables.harmless(file), "problem": tables.harmless(problem)})
            summary.bad += 1
            summary.first_bad = summary.first_bad or f"{file} {problem}"

        for row in (*map(tuple, journal.problems()), *left_out.items()):
            skip(*row)
        for series in journal.patients():
            numbered, left = _number(series, summary)
            summary.patients += bool(numbered)
            writers[TABLE].writerows(numbered)
            writers[HEADERS].writerows(numbered)
            if masks:
                parts = ((row["image"], *part) for row in numbered for part in json.loads(row["parts"]))
                writers[BOXES].writerows(dict(zip(COLUMNS[BOXES], part, strict=True)) for part in parts)
            for row, problem in left:
                skip(row["path"], problem)
                (target / row["image"]).unlink(missing_ok=True)
        if not summary.slices:
            raise UserError(f"none of {summary.bad} files could be converted (first: {summary.first_bad})")
    return summary


def _number(series: list[list[Row]], summary: Summary) -> tuple[list[Row], list[tuple[Row, str]]]:
    """One patient's series as they stand in the tables, with series, slice, spacing_z and position; and what was left out."""
    start, numbered, left = 0, [], []
    for study in {rows[0]["study"]: None for rows in series}:
        for rows in ct_series.lone_scouts([rows for rows in series if rows[0]["study"] == study]):
            left += [(row, ct_series.OTHER_PLANE) for row in rows]
            series = [each for each in series if each is not rows]
    summary.notes.update([SEVERAL_SERIES] * (len(series) > 1))
    for rows in series:
        arranged = ct_series.arrange(rows)
        left += arranged.left
        summary.notes.update([SEVERAL_PASSES] * (len(arranged.passes) > 1))
        summary.notes.update(note for kind, note in ORDERED_BY.items() if kind == arranged.ordered_by)
        summary.series += len(arranged.passes)
        for number, pass_rows in enumerate(arranged.passes, start=1):
            name = pass_rows[0]["series"] + (f"#{number}" if number > 1 else "")
            for place, row in enumerate(pass_rows):
                summary.slices += 1
                summary.notes.update(note for note, applies in NOTES.items() if applies(row))
                numbered.append(row | {"series": name, "slice": start + place, "group": row["study"], "file": row["path"]})
            start = ((start + len(pass_rows)) // 100 + 1) * 100
    return numbered, left
