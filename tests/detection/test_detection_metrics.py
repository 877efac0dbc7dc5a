"""Metrics of detectors against pycocotools on random boxes, images really repeated, and small cases worked by hand."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hemoct.detection import metrics
from hemoct.detection.predictions import Scene
from hemoct.evaluation import bootstrap, metrics as evaluation_metrics

UNIT = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def scene(*images, classes: int = 1) -> Scene:
    """A scene of images, each (true boxes, found boxes): corners [+ class], corners + confidence [+ class]."""
    table = pd.DataFrame({"image_id": [f"{n:04d}" for n in range(len(images))], "patient": "p", "fold": 0, "part": "test"})
    truth = [_with_class(true, 5) for true, _ in images]
    return Scene(table, [f"class{n}" for n in range(classes)], [boxes[:, :4] for boxes in truth],
                 [boxes[:, 4].astype(int) for boxes in truth], [_with_class(found, 6) for _, found in images])  # fmt: skip


def _with_class(boxes, width: int) -> np.ndarray:
    return np.array([[*box, 0][:width] for box in boxes], dtype=float).reshape(-1, width)


def random_scene(seed: int, images: int = 40, classes: int = 1, decimals: int = 2, most: int = 6) -> Scene:
    """0 to 3 true boxes an image, up to `most` boxes found: some of them true ones moved a little. Equal confidences abound,
    but within an image and class each is used once."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(images):
        low = random.uniform(0, 60, (random.integers(0, 4), 2))
        true = np.column_stack([low, low + random.uniform(15, 40, low.shape), random.integers(0, classes, len(low))])
        low = random.uniform(0, 60, (random.integers(0, most), 2))
        found = np.column_stack([low, low + random.uniform(15, 40, low.shape)])
        copied = random.random(len(found)) < 0.7 if len(true) else np.zeros(len(found), dtype=bool)
        source = random.integers(0, max(1, len(true)), len(found))
        found[copied] = (true[source[copied], :4] if len(true) else found[copied]) + random.normal(0, 2, (copied.sum(), 4))
        label = np.where(copied, true[source, 4] if len(true) else 0, random.integers(0, classes, len(found)))
        steps = 10**decimals
        sure = np.sort(random.choice(np.arange(1, steps), len(found), replace=False))[::-1] / steps
        drawn.append((true, np.column_stack([found, sure, label])))
    return scene(*drawn, classes=classes)


def coco(of: Scene) -> dict[str, float]:
    """mAP from pycocotools' own run, from the images to the end. -1 means undefined there."""
    truth, found = [], []
    for number, (true, label, boxes) in enumerate(zip(of.truth, of.truth_class, of.predicted, strict=True)):
        for box, of_class in zip(true, label, strict=True):
            sides = [*box[:2], *(box[2:] - box[:2])]
            truth.append({"id": len(truth) + 1, "image_id": number, "category_id": int(of_class) + 1, "bbox": sides,
                          "area": sides[2] * sides[3], "iscrowd": 0})  # fmt: skip
        found += [[number, *box[:2], *(box[2:4] - box[:2]), box[4], box[5] + 1] for box in boxes]
    with contextlib.redirect_stdout(io.StringIO()):
        made = COCO()
        made.dataset = {"images": [{"id": number} for number in range(len(of))], "annotations": truth,
                        "categories": [{"id": number + 1} for number in range(len(of.classes))]}  # fmt: skip
        made.createIndex()
        run = COCOeval(made, made.loadRes(np.array(found)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"map50": run.stats[1], "map50_95": run.stats[0]}


def repeated(of: Scene, times: np.ndarray) -> Scene:
    return of.of(np.repeat(np.arange(len(of)), times))


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("classes", [1, 3])
def test_average_precision_equals_pycocotools_on_images_really_repeated(classes, decimals):
    """Confidences of one decimal: nine values for 100 boxes, so that nearly all are tied between images."""
    drawn = random_scene(decimals, classes=classes, decimals=decimals)
    weights = np.vstack([np.ones(len(drawn), dtype=int), np.random.default_rng(0).integers(0, 4, (4, len(drawn)))])
    values = metrics.average_precision(metrics.match(drawn), weights)
    for row, times in enumerate(weights):
        for name, expected in coco(repeated(drawn, times)).items():
            assert 0 < expected < 1
            assert values[name][row] == pytest.approx(expected, abs=1e-9), (name, row)


def test_ties_within_an_image_are_taken_as_pycocotools_takes_them():
    drawn = random_scene(5, classes=2)
    equal = [np.column_stack([boxes[:, :4], np.full(len(boxes), 0.5), boxes[:, 5]]) for boxes in drawn.predicted]
    tied = replace(drawn, predicted=equal)
    values = metrics.average_precision(metrics.match(tied), evaluation_metrics.ones(len(tied)))
    assert values["map50_95"][0] == pytest.approx(coco(tied)["map50_95"], abs=1e-9)


def test_every_metric_sees_a_weight_of_two_as_an_image_twice():
    drawn, random = random_scene(7, classes=2), np.random.default_rng(1)
    times, thresholds = random.integers(0, 4, len(drawn)), random.uniform(0.1, 0.6, len(drawn))
    whole, copies = metrics.match(drawn), metrics.match(repeated(drawn, times))
    ones = evaluation_metrics.ones(times.sum())
    np.testing.assert_array_equal(metrics.froc(whole, times[None]), metrics.froc(copies, ones))
    of_copies = np.repeat(thresholds, times)
    np.testing.assert_array_equal(
        metrics.localisation(whole, thresholds, times[None]), metrics.localisation(copies, of_copies, ones)
    )
    assert metrics.of_boxes(whole, thresholds, times[None]) == metrics.of_boxes(copies, of_copies, ones)


def test_the_order_of_the_images_changes_nothing():
    """Confidences of six decimals are all different; ties are taken in the order of the images, as pycocotools does."""
    drawn = random_scene(8, classes=2, decimals=6)
    order = np.random.default_rng(2).permutation(len(drawn))
    weights, thresholds = np.random.default_rng(3).integers(0, 3, (5, len(drawn))), np.linspace(0.1, 0.6, len(drawn))
    one, other = metrics.match(drawn), metrics.match(drawn.of(order))
    np.testing.assert_allclose(metrics.class_precision(one, weights), metrics.class_precision(other, weights[:, order]))
    np.testing.assert_allclose(metrics.froc(one, weights), metrics.froc(other, weights[:, order]))
    here, there = (
        metrics.localisation(one, thresholds, weights),
        metrics.localisation(other, thresholds[order], weights[:, order]),
    )
    np.testing.assert_allclose(here, there)


def test_images_of_a_fold_match_alone_as_among_others():
    drawn = random_scene(9, classes=2)
    rows = np.arange(len(drawn)) % 3 == 0
    part, alone = metrics.match(drawn).of(rows), metrics.match(drawn.of(rows))
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(getattr(part, name), value, err_msg=name)


def test_perfect_boxes_score_one():
    true = [[*UNIT, 0], [*FAR, 1]]
    drawn = scene((true, [[*UNIT, 0.9, 0], [*FAR, 0.8, 1]]), ([], []), (true[:1], [[*UNIT, 0.7, 0]]), classes=2)
    matched, ones = metrics.match(drawn), evaluation_metrics.ones(3)
    assert metrics.average_precision(matched, ones) == {"map50": [pytest.approx(1)], "map50_95": [pytest.approx(1)]}
    assert (metrics.froc(matched, ones) == 1).all()
    accuracy, false_positives = metrics.localisation(matched, np.full(3, 0.7), ones)
    assert (accuracy == 1).all() and (false_positives == 0).all()
    assert metrics.of_boxes(matched, np.full(3, 0.7), ones) == {"box_precision": [1], "box_recall": [1], "box_f1": [1]}


def test_average_precision_by_hand():
    """Three boxes: hit 0.9, miss 0.8, hit 0.7, of two true ones. Precision 1 up to recall 1/2 (the 51 recalls 0 .. 0.50),
    then 2/3 (the other 50): (51 + 50 x 2/3) / 101. The second image twice, the first once: wanted 3, hits 0.9, then 0.7 twice,
    the miss between them twice: 1 up to recall 1/3 (34 recalls 0 .. 0.33), then 3/5 (67)."""
    drawn = scene(([UNIT], [[*UNIT, 0.9]]), ([UNIT], [[*FAR, 0.8], [*UNIT, 0.7]]))
    values = metrics.average_precision(metrics.match(drawn), np.array([[1, 1], [1, 2]]))
    expected = [(51 + 50 * 2 / 3) / 101, (34 + 67 * 3 / 5) / 101]
    np.testing.assert_allclose(values["map50"], expected, rtol=1e-12)
    np.testing.assert_allclose(values["map50_95"], expected, rtol=1e-12)


def test_each_level_of_overlap_counts_in_map50_95():
    """A box of 10 x 7.2 within one of 10 x 10: IoU 0.72, a hit at 0.50 .. 0.70, five of the ten levels."""
    values = metrics.average_precision(metrics.match(scene(([UNIT], [[0, 0, 10, 7.2, 0.9]]))), evaluation_metrics.ones(1))
    assert values["map50"] == pytest.approx(1) and values["map50_95"] == pytest.approx(0.5)


def test_a_class_without_truth_is_left_out_of_the_mean():
    """Class 0: found. Class 1: missed. Class 2: a false alarm, no truth. In the second resample image 0 alone counts."""
    drawn = scene(([[*UNIT, 0]], [[*UNIT, 0.9, 0], [*FAR, 0.5, 2]]), ([[*UNIT, 1]], []), classes=3)
    matched, weights = metrics.match(drawn), np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(metrics.average_precision(matched, weights)["map50"], [0.5, 1, 0, np.nan])
    np.testing.assert_allclose(metrics.class_precision(matched, weights)[:2, :, 0], [[1, 0, np.nan], [1, np.nan, np.nan]])


def test_a_class_must_agree():
    drawn = scene(([[*UNIT, 0]], [[*UNIT, 0.9, 1]]), classes=2)
    matched = metrics.match(drawn)
    assert (metrics.froc(matched, evaluation_metrics.ones(1)) == 0).all()
    accuracy, false_positives = metrics.localisation(matched, np.zeros(1), evaluation_metrics.ones(1))
    assert (accuracy == 0).all() and (false_positives == 1).all()


def test_froc_by_hand():
    """Four images, three true boxes. By falling confidence: hit (0.9, image 0), false (0.8, image 1), a second box on the true
    one of image 0 (0.75, hence false), hit and false tied (0.7, images 2 and 3), hit (0.6, image 2). So the points
    (false positives an image, sensitivity) are (0, 1/3), (1/4, 1/3), (2/4, 1/3), (3/4, 2/3), (3/4, 3/3)."""
    drawn = scene(
        ([UNIT], [[*UNIT, 0.9], [0, 0, 10, 9, 0.75]]),
        ([], [[*FAR, 0.8]]),
        ([UNIT, FAR], [[*UNIT, 0.7], [*FAR, 0.6]]),
        ([], [[*FAR, 0.7]]),
    )
    matched = metrics.match(drawn)
    np.testing.assert_allclose(metrics.froc(matched, evaluation_metrics.ones(4)), [[1 / 3, 1 / 3, 1 / 3, 1, 1, 1, 1]])
    thresholds, tp, fp = metrics.curve(matched)
    np.testing.assert_array_equal([thresholds, tp, fp], [[0.9, 0.8, 0.75, 0.7, 0.6], [1, 1, 1, 2, 3], [0, 1, 2, 3, 3]])
    np.testing.assert_allclose(metrics.froc_curve(matched), [[0, 0, 0.25, 0.5, 0.75, 0.75], np.array([0, 1, 1, 1, 2, 3]) / 3])
    # image 1 four times, image 3 never: 6 images, false positives 4 at 0.8 and 5 at 0.75; 4/6 > 1/2, 5/6 <= 1
    np.testing.assert_allclose(metrics.froc(matched, np.array([[1, 4, 1, 0]])), [[1 / 3, 1 / 3, 1 / 3, 1, 1, 1, 1]])
    # image 1 nine times, image 2 never: 11 images, one true box; 9/11 > 1/2, 10/11 <= 1
    np.testing.assert_allclose(metrics.froc(matched, np.array([[1, 9, 0, 1]])), [[1] * 7])


def test_froc_is_zero_where_the_surest_boxes_are_false():
    """One image, its surest box is false: sensitivity 0 below one false positive an image."""
    values = metrics.froc(metrics.match(scene(([UNIT], [[*FAR, 0.9], [*UNIT, 0.8]]))), evaluation_metrics.ones(1))
    np.testing.assert_array_equal(values, [[0, 0, 0, 1, 1, 1, 1]])


def test_froc_equals_a_search_over_all_thresholds():
    drawn = random_scene(11, images=60, classes=2, most=12)
    matched = metrics.match(drawn)
    weights = np.random.default_rng(4).integers(0, 3, (6, len(drawn)))
    expected = np.zeros((6, 7))
    for row, times in enumerate(weights):
        for threshold in np.unique(matched.confidence):
            kept = matched.confidence >= threshold
            fp = times[matched.image[kept & ~matched.hit()]].sum() / times.sum()
            tp = times[matched.image[kept & matched.hit()]].sum() / times[matched.true_image].sum()
            expected[row] = np.where(fp <= metrics.FROC_LEVELS, np.maximum(expected[row], tp), expected[row])
    assert len(np.unique(expected)) > 7
    np.testing.assert_allclose(metrics.froc(matched, weights), expected)


def test_a_hit_begins_at_half_an_overlap():
    """10 x 5 of 10 x 10 is an IoU of 0.5 exactly; 10 x 4.9 is not."""
    matched = metrics.match(scene(([UNIT], [[0, 0, 10, 5, 0.9]]), ([UNIT], [[0, 0, 10, 4.9, 0.9]])))
    np.testing.assert_array_equal(matched.hit(), [True, False])
    assert (metrics.froc(matched, evaluation_metrics.ones(2)) == [[0.0, 0.0, *[0.5] * 5]]).all()
    np.testing.assert_array_equal(metrics.of_boxes(matched, np.zeros(2), evaluation_metrics.ones(2))["box_recall"], [0.5])
    np.testing.assert_array_equal(metrics.best_confidence(matched), [0.9, np.nan])


def test_localisation_and_box_metrics_by_hand():
    """Thresholds 0.5 and 0.8. Image 0: 10 x 4 of 10 x 10 (IoU 0.4) at 0.9, and a false box below its threshold. Image 1: the
    true box exactly at its threshold, again by a second box, and another at 0.7 (below). Two true boxes in image 1, one in 0."""
    drawn = scene(
        ([UNIT], [[0, 0, 10, 4, 0.9], [*FAR, 0.4]]),
        ([UNIT, FAR], [[0, 0, 10, 9, 0.85], [*UNIT, 0.8], [*FAR, 0.7]]),
    )
    matched, thresholds = metrics.match(drawn), np.array([0.5, 0.8])
    accuracy, false_positives = metrics.localisation(matched, thresholds, np.array([[1, 1], [2, 1]]))
    np.testing.assert_allclose(accuracy, [[2 / 3] * 4 + [1 / 3] * 3, [3 / 4] * 4 + [1 / 4] * 3])
    np.testing.assert_allclose(false_positives, [[1 / 2] * 4 + [2 / 2] * 3, [1 / 3] * 4 + [3 / 3] * 3])
    values = metrics.of_boxes(matched, thresholds, np.array([[1, 1], [2, 1]]))
    np.testing.assert_allclose(values["box_precision"], [1 / 3, 1 / 4])
    np.testing.assert_allclose(values["box_recall"], [1 / 3, 1 / 4])
    np.testing.assert_allclose(values["box_f1"], [1 / 3, 1 / 4])


def test_the_confidence_that_found_each_true_box():
    drawn = scene(([UNIT, FAR], [[0, 0, 10, 4, 0.9], [*FAR, 0.6]]), ([UNIT], [[*UNIT, 0.3], [*UNIT, 0.2]]))
    np.testing.assert_array_equal(metrics.best_confidence(metrics.match(drawn)), [np.nan, 0.6, 0.3])
    np.testing.assert_array_equal(drawn.true_boxes[0][:, :4], [UNIT, FAR, UNIT])


def test_each_box_keeps_what_it_is():
    drawn = random_scene(12, classes=3)
    matched = metrics.match(drawn)
    kept = np.column_stack([matched.image, matched.corners, matched.confidence, matched.label])
    given = [[image, *box] for image, boxes in enumerate(drawn.predicted) for box in boxes]
    np.testing.assert_array_equal(sorted(kept.tolist()), sorted(given))
    hit = matched.hit()
    partner = matched.partner[hit, list(metrics.IOUS).index(0.5)]
    np.testing.assert_array_equal(matched.true_image[partner], matched.image[hit])
    assert len(set(partner)) == len(partner), "a true box is taken once"


NOTHING_FOUND = scene(([UNIT], []), ([], []))
NO_TRUTH = scene(([], [[*UNIT, 0.9]]), ([], []))
NEITHER = scene(([], []), ([], []))
NO_IMAGE = scene()


@pytest.mark.parametrize(
    ("drawn", "share", "precision", "f1", "per_image"),
    [(NOTHING_FOUND, 0, np.nan, 0, 0), (NO_TRUTH, np.nan, 0, 0, 0.5), (NEITHER, np.nan, np.nan, np.nan, 0),
     (NO_IMAGE, np.nan, np.nan, np.nan, np.nan)],
    ids=["nothing found", "no truth", "neither", "no image"],
)  # fmt: skip
def test_what_is_undefined_is_nan_and_never_a_number(drawn, share, precision, f1, per_image):
    matched, ones, thresholds = metrics.match(drawn), evaluation_metrics.ones(len(drawn)), np.zeros(len(drawn))
    shares = [
        *metrics.average_precision(matched, ones).values(),
        metrics.froc(matched, ones),
        metrics.class_precision(matched, ones),
    ]
    accuracy, false_positives = metrics.localisation(matched, thresholds, ones)
    for values in (*shares, accuracy):
        np.testing.assert_array_equal(values, np.full(values.shape, share))
    assert accuracy.shape == false_positives.shape == (1, 7)
    np.testing.assert_array_equal(false_positives, np.full((1, 7), per_image))
    of_boxes = metrics.of_boxes(matched, thresholds, ones)
    np.testing.assert_array_equal(
        [of_boxes[name][0] for name in ("box_precision", "box_recall", "box_f1")], [precision, share, f1]
    )
    assert [len(part) for part in metrics.froc_curve(matched)] == [len(matched.confidence) + 1] * 2
    np.testing.assert_array_equal(metrics.best_confidence(matched), np.full(len(matched.true_image), np.nan))


def test_a_resample_without_truth_is_undefined_beside_others_that_are_not():
    drawn = scene(([UNIT], [[*UNIT, 0.9]]), ([], [[*FAR, 0.8]]))
    matched, weights = metrics.match(drawn), np.array([[1, 1], [0, 2], [0, 0]], dtype=np.int16)
    np.testing.assert_allclose(metrics.average_precision(matched, weights)["map50"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.froc(matched, weights)[:, 0], [1, np.nan, np.nan])
    accuracy, false_positives = metrics.localisation(matched, np.zeros(2), weights)
    np.testing.assert_array_equal(accuracy[:, 0], [1, np.nan, np.nan])
    np.testing.assert_array_equal(false_positives[:, 0], [0.5, 1, np.nan])


def test_no_resamples_give_no_values():
    matched, none = metrics.match(random_scene(1, images=5)), np.empty((0, 5), dtype=np.int16)
    assert metrics.average_precision(matched, none)["map50"].shape == (0,)
    assert metrics.froc(matched, none).shape == (0, 7)
    assert metrics.of_boxes(matched, np.zeros(5), none)["box_f1"].shape == (0,)


def test_chunks_change_nothing_and_bound_the_memory(monkeypatch):
    drawn = random_scene(13)
    weights = bootstrap.weights(np.arange(40).astype(str), np.zeros(40), 30)
    matched = metrics.match(drawn)
    whole = [metrics.class_precision(matched, weights), metrics.froc(matched, weights)]
    seen = []
    monkeypatch.setattr(evaluation_metrics, "CHUNK", 200)
    monkeypatch.setattr(metrics, "_area", lambda tp, *rest, area=metrics._area: seen.append(tp.size) or area(tp, *rest))
    np.testing.assert_array_equal(whole[0], metrics.class_precision(matched, weights))
    np.testing.assert_array_equal(whole[1], metrics.froc(matched, weights))
    assert max(seen) <= 200


def test_pycocotools_is_silent(capfd):
    metrics.match(random_scene(14, images=3))
    assert capfd.readouterr() == ("", "")
