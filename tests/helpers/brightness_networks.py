"""Networks of task 4 that tell how bright their planes are, in the folds 0, 1 and 2 of the experiment `e`, and who predicts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import toy_types
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.multilabel import networks
from hemoct.training import checkpoints

STEP = "task4_multilabel/05_predict.py"
FACTORS = (1.0, 0.5, 0.0)  # of the networks of folds 0, 1, 2
MEAN = np.mean(FACTORS)


class Brightness(torch.nn.Module):
    """Probabilities of three labels: the mean grey of the first, the middle and the last plane, times the only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        planes = batch.shape[1]
        return torch.logit(self.weight * batch.mean(dim=(2, 3))[:, [0, planes // 2, planes - 1]], eps=1e-6)


def put_network(work: Workspace, fold: int, factor: float, **other: object) -> None:
    spec = networks.MultiLabelSpec(
        image_size=toy_types.SIZE, mean=0.0, std=1.0, protocol="patient", split="folds", fold=fold,
        splits_sha256=files.sha256(work.work / "splits.csv"), backbone="brightness", classes=toy_types.LABELS, heads=["types"],
    )  # fmt: skip
    folder = work.task(4) / "e" / f"fold{fold}"
    replace(spec, **other).save(folder)
    checkpoints.save(folder / "best.pt", {"weight": torch.tensor(factor)})


def put_networks(work: Workspace, **other: object) -> None:
    for fold, factor in enumerate(FACTORS):
        put_network(work, fold, factor, **other)


def brightness(grey: np.ndarray) -> float:
    """What such a network makes of an image, its factor apart."""
    return float(images.resize(grey, toy_types.SIZE).mean() / 255)


def predicting(work: Workspace, run_step: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Draw the toy data and save the networks; returns what runs the step on them. Figures are drawn where they are asked for."""
    monkeypatch.setattr(networks, "build", lambda _: Brightness())
    toy_types.make(work)
    put_networks(work)
    first = ("--root", work.root, "--dataset", "toy", "--device", "cpu", "--experiment", "e", "--figures", 0)
    return lambda *words: run_step(STEP, *first, *words)
