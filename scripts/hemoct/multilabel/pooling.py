"""Predictions of images pooled to predictions of studies: the mean within a view group, then the maximum over the groups.

A study is a patient: all of his images together. A view group is what the column `group` of labels.csv says; converted DICOM
series have their StudyInstanceUID there: the maximum is then that over the examinations of a patient.
"""

from __future__ import annotations

import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import predictions

GROUP = "group"
NOTE = "The cases are studies, not images: the mean within a view group, the maximum over the groups."


def places(work: Workspace) -> pd.DataFrame:
    """`group` by image_id. Stops without such a column."""
    labels = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    if GROUP not in labels:
        place = work.show(work.work / "labels.csv")
        raise UserError(
            f"{place} has no column group, over which --pool pools; add it to the source of the labels, or leave --pool"
        )
    return labels[[GROUP]]


def pool(frame: pd.DataFrame, where: pd.DataFrame) -> pd.DataFrame:
    """Predictions of studies in place of images; image_id is the patient. `where`: see `places`.

    A label of a study is 1 where it is 1 on any image, 0 where it is 0 on all, else unknown. Probabilities are rounded as
    tables are written, so that what is read later is what was decided on.
    """
    labels = predictions.label_columns(frame)
    keys = ["patient", "fold", "part"]
    placed = frame.join(where, on="image_id")
    p = placed.groupby([*keys, GROUP])[[f"p_{name}" for name in labels]].mean().groupby(level=keys).max()
    p = p.map(lambda value: float(f"{value:.8g}"))
    truth = placed.groupby(keys)[[f"y_{name}" for name in labels]]
    highest = truth.max()
    y = highest.where((highest == 1) | (truth.count().eq(truth.size(), axis=0)))
    pooled = pd.concat([y, p], axis=1).reset_index()
    pooled = pooled.assign(image_id=pooled["patient"]).sort_values(["fold", "part", "image_id"], ignore_index=True)
    return pooled[[*tables.PREDICTION_COLUMNS, *(f"{sort}_{name}" for name in labels for sort in "yp")]]
