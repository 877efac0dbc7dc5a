"""Train a network on labels of studies, one model a fold: a 3D network, or one that pools what it sees in the slices.

resnet18-3d and other 3D networks see a volume of --depth slices. gru, attention and mean see the slices: their features are made
once and kept (those of --backbone as it comes, or of --features EXPERIMENT), or with --transfer finetune learned end to end.
attention learns from labels of studies alone: no label of a slice has taught what it says of slices, which
12_score_slices.py scores.

Reads   data/work/NAME/studies/LABEL/study_labels.csv       task1_classification/10_study_labels.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task1/EXPERIMENT/foldK/                best.pt, model.json, last.pt, history.csv, predictions.csv (val, test;
                                                            a row a study, by the name of its middle slice), slice_scores.csv
Next    python task1_classification/02_evaluate.py

    python task1_classification/11_train_volume.py --label side --network resnet18-3d --augment affine
    python task1_classification/11_train_volume.py --label hemorrhage-parts2 --network attention --image-size 224
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options
from hemoct.base.workspace import Workspace
from hemoct.training import step
from hemoct.volumes.study_options import TABLE, Options

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hemoct.classification.predictions import ClassifierSpec
    from hemoct.volumes.study_step import Studied


def main(argv: list[str] | None = None) -> None:
    parser = step.parser(__doc__, Options)
    args = cli.parse(parser, argv, __file__)
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    chosen.stop_at_mixed()
    args.protocol = chosen.selection.protocol  # that of patients: there is no other for studies
    experiment = work.task(1) / cli.experiment_name(parser, args, chosen.base)
    inputs = [*(work.work / name for name in step.TABLES), work.work / "studies" / args.label / TABLE]
    started = {folder: chosen.of_fold(work, folder) for folder in chosen.selection.folders(experiment)}

    def read() -> Studied:
        from hemoct.volumes import study_step  # what computes is not imported at the top: --help shall be quick

        return study_step.read(work, chosen, started)

    def begin(data: Studied, where: torch.device) -> tuple:
        from hemoct.volumes import study_step

        return f"{args.network}, {args.label}", study_step.begin(data, chosen, started, load, where)

    step.train(__file__, args, {folder: [*inputs, *made_of] for folder, (_, made_of) in started.items()}, read, begin)
    cli.say_next(work, experiments.evaluate_step(1))


def load(folder: Path, where: torch.device) -> tuple[nn.Module, ClassifierSpec]:
    """The model of a fold of --features."""
    from hemoct.classification import networks

    return networks.load(folder, where)


if __name__ == "__main__":
    cli.exit_cleanly(main)
