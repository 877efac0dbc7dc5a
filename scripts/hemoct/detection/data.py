"""The slices of a data set with their boxes: read for training, and written as a YOLO or COCO data set. Imports no torch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.links import Exported, Links, exported
from hemoct.base.tables import PARTS
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes, images, slices as data_slices
from hemoct.training.options import Selection
from hemoct.training.specs import Spec

HISTORY = {
    "metrics/precision(B)": "precision", "metrics/recall(B)": "recall", "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95", "lr/pg0": "lr",
    **{f"{part}/{loss}": f"{part}_{loss}" for part in ("train", "val") for loss in ("box_loss", "cls_loss", "dfl_loss")},
}  # fmt: skip
"""columns of Ultralytics' results.csv by their names in history.csv"""
SLACK = 1.0  # px by which a box may leave its image, as rounding does; it is cut at the edge


@dataclass(frozen=True, kw_only=True)
class BoxData(data_slices.Slices):
    """Slices with known labels; row i of `table`, `boxes` and `numbers` is the same slice."""

    classes: list[str]
    boxes: list[np.ndarray]
    """float64 (k, 4) a slice, pixels of the image; k = 0 where there is no lesion"""
    numbers: list[np.ndarray]
    """class numbers, int (k,) a slice"""
    unknown: tuple[str, ...] = ()
    """the patient of each slice that is left out because its label is unknown"""

    @property
    def positive(self) -> np.ndarray:
        """Whether a slice has a box: bool (n,)."""
        return np.array([len(of_slice) > 0 for of_slice in self.boxes])


def load(work: Workspace, limit_patients: int | None = None, split: bool = True) -> BoxData:
    """Read labels.csv, boxes.csv and splits.csv. Stops when there is no box, or when boxes are wrong."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    boxes = tables.read_boxes(work)
    _stop_if_unusable(work, dataset, labels, boxes)
    known = labels[dataset.labels].notna().all(axis=1).to_numpy()
    slices, _ = data_slices.choose(work, labels, known, limit_patients, split)
    corners, numbers = data_boxes.by_image(boxes, slices.table["image_id"], dataset.classes)
    unknown = tuple(labels["patient"][~known])
    return BoxData(**vars(slices), classes=dataset.classes, boxes=corners, numbers=numbers, unknown=unknown)


def choose_negatives(positive: np.ndarray, ratio: float | None, seed: int) -> np.ndarray:
    """Which training slices are learned from: bool (n,). All positives, and `ratio` times as many negatives (None: all)."""
    chosen = np.ones(len(positive), dtype=bool)
    if ratio is not None:
        negatives = np.flatnonzero(~positive)
        count = min(len(negatives), round(ratio * positive.sum()))
        left_out = np.random.default_rng(seed).permutation(negatives)[count:]
        chosen[left_out] = False
    return chosen


def _stop_if_unusable(work: Workspace, dataset: tables.Dataset, labels: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Stop with everything that is wrong with boxes.csv."""
    path = work.show(work.work / "boxes.csv")
    if boxes.empty:
        raise UserError(f"{path} has no box: {dataset.name} cannot be used for detection; use data with VOC XML or YOLO labels")
    corners = boxes[tables.BOX_COLUMNS[2:]].apply(pd.to_numeric, errors="coerce")
    wrong = {
        "belong to no image of labels.csv": ~boxes["image_id"].isin(labels["image_id"]),
        f"have a class that is not in dataset.json ({', '.join(dataset.classes)})": ~boxes["class"].isin(dataset.classes),
        "have a corner that is no number": corners.isna().any(axis=1),
        "are empty or reversed": (corners["xmax"] <= corners["xmin"]) | (corners["ymax"] <= corners["ymin"]),
    }
    names = boxes["image_id"]
    problems = [f"{rows.sum()} box(es) {what} (first: {names[rows].iloc[0]})" for what, rows in wrong.items() if rows.any()]
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}; correct the annotations and run scripts/03_make_labels.py again")


# ---- the same for other programs


def export_folder(work: Workspace, file_format: str, setting: Selection | Spec, fold: int) -> Path:
    """Where the export of a fold lies. `file_format`: yolo or coco."""
    protocol = "given" if setting.split == "given" else setting.protocol
    return work.work / f"{file_format}_dataset" / protocol / f"fold{fold}"


def image_sizes(work: Workspace, data: BoxData) -> np.ndarray:
    """Width and height of each image, int (n, 2). Stops when a box leaves its image, naming how many and the first."""
    size = images.sizes(work, data.table)
    outside = [
        row for row, corners in enumerate(data.boxes) if (corners < -SLACK).any() or (corners[:, 2:] > size[row] + SLACK).any()
    ]
    if outside:
        row = outside[0]
        box = ", ".join(f"{value:g}" for value in data.boxes[row][0])
        first = f"{data.table['image_id'][row]}, {size[row][0]} x {size[row][1]} px, box {box}"
        raise UserError(
            f"{work.show(work.work / 'boxes.csv')}: {len(outside)} image(s) with a box outside (first: {first}); "
            "correct the annotation and run scripts/03_make_labels.py again"
        )
    return size


@dataclass(frozen=True)
class Exports:
    """What all folds of an export have in common; item i is slice i of a BoxData."""

    size: np.ndarray
    """width and height, int (n, 2)"""
    images: list[Exported]


def look(work: Workspace, data: BoxData) -> Exports:
    """Look at the header of each image. Stops when a box leaves its image, see `image_sizes`."""
    named = zip(data.table["image"], data.table["image_id"], strict=True)
    return Exports(image_sizes(work, data), [exported(work.raw / image, image_id) for image, image_id in named])


def write_yolo(target: Path, work: Workspace, data: BoxData, part: np.ndarray, found: Exports) -> list[Path]:
    """Write images/PART, labels/PART and data.yaml, whole or not at all; returns data.yaml.

    A slice without a box has an empty label file. Numbers have eight decimals: back in pixels they are exact to 0.001.
    """
    with files.replacing_folder(target) as temporary:
        labels = _links(temporary, target, work, "labels")
        for row, name in _placed(temporary, target, work, data, part, found):
            labels[part[row]].write(_label(data, row, found.size[row]), f"{os.path.splitext(name)[0]}.txt")
        content = {name: f"images/{name}" for name in PARTS} | {"names": dict(enumerate(data.classes))}
        (temporary / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return [target / "data.yaml"]


def write_coco(target: Path, work: Workspace, data: BoxData, part: np.ndarray, found: Exports) -> list[Path]:
    """Write images/PART and annotations/instances_PART.json (categories from 1, `bbox` = x, y, width, height in pixels)."""
    content = {
        name: {"images": [], "annotations": [], "categories": [{"id": i, "name": c} for i, c in enumerate(data.classes, 1)]}
        for name in PARTS
    }
    with files.replacing_folder(target) as temporary:
        for row, name in _placed(temporary, target, work, data, part, found):
            of_part, (width, height) = content[part[row]], found.size[row].tolist()
            of_part["images"].append({"id": row + 1, "file_name": name, "width": width, "height": height})
            boxes = _cut(data.boxes[row], found.size[row])
            sides = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
            for number, bbox in zip(data.numbers[row].tolist(), sides, strict=True):
                of_part["annotations"].append(
                    {"id": len(of_part["annotations"]) + 1, "image_id": row + 1, "category_id": number + 1, "bbox": bbox,
                     "area": bbox[2] * bbox[3], "iscrowd": 0}
                )  # fmt: skip
        for name, of_part in content.items():
            files.write_json(temporary / "annotations" / f"instances_{name}.json", of_part)
    return [target / "annotations" / f"instances_{name}.json" for name in PARTS]


def _placed(
    temporary: Path, target: Path, work: Workspace, data: BoxData, part: np.ndarray, found: Exports
) -> Iterator[tuple[int, str]]:
    """Link each image into images/PART and yield its row and the name of the link."""
    links = _links(temporary, target, work, "images")
    for row, image in enumerate(tqdm(data.table["image"].tolist(), desc="images", disable=None)):
        links[part[row]].image(image, found.images[row])
        yield row, found.images[row].name


def _links(temporary: Path, target: Path, work: Workspace, kind: str) -> dict[str, Links]:
    """Those of each part in the folder `kind` of a fold; what fold 0 has already is not made twice."""
    twins = [target.with_name("fold0") / kind / name for name in PARTS]
    return {name: Links(work.raw, temporary / kind / name, target / kind / name, twins) for name in PARTS}


def _cut(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.clip(corners, 0, [*size, *size])


def _label(data: BoxData, row: int, size: np.ndarray) -> bytes:
    """The YOLO label file of a slice: class number, centre, width and height of each box as fractions of the image."""
    if not len(data.boxes[row]):
        return b""
    relative = data_boxes.to_yolo(_cut(data.boxes[row], size), *size)
    lines = zip(data.numbers[row].tolist(), relative.tolist(), strict=True)
    return "".join(f"{number} {x:.8f} {y:.8f} {width:.8f} {height:.8f}\n" for number, (x, y, width, height) in lines).encode()


def check_export(work: Workspace, export: Path, data: BoxData, rows: np.ndarray, part: str) -> list[Path]:
    """The images of the export for `rows`, which lie in `part`. Stops when one is missing, or its label file is not as written.

    Ultralytics only warns of a corrupt label file; here it is an error, with the command that corrects it.
    """
    paths, problems = [], []
    for row in rows:
        name = data.table["image_id"][row]
        image = export / "images" / part / exported(work.raw / data.table["image"][row], name).name
        label = export / "labels" / part / f"{name}.txt"
        paths.append(image)
        missing = [path for path in (image, label) if not path.is_file()]
        problems += [f"{work.show(path)} is missing" for path in missing]
        if not missing and label.read_bytes() != _label(data, row, np.array(images.size_of(image))):
            problems.append(f"{work.show(label)} has other boxes than boxes.csv")
    if problems:
        raise UserError(
            f"{len(problems)} problem(s) in the export, the first: {problems[0]}; "
            f"make it again: python task2_detection/01_make_yolo_dataset.py --dataset {work.dataset}"
        )
    return paths


def write_lists(place: Path, classes: list[str], listed: dict[str, list[Path]]) -> Path:
    """data.yaml with a list of images for each part: a selection of the export, which itself stays as it is."""
    for name, paths in listed.items():
        files.write_text(place / f"{name}.txt", "".join(f"{path}\n" for path in paths))
    content = {name: f"{name}.txt" for name in listed} | {"names": dict(enumerate(classes))}
    return files.write_text(place / "data.yaml", yaml.safe_dump(content, sort_keys=False))


def read_history(place: Path) -> pd.DataFrame:
    """Ultralytics' results.csv with the column names of all tasks; of an epoch that was repeated the last row counts."""
    results = pd.read_csv(place / "results.csv", skipinitialspace=True).drop_duplicates("epoch", keep="last")
    history = results[["epoch", *(name for name in HISTORY if name in results)]].rename(columns=HISTORY)
    seconds = results["time"].diff().where(lambda step: step > 0).fillna(results["time"])  # until 0.1 it started anew
    return history.assign(seconds=seconds.round(2))


def count_on(trainer: Any) -> None:
    """Callback `on_train_start`: Ultralytics' clock would start anew where a training goes on, here it counts on.

    Else the first epoch after that were as long as it took longer than all before it, which may be no time at all.
    """
    path = trainer.save_dir / "results.csv"
    if trainer.start_epoch and path.exists():
        results = pd.read_csv(path, skipinitialspace=True)
        trainer.train_time_start -= results.loc[results["epoch"] <= trainer.start_epoch, "time"].iloc[-1:].sum()
