"""What belongs to an image by its place and name: its YOLO label file, its mask."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from hemoct.base import files

IMAGE_FOLDERS = {"jpegimages", "images"}
MASK_FOLDERS = {"mask", "masks", "label", "labels", "seg", "segmentation", "segmentations", "segmentationclass", "gt",
                "groundtruth", "ground truth", "ground truths", "ground_truth", "annotation", "annotations"}  # fmt: skip
BESIDE_MASKS = IMAGE_FOLDERS | MASK_FOLDERS | {"image", "img", "imgs"}
MASK_NAME = re.compile(r"(.+)[_ -](mask|seg|segmentation|label|gt)", re.IGNORECASE)
CLASS_FILES = {"classes.txt", "_darknet.labels"}


def _images(listing: Iterable[Path]) -> list[Path]:
    return [path for path in listing if path.suffix.lower() in files.IMAGE_SUFFIXES]


def lies_in(path: Path, folders: Collection[str]) -> bool:
    """Whether one of the folders above a file has one of these names (in lower case)."""
    return any(part.lower() in folders for part in path.parts[:-1])


def yolo_labels(listing: list[Path]) -> dict[Path, Path | None]:
    """The label file of each image, where upper and lower case mean the same; None where there is none.

    It lies in the folder that is called labels where the image's last one `images` is, or else beside the image.
    """
    exact = {path.with_suffix("").as_posix(): path for path in yolo_texts(listing)}
    if not exact:
        return dict.fromkeys(_images(listing))
    alike = {name.lower(): path for name, path in reversed(exact.items())}
    found = {}
    for image in _images(listing):
        names = [name for name in (_in_labels(image), image.with_suffix("").as_posix()) if name]
        found[image] = next((path for name in names if (path := exact.get(name) or alike.get(name.lower()))), None)
    return found


def _in_labels(image: Path) -> str | None:
    """The name, without suffix, of an image's label file in the folder labels; None outside `images`."""
    parts = list(image.with_suffix("").parts)
    inside = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    return "/".join([*parts[: inside[-1]], "labels", *parts[inside[-1] + 1 :]]) if inside else None


def yolo_texts(listing: Iterable[Path]) -> list[Path]:
    """What may be YOLO label files: texts in a folder labels, and those beside an image of their name."""
    there = list(listing)
    images = {path.with_suffix("").as_posix().lower() for path in _images(there)}
    return [
        path
        for path in (path for path in there if path.suffix.lower() == ".txt")
        if not names_classes(path) and (lies_in(path, {"labels"}) or path.with_suffix("").as_posix().lower() in images)
    ]


def names_classes(path: Path) -> bool:
    """Whether a file lists class names, one a line: classes.txt of LabelImg, obj.names of darknet."""
    return path.name.lower() in CLASS_FILES or path.suffix.lower() == ".names"


def are_yolo(folder: Path, texts: list[Path]) -> bool:
    """Whether texts beside images hold lines of numbers as YOLO writes them; the first that is not empty says it."""
    for path in texts:
        with (folder / path).open("rb") as stream:
            first = stream.read(4096).strip(b"\xef\xbb\xbf \r\n\t")
        if first:
            return bool(re.match(rb"\d+(\.0*)?([ \t]+-?[\d.]+(e-?\d+)?){4}", first))
    return False


def masks_of(images: Iterable[Path]) -> dict[Path, Path]:
    """The image of each mask: it lies in a folder of masks and has the image's name, or lies beside it as NAME_mask."""
    named: dict[tuple[tuple[str, ...], str], list[Path]] = {}
    masks: list[Path] = []
    for path in images:
        if lies_in(path, MASK_FOLDERS) or MASK_NAME.fullmatch(path.stem):
            masks.append(path)
        else:
            named.setdefault(_pair(path), []).append(path)
    pairs = {}
    for path in masks:
        suffixed = MASK_NAME.fullmatch(path.stem)
        for stem in (path.stem, suffixed[1] if suffixed else ""):
            if len(alike := named.get(_pair(path.with_name(stem + path.suffix)) if stem else None, [])) == 1:
                pairs[path] = alike[0]
    return pairs


def _pair(path: Path) -> tuple[tuple[str, ...], str]:
    """What an image and its mask have in common: the folders that do not say which of the two it is, and the name."""
    return tuple(part for part in path.parts[:-1] if part.lower() not in BESIDE_MASKS), path.stem.lower()
