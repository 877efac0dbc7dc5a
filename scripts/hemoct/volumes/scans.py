"""Slices as scans and volumes: which belong together, in which order, and which stands where."""

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError
from hemoct.volumes.study_options import Study

REMEDY = "name slice and patient in the source of the labels, or take --head linear, which needs no order"


def scans(table: pd.DataFrame, ordered: bool = True, source: str = "labels.csv", remedy: str = REMEDY) -> np.ndarray:
    """Rows of the slices of each scan in their order, int64 (scans, longest), padded with -1 at the end.

    `table`: patient, slice and, where there is one, group of each slice; a patient has a scan for each group (a study, of
    converted DICOM). Not `ordered`: in the order of the table. Raises UserError, which names the `source` of the table and the
    `remedy`, where the order is not known, and where no scan has two slices.
    """
    keys = [name for name in ("patient", "group") if name in table]
    if ordered:
        _stop_without_order(table, keys, source, remedy)
    number = table["slice"].astype("Float64") if ordered else pd.Series(0.0, index=table.index)
    rows = table[keys].assign(number=number, row=np.arange(len(table))).sort_values([*keys, "number", "row"])
    by_scan = rows.groupby(keys, dropna=False)
    place, scan = by_scan.cumcount().to_numpy(), by_scan.ngroup().to_numpy()
    padded = np.full((scan.max() + 1, place.max() + 1), -1)
    padded[scan, place] = rows["row"]
    return padded


def _stop_without_order(table: pd.DataFrame, keys: list[str], source: str, remedy: str) -> None:
    unknown = table["slice"].isna()
    if unknown.any():
        first = table["image_id"][unknown].iloc[0]
        raise UserError(f"{source}: {unknown.sum()} slices have no number (first: {first}); {remedy}")
    twice = table.duplicated([*keys, "slice"])
    if twice.any():
        first = table[twice].iloc[0]
        words = f"patient {first['patient']} has slice {first['slice']} twice, so the order is unknown"
        raise UserError(f"{source}: {words}; {remedy}")
    size = table.groupby(keys, dropna=False).size()
    if (size == 1).all():
        raise UserError(f"{source}: no patient has two slices, so there is no order to learn from; {remedy}")
    if (size == 1).any():
        print(f"{(size == 1).sum()} of {len(size)} scans have a single slice")


def placed(rows: np.ndarray, table: pd.DataFrame, study: Study, shown: str = "labels.csv") -> np.ndarray:
    """The row of the slice at each place of a volume of `study.depth` slices, int64 (studies, depth); -1 where there is none.

    `rows`: of the slices of each study in their order, padded with -1; `table`: their `slice`, and perhaps `spacing_z`. Where
    slice numbers jump the nearest slice stands in, so that a gap keeps its height. Stretched volumes go from the first slice to
    the last; cropped ones hold the middle, a slice a place, or one every `study.slice_mm`.
    """
    number = table["slice"].to_numpy(dtype=float)
    made = np.full((len(rows), study.depth), -1)
    for volume, scan in zip(made, rows, strict=True):
        own = scan[scan >= 0]
        numbers = number[own]
        step = 1.0 if study.slice_mm is None else study.slice_mm / _spacing(table, own, shown)
        middle = (numbers[0] + numbers[-1]) / 2
        wanted = np.linspace(numbers[0], numbers[-1], study.depth) if study.depth > 1 else np.array([middle])
        if study.sampling == "crop":
            wanted = middle + (np.arange(study.depth) - (study.depth - 1) / 2) * step
            wanted = np.floor(wanted) if step == 1 else wanted  # the middle of an even number of slices lies between two
        inside = (wanted >= numbers[0] - step / 2) & (wanted <= numbers[-1] + step / 2)
        nearest = np.abs(numbers[None] - wanted[:, None]).argmin(axis=1)
        volume[inside] = own[nearest][inside]
    return made


def _spacing(table: pd.DataFrame, own: np.ndarray, shown: str) -> float:
    """The distance of the slices of a study, mm; stops where it is not known, or is not one."""
    values = table["spacing_z"].iloc[own].astype(float).to_numpy() if "spacing_z" in table else np.array([np.nan])
    if not (np.isfinite(values).all() and (values > 0).all()):
        patient = table["patient"].iloc[own[0]]
        raise UserError(f"--slice-mm: {shown} does not know the spacing (spacing_z) of patient {patient}; leave it out")
    return float(np.median(values))
