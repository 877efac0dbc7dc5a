"""A grid of trainings: conditions of flags and tables, checked before anything runs; what is done is skipped, failures said."""

import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from helpers import quick, toy
from helpers.refusals import refused
from hemoct.base import tables
from hemoct.classification import grid as classification_grid

STEP = "task1_classification/07_grid.py"
SMALL = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu",
         "--backbone", "test_resnet", "--fold", 0, "--epochs", 1)  # fmt: skip


@pytest.fixture
def steps(run_step, monkeypatch) -> list[list[str]]:
    """The steps that a grid calls, each in this process in place of one of its own; a word `fail` in a command fails it."""
    called, run = [], subprocess.run

    def instead(command, **options):
        if command[0] != sys.executable:  # git
            return run(command, **options)
        result = run_step(*command[1:])
        called.append([*command[1:], "up to date" if "up to date" in result.out else ""])
        return SimpleNamespace(returncode=result.code)

    monkeypatch.setattr(subprocess, "run", instead)
    quick.evaluations(monkeypatch)
    return called


@pytest.fixture
def grid(work, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def test_every_combination_is_trained_and_evaluated_once_and_stands_in_the_table(work, grid, steps):
    toy.make(work)
    tables.write_csv(work.root / "rows.csv", pd.DataFrame({"optimizer": ["", "sgd"], "experiment": ["plain", ""]}))
    words = ("--csv", work.root / "rows.csv", "--grid", "balance=none", *SMALL)
    result = grid(*words)
    assert result.code == 0, result.err
    assert len(steps) == 4 and not any(command[-1] for command in steps)
    frame = pd.read_csv(work.task(1) / "grid" / "grid.csv")
    assert set(frame["condition"]) == {"balance=none", "optimizer=sgd, balance=none"}
    assert set(frame["experiment"]) == {"plain", "test_resnet-scratch-32px-1ep-batch8-lr0.001-sgd"}
    assert frame["F1"].is_monotonic_decreasing and (frame["n"] == 8).all() and (frame["folds"] == "fold 0 of 5").all()
    assert ((frame["F1_low"] <= frame["F1"]) & (frame["F1"] <= frame["F1_high"])).all()
    page = (work.task(1) / "grid" / "grid.md").read_text()
    assert "| condition | accuracy | F1 | n | folds |" in page and "--root" not in page and "8 images of 2 patients" in page
    before = page
    assert grid(*words).code == 0 and all(command[-1] for command in steps[4:]) and len(steps) == 8
    assert (work.task(1) / "grid" / "grid.md").read_text() == before


def test_a_condition_that_fails_is_said_and_the_others_stand_in_the_table(work, grid, steps):
    toy.make(work)
    tables.write_csv(work.root / "rows.csv", pd.DataFrame({"experiment": ["bad", "good"], "limit-patients": ["1", ""]}))
    result = grid("--csv", work.root / "rows.csv", *SMALL)
    assert refused(result, "1 of 2 conditions failed: bad")
    frame = pd.read_csv(work.task(1) / "grid" / "grid.csv")
    assert frame["experiment"].tolist() == ["good", "bad"] and frame["folds"].tolist() == ["fold 0 of 5", "failed"]
    assert frame["accuracy"].notna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--grid FLAG=A,B or --csv FILE"),
        (("--grid", "optimizer=adamw,sgdd"), "--optimizer"),
        (("--grid", "optimiser=sgd"), "did you mean --optimizer?"),
        (("--grid", "epochs=1,0"), "--epochs"),
        (("--grid", "optimizer"), "--grid optimizer=adamw,sgd"),
        (("--grid", "fold=0,1"), "would both be the experiment"),
        (("--grid", "dataset=a,b"), "--dataset"),
        (("--grid", "backbone=test_resnet,resnet19"), "resnet19"),
        (("--grid", "label=hemorrhage,blood"), "blood is not a label"),
        (("--grid", "weights=none,absent.pt"), "absent.pt"),
        (("--csv", "absent.csv"), "absent.csv is missing"),
        (("--grid", "optimizer=sgd", "--epoch", 3), "did you mean --epochs?"),
    ],
)
def test_a_mistake_stops_in_one_line_before_anything_is_trained(work, grid, steps, words, said):
    toy.make(work)
    assert refused(grid(*SMALL[:-4], *words), said)
    assert steps == [] and not work.task(1).exists()


def test_values_with_commas_are_parted_by_semicolons(work):
    toy.make(work)
    place = ["--root", str(work.root), "--dataset", "toy"]
    made = classification_grid.conditions(["units=6;128,64"], None, [*place, "--join", "test_vit"])
    assert [one.words for one in made] == [["--units=6"], ["--units=128,64"]]


@pytest.mark.parametrize("content", [b"lr\n\xff\xfe\n", b"", b"lr\n0.1,2\n"])
def test_a_table_that_cannot_be_read_stops_in_one_line(work, grid, steps, content):
    toy.make(work)
    path = work.root / "grid.csv"
    path.write_bytes(content)
    assert refused(grid("--csv", path, *SMALL), "grid.csv") and steps == []
