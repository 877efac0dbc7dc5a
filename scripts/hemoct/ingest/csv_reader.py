"""Labels from a CSV: one row per image, one column per label (1, 0; empty or -1 = unknown).

What 01_get_data.py knows of converted slices (slices.csv: patient, slice, spacing ...) is added to the rows of any other table.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError, few
from hemoct.base.workspace import Workspace
from hemoct.ingest import conversion_tables, layouts, reader_tables
from hemoct.ingest.reader_tables import NO_PATIENTS, LabelTable, Options, Tables

UNKNOWN = {"", "-1", "nan", "na", "none", "null"}
PATIENT_FACTS = ("age", "sex", "gender", "side")
FIRST_ROW = 2  # the line of the first row in the file: after the header, counted from 1
NUMBER_COLUMNS = ("slice", "spacing_row", "spacing_col", "spacing_z", "position")
NO_LABELS = {*tables.IMAGE_COLUMNS, *tables.OPTIONAL_COLUMNS, *layouts.CSV_IMAGE_COLUMNS, *PATIENT_FACTS}
NO_LABELS |= {"patient_id", "patientid", "study", "series", "path", "file", "split", "fold", "index", ""}
OWN_COLUMNS = ("_name", "_path")  # added here, not in the file


def read(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Read the table; every row's image must be in data/raw/NAME (or --skip-missing leaves the row out)."""
    source = _choose_table(work.raw, listing, options.csv)
    rows = read_text(source)
    image_column = _image_column(source, rows, options.image_column)
    labels = _choose_labels(source, rows, image_column, options)
    other_columns = [name for name in rows if name not in (image_column, *labels)]
    rows[labels] = pd.DataFrame({name: label_values(source, rows[name]) for name in labels})
    images = layouts.only_images(listing)
    rows["_path"] = reader_tables.find_images(images, rows[image_column])
    rows["_name"] = rows[image_column]
    result = rows_to_tables(work.dataset, LabelTable(work.raw, source, rows, labels, images, "csv"), options)
    if source.name != conversion_tables.TABLE:
        _print_unused(other_columns, options, known=result.dataset.patient_source != NO_PATIENTS)
    return result


def rows_to_tables(name: str, table: LabelTable, options: Options) -> Tables:
    """The tables of the data set `name` from the rows of a table."""
    problems = reader_tables.images_without_file(table, options.skip_missing)
    rows, repeats = _without_repeats(table)
    rows = _with_slices_table(table, rows)
    if "mask" in rows:
        problems["no file"] = [*problems.get("no file", []), *_find_masks(table, rows, options.skip_missing)]
    paths = [Path(path) for path in rows["_path"]]
    frame, patient_source = reader_tables.image_rows(paths, options.patient_regex)
    patient_source = _fill_patients(table, rows, frame, options) or patient_source
    frame[table.labels] = rows[table.labels].to_numpy()
    if "mask" in rows:
        frame["mask"] = rows["mask"]
    _copy_columns(table.source, rows, frame)
    dataset = tables.Dataset(name, table.layout, table.labels, exclusive=options.exclusive, patient_source=patient_source)
    used = {*rows["_path"], *frame["mask"]}
    unlisted = [path.as_posix() for path in table.images if path.as_posix() not in used and path.parts[0] != "masks"]
    listed = reader_tables.problems_frame({**problems, "listed twice": repeats, "no row in the table": unlisted})
    return Tables(frame, reader_tables.boxes_frame({}), dataset, _patient_facts(rows, frame, patient_source), listed)


def _choose_table(raw: Path, listing: list[Path], named: str | None) -> Path:
    there = layouts.top_tables(listing)
    if len(there) > 1:
        there = [path for path in there if path.name != conversion_tables.TABLE]
    if named is None and len(there) != 1:
        what = f"several CSV files ({few(there)})" if there else "no CSV file"
        raise UserError(f"{raw} has {what}; name one with --csv FILE")
    return layouts.named_table(raw, named or there[0])


def read_text(source: Path) -> pd.DataFrame:
    """Every cell as text without blanks around it: nothing is guessed, so patient 0013 stays 0013."""
    sep = layouts.separator(source)
    try:
        table = pd.read_csv(source, sep=sep, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{source} cannot be read as CSV ({error}); save it as CSV in UTF-8") from None
    if table.empty:
        raise UserError(f"{source} has no rows; fill it in or name another with --csv")
    names = pd.Series(layouts.header(source), dtype=str).str.strip()  # pandas renames the second of two equal columns
    twice = names[names.duplicated() & (names != "")]
    if len(twice):
        raise UserError(f"{source} has the column {twice.iloc[0]} twice; rename or remove one of them")
    table = table.fillna("").apply(lambda column: column.str.strip())
    return table.rename(columns={"split": "given_split"} if "given_split" not in table else {})


def _image_column(source: Path, rows: pd.DataFrame, named: str | None = None) -> str:
    there = [name for name in ([named] if named else layouts.CSV_IMAGE_COLUMNS) if name in rows]
    if not there:
        wanted, remedy = (named, "correct") if named else (" / ".join(layouts.CSV_IMAGE_COLUMNS), "use")
        raise UserError(f"{source} has no column {wanted}; it has {few(rows.columns)}; {remedy} --image-column")
    return there[0]


def _choose_labels(source: Path, rows: pd.DataFrame, image_column: str, options: Options) -> list[str]:
    absent = [name for name in options.labels or [] if name not in rows]
    if absent:
        raise UserError(f"{source} has no column {absent[0]}; it has {few(rows.columns)}; correct --labels")
    other = {image_column, options.patient_column}
    labels = options.labels or [name for name in label_columns(rows.columns) if name not in other]
    if not labels:
        raise UserError(f"{source} has no label column; it has {few(rows.columns)}; name them with --labels A,B")
    return labels


def label_columns(columns: Iterable[str]) -> list[str]:
    """The columns that may be labels: all but those whose name says that they are something else."""
    return [name for name in columns if name.lower() not in NO_LABELS and not name.startswith("Unnamed:")]


def label_values(
    source: Path, cells: pd.Series, remedy: str = "correct it, or name the label columns with --labels"
) -> pd.Series:
    """1, 0 or NA from text; anything else stops with column, row (line of the file) and value."""
    numbers = pd.to_numeric(cells.where(~cells.str.lower().isin(UNKNOWN), None), errors="coerce")
    wrong = cells[~(cells.str.lower().isin(UNKNOWN) | numbers.isin([0, 1, -1]))]
    if len(wrong):
        raise UserError(
            f"{source}: column {cells.name}, row {wrong.index[0] + FIRST_ROW} is {wrong.iloc[0]!r} where 1, 0, -1 or empty is "
            f"allowed ({len(wrong)} rows); {remedy}"
        )
    return numbers.where(numbers >= 0).astype("Int64")


def _print_unused(columns: list[str], options: Options, known: bool) -> None:
    """Name the columns that are not used; if no patient is `known`, advise a column that may name the patient."""
    used = {"", "slice", "mask", *tables.OPTIONAL_COLUMNS, options.patient_column}
    used |= set() if options.patient_regex else {"patient"}
    unused = [name for name in columns if name not in used and not name.startswith("Unnamed:")]
    unused = [name for name in unused if not (known and name.lower() in PATIENT_FACTS)]
    if not unused:
        return
    persons = [name for name in unused if "patient" in name.lower()] or label_columns(unused)
    advice = f"; if one of them names the patient: --patient-column {persons[0]}" if persons and not known else ""
    print(f"columns not used: {few(unused)}{advice}")


def _find_masks(table: LabelTable, rows: pd.DataFrame, skip: bool) -> list[str]:
    """Put each mask's file in the place of its name, "" if there is none; return the names without a file, unless they stop."""
    names = rows["mask"]
    rows["mask"] = reader_tables.find_files(table.images, names, "masks")
    missing = list(names[(names != "") & (rows["mask"] == "")])
    if missing:
        found = f"{len(missing)} of {len(names)} masks"
        first = f"first: {', '.join(missing[:3])}"
        if not skip:
            raise UserError(
                f"{table.source}: {found} are not in {table.raw} or masks/ ({first}); "
                "add them, or continue without them with --skip-missing"
            )
        print(f"{found} not found and left out ({first})")
    same = rows["mask"][rows["_path"] == rows["mask"]]
    if len(same):  # a mask that has the image's name and is missing must not turn out to be the image
        raise UserError(
            f"{table.source}: {len(same)} image(s) are their own mask (first: {same.iloc[0]}); name each mask by its path"
        )
    return missing


def _without_repeats(table: LabelTable) -> tuple[pd.DataFrame, list[str]]:
    """One row per image that has a file, and the names that stand twice. Equal labels are harmless, different ones stop."""
    rows = table.rows[table.rows["_path"] != ""]
    different = rows.drop_duplicates(["_path", *table.labels])
    twice = different["_path"][different["_path"].duplicated()]
    if len(twice):
        first, second = different.index[different["_path"] == twice.iloc[0]][:2] + FIRST_ROW
        raise UserError(
            f"{table.source}: {twice.nunique()} image(s) twice with different labels "
            f"(first: {twice.iloc[0]}, rows {first} and {second}); keep one row"
        )
    repeats = rows["_name"][rows["_path"].duplicated()]
    if len(repeats):
        print(f"{len(repeats)} row(s) repeat an image with the same labels and are left out (first: {repeats.iloc[0]})")
    return rows.drop_duplicates("_path").reset_index(drop=True), list(repeats)


def _with_slices_table(table: LabelTable, rows: pd.DataFrame) -> pd.DataFrame:
    """Add what slices.csv, if there is one, knows of the same files, in columns that the table does not have itself."""
    source = table.raw / conversion_tables.TABLE
    if not source.is_file() or source == table.source:
        return rows
    facts = read_text(source)
    column = _image_column(source, facts)
    facts["_path"] = reader_tables.find_files(table.images, facts[column], "images")
    new = [name for name in facts.columns if name not in rows and name != column]
    return rows.merge(facts[["_path", *new]].drop_duplicates("_path"), on="_path", how="left").fillna(dict.fromkeys(new, ""))


def _fill_patients(table: LabelTable, rows: pd.DataFrame, frame: pd.DataFrame, options: Options) -> str | None:
    """Fill in patient and slice from --patient-column, else from `patient` where no --patient-regex is given; name the source."""
    if options.patient_column and options.patient_regex:
        raise UserError("--patient-column and --patient-regex both name the patient; give one of them")
    column = options.patient_column or ("patient" if "patient" in rows and not options.patient_regex else None)
    if column is None:
        return None
    if column not in rows:
        others = [name for name in rows if name not in (*OWN_COLUMNS, *table.labels)]
        raise UserError(
            f"{table.source} has no column {column}; beside the labels it has {few(others) or 'none'}; correct --patient-column"
        )
    empty = frame["image_id"][(rows[column] == "").to_numpy()]
    if len(empty):
        raise UserError(
            f"{table.source}: column {column} is empty for {len(empty)} image(s) (first: {empty.iloc[0]}); fill it in"
        )
    frame["patient"] = rows[column].to_numpy()
    frame["slice"] = [reader_tables.slice_number(name) for name in frame["image_id"]]
    return f"column {column}"


def _copy_columns(source: Path, rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Copy `slice` and the optional columns; numbers must be numbers, splits train, val or test."""
    for name in ("slice", *tables.OPTIONAL_COLUMNS):
        if name not in rows:
            continue
        cells = rows[name]
        if name in NUMBER_COLUMNS:
            values = pd.to_numeric(cells.where(cells != "", None), errors="coerce")
            wrong = cells[values.isna() & (cells != "")]
        elif name == "given_split":
            values = cells.str.lower().map(layouts.SPLIT_FOLDERS).fillna("")
            wrong = cells[(values == "") & (cells != "")]
        else:
            values, wrong = cells, cells[:0]
        if len(wrong):
            raise UserError(f"{source}: column {name} is {wrong.iloc[0]!r} ({len(wrong)} rows); correct it or remove the column")
        frame[name] = values.to_numpy()


def _patient_facts(rows: pd.DataFrame, frame: pd.DataFrame, patient_source: str) -> pd.DataFrame | None:
    """Age, sex and side of each patient, the first that is given; None if there is no such column or no patient is known."""
    facts = [name for name in rows.columns if name.lower() in PATIENT_FACTS]
    if not facts or patient_source == NO_PATIENTS:
        return None
    known = rows[facts].where(rows[facts] != "", None).rename(columns=lambda name: name.lower().replace("gender", "sex"))
    return known.groupby(frame["patient"].to_numpy()).first().rename_axis("patient").reset_index()
