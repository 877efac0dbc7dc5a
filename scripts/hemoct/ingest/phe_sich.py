"""PHE-SICH-CT-IDS: its image sets, the numbers in its file names, and MedInfo.xlsx (side, age, sex ... of each patient)."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemoct.base import files, label_meaning
from hemoct.base.errors import UserError
from hemoct.ingest import table_text

ROLES = {"set": "image", "label": "label", "annotation": "annotation"}
"""the folders of a set, and the names of the folders in them, less their numbers"""
KNOWN_COLUMNS = {"age": ("age",), "sex": ("sex", "gender"), "side": ("side", "hemisphere", "laterality")}
SIDES = ("left", "right")
NOT_ONE_SIDE = {"both", "bilateral", "no", "not"}


@dataclass(frozen=True)
class PheSet:
    """One image set of PHE-SICH-CT-IDS (SubdatasetC_PNG or SubdatasetB_JPG): relative paths."""

    base: Path
    images: list[Path]
    masks: list[Path]
    annotations: list[Path]

    @property
    def kind(self) -> str:
        return "png" if self.images[0].suffix.lower() == ".png" else "jpg"

    def __str__(self) -> str:
        patients = len({path.parent for path in self.images})
        counts = f"{len(self.images)} slices of {patients} patients, {len(self.masks)} masks, {len(self.annotations)} annotations"
        return f"PHE-SICH-CT-IDS, {self.kind.upper()} set: {counts}"


def phe_sets(listing: list[Path]) -> dict[str, PheSet]:
    """The image sets of a PHE-SICH-CT-IDS download by kind (`png`, `jpg`), at whatever depth they lie."""
    parts: dict[Path, dict[str, list[Path]]] = {}
    for folder, inside in itertools.groupby(listing, key=lambda path: path.parts[:-1]):  # ten thousands lie in some hundreds
        *base, role, name = ("", "", *folder)[-max(2, len(folder)) :]
        if role in ROLES and re.fullmatch(rf"{ROLES[role]}\d+", name):
            part = parts.setdefault(Path(*base), {each: [] for each in ROLES})[role]
            suffixes = {".xml"} if role == "annotation" else files.IMAGE_SUFFIXES
            part.extend(path for path in inside if path.suffix.lower() in suffixes)
    sets = [PheSet(base, *part.values()) for base, part in parts.items()]
    return {each.kind: each for each in sets if each.images}


def choose_set(raw: Path, listing: list[Path], wanted: str | None) -> PheSet:
    """The PNG or the JPG set; by default the PNG set if there is one (JPEG blurs edges)."""
    sets = phe_sets(listing)
    kind = wanted or ("png" if "png" in sets else "jpg")
    if kind not in sets:
        there = f"only --image-set {', '.join(sets)}" if sets else "no set/imageN/*.png or *.jpg"
        raise UserError(f"{raw} has {there}; look into it, or choose another --layout")
    return sets[kind]


def phe_id(path: Path) -> str | None:
    """`0013_05` for `0013_05.png`, `013_05.xml` or `annotation13/5.xml`; None for a name without numbers."""
    numbers = re.fullmatch(r"(?:([0-9]{1,6})_)?([0-9]{1,4})", path.stem)
    if not numbers:
        return None
    patient = numbers[1] or "".join(re.findall(r"[0-9]+$", path.parent.name))
    return f"{int(patient):04d}_{int(numbers[2]):02d}" if patient else None


def read_medinfo(raw: Path, listing: list[Path], patients: list[str]) -> pd.DataFrame | None:
    """One row per known patient (four-digit text) with the sheet's other columns; None without MedInfo.xlsx."""
    sheets = [path for path in listing if path.name.lower() == "medinfo.xlsx"]
    if not sheets:
        return None
    path = raw / sheets[0]
    sheet = table_text.read_sheet(path, dtype=str)
    column = patient_column(sheet, patients)
    if column is None:
        raise UserError(f"{path} has no column with the patients' numbers; add one, or remove the file")
    table = sheet.drop(columns=column).rename(columns=_column_names(sheet.columns.drop(column)))
    table.insert(0, "patient", sheet[column].map(_patient_number))
    return table[table["patient"].isin(patients)].drop_duplicates("patient").sort_values("patient").reset_index(drop=True)


def patient_column(sheet: pd.DataFrame, patients: list[str]) -> str | None:
    """The column that names the most known patients, and at least half of them. (Some ages are also numbers of patients.)"""
    known = set(patients)
    named = {column: len(known & set(sheet[column].map(_patient_number))) for column in sheet}
    best = max(named, key=named.get, default=None)
    return best if named.get(best, 0) * 2 >= len(known) else None


def _patient_number(value: object) -> str:
    """`0013` from 13, "13.0", "image13" or "013"; "" for what does not hold exactly one number."""
    match = re.fullmatch(r"\D*?([0-9]{1,6})(?:\.0)?", str(value).strip())
    return f"{int(match[1]):04d}" if match else ""


def _column_names(columns: pd.Index) -> dict[str, str]:
    """`age`, `sex`, `side` where a column's name says so, else its name in snake_case; each name once."""
    names: dict[str, str] = {}
    for column in columns:
        words = re.findall(r"[^\W_]+", str(column).lower())
        known = [name for name, signs in KNOWN_COLUMNS.items() if {*signs} & {*words}]
        name = known[0] if known else "_".join(words) or "column"
        while name in {*names.values(), "patient"}:
            name += "_"
        names[column] = name
    return names


def side_labels(patients: pd.DataFrame, patient_of_image: pd.Series, hemorrhage: pd.Series) -> pd.DataFrame:
    """`side_left` and `side_right` (Int64) of each image: 1 where it shows bleeding and the patient bleeds on that side alone.

    An image without bleeding has 0 in both. On an image with bleeding both are unknown when the side is not given in words that
    are known here, and when it is both sides: nothing says which of them the image shows.
    """
    side = patient_of_image.map(patients.set_index("patient")["side"].map(side_of))
    known = hemorrhage.eq(0) | (hemorrhage.eq(1) & side.notna())
    labels = {f"{label_meaning.SIDE}{name}": hemorrhage.eq(1) & side.eq(name) for name in SIDES}
    return pd.DataFrame(labels).astype("Int64").where(known.fillna(False))


def side_of(text: object) -> str | None:
    """`left` or `right` when a cell names exactly one of them, as a word or its first letter; else None."""
    words = set(re.findall(r"[a-z]+", str(text).lower()))
    named = [name for name in SIDES if words & {name, name[0]}]
    return named[0] if len(named) == 1 and not words & NOT_ONE_SIDE else None
