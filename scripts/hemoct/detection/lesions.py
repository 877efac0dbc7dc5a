"""Lesions: true boxes linked across neighbouring slices, and whether a detector found any slice of each.

Two boxes belong to one lesion when they lie in neighbouring slices of a patient (slice numbers that differ by 1), have the same
class and an IoU of at least 0.1; so do chains of such boxes, and two boxes of a slice that overlap the same neighbour. A slice
without a box ends a lesion. It is a proxy: nobody has numbered the lesions of these data. Where the slice number is unknown,
each box is its own lesion.
"""

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph

from hemoct.data import boxes
from hemoct.detection.predictions import CORNERS, Scene
from hemoct.evaluation import metrics as evaluation_metrics

LINK_IOU = 0.1


def link(scene: Scene, slices: pd.Series) -> pd.DataFrame:
    """One row per true box, in the order of `Scene.true_boxes`, with its lesion. Needs each image once.

    Columns: those of `located`; lesion, `PATIENT_1` and so on from the lowest slice up; position of the box in its lesion:
    `first`, `middle`, `last`, `single` when the lesion has one slice, `unknown` when its slice number is.
    """
    frame = located(scene, slices, *scene.true_boxes)
    component = components(frame)
    frame["lesion"] = _names(frame, component)
    frame["position"] = _positions(frame["slice"], component)
    return frame


def located(scene: Scene, slices: pd.Series, corners_and_class: np.ndarray, image: np.ndarray) -> pd.DataFrame:
    """One row per box: image, the row of the scene; image_id, patient, fold, slice (float, NaN where unknown), class, corners.

    `slices`: slice number by image_id, NA where unknown; `corners_and_class` (k, 5) of boxes in the rows `image` of the scene.
    """
    frame = scene.table[["image_id", "patient", "fold"]].iloc[image].reset_index(drop=True)
    frame.insert(0, "image", image)
    frame["slice"] = slices.reindex(frame["image_id"]).to_numpy(dtype=float, na_value=np.nan)
    frame["class"] = np.array(scene.classes, dtype=object)[corners_and_class[:, 4].astype(int)]
    frame[CORNERS] = corners_and_class[:, :4]
    return frame


def components(frame: pd.DataFrame) -> np.ndarray:
    """The number of the lesion that each box of `located` belongs to: int (k,)."""
    corners, number = frame[CORNERS].to_numpy(dtype=float), frame["slice"].to_numpy()
    pairs = [np.zeros((0, 2), dtype=int)]
    for rows in frame.groupby(["patient", "class"]).indices.values():
        neighbours = np.abs(number[rows][:, None] - number[rows]) == 1
        pairs.append(rows[np.argwhere(neighbours & (boxes.iou(corners[rows], corners[rows]) >= LINK_IOU))])
    first, second = np.concatenate(pairs).T
    graph = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(len(frame), len(frame)))
    return csgraph.connected_components(graph, directed=False)[1]


def _names(frame: pd.DataFrame, component: np.ndarray) -> pd.Series:
    """`PATIENT_1`, `PATIENT_2` ... in the order of each lesion's lowest slice; unknown slices come last."""
    ordered = frame.assign(component=component).sort_values(["patient", "slice"], kind="stable")
    number = ordered.groupby("patient")["component"].transform(lambda values: pd.factorize(values)[0] + 1)
    return (ordered["patient"] + "_" + number.astype(str)).reindex(frame.index)


def _positions(number: pd.Series, component: np.ndarray) -> np.ndarray:
    of_lesion = number.groupby(component)
    first, last = of_lesion.transform("min"), of_lesion.transform("max")
    cases = [number.isna(), first == last, number == first, number == last]
    return np.select(cases, ["unknown", "single", "first", "last"], default="middle")


def per_lesion(linked: pd.DataFrame, confidence: np.ndarray, thresholds: np.ndarray) -> pd.DataFrame:
    """per_lesion.csv: one row per lesion, by patient and number.

    `linked`: see `link`; `confidence` of the box that matches each true one, see `metrics.best_confidence` (G,); `thresholds` of
    the images (n,). Columns: lesion, patient, fold, class, first_slice, last_slice (NA where unknown), slices, boxes, volume_px
    (sum of the areas of its boxes in square pixels: a proxy of the volume), boxes_found (those that a box at or above the
    threshold matches with IoU >= 0.5), found (whether there is any), best_confidence (at any threshold; NaN without a match).
    """
    frame = linked.assign(
        area=boxes.area(linked[CORNERS].to_numpy(dtype=float)),
        confidence=confidence,
        hit=confidence >= np.asarray(thresholds)[linked["image"]],
        number=linked["lesion"].str.rsplit("_", n=1).str[-1].astype(int),
    )
    of_lesions = frame.groupby(["patient", "number"], sort=True)
    table = of_lesions.agg(
        lesion=("lesion", "first"),
        fold=("fold", lambda folds: "+".join(str(fold) for fold in sorted(folds.unique()))),
        **{"class": ("class", "first")},
        first_slice=("slice", "min"),
        last_slice=("slice", "max"),
        slices=("image", "nunique"),
        boxes=("image", "size"),
        volume_px=("area", "sum"),
        boxes_found=("hit", "sum"),
        found=("hit", "any"),
        best_confidence=("confidence", "max"),
    )
    table = table.reset_index("patient").reset_index(drop=True)
    table.insert(0, "lesion", table.pop("lesion"))
    return table.astype({"first_slice": "Int64", "last_slice": "Int64"})


def lesion_recall(table: pd.DataFrame, patients: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the lesions of per_lesion.csv that were found: float64 (R,), NaN without a lesion in the sample.

    `weights` (R, n) of images with `patients` (n,); all images of a patient count alike.
    """
    names, image = np.unique(patients, return_index=True)
    of_patient = weights[:, image]
    place = np.searchsorted(names, table["patient"].to_numpy(dtype=names.dtype))
    lesions = np.bincount(place, minlength=len(names))
    hits = np.bincount(place, weights=table["found"].to_numpy(dtype=float), minlength=len(names))
    return evaluation_metrics.ratio(of_patient @ hits, (of_patient @ lesions).astype(float))
