"""Steps start without what computes: help, wrong flags, missing input and `up to date` wait for no torch."""

import re
from pathlib import Path

import benchmark_start
import pytest

from helpers import starting, toy
from helpers.starting import NETWORKS, REPOSITORY, TABLES
from hemoct.base import experiments, files
from hemoct.base.workspace import Workspace
from hemoct.classification.predictions import ClassifierSpec
from hemoct.detection.predictions import DetectorSpec
from hemoct.evaluation import thresholds
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.segmentation.predictions import SegmenterSpec

STEPS = sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("*/[0-9][0-9]_*.py"))
PREDICT = [experiments.predict_step(task) for task in experiments.PREDICT]
NEEDED = {
    "scripts/01_get_data.py": ("--from", "nowhere"),
    "scripts/80_predict_scan.py": ("nowhere",),
    "scripts/81_view.py": ("nowhere",),
    "task1_classification/04_predict.py": ("nowhere", "--experiment", "e"),
    "task1_classification/06_ensemble.py": ("a", "b"),
    "task1_classification/07_grid.py": ("--grid", "optimizer=adamw,sgd"),
    "task1_classification/08_explain.py": ("--experiment", "e"),
    "task1_classification/12_score_slices.py": ("--experiment", "e"),
    "task2_detection/05_predict.py": ("nowhere", "--experiment", "e"),
    "task2_detection/06_gate_classifier.py": ("--experiment", "e"),
    "task2_detection/07_link_slices.py": ("--experiment", "e"),
    "task2_detection/09_ensemble.py": ("a", "b", "--experiment", "c"),
    "task3_segmentation/05_predict.py": ("nowhere", "--experiment", "e"),
    "task3_segmentation/06_estimate_hematoma.py": ("--experiment", "e", "--boxes", "e"),
    "task3_segmentation/07_ensemble.py": ("a", "b", "--experiment", "c"),
    "task4_multilabel/04_cascade.py": ("--types", "e"),
    "task4_multilabel/05_predict.py": ("nowhere", "--experiment", "e"),
    "task4_multilabel/06_explain_bce.py": ("--logits", "nowhere.csv", "--truths", "nowhere.csv"),
    "task4_multilabel/10_explain.py": ("--experiment", "e"),
}
"""flags without which a step does not start"""
WITHOUT_INPUT = "scripts/06_get_weights.py"
TRAIN = benchmark_start.TRAININGS | {"task1_classification/11_train_volume.py": ()}
USUAL = {"image_size": 32, "mean": 0.0, "std": 1.0, "protocol": "patient", "split": "folds", "fold": 0}


def start(calls: list[list[object]], without: tuple[str, ...]) -> dict[str, starting.Started]:
    """What became of each step, by its name."""
    return {call[0]: started for call, started in zip(calls, starting.start(calls, without), strict=True)}


@pytest.fixture(scope="module")
def helped() -> dict[str, starting.Started]:
    calls = [[step, "--help"] for step in STEPS]
    return start(calls, NETWORKS + TABLES)


@pytest.fixture(scope="module")
def refused() -> dict[str, starting.Started]:
    calls = [[step, *NEEDED.get(step, ()), "--no-such-flag"] for step in STEPS]
    return start(calls, NETWORKS + TABLES)


@pytest.fixture(scope="module")
def without_input(tmp_path_factory) -> dict[str, starting.Started]:
    root = tmp_path_factory.mktemp("empty")
    calls = [[step, *NEEDED.get(step, ()), "--root", root, "--dataset", "toy"] for step in STEPS if step != WITHOUT_INPUT]
    return start(calls, NETWORKS)


@pytest.mark.parametrize("step", STEPS)
def test_help_needs_nothing_that_computes(helped, step):
    started = helped[step]
    assert started.code == 0 and started.out.startswith(f"usage: {Path(step).name}"), started.err


@pytest.mark.parametrize("step", STEPS)
def test_a_wrong_flag_needs_nothing_that_computes(refused, step):
    started = refused[step]
    assert started.code == 2 and started.err.count("\n") == 1 and "--help lists the flags" in started.err, started.err


@pytest.mark.parametrize("step", [step for step in STEPS if step != WITHOUT_INPUT])
def test_missing_input_is_said_without_networks(without_input, step):
    started = without_input[step]
    assert started.code == 2 and started.err.count("\n") == 1, started.err


def put_models(work: Workspace) -> None:
    """A fold of an experiment `e` in each task: what it says of itself, and files that hold nothing."""
    about = USUAL | {"splits_sha256": files.sha256(work.work / "splits.csv"), "orientation": "up"}
    for spec in (
        ClassifierSpec(backbone="x", classes=["hemorrhage"], exclusive=False, **about),
        DetectorSpec(model="x", classes=["disk"], **about),
        SegmenterSpec(model="x", encoder="x", context=0, source_size=32, region="slice", **about),
        MultiLabelSpec(backbone="x", classes=["a", "b"], heads=["types"], **about),
    ):
        folder = work.task(spec.TASK) / "e" / "fold0"
        spec.save(folder)
        for name in ("best.pt", "predictions.csv", "train_predictions.csv"):
            (folder / name).touch()


def test_predicting_steps_refuse_an_empty_folder_without_networks(work, tmp_path):
    toy.make(work, patients=5, slices=2, size=32)
    put_models(work)
    empty = tmp_path / "empty"
    empty.mkdir()
    calls = [[step, empty, "--experiment", "e", "--root", work.root, "--dataset", "toy"] for step in PREDICT]
    for started in starting.start(calls, NETWORKS):
        assert started.code == 2 and started.err.count("\n") == 1 and "no image" in started.err, started.err


def test_what_is_up_to_date_is_said_without_networks(work):
    toy.make(work, patients=5, slices=2, size=32, boxes=True)
    put_models(work)
    images, place = next(work.raw.glob("*.png")), ("--root", work.root, "--dataset", "toy", "--skip-if-done")
    calls = [[step, *place, "--fold", "0", *flags] for step, flags in TRAIN.items() if "task" in step]
    calls += [[step, images, "--experiment", "e", *place] for step in PREDICT]
    calls += [[step, "--experiment", "e", *place] for step in STEPS if "explain.py" in step]
    calls = [[step, starting.DONE, *words] for step, *words in calls]
    for call, started in zip(calls, starting.start(calls, NETWORKS), strict=True):
        assert started.code == 0 and "up to date" in started.out, (call, started.err)


def test_damaged_data_are_said_before_networks_are_there(work):
    assert {step for step in STEPS if re.search(r"_(pre)?train[_.]", step)} == TRAIN.keys(), "a new step that trains goes there"
    toy.make(work, patients=5, slices=2, size=32, boxes=True, masks=True)
    labels = work.work / "labels.csv"
    labels.write_text(labels.read_text().replace("0003_01,0003", "0002_01,0002"))
    (work.work / "task4").mkdir()
    (work.work / "task4" / "working_set.csv").write_text("image_id,image,patient\n")
    calls = [[step, "--root", work.root, "--dataset", "toy", "--fold", "0", *flags] for step, flags in TRAIN.items()]
    for call, started in zip(calls, starting.start(calls, NETWORKS), strict=True):
        assert started.code == 2 and started.err.count("\n") == 1, (call, started.err)
        assert "labels.csv" in started.err or "working_set.csv" in started.err, (call, started.err)


def test_words_of_flags_are_those_of_what_computes(helped):
    told = helped[experiments.evaluate_step(1)].out
    assert f"--threshold {{{','.join(thresholds.DECIDING)}}}" in told
