"""The slices of a data set with what is to be learned from them: targets, parts of a fold, pixels at training size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.cache import Cached
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, splits
from hemoct.ingest import layouts
from hemoct.training.options import Selection


@dataclass(frozen=True)
class Fold:
    """One fold of an experiment: where its files lie, and to which part each slice belongs."""

    folder: Path
    number: int | None
    """None: a model of all patients"""
    part: np.ndarray
    """`train`, `val` or `test` of each slice, in the order of the data (n,); UNLABELLED where its label is not to be used"""
    labelled: dict[str, Any] | None = None
    """for model.json, where the labels of a share of the training patients alone are learned from: share, seed, patients, of"""

    def rows(self, part: str) -> np.ndarray:
        """The rows of the slices of a part, int (k,)."""
        return np.flatnonzero(self.part == part)


UNLABELLED = "unlabelled"
"""the part of training slices whose labels are not to be used"""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Slices of a data set in one fixed order, and how they are parted; what each task learns from them is added to it."""

    table: pd.DataFrame
    """image_id, patient, slice, image ... of labels.csv"""
    work: Workspace
    layout: str
    splits_sha256: str | None
    """None where no split was asked for"""
    window: str | None
    """in which they were converted from HU, see layouts.recorded_window"""
    _labels: pd.DataFrame
    _splits: pd.DataFrame | None

    @property
    def orientation(self) -> str:
        """Where the nose points in them: left, up, right, down or unknown."""
        return prepared.orientation_of(self.work)

    def part_of(self, fold: int, protocol: str, split: str, ahead: int = 1) -> np.ndarray:
        """`train`, `val` or `test` for each row; see hemoct.data.splits."""
        part = splits.part_of(self._labels, self._splits, fold, protocol, split, ahead)
        return part.reindex(self.table["image_id"]).to_numpy()

    def fold(self, folder: Path, selection: Selection, ahead: int = 1) -> Fold:
        """The fold that a folder is named after; under any other name (`refit`) all slices are for training."""
        if not folder.name.startswith("fold"):
            return Fold(folder, None, np.full(len(self.table), "train"))
        number = experiments.fold_of(folder)
        return Fold(folder, number, self.part_of(number, selection.protocol, selection.split, ahead))

    def learned(self, fold: Fold, selection: Selection) -> dict[str, Any]:
        """What model.json says of the slices that a model of this fold learned from (fields of training.specs.Spec)."""
        return {
            "protocol": selection.protocol, "split": selection.split, "fold": fold.number,
            "splits_sha256": self.splits_sha256, "window": self.window, "prepare": list(selection.prepare),
            "orientation": self.orientation,
        }  # fmt: skip

    def about(self, fold: Fold, rows: np.ndarray) -> pd.DataFrame:
        """image_id, patient, fold, part of the slices `rows`, which are the index of the frame."""
        about = self.table[["image_id", "patient"]].assign(fold=fold.number or 0, part=fold.part)
        return about.iloc[rows]

    def neighbours(self, context: int) -> np.ndarray:
        """Rows of the slices around each, see `neighbours`."""
        number = self.table["slice"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        return neighbours(self.table["patient"].to_numpy(), number, context)


def keep_labels(data: Any, fold: Fold, share: float, seed: int) -> Fold:
    """A fold with the labels of a `share` of its training patients alone; the part of the others' slices is UNLABELLED.

    `data`: Slices with classes and targets (n, classes), NaN where unknown. Patients are drawn by `seed` and fold, so that those
    of a smaller share are among those of a larger one. The first has a positive slice; the second, where there is such a patient,
    has none. Raises UserError where the share is less than half a patient.
    """
    if share == 1:
        return fold
    patient, training = data.table["patient"].to_numpy(), (fold.part == "train") & ~np.isnan(data.targets).all(axis=1)
    names, shown = np.unique(patient[training]), [not label_meaning.NORMAL.fullmatch(name) for name in data.classes]
    count = int(share * len(names) + 0.5)
    if not count:
        least = f"the least share is {1 / len(names):.2g}" if len(names) else "use more patients"
        raise UserError(f"--labelled {share:g}: of {len(names)} training patients that is none; {least}")
    shows = set(patient[training & (data.targets[:, shown] == 1).any(axis=1)])
    drawn = list(np.random.default_rng([seed, fold.number or 0]).permutation(names))
    first = [next((name for name in drawn if (name in shows) == wanted), None) for wanted in (True, False)]
    first = [name for name in first if name is not None]
    kept = (first + [name for name in drawn if name not in first])[: max(count, len(first))]
    part = np.where((fold.part == "train") & ~np.isin(patient, kept), UNLABELLED, fold.part)
    print(f"  the labels of {len(kept)} of {len(names)} training patients ({(part == 'train').sum()} slices) are learned from")
    labelled = {"share": share, "seed": seed, "patients": len(kept), "of": len(names)}
    return replace(fold, part=part, labelled=labelled)


def neighbours(patient: np.ndarray, number: np.ndarray, context: int) -> np.ndarray:
    """Rows of the slices from `context` before to `context` behind each, of the same patient: int (n, 2 * context + 1).

    Rows are sorted by patient and slice number (float, NaN where unknown). Where the numbers jump, or end, the last slice before
    the gap is repeated. A number that a patient has twice, in two series, has no neighbours: which are its own is not known.
    """
    same = patient[1:] == patient[:-1]
    again = same & (np.diff(number) == 0)
    twice = np.append(again, False) | np.insert(again, 0, False)
    joined = same & (np.diff(number) == 1) & ~twice[1:] & ~twice[:-1]
    run = np.insert(np.cumsum(~joined), 0, 0)  # rows that follow one another have the same number
    first, last = np.searchsorted(run, run), np.searchsorted(run, run, side="right") - 1
    offsets = np.arange(-context, context + 1)
    return np.clip(np.arange(len(run))[:, None] + offsets, first[:, None], last[:, None])


@dataclass(frozen=True, kw_only=True)
class SliceData(Slices):
    """Slices with known labels; row i of `table`, `targets` and `pixels` is the same slice."""

    classes: list[str]
    exclusive: bool
    targets: np.ndarray
    """float32 (n, classes), 0 or 1; NaN where unknown slices were asked for"""
    pixels: Cached
    """uint8 (n, size, size), a memory map; empty where none were asked for"""

    @property
    def known(self) -> np.ndarray:
        """Whether all targets of a slice are known, bool (n,)."""
        return ~np.isnan(self.targets).any(axis=1)


def load(
    work: Workspace,
    image_size: int | None,
    label: str | None,
    limit_patients: int | None = None,
    known_only: bool = True,
    prepare: Sequence[str] = (),
) -> SliceData:
    """Read the tables, choose the targets, decode what is not yet in the cache.

    Without an `image_size` no image is decoded. `known_only` leaves out slices whose label is unknown; else their targets are
    NaN, and a line says how many there are. `prepare`: see Selection.
    """
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    classes, targets = choose_targets(labels, dataset, label)
    keep = ~np.isnan(targets).any(axis=1) | (not known_only)
    slices, keep = choose(work, labels, keep, limit_patients)
    pixels = np.zeros((0, 0, 0), np.uint8)
    if image_size is not None:
        pixels = images.cached(work, slices.table, image_size, preparation=prepared.for_training(work, prepare))
    targets = targets[keep].astype(np.float32)
    unknown = int(np.isnan(targets).any(axis=1).sum())
    if unknown:
        print(f"{unknown} of {len(targets)} slices have an unknown label: they are predicted, but neither trained on nor scored")
    return SliceData(**vars(slices), classes=classes, exclusive=dataset.exclusive, targets=targets, pixels=pixels)


def choose(
    work: Workspace, labels: pd.DataFrame, known: np.ndarray, limit_patients: int | None = None, split: bool = True,
    why: str = "unknown label",
) -> tuple[Slices, np.ndarray]:  # fmt: skip
    """The rows of labels.csv whose label is `known` (bool), at most those of `limit_patients`, with folds; and which they are.

    Stops at slices without a fold, and when no slice is left; says how many are left out, and `why`.
    """
    split_table = tables.read_splits(work) if split else None
    if split_table is not None:
        stop_if_unsplit(work, labels, split_table)
    keep, reasons = known, [] if known.all() else [why]
    if limit_patients is not None:
        reasons.append("--limit-patients")
        chosen = first_patients(split_table, limit_patients) if split else sorted(labels["patient"].unique())[:limit_patients]
        keep = keep & labels["patient"].isin(chosen).to_numpy()
    if not keep.all():
        print(f"{len(keep) - keep.sum()} of {len(keep)} slices are left out ({' or '.join(reasons)})")
    table = labels[keep].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{work.show(work.work / 'labels.csv')}: no slice is left to work with; check its labels")
    digest = files.sha256(work.work / "splits.csv") if split else None
    layout = tables.read_dataset(work).layout
    window = layouts.recorded_window(work.raw)
    made = Slices(table=table, work=work, layout=layout, splits_sha256=digest, window=window, _labels=labels, _splits=split_table)
    return made, keep


def choose_targets(labels: pd.DataFrame, dataset: tables.Dataset, label: str | None) -> tuple[list[str], np.ndarray]:
    """What task 1 learns: all exclusive classes, or one label. Of several independent labels the default is `any`.

    Returns the class names and a float array (n, classes) with NaN where the label is unknown. `any` is a column of that
    name if there is one; else 1 where any label is 1, and 0 where all are 0.
    """
    values = labels[dataset.labels].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if label in dataset.labels:
        return [label], values[:, [dataset.labels.index(label)]]
    if label is None and (dataset.exclusive or len(dataset.labels) == 1):
        return list(dataset.labels), values
    if label not in (None, ANY) or dataset.exclusive:
        raise UserError(f"--label {label} is not a label of {dataset.name}; it has: {', '.join(dataset.labels)}, or any")
    return [ANY], truth_of_any(labels, dataset.labels)[:, None]


def stop_at_one_class(where: str, classes: Sequence[str], targets: np.ndarray) -> None:
    """Stop a training whose images all have the same labels. `targets`: of its images (n, classes), NaN where unknown."""
    values = [np.unique(column[~np.isnan(column)]) for column in targets.T]
    if all(len(each) < 2 for each in values):
        same = ", ".join(
            f"{name} = {'/'.join(f'{value:g}' for value in each) or '?'}" for name, each in zip(classes, values, strict=True)
        )
        raise UserError(
            f"{where}: all images of the training have the same labels ({same}), there is nothing to tell apart; add images of "
            "another class (images without an XML count as negative with scripts/03_make_labels.py --without-xml negative)"
        )


def truth_of_any(labels: pd.DataFrame, names: list[str]) -> np.ndarray:
    """What labels.csv, whose label columns are `names`, says of any of them: float64 (n,), see `choose_targets`.

    A column that says that there is nothing, `normal`, is none of them.
    """
    asked = [ANY] if ANY in names else [name for name in names if not label_meaning.NORMAL.fullmatch(name)]
    return any_of(labels[asked].astype("Float64").to_numpy(dtype=float, na_value=np.nan))


def any_of(values: np.ndarray) -> np.ndarray:
    """Whether any of several labels (n, labels) is 1: 1, 0 where all are 0, else NaN: (n,)."""
    known_zero = np.where(np.isnan(values), np.nan, 0.0).sum(axis=1)  # NaN as soon as one label is unknown
    return np.where((values == 1).any(axis=1), 1.0, known_zero)


def first_patients(split_table: pd.DataFrame, n: int) -> set[str]:
    """`n` patients, taken from the folds in turn, so that each part of a first look has some."""
    patients = split_table[["patient", "fold"]].drop_duplicates("patient").sort_values(["fold", "patient"])
    turn = patients.groupby("fold").cumcount()
    return set(patients.assign(turn=turn).sort_values(["turn", "fold"])["patient"].head(n))


def stop_if_unsplit(work: Workspace, labels: pd.DataFrame, split_table: pd.DataFrame) -> None:
    without = set(labels["image_id"]) - set(split_table["image_id"])
    if without:
        raise UserError(
            f"{work.show(work.work / 'splits.csv')}: {len(without)} image(s) of labels.csv have no fold (first: {min(without)}); "
            f"run: python scripts/05_make_splits.py --dataset {work.dataset}"
        )
    splits.stop_if_renamed(labels, split_table)
