"""The training loop that all tasks share: optimisers, schedules, resume, early stopping, checkpoints, history."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import lr_scheduler

from hemoct.base import cli, experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.training import augment, checkpoints, inference, networks
from hemoct.training import device as training_device
from hemoct.training.batches import Source
from hemoct.training.specs import Spec

OPTIMIZERS = {
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay),
    "adam": lambda parameters, lr, decay: torch.optim.Adam(parameters, lr, weight_decay=decay),
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True, weight_decay=decay),
}
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""augmentation of a batch (b, channels, height, width) whose slices are these rows (b,)"""
RESULTS = ("best.pt", "last.pt", "history.csv", "predictions.csv", "train_predictions.csv", "metrics.json")
"""what a training makes, or what is made of it: gone when a new one starts in the same folder"""
SCHEDULES = ("onecycle", "cosine", "plateau", "constant")


def add_flags(
    parser: argparse.ArgumentParser, epochs: int, batch_size: int, lr: float | None, batch: Callable = cli.positive_int,
    ema: float | None = None,
) -> None:  # fmt: skip
    """The training flags, in one vocabulary for all tasks.

    `lr` None: each model has its own. `batch`: type of --batch-size. `ema` None: without that flag.
    """
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=cli.positive_int, default=epochs, help="passes over the training slices")
    group.add_argument("--batch-size", type=batch, default=batch_size, help="slices a step")
    group.add_argument("--lr", type=cli.positive_float, default=lr,
                       help="highest learning rate" + ("" if lr else "; default: that of the model"))  # fmt: skip
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="how weights are moved")
    group.add_argument("--weight-decay", type=cli.share, default=0.01, help="pull of the weights towards 0")
    group.add_argument("--schedule", choices=SCHEDULES, default="onecycle", help="how the learning rate goes")
    group.add_argument("--warmup", type=cli.share, default=0.1, help="share of the steps in which the learning rate rises")
    group.add_argument("--patience", type=cli.positive_int, default=10, help="epochs without a better validation before stopping")
    if ema is not None:
        group.add_argument("--ema", type=cli.share, default=ema, metavar="DECAY",
                           help="of the moving average of the weights, a step; the average is what is kept; 0: none")  # fmt: skip
    group.add_argument("--precision", choices=training_device.PRECISIONS, default="auto",
                       help="auto: mixed precision on CUDA; bf16: on a CPU that has it")  # fmt: skip
    group.add_argument("--resume", action="store_true", help="go on from the last whole epoch")


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument("--device", choices=training_device.CHOICES, default="auto", help="auto: CUDA, then MPS, then CPU")
    group.add_argument(
        "--threads", type=cli.positive_int, help="CPU threads; two folds side by side with half of them each are faster"
    )


class Fit:
    """One model in training, in one folder.

        fit = train.Fit(model, folder, args, run.record["inputs"], steps_per_epoch, device)
        for epoch in fit.epochs():
            fit.log(epoch, train_loss=..., val_loss=...)

    All randomness of an epoch follows from (seed, epoch) alone, so that a resumed training repeats it to the bit on a CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        args: argparse.Namespace,
        inputs: dict[str, Any],
        steps: int,
        device: torch.device,
        criterion: str = "val_loss",
    ) -> None:
        """`criterion`: the number that chooses the best epoch; the lowest if it is a loss, else the highest."""
        self.model = model.to(device, memory_format=training_device.memory_format(device, args.image_size))
        self.folder, self.args, self.inputs, self.device, self.criterion = folder, args, inputs, device, criterion
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = OPTIMIZERS[args.optimizer](trained, args.lr, args.weight_decay)
        self.by_step, self.by_loss = _schedule(self.optimizer, args, args.epochs * steps, self._lower_is_better)
        decay = getattr(args, "ema", 0)
        self.average = ModelEmaV3(self.model, decay, use_warmup=True) if decay else None
        self.steps = 0
        self.dtype = training_device.precision(device, args.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.history: list[dict[str, float]] = []
        self.generator = torch.Generator()
        self.device_generator = torch.Generator(device)
        self._settings = settings(args)
        if args.resume:
            self._resume()
        if not self.history:  # what an earlier training left would be taken for this one's
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)

    def epochs(self) -> Iterator[int]:
        """Count epochs from 1 (or from where --resume goes on) until the last or until patience ends."""
        for epoch in range(len(self.history) + 1, self.args.epochs + 1):
            if epoch - self.best_epoch > self.args.patience and self.history:
                print(f"  no better {self.criterion} for {self.args.patience} epochs: stopped")
                return
            for generator in (self.generator, self.device_generator):
                generator.manual_seed(self.args.seed * 100_003 + epoch)
            torch.manual_seed(self.args.seed * 100_003 + epoch)  # dropout
            self._epoch_start = time.monotonic()
            networks.train_mode(self.model)
            yield epoch

    def step(self, loss: torch.Tensor) -> None:
        """One optimiser step on a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
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
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the trained one, or the moving average of its weights (--ema)."""
        return self.model if self.average is None else self.average.module

    @property
    def _lower_is_better(self) -> bool:
        return self.criterion.endswith("loss")

    @property
    def best_epoch(self) -> int:
        """Epoch with the best validation so far (without validation: the last one), counted from 1; 0 = none."""
        sign = 1 if self._lower_is_better else -1
        costs = [sign * row[self.criterion] if self.criterion in row else -row["epoch"] for row in self.history]
        return 1 + min(range(len(costs)), key=costs.__getitem__) if costs else 0

    def log(self, epoch: int, more: Mapping[str, float] = MappingProxyType({}), **numbers: float) -> None:
        """Close an epoch: one line, best.pt if it is the best, last.pt, history.csv. `more` goes to the history alone."""
        for name, value in numbers.items():
            decides = name == self.criterion or not name.startswith("val_")  # other validation losses are only drawn
            if name.endswith("loss") and decides and not math.isfinite(value):
                raise UserError(f"{self.folder}: {name} is not finite in epoch {epoch}; lower --lr or add --precision fp32")
        seconds = time.monotonic() - self._epoch_start
        lr = self.optimizer.param_groups[0]["lr"]
        self.history.append({"epoch": epoch, "lr": lr, **numbers, **more, "seconds": round(seconds, 2)})
        if self.by_loss is not None and self.criterion in numbers:
            self.by_loss.step(numbers[self.criterion])
        if self.best_epoch == epoch:
            save(self.folder / "best.pt", portable(self.judged.state_dict()))
        save(self.folder / "last.pt", self._state())
        self._write_history()
        print_epoch(epoch, self.args.epochs, numbers, seconds, self.best_epoch == epoch, first=epoch == 1)

    def _write_history(self) -> None:
        tables.write_csv(self.folder / "history.csv", pd.DataFrame(self.history))

    def _state(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "inputs": self.inputs,
            "history": self.history,
            "model": portable(self.model.state_dict()),
            "average": portable(self.average.module.state_dict()) if self.average else None,
            "steps": self.steps,
            "optimizer": self.optimizer.state_dict(),
            "by_step": self.by_step.state_dict() if self.by_step else None,
            "by_loss": self.by_loss.state_dict() if self.by_loss else None,
            "scaler": self.scaler.state_dict(),
        }

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            print("  nothing to resume: starts from the beginning")
            return
        state = {"average": None, "steps": 0} | checkpoints.read_state(path)  # older ones do not hold them
        if set(state) != set(self._state()):
            raise UserError(f"{path} is no checkpoint to resume from; train without --resume")
        if not may_resume(path, state, self._settings, self.inputs):
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for schedule, saved in ((self.by_step, state["by_step"]), (self.by_loss, state["by_loss"])):
            if schedule is not None:
                schedule.load_state_dict(saved)
        if self.average is not None:
            if state["average"] is None:
                raise UserError(f"{path} was trained without --ema; resume with --ema 0 or train without --resume")
            self.average.module.load_state_dict(state["average"])
        self.steps = state["steps"]
        if state["scaler"]:  # empty where it was not in use, as on a CPU
            self.scaler.load_state_dict(state["scaler"])
        self.history = state["history"]
        self._write_history()  # it may lack the last epoch when the kill came between the two files
        print(f"  goes on after epoch {len(self.history)}")


def epochs_of_folds(experiment: Path) -> int:
    """The mean best epoch of the trained folds, for --refit."""
    folders = experiments.folds(experiment, "history.csv")
    histories = [tables.read_csv(folder / "history.csv", ["epoch", "val_loss"]) for folder in folders]
    if not histories:
        raise UserError(f"--refit needs the folds of {experiment.name} first: train them without --refit")
    return round(np.mean([history["epoch"][history["val_loss"].idxmin()] for history in histories]))


def one_epoch(
    fit: Fit, spec: Spec, source: Source, order: torch.Tensor, targets: torch.Tensor, loss_of: LossFunction, change: Change
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """One pass over the training slices in the `order` given; `targets` (all slices, classes) lies on the device.

    Returns the mean loss, the rows that were seen and their logits before each step, float32 (rows, classes).
    """
    order = order[: len(order) - (len(order) % fit.args.batch_size == 1)]  # batch normalisation cannot use a single slice
    total = torch.zeros((), device=source.device)  # summed on the device: reading each loss would make the GPU wait
    answers = []
    for position, batch in source.batches(order, fit.args.batch_size):
        with fit.autocast():
            found = fit.model((change(batch, order[position]) - spec.mean) / spec.std)
        loss = loss_of(found.float(), targets[order[position]])
        fit.step(loss)
        total += loss.detach() * len(batch)
        answers.append(found.detach().float())
    return float(total) / len(order), order, torch.cat(answers)


def augmentation(fit: Fit, strength: augment.Strength | None) -> Change:
    """The same augmentation for all slices."""
    if strength is None:
        return lambda batch, _: batch
    return lambda batch, _: augment.augment(batch, strength, fit.args.mirror, fit.device_generator)


def validate(
    fit: Fit, spec: networks.ClassifierSpec, store: Source, rows: np.ndarray, targets: torch.Tensor, loss_of: LossFunction
) -> dict[str, float]:
    """Mean loss and accuracy (argmax, or every label on its side of 0.5) of the slices `rows`."""
    found = inference.logits(fit.judged, spec, store, rows, 4 * fit.args.batch_size, fit.dtype)
    truth = targets[rows]
    if spec.exclusive:
        right = found.argmax(dim=1) == truth.argmax(dim=1)
    else:
        right = ((found > 0) == (truth > 0.5)).all(dim=1)
    return {"val_loss": float(loss_of(found, truth)), "val_accuracy": float(right.float().mean())}


_SETTINGS = {
    "seed", "epochs", "batch_size", "lr", "optimizer", "weight_decay", "schedule", "warmup", "patience", "image_size", "augment",
    "mirror", "precision", "backbone", "weights", "transfer", "balance", "protocol", "split", "label", "limit_patients", "refit",
    "model", "negatives", "margin", "least_side", "encoder", "context", "loss", "region", "boxes", "mask_value", "normalise",
    "ema", "heads", "channels", "attention", "pos_weight", "sampler", "oversample", "augment_label",
    "labels", "group", "validation",
}  # fmt: skip
_LATER = {"validation": 1}  # flags that came later, and what was done before


def _schedule(optimizer: torch.optim.Optimizer, args: argparse.Namespace, total: int, lower: bool) -> tuple[Any, Any]:
    """(schedule stepped after each batch or None, schedule stepped by the criterion, better when `lower` or higher, or None)."""
    rise = max(1, round(args.warmup * total))
    if args.schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=total + 1, pct_start=max(args.warmup, 1 / total)), None
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=rise)
    if args.schedule == "plateau":  # once warm, LinearLR leaves the rate alone, so that both can act on it
        mode = "min" if lower else "max"
        return warm, lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.3, patience=max(1, args.patience // 3))
    if args.schedule == "constant":
        return warm, None
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, total - rise))
    return lr_scheduler.SequentialLR(optimizer, [warm, fall], milestones=[rise]), None


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that change what is trained; a resumed training must repeat them."""
    return {name: value for name, value in vars(args).items() if name in _SETTINGS}


def may_resume(path: Path, state: dict[str, Any], now: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Whether a training saved at `path` (`state`: its settings and inputs) may go on; stops when its flags were others."""
    if any(inputs.get(name) != digest for name, digest in state["inputs"].items()):  # those that the step has got since are new
        print("  the tables have changed since: starts from the beginning")
        return False
    before = {name: value for name, value in _LATER.items() if name in now} | state["settings"]
    changed = [f"--{name.replace('_', '-')} {old}" for name, old in before.items() if now.get(name) != old]
    if changed:
        raise UserError(f"{path} was trained with {', '.join(changed)}; resume with the same flags or train without --resume")
    return True


def print_epoch(epoch: int, epochs: int, numbers: dict[str, float], seconds: float, best: bool, first: bool) -> None:
    """The one line of an epoch; after the `first` one it says how long the rest will take."""
    shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
    left = f"  about {_duration(seconds * (epochs - epoch))} to go" if first and epochs > epoch else ""
    print(f"  epoch {epoch}/{epochs}  {shown}  {seconds:.0f} s{'  *' if best else ''}{left}", flush=True)


def portable(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict on the CPU in plain memory layout, so that the file does not depend on the device that trained."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def save(path: Path, content: dict) -> None:
    """Write a checkpoint whole or not at all."""
    # Through a stream: given a path, torch reports a full disk as a RuntimeError without a name.
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
