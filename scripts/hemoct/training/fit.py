"""The training loop that all tasks share: optimizers, schedules, resuming, early stopping, checkpoints, history."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import lr_scheduler

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.runs import Run
from hemoct.training import augment, checkpoints, device as devices, networks, parallel
from hemoct.training.batches import Source
from hemoct.training.options import Strength, Training
from hemoct.training.parallel import Part, Shared
from hemoct.training.specs import Spec

OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}
Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""the loss of logits and targets"""
Augment = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""augmentation of a batch (b, channels, height, width) whose slices are these rows (b,)"""


class Fit:
    """One model in training, in one folder.

        fit = Fit(model, run, training, steps_per_epoch)
        for epoch in fit.epochs():
            fit.log(epoch, train_loss=..., val_loss=...)

    All randomness of an epoch follows from (seed, epoch) alone, so that a resumed training repeats it to the bit on a CPU.
    """

    def __init__(self, model: nn.Module, run: Run, options: Training, steps: int, monitor: str = "val_loss") -> None:
        """`model`: on its device (see device.place). `steps`: in an epoch. `monitor`: the number that chooses the best epoch; the
        lowest if it is a loss, else the highest."""
        parallel.stop_if_too_small(options.batch_size, options.accumulate)
        self.model, self.run, self.folder, self.options, self.monitor = model, run, run.folder, options, monitor
        self.network = parallel.wrapped(model)
        """what is called in training: the model, and in several processes what keeps them alike"""
        self.mode = "min" if monitor.endswith("loss") else "max"
        self.device = next(model.parameters()).device
        self.optimizer = optimizer(model, options)
        self.by_step, self.by_loss = _schedule(self.optimizer, options, options.epochs * steps, self.mode)
        self.average = ModelEmaV3(self.model, options.ema, use_warmup=True) if options.ema else None
        self.steps = 0
        self.dtype = devices.precision(self.device, options.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.history: list[dict[str, float]] = []
        self.generator = torch.Generator()
        self.device_generator = torch.Generator(self.device)
        if options.resume:
            self._resume()
        if not self.history and files.keeps:  # what an earlier training left would be taken for this one's
            for name in checkpoints.RESULTS:
                (self.folder / name).unlink(missing_ok=True)

    def epochs(self) -> Iterator[int]:
        """Count epochs from 1 (or from where --resume goes on) until the last or until patience ends."""
        for epoch in range(len(self.history) + 1, self.options.epochs + 1):
            if epoch - self.best_epoch > self.options.patience and self.history:
                print(f"  no better {self.monitor} for {self.options.patience} epochs: stopped")
                break
            seed = self.options.seed * 100_003 + epoch
            self.generator.manual_seed(seed)  # of the order: the same in all processes
            self.device_generator.manual_seed(seed + 50_021 * parallel.number())  # of the augmentation
            torch.manual_seed(seed + 50_021 * parallel.number())  # of dropout
            self._epoch_start = time.monotonic()
            networks.train_mode(self.model)
            yield epoch
        print(f"  best epoch {self.best_epoch}")

    def share(self, rows: int) -> Shared:
        """Part the rows of an epoch into batches, and these into what is computed at a time, here and by other processes."""
        size = self.options.batch_size
        return parallel.share(parallel.usable(rows, size), size, self.options.accumulate)

    def forward(self, images: torch.Tensor, part: Part) -> torch.Tensor:
        """Logits of what this process computes of a part of a batch."""
        if self.network is not self.model:
            self.network.require_backward_grad_sync = part.last
        with self.autocast():
            return self.network(images)

    def step(self, loss: torch.Tensor, part: Part = Part((0,))) -> None:  # noqa: B008 (frozen)
        """One optimiser step on the mean loss of a batch; where that comes in parts, after the last one."""
        if part.first:
            self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(part.weighted(loss)).backward()
        if not part.last:
            return
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        if self.average is not None:
            self.average.update(self.model, self.steps)
        if self.by_step is not None:
            self.by_step.step()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    @property
    def averaged(self) -> nn.Module:
        """The network that is validated and kept: the trained one, or with --ema the moving average of its weights."""
        return self.model if self.average is None else self.average.module

    @property
    def best_epoch(self) -> int:
        """Epoch with the best validation so far (without validation: the last one), counted from 1; 0 = none."""
        sign = {"min": 1, "max": -1}[self.mode]
        costs = [sign * row[self.monitor] if self.monitor in row else -row["epoch"] for row in self.history]
        return 1 + min(range(len(costs)), key=costs.__getitem__) if costs else 0

    def log(self, epoch: int, more: Mapping[str, float] = MappingProxyType({}), **numbers: float) -> None:
        """Close an epoch: one line, best.pt if it is the best, last.pt, history.csv. `more` goes to the history alone."""
        numbers, more = parallel.from_first((numbers, dict(more)))  # all go on, or stop, by the same ones
        for name, value in numbers.items():
            decides = name == self.monitor or not name.startswith("val_")  # other validation losses are only drawn
            if name.endswith("loss") and decides and not math.isfinite(value):
                raise UserError(f"{self.folder}: {name} is not finite in epoch {epoch}; lower --lr or add --precision fp32")
        seconds = time.monotonic() - self._epoch_start
        lr = self.optimizer.param_groups[0]["lr"]
        self.history.append({"epoch": epoch, "lr": lr, **numbers, **more, "seconds": round(seconds, 2)})
        if self.by_loss is not None and self.monitor in numbers:
            self.by_loss.step(numbers[self.monitor])
        if self.best_epoch == epoch:
            checkpoints.save(self.folder / "best.pt", checkpoints.portable(self.averaged.state_dict()))
        checkpoints.save(self.folder / "last.pt", self._state())
        self._write_history()
        print_epoch(epoch, self.options.epochs, numbers, seconds, self.best_epoch == epoch, first=epoch == 1)
        parallel.wait()  # for what the first process has written

    def _write_history(self) -> None:
        tables.write_csv(self.folder / "history.csv", pd.DataFrame(self.history))

    @property
    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in last.pt; None where the options ask for none."""
        average = None if self.average is None else self.average.module
        return {"model": self.model, "average": average, "optimizer": self.optimizer, "by_step": self.by_step,
                "by_loss": self.by_loss, "scaler": self.scaler}  # fmt: skip

    def _state(self) -> dict[str, Any]:
        states = {name: None if part is None else part.state_dict() for name, part in self._parts.items()}
        states |= {name: checkpoints.portable(states[name]) for name in ("model", "average") if states[name] is not None}
        run = {"arguments": self.run.arguments, "inputs": self.run.record["inputs"]}
        return {**run, "history": self.history, "steps": self.steps, **states}

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        left = checkpoints.left_in(path, self.folder / "best.pt")
        if left is None:
            return
        state = checkpoints.mended(left, self.run)
        if set(state) != set(self._state()):
            raise UserError(f"{path} is no checkpoint to resume from; train without --resume")
        if not checkpoints.may_resume(path, state, self.run):
            return
        if self.average is not None and state["average"] is None:
            raise UserError(f"{path} was trained without --ema; resume with --ema 0 or train without --resume")
        try:
            for name, part in self._parts.items():
                if part is not None and state[name]:  # the scaler's is empty where it was not in use, as on a CPU
                    part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:  # RuntimeError: tensors of other names or shapes
            raise UserError(f"{path} is of another network or optimizer ({one_line(error)}); train without --resume") from None
        self.steps, self.history = state["steps"], state["history"]
        self._write_history()  # it may lack the last epoch when the kill came between the two files
        print(f"  goes on after epoch {len(self.history)}")


@dataclass(frozen=True)
class Labelled:
    """Slices with their targets, and what is minimised on them."""

    spec: Spec
    source: Source
    targets: torch.Tensor
    """of all slices, float32 (n, classes), on the source's device"""
    criterion: Criterion
    augment: Augment


def one_epoch(fit: Fit, data: Labelled, order: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
    """One pass over the training slices in the `order` given.

    Returns the mean loss, the rows that were seen and their logits before each step, float32 (rows, classes).
    """
    shared = fit.share(len(order))
    order, total = order[: shared.rows], torch.zeros((), device=fit.device)  # reading each loss would make the GPU wait,
    targets = data.targets[order.to(fit.device)].split([part.rows for part in shared.parts])  # and targets by rows on the host
    seen, own = [], order[shared.own]
    for part, (position, batch), target in zip(shared.parts, data.source.batches(own, shared.sizes), targets, strict=True):
        images = data.augment(batch, own[position]).sub_(data.spec.mean).div_(data.spec.std)
        logits = part.whole(fit.forward(images, part).float())
        loss = data.criterion(logits, target)
        fit.step(loss, part)
        total += loss.detach() * part.rows
        seen.append(logits.detach())
    return float(total) / len(order), order, torch.cat(seen)


def augmentation(strength: Strength | None, axis: str, generator: torch.Generator) -> Augment:
    """The same augmentation for all slices. `axis`: along which the patient's left and right lie."""
    if strength is None:
        return lambda batch, _: batch
    return lambda batch, _: augment.augment(batch, strength, axis, generator)[0]


def epochs_of_folds(experiment: Path) -> int:
    """The mean best epoch of the trained folds, for --refit."""
    folders = experiments.folds(experiment, "history.csv")
    histories = [tables.read_csv(folder / "history.csv", ["epoch", "val_loss"]) for folder in folders]
    if not histories:
        raise UserError(f"--refit needs the folds of {experiment.name} first: train them without --refit")
    return round(np.mean([history["epoch"][history["val_loss"].idxmin()] for history in histories]))


def optimizer(model: nn.Module, options: Training) -> torch.optim.Optimizer:
    """That of --optimizer for what is trained of a network. On CUDA it is one kernel for many tensors."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = {"fused": True} if trained[0].device.type == "cuda" else {}
    return OPTIMIZERS[options.optimizer](trained, options.lr, weight_decay=options.weight_decay, **fused)


def _schedule(optimizer: torch.optim.Optimizer, options: Training, total: int, mode: str) -> tuple[Any, Any]:
    """Schedule stepped after each batch or None; schedule stepped by the criterion, best at its `min` or `max`, or None."""
    rise = max(1, round(options.warmup * total))
    if options.schedule == "onecycle":
        return lr_scheduler.OneCycleLR(
            optimizer, options.lr, total_steps=total + 1, pct_start=max(options.warmup, 1 / total)
        ), None
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=rise)
    if options.schedule == "plateau":  # once warm, LinearLR leaves the rate alone, so that both can act on it
        return warm, lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.3, patience=max(1, options.patience // 3))
    if options.schedule == "constant":
        return warm, None
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, total - rise))
    return lr_scheduler.SequentialLR(optimizer, [warm, fall], milestones=[rise]), None


def print_epoch(epoch: int, epochs: int, numbers: dict[str, float], seconds: float, best: bool, first: bool) -> None:
    """The one line of an epoch; after the `first` one it says how long the rest will take."""
    shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
    left = f"  about {_duration(seconds * (epochs - epoch))} to go" if first and epochs > epoch else ""
    print(f"  epoch {epoch}/{epochs}  {shown}  {seconds:.0f} s{'  *' if best else ''}{left}", flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
