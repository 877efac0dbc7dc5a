"""What the steps of all tasks do that train: their flags, and one training after the other of the folders that are due."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from hemoct.base import cli, options, runs
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.training import device

Prepare = Callable[[torch.device], tuple[str, Callable[[Run], list[Path]]]]
"""reads the data; returns what is trained, in words, and the function that trains in a run's folder and returns what it wrote"""


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
    where = device.pick(args.device, args.threads)
    what, train_fold = prepare(where)
    for run in due:
        print(f"{Workspace.of(args).show(run.folder)}: {what}, {args.protocol} protocol")
        with run:
            run.note(device=str(where))
            run.wrote(*train_fold(run))
