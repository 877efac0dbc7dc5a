"""A step may be killed before any write: no half file has a name of ours, and the next run makes what an unbroken one makes.

The ordinary suite kills data steps and an epoch of training before every write, others before one; `-m slow` all of them.
"""

import itertools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from helpers import killed, quick, toy, trained
from hemoct.base.workspace import Workspace

TRAINED = ("--weights", "none", "--backbone", "test_resnet", "--image-size", "32", "--batch-size", "8", "--device", "cpu",
           "--fold", "0", "--experiment", "e", "--epochs", "1", "--threads", "1")  # fmt: skip
MORE = [
    pytest.param(step, flags, ready, id=f"{step} {ready}")
    for step, flags, ready in (
        ("scripts/01_get_data.py", ["--demo", "--patients", "15", "--slices", "8", "--size", "64"], "nothing"),
        ("scripts/02_merge_annotations.py", [], "phantom"),
        ("scripts/04_check_data.py", [], "tables"),
        ("task1_classification/02_evaluate.py", [], "classifier"),
        ("task2_detection/04_evaluate.py", [], "detector"),
        ("task2_detection/01_make_yolo_dataset.py", ["--fold", "0"], "boxes"),
        ("task3_segmentation/01_make_seg_dataset.py", ["--fold", "0"], "masks"),
        ("task3_segmentation/03_evaluate.py", [], "masks"),
        ("task4_multilabel/01_prepare_labels.py", [], "types"),
        ("task4_multilabel/03_evaluate.py", [], "types"),
        ("scripts/90_make_report.py", [], "evaluated"),
    )
]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    quick.evaluations(monkeypatch)


def words(work: Workspace, *flags: str) -> list[str]:
    return [*flags, "--root", str(work.root), "--dataset", work.dataset]


def ready_for(work: Workspace, state: str) -> None:
    """The files that a step needs."""
    if state == "phantom":
        killed.run("scripts/01_get_data.py", words(work, "--demo", "--patients", "15", "--slices", "8", "--size", "64"))
    elif state == "tables":
        toy.make(work, boxes=True, masks=True)
    elif state == "classifier":
        toy.make(work)
        killed.run("task1_classification/01_train.py", words(work, *TRAINED))
    elif state == "boxes":
        toy.make(work, boxes=True)
    elif state == "detector":
        trained.disks(work)
    elif state == "masks":
        trained.evaluated_masks(work)
    elif state == "types":
        trained.types(work)
    elif state == "evaluated":
        ready_for(work, "classifier")
        killed.run("task1_classification/02_evaluate.py", words(work))


def survives(tmp_path: Path, step: str, flags: list[str], state: str, kills) -> int:
    """Kill a step before each of its writes, or some; returns how often it was killed. Each time it is run again to its end."""
    start = Workspace(tmp_path / "start", "toy")
    start.root.mkdir()
    ready_for(start, state)
    whole = Workspace(tmp_path / "whole", "toy")
    shutil.copytree(start.root, whole.root, symlinks=True)
    assert not killed.run(step, words(whole, *flags))
    expected, count = killed.content(whole.root), 0
    for at in kills:
        work = Workspace(tmp_path / "root", "toy")
        shutil.copytree(start.root, work.root, symlinks=True)
        if not killed.run(step, words(work, *flags), at):
            break
        count += 1
        for name, content in killed.content(work.root).items():
            if not Path(name).name.startswith("."):
                _stop_unless_whole(name, content)
        again = [*flags, "--resume"] if "--epochs" in flags else flags
        assert not killed.run(step, words(work, *again)), f"write {at}"
        found = killed.content(work.root)
        assert _without_times(found, work) == _without_times(expected, whole), f"write {at}"
        assert killed.left_over(work.root) == [], f"write {at}"
        shutil.rmtree(work.root)
    return count


def _stop_unless_whole(name: str, content: bytes) -> None:
    if name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".csv"):
        assert content.endswith(b"\n"), name
    elif name.endswith(".png"):
        assert content.endswith(b"IEND\xaeB`\x82"), name


def _without_times(content: dict[str, bytes], work: Workspace) -> dict[str, object]:
    """What has to be the same in two runs: not the seconds of an epoch, nor where the folders lie."""
    made: dict[str, object] = {}
    for name, data in content.items():
        if name.endswith("history.csv"):
            made[name] = [line.rpartition(b",")[0] for line in data.splitlines()]
        elif name.endswith(("last.pt", ".html", ".md", ".xlsx")):  # hold times
            made[name] = ""
        else:
            made[name] = data.replace(str(work.root).encode(), b"ROOT")
    return made


def put_table(work: Workspace) -> None:
    """Images with a table of labels, for 03_make_labels.py."""
    labels = toy.make(work)
    shutil.rmtree(work.work)
    pd.DataFrame({"image": labels["image"], "patient": labels["patient"], "any": labels["hemorrhage"]}).to_csv(
        work.raw / "labels.csv", index=False
    )


def test_labels_before_every_write(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ready_for", lambda work, state: put_table(work))
    assert survives(tmp_path, "scripts/03_make_labels.py", ["--patient-column", "patient"], "", itertools.count()) >= 6


def test_splits_before_every_write(tmp_path):
    assert survives(tmp_path, "scripts/05_make_splits.py", [], "tables", itertools.count()) == 3


def test_an_epoch_of_training_before_every_write(tmp_path):
    assert survives(tmp_path, "task1_classification/01_train.py", [*TRAINED], "tables", itertools.count()) >= 7


@pytest.mark.parametrize(("step", "flags", "state"), MORE)
def test_one_write(tmp_path, step, flags, state):
    assert survives(tmp_path, step, flags, state, (2,)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("step", "flags", "state"), MORE)
def test_every_write(tmp_path, step, flags, state):
    assert survives(tmp_path, step, flags, state, itertools.count()) > 2
