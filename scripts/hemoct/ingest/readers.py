"""Labels, boxes and patients from each layout. READERS lists the readers; each returns reader_tables.Tables.

An image whose boxes are not known (no annotation, or one that could not be read) has unknown labels, never negative ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hemoct.base import files, pixels, tables
from hemoct.base.errors import UserError, few
from hemoct.base.workspace import Workspace
from hemoct.ingest import annotations as ingest_annotations, beside, csv_reader, layouts, phe_sich, rsna_reader, yolo_reader
from hemoct.ingest.annotations import AnnotationError
from hemoct.ingest.options import Options
from hemoct.ingest.reader_tables import Tables, boxes_frame, describe, image_rows, presence

MANY_PICTURES = (".tif", ".tiff", ".gif", ".webp", ".png")
"""files that may hold several"""


@dataclass(frozen=True)
class Reader:
    """How one layout is read, and which of the Options it can use."""

    make: Callable[[Workspace, list[Path], Options], Tables]
    takes: frozenset[str]

    def read(self, work: Workspace, listing: list[Path], options: Options) -> Tables:
        """The tables of the data set, with its image size and counts filled in."""
        made = self.make(work, listing, options)
        _stop_at_pages(work.raw, made.labels["image"])
        named = {*made.labels["image"], *made.labels["mask"], *made.labels["annotation"]}
        if rest := layouts.left_out(listing, named | {*([] if made.problems is None else made.problems["name"])}):
            print(f"not used: {rest}")
        if "given_split" in made.labels and not made.labels["given_split"].any():
            del made.labels["given_split"]
        if options.map:
            labels, dataset = tables.rename_labels(made.labels, made.dataset, options.map)
            made = replace(made, labels=labels, dataset=dataset, boxes=made.boxes.replace({"class": options.map}))
        describe(made.labels, made.boxes, made.dataset, work.raw)
        return made


def _stop_at_pages(raw: Path, images: pd.Series) -> None:
    """Stop at a file of several pictures: all but the first would be lost."""
    for name in images[images.str.lower().str.endswith(MANY_PICTURES)]:
        try:
            if pixels.plain_png(raw / name):
                continue
            count = pixels.pages(raw / name)
        except UserError:  # step 04 lists all that cannot be read
            continue
        if count > 1:
            raise UserError(
                f"{raw / name} holds {count} pictures, of which only the first would be read; write one file for each "
                f"(for example magick {Path(name).name} {Path(name).stem}_%03d.png), and a row for each if there is a table"
            )


def read_phe_sich(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """PHE-SICH-CT-IDS. `hemorrhage` = the merged annotation has a box (bleeding and edema); masks are edema alone.

    `--labels side` adds the side of the bleeding from MedInfo.xlsx: see phe_sich.side_labels.
    """
    chosen = phe_sich.choose_set(work.raw, listing, options.image_set)
    ids = layouts.phe_ids(chosen.images)
    frame, _ = image_rows(chosen.images, regex=None)
    frame["image_id"] = ids
    frame["patient"] = [name.split("_")[0] for name in ids]
    frame["slice"] = [int(name.split("_")[1]) for name in ids]
    masks = {phe_sich.phe_id(path): path.as_posix() for path in chosen.masks}
    frame["mask"] = [masks.get(name, "") for name in ids]
    boxes = _merged(work, frame, listing)
    frame["hemorrhage"] = presence(frame, boxes.assign(**{"class": "hemorrhage"}), ["hemorrhage"])
    patients = phe_sich.read_medinfo(work.raw, listing, sorted(set(frame["patient"])))
    labels = ["hemorrhage"]
    if options.labels:
        labels += _add_side(work, frame, patients, options.labels)
    origin = work.raw / layouts.ORIGIN
    drawn = origin.exists() and "drawn" in files.read_json(origin)
    licence = "drawn by code, no patient" if drawn else "CC BY 4.0"
    dataset = tables.Dataset(work.dataset, "phe-sich", labels, classes=_classes(boxes), licence=licence, patient_source="folder")
    return Tables(frame, boxes, dataset, patients)


def _add_side(work: Workspace, frame: pd.DataFrame, patients: pd.DataFrame | None, wanted: list[str]) -> list[str]:
    """Fill in the labels of the side and return their names; stops if MedInfo.xlsx has no side."""
    absent = [name for name in wanted if name not in ("hemorrhage", "side")]
    if absent:
        raise UserError(f"{work.raw} has no label {absent[0]}; PHE-SICH-CT-IDS has hemorrhage, and with --labels side its side")
    if "side" not in wanted:
        return []
    if patients is None or "side" not in patients:
        raise UserError(
            f"{work.raw} has no MedInfo.xlsx with a column side, so no side is known; add it, or leave out --labels side"
        )
    sides = phe_sich.side_labels(patients, frame["patient"], frame["hemorrhage"])
    frame[list(sides)] = sides
    return list(sides)


def read_voc(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Any folder of VOC XML: one label column per object name."""
    frame, source = image_rows(layouts.voc_images(listing), options.patient_regex)
    boxes = _merged(work, frame, listing)
    boxes["class"] = _in_one_case(boxes["class"])
    names = _classes(boxes)
    if not names:
        raise UserError(f"{work.raw}: no annotation has an object, so there is no label; draw boxes or choose another --layout")
    without = (frame["annotation"] == "") & ~frame["image_id"].isin(_dropped(work))
    negative = options.without_xml == "negative"
    frame[names] = presence(frame, boxes, names)
    if negative:
        frame.loc[without, names] = 0
    if without.any():
        what = "negative" if negative else "unknown; --without-xml negative counts them as images without an object"
        print(f"{without.sum()} of {len(frame)} images have no XML: {what}")
    return Tables(frame, boxes, tables.Dataset(work.dataset, "voc", names, classes=names, patient_source=source))


def _in_one_case(names: pd.Series) -> pd.Series:
    """Names that differ in upper and lower case or blanks alone are one class, called as most of them are."""
    form = names.str.lower().str.split().str.join(" ")
    usual = names.groupby(form).agg(lambda group: group.value_counts().index[0])
    if len(usual) < names.nunique():
        print(f"names of classes that differ in case or blanks alone are one: {few(sorted(names.unique()))} are {few([*usual])}")
    return form.map(usual)


def _dropped(work: Workspace) -> set[str]:
    """The names of XML that step 02 could not use: what their images show is not known."""
    repairs = tables.read_repairs(work)
    dropped = repairs["repair"].fillna("").str.startswith(ingest_annotations.DROPPED)
    return {Path(name).stem for name in repairs.loc[dropped, "file"]}


def _classes(boxes: pd.DataFrame) -> list[str]:
    return sorted(boxes["class"].unique())


def _merged(work: Workspace, frame: pd.DataFrame, listing: list[Path]) -> pd.DataFrame:
    """Boxes of each annotated image from the folder of step 02; fills in the column `annotation` (the source file).

    Stops where an XML was added, corrected or taken away since.
    """
    folder = work.need(work.work / "merged_annotation", "scripts/02_merge_annotations.py")
    record = work.work / "02_merge_annotations.run.json"
    then = files.read_json(record).get("annotations") if record.is_file() else None  # older versions did not note it
    if then not in (None, ingest_annotations.fingerprint(work.raw, listing)):
        raise UserError(
            f"the XML files in {work.raw} have changed since they were merged; run scripts/02_merge_annotations.py again"
        )
    merged = {}
    for image_id in frame["image_id"]:
        path = folder / f"{image_id}.xml"
        if path.exists():
            try:
                merged[image_id] = ingest_annotations.read_voc(path)
            except AnnotationError as error:
                raise UserError(f"{path}: {error}; run scripts/02_merge_annotations.py again") from None
    frame["annotation"] = [merged[name].source if name in merged else "" for name in frame["image_id"]]
    return boxes_frame({image_id: annotation.boxes for image_id, annotation in merged.items()})


def read_masks(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Images and masks of the same names: `lesion` = the mask has a pixel; unknown where there is no mask, or one of classes."""
    everything = layouts.only_images(listing)
    pairs = beside.masks_of(everything)
    images = [path for path in everything if path not in pairs and not beside.lies_in(path, beside.MASK_FOLDERS)]
    if not pairs:
        raise UserError(
            f"{work.raw} has no images with masks of the same names (images/a.png, masks/a.png); choose another --layout"
        )
    frame, source = image_rows(images, options.patient_regex)
    _add_masks(frame, images, pairs)
    frame["lesion"] = pd.array([_has_lesion(work.raw / name) if name else None for name in frame["mask"]], dtype="Int64")
    frame["given_split"] = [layouts.split_folder(path) for path in images]
    return Tables(frame, boxes_frame({}), tables.Dataset(work.dataset, "masks", ["lesion"], patient_source=source))


def _add_masks(frame: pd.DataFrame, images: list[Path], masks: dict[Path, Path]) -> None:
    """Fill in the column `mask`. Stops where an image has several."""
    by_image: dict[Path, Path] = {}
    for mask, image in masks.items():
        if by_image.setdefault(image, mask) != mask:
            raise UserError(f"{image} has two masks, {by_image[image]} and {mask}; join them, or remove one of them")
    frame["mask"] = [by_image[path].as_posix() if path in by_image else "" for path in images]


def _has_lesion(path: Path) -> bool | None:
    """Whether a mask has a pixel; None where that cannot be told, which step 04 lists."""
    try:
        mask = pixels.read_mask(path)
    except UserError:
        return None
    return None if mask.lesion is None else bool(mask.lesion.any())


def read_folders(work: Workspace, listing: list[Path], options: Options) -> Tables:
    """Class folders: exclusive one-hot labels; train/val/test above them become `given_split`. NAME_mask is a mask of NAME."""
    masks = {mask: image for mask, image in beside.masks_of(layouts.only_images(listing)).items() if mask.parent == image.parent}
    images = [path for path in layouts.only_images(listing) if path not in masks]
    folders = layouts.class_folders(images)
    outside = [path for path, (name, _) in folders.items() if not name]
    if outside or not images:
        what = f"{len(outside)} image(s) lie in no class folder (first: {outside[0]})" if outside else "no image"
        raise UserError(f"{work.raw}: {what}; expected CLASS/image.png or train/CLASS/image.png")
    called = _in_one_case(pd.Series([folders[path][0] for path in images]))
    classes = sorted({*called})
    _stop_at_copies(work.raw, folders, classes)
    frame, source = image_rows(images, options.patient_regex)
    _add_masks(frame, images, masks)
    labels = pd.DataFrame({name: called.eq(name).astype(int) for name in classes})
    frame = pd.concat([frame, labels], axis=1).assign(given_split=[folders[path][1] for path in images])
    dataset = tables.Dataset(work.dataset, "folders", classes, exclusive=True, patient_source=source)
    return Tables(frame, boxes_frame({}), dataset)


def _stop_at_copies(raw: Path, folders: dict[Path, tuple[str, str]], classes: list[str]) -> None:
    """Stop where a class folder holds folders of other classes: the set was copied into itself, or it is no class."""
    for path, (name, _) in folders.items():
        inside = path.parts[path.parts.index(name) + 1 : -1]
        if doubled := {*inside} & {*classes} - {name}:
            raise UserError(
                f"{raw}: the folder {name} holds {min(doubled)}, which is a class beside it (first: {path}): is the set "
                "copied into itself? take one of the two away and run this step again"
            )


PATIENT = frozenset({"patient_regex", "map"})
READERS = {
    "phe-sich": Reader(read_phe_sich, frozenset({"image_set", "labels", "map"})),
    "voc": Reader(read_voc, PATIENT | {"without_xml"}),
    "masks": Reader(read_masks, PATIENT),
    "folders": Reader(read_folders, PATIENT),
    "csv": Reader(csv_reader.read, PATIENT | {"patient_column", "csv", "image_column", "labels", "exclusive", "skip_missing"}),
    "rsna": Reader(rsna_reader.read, PATIENT | {"patient_column", "csv", "labels", "skip_missing"}),
    "yolo": Reader(yolo_reader.read, PATIENT | {"labels"}),
}
