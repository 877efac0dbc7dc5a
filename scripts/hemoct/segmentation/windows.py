"""Square windows of slices: cut out of the cache on the device, and probabilities pasted back.

A window is (x, y, side) in pixels of the cached square, its upper left corner and its side; it may reach beyond the square.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

MULTIPLE = 2  # of a window's side, so that its centre lies on a pixel's corner


def whole(rows: int, size: int) -> np.ndarray:
    """Windows that are the whole square: float64 (rows, 3)."""
    return np.tile([0.0, 0.0, float(size)], (rows, 1))


def around(boxes: np.ndarray, margin: float, least_side: int) -> np.ndarray:
    """Windows around boxes (k, 4), in whole pixels: float64 (k, 3).

    The side is that of the longer side of the box with `margin` of it at both ends, and no less than `least_side`: small
    lesions are seen at native resolution, large ones are made smaller.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    longest = (high - low).max(axis=1, initial=0) * (1 + 2 * margin)
    side = np.maximum(np.ceil(longest / MULTIPLE - 1e-6) * MULTIPLE, least_side)[:, None]
    return np.concatenate([np.round((low + high - side) / 2), side], axis=1)


def jitter(windows: np.ndarray, shift: float, scale: float, random: np.random.Generator) -> np.ndarray:
    """Windows moved by up to `shift` of their side and made larger or smaller by up to `scale`: (k, 3), no whole pixels."""
    n = len(windows)
    side = windows[:, 2] * np.exp(random.uniform(-1, 1, n) * np.log1p(scale))
    centre = windows[:, :2] + windows[:, 2:] / 2 + random.uniform(-shift, shift, (n, 2)) * windows[:, 2:]
    return np.concatenate([centre - side[:, None] / 2, side[:, None]], axis=1)


def placement(windows: torch.Tensor, size: int) -> torch.Tensor:
    """The affine matrices (k, 2, 3) of torch's affine_grid that map a window to the cached square of `size` pixels."""
    scale = windows[:, 2] / size
    shift = (2 * windows[:, :2] + windows[:, 2:]) / size - 1
    matrices = torch.zeros(len(windows), 2, 3, device=windows.device)
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, :, 2] = shift
    return matrices


def compose(placed: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Affine matrices (k, 2, 3) that apply `moves` (see transforms.draw_moves) within a window, then `placed`."""
    last = torch.tensor([[[0.0, 0.0, 1.0]]], device=placed.device).expand(len(placed), 1, 3)
    return placed @ torch.cat([moves, last], dim=1)


def cut(slices: torch.Tensor, placed: torch.Tensor, side: int) -> torch.Tensor:
    """Resample float slices (k, channels, size, size) at windows `placed` (see `placement`): (k, channels, side, side)."""
    grid = F.affine_grid(placed, [len(slices), 1, side, side], align_corners=False)
    return F.grid_sample(slices, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def paste(canvas: np.ndarray, patch: np.ndarray, window: np.ndarray) -> None:
    """Write a patch of probabilities (side, side) into `canvas` (size, size), float32, at a window of whole pixels.

    Where windows overlap the higher probability stays.
    """
    x, y, side = window.astype(int).tolist()
    if patch.shape[0] != side:
        resized = F.interpolate(torch.from_numpy(patch)[None, None], (side, side), mode="bilinear", align_corners=False)
        patch = resized[0, 0].numpy()
    height, width = canvas.shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    if top < bottom and left < right:
        place = canvas[top:bottom, left:right]
        np.maximum(place, patch[top - y : bottom - y, left - x : right - x], out=place)
