"""What kind of data set lies in a folder, and where its images, masks and annotations are.

phe-sich   PHE-SICH-CT-IDS: set/imageN, label/labelN, annotation/annotationN
yolo       images/ with labels/*.txt beside it
voc        images with VOC XML (LabelImg)
rsna       stage_2_train.csv of the RSNA 2019 hemorrhage challenge and its images
csv        a table of images and labels
folders    one folder a class, with or without train/val/test above
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.ingest.annotations import AnnotationError

NAMES = ("phe-sich", "voc", "folders", "csv", "rsna", "yolo")
WITH_XML = {"phe-sich", "voc"}
ORIGIN = "hemoct_origin.json"  # lies in a drawn or downloaded set and tells it from any other
SPLIT_FOLDERS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
IMAGE_FOLDERS = {"jpegimages", "images"}
ROLE_FOLDERS = IMAGE_FOLDERS | {"annotations", "annotation", "xml", "labels", "label", "masks"}
CSV_IMAGE_COLUMNS = ("image", "filename", "image_id")


def recorded_window(raw: Path) -> str | None:
    """The window in which data/raw/NAME was converted from HU; None where it was not, or nobody knows."""
    mark = raw / ORIGIN
    return files.read_json(mark).get("window") if mark.is_file() else None


@dataclass(frozen=True)
class Found:
    """What `recognise` saw: the layout (one of NAMES) and one line for people."""

    layout: str
    summary: str


def recognise(folder: Path) -> Found | None:
    """Tell the layout of a data set by the names of its files, or None when it looks like none of NAMES."""
    return _recognise(folder, list_files(folder))


def _recognise(folder: Path, listing: list[Path]) -> Found | None:
    for layout, test in TESTS:
        summary = test(folder, listing)
        if summary:
            return Found(layout, summary)
    return None


def choose(folder: Path, listing: list[Path], wanted: str) -> str:
    """The layout that a user named, or under `auto` the one recognised (and printed)."""
    if wanted != "auto":
        return wanted
    found = _recognise(folder, listing)
    if found is None:
        raise UserError(
            f"{folder} is no data set that is known here ({', '.join(NAMES)}); check the folder, or name its layout with --layout"
        )
    print(f"layout {found.layout}: {found.summary}")
    return found.layout


def list_files(folder: Path) -> list[Path]:
    """All files below `folder`, relative to it and sorted; links are followed once, hidden files left out.

    A folder that cannot be read or a link to nothing stops: images would be missing without a word.
    """
    found = sorted(files.walk(folder, _unreadable))
    broken = [path for path in found if not os.path.exists(folder / path)]
    if broken:
        raise UserError(f"{len(broken)} link(s) in {folder} lead nowhere (first: {broken[0]}); mend or remove them")
    return found


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}); check the folder and its permissions")


def only_images(listing: Iterable[Path]) -> list[Path]:
    return [path for path in listing if path.suffix.lower() in files.IMAGE_SUFFIXES]


def images_or_dicom(listing: list[Path]) -> list[Path]:
    """The images, one for each stem: a slice that was converted counts, its DICOM file beside it does not."""
    chosen: dict[str, Path] = {}
    for path in [*only_images(listing), *only_suffix(listing, ".dcm")]:
        chosen.setdefault(path.stem, path)
    return sorted(chosen.values())


def only_suffix(listing: Iterable[Path], suffix: str) -> list[Path]:
    return [path for path in listing if path.suffix.lower() == suffix]


@dataclass(frozen=True)
class PheSet:
    """One image set of PHE-SICH-CT-IDS (SubdatasetC_PNG or SubdatasetB_JPG): relative paths."""

    base: Path
    images: list[Path]
    masks: list[Path]
    annotations: list[Path]

    @property
    def kind(self) -> str:
        return "png" if self.images[0].suffix.lower() == ".png" else "jpg"


def phe_sets(listing: list[Path]) -> dict[str, PheSet]:
    """The image sets of a PHE-SICH-CT-IDS download by kind (`png`, `jpg`), at whatever depth they lie."""
    parts: dict[Path, dict[str, list[Path]]] = {}
    roles = {"set": "image", "label": "label", "annotation": "annotation"}
    for path in listing:
        if len(path.parts) < 3:
            continue
        role, folder = path.parts[-3:-1]
        if role in roles and folder.startswith(roles[role]):
            parts.setdefault(path.parents[2], {}).setdefault(role, []).append(path)
    sets = [
        PheSet(
            base, only_images(kept["set"]), only_images(kept.get("label", [])), only_suffix(kept.get("annotation", []), ".xml")
        )
        for base, kept in parts.items()
        if only_images(kept.get("set", []))
    ]
    return {one.kind: one for one in sets}


def choose_phe_set(raw: Path, listing: list[Path], wanted: str | None) -> PheSet:
    """The PNG or the JPG set; without a wish the PNG set, where there is one (JPEG blurs edges)."""
    sets = phe_sets(listing)
    kind = wanted or ("png" if "png" in sets else "jpg")
    if kind not in sets:
        there = f"only --image-set {', '.join(sets)}" if sets else "no set/imageN/*.png or *.jpg"
        raise UserError(f"{raw} has {there}; look into it, or choose another --layout")
    return sets[kind]


def phe_id(path: Path) -> str | None:
    """`0013_05` for `0013_05.png`, `013_05.xml` or `annotation13/5.xml`; None for a name without numbers."""
    found = re.fullmatch(r"(?:([0-9]{1,6})_)?([0-9]{1,4})", path.stem)
    if not found:
        return None
    patient = found[1] or "".join(re.findall(r"[0-9]+$", path.parent.name))
    return f"{int(patient):04d}_{int(found[2]):02d}" if patient else None


def image_ids(images: list[Path]) -> list[str]:
    """One identifier per image: the file's stem; relative paths with `/` as `__` where two stems are the same."""
    ids = [path.stem for path in images]
    if len(set(ids)) < len(ids):
        ids = ["__".join(path.with_suffix("").parts) for path in images]
    _refuse_twins(images, ids)
    return ids


def phe_ids(images: list[Path]) -> list[str]:
    ids = [phe_id(path) or "" for path in images]
    nameless = [path for path, name in zip(images, ids, strict=True) if not name]
    if nameless:
        raise UserError(f"{len(nameless)} image(s) are not named NNNN_MM (first: {nameless[0]}); rename them or take them out")
    _refuse_twins(images, ids)
    return ids


def _refuse_twins(images: list[Path], ids: list[str]) -> None:
    name, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        twins = [str(path) for path, other in zip(images, ids, strict=True) if other == name]
        raise UserError(f"{' and '.join(twins)} have the same identifier {name}; rename or remove one of them")


@dataclass
class Annotated:
    """Images by identifier, the XML files beside them, and which belongs to which. All paths relative."""

    images: dict[str, Path]
    files: list[Path]
    numbered: bool
    """names are patient and slice numbers (PHE-SICH): 013_05 is 0013_05"""
    _by_stem: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for image_id, path in self.images.items():
            self._by_stem.setdefault(path.stem, []).append(image_id)

    def image_of(self, xml: Path, filename: str) -> str:
        """The identifier of the image that an XML belongs to; raises AnnotationError when that cannot be told.

        The XML's own name decides before its <filename>, which tools leave behind when files are renamed.
        """
        if self.numbered:
            image_id = phe_id(xml)
            if image_id in self.images:
                return image_id
            raise AnnotationError("no image that matches")
        for stem in (xml.stem, Path(filename.replace("\\", "/")).stem):
            fitting = self._by_stem.get(stem, [])
            near = [name for name in fitting if _place(self.images[name]) == _place(xml)] if len(fitting) > 1 else fitting
            if len(near) == 1:
                return near[0]
            if fitting:
                raise AnnotationError(f"{len(fitting)} images match: {', '.join(str(self.images[name]) for name in fitting[:3])}")
        raise AnnotationError("no image that matches")


def _place(path: Path) -> tuple[str, ...]:
    """The folders of a file without those that only say what kind of file it is."""
    return tuple(part for part in path.parent.parts if part.lower() not in ROLE_FOLDERS)


def annotated(raw: Path, listing: list[Path], layout: str, image_set: str | None) -> Annotated:
    """The images and XML files of a `phe-sich` or `voc` data set in `raw`."""
    if layout == "phe-sich":
        chosen = choose_phe_set(raw, listing, image_set)
        return Annotated(dict(zip(phe_ids(chosen.images), chosen.images, strict=True)), chosen.annotations, numbered=True)
    images = voc_images(listing)
    return Annotated(dict(zip(image_ids(images), images, strict=True)), only_suffix(listing, ".xml"), numbered=False)


def voc_images(listing: list[Path]) -> list[Path]:
    """Images in JPEGImages/ or images/ where there is such a folder (others are masks then), else all."""
    images = only_images(listing)
    return [path for path in images if IMAGE_FOLDERS & {part.lower() for part in path.parts[:-1]}] or images


def class_folders(images: Iterable[Path]) -> dict[Path, tuple[str, str]]:
    """(class, given split or "") of each image in class folders; class "" for an image that lies in none.

    Folders that all images share (`chest_xray/chest_xray/train/...`) say nothing and are skipped.
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


def yolo_label_path(image: Path) -> Path | None:
    """Where YOLO keeps the boxes of an image: the last folder `images` becomes `labels`; None outside `images`."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" not in parts[:-1]:
        return None
    last = len(parts) - 2 - parts[:-1][::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _is_phe_sich(_: Path, listing: list[Path]) -> str:
    return "; ".join(
        f"PHE-SICH-CT-IDS, {kind.upper()} set: {len(one.images)} slices of {len({path.parent for path in one.images})} patients, "
        f"{len(one.masks)} masks, {len(one.annotations)} annotations"
        for kind, one in sorted(phe_sets(listing).items(), reverse=True)
    )


def _is_yolo(_: Path, listing: list[Path]) -> str:
    there = set(listing)
    images = [path for path in only_images(listing) if yolo_label_path(path)]
    labelled = sum(yolo_label_path(path) in there for path in images)
    return f"YOLO folder: {len(images)} images, {labelled} with a label file" if labelled else ""


def _is_voc(folder: Path, listing: list[Path]) -> str:
    images, found = only_images(listing), only_suffix(listing, ".xml")
    if not images or not any(_mentions_annotation(folder / path) for path in found):
        return ""
    return f"VOC folder: {len(images)} images, {len(found)} annotations"


def _mentions_annotation(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"<annotation" in stream.read(4096)


def rsna_tables(folder: Path, listing: list[Path]) -> list[Path]:
    """The tables of RSNA 2019 in a data set's folder: stage_2_train.csv, or that of stage 1."""
    named = [path for path in top_tables(listing) if re.fullmatch(r"stage_\d_train.*\.csv", path.name)]
    return [path for path in named if {"ID", "Label"} <= _header(folder / path)]


def _is_rsna(folder: Path, listing: list[Path]) -> str:
    found, images = rsna_tables(folder, listing), images_or_dicom(listing)
    return f"RSNA 2019 labels: {', '.join(map(str, found))}; {len(images)} images" if found and images else ""


def _is_csv(folder: Path, listing: list[Path]) -> str:
    named = [path for path in top_tables(listing) if set(CSV_IMAGE_COLUMNS) & _header(folder / path)]
    return _csv_summary(named, listing)


def _is_any_csv(_: Path, listing: list[Path]) -> str:
    return _csv_summary(top_tables(listing), listing)


def top_tables(listing: list[Path]) -> list[Path]:
    """The CSV files that lie directly in the data set's folder."""
    return [path for path in only_suffix(listing, ".csv") if len(path.parts) == 1]


def _csv_summary(tables: list[Path], listing: list[Path]) -> str:
    images = only_images(listing)
    return f"table of labels: {', '.join(map(str, tables))}; {len(images)} images" if tables and images else ""


def separator(path: Path) -> str:
    """What separates the columns of a table: whichever of `,` `;` (Excel in much of Europe) and tab gives its header the most."""
    return max(",;\t", key=lambda mark: len(_first_row(path, mark)))


def _header(path: Path) -> set[str]:
    return set(_first_row(path, separator(path)))


def _first_row(path: Path, mark: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return next(csv.reader(stream, delimiter=mark), [])


def _is_folders(_: Path, listing: list[Path]) -> str:
    found = class_folders(only_images(listing))
    classes = sorted(name for name in {name for name, _ in found.values()} if name and name.lower() not in ROLE_FOLDERS)
    if len(classes) < 2:
        return ""
    splits = sorted({split for _, split in found.values()} - {""})
    shown = ", ".join(classes[:6]) + (" ..." if len(classes) > 6 else "")
    return f"class folders: {len(found)} images, {len(classes)} classes ({shown})" + (f"; {', '.join(splits)}" if splits else "")


# The first that fits is taken: from the most particular to the most general.
TESTS: list[tuple[str, Callable[[Path, list[Path]], str]]] = [
    ("phe-sich", _is_phe_sich),
    ("rsna", _is_rsna),
    ("yolo", _is_yolo),
    ("voc", _is_voc),
    ("csv", _is_csv),
    ("folders", _is_folders),
    ("csv", _is_any_csv),
]
