"""A share of the training patients with labels: nested, drawn by the seed, never without a positive slice."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hemoct.base.errors import UserError
from hemoct.data import slices
from hemoct.data.slices import UNLABELLED, Fold, SliceData


def data_of(patients: int = 40, each: int = 5, bleeding: int | None = None) -> tuple[SliceData, Fold]:
    """Slices of patients, the first `bleeding` of which (default: all) have a positive one; the last eight are validation."""
    patient = np.repeat([f"{number:02d}" for number in range(patients)], each)
    targets = np.zeros((patients * each, 1), np.float32)
    targets[: (patients if bleeding is None else bleeding) * each : each] = 1
    data = SliceData(
        table=pd.DataFrame({"patient": patient}),
        work=None,
        layout="csv",
        splits_sha256=None,
        window=None,
        _labels=None,
        _splits=None,
        classes=["hemorrhage"],
        exclusive=False,
        targets=targets,
        pixels=np.zeros((0, 0, 0)),
    )
    return data, Fold(Path("fold0"), 0, np.where(np.arange(len(patient)) < (patients - 8) * each, "train", "val"))


def kept(data: SliceData, fold: Fold, share: float, seed: int = 1) -> set[str]:
    made = slices.keep_labels(data, fold, share, seed)
    assert (made.part[fold.part == "val"] == "val").all()
    assert set(made.part[fold.part == "train"]) <= {"train", UNLABELLED}
    return set(data.table["patient"][made.part == "train"])


def test_smaller_shares_are_within_larger_ones_and_whole_patients():
    data, fold = data_of()
    sets = [kept(data, fold, share) for share in (0.03, 0.1, 0.5, 0.9)]
    assert [len(one) for one in sets] == [1, 3, 16, 29]
    assert all(small < large for small, large in pairwise(sets))
    assert slices.keep_labels(data, fold, 1.0, 1) is fold
    made = slices.keep_labels(data, fold, 0.1, 1)
    assert made.labelled == {"share": 0.1, "seed": 1, "patients": 3, "of": 32} and len(made.rows("train")) == 15


def test_another_seed_or_fold_draws_others():
    data, fold = data_of()
    assert len({frozenset(kept(data, fold, 0.2, seed)) for seed in range(5)}) == 5
    assert kept(data, fold, 0.2) != kept(data, replace(fold, number=1), 0.2)


@pytest.mark.parametrize("seed", range(6))
def test_one_patient_bleeds_and_one_does_not_where_there_are_any(seed):
    data, fold = data_of(bleeding=4)
    assert len(kept(data, fold, 0.02, seed)) == 2
    names = kept(data, fold, 0.1, seed)
    assert len(names) == 3 and any(int(name) < 4 for name in names) and any(int(name) >= 4 for name in names)


def test_patients_without_a_known_label_do_not_count():
    data, fold = data_of()
    data.targets[:50] = np.nan
    assert slices.keep_labels(data, fold, 0.1, 1).labelled["of"] == 22


def test_a_share_of_no_patient_stops():
    data, fold = data_of()
    with pytest.raises(UserError, match=r"of 32 training patients that is none; the least share is 0\.031"):
        slices.keep_labels(data, fold, 0.01, 1)
    with pytest.raises(UserError, match="use more patients"):
        slices.keep_labels(data, replace(fold, part=np.full(len(fold.part), "val")), 0.5, 1)
