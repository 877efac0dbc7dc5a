"""Labels from a CSV: one row per image, one column per label (1, 0; empty or -1 = unknown).

What 01_get_data.py knows of converted slices (slices.csv: patient, slice, spacing ...) is added to the rows of any other table.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError, few
from hemoct.base.workspace import Workspace
from hemoct.ingest import conversion_tables, image_names, label_columns, layouts, reader_tables, table_text
from hemoct.ingest.label_columns import PATIENT_FACTS
from hemoct.ingest.options import Options
from hemoct.ingest.reader_tables import LabelTable, Tables

NUMBER_COLUMNS = ("slice", "spacing_row", "spacing_col", "spacing_z", "position")
OWN_COLUMNS = ("_name", "_path")  # added here, not in the file


def read(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Read the table; every row's image must be in data/raw/NAME (or --skip-missing leaves the row out)."""
    images = layouts.only_images(listing)
    source = _choose_table(work.raw, listing, options.csv)
    rows = table_text.read(source)
    image_column = _image_column(source, rows, images, options.image_column)
    found = label_columns.read(source, rows, _as_written(rows, options.labels), {image_column, options.patient_column})
    other_columns = [name for name in rows if name not in (image_column, *found.columns)]
    rows = rows.drop(columns=found.columns).join(found.values)
    rows = _slices_of_scans(work.raw, rows, image_column, list(found.values))
    names = rows[image_column]
    rows["_path"], rows["_name"] = image_names.find_images(work.raw, images, names), names
    options = replace(options, exclusive=options.exclusive or found.exclusive)
    result = rows_to_tables(work.dataset, LabelTable(work.raw, source, rows, list(found.values), images, "csv"), options)
    if source.name != conversion_tables.TABLE:
        _print_unused(other_columns, options, known=result.dataset.knows_patients)
    return result


def _slices_of_scans(raw: Path, rows: pd.DataFrame, image_column: str, labels: list[str]) -> pd.DataFrame:
    """A row that names a scan, that is a file which was converted to several slices, becomes a row for each of them.

    What is 0 of a scan is 0 of its slices. What is 1 is unknown: not every slice of a bleeding head shows the bleeding. Of
    `normal` it is the other way round.
    """
    scans = image_names.slices_of_files(raw)
    keys = rows[image_column].map(image_names.scan_key)
    keys = keys.where(keys.isin(scans.keys()), keys.str.rsplit("/", n=1).str[-1])
    of_scan = keys.isin(scans.keys())
    if not of_scan.any():
        return rows
    wide = rows.assign(**{image_column: [scans.get(key, [name]) for key, name in zip(keys, rows[image_column], strict=True)]})
    for label in labels:
        some = 0 if label_meaning.NORMAL.fullmatch(label) else 1
        wide[label] = wide[label].mask(of_scan & wide[label].eq(some).fillna(False), pd.NA)
    print(f"{of_scan.sum()} row(s) are of whole scans: the slices of one without a label are 0, those of one with it unknown")
    return wide.explode(image_column)


def rows_to_tables(name: str, table: LabelTable, options: Options) -> Tables:
    """The tables of the data set `name` from the rows of a table."""
    problems = reader_tables.images_without_file(table, options.skip_missing)
    rows, repeats = _without_repeats(table, options.patient_column)
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
    boxes = _boxes_of_conversion(table, frame)
    dataset.classes = sorted(boxes["class"].unique())
    return Tables(frame, boxes, dataset, _patient_facts(rows, frame, patient_source), listed)


def _boxes_of_conversion(table: LabelTable, frame: pd.DataFrame) -> pd.DataFrame:
    """The boxes that a conversion made of masks or of a public data set's table; they go with its own labels alone."""
    source = table.raw / conversion_tables.BOXES
    if table.source.name != conversion_tables.TABLE or not source.is_file() or not table_text.has_rows(source):
        return reader_tables.boxes_frame({})
    boxes = tables.read_csv(source, conversion_tables.COLUMNS[conversion_tables.BOXES])
    boxes["image_id"] = boxes["image"].map(frame.set_index("image")["image_id"])
    return boxes.dropna(subset="image_id")[tables.BOX_COLUMNS]


def _choose_table(raw: Path, listing: list[Path], named: str | None) -> Path:
    """The table that was named, else the only one with names of images that are here; slices.csv where there is no other."""
    there = [path for path in layouts.top_tables(listing) if path.name != conversion_tables.TABLE]
    slices = [Path(conversion_tables.TABLE)] if (raw / conversion_tables.TABLE).is_file() else []
    labelled = bool(slices and label_columns.may_be_labels(table_text.header(raw / slices[0])))
    if named is None and there and len(there) + labelled > 1:
        images = layouts.only_images(listing)
        fitting = [path for path in there if _names_files(table_text.read(raw / path), images).any()]
        fitting = fitting or (slices if labelled else [])
        if len(fitting) == 1:
            others = [path for path in there if path not in fitting]
            if others:
                print(f"{fitting[0]} is the only table that names images; not used: {few(others)}")
            there = fitting
    there = there or slices
    if named is None and len(there) != 1:
        what = f"several CSV files ({few(there)})" if there else "no CSV file"
        raise UserError(f"{raw} has {what}; name one with --csv FILE")
    return layouts.named_table(raw, named or there[0])


def _image_column(source: Path, rows: pd.DataFrame, images: list[Path], named: str | None = None) -> str:
    """The column that was named, else that called as one of images, else the one whose cells are the names of most files."""
    if named:
        there = _as_written(rows, [named])
    else:
        there = [name for name in table_text.IMAGE_COLUMNS if name in rows]
        if len(there) != 1:
            files_named = _names_files(rows[there] if there else rows, images)
            best = files_named[files_named == files_named.max()] if files_named.any() else files_named[:0]
            there = list(best.index) if there or len(best) == 1 else []
            if there:
                print(f"the images are named in the column {there[0]}")
    if not there or there[0] not in rows:
        wanted, remedy = (named, "correct") if named else (" / ".join(table_text.IMAGE_COLUMNS), "use")
        raise UserError(f"{source} has no column {wanted}; it has {few(rows.columns)}; {remedy} --image-column")
    if _names_files(pd.DataFrame({there[0]: [there[0]]}), images).any():
        raise UserError(f"{source}: its first row names an image; put a row with the names of the columns above it")
    return there[0]


def _names_files(rows: pd.DataFrame, images: list[Path]) -> pd.Series:
    """How many files each column names: files that are called as a cell, or as its number."""
    keys = [image_names.name_keys(path.name) for path in images]
    known = set().union(*keys)
    return rows.apply(lambda cells: sum(bool(known & image_names.name_keys(cell)) for cell in cells.unique() if cell))


def _as_written(rows: pd.DataFrame, names: list[str] | None) -> list[str] | None:
    """The columns that a user named, as the table writes them: case and blanks do not matter."""
    columns = {name.lower(): name for name in rows}
    return names and [name if name in rows else columns.get(name.strip().lower(), name) for name in names]


def _print_unused(columns: list[str], options: Options, known: bool) -> None:
    """Name the columns that are not used; if no patient is `known`, advise a column that may name the patient."""
    used = {"", "slice", "mask", *tables.OPTIONAL_COLUMNS, options.patient_column}
    used |= set() if options.patient_regex else {"patient"}
    unused = [name for name in columns if name not in used and not name.startswith("Unnamed:")]
    unused = [name for name in unused if not (known and name.lower() in PATIENT_FACTS)]
    if not unused:
        return
    persons = [name for name in unused if "patient" in name.lower()] or label_columns.may_be_labels(unused)
    advice = f"; if one of them names the patient: --patient-column {persons[0]}" if persons and not known else ""
    print(f"columns not used: {few(unused)}{advice}")


def _find_masks(table: LabelTable, rows: pd.DataFrame, skip: bool) -> list[str]:
    """Put each mask's file in the place of its name, "" if there is none; return the names without a file, unless they stop."""
    names = rows["mask"]
    rows["mask"] = image_names.find_masks(table.images, names)
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


def _without_repeats(table: LabelTable, patient_column: str | None) -> tuple[pd.DataFrame, list[str]]:
    """One row per image that has a file, and the names that stand twice. Rows that say the same are harmless, others stop."""
    rows = table.rows[table.rows["_path"] != ""]
    others = [name for name in dict.fromkeys((patient_column, "patient", "mask", "given_split")) if name in rows]
    for columns, what in [(table.labels, "labels"), *(([name], name) for name in others)]:
        different = rows.drop_duplicates(["_path", *columns])
        twice = different["_path"][different["_path"].duplicated()]
        if len(twice):
            first, second = different.index[different["_path"] == twice.iloc[0]][:2] + table_text.FIRST_ROW
            raise UserError(
                f"{table.source}: {twice.nunique()} image(s) twice with different {what} "
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
    facts = table_text.read(source)
    column = _image_column(source, facts, table.images)
    facts["_path"] = image_names.find_exactly(table.images, facts[column])
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
    frame["patient"] = _spelled_alike(rows[column]).to_numpy()
    frame["slice"] = [reader_tables.slice_number(name) for name in frame["image_id"]]
    return f"column {column}"


def _spelled_alike(patients: pd.Series) -> pd.Series:
    """13 and 0013, p1 and P1 are one patient, who is called as in the longest spelling: taken for two they might leak."""
    plain = patients.str.lower().str.replace(r"\d+", lambda number: number[0].lstrip("0") or "0", regex=True)
    name = patients.groupby(plain).agg(lambda each: max(each, key=len))
    spellings = patients.groupby(plain).unique()
    several = spellings[spellings.map(len) > 1]
    if len(several):
        print(f"{len(several)} patient(s) are written in several ways and taken as one (first: {few(several.iloc[0])})")
    return plain.map(name)


def _copy_columns(source: Path, rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Copy `slice` and the optional columns; numbers must be numbers, splits train, val or test."""
    for name in ("slice", *tables.OPTIONAL_COLUMNS):
        if name not in rows:
            continue
        cells = rows[name]
        if name in NUMBER_COLUMNS:
            values = pd.to_numeric(cells.where(cells != "", None).str.replace(",", "."), errors="coerce")
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
    if not facts or patient_source == tables.NO_PATIENTS:
        return None
    known = rows[facts].where(rows[facts] != "", None).rename(columns=lambda name: name.lower().replace("gender", "sex"))
    return known.groupby(frame["patient"].to_numpy()).first().rename_axis("patient").reset_index()
