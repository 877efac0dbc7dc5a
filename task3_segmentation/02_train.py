"""Train a network that draws the mask of each lesion, one model a fold, and predict the slices of its fold.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding. Best epoch: Dice by patient on validation.
--region slice: the network sees whole slices. --region box: it sees windows around boxes, at native resolution. In training these
lie around true boxes, and where there is no lesion, so that it learns to predict nothing there; when it predicts, around the
boxes of a detector of the same fold.
--boxes truth predicts around true boxes: an upper bound, never a result.

Reads   data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task2/BOXES/foldK/{model.json,predictions.csv,train_predictions.csv}       task2_detection/02_train.py
        (--region box; where outputs/ has none, those of outputs/reference)
Writes  outputs/NAME/task3/EXPERIMENT/foldK/    best.pt, model.json, last.pt, history.csv, predictions.csv (val, test),
                                                probability/IMAGE_ID.png (8 bit)
        (--upper-bound: EXPERIMENT/truth-boxes/foldK/, the same model around true boxes)
Next    python task3_segmentation/03_evaluate.py

Several GPUs, or processes: torchrun --standalone --nproc-per-node N task3_segmentation/02_train.py ...
Each computes its part of every batch; their number has no say in what is learned but by the random numbers of the augmentation.
--resume goes on where another number of them was stopped.

On a laptop without a GPU or network: --weights none --encoder resnet18 --boxes yolov8n-scratch (boxes that come with this
repository), --precision bf16 where the CPU has it; some 20 minutes a fold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.segmentation.options import Options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.segmentation.data import MaskData

TABLES = ("labels.csv", "images.csv", "boxes.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, Options, several=True)
    args = cli.parse(parser, argv, __file__)
    from hemoct.detection import predictions  # what computes is not imported at the top: --help shall be quick

    chosen, work = base_options.read(args, Options), Workspace.of(args)
    experiment = work.task(3) / cli.experiment_name(parser, args, f"{args.model}-{args.encoder}")
    detectors = detectors_of(work, chosen)
    inputs = [work.work / name for name in TABLES]
    of_fold = {
        folder: [
            *inputs,
            *chosen.initial.of_fold(work, folder).inputs(),
            *(detectors[folder.name] / name for name in predictions.NEEDED if detectors),
        ]
        for folder in chosen.selection.folders(experiment)
    }

    def read() -> MaskData:
        from hemoct.segmentation import data

        return data.load(work, args.mask_value, args.limit_patients)

    def begin(data: MaskData, where: torch.device) -> tuple:
        from hemoct.segmentation import train

        return f"{args.model}, {args.encoder}, {args.region}", lambda run: train.train_fold(
            run, chosen, work, data, detectors.get(run.folder.name), where
        )

    step.train(__file__, args, of_fold, read, begin)
    cli.say_next(work, experiments.evaluate_step(3))


def detectors_of(work: Workspace, chosen: Options) -> dict[str, Path]:
    """The folder of the detector of each fold, by its name; empty where none is needed."""
    if not chosen.region.needs_detector:
        return {}
    from hemoct.base import tables
    from hemoct.detection import predictions

    if tables.read_boxes(work).empty:
        raise UserError(f"{work.dataset} has no boxes to look around; add --region slice: the network sees whole slices")
    selection, name = chosen.selection, chosen.region.boxes
    folders, protocol = predictions.folders(work, name, "0" if selection.split == "given" else selection.fold)
    wanted = "given" if selection.split == "given" else selection.protocol
    if protocol != wanted:
        raise UserError(f"--boxes {name} has the protocol {protocol}, not {wanted}: test patients would leak; name another")
    missing = {f"fold{number}" for number in selection.folds} - {folder.name for folder in folders}
    if missing:
        raise UserError(f"--boxes {name} lacks {', '.join(sorted(missing))}; train its other folds, or choose with --fold")
    return {folder.name: folder for folder in folders}


if __name__ == "__main__":
    cli.exit_cleanly(main)
