"""The labels of the RSNA 2019 hemorrhage challenge: `ID_xxx_epidural,Label` rows, six for an image, 4.5 million in all.

The table is read in chunks and kept as numbers: 4.5 million names as text would take some gigabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ingest import csv_reader, label_columns, layouts, table_text
from hemoct.ingest.options import Options
from hemoct.ingest.reader_tables import LabelTable, Tables, problems_frame

TYPES = ["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
LABELS = [*TYPES, "any"]
CHUNK = 50_000  # rows in memory as text
UNKNOWN = -1


@dataclass(frozen=True)
class Truth:
    """The labels in the table, one row per image."""

    names: np.ndarray
    """object (n,): `ID_xxx`, in the order of the file"""
    values: np.ndarray
    """int8 (n, 6), LABELS: 0, 1 or UNKNOWN if the table has no such row"""
    repeats: int
    """rows that repeat another row with the same label"""


def read(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Labels of the images in data/raw/NAME, in whatever folder: PNG from 01_get_data.py, or else the .dcm files themselves."""
    there = layouts.rsna_tables(work.raw, listing)
    if options.csv is None and not there:
        raise UserError(f"{work.raw} has no stage_2_train.csv with the columns ID and Label; add it, or name it with --csv FILE")
    source = layouts.named_table(work.raw, options.csv or there[-1])
    labels = options.labels or LABELS
    absent = [name for name in labels if name not in LABELS]
    if absent:
        raise UserError(f"{source} has no label {absent[0]}; it has {', '.join(LABELS)}; correct --labels")
    truth = read_truth(source)
    if truth.repeats:
        print(f"{truth.repeats} row(s) repeat another one with the same label and are left out")
    contradictions = _print_any(truth)

    images = layouts.images_or_dicom(listing)
    dicom = layouts.only_suffix(images, ".dcm")
    if dicom:
        print(f"{len(dicom)} images are DICOM files, whose patients are not read: convert them first (01_get_data.py --from)")
    by_name = {path.stem: path.as_posix() for path in images}
    rows = pd.DataFrame(truth.values, columns=LABELS)[labels].astype("Int8").replace(UNKNOWN, pd.NA).astype("Int64")
    rows["_name"], rows["_path"] = truth.names, [by_name.get(name, "") for name in truth.names]
    made = csv_reader.rows_to_tables(work.dataset, LabelTable(work.raw, source, rows, labels, images, "rsna"), options)
    problems = problems_frame({"`any` disagrees with the types": contradictions})
    return replace(made, problems=pd.concat([made.problems, problems], ignore_index=True))


def read_truth(source: Path) -> Truth:
    """Read the table. A row that is not `ID_TYPE,0|1` stops, and so does one that contradicts an earlier one."""
    places: dict[str, int] = {}
    cells, labels = [], []
    for chunk in _chunks(source):
        cells.append(_cells(source, chunk["ID"], places))
        labels.append(label_columns.values(source, chunk["Label"], "correct it").fillna(UNKNOWN).to_numpy(np.int8))
    if not cells:
        raise UserError(f"{source} has no rows; download it again or name another with --csv")
    return _one_row_each(source, np.array([*places], dtype=object), np.concatenate(cells), np.concatenate(labels))


def _cells(source: Path, ids: pd.Series, places: dict[str, int]) -> np.ndarray:
    """The cell of each row, int32: the place of its image in the order of the file, times 6, plus its kind.

    `places`: of the images so far; new ones are added. A loop, for pandas takes six times as long to split texts.
    """
    kinds, cells = {name: kind for kind, name in enumerate(LABELS)}, []
    before, start = "", 0
    for text in ids.tolist():
        name, _, word = text.rpartition("_")
        if name != before:  # mostly the rows of an image follow one another
            before, start = name, places.setdefault(name, len(places)) * len(LABELS)
        kind = kinds.get(word)
        if kind is None or not name:
            raise UserError(
                f"{source}: row {ids.index[len(cells)] + table_text.FIRST_ROW}, ID is {text!r} where "
                f"ID_xxx_TYPE is expected (TYPE: {', '.join(LABELS)}); correct it"
            )
        cells.append(start + kind)
    return np.array(cells, dtype=np.int32)


def _chunks(source: Path) -> Iterator[pd.DataFrame]:
    """The columns ID and Label as text, CHUNK rows at a time."""
    options = {"usecols": ["ID", "Label"], "dtype": object, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        for chunk in pd.read_csv(source, chunksize=CHUNK, sep=table_text.separator(source), **options):
            if len(chunk):
                yield chunk
    except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError) as error:
        raise UserError(
            f"{source} cannot be read as a table with the columns ID and Label ({error}); download it again"
        ) from None


def _one_row_each(source: Path, names: np.ndarray, cells: np.ndarray, labels: np.ndarray) -> Truth:
    """The labels of each image from the cell (see `_cells`) and the label of each row, (rows,).

    Contradictions stop.
    """
    absent = UNKNOWN - 1
    values = np.full(len(names) * len(LABELS), absent, dtype=np.int8)
    values[cells] = labels
    if (values[cells] != labels).any():
        once = pd.DataFrame({"cell": cells, "label": labels}).drop_duplicates()
        again = once[once.duplicated("cell")]
        cell = again["cell"].iloc[0]
        first = once.index[once["cell"] == cell][0] + table_text.FIRST_ROW
        image, kind = divmod(cell, len(LABELS))
        raise UserError(
            f"{source}: {names[image]}_{LABELS[kind]} twice with different labels (rows {first} and "
            f"{again.index[0] + table_text.FIRST_ROW}; {len(again)} such in all); keep one row"
        )
    repeats = len(cells) - int((values != absent).sum())
    return Truth(names, np.maximum(values, UNKNOWN).reshape(-1, len(LABELS)), repeats)


def any_disagrees(values: np.ndarray) -> np.ndarray:
    """bool (n,): `any` is 0 while a type is 1, or 1 while all five types are 0. Unknown labels contradict nothing."""
    types, any_type = values[:, : len(TYPES)], values[:, len(TYPES)]
    return ((any_type == 0) & (types == 1).any(axis=1)) | ((any_type == 1) & (types == 0).all(axis=1))


def _print_any(truth: Truth) -> np.ndarray:
    """Print whether `any` agrees with the types; return the names of the images where it does not. Nothing is changed."""
    names, total = truth.names[any_disagrees(truth.values)], f"{len(truth.names)} images"
    if len(names):
        print(f"`any` disagrees with the types on {len(names)} of {total} (first: {names[0]}); left as it is")
    else:
        print(f"`any` agrees with the types on all {total} of the table")
    return names
