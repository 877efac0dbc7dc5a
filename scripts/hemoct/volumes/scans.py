"""Slices as scans: which belong together, and in which order."""

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError

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
