"""07_compare.py: differences are paired by image, unknown labels are no other truth, other label sets need --labels."""

import numpy as np
import pandas as pd
import pytest

from helpers import quick, simulated_types
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.evaluation import comparison, comparison_step, predictions as evaluation_predictions, protocol as evaluation_protocol
from hemoct.multilabel import compare as multilabel_compare, evaluate as multilabel_evaluate, predictions

STEP = "task4_multilabel/07_compare.py"
COLUMNS = ["experiment", "metric", "value", "difference", "difference_low", "difference_high", "n_common", "left_out", "note"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]


@pytest.fixture(autouse=True)
def evaluations_are_quick(monkeypatch):
    quick.evaluations(monkeypatch)


def evaluate(work, experiment: str) -> None:
    """What 03_evaluate.py leaves for the comparison."""
    frame, protocol = predictions.read(work, experiment)
    evaluation = multilabel_evaluate.evaluate(frame)
    folder = work.task(4) / experiment
    about = evaluation_protocol.describe(
        work, 4, experiment, work, protocol, evaluation_predictions.fold_folders(work, 4, experiment)
    )
    called = pd.DataFrame(evaluation.called.astype(int), columns=[f"called_{name}" for name in evaluation.labels])
    test = frame[frame["part"] == "test"].reset_index(drop=True)
    tables.write_predictions(folder, pd.concat([test, called], axis=1))
    files.write_json(folder / "metrics.json", multilabel_evaluate.report(evaluation, about, 200, 42))


@pytest.fixture
def compare(work, run_step):
    """Evaluated experiments: `a`, its copy `b`, `c` of more skill; SAH is unknown on every seventh image."""
    frame = simulated_types.make(work)
    frame["SAH"] = frame["SAH"].astype("Int64").where(np.arange(len(frame)) % 7 != 0)
    simulated_types.relabel(work, frame)
    for name, skill in (("a", 1.0), ("b", 1.0), ("c", 3.0)):
        simulated_types.predict(work, frame, name, skill=skill)
        evaluate(work, name)
    simulated_types.predict(work, frame, "heads", heads=True)
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def table_of(work, experiment: str):
    table = tables.read_csv(work.task(4) / "comparison" / "comparison.csv", COLUMNS)
    return table[table["experiment"] == experiment].set_index("metric")


def test_differences_are_paired_and_of_the_evaluations_own_numbers(work, compare):
    result = compare("a", "b", "c")
    assert result.code == 0 and result.err == ""
    assert {path.name for path in (work.task(4) / "comparison").iterdir()} == {
        "comparison.csv", "comparison.md", "comparison.png", "07_compare.run.json"
    }  # fmt: skip
    first, same, better = (table_of(work, name) for name in "abc")
    of_all = same[DIFFERENCE].dropna()
    assert {"f1_macro", "hamming", "auroc_SAH", "ap_IVH", "rsna_logloss"} <= set(of_all.index)
    assert (of_all == 0).all(axis=None), "a copy differs by exactly nothing, unknown labels and all"
    np.testing.assert_allclose(better["difference"], better["value"] - first["value"], atol=1e-7)
    told = files.read_json(work.task(4) / "c" / "metrics.json")["metrics"]
    assert better["value"].to_dict() == pytest.approx({name: told[name]["value"] for name in better.index}, nan_ok=True)
    assert 0 < better.loc["f1_macro", "difference_low"] <= better.loc["f1_macro", "difference"]
    text = (work.task(4) / "comparison" / "comparison.md").read_text()
    assert "Task 4" in text and "| exact_match | hamming (lower is better) | rsna_logloss (lower is better) | f1_IVH |" in text
    table = tables.read_csv(work.task(4) / "comparison" / "comparison.csv", [])
    axis = comparison_step.side_by_side(table, "a heading", ("f1_macro", "hamming", "rsna_logloss")).axes[0]
    ticks = [tick.get_text() for tick in axis.get_yticklabels()]
    assert ticks == ["f1 macro", "hamming (lower is better)", "rsna logloss (lower is better)"]
    assert compare("a", "b", "c", "--skip-if-done").out.startswith("up to date")


def test_the_numbers_read_are_those_that_were_evaluated(work, compare):
    one = multilabel_compare.read(work, "c")
    frame = tables.read_predictions(work.task(4) / "c")
    np.testing.assert_array_equal(one.evaluation.called, frame[[f"called_{name}" for name in one.evaluation.labels]] == 1)
    values = one.measure(np.ones((1, len(frame))))
    told = one.content["metrics"]
    assert {name: value[0] for name, value in values.items()} == pytest.approx({name: told[name]["value"] for name in values})
    shown = pd.Series(one.truth, index=frame.index)
    assert (shown.str[2].eq("?") == frame["y_SAH"].isna()).all() and frame["y_SAH"].isna().any()
    assert (shown.str[0].astype(int) == frame["y_IVH"]).all() and frame["y_IVH"].any()


def test_other_labels_are_compared_by_those_that_both_have(work, compare):
    evaluate(work, "heads")
    assert compare("a", "heads").code == 0
    assert table_of(work, "heads")[DIFFERENCE].isna().all(axis=None) and "other labels" in table_of(work, "heads")["note"].iloc[0]
    assert compare("a", "heads", "--labels", "IVH,SAH").code == 0
    first, other = table_of(work, "a"), table_of(work, "heads")
    assert "f1_any" not in other.index and "f1_IPH" not in first.index
    assert other.loc["f1_macro", "value"] == pytest.approx((other.loc["f1_IVH", "value"] + other.loc["f1_SAH", "value"]) / 2)
    assert other.loc["auroc_IVH", "difference"] == pytest.approx(
        other.loc["auroc_IVH", "value"] - first.loc["auroc_IVH", "value"]
    )
    told = files.read_json(work.task(4) / "heads" / "metrics.json")["metrics"]
    assert other.loc["f1_SAH", "value"] == pytest.approx(told["f1_SAH"]["value"])
    assert refused(compare("a", "heads", "--labels", "any"), "a has no label any", "IVH, IPH, SAH")


def test_images_that_one_alone_tested_are_counted_and_left_out(work, compare):
    frame = tables.read_labels(work, tables.read_dataset(work)).fillna({"SAH": 0})
    simulated_types.relabel(work, frame)
    simulated_types.predict(work, frame, "d", folds=(0, 1, 2))
    evaluate(work, "d")
    assert refused(compare("a", "d"), "a and d have another truth"), "known in one, unknown in the other"
    simulated_types.predict(work, frame, "e")
    evaluate(work, "e")
    assert compare("e", "d").code == 0
    row = table_of(work, "d").iloc[0]
    assert row["n_common"] == 120 and row["left_out"] == 80


def test_what_cannot_be_compared_stops(work, compare):
    assert refused(compare("a", "nowhere"), "nowhere/metrics.json", "03_evaluate.py")
    frame = tables.read_predictions(work.task(4) / "b")
    wrong = {
        "a row less": frame.iloc[1:],
        "a label less": frame.drop(columns=["y_SAH", "p_SAH"]),
        "another fold": frame.replace({"fold": {0: 7}}),
        "validation": frame.assign(part="val"),
    }
    for name, spoiled in wrong.items():
        tables.write_predictions(work.task(4) / "b", spoiled)
        assert refused(compare("a", "b"), "task4/b", "predictions.csv does not belong to metrics.json"), name
    frame.loc[3, "y_IVH"] = 1 - frame.loc[3, "y_IVH"]
    tables.write_predictions(work.task(4) / "b", frame)
    assert refused(compare("a", "b"), "another truth", frame.loc[3, "image_id"])
    assert not list((work.task(4) / "comparison").glob("comparison.*"))


@pytest.mark.parametrize(("metric", "shown"), [
    ("hd95_slice", "hd95_slice (lower is better)"), ("volume_error", "volume_error (lower is better)"),
    ("brier", "brier (lower is better)"), ("ece_SAH", "ece_SAH (lower is better)"), ("recall", "recall"), ("f1_ece", "f1_ece"),
])  # fmt: skip
def test_what_is_better_when_lower_is_marked(metric, shown):
    assert comparison.named(metric) == shown


def test_pooled_experiments_are_left_out_unless_they_are_named(work, compare):
    def pool(name: str, **field: object) -> None:
        path = work.task(4) / name / "metrics.json"
        content = {key: value for key, value in files.read_json(path).items() if key != "cases"}
        files.write_json(path, content | field)

    pool("b", cases="studies")
    pool("c", notes=[multilabel_compare.STUDIES])  # older versions said it in a note alone
    result = compare()
    assert result.code == 0 and "b is left out: it is pooled, its cases are studies" in result.out
    table = tables.read_csv(work.task(4) / "comparison" / "comparison.csv", COLUMNS)
    assert set(table["experiment"]) == {"a"} and "c is left out" in (work.task(4) / "comparison" / "comparison.md").read_text()
    assert compare("a", "b").code == 0
    assert set(table_of(work, "b")["note"]) == {"no difference: its cases are studies, those of a images"}
    assert table_of(work, "b")[DIFFERENCE].isna().all(axis=None)
    assert compare("b", "c").code == 0 and table_of(work, "c")["difference"].notna().any()
    pool("a", cases="studies")
    result = compare()
    assert result.code == 0 and "left out:" not in result.out, "where all are pooled, all are compared"
