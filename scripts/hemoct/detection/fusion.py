"""The boxes of several detectors as those of one, by weighted box fusion.

Solovyev, Wang, Gabruseva 2021, Image and Vision Computing 107, doi 10.1016/j.imavis.2021.104117.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from hemoct.base.errors import UserError
from hemoct.data import images
from hemoct.detection import networks
from hemoct.detection.networks import LEAST_CONFIDENCE, MOST_BOXES, DetectorSpec

IOU = 0.55  # boxes that overlap by more are one lesion: the value of the paper


def read_specs(folders: list[Path]) -> list[DetectorSpec]:
    """model.json of each folder; stops when the models know other classes."""
    specs = [networks.DetectorSpec.read(folder) for folder in folders]
    for folder, spec in zip(folders, specs, strict=True):
        if spec.classes != specs[0].classes:
            raise UserError(f"{folder} knows other classes than {folders[0]} (model.json); train the folds again, all alike")
    return specs


def detect(paths: list[Path], folders: list[Path], batch_size: int, device: torch.device) -> list[np.ndarray]:
    """Boxes of image files by the models of `folders`, fused: (k, 6) each, see `fuse`."""
    each, sizes = detect_each(paths, folders, batch_size, device)
    return [fuse(list(found), *size) for found, size in zip(zip(*each, strict=True), sizes, strict=True)]


def detect_each(
    paths: list[Path], folders: list[Path], batch_size: int, device: torch.device
) -> tuple[list[list[np.ndarray]], list[tuple[int, int]]]:
    """Boxes by each model of each image file, (k, 6) as of detectors.detect, and width and height of the images.

    One model after the other reads the files, so that neither all models nor all slices need to lie in memory.
    """
    sizes: list[tuple[int, int]] = []
    each = []
    for folder in folders:
        model, spec = networks.load(folder, device)
        sizes.clear()
        slices = _measured(images.decode(paths, desc=folder.name), sizes)
        each.append(networks.detect(model, spec, slices, batch_size))
    return each, sizes


def _measured(slices: Iterator[np.ndarray], sizes: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The slices as they come; width and height of each are appended to `sizes`."""
    for grey in slices:
        sizes.append((grey.shape[1], grey.shape[0]))
        yield grey


def fuse(found: list[np.ndarray], width: int, height: int) -> np.ndarray:
    """Join the boxes that several models found on one image of `width` x `height` px: (k, 6), most confident first.

    `found` holds (m, 6) arrays, one a model: xmin, ymin, xmax, ymax, confidence, class number; m may be 0. Boxes of one class
    that overlap by more than IOU become one, whose corners are their mean weighted by confidence. Its confidence is the mean of
    theirs times the share of the models that have a box there: found by 2 of 5 models it keeps 2/5. One model alone is
    returned as it is.
    """
    if len(found) == 1:
        return found[0]
    from ensemble_boxes import weighted_boxes_fusion  # numba, which it brings along, takes seconds to import

    size = np.array([width, height, width, height], dtype=float)
    kept = [_one_vote(np.column_stack([np.clip(of_model[:, :4], 0, size), of_model[:, 4:]])) for of_model in found]
    corners, confidence, number = weighted_boxes_fusion(
        [of_model[:, :4] / size for of_model in kept],
        [of_model[:, 4] for of_model in kept],
        [of_model[:, 5] for of_model in kept],
        iou_thr=IOU,
        conf_type="box_and_model_avg",
    )
    joined = np.column_stack([corners * size, confidence, number])
    joined = joined[np.argsort(-confidence, kind="stable")][:MOST_BOXES]
    return joined[joined[:, 4] >= LEAST_CONFIDENCE]


def _one_vote(found: np.ndarray) -> np.ndarray:
    """The boxes of one model without empty ones and without those that lie on a more confident one of their class.

    Detectors keep boxes that overlap by up to about 0.7; in the mean a faint double would halve the confidence of a good box.
    """
    from torchvision.ops import batched_nms

    found = found[(found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])]
    columns = torch.from_numpy(found)
    return found[batched_nms(columns[:, :4], columns[:, 4], columns[:, 5].long(), IOU).numpy()]
