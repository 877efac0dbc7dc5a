"""Augmentation of whole batches on the device. Each slice of a batch draws its own parameters, in one resampling."""

import functools
import math

import torch
import torch.nn.functional as F

from hemoct.training.options import Strength


def augment(images: torch.Tensor, strength: Strength, axis: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Move and re-grade a batch: float images in 0..1, shape (batch, channels, height, width), same shape and range back.

    And how each slice was moved, for move_boxes: affine matrices (batch, 2, 3) of torch's affine_grid. `axis` is the image axis
    along which the patient's left and right lie (`horizontal` or `vertical`): a head is symmetric along that one only.
    `generator` lives on the images' device. torchvision's v2 transforms draw one set of parameters for a whole batch, which
    would leave 32 slices with the same angle; hence one affine grid per slice here.
    """
    moves = draw_moves(len(images), strength, axis, generator)
    moved = F.grid_sample(images, places(moves, *images.shape[2:]), mode="bilinear", padding_mode="zeros", align_corners=False)
    return regrade(moved, strength, generator), moves


def places(moves: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What torch's affine_grid gives for matrices (n, 2, 3), but for rounding, in a tenth of its time: (n, height, width, 2)."""
    return (moves @ _corners(height, width, moves.device)).view(len(moves), 2, height, width).permute(0, 2, 3, 1)


@functools.lru_cache(maxsize=4)
def _corners(height: int, width: int, device: torch.device) -> torch.Tensor:
    """x, y and 1 of each pixel, counted from -1 to 1 between the edges of the image: (3, height * width)."""
    x, y = (torch.linspace(-1, 1, size, device=device) * (size - 1) / size for size in (width, height))
    return torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)]
    ).view(3, -1)


def draw_moves(n: int, strength: Strength, axis: str, generator: torch.Generator) -> torch.Tensor:
    """Random affine matrices (n, 2, 3) of torch's affine_grid, on the generator's device: new places mapped to old ones."""
    still = torch.ones(n, device=generator.device)
    mirror = torch.where(_uniform(n, 1, generator) < 0, -1.0, 1.0) if strength.mirror else still
    flip_x, flip_y = (mirror, still) if axis == "horizontal" else (still, mirror)
    angle, zoom = _uniform(n, math.radians(strength.degrees), generator), 1 / (1 + _uniform(n, strength.scale, generator))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in units of half the side, hence the factor 2 of the shift
    first = torch.stack([cos * flip_x, -sin * flip_y, _uniform(n, 2 * strength.shift, generator)], dim=1)
    second = torch.stack([sin * flip_x, cos * flip_y, _uniform(n, 2 * strength.shift, generator)], dim=1)
    return torch.stack([first, second], dim=1)


def regrade(images: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """Change contrast and brightness of each image of a batch (batch, channels, height, width) in 0..1, and cut at 0 and 1.

    In place: on a CPU a new tensor costs more than what is computed in it.
    """
    contrast, brightness = (
        _uniform(len(images), limit, generator).view(-1, 1, 1, 1) for limit in (strength.contrast, strength.brightness)
    )
    return images.mul_(1 + contrast).add_(brightness).clamp_(0, 1)


def _uniform(n: int, limit: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(n, generator=generator, device=generator.device) * 2 - 1) * limit


def move_boxes(boxes: torch.Tensor, move: torch.Tensor, side: int, least: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Move boxes (k, 4), in pixels of a square slice, as the slice was moved: (k, 4), and which are still worth learning, (k,).

    A turned box is enclosed by a straight one, which is cut at the edges; it is not kept when less than `least` of its area, or
    less than a pixel, is left. `move` (2, 3) maps places of the new slice to the old one, counted from -1 to 1.
    """
    xmin, ymin, xmax, ymax = (boxes * (2 / side) - 1).unbind(dim=1)
    corners = torch.stack([torch.stack([x, y], dim=1) for x in (xmin, xmax) for y in (ymin, ymax)])
    corners = (corners - move[:, 2]) @ torch.linalg.inv(move[:, :2]).T
    whole = (torch.cat([corners.amin(dim=0), corners.amax(dim=0)], dim=1) + 1) * (side / 2)
    cut = whole.clamp(0, side)
    before, after = ((one[:, 2:] - one[:, :2]) for one in (whole, cut))
    return cut, (after.prod(dim=1) >= least * before.prod(dim=1)) & (after >= 1).all(dim=1)
