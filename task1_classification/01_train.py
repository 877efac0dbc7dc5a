"""Train a classifier that tells slices with hemorrhage from slices without, one model a fold.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/                best.pt, model.json, last.pt, history.csv
        (EXPERIMENT is named by the flags that differ from their defaults; --refit writes to EXPERIMENT/refit/)
Next    python task1_classification/02_evaluate.py

On a laptop without a GPU or network: --weights none --image-size 128 --epochs 8 --lr 1e-3
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hemoct.base import cli, experiments
from hemoct.base.runs import Run, folders_due
from hemoct.base.workspace import Workspace
from hemoct.classification import train
from hemoct.data import slices
from hemoct.training import augment, device, fit
from hemoct.training.batches import Store


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    experiment = work.task(1) / cli.experiment_name(parser, args, args.backbone, NAMED)
    folders = [experiment / "refit"] if args.refit else [experiment / f"fold{fold}" for fold in slices.folds(args)]
    inputs = [work.work / name for name in ("labels.csv", "dataset.json", "splits.csv")]
    inputs += [Path(args.weights)] if args.weights not in ("none", "imagenet") else []
    inputs += [fold / "history.csv" for fold in experiments.folds(experiment, "history.csv")] if args.refit else []
    runs = {folder: Run(__file__, args, folder, inputs) for folder in folders}
    due = folders_due(runs, args.overwrite)
    if not due:
        return
    chosen = device.pick(args.device, args.threads)
    data = slices.load(work, args.image_size, args.label, args.limit_patients)
    args.mirror = augment.mirror_axis(args.mirror, data.layout)
    store = Store(data.pixels, chosen)
    for folder in due:
        print(f"{work.show(folder)}: {args.backbone}, {', '.join(data.classes)}, {args.protocol} protocol")
        with runs[folder] as run:
            run.note(device=str(chosen))
            run.wrote(*train.train_fold(folder, args, run.record["inputs"], data, store))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    group = train.add_flags(parser, image_size=224)
    group.add_argument("--experiment", help="name of the folder; default: made of the flags that differ from their defaults")
    group.add_argument("--refit", action="store_true", help="one model from all patients, for the mean best epoch of the folds")
    group.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    slices.add_flags(parser)
    fit.add_flags(parser, epochs=20, batch_size=32, lr=3e-4, batch=cli.above_one)
    fit.add_device_flags(parser)
    return parser


# How a flag that differs from its default shows in the name of the experiment, in this order.
NAMED = {
    "weights": {"none": "scratch"}, "transfer": "{}", "image_size": "{}px", "label": "{}", "balance": "balance-{}",
    "epochs": "{}ep", "batch_size": "batch{}", "lr": "lr{:g}", "optimizer": "{}", "weight_decay": "decay{:g}", "schedule": "{}",
    "warmup": "warmup{:g}", "patience": "patience{}", "seed": "seed{}", "limit_patients": "{}patients",
    "augment": {"affine": "augment", "light": "augment-light", "rotate": "augment-rotate"}, "mirror": "{}",
    "protocol": "{}", "split": "{}",
}  # fmt: skip


if __name__ == "__main__":
    cli.exit_cleanly(main)
