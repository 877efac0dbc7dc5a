"""Labels and boxes of converted slices, from their masks and from the tables of a known source.

Label columns are added to slices.csv, so that scripts/03_make_labels.py needs no flag; boxes stand in conversion/boxes.csv.
A label is 1, 0 or empty: unknown, because there is neither a mask nor a row, or because only the study is known to bleed.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError, few
from hemoct.ingest import conversion_tables, label_columns, rsna_reader, table_text
from hemoct.ingest.annotations import FARTHEST
from hemoct.sources import known
from hemoct.sources.folder import Contents
from hemoct.sources.known import ANY, Known

LESION = "lesion"
"""the label and the class of masks of which nothing more is known"""
READERS = 2  # of three that have to agree
CQ500_LABELS = {"ICH": ANY, "IPH": "intraparenchymal", "IVH": "intraventricular", "SDH": "subdural", "EDH": "epidural"}
CQ500_LABELS |= {"SAH": "subarachnoid", "Fracture": "fracture"}
CONTRAST = re.compile(r"POST.?CONTRAST|\bC\+|CONTRAST|CECT", re.IGNORECASE)
PLAIN = re.compile(r"PLAIN|NON.?CONTRAST|\bNC\b", re.IGNORECASE)


@dataclass
class Slices:
    """The slices of a conversion, and what becomes known of them."""

    table: pd.DataFrame
    """slices.csv, all text, and `number`: the slice's place in its file, from 1; `sop`, `scale_row`, `scale_col`"""
    boxes: pd.DataFrame
    """conversion/boxes.csv"""
    labels: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Int64, the rows of `table`"""
    told: list[str] = field(default_factory=list)
    """lines for people"""
    used: set[Path] = field(default_factory=set)
    """tables of the source that were read, below its folder"""


def add(target: Path, contents: Contents, source: Known | None) -> Slices:
    """Add labels and boxes to the tables of a conversion in `target`."""
    known_table = source is not None and source.name in TABLES
    if not known_table and "mask" not in table_text.header(target / conversion_tables.TABLE):  # of hundreds of thousands, perhaps
        return Slices(pd.DataFrame(), pd.DataFrame())
    table = pd.read_csv(target / conversion_tables.TABLE, dtype=str, keep_default_na=False)
    needed = ["stored", "sop", "scale_row", "scale_col"]
    headers = pd.read_csv(target / conversion_tables.HEADERS, dtype=str, keep_default_na=False, usecols=needed)
    table["number"] = pd.to_numeric(headers["stored"]).add(1).astype("Int64")
    table["sop"] = headers["sop"]
    table[["scale_row", "scale_col"]] = headers[["scale_row", "scale_col"]].astype(float)
    boxes = target / conversion_tables.BOXES
    empty = pd.DataFrame(columns=conversion_tables.COLUMNS[conversion_tables.BOXES])
    made = Slices(table, pd.read_csv(boxes) if boxes.is_file() else empty)
    if "mask" in table:
        _from_masks(made, source)
    if known_table:
        TABLES[source.name](made, contents)
    if not made.labels.columns.empty:
        columns = [name for name in table if name not in ("number", "sop", "scale_row", "scale_col")]
        tables.write_csv(target / conversion_tables.TABLE, pd.concat([table[columns], made.labels], axis=1))
    if len(made.boxes):
        tables.write_csv(boxes, made.boxes)
    return made


def _from_masks(made: Slices, source: Known | None) -> None:
    """A label for each value that has a name, else one for all; classes of boxes likewise."""
    values = source.values if source else {}
    lesion = source.lesion if source else LESION
    found = sorted(made.boxes["class"].unique())
    strange = [value for value in found if values and value not in values]
    made.boxes["class"] = made.boxes["class"].map(lambda value: values.get(value, f"value_{value}") if values else lesion)
    names = [*values.values(), *(f"value_{value}" for value in strange)] or [lesion]
    present = pd.crosstab(made.boxes["image"], made.boxes["class"]).reindex(made.table["image"], columns=names, fill_value=0)
    labels = (present.reset_index(drop=True) > 0).astype("Int64")
    if values:
        labels[ANY] = labels.max(axis=1)
    made.labels = labels.where(made.table["mask"] != "")
    masks = int((made.table["mask"] != "").sum())
    made.told.append(f"{masks} slices have a mask, {int((made.labels.iloc[:, -1] == 1).sum())} of them with a lesion")
    if not values and len(found) > 1:
        values_found = f"the masks have the values {few(found)}"
        made.told.append(f"  {values_found}: each counts as {lesion}; of one value alone: --mask-value of task 3")
    if strange:
        made.told.append(f"  the masks have the values {few(strange)}, which have no name")


def _read(made: Slices, contents: Contents, path: Path | None) -> pd.DataFrame:
    """A table of the source, remembered as used."""
    if path is None:
        raise UserError(f"{contents.folder} lacks the table that this data set has; download it again")
    made.used.add(path)
    return table_text.read(contents.folder / path)


def _ct_ich(made: Slices, contents: Contents) -> None:
    """The types of each slice. Its number counts slices in the order of the file, from 1."""
    path = known.with_columns(contents, r"hemorrhage_diagnosis_raw_ct\.csv", "PatientNumber", "SliceNumber")
    rows = _read(made, contents, path)
    for name in ("PatientNumber", "SliceNumber"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce").astype("Int64")
    rows = rows[rows["PatientNumber"].notna() & rows["SliceNumber"].notna()]
    twice = rows.duplicated(["PatientNumber", "SliceNumber"])
    if twice.any():
        raise UserError(
            f"{contents.folder / path} has {int(twice.sum())} slice(s) twice (row {twice.idxmax() + 2}); keep one row"
        )
    keys = {"PatientNumber": made.table["file"].map(lambda name: _number(Path(name).name)), "SliceNumber": made.table["number"]}
    columns = {name.capitalize(): name for name in rsna_reader.TYPES}
    columns |= {"No_Hemorrhage": ANY, "Fracture_Yes_No": "fracture"}
    columns = {name: label for name, label in columns.items() if name in rows}
    cells = pd.DataFrame(keys).merge(rows, how="left")[[*columns]].fillna("")
    labels = pd.DataFrame({label: label_columns.values(contents.folder / path, cells[name]) for name, label in columns.items()})
    if ANY in labels:
        labels[ANY] = 1 - labels[ANY]
    missing = int(cells.eq("").all(axis=1).sum())
    more = len(rows) - (len(cells) - missing)
    if missing or more:
        made.told.append(f"  {missing} slices have no row in {path}, {more} of its rows have no slice")
    _tell_contradictions(made, labels)
    made.labels = labels


def _number(name: str) -> int | None:
    found = re.match(r"\d+", name)
    return int(found[0]) if found else None


def _tell_contradictions(made: Slices, labels: pd.DataFrame) -> None:
    """Say where a mask and the table disagree; the table counts."""
    masked = made.labels.get(ANY)
    if masked is not None and ANY in labels:
        apart = int((masked.notna() & labels[ANY].notna() & (masked != labels[ANY])).sum())
        if apart:
            made.told.append(
                f"  mask and table disagree on {apart} slices whether there is bleeding: the label is that of the table"
            )


def _cq500(made: Slices, contents: Contents) -> None:
    """Two of three readers. Of a negative study each slice is negative; of a positive one nothing is known of a single slice."""
    study = _cq500_studies(made, contents)
    numbers = made.table["file"].where(made.table["file"].str.contains("CQ500", case=False), made.table["patient"])
    numbers = numbers.str.extract(r"CQ500[-_ ]?CT[-_ ]?(\d+)", flags=re.IGNORECASE)[0]
    known_number = numbers.notna()
    made.table.loc[known_number, "patient"] = "CQ500-CT-" + numbers[known_number]
    of_slice = study.reindex(made.table["patient"]).reset_index(drop=True)
    made.labels = of_slice.mask(of_slice == 1)
    there = made.table["patient"].drop_duplicates()
    told = study.reindex(there)[ANY]
    made.told.append(
        f"truth = two of three readers, of the study: {int((told == 1).sum())} positive (their slices are unknown), "
        f"{int((told == 0).sum())} negative, {int(told.isna().sum())} without a row"
    )
    contrast = made.table["file"].map(lambda name: bool(CONTRAST.search(name)) and not PLAIN.search(name))
    if contrast.any():
        made.told.append(
            f"  {int(contrast.sum())} slices are post contrast, told by their folders; delete them from slices.csv at will"
        )


def _cq500_studies(made: Slices, contents: Contents) -> pd.DataFrame:
    """Labels (Int64) of each study by `CQ500-CT-N`: what two of three readers say."""
    path = known.with_columns(contents, r"reads\.csv", "name", "R1:ICH")
    rows = _read(made, contents, path)
    votes = {}
    for sign, label in CQ500_LABELS.items():
        readers = [name for name in rows if re.fullmatch(rf"R\d:{sign}", name)]
        if readers:
            read = pd.DataFrame({name: label_columns.values(contents.folder / path, rows[name]) for name in readers})
            positive, negative = (read == 1).sum(axis=1), (read == 0).sum(axis=1)
            votes[label] = (positive >= READERS).astype("Int64").where((positive >= READERS) | (negative >= READERS))
    numbers = rows["name"].str.extract(r"(\d+)$")[0]
    return pd.DataFrame(votes).set_axis("CQ500-CT-" + numbers).groupby(level=0).first()


def _bhx(made: Slices, contents: Contents) -> None:
    """Boxes by SOP instance; a slice with boxes has known types, one without is unknown unless its study is negative."""
    candidates = {}
    for path in contents.tables:
        if match := re.fullmatch(known.BHX_TABLE, path.name, re.IGNORECASE):
            candidates[int(match[1])] = path
    path = next(candidates[kind] for kind in (2, 3, 1) if kind in candidates)
    rows = _read(made, contents, path)
    places = pd.Series(made.table.index, index=made.table["sop"])
    rows["place"] = rows["SOPInstanceUID"].map(places[~places.index.duplicated()])
    rows["box"] = rows["data"].map(_bhx_box)
    broken, elsewhere = rows["box"].isna(), rows["place"].isna()
    rows = rows[~broken & ~elsewhere]
    boxes = pd.DataFrame(rows["box"].to_list(), columns=["xmin", "ymin", "xmax", "ymax"], dtype=float)
    of_box = made.table.loc[rows["place"].astype(int), ["image", "scale_row", "scale_col"]].reset_index(drop=True)
    boxes[["xmin", "xmax"]] = boxes[["xmin", "xmax"]].mul(of_box["scale_col"], axis=0)
    boxes[["ymin", "ymax"]] = boxes[["ymin", "ymax"]].mul(of_box["scale_row"], axis=0)
    boxes.insert(0, "class", rows["labelName"].str.lower().to_list())
    boxes.insert(0, "image", of_box["image"])
    if known.with_columns(contents, r"reads\.csv", "name", "R1:ICH"):
        _cq500(made, contents)
    names = [*rsna_reader.TYPES, *sorted({*boxes["class"]} - {*rsna_reader.TYPES})]
    present = pd.crosstab(boxes["image"], boxes["class"]).reindex(made.table["image"], columns=names, fill_value=0)
    present = (present.reset_index(drop=True) > 0).astype("Int64").assign(any=1)
    boxed = made.table["image"].isin(boxes["image"])
    labels = made.labels.reindex(made.table.index, columns=[*present]).astype("Int64")
    labels.loc[labels[ANY] == 0] = labels.loc[labels[ANY] == 0].fillna(0)
    made.labels = labels.where(~boxed, present)
    made.boxes = boxes.drop_duplicates()
    if (twice := len(boxes) - len(made.boxes)) > 0:
        made.told.append(f"  {twice} boxes stand there twice: left out")
    made.told.append(f"{len(made.boxes)} boxes of {path.name} on {int(boxed.sum())} slices")
    for count, what in (
        (int(broken.sum()), "cannot be read"),
        (int((elsewhere & ~broken).sum()), "are of slices that are not here"),
    ):
        if count:
            made.told.append(f"  {count} boxes {what}: left out")


def _bhx_box(cell: str) -> tuple[float, float, float, float] | None:
    """xmin, ymin, xmax, ymax from `{'x': 1, 'y': 2, 'width': 3, 'height': 4}`."""
    try:
        box = ast.literal_eval(cell)
        x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    except (ValueError, SyntaxError, KeyError, TypeError):
        return None
    fits = width > 0 and height > 0 and all(abs(value) < FARTHEST for value in (x, y, width, height))
    return (x, y, x + width, y + height) if fits else None


def _mbh_seg(made: Slices, contents: Contents) -> None:
    """Scans without a mask: what the case does not have, none of its slices has; of what it has nothing is known of a slice."""
    path = known.with_columns(contents, r"case-wise_annotation\.csv", "patientID_studyID")
    if path is None:
        return
    rows = _read(made, contents, path)
    names = [name for name in (*rsna_reader.TYPES, ANY) if name in rows]
    case = pd.DataFrame({name: label_columns.values(contents.folder / path, rows[name]) for name in names})
    case = case.set_axis(rows["patientID_studyID"]).groupby(level=0).first()
    if ANY not in case:
        case[ANY] = case.max(axis=1)
    ids = made.table["file"].str.extract(r"(ID_[0-9a-f]+_ID_[0-9a-f]+)")[0]
    of_slice = case.reindex(ids).reset_index(drop=True)
    unknown = of_slice.mask(of_slice == 1).reindex(columns=[*rsna_reader.TYPES, ANY])
    made.labels = made.labels.reindex(made.table.index, columns=[*unknown]).astype("Int64").fillna(unknown)
    made.told.append(f"{len(case)} cases in {path}: a type that a case lacks is 0 on all of its slices without a mask")


TABLES: dict[str, Callable[[Slices, Contents], None]] = {"ct-ich": _ct_ich, "cq500": _cq500, "bhx": _bhx, "mbh-seg": _mbh_seg}
"""what reads the tables of a source, by its name"""
