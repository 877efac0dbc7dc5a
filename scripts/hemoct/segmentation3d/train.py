"""Training of a 3D segmentation network: patches of scans, validation and prediction by a window that slides over each scan."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared
from hemoct.segmentation import data as segmentation_data, metrics, networks as networks2d, windows
from hemoct.segmentation.data import MaskData
from hemoct.segmentation.metrics import Histograms
from hemoct.segmentation.options import STRENGTHS
from hemoct.segmentation.train import write_probabilities
from hemoct.segmentation3d import networks
from hemoct.segmentation3d.networks import VolumeSpec
from hemoct.segmentation3d.options import Options
from hemoct.training import augment, checkpoints
from hemoct.training.batches import Stacks, Store
from hemoct.training.fit import Fit
from hemoct.training.options import Strength
from hemoct.volumes import scans

AROUND_LESION = 2 / 3  # of the patches


@dataclass(frozen=True)
class Scans:
    """Grey values and masks of all scans, read on demand."""

    grey: Store
    mask: Store
    known: np.ndarray
    """which slices have a mask file, bool (n,)"""
    rows: np.ndarray
    """rows of the slices of each scan in their order, int64 (scans, longest), -1 beyond"""

    @classmethod
    def of(cls, work: Workspace, data: MaskData, size: int, prepare: list[str], device: torch.device) -> "Scans":
        preparation = prepared.for_training(work, prepare)
        grey = Store(images.cached(work, data.table, size, preparation=preparation), device)
        remedy = "name slice and patient in the source of the labels"
        rows = scans.scans(data.table, source=work.show(work.work / "labels.csv"), remedy=remedy)
        return cls(grey, Store(segmentation_data.cached(work, data, size), device), data.known, rows)

    def volume(self, scan: np.ndarray) -> torch.Tensor:
        """The grey values of the slices `scan` of one scan: float (slices, side, side) in 0..1, on the device."""
        parts = [batch[:, 0] for _, batch in self.grey.batches(torch.as_tensor(scan), 64)]
        return torch.cat(parts)


@dataclass(frozen=True)
class Patches:
    """Where patches of one epoch lie."""

    planes: np.ndarray
    """rows of the slices of each, int64 (patches, depth), -1 beyond the ends of a scan"""
    places: np.ndarray
    """x, y, side in pixels of the slice, float (patches, 3)"""


def draw(found: Scans, of: np.ndarray, options: Options, random: np.random.Generator) -> Patches:
    """Patches of the scans `of`, in random order: AROUND_LESION of them hold a lesion's pixel, wherever a scan has one."""
    network, planes, places = options.network, [], []
    for scan in np.repeat(of, network.patches):
        own = found.rows[scan][found.rows[scan] >= 0]
        middle, centre = (
            random.integers(len(own)),
            random.uniform(network.patch / 2, network.image_size - network.patch / 2 + 1, 2),
        )
        if random.random() < AROUND_LESION:
            slices = random.permutation(np.flatnonzero(found.known[own]))
            drawn = next((place for place in slices if found.mask.pixels[own[place]].any()), None)
            if drawn is not None:
                pixels = np.argwhere(found.mask.pixels[own[drawn]] >= segmentation_data.THRESHOLD)
                middle = drawn
                centre = pixels[random.integers(len(pixels))][::-1] if len(pixels) else centre
        shift = random.uniform(-0.25, 0.25, 3)
        start = round(middle + shift[0] * network.depth - network.depth / 2)
        wanted = np.arange(start, start + network.depth)
        inside = (wanted >= 0) & (wanted < len(own))
        planes.append(np.where(inside, own[wanted.clip(0, len(own) - 1)], -1))
        corner = np.clip(centre + shift[1:] * network.patch - network.patch / 2, 0, network.image_size - network.patch)
        places.append([*corner.round(), network.patch])
    order = random.permutation(len(planes))
    return Patches(np.array(planes)[order], np.array(places, dtype=float)[order])


def batches(
    found: Scans, drawn: Patches, size: int, moved: tuple[Strength | None, str, torch.Generator]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Patches and masks, `size` a batch: float (b, 1, depth, side, side), grey in 0..1 and 0 or 1, NaN where it is not known."""
    device, (strength, axis, generator) = found.grey.device, moved
    planes, side = torch.as_tensor(drawn.planes), int(drawn.places[0, 2])
    placed = windows.placement(torch.as_tensor(drawn.places, dtype=torch.float32, device=device), found.grey.pixels.shape[-1])
    if strength is not None:
        placed = windows.compose(placed, augment.draw_moves(len(placed), strength, axis, generator))
    known = torch.tensor(found.known)[planes.clamp(min=0)] & (planes >= 0)
    stacks = [Stacks(store, planes.clamp(min=0)).batches(torch.arange(len(planes)), size) for store in (found.grey, found.mask)]
    for (position, grey), (_, mask) in zip(*stacks, strict=True):
        places = augment.places(placed[position.to(device)], side, side)
        inside = (planes[position] >= 0).to(device)[:, :, None, None]
        seen = windows.sample(grey * inside, places)
        if strength is not None:
            seen = augment.regrade(seen, strength, generator)
        truth = (windows.sample(mask, places) >= 0.5).float()
        truth = torch.where(known[position].to(device)[:, :, None, None], truth, torch.nan)
        yield seen[:, None], truth[:, None]


def train_fold(run: Run, options: Options, work: Workspace, data: MaskData, where: torch.device) -> list[Path]:
    """Train the network of the run's folder on the device and predict its fold; returns the files that were written."""
    network, training = options.network, options.training
    fold = data.fold(run.folder, options.selection, options.selection.validation)
    found = Scans.of(work, data, network.image_size, options.selection.prepare, where)
    learned = np.flatnonzero(_of_part(found, fold.part == "train") & _of_part(found, found.known))
    rows = {part: fold.rows(part)[data.known[fold.rows(part)]] for part in ("train", "val")}
    for part, of_part in rows.items():
        if not any(found.mask.pixels[row].any() for row in of_part):
            raise UserError(f"{run.folder.name}: no mask of {part} has a pixel; use more patients, or another --split")
    mean, std = images.grey_statistics(found.grey.pixels, rows["train"])
    spec = VolumeSpec(
        **data.learned(fold, options.selection), image_size=network.patch, source_size=network.image_size, mean=mean, std=std,
        model=network.model, encoder="3d", context=0, region="slice", mask_value=options.selection.mask_value,
        validation=options.selection.validation, depth=network.depth, channels=network.channels,
        deep_supervision=network.deep_supervision, overlap=network.overlap, made_by=run.record["step"],
    )  # fmt: skip
    torch.manual_seed(training.seed)
    model = networks.build(spec, options.initial).to(where)
    criterion = networks2d.criterion(network.loss)
    strength, axis = STRENGTHS[options.augmentation.augment], options.augmentation.axis(data.orientation)
    fitting = Fit(model, run, training, -(-len(learned) * network.patches // training.batch_size), monitor="val_dice")
    spec.save(run.folder)
    for epoch in fitting.epochs():
        drawn, losses = draw(found, learned, options, np.random.default_rng([training.seed, epoch])), []
        for seen, masks in batches(found, drawn, training.batch_size, (strength, axis, fitting.device_generator)):
            with fitting.autocast():
                output = fitting.model((seen - spec.mean) / spec.std)
            value = networks.loss(criterion, output, masks)
            fitting.step(value)
            losses.append(value.detach())
        dice = validate(fitting, found, spec, fold.part == "val", data.table["patient"].to_numpy())
        fitting.log(epoch, train_loss=float(torch.stack(losses).mean()), val_dice=dice)
    checkpoints.load_trained(model, run.folder)
    rest = fold.part != "train"
    seen = np.flatnonzero(rest)
    of_rows = predicted(model, found, spec, rest)
    whole = windows.whole_slices(seen, network.image_size)
    slices = SimpleNamespace(data=data, spec=spec, work=work)
    written = write_probabilities(fold, slices, whole, in_order(of_rows, seen))
    return [*(run.folder / name for name in checkpoints.MODEL), *written]


def _of_part(found: Scans, here: np.ndarray) -> np.ndarray:
    """The scans that have one of the slices that are `here` (n,): bool (scans,)."""
    return ((found.rows >= 0) & here[found.rows.clip(0)]).any(axis=1)


def in_order(squares: Iterator[tuple[int, np.ndarray]], rows: np.ndarray) -> Iterator[np.ndarray]:
    """The squares of `rows`, in their order: scans of one patient may lie in one another; no more than these wait in memory."""
    waiting: dict[int, np.ndarray] = {}
    for row in rows:
        while row not in waiting:
            waiting.update([next(squares)])
        yield waiting.pop(row)


def predicted(model: nn.Module, found: Scans, spec: VolumeSpec, here: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Row and probabilities, uint8 (side, side), of the slices of each scan that has one `here`, scan by scan."""
    model.eval()
    for scan in np.flatnonzero(_of_part(found, here)):
        own = found.rows[scan][found.rows[scan] >= 0]
        yield from zip(own.tolist(), networks.predict(model, spec, found.volume(own)).cpu().numpy(), strict=True)


def validate(fitting: Fit, found: Scans, spec: VolumeSpec, here: np.ndarray, patients: np.ndarray) -> float:
    """Mean Dice by patient at the best threshold, of the slices that are `here` and have a mask."""
    rows, counted = [], []
    for row, square in predicted(fitting.averaged, found, spec, here):
        if here[row] and found.known[row]:
            rows.append(row)
            counted.append(metrics.count(square, found.mask.pixels[row] >= segmentation_data.THRESHOLD))
    return metrics.best_threshold(Histograms.stacked(counted), patients[rows])[1]
