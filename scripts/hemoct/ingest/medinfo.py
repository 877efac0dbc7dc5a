"""MedInfo.xlsx of PHE-SICH-CT-IDS: what is known per patient (side, age, sex ...)."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from hemoct.base import label_meaning
from hemoct.base.errors import UserError

KNOWN_COLUMNS = {"age": ("age",), "sex": ("sex", "gender"), "side": ("side", "hemisphere", "laterality")}
SIDES = ("left", "right")
BOTH = {"both", "bilateral", "no", "not"}  # words that take back the side beside them


def read(raw: Path, listing: list[Path], patients: list[str]) -> pd.DataFrame | None:
    """One row per known patient (four-digit text) with the sheet's other columns; None without MedInfo.xlsx."""
    found = [path for path in listing if path.name.lower() == "medinfo.xlsx"]
    if not found:
        return None
    path = raw / found[0]
    try:
        sheet = pd.read_excel(path, dtype=str)
    except (BadZipFile, ValueError, KeyError) as error:
        raise UserError(f"{path} is no Excel sheet that can be read ({error}); save it again as .xlsx or remove it") from None
    column = patient_column(sheet, patients)
    if column is None:
        raise UserError(f"{path} has no column with the patients' numbers; add one, or remove the file")
    table = sheet.drop(columns=column).rename(columns=column_names(sheet.columns.drop(column)))
    table.insert(0, "patient", sheet[column].map(_number))
    return table[table["patient"].isin(patients)].drop_duplicates("patient").sort_values("patient").reset_index(drop=True)


def patient_column(sheet: pd.DataFrame, patients: list[str]) -> str | None:
    """The column that names the most known patients, and at least half of them. (An age is a patient's number now and then.)"""
    known = set(patients)
    hits = {}
    for column in sheet.columns:
        named = len(known & set(sheet[column].map(_number)))
        if named * 2 >= len(known):
            hits[column] = named
    return max(hits, key=hits.get) if hits else None


def _number(value: object) -> str:
    """`0013` from 13, "13.0", "image13" or "013"; "" for what holds no single number."""
    found = re.fullmatch(r"\D*?([0-9]{1,6})(?:\.0)?", str(value).strip())
    return f"{int(found[1]):04d}" if found else ""


def column_names(columns: pd.Index) -> dict[str, str]:
    """`age`, `sex`, `side` where a column's name says so, else its name in snake_case; each name once."""
    names: dict[str, str] = {}
    for column in columns:
        words = re.findall(r"\w+", str(column).lower())
        plain = "_".join(words) or "column"
        meant = [name for name, signs in KNOWN_COLUMNS.items() if set(signs) & set(re.split(r"[_\W]+", plain))]
        name = meant[0] if meant else plain
        while name in {*names.values(), "patient"}:
            name += "_"
        names[column] = name
    return names


def side_labels(patients: pd.DataFrame, of_images: pd.Series, hemorrhage: pd.Series) -> pd.DataFrame:
    """`side_left` and `side_right` (Int64) of each image: 1 where it shows bleeding and the patient bleeds on that side alone.

    An image without bleeding has 0 in both. On one with bleeding both are unknown where the side is not told in words that
    are known here, and where it is both sides: nothing says which of them the image shows.
    """
    told = dict(zip(patients["patient"], patients["side"].map(side_of), strict=True))
    side = of_images.map(told).to_numpy(dtype=object)
    bleeds = hemorrhage.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    unknown = np.isnan(bleeds) | ((bleeds == 1) & pd.isna(side))
    values = {f"{label_meaning.SIDE}{name}": ((side == name) & (bleeds == 1)).astype(int) for name in SIDES}
    made = pd.DataFrame(values, index=of_images.index, dtype="Int64")
    made.loc[unknown] = pd.NA
    return made


def side_of(text: object) -> str | None:
    """`left` or `right` when a cell names just one of them, as a word or its first letter; else None."""
    words = set(re.findall(r"[a-z]+", str(text).lower()))
    named = [name for name in SIDES if words & {name, name[0]}]
    return named[0] if len(named) == 1 and not words & BOTH else None
