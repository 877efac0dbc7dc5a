"""What is chosen on validation and what is reported on test: cases worked by hand, leaks, undefined metrics."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from hemoct.base.errors import UserError
from hemoct.classification import tables as classification_tables
from hemoct.evaluation import bootstrap, decisions, metrics, scores, thresholds

RESAMPLES = 50


def frame(parts: dict[tuple[int, str], tuple[list[int], list[float]]], per_patient: int = 2) -> pd.DataFrame:
    """Predictions of one label: (fold, part) to truths and probabilities. Patients are `per_patient` rows each."""
    tables = []
    for (fold, part), (y, p) in parts.items():
        patients = [f"{fold}-{part}-{row // per_patient}" for row in range(len(y))]
        ids = [f"{patient}_{row:02d}" for row, patient in enumerate(patients)]
        tables.append(
            pd.DataFrame({"image_id": ids, "patient": patients, "fold": fold, "part": part, "y_bleed": y, "p_bleed": p})
        )
    return pd.concat(tables, ignore_index=True)


TWO_FOLDS = {
    (0, "val"): ([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]),
    (0, "test"): ([1, 0, 1, 0], [0.6, 0.4, 0.3, 0.1]),
    (1, "val"): ([1, 1, 0, 0], [0.4, 0.3, 0.1, 0.0]),
    (1, "test"): ([1, 0, 0, 0], [0.35, 0.3, 0.1, 0.05]),
}


def reported(found: decisions.Evaluation) -> dict:
    slices = pd.Series(range(len(found.test.y)), index=found.test.table["image_id"], dtype="Int64")
    return scores.report(found, {}, classification_tables.patients_table(found, slices), RESAMPLES, 42)


def test_each_fold_has_its_own_threshold_from_its_validation():
    found = decisions.evaluate(frame(TWO_FOLDS))
    assert [rule.points["max F1"] for rule in found.rules] == pytest.approx([0.5, 0.2])
    assert found.decision.tolist() == [1, 0, 0, 0, 1, 1, 0, 0]
    values = {name: cell["value"] for name, cell in reported(found)["metrics"].items()}
    assert values["recall"] == pytest.approx(2 / 3) and values["specificity"] == pytest.approx(4 / 5)
    assert values["auroc"] == pytest.approx((3 / 4 + 1) / 2), "AUROC is a mean over folds, not that of the pooled scores"


def test_test_images_do_not_touch_what_is_chosen():
    other = {key: (y, [1 - p for p in found] if key[1] == "test" else found) for key, (y, found) in TWO_FOLDS.items()}
    assert decisions.evaluate(frame(TWO_FOLDS)).rules == decisions.evaluate(frame(other)).rules


def test_without_a_positive_in_validation_the_threshold_is_half_and_says_so():
    found = decisions.evaluate(frame({(0, "val"): ([0, 0], [0.2, 0.1]), (0, "test"): ([1, 0], [0.6, 0.4])}))
    rule = found.rules[0]
    assert set(rule.points.values()) == {0.5} and rule.threshold_rule == "0.5: validation has no positive"
    assert rule.temperature == 1 and "no positive" in rule.temperature_rule


def test_a_metric_without_a_case_is_null_with_a_reason():
    content = reported(decisions.evaluate(frame(TWO_FOLDS | {
        (0, "test"): ([0, 0], [0.1, 0.2]), (1, "test"): ([0, 0], [0.05, 0.1]),
    })))  # fmt: skip
    for name in ("recall", "precision", "f1", "mcc", "balanced_accuracy", "auroc", "ap"):
        assert content["metrics"][name] == {"value": None, "ci95": None, "reason": scores.REASONS[name]}
        assert content["bootstrap"]["dropped"][name] == RESAMPLES
    assert content["metrics"]["specificity"]["value"] == 1
    assert content["patient_level"]["sensitivity"]["value"] is None and content["patient_level"]["specificity"]["value"] == 1


def test_a_fold_without_positives_is_left_out_of_the_mean_and_said():
    content = reported(decisions.evaluate(frame(TWO_FOLDS | {(1, "test"): ([0, 0], [0.05, 0.1])})))
    assert content["metrics"]["auroc"]["value"] == pytest.approx(3 / 4)
    assert any("fold 1: a class has no test case" in note for note in content["notes"])


def test_unknown_labels_are_left_out_and_counted():
    parts = frame(TWO_FOLDS).astype({"y_bleed": float})
    parts.loc[parts["part"] == "test", "y_bleed"] = parts.loc[parts["part"] == "test", "y_bleed"].mask(lambda y: y.index % 4 == 3)
    content = reported(decisions.evaluate(parts))
    assert (content["n"], content["unknown_label_left_out"]) == (6, 2)


def test_every_patient_bleeds_so_that_patients_have_no_specificity():
    content = reported(decisions.evaluate(frame(TWO_FOLDS | {(1, "test"): ([1, 0], [0.1, 0.0])})))
    level = content["patient_level"]
    assert (level["patients_positive"], level["patients_found"], level["patients_negative"]) == (3, 1, 0)
    assert level["specificity"] == {"value": None, "ci95": None, "reason": "every patient has a positive slice"}


@pytest.mark.parametrize(
    ("numbers", "run"), [([], 0), ([4], 1), ([3, 4, 5, 9, 10], 3), ([1, 3, 5], 1), ([5, 4, 9], 2), ([1, np.nan], None)]
)
def test_largest_run(numbers, run):
    assert classification_tables.largest_run(np.array(numbers, dtype=float)) == run


def test_patients_table_by_hand():
    """Slices 3 to 6 bleed, 4, 5 and 6 are missed, but 72 follows 6: the run is 3. Slice 1 is a false alarm."""
    numbers, y, p = [1, 2, 3, 4, 5, 6, 72], [0, 0, 1, 1, 1, 1, 1], [0.9, 0.1, 0.9, 0.1, 0.2, 0.3, 0.1]
    parts = frame({(0, "val"): ([1, 0], [0.8, 0.2]), (0, "test"): (y, p)}, per_patient=7)
    found = decisions.evaluate(parts)
    slices = pd.Series(numbers, index=found.test.table["image_id"], dtype="Int64")
    row = classification_tables.patients_table(found, slices).iloc[0]
    assert row[["slices", "positive_slices", "found", "missed", "largest_run_missed", "false_alarms"]].tolist() == [
        7,
        5,
        1,
        4,
        3,
        1,
    ]


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (["hemorrhage"], "hemorrhage"),
        (["NORMAL", "PNEUMONIA"], "PNEUMONIA"),
        (["bleed", "no_bleed"], "bleed"),
        (["left", "right"], "right"),
        (["a", "b", "c"], None),
    ],
)
def test_the_positive_class(labels, positive):
    asked = decisions.question_of(labels)
    assert asked.positive == positive
    assert positive is None or asked.names[1] == positive


def exclusive(labels: tuple[str, ...], seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for part in ("val", "test"):
        y = random.integers(0, len(labels), 120)
        logit = random.normal(0, 1, (120, len(labels))) + 2 * np.eye(len(labels))[y]
        p = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        start = {"image_id": [f"{part}{row}" for row in range(120)], "patient": [f"{part}{row // 4}" for row in range(120)]}
        table = pd.DataFrame({**start, "fold": 0, "part": part})
        for number, label in enumerate(labels):
            table[f"y_{label}"], table[f"p_{label}"] = (y == number).astype(int), p[:, number]
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def test_two_exclusive_classes_are_the_binary_case_of_the_positive_one():
    two = exclusive(("PNEUMONIA", "NORMAL"))
    one = two.drop(columns=["y_NORMAL", "p_NORMAL"])
    first, second = (reported(decisions.evaluate(parts)) for parts in (two, one))
    assert first["positive"] == "PNEUMONIA" and first["metrics"] == second["metrics"]
    joined = classification_tables.predictions_table(decisions.evaluate(two))
    np.testing.assert_allclose(joined["p_NORMAL"] + joined["p_PNEUMONIA"], 1)
    expected = two[two["part"] == "test"].set_index("image_id")["p_PNEUMONIA"]
    np.testing.assert_allclose(joined.set_index("image_id")["p_PNEUMONIA"], expected.sort_index())


def test_several_classes_against_scikit_learn():
    parts = exclusive(("none", "ivh", "sah"))
    values = {name: cell["value"] for name, cell in reported(decisions.evaluate(parts))["metrics"].items()}
    test = parts[parts["part"] == "test"]
    y = test[["y_none", "y_ivh", "y_sah"]].to_numpy().argmax(axis=1)
    p = test[["p_none", "p_ivh", "p_sah"]].to_numpy()
    called = p.argmax(axis=1)
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(y, called))
    assert values["f1_macro"] == pytest.approx(sk.f1_score(y, called, average="macro"))
    assert values["auroc_sah"] == pytest.approx(sk.roc_auc_score(y == 2, p[:, 2]))
    assert values["precision_ivh"] == pytest.approx(sk.precision_score(y, called, average=None)[1])
    assert values["brier"] == pytest.approx(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean())


def test_operating_points_report_what_is_achieved_on_test():
    found = decisions.evaluate(frame(TWO_FOLDS))
    points = classification_tables.operating_points(found, RESAMPLES, 42).set_index("rule_on_validation")
    assert list(points.index) == [*thresholds.POINTS, *thresholds.FIXED]
    half = points.loc["0.5"]
    assert half[["tn", "fp", "fn", "tp"]].tolist() == [5, 0, 2, 1] and half["sensitivity"] == pytest.approx(1 / 3)
    assert half[["threshold_fold0", "threshold_fold1"]].tolist() == [0.5, 0.5]


def test_external_data_meet_frozen_thresholds():
    rules = decisions.evaluate(frame(TWO_FOLDS)).rules
    other = frame({(0, "test"): ([1, 0, 1, 0], [0.36, 0.34, 0.9, 0.1])}).drop(columns=["fold", "part"])
    found = decisions.evaluate_external(other, rules)
    assert found.rules[0].points["max F1"] == pytest.approx(0.35) and "frozen" in found.rules[0].threshold_rule
    assert found.decision.tolist() == [1, 0, 1, 0]


def test_an_image_tested_in_two_folds_stops():
    parts = frame(TWO_FOLDS)
    parts.loc[parts["part"] == "test", "image_id"] = "same"
    with pytest.raises(UserError, match="same is tested in two folds"):
        decisions.evaluate(parts)


def test_one_patient_has_values_but_no_interval():
    parts = frame({(0, "val"): ([1, 0], [0.8, 0.2]), (0, "test"): ([1, 0, 1], [0.9, 0.4, 0.3])}, per_patient=3)
    found = decisions.evaluate(parts)
    content = reported(found)
    assert content["metrics"]["recall"] == {"value": 0.5, "ci95": None, "reason": None}
    assert content["bootstrap"]["resamples"] == 0 and any("1 patient(s)" in note for note in content["notes"])
    assert classification_tables.operating_points(found, RESAMPLES, 42)["sensitivity_low"].isna().all()


def test_temperature_comes_from_validation_and_mends_overconfidence():
    random = np.random.default_rng(0)
    parts = {}
    for part in ("val", "test"):
        logit = random.normal(0, 1.5, 2000)
        y = (random.random(2000) < 1 / (1 + np.exp(-logit))).astype(int)
        parts[0, part] = (y.tolist(), (1 / (1 + np.exp(-4 * logit))).tolist())
    found = decisions.evaluate(frame(parts, per_patient=20))
    assert found.rules[0].temperature == pytest.approx(4, rel=0.15)
    values = scores.measure(found, metrics.ones(2000))
    assert values["ece_calibrated"][0] < 0.05 < 0.15 < values["ece"][0]


def test_resampling_patients_and_their_fold_order_do_not_matter():
    """The same rows in another order give the same value and interval."""
    parts = frame({key: (y * 5, list(np.linspace(0, 0.01, 5).repeat(len(y)) + p * 5)) for key, (y, p) in TWO_FOLDS.items()})
    shuffled = parts.sample(frac=1, random_state=1)
    first, second = (reported(decisions.evaluate(table))["metrics"] for table in (parts, shuffled))
    assert bootstrap.within_folds(parts["patient"].to_numpy(), parts["fold"].to_numpy())
    for name in first:
        assert first[name]["value"] == pytest.approx(second[name]["value"]), name
        assert first[name]["ci95"] == pytest.approx(second[name]["ci95"]), name
