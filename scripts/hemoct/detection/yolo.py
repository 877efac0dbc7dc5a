"""Ultralytics' detectors: built from their yaml or from weights, trained offline and quietly.

Nothing is sent, and nothing is downloaded but the weights of --weights coco. Ultralytics' own folder, foldK/ultralytics/, holds
what it needs to resume. Its pickles are neither written nor loaded: checkpoints are ours, labels are read from their files.
"""

import contextlib
import copy
import io
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hemoct.base import files, tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.workspace import Workspace
from hemoct.data.fusion import LEAST_CONFIDENCE, MOST_BOXES
from hemoct.detection.data import check_export, count_on, export_folder, read_history, write_lists
from hemoct.detection.networks import CT, FoldTraining, not_fetched, unknown
from hemoct.detection.options import TORCHVISION, Options
from hemoct.detection.predictions import DetectorSpec
from hemoct.training import checkpoints, device as devices, fit
from hemoct.training.offline_ultralytics import (
    GITHUB_ASSETS_STEMS,
    YOLO,
    DetectionModel,
    DetectionPredictor,
    DetectionTrainer,
    attempt_download_asset,
    nms,
    torch_utils,
)
from hemoct.training.options import SCRATCH, Initial

LR = 1e-3  # of AdamW, for the default batch
WORKERS = 4  # Ultralytics uses none on a CPU, where decoded images lie in memory
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
STRIDE, HEADS = 32, ("Detect", "v10Detect")
SCHEDULES = {"onecycle": {"cos_lr": True}, "cosine": {"cos_lr": True}, "constant": {"lrf": 1.0}}
STILL = dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "mosaic"), 0.0)
MOVED = STILL | {"hsv_v": CT.contrast, "degrees": CT.degrees, "translate": CT.shift, "scale": CT.scale, "mirror": 0.5}
# Mosaic puts parts of four heads into one image: no such anatomy exists, but it shows small lesions at many places
# (close_mosaic ends it before the training ends). Ultralytics' own defaults are for photographs: they always mirror along x.
AUGMENTATIONS = {"none": STILL, "ct": MOVED, "ct-mosaic": MOVED | {"mosaic": 1.0}, "ultralytics": {}}
KEPT = {"epoch", "best_fitness", "stopper", "ema", "updates", "scaler", "optimizer"}
"""what last.pt holds of a training that has not ended"""
ENDED = -1  # its epoch once it has


def stop_if_unfit(options: Options) -> None:
    """Stop at a name or a flag that these detectors cannot serve."""
    model, image_size, schedule = options.network.model, options.network.image_size, options.training.schedule
    _network(model, classes=1)
    if image_size % STRIDE:
        raise UserError(f"--image-size {image_size} is no multiple of {STRIDE}, which {model} needs")
    if schedule not in SCHEDULES:
        raise UserError(f"--schedule {schedule} exists for torchvision's models only; {model} takes {', '.join(SCHEDULES)}")


def group_norm(initial: Initial) -> bool:
    """Whether a model from these weights has group normalisation: never, Ultralytics' train well with that of batches."""
    return False


def build(spec: DetectorSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A detector for the classes of `spec`. Weights: `none`, `coco` (downloaded from Ultralytics' releases), or a file.

    A file is a state_dict of this project, or a YOLO checkpoint: of its pickle only the tensors are read.
    """
    model = _network(spec.model, len(spec.classes))
    model.names = dict(enumerate(spec.classes))
    if initial.weights != "none":
        path = _fetched(spec.model) if initial.weights == "coco" else Path(initial.weights)
        checkpoints.load_fitting(model, checkpoints.read_state(path), path)
    return model


def _network(name: str, classes: int) -> nn.Module:
    """A detector from its yaml, which Ultralytics brings along, with random weights."""
    try:
        if not re.fullmatch(r"[a-z0-9-]+", name):  # else it would look for a file of that name, or download one
            raise FileNotFoundError
        model = DetectionModel(cfg=f"{name}.yaml", ch=3, nc=classes, verbose=False)
    except FileNotFoundError:
        known = sorted(stem for stem in GITHUB_ASSETS_STEMS if stem.startswith("yolo") and "-" not in stem)
        problem = f"neither a detector of Ultralytics (yolov8n, yolo11n ...) nor one of torchvision ({', '.join(TORCHVISION)})"
        raise unknown(name, problem, [*known, *TORCHVISION]) from None
    except (KeyError, TypeError, ValueError, RuntimeError):  # a yaml of another kind of network
        model = None
    if model is None or type(model.model[-1]).__name__ not in HEADS:
        raise UserError(f"--model {name} is no detector of boxes; choose one such as yolov8n or yolo11n")
    return model


def _fetched(model: str) -> Path:
    """The file with the COCO weights of a model, from the user's cache or the network."""
    place = Path(os.environ["YOLO_CONFIG_DIR"]) / "weights" / f"{model}.pt"
    os.environ["YOLO_OFFLINE"] = "0"  # the only thing that it may download
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        attempt_download_asset(place)
    except (OSError, RuntimeError) as error:
        raise not_fetched(model, error) from None
    finally:
        os.environ["YOLO_OFFLINE"] = "1"
    if not place.exists():
        raise UserError(f"--weights coco: there are none for {model}; train from scratch (--weights none)")
    return place


class EachClass(DetectionPredictor):
    """Boxes of each class, as in Ultralytics' own validation and in torchvision; else it would keep one class for each place."""

    def postprocess(self, preds: Any, img: torch.Tensor, orig_imgs: list[np.ndarray], **_: Any) -> list:
        boxes = nms.non_max_suppression(
            preds, self.args.conf, self.args.iou, multi_label=True, max_det=self.args.max_det,
            max_time_img=60.0,  # s; after that it drops the boxes of the remaining images
            end2end=getattr(self.model, "end2end", False),
        )  # fmt: skip
        return self.construct_results(boxes, img, orig_imgs)


def runner(model: nn.Module, spec: DetectorSpec) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """A function from grey slices (uint8, any size) to boxes in their own pixels: (k, 6) each, see detection.networks.detect."""
    _keep_threads()
    shell = YOLO(f"{spec.model}.yaml")
    shell.model = model
    options = {"imgsz": spec.image_size, "conf": LEAST_CONFIDENCE, "max_det": MOST_BOXES, "verbose": False}
    device = next(model.parameters()).device

    def run(batch: list[np.ndarray]) -> list[np.ndarray]:
        colour = [np.repeat(grey[:, :, None], 3, axis=2) for grey in batch]
        results = shell.predict(colour, predictor=EachClass, device=device, **options)
        return [result.boxes.data.double().cpu().numpy() for result in results]

    return run


class Trainer(DetectionTrainer):
    """Ultralytics' training, kept in last.pt, all that resuming needs, and in best.pt of the fold; plain, and written whole."""

    def __init__(self, fold: FoldTraining, overrides: dict[str, Any], state: Mapping[str, Any] | None) -> None:
        """`state` is that of last.pt, where it is gone on with."""
        self.fold, self.state = fold, state
        super().__init__(overrides=overrides | {"resume": state is not None})
        self.add_callback("on_train_start", count_on)
        self.add_callback("on_fit_epoch_end", lambda _: _log(self, fold.run.folder))

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """The flags are those that it was started with, see checkpoints.may_resume."""
        self.resume = bool(self.args.resume)

    def setup_model(self) -> Mapping[str, Any] | None:
        if self.state is None:
            self.model = build(self.fold.spec, self.fold.options.initial)
            return None
        average = _network(self.fold.spec.model, len(self.fold.spec.classes))
        try:
            average.load_state_dict(self.state["ema"])
        except RuntimeError as error:
            raise UserError(f"{self.last} is of another network ({one_line(error)}); train without --resume") from None
        self.model = copy.deepcopy(average)
        return {**self.state, "ema": average}

    def save_model(self) -> bool:
        """In half precision, as Ultralytics keeps them; numbers that are too large for it become its largest."""
        average = checkpoints.portable(self.ema.ema.state_dict())
        average = {name: value.half().nan_to_num() if value.is_floating_point() else value for name, value in average.items()}
        optimizer = torch_utils.convert_optimizer_state_dict_to_fp16(copy.deepcopy(self.optimizer.state_dict()))
        stopper = {"best_fitness": float(self.stopper.best_fitness), "best_epoch": self.stopper.best_epoch}
        state = {
            "epoch": self.epoch, "best": bool(self.best_fitness == self.fitness), "best_fitness": float(self.best_fitness),
            "stopper": stopper, "ema": average, "updates": self.ema.updates, "scaler": self.scaler.state_dict(),
            "optimizer": optimizer,
        }  # fmt: skip
        checkpoints.save(self.last, state)
        if state["best"]:
            _save_best(self.fold, average)
        return True

    def final_eval(self) -> None:
        """The training has ended. Ultralytics would validate once more, for nobody."""
        checkpoints.save(self.last, {"epoch": ENDED})

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if not all(map(math.isfinite, self.tloss.values())):
            raise UserError(
                f"{self.fold.run.folder}: the loss is not finite in epoch {epoch + 1}; lower --lr or add --precision fp32"
            )
        return False

    def _build_train_pipeline(self) -> None:
        if self.optimizer is not None:  # else it goes on with half the batch, without a word
            raise MemoryError(f"with --batch-size {self.fold.options.training.batch_size}")
        super()._build_train_pipeline()


def _save_best(fold: FoldTraining, state: dict[str, torch.Tensor]) -> None:
    fold.spec.save(fold.run.folder)
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    checkpoints.save(fold.run.folder / "best.pt", state)


def train(fold: FoldTraining, work: Workspace, device: torch.device) -> None:
    """Train on the fold's slices in its export; writes model.json, best.pt and history.csv.

    Ultralytics keeps the epoch with the best fitness on validation, which is mAP50:95 for detectors.
    """
    folder, spec = fold.run.folder, fold.spec
    export = export_folder(work, "yolo", spec, spec.fold or 0)
    flags = "--split given" if spec.split == "given" else "--protocol slice" if spec.protocol == "slice" else ""
    work.need(export / "data.yaml", f"task2_detection/01_make_yolo_dataset.py {flags}".rstrip())
    listed = {name: check_export(work, export, fold.data, rows, name) for name, rows in fold.rows.items()}
    place = folder / "ultralytics"
    files.sweep(place)
    state = _left(fold, place) if fold.options.training.resume else None
    if state is None:
        for name in (place, *(folder / name for name in checkpoints.RESULTS)):
            shutil.rmtree(name, ignore_errors=True) if name.is_dir() else name.unlink(missing_ok=True)
        files.write_json(place / "started.json", {"arguments": fold.run.arguments, "inputs": fold.run.record["inputs"]})
    if state is None or (state["epoch"] != ENDED and state["epoch"] + 1 < fold.options.training.epochs):
        _fit(fold, write_lists(place, spec.classes, listed), device, state)
    spec.save(folder)
    tables.write_csv(folder / "history.csv", read_history(place))  # a kill may have come before that of the last epoch


def _left(fold: FoldTraining, place: Path) -> dict[str, Any] | None:
    """What an earlier call left in the folder, for --resume, and its best.pt; None where training starts from the beginning."""
    folder, started, last, older = place.parent, *map(place.joinpath, ("started.json", "weights/last.pt", "weights/best.pt"))
    state = checkpoints.left_in(last if started.exists() else started)
    if state is None or not checkpoints.may_resume(started, checkpoints.mended(files.read_json(started), fold.run), fold.run):
        return None
    if KEPT - state.keys() and state.get("epoch") != ENDED:
        raise UserError(f"{last} is no checkpoint to resume from; train without --resume")
    stopper = state.get("stopper") or {}  # which versions until 0.1 left at the end
    if state["epoch"] != ENDED and state.get("best", stopper.get("best_epoch") == state["epoch"] + 1):
        _save_best(fold, state["ema"])  # a kill may have come between the two
    elif older.exists() and not (folder / "best.pt").exists():  # they wrote that of the fold at the end
        if checkpoints.left_in(older) is None:
            return None
        _save_best(fold, checkpoints.read_state(older))
    return state if checkpoints.left_in(folder / "best.pt") else None


def _fit(fold: FoldTraining, lists: Path, device: torch.device, state: dict[str, Any] | None) -> None:
    """Ultralytics' training, from what it left or from the beginning."""
    _keep_threads()
    torch.manual_seed(fold.options.training.seed)
    overrides = _overrides(fold, lists, device) | {"project": str(fold.run.folder), "name": lists.parent.name}
    trainer = Trainer(fold, overrides | {"model": f"{fold.spec.model}.yaml"}, state)
    with contextlib.redirect_stdout(io.StringIO()):  # its bars, which no setting silences
        trainer.train()


def _keep_threads() -> None:
    """Keep the number of threads that the user or torch chose: at each start on a CPU Ultralytics sets that of this constant."""
    torch_utils.NUM_THREADS = torch.get_num_threads()


def _overrides(fold: FoldTraining, data: Path, device: torch.device) -> dict[str, Any]:
    """The options of a training in Ultralytics' words. `nbs` is the batch it accumulates to: here that of one step."""
    training, augmentation = fold.options.training, fold.options.augmentation
    changes = dict(AUGMENTATIONS[augmentation.augment])
    chance = changes.pop("mirror", None)
    if chance is not None:
        changes |= {"flipud" if augmentation.axis(fold.data.orientation) == "vertical" else "fliplr": chance}
    mixed = devices.precision(device, training.precision) if device.type == "cuda" else None  # its loop has no other
    return {
        "data": str(data), "task": "detect", "mode": "train", "exist_ok": True, "epochs": training.epochs,
        "patience": training.patience, "batch": training.batch_size, "nbs": training.batch_size, "imgsz": fold.spec.image_size,
        "lr0": training.lr, "lrf": 0.01, "optimizer": OPTIMIZERS[training.optimizer], "weight_decay": training.weight_decay,
        "warmup_epochs": training.warmup * training.epochs, "warmup_bias_lr": 0.0, "close_mosaic": max(1, training.epochs // 8),
        "device": "0" if device.type == "cuda" else device.type, "amp": "bf16" if mixed is torch.bfloat16 else False,
        "seed": training.seed, "deterministic": True, "workers": WORKERS, "cache": "ram", "pretrained": False, "plots": False,
        "verbose": False, "max_det": MOST_BOXES, **SCHEDULES[training.schedule], **changes,
    }  # fmt: skip


def _log(trainer: DetectionTrainer, folder: Path) -> None:
    """Once an epoch: history.csv and one line."""
    history = read_history(trainer.save_dir)
    row = history.iloc[-1]
    if trainer.epoch + 1 != row["epoch"]:  # the evaluation after the last epoch
        return
    tables.write_csv(folder / "history.csv", history)
    best, first = history["map50_95"].idxmax() == history.index[-1], trainer.epoch == trainer.start_epoch
    numbers = {name: row[name] for name in history if name not in ("epoch", "lr", "seconds", "precision", "recall")}
    with contextlib.redirect_stdout(sys.__stdout__):
        fit.print_epoch(trainer.epoch + 1, trainer.epochs, numbers, row["seconds"], best, first)
