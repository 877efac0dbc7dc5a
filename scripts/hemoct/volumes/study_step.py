"""What 11_train_volume.py does before it trains: the studies of a data set, and what is seen of their slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.data.slices import SliceData
from hemoct.training.options import WORDS, Initial
from hemoct.volumes import scans, studies
from hemoct.volumes.study_options import Options

if TYPE_CHECKING:
    import torch

    from hemoct.training import inference

Started = dict[Path, tuple[Initial, list[Path]]]
"""of each fold's folder: see Options.of_fold"""


@dataclass(frozen=True)
class Studied:
    """What is read: the slices, the studies as cases of their own, and the rows of the slices that are seen of each."""

    pixels: SliceData
    cases: SliceData
    rows: np.ndarray


def read(work: Workspace, options: Options, started: Started) -> Studied:
    """The labels of the studies, and their slices."""
    for initial, _ in started.values():
        _stop_if_taught_by_slices(options, initial)
    size, prepare = options.features.image_size, options.selection.prepare
    pixels = slices.load(work, size, None, options.selection.limit_patients, known_only=False, prepare=prepare)
    table, classes = studies.read(work, options.study.label)
    cases, rows = of_slices(table, classes, pixels, work.show(studies.path(work, options.study.label)))
    study, seen = options.study, rows
    if not study.keeps_features and (study.is_volume or _longest(rows) > study.depth):
        seen = scans.placed(rows, pixels.table, study, work.show(work.work / "labels.csv"))
    return Studied(pixels, cases, seen)


def begin(
    data: Studied, options: Options, started: Started, load: inference.Load, where: torch.device
) -> Callable[[Run], list[Path]]:
    """The function that trains in a run's folder. `load`: the models of --features."""
    import torch

    from hemoct.training.batches import Store
    from hemoct.volumes import arrays, features, study_train
    from hemoct.volumes.study_train import Studies

    work, pixels, cases, rows = data.pixels.work, data.pixels, data.cases, data.rows
    if not options.study.keeps_features:
        given = Studies(pixels, cases, rows, arrays.Volumes.of(pixels.pixels, rows, where))
        return lambda run: study_train.train_fold(run, replace(options, initial=started[run.folder][0]), given, None)

    source = Store(pixels.pixels, where)

    def train_fold(run: Run) -> list[Path]:
        initial, paths = started[run.folder]
        of_fold = replace(options, initial=initial)
        made_by = features.maker(paths, of_fold, 1, load, where)
        kept = features.kept(work, pixels.table, made_by, source, options.training.precision)
        given = Studies(pixels, cases, rows, arrays.Sequences(kept, torch.as_tensor(rows), where))
        return study_train.train_fold(run, of_fold, given, made_by)

    return train_fold


def _longest(rows: np.ndarray) -> int:
    return int((rows >= 0).sum(axis=1).max())


def of_slices(table: pd.DataFrame, classes: list[str], pixels: SliceData, shown: str) -> tuple[SliceData, np.ndarray]:
    """The studies of study_labels.csv as cases of their own, and the rows of their slices, int64 (studies, most), -1 beyond.

    Studies whose patient is not in `pixels` are left out. Stops where the slices of one are not those that its label speaks of.
    """
    here = table["patient"].isin(pixels.table["patient"])
    if not here.any():
        raise UserError(f"{shown} speaks of no patient that is used here; make it again: python {studies.MADE_BY}")
    table = table[here].reset_index(drop=True)
    keys = [name for name in ("patient", "group") if name in table and name in pixels.table]
    number = pixels.table["slice"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    of_study = pixels.table.groupby(keys).indices
    each = []
    for study in table.itertuples():
        key = tuple(getattr(study, name) for name in keys)
        own = of_study.get(key if len(keys) > 1 else key[0], np.array([], int))
        own = own[(number[own] >= study.first) & (number[own] <= study.last)]
        own = own[np.argsort(number[own], kind="stable")]
        if study.image_id not in set(pixels.table["image_id"].iloc[own]):
            raise UserError(
                f"{shown}: {study.image_id} is no slice of study {study.study} any more; make it again: python {studies.MADE_BY}"
            )
        each.append(own)
    rows = np.full((len(each), max(map(len, each))), -1)
    for place, own in enumerate(each):
        rows[place, : len(own)] = own
    targets = table[classes].to_numpy(dtype=np.float32)
    exclusive = len(classes) > 1
    return replace(pixels, table=table, classes=classes, targets=targets, exclusive=exclusive), rows


def _stop_if_taught_by_slices(options: Options, initial: Initial) -> None:
    """Stop where weights of --network attention, which learns from labels of studies alone, learned labels of slices."""
    beside = Path(initial.weights).with_name("model.json")
    if options.study.network != "attention" or initial.weights in WORDS or not beside.is_file():
        return
    source = files.read_json(beside)
    taught = source.get("labelled") is not None if source.get("method") else bool(source.get("classes"))
    if taught:
        raise UserError(
            f"--weights {initial.weights} learned labels of slices, and --network attention learns from labels of studies alone; "
            "take imagenet, or a pre-training without labels"
        )
