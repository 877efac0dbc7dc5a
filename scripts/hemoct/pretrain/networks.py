"""Networks of a pre-training: an encoder of timm, and what is put on it while it learns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hemoct.base.errors import UserError, one_line
from hemoct.training import networks
from hemoct.training.checkpoints import load_trained
from hemoct.training.options import SCRATCH, Initial
from hemoct.training.specs import Spec

WIDEST, NARROWEST = 256, 16  # channels of the decoder
HIDDEN, PROJECTED = 512, 128


@dataclass(frozen=True, kw_only=True)
class PretrainedSpec(Spec):
    """model.json of a pre-training: all that rebuilds its network, and of whom it learned."""

    TASK = 0

    backbone: str
    method: str
    patients: int
    slices: int
    """how many it learned from"""
    classes: list[str] = field(default_factory=list)
    """whose labels were read; empty where none were"""
    labelled: dict[str, Any] | None = None
    """None where no label was read, {} where those of all its patients, else see data.slices.Fold"""


class Autoencoder(nn.Module):
    """An image (b, 1, side, side) to feature maps, and back from these alone: there is no way around the encoder."""

    def __init__(self, body: nn.Module, channels: int, places: int, side: int) -> None:
        """`channels` and `places` (along one side) of the feature maps of an image of this side."""
        super().__init__()
        self.body, self.channels = body, channels
        width = min(WIDEST, channels)
        layers = [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        while places < side:
            narrow, places = max(NARROWEST, width // 2), 2 * places
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow),
                       nn.ReLU()]  # fmt: skip
            width = narrow
        self.decoder = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        restored = self.decoder(as_maps(self.body, self.body.forward_features(images), self.channels))
        return F.interpolate(restored, images.shape[2:], mode="bilinear", align_corners=False)


def as_maps(body: nn.Module, maps: torch.Tensor, channels: int) -> torch.Tensor:
    """Feature maps (b, channels, h, w) or (b, h, w, channels), or tokens (b, n, channels) of a square, as (b, channels, h, w)."""
    if maps.dim() == 3:
        maps = maps[:, getattr(body, "num_prefix_tokens", 0) :]
        maps = maps.unflatten(1, (round(maps.shape[1] ** 0.5), -1))
    if maps.dim() == 4 and maps.shape[1] != channels == maps.shape[3]:
        maps = maps.permute(0, 3, 1, 2)
    if maps.dim() != 4 or maps.shape[1] != channels or maps.shape[2] < 2:
        raise RuntimeError(f"maps {tuple(maps.shape)}")
    return maps


class Contrastive(nn.Module):
    """An image (b, 1, side, side) to numbers (b, PROJECTED) that are compared; they are left behind with their two layers."""

    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body = body
        enter = nn.Sequential(nn.Linear(features, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.projector = nn.Sequential(enter, nn.Linear(HIDDEN, PROJECTED))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projector(self.body(images))


def build(spec: PretrainedSpec, initial: Initial = SCRATCH) -> nn.Module:
    """The network of a pre-training. Raises UserError where a backbone gives no feature maps for an autoencoder at that size."""
    body, features = networks.build_backbone(spec.backbone, spec.image_size, 1, 0, initial)
    if spec.method != "autoencoder":
        return Contrastive(body, features)
    try:
        with torch.inference_mode():
            black = torch.zeros(1, 1, spec.image_size, spec.image_size)
            maps = as_maps(body, body.eval().forward_features(black), body.num_features)
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"--backbone {spec.backbone} gives no feature maps to restore {spec.image_size} px from "
                        f"({one_line(error)}); take another, a larger --image-size, or --method simclr") from None  # fmt: skip
    return Autoencoder(body, *maps.shape[1:3], spec.image_size)


def load(folder: Path, device: torch.device) -> tuple[nn.Module, PretrainedSpec]:
    """Rebuild the network of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = PretrainedSpec.read(folder)
    return load_trained(build(spec), folder).to(device).eval(), spec
