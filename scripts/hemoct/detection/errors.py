"""What is hard for a detector: a type for each missed and each false box, and the recall by size and brightness.

The types are simple rules on boxes and grey values, given in MISSED and ALARMS; they say where to look, not why. Grey values
are those of the image (uint8, brain window), where bone and calcification are saturated and blood is not. `Tissue` is what
lies between air and bone. Small and faint mean the lowest quarter of the true boxes that are evaluated.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.data import boxes, images
from hemoct.detection import lesions, metrics
from hemoct.detection.evaluate import BoxEvaluation
from hemoct.detection.predictions import CORNERS
from hemoct.evaluation import bootstrap, scores

AIR, SATURATED = 10, 250  # grey values; tissue lies between
RING = 0.25  # width of the ring around a box, as a share of its longer side
LEAST_RING = 4  # px
BRIGHTEST = 0.1  # share of a box's tissue that is taken for the bleeding
TOUCHES = 0.1  # IoU from which on a box has to do with a lesion
DENSE_SHARE = 0.05  # share of saturated pixels in a box
MIDLINE = 0.03  # distance from the midline, as a share of the image's side
QUARTERS = 4

# In this order: where several hold, the first is the main type.
MISSED = {
    "localised badly": f"a predicted box overlaps it, IoU {TOUCHES} to below {metrics.HIT_IOU}",
    "small": "in the lowest quarter of areas",
    "faint": "in the lowest quarter of contrasts: mean of the brightest tenth of its tissue less the mean of the tissue around",
    "first or last slice": "the lesion begins or ends in this slice, or is in this one alone",
    "other": "none of these",
}
ALARMS = {
    "duplicate": f"IoU >= {metrics.HIT_IOU} with a lesion that a more confident box took",
    "wrong class": f"IoU >= {metrics.HIT_IOU} with a lesion of another class",
    "overlaps a lesion badly": f"IoU {TOUCHES} to below {metrics.HIT_IOU} with a lesion",
    "neighbouring slice": f"IoU >= {TOUCHES} with a lesion of the slice before or after",
    "dense structure": f"at least {DENSE_SHARE:.0%} of its pixels are saturated: bone edge or calcification",
    "midline": f"centre within {MIDLINE:.0%} of the image's side of the tissue's middle between left and right: falx",
    "other": "none of these",
}
COLUMNS = [
    *("image_id", "patient", "fold", "slice", "kind", "type", "flags", "class", "confidence", "threshold"),
    *(*CORNERS, "area", "contrast", "dense_share", "midline_offset", "best_iou", "position"),
]


def true_and_false(evaluation: BoxEvaluation) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a true box of the test images, and one a predicted box at or above the threshold that matches none.

    True boxes, in the order of `evaluation.linked`: their lesion; `confidence` of the predicted box that matches at any
    threshold, `found` says whether that is at or above the threshold; `best_iou`: highest IoU with the boxes of their class at
    or above it. False boxes: `best_iou` and `other_class_iou` with the true ones of their slice, of their class and of another;
    `neighbour_iou` with those of the slices before and after.
    """
    matched, kept = evaluation.matched, evaluation.above_threshold
    corners_and_class = np.column_stack([matched.corners, matched.label])[kept]
    called = lesions.located(evaluation.scene, evaluation.numbers, corners_and_class, matched.image[kept])
    called["confidence"], hit = matched.confidence[kept], matched.hit()[kept]
    true = evaluation.linked.assign(confidence=metrics.best_confidence(matched))
    for frame in (true, called):
        frame["threshold"], frame["area"] = evaluation.thresholds[frame["image"]], boxes.area(frame[CORNERS].to_numpy())
    true["found"] = true["confidence"] >= true["threshold"]

    pairs = called.reset_index(names="called").merge(true.reset_index(names="true"), on="patient", suffixes=("", "_true"))
    pairs["iou"] = boxes.overlap(pairs[CORNERS].to_numpy(), pairs[[f"{name}_true" for name in CORNERS]].to_numpy())
    same_class, same_image = pairs["class"] == pairs["class_true"], pairs["image"] == pairs["image_true"]
    beside = (pairs["slice"] - pairs["slice_true"]).abs() == 1

    def highest(rows: pd.Series, box: str, frame: pd.DataFrame) -> pd.Series:
        return pairs[rows].groupby(box)["iou"].max().reindex(frame.index, fill_value=0.0)

    true["best_iou"] = highest(same_image & same_class, "true", true)
    called["best_iou"] = highest(same_image & same_class, "called", called)
    called["other_class_iou"] = highest(same_image & ~same_class, "called", called)
    called["neighbour_iou"] = highest(beside, "called", called)
    return true, called[~hit].reset_index(drop=True)


# ---- grey values


def look(true: pd.DataFrame, false: pd.DataFrame, paths: list[Path], axis: str) -> None:
    """Add `contrast` to the true boxes, `dense_share` and `midline_offset` to the false ones. Each image is read once.

    `paths`: files of the test images in order. `axis`: the image axis from the patient's left to right.
    """
    true_corners, false_corners = (frame[CORNERS].to_numpy() for frame in (true, false))
    of_true, of_false = (frame["image"].to_numpy() for frame in (true, false))
    contrasts, (dense, offsets) = np.full(len(true), np.nan), np.full((2, len(false)), np.nan)
    needed = sorted({*of_true, *of_false})
    for image, grey in zip(needed, images.decode([paths[image] for image in needed], desc="boxes in grey"), strict=True):
        here, there = np.flatnonzero(of_true == image), np.flatnonzero(of_false == image)
        contrasts[here] = [contrast(grey, box) for box in true_corners[here]]
        if len(there):
            dense[there] = [dense_share(grey, box) for box in false_corners[there]]
            offsets[there] = midline_offset(grey, false_corners[there], axis)
    true["contrast"], false["dense_share"], false["midline_offset"] = contrasts, dense, offsets


def contrast(grey: np.ndarray, box: np.ndarray) -> float:
    """Mean of the brightest tenth of the tissue in a box less the mean of the tissue in the ring around it, in grey values.

    `grey`: uint8 (height, width); `box`: corners in pixels. NaN where the box or the ring holds no tissue.
    """
    width = max(LEAST_RING, RING * max(box[2] - box[0], box[3] - box[1]))
    inside, around = _cut(grey, box), _cut(grey, box + width * np.array([-1, -1, 1, 1]))
    tissue, outer = (np.bincount(part.ravel(), minlength=256)[AIR + 1 : SATURATED] for part in (inside, around))
    pixels, ring, greys = int(tissue.sum()), int(outer.sum() - tissue.sum()), np.arange(AIR + 1, SATURATED)
    if not pixels or not ring:
        return np.nan
    count = max(1, round(BRIGHTEST * pixels))
    taken = np.diff(np.minimum(np.cumsum(tissue[::-1]), count), prepend=0)  # of each grey value, from the brightest down
    return float((taken @ greys[::-1]) / count - ((outer - tissue) @ greys) / ring)


def dense_share(grey: np.ndarray, box: np.ndarray) -> float:
    """Share of saturated pixels in a box; 0 for a box without a pixel."""
    inside = _cut(grey, box)
    return float((inside >= SATURATED).mean()) if inside.size else 0.0


def midline_offset(grey: np.ndarray, corners: np.ndarray, axis: str) -> np.ndarray:
    """Distance of box centres (k,) from the centre of all tissue along `axis` (horizontal, vertical), as share of the side.

    NaN in an image without tissue. A tilted head moves the real midline away from this one.
    """
    along = 1 if axis == "horizontal" else 0
    tissue = ((grey > AIR) & (grey < SATURATED)).sum(axis=1 - along)
    if not tissue.any():
        return np.full(len(corners), np.nan)
    middle = np.average(np.arange(len(tissue)) + 0.5, weights=tissue)
    centre = corners[:, [1 - along, 3 - along]].mean(axis=1)
    return np.abs(centre - middle) / len(tissue)


def _cut(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of a box, cut at the edges of the image."""
    left, top, right, bottom = np.round(np.maximum(box, 0)).astype(int)
    return grey[top:bottom, left:right]


# ---- types


def quarters(values: pd.Series) -> np.ndarray:
    """The quarter, 1 to 4, of each value, by the quartiles of those that are known: int (n,); 0 where unknown.

    A value on a quartile belongs to the quarter above, so that of equal values none is low.
    """
    edges = values.quantile(np.arange(1, QUARTERS) / QUARTERS).to_numpy()
    return np.where(values.notna(), 1 + np.searchsorted(edges, values, side="right"), 0)


def errors(true: pd.DataFrame, false: pd.DataFrame) -> pd.DataFrame:
    """errors.csv: the true boxes that were missed and the false ones, with every type that holds (`flags`) and the first.

    Both frames are those that `look` has completed. Missed boxes come first, then false alarms, each in the order of the images.
    """
    missed_flags = pd.DataFrame({
        "localised badly": true["best_iou"].between(TOUCHES, metrics.HIT_IOU, inclusive="left"),
        "small": quarters(true["area"]) == 1,
        "faint": quarters(true["contrast"]) == 1,
        "first or last slice": true["position"].isin(["first", "last", "single"]),
    })  # fmt: skip
    hit = metrics.HIT_IOU
    false_flags = pd.DataFrame({
        "duplicate": false["best_iou"] >= hit,
        "wrong class": false["other_class_iou"] >= hit,
        "overlaps a lesion badly": false[["best_iou", "other_class_iou"]].max(axis=1).between(TOUCHES, hit, inclusive="left"),
        "neighbouring slice": false["neighbour_iou"] >= TOUCHES,
        "dense structure": false["dense_share"] >= DENSE_SHARE,
        "midline": false["midline_offset"] <= MIDLINE,
    })  # fmt: skip
    missed = _typed(true, missed_flags, "missed")[~true["found"]]
    return pd.concat([missed, _typed(false, false_flags, "false alarm")]).reindex(columns=COLUMNS).reset_index(drop=True)


def _typed(frame: pd.DataFrame, flags: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows with every type that holds for them, joined, and the first of these, which is their main type."""
    types = [list(flags.columns[row]) for row in flags.to_numpy(dtype=bool)]
    return frame.assign(kind=kind, flags=["; ".join(held) for held in types], type=[[*held, "other"][0] for held in types])


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """error_types.csv: `kind, type, boxes, holds_for, meaning`: of how many boxes it is the main type, for how many it holds."""
    rows = []
    for kind, meanings in (("missed", MISSED), ("false alarm", ALARMS)):
        of_kind = table[table["kind"] == kind]
        main, flags = of_kind["type"].value_counts(), of_kind["flags"].str.split("; ").explode().value_counts()
        for name, meaning in meanings.items():
            boxes_of = {"boxes": int(main.get(name, 0)), "holds_for": int((main if name == "other" else flags).get(name, 0))}
            rows.append({"kind": kind, "type": name, **boxes_of, "meaning": meaning})
    return pd.DataFrame(rows)


def hardest(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The rows of errors.csv to look at, `count` of each kind, each image once: the largest lesions that no box matches at any
    confidence come first, then those of the lowest confidence; and the most confident false alarms."""
    missed = table[table["kind"] == "missed"].fillna({"confidence": 0.0})
    missed = missed.sort_values(["confidence", "area"], ascending=[True, False])
    alarms = table[table["kind"] != "missed"].sort_values("confidence", ascending=False, kind="stable")
    return pd.concat([of_kind.drop_duplicates("image_id").head(count) for of_kind in (missed, alarms)])


def by_quarter(evaluation: BoxEvaluation, true: pd.DataFrame, seed: int) -> pd.DataFrame:
    """size_and_brightness.csv: true boxes found and missed in each quarter of area and contrast, with the interval of recall.

    Quarters hold equally many boxes but for equal values. `low` and `high` are the least and greatest value in a quarter.
    """
    table = evaluation.scene.table
    weights = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), bootstrap.RESAMPLES, seed)
    rows = []
    for column in ("area", "contrast"):
        quarter = quarters(true[column])
        for number in range(1, QUARTERS + 1):
            part = true[quarter == number]
            row = {"by": column, "quarter": number, "low": part[column].min(), "high": part[column].max(), "boxes": len(part)}
            row |= {"found": int(part["found"].sum()), "missed": int((~part["found"]).sum())}
            of_boxes = weights[:, part["image"]]  # all boxes are true: only recall is defined
            rows.append(row | scores.rates(np.ones(len(part)), part["found"].to_numpy(), of_boxes, {"recall": "recall"})[1])
    return pd.DataFrame(rows)
