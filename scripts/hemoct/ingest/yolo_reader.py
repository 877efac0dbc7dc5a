"""YOLO data sets: label files in labels/ or beside the image, class names from data.yaml or classes.txt.

No label file = unknown, an empty one = no object. Polygons (and oriented boxes) are read as the boxes around them.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hemoct.base import tables
from hemoct.base.errors import UserError, few
from hemoct.base.workspace import Workspace
from hemoct.ingest import annotations as ingest_annotations, beside, layouts
from hemoct.ingest.annotations import AnnotationError, Box
from hemoct.ingest.options import Options
from hemoct.ingest.reader_tables import Tables, boxes_frame, image_rows, presence, problems_frame

MOST_BYTES = 1 << 20  # of a YAML file that names classes
ROUNDING = 1e-4  # some tools write 1.000001 for the border of the image
NAMES_YAML = {"data", "dataset"}  # before others, args.yaml of a training for example
POLYGON = "lines that are polygons: their boxes were taken"
TWICE = "the same box twice: kept once"


class _Plain(yaml.BaseLoader):
    """All is read as text: `no` is a name there, not false. A node has one place: copies of copies would never end."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, *NAME; write out what it stands for")
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class LabelFile:
    """The content of one label file."""

    boxes: list[Box]
    """in pixels, not rounded, each once"""
    polygons: int = 0
    """lines with a polygon instead of a box"""
    twice: int = 0
    """lines that repeat another one"""


def read(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """One label per class, boxes in pixels; what was not plain in the label files is listed as a problem."""
    labels = beside.yolo_labels(listing)
    inside = [path for path in labels if beside.lies_in(path, beside.IMAGE_FOLDERS)]
    images = inside or [*labels]
    if not any(labels[path] for path in images):
        raise UserError(f"{work.raw} has no image with a label file, in labels/ or beside it; choose another --layout")
    frame, source = image_rows(images, options.patient_regex)
    names = dict(enumerate(options.labels)) if options.labels else class_names(work.raw, listing)
    classes = list(dict.fromkeys(names.values()))
    frame["annotation"] = [labels[path].as_posix() if labels[path] else "" for path in images]
    found = {row.image_id: _of_image(work.raw, row.image, row.annotation, names)
             for row in frame[frame["annotation"] != ""].itertuples()}  # fmt: skip
    boxes = boxes_frame({image_id: each.boxes for image_id, each in found.items()})
    frame[classes] = presence(frame, boxes, classes)
    frame["given_split"] = [layouts.split_folder(path) for path in images]
    files = frame.set_index("image_id")["annotation"]
    problems = problems_frame({
        "no image": sorted({path.as_posix() for path in beside.yolo_texts(listing)} - {*frame["annotation"]}),
        POLYGON: [files[image_id] for image_id, each in found.items() if each.polygons],
        TWICE: [files[image_id] for image_id, each in found.items() if each.twice],
    })  # fmt: skip
    dataset = tables.Dataset(work.dataset, "yolo", classes, classes=classes, patient_source=source)
    return Tables(frame, boxes, dataset, problems=problems)


def _of_image(raw: Path, image: str, label_file: str, names: dict[int, str]) -> LabelFile:
    """The label file of an image. An image whose size cannot be read stops: its boxes would be lost."""
    try:
        width, height, _ = ingest_annotations.image_header(raw / image)
    except AnnotationError as error:
        raise UserError(f"{raw / image}: {error}; replace or remove the file") from None
    return read_labels(raw / label_file, names, width, height)


def read_labels(path: Path, names: dict[int, str], width: int, height: int) -> LabelFile:
    """Read a YOLO label file: lines `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`, relative to the image.

    An empty file is an image without objects. Stops with file and line where a line cannot be used.
    """
    boxes, polygons = [], 0
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            index, *values = map(float, line.replace("_", "?").split())
        except ValueError:
            index, values = 0.5, []
        if not index.is_integer() or len(values) < 4 or len(values) % 2:
            raise UserError(f"{where} is {line.strip()[:60]!r} where 'class cx cy w h' is expected; correct the line")
        if index not in names:
            known = f"there are {len(names)} classes" if {*names} == {*range(len(names))} else f"the classes are {_ids(names)}"
            raise UserError(f"{where} has class {index:.0f}, but {known}; correct it or data.yaml's names")
        if not all(-ROUNDING <= value <= 1 + ROUNDING for value in values):
            raise UserError(f"{where} has a number outside 0..1; YOLO coordinates are relative to the image's size")
        if len(values) == 4:
            cx, cy, w, h = values
            corners = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
        else:
            polygons += 1
            corners = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        boxes.append(Box(names[int(index)], *(corner * side for corner, side in zip(corners, (width, height) * 2, strict=True))))
    once = list(dict.fromkeys(boxes))
    return LabelFile(once, polygons, len(boxes) - len(once))


def _text(path: Path) -> str:
    """The text of a small file, in UTF-8 or, where its first bytes say so, UTF-16."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; a YOLO label file has lines 'class cx cy w h'") from None


def class_names(raw: Path, listing: list[Path]) -> dict[int, str]:
    """Class names by their ids, from `names` in data.yaml or another YAML file, else from the lines of classes.txt.

    The first of data.yaml, any other YAML and classes.txt counts, the one highest up; two of the same rank that differ stop.
    """
    found: dict[Path, dict[int, str]] = {}
    for path in listing:
        if path.suffix.lower() in {".yaml", ".yml"}:
            names = _names_in_yaml(raw / path)
        elif beside.names_classes(path):
            names = dict(enumerate(line.strip() for line in _text(raw / path).splitlines() if line.strip()))
        else:
            continue
        if names:
            found[path] = names
    if not found:
        raise UserError(
            f"{raw} has no data.yaml with class names (names: [A, B] or 0: A), and no classes.txt; add one or use --labels A,B"
        )
    first = min(map(_rank, found))
    chosen, *others = [path for path in found if _rank(path) == first]
    for path in others:
        if found[path] != found[chosen]:
            raise UserError(f"{raw / chosen} and {path} name other classes; remove one of them, or use --labels A,B")
    differing = [str(path) for path, names in found.items() if names != found[chosen]]
    names = found[chosen]
    if differing or {*names} != {*range(len(names))}:
        print(f"classes from {chosen}: {_ids(names)}" + (f"; others in {few(differing)}" if differing else ""))
    return names


def _rank(path: Path) -> tuple[bool, bool, int]:
    return path.suffix.lower() not in {".yaml", ".yml"}, path.stem.lower() not in NAMES_YAML, len(path.parts)


def _ids(names: dict[int, str]) -> str:
    return few([f"{index} {name}" for index, name in names.items()], most=8)


def _names_in_yaml(path: Path) -> dict[int, str]:
    """`names` of a YAML file by id; nothing where it has none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise yaml.YAMLError("it is far too long for names of classes")
        content = yaml.load(_text(path), Loader=_Plain)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML ({reason}); correct it or name the classes with --labels") from None
    names = content.get("names") if isinstance(content, dict) else None
    pairs = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    if not all(re.fullmatch(r"\d{1,9}", str(index)) for index in pairs):
        return {}
    return {int(index): name for index, name in pairs.items() if isinstance(name, str)}
