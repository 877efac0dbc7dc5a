"""Boxes that a detector of task 2 predicted, for steps that build on them: found, and checked so that no test patient leaks.

A step of fold K looks through the detector of fold K, which was trained without its test patients. The detector has seen the
training slices: its boxes there are better than on new slices, so what learns from them sees a rosier picture than it is tested
on. That can cost accuracy on test; it does not touch the test itself.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data.slices import Slices
from hemoct.detection import evaluate, networks, scene
from hemoct.evaluation import predictions

NEEDED = ("model.json", "predictions.csv", "train_predictions.csv")
"""what is read of a detector's fold"""


def folders(work: Workspace, experiment: str, fold: str) -> tuple[list[Path], str]:
    """The folds of a detector with predictions (`fold`: a number or "all"), and their protocol.

    An experiment that is not in outputs/ is looked for among the reference results. Stops when a file of NEEDED is missing, when
    the folds differ in protocol or classes, and when splits.csv is another one.
    """
    places = [work.task(2) / experiment, work.reference / "task2" / experiment]
    folder = next((place for place in places if experiments.folds(place, "predictions.csv")), places[0])
    of_experiment = experiments.folds(folder, "predictions.csv")
    found = [path for path in of_experiment if fold == "all" or path.name == f"fold{fold}"]
    if not found:
        wanted = folder / ("fold*" if fold == "all" else f"fold{fold}")
        raise UserError(f"{work.show(wanted)} holds no predictions.csv; {_there(work)}")
    for path in (of_fold / name for of_fold in found for name in NEEDED):
        if not path.exists():
            raise UserError(f"{work.show(path)} is missing; {predictions.AGAIN[2]}")
    for of_fold in found:
        spec = networks.DetectorSpec.read(of_fold)
        if spec.split == "folds" and f"fold{spec.fold}" != of_fold.name:
            raise UserError(f"{work.show(of_fold / 'model.json')} is of fold {spec.fold}: test patients would leak; restore it")
    return found, predictions.setting(work, 2, found)


def _there(work: Workspace) -> str:
    """Which detectors there are, here and among the reference results, or how to get one."""
    places = [folder for above in (work.task(2), work.reference / "task2") for folder in sorted(above.glob("*"))]
    names = list(dict.fromkeys(folder.name for folder in places if experiments.folds(folder, *NEEDED[1:])))
    if names:
        return f"experiments of task 2: {', '.join(names)}"
    return f"train a detector: python {experiments.train_step(2)} --dataset {work.dataset}"


def read(work: Workspace, folder: Path, slices: Slices) -> tuple[pd.DataFrame, networks.DetectorSpec]:
    """Checked boxes of all three parts of a fold, for those of `slices` that the detector was asked about, and its spec.

    Columns of detection.scene.COLUMNS. Stops when predictions are wrong, or not of the parts that the slices have in this fold.
    """
    spec = networks.DetectorSpec.read(folder)
    for name in NEEDED[1:]:
        if not predictions.is_current(work, folder, made_with=(), name=name):
            raise UserError(f"{work.show(folder / name)} is older than best.pt; {predictions.AGAIN[2]}")
    labels, frames = tables.read_labels(work, tables.read_dataset(work)), []
    for path in (folder / name for name in NEEDED[1:]):
        frame = tables.read_csv(path, scene.COLUMNS)
        checked = evaluate.check(frame.assign(part="test"), path, labels, spec.classes)  # the parts are looked at below
        frames.append(checked.assign(part=frame["part"]))
    found = pd.concat(frames, ignore_index=True)

    fold = int(folder.name.removeprefix("fold"))
    place = pd.Series(slices.part_of(fold, spec.protocol, spec.split), index=slices.table["image_id"])
    of_slices = found[found["image_id"].isin(place.index)]
    wrong = (of_slices["part"] != of_slices["image_id"].map(place)) | (of_slices["fold"] != fold)
    if wrong.any():
        raise UserError(
            f"{work.show(folder)}: its predictions of {of_slices['image_id'][wrong].iloc[0]} are not those of fold {fold} in "
            f"splits.csv, test patients would leak; {predictions.AGAIN[2]}"
        )
    return of_slices, spec
