"""Augmentation of whole batches on the device. Each slice of a batch draws its own parameters, in one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Strength:
    """How far an augmentation goes."""

    mirror: bool = True
    """mirror half of the slices; wrong for labels about the side of the bleeding"""
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


def mirror_axis(wanted: str, layout: str) -> str:
    """Turn --mirror into an axis. In PHE-SICH-CT-IDS the forehead points to the left edge: left and right lie vertically."""
    if wanted != "auto":
        return wanted
    return "vertical" if layout == "phe-sich" else "horizontal"


def augment(images: torch.Tensor, strength: Strength, axis: str, generator: torch.Generator) -> torch.Tensor:
    """Move and re-grade a batch: float images in 0..1, shape (batch, channels, height, width), same shape and range back.

    `axis` is the image axis along which the patient's left and right lie (`horizontal` or `vertical`; see mirror_axis): a head
    is symmetric along that one only. `generator` lives on the images' device. torchvision's v2 transforms draw one set of
    parameters for a whole batch, which would leave 32 slices with the same angle; hence one affine grid per slice here.
    """

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator, device=images.device) * 2 - 1) * limit

    still = torch.ones(len(images), device=images.device)
    mirror = torch.where(uniform(1) < 0, -1.0, 1.0) if strength.mirror else still
    flip_x, flip_y = (mirror, still) if axis == "horizontal" else (still, mirror)
    angle, zoom = uniform(math.radians(strength.degrees)), 1 / (1 + uniform(strength.scale))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in units of half the side, hence the factor 2 of the shift
    first = torch.stack([cos * flip_x, -sin * flip_y, uniform(2 * strength.shift)], dim=1)
    second = torch.stack([sin * flip_x, cos * flip_y, uniform(2 * strength.shift)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    contrast, brightness = 1 + uniform(strength.contrast), uniform(strength.brightness)
    return (moved * contrast.view(-1, 1, 1, 1) + brightness.view(-1, 1, 1, 1)).clamp_(0, 1)
