"""A table as people make them, as text: CSV with comma, semicolon or tab, or the first sheet of an Excel file.

Nothing is guessed: patient 0013 stays 0013. Blanks around cells and names are left out, and so are empty rows and columns.
"""

import codecs
import csv
from itertools import takewhile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd

from hemoct.base import limits, tables
from hemoct.base.errors import UserError, one_line
from hemoct.ingest.options import IMAGE_COLUMNS

SUFFIXES = {".csv", ".tsv", ".xlsx"}
MOST_CELLS = 20_000_000  # of an Excel sheet, the empty ones too
LONGEST_ROW = 1 << 20  # characters of the names of all columns
FIRST_ROW = 2  # the line of the row with index 0: after the header, counted from 1
KNOWN = {"split": "given_split", **{name: name for name in (*IMAGE_COLUMNS, *tables.IMAGE_COLUMNS, *tables.OPTIONAL_COLUMNS)}}
"""names of columns that have a meaning here, in whatever case they are written"""


def read(source: Path) -> pd.DataFrame:
    """Every cell as text; the index is the line in the file less FIRST_ROW. Columns of KNOWN get their name here.

    Stops at a row with more cells than the header has names, and at a column that stands twice.
    """
    cells = _cells(source)
    filled = (cells != "").any(axis=1)
    if filled.sum() < 2:
        raise UserError(f"{source} has no rows; fill it in or name another with --csv")
    first = filled.idxmax()
    names = cells.loc[first]
    rows = cells.loc[filled & (cells.index > first)].rename(index=lambda line: line + 1 - FIRST_ROW)
    _refuse_more_cells_than_names(source, rows, names)
    rows = rows.loc[:, names != ""].set_axis(names[names != ""].to_list(), axis="columns")
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise UserError(f"{source} has the column {twice[0]} twice; rename or remove one of them")
    if (empty := int((~filled).sum())) > 0:
        print(f"{source.name}: {empty} empty row(s) are left out")
    known = {name: KNOWN[name.lower()] for name in rows if KNOWN.get(name.lower(), name) not in rows}
    return rows.rename(columns=known)


def _cells(source: Path) -> pd.DataFrame:
    """All cells, the header's too, as text without blanks around it; a cell that is not there is ""."""
    options = {"header": None, "dtype": str, "keep_default_na": False}
    try:
        if source.suffix.lower() == ".xlsx":
            return read_sheet(source, **options).fillna("").apply(lambda column: column.str.strip())
        else:
            width = range(len(header(source)) + 1)
            options |= {"names": width, "skip_blank_lines": False, "encoding": _encoding(source)}
            cells = pd.read_csv(source, sep=separator(source), index_col=False, **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{source} cannot be read as CSV ({str(error).strip()}); save it as CSV in UTF-8") from None
    return cells.fillna("").apply(lambda column: column.str.strip())


def read_sheet(source: Path, **options: Any) -> pd.DataFrame:
    """The first sheet of an Excel file, as pandas reads it. Stops at a damaged or encrypted file, and at a cell far away."""
    import openpyxl  # a quarter of a second, and most data have no such table

    try:
        with ZipFile(source) as packed:
            limits.stop_if_packed(source, sum(part.file_size for part in packed.infolist()))
        book = openpyxl.load_workbook(source, read_only=True, data_only=True)
        sheet = next(iter(book.worksheets), None)
        if sheet is None:
            raise ValueError("it has no sheet")
        sheet.reset_dimensions()  # what the file says of its size need not be true
        filled = [(number, len(row)) for number, row in enumerate(sheet.iter_rows(values_only=True), start=1) if row]
        book.close()
        rows, columns = (max(sides, default=0) for sides in zip(*filled, strict=True)) if filled else (0, 0)
        if rows * columns > MOST_CELLS:
            raise UserError(
                f"{source} has {rows} rows and {columns} columns, because of a cell far from the others; delete the rows below "
                "and the columns beside the table"
            )
        return pd.read_excel(source, engine="openpyxl", **options)
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:  # cut off, encrypted, another format: the library fails in many ways
        raise UserError(f"{source} cannot be read as an Excel sheet ({one_line(error)}); save it again as .xlsx") from None


def _refuse_more_cells_than_names(source: Path, rows: pd.DataFrame, names: pd.Series) -> None:
    nameless = rows.loc[:, names == ""]
    more = nameless[(nameless != "").any(axis=1)]
    numbered = len(more) == len(rows) and nameless.columns[0] == 0  # pandas and R write row numbers without a name
    if len(more) and not (numbered and (nameless.iloc[:, 1:] == "").all(axis=None)):
        line = more.index[0] + FIRST_ROW
        raise UserError(
            f"{source}: row {line} has more cells than the header has names ({len(more)} such rows); put a text that holds the "
            f"separator {separator(source)!r} in quotes, and give every column a name"
        )


def has_rows(source: Path) -> bool:
    """Whether there is anything below the names of the columns."""
    return bool((_cells(source) != "").any(axis=1).sum() > 1)


def separator(path: Path) -> str:
    """What separates the columns of a table: that of `,` `;` (Excel in much of Europe) and tab which gives the most columns."""
    return max(",;\t", key=lambda mark: len(_first_row(path, mark)))


def header(path: Path) -> list[str]:
    """The column names of a table, as they are written; none where it cannot be read, which what reads the rest of it says."""
    try:
        if path.suffix.lower() == ".xlsx":
            return [str(name) for name in read_sheet(path, nrows=0).columns]
        return _first_row(path, separator(path))
    except UserError:
        return []


def _first_row(path: Path, mark: str) -> list[str]:
    with path.open(encoding=_encoding(path), errors="replace", newline="") as stream:
        lines = iter(lambda: stream.readline(LONGEST_ROW), "")
        short = takewhile(lambda line: len(line) < LONGEST_ROW, lines)
        try:
            row = next((row for row in csv.reader(short, delimiter=mark) if any(map(str.strip, row))), None)
        except csv.Error as error:
            raise UserError(f"{path} cannot be read as CSV ({error}); is this a table?") from None
        if row is None and stream.read(1):
            raise UserError(f"{path} cannot be read as CSV (its first row has over {LONGEST_ROW} letters); is this a table?")
    return row or []


def _encoding(path: Path) -> str:
    """UTF-8, or UTF-16 where its mark is at the beginning, as in Excel's 'Unicode text'."""
    with path.open("rb") as stream:
        start = stream.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
