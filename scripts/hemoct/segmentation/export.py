"""Our tables as folders of images and masks, or as a raw data set of nnU-Net v2. What fits is linked, the rest written as PNG."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from hemoct.base import files, label_meaning, pixels, tables
from hemoct.base.errors import UserError
from hemoct.base.links import Exported, Links, exported
from hemoct.base.tables import PARTS
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation.data import MaskData
from hemoct.training.options import Selection

ENDING = ".png"  # nnU-Net knows one for images and labels, and it must be lossless
CHANNEL = "rgb_to_0_1"
"""Channel names choose nnU-Net's normalisation. This one divides by 255, so that equal grey stays equal density; `CT` would
clip at the grey values of edema, and lose the bleeding."""


@dataclass(frozen=True)
class Masks:
    """What the masks to export are like; row i is slice i of a MaskData."""

    size: np.ndarray
    """width and height of the images, int (n, 2)"""
    images: list[Exported]
    """what each image is called in the folders of images and masks"""
    positive: np.ndarray
    """whether there is a mask with a pixel, bool (n,)"""
    ready: np.ndarray
    """whether the mask is a grey PNG of 0 and 255 already, bool (n,)"""


def folder(work: Workspace, protocol: str, fold: int) -> Path:
    """Where the images and masks of a fold lie. `protocol` may also be `given`."""
    return work.work / "seg_dataset" / protocol / f"fold{fold}"


def nnunet_folder(work: Workspace, protocol: str, number: int) -> Path:
    """`nnunet_raw/DatasetNNN_NAME`, or `DatasetNNN_NAME-PROTOCOL`: nnU-Net keeps its models by this name.

    Stops when another data set has the number, which nnU-Net refuses.
    """
    name = work.dataset if protocol == "patient" else f"{work.dataset}-{protocol}"
    target = work.work / "nnunet_raw" / f"Dataset{number:03d}_{name}"
    others = [path.name for path in target.parent.glob(f"Dataset{number:03d}*") if path != target]
    if others:
        raise UserError(
            f"{work.show(target.parent / others[0])} has the number {number} already; choose another --dataset-id, or delete it"
        )
    return target


def look(work: Workspace, data: MaskData) -> Masks:
    """Decode every mask once; files of the same bytes, as empty masks are, one for all.

    Stops at a mask that is missing, broken or of another size, and when none has a pixel.
    """
    size = images.sizes(work, data.table)
    named = zip(data.table["image"], data.table["image_id"], strict=True)
    shown = [exported(work.raw / image, image_id) for image, image_id in named]
    rows = np.flatnonzero(data.known)
    alike = pd.DataFrame({"content": data.contents, "width": size[rows, 0], "height": size[rows, 1]})
    first, which = (rows[~alike.duplicated()], alike.groupby(list(alike), sort=False).ngroup().to_numpy())
    positive, ready = np.zeros((2, len(size)), dtype=bool)

    def seen(row: int) -> tuple[bool, bool]:
        path = work.raw / data.table["mask"][row]
        mask = segmentation_data.read_mask(path, tuple(size[row].tolist()), data.mask_value)
        return mask.any(), _is_ready(path, mask)

    facts = list(images.decode(first.tolist(), "masks", seen))
    positive[rows], ready[rows] = np.array(facts)[which].T
    if not positive.any():
        value = "" if data.mask_value is None else f" of the value {data.mask_value} (--mask-value)"
        raise UserError(f"none of the {len(rows)} masks of {work.dataset} has a pixel{value}; check the masks under {work.raw}")
    return Masks(size, shown, positive, ready)


def _is_ready(path: Path, mask: np.ndarray) -> bool:
    """Whether a file is a grey PNG already that holds 255 in this `mask` and else 0."""
    with Image.open(path) as image:
        grey_png = image.format == "PNG" and image.mode == "L" and not pixels.is_turned(path)
        return grey_png and np.array_equal(np.asarray(image), mask * np.uint8(255))


def part_of(work: Workspace, data: MaskData, fold: int, selection: Selection) -> np.ndarray:
    """`train`, `val` or `test` of each slice. Stops when training or validation has no mask."""
    part = data.part_of(fold, selection.protocol, selection.split)
    for name in ("train", "val"):
        if not (data.known & (part == name)).any():
            raise UserError(
                f"{work.show(work.work / 'splits.csv')}: no slice of {name} in fold {fold} has a mask; "
                "take more patients, or another split"
            )
    return part


def counts(data: MaskData, masks: Masks, part: np.ndarray) -> str:
    """`train 10 (4 with a mask pixel), val ...`: slices with a mask file by part."""
    of_part = {name: data.known & (part == name) for name in PARTS}
    return ", ".join(f"{name} {rows.sum()} ({masks.positive[rows].sum()} with a mask pixel)" for name, rows in of_part.items())


# ---- folders of images and masks


def write_png(target: Path, work: Workspace, data: MaskData, parts: dict[int, np.ndarray], masks: Masks) -> list[Path]:
    """Write images/PART and masks/PART (PNG of 0 and 255) of one fold, whole or not at all; returns both folders.

    `parts`: the part of each slice, by fold. Slices without a mask are left out.
    """
    (part,), names = parts.values(), data.table["image_id"].tolist()
    with files.replacing_folder(target) as temporary:
        kinds, first = ("images", "masks"), target.with_name("fold0")
        twins = {kind: [first / kind / name for name in PARTS] for kind in kinds}
        links = {(kind, name): Links(work.raw, temporary / kind / name, target / kind / name, twins[kind])
                 for kind in kinds for name in PARTS}  # fmt: skip
        sources = data.table["image"].tolist()
        for row in tqdm(np.flatnonzero(data.known).tolist(), desc="images", disable=None):
            links["images", part[row]].image(sources[row], masks.images[row])
        sources = data.table["mask"].tolist()
        for row in np.flatnonzero(masks.ready).tolist():
            links["masks", part[row]].link(sources[row], f"{names[row]}.png")
        for row, mask in _decoded(work, data, masks, data.known & ~masks.ready):
            Image.fromarray(mask * np.uint8(255)).save(temporary / "masks" / part[row] / f"{names[row]}.png")
    return [target / "images", target / "masks"]


def _decoded(work: Workspace, data: MaskData, masks: Masks, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Row and mask, bool (height, width), of the slices that are `wanted` (bool)."""
    rows = np.flatnonzero(wanted)
    return zip(rows, segmentation_data.truth(work, data, rows, masks.size), strict=True)


# ---- raw data set of nnU-Net v2


def write_nnunet(target: Path, work: Workspace, data: MaskData, parts: dict[int, np.ndarray], masks: Masks) -> list[Path]:
    """Write a raw data set of nnU-Net v2, one 2D case a slice, whole or not at all; returns its two JSON files.

    imagesTr, labelsTr: all slices with a mask, 0 background, 1 lesion. splits_final.json: one split for each fold of `parts`, in
    that order, with its training and validation slices; its test slices are in neither list. imagesTs/foldK: validation and
    test slices of fold K, also those without a mask, and a predictions.csv that says which is which.
    """
    cases = data.table["image_id"]
    with files.replacing_folder(target) as temporary:
        (temporary / "labelsTr").mkdir()
        folders = {"imagesTr": data.known} | {f"imagesTs/fold{fold}": part != "train" for fold, part in parts.items()}
        links = {name: Links(work.raw, temporary / name, target / name) for name in folders}
        for row, source in enumerate(tqdm(data.table["image"].tolist(), desc="images", disable=None)):
            places = [links[name] for name, wanted in folders.items() if wanted[row]]
            _place_grey(work.raw, source, places, f"{cases[row]}_0000{ENDING}")
        for row, mask in _decoded(work, data, masks, data.known):
            Image.fromarray(mask.astype(np.uint8)).save(temporary / "labelsTr" / f"{cases[row]}{ENDING}")
        description = {
            "channel_names": {"0": CHANNEL},
            "labels": {"background": 0, label_meaning.lesion(data.layout): 1},
            "numTraining": int(data.known.sum()),
            "file_ending": ENDING,
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        }
        for fold, part in parts.items():
            unseen = data.table[["image_id", "patient"]].assign(fold=fold, part=part)[part != "train"]
            tables.write_predictions(temporary / "imagesTs" / f"fold{fold}", unseen)
        splits = [{name: list(cases[data.known & (part == name)]) for name in ("train", "val")} for part in parts.values()]
        files.write_json(temporary / "dataset.json", description)
        files.write_json(temporary / "splits_final.json", splits)
    return [target / "dataset.json", target / "splits_final.json"]


def stop_if_names_clash(data: MaskData) -> None:
    """nnU-Net keeps the label of case X as X_seg: a case of that name would write over it."""
    clashing = [name for name in data.table["image_id"] if name.endswith("_seg")]
    if clashing:
        raise UserError(
            f"{len(clashing)} image(s) have a name that ends in _seg (first: {clashing[0]}), which nnU-Net keeps for labels; "
            "rename them and run scripts/03_make_labels.py again"
        )


def _place_grey(raw: Path, source: str, places: list[Links], name: str) -> None:
    """Put an image under this name into some folders as a grey PNG: linked if it is one, else decoded and written."""
    with Image.open(raw / source) as image:
        fits = image.format == "PNG" and image.mode == "L" and not pixels.is_turned(raw / source)
    grey = None if fits else Image.fromarray(images.read_grey(raw / source))
    for links in places:
        if grey is None:
            links.link(source, name)
        else:
            grey.save(links.folder / name)


WRITERS = {"png": write_png, "nnunet": write_nnunet}
