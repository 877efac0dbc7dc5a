"""Every table that steps exchange (columns and rules): read, validated and written in this one place.

Identifiers are text everywhere: patient `0013` must not become 13.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import files
from hemoct.base.errors import UserError, few, one_line
from hemoct.base.schemas import Damaged
from hemoct.base.workspace import Workspace

IMAGE_COLUMNS = ["image_id", "patient", "slice", "image", "mask", "annotation"]
OPTIONAL_COLUMNS = ["spacing_row", "spacing_col", "spacing_z", "position", "group", "given_split"]
BOX_COLUMNS = ["image_id", "class", "xmin", "ymin", "xmax", "ymax"]
REPAIR_COLUMNS = ["file", "problem", "repair"]
SPLIT_COLUMNS = ["image_id", "patient", "fold", "slice_fold"]
PREDICTION_COLUMNS = ["image_id", "patient", "fold", "part"]
TEXT_COLUMNS = {"image_id", "patient", "image", "mask", "annotation", "group", "given_split", "class", "part", "file"}
MEASURED = {"height", "width", "content", "bright", "digest", "image_state", "mask_height", "mask_width", "mask_content",
            "mask_pixels", "mask_value", "mask_values", "mask_state", "mask_note", "mask_corners", "mm2"}  # fmt: skip
"""what step 04 adds to the columns of labels.csv"""
WORD_COLUMNS = {*TEXT_COLUMNS, *REPAIR_COLUMNS, "sha256", "unit", "distance_unit", "label", "name", "experiment", "metric",
                "rule_on_validation", "note", "protocol", "shown", "check", "fatal", "detail"}  # fmt: skip
"""all other columns that a reader asks for have numbers"""
RESERVED = {*IMAGE_COLUMNS, *OPTIONAL_COLUMNS, *SPLIT_COLUMNS, *PREDICTION_COLUMNS, *TEXT_COLUMNS, *MEASURED}
"""names that no label may have: labels are columns beside these"""
NO_NUMBER = ["", "NA", "N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "none", "None", "null", "NULL"]
JOINED = {"labels.csv", "boxes.csv", "splits.csv", "patients.csv", "images.csv", "slices.csv", "headers.csv", "predictions.csv",
          "train_predictions.csv", "history.csv"}  # fmt: skip
"""tables that programs join by identifiers, written as they are; in all others no cell is a formula, see `harmless`"""
FORMULA = re.compile(r"'*[=+\-@\t\r]")
PARTS = ("train", "val", "test")
NO_PATIENTS = "none: each image is its own group"
"""`patient_source` of data in which nothing names the patient"""


@dataclass
class Dataset:
    """`dataset.json`: what labels.csv and boxes.csv hold, and where they come from."""

    name: str
    layout: str
    labels: list[str]
    """label columns of labels.csv, in order"""
    exclusive: bool = False
    """the label columns are one-hot classes: softmax instead of sigmoid"""
    classes: list[str] = field(default_factory=list)
    """box classes, in the order of their class id"""
    image_size: list[int] | None = None
    """[width, height] in pixels when all images agree"""
    licence: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    patient_source: str = ""
    """where `patient` comes from: "folder", "regex ...", "column ...", "none: each image is its own group"; "" = not told"""
    orientation: str = ""
    """where the nose points: left, up, right, down or unknown (see hemoct.prepare.orientation); "" = never looked for"""
    source: str = ""
    """the public data set that this is, by its name in hemoct.sources.known; "" = none that is known"""

    @property
    def knows_patients(self) -> bool:
        """Whether it is known which images are of one person. (Older tables do not tell: they are believed.)"""
        return self.patient_source != NO_PATIENTS


def read_csv(path: Path, required: Iterable[str], rows: bool = True, numbers: bool = True) -> pd.DataFrame:
    """Read a CSV with identifiers as text; stop with one line when it is broken, lacks a column, or has no `rows` where it must,
    or, with `numbers`, where a required column that is not in WORD_COLUMNS has something else in a cell.

    In text columns a patient or class may be called `NA` or `None`: nothing there is missing but the empty cell, as "".
    """
    try:
        header = pd.read_csv(path, nrows=0)
        text = {column: "str" for column in header.columns if column in TEXT_COLUMNS}
        missing_by = {column: NO_NUMBER for column in header.columns if column not in text}
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing_by)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (ValueError, OverflowError) as error:  # no text, no table, numbers without end
        raise Damaged(f"{path} cannot be read as CSV ({one_line(error)}); make it again with the step that wrote it") from None
    if path.name not in JOINED:
        frame = _every_cell(frame, as_written)
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise Damaged(f"{path} lacks the column(s) {', '.join(missing)}; it has {few(frame.columns)}")
    if frame.empty and rows:
        raise Damaged(f"{path} has no rows; check its source and make it again")
    frame[list(text)] = frame[list(text)].fillna("")  # a row that ends early
    for column in frame.columns.intersection([*required] if numbers else []).difference([*WORD_COLUMNS]):
        _stop_at_words(path, frame[column])
    return frame


def _stop_at_words(path: Path, cells: pd.Series) -> None:
    """Stop at the first cell that is no number, in a column that has nothing but numbers and empty cells; none has infinity."""
    if pd.api.types.is_bool_dtype(cells) and len(cells):  # True and False stand for no number
        cells = cells.astype(str)
    numbers = pd.to_numeric(cells, errors="coerce")
    bad = cells[(numbers.isna() & cells.notna()) | np.isinf(numbers.astype(float))]
    if len(bad):
        raise Damaged(
            f"{path}: {cells.name} is {bad.iloc[0]!r:.40} in row {bad.index[0] + 2} where a number belongs; restore the table, "
            "or make it again with the step that wrote it"
        )


def number(text: str) -> float:
    """A number as people write it, a comma for the point too; NaN for anything else. Python alone takes 1_0 for 10."""
    try:
        return math.nan if "_" in text else float(text.replace(",", "."))
    except ValueError:
        return math.nan


def harmless(cell: Any) -> Any:
    """A cell that Excel shows as text: what begins like a formula and is no number gets an apostrophe. Undone by `as_written`."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) and math.isnan(number(cell)) else cell


def as_written(cell: Any) -> Any:
    """The inverse of `harmless`."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and FORMULA.match(cell) else cell


def _every_cell(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """A frame with all texts changed, names of columns too; the same one where there is nothing to change."""
    texts = frame.select_dtypes(["object", "string"])
    at_risk = [name for name in texts.columns.unique() if texts[name].astype("str").str.match(FORMULA).any(axis=None)]
    changed = {name: frame[name].map(change) for name in at_risk}
    return frame.assign(**changed).rename(columns=change) if changed or any(map(FORMULA.match, map(str, frame))) else frame


def write_csv(path: Path, frame: pd.DataFrame, **options: Any) -> Path:
    """Write a CSV whole or not at all. Floats keep eight significant digits; see also JOINED."""
    frame = frame if path.name in JOINED else _every_cell(frame, harmless)
    with files.replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.8g", lineterminator="\n", **options)
    return path


def write_dataset(work: Workspace, dataset: Dataset) -> Path:
    return files.write_json(work.work / "dataset.json", asdict(dataset))


def read_dataset(work: Workspace) -> Dataset:
    path = work.need(work.work / "dataset.json", "scripts/03_make_labels.py")
    return files.read_into(Dataset, files.read_json(path), path)


def write_labels(work: Workspace, frame: pd.DataFrame, dataset: Dataset) -> Path:
    """Write labels.csv with its columns in the agreed order, rows sorted by patient, slice and image_id."""
    columns = IMAGE_COLUMNS + dataset.labels + [name for name in OPTIONAL_COLUMNS if name in frame.columns]
    _check_labels(frame, dataset, "the labels")
    frame = frame.sort_values(["patient", "slice", "image_id"], kind="stable")
    return write_csv(work.work / "labels.csv", frame[columns])


def read_labels(work: Workspace, dataset: Dataset) -> pd.DataFrame:
    """labels.csv as a frame; label columns are nullable integers 0, 1 or NA (unknown), `slice` is a nullable integer."""
    path = work.need(work.work / "labels.csv", "scripts/03_make_labels.py")
    frame = read_csv(path, IMAGE_COLUMNS + dataset.labels, numbers=False)  # all that is wrong with labels in one line
    _stop_at_words(path, frame["slice"])
    _check_labels(frame, dataset, str(path))
    return frame.astype(dict.fromkeys(["slice", *dataset.labels], "Int64"))


def _check_labels(frame: pd.DataFrame, dataset: Dataset, source: str) -> None:
    """Name everything that is wrong with a label table in one error."""
    problems = []
    twice = frame["image_id"][frame["image_id"].duplicated()].unique()
    if len(twice):
        problems.append(f"{len(twice)} image_id more than once (first: {twice[0]})")
    for column in ("image_id", "patient", "image"):
        if (frame[column] == "").any() or frame[column].isna().any():
            problems.append(f"empty {column}")
    for column in dataset.labels:
        values = pd.to_numeric(frame[column], errors="coerce")
        wrong = frame.loc[(values.isna() & frame[column].notna()) | ~(values.isna() | values.isin([0, 1])), column]
        if len(wrong):
            problems.append(f"label {column} is {wrong.iloc[0]} where 0, 1 or empty is allowed ({len(wrong)} rows)")
    if dataset.exclusive and not problems:
        sums = frame[dataset.labels].astype("Float64").sum(axis=1, skipna=False)
        if (sums.dropna() != 1).any():
            problems.append("exclusive classes must add up to 1 in each row")
    if problems:
        raise UserError(f"{source}: {'; '.join(problems)}; correct the source and run scripts/03_make_labels.py again")


def rename_labels(frame: pd.DataFrame, dataset: Dataset, names: dict[str, str]) -> tuple[pd.DataFrame, Dataset]:
    """labels.csv and dataset.json in which labels and box classes are called as `names` says (old: new).

    Several that become one are 1 where one of them is 1, 0 where all are, else unknown. Stops at a label that is not there.
    """
    absent = [name for name in names if name not in (*dataset.labels, *dataset.classes)]
    if absent:
        raise UserError(f"--map: {dataset.name} has no label {absent[0]}; it has {few(dataset.labels)}")
    new = {name: names.get(name, name) for name in dataset.labels}
    joined = {}
    for name in dict.fromkeys(new.values()):
        values = frame[[old for old in dataset.labels if new[old] == name]].astype("Int64")
        joined[name] = values.max(axis=1).where(values.eq(1).any(axis=1) | values.notna().all(axis=1))
    classes = list(dict.fromkeys(names.get(name, name) for name in dataset.classes))
    renamed = frame.drop(columns=dataset.labels).assign(**joined)
    return renamed, replace(dataset, labels=list(joined), classes=classes)


def write_boxes(work: Workspace, frame: pd.DataFrame) -> Path:
    return write_csv(work.work / "boxes.csv", frame[BOX_COLUMNS])


def read_boxes(work: Workspace, whole: bool = True) -> pd.DataFrame:
    """boxes.csv, zero-based pixels, width = xmax - xmin. A data set without boxes has the header alone.

    Stops at a box without a corner, unless not `whole`: the check of the data lists them.
    """
    path = work.need(work.work / "boxes.csv", "scripts/03_make_labels.py")
    frame = read_csv(path, BOX_COLUMNS, rows=False)
    without = frame.index[frame.isna().any(axis=1)]
    if whole and len(without):
        raise Damaged(f"{path}: the box in row {without[0] + 2} lacks a corner; run scripts/03_make_labels.py again")
    return frame


def read_repairs(work: Workspace) -> pd.DataFrame:
    """repairs.csv of step 02; without rows where there is none."""
    path = work.work / "repairs.csv"
    return read_csv(path, REPAIR_COLUMNS, rows=False) if path.exists() else pd.DataFrame(columns=REPAIR_COLUMNS, dtype=str)


def read_patients(work: Workspace) -> pd.DataFrame | None:
    """patients.csv (`patient`, then whatever is known), or None where nothing is known."""
    path = work.work / "patients.csv"
    return read_csv(path, ["patient"]) if path.exists() else None


def write_patients(work: Workspace, frame: pd.DataFrame | None) -> Path | None:
    """Write patients.csv; None (nothing is known) takes away one of an earlier run."""
    path = work.work / "patients.csv"
    if frame is None:
        path.unlink(missing_ok=True)
        return None
    return write_csv(path, frame)


def write_splits(work: Workspace, frame: pd.DataFrame) -> Path:
    return write_csv(work.work / "splits.csv", frame[SPLIT_COLUMNS])


def read_splits(work: Workspace) -> pd.DataFrame:
    path = work.need(work.work / "splits.csv", "scripts/05_make_splits.py")
    return read_csv(path, SPLIT_COLUMNS)


def with_columns(frame: pd.DataFrame, classes: list[str], targets: np.ndarray | None, probabilities: np.ndarray) -> pd.DataFrame:
    """`frame` with y_LABEL (where there are `targets`) and p_LABEL for each class; both arrays are (n, classes)."""
    for column, name in enumerate(classes):
        if targets is not None:
            frame[f"y_{name}"] = pd.array(targets[:, column], dtype="Float64").astype("Int64")  # NaN, unknown, becomes empty
        frame[f"p_{name}"] = probabilities[:, column]
    return frame


def write_predictions(folder: Path, frame: pd.DataFrame) -> Path:
    return write_csv(folder / "predictions.csv", frame)


def write_parts(folder: Path, frame: pd.DataFrame) -> list[Path]:
    """Write predictions.csv (val, test) and train_predictions.csv of a fold from the rows of all its slices."""
    trained = frame["part"] == "train"
    return [write_predictions(folder, frame[~trained]), write_csv(folder / "train_predictions.csv", frame[trained])]


def read_predictions(folder: Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """Predictions, whose `fold` may be `mean`; what they say is checked where they are used."""
    return read_csv(folder / "predictions.csv", [*PREDICTION_COLUMNS, *required], numbers=False)
