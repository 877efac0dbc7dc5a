"""Predictions of the folds of an experiment of any task: found, and checked against errors and leaks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import recorded
from hemoct.base.workspace import Workspace
from hemoct.data import slices, splits
from hemoct.data.slices import Slices
from hemoct.evaluation.protocol import TRAINED, made_of, validation_of

AGAIN = {
    task: f"make it again with the command of the training and --resume ({experiments.train_step(task)} ... --resume)"
    for task in experiments.STEPS
}
"""how wrong predictions are made again, by task"""
MADE_BY = {True: "task4_multilabel/04_cascade.py", False: "task3_segmentation/07_ensemble.py"}
"""makes folds with `stages`, or `members`; other folds that are made of others say what they are `made_by`"""


def fold_folders(work: Workspace, task: int, experiment: str) -> list[Path]:
    """The fold folders of an experiment that hold a model or predictions."""
    folder = work.task(task) / experiment
    folders = experiments.folds(folder, "best.pt", "predictions.csv")
    if not folders:
        raise UserError(f"{work.show(folder)} holds no trained fold; there are: {', '.join(experiments.trained(work, task))}")
    return folders


def setting(work: Workspace, task: int, folders: list[Path]) -> str:
    """`patient`, `slice` or `given`, as model.json of all folds says, or `unknown` without any. Stops when they disagree.

    Stops also when splits.csv is no longer the one that the folds were trained with: test patients may have been trained on.
    """
    specs = [spec for spec in map(experiments.description, folders) if spec]
    for key in ("splits_sha256", "protocol", "split", "classes", "window"):
        if len({str(spec.get(key)) for spec in specs}) > 1:
            raise UserError(
                f"{work.show(folders[0].parent)}: the folds differ in {key} (model.json); train them again, all alike"
            )
    if not specs:
        return "unknown"
    first = specs[0]
    splits_csv = work.need(work.work / "splits.csv", "scripts/05_make_splits.py")
    if first.get("splits_sha256") != files.sha256(splits_csv):
        raise UserError(
            f"{work.show(splits_csv)} is not the one that {folders[0].parent.name} was trained with; "
            f"restore it, or train again with {experiments.FOLDERS[task]}/{experiments.STEPS[task][0]}"
        )
    return "given" if first.get("split") == "given" else first.get("protocol", "unknown")


def joined(
    work: Workspace, task: int, experiment: str, read_fold: Callable[[Path], pd.DataFrame], limit_patients: int | None = None
) -> tuple[pd.DataFrame, str]:
    """What `read_fold` reads from each fold folder, checked against splits.csv, and the protocol: a key of PROTOCOLS."""
    folders = fold_folders(work, task, experiment)
    protocol = setting(work, task, folders)
    splits.stop_if_renamed(tables.read_labels(work, tables.read_dataset(work)), tables.read_splits(work))
    frames, protocols = [], set()
    for folder in tqdm(folders, desc="folds", disable=None):
        frame = read_fold(folder)
        frames.append(frame)
        protocols.add(_placed(work, task, folder, frame, protocol))
    if len({tuple(frame.columns) for frame in frames}) > 1:
        raise UserError(f"{work.show(folders[0].parent)}: the folds have other columns in predictions.csv; make them alike")
    frame = pd.concat(frames, ignore_index=True)
    if limit_patients is not None:
        frame = frame[frame["patient"].isin(slices.first_patients(tables.read_splits(work), limit_patients))]
    return frame, protocols.pop() if len(protocols) == 1 else "unknown"


def check(frame: pd.DataFrame, path: Path, several: bool = False, again: str | None = None) -> pd.DataFrame:
    """Stop when predictions cannot be what they should: see the messages. `y_*` may be empty (unknown).

    `several`: an image may have several of the labels, or none; else they are exclusive classes. `again`: the remedy.
    """
    labels = label_columns(frame)
    probabilities = frame[[f"p_{name}" for name in labels]].apply(pd.to_numeric, errors="coerce")
    truths = frame[[f"y_{name}" for name in labels if f"y_{name}" in frame]]
    problem = None
    if not labels or truths.shape != probabilities.shape:
        problem = "it needs a column y_LABEL and p_LABEL for each label"
    elif not probabilities.stack(future_stack=True).between(0, 1).all():
        bad = frame.loc[~((probabilities >= 0) & (probabilities <= 1)).all(axis=1), "image_id"]
        problem = f"{len(bad)} row(s) with a probability that is no number from 0 to 1 (first: {bad.iloc[0]})"
    elif not truths.isin([0, 1]).where(truths.notna(), True).all(axis=None):
        problem = "y_LABEL must be 0, 1 or empty"
    elif not frame["part"].isin(["val", "test"]).all():
        problem = "part must be val or test"
    elif frame.duplicated(["image_id", "fold"]).any():
        problem = f"image {frame['image_id'][frame.duplicated(['image_id', 'fold'])].iloc[0]} is there twice"
    elif (
        len(labels) > 1
        and not several
        and not (truths.dropna().sum(axis=1).eq(1).all() and probabilities.sum(axis=1).sub(1).abs().lt(1e-3).all())
    ):
        problem = "truth and probabilities of exclusive classes must add up to 1 in each row (several labels at once are task 4)"
    if problem:
        raise UserError(f"{path}: {problem}; correct the file, or {again or AGAIN[4 if several else 1]}")
    return frame


def stage(task: int, folder: Path) -> dict[str, Any]:
    """What model.json says of a fold that a head, an ensemble or a cascade is made of: `made_of`, or `stages`."""
    return {"task": task, "experiment": folder.parent.name, "sha256": files.fingerprint(folder / "predictions.csv")}


def stop_if_stages_changed(work: Workspace, folder: Path) -> None:
    """Stop when a fold was made of other predictions than those that its stages have now; most folds have no stages."""
    content = experiments.description(folder)
    for of in made_of(folder):
        path = work.task(of["task"]) / of["experiment"] / folder.name / "predictions.csv"
        if files.fingerprint(path) != of["sha256"]:
            step = content.get("made_by", MADE_BY["stages" in content])
            raise UserError(f"{work.show(path)} has changed since {folder.parent.name} was made of it; run {step} again")


def label_columns(frame: pd.DataFrame) -> list[str]:
    return [column.removeprefix("p_") for column in frame.columns if column.startswith("p_")]


def current(work: Workspace, task: int, folder: Path, made_with: tuple[str, ...] = (), name: str = "predictions.csv") -> Path:
    """A file of predictions in a fold's folder; without a model it is all there is.

    Stops where it is missing, or it or the model are not as the run that made them left them, or where its stages have other
    predictions now; of what older versions made, where it is older than the model or the tables `made_with`.
    """
    stop_if_stages_changed(work, folder)
    path, model = folder / name, folder / "best.pt"
    made = recorded(folder)
    if name in made and path.exists():
        others = [
            each for each in (name, "best.pt") if each in made and files.fingerprint(folder / each) not in (None, made[each])
        ]
        if others:
            raise UserError(f"{work.show(folder / others[0])} is not as the training left it; restore it, or {AGAIN[task]}")
        return path
    records = [files.read_json(record).get("inputs", {}) for record in sorted(folder.glob(TRAINED))]
    inputs = {name: digest for record in records for name, digest in record.items()}
    changed = [each for name in made_with if (each := work.work / name).exists()
               and inputs.get(work.show(each)) != files.fingerprint(each)]  # fmt: skip
    made_from = [each for each in (model, *changed) if each.exists()]
    newest = max((each.stat().st_mtime for each in made_from), default=0)  # all that older versions tell
    if model.exists() and not (path.exists() and path.stat().st_mtime > newest):
        older = " or ".join(["best.pt", *made_with])
        raise UserError(f"{work.show(path)} is missing or older than {older}; {AGAIN[task]}: a trained model only predicts")
    return path


def stop_if_relabelled(work: Workspace, experiment: str, frame: pd.DataFrame, again: str) -> None:
    """Stop where labels.csv was corrected since: predictions would be measured by labels that were taken back.

    `frame`: with a column y_LABEL for labels of the data set; of others nothing is known.
    """
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    now = labels.set_index("image_id")[dataset.labels].astype("Float64").astype(float)
    if label_columns(frame) == [slices.ANY]:
        now[slices.ANY] = slices.truth_of_any(labels, dataset.labels)
    shared = [name for name in label_columns(frame) if name in now]
    before = frame[[f"y_{name}" for name in shared]].set_axis(shared, axis=1)
    changed = frame["image_id"][~same_truth(now.reindex(frame["image_id"]), before, shared)]
    if len(changed):
        raise UserError(
            f"{experiment}: its predictions have another truth than labels.csv for {changed.nunique()} image(s) (first: "
            f"{changed.iloc[0]}); {again}"
        )


def same_truth(first: pd.DataFrame, second: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """Whether two tables have the same truth for each image, row by row, also that a label is unknown: bool (n,)."""
    here, there = (frame[labels].astype("Float64").to_numpy(dtype=float, na_value=np.nan) for frame in (first, second))
    return ((here == there) | (np.isnan(here) & np.isnan(there))).all(axis=1)


def stop_if_wrong(
    frame: pd.DataFrame, labels: pd.DataFrame, parts: tuple[str, ...], more: dict[str, pd.Series], shown: str | Path, again: str
) -> None:
    """Stop at rows of predictions that are of other images or patients than labels.csv has, of other parts, or wrong otherwise.

    `more`: further problems in words, and which rows have them. `shown`: the file in the message, `again`: the remedy.
    """
    patient_of = labels.set_index("image_id")["patient"]
    wrong = {
        f"part must be {' or '.join(parts)}": ~frame["part"].isin(parts),
        "image of no row of labels.csv": ~frame["image_id"].isin(patient_of.index),
        "other patient than in labels.csv": frame["patient"].ne(frame["image_id"].map(patient_of)),
        **more,
    }
    for problem, rows in wrong.items():
        if rows.any():
            first = frame.loc[rows, "image_id"].iloc[0]
            raise UserError(f"{shown}: {rows.sum()} row(s) with {problem} (first: {first}); correct the file, or {again}")


def stop_if_missing(shown: str, wanted: pd.Series, frame: pd.DataFrame, again: str) -> None:
    """Stop where predictions lack some of the `wanted` images."""
    missing = wanted[~wanted.isin(frame["image_id"])]
    if len(missing):
        raise UserError(f"{shown} lacks {len(missing)} of {len(wanted)} slices (first: {missing.iloc[0]}); {again}")


def of_slices(
    work: Workspace, task: int, experiment: str, data: Slices, read_fold: Callable[[Path], pd.DataFrame]
) -> tuple[pd.DataFrame, str]:
    """As `joined`, of the slices of `data` alone. Stops where a fold lacks one of those that it validates or tests."""
    frame, protocol = joined(work, task, experiment, read_fold)
    frame = frame[frame["image_id"].isin(data.table["image_id"])]
    again = f"{AGAIN[task]}, or evaluate only the patients that it was trained with: --limit-patients N"
    for fold, of_fold in frame.groupby("fold") if protocol != "unknown" else []:
        folder = work.task(task) / experiment / f"fold{fold}"
        part = data.part_of(fold, protocol, "given" if protocol == "given" else "folds", validation_of(folder))
        stop_if_missing(work.show(folder / "predictions.csv"), data.table["image_id"][part != "train"], of_fold, again)
    return frame, protocol


def _known(labels: pd.DataFrame, frame: pd.DataFrame) -> np.ndarray:
    """Which rows of labels.csv have a label that predictions speak of: bool (n,)."""
    named = [name for name in label_columns(frame) if name in labels]
    return labels[named].notna().any(axis=1).to_numpy() if named else np.zeros(len(labels), dtype=bool)


def _placed(work: Workspace, task: int, folder: Path, frame: pd.DataFrame, stated: str) -> str:
    """The protocol whose val and test images of this fold are those of the predictions; stops when a known one's are not."""
    number, labels = experiments.fold_of(folder), tables.read_labels(work, tables.read_dataset(work))
    path = work.show(folder / "predictions.csv")
    if set(frame["fold"]) - {number}:
        raise UserError(f"{path} holds rows of another fold than {number}; predict again or correct it")
    for candidate in ("patient", "slice") if stated == "unknown" else (stated,):
        part = splits.part_of(labels, tables.read_splits(work), number, candidate, candidate, validation_of(folder))
        if (frame["part"].to_numpy() == part.reindex(frame["image_id"]).to_numpy()).all():
            if not (folder / "model.json").exists():  # of others; what a training of ours predicts is known by its hash
                known = labels["image_id"][_known(labels, frame)]
                wanted = known[part.reindex(known).isin(["val", "test"]).to_numpy()]
                stop_if_missing(path, wanted, frame, "add a row for each slice of the fold that is labelled")
            return candidate
    if stated == "unknown":
        return stated
    raise UserError(f"{path}: val and test are not those of fold {number} in splits.csv; {AGAIN[task]}")
