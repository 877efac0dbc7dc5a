"""03_training_curves.py on histories written by hand: both families, folds of every fate, broken files."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from PIL import Image

from helpers.refusals import refused
from helpers.simulated_boxes import TORCHVISION, history
from hemoct.base import files, tables

STEP = "task2_detection/03_training_curves.py"
FIGURE, TABLE = "training_performance_summary.png", "training_summary.csv"


@pytest.fixture
def curves(work, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def put(work, experiment: str, fold: int | str, table: pd.DataFrame, epochs: int | None = None, status: str = "ok") -> None:
    folder = work.task(2) / experiment / f"fold{fold}"
    tables.write_csv(folder / "history.csv", table)
    if epochs is not None:
        files.write_json(folder / "02_train.run.json", {"status": status, "arguments": {"epochs": epochs}})


def test_folds_of_every_fate_are_summed_up_in_one_table_and_figure(work, curves):
    put(work, "e", 0, history(4, map50_95=[0.1, 0.4, 0.2, 0.3], map50=[0.2, 0.7, 0.9, 0.5], seconds=[9, 2, 2, 4]), epochs=4)
    put(work, "e", 1, history(3, map50_95=[0.5, 0.1, 0.5]), epochs=4)
    put(work, "e", 2, history(2, map50_95=[np.nan, 0.3], val_box_loss=[np.nan, np.inf]), epochs=4, status="unfinished")
    put(work, "e", 3, history(1))
    put(work, "e", 4, history(2, map50_95=np.nan, map50=np.nan), epochs=2)
    result = curves()
    assert result.code == 0, result.err
    table = pd.read_csv(work.task(2) / "e" / TABLE)
    assert list(table["fold"]) == [0, 1, 2, 3, 4]
    assert list(table["epochs"]) == [4, 3, 2, 1, 2]
    assert list(table["ended"]) == ["last epoch", "early stop", "unfinished", "unknown", "last epoch"]
    assert list(table["best_epoch"])[:4] == [2, 1, 2, 1] and np.isnan(table["best_epoch"][4])  # of equal ones the first
    assert list(table["map50"])[:4] == [0.7, 0.02, 0.04, 0.02] and list(table["map50_95"])[:4] == [0.4, 0.5, 0.3, 0.01]
    assert list(table["seconds_per_epoch"]) == [3, 3, 3, 3, 3]  # the median of 9, 2, 2, 4 is 3
    assert list(table["epochs_asked"].fillna(-1)) == [4, 4, 4, -1, 2]
    assert np.asarray(Image.open(work.task(2) / "e" / FIGURE).convert("L")).std() > 5


def test_a_copy_of_a_fold_is_no_fold(work, curves):
    put(work, "e", 0, history(2))
    put(work, "e", "0-old", history(5))
    put(work, "f", "0-old", history(5))
    result = curves()
    assert result.code == 0, result.err
    assert list(pd.read_csv(work.task(2) / "e" / TABLE)["epochs"]) == [2] and not (work.task(2) / "f" / TABLE).exists()


def test_every_experiment_is_drawn_and_a_second_call_finds_it_up_to_date(work, curves):
    put(work, "yolov8n", 0, history(2), epochs=2)
    put(work, "retinanet", 0, history(2, TORCHVISION), epochs=2)
    assert curves().code == 0
    assert all((work.task(2) / name / FIGURE).exists() for name in ("yolov8n", "retinanet"))
    assert curves("--skip-if-done").out.count("up to date") == 2
    put(work, "retinanet", 0, history(2, TORCHVISION), epochs=2, status="unfinished")  # only the record has changed
    assert curves("--skip-if-done").out.count("up to date") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("cannot be read as CSV",)),
        ("epoch,map50,map50_95,seconds\n", ("has no rows",)),
        ("epoch,map50,seconds\n1,0.5,3\n", ("lacks the column(s) map50_95",)),
        ("epoch,map50,map50_95,seconds\n1,0.5,broken,3\n", ("map50_95 holds something that is no number", "02_train.py")),
        ("epoch,map50,map50_95,seconds\n2,0.5,0.1,3\n1,0.5,0.1,3\n", ("epoch does not count upwards",)),
        ("epoch,map50,map50_95,seconds\n1,0.5,0.1,3\n1,0.5,0.1,3\n", ("epoch does not count upwards",)),
    ],
)
def test_a_broken_history_is_one_line(work, curves, text, words):
    files.write_text(work.task(2) / "e" / "fold0" / "history.csv", text)
    assert refused(curves(), "history.csv", *words)
    assert not (work.task(2) / "e" / TABLE).exists()


def test_without_a_history_the_line_says_what_there_is(work, curves):
    assert refused(curves(), "holds no trained experiment", "02_train.py")
    put(work, "yolov8n", 0, history(2), epochs=2)
    assert refused(curves("--experiment", "other"), "other holds no foldK/history.csv", "yolov8n")


def test_nothing_of_torch_is_imported():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, REPOSITORY / STEP]).returncode == 0
