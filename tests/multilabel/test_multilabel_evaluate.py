"""Several labels of one image: thresholds, metrics against scikit-learn and by hand, unknown labels, what cannot be computed."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from hemoct.base.errors import UserError
from hemoct.evaluation import metrics
from hemoct.multilabel import evaluate, options, tables

LABELS = ("IVH", "SAH", "any")


def frame(truth: np.ndarray, p: np.ndarray, fold: int = 0, part: str = "test", labels: tuple[str, ...] = LABELS) -> pd.DataFrame:
    """Predictions of one part of one fold, two images a patient."""
    n = len(truth)
    patients = [f"{fold}-{part}-{row // 2}" for row in range(n)]
    table = pd.DataFrame({"image_id": [f"{name}_{row}" for row, name in enumerate(patients)], "patient": patients,
                          "fold": fold, "part": part})  # fmt: skip
    for place, name in enumerate(labels):
        table[f"y_{name}"], table[f"p_{name}"] = truth[:, place], p[:, place]
    return table


def drawn(n: int = 60, seed: int = 0, unknown: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = (random.random((n, 3)) < (0.4, 0.2, 0.6)).astype(float)
    p = np.clip(0.3 + 0.35 * truth + random.normal(0, 0.25, truth.shape), 0.01, 0.99)
    truth[random.random(truth.shape) < unknown] = np.nan
    return truth, p


def evaluated(unknown: float = 0.0, folds: tuple[int, ...] = (0, 1)) -> evaluate.MultiLabel:
    parts = [
        frame(*drawn(seed=2 * fold + place, unknown=unknown), fold, part)
        for fold in folds
        for place, part in enumerate(("val", "test"))
    ]
    return evaluate.evaluate(pd.concat(parts, ignore_index=True))


def values(evaluation: evaluate.MultiLabel) -> dict[str, float]:
    return {name: value[0] for name, value in evaluate.measure(evaluation, metrics.ones(len(evaluation.table))).items()}


def test_metrics_are_those_of_scikit_learn():
    evaluation = evaluated()
    got, truth, called = values(evaluation), evaluation.truth, evaluation.called
    assert got["f1_macro"] == pytest.approx(sk.f1_score(truth, called, average="macro"))
    assert got["f1_micro"] == pytest.approx(sk.f1_score(truth, called, average="micro"))
    assert got["hamming"] == pytest.approx(sk.hamming_loss(truth, called))
    assert got["exact_match"] == pytest.approx(sk.accuracy_score(truth, called))
    folds = evaluation.table["fold"].to_numpy()
    for place, name in enumerate(LABELS):
        assert got[f"recall_{name}"] == pytest.approx(sk.recall_score(truth[:, place], called[:, place]))
        of_folds = [
            sk.average_precision_score(truth[folds == fold, place], evaluation.p[folds == fold, place]) for fold in (0, 1)
        ]
        assert got[f"ap_{name}"] == pytest.approx(np.mean(of_folds))


def test_log_loss_counts_any_twice():
    evaluation = evaluated()
    of_label = [sk.log_loss(evaluation.truth[:, place], evaluation.p[:, place]) for place in range(3)]
    assert values(evaluation)["rsna_logloss"] == pytest.approx(np.average(of_label, weights=[1, 1, 2]))
    types = evaluate.evaluate(pd.concat([frame(*drawn(seed=1), part=part, labels=("a", "b", "c")) for part in ("val", "test")]))
    assert values(types)["rsna_logloss"] == pytest.approx(
        np.mean([sk.log_loss(types.truth[:, place], types.p[:, place]) for place in range(3)])
    )


def test_unknown_truths_count_for_nothing():
    evaluation = evaluated(unknown=0.3)
    got, known = values(evaluation), evaluation.known
    assert 0.2 < 1 - known.mean() < 0.4
    wrong = (evaluation.called != (evaluation.truth == 1)) & known
    assert got["hamming"] == pytest.approx(wrong.sum() / known.sum())
    whole = known.all(axis=1)
    assert got["exact_match"] == pytest.approx(1 - wrong[whole].any(axis=1).mean())
    column = known[:, 1]
    assert got["f1_SAH"] == pytest.approx(sk.f1_score(evaluation.truth[column, 1], evaluation.called[column, 1]))
    loss = [sk.log_loss(evaluation.truth[known[:, place], place], evaluation.p[known[:, place], place]) for place in range(3)]
    assert got["rsna_logloss"] == pytest.approx(np.average(loss, weights=[1, 1, 2]))


def test_each_label_and_fold_has_its_own_threshold_from_validation():
    evaluation = evaluated()
    for name, label in evaluation.by_label.items():
        assert len({rule.points["max F1"] for rule in label.rules}) == 2, name
    parts = [frame(*drawn(seed=0), part="val"), frame(*drawn(seed=1))]
    truth, p = drawn(seed=1)
    other = [parts[0], frame(truth, 1 - p)]
    rules = [[label.rules for label in evaluate.evaluate(pd.concat(of)).by_label.values()] for of in (parts, other)]
    assert rules[0] == rules[1], "test does not touch what is chosen"


def test_thresholds_can_be_quantiles_of_the_training_probabilities():
    parts = pd.concat([frame(*drawn(seed=0), part="val"), frame(*drawn(seed=1))])
    training = frame(*drawn(200, seed=7), part="train")
    evaluation = evaluate.evaluate(parts, "train:q90", training)
    for place, name in enumerate(LABELS):
        rule = evaluation.by_label[name].rules[0]
        assert rule.points[rule.decides] == pytest.approx(np.quantile(training[f"p_{name}"], 0.9))
        assert (evaluation.called[:, place] == (evaluation.p[:, place] >= rule.points[rule.decides])).all()
    content = evaluate.report(evaluation, {}, 20, 42)
    assert content["folds"][0]["threshold_rules"]["SAH"] == "90% quantile of training probabilities" == content["threshold_rule"]


@pytest.mark.parametrize("text", ["test", "train", "train:90", "train:q0", "train:q100", "val:q90"])
def test_other_sources_of_thresholds_are_refused(text):
    with pytest.raises(Exception, match="neither val nor"):
        options.threshold_source(text)


def test_a_label_without_a_positive_is_null_with_a_reason():
    truth, p = drawn(seed=3)
    truth[:, 1], p[:, 1] = 0, 0.1
    evaluation = evaluate.evaluate(pd.concat([frame(truth, p, part="val"), frame(truth, p)]))
    content = evaluate.report(evaluation, {}, 50, 42)
    assert content["folds"][0]["threshold_rules"]["SAH"] == "0.5: validation has no positive"
    for name in ("recall_SAH", "f1_SAH", "auroc_SAH", "ap_SAH", "f1_macro"):
        assert content["metrics"][name]["value"] is None and content["metrics"][name]["reason"], name
    assert content["metrics"]["f1_micro"]["value"] > 0 and content["metrics"]["rsna_logloss"]["value"] > 0
    assert any(note.startswith("SAH: 0 positive images") for note in content["notes"])


def test_a_label_known_nowhere_leaves_the_others_alone():
    truth, p = drawn(seed=3)
    truth[:, 1] = np.nan
    evaluation = evaluate.evaluate(pd.concat([frame(truth, p, part="val"), frame(truth, p)]))
    content = evaluate.report(evaluation, {}, 50, 42)
    assert content["metrics"]["f1_SAH"]["value"] is None and content["metrics"]["exact_match"]["value"] is None
    assert content["metrics"]["rsna_logloss"] == {"value": None, "ci95": None, "reason": "a label is known on no image"}
    assert content["metrics"]["f1_IVH"]["value"] > 0 and content["unknown_by_label"]["SAH"] == 60
    assert "on no image" in tables.text_report(evaluation, [])


def test_a_single_label_has_a_report_of_its_own():
    truth, p = drawn(seed=3)
    parts = [frame(truth[:, :1], p[:, :1], part=part, labels=("IVH",)) for part in ("val", "test")]
    report = tables.text_report(evaluate.evaluate(pd.concat(parts)), ["what was measured"])
    assert report.startswith("what was measured\n") and "no IVH" in report and f" {int(truth[:, 0].sum())}\n" in report


def test_subsets_keep_label_rows_together():
    evaluation = evaluated(unknown=0.3)
    rows = np.array([5, 80, 3, 17, 101])
    of_rows = evaluation.of(rows)
    assert of_rows.table["image_id"].tolist() == evaluation.table["image_id"].iloc[rows].tolist()
    for place, label in enumerate(of_rows.by_label.values()):
        known = rows[evaluation.known[rows, place]]
        assert label.test.table["image_id"].tolist() == evaluation.table["image_id"].iloc[known].tolist()
        assert (label.test.p == evaluation.p[known, place]).all()
    first = evaluation.of_fold(1)
    assert (first.table["fold"] == 1).all() and all(len(label.rules) == 1 for label in first.by_label.values())
    np.testing.assert_array_equal(first.called, evaluation.called[(evaluation.table["fold"] == 1).to_numpy()])


def test_an_image_tested_twice_stops():
    parts = pd.concat([frame(*drawn(seed=0), part="val"), frame(*drawn(seed=1)), frame(*drawn(seed=1))])
    with pytest.raises(UserError, match="tested in two folds"):
        evaluate.evaluate(parts)
    with pytest.raises(UserError, match="no test image"):
        evaluate.evaluate(frame(*drawn(seed=0), part="val"))


def by_hand() -> evaluate.MultiLabel:
    """Six images with decisions that are known: thresholds lie at 0.5."""
    truth = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=float)
    called = np.array([[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=float)
    p = 0.2 + 0.6 * called
    return evaluate.evaluate(pd.concat([frame(truth, 0.2 + 0.6 * truth, part="val"), frame(truth, p)], ignore_index=True))


def test_tables_say_what_is_taken_for_what():
    mistaken = tables.mistaken(by_hand()).set_index(["label", "mistake", "other"]).sort_index()["images"]
    assert mistaken["IVH", "missed"].to_dict() == {"SAH": 1, "any": 0, "none": 1}
    assert mistaken["IVH", "false alarm"].to_dict() == {"SAH": 0, "any": 0, "none": 1}
    assert mistaken["SAH", "false alarm"].to_dict() == {"IVH": 1, "any": 0, "none": 0}
    assert mistaken["SAH", "missed"].sum() == 0


def test_tables_count_what_goes_together():
    together = tables.together(by_hand()).set_index(["label", "beside"])
    assert together.loc[("IVH", "SAH"), ["true", "called"]].tolist() == [1, 1]
    assert together.loc[("any", "any"), ["true", "called"]].tolist() == [4, 4]
    assert together.loc[("IVH", "IVH"), ["true", "called"]].tolist() == [3, 2]


def test_the_table_of_labels_agrees_with_the_metrics():
    evaluation = by_hand()
    content = evaluate.report(evaluation, {}, 50, 42)
    table = tables.per_label(evaluation, content).set_index("label")
    assert table.loc["IVH", ["tn", "fp", "fn", "tp"]].tolist() == [2, 1, 2, 1]
    assert table.loc["IVH", "recall"] == pytest.approx(1 / 3) == content["metrics"]["recall_IVH"]["value"]
    assert table.loc["SAH", ["positive", "positive_patients", "threshold_fold0"]].tolist() == [2, 2, pytest.approx(0.5)]


def test_without_a_positive_a_false_alarm_makes_no_macro_f1():
    truth, p = drawn(seed=3)
    truth[:, 1] = 0
    evaluation = evaluate.evaluate(pd.concat([frame(truth, p, part="val"), frame(truth, p)]))
    assert evaluation.called[:, 1].any()
    got = values(evaluation)
    assert got["f1_SAH"] == 0 and np.isnan(got["f1_macro"])
