"""What a conversion has done so far, on disk: it survives a kill at any moment and does not grow in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from hemoct.base.errors import UserError
from hemoct.ingest.dicom import Facts

IMAGES, FOLDER = "images", "conversion"
FACTS = [each.name for each in fields(Facts)]
PAGE = 1000
Row = dict[str, Any]
"""a slice: `image`, `path` (its source) and FACTS"""


@dataclass(frozen=True)
class Source:
    """One file to convert: its path below the source folder, and that of its slices below the target, without .png."""

    path: str
    name: str


@dataclass(frozen=True)
class Converted:
    """What became of a file: the images written and what is known of them, or the problem."""

    path: str
    slices: tuple[tuple[str, Facts], ...] = ()
    problem: str = ""


class Journal:
    """An SQLite file in the target folder: each source file, whether it is done, and what is known of its slices.

    One process at a time may have it open.
    """

    def __init__(self, target: Path, settings: dict[str, Any]) -> None:
        self.path = target / FOLDER / "journal.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.base = sqlite3.connect(self.path, timeout=1)
        try:
            self._open(settings)
        except UserError:
            self.base.close()
            raise
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path} cannot be opened ({error}); wait for the conversion that has it open") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} is broken ({error}); delete {target} and convert again") from None

    def _open(self, settings: dict[str, Any]) -> None:
        self.base.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.base.execute("PRAGMA journal_mode = WAL")  # nothing waits for the disk, and even a power cut breaks nothing
        self.base.execute("PRAGMA synchronous = NORMAL")
        self.base.row_factory = sqlite3.Row
        with self.base:
            self.base.execute("CREATE TABLE IF NOT EXISTS settings (content TEXT)")
            self.base.execute(
                "CREATE TABLE IF NOT EXISTS sources "
                "(path TEXT PRIMARY KEY, name TEXT UNIQUE, stamp TEXT, done INTEGER, problem TEXT)"
            )
            columns = ", ".join(FACTS)
            self.base.execute(f"CREATE TABLE IF NOT EXISTS slices (image TEXT PRIMARY KEY, path TEXT, {columns})")
            self.base.execute("CREATE INDEX IF NOT EXISTS slices_of ON slices (path)")
            before = self.base.execute("SELECT content FROM settings").fetchone()
            if before is None:
                self.base.execute("INSERT INTO settings VALUES (?)", [json.dumps(settings)])
            elif json.loads(before["content"]) != settings:
                raise UserError(
                    f"{self.path.parents[1]} holds an unfinished conversion of another source or with other flags; "
                    "finish that with its flags, or delete the folder"
                )

    def close(self) -> None:
        self.base.close()

    def list_sources(self, folder: Path, found: Iterable[tuple[Path, str]]) -> None:
        """Take up the files below `folder` with the names of their slices. A file that has changed since is due again."""
        with self.base:
            for path, name in found:
                status = (folder / path).stat()
                self._list_one(path.as_posix(), name, f"{status.st_size} {status.st_mtime_ns}")
            # What was bad may have been mended: a decoder installed, rights given.
            self.base.execute("UPDATE sources SET done = NULL, problem = NULL WHERE problem IS NOT NULL")

    def _list_one(self, path: str, name: str, stamp: str) -> None:
        try:
            row = self.base.execute("SELECT stamp FROM sources WHERE path = ?", [path]).fetchone()
        except UnicodeEncodeError:
            raise UserError(f"{path!r} has a name that is no text (UTF-8); rename the file") from None
        if row is None:
            taken = self.base.execute("SELECT 1 FROM sources WHERE name = ?", [name]).fetchone()
            name = f"{IMAGES}/{path}" if taken else name  # `1` beside `1.dcm`
            self.base.execute("INSERT INTO sources VALUES (?, ?, ?, NULL, NULL)", [path, name, stamp])
        elif row["stamp"] != stamp:
            self.base.execute("UPDATE sources SET stamp = ?, done = NULL WHERE path = ?", [stamp, path])

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
                self.base.execute(
                    "UPDATE sources SET done = 1, problem = ? WHERE path = ?", [result.problem or None, result.path]
                )

    def problems(self) -> Iterator[sqlite3.Row]:
        return self.base.execute("SELECT path, problem FROM sources WHERE problem IS NOT NULL ORDER BY path")

    def patients(self) -> Iterator[list[list[Row]]]:
        """The slices of each patient, by series in the order in which they were made: memory holds one patient."""
        rows = map(dict, self.base.execute("SELECT * FROM slices ORDER BY patient, study, series, path, instance"))
        for _, of_patient in groupby(rows, key=lambda row: row["patient"]):
            series = [list(of_series) for _, of_series in groupby(of_patient, key=lambda row: (row["study"], row["series"]))]
            yield sorted(series, key=lambda rows: (rows[0]["study_date"], rows[0]["study"], rows[0]["series_number"] or 0))
