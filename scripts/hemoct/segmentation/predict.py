"""Masks of image files by several segmentation networks together: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from hemoct.base import experiments
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes
from hemoct.data import images
from hemoct.data.named_images import ImageFiles
from hemoct.detection import fusion
from hemoct.detection import networks as detection_networks
from hemoct.segmentation import ensemble, lesion_windows, networks, train
from hemoct.segmentation.lesion_windows import Boxes, Windows
from hemoct.segmentation.networks import SegmenterSpec
from hemoct.training.batches import Store

OF_FOLD = {"fold", "mean", "std", "least_confidence"}  # what may differ between the models of an experiment
TRUTH = "truth"
CHUNK = 32  # images that lie in memory at a time


def read_specs(folders: list[Path]) -> list[SegmenterSpec]:
    """model.json of each folder; stops when the models of an experiment are not of one kind, or those of an ensemble too far."""
    specs = [SegmenterSpec.read(folder) for folder in folders]
    for folder, spec in zip(folders, specs, strict=True):
        own = next(place for place, one in enumerate(folders) if one.parent == folder.parent)  # the first of its experiment
        for place, names in ((own, asdict(spec).keys() - OF_FOLD), (0, ensemble.SHARED)):
            other = sorted(name for name in names if getattr(spec, name) != getattr(specs[place], name))
            if other:
                raise UserError(
                    f"{folder} differs from {folders[place]} in {', '.join(other)} (model.json); train the folds again, all alike"
                )
    return specs


# ---- where to look: boxes


@dataclass(frozen=True)
class Places:
    """The boxes on image files, (k, 6) each, as of detectors.detect."""

    each: list[list[np.ndarray]]
    """by model and image, of at least the model's least confidence"""
    lesions: list[np.ndarray]
    """by image, those of all models as one, of at least the confidence from which a box counts as a lesion"""


def detector_folders(work: Workspace, folders: list[Path], specs: list[SegmenterSpec]) -> list[Path]:
    """The detector of the same fold for each model; stops where it has no weights or learned from other patients."""
    experiment = specs[0].boxes
    if experiment in (None, TRUTH):
        raise UserError(f"{work.show(folders[0].parent)} looks around true boxes; give boxes with --boxes-from CSV")
    found = [work.task(2) / experiment / folder.name for folder in folders]
    for folder, spec in zip(found, specs, strict=True):
        if not (folder / "best.pt").exists():
            raise UserError(
                f"{work.show(folder / 'best.pt')} is missing: these models look around the boxes of that detector; train it "
                f"({experiments.train_step(2)} --experiment {experiment}), or give boxes with --boxes-from CSV"
            )
        of_boxes = detection_networks.DetectorSpec.read(folder)
        if any(getattr(of_boxes, name) != getattr(spec, name) for name in ("splits_sha256", "protocol", "split", "fold")):
            raise UserError(
                f"{work.show(folder)} learned from other patients than the model of its fold (splits.csv, protocol or fold in "
                "model.json differ); train it again, or give boxes with --boxes-from CSV"
            )
    return found


def detect(
    paths: list[Path], found_by: list[Path], specs: list[SegmenterSpec], certain: float, batch_size: int, device: torch.device
) -> Places:
    """The boxes of image files by the detector of each model, rounded as in predictions.csv. `certain`: see Places.lesions."""
    different = list(dict.fromkeys(found_by))  # the members of an ensemble look around the same boxes
    each, sizes = fusion.detect_each(paths, different, batch_size, device)
    joined = [fusion.fuse(list(found), *size) for found, size in zip(zip(*each, strict=True), sizes, strict=True)]
    of_detector = dict(zip(different, ([_rounded(of_image) for of_image in found] for found in each), strict=True))
    return _places([of_detector[folder] for folder in found_by], joined, specs, certain)


def given(found: list[np.ndarray], specs: list[SegmenterSpec], certain: float) -> Places:
    """The boxes that a user gave, the same for each model. `certain`: see Places.lesions."""
    return _places([found] * len(specs), found, specs, certain)


def _places(each: list[list[np.ndarray]], joined: list[np.ndarray], specs: list[SegmenterSpec], certain: float) -> Places:
    asked = [[_least(of_image, spec.least_confidence) for of_image in found] for found, spec in zip(each, specs, strict=True)]
    return Places(asked, [_least(_rounded(of_image), certain) for of_image in joined])


def _rounded(found: np.ndarray) -> np.ndarray:
    return np.column_stack([found[:, :4].round(1), found[:, 4].round(5), found[:, 5]])


def _least(found: np.ndarray, confidence: float) -> np.ndarray:
    return found[found[:, 4] >= confidence]


# ---- what is there: probabilities


def probabilities(
    shown: ImageFiles,
    folders: list[Path],
    places: Places | None,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each image, uint8 (height, width), and the mean of the models' probabilities on it, float32 0..255, same shape.

    Each model's are those that training writes, 8 bit at the size of the image. All models lie in memory, and no more than CHUNK
    images with the neighbours that the models look at.
    """
    models = [networks.load(folder, device) for folder in folders]
    context, size = models[0][1].context, models[0][1].source_size
    n, around = len(shown.table), shown.neighbours(context)
    decoded = enumerate(images.decode(shown.paths, desc="segment"))
    held: dict[int, np.ndarray] = {}
    for start in range(0, n, CHUNK):
        rows = range(start, min(start + CHUNK, n))
        low, high = max(0, start - context), min(n, rows.stop + context)
        kept = {row: grey for row, grey in held.items() if row >= low}
        held = kept | dict(islice(decoded, high - low - len(kept)))
        squares = np.stack([images.resize(held[row], size) for row in range(low, high)])
        total = {row: np.zeros(held[row].shape, dtype=np.float32) for row in rows}
        for number, (model, spec) in enumerate(models):
            slices = Squares(squares, around[low:high] - low, spec, device)
            wanted = _windows(spec, rows, low, None if places is None else places.each[number], held)
            found = train.patches(model, slices, wanted, batch_size)
            for index, square in train.pasted(wanted, found, size):
                height, width = held[low + index].shape
                total[low + index] += images.restore(square, width, height)
        yield from ((held[row], total[row] / len(models)) for row in rows)


class Squares(train.Slices):
    """Images in memory, without masks: uint8 (n, source_size, source_size), and the rows of their neighbours."""

    def __init__(self, pixels: np.ndarray, around: np.ndarray, spec: SegmenterSpec, device: torch.device) -> None:
        self.spec, self.neighbours = spec, torch.as_tensor(around)
        self.grey, self.mask = (Store(one, device) for one in (pixels, np.zeros_like(pixels)))


def _windows(spec: SegmenterSpec, rows: range, low: int, found: list[np.ndarray] | None, held: dict[int, np.ndarray]) -> Windows:
    """The windows of images `rows` that a model looks at; their numbers count from `low`. `found`: boxes of all images."""
    if spec.region == "slice":
        return lesion_windows.whole_slices(np.arange(rows.start, rows.stop) - low, spec.source_size)
    squared = [data_boxes.to_letterbox(found[row][:, :4], *held[row].shape[::-1], spec.source_size) for row in rows]
    numbers = np.repeat(np.arange(rows.start, rows.stop) - low, [len(boxes) for boxes in squared])
    confidence = np.concatenate([found[row][:, 4] for row in rows])
    return Boxes(numbers, np.concatenate(squared), confidence).windows(spec.margin, spec.least_side)
