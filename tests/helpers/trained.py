"""Folds that a test may use where any trained one will do: trained once in a process, copied to where the test looks."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from helpers import quick, simulated_masks, simulated_networks, toy_types
from hemoct.base.workspace import Workspace
from hemoct.segmentation import networks as segmentation_networks

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu", "--fold", 0, "--backbone",
         "simplecnn", "--experiment", "e", "--epochs", 4)  # fmt: skip
"""the flags of `types`"""
RIMS = ("--weights", "none", "--fold", 0, "--device", "cpu", "--image-size", 32, "--batch-size", 8, "--experiment", "e",
        "--region", "box", "--boxes", "d", "--epochs", 1, "--ema", 0.99, "--upper-bound")  # fmt: skip
"""the flags of `rims`"""


def types(work: Workspace) -> None:
    """The data of toy_types and fold 0 of the experiment `e` of task 4."""
    _put(_types, work)


def rims(work: Workspace) -> None:
    """Rims of disks, boxes of a detector `d`, and fold 0 of the experiment `e` of task 3, a tiny network around those boxes."""
    _put(_rims, work)


def evaluated_masks(work: Workspace) -> None:
    """Experiments of task 3 that are evaluated: `a`, its copy `b`, and `c`, whose masks lie where the lesions are."""
    _put(_evaluated_masks, work)


def _put(made: Callable[[], Path], work: Workspace) -> None:
    """Copy what `made` has trained in a workspace `toy`; times of files stay, so that nothing looks outdated."""
    shutil.copytree(made(), work.root, dirs_exist_ok=True)


@functools.cache
def _types() -> Path:
    work = _empty()
    toy_types.make(work)
    _run("task4_multilabel/02_train.py", work, *TYPES)
    return work.root


@functools.cache
def _rims() -> Path:
    work = _empty()
    simulated_networks.make_rims(work)
    with mock.patch.object(segmentation_networks.smp, "create_model", simulated_networks.tiny):
        _run("task3_segmentation/02_train.py", work, *RIMS)
    return work.root


@functools.cache
def _evaluated_masks() -> Path:
    work = _empty()
    simulated_masks.make(work, slices=6)
    for name, shift in (("a", 2), ("b", 2), ("c", 0)):
        simulated_masks.predict(work, name, network=simulated_masks.Network(shift=shift))
    with pytest.MonkeyPatch.context() as patched:
        quick.evaluations(patched)
        _run("task3_segmentation/03_evaluate.py", work)
    return work.root


def _empty() -> Workspace:
    return Workspace(Path(tempfile.mkdtemp(prefix="hemoct-trained-")), "toy")


def _run(step: str, work: Workspace, *flags: object) -> None:
    spec = importlib.util.spec_from_file_location(Path(step).stem, REPOSITORY / step)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--root", str(work.root), "--dataset", work.dataset, *map(str, flags)])
