"""Pixels to millilitres: the only place that decides which unit a volume has.

A volume is in millilitres if spacing_row, spacing_col and spacing_z (mm) of labels.csv are known for every slice of the patient;
otherwise all volumes of that patient are counts of pixels (voxels), unit `px`. So no sum mixes the two, and in a data set with
known and unknown spacings each patient is treated separately. The slices of PHE-SICH-CT-IDS have no spacing.
"""

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError

SPACINGS = ["spacing_row", "spacing_col", "spacing_z"]
MM3_PER_ML = 1000
ML, PX = "ml", "px"


def per_slice(slices: pd.DataFrame, source: str = "labels.csv") -> tuple[np.ndarray, np.ndarray]:
    """The volume of one pixel of each slice, float64 (n,), and its unit, `ml` or `px`, (n,): multiply the pixels by it and sum.

    `slices`: rows of labels.csv with `image_id, patient` and perhaps SPACINGS; give all slices of a patient, since one slice
    without a spacing decides for all. Stops, naming `source`, at a spacing that is 0, negative or no number.
    """
    given = slices.reindex(columns=SPACINGS)
    spacing = given.apply(pd.to_numeric, errors="coerce")
    empty = given.isna() | (given == "")
    wrong = ~empty & ~((spacing > 0) & np.isfinite(spacing))
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        raise UserError(
            f"{source}: {SPACINGS[column]} of {slices['image_id'].iloc[row]} is {given.iloc[row, column]} where mm above 0 or "
            f"nothing is allowed ({wrong.to_numpy().sum()} in all); correct the source and run scripts/03_make_labels.py again"
        )
    known = (~empty.any(axis=1)).groupby(slices["patient"]).transform("all").to_numpy()
    factor = np.where(known, spacing.to_numpy(dtype=float).prod(axis=1) / MM3_PER_ML, 1.0)
    return factor, np.where(known, ML, PX)
