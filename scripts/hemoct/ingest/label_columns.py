"""Which columns of a table are labels, and what their cells mean: 1, 0 or unknown in numbers or words, or the name of a class."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError, few
from hemoct.ingest.options import IMAGE_COLUMNS
from hemoct.ingest.table_text import FIRST_ROW

UNKNOWN = {"", "-1", "nan", "na", "n/a", "none", "null", "unknown", "?"}
WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t", "positive", "pos", "present"), 1),
    **dict.fromkeys(("no", "n", "false", "f", "negative", "neg", "absent"), 0),
}
PATIENT_FACTS = ("age", "sex", "gender", "side")
NO_LABELS = {*tables.IMAGE_COLUMNS, *tables.OPTIONAL_COLUMNS, *IMAGE_COLUMNS, *PATIENT_FACTS}
NO_LABELS |= {"study", "series", "path", "file", "split", "fold", "part", ""}
NUMBERING = re.compile(r"(.*[ _-])?(id|ids|idx|index|uid|nr|num|number|row|key)|unnamed: \d+|.*[a-z]U?ID")
CLASS_COLUMNS = ("label", "class", "category", "diagnosis", "target", "finding", "findings", "finding labels", "type")
NO_CLASS = {"no finding", "no findings"}
MOST_CLASSES = 20


@dataclass(frozen=True)
class Labels:
    """The labels of a table."""

    values: pd.DataFrame
    """Int64: 1, 0 or NA; one column a label, the rows of the table"""
    columns: list[str]
    """of the table, from which they come"""
    exclusive: bool = False
    """they are the classes of one column, of which each row has one"""


def read(source: Path, rows: pd.DataFrame, wanted: list[str] | None, other: set[str | None]) -> Labels:
    """The labels in the columns `wanted`, else in all that hold nothing but 1, 0 and unknown, or in one column of classes.

    `other` are columns with another meaning. A column in which most cells are labels and some are not stops, with the row.
    """
    candidates = wanted or [name for name in may_be_labels(rows.columns) if name not in other]
    if not candidates:
        raise UserError(
            f"{source} has no label column; it has {few(rows.columns)}; add a column of 1 and 0, or name it with --labels A,B"
        )
    are_labels = {name: _share(rows[name]) > 0.5 for name in candidates}
    if wanted is None and any(are_labels.values()):
        candidates = [name for name in candidates if are_labels[name]]
    elif not any(are_labels.values()) and (classes := _class_column(source, rows, candidates)):
        return classes
    _refuse_alike(source, candidates)
    return Labels(pd.DataFrame({name: values(source, rows[name], say=True) for name in candidates}), candidates)


def may_be_labels(columns: Iterable[str]) -> list[str]:
    """The columns that may be labels: all but those whose name says that they are something else."""
    return [name for name in columns if name.lower() not in NO_LABELS and not _numbers_rows(name)]


def _numbers_rows(name: str) -> bool:
    return bool(NUMBERING.fullmatch(name) or NUMBERING.fullmatch(name.lower()))


def values(
    source: Path, cells: pd.Series, remedy: str = "correct it, or name the label columns with --labels", say: bool = False
) -> pd.Series:
    """1, 0 or NA from text (Int64); anything else stops with column, row (line of the file) and value.

    With `say` it is printed how words were understood.
    """
    codes, told = pd.factorize(cells)
    meaning = [_value(cell) for cell in told]
    wrong = cells[np.array([each is None for each in meaning], dtype=bool)[codes]]
    if len(wrong):
        raise UserError(
            f"{source}: column {cells.name}, row {wrong.index[0] + FIRST_ROW} is {wrong.iloc[0]!r} where 1, 0, -1 or empty is "
            f"allowed ({len(wrong)} rows); {remedy}"
        )
    words = [f"{cell} = {each}" for cell, each in zip(told, meaning, strict=True) if cell.lower() in WORDS]
    if say and words:
        print(f"column {cells.name}: {', '.join(words)}")
    return pd.Series(pd.array(meaning, "Int64")[codes], cells.index, name=cells.name)


def _value(cell: str) -> object:
    """1, 0, NA for unknown, None for what is no label."""
    word = cell.lower()
    if word in UNKNOWN:
        return pd.NA
    if word in WORDS:
        return WORDS[word]
    return {1.0: 1, 0.0: 0, -1.0: pd.NA}.get(tables.number(word))


def _share(cells: pd.Series) -> float:
    """The share of the cells that are labels, among those that say anything; 1 where none does."""
    told = cells[~cells.str.lower().isin(UNKNOWN)]
    return 1.0 if told.empty else float(told.map({cell: _value(cell) is not None for cell in told.unique()}).mean())


def _class_column(source: Path, rows: pd.DataFrame, candidates: list[str]) -> Labels | None:
    """The labels from one column that names the class of each row; several classes are joined by | or ;"""
    named = [name for name in candidates if name.lower() in CLASS_COLUMNS] or candidates
    found = {name: classes for name in named if (classes := _classes(rows[name])) is not None}
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"{source}: {few(found)} all hold names of classes; name the column of the labels with --labels")
    column, labels = found.popitem()
    exclusive = bool((labels.sum(axis=1).dropna() == 1).all())
    print(f"column {column} names {labels.shape[1]} classes, one label each: {few(labels.columns)}")
    return Labels(labels, [column], exclusive)


def _classes(cells: pd.Series) -> pd.DataFrame | None:
    """One label for each class; a class in other case or with other blanks is the same. None if these are no names of classes."""
    plain = cells.str.split(r"\s*[|;]\s*", regex=True).explode().str.split().str.join(" ")
    words = plain.str.lower()
    told = words[~words.isin(UNKNOWN)]
    numbers = pd.to_numeric(told.str.replace(",", "."), errors="coerce")
    if told.empty or numbers.notna().any() or not 2 <= told.nunique() <= MOST_CLASSES:
        return None
    spelling = plain[~words.isin(UNKNOWN)].groupby(told.to_numpy()).agg(lambda each: each.mode().iloc[0])
    present = pd.crosstab(told.index, told.to_numpy()).clip(upper=1).reindex(cells.index)
    present = present.drop(columns=[name for name in present if name in NO_CLASS])
    return present.rename(columns=spelling.to_dict()).rename_axis(columns=None).astype("Int64")


def _refuse_alike(source: Path, names: list[str]) -> None:
    """Two labels that differ by case or blanks alone are one that is written in two ways."""
    plain = pd.Series([re.sub(r"[\s_-]+", " ", name.lower()) for name in names], index=names)
    alike = plain.index[plain.duplicated(keep=False)]
    if len(alike):
        raise UserError(
            f"{source} has the labels {few(alike)}, which differ by case or blanks alone; rename or remove one of them"
        )
