"""Frozen folds: a patient is never on two sides, and an assignment once made is never changed."""

import warnings

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError
from hemoct.base.experiments import FOLDS
from hemoct.base.tables import SPLIT_COLUMNS


def strata(labels: pd.DataFrame, columns: list[str]) -> pd.Series:
    """One class per image to stratify by: 1 at the rarest label that it shows, ? where a label is unknown, 0 else.

    By the rarest, not by the combination of labels: rare ones would be scattered over combinations too small to be spread over
    the folds. Classes rarer than the folds are one class.
    """
    values = labels[columns].astype("string").fillna("?")
    rarity = (values == "1").sum().sort_values(kind="stable").index
    earlier = pd.Series(False, index=labels.index)
    for column in rarity:
        shown = values[column] == "1"
        values[column] = values[column].mask(shown & earlier, "0")
        earlier |= shown
    joined = values[columns[0]].str.cat(values[columns[1:]]).astype(str)
    counts = joined.map(joined.value_counts())
    return joined.where(counts >= FOLDS, "rare")


def make(labels: pd.DataFrame, columns: list[str], seed: int) -> pd.DataFrame:
    """Assign each image a `fold` (by patient) and a `slice_fold` (by image, the naive split of published scripts).

    Both are stratified by the label. Returns image_id, patient, fold, slice_fold in the order of `labels`.
    """
    patients = labels["patient"].nunique()
    if patients < FOLDS:
        raise UserError(
            f"labels.csv: {patients} patient(s) cannot fill {FOLDS} folds, at least {FOLDS} are needed; add patients, "
            "or tell them apart by another rule: scripts/03_make_labels.py --patient-regex RULE"
        )
    classes = strata(labels, columns)
    frame = labels[["image_id", "patient"]].copy()
    with warnings.catch_warnings():  # a class with fewer members than folds: still the best that can be done
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second, which few steps need

        by_patient = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        frame["fold"] = _assign(by_patient.split(labels, classes, groups=labels["patient"]), len(labels))
        by_image = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        frame["slice_fold"] = _assign(by_image.split(labels, classes), len(labels))
    return frame


def _assign(splits: object, n: int) -> np.ndarray:
    fold = np.full(n, -1)
    for number, (_, test) in enumerate(splits):  # type: ignore[arg-type]
        fold[test] = number
    return fold


def extend(old: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Keep every old assignment; new patients, largest first, go to the fold with the fewest images so far.

    A new image of a known patient joins the patient's fold. Images that are gone from `labels` keep their place, for they may
    come back. An image that has changed its patient stops: the old folds do not fit the new patients.
    """
    stop_if_renamed(labels, old)
    gone = old[~old["image_id"].isin(labels["image_id"])]
    known = pd.concat([labels[["image_id", "patient"]], gone[["image_id", "patient"]]])
    known = known.merge(old[["image_id", "slice_fold"]], on="image_id", how="left")
    known["fold"] = known["patient"].map(old.drop_duplicates("patient").set_index("patient")["fold"])
    _fill(known, "fold", "patient")
    _fill(known, "slice_fold", "image_id")
    return known[SPLIT_COLUMNS].astype({"fold": int, "slice_fold": int})


def _fill(known: pd.DataFrame, column: str, unit: str) -> None:
    """Give each `unit` that has no fold in `column` the smallest fold, the unit with the most images first."""
    sizes = known[column].value_counts().reindex(range(FOLDS), fill_value=0).tolist()
    units = known.loc[known[column].isna(), unit].value_counts(sort=False).sort_values(ascending=False, kind="stable")
    chosen = {}
    for name, images in units.items():
        chosen[name] = sizes.index(min(sizes))
        sizes[chosen[name]] += images
    known[column] = known[column].fillna(known[unit].map(chosen))


def parts(splits: pd.DataFrame, fold: int, protocol: str, ahead: int = 1) -> pd.Series:
    """`train`, `val` or `test` per image_id for fold K: test = K, validation = (K+1) mod 5, training = the others.

    `protocol` is `patient`, or `slice` to measure how much the naive split flatters. `ahead`: validation = (K+ahead) mod 5.
    """
    column = splits["fold" if protocol == "patient" else "slice_fold"].to_numpy()
    numbers = {fold: "test", (fold + ahead) % FOLDS: "val"}
    part = pd.Series([numbers.get(one, "train") for one in column], pd.Index(splits["image_id"]), name="part")
    if protocol == "patient":
        remedy = "it was changed by hand: restore it, or delete it for new folds (scripts/05_make_splits.py), and train anew"
        _stop_if_shared(splits["patient"], part, "splits.csv:", remedy)
    return part


def given_parts(labels: pd.DataFrame, splits: pd.DataFrame) -> pd.Series:
    """The split that came with the data (`given_split`). Without a validation part, fold 0's training patients are it."""
    if "given_split" not in labels.columns:
        raise UserError("labels.csv has no given_split column; use --split folds")
    part = labels.set_index("image_id")["given_split"].replace({"": "train", "valid": "val", "validation": "val"})
    unknown = set(part.unique()) - {"train", "val", "test"}
    if unknown:
        raise UserError(f"labels.csv: given_split is {sorted(unknown)[0]!r} where train, val or test is allowed")
    if not (part == "val").any():
        fold = splits.set_index("image_id")["fold"].reindex(part.index)
        part[(part == "train") & (fold == 0)] = "val"
    remedy = "use --split folds, or a --patient-regex that tells them apart if they are different people"
    _stop_if_shared(labels["patient"], part, "labels.csv: given_split has", remedy)
    return part.rename("part")


def part_of(labels: pd.DataFrame, splits: pd.DataFrame, fold: int, protocol: str, split: str, ahead: int = 1) -> pd.Series:
    """The parts of a fold per image_id, see `parts`, or with `split` "given" those that came with the data."""
    return given_parts(labels, splits) if split == "given" else parts(splits, fold, protocol, ahead)


def _stop_if_shared(patients: pd.Series, part: pd.Series, where: str, remedy: str) -> None:
    """Stop when a patient has images in two parts."""
    sides = part.groupby(patients.to_numpy()).nunique()
    shared = list(sides.index[sides > 1])
    if shared:
        raise UserError(f"{where} {len(shared)} patient(s) on two sides (first: {shared[0]}); {remedy}")


def stop_if_renamed(labels: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Stop when labels.csv gives an image to another patient than splits.csv does: its folds would leak."""
    both = labels.merge(splits, on="image_id", suffixes=("", "_split"))
    other = both[both["patient"] != both["patient_split"]]
    if len(other):
        first = other.iloc[0]
        raise UserError(
            f"splits.csv: {len(other)} image(s) belong to another patient in labels.csv (first: {first['image_id']}, "
            f"{first['patient_split']} is now {first['patient']}); restore the rule for patients of scripts/03_make_labels.py, "
            "or delete splits.csv for new folds, and train anew"
        )
