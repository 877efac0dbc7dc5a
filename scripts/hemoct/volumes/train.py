"""Training of a head on the features of slices: one fold, its loss, its predictions."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.data.slices import Slices
from hemoct.training import checkpoints, inference, weights
from hemoct.training.fit import Fit
from hemoct.volumes.features import Maker
from hemoct.volumes.networks import HeadSpec, SeriesHead
from hemoct.volumes.options import Options


class Scans:
    """The slices of a data set as scans, on the device."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        """`features` (n, width), `targets` (n, classes), NaN where unknown; `rows` (scans, longest): see scans.scans."""
        self.features, self.device = features, device
        self.targets, self.rows = torch.as_tensor(targets, device=device), torch.as_tensor(rows)

    def batch(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features (b, slices, width), whether a place is a slice (b, slices), and its row (b, slices), of the scans `which`."""
        rows = self.rows[which]
        rows = rows[:, : (rows >= 0).sum(dim=1).max()]
        features = torch.from_numpy(self.features[rows.clamp(min=0).numpy()]).to(self.device)
        return features, (rows >= 0).to(self.device), rows.to(self.device)

    def holding(self, here: np.ndarray) -> torch.Tensor:
        """The scans with one of the slices that are `here` (n,), bool."""
        inside = self.rows >= 0
        return torch.nonzero((torch.as_tensor(here)[self.rows.clamp(min=0)] & inside).any(dim=1))[:, 0]


def train_fold(run: Run, options: Options, data: Slices, found: Scans, made_by: Maker, task: int) -> list[Path]:
    """Train the head of the run's folder and predict the slices of its fold; returns what was written.

    `data`: with `classes` and `targets` (n, classes); `found`: its slices as scans. All slices of a scan are seen, only those of
    the part are learned from or scored.
    """
    fold, training = data.fold(run.folder, options.selection), options.training
    spec = HeadSpec(
        **made_by.about, **data.learned(fold, options.selection), task=task, made_by=run.record["step"], classes=data.classes,
        exclusive=getattr(data, "exclusive", False), width=found.features.shape[1], **vars(options.head),
    )  # fmt: skip
    weights.stop_if_trained_elsewhere(options.initial, spec)
    known = ~torch.isnan(found.targets).all(dim=1).cpu().numpy()
    part = {name: known & (fold.part == name) for name in ("train", "val")}
    if not part["train"].any() or not part["val"].any():
        raise UserError(f"{run.folder.name}: too few slices to train or validate with; use more patients")
    torch.manual_seed(training.seed)
    head = SeriesHead(spec)
    head.fit_scale(torch.from_numpy(found.features[fold.rows("train")]))
    head.to(found.device)
    learned, learned_scans = torch.as_tensor(part["train"], device=found.device), found.holding(part["train"])
    fitting = Fit(head, run, training, -(-len(learned_scans) // training.batch_size))
    spec.save(run.folder)
    for epoch in fitting.epochs():
        losses = []
        order = learned_scans[torch.randperm(len(learned_scans), generator=fitting.generator)]
        for which in order.split(training.batch_size):
            features, inside, rows = found.batch(which)
            here = inside & learned[rows]
            value = loss(head(features, inside)[here], found.targets[rows[here]], spec.exclusive)
            fitting.step(value)
            losses.append(value.detach())
        logits = logits_of(fitting.averaged, found, found.holding(part["val"]))
        validated = loss(logits[part["val"]], found.targets[part["val"]], spec.exclusive)
        fitting.log(epoch, train_loss=float(torch.stack(losses).mean()), val_loss=float(validated))
    checkpoints.load_trained(head, run.folder)
    predicted = inference.probabilities(logits_of(head, found, torch.arange(len(found.rows))), spec.exclusive)
    about = data.about(fold, np.arange(len(data.table)))
    frame = tables.with_columns(about, spec.classes, data.targets, predicted)
    return [*(run.folder / name for name in checkpoints.MODEL), *tables.write_parts(run.folder, frame)]


@torch.inference_mode()
def logits_of(head: SeriesHead, found: Scans, which: torch.Tensor, batch_size: int = 32) -> torch.Tensor:
    """Logits of all slices, float32 (n, classes); NaN for those of other scans than `which`."""
    head.eval()
    logits = torch.full(found.targets.shape, torch.nan, device=found.device)
    for chunk in which.split(batch_size):
        features, inside, rows = found.batch(chunk)
        logits[rows[inside]] = head(features, inside)[inside]
    return logits


def loss(logits: torch.Tensor, targets: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Cross-entropy of exclusive classes, else binary cross-entropy over all cells whose target is known; (n, classes) each."""
    if exclusive:
        return F.cross_entropy(logits, targets)
    known = ~torch.isnan(targets)
    return F.binary_cross_entropy_with_logits(logits[known], targets[known])
