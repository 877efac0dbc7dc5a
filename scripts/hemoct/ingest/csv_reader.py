"""Labels from a CSV: one row per image, one column per label (1, 0; empty or -1 = unknown).

What 01_get_data.py knows of converted slices (slices.csv: patient, slice, spacing ...) is added to any other table's rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ingest import conversion_tables, csv_images, layouts
from hemoct.ingest.reader_tables import NO_PATIENTS, Options, Tables, boxes_frame, image_rows, problems_frame, slice_number

UNKNOWN = {"", "-1", "nan", "na", "none", "null"}
PATIENT_FACTS = ("age", "sex", "gender", "side")
FIRST_ROW = 2  # the file's line of the first row: after the header, counted from 1
NUMBER_COLUMNS = ("slice", "spacing_row", "spacing_col", "spacing_z", "position")
NO_LABELS = {*tables.IMAGE_COLUMNS, *tables.OPTIONAL_COLUMNS, *layouts.CSV_IMAGE_COLUMNS, *PATIENT_FACTS}
NO_LABELS |= {"patient_id", "patientid", "study", "series", "path", "file", "split", "fold", "index", ""}
OWN_COLUMNS = ("_name", "_path")  # of the tables here, not of the file


def read(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Read the table; every row's image must be in data/raw/NAME (or --skip-missing leaves it out)."""
    source = _choose_table(work.raw, listing, options.csv)
    table = read_text(source)
    image_column = _choose_column(source, table, options.image_column, layouts.CSV_IMAGE_COLUMNS, "image")
    labels = _choose_labels(source, table, image_column, options)
    others = [name for name in table if name not in (image_column, *labels)]
    table[labels] = pd.DataFrame({name: truth(source, table[name]) for name in labels})
    images = layouts.only_images(listing)
    table["_path"] = csv_images.find_images(images, table[image_column])
    table["_name"] = table[image_column]
    made = rows_to_tables(work, source, table, labels, images, options, "csv")
    if source.name != conversion_tables.TABLE:
        _say_unused(others, made.dataset.patient_source)
    return made


def rows_to_tables(
    work: Workspace, source: Path, table: pd.DataFrame, labels: list[str], images: list[Path], options: Options, layout: str
) -> Tables:
    """The tables of a data set from rows whose labels are read and whose files are looked up.

    `table`: label columns (Int64), `_name` (the image as the source calls it), `_path` (its file, relative to data/raw/NAME, ""
    where there is none), then patient, slice, mask and the optional columns of labels.csv as text. `images`: the files there.
    """
    skip = options.skip_missing
    missing = csv_images.without_image(work.raw, source, table["_name"], table["_path"], images, layout, skip)
    table, twice = _without_repeats(source, table[table["_path"] != ""], labels)
    table = _with_slices_table(work.raw, source, table, images)
    if "mask" in table:
        named = table["mask"]
        table["mask"] = csv_images.find(images, named, "masks")
        missing.setdefault("no file", []).extend(csv_images.without_mask(work.raw, source, named, list(table["mask"]), skip))
        _stop_if_same(source, table)
    paths = [Path(name) for name in table["_path"]]
    frame, patient_source = image_rows(paths, layouts.image_ids(paths), options.patient_regex)
    patient_source = _patients_from_column(source, table, labels, frame, options) or patient_source
    frame[labels] = table[labels].to_numpy()
    if "mask" in table:
        frame["mask"] = table["mask"]
    _pass_on(source, table, frame)
    dataset = tables.Dataset(work.dataset, layout, labels, exclusive=options.exclusive, patient_source=patient_source)
    used = {*table["_path"], *frame["mask"]}
    stray = [path.as_posix() for path in images if path.as_posix() not in used and path.parts[0] != "masks"]
    problems = problems_frame({**missing, "listed twice": twice, "no row in the table": stray})
    return Tables(frame, boxes_frame({}), dataset, _patient_facts(table, frame, patient_source), problems)


def _choose_table(raw: Path, listing: list[Path], named: str | None) -> Path:
    there = layouts.top_tables(listing)
    if len(there) > 1:
        there = [path for path in there if path.name != conversion_tables.TABLE]
    if named is None and len(there) != 1:
        what = f"several CSV files ({', '.join(map(str, there))})" if there else "no CSV file"
        raise UserError(f"{raw} has {what}; name one with --csv FILE")
    source = raw / (named or there[0])
    if not source.is_file():
        raise UserError(f"{source} is missing; --csv names a file in {raw}")
    return source


def read_text(source: Path) -> pd.DataFrame:
    """Every cell as text without blanks around it: nothing is guessed, so patient 0013 stays 0013."""
    sep = layouts.separator(source)
    try:
        table = pd.read_csv(source, sep=sep, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{source} cannot be read as CSV ({error}); save it as CSV in UTF-8") from None
    if table.empty:
        raise UserError(f"{source} has no rows; fill it in or name another with --csv")
    twice = _repeated(source, sep)
    if twice:
        raise UserError(f"{source} has the column {twice} twice; rename or remove one of them")
    table = table.fillna("").apply(lambda column: column.str.strip())
    return table.rename(columns={"split": "given_split"} if "given_split" not in table else {})


def _repeated(source: Path, sep: str) -> str:
    """The first column name that stands twice in the header (pandas would rename it), or ""."""
    header = pd.read_csv(source, sep=sep, dtype=str, header=None, nrows=1, keep_default_na=False, encoding="utf-8-sig").iloc[0]
    names = header.str.strip()
    return next(iter(names[names.duplicated() & (names != "")]), "")


def _choose_column(source: Path, table: pd.DataFrame, named: str | None, usual: Iterable[str], flag: str) -> str:
    there = [name for name in ([named] if named else usual) if name in table]
    if not there:
        wanted, remedy = (named, "correct") if named else (" / ".join(usual), "use")
        raise UserError(f"{source} has no column {wanted}; it has {', '.join(table.columns)}; {remedy} --{flag}-column")
    return there[0]


def _choose_labels(source: Path, table: pd.DataFrame, image_column: str, options: Options) -> list[str]:
    absent = [name for name in options.labels or [] if name not in table]
    if absent:
        raise UserError(f"{source} has no column {absent[0]}; it has {', '.join(table.columns)}; correct --labels")
    other = {image_column, options.patient_column}
    labels = options.labels or [
        name for name in table.columns if name not in other and name.lower() not in NO_LABELS and not name.startswith("Unnamed:")
    ]
    if not labels:
        raise UserError(f"{source} has no label column; it has {', '.join(table.columns)}; name them with --labels A,B")
    return labels


def truth(source: Path, cells: pd.Series, remedy: str = "correct it, or name the label columns with --labels") -> pd.Series:
    """1, 0 or NA from text; anything else stops with column, row (the file's line) and value."""
    numbers = pd.to_numeric(cells.where(~cells.str.lower().isin(UNKNOWN), None), errors="coerce")
    wrong = cells[~(cells.str.lower().isin(UNKNOWN) | numbers.isin([0, 1, -1]))]
    if len(wrong):
        raise UserError(
            f"{source}: column {cells.name}, row {wrong.index[0] + FIRST_ROW} is {wrong.iloc[0]!r} where 1, 0, -1 or empty is "
            f"allowed ({len(wrong)} rows); {remedy}"
        )
    return numbers.where(numbers >= 0).astype("Int64")


def _say_unused(others: list[str], patient_source: str) -> None:
    """Name the columns that are neither image nor label nor used otherwise; one may tell the patient, where no rule does."""
    used = {"slice", "mask", *tables.OPTIONAL_COLUMNS, patient_source.removeprefix("column ")}
    known = patient_source != NO_PATIENTS
    unused = [
        name
        for name in others
        if name and name not in used and not name.startswith("Unnamed:") and not (known and name.lower() in PATIENT_FACTS)
    ]
    if not unused:
        return
    persons = [name for name in unused if "patient" in name.lower()] or [name for name in unused if name.lower() not in NO_LABELS]
    advice = f"; if one of them names the patient: --patient-column {persons[0]}" if persons and not known else ""
    print(f"columns not used: {', '.join(unused)}{advice}")


def _stop_if_same(source: Path, table: pd.DataFrame) -> None:
    """A mask of the image's own name, which is not there, must not turn out to be the image."""
    same = table["_path"][table["_path"] == table["mask"]]
    if len(same):
        raise UserError(f"{source}: {len(same)} image(s) are their own mask (first: {same.iloc[0]}); name each mask by its path")


def _without_repeats(source: Path, table: pd.DataFrame, labels: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """One row per image, and the images that stood twice: harmless with the same labels alone, others stop with both rows."""
    different = table.drop_duplicates(["_path", *labels])
    twice = different["_path"][different["_path"].duplicated()]
    if len(twice):
        first, second = different.index[different["_path"] == twice.iloc[0]][:2] + FIRST_ROW
        raise UserError(
            f"{source}: {twice.nunique()} image(s) twice with different labels "
            f"(first: {twice.iloc[0]}, rows {first} and {second}); keep one row"
        )
    repeats = table["_name"][table["_path"].duplicated()]
    if len(repeats):
        print(f"{len(repeats)} row(s) repeat an image with the same labels and are passed over (first: {repeats.iloc[0]})")
    return table.drop_duplicates("_path").reset_index(drop=True), list(repeats)


def _with_slices_table(raw: Path, source: Path, table: pd.DataFrame, images: list[Path]) -> pd.DataFrame:
    """Add what slices.csv knows of the same files, where there is one, in columns that the table does not have itself."""
    facts_source = raw / conversion_tables.TABLE
    if not facts_source.is_file() or facts_source == source:
        return table
    facts = read_text(facts_source)
    column = _choose_column(facts_source, facts, None, layouts.CSV_IMAGE_COLUMNS, "image")
    facts["_path"] = csv_images.find(images, facts[column], "images")
    new = [name for name in facts.columns if name not in table and name != column]
    return table.merge(facts[["_path", *new]].drop_duplicates("_path"), on="_path", how="left").fillna(dict.fromkeys(new, ""))


def _patients_from_column(source: Path, table: pd.DataFrame, labels: list[str], frame: pd.DataFrame, options: Options) -> str:
    """Fill in patient and slice from --patient-column, or from a column `patient` when there is no rule; "" if neither."""
    if options.patient_column and options.patient_regex:
        raise UserError("--patient-column and --patient-regex both name the patient; give one of them")
    column = options.patient_column or ("patient" if "patient" in table and not options.patient_regex else None)
    if column is None:
        return ""
    if column not in table:
        there = ", ".join(name for name in table if name not in (*OWN_COLUMNS, *labels)) or "none"
        raise UserError(f"{source} has no column {column}; beside the labels it has {there}; correct --patient-column")
    empty = frame["image_id"][(table[column] == "").to_numpy()]
    if len(empty):
        raise UserError(f"{source}: column {column} is empty for {len(empty)} image(s) (first: {empty.iloc[0]}); fill it in")
    frame["patient"] = table[column].to_numpy()
    frame["slice"] = [slice_number(name) for name in frame["image_id"]]
    return f"column {column}"


def _pass_on(source: Path, table: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Copy `slice` and the optional columns; numbers must be numbers, splits train, val or test."""
    for name in ("slice", *tables.OPTIONAL_COLUMNS):
        if name not in table:
            continue
        cells = table[name]
        if name in NUMBER_COLUMNS:
            values = pd.to_numeric(cells.where(cells != "", None), errors="coerce")
            wrong = cells[values.isna() & (cells != "")]
        elif name == "given_split":
            values = cells.str.lower().map(layouts.SPLIT_FOLDERS).fillna("")
            wrong = cells[(values == "") & (cells != "")]
        else:
            values, wrong = cells, cells[:0]
        if len(wrong):
            raise UserError(
                f"{source}: column {name} is {wrong.iloc[0]!r} ({len(wrong)} rows); correct it or take the column out"
            )
        frame[name] = values.to_numpy()


def _patient_facts(table: pd.DataFrame, frame: pd.DataFrame, patient_source: str) -> pd.DataFrame | None:
    """Age, sex and side per patient, the first that is told; None when no such column or no patient is known."""
    facts = [name for name in table.columns if name.lower() in PATIENT_FACTS]
    if not facts or patient_source == NO_PATIENTS:
        return None
    known = table[facts].where(table[facts] != "", None).rename(columns=lambda name: name.lower().replace("gender", "sex"))
    return known.groupby(frame["patient"].to_numpy()).first().rename_axis("patient").reset_index()
