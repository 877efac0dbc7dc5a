"""Features of slices, made once and kept: what a network says of each before its last layer."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from hemoct.base import cache, files
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import contents
from hemoct.evaluation import predictions
from hemoct.training import device as devices, inference, networks, weights
from hemoct.training.batches import Source
from hemoct.volumes.options import Options

TAKEN = ("backbone", "label", "image_size", "mean", "std", "initial_weights")
"""what a head takes over from the model.json of the network that makes its features"""
BATCH, TOGETHER = 64, 4096  # slices that a network sees at once, and whose features lie in memory at once


@dataclass(frozen=True)
class Maker:
    """A network without its last layer: images (b, planes, size, size) to features (b, width), or maps whose mean is taken."""

    body: nn.Module
    key: str
    """what its weights are known by, and how its images are prepared"""
    about: dict[str, Any]
    """what model.json of a head says of it: `made_of`, and what is TAKEN from it"""
    device: torch.device

    @property
    def mean(self) -> float:
        return self.about["mean"]

    @property
    def std(self) -> float:
        return self.about["std"]


def _pooled(found: torch.Tensor) -> torch.Tensor:
    """Features (b, width), of maps their mean."""
    return found.mean(dim=(2, 3)) if found.dim() == 4 else found


class Cells(nn.Module):
    """What a network of timm says of N x N cells of a slice, (b, cells * cells * width), cell by cell; 1: its own pooling."""

    def __init__(self, body: nn.Module, cells: int) -> None:
        super().__init__()
        self.body, self.cells = body, cells

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.cells == 1:
            return _pooled(self.body(images))
        maps = self.body.forward_features(images) if hasattr(self.body, "forward_features") else self.body(images)
        if maps.dim() != 4:
            raise UserError("--cells goes with networks whose features are maps, such as ResNet or EfficientNet")
        return F.adaptive_avg_pool2d(maps, self.cells).flatten(1)


def maker(paths: list[Path], options: Options, planes: int, load: inference.Load, device: torch.device) -> Maker:
    """What makes the features: the model of a fold, or the backbone as it is. `paths`: Options.inputs; `planes` of an image."""
    name, initial = options.features.features, options.initial
    if name is not None:
        folder = paths[0].parent
        model, spec = load(folder, device)
        about = {name: getattr(spec, name, None) for name in TAKEN} | {"made_of": [predictions.stage(spec.TASK, folder)]}
        for flag in ("protocol", "split", "prepare"):  # else test patients would leak, or images be others
            theirs = getattr(spec, flag)
            if theirs != getattr(options.selection, flag):
                words = (",".join(theirs) or "none") if isinstance(theirs, list) else theirs
                raise UserError(f"{folder} was trained with --{flag} {words}; give --{flag} {words}")
        if not hasattr(model, "body"):  # a network of timm alone; others have a body below their head
            model.reset_classifier(0)
        body, known = getattr(model, "body", model), files.sha256(folder / "best.pt")
        return Maker(*_of_cells(devices.place(body, device, spec.image_size).eval(), known, options), about, device)
    if initial.weights == "none":
        raise UserError("--weights none: features of a network that was never trained; take imagenet, a file, or --features")
    backbone, size = options.features.backbone, options.features.image_size
    body = networks.build_backbone(backbone, size, planes, 0, initial)[0]
    mean, std = weights.normalisation(initial, backbone, 0.5, 0.5)
    origin = weights.origin(initial, backbone)
    about = {"backbone": backbone, "made_of": [], "image_size": size, "mean": mean, "std": std, "initial_weights": origin,
             "label": None}  # fmt: skip
    known = " ".join([f"{backbone} {origin}", *options.selection.prepare])
    return Maker(*_of_cells(devices.place(body, device, size).eval(), known, options), about, device)


def _of_cells(body: nn.Module, known: str, options: Options) -> tuple[nn.Module, str]:
    """A network and what it is known by, as --cells has it."""
    cells = options.features.cells
    return (body, known) if cells == 1 else (Cells(body, cells), f"{known} {cells} cells")


def kept(work: Workspace, table: pd.DataFrame, made_by: Maker, source: Source, precision: str) -> np.ndarray:
    """The features of the slices of `table`, float32 (n, width); computed where no earlier call has kept them.

    Row i of the source is that of the table. `precision`: that of --precision.
    """
    dtype = devices.precision(made_by.device, precision)
    slices = cache.key(contents.checked(work, table["image"].tolist()), made_by.about["image_size"])
    digest = hashlib.sha256(f"{made_by.key} {slices} {dtype}".encode()).hexdigest()[:16]

    def of(rows: np.ndarray) -> np.ndarray:
        return _pooled(inference.logits(made_by.body, made_by, source, rows, BATCH, dtype)).cpu().numpy()

    def computed() -> tuple[cache.Shape, Iterator[np.ndarray]]:
        width = of(np.arange(1)).shape[1]
        return (len(table), width), map(of, np.array_split(np.arange(len(table)), -(-len(table) // TOGETHER)))

    return cache.memory_map(work.cache / f"features-{digest}.npy", computed, "<f4")
