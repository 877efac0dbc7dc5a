"""An estimate of the bleeding itself, from grey values and boxes alone, without any label of it: never a ground truth.

In PHE-SICH-CT-IDS masks outline the edema and boxes enclose bleeding and edema with a margin; nobody has outlined the bleeding.
So nothing here can be validated on these data, and whatever shows it says NOTE. Two estimates stand side by side:

* the core: bright pixels in a box, by Otsu's threshold. Needs the image in the brain window (level 40, width 80 HU).
* ABC/2 (Kothari et al., Stroke 1996;27:1304) of the boxes. It is the volume of an ellipsoid that fills them, that is of bleeding
  and edema and the margin of the boxes, so it is larger than the core, often several times.

Beside them stands the edema that a segmentation experiment predicted on the same slices, out of fold.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes, images, volumes
from hemoct.data.slices import Slices
from hemoct.detection import lesions, predictions as detection_predictions
from hemoct.detection.errors import AIR, LEAST_RING, RING, SATURATED
from hemoct.detection.predictions import CORNERS, Scene
from hemoct.segmentation import predictions

NOTE = "unvalidated estimate"
COLUMNS = [
    *("lesion", "patient", "class", "first_slice", "last_slice", "slices", "core_slices"),
    *("core_volume", "abc2_volume", "unit", "note"),
]
BONE_EDGE = 3  # px around bone that partial volume makes as bright as blood
LEAST_PIXELS = 20  # of tissue, in a box and around it, that a threshold can be told from
LEAST_CONTRAST = 4 * 255 / 80  # 4 HU in grey values of the brain window; below, noise and grey matter pass for blood
LEAST_SHARE = 0.25  # of the heaviest part that another part of the core must have: hematomas come in several pieces, too
OPENING = np.ones((3, 3), dtype=bool)
SLACK = 1  # px by which an annotated box may reach beyond its image
Case = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""a slice as figures.core_and_edema draws it: image_id, image, core, predicted edema"""


# ---- the two estimates


def core(grey: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The bright core in each box of a slice: bool (height, width), false everywhere where there is none.

    `grey`: uint8 (height, width), brain window; `boxes`: (k, 4) corners in its pixels, cut at the edges of the image; what has
    no area there has no core. Within a box:

    1. Left out: air; bone, that is saturated pixels that continue beyond the box, and BONE_EDGE px around it.
    2. Otsu's threshold (IEEE Trans SMC 1979;9:62) between blood and the rest, after a 3 x 3 median. Pixels darker than the tissue
       around the box (its median) are set to that level first: else ventricle and edema would be the class that is split off.
    3. Opening by 3 x 3 pixels. Of the parts those stay that have LEAST_SHARE of the heaviest one (contrast times area) and do
       not touch the edge of the box: a box has a margin, so what touches it is gyri or the bone's bright edge. Where all touch,
       the heaviest one stays, alone. Holes are filled.
    4. A core whose mean is less than LEAST_CONTRAST above the tissue around is none.

    Known to fail: of blood of two densities the fainter part is often left out; in very faint lesions it follows the noise.
    """
    bright = np.zeros(grey.shape, dtype=bool)
    for box in np.asarray(boxes, dtype=float).reshape(-1, 4):
        ring = max(LEAST_RING, RING * (box[2:] - box[:2]).max())
        wide = _place(box + ring * np.array([-1, -1, 1, 1]), grey.shape)
        inside = np.zeros(grey.shape, dtype=bool)
        inside[_place(box, grey.shape)] = True
        bright[wide] |= _core(grey[wide], inside[wide])
    return bright


def _place(box: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box in an image of `shape`; empty where it has no area there."""
    low = np.clip(np.floor(box[:2]), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(box[2:]), low, shape[::-1]).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _core(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The core in one box, `inside`, of a cut-out with the ring around it. Bool, same shape."""
    nothing = np.zeros(grey.shape, dtype=bool)
    smooth = ndimage.median_filter(grey, 3)
    saturated = grey >= SATURATED
    skull = ndimage.binary_propagation(saturated & ~inside, mask=saturated)  # what continues beyond the box
    tissue = (smooth > AIR) & ~ndimage.binary_dilation(skull, iterations=BONE_EDGE)
    within, around = smooth[tissue & inside], smooth[tissue & ~inside]
    if min(within.size, around.size) < LEAST_PIXELS:
        return nothing
    level = np.uint8(np.median(around))
    bright = ndimage.binary_opening(tissue & inside & (smooth >= otsu(np.maximum(within, level))), OPENING)
    kept = _parts(bright, smooth - level.astype(float), inside)
    if not kept.any() or smooth[kept].mean() - level < LEAST_CONTRAST:
        return nothing
    return ndimage.binary_fill_holes(kept)


def _parts(bright: np.ndarray, contrast: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The connected parts of `bright` that are taken for the core, rule 3 of `core`. Bool, same shape."""
    part, count = ndimage.label(bright)
    if count == 0:
        return bright
    numbers = np.arange(1, count + 1)
    weight = ndimage.sum_labels(contrast, part, numbers)
    edge = part[inside & ~ndimage.binary_erosion(inside)]
    free = numbers[(weight >= LEAST_SHARE * weight.max()) & ~np.isin(numbers, edge)]
    return np.isin(part, free if len(free) else numbers[weight.argmax()])


def otsu(values: np.ndarray) -> int:
    """The lowest value of the upper class, by the largest variance between two classes; 256 where all values are one.

    `values`: uint8, at least one. Of equal thresholds the lowest counts.
    """
    counts = np.bincount(values, minlength=256).astype(float)
    below, total_below = counts.cumsum()[:-1], (counts * np.arange(256)).cumsum()
    above = values.size - below
    apart = (total_below[-1] * below - values.size * total_below[:-1]) ** 2
    between = np.divide(apart, below * above, out=np.zeros(255), where=(below > 0) & (above > 0))
    return int(between.argmax()) + 1 if between.any() else 256


def abc2(sides: np.ndarray, factor: np.ndarray) -> float:
    """ABC/2 of one lesion from its boxes: A and B are the sides of the largest box, C the slices that count.

    `sides`: (n, 2) width and height in pixels, one box a slice; `factor`: (n,) of each slice, from `volumes.per_slice`. A slice
    counts 1 when its box has at least 75 % of the largest area, one half from 25 %, else nothing (Kothari 1996). The rule was
    made for thick slices: of an ellipsoid in many thin ones it finds 65 %.
    """
    area = np.prod(sides, axis=1)
    share = area / area.max()
    weight = np.select([share >= 0.75, share >= 0.25], [1.0, 0.5], default=0.0)
    return float(area.max() * (weight * factor).sum() / 2)


# ---- the lesions of a data set


def table(slices: pd.DataFrame, paths: list[Path], boxes: pd.DataFrame) -> pd.DataFrame:
    """One row per lesion, by patient and number: its volume as the core and as ABC/2 of its boxes. Decodes slices with boxes.

    `slices`: `image_id, patient, slice`, perhaps spacings, as in labels.csv; all slices of each patient. `paths`: their images.
    `boxes`: BOX_COLUMNS, true or predicted, in pixels of the images; rows without an area are left out. They are linked to
    lesions by `detection.lesions`. Columns: COLUMNS; first_slice and last_slice NA where unknown; core_slices: how many slices
    have a core; core_volume is NaN where none has one: a core that was not seen is not one of volume 0; unit of both volumes,
    see `hemoct.data.volumes`; note: NOTE. Stops at an image that is smaller than its boxes.
    """
    factor, unit = volumes.per_slice(slices)
    linked = _linked(slices, boxes)
    of_image = linked.groupby("image").indices
    pixels = np.zeros(len(linked))
    for image, grey in zip(of_image, images.decode([paths[image] for image in of_image], desc="hematoma"), strict=True):
        rows = linked.iloc[of_image[image]]
        _stop_if_outside(rows[CORNERS].to_numpy(), grey, paths[image])
        for of_lesion in rows.groupby("lesion").indices.values():  # one count for all its boxes: they may overlap
            pixels[of_image[image][of_lesion[0]]] = core(grey, rows[CORNERS].to_numpy()[of_lesion]).sum()
    per_slice = linked.assign(pixels=pixels).groupby(["patient", "lesion", "class", "image"], sort=False).agg(
        slice=("slice", "first"), pixels=("pixels", "sum"),
        xmin=("xmin", "min"), ymin=("ymin", "min"), xmax=("xmax", "max"), ymax=("ymax", "max"),
    ).reset_index()  # fmt: skip
    per_slice = per_slice.assign(factor=factor[per_slice["image"]], unit=unit[per_slice["image"]])
    made = pd.DataFrame([_row(lesion) for _, lesion in per_slice.groupby("lesion", sort=False)], columns=COLUMNS)
    number = made["lesion"].str.rsplit("_", n=1).str[-1].astype(int)
    made = made.assign(number=number).sort_values(["patient", "number"], ignore_index=True)[COLUMNS]
    return made.astype({"first_slice": "Int64", "last_slice": "Int64"})


def _linked(slices: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes of `slices` with their lesions, see `lesions.link`; `image` is the row of `slices`."""
    boxes = boxes[data_boxes.area(boxes[CORNERS].to_numpy(dtype=float)) > 0]
    classes = sorted(boxes["class"].unique())
    corners, numbers = data_boxes.by_image(boxes, slices["image_id"], classes)
    scene = Scene(slices[["image_id", "patient"]].assign(fold=0).reset_index(drop=True), classes, corners, numbers, corners)
    return lesions.link(scene, slices.set_index("image_id")["slice"])


def _stop_if_outside(corners: np.ndarray, grey: np.ndarray, path: Path) -> None:
    height, width = grey.shape
    if corners[:, :2].min() < -SLACK or (corners[:, 2:].max(axis=0) > np.array([width, height]) + SLACK).any():
        xmin, ymin, xmax, ymax = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
        raise UserError(
            f"{path} is {width} x {height} px, its boxes reach from ({xmin:g}, {ymin:g}) to ({xmax:g}, {ymax:g}): they are of "
            "another image size; restore the image, or make the boxes again"
        )


def _row(lesion: pd.DataFrame) -> dict[str, object]:
    """The row of a lesion from its slices, one row each, their boxes made one that encloses them."""
    seen = lesion["pixels"] > 0
    sides = lesion[["xmax", "ymax"]].to_numpy() - lesion[["xmin", "ymin"]].to_numpy()
    return {
        **lesion.iloc[0][["lesion", "patient", "class", "unit"]],
        "first_slice": lesion["slice"].min(),
        "last_slice": lesion["slice"].max(),
        "slices": len(lesion),
        "core_slices": seen.sum(),
        "core_volume": (lesion["pixels"] * lesion["factor"]).sum() if seen.any() else np.nan,
        "abc2_volume": abc2(sides, lesion["factor"].to_numpy()),
        "note": NOTE,
    }


# ---- beside the predicted edema


def predicted_boxes(work: Workspace, detector: str, data: Slices, folds: list[int]) -> pd.DataFrame:
    """Boxes that a detector predicted on the test slices of `folds`, each fold at its validation threshold.

    Columns: those of boxes.csv and `fold`. Stops when the detector lacks a fold or its evaluation.
    """
    folders, _ = detection_predictions.folders(work, detector, "all")
    evaluated = work.need(folders[0].parent / "metrics.json", experiments.evaluate_step(2))
    thresholds = {rule["fold"]: rule["threshold"] for rule in files.read_json(evaluated)["folds"]}
    there = {experiments.fold_of(folder): folder for folder in folders}
    missing = [str(fold) for fold in folds if fold not in there or fold not in thresholds]
    if missing:
        raise UserError(f"{detector} has no evaluated boxes of fold {', '.join(missing)}; train and evaluate it there first")
    frames = []
    for fold in folds:
        frame, _ = detection_predictions.read(work, there[fold], data)
        frames.append(frame[(frame["part"] == "test") & (frame["confidence"] >= thresholds[fold])])
    return pd.concat(frames, ignore_index=True)[[*tables.BOX_COLUMNS, "fold"]]


def by_patient(lesions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """hematoma_patients.csv: sums over the lesions of each patient beside the edema of per_patient.csv.

    `edema_to_core` is the predicted edema's volume over the core's (relative edema volume); empty without a core, or where
    their units differ.
    """
    sums = lesions.groupby("patient").agg(
        lesions=("lesion", "size"), core_volume=("core_volume", lambda values: values.sum(min_count=1)),
        abc2_volume=("abc2_volume", "sum"), core_unit=("unit", "first"),
    )  # fmt: skip
    frame = patients[["patient", "fold", "true_volume", "predicted_volume", "unit"]].merge(sums, on="patient", how="left")
    frame["lesions"] = frame["lesions"].fillna(0).astype(int)
    same = frame["core_unit"] == frame["unit"]
    frame["edema_to_core"] = (frame["predicted_volume"] / frame["core_volume"]).where(same)
    names = {"true_volume": "true_edema", "predicted_volume": "predicted_edema"}
    return frame.rename(columns=names).drop(columns="core_unit").assign(note=NOTE)


def cases(work: Workspace, experiment: Path, data: Slices, boxes: pd.DataFrame, count: int) -> Iterator[Case]:
    """Slices to be drawn, `count` patients spread over the sizes of their predicted edema, each with its largest slice."""
    pixels = tables.read_csv(experiment / "slice_pixels.csv", ["image_id", "fold", "part", "threshold", "predicted_px"])
    pixels = pixels[(pixels["part"] == "test") & pixels["image_id"].isin(boxes["image_id"])]
    largest = pixels.sort_values("predicted_px").drop_duplicates("patient", keep="last")
    chosen = largest.iloc[np.unique(np.linspace(0, len(largest) - 1, min(count, len(largest))).astype(int))]
    paths = data.table.set_index("image_id")["image"]
    for row in chosen.itertuples():
        grey = images.read_grey(work.raw / paths[row.image_id])
        path = experiment / f"fold{row.fold}" / "probability" / f"{row.image_id}.png"
        probability = predictions.read_map(path, grey.shape[::-1])
        corners = boxes.loc[boxes["image_id"] == row.image_id, CORNERS].to_numpy(dtype=float)
        yield str(row.image_id), grey, core(grey, corners), probability >= row.threshold
