"""Labels of studies: study_labels.csv of data/work/NAME/studies/NAME, made from boxes, masks, slices or tables, and read again.

A row is a study (a patient, or where `group` is known a study of one), or with parts a run of its slices: `study, patient`,
`image_id` (its middle slice, by which it is known in predictions and has its fold), `first` and `last` slice, then the classes:
one column of 0 and 1, or several that add up to 1. Their names begin with `study_`, for slices have labels too.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import pixels, tables
from hemoct.base.errors import UserError, few
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, slices, volumes
from hemoct.prepare.options import KNOWN
from hemoct.volumes import scans, sides
from hemoct.volumes.study_options import SIDE, TABLE, VOLUME, StudyLabels

COLUMNS = ["study", "patient", "image_id", "first", "last"]
PREFIX = "study_"
MOST_CLASSES = 12
MADE_BY = "task1_classification/10_study_labels.py"


@dataclass(frozen=True)
class Bags:
    """The studies of a data set, or parts of them, as sets of slices."""

    table: pd.DataFrame
    """COLUMNS, and `group` where it is known; a row is a bag"""
    rows: np.ndarray
    """rows of the slices of each bag in their order, int64 (bags, longest), padded with -1 at the end"""

    def any(self, values: np.ndarray) -> np.ndarray:
        """Of values of slices (n,), 0, 1 or NaN, what holds for each bag: 1 where any is 1, 0 where all are 0, else NaN."""
        return slices.any_of(np.where(self.rows >= 0, values[self.rows], 0.0))

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of values of slices (n,) in each bag; NaN where one is."""
        return np.where(self.rows >= 0, values[self.rows], 0.0).sum(axis=1)


def bags(labels: pd.DataFrame, parts: int, shown: str = "labels.csv") -> Bags:
    """The studies of labels.csv, each cut into `parts`. Stops where the order of the slices is not known; see scans.scans."""
    whole = scans.scans(labels, source=shown, remedy="name slice and patient in the source of the labels")
    _stop_at_two_series(labels, whole, shown)
    pieces = [piece for scan in whole for piece in np.array_split(scan[scan >= 0], parts) if len(piece)]
    rows = np.full((len(pieces), max(map(len, pieces))), -1)
    for number, piece in enumerate(pieces):
        rows[number, : len(piece)] = piece
    middle, number = np.array([piece[len(piece) // 2] for piece in pieces]), labels["slice"].to_numpy(dtype=int)
    of_middle = labels.iloc[middle].reset_index(drop=True)
    first, last = (number[[piece[end] for piece in pieces]] for end in (0, -1))
    keys = ["patient", *(["group"] if "group" in labels else [])]
    table = of_middle[keys].assign(image_id=of_middle["image_id"], first=first, last=last)
    table.insert(0, "study", _names(table))
    return Bags(table, rows)


def _names(table: pd.DataFrame) -> pd.Series:
    """What studies are called: PATIENT, or PATIENT/GROUP where one has several, and of parts :FIRST_SLICE."""
    named = table["patient"]
    if "group" in table and (table.groupby("patient")["group"].nunique() > 1).any():
        named = named + "/" + table["group"]
    return named + ":" + table["first"].astype(str) if named.duplicated().any() else named


def _stop_at_two_series(labels: pd.DataFrame, whole: np.ndarray, shown: str) -> None:
    """Stop where the positions of a study go up and down: they are of two series, whose slices make no volume together."""
    if "position" not in labels:
        return
    position = labels["position"].astype(float).to_numpy()
    for scan in whole:
        steps = np.diff(position[scan[scan >= 0]])
        if (steps > 0).any() and (steps < 0).any():
            patient = labels["patient"].iloc[scan[0]]
            words = f"the slices of patient {patient} are of two series (their positions go up and down)"
            raise UserError(f"{shown}: {words}; keep one series a study and run scripts/03_make_labels.py again")


def make(work: Workspace, options: StudyLabels) -> pd.DataFrame:
    """The rows of study_labels.csv whose label is known; says which are left out, and why."""
    labels = tables.read_labels(work, tables.read_dataset(work)).sort_values(["patient", "slice", "image_id"], ignore_index=True)
    found = bags(labels, options.parts, work.show(work.work / "labels.csv"))
    values = _values(work, options, labels, found)
    if options.above is not None:
        numbers = pd.to_numeric(values, errors="coerce")
        values = (numbers > options.above).astype(float).where(numbers.notna())
    classes = _classes(options.label, values)
    known = values.notna().to_numpy()
    if not known.all():
        names = found.table["study"][~known].tolist()
        print(f"{len(names)} of {len(known)} studies or parts have no {options.label}, and are left out: {few(names)}")
    made = pd.concat([found.table, classes], axis=1)[known].reset_index(drop=True)
    _stop_at_a_class_of_one(made, list(classes))
    return made


def _values(work: Workspace, options: StudyLabels, labels: pd.DataFrame, found: Bags) -> pd.Series:
    """The value of the label of each bag, numbers or words; None or NaN where it is not known."""
    label, dataset = options.label, tables.read_dataset(work)
    if options.table is not None:
        table = tables.read_csv(options.table, [label], numbers=False)
        if "image_id" in table:  # a row an image: all of a study have to say the same
            keys = [name for name in ("image_id", "patient", "group") if name in labels]
            table = table[["image_id", label]].merge(labels[keys], on="image_id")
        elif "patient" not in table:
            raise UserError(f"{options.table} has neither patient nor image_id; name one of them as labels.csv does")
        return _of_table(options.table, table, label, found)
    if label == SIDE:
        return _side(work, options, labels, found)
    if label == VOLUME:
        return pd.Series(found.sum(_volumes(work, labels)))
    if label in dataset.labels:
        return pd.Series(found.any(labels[label].astype("Float64").to_numpy(dtype=float, na_value=np.nan)))
    patients = tables.read_patients(work)
    if patients is not None and label in patients:
        return _of_table(work.work / "patients.csv", patients, label, found)
    there = [SIDE, VOLUME, *dataset.labels, *([] if patients is None else [name for name in patients if name != "patient"])]
    raise UserError(
        f"--label {label}: no such label; there are {few(list(dict.fromkeys(there)))}, or name a table (--table FILE)"
    )


def _side(work: Workspace, options: StudyLabels, labels: pd.DataFrame, found: Bags) -> pd.Series:
    """The side that the boxes of each bag lie on; None without any, or on both sides."""
    orientation = prepared.orientation_of(work) if options.orientation == "auto" else options.orientation
    if orientation not in KNOWN:
        raise UserError("--label side: where the nose points is not known; say it: --orientation left, up, right or down")
    boxes = tables.read_boxes(work)
    if boxes.empty:
        raise UserError(f"--label side: {work.dataset} has no boxes; name a table with the side (--table FILE --label COLUMN)")
    left, right = sides.areas(work.raw, labels, boxes, orientation)
    left, right = found.sum(left), found.sum(right)
    share = left / np.where(left + right > 0, left + right, np.nan)
    side = np.select([share >= options.one_sided, share <= 1 - options.one_sided], ["left", "right"], default="")
    both = (left + right > 0) & (side == "")
    counts = f"{(side == 'left').sum()} left, {(side == 'right').sum()} right, {both.sum()} on both sides"
    print(f"side: {counts}, {(left + right == 0).sum()} without a box; left is the patient's where images are shown as "
          "radiologists do")  # fmt: skip
    return pd.Series(side).replace("", None)


def _volumes(work: Workspace, labels: pd.DataFrame) -> np.ndarray:
    """The volume of the mask of each slice, ml or pixels, float (n,); NaN where there is none."""
    factor, unit = volumes.per_slice(labels)
    if len(set(unit)) > 1:
        raise UserError(
            "--label volume: the spacing is known of some patients alone, so that volumes have two units; leave out those without"
        )
    names = labels["mask"].where(labels["mask"] != "", None)
    named = names.dropna().unique()
    lesions = images.decode([work.raw / name for name in named], "masks", lambda path: pixels.read_mask(path).lesion)
    value = {name: np.nan if lesion is None else float(lesion.sum()) for name, lesion in zip(named, lesions, strict=True)}
    return names.map(value).to_numpy(dtype=float) * factor


def _of_table(path: Path, table: pd.DataFrame, label: str, found: Bags) -> pd.Series:
    """The column `label` of a table of patients, or of studies where it has a `group`, for each bag."""
    if (found.table["study"].str.contains(":")).any():
        raise UserError(f"--parts: {path} says nothing of the parts of a study; leave it out, or take a label of slices")
    keys = ["patient", "group"] if {"group"} <= {*table} & {*found.table} else ["patient"]
    known = table.assign(**{label: table[label].replace("", None)}).dropna(subset=[label])[[*keys, label]].drop_duplicates()
    twice = known[known.duplicated(keys)]
    if len(twice):
        raise UserError(f"{path}: {label} differs within study {'/'.join(twice.iloc[0][keys])}; give each study one value")
    strangers = sorted(set(known["patient"]) - set(found.table["patient"]))
    if len(strangers) == known["patient"].nunique():
        raise UserError(
            f"{path} has {label} of no patient of labels.csv (its first: {few(strangers, 1)}); name patients as there"
        )
    if strangers:
        print(f"{path}: {len(strangers)} patients are not in labels.csv, and are left out: {few(strangers)}")
    return found.table[keys].merge(known, on=keys, how="left")[label]


def _classes(label: str, values: pd.Series) -> pd.DataFrame:
    """The columns of classes: one of 0 and 1, or of two words, which is 1 for the first; else one a class."""
    there = sorted(values.dropna().unique(), key=str)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().equals(values.notna()):
        if set(numbers.dropna()) <= {0, 1}:
            return pd.DataFrame({f"{PREFIX}{label}": numbers.astype("Int64")})
        if len(there) > MOST_CLASSES:
            raise UserError(f"--label {label} has {len(there)} different numbers; say above which it is 1: --above N")
    if len(there) > MOST_CLASSES or not there:
        raise UserError(f"--label {label} has {len(there)} different values; a label has 2 to {MOST_CLASSES}")
    columns = {f"{PREFIX}{label}_{value}": values.eq(value).astype("Int64").where(values.notna()) for value in there}
    return pd.DataFrame(dict([next(iter(columns.items()))]) if len(columns) == 2 else columns)


def _stop_at_a_class_of_one(made: pd.DataFrame, classes: list[str]) -> None:
    """Stop where a class has fewer than two patients: it would be missing in training or in test."""
    for name in classes:
        for value in (0, 1):
            patients = made["patient"][made[name] == value].unique()
            if len(patients) < 2:
                of = f"{patients[0]} alone" if len(patients) else "no patient"
                raise UserError(f"{name} is {value} of {of}; each class needs two patients at least, to train and to test with")


def path(work: Workspace, name: str) -> Path:
    """Where the labels of studies of this name lie."""
    return work.work / "studies" / name / TABLE


def read(work: Workspace, name: str) -> tuple[pd.DataFrame, list[str]]:
    """study_labels.csv, and its classes. Stops where it is not there."""
    where = path(work, name)
    if not where.exists():
        there = sorted(each.parent.name for each in (work.work / "studies").glob(f"*/{TABLE}"))
        others = f"; there are: {', '.join(there)}" if there else ""
        raise UserError(
            f"{work.show(where)} is missing{others}; make it with: python {MADE_BY} --dataset {work.dataset} --label {name}"
        )
    table = tables.read_csv(where, COLUMNS, numbers=False)
    return table.assign(study=_names(table)), [column for column in table if column.startswith(PREFIX)]
