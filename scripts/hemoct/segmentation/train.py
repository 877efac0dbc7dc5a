"""Training of a segmentation network: one fold, windows and masks in batches on the device, validation, probability maps."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared
from hemoct.data.slices import Fold
from hemoct.segmentation import data as segmentation_data, metrics, networks, windows
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.metrics import Histograms
from hemoct.segmentation.options import STRENGTHS, TRUTH, Options
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.segmentation.windows import LEAST_CONFIDENCES, Windows, compose, paste, placement, sample
from hemoct.training import augment, checkpoints, device, parallel, weights
from hemoct.training.batches import Size, Stacks, Store
from hemoct.training.fit import Criterion, Fit
from hemoct.training.options import Initial, Strength

UNCHOSEN = 0.02  # least confidence of boxes where validation cannot choose it: the median of what it chose in ten networks
VALIDATED = 0.3  # least confidence of the boxes that an epoch is validated with


def train_fold(
    run: Run, options: Options, work: Workspace, data: MaskData, detector: Path | None, where: torch.device
) -> list[Path]:
    """Train the model of the run's folder on the device and predict its fold; returns the files that were written.

    `detector`: the folder of its fold; None where true boxes or whole slices are seen.
    """
    options = replace(options, initial=options.initial.of_fold(work, run.folder))
    fold = data.fold(run.folder, options.selection, options.selection.validation)
    side = options.image_size if options.region.region == "slice" else int(images.sizes(work, data.table).max())
    positive = segmentation_data.positive(segmentation_data.cached(work, data, side))
    rows = {part: fold.rows(part)[data.known[fold.rows(part)]] for part in ("train", "val")}
    for part, of_part in rows.items():
        if not positive[of_part].any():
            raise UserError(f"{run.folder.name}: no mask of {part} has a pixel; use more patients, or another --split")
    preparation = prepared.for_training(work, options.selection.prepare)
    grey = images.grey_statistics(images.cached(work, data.table, side, preparation=preparation), rows["train"])
    spec = _spec(fold, options, data, side, grey)
    weights.stop_if_trained_elsewhere(options.initial, spec)
    training = options.training
    torch.manual_seed(training.seed)
    model = device.place(networks.build(spec, options.initial), where, spec.image_size)
    slices = Slices(work, data, spec, where)
    plan = windows.plan(
        spec, windows.read_boxes(work, data, spec, detector), fold, rows["train"], positive, options.region.negatives
    )
    strength, axis = STRENGTHS[options.augmentation.augment], options.augmentation.axis(data.orientation)
    masked = Masked(slices, networks.criterion(options.network.loss), strength, axis)
    validation = Validation.of(slices, rows["val"], data.table["patient"].to_numpy()[rows["val"]])
    validated, batch_size = plan.prediction.of(rows["val"]), 4 * training.batch_size

    fit = Fit(model, run, training, -(-len(plan.training) // training.batch_size), monitor="val_dice")
    upper_bound = run.folder.parent / "truth-boxes" / run.folder.name
    if fit.best_epoch == 0:
        (replace(spec, least_confidence=UNCHOSEN) if detector else spec).save(run.folder)  # until validation has chosen it
        if files.keeps:
            shutil.rmtree(upper_bound, ignore_errors=True)  # that of an earlier model would be taken for this one's
    for epoch in fit.epochs():
        drawn = plan.training.draw(np.random.default_rng([training.seed, epoch]))
        loss = one_epoch(fit, masked, drawn)
        fit.log(epoch, train_loss=loss, **validate(fit, masked, validation, validated))

    checkpoints.load_trained(model, run.folder)
    honest = spec.validation == 1  # else the detector has learned from these slices: it is surer there than on test
    looked_at = plan.prediction if honest or not detector else plan.prediction.least(UNCHOSEN)
    predicted = patches(model, slices, looked_at, batch_size)
    if detector:
        predicted = list(predicted)
        spec = replace(spec, least_confidence=choose_confidence(validation, looked_at, predicted) if honest else UNCHOSEN)
        print(f"  boxes of confidence {spec.least_confidence:g} and more")
        kept = looked_at.confidence >= spec.least_confidence
        looked_at, predicted = looked_at[kept], compress(predicted, kept)
    written = [run.folder / name for name in checkpoints.MODEL]
    spec.save(run.folder)
    written += write_probabilities(fold, slices, looked_at, predicted)
    if options.region.upper_bound:
        written.append(replace(spec, boxes=TRUTH, least_confidence=0.0).save(upper_bound))
        predicted = patches(model, slices, plan.true, batch_size)
        written += write_probabilities(replace(fold, folder=upper_bound), slices, plan.true, predicted)
    return written


def _spec(fold: Fold, options: Options, data: MaskData, side: int, grey: tuple[float, float]) -> SegmenterSpec:
    """model.json of a fold. `side`: of the square that windows are cut from; `grey`: mean and deviation of its slices."""
    network, region, selection = options.network, options.region, options.selection
    axis = options.augmentation.axis(data.orientation)
    encoder = networks.timm_name(network.encoder)
    mean, std = weights.normalisation(options.initial, encoder, *grey)
    least_side = region.least_side or options.image_size
    of_boxes = {"boxes": region.boxes, "margin": region.margin, "least_side": least_side} if region.region == "box" else {}
    return SegmenterSpec(
        **data.learned(fold, selection), image_size=options.image_size, mean=mean, std=std, model=network.model,
        encoder=network.encoder, context=network.context, source_size=side,
        mirror=None if network.no_mirrored_mean else axis, mask_value=selection.mask_value, region=region.region,
        normalise=network.normalise, validation=selection.validation,
        initial_weights=_origin(options.initial, network.encoder), **of_boxes,
    )  # fmt: skip


def _origin(initial: Initial, encoder: str) -> dict[str, Any] | None:
    """Where the encoder's weights came from; those of the library's own encoders (no tu-, no timm-) are not timm's."""
    origin = weights.origin(initial, networks.timm_name(encoder))
    fetched = origin is not None and origin["source"].startswith("hub") and encoder == origin["name"]
    return origin | {"source": "hub of segmentation_models_pytorch", "licence": None} if fetched else origin


class Slices:
    """Grey values and masks of all slices on the device, or on their way to it."""

    def __init__(self, work: Workspace, data: MaskData, spec: SegmenterSpec, device: torch.device) -> None:
        self.work, self.data, self.spec = work, data, spec
        preparation = prepared.for_training(work, spec.prepare)
        grey = Store(images.cached(work, data.table, spec.source_size, preparation=preparation), device)
        self.grey = Stacks(grey, torch.as_tensor(data.neighbours(spec.context)))
        self.mask = Store(segmentation_data.cached(work, data, spec.source_size), device)

    def batches(
        self, windows: Windows, size: Size, moves: torch.Tensor | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Windows and their masks, `size` a batch: float (b, 2 * context + 1, side, side) in 0..1 and (b, 1, side, side), 0 or 1.

        `moves`: affine matrices (k, 2, 3) by which each window is turned, mirrored or resized in the same resampling.
        """
        if not len(windows):
            return
        rows, device = torch.as_tensor(windows.rows), self.grey.device
        placed = placement(torch.as_tensor(windows.places, dtype=torch.float32, device=device), self.spec.source_size)
        placed = placed if moves is None else compose(placed, moves)
        of_batch = zip(self.grey.batches(rows, size), self.mask.batches(rows, size), placed.split(size), strict=True)
        for (_, grey), (_, mask), here in of_batch:
            places = augment.places(here, self.spec.image_size, self.spec.image_size)
            yield sample(grey, places), (sample(mask, places) >= 0.5).float()

    def truth(self, row: int) -> np.ndarray:
        """The mask of a slice in its square: bool (size, size)."""
        return self.mask.pixels[row] >= segmentation_data.THRESHOLD


class Squares(Slices):
    """Images in memory, without masks: uint8 (n, source_size, source_size), and the rows of their neighbours."""

    def __init__(self, pixels: np.ndarray, around: np.ndarray, spec: SegmenterSpec, device: torch.device) -> None:
        self.spec, self.grey = spec, Stacks(Store(pixels, device), torch.as_tensor(around))
        self.mask = Store(np.zeros_like(pixels), device)


@dataclass(frozen=True)
class Masked:
    """Slices with their masks, and what is minimised on them."""

    slices: Slices
    criterion: Criterion
    strength: Strength | None
    """of the augmentation"""
    axis: str
    """along which the patient's left and right lie"""


def one_epoch(fit: Fit, masked: Masked, windows: Windows) -> float:
    """One pass over the windows of an epoch; the mean loss."""
    shared, generator = fit.share(len(windows)), fit.device_generator
    windows = windows[shared.own.numpy()]
    moves = masked.strength and augment.draw_moves(len(windows), masked.strength, masked.axis, generator)
    total = torch.zeros((), device=fit.device)  # summed on the device: reading each loss would make the GPU wait
    for part, (batch, masks) in zip(shared.parts, masked.slices.batches(windows, shared.sizes, moves), strict=True):
        if masked.strength is not None:
            batch = augment.regrade(batch, masked.strength, generator)
        output = fit.forward(networks.normalised(batch, masked.slices.spec), part).float()
        loss = masked.criterion(part.whole(output), part.whole(masks))
        fit.step(loss, part)
        total += loss.detach() * part.rows
    return float(total) / shared.rows


@dataclass(frozen=True)
class Validation:
    """Validation slices that have a mask, and the counts that an empty prediction would get there."""

    slices: Slices
    rows: np.ndarray
    patients: np.ndarray
    empty: Histograms

    @classmethod
    def of(cls, slices: Slices, rows: np.ndarray, patients: np.ndarray) -> Self:
        nothing = np.zeros((slices.spec.source_size,) * 2, dtype=np.uint8)
        return cls(slices, rows, patients, Histograms.of((nothing, slices.truth(row)) for row in rows))

    def best(self, windows: Windows, patches: Iterable[np.ndarray]) -> tuple[int, float]:
        """The threshold with the highest mean Dice by patient, and that Dice, of patches (side, side) pasted at windows."""
        inside, outside = self.empty.inside.copy(), self.empty.outside.copy()
        place = {row: index for index, row in enumerate(self.rows)}
        for row, canvas in pasted(windows, patches, self.slices.spec.source_size):
            if row in place:
                inside[place[row]], outside[place[row]] = metrics.count(canvas, self.slices.truth(row))
        return metrics.best_threshold(Histograms(inside, outside), self.patients)


def validate(fit: Fit, masked: Masked, validation: Validation, windows: Windows) -> dict[str, float]:
    """Mean loss of the windows, and mean Dice by patient at the best threshold."""
    fit.averaged.eval()
    windows, losses = windows.least(VALIDATED), []

    def levels() -> Iterator[torch.Tensor]:
        for part, (batch, masks) in shared_batches(masked.slices, windows, 4 * fit.options.batch_size):
            with fit.autocast():  # around the network alone: windows placed in bf16 lie up to a pixel off
                output = part.whole(networks.logits(fit.averaged, masked.slices.spec, batch))
            losses.append((masked.criterion(output, part.whole(masks)), part.rows))
            yield networks.in_8_bit(output.sigmoid())

    with torch.inference_mode():
        patches = list(chain.from_iterable(device.on_host(levels())))
    dice = {"val_dice": validation.best(windows, patches)[1]}
    total = sum(float(loss) * count for loss, count in losses)  # read at the end: each reading makes the GPU wait
    return {"val_loss": total / len(windows)} | dice if patches else dice


def choose_confidence(validation: Validation, windows: Windows, patches: list[np.ndarray]) -> float:
    """The least confidence of boxes with the best validation; of equal ones the lowest. `patches`: of the windows."""
    validates = np.isin(windows.rows, validation.rows)
    kept = (validates & (windows.confidence >= least) for least in LEAST_CONFIDENCES)
    values = [validation.best(windows[keep], compress(patches, keep))[1] for keep in kept]
    return LEAST_CONFIDENCES[int(np.argmax(np.nan_to_num(values)))]


# ---- probabilities


@torch.inference_mode()
def patches(model: nn.Module, slices: Slices, windows: Windows, batch_size: int) -> Iterator[np.ndarray]:
    """Probabilities of each window, 0..255: uint8 (side, side); the mean over the mirrored image where the spec says so."""
    model.eval()
    batches = shared_batches(slices, windows, batch_size)
    for of_batch in device.on_host(part.whole(networks.levels(model, slices.spec, batch)) for part, (batch, _) in batches):
        yield from of_batch


def shared_batches(
    slices: Slices, windows: Windows, size: int
) -> Iterator[tuple[parallel.Part, tuple[torch.Tensor, torch.Tensor]]]:
    """As Slices.batches, what this process computes of each, and how it is put together with what the others do."""
    shared = parallel.share(len(windows), size)
    return zip(shared.parts, slices.batches(windows[shared.own.numpy()], shared.sizes), strict=True)


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


def write_probabilities(fold: Fold, slices: Slices, windows: Windows, patches: Iterable[np.ndarray]) -> list[Path]:
    """Write probability/IMAGE_ID.png of all validation and test slices, and predictions.csv; returns the latter.

    `windows`: those that the network looks at; `patches`: its probabilities there.
    """
    table, side = slices.data.table, slices.spec.source_size
    rows, size = np.flatnonzero(fold.part != "train"), images.sizes(slices.work, table)
    counts, peaks = np.bincount(windows.rows, minlength=len(table)), np.zeros(len(table), dtype=int)
    empty = ((row, np.zeros((side, side), dtype=np.uint8)) for row in np.setdiff1d(rows, windows.rows))
    drawn = pasted(windows, tqdm(patches, "masks", len(windows), disable=None), side)
    with files.replacing_folder(fold.folder / "probability") as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        for row, square in chain(empty, drawn):
            probability = images.restore(square, *size[row])
            peaks[row] = probability.max()
            Image.fromarray(probability).save(temporary / f"{table['image_id'][row]}.png")
    about = slices.data.about(fold, rows).assign(windows=counts[rows], peak=peaks[rows])
    return [tables.write_predictions(fold.folder, about)]
