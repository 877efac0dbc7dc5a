"""What the steps of tasks 1 and 4 do that train heads on the features of slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.training import step as training_step
from hemoct.volumes.options import Options

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hemoct.data.slices import Slices
    from hemoct.training import inference


@dataclass(frozen=True)
class Kind:
    """What is other from task to task."""

    task: int
    tables: tuple[str, ...]
    """what is read of data/work/NAME"""
    load: inference.Load
    read: Callable[[Workspace, Options, list[Path]], tuple[Slices, np.ndarray]]
    """the slices with classes, targets and pixels, as the models in these folders see them, or without any as --backbone does;
    and the rows of the pixels that are seen of each slice, int64 (n, planes)"""


def run(step: str, doc: str | None, argv: list[str] | None, kind: Kind) -> None:
    """A step that trains heads, whole. `step`: its file, `doc`: its help."""
    parser = training_step.parser(doc, Options)
    args = cli.parse(parser, argv, step)
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    experiment = work.task(kind.task) / cli.experiment_name(parser, args, chosen.base)
    tables = [work.work / name for name in kind.tables]
    made_from = {folder: chosen.inputs(work, kind.task, folder) for folder in chosen.selection.folders(experiment)}

    def read() -> tuple[Slices, np.ndarray, np.ndarray]:
        from hemoct.volumes import scans  # not at the top: --help shall be quick

        models = [paths[0].parent for paths in made_from.values()] if chosen.features.features else []
        data, planes = kind.read(work, chosen, models)
        shown = work.show(work.work / "labels.csv")
        return data, planes, scans.scans(data.table, ordered=args.head != "linear", source=shown)

    def begin(loaded: tuple[Slices, np.ndarray, np.ndarray], where: torch.device) -> tuple[str, Callable[[Run], list[Path]]]:
        import torch

        from hemoct.training.batches import Stacks, Store
        from hemoct.volumes import features, train

        data, planes, rows = loaded
        source = Stacks(Store(data.pixels, where), torch.as_tensor(planes))

        def train_fold(run: Run) -> list[Path]:
            maker = features.maker(made_from[run.folder], chosen, planes.shape[1], kind.load, where)
            kept = features.kept(work, data.table, maker, source, args.precision)
            return train.train_fold(run, chosen, data, train.Scans(kept, data.targets, rows, where), maker, kind.task)

        return args.head, train_fold

    training_step.train(step, args, {folder: [*tables, *paths] for folder, paths in made_from.items()}, read, begin)
    cli.say_next(work, experiments.evaluate_step(kind.task))
