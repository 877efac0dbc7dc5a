"""Folds that a test may use where any trained one will do: trained once in a process, copied to where the test looks."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import toy_types
from hemoct.base.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = ("--weights", "none", "--image-size", 32, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu", "--fold", 0, "--backbone",
         "simplecnn", "--experiment", "e", "--epochs", 4)  # fmt: skip
"""the flags of `types`"""


def types(work: Workspace) -> None:
    """The data of toy_types and fold 0 of the experiment `e` of task 4."""
    _put(_types, work)


def _put(made: Callable[[], Path], work: Workspace) -> None:
    """Copy what `made` has trained in a workspace `toy`; times of files stay, so that nothing looks outdated."""
    shutil.copytree(made(), work.root, dirs_exist_ok=True)


@functools.cache
def _types() -> Path:
    work = Workspace(Path(tempfile.mkdtemp(prefix="hemoct-trained-")), "toy")
    toy_types.make(work)
    _run("task4_multilabel/02_train.py", work, *TYPES)
    return work.root


def _run(step: str, work: Workspace, *flags: object) -> None:
    spec = importlib.util.spec_from_file_location(Path(step).stem, REPOSITORY / step)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--root", str(work.root), "--dataset", work.dataset, *map(str, flags)])
