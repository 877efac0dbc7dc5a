"""The working set of task 4: which images, and which of their labels, a multi-label network learns from and is evaluated on.

data/work/NAME/task4/working_set.csv: image_id, patient, then one column per label: 0, 1 or empty = unknown. Folds are those of
splits.csv: rows are chosen, no patient is moved.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices, splits
from hemoct.evaluation import metrics, predictions

KEYS = ["image_id", "patient"]
COUNT_COLUMNS = ["label", "fold", "part", "images", "positive", "negative", "unknown", "positive_patients"]
DRAWN_COLUMNS = ["label", "there", "wanted", "drawn", "positive", "positive_patients"]
NONE = "no label"


@dataclass(frozen=True)
class WorkingSet:
    """`table`: image_id, patient and the columns `labels` (Int64: 0, 1 or NA)."""

    table: pd.DataFrame
    labels: list[str]

    @property
    def truth(self) -> np.ndarray:
        """float64 (n, labels): 0, 1, NaN where unknown."""
        return self.table[self.labels].astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def folder(work: Workspace) -> Path:
    return work.work / "task4"


def choose(work: Workspace, wanted: list[str] | None) -> WorkingSet:
    """All images of labels.csv of which at least one of the labels is known; `wanted` None = every label of the data set."""
    dataset = tables.read_dataset(work)
    labels = wanted or dataset.labels
    absent = [name for name in labels if name not in dataset.labels]
    source = work.show(work.work / "labels.csv")
    if absent:
        raise UserError(f"{source} has no label {absent[0]}; it has {', '.join(dataset.labels)}; correct --labels")
    table = tables.read_labels(work, dataset)[[*KEYS, *labels]]
    known = table[labels].notna().any(axis=1)
    if not known.all():
        print(f"{(~known).sum()} of {len(known)} images are left out: none of these labels is known")
    chosen = WorkingSet(table[known].reset_index(drop=True), labels)
    if not (chosen.table[labels] == 1).any(axis=None):
        raise UserError(
            f"{source}: no image has any of the labels {', '.join(labels)}; nothing can be learned, check their source"
        )
    return chosen


def read(work: Workspace) -> WorkingSet:
    """The working set as `01_prepare_labels.py` wrote it. Stops where labels.csv no longer says the same of its images."""
    path = work.need(folder(work) / "working_set.csv", "task4_multilabel/01_prepare_labels.py")
    table = tables.read_csv(path, KEYS)
    labels = [name for name in table.columns if name not in KEYS]
    known = tables.read_csv(work.need(work.work / "labels.csv", "scripts/03_make_labels.py"), KEYS)
    problem = _outdated(table, labels, known) if labels else "no label column"
    if problem:
        raise UserError(
            f"{work.show(path)}: {problem}; run: python task4_multilabel/01_prepare_labels.py --dataset {work.dataset}"
        )
    return WorkingSet(table.astype(dict.fromkeys(labels, "Int64")), labels)


def _outdated(table: pd.DataFrame, labels: list[str], known: pd.DataFrame) -> str | None:
    """Where labels.csv (`known`) says something else than the working set `table`, in words; None where they agree."""
    gone = table["image_id"][~table["image_id"].isin(known["image_id"])]
    if len(gone):
        return f"{len(gone)} image(s) are not in labels.csv (first: {gone.iloc[0]})"
    absent = [name for name in labels if name not in known]
    if absent:
        return f"{absent[0]} is no label of labels.csv"
    now = known.set_index("image_id").loc[table["image_id"]]
    same = (now["patient"].to_numpy() == table["patient"].to_numpy()) & predictions.same_truth(now, table, labels)
    return None if same.all() else f"labels.csv has changed (first: {table['image_id'][~same].iloc[0]})"


def balance(everything: WorkingSet, n: int, seed: int) -> tuple[WorkingSet, pd.DataFrame]:
    """Draw `n` positive images per label, or all there are, and `n` on which every label is 0; and what was drawn.

    The rarest label draws first. An image drawn for one label counts for each of its labels, so a label that goes along with
    others may end above `n`. Patients take turns, so that one with many slices does not fill the draw.
    """
    random = np.random.default_rng(seed)
    table, truth = everything.table, everything.truth
    order = _in_turns(table, random)
    groups = {name: truth[:, place] == 1 for place, name in enumerate(everything.labels)}
    groups = dict(sorted(groups.items(), key=lambda group: group[1].sum())) | {NONE: (truth == 0).all(axis=1)}
    taken, rows = np.zeros(len(table), dtype=bool), {}
    for name, member in groups.items():
        candidates = order[member[order] & ~taken[order]]
        new = candidates[: max(0, n - int((member & taken).sum()))]
        taken[new] = True
        rows[name] = {"label": name, "there": int(member.sum()), "wanted": n, "drawn": len(new)}
    for name, member in groups.items():
        rows[name]["positive"] = int((member & taken).sum())
        rows[name]["positive_patients"] = table["patient"][member & taken].nunique()
    drawn = pd.DataFrame([rows[name] for name in (*everything.labels, NONE)], columns=DRAWN_COLUMNS)
    return WorkingSet(table[taken].reset_index(drop=True), everything.labels), drawn


def _in_turns(table: pd.DataFrame, random: np.random.Generator) -> np.ndarray:
    """Rows in a random order in which each patient's first image comes before any patient's second one; int (n,)."""
    shuffled = random.permutation(len(table))
    turn = table["patient"].iloc[shuffled].groupby(table["patient"].iloc[shuffled].to_numpy()).cumcount()
    return shuffled[np.argsort(turn.to_numpy(), kind="stable")]


def count_parts(chosen: WorkingSet, split_table: pd.DataFrame) -> pd.DataFrame:
    """Images and patients of each label in each part of each fold (protocol patient); fold "all" is the whole working set."""
    pieces = [("all", "all", np.ones(len(chosen.table), dtype=bool))]
    for fold in range(splits.FOLDS):
        part = splits.parts(split_table, fold, "patient").reindex(chosen.table["image_id"]).to_numpy()
        pieces += [(str(fold), name, part == name) for name in tables.PARTS]
    rows = []
    for place, label in enumerate(chosen.labels):
        truth = chosen.truth[:, place]
        for fold, part, member in pieces:
            counts = [int(member.sum()), *(int((truth[member] == value).sum()) for value in (1, 0))]
            patients = chosen.table["patient"][member & (truth == 1)].nunique()
            rows.append([label, fold, part, *counts, int(np.isnan(truth[member]).sum()), patients])
    return pd.DataFrame(rows, columns=COUNT_COLUMNS)


def gaps(counts: pd.DataFrame) -> list[str]:
    """One line for each label that lacks positive, or negative, images altogether or in some parts of folds."""
    lines = []
    for label, of_label in counts.groupby("label", sort=False):
        for kind in ("positive", "negative"):
            empty = of_label[of_label[kind] == 0]
            if "all" in set(empty["fold"]):
                lines.append(f"{label}: no {kind} image at all; the label stays in the table, metrics that need one will be null")
            elif len(empty):
                of_parts = empty.groupby("part")["fold"].agg(", ".join)
                places = of_parts.reindex([part for part in tables.PARTS if part in of_parts])
                where = "; ".join(f"{part} of fold{'s' * (',' in folds)} {folds}" for part, folds in places.items())
                lines.append(f"{label}: no {kind} image in {where}; metrics that need one will be null there")
    return lines


def cooccurrence(truth: np.ndarray) -> np.ndarray:
    """How many images show both labels, int64 (labels, labels), on the diagonal each label; of truth (n, labels): 0, 1, NaN.

    An unknown label counts as not shown. Predicted labels can be counted by the same rule.
    """
    positive = (truth == 1).astype(np.int64)
    return positive.T @ positive


def pairs(labels: list[str], **counts: np.ndarray) -> pd.DataFrame:
    """A table of what is counted of two labels, (labels, labels) each: label, beside, then a column for each of the `counts`."""
    index = pd.MultiIndex.from_product([labels, labels], names=["label", "beside"])
    return pd.DataFrame({name: count.ravel() for name, count in counts.items()}, index).reset_index()


def cooccurrence_table(chosen: WorkingSet) -> pd.DataFrame:
    """label, beside, images (both are 1), share: of the images with `label` of which `beside` is known, those that have it."""
    both, known = cooccurrence(chosen.truth), (chosen.truth == 1).T.astype(float) @ ~np.isnan(chosen.truth)
    return pairs(chosen.labels, images=both, share=metrics.ratio(both, known))


def combinations(chosen: WorkingSet) -> pd.Series:
    """Images by the labels that they show together, `IPH + IVH`, most first; unknown labels are not in the name."""
    names = np.array(chosen.labels)
    return pd.Series([" + ".join(names[shown]) or NONE for shown in chosen.truth == 1]).value_counts()


def load_splits(work: Workspace) -> pd.DataFrame:
    """splits.csv; stops where an image of labels.csv has no fold in it."""
    split_table = tables.read_splits(work)
    slices.stop_if_unsplit(work, tables.read_labels(work, tables.read_dataset(work)), split_table)
    return split_table
