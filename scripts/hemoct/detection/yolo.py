"""Ultralytics' detectors: built from their yaml or from weights, trained offline and quietly. The only module that imports it.

Nothing is sent, and nothing is downloaded but the weights of --weights coco. Ultralytics' own folder, foldK/ultralytics/, holds
what it needs to resume; the files that other steps read are made from it at the end.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from torch import nn

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.detection.data import check_export, export_folder
from hemoct.detection.networks import CT, LEAST_CONFIDENCE, MOST_BOXES, TORCHVISION, FoldTraining, not_fetched, unknown
from hemoct.detection.options import Options
from hemoct.detection.predictions import DetectorSpec
from hemoct.training import checkpoints, device as devices, fit
from hemoct.training.options import SCRATCH, Initial

CONFIG = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hemoct"


def _prepare() -> None:
    """Set what Ultralytics reads at its import: no network, no installation of packages, its own folder, a font in it."""
    place = CONFIG if os.access(CONFIG.parent, os.W_OK) else Path(tempfile.gettempdir()) / "hemoct"
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_CONFIG_DIR": str(place), "YOLO_VERBOSE": "False"}
    font = place / "Ultralytics" / "Arial.ttf"
    if not font.exists():  # else it downloads one
        with files.replacing(font) as temporary:
            shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", temporary)


_prepare()
_threads, _open = torch.get_num_threads(), Image.open
from ultralytics import YOLO  # noqa: E402
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer  # noqa: E402
from ultralytics.nn.tasks import DetectionModel, load_checkpoint  # noqa: E402
from ultralytics.utils import LOGGER, SETTINGS, nms, torch_utils  # noqa: E402
from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS, attempt_download_asset  # noqa: E402

torch.set_num_threads(_threads)  # its import lowers them
Image.open = _open  # and replaces this by its own, which asks for a package that reads HEIC where a file is broken
LOGGER.setLevel(logging.ERROR)
REPORTERS = ("sync", "clearml", "comet", "dvc", "mlflow", "neptune", "raytune", "tensorboard", "wandb", "vscode_msg")
if any(SETTINGS.get(name) for name in REPORTERS):
    SETTINGS.update({name: False for name in REPORTERS if name in SETTINGS})

LR = 1e-3  # of AdamW, for the default batch
WORKERS = 4  # Ultralytics uses none on a CPU, where decoded images lie in memory
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
STRIDE = 32
HEADS = ("Detect", "v10Detect")
SCHEDULES = {"onecycle": {"cos_lr": True}, "cosine": {"cos_lr": True}, "constant": {"lrf": 1.0}}
STILL = dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "mosaic"), 0.0)
MOVED = STILL | {"hsv_v": CT.contrast, "degrees": CT.degrees, "translate": CT.shift, "scale": CT.scale, "mirror": 0.5}
# Mosaic puts parts of four heads into one image: no such anatomy exists, but it shows small lesions at many places
# (close_mosaic ends it before the training ends). Ultralytics' own defaults are for photographs: they always mirror along x.
AUGMENTATIONS = {"none": STILL, "ct": MOVED, "ct-mosaic": MOVED | {"mosaic": 1.0}, "ultralytics": {}}
LOSSES = ("box_loss", "cls_loss", "dfl_loss")
COLUMNS = {
    "metrics/precision(B)": "precision", "metrics/recall(B)": "recall", "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95", "lr/pg0": "lr",
    **{f"{part}/{loss}": f"{part}_{loss}" for part in ("train", "val") for loss in LOSSES},
}  # fmt: skip


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

    A file is a state_dict of this project, or a YOLO checkpoint, which is a pickle: loading one runs the code in it.
    """
    model = _network(spec.model, len(spec.classes))
    model.names = dict(enumerate(spec.classes))
    if initial.weights != "none":
        _load(model, _fetched(spec.model) if initial.weights == "coco" else Path(initial.weights))
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


def _load(model: nn.Module, path: Path) -> None:
    """Load the weights that fit from a state_dict of this project or from a YOLO checkpoint."""
    try:
        state = checkpoints.read_state(path)
        if isinstance(state.get("model", state.get("ema")), nn.Module):
            raise UserError("a pickled model")
    except UserError:
        print(f"{path} is a pickle: loading it can run code; use only files that you trust")
        try:
            state = load_checkpoint(path)[0].float().state_dict()
        except Exception as error:  # a foreign pickle can raise anything
            raise UserError(f"--weights {path} is no YOLO checkpoint ({type(error).__name__})") from None
    checkpoints.load_fitting(model, state, path)


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


def train(fold: FoldTraining, work: Workspace, device: torch.device) -> None:
    """Train on the fold's slices in its export; writes best.pt and history.csv.

    Ultralytics keeps the epoch with the best fitness on validation, which is mAP50:95 for detectors.
    """
    folder, spec, training = fold.run.folder, fold.spec, fold.options.training
    export = export_folder(work, "yolo", spec, spec.fold or 0)
    flags = "--split given" if spec.split == "given" else "--protocol slice" if spec.protocol == "slice" else ""
    work.need(export / "data.yaml", f"task2_detection/01_make_yolo_dataset.py {flags}".rstrip())
    listed = {name: check_export(work, export, fold.data, rows, name) for name, rows in fold.rows.items()}
    place = folder / "ultralytics"
    started, last = place / "started.json", place / "weights" / "last.pt"
    resume = training.resume and started.exists() and last.exists()
    resume = resume and checkpoints.may_resume(started, checkpoints.mended(files.read_json(started), fold.run), fold.run)
    if not resume:
        for name in (place, *(folder / name for name in checkpoints.RESULTS)):
            shutil.rmtree(name, ignore_errors=True) if name.is_dir() else name.unlink(missing_ok=True)
        files.write_json(started, {"arguments": fold.run.arguments, "inputs": fold.run.record["inputs"]})
    epoch = load_checkpoint(last)[1]["epoch"] if resume else 0
    if (epoch != -1 and epoch + 1 < training.epochs) or not resume:  # Ultralytics sets -1 at the end of a training
        _fit(fold, _write_lists(place, spec, listed), device, last if resume else None)
    model = load_checkpoint(place / "weights" / "best.pt")[0]
    checkpoints.save(folder / "best.pt", checkpoints.portable(model.float().state_dict()))


def _fit(fold: FoldTraining, lists: Path, device: torch.device, last: Path | None) -> None:
    """Ultralytics' training, from the checkpoint `last` or from the beginning."""
    folder, spec = fold.run.folder, fold.spec
    _keep_threads()
    torch.manual_seed(fold.options.training.seed)
    overrides = _overrides(fold, lists, device) | {"project": str(folder), "name": lists.parent.name}
    trainer = DetectionTrainer(overrides=overrides | ({"resume": str(last)} if last else {"model": f"{spec.model}.yaml"}))
    if not last:
        trainer.model = build(spec, fold.options.initial)
    trainer.add_callback("on_fit_epoch_end", lambda _: _log(trainer, folder))
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
        changes |= {"flipud" if augmentation.axis(fold.data.layout) == "vertical" else "fliplr": chance}
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


def _write_lists(place: Path, spec: DetectorSpec, listed: dict[str, list[Path]]) -> Path:
    """data.yaml with a list of images for each part: a selection of the export, which itself stays as it is."""
    for name, paths in listed.items():
        files.write_text(place / f"{name}.txt", "".join(f"{path}\n" for path in paths))
    content = {name: f"{name}.txt" for name in listed} | {"names": dict(enumerate(spec.classes))}
    return files.write_text(place / "data.yaml", yaml.safe_dump(content, sort_keys=False))


def _history(place: Path) -> pd.DataFrame:
    """results.csv with the column names of all tasks. Of an epoch that a resumed training repeated the last row counts."""
    results = pd.read_csv(place / "results.csv", skipinitialspace=True).drop_duplicates("epoch", keep="last")
    history = results[["epoch", *(name for name in COLUMNS if name in results)]].rename(columns=COLUMNS)
    seconds = results["time"].diff().where(lambda step: step > 0).fillna(results["time"])  # its clock restarts when resumed
    return history.assign(seconds=seconds.round(2))


def _log(trainer: DetectionTrainer, folder: Path) -> None:
    """Once an epoch: history.csv and one line."""
    history = _history(trainer.save_dir)
    row = history.iloc[-1]
    epoch = int(row["epoch"])
    if trainer.epoch + 1 != epoch:  # the evaluation after the last epoch
        return
    tables.write_csv(folder / "history.csv", history)
    best, first = history["map50_95"].idxmax() == history.index[-1], trainer.epoch == trainer.start_epoch
    numbers = {name: row[name] for name in history if name not in ("epoch", "lr", "seconds", "precision", "recall")}
    with contextlib.redirect_stdout(sys.__stdout__):
        fit.print_epoch(epoch, trainer.epochs, numbers, row["seconds"], best, first)
