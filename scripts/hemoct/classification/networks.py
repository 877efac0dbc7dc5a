"""Classifiers: what describes one, how it is built, saved and loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.training import networks
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
    region: dict[str, Any] | None = None
    """None for whole slices; else what is cut out of each: see hemoct.detection.gate.Gate.describe"""


def build(spec: ClassifierSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A classifier for one grey channel."""
    return networks.build_backbone(spec.backbone, spec.image_size, 1, len(spec.classes), initial)[0]


def read_spec(folder: Path) -> ClassifierSpec:
    """The spec beside a checkpoint; stops when it is not one of a classifier of whole slices."""
    spec = ClassifierSpec.read(folder)
    if spec.region is not None:
        raise UserError(
            f"{folder / 'model.json'} is of a classifier of regions that a detector cut out; name one of whole slices"
        )
    return spec


def load(folder: Path, device: torch.device) -> tuple[nn.Module, ClassifierSpec]:
    """Rebuild the classifier of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = ClassifierSpec.read(folder)
    return load_trained(build(spec), folder, spec.backbone).to(device).eval(), spec
