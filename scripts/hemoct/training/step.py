"""What the steps of all tasks do that train: their flags, and one training after the other of the folders that are due."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hemoct.base import cli, options, runs
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import torch

    Prepare = Callable[[torch.device], tuple[str, Callable[[Run], list[Path]]]]
    """reads the data; returns what is trained, in words, and the function that trains in a run's folder and returns what it
    wrote"""

MADE_BY = {
    "task4/working_set.csv": "task4_multilabel/01_prepare_labels.py", "dataset.json": "scripts/03_make_labels.py",
    "labels.csv": "scripts/03_make_labels.py", "splits.csv": "scripts/05_make_splits.py",
}  # fmt: skip
"""the tables of trainings, in the order in which they are read"""


def parser(doc: str | None, kind: type) -> cli.Parser:
    """The parser of a step that trains; `kind`: a dataclass of all its options, see base.options.part."""
    made = cli.parser(doc)
    cli.add_experiment_flags(made)
    options.add_all(made, kind)
    return made


def train(step: str, args: argparse.Namespace, inputs: dict[Path, list[Path]], prepare: Prepare) -> None:
    """Train in each folder that is not up to date; where all are, no data is read. `inputs`: what each folder is made from."""
    due = runs.due(step, args, inputs)
    if not due:
        return
    work = Workspace.of(args)
    for name, made_by in MADE_BY.items():
        if work.work / name in next(iter(inputs.values())):
            work.need(work.work / name, made_by)
    from hemoct.training import device  # torch takes seconds: only now that there is something to train

    where = device.pick(args.device, args.threads)
    what, train_fold = prepare(where)
    for run in due:
        print(f"{work.show(run.folder)}: {what}, {args.protocol} protocol")
        with run:
            run.note(device=str(where))
            run.wrote(*train_fold(run))
