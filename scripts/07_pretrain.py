"""Train an encoder on all slices of the training patients of a fold, whatever their labels, for the tasks to start from.

A denoising autoencoder restores images, SimCLR and VICReg make two views of a slice alike; none of them reads a label. SupCon
makes slices of a class alike. Validation and test patients of the fold are never seen; tasks 1, 3 and 4 take the weights of the
same fold, any other stops. Their backbone must be the same (task 3: --encoder tu-NAME); the size of the image may be another.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/pretrain/EXPERIMENT/foldK/             best.pt, model.json, last.pt, history.csv, curves.png, restored.png
Next    any training of tasks 1, 3, 4 with --weights EXPERIMENT

    python scripts/07_pretrain.py --backbone tf_efficientnet_lite0 --fold 0 --epochs 60
    python task1_classification/01_train.py --backbone tf_efficientnet_lite0 --fold 0 --weights EXPERIMENT --labelled 0.05
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.pretrain.options import Options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.data.slices import SliceData


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, Options)
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    experiment = work.pretrained / cli.experiment_name(parser, args, f"{args.backbone}-{args.method}")
    inputs = [work.work / name for name in step.TABLES]
    of_fold = {folder: inputs + chosen.initial.of_fold(work, folder).inputs() for folder in chosen.selection.folders(experiment)}

    def read() -> SliceData:
        from hemoct.pretrain import data  # what computes is not imported at the top: --help shall be quick

        return data.load(work, chosen)

    def begin(data: SliceData, where: torch.device) -> tuple:
        from hemoct.pretrain import train
        from hemoct.training.batches import Store

        store = Store(data.pixels, where)
        return f"{args.backbone}, {args.method}", lambda run: train.train_fold(run, chosen, data, store)

    step.train(__file__, args, of_fold, read, begin)
    cli.say_next(work, experiments.train_step(1), "--backbone", args.backbone, "--weights", experiment.name)


if __name__ == "__main__":
    cli.exit_cleanly(main)
