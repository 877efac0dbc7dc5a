"""Train a network that draws the mask of each lesion in 3D, one model a fold, and predict the slices of its fold.

The network sees patches of a scan, --depth slices of --patch x --patch pixels, two thirds of them around a lesion; to predict a
scan a window slides over it. Slices without a mask file have no say. Best epoch: Dice by patient on validation.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task3/EXPERIMENT/foldK/    best.pt, model.json, last.pt, history.csv, predictions.csv (val, test),
                                                probability/IMAGE_ID.png (8 bit)
Next    python task3_segmentation/03_evaluate.py

    python task3_segmentation/09_train_volume.py --model segresnet --deep-supervision
    python task3_segmentation/09_train_volume.py --image-size 64 --patch 64 --depth 16 --epochs 10      (on a laptop)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.segmentation3d.options import Options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.segmentation.data import MaskData


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, Options)
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    experiment = work.task(3) / cli.experiment_name(parser, args, f"{args.model}-3d")
    inputs = [*(work.work / name for name in step.TABLES), *chosen.initial.inputs()]

    def read() -> MaskData:
        from hemoct.segmentation import data  # what computes is not imported at the top: --help shall be quick

        return data.load(work, args.mask_value, args.limit_patients)

    def begin(data: MaskData, where: torch.device) -> tuple:
        from hemoct.segmentation3d import train

        return f"{args.model} in 3D", lambda run: train.train_fold(run, chosen, work, data, where)

    step.train(__file__, args, dict.fromkeys(chosen.selection.folders(experiment), inputs), read, begin)
    cli.say_next(work, experiments.evaluate_step(3))


if __name__ == "__main__":
    cli.exit_cleanly(main)
