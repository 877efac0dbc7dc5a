"""Train a detector that draws a box around each lesion, one model a fold, and predict the slices of its fold.

In PHE-SICH-CT-IDS a box encloses the bleeding together with its edema. Best epoch: mAP50:95 on validation.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        data/work/NAME/yolo_dataset/ (Ultralytics' models)          task2_detection/01_make_yolo_dataset.py
Writes  outputs/NAME/task2/EXPERIMENT/foldK/                        best.pt, model.json, history.csv, last.pt or ultralytics/,
                                                                    predictions.csv (val, test), train_predictions.csv
Next    python task2_detection/03_training_curves.py

On a laptop without a GPU or network: --weights none --image-size 256 --epochs 30 --batch-size 16 --negatives 1 --fold 0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.detection import options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.detection.data import BoxData


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, options.Options)
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, options.Options), Workspace.of(args)
    chosen.stop_if_unfit()
    experiment = work.task(2) / cli.experiment_name(parser, args, args.model)
    inputs = [work.work / name for name in ("labels.csv", "images.csv", "boxes.csv", "dataset.json", "splits.csv")]
    inputs += chosen.initial.inputs()

    def read() -> BoxData:
        from hemoct.detection import data  # what computes is not imported at the top: --help shall be quick

        return data.load(work, args.limit_patients)

    def begin(data: BoxData, where: torch.device) -> tuple:
        from hemoct.detection import networks

        networks.family(args.model).stop_if_unfit(chosen)
        return f"{args.model}, {', '.join(data.classes)}", lambda run: networks.train_fold(run, chosen, work, data, where)

    step.train(__file__, args, dict.fromkeys(chosen.selection.folders(experiment), inputs), read, begin)
    cli.say_next(work, "task2_detection/03_training_curves.py")


if __name__ == "__main__":
    cli.exit_cleanly(main)
