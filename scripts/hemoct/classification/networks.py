"""Classifiers: what describes one, how it is built, saved and loaded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.training import networks, weights
from hemoct.training.checkpoints import load_trained
from hemoct.training.options import SCRATCH, Initial
from hemoct.training.specs import Spec


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(Spec):
    """model.json of task 1: all that rebuilds a classifier and feeds it."""

    TASK = 1

    backbone: str
    classes: list[str]
    """one name: a single logit with sigmoid; several: one logit each"""
    exclusive: bool
    """softmax over the classes instead of a sigmoid for each"""
    label: str | None = None
    joined: list[str] = field(default_factory=list)
    """further backbones, whose features stand beside those of the first"""
    joined_weights: list[dict[str, Any] | None] = field(default_factory=list)
    """`initial_weights` of these"""
    units: list[int] = field(default_factory=list)
    """widths of the layers between joined features and logits"""
    region: dict[str, Any] | None = None
    """None for whole slices; else what is cut out of each: see hemoct.detection.gate.Gate.describe"""


class Bodies(nn.Module):
    """Several networks, images to features each, whose features stand side by side (b, width).

    `scales` (networks, 2): each sees first * image + second, for each was trained with a mean and deviation of its own.
    """

    def __init__(self, bodies: list[nn.Module], scales: torch.Tensor) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.register_buffer("scales", scales)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([body(a * images + b) for body, (a, b) in zip(self.bodies, self.scales, strict=True)], dim=1)


class Joined(nn.Module):
    """One head on the features of several networks, all trained together."""

    def __init__(self, body: Bodies, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))

    def get_classifier(self) -> nn.Module:
        """What is trained where the bodies are frozen; named as timm's networks name it."""
        return self.head


def build(spec: ClassifierSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A classifier for one grey channel."""
    if spec.joined:
        return _joined(spec, initial)
    return networks.build_backbone(spec.backbone, spec.image_size, 1, len(spec.classes), initial)[0]


def _joined(spec: ClassifierSpec, initial: Initial) -> Joined:
    bodies, scales, width = [], [], 0
    for name in (spec.backbone, *spec.joined):
        body, features = networks.build_backbone(name, spec.image_size, 1, 0, initial)
        mean, std = weights.normalisation(initial, name, spec.mean, spec.std)
        bodies.append(body)
        scales.append((spec.std / std, (spec.mean - mean) / std))
        width += features
    layers: list[nn.Module] = []
    for units in spec.units:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return Joined(Bodies(bodies, torch.tensor(scales)), nn.Sequential(*layers, nn.Linear(width, len(spec.classes))))


def read_shared(folders: list[Path]) -> ClassifierSpec:
    """What several classifiers, whose mean is taken, have in common; stops where they are none of whole slices."""
    spec = ClassifierSpec.read_all(folders, ("classes", "image_size", "region"))[0]
    if spec.region is not None:
        raise UserError(f"{folders[0] / 'model.json'} is of a classifier of regions that a detector cut out; name another")
    return spec


def load(folder: Path, device: torch.device) -> tuple[nn.Module, ClassifierSpec]:
    """Rebuild the classifier of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = ClassifierSpec.read(folder)
    return load_trained(build(spec), folder).to(device).eval(), spec
