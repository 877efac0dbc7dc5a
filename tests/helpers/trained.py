"""Folds that a test may use where any trained one will do: trained once in a process, copied to where the test looks."""

import functools
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from helpers import quick, simulated_boxes, simulated_masks, simulated_networks, temporary, toy, toy_types
from hemoct.base.workspace import Workspace
from hemoct.detection import torchvision_models
from hemoct.segmentation import networks as segmentation_networks

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu", "--fold", 0, "--backbone",
         "simplecnn", "--experiment", "e", "--epochs", 4)  # fmt: skip
"""the flags of `types`"""
RIMS = ("--weights", "none", "--fold", 0, "--device", "cpu", "--image-size", 32, "--batch-size", 8, "--experiment", "e",
        "--region", "box", "--boxes", "d", "--epochs", 1, "--ema", 0.99, "--upper-bound")  # fmt: skip
"""the flags of `rims`"""

DISKS = ("--weights", "none", "--image-size", 64, "--batch-size", 4, "--fold", 0, "--device", "cpu", "--threads", 1, "--model",
         "fasterrcnn_mobilenet_v3_large_fpn", "--lr", "1e-3", "--experiment", "e", "--epochs", 7)  # fmt: skip
"""the flags of `disks`"""


def types(work: Workspace) -> None:
    """The data of toy_types and fold 0 of the experiment `e` of task 4."""
    put(_types, work)


def rims(work: Workspace) -> None:
    """Rims of disks, boxes of a detector `d`, and fold 0 of the experiment `e` of task 3, a tiny network around those boxes."""
    put(_rims, work)


def evaluated_masks(work: Workspace) -> None:
    """Experiments of task 3 that are evaluated: `a`, its copy `b`, and `c`, whose masks lie where the lesions are."""
    put(_evaluated_masks, work)


def disks(work: Workspace) -> None:
    """Bright and dark disks in images that are not square, and fold 0 of the experiment `e` of task 2, a tiny detector."""
    put(_disks, work)


def evaluated_disks(work: Workspace) -> None:
    """An experiment `e` of task 3 that is evaluated, on larger disks."""
    put(_evaluated_disks, work)


def put(made: Callable[[], Path], work: Workspace) -> None:
    """Copy what `made` has trained in a workspace `toy`; times of files stay, so that nothing looks outdated."""
    shutil.copytree(made(), work.root, dirs_exist_ok=True)


@functools.cache
def _types() -> Path:
    work = _empty()
    toy_types.make(work)
    run("task4_multilabel/02_train.py", work, *TYPES)
    return work.root


@functools.cache
def _rims() -> Path:
    work = _empty()
    simulated_networks.make_rims(work)
    with mock.patch.object(segmentation_networks.smp, "create_model", simulated_networks.tiny):
        run("task3_segmentation/02_train.py", work, *RIMS)
    return work.root


@functools.cache
def _evaluated_masks() -> Path:
    work = _empty()
    simulated_masks.make(work, slices=6)
    for name, shift in (("a", 2), ("b", 2), ("c", 0)):
        simulated_masks.predict(work, name, network=simulated_masks.Network(shift=shift))
    return _evaluate_masks(work)


@functools.cache
def _evaluated_disks() -> Path:
    work = _empty()
    simulated_masks.make(work, slices=6, size=64, radius=8)
    simulated_masks.predict(work, "e")
    return _evaluate_masks(work)


def _evaluate_masks(work: Workspace) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        quick.evaluations(patched)
        run("task3_segmentation/03_evaluate.py", work)
    return work.root


def _empty() -> Workspace:
    return Workspace(temporary.folder("trained"), "toy")


@functools.cache
def _disks() -> Path:
    work = _empty()
    toy.make(work, patients=10, slices=8, size=(80, 64), radius=10, boxes=True, classes=("bright", "dark"))
    with mock.patch.object(torchvision_models, "get_model", simulated_boxes.tiny_detector):
        run("task2_detection/02_train.py", work, *DISKS)
    return work.root


def run(step: str, work: Workspace, *flags: object) -> None:
    spec = importlib.util.spec_from_file_location(Path(step).stem, REPOSITORY / step)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--root", str(work.root), "--dataset", work.dataset, *map(str, flags)])
