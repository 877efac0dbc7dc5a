"""Train a network with one sigmoid output for each label, one model a fold, and predict the slices of its fold.

Labels that are unknown on an image are left out of its loss. Best epoch: the lowest validation loss. For labels that few images
show: --sampler balanced, --oversample SAH=3, --loss weighted-bce, focal or asymmetric, --augment-label SAH=strong.
--heads any,types trains one network with two heads: is there any bleeding, and of which types.

Reads   data/work/NAME/task4/working_set.csv                task4_multilabel/01_prepare_labels.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/                best.pt, model.json, last.pt,
                                                            history.csv (precision, recall and F1 of each label by epoch),
                                                            predictions.csv (val, test), train_predictions.csv
Next    python task4_multilabel/03_evaluate.py

Several GPUs, or processes: torchrun --standalone --nproc-per-node N task4_multilabel/02_train.py ...
Each computes its part of every batch; their number has no say in what is learned but by the random numbers of the augmentation.
--resume goes on where another number of them was stopped.

On a laptop without a GPU or network: --weights none --image-size 128 --lr 1e-3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.multilabel import options
from hemoct.training import step

if TYPE_CHECKING:
    import torch

    from hemoct.multilabel.data import LabelledSlices

TABLES = ("task4/working_set.csv", "labels.csv", "images.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, options.Options, several=True)
    args = cli.parse(parser, argv, __file__)
    if args.pos_weight != "auto" and args.loss != "weighted-bce":
        parser.error("--pos-weight goes with --loss weighted-bce")
    chosen, work = base_options.read(args, options.Options), Workspace.of(args)
    experiment = work.task(4) / cli.experiment_name(parser, args, args.backbone)
    inputs, folders = [work.work / name for name in TABLES], chosen.selection.folders(experiment)
    of_fold = {folder: inputs + chosen.initial.of_fold(work, folder).inputs() for folder in folders}

    def read() -> LabelledSlices:
        from hemoct.multilabel import data as multilabel_data  # what computes is not imported at the top: --help shall be quick

        data = multilabel_data.load(work, chosen.network, chosen.view, args.limit_patients, args.prepare)
        chosen.stop_if_unfit(data.classes)
        return data

    def begin(data: LabelledSlices, where: torch.device) -> tuple:
        import torch

        from hemoct.multilabel import train
        from hemoct.training.batches import Stacks, Store

        source = Stacks(Store(data.pixels, where), torch.as_tensor(data.planes))
        return f"{args.backbone}, {', '.join(data.classes)}", lambda run: train.train_fold(run, chosen, data, source)

    step.train(__file__, args, of_fold, read, begin)
    cli.say_next(work, experiments.evaluate_step(4))


if __name__ == "__main__":
    cli.exit_cleanly(main)
