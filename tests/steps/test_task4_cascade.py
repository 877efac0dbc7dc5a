"""04_cascade.py: stage 1 stops what lies below its threshold, studies are pooled, and nothing is chosen on test."""

import numpy as np
import pandas as pd
import pytest

from helpers import quick, simulated, simulated_types
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.evaluation.predictions import AGAIN, label_columns
from hemoct.multilabel import cascade, compare, evaluate, predictions
from hemoct.multilabel.options import Stages

STEP, EVALUATE = "task4_multilabel/04_cascade.py", "task4_multilabel/03_evaluate.py"
TYPES = list(simulated_types.TYPES)


@pytest.fixture(autouse=True)
def evaluations_are_quick(monkeypatch):
    quick.evaluations(monkeypatch)


def by_hand(rows: list[tuple], labels: list[str]) -> pd.DataFrame:
    """Predictions: image, patient, fold, part, then y and p of each label."""
    columns = [*tables.PREDICTION_COLUMNS, *(f"{sort}_{name}" for name in labels for sort in "yp")]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def one() -> pd.DataFrame:
    """One fold by hand: validation a to d, test e to h; `any` and IVH."""
    val = [("a", 0, 0.1, 0, 0.2), ("b", 0, 0.3, 0, 0.8), ("c", 1, 0.6, 1, 0.4), ("d", 1, 0.9, 1, 0.7)]
    test = [("e", 0, 0.2, 0, 0.9), ("f", 1, 0.5, 1, 0.6), ("g", 1, 0.4, 1, 0.8), ("h", 0, 0.7, 0, 0.1)]
    rows = [(name, name, 0, part, *values) for part, of in (("val", val), ("test", test)) for name, *values in of]
    return by_hand(rows, ["any", "IVH"])


def decided(frame: pd.DataFrame, how: str = "max-f1", y: pd.Series | None = None) -> cascade.Cascade:
    """The `any` of a multi-label model as stage 1, whose truth may be `y`."""
    first = frame[tables.PREDICTION_COLUMNS].assign(y_any=frame["y_any"] if y is None else y, p_any=frame["p_any"])
    evaluation = cascade.gate(first, how)
    return cascade.Cascade(Stages(types="e"), "patient", frame, frame, frame["p_any"].to_numpy(), evaluation, {})


# ---- the gate by hand


def test_below_the_threshold_of_validation_every_type_is_zero(one):
    two = decided(one)
    assert two.first.rules[0].points["max F1"] == pytest.approx(0.45) and two.first.rules[0].threshold_rule == "max F1 on val"
    assert two.passed.tolist() == [False, False, True, True, False, True, False, True]
    assert two.predictions["p_IVH"].tolist() == [0, 0, 0.4, 0.7, 0, 0.6, 0, 0.1]
    assert two.predictions["p_any"].equals(one["p_any"]) and one["p_IVH"].iloc[0] == 0.2, "what came in stays as it was"
    points = cascade.stage_one(two, 50, 1).set_index("fold")
    assert points.loc["all", ["images", "unknown", "sensitivity", "specificity", "passed"]].tolist() == [4, 0, 0.5, 0.5, 0.5]
    assert points.loc["all", "stopped_IVH"] == 1 and points.loc[0, "threshold"] == pytest.approx(0.45)
    strict = cascade.stage_one(decided(one, "q90"), 50, 1).set_index("fold")
    assert strict.loc["all", "stopped_IVH"] == strict.loc[0, "stopped_IVH"] == 2, "c of validation is not counted"
    assert strict.loc["all", ["sensitivity", "passed"]].tolist() == [0, 0]


@pytest.mark.parametrize(("how", "threshold", "said"), [
    ("median", 0.45, "median of validation probabilities"), ("q50", 0.45, "50% quantile of validation probabilities"),
    ("q90", 0.81, "90% quantile of validation probabilities"), ("max-f1", 0.45, "max F1 on val"),
])  # fmt: skip
def test_the_threshold_is_that_of_the_rule_and_says_so(one, how, threshold, said):
    rule = decided(one, how).first.rules[0]
    assert rule.points[rule.decides] == pytest.approx(threshold) and rule.threshold_rule == said
    moved = one.assign(p_any=one["p_any"].where(one["part"] == "val", 0.99), y_any=one["y_any"].where(one["part"] == "val", 0))
    assert decided(moved, how).first.rules[0].points == rule.points, "test is only read"


def test_without_a_positive_in_validation_the_threshold_is_half_and_says_so(one):
    rule = decided(one.assign(y_any=0)).first.rules[0]
    assert rule.points[rule.decides] == 0.5 and rule.threshold_rule == "0.5: validation has no positive"
    median = decided(one.assign(y_any=0), "median").first.rules[0]
    assert median.points[median.decides] == pytest.approx(0.45), "the median asks for no truth"


def test_without_validation_images_there_is_no_threshold(one):
    with pytest.raises(UserError, match="fold 0 has no validation image to choose the threshold of stage 1 on"):
        decided(one[one["part"] == "test"])


def test_an_image_that_was_stopped_is_never_called(one):
    """All positives of validation are stopped: without care the best threshold of IVH would be 0, which calls everything."""
    frame = one.assign(p_any=[0.9, 0.8, 0.1, 0.2, 0.9, 0.1, 0.1, 0.1])
    two = decided(frame, y=pd.Series([1.0, 1, 0, 0, 1, 0, 0, 0]))
    stopped = ~two.passed[frame["part"] == "test"]
    called = evaluate.evaluate(two.predictions).called[:, 1]
    assert stopped.sum() == 3 and not called[stopped].any()


def test_images_whose_truth_stage_1_does_not_know_are_counted_and_left_out_of_its_numbers(one):
    points = cascade.stage_one(decided(one, y=one["y_any"].where(one["image_id"] != "e")), 50, 1).set_index("fold")
    assert points.loc["all", ["images", "unknown"]].tolist() == [4, 1] and points.loc["all", "specificity"] == 0


# ---- pooling by hand


def test_the_mean_of_a_view_group_and_the_maximum_over_groups():
    nan = np.nan
    rows = [
        *(("a", "s", 0, "test", 0, 0.2, 0, 0.8), ("b", "s", 0, "test", 1, 0.6, nan, 0.4), ("c", "s", 0, "test", 0, 0.5, 0, 0.5)),
        *(("d", "t", 0, "test", 0, 0.1, 0, 0.3), ("e", "t", 0, "val", nan, 0.9, 1, 0.1), ("f", "t", 0, "val", 0, 0.3, nan, 0.7)),
    ]
    group = pd.Series(["top", "top", "base", "top", "top", "top"], index=list("abcdef"))
    pooled = predictions.pool(by_hand(rows, ["IVH", "SAH"]), group)
    expected = by_hand(
        [
            ("s", "s", 0, "test", 1.0, 0.5, nan, 0.6),
            ("t", "t", 0, "test", 0, 0.1, 0, 0.3),
            ("t", "t", 0, "val", nan, 0.6, 1, 0.4),
        ],
        ["IVH", "SAH"],
    )
    pd.testing.assert_frame_equal(pooled, expected, check_dtype=False)


# ---- the step


@pytest.fixture
def frame(work):
    return simulated_types.make(work, groups=("low", "high"))


@pytest.fixture
def run(work, frame, run_step):
    """The experiment `e` with a head for `any`, and the step."""
    simulated_types.predict(work, frame, heads=True, skill=(3.0, 1.0, 1.0, 1.0))
    return lambda *words, types="e": run_step(STEP, "--root", work.root, "--dataset", "toy", "--types", types, *words)


def joined(work, experiment: str) -> pd.DataFrame:
    return predictions.read(work, experiment)[0]


def binary(work, frame, experiment="b", **options):
    """An experiment of task 1 that answers for any bleeding, of much skill."""
    marked = frame.assign(any=frame[TYPES].max(axis=1))
    simulated.predict(work, marked, labels=("any",), experiment=experiment, skill=4, **options)


def test_a_cascade_is_an_experiment_like_any_other(work, run, run_step):
    result = run()
    assert result.code == 0 and result.err == "", result.err
    place = work.task(4) / "e-cascade"
    assert {path.name for path in place.iterdir() if path.is_file()} == {
        "stage_one.csv", "comparison.csv", "comparison.md", "comparison.png", "04_cascade.run.json"
    }  # fmt: skip
    before, after = joined(work, "e"), joined(work, "e-cascade")
    told = {fold: files.read_json(place / f"fold{fold}" / "model.json") for fold in range(5)}
    passed = before["p_any"] >= before["fold"].map({fold: one["threshold"] for fold, one in told.items()})
    assert 0.2 < passed.mean() < 0.8 and before["p_any"].equals(after["p_any"])
    for name in TYPES:
        assert (after[f"p_{name}"] == before[f"p_{name}"].where(passed, 0)).all() and (
            after[f"y_{name}"] == before[f"y_{name}"]
        ).all()
    points = pd.read_csv(place / "stage_one.csv").set_index("fold")
    test = before[before["part"] == "test"]
    bleeds, on = test["y_any"] == 1, passed[test.index]
    assert points.loc["all", "sensitivity"] == pytest.approx((bleeds & on).sum() / bleeds.sum())
    assert points.loc["all", "specificity"] == pytest.approx((~bleeds & ~on).sum() / (~bleeds).sum())
    assert points.loc["all", "stopped_SAH"] == ((test["y_SAH"] == 1) & ~on).sum()
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "e", "e-cascade").code == 0
    rows = pd.read_csv(place / "comparison.csv").set_index(["experiment", "metric"])
    for shown, name in (("one stage: e", "e"), ("two stages: e-cascade", "e-cascade")):
        evaluated = files.read_json(work.task(4) / name / "metrics.json")["metrics"]["f1_macro"]
        assert rows.loc[(shown, "f1_macro"), "value"] == pytest.approx(evaluated["value"])
    assert rows.loc[("two stages: e-cascade", "f1_macro"), "difference_low"] > 0, "a sure first stage helps unsure types"
    assert "Stage 1: the output `any` of e" in (place / "comparison.md").read_text()


def test_a_classifier_of_task_1_is_the_first_stage(work, frame, run):
    binary(work, frame)
    simulated_types.predict(work, frame, "plain", skill=1.0)
    assert refused(run(types="plain"), "plain has no output `any`", "--binary", "--heads any,types")
    assert run("--binary", "b", "--rule", "q60").code == 0
    after = joined(work, "e-cascade-b-q60")
    scores = pd.concat([tables.read_predictions(work.task(1) / "b" / f"fold{fold}") for fold in range(5)])
    of_b = scores.set_index(["image_id", "fold"])["p_any"]
    assert np.allclose(after["p_any"], of_b.reindex(pd.MultiIndex.from_frame(after[["image_id", "fold"]]))), "any is stage 1"
    told = files.read_json(work.task(4) / "e-cascade-b-q60" / "fold2" / "model.json")
    val = scores[(scores["fold"] == 2) & (scores["part"] == "val")]["p_any"]
    assert (
        told["threshold"] == pytest.approx(np.quantile(val, 0.6)) and told["rule"] == "60% quantile of validation probabilities"
    )
    assert [(stage["task"], stage["experiment"]) for stage in told["stages"]] == [(4, "e"), (1, "b")]
    assert run("--binary", "b", types="plain").code == 0
    assert label_columns(joined(work, "plain-cascade-b")) == TYPES


def test_it_is_made_again_only_when_a_stage_changed(work, run, run_step):
    assert run().code == 0
    folder = work.task(4) / "e-cascade" / "fold1"
    predictions.read_fold(work, folder)
    predictions.read_fold(work, work.task(4) / "e" / "fold1")
    assert "up to date" in run("--skip-if-done").out
    assert refused(run("--rule", "median", "--experiment", "e-cascade"), "--rule max-f1", "--overwrite")
    stage = work.task(4) / "e" / "fold1"
    tables.write_predictions(stage, tables.read_predictions(stage).assign(p_IVH=0.5))
    with pytest.raises(UserError, match=r"e/fold1/predictions\.csv has changed since e-cascade was made of it"):
        predictions.read_fold(work, folder)
    evaluated = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "e-cascade")
    assert refused(evaluated, "e/fold1/predictions.csv", "e-cascade", STEP)
    assert "up to date" not in run("--skip-if-done").out
    predictions.read_fold(work, folder)


def test_studies_are_pooled_and_compared_with_pooled_ones(work, frame, run, run_step):
    result = run("--pool", "--rule", "median")
    assert result.code == 0 and result.err == "", result.err
    place = work.task(4) / "e-cascade-median-pooled"
    pooled = tables.read_predictions(place)
    assert sorted(pooled["image_id"]) == sorted(frame["patient"].unique()) and (pooled["image_id"] == pooled["patient"]).all()
    content = files.read_json(place / "metrics.json")
    assert content["n"] == 20 and content["cases"] == "studies" and compare.STUDIES in (place / "comparison.md").read_text()
    assert not list(place.glob("fold*/predictions.csv")), "a study is no image of splits.csv"
    assert run("--rule", "median").code == 0
    images = joined(work, "e-cascade-median").merge(frame[["image_id", "group"]])
    images = images[(images["part"] == "test")]
    by_group = images.groupby(["patient", "group"])["p_SAH"].mean().groupby(level=0).max()
    assert np.allclose(pooled.set_index("patient")["p_SAH"], by_group.loc[pooled["patient"]])
    again = run_step("task4_multilabel/07_compare.py", "--root", work.root, "--dataset", "toy", "e-cascade-median-pooled")
    assert again.code == 0, again.err
    table = pd.read_csv(work.task(4) / "comparison" / "comparison.csv").set_index("metric")
    assert table.loc["f1_IPH", "value"] == pytest.approx(content["metrics"]["f1_IPH"]["value"])
    listed = pd.read_csv(place / "comparison.csv")
    assert set(listed["n"]) == {20} and listed["difference"].notna().any()


def test_a_view_may_know_fewer_types_and_says_nothing_about_the_others(work, frame, run):
    simulated_types.predict(work, frame, "v", labels=("IVH",), skill=5.0, seed=9)
    assert refused(run("--view", "low=v"), "--view low=v", "IPH, SAH", "--pool")
    assert run("--view", "low=v", "--pool", "--experiment", "views").code == 0
    place = work.task(4) / "views"
    told = files.read_json(place / "fold0" / "model.json")
    assert told["views"] == {"low": "v"} and told["classes"] == ["any", *TYPES]
    thresholds = {fold: files.read_json(place / f"fold{fold}" / "model.json")["threshold"] for fold in range(5)}
    images = joined(work, "e").merge(frame[["image_id", "group"]])
    low = (images["group"] == "low").to_numpy()
    keys = pd.MultiIndex.from_frame(images[["image_id", "fold"]])
    of_view = joined(work, "v").set_index(["image_id", "fold"])["p_IVH"].reindex(keys).to_numpy()
    images["p_IVH"] = np.where(low, of_view, images["p_IVH"])
    images["p_SAH"] = np.where(low, 0, images["p_SAH"])
    images.loc[images["p_any"] < images["fold"].map(thresholds), ["p_IVH", "p_SAH"]] = 0
    tested = images[images["part"] == "test"].groupby(["patient", "group"])[["p_IVH", "p_SAH"]].mean().groupby(level=0).max()
    found = tables.read_predictions(place).set_index("patient")
    np.testing.assert_allclose(found[["p_IVH", "p_SAH"]], tested.loc[found.index], rtol=1e-6)
    assert set(pd.read_csv(place / "comparison.csv")["experiment"]) == {"one stage: e", "one stage, views", "two stages: views"}
    assert "group low say nothing about IPH, SAH" in (place / "comparison.md").read_text()
    assert refused(run("--view", "low=v", "--view", "high=v", "--pool"), "no view knows the label IPH")


# ---- bad input


def test_experiments_that_are_not_there_stop(work, frame, run):
    assert refused(run(types="nowhere"), "task4/nowhere", "no trained fold", "e")
    binary(work, frame)
    assert refused(run("--binary", "nowhere"), "task1/nowhere", "no trained fold", "b")
    assert refused(run("--view", "low=nowhere", "--pool"), "task4/nowhere")
    assert refused(run("--view", "middle=e", "--pool"), "middle", "high, low")
    assert run().code == 0
    assert refused(run(types="e-cascade"), "e-cascade is a cascade itself, without a network; name e, which")
    assert refused(run("--experiment", "e"), "task4/e holds a trained experiment", "another --experiment")


def test_a_trained_model_is_never_written_over(work, run):
    assert run().code == 0
    (work.task(4) / "e-cascade" / "fold3" / "best.pt").write_bytes(b"weights")
    assert refused(run("--overwrite"), "holds a trained experiment")
    assert (work.task(4) / "e-cascade" / "fold3" / "best.pt").exists()


def test_stages_of_other_folds_stop(work, frame, run):
    binary(work, frame, "few", folds=(0, 1, 2))
    assert refused(run("--binary", "few"), "task1/few: its predictions lack 120 images", "on the same images and folds")
    binary(work, frame, "slices", protocol="slice")
    assert refused(run("--binary", "slices"), "slices has the protocol slice, not patient")
    binary(work, frame)
    for folder in (work.task(1) / "b").glob("fold*"):
        files.write_json(folder / "model.json", files.read_json(folder / "model.json") | {"splits_sha256": "0"})
    assert refused(run("--binary", "b"), "splits.csv is not the one that b was trained with")
    simulated_types.predict(work, frame, "old", heads=True, splits_sha256="0")
    assert refused(run(types="old"), "splits.csv is not the one that old was trained with")
    assert not list(work.task(4).glob("*-cascade*"))


def test_stage_1_must_know_the_images_and_be_binary(work, frame, run):
    binary(work, frame)
    place = work.task(1) / "b" / "fold0"
    tables.write_predictions(place, tables.read_predictions(place).iloc[3:])
    assert refused(run("--binary", "b"), "task1/b: its predictions lack 3 images", "on the same images and folds")
    (place / "best.pt").write_bytes(b"weights")
    (place / "predictions.csv").unlink()
    assert refused(run("--binary", "b"), "b/fold0/predictions.csv is missing", AGAIN[1])
    exclusive = frame.assign(a=1, b=0, c=0)
    simulated.predict(work, exclusive, labels=("a", "b", "c"), experiment="many")
    assert refused(run("--binary", "many"), "many chooses among 3 classes")
    simulated.predict(work, frame, labels=("IVH",), experiment="ivh")
    assert refused(
        run("--binary", "ivh"),
        "ivh answers for IVH; stage 1 must answer for any, or for a label",
        "none of the types (IVH, IPH, SAH)",
    )
    simulated.predict(work, frame.assign(tumour=0), labels=("tumour",), experiment="other")
    assert refused(
        run("--binary", "other"), "other answers for tumour; stage 1 must answer for any, or for a label of toy (IVH, IPH, SAH)"
    )


def test_views_that_do_not_fit_stop(work, frame, run):
    simulated_types.predict(work, frame, "v", labels=("IVH",))
    assert run("--view", "low", "--pool").code == 2 and run("--view", "low=v", "--view", "low=e", "--pool").code == 2
    assert refused(run("--view", "low=e", "--pool", types="v"), "v has no output `any`")
    binary(work, frame)
    assert refused(
        run("--view", "low=e", "--pool", "--binary", "b", types="v"),
        "--view low=e knows IVH, IPH, SAH; name one that knows types of v (IVH)",
    )
    place = work.task(4) / "v" / "fold0"
    kept = tables.read_predictions(place)
    tables.write_predictions(place, kept.iloc[20:])
    assert refused(run("--view", "low=v", "--pool"), "task4/v: its predictions lack")
    tables.write_predictions(place, kept.assign(y_IVH=1 - kept["y_IVH"]))
    assert refused(run("--view", "low=v", "--pool"), "v: its predictions have another truth than labels.csv for")
    simulated_types.predict(work, frame.assign(any=frame[["IVH", "IPH", "SAH"]].max(axis=1)), "any", labels=("any",))
    assert refused(run("--view", "low=any", "--pool"), "--view low=any knows no type")


def test_data_without_groups_stop(work, run_step):
    frame = simulated_types.make(work)
    simulated_types.predict(work, frame, heads=True)
    words = (STEP, "--root", work.root, "--dataset", "toy", "--types", "e")
    assert refused(run_step(*words, "--pool"), "labels.csv has no column group", "--pool")
    assert refused(run_step(*words, "--view", "low=e"), "labels.csv has no column group")


def test_a_model_of_any_alone_tells_no_types_apart(work, run_step):
    frame = simulated_types.make(work, labels=("any", "IVH"))
    simulated_types.predict(work, frame, "label", labels=("any", "IVH"))
    assert run_step(STEP, "--root", work.root, "--dataset", "toy", "--types", "label").code == 0, "any as a label is stage 1 too"
    simulated_types.predict(work, frame, "alone", labels=("any",))
    assert refused(run_step(STEP, "--root", work.root, "--dataset", "toy", "--types", "alone"), "alone tells no types apart")


def test_a_slice_split_is_not_pooled(work, frame, run):
    simulated_types.predict(work, frame, "s", heads=True, protocol="slice")
    assert refused(run("--pool", types="s"), "--pool", "slice protocol")
    assert run(types="s").code == 0


def test_a_label_that_nobody_shows_is_null_with_a_reason(work, run_step):
    frame = simulated_types.make(work).assign(SAH=0)
    simulated_types.relabel(work, frame)
    simulated_types.predict(work, frame, heads=True)
    result = run_step(STEP, "--root", work.root, "--dataset", "toy", "--types", "e")
    assert result.code == 0, result.err
    rows = pd.read_csv(work.task(4) / "e-cascade" / "comparison.csv").set_index(["experiment", "metric"])
    assert np.isnan(rows.loc[("two stages: e-cascade", "auroc_SAH"), "value"])
    assert rows.loc[("two stages: e-cascade", "f1_IVH"), "value"] > 0.5


@pytest.mark.parametrize("text", ["f1", "q0", "q100", "0.5"])
def test_an_unknown_rule_is_a_mistake(run, text):
    result = run("--rule", text)
    assert result.code == 2 and "max-f1" in result.err


def test_images_that_task_1_was_not_asked_about_are_left_out_of_both(work, frame, run):
    """SAH is unknown on every seventh image: whether there is any bleeding is unknown too, where nothing else bleeds."""
    frame["SAH"] = frame["SAH"].astype("Int64").where(np.arange(len(frame)) % 7 != 0)
    tables.write_labels(work, frame, tables.read_dataset(work))
    simulated_types.predict(work, frame, heads=True)
    known = frame["SAH"].notna() | (frame[["IVH", "IPH"]] == 1).any(axis=1)
    asked = frame[known].assign(any=frame[known][TYPES].max(axis=1).astype(int))
    simulated.predict(work, asked, labels=("any",), experiment="b")
    result = run("--binary", "b")
    assert result.code == 0, result.err
    assert 0 < (~known).sum() < 40 and f"{2 * (~known).sum()} of 400 predictions are left out" in result.out
    rows = pd.read_csv(work.task(4) / "e-cascade-b" / "comparison.csv")
    assert set(rows["n"]) == {known.sum()} and set(rows["left_out"].dropna()) == {0}
    simulated.predict(work, asked.iloc[5:], labels=("any",), experiment="fewer")
    assert refused(run("--binary", "fewer"), "task1/fewer", "lack")
