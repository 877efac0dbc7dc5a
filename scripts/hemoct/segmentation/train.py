"""Training of a segmentation network: windows and masks in batches on the device, one epoch, validation, probability maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation import metrics
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.metrics import Histograms
from hemoct.segmentation.networks import LossFunction, SegmenterSpec
from hemoct.segmentation.windows import (
    LEAST_CONFIDENCES,
    AroundBoxes,
    WholeSlices,
    Windows,
    compose,
    cut,
    paste,
    placement,
)
from hemoct.training import augment
from hemoct.training import fit as training_fit
from hemoct.training.batches import Store

AUGMENTATIONS = {
    "none": None,
    "affine": augment.Strength(degrees=15, scale=0.15, shift=0.05, brightness=0.1, contrast=0.15),
    "strong": augment.Strength(degrees=30, scale=0.25, shift=0.1, brightness=0.15, contrast=0.25),
}
AIR, BONE = 0.1, 0.95  # grey values in 0..1, of a brain window
LEAST_STD = 0.02  # of a window of one grey value
LIMIT = 4.0  # standard deviations
VALIDATED = 0.3  # least confidence of the boxes that an epoch is validated with


class Slices:
    """Grey values and masks of all slices on the device, or on their way to it."""

    def __init__(self, work: Workspace, data: MaskData, spec: SegmenterSpec, device: torch.device) -> None:
        self.work, self.data, self.spec = work, data, spec
        self.grey = Store(images.cached(work, data.table, spec.source_size), device)
        self.mask = Store(segmentation_data.cached(work, data, spec.source_size), device)
        self.neighbours = torch.as_tensor(data.neighbours(spec.context))

    def batches(
        self, windows: Windows, size: int, moves: torch.Tensor | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Windows and their masks, `size` a batch: float (b, 2 * context + 1, side, side) in 0..1 and (b, 1, side, side), 0 or 1.

        `moves`: affine matrices (k, 2, 3) by which each window is turned, mirrored or resized in the same resampling.
        """
        if not len(windows):
            return
        rows, device = torch.as_tensor(windows.rows), self.grey.device
        placed = placement(torch.as_tensor(windows.places, dtype=torch.float32, device=device), self.spec.source_size)
        placed = placed if moves is None else compose(placed, moves)
        channels = self.neighbours.shape[1]
        grey = self.grey.batches(self.neighbours[rows].reshape(-1), size * channels)
        for (_, of_grey), (position, of_mask) in zip(grey, self.mask.batches(rows, size), strict=True):
            stack = of_grey.reshape(len(position), channels, *of_grey.shape[2:])
            both = cut(torch.cat([stack, of_mask], dim=1), placed[position], self.spec.image_size)
            yield both[:, :-1], (both[:, -1:] >= 0.5).float()

    def truth(self, row: int) -> np.ndarray:
        """The mask of a slice in its square: bool (size, size)."""
        return self.mask.pixels[row] >= segmentation_data.THRESHOLD


def logits(model: nn.Module, spec: SegmenterSpec, batch: torch.Tensor) -> torch.Tensor:
    """Windows in 0..1 to float32 logits (b, 1, side, side)."""
    return model(normalised(batch, spec)).float()


def normalised(batch: torch.Tensor, spec: SegmenterSpec) -> torch.Tensor:
    """Windows as the network gets them: grey values less the mean, over the standard deviation, of the data set or the window.

    Of a window only what is neither air nor bone counts: scanners and their grey level windows differ, and edema is seen by its
    contrast to the brain around it. Values beyond LIMIT standard deviations are cut: bone and air would drown the rest.
    """
    if spec.normalise == "dataset":
        return (batch - spec.mean) / spec.std
    brain = ((batch > AIR) & (batch < BONE)).float()
    count = brain.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    mean = (batch * brain).sum(dim=(1, 2, 3), keepdim=True) / count
    std = (((batch - mean) ** 2 * brain).sum(dim=(1, 2, 3), keepdim=True) / count).sqrt().clamp(min=LEAST_STD)
    return ((batch - mean) / std).clamp(-LIMIT, LIMIT)


def one_epoch(
    fit: training_fit.Fit, slices: Slices, source: WholeSlices | AroundBoxes, criterion: LossFunction, epoch: int
) -> float:
    """One pass over the windows that `source` draws for an epoch; the mean loss."""
    args, drawn = fit.args, source.draw(np.random.default_rng([fit.args.seed, epoch]))
    drawn = drawn[np.arange(len(drawn) - (len(drawn) % args.batch_size == 1))]  # batch normalisation cannot use a single one
    strength = AUGMENTATIONS[args.augment]
    moves = None if strength is None else augment.draw_moves(len(drawn), strength, args.mirror, fit.device_generator)
    total = torch.zeros((), device=fit.device)  # summed on the device: reading each loss would make the GPU wait
    for batch, masks in slices.batches(drawn, args.batch_size, moves):
        if strength is not None:
            batch = augment.regrade(batch, strength, fit.device_generator)
        with fit.autocast():
            output = logits(fit.model, slices.spec, batch)
        loss = criterion(output, masks)
        fit.step(loss)
        total += loss.detach() * len(batch)
    return float(total) / len(drawn)


@dataclass(frozen=True)
class Validation:
    """Validation slices that have a mask, and the counts that an empty prediction would get there."""

    slices: Slices
    rows: np.ndarray
    patients: np.ndarray
    empty: Histograms

    @classmethod
    def of(cls, slices: Slices, rows: np.ndarray, patients: np.ndarray) -> Validation:
        nothing = np.zeros((slices.spec.source_size,) * 2, dtype=np.uint8)
        return cls(slices, rows, patients, Histograms.of((nothing, slices.truth(row)) for row in rows))

    def best(self, windows: Windows, patches: np.ndarray) -> tuple[int, float]:
        """The threshold with the highest mean Dice by patient, and that Dice, of patches (k, side, side) pasted at windows."""
        inside, outside = self.empty.inside.copy(), self.empty.outside.copy()
        place = {row: index for index, row in enumerate(self.rows)}
        for row, canvas in pasted(windows, patches, self.slices.spec.source_size):
            if row in place:
                inside[place[row]], outside[place[row]] = metrics.count(canvas, self.slices.truth(row))
        return metrics.best_threshold(Histograms(inside, outside), self.patients)


def validate(fit: training_fit.Fit, validation: Validation, windows: Windows, criterion: LossFunction) -> dict[str, float]:
    """Mean loss of the windows, and mean Dice by patient at the best threshold."""
    fit.judged.eval()
    windows = windows.least(VALIDATED)
    total, patches, size = 0.0, [], 4 * fit.args.batch_size
    with torch.inference_mode():
        for batch, masks in validation.slices.batches(windows, size):
            with fit.autocast():  # around the network alone: windows placed in bf16 lie up to a pixel off
                output = logits(fit.judged, validation.slices.spec, batch)
            total += float(criterion(output, masks)) * len(batch)
            patches.append(_in_8_bit(output.sigmoid()))
    if not patches:
        return {"val_dice": validation.best(windows, np.zeros((0, 1, 1), np.uint8))[1]}
    return {"val_loss": total / len(windows), "val_dice": validation.best(windows, np.concatenate(patches))[1]}


def choose_confidence(model: nn.Module, validation: Validation, windows: Windows, batch_size: int) -> float:
    """The least confidence of boxes with the best validation; of equal ones the lowest."""
    predicted = patches(model, validation.slices, windows, batch_size)
    kept = (windows.confidence >= least for least in LEAST_CONFIDENCES)
    values = [validation.best(windows[keep], predicted[keep])[1] for keep in kept]
    return LEAST_CONFIDENCES[int(np.argmax(np.nan_to_num(values)))]


# ---- probabilities


def _in_8_bit(probability: torch.Tensor) -> np.ndarray:
    return (probability[:, 0] * 255).round().to(torch.uint8).cpu().numpy()


@torch.inference_mode()
def patches(model: nn.Module, slices: Slices, windows: Windows, batch_size: int) -> np.ndarray:
    """Probabilities of windows, 0..255: uint8 (k, side, side); the mean over the mirrored image where the spec says so."""
    spec, predicted = slices.spec, []
    model.eval()
    for batch, _ in slices.batches(windows, batch_size):
        probability = logits(model, spec, batch).sigmoid()
        if spec.mirror:
            axis = 2 if spec.mirror == "vertical" else 3
            probability = (probability + logits(model, spec, batch.flip(axis)).sigmoid().flip(axis)) / 2
        predicted.append(_in_8_bit(probability))
    return np.concatenate(predicted) if predicted else np.zeros((0, spec.image_size, spec.image_size), np.uint8)


def pasted(windows: Windows, patches: Iterable[np.ndarray], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(row, probabilities 0..255 of the square, uint8 (size, size)) for each slice with a window; rows must be in order."""
    row, canvas = None, np.zeros((size, size), dtype=np.float32)
    for this, place, patch in zip(windows.rows.tolist(), windows.places, patches, strict=True):
        if this != row and row is not None:
            yield row, canvas.round().astype(np.uint8)
            canvas = np.zeros((size, size), dtype=np.float32)
        row = this
        paste(canvas, patch.astype(np.float32), place)
    if row is not None:
        yield row, canvas.round().astype(np.uint8)


def write_probabilities(
    folder: Path, model: nn.Module, slices: Slices, part: np.ndarray, windows: Windows, batch_size: int
) -> list[Path]:
    """Write probability/IMAGE_ID.png of all validation and test slices, and predictions.csv; returns the latter.

    `part`: `train`, `val` or `test` of each slice; `windows`: those that the network looks at.
    """
    table, side = slices.data.table, slices.spec.source_size
    rows, size = np.flatnonzero(part != "train"), images.sizes(slices.work, table)
    counts, peaks = np.bincount(windows.rows, minlength=len(table)), np.zeros(len(table), dtype=int)
    with files.replacing_folder(folder / "probability") as temporary:
        temporary.mkdir(parents=True, exist_ok=True)

        def write(row: int, square: np.ndarray) -> None:
            probability = images.restore(square, *size[row])
            peaks[row] = probability.max()
            Image.fromarray(probability).save(temporary / f"{table['image_id'][row]}.png")

        for row in np.setdiff1d(rows, windows.rows):
            write(row, np.zeros((side, side), dtype=np.uint8))
        for chunk in tqdm(np.array_split(np.unique(windows.rows), max(1, len(windows) // 256)), desc="masks", disable=None):
            in_chunk = windows.of(chunk)
            for row, square in pasted(in_chunk, patches(model, slices, in_chunk, batch_size), side):
                write(row, square)
    about = table.loc[rows, ["image_id", "patient"]].assign(fold=slices.spec.fold or 0, part=part[rows])
    return [tables.write_predictions(folder, about.assign(windows=counts[rows], peak=peaks[rows]))]
