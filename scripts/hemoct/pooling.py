"""Predictions of images pooled to predictions of studies: the mean within a view group, then the maximum over the groups.

A study is what the column `study` of labels.csv says, where somebody has added one, else the patient. A view group is what its
column `group` says. Converted DICOM series have the study as their group: the mean is then that of a study, the maximum that of a
patient over his studies.
"""

from __future__ import annotations

import pandas as pd

from hemoct import predictions, tables
from hemoct.cli import UserError, Workspace

STUDY, GROUP = "study", "group"
NOTE = "The cases are studies, not images: the mean within a view group, the maximum over the groups."


def places(work: Workspace) -> pd.DataFrame:
    """`study` and `group` by image_id. Stops without a group column, or where a study has images of two patients."""
    labels = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    where = work.show(work.work / "labels.csv")
    if GROUP not in labels:
        raise UserError(
            f"{where} has no column group, over which --pool pools; add it to the source of the labels, or leave --pool"
        )
    study = labels[STUDY].astype(str) if STUDY in labels else labels["patient"]
    shared = labels.groupby(study)["patient"].nunique()
    if (shared > 1).any():
        raise UserError(f"{where}: study {shared.idxmax()} has images of {shared.max()} patients; give each its own study")
    return pd.DataFrame({STUDY: study, GROUP: labels[GROUP]})


def pool(frame: pd.DataFrame, where: pd.DataFrame) -> pd.DataFrame:
    """Predictions of studies in place of images; image_id is the study. `where`: see `places`.

    A label of a study is 1 where it is 1 on any image, 0 where it is 0 on all, else unknown. Probabilities are rounded as
    tables are written, so that what is read later is what was decided on.
    """
    labels = predictions.label_columns(frame)
    keys = [STUDY, "patient", "fold", "part"]
    placed = frame.join(where, on="image_id")
    p = placed.groupby([*keys, GROUP])[[f"p_{name}" for name in labels]].mean().groupby(level=keys).max()
    p = p.map(lambda value: float(f"{value:.8g}"))
    truth = placed.groupby(keys)[[f"y_{name}" for name in labels]]
    highest = truth.max()
    y = highest.where((highest == 1) | (truth.count().eq(truth.size(), axis=0)))
    pooled = pd.concat([y, p], axis=1).reset_index().rename(columns={STUDY: "image_id"})
    pooled = pooled.sort_values(["fold", "part", "image_id"], ignore_index=True)
    return pooled[[*tables.PREDICTION_COLUMNS, *(f"{sort}_{name}" for name in labels for sort in "yp")]]
