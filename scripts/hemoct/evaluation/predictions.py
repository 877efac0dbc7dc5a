"""Predictions of the folds of an experiment of any task: found, and checked against errors and leaks; task 1's also made."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from hemoct.base import experiments, files, label_meaning, tables
from hemoct.base.cli import positive_int
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices, splits
from hemoct.ingest import layouts

PROTOCOLS = {
    "patient": "patient protocol: no patient is both in training and in test",
    "slice": "slice protocol: slices of one patient are both in training and in test, which flatters",
    "given": "given split: the one that came with the data",
    "external": "external data: no image of theirs was used for training, thresholds frozen",
    "unknown": "unknown protocol: predictions without model.json that follow no fold of splits.csv",
}


AGAIN = {
    1: "delete it and run task1_classification/02_evaluate.py again",
    2: "make it again with the command of the training and --resume (task2_detection/02_train.py ... --resume)",
    3: "make it again with the command of the training and --resume (task3_segmentation/02_train.py ... --resume)",
    4: "make it again with the command of the training and --resume (task4_multilabel/02_train.py ... --resume)",
}
"""how wrong predictions are made again, by task"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every step that evaluates."""
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all of the data set")
    parser.add_argument("--on", metavar="OTHER", help="evaluate on the labelled images of another data set")
    parser.add_argument("--limit-patients", type=positive_int, metavar="N", help="a first look; nothing else is replaced")


SHARED = 0.05
"""share of another data set's images that may also be in this one, with a word"""


def other(work: Workspace, name: str) -> Workspace:
    """Another data set; stops when it holds images that the models of this one were trained on, or copies of them.

    Stops also when both were converted from HU, in other windows: what is bright there is not what the models know as bright.
    """
    found = Workspace(work.root, name)
    if found.raw.resolve() == work.raw.resolve():
        raise UserError(f"--on {name} holds the images of {work.dataset}, on which the models were trained; name other data")
    own, window = layouts.recorded_window(work.raw), layouts.recorded_window(found.raw)
    if own and window and own != window:
        raise UserError(
            f"--on {name}: its images show the window {window}, the models of {work.dataset} learned from {own}; convert it "
            f"again: python scripts/01_get_data.py --from DIR --window {own} --dataset {name}"
        )
    theirs = _images(found)
    shared = copies(theirs, _images(work))
    told = f"{len(shared)} of {len(theirs)} images of {name} are also in {work.dataset}, on which the models were trained"
    if len(shared) > SHARED * len(theirs):
        raise UserError(f"--on {name}: {told} (first: {found.show(shared[0])}); name other data, or take these images out of it")
    if shared:
        print(f"mind: {told} (first: {found.show(shared[0])})")
    return found


def _images(work: Workspace) -> list[Path]:
    """The image files of a data set, as far as they are there."""
    found = [work.raw / name for name in tables.read_labels(work, tables.read_dataset(work))["image"]]
    return [path for path in found if path.exists()]


def copies(paths: list[Path], others: list[Path]) -> list[Path]:
    """Those of `paths` whose very bytes are also in one of `others`. Only files of equal size are read.

    What stands several times among the `paths` or the `others`, like an all-black slice, is no copy.
    """
    by_size: dict[int, list[Path]] = {}
    for path in others:
        by_size.setdefault(path.stat().st_size, []).append(path)
    alike = {path: size for path in paths if (size := path.stat().st_size) in by_size}
    theirs = Counter(files.sha256(path) for size in set(alike.values()) for path in by_size[size])
    of_path = {path: files.sha256(path) for path in alike}
    again = Counter(of_path.values())
    return [path for path, digest in of_path.items() if theirs[digest] == again[digest] == 1]


def place(work: Workspace, task: int, experiment: str, args: argparse.Namespace) -> tuple[Workspace, Path]:
    """The data that an experiment is evaluated on, by the flags, and the folder of the results."""
    seen = other(work, args.on) if args.on else work
    words = [f"on-{args.on}"] * bool(args.on) + [f"first-{args.limit_patients}-patients"] * bool(args.limit_patients)
    return seen, work.task(task) / experiment / "-".join(words)


def fold_folders(work: Workspace, task: int, experiment: str) -> list[Path]:
    """The fold folders of an experiment that hold a model or predictions."""
    folder = work.task(task) / experiment
    found = experiments.folds(folder, "best.pt", "predictions.csv")
    if not found:
        raise UserError(f"{work.show(folder)} holds no trained fold; there are: {', '.join(experiments.trained(work, task))}")
    return found


def sources(folders: list[Path]) -> list[Path]:
    """The files that predictions of the folds come from: the models, or the predictions where there is no model."""
    names = ("best.pt", "model.json", "history.csv")
    models = [folder / name for folder in folders for name in names if (folder / name).exists()]
    return models + [_file(folder) for folder in folders if not (folder / "best.pt").exists()]


def histories(folders: list[Path], columns: Iterable[str] = ("epoch", "train_loss", "val_loss")) -> dict[str, pd.DataFrame]:
    """history.csv, with at least these columns, of each fold that has one, by the name of the fold."""
    found = {folder.name: folder / "history.csv" for folder in folders if (folder / "history.csv").exists()}
    return {name: tables.read_csv(path, columns) for name, path in found.items()}


def setting(work: Workspace, task: int, folders: list[Path]) -> str:
    """`patient`, `slice` or `given`, as model.json of all folds says, or `unknown` without any. Stops when they disagree.

    Stops also when splits.csv is no longer the one that the folds were trained with: test patients may have been trained on.
    """
    specs = {folder: files.read_json(folder / "model.json") for folder in folders if (folder / "model.json").exists()}
    for key in ("splits_sha256", "protocol", "split", "classes"):
        if len({str(spec.get(key)) for spec in specs.values()}) > 1:
            raise UserError(
                f"{work.show(folders[0].parent)}: the folds differ in {key} (model.json); train them again, all alike"
            )
    if not specs:
        return "unknown"
    first = next(iter(specs.values()))
    splits_csv = work.need(work.work / "splits.csv", "scripts/05_make_splits.py")
    if first.get("splits_sha256") != files.sha256(splits_csv):
        raise UserError(
            f"{work.show(splits_csv)} is not the one that {folders[0].parent.name} was trained with; "
            f"restore it, or train again with {experiments.FOLDERS[task]}/{experiments.STEPS[task][0]}"
        )
    return "given" if first.get("split") == "given" else first.get("protocol", "unknown")


def read(work: Workspace, experiment: str, args: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Validation and test predictions of all folds of an experiment of task 1, and its protocol: a key of PROTOCOLS."""
    return joined(work, 1, experiment, lambda folder: _read_fold(work, folder, args))


def joined(work: Workspace, task: int, experiment: str, read_fold: Callable[[Path], pd.DataFrame]) -> tuple[pd.DataFrame, str]:
    """What `read_fold` reads from each fold folder, checked against splits.csv, and the protocol: a key of PROTOCOLS."""
    folders = fold_folders(work, task, experiment)
    told = setting(work, task, folders)
    splits.stop_if_renamed(tables.read_labels(work, tables.read_dataset(work)), tables.read_splits(work))
    frames, protocols = [], set()
    for folder in tqdm(folders, desc="folds", disable=None):
        frame = read_fold(folder)
        frames.append(frame)
        protocols.add(_placed(work, task, folder, frame, told))
    if len({tuple(frame.columns) for frame in frames}) > 1:
        raise UserError(f"{work.show(folders[0].parent)}: the folds have other columns in predictions.csv; make them alike")
    return pd.concat(frames, ignore_index=True), protocols.pop() if len(protocols) == 1 else "unknown"


def _read_fold(work: Workspace, folder: Path, args: argparse.Namespace) -> pd.DataFrame:
    """Checked predictions of a fold, made first when they are not there or older than the model or the labels.

    With --limit-patients nothing is kept: a later evaluation must not take a part for the whole.
    """
    limited = args.limit_patients is not None
    if is_current(work, folder):
        frame = check(tables.read_predictions(folder), _file(folder))
        if limited:
            frame = frame[frame["patient"].isin(slices.first_patients(tables.read_splits(work), args.limit_patients))]
        return frame
    from hemoct.classification import predict

    frame = predict.predict_fold(work, folder, args)
    if limited:
        return frame
    tables.write_predictions(folder, frame)  # and read back: a later evaluation of the file gives the same numbers
    return check(tables.read_predictions(folder), _file(folder))


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


def label_columns(frame: pd.DataFrame) -> list[str]:
    return [column.removeprefix("p_") for column in frame.columns if column.startswith("p_")]


def _file(folder: Path) -> Path:
    return folder / "predictions.csv"


def is_current(work: Workspace, folder: Path, made_with: Iterable[str] = ("labels.csv",), name: str = "predictions.csv") -> bool:
    """Whether predictions.csv (or another file) is there and newer than the model and the tables.

    Without a model it is all there is.
    """
    if not (folder / "best.pt").exists():
        return True
    made_from = [path for path in (folder / "best.pt", *(work.work / name for name in made_with)) if path.exists()]
    found = folder / name
    return found.exists() and all(found.stat().st_mtime > path.stat().st_mtime for path in made_from)


def _placed(work: Workspace, task: int, folder: Path, frame: pd.DataFrame, protocol: str) -> str:
    """The protocol whose val and test images of this fold are those of the predictions; stops when a known one's are not."""
    number, table = int(folder.name.removeprefix("fold")), tables.read_splits(work)
    if set(frame["fold"]) - {number}:
        raise UserError(f"{work.show(_file(folder))} holds rows of another fold than {number}; predict again or correct it")
    for candidate in ("patient", "slice") if protocol == "unknown" else (protocol,):
        if candidate == "given":
            part = splits.given_parts(tables.read_labels(work, tables.read_dataset(work)), table)
        else:
            part = splits.parts(table, number, candidate, validation_of(folder))
        if (frame["part"].to_numpy() == part.reindex(frame["image_id"]).to_numpy()).all():
            return candidate
    if protocol == "unknown":
        return protocol
    raise UserError(f"{work.show(_file(folder))}: val and test are not those of fold {number} in splits.csv; {AGAIN[task]}")


def read_external(other: Workspace, folders: list[Path], args: argparse.Namespace) -> pd.DataFrame:
    """Every labelled image of another data set with the mean of the fold models: image_id, patient, y_*, p_*."""
    models = [folder for folder in folders if (folder / "best.pt").exists()]
    if not models:
        raise UserError(f"{folders[0].parent} has predictions but no model (best.pt); --on needs one that 01_train.py made")
    from hemoct.classification import predict

    return predict.predict_ensemble(other, models, args)


ABOUT = ("dataset", "experiment", "evaluated_on", "protocol", "protocol_text", "folds_done", "training_unfinished", "labels_mean")
"""what `describe` says"""


def describe(work: Workspace, task: int, experiment: str, seen: Workspace, protocol: str, folders: list[Path]) -> dict[str, Any]:
    """What metrics.json says first: what was evaluated, on which data, and what its labels mean."""
    expected = 1 if protocol == "given" else splits.FOLDS
    done = ", ".join(folder.name.removeprefix("fold") for folder in folders)
    shown = f"all {expected} folds" if 1 < expected == len(folders) else f"fold{'s' * (len(folders) > 1)} {done} of {expected}"
    about = {"dataset": work.dataset, "experiment": experiment, "evaluated_on": seen.dataset, "protocol": protocol}
    about |= {"protocol_text": PROTOCOLS[protocol], "folds_done": "one model" if protocol == "given" else shown}
    about["training_unfinished"] = [folder.name for folder in folders if _is_unfinished(task, folder)]
    return about | {"labels_mean": label_meaning.TARGET.get(tables.read_dataset(seen).layout)}


def short_protocol(content: dict[str, Any]) -> str:
    """`patient protocol`, `given split` ...: the words before the explanation in protocol_text."""
    return content["protocol_text"].split(":")[0]


def headline(content: dict[str, Any]) -> list[str]:
    """Lines that belong to any number of a metrics.json: what, on what, how many; protocol; threshold; labels; notes."""
    positives = "" if content["positives"] is None else f", {content['positives']} positive ({content['positive']})"
    size = f"n = {content['n']} images of {content['patients']} patients{positives}, {content['folds_done']}"
    lines = [f"{content['experiment']} on {content['evaluated_on']}, {short_protocol(content)}, {size}"]
    lines += [content["protocol_text"], f"threshold: {content['threshold_rule']}", content["labels_mean"], *content["notes"]]
    if content["training_unfinished"]:
        lines.append(f"training is not finished: {', '.join(content['training_unfinished'])}")
    return [line for line in lines if line]


def validation_of(folder: Path) -> int:
    """Which fold, counted on from the test fold, a fold's model was validated on: `validation` of model.json, or 1."""
    path = folder / "model.json"
    return files.read_json(path).get("validation", 1) if path.exists() else 1


def _is_unfinished(task: int, folder: Path) -> bool:
    """Whether the training of a fold was stopped before its end, so that best.pt is what it had reached."""
    record = folder / f"{Path(experiments.STEPS[task][0]).stem}.run.json"
    return record.exists() and files.read_json(record).get("status") != "ok"
