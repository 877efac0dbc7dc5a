"""08_compare.py: differences are paired by slice, of the same patients, with the numbers of the evaluation."""

import numpy as np
import pytest

from helpers import quick, simulated_masks, trained
from helpers.refusals import refused
from hemoct.base import files, tables

EVALUATE, COMPARE = "task3_segmentation/03_evaluate.py", "task3_segmentation/08_compare.py"
COLUMNS = ["experiment", "metric", "value", "difference", "difference_low", "difference_high", "n_common", "left_out", "note"]


@pytest.fixture
def compare(work, run_step, monkeypatch):
    """Evaluated experiments: `a`, its copy `b`, and `c`, whose masks lie where the lesions are."""
    quick.evaluations(monkeypatch)
    trained.evaluated_masks(work)
    return lambda *words: run_step(COMPARE, "--root", work.root, "--dataset", "toy", *words)


def table_of(work, experiment: str):
    table = tables.read_csv(work.task(3) / "comparison" / "comparison.csv", COLUMNS)
    return table[table["experiment"] == experiment].set_index("metric")


def test_differences_are_paired_and_of_the_evaluations_own_numbers(work, compare):
    result = compare()
    assert result.code == 0 and result.err == ""
    assert {path.name for path in (work.task(3) / "comparison").iterdir()} == {
        "comparison.csv", "comparison.md", "comparison.png", "08_compare.run.json"
    }  # fmt: skip
    first, same, better = (table_of(work, name) for name in ("a", "b", "c"))
    of_all = same[["difference", "difference_low", "difference_high"]].dropna()
    assert len(of_all) > 5 and (of_all == 0).all(axis=None), "a copy differs by exactly nothing"
    np.testing.assert_allclose(better["difference"], better["value"] - first["value"], atol=1e-7)
    told = files.read_json(work.task(3) / "c" / "metrics.json")["metrics"]
    assert better["value"].to_dict() == pytest.approx({name: told[name]["value"] for name in better.index}, nan_ok=True)
    assert 0 < better["difference_low"]["dice_patient"] <= better["difference"]["dice_patient"]
    assert "Task 3" in (work.task(3) / "comparison" / "comparison.md").read_text()
    assert compare("--skip-if-done").out.startswith("up to date")


def test_slices_that_one_alone_tested_are_counted_and_left_out(work, compare, run_step):
    simulated_masks.predict(work, "d", folds=(0, 1, 2))
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "d").code == 0
    assert compare("a", "d").code == 0
    row = table_of(work, "d").iloc[0]
    assert row["left_out"] > 0 and row["n_common"] + row["left_out"] == files.read_json(work.task(3) / "a" / "metrics.json")["n"]


def test_what_cannot_be_compared_stops(work, compare):
    assert refused(compare("a", "nowhere"), "nowhere/metrics.json", "03_evaluate.py")
    frame = tables.read_csv(work.task(3) / "b" / "per_slice.csv", ["image_id"])
    tables.write_csv(work.task(3) / "b" / "per_slice.csv", frame.iloc[1:])
    assert refused(compare("a", "b"), "task3/b", "per_slice.csv does not belong to metrics.json")
    frame.loc[3, "fn"] += 1
    tables.write_csv(work.task(3) / "b" / "per_slice.csv", frame)
    assert refused(compare("a", "b"), "another truth")
    assert not list((work.task(3) / "comparison").glob("comparison.*"))
