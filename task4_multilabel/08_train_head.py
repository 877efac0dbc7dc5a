"""Train a head for several labels on the features of slices, one a fold: each slice by itself, or a scan's slices in their order.

The features are made once and kept in data/work/NAME/cache/: those of an experiment's models, the one of the same fold
(--features EXPERIMENT), or of a backbone with the weights that it came with (--backbone). A head then takes seconds.

Reads   data/work/NAME/task4/working_set.csv                task4_multilabel/01_prepare_labels.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task4/EXPERIMENT/foldK/{best.pt,model.json}    task4_multilabel/02_train.py (--features EXPERIMENT)
Writes  outputs/NAME/task4/EXPERIMENT-HEAD/foldK/           best.pt, model.json, last.pt, history.csv, predictions.csv,
                                                            train_predictions.csv
Next    python task4_multilabel/03_evaluate.py

    python task4_multilabel/08_train_head.py --head linear
    python task4_multilabel/08_train_head.py --features resnet18 --head gru
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.workspace import Workspace
from hemoct.multilabel.options import Network, View
from hemoct.volumes import step
from hemoct.volumes.options import Options

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from hemoct.multilabel.data import LabelledSlices
    from hemoct.multilabel.predictions import MultiLabelSpec


def main(argv: list[str] | None = None) -> None:
    tables = ("task4/working_set.csv", "labels.csv", "images.csv", "dataset.json", "splits.csv")
    step.run(__file__, __doc__, argv, step.Kind(4, tables, load, read))


def load(folder: Path, where: torch.device) -> tuple[nn.Module, MultiLabelSpec]:
    """The model of a fold."""
    from hemoct.multilabel import networks  # what computes is not imported at the top: --help shall be quick

    return networks.load(folder, where, of_views=True)  # its features are those of all views


def read(work: Workspace, chosen: Options, models: list[Path]) -> tuple[LabelledSlices, np.ndarray]:
    """The slices with the labels that the `models` learned, and what they see of each, or --backbone; see volumes.step.Kind."""
    from hemoct.multilabel import data as multilabel_data, predictions

    network, view = Network(backbone=chosen.features.backbone, image_size=chosen.features.image_size), View()
    if models:
        alike = ("classes", "heads", "image_size", "channels", "context")
        network, view = predictions.seen_by(predictions.MultiLabelSpec.read_all(models, alike)[0])
    data = multilabel_data.load(work, network, view, chosen.selection.limit_patients, chosen.selection.prepare)
    return data, data.planes


if __name__ == "__main__":
    cli.exit_cleanly(main)
