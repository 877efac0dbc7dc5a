"""The tables as a YOLO or COCO data set on disk, and a check of such an export. Images are linked, never copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.tables import PARTS
from hemoct.base.workspace import Workspace
from hemoct.data import boxes, images
from hemoct.detection.data import BoxData
from hemoct.ingest import annotations as ingest_annotations

SLACK = 1.0  # px by which a box may leave its image, as rounding does; it is cut at the edge


def folder(work: Workspace, file_format: str, protocol: str, fold: int) -> Path:
    """Where the export of a fold lies. `file_format`: yolo or coco; `protocol` may also be `given`."""
    return work.work / f"{file_format}_dataset" / protocol / f"fold{fold}"


def sizes(work: Workspace, data: BoxData) -> np.ndarray:
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


def write_yolo(target: Path, work: Workspace, data: BoxData, part: np.ndarray, size: np.ndarray) -> list[Path]:
    """Write images/PART, labels/PART and data.yaml, whole or not at all; returns data.yaml.

    A slice without a box has an empty label file. Numbers have eight decimals: back in pixels they are exact to 0.001.
    """
    with files.replacing_folder(target) as temporary:
        for row, place in _placed(temporary, target, work, data, part):
            relative = boxes.to_yolo(_cut(data.boxes[row], size[row]), *size[row])
            lines = [
                f"{number} " + " ".join(f"{value:.8f}" for value in line) + "\n"
                for number, line in zip(data.numbers[row], relative, strict=True)
            ]
            label = temporary / "labels" / part[row] / f"{place}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(lines), encoding="utf-8")
        content = {name: f"images/{name}" for name in PARTS} | {"names": dict(enumerate(data.classes))}
        (temporary / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return [target / "data.yaml"]


def write_coco(target: Path, work: Workspace, data: BoxData, part: np.ndarray, size: np.ndarray) -> list[Path]:
    """Write images/PART and annotations/instances_PART.json (categories from 1, `bbox` = x, y, width, height in pixels)."""
    content = {
        name: {"images": [], "annotations": [], "categories": [{"id": i, "name": c} for i, c in enumerate(data.classes, 1)]}
        for name in PARTS
    }
    with files.replacing_folder(target) as temporary:
        for row, _ in _placed(temporary, target, work, data, part):
            of_part, (width, height) = content[part[row]], size[row].tolist()
            suffix = Path(data.table["image"][row]).suffix
            name = data.table["image_id"][row]
            of_part["images"].append({"id": row + 1, "file_name": f"{name}{suffix}", "width": width, "height": height})
            for number, (xmin, ymin, xmax, ymax) in zip(
                data.numbers[row].tolist(), _cut(data.boxes[row], size[row]).tolist(), strict=True
            ):
                bbox = [xmin, ymin, xmax - xmin, ymax - ymin]
                of_part["annotations"].append(
                    {"id": len(of_part["annotations"]) + 1, "image_id": row + 1, "category_id": number + 1, "bbox": bbox,
                     "area": bbox[2] * bbox[3], "iscrowd": 0}
                )  # fmt: skip
        for name, of_part in content.items():
            files.write_json(temporary / "annotations" / f"instances_{name}.json", of_part)
    return [target / "annotations" / f"instances_{name}.json" for name in PARTS]


WRITERS = {"yolo": write_yolo, "coco": write_coco}


def _placed(temporary: Path, target: Path, work: Workspace, data: BoxData, part: np.ndarray) -> Iterator[tuple[int, str]]:
    """Link each image into images/PART and yield its row and name."""
    for name in PARTS:
        (temporary / "images" / name).mkdir(parents=True)
    for row, (image_id, image) in enumerate(tqdm(zip(data.table["image_id"], data.table["image"], strict=True), total=len(part),
                                                 desc="images", disable=None)):  # fmt: skip
        source = work.raw / image
        name = f"{image_id}{source.suffix}"
        link(source, temporary / "images" / part[row] / name, target / "images" / part[row] / name)
        yield row, image_id


def link(source: Path, place: Path, final: Path) -> None:
    """Make `place` a link to `source` that is right once it lies at `final`; a copy where the system has no links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(os.path.relpath(source, os.path.realpath(final.parent)))
    except OSError:
        shutil.copyfile(source, place)


def _cut(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.clip(corners, 0, [*size, *size])


def check(work: Workspace, export: Path, data: BoxData, rows: np.ndarray, part: str) -> list[Path]:
    """The images of the export for `rows`, which lie in `part`. Stops when one is missing, or its label file is wrong.

    Ultralytics only warns of a corrupt label file; here it is an error, with the command that corrects it.
    """
    paths, problems = [], []
    for row in rows:
        name = data.table["image_id"][row]
        image = export / "images" / part / f"{name}{Path(data.table['image'][row]).suffix}"
        label = export / "labels" / part / f"{name}.txt"
        if not image.is_file() or not label.is_file():
            problems.append(f"{work.show(image if not image.is_file() else label)} is missing")
        else:
            try:
                size = np.array(images.size_of(image))
                if not _agrees(ingest_annotations.read_yolo(label, data.classes, *size), data, row, size):
                    problems.append(f"{work.show(label)} has other boxes than boxes.csv")
            except UserError as error:
                problems.append(str(error))
        paths.append(image)
    if problems:
        raise UserError(
            f"{len(problems)} problem(s) in the export, the first: {problems[0]}; "
            f"make it again: python task2_detection/01_make_yolo_dataset.py --dataset {work.dataset}"
        )
    return paths


def _agrees(labels: list[ingest_annotations.Box], data: BoxData, row: int, size: np.ndarray) -> bool:
    """Whether the boxes of a label file are those of a slice: same classes, corners within half a pixel."""
    corners = np.array([[getattr(box, name) for name in ingest_annotations.CORNERS] for box in labels], dtype=float).reshape(
        -1, 4
    )
    same = [box.name for box in labels] == [data.classes[number] for number in data.numbers[row]]
    return same and bool((np.abs(corners - _cut(data.boxes[row], size)) <= 0.5).all())
