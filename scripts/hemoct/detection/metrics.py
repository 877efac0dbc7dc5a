"""Metrics of detectors, written once for the value and for all its bootstrap resamples: boxes are matched once, then counted.

`match` compares the predicted boxes of all images with the true ones by the rules of COCO. Within an image and a class the
boxes choose in the order of their confidence: each takes the free true box that it overlaps most, if the intersection over
union (IoU) is high enough; a true box is taken once. So a second box on the same lesion is a false positive in every metric
here. A match does not depend on boxes of lower confidence: one matching serves every threshold.

`weights` (R, n) says how often each image counts in each of R resamples: `ones(n)` of hemoct.evaluation.metrics gives the value,
`bootstrap.weights` its interval. Metrics are float64, NaN where undefined: every share of true boxes (recall, localisation
accuracy, FROC, average precision) without a true box in the sample; precision without a predicted box; F1 without either;
whatever is counted per image without an image. True boxes without any predicted box are a defined 0.
Average precision and FROC compare confidences, so give them the images of one fold (`Matched.of`).
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import sparse

from hemoct.detection.predictions import Scene
from hemoct.evaluation import metrics as evaluation_metrics

HIT_IOU = 0.5
COCO_IOUS = np.linspace(0.5, 0.95, 10)
LOCALISATION_IOUS = np.linspace(0.1, 0.7, 7)
IOUS = np.concatenate([LOCALISATION_IOUS[:2], [0.25], LOCALISATION_IOUS[2:4], COCO_IOUS])
"""what `match` matches at: 0.1, 0.2, 0.25, 0.3, 0.4, then COCO's 0.50 to 0.95 in steps of 0.05"""
FROC_LEVELS = np.array([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
RECALLS = np.linspace(0, 1, 101)
MOST_BOXES = 100  # an image and class, as COCO; the boxes of lowest confidence beyond it are not looked at


@dataclass(frozen=True)
class Matched:
    """The boxes of n images with their matches. True boxes stand in the order of the scene, as in `true_corners`."""

    images: int
    """n; images are numbered as the rows of the scene"""
    classes: int
    image: np.ndarray
    """of each predicted box, int (D,); boxes are ordered by class, image and falling confidence"""
    corners: np.ndarray
    """of each predicted box, float64 (D, 4)"""
    label: np.ndarray
    """class number of each predicted box, int (D,)"""
    confidence: np.ndarray
    """float64 (D,)"""
    partner: np.ndarray
    """number of the true box that a predicted one matches at each of IOUS, -1 for none: int (D, 15)"""
    true_image: np.ndarray
    """of each true box, int (G,)"""
    true_label: np.ndarray
    """class number of each true box, int (G,)"""

    def hit(self, iou: float | np.ndarray = HIT_IOU) -> np.ndarray:
        """Whether each predicted box matches a true one: bool (D,), or (D, levels) for several levels of IOUS."""
        return self.partner[:, _columns(iou)] >= 0

    def of(self, rows: np.ndarray) -> Self:
        """The images of a boolean mask (n,) alone, numbered anew: equal to matching `scene.of(rows)`."""
        number, true_kept = np.cumsum(rows) - 1, rows[self.true_image]
        kept, true_number = rows[self.image], np.append(np.cumsum(true_kept) - 1, -1)
        of_boxes = (values[kept] for values in (number[self.image], self.corners, self.label, self.confidence))
        of_truth = (number[self.true_image][true_kept], self.true_label[true_kept])
        return Matched(int(rows.sum()), self.classes, *of_boxes, true_number[self.partner[kept]], *of_truth)


def match(scene: Scene) -> Matched:
    """Match the boxes of a scene at each of IOUS, with COCO's own code (Lin et al. 2014). Thresholds are applied later."""
    (true, true_image), (predicted, image) = scene.true_boxes, scene.predicted_boxes
    results = _evaluate(_coco(scene, np.insert(true, 4, 0, axis=1), true_image), _coco(scene, predicted, image))
    order = np.concatenate([np.zeros(0, dtype=int), *(result["dtIds"] for result in results)]).astype(int) - 1
    partner = np.concatenate([np.zeros((0, len(IOUS))), *(result["dtMatches"].T for result in results)]).astype(int) - 1
    of_boxes = (values[order] for values in (image, predicted[:, :4], predicted[:, 5].astype(int), predicted[:, 4]))
    return Matched(len(scene), len(scene.classes), *of_boxes, partner, true_image, true[:, 4].astype(int))


def _coco(scene: Scene, boxes: np.ndarray, image: np.ndarray) -> COCO:
    """Boxes (k, 6) in the form of pycocotools; identifiers start at 1, because there 0 means no match."""
    sides = np.column_stack([boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]])
    columns = zip(sides.tolist(), image.tolist(), boxes[:, 5].astype(int).tolist(), boxes[:, 4].tolist(), strict=True)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(len(scene))],
        "categories": [{"id": number} for number in range(len(scene.classes))],
        "annotations": [
            {"id": number, "image_id": of_image, "category_id": of_class, "bbox": box, "score": score}
            | {"area": box[2] * box[3], "iscrowd": 0}
            for number, (box, of_image, of_class, score) in enumerate(columns, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _evaluate(truth: COCO, predicted: COCO) -> list[dict]:
    """COCO's result for each class and image that has a box: identifiers of the boxes, and their matches at each of IOUS."""
    evaluation = COCOeval(truth, predicted, "bbox")
    evaluation.params.iouThrs = IOUS
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
    evaluation.params.maxDets = [MOST_BOXES]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return [result for result in evaluation.evalImgs if result is not None]


def average_precision(matched: Matched, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`map50` and `map50_95` (R,): the mean of `class_precision` over the classes with a true box in the sample."""
    of_classes = class_precision(matched, weights)
    defined = ~np.isnan(of_classes[:, :, 0])
    summed = np.where(defined[:, :, None], of_classes, 0).sum(axis=1)
    at_levels = evaluation_metrics.ratio(summed, defined.sum(axis=1)[:, None])
    return {"map50": at_levels[:, 0], "map50_95": at_levels.mean(axis=1)}


def class_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Average precision of each class at each of COCO_IOUS, interpolated at 101 recalls: float64 (R, classes, 10).

    Equal to pycocotools' accumulate() on the images as often as `weights` says. Boxes of equal confidence are taken in the
    order of the images, as there (copies of an image follow one another; if they hold equal confidences, box by box).
    """
    values = np.full((len(weights), matched.classes, len(COCO_IOUS)), np.nan)
    for label in range(matched.classes):
        boxes = np.flatnonzero(matched.label == label)
        boxes = boxes[np.argsort(-matched.confidence[boxes], kind="stable")]
        true_boxes = np.bincount(matched.true_image[matched.true_label == label], minlength=matched.images)
        values[:, label] = _interpolated(matched.image[boxes], matched.hit(COCO_IOUS)[boxes], true_boxes, weights)
    return values


def _interpolated(image: np.ndarray, hit: np.ndarray, true_boxes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (R, levels) of boxes in falling order of confidence: `image` (D,), `hit` (D, levels).

    The falling envelope of precision only steps down after a hit, so the points at hits are all that is needed: they are no
    more than the true boxes, however many predicted boxes there are. `true_boxes`: how many each image has (n,).
    """
    points = np.flatnonzero(hit.any(axis=1))
    counter = _counter(image, np.arange(len(image)), points, len(true_boxes))
    parts = []
    for chunk in evaluation_metrics.chunks(weights, max(len(points), len(true_boxes))):
        boxes = np.cumsum(chunk @ counter, axis=1)
        at_points = chunk[:, image[points]]
        truths = chunk @ true_boxes
        levels = [_area(np.cumsum(at_points[:, kept], axis=1), boxes[:, kept], truths) for kept in hit[points].T]
        parts.append(np.stack(levels, axis=1))
    return np.concatenate(parts)


def _area(tp: np.ndarray, boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Mean precision (R,) at RECALLS, from the counts of true positives and boxes at each hit (R, hits), true boxes (R,)."""
    precision = tp / (boxes + np.spacing(1))
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = tp / np.maximum(truths, 1)[:, None]
    reached = np.searchsorted(RECALLS, recall, side="right")
    area = (falling * np.diff(reached, prepend=0, axis=1)).sum(axis=1) / len(RECALLS)
    return np.where(truths > 0, area, np.nan)


def _counter(image: np.ndarray, key: np.ndarray, points: np.ndarray, images: int) -> sparse.csr_array:
    """A matrix (images, points): boxes of each image with a `key` above the point before and up to this one (ascending).

    `np.cumsum(weights @ matrix, axis=1)` is then the number of boxes up to each point in each resample.
    """
    place = np.searchsorted(points, key, side="left")
    kept = place < len(points)
    cells = (image[kept], place[kept])
    return sparse.coo_array((np.ones(kept.sum()), cells), shape=(images, len(points))).tocsr()


def froc(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Sensitivity at each of FROC_LEVELS false positives an image: float64 (R, 7); `froc_mean` is the mean of a row.

    Sensitivity: the share of true boxes, all classes together, that a box of their class matches with IoU >= 0.5, at the
    lowest threshold with at most so many false positives an image (Bandos et al. 2009; levels as LUNA16, Setio et al. 2017).
    It is 0 where even the most confident boxes bring more false positives.
    """
    hit = matched.hit()
    points = np.flatnonzero(hit)
    points = points[np.argsort(-matched.confidence[points], kind="stable")]
    counter = _counter(matched.image[~hit], -matched.confidence[~hit], -matched.confidence[points], matched.images)
    true_boxes = np.bincount(matched.true_image, minlength=matched.images)
    parts = []
    for chunk in evaluation_metrics.chunks(weights, max(len(points), matched.images)):
        false_positives, at_points = np.cumsum(chunk @ counter, axis=1), chunk[:, matched.image[points]]
        allowed = np.outer(FROC_LEVELS, chunk.sum(axis=1))
        hits = np.stack([(at_points * (false_positives <= level[:, None])).sum(axis=1) for level in allowed], axis=1)
        parts.append(evaluation_metrics.ratio(hits, (chunk @ true_boxes)[:, None]))
    return np.concatenate(parts)


def curve(matched: Matched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every confidence as a threshold, falling, with the true and false positives (IoU >= 0.5) at or above it: three (S,)."""
    thresholds, place = np.unique(-matched.confidence, return_inverse=True)
    hit = matched.hit()
    tp, fp = (np.cumsum(np.bincount(place, weights=of_kind, minlength=len(thresholds))) for of_kind in (hit, ~hit))
    return -thresholds, tp, fp


def froc_curve(matched: Matched) -> tuple[np.ndarray, np.ndarray]:
    """False positives an image and sensitivity at each threshold of `curve`, from nothing on: two (S + 1,)."""
    _, tp, fp = curve(matched)
    images, truths = np.array(matched.images), np.array(len(matched.true_image))
    return evaluation_metrics.ratio(np.append(0, fp), images), evaluation_metrics.ratio(np.append(0, tp), truths)


def localisation(
    matched: Matched, thresholds: np.ndarray, weights: np.ndarray, ious: np.ndarray = LOCALISATION_IOUS
) -> tuple[np.ndarray, np.ndarray]:
    """Localisation accuracy and average false positives at each of `ious` (some of IOUS): two float64 (R, levels).

    With the boxes at or above the threshold of their image (n,): the share of true boxes that a box of their class matches with
    IoU >= T, and the boxes without a match, per image (ChestX-ray8, Wang et al. 2017; there a second box on the same lesion is
    no false positive, here it is).
    """
    tp, fp, true_boxes = _counts(matched, thresholds, weights, ious)
    return evaluation_metrics.ratio(tp, true_boxes), evaluation_metrics.ratio(fp, weights.sum(axis=1, keepdims=True))


def of_boxes(matched: Matched, thresholds: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`box_precision`, `box_recall`, `box_f1` (R,) of the boxes at or above their image's threshold (n,), IoU >= 0.5."""
    tp, fp, true_boxes = (counts[:, 0] for counts in _counts(matched, thresholds, weights, np.array([HIT_IOU])))
    matrix = np.stack([np.zeros_like(tp), fp, true_boxes - tp, tp], axis=1).reshape(-1, 2, 2)
    values = evaluation_metrics.of_confusion(matrix)
    return {f"box_{name}": values[name] for name in ("precision", "recall", "f1")}


def best_confidence(matched: Matched) -> np.ndarray:
    """Confidence of the box that matches each true box at IoU >= 0.5, NaN where none does: float64 (G,).

    A true box is found at a threshold when this is at or above it.
    """
    values = np.full(len(matched.true_image), np.nan)
    hit = matched.hit()
    values[matched.partner[hit, _columns(HIT_IOU)]] = matched.confidence[hit]
    return values


def _counts(
    matched: Matched, thresholds: np.ndarray, weights: np.ndarray, ious: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives (R, levels) of the boxes at or above their image's threshold, and true boxes (R, 1)."""
    hit, kept = matched.hit(ious), matched.confidence >= thresholds[matched.image]
    true = np.ones((len(matched.true_image), 1))

    def summed(image: np.ndarray, counted: np.ndarray) -> np.ndarray:
        of_images = np.zeros((matched.images, counted.shape[1]))
        np.add.at(of_images, image, counted)
        return evaluation_metrics.weighted_sum(weights, of_images)

    return summed(matched.image[kept], hit[kept]), summed(matched.image[kept], ~hit[kept]), summed(matched.true_image, true)


def _columns(iou: float | np.ndarray) -> int | np.ndarray:
    """The columns of `Matched.partner` for one or several levels of IOUS."""
    return np.abs(IOUS - np.asarray(iou)[..., None]).argmin(axis=-1)
