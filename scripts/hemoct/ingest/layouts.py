"""What kind of data set lies in a folder, and where its images, masks and annotations are.

phe-sich   PHE-SICH-CT-IDS: set/imageN, label/labelN, annotation/annotationN
yolo       images/ with labels/*.txt beside it, or *.txt beside each image
voc        images with VOC XML (LabelImg)
rsna       stage_2_train.csv of the RSNA 2019 hemorrhage challenge and its images
csv        a table of images and labels
masks      images/ and masks/ (or image and image_mask) of the same names, without a table
folders    one folder per class, with or without train/val/test above
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from hemoct.base import files
from hemoct.base.errors import UserError, few
from hemoct.ingest import beside, table_text
from hemoct.ingest.beside import IMAGE_FOLDERS, lies_in
from hemoct.ingest.options import IMAGE_COLUMNS, LAYOUTS, ORIGIN
from hemoct.ingest.phe_sich import phe_id, phe_sets

WITH_XML = {"phe-sich", "voc"}
SPLIT_FOLDERS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
ROLE_FOLDERS = IMAGE_FOLDERS | {"annotations", "annotation", "xml", "labels", "label", "masks"}
DOCUMENTS = {".csv", ".tsv", ".xlsx", ".xls", ".json", ".yaml", ".yml", ".xml", ".txt", ".names", ".md", ".pdf", ".html", ".docx"}
MOST_NUMBERED = 10  # more classes than this, told apart by a number alone, are probably patients


def recorded_window(raw: Path) -> str | None:
    """The window in which data/raw/NAME was converted from HU; None if it was not converted, or that is not known."""
    origin = raw / ORIGIN
    return files.read_json(origin).get("window") if origin.is_file() else None


def recorded_orientation(raw: Path) -> str | None:
    """Where the nose points in data/raw/NAME as its conversion recorded it; None if it was not converted, or does not say."""
    origin = raw / ORIGIN
    return files.read_json(origin).get("orientation") if origin.is_file() else None


@dataclass(frozen=True)
class Recognised:
    """The layout of a data set (one of LAYOUTS) and one line about it for people."""

    layout: str
    summary: str


def recognise(folder: Path, listing: list[Path] | None = None) -> Recognised | None:
    """Tell the layout of a data set by the names of its files; None when it looks like none of LAYOUTS.

    The first that fits is taken, from the most particular to the most general.
    """
    listing = list_files(folder) if listing is None else listing
    sets = phe_sets(listing)
    if sets:
        return Recognised("phe-sich", "; ".join(str(sets[kind]) for kind in sorted(sets, reverse=True)))
    images, tables = only_images(listing), top_tables(listing)
    rsna = rsna_tables(folder, listing)
    if rsna and (slices := images_or_dicom(listing)):
        return Recognised("rsna", f"RSNA 2019 labels: {few(rsna)}; {len(slices)} images")
    if not images:
        return None
    labels = {image: path for image, path in beside.yolo_labels(listing).items() if path}
    if labelled := [image for image, path in labels.items() if lies_in(path, {"labels"})]:
        inside = [image for image in images if lies_in(image, IMAGE_FOLDERS)]
        return Recognised("yolo", f"YOLO folder: {len(inside)} images, {len(labelled)} with a label file")
    xml = only_suffix(listing, ".xml")
    if any(_mentions_annotation(folder / path) for path in xml):
        return Recognised("voc", f"VOC folder: {len(images)} images, {len(xml)} annotations")
    named = [path for path in tables if _names_images(folder / path)]
    shown = sum(path.parts[0].lower() != "masks" for path in images)
    table = Recognised("csv", f"table of labels: {few(named or tables)}; {shown} images")
    classes = _class_names(images)
    if named or (tables and are_numbered(classes)):  # folders of patients: the table has their labels
        return table
    if labels and beside.are_yolo(folder, [*labels.values()]):
        return Recognised("yolo", f"YOLO folder: {len(images)} images, {len(labels)} with a label file beside them")
    masks = beside.masks_of(images)
    if masks and not {name.lower() for name in classes} - beside.BESIDE_MASKS:
        return Recognised("masks", f"images with masks of the same names: {len(images) - len(masks)} images, {len(masks)} masks")
    if len(classes) > 1:
        return Recognised("folders", _describe_folders(images, classes))
    return table if tables else None


def _mentions_annotation(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"<annotation" in stream.read(4096)


def _describe_folders(images: list[Path], classes: list[str]) -> str:
    what = "folders whose names differ by a number alone" if are_numbered(classes) else "classes"
    summary = f"class folders: {len(images)} images, {len(classes)} {what} ({few(classes, 6)})"
    splits = ", ".join(sorted({split for _, split in class_folders(images).values()} - {""}))
    return f"{summary}; {splits}" if splits else summary


def choose(folder: Path, listing: list[Path], wanted: str) -> str:
    """The layout that a user named, or under `auto` the one recognised (and printed). Folders of patients stop under `auto`."""
    if wanted != "auto":
        return wanted
    recognised = recognise(folder, listing)
    if recognised is None:
        raise UserError(
            f"{folder} has no layout that is known here ({', '.join(LAYOUTS)}); check the folder, or name its layout with "
            "--layout"
        )
    if recognised.layout == "folders" and are_numbered(classes := _class_names(only_images(listing))):
        raise UserError(
            f"{folder} has {len(classes)} folders whose names differ by a number alone ({few(classes, 3)}): patients? "
            "put a CSV table of images and labels into it, or use --layout folders if they are classes"
        )
    print(f"layout {recognised.layout}: {recognised.summary}")
    return recognised.layout


def list_files(folder: Path) -> list[Path]:
    """All files below `folder`, relative to it and sorted; links are followed once, hidden files left out.

    A folder that cannot be read or a broken link stops: otherwise images would be missing without a message.
    """
    listing = sorted(files.walk(folder), key=lambda path: path.parts)
    broken = [path for path in listing if not os.path.exists(f"{folder}/{path}")]
    if broken:
        raise UserError(f"{len(broken)} link(s) in {folder} lead nowhere (first: {broken[0]}); repair or remove them")
    return listing


def only_images(listing: Iterable[Path]) -> list[Path]:
    return [path for path in listing if path.suffix.lower() in files.IMAGE_SUFFIXES]


def images_or_dicom(listing: list[Path]) -> list[Path]:
    """One file for each stem: a converted image is preferred to the DICOM file beside it."""
    chosen: dict[str, Path] = {}
    for path in [*only_images(listing), *only_suffix(listing, ".dcm")]:
        chosen.setdefault(path.stem, path)
    return sorted(chosen.values())


def only_suffix(listing: Iterable[Path], suffix: str) -> list[Path]:
    return [path for path in listing if path.suffix.lower() == suffix]


def phe_ids(images: list[Path]) -> list[str]:
    """The `phe_id` of each image; an image without one stops, and so do two images with the same."""
    ids = [phe_id(path) or "" for path in images]
    unnamed = [path for path, image_id in zip(images, ids, strict=True) if not image_id]
    if unnamed:
        raise UserError(f"{len(unnamed)} image(s) are not named NNNN_MM (first: {unnamed[0]}); rename or remove them")
    _refuse_twins(images, ids)
    return ids


def image_ids(images: list[Path]) -> list[str]:
    """One identifier per image: the file's stem; where two stems are equal, relative paths with `__` for `/`."""
    ids = [path.stem for path in images]
    if len(set(ids)) < len(ids):
        ids = ["__".join(path.with_suffix("").parts) for path in images]
    _refuse_twins(images, ids)
    return ids


def _refuse_twins(images: list[Path], ids: list[str]) -> None:
    image_id, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        twins = [str(path) for path, other in zip(images, ids, strict=True) if other == image_id]
        raise UserError(f"{' and '.join(twins)} have the same identifier {image_id}; rename or remove one of them")


def voc_images(listing: list[Path]) -> list[Path]:
    """Images in JPEGImages/ or images/ if there is such a folder (others are masks then), else all images."""
    images = only_images(listing)
    return [path for path in images if lies_in(path, IMAGE_FOLDERS)] or images


def left_out(listing: Iterable[Path], used: Collection[str]) -> str:
    """The files that no table names, by suffix, for people; "" if there are none. Tables and documents do not count."""
    rest = [path for path in listing if path.as_posix() not in used and path.suffix.lower() not in DOCUMENTS]
    return f"{kinds(rest)} (first: {rest[0]})" if rest else ""


def kinds(paths: Iterable[Path]) -> str:
    """How many files there are of each suffix: `12 .jpg, 3 .heic`."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    return few([f"{count} {suffix}" for suffix, count in counts.most_common()], most=6)


def class_folders(images: Iterable[Path]) -> dict[Path, tuple[str, str]]:
    """(class, given split or "") of each image in class folders; class "" for an image that lies in none.

    Folders above all images (`chest_xray/chest_xray/train/...`) mean nothing and are left out.
    """
    parts = {path: path.parts[:-1] for path in images}
    while parts and all(len(each) > 1 for each in parts.values()):
        first = {each[0] for each in parts.values()}
        if len(first) > 1 or first.pop().lower() in SPLIT_FOLDERS:
            break
        parts = {path: each[1:] for path, each in parts.items()}
    classes = {}
    for path, each in parts.items():
        split = SPLIT_FOLDERS.get(each[0].lower(), "") if each else ""
        rest = each[1:] if split else each
        classes[path] = (rest[0] if rest else "", split)
    return classes


def _class_names(images: list[Path]) -> list[str]:
    """The class folders by name; folders of images, masks and annotations are none."""
    names = {name for name, _ in class_folders(images).values()}
    return sorted(name for name in names if name and name.lower() not in ROLE_FOLDERS)


def are_numbered(classes: Collection[str]) -> bool:
    """Whether these are many names that differ by a number alone, as those of patients do: image1, image2 ..."""
    patterns = Counter(re.sub(r"\d+", "0", name.lower()) for name in classes if re.search(r"\d", name))
    return len(classes) > MOST_NUMBERED and max(patterns.values(), default=0) > 0.9 * len(classes)


def split_folder(path: Path) -> str:
    """`train`, `val` or `test` of the innermost folder that says so; "" if none does."""
    given = [SPLIT_FOLDERS[part.lower()] for part in path.parts[:-1] if part.lower() in SPLIT_FOLDERS]
    return given[-1] if given else ""


def rsna_tables(folder: Path, listing: list[Path]) -> list[Path]:
    """The tables of RSNA 2019 in a data set's folder: ID and Label, IDs that end in a type; rather those of the usual name."""
    tables = [path for path in top_tables(listing) if {"ID", "Label"} <= {*table_text.header(folder / path)}]
    fitting = [path for path in tables if _has_types(folder / path) and "submission" not in path.name]
    return [path for path in fitting if re.fullmatch(r"stage_\d_train.*\.csv", path.name)] or fitting


def _has_types(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return bool(re.search(r'(?m)^"?ID_\w+_[a-z]+\b', stream.read(4096)))


def top_tables(listing: list[Path]) -> list[Path]:
    """The tables (CSV, TSV, Excel) that lie directly in the data set's folder."""
    return [path for path in listing if len(path.parts) == 1 and path.suffix.lower() in table_text.SUFFIXES]


def _names_images(path: Path) -> bool:
    """Whether a table has a column that is called as one of images."""
    return bool({name.strip().lower() for name in table_text.header(path)} & {*IMAGE_COLUMNS})


def named_table(raw: Path, table: str | Path) -> Path:
    """The table that --csv names or that was found in `raw`; stops if it is not there."""
    if not (raw / table).is_file():
        raise UserError(f"{raw / table} is missing; --csv names a file in {raw}")
    return raw / table
