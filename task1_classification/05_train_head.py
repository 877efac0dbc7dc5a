"""Train a head on the features of slices, one a fold: each slice by itself, or all slices of a scan in their order.

The features are made once and kept in data/work/NAME/cache/: those of an experiment's models, the one of the same fold
(--features EXPERIMENT), or of a backbone with the weights that it came with (--backbone). A head then takes seconds.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json}    task1_classification/01_train.py (--features EXPERIMENT)
Writes  outputs/NAME/task1/EXPERIMENT-HEAD/foldK/           best.pt, model.json, last.pt, history.csv, predictions.csv,
                                                            train_predictions.csv
Next    python task1_classification/02_evaluate.py

    python task1_classification/05_train_head.py --head linear
    python task1_classification/05_train_head.py --features tf_efficientnet_lite0-5ep --head gru
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.workspace import Workspace
from hemoct.training.step import TABLES
from hemoct.volumes import step
from hemoct.volumes.options import Options

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from hemoct.classification.predictions import ClassifierSpec
    from hemoct.data.slices import SliceData


def main(argv: list[str] | None = None) -> None:
    step.run(__file__, __doc__, argv, step.Kind(1, TABLES, load, read))


def load(folder: Path, where: torch.device) -> tuple[nn.Module, ClassifierSpec]:
    """The model of a fold."""
    from hemoct.classification import networks  # what computes is not imported at the top: --help shall be quick

    return networks.load(folder, where)


def read(work: Workspace, chosen: Options, models: list[Path]) -> tuple[SliceData, np.ndarray]:
    """The slices, and the one plane of each, as the `models` see them, or --backbone; see volumes.step.Kind."""
    import numpy as np

    from hemoct.classification.predictions import ClassifierSpec
    from hemoct.data import slices

    size, label = chosen.features.image_size, None
    if models:
        spec = ClassifierSpec.read_all(models, ("image_size", "label"))[0]
        size, label = spec.image_size, spec.label
    data = slices.load(work, size, label, chosen.selection.limit_patients, known_only=False, prepare=chosen.selection.prepare)
    return data, np.arange(len(data.table))[:, None]


if __name__ == "__main__":
    cli.exit_cleanly(main)
