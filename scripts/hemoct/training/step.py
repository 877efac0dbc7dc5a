"""What the steps of all tasks do that train: their flags, and one training after the other of the folders that are due."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemoct.base import cli, options, runs
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import torch

    Read = Callable[[], Any]
    """returns the data; imports no torch, so that what is wrong with them is said before those seconds (of a single process)"""
    Begin = Callable[[Any, torch.device], tuple[str, Callable[[Run], list[Path]]]]
    """given the data, returns what is trained, in words, and the function that trains in a run's folder and returns what it
    wrote"""

TABLES = ("labels.csv", "images.csv", "dataset.json", "splits.csv")
"""what every training of slices is made from, of data/work/NAME"""
MADE_BY = {
    "task4/working_set.csv": "task4_multilabel/01_prepare_labels.py", "dataset.json": "scripts/03_make_labels.py",
    "labels.csv": "scripts/03_make_labels.py", "splits.csv": "scripts/05_make_splits.py",
}  # fmt: skip
"""the tables of trainings, in the order in which they are read"""


def parser(doc: str | None, kind: type, several: bool = False) -> cli.Parser:
    """The parser of a step that trains; `kind`: a dataclass of all its options, see base.options.part.

    `several`: whether several processes may train together, see training.parallel.
    """
    made = cli.parser(doc)
    made.several = several
    cli.add_experiment_flags(made)
    options.add_all(made, kind)
    return made


def train(step: str, args: argparse.Namespace, inputs: dict[Path, list[Path]], read: Read, begin: Begin) -> None:
    """Train in each folder that is not up to date; where all are, no data is read. `inputs`: what each folder is made from."""
    if cli.processes() > 1:
        _train_together(step, args, inputs, read, begin)
        return
    due = runs.due(step, args, inputs)
    if not due:
        return
    _need_tables(args, inputs)
    if args.device not in ("auto", "cpu"):  # one that is not there is told before anything is decoded
        _pick(args)
    data = read()
    where = _pick(args)
    what, train_fold = begin(data, where)
    for run in due:
        say(run, args, what)
        with run:
            run.note(device=str(where))
            run.wrote(*train_fold(run))


def _pick(args: argparse.Namespace) -> torch.device:
    from hemoct.training import device  # torch takes seconds: only now that there is something to train

    return device.pick(args.device, args.threads)


def _train_together(step: str, args: argparse.Namespace, inputs: dict[Path, list[Path]], read: Read, begin: Begin) -> None:
    """The same by several processes, of which the first alone holds the folders and says what is due."""
    from hemoct.training import parallel

    with parallel.joined(args.device, args.threads) as where:
        first = parallel.number() == 0
        due = runs.due(step, args, inputs) if first else []
        folders = parallel.from_first([run.folder for run in due])
        if not folders:
            return
        _need_tables(args, inputs)
        what, train_fold = begin(parallel.first_alone(read), where)  # it decodes what is not in the cache yet
        for run in due or [Run(step, args, folder, inputs[folder]) for folder in folders]:
            say(run, args, what)
            with run if first else contextlib.nullcontext():
                run.note(device=str(where), processes=parallel.count())
                run.wrote(*train_fold(run))


def _need_tables(args: argparse.Namespace, inputs: dict[Path, list[Path]]) -> None:
    work = Workspace.of(args)
    for name, made_by in MADE_BY.items():
        if work.work / name in next(iter(inputs.values())):
            work.need(work.work / name, made_by)


def say(run: Run, args: argparse.Namespace, what: str) -> None:
    """The line before a training: where it writes, and what is trained."""
    print(f"{Workspace.of(args).show(run.folder)}: {what}, {args.protocol} protocol")
