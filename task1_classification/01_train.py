"""Train a classifier that tells slices with hemorrhage from slices without, one model a fold, and predict the slices of its fold.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/                best.pt, model.json, last.pt, history.csv, predictions.csv (val, test)
        (EXPERIMENT is named by the flags that differ from their defaults; --refit writes to EXPERIMENT/refit/, no predictions)
Next    python task1_classification/02_evaluate.py

Several GPUs, or processes: torchrun --standalone --nproc-per-node N task1_classification/01_train.py ...
Each computes its part of every batch; their number has no say in what is learned but by the random numbers of the augmentation.
--resume goes on where another number of them was stopped.

On a laptop without a GPU: --backbone tf_efficientnet_lite0 (its ImageNet weights need no network) --epochs 5 --lr 1e-3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.classification import options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.data.slices import SliceData


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if args.units and not args.join:
        parser.error("--units goes with --join")
    if args.join and args.head != "linear":
        parser.error(f"--head {args.head} goes with a single backbone, not with --join")
    chosen, work = base_options.read(args, options.Options), Workspace.of(args)
    experiment = work.task(1) / cli.experiment_name(parser, args, args.backbone)
    folders = [experiment / "refit"] if args.refit else chosen.selection.folders(experiment)
    inputs = [work.work / name for name in step.TABLES]
    inputs += [fold / "history.csv" for fold in experiments.folds(experiment, "history.csv")] if args.refit else []
    of_fold = {folder: inputs + chosen.initial.of_fold(work, folder).inputs() for folder in folders}

    def read() -> SliceData:
        from hemoct.data import slices  # what computes is not imported at the top: --help shall be quick

        return slices.load(work, args.image_size, args.label, args.limit_patients, known_only=False, prepare=args.prepare)

    def begin(data: SliceData, where: torch.device) -> tuple:
        from hemoct.classification import train
        from hemoct.training.batches import Store

        store = Store(data.pixels, where)
        return f"{args.backbone}, {', '.join(data.classes)}", lambda run: train.train_fold(run, chosen, data, store)

    step.train(__file__, args, of_fold, read, begin)
    cli.say_next(work, experiments.evaluate_step(1))


def make_parser() -> cli.Parser:
    parser = step.parser(__doc__, options.Options, several=True)
    parser.add_argument("--refit", action="store_true", help="one model from all patients, for the mean best epoch of the folds")
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
