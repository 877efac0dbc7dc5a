"""Lesions: true boxes linked across neighbouring slices, whether a detector found any slice of each; predicted boxes linked.

Two boxes belong to one lesion when they lie in neighbouring slices of a patient (slice numbers that differ by 1), have the same
class and an IoU of at least 0.1; so do chains of such boxes, and two boxes of a slice that overlap the same neighbour. A slice
without a box ends a lesion. It is a proxy: nobody has numbered the lesions of these data. Where the slice number is unknown,
each box is its own lesion.
"""

import itertools

import numpy as np
import pandas as pd

from hemoct.base.errors import UserError
from hemoct.data import boxes
from hemoct.data.slices import Slices
from hemoct.detection import metrics, predictions
from hemoct.detection.predictions import CORNERS, Scene
from hemoct.evaluation import metrics as evaluation_metrics

LINK_IOU = 0.1  # of true boxes
FOLLOW_IOU = 0.3  # of predicted ones; on validation, 0.1 and 0.5 were no better
LEAST_SUPPORT = 0.001  # of a box without a partner: the least confidence of a box
SHARES = {"confidence": (0.0, 0.1, 0.2, 0.3, 0.5), "corners": (0.0, 0.1, 0.3, 0.5)}
"""what `choose` chooses from; 0 leaves the boxes as they are"""


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
    from scipy import sparse  # not at the top: cores of a scan, which need other things of this room, wait for neither
    from scipy.sparse import csgraph

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


# ---- predicted boxes: each is supported by those of the slices before and behind


def following(data: Slices) -> pd.Series:
    """The image_id of the slice behind each one that has such a neighbour, by image_id; stops where no slice has any."""
    ids, behind = data.table["image_id"].to_numpy(), data.neighbours(1)[:, 2]
    there = behind != np.arange(len(ids))
    if not there.any():
        raise UserError("labels.csv: no two slices of a patient follow one another; number them (column slice) to link boxes")
    return pd.Series(ids[behind[there]], index=ids[there])


def partners(frame: pd.DataFrame, behind: pd.Series) -> pd.DataFrame:
    """The partner of each box in the slice before and in the one behind: `box`, `other` (labels of `frame`), `support`.

    `frame`: boxes of one fold, see predictions.COLUMNS; `behind`: see `following`. A partner has the same class, lies in the
    same part and overlaps by FOLLOW_IOU at least; a box is the partner of one box of each neighbouring slice alone, so that a
    second box on a lesion has none. The pairs with the highest product of IoU and confidences are joined first. The support that
    a partner gives is its confidence times the IoU.
    """
    real = frame.reset_index(names="box")[frame["confidence"].notna().to_numpy()]
    left, right = ["beside", "class", "part"], ["image_id", "class", "part"]
    pairs = real.assign(beside=real["image_id"].map(behind)).dropna(subset="beside")
    pairs = pairs.merge(real, left_on=left, right_on=right, suffixes=("", "_other"))
    pairs["iou"] = boxes.overlap(pairs[CORNERS].to_numpy(), pairs[[f"{name}_other" for name in CORNERS]].to_numpy())
    pairs["mutual"] = pairs["iou"] * pairs["confidence"] * pairs["confidence_other"]
    pairs = pairs[pairs["iou"] >= FOLLOW_IOU].sort_values("mutual", ascending=False, kind="stable")
    pairs = pairs.drop_duplicates(["box_other"]).drop_duplicates(["box"])
    there = pd.DataFrame({"box": pairs["box"], "other": pairs["box_other"], "support": pairs["iou"] * pairs["confidence_other"]})
    back = pd.DataFrame({"box": pairs["box_other"], "other": pairs["box"], "support": pairs["iou"] * pairs["confidence"]})
    return pd.concat([there, back], ignore_index=True)


def supported(frame: pd.DataFrame, found: pd.DataFrame, confidence: float, corners: float) -> pd.DataFrame:
    """The boxes of `frame` with their partners, see `partners`, taken into account; the most confident of each slice first.

    The log of a box's confidence becomes the mean of its own and of its best support's, whose share is `confidence`: lonely boxes
    fall. Its corners become their mean with those of its partners, each weighing `corners` times its support over the
    confidence of the box, at most `corners`.
    """
    own = frame["confidence"]
    support = found.groupby("box")["support"].max().reindex(frame.index, fill_value=0.0).clip(lower=LEAST_SUPPORT)
    weight = corners * (found["support"].to_numpy() / own[found["box"]].clip(lower=LEAST_SUPPORT).to_numpy()).clip(max=1)
    moved = (frame.loc[found["other"], CORNERS] * weight[:, None]).assign(weight=weight, box=found["box"].to_numpy())
    moved = moved.groupby("box").sum().reindex(frame.index, fill_value=0.0)
    linked = frame.assign(confidence=(own ** (1 - confidence) * support**confidence).round(5))
    linked[CORNERS] = (frame[CORNERS] + moved[CORNERS]).div(1 + moved["weight"], axis=0).round(1)
    linked["order"] = linked.groupby("image_id", sort=False).ngroup()
    return linked.sort_values(["order", "confidence"], ascending=[True, False], kind="stable").drop(columns="order")


def choose(val: pd.DataFrame, found: pd.DataFrame, true: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    """The shares `confidence` and `corners` of `supported` with the highest mAP50:95 on validation; 0 and 0 where none is better.

    `val`: boxes of the validation slices of a fold; `found`: their partners; `true`: boxes.csv.
    """

    def precision(shares: dict[str, float]) -> float:
        matched = metrics.match(predictions.scene(supported(val, found, **shares), true, classes))
        return float(metrics.average_precision(matched, evaluation_metrics.ones(matched.images))["map50_95"][0])

    grid = [dict(zip(SHARES, values, strict=True)) for values in itertools.product(*SHARES.values())]
    return max(grid, key=precision)  # the first of equal ones
