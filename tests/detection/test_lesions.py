"""Boxes linked into lesions, found or missed: small cases worked by hand."""

import numpy as np
import pandas as pd
import pytest

from hemoct.detection import lesions, metrics
from hemoct.detection.predictions import COLUMNS, CORNERS, GEOMETRY, Scene
from hemoct.evaluation import bootstrap, metrics as evaluation_metrics

HERE, NEAR, FAR = [0, 0, 10, 10], [0, 2, 10, 12], [50, 50, 60, 60]


def scene(*images, fold: object = 0) -> tuple[Scene, pd.Series]:
    """Images (patient, slice, true boxes, found boxes) as a scene, and their slice numbers. A box may end in its class (0)."""
    ids = [f"{patient}_{place:02d}" for place, (patient, *_) in enumerate(images)]
    table = pd.DataFrame({"image_id": ids, "patient": [row[0] for row in images], "fold": fold, "part": "test"})
    table = table.astype({"image_id": "str", "patient": "str"})
    truth = [np.array([[*box, 0][:5] for box in row[2]], dtype=float).reshape(-1, 5) for row in images]
    found = [np.array([[*box, 0][:6] for box in row[3]], dtype=float).reshape(-1, 6) for row in images]
    made = Scene(table, ["a", "b"], [of[:, :4] for of in truth], [of[:, 4].astype(int) for of in truth], found)
    return made, pd.Series([row[1] for row in images], index=ids, dtype="Int64")


def linked(*images) -> pd.DataFrame:
    return lesions.link(*scene(*images))


def test_neighbouring_slices_make_a_lesion_with_first_middle_and_last():
    frame = linked(("1", 4, [HERE], []), ("1", 5, [NEAR], []), ("1", 6, [HERE], []), ("1", 7, [], []), ("1", 8, [HERE], []))
    assert list(frame["lesion"]) == ["1_1"] * 3 + ["1_2"], "a slice without a box ends a lesion"
    assert list(frame["position"]) == ["first", "middle", "last", "single"]
    assert list(frame["slice"]) == [4, 5, 6, 8] and list(frame["image"]) == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("other", "together"),
    [
        (("1", 6, [[0, 0, 10, 1]], []), True),  # 10 of 100 px: IoU 0.1 exactly
        (("1", 6, [[0, 0, 10, 0.9]], []), False),
        (("1", 7, [HERE], []), False),
        (("1", 5, [HERE], []), False),  # the same slice number twice
        (("2", 6, [HERE], []), False),
        (("1", 6, [[*HERE, 1]], []), False),
        (("1", 4, [HERE], []), True),
        (("1", pd.NA, [HERE], []), False),
    ],
    ids=["touching", "hardly", "a slice between", "same slice", "other patient", "other class", "below", "unknown"],
)
def test_what_links_two_boxes(other, together):
    frame = linked(("1", 5, [HERE], []), other)
    assert (frame["lesion"].nunique() == 1) == together
    alone = {"single", "unknown"}
    assert set(frame["position"]) == {"first", "last"} if together else set(frame["position"]) <= alone


def test_a_fork_is_one_lesion():
    """Two boxes of slice 2 that do not touch each other, both over the wide one of slice 1: IoU 100/300 each."""
    frame = linked(("1", 1, [[0, 0, 30, 10]], []), ("1", 2, [HERE, [20, 0, 30, 10]], []))
    assert frame["lesion"].nunique() == 1 and list(frame["position"]) == ["first", "last", "last"]


def test_unknown_slices_are_lesions_of_their_own():
    frame = linked(("1", pd.NA, [HERE, FAR], []), ("1", pd.NA, [HERE], []), ("1", 3, [HERE], []))
    assert list(frame["lesion"]) == ["1_2", "1_3", "1_4", "1_1"]
    assert list(frame["position"]) == ["unknown"] * 3 + ["single"]


def test_the_order_of_images_does_not_matter():
    made, slices = scene(("1", 6, [HERE], []), ("2", 5, [HERE], []), ("1", 4, [HERE, FAR], []), ("1", 5, [NEAR], []))
    frame = lesions.link(made, slices).set_index(["image_id", "xmin"])
    turned = lesions.link(made.of(np.array([3, 1, 2, 0])), slices.sample(frac=1, random_state=0)).set_index(["image_id", "xmin"])
    pd.testing.assert_frame_equal(frame.drop(columns="image"), turned.drop(columns="image").reindex(frame.index))
    assert frame["lesion"].value_counts().to_dict() == {"1_1": 3, "1_2": 1, "2_1": 1}


IMAGES = (
    ("1", 4, [HERE], [[*HERE, 0.9]]),
    ("1", 5, [[0, 0, 10, 20]], [[0, 0, 10, 20, 0.6]]),  # below the threshold
    ("1", 6, [FAR], [[*HERE, 0.9]]),  # a box elsewhere
    ("2", 1, [HERE], [[*HERE, 0.3], [*FAR, 0.95]]),
    ("2", 2, [], [[*HERE, 0.99]]),
)


def measured(*images, threshold: float = 0.7, fold: object = 0) -> tuple[pd.DataFrame, Scene]:
    made, slices = scene(*images, fold=fold)
    found = metrics.best_confidence(metrics.match(made))
    return lesions.per_lesion(lesions.link(made, slices), found, np.full(len(made), threshold)), made


def test_per_lesion_by_hand():
    """Lesion 1_1: slices 4 and 5, 100 + 200 px, found by one of its two boxes. 1_2 and 2_1: missed, the latter with 0.3."""
    table, _ = measured(*IMAGES, fold=3)
    expected = pd.DataFrame(
        [["1_1", "1", "3", "a", 4, 5, 2, 2, 300.0, 1, True, 0.9],
         ["1_2", "1", "3", "a", 6, 6, 1, 1, 100.0, 0, False, np.nan],
         ["2_1", "2", "3", "a", 1, 1, 1, 1, 100.0, 0, False, 0.3]],
        columns=["lesion", "patient", "fold", "class", "first_slice", "last_slice", "slices", "boxes", "volume_px",
                 "boxes_found", "found", "best_confidence"],
    ).astype({"first_slice": "Int64", "last_slice": "Int64"})  # fmt: skip
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_a_box_at_its_images_threshold_counts_as_found():
    table, _ = measured(*IMAGES, threshold=0.3)
    assert list(table["found"]) == [True, False, True] and list(table["boxes_found"]) == [2, 0, 1]


def test_thresholds_are_those_of_the_image():
    made, slices = scene(*IMAGES)
    found = metrics.best_confidence(metrics.match(made))
    table = lesions.per_lesion(lesions.link(made, slices), found, np.array([0.95, 0.5, 0.7, 0.2, 0.7]))
    assert list(table["boxes_found"]) == [1, 0, 1]


def test_lesions_are_sorted_by_number_not_by_name():
    table, _ = measured(*(("1", 2 * number, [HERE], []) for number in range(11)))
    assert list(table["lesion"]) == [f"1_{number}" for number in range(1, 12)]


def test_a_lesion_over_two_folds_names_both():
    table, _ = measured(("1", 1, [HERE], []), ("1", 2, [HERE], []), ("2", 1, [HERE], []), fold=[2, 0, 1])
    assert list(table["fold"]) == ["0+2", "1"]


def test_lesion_recall_by_hand():
    """Found 1 of 2 lesions of patient 1, 0 of 1 of patient 2. Patient 1 twice and patient 2 once: 2 of 5."""
    table, made = measured(*IMAGES)
    patients = made.table["patient"].to_numpy()
    weights = np.array([[1] * 5, [2, 2, 2, 1, 1], [0, 0, 0, 2, 2], [0] * 5], dtype=np.int16)
    np.testing.assert_allclose(lesions.lesion_recall(table, patients, weights), [1 / 3, 2 / 5, 0, np.nan])


def test_lesion_recall_equals_the_mean_over_repeated_patients():
    random = np.random.default_rng(0)
    images = [(f"{p:02d}", s, [HERE] if random.random() < 0.5 else [], [[*HERE, random.random()]])
              for p in range(12) for s in range(6)]  # fmt: skip
    table, made = measured(*images)
    patients = made.table["patient"].to_numpy()
    weights = bootstrap.weights(patients, np.zeros(len(patients)), 20)
    times = pd.DataFrame(weights.T, index=patients).groupby(level=0).first()
    copies = [np.repeat(table["found"].to_numpy(), times[draw].reindex(table["patient"])) for draw in times]
    assert 0.1 < table["found"].mean() < 0.9
    np.testing.assert_allclose(lesions.lesion_recall(table, patients, weights), [drawn.mean() for drawn in copies])


@pytest.mark.parametrize("images", [(), (("1", 1, [], [[*HERE, 0.9]]),)], ids=["no image", "no lesion"])
def test_without_a_lesion_there_is_a_table_without_rows(images):
    table, made = measured(*images)
    assert len(table) == 0 and list(table.columns)[:2] == ["lesion", "patient"]
    assert np.isnan(lesions.lesion_recall(table, made.table["patient"].to_numpy(), evaluation_metrics.ones(len(made)))).all()
    frame = lesions.link(*scene(*images))
    assert {"image_id", "slice", "lesion", "position"} < set(frame.columns)


# ---- predicted boxes that support each other

BEHIND = pd.Series({"1": "2", "2": "3"})


def predicted(*rows) -> pd.DataFrame:
    """Boxes (image_id, confidence, corners) of one fold's validation slices; confidence None: a slice without a box."""
    frame = pd.DataFrame([(name, sure, *(box or [np.nan] * 4)) for name, sure, box in rows], columns=["image_id", *GEOMETRY])
    frame["class"] = np.where(frame["confidence"].isna(), "", "a")
    return frame.assign(patient="p", fold=0, part="val").astype({"confidence": float})[COLUMNS]


def test_a_box_has_one_partner_on_each_side_and_doubles_have_none():
    """Slice 2 has a second box on the same place, slice 3 one that hardly overlaps (IoU 0.25) and one of another class."""
    frame = predicted(("1", 0.8, HERE), ("2", 0.5, HERE), ("2", 0.4, HERE), ("3", 0.9, [0, 6, 10, 16]), ("3", 0.9, HERE))
    frame.loc[4, "class"] = "b"
    found = lesions.partners(frame, BEHIND)
    assert found[["box", "other"]].to_numpy().tolist() == [[0, 1], [1, 0]] and found["support"].tolist() == [0.5, 0.8]
    assert lesions.partners(frame.assign(part=["val", "test", "test", "test", "test"]), BEHIND).empty, "of another part"


def test_confidence_and_corners_with_support_by_hand():
    frame = predicted(("1", 0.9, HERE), ("2", 0.4, NEAR), ("2", 0.5, FAR), ("3", None, None))
    found = lesions.partners(frame, BEHIND)  # IoU of HERE and NEAR: 80 / 120
    linked = lesions.supported(frame, found, 0.5, 0.3)
    assert linked["image_id"].tolist() == ["1", "2", "2", "3"]
    expected = [(0.9 * 0.4 * 2 / 3) ** 0.5, (0.4 * 0.9 * 2 / 3) ** 0.5, (0.5 * lesions.LEAST_SUPPORT) ** 0.5, np.nan]
    np.testing.assert_allclose(linked["confidence"], expected, atol=1e-5)
    assert linked["ymin"].tolist()[1] == round((2 + 0.3 * 0) / 1.3, 1) and linked[CORNERS].iloc[2].tolist() == FAR
    weight = 0.3 * (0.4 * 2 / 3) / 0.9
    assert linked["ymax"].iloc[0] == round((10 + weight * 12) / (1 + weight), 1)
    pd.testing.assert_frame_equal(lesions.supported(frame, found, 0.0, 0.0), frame.iloc[[0, 2, 1, 3]])


@pytest.mark.parametrize(
    ("alarm", "wins"), [(("3", 0.95, FAR), True), (None, False)], ids=["a lonely false box", "nothing wrong"]
)
def test_shares_are_chosen_only_where_they_win_on_validation(alarm, wins):
    rows = [("1", 0.9, HERE), ("2", 0.8, HERE), *([alarm] if alarm else [])]
    frame, true = predicted(*rows), pd.DataFrame([(name, "a", *HERE) for name in "12"], columns=["image_id", "class", *CORNERS])
    chosen = lesions.choose(frame, lesions.partners(frame, BEHIND), true, ["a"])
    assert (chosen["confidence"] > 0) == wins and chosen["corners"] == 0
