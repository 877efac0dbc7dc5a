"""Train one network for several tasks, one model a fold: one encoder with heads for the label, the mask, the lesion's size.

What it learned parts into ordinary networks: a fold of task 1 and a fold of task 3, which their steps evaluate, compare, explain
and export like any other. --tasks classify, or --tasks segment, trains the network of a single task by the same code at the same
cost, for a fair comparison. Whole slices are seen, all training slices in each epoch; a slice without a mask, or with an unknown
label, does not count in that loss. Best epoch: the highest mean of the tasks' scores on validation (AUROC, Dice by patient, rank
correlation of the size).
In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
        data/raw/NAME (images and masks)                    scripts/01_get_data.py
Writes  outputs/NAME/multitask/EXPERIMENT/foldK/    best.pt, model.json, last.pt, history.csv (all losses, learned weights),
                                                    sizes.csv and sizes.json (--tasks ...,size)
        outputs/NAME/task1/EXPERIMENT/foldK/        best.pt, model.json, history.csv, predictions.csv (val, test)
        outputs/NAME/task3/EXPERIMENT/foldK/        the same, and probability/IMAGE_ID.png (8 bit)
Next    python task1_classification/02_evaluate.py, python task3_segmentation/03_evaluate.py

    python task3_segmentation/10_train_multitask.py --tasks classify,segment,size --loss-weights uncertainty
    python task3_segmentation/10_train_multitask.py --tasks segment
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.multitask.options import PARTS, Options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.multitask.data import Data


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, Options)
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    name = cli.experiment_name(parser, args, "-".join([*args.tasks, args.backbone]))
    folders = chosen.selection.folders(work.outputs / "multitask" / name)
    inputs = [work.work / table for table in step.TABLES]
    of_fold = {folder: inputs + chosen.initial.of_fold(work, folder).inputs() for folder in folders}
    places = {PARTS[task]: work.task(PARTS[task]) / name for task in args.tasks if task in PARTS}
    for place in places.values():
        stop_if_taken(work, [place / folder.name for folder in folders])

    def read() -> Data:
        from hemoct.multitask import data  # what computes is not imported at the top: --help shall be quick

        return data.load(work, chosen)

    def begin(data: Data, where: torch.device) -> tuple:
        from hemoct.multitask import train

        def train_fold(run: Run) -> list[Path]:
            with contextlib.ExitStack() as held:
                parts = {
                    task: held.enter_context(Run(__file__, args, place / run.folder.name, of_fold[run.folder]))
                    for task, place in places.items()
                }
                written = train.train_fold(run, parts, chosen, data, where)
            return written

        return f"{', '.join(args.tasks)}, {args.backbone}", train_fold

    step.train(__file__, args, of_fold, read, begin)
    for task in places:
        cli.say_next(work, experiments.evaluate_step(task))
    if not places:  # sizes.json says it all
        cli.say_next(work, "scripts/90_make_report.py")


def stop_if_taken(work: Workspace, folders: list[Path]) -> None:
    """Stop rather than write over a fold of another step."""
    for folder in folders:
        others = any((folder / name).exists() for name in ("best.pt", "predictions.csv"))
        if others and not (folder / f"{Path(__file__).stem}.run.json").exists():
            raise UserError(f"{work.show(folder)} holds a fold of another step; give another --experiment")


if __name__ == "__main__":
    cli.exit_cleanly(main)
