"""Maps as weak labels: a new data set whose boxes, and masks, of the training and validation images of a fold are maps.

NAME-pseudo-foldK is for fold K alone. Its test images keep their true boxes and masks; all others get what the maps of the model
of fold K show, which has never seen a test patient: a detector of fold K that learns from them is tested honestly. Positive
images get the regions of their map, negative ones nothing, images without a known label stay unknown. Images are linked.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import contents
from hemoct.explain import evaluate, regions
from hemoct.explain.evaluate import Explained, Setting
from hemoct.ingest import layouts

MARK = "pseudo.json"
"""says of a data set that it was made here, and how"""
LINK, MASKS = "images", "masks"
COPIED = ("splits.csv", "patients.csv")


def place(work: Workspace, fold: int) -> Workspace:
    """Where the data set of a fold lies; stops where another one has its name."""
    other = Workspace(work.root, f"{work.dataset}-pseudo-fold{fold}")
    if (other.work.exists() or other.raw.exists()) and not (other.work / MARK).exists():
        raise UserError(f"{other.show(other.work)} is a data set that no map was written to; rename it, it would be replaced")
    return other


def learned(setting: Setting, explained: Explained) -> pd.DataFrame:
    """The positive images of training and validation of a fold, with each of the labels: row, column, label, part."""
    spec, table = setting.spec, setting.seen.slices.table
    number = experiments.fold_of(explained.folder)
    part = setting.seen.slices.part_of(number, spec.protocol, spec.split)
    asked = [name for name in spec.classes if setting.options.label in (None, name)]
    frames = []
    for column, name in enumerate(spec.classes):
        rows = np.flatnonzero((setting.seen.targets[:, column] == 1) & (part != "test")) if name in asked else []
        frames.append(pd.DataFrame({"row": rows, "column": column, "label": name}))
    frame = pd.concat(frames, ignore_index=True).astype({"row": int, "column": int})
    return frame.assign(image_id=table["image_id"].to_numpy()[frame["row"]], part=part[frame["row"]])


def write(setting: Setting, explained: Explained, kind: str) -> tuple[Workspace, dict[str, Any], list[Path]]:
    """Write the data set of a fold, see `place`; returns it, what its MARK says, and its tables."""
    work, side = setting.work, setting.spec.image_size
    other = place(work, experiments.fold_of(explained.folder))
    cases = learned(setting, explained)
    small = evaluate.mapped(setting, evaluate.load(setting, explained.folder), cases, explained.layer)
    shown = [regions.of_heat(regions.enlarge(each, side), explained.threshold) for each in small]
    dataset, labels = tables.read_dataset(work), tables.read_labels(work, tables.read_dataset(work))
    part = setting.seen.slices.part_of(explained.record()["fold"], setting.spec.protocol, setting.spec.split)
    tested = set(setting.seen.slices.table["image_id"][part == "test"])
    labels = labels[labels["image_id"].isin(setting.seen.slices.table["image_id"])]
    true = tables.read_boxes(work)
    classes = dataset.classes or sorted(cases["label"].unique())
    rows = []
    for case, one in zip(cases.itertuples(), shown, strict=True):
        name = case.label if case.label in classes else classes[0]
        corners = setting.known.from_square(one.boxes[:, :4], case.row).round().astype(int)
        rows += [(case.image_id, name, *box) for box in corners.tolist()]
    made = pd.DataFrame(rows, columns=tables.BOX_COLUMNS)

    _link(work, other)
    masks = _write_masks(setting, other, cases, shown, labels, tested) if kind == "masks" else {}
    labels = labels.assign(image=f"{LINK}/" + labels["image"], annotation="", mask=[
        f"{LINK}/{mask}" * bool(mask) if image in tested else masks.get(image, "")
        for image, mask in zip(labels["image_id"], labels["mask"], strict=True)
    ])  # fmt: skip
    boxes = pd.concat([true[true["image_id"].isin(tested)], made], ignore_index=True)
    counts = {"images": len(labels), "masks": int((labels["mask"] != "").sum()), "boxes": len(boxes)}
    dataset = replace(dataset, name=other.dataset, classes=classes, counts=dataset.counts | counts)
    black = sum(one.peak is None for one in shown)
    told = {
        "made_from": work.dataset, "experiment": explained.folder.parent.name, "kind": kind, **explained.record(),
        "method": setting.options.method, "pseudo_boxes": len(made), "positive_images": len(cases), "without_any_heat": black,
        "true_boxes_of_test": int(true["image_id"].isin(tested).sum()), "threshold_from_true_boxes": explained.chosen,
        "layer_from_true_boxes": not explained.compared.empty and len(explained.compared) > 1,
    }  # fmt: skip
    written = [
        tables.write_labels(other, labels, dataset),
        tables.write_boxes(other, boxes),
        tables.write_dataset(other, dataset),
    ]
    for name in COPIED:
        if (work.work / name).exists():
            with files.replacing(other.work / name) as temporary:
                shutil.copyfile(work.work / name, temporary)
            written.append(other.work / name)
    written += [contents.write(other, labels), files.write_json(other.work / MARK, told)]
    return other, told, written


def _link(work: Workspace, other: Workspace) -> None:
    """A folder of raw data with a link to that of the original, and the same word about the window of its images."""
    other.raw.mkdir(parents=True, exist_ok=True)
    other.work.mkdir(parents=True, exist_ok=True)
    files.write_json(other.work / MARK, {"made_from": work.dataset, "status": "unfinished"})
    link = other.raw / LINK
    if not link.is_symlink():
        link.symlink_to(Path("..") / work.dataset, target_is_directory=True)
    if (work.raw / layouts.ORIGIN).is_file():
        with files.replacing(other.raw / layouts.ORIGIN) as temporary:
            shutil.copyfile(work.raw / layouts.ORIGIN, temporary)


def _write_masks(
    setting: Setting, other: Workspace, cases: pd.DataFrame, shown: list[regions.Shown], labels: pd.DataFrame, tested: set[str]
) -> dict[str, str]:
    """Masks of positive images, and one empty mask of each size for the negative ones: path in data/raw by image_id."""
    table, named = setting.seen.slices.table, {}
    of_image: dict[int, np.ndarray] = {}
    for row, one in zip(cases["row"], shown, strict=True):
        of_image[row] = of_image.get(row, False) | one.region
    negative = np.flatnonzero((setting.seen.targets == 0).all(axis=1))
    with files.replacing_folder(other.raw / MASKS) as folder:
        for row, region in of_image.items():
            mask = setting.known.mask_back(region, row)
            name = f"{table['image_id'][row]}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
            named[table["image_id"][row]] = f"{MASKS}/{name}"
        for row in negative:
            if table["image_id"][row] in tested:
                continue
            whole = setting.known.geometry(row)
            name = f"empty-{whole.width}x{whole.height}.png"
            if not (folder / name).exists():
                Image.fromarray(np.zeros((whole.height, whole.width), np.uint8)).save(folder / name)
            named[table["image_id"][row]] = f"{MASKS}/{name}"
    return named
