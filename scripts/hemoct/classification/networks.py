"""Classifiers: what describes one, how it is built, saved and loaded."""

from pathlib import Path

import torch
from torch import nn

from hemoct.classification.predictions import ClassifierSpec
from hemoct.training import heads, networks, weights
from hemoct.training.checkpoints import load_trained
from hemoct.training.device import to_predict
from hemoct.training.options import LINEAR, SCRATCH, Initial


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
    classes = len(spec.classes)
    if spec.head == LINEAR:
        return networks.build_backbone(spec.backbone, spec.image_size, 1, classes, initial)[0]
    model = heads.ClassMaps(networks.build_backbone(spec.backbone, spec.image_size, 1, 0, initial)[0], classes)
    return heads.stop_if_without_maps(model, (1, spec.image_size), spec.backbone, f"--head {spec.head}")


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


def load(folder: Path, device: torch.device) -> tuple[nn.Module, ClassifierSpec]:
    """Rebuild the classifier of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = ClassifierSpec.read(folder)
    return to_predict(load_trained(build(spec), folder), device, spec.image_size), spec
