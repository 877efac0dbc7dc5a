"""Detectors that never were: their predicted boxes on a data set in a workspace, their training history, their description."""

import numpy as np
import pandas as pd
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, splits
from hemoct.detection.data import BoxData
from hemoct.detection.predictions import COLUMNS, CORNERS, DetectorSpec

YOLO, TORCHVISION = ("box", "cls", "dfl"), ("box", "cls")
"""the losses in the history.csv of each family"""


def predict(work: Workspace, experiment: str = "e", protocol: str = "patient", folds: tuple[int, ...] = (0, 1, 2, 3, 4),
            sensitivity: float = 0.8, alarms: float = 0.5) -> None:  # fmt: skip
    """Write foldK/{predictions,train_predictions}.csv and model.json.

    `protocol` may also be `given`; `sensitivity`: share of the lesions that get a box; `alarms`: false boxes a slice.
    """
    random = np.random.default_rng(1)
    dataset, table = tables.read_dataset(work), tables.read_splits(work)
    labels, boxes = tables.read_labels(work, dataset), tables.read_boxes(work)
    side = images.size_of(work.raw / labels["image"][0])[0]
    for fold in folds:
        part = splits.given_parts(labels, table) if protocol == "given" else splits.parts(table, fold, protocol)
        rows = labels[["image_id", "patient"]].assign(fold=fold, part=part.reindex(labels["image_id"]).to_numpy())
        training = rows["part"] == "train"
        frames = []
        for of_file, source in ((rows[~training], random), (rows[training], np.random.default_rng([1, fold]))):
            drawn = [_on_lesions(of_file, boxes, sensitivity, source), _false(of_file, dataset.classes, alarms, side, source)]
            frame = pd.concat(drawn)
            frame = pd.concat([frame, of_file[~of_file["image_id"].isin(frame["image_id"])].assign(**{"class": ""})])
            frames.append(frame.sort_values(["image_id", "confidence"], ascending=[True, False]))
        _write(work, experiment, fold, pd.concat(frames), protocol)


def predict_exactly(work: Workspace, folds: tuple[int, ...] = (0,)) -> None:
    """As `predict`, for `d`: each lesion has its true box at 0.9 and a box at 0.3, half of the healthy slices one at 0.2."""
    labels = tables.read_labels(work, tables.read_dataset(work))
    boxes = tables.read_boxes(work).set_index("image_id")
    for fold in folds:
        part = splits.parts(tables.read_splits(work), fold, "patient")
        rows = []
        for number, image in enumerate(labels.itertuples()):
            row = {"image_id": image.image_id, "patient": image.patient, "fold": fold, "part": part[image.image_id]}
            if image.image_id in boxes.index:
                rows.append(row | {"class": "disk", "confidence": 0.9, **boxes.loc[image.image_id, CORNERS]})
                rows.append(row | {"class": "disk", "confidence": 0.3, **dict(zip(CORNERS, (0, 0, 4, 4), strict=True))})
            elif number % 4 == 0:
                rows.append(row | {"class": "disk", "confidence": 0.2, **dict(zip(CORNERS, (5, 6, 15, 16), strict=True))})
            else:
                rows.append(row | {"class": ""})
        _write(work, "d", fold, pd.DataFrame(rows))
        described = work.task(2) / "d" / f"fold{fold}" / "model.json"
        files.write_json(described, files.read_json(described) | {"classes": ["disk"]})


def _write(work: Workspace, experiment: str, fold: int, frame: pd.DataFrame, protocol: str = "patient") -> None:
    folder, frame = work.task(2) / experiment / f"fold{fold}", frame[COLUMNS]
    tables.write_predictions(folder, frame[frame["part"] != "train"])
    tables.write_csv(folder / "train_predictions.csv", frame[frame["part"] == "train"])
    split = {"protocol": "patient", "split": "given"} if protocol == "given" else {"protocol": protocol, "split": "folds"}
    files.write_json(folder / "model.json", {
        "task": 2, "model": "simulated", "classes": tables.read_dataset(work).classes, "image_size": 64, "mean": 0.2, "std": 0.2,
        **split, "fold": fold, "splits_sha256": files.sha256(work.work / "splits.csv"),
    })  # fmt: skip


def _on_lesions(rows: pd.DataFrame, boxes: pd.DataFrame, sensitivity: float, random: np.random.Generator) -> pd.DataFrame:
    frame = rows.merge(boxes, on="image_id")
    frame = frame[random.random(len(frame)) < sensitivity]
    frame[CORNERS] = (frame[CORNERS] + random.normal(0, 1, (len(frame), 4))).round(1)
    return frame.assign(confidence=(0.2 + 0.8 * random.random(len(frame))).round(5))


def _false(rows: pd.DataFrame, classes: list[str], alarms: float, side: int, random: np.random.Generator) -> pd.DataFrame:
    frame = rows.iloc[np.repeat(np.arange(len(rows)), random.poisson(alarms, len(rows)))]
    low = random.uniform(0, 0.7 * side, (len(frame), 2)).round(1)
    corners = np.column_stack([low, low + random.uniform(0.1 * side, 0.3 * side, (len(frame), 2)).round(1)])
    about = {"class": random.choice(classes, len(frame)), **dict(zip(CORNERS, corners.T, strict=True))}
    return frame.assign(**about, confidence=(0.6 * random.random(len(frame)) ** 3 + 0.001).round(5))


def some_boxes(random: np.random.Generator, n: int, width: int, height: int) -> np.ndarray:
    """Boxes of whole pixels, at least 1 px wide and high, inside the image: float (n, 4)."""
    low = random.integers(0, [width, height], (n, 2))
    high = random.integers(low + 1, [width + 1, height + 1])
    return np.concatenate([low, high], axis=1).astype(float)


def box_data(table: pd.DataFrame) -> BoxData:
    """Slices of one class `a` that were never on disk; `table`: image_id, slice."""
    return BoxData(
        work=None,
        table=table,
        layout="csv",
        splits_sha256=None,
        window=None,
        _labels=table,
        _splits=None,
        classes=["a"],
        boxes=[],
        numbers=[],
    )


def history(epochs: int, losses=YOLO, **columns) -> pd.DataFrame:
    """A training whose mAP50:95 rises by 0.01 an epoch; `columns` replace what is drawn."""
    epoch = np.arange(1, epochs + 1)
    lost = {f"{part}_{loss}_loss": 2 / epoch for part in ("train", "val") for loss in losses}
    measured = {"map50": 0.02 * epoch, "map50_95": 0.01 * epoch, "seconds": 3.0}
    return pd.DataFrame({"epoch": epoch, "lr": 1e-3, **lost, **measured, **columns})


def spec(model: str, classes: tuple[str, ...] = ("a",), size: int = 64, fold: int = 0) -> DetectorSpec:
    return DetectorSpec(
        model=model, classes=list(classes), image_size=size, mean=0.2, std=0.3, protocol="patient", split="folds", fold=fold,
        splits_sha256="x",
    )  # fmt: skip


def tiny_detector(_: str, weights: None, weights_backbone: None, **options: object) -> nn.Module:
    """A Faster R-CNN of three layers that sees every eighth pixel: torchvision's code, only small."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    body = nn.Sequential(*layers)
    body.out_channels = 32
    pool, head = MultiScaleRoIAlign(["0"], 5, 2), TwoMLPHead(32 * 25, 1024)
    return FasterRCNN(
        body, rpn_anchor_generator=AnchorGenerator(((256,),), ((1.0,),)), box_roi_pool=pool, box_head=head, **options
    )
