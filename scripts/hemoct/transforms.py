"""Augmentation of whole batches on the device. Each slice of a batch draws its own parameters, in one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Strength:
    """How far an augmentation goes."""

    flip: bool = True
    """mirror left and right in half of the slices; wrong for labels about the side of the bleeding"""
    degrees: float = 0.0
    """rotation within +- degrees: heads are never quite straight in the scanner"""
    scale: float = 0.0
    """zoom within 1 +- scale; above 1 it crops"""
    shift: float = 0.0
    """translation within +- shift of the image side"""
    brightness: float = 0.1
    contrast: float = 0.1


STRENGTHS = {
    "none": None,
    "light": Strength(),
    "rotate": Strength(degrees=10),
    "affine": Strength(degrees=10, scale=0.15, shift=0.05),
}


def augment(images: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """Move and re-grade a batch: float images in 0..1, shape (batch, channels, height, width), same shape and range back.

    `generator` lives on the images' device. torchvision's v2 transforms draw one set of parameters for a whole batch,
    which would leave 32 slices with the same angle; hence one affine grid per slice here.
    """

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator, device=images.device) * 2 - 1) * limit

    mirror = torch.where(uniform(1) < 0, -1.0, 1.0) if strength.flip else torch.ones(len(images), device=images.device)
    angle, zoom = uniform(math.radians(strength.degrees)), 1 / (1 + uniform(strength.scale))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in units of half the side, hence the factor 2 of the shift
    first = torch.stack([cos * mirror, -sin, uniform(2 * strength.shift)], dim=1)
    second = torch.stack([sin * mirror, cos, uniform(2 * strength.shift)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    contrast, brightness = 1 + uniform(strength.contrast), uniform(strength.brightness)
    return (moved * contrast.view(-1, 1, 1, 1) + brightness.view(-1, 1, 1, 1)).clamp_(0, 1)
