"""Distances between the outlines of two masks, by MONAI. Imports torch, which takes seconds: import this room late."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

TOLERANCE = 1.0
"""of NSD: outlines that are no further apart agree; in the unit of the spacing"""


def compare(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """HD95 and NSD of two masks, bool (height, width), both with a pixel; `spacing` of rows and columns, e.g. in mm.

    HD95: the larger one of the 95th percentiles of the distances from each outline to the other (Huttenlocher et al. 1993), in
    the unit of `spacing`. NSD: the share of both outlines that lies within TOLERANCE of the other one (Nikolov et al. 2018).
    """
    either = predicted | true
    inside = tuple(slice(along[0], along[-1] + 1) for along in (np.flatnonzero(either.any(axis=axis)) for axis in (1, 0)))
    pair = [torch.from_numpy(mask[inside])[None, None] for mask in (predicted, true)]  # far fewer pixels, the same outlines
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # of MONAI, about itself
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        nsd = compute_surface_dice(*pair, class_thresholds=[TOLERANCE], include_background=True, spacing=spacing)
    return float(hd95), float(nsd)
