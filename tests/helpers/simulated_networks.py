"""Networks of task 3 that were never trained: a description, a tiny network, and ones that see bright pixels."""

import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers import simulated_boxes, toy
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.detection import networks as detection_networks
from hemoct.evaluation import sheets
from hemoct.segmentation import networks
from hemoct.training import checkpoints

STEP = "task3_segmentation/05_predict.py"
PROBABILITY = (0.9, 0.8, 0.0)  # that the networks of folds 0, 1, 2 give a bright pixel; to the dark ones they give 0
BRIGHT = 200


def spec_for(**more) -> networks.SegmenterSpec:
    """A description of a small U-Net of whole slices, or what `more` makes of it."""
    usual = {"model": "unet", "encoder": "resnet18", "image_size": 32, "source_size": 32, "context": 0, "region": "slice",
             "mean": 0.2, "std": 0.3, "protocol": "patient", "split": "folds", "fold": 0, "splits_sha256": "x"}  # fmt: skip
    return networks.SegmenterSpec(**usual | more)


def tiny(*_, in_channels: int, **__) -> nn.Module:
    """A small network in place of a U-Net, which would take minutes."""
    layers: list[nn.Module] = []
    for inside, dilation in ((in_channels, 1), (16, 2), (16, 4)):
        layers += [nn.Conv2d(inside, 16, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 1, 1))


def make_rims(work: Workspace) -> None:
    """Rims of disks in images that are not square, and a detector `d` that finds most of the disks."""
    toy.make(work, patients=10, slices=6, size=(72, 64), radius=9, boxes=True, masks=True)
    simulated_boxes.predict(work, "d", sensitivity=0.95, alarms=0.2)


class Bright(torch.nn.Module):
    """A network whose only weight is the logit of the bright pixels of one channel, the middle one or the first."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel, self.weight = channel, torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.where(batch[:, self.channel, None] > BRIGHT / 255, self.weight, torch.tensor(-20.0))


def bright(path: Path) -> np.ndarray:
    return images.read_grey(path) > BRIGHT


def find_disk(model: torch.nn.Module, _: object):
    """A detector: the box around all bright pixels, with the model's only weight as its confidence."""

    def run(batch: list[np.ndarray]) -> list[np.ndarray]:
        places = [np.nonzero(grey > BRIGHT) for grey in batch]
        boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1, model.weight.item(), 0] if len(x) else [] for y, x in places]
        return [np.array(box, dtype=float).reshape(-1, 6) for box in boxes]

    return run


def bright_networks(work: Workspace, run_step, monkeypatch):
    """A runner of 05_predict.py on the toy data, with networks of whole slices in folds 0, 1 and 2 of experiment `e`."""
    family = types.SimpleNamespace(build=lambda _: torch.nn.Linear(1, 1, bias=False), runner=find_disk)
    monkeypatch.setattr(detection_networks, "family", lambda _: family)
    monkeypatch.setattr(networks, "build", lambda spec: Bright(spec.context))
    monkeypatch.setattr(sheets, "OVERLAY", 64)  # smaller pictures are drawn faster
    toy.make(work, patients=10, slices=4, size=32, boxes=True, masks=True)
    for fold, probability in enumerate(PROBABILITY):
        put_network(work, fold, probability)
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", "--device", "cpu", "--experiment", "e", *words)


def put_network(work: Workspace, fold: int, probability: float, experiment: str = "e", **other: object) -> None:
    spec = networks.SegmenterSpec(
        image_size=32, mean=0.0, std=1.0, protocol="patient", split="folds", fold=fold,
        splits_sha256=files.sha256(work.work / "splits.csv"), model="bright", encoder="none", context=0, source_size=32,
        region="slice",
    )  # fmt: skip
    folder = work.task(3) / experiment / f"fold{fold}"
    replace(spec, **other).save(folder)
    checkpoints.save(folder / "best.pt", {"weight": torch.logit(torch.tensor(probability), eps=1e-9)})


def look_around_boxes(work: Workspace, least_confidence: tuple[float, float, float] = (0.1, 0.1, 0.1)) -> None:
    """Networks that look at windows of 16 px around the boxes of detector `d`."""
    for fold, probability in enumerate(PROBABILITY):
        put_network(work, fold, probability, region="box", boxes="d", image_size=16, least_side=16, margin=0.1,
                    least_confidence=least_confidence[fold])  # fmt: skip


def put_detector(work: Workspace, fold: int, confidence: float, **other: object) -> None:
    spec = detection_networks.DetectorSpec(
        model="stub", classes=["disk"], image_size=32, mean=0.0, std=1.0, protocol="patient", split="folds", fold=fold,
        splits_sha256=files.sha256(work.work / "splits.csv"),
    )  # fmt: skip
    folder = work.task(2) / "d" / f"fold{fold}"
    replace(spec, **other).save(folder)
    checkpoints.save(folder / "best.pt", {"weight": torch.tensor([[confidence]])})
