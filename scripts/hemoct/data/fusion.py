"""Predicted boxes, (k, 6): xmin, ymin, xmax, ymax, confidence, class number. Which are kept, and those of several models as one.

Imports no torch: a scan is predicted without it, and numba, which the fusion's package brings along, takes a second to import.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

LEAST_CONFIDENCE = 0.001
MOST_BOXES = 30  # a slice; a patient has one or a few lesions
FUSION_IOU = 0.55  # boxes that overlap by more are one lesion: the value of the paper


def suppressed(corners: np.ndarray, confidence: np.ndarray, iou: float, most: int | None = None) -> np.ndarray:
    """Rows of the boxes (k, 4) that are left when each removes those less confident that overlap it by more than `iou`.

    Most confident first, at most `most`; as torchvision.ops.nms, in the precision of the corners.
    """
    left, kept = np.argsort(-confidence, kind="stable"), []
    xmin, ymin, xmax, ymax = corners.T
    area = (xmax - xmin) * (ymax - ymin)
    while len(left) and len(kept) != most:
        first, left = left[0], left[1:]
        kept.append(first)
        width = np.minimum(xmax[first], xmax[left]) - np.maximum(xmin[first], xmin[left])
        height = np.minimum(ymax[first], ymax[left]) - np.maximum(ymin[first], ymin[left])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):  # boxes without an area have no share in common
            left = left[~(common / (area[first] + area[left] - common) > iou)]
    return np.array(kept, dtype=int)


def strongest(boxes: np.ndarray) -> np.ndarray:
    """Of boxes (k, 6) the MOST_BOXES most confident ones, as far as they have LEAST_CONFIDENCE; most confident first."""
    kept = boxes[np.argsort(-boxes[:, 4], kind="stable")][:MOST_BOXES]
    return kept[kept[:, 4] >= LEAST_CONFIDENCE]


def at_threshold(predicted: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """The boxes of each image, (k, 6), at or above the threshold, with the five digits of predictions.csv that it comes from."""
    return [of_image[of_image[:, 4].round(5) >= threshold] for of_image in predicted]


def rounded(boxes: np.ndarray) -> np.ndarray:
    """Boxes (k, 6) as predictions.csv holds them."""
    return np.column_stack([boxes[:, :4].round(1), boxes[:, 4].round(5), boxes[:, 5]])


def fuse(by_model: list[np.ndarray], width: int, height: int) -> np.ndarray:
    """Join the boxes of several models on one image of `width` x `height` px: (k, 6), most confident first.

    Weighted box fusion (Solovyev, Wang, Gabruseva 2021, Image and Vision Computing 107, doi 10.1016/j.imavis.2021.104117).
    `by_model` holds (m, 6) arrays, one a model; m may be 0. Boxes of one class that overlap by more than FUSION_IOU become one,
    whose corners are their mean weighted by confidence. Its confidence is the mean of theirs times the share of the models that
    have a box there: a box of 2 of 5 models keeps 2/5. The boxes of a single model are returned as they are.
    """
    if len(by_model) == 1:
        return by_model[0]
    size = np.array([width, height, width, height], dtype=float)
    kept = [_one_vote(np.column_stack([np.clip(of_model[:, :4], 0, size), of_model[:, 4:]])) for of_model in by_model]
    corners, confidence, number = _weighted_boxes_fusion()(
        [of_model[:, :4] / size for of_model in kept],
        [of_model[:, 4] for of_model in kept],
        [of_model[:, 5] for of_model in kept],
        iou_thr=FUSION_IOU,
        conf_type="box_and_model_avg",
    )
    return strongest(np.column_stack([corners * size, confidence, number]))


def _one_vote(of_model: np.ndarray) -> np.ndarray:
    """The boxes of one model without empty ones and without those that lie on a more confident one of their class.

    Detectors keep boxes that overlap by up to about 0.7: in the mean, a faint double would halve the confidence of a good box.
    """
    solid = of_model[(of_model[:, 2] > of_model[:, 0]) & (of_model[:, 3] > of_model[:, 1])]
    if not len(solid):
        return solid
    apart = solid[:, 5:] * (solid[:, :4].max() + 1)  # boxes of other classes lie elsewhere
    return solid[suppressed(solid[:, :4] + apart, solid[:, 4], FUSION_IOU)]


@functools.cache
def _weighted_boxes_fusion() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """That of the package ensemble_boxes, from its own file: the package's other modules need numba, this one does not."""
    package = importlib.util.find_spec("ensemble_boxes")
    place = Path(package.submodule_search_locations[0]) / "ensemble_boxes_wbf.py"
    spec = importlib.util.spec_from_file_location(place.stem, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.weighted_boxes_fusion
