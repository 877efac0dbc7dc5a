"""The tables of scripts/README.md are those that benchmarks kept; the benchmark of a graphics card runs without one."""

import shutil
import subprocess

import benchmark_start
import benchmarking
import pytest
from conftest import REPOSITORY

from helpers import simulated, toy
from helpers.refusals import refused
from hemoct.base import files
from hemoct.base.errors import UserError

PAGE = REPOSITORY / "scripts" / "README.md"
MEASURED = {"command": "python scripts/benchmark_x.py", "machine": {"processor": "P", "cores": 2, "device": "D", "torch": "2"},
            "rows": [{"what": "a", "ours": 98.76543, "other": 100.0, "unit": "images/s", "ratio": 0.98765, "aim": 0.97},
                     {"what": "b", "ours": 2.0, "other": 1.0, "unit": "s", "ratio": 0.5, "aim": None}]}  # fmt: skip


def test_the_page_shows_what_the_benchmarks_kept():
    text = PAGE.read_text(encoding="utf-8")
    assert benchmarking.page(text) == text, "write it again: python scripts/benchmarking.py"
    named = {path.name for path in (REPOSITORY / "scripts").glob("benchmark_*")}
    assert [name for name in sorted(named) if f"`{name}`" not in text] == []


def test_a_table_has_a_row_for_each_comparison(tmp_path):
    files.write_json(tmp_path / "x.json", MEASURED)
    page = benchmarking.page("before\n<!-- benchmarks -->\nold\n<!-- end benchmarks -->\nafter\n", tmp_path)
    assert "`python scripts/benchmark_x.py` (D; P; 2 cores; torch 2)" in page and "old" not in page
    assert "| a | 98.77 | 100 | images/s | 0.99 | 0.97 |\n| b | 2 | 1 | s | 0.50 |  |\n" in page
    assert benchmarking.page(page, tmp_path) == page
    files.write_json(tmp_path / "x.json", MEASURED | {"notes": {"said": ["Extrapolated:", "* 2 h"]}})
    assert "| 0.50 |  |\n\nExtrapolated:\n* 2 h\n\n" in benchmarking.page(page, tmp_path)


def test_ways_are_measured_in_turn():
    told, clock = [], iter(range(100))
    ways = {name: lambda name=name: told.append(name) for name in ("ours", "bare")}
    seconds = benchmarking.alternate(ways, 2, clock=lambda: float(next(clock)))
    assert told == ["ours", "bare"] * 3 and seconds == {"ours": [1.0, 1.0], "bare": [1.0, 1.0]}
    row = benchmarking.speed("x", {"ours": [2.0, 4.0, 8.0], "bare": [1.0, 4.0, 6.0]}, 8, "images/s", aim=0.9)
    assert (row.ours, row.other, row.ratio) == (2.0, 2.0, 0.75) and str(row).endswith("(aim 0.9: MISSED)")


def test_an_evaluation_is_measured_on_a_copy(work, run_step, tmp_path):
    simulated.predict(work, simulated.make(work, draw=True))
    experiment, out = work.task(1) / "e", tmp_path / "table.json"
    before = {path: path.stat().st_mtime_ns for path in work.outputs.rglob("*")}
    words = ("scripts/benchmark_evaluation.py", "--root", work.root, "--dataset", "toy", "--repeats", 1, "--out", out)
    done = run_step(*words, "1=e")
    assert done.code == 0, done.err
    (row,) = files.read_json(out)["rows"]
    many = sum(len((fold / "predictions.csv").read_text().splitlines()) - 1 for fold in experiment.glob("fold*"))
    assert row["what"] == f"evaluation, task 1, e, {many} predictions" and row["ours"] > 0 and row["other"] == 10
    after = {path: path.stat().st_mtime_ns for path in work.outputs.rglob("*") if not path.name.startswith(".")}
    assert after == before, "the experiment itself stays as it was"
    assert refused(run_step(*words, "1=f"), "outputs/toy/task1 holds no experiment f; there are: e")


def test_the_start_of_a_training_ends_where_torch_is_asked_for(work):
    toy.make(work, patients=5, slices=2)
    call = ["task1_classification/01_train.py", "--root", work.root, "--dataset", "toy", "--fold", "0", "--image-size", "16"]
    assert 0 < benchmark_start.until_torch(call) < 60
    assert any(path.is_file() for path in (work.work / "cache").rglob("*")) and not work.outputs.exists()
    with pytest.raises(UserError, match="argument --fold"):
        benchmark_start.until_torch([*call, "--fold", "x"])


def test_an_unknown_flag_of_the_benchmark_of_a_card_is_one_line():
    done = subprocess.run(["bash", "scripts/benchmark_gpu.sh", "--fast"], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "benchmark_gpu.sh: --fast is none of --quick, --out FILE\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="it would fill the card")
def test_the_benchmark_of_a_card_runs_without_one(tmp_path):
    out = tmp_path / "table.json"
    words = ["bash", "scripts/benchmark_gpu.sh", "--quick", "--out", str(out)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and "a tiny form on the CPU" in done.stdout, done.stderr
    rows = files.read_json(out)["rows"]
    assert {row["what"].split(",")[0] for row in rows} == {"training", "prediction", "whole epoch", "bf16"} and len(rows) == 16
    assert all(row["ours"] > 0 and row["other"] > 0 and row["ratio"] > 0 for row in rows)
