"""Folds: no patient on two sides, frozen once made, stratified; step 05."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from sklearn.model_selection import StratifiedGroupKFold

from helpers import toy
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.data import splits


def frame(patients: int, slices: int = 6) -> pd.DataFrame:
    rows = [(f"{p:03d}_{s}", f"{p:03d}", int(s < p % 4)) for p in range(patients) for s in range(slices)]
    return pd.DataFrame(rows, columns=["image_id", "patient", "hemorrhage"]).astype({"hemorrhage": "Int64"})


def test_no_patient_is_in_two_folds_and_positives_are_spread():
    labels = frame(40)
    made = splits.make(labels, ["hemorrhage"], seed=42)
    assert (made.groupby("patient")["fold"].nunique() == 1).all()
    assert set(made["fold"]) == set(made["slice_fold"]) == set(range(5))
    positives = labels["hemorrhage"].astype(int).groupby(made["fold"]).sum()
    assert positives.max() - positives.min() <= 3
    assert (made.groupby("patient")["slice_fold"].nunique() > 1).any()  # the naive split does leak: that is its purpose


def types(patients: int = 40, slices: int = 10) -> pd.DataFrame:
    """IVH and IPH on a third each; SAH on two slices of every fifth patient, together with any of the others."""
    random = np.random.default_rng(0)
    rows = [(f"{p:03d}_{s}", f"{p:03d}", *(random.random(2) < 1 / 3), p % 5 == 0 and s < 2)
            for p in range(patients) for s in range(slices)]  # fmt: skip
    return pd.DataFrame(rows, columns=["image_id", "patient", "IVH", "IPH", "SAH"]).astype(dict.fromkeys(TYPES, "Int64"))


TYPES = ["IVH", "IPH", "SAH"]


def test_an_image_is_stratified_by_the_rarest_label_that_it_shows():
    """IVH 8, IPH 7, SAH 5 images; unknown is told apart, and a class of fewer than five is `rare`."""
    rows = [(1, 0, 0)] * 6 + [(0, 1, 0)] * 6 + [(1, 1, 1), (1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)] + [(0, 0, 0)] * 5
    rows += [(0, None, 0)] * 5 + [(None, 0, 0)] * 2
    found = splits.strata(pd.DataFrame(rows, columns=TYPES).astype("Int64"), TYPES)
    assert found.tolist() == ["100"] * 6 + ["010"] * 6 + ["001"] * 5 + ["000"] * 5 + ["0?0"] * 5 + ["rare"] * 2


@pytest.mark.parametrize("columns", [["hemorrhage"], ["normal", "pneumonia"], ["a", "b", "c"]])
def test_one_label_and_exclusive_ones_are_stratified_as_they_are(columns):
    """The folds of data sets that were split before labels could go together stay the same."""
    labels = frame(20)
    number = labels["hemorrhage"] if len(columns) < 3 else pd.Series(range(len(labels))) % 3
    if len(columns) > 1:
        labels[columns] = np.eye(len(columns), dtype=int)[number.to_numpy(dtype=int)]
    joined = labels[columns].astype("string").agg("".join, axis=1)
    pd.testing.assert_series_equal(splits.strata(labels, columns), joined, check_names=False)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=42).split(labels, joined, groups=labels["patient"])
    made = splits.make(labels, columns, seed=42)
    for fold, (_, test) in enumerate(folds):
        assert (made["fold"].iloc[test] == fold).all() and (made["fold"] == fold).sum() == len(test)


def test_each_fold_has_some_of_a_rare_label():
    labels = types()
    made = splits.make(labels, TYPES, seed=42)
    positive = labels[TYPES].astype(int).groupby(made["fold"]).sum()
    assert positive["SAH"].sum() == 16 and positive["SAH"].min() >= 2 and positive["SAH"].max() <= 6
    assert positive[["IVH", "IPH"]].min().min() > 15
    assert (made.groupby("patient")["fold"].nunique() == 1).all()


def test_every_old_assignment_survives_new_patients():
    old = splits.make(frame(20), ["hemorrhage"], seed=42)
    new = splits.extend(old, frame(23))
    kept = new.merge(old, on="image_id", suffixes=("", "_old"))
    assert (
        len(kept) == len(old)
        and (kept["fold"] == kept["fold_old"]).all()
        and (kept["slice_fold"] == kept["slice_fold_old"]).all()
    )
    added = new[~new["image_id"].isin(old["image_id"])]
    assert added["patient"].nunique() == 3 and added.groupby("patient")["fold"].nunique().eq(1).all()
    assert new["fold"].notna().all() and added["fold"].nunique() == 3  # each to another, then smallest, fold


def test_patients_that_come_back_find_their_old_place():
    labels = frame(20)
    old = splits.make(labels, ["hemorrhage"], seed=42)
    without = splits.extend(old, labels[labels["patient"] != "003"])
    assert splits.extend(without, labels).set_index("image_id")["fold"].to_dict() == old.set_index("image_id")["fold"].to_dict()


def test_an_image_that_changed_its_patient_stops():
    labels = frame(20)
    old = splits.make(labels, ["hemorrhage"], seed=42)
    labels["patient"] = "p" + labels["patient"]
    with pytest.raises(UserError, match="000 is now p000"):
        splits.extend(old, labels)


def test_a_new_slice_of_a_known_patient_joins_the_patient():
    labels = frame(10)
    old = splits.make(labels.iloc[1:], ["hemorrhage"], seed=42)
    new = splits.extend(old, labels).set_index("image_id")
    assert new.loc["000_0", "fold"] == new.loc["000_1", "fold"]


@pytest.mark.parametrize("fold", range(5))
def test_parts_are_test_k_validation_k_plus_1_and_training_the_rest(fold):
    made = splits.make(frame(20), ["hemorrhage"], seed=42)
    part = splits.parts(made, fold, "patient")
    by_id = made.set_index("image_id")["fold"]
    assert set(by_id[part == "test"]) == {fold} and set(by_id[part == "val"]) == {(fold + 1) % 5}
    assert len(set(by_id[part == "train"])) == 3


def test_a_patient_on_two_sides_stops_the_patient_protocol_only():
    made = splits.make(frame(20), ["hemorrhage"], seed=42)
    made.loc[0, "fold"] = (made.loc[0, "fold"] + 1) % 5
    with pytest.raises(UserError, match="two sides"):
        splits.parts(made, 0, "patient")
    splits.parts(made, 0, "slice")


def test_the_given_split_is_kept_and_gets_a_validation_part():
    labels = frame(20)
    labels["given_split"] = ["test" if patient > "014" else "train" for patient in labels["patient"]]
    part = splits.given_parts(labels, splits.make(labels, ["hemorrhage"], seed=42))
    assert set(part) == {"train", "val", "test"}
    assert (part[labels.set_index("image_id")["given_split"] == "test"] == "test").all()
    labels.loc[0, "given_split"] = "test"
    with pytest.raises(UserError, match="two sides"):
        splits.given_parts(labels, splits.make(labels, ["hemorrhage"], seed=42))


def test_too_few_patients_is_an_error():
    with pytest.raises(UserError, match=r"4 patient.*add patients.*03_make_labels\.py --patient-regex"):
        splits.make(frame(4), ["hemorrhage"], seed=42)


def test_step_05_twice_gives_the_same_file(work, run_step):
    toy.make(work)
    path = work.work / "splits.csv"
    path.unlink()
    words = ("--root", work.root, "--dataset", "toy")
    assert run_step("scripts/05_make_splits.py", *words).code == 0
    first = path.read_bytes()
    assert run_step("scripts/05_make_splits.py", *words).code == 0
    assert path.read_bytes() == first
    path.unlink()
    assert run_step("scripts/05_make_splits.py", *words).code == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("drawn", "tasks"),
    [
        ({}, "1"),
        ({"boxes": True}, "12"),
        ({"masks": True}, "13"),
        ({"labels": ("IVH", "SAH")}, "14"),
        ({"labels": ("normal", "IVH"), "exclusive": True}, "1"),
        ({"labels": ("IVH", "SAH"), "boxes": True, "masks": True}, "1234"),
    ],
)
def test_step_05_names_the_first_step_of_every_task_that_the_data_can_do(work, run_step, drawn, tasks):
    toy.make(work, **drawn)
    dataset = tables.read_dataset(work)
    masks = int((tables.read_labels(work, dataset)["mask"] != "").sum())
    tables.write_dataset(work, replace(dataset, counts={"boxes": len(tables.read_boxes(work)), "masks": masks}))
    result = run_step("scripts/05_make_splits.py", "--root", work.root, "--dataset", "toy")
    lines = [line.split() for line in result.out.splitlines() if line.startswith("Next")]
    assert [words[2][4] for words in lines] == list(tasks), result.out + result.err
    assert all(
        (REPOSITORY / words[2]).is_file() and words[3:] == ["--dataset", "toy", "--root", str(work.root)] for words in lines
    )


def test_step_05_without_labels_names_the_step_that_makes_them(work, run_step):
    result = run_step("scripts/05_make_splits.py", "--root", work.root, "--dataset", "toy")
    assert result.code == 2 and "scripts/03_make_labels.py --dataset toy" in result.err and result.err.count("\n") == 1


def test_the_real_patients_are_split_by_patient(work, real_data):
    annotations = real_data / "PHE-SICH-CT-IDS" / "SubdatasetC_PNG" / "annotation"
    rows = [(path.stem, path.parent.name, int("<object>" in path.read_text())) for path in annotations.glob("*/*.xml")]
    labels = pd.DataFrame(rows, columns=["image_id", "patient", "hemorrhage"])
    made = splits.make(labels, ["hemorrhage"], seed=42)
    assert (made.groupby("patient")["fold"].nunique() == 1).all()
    share = labels["hemorrhage"].groupby(made["fold"]).mean()
    assert share.between(0.18, 0.23).all() and made.groupby("fold")["patient"].nunique().between(18, 22).all()


def test_labels_that_are_not_0_or_1_are_named(work):
    rows = [dict.fromkeys(tables.IMAGE_COLUMNS, "x") | {"hemorrhage": value, "image_id": str(value)} for value in (0, 1, 3)]
    with pytest.raises(UserError, match="label hemorrhage is 3"):
        tables.write_labels(work, pd.DataFrame(rows), tables.Dataset("toy", "csv", ["hemorrhage"]))
