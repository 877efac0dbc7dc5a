"""Every JSON and CSV between steps is damaged in every way, and what reads it runs: it goes on, or stops with the file's name.

The ordinary suite damages each file in two of the ways and runs one step; `-m slow` in five, and runs all steps.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

from helpers import quick, simulated, trained
from hemoct.base.workspace import Workspace

REPORT = ("scripts/90_make_report.py",)
OTHERS = {str: 7, dict: "text", list: 7, int: "text", float: "text", bool: "text", type(None): {"a": 1}}
"""a value of another kind"""
SEED = int(os.environ.get("HEMOCT_SEED", "0"))  # others than 0 for other damages
Steps = list[tuple[Any, ...]]
Tree = tuple[Callable[[Workspace], Any], Steps]
Read = tuple[Callable, Steps]


def evaluated(work: Workspace) -> list[tuple[str, ...]]:
    """What makes two evaluated experiments of task 1."""
    frame = simulated.make(work, draw=True)
    simulated.predict(work, frame)
    simulated.predict(work, frame, experiment="f", seed=2)
    return [("scripts/04_check_data.py",), ("task1_classification/02_evaluate.py",), ("task1_classification/03_compare.py",)]


CHECK, SPLIT = ("scripts/04_check_data.py",), ("scripts/05_make_splits.py",)
OF_E = ("--experiment", "e", "RAW")
TREES: dict[str, Tree] = {
    "task1": (evaluated, [REPORT, ("task1_classification/03_compare.py",), CHECK, SPLIT,
                          ("task1_classification/02_evaluate.py", "--skip-if-done")]),
    "task2": (trained.disks, [("task2_detection/04_evaluate.py",), REPORT]),
    "task3": (trained.evaluated_masks, [("task3_segmentation/08_compare.py",), ("task3_segmentation/03_evaluate.py",), REPORT,
                                        ("task3_segmentation/04_to_classification.py", "--experiment", "a")]),
    "task4": (trained.types, [("task4_multilabel/03_evaluate.py",), ("task4_multilabel/05_predict.py", *OF_E), REPORT]),
}  # fmt: skip
"""what makes a tree, and the steps that read it"""


def damages(path: Path) -> Iterator[tuple[str, bytes]]:
    """The ways in which a file may be damaged, each with what it holds then; those of any file first."""
    whole = path.read_bytes()
    yield "cut", whole[: len(whole) // 2]
    yield "empty", b""
    yield "noise", np.random.default_rng(len(whole)).bytes(400)
    yield from (of_json if path.suffix == ".json" else of_csv)(whole.decode())


def of_json(text: str) -> Iterator[tuple[str, bytes]]:
    content = json.loads(text)
    yield "a list", b"[1]\n"
    for place in places(content):
        for word, change in (("without", None), ("another kind", OTHERS)):
            copy = json.loads(text)
            holder = copy
            for name in place[:-1]:
                holder = holder[name]
            if change is None and isinstance(holder, dict):
                del holder[place[-1]]
            else:
                holder[place[-1]] = OTHERS[type(holder[place[-1]])]
            yield f"{word}: {'.'.join(map(str, place))}", json.dumps(copy).encode()


def places(content: Any, deep: int = 3) -> Iterator[tuple[Any, ...]]:
    """Where a value stands: all fields, and of a list the first item."""
    inside = content.items() if isinstance(content, dict) else [*enumerate(content)][:1] if isinstance(content, list) else ()
    for name, value in inside:
        yield (name,)
        if deep > 1:
            yield from ((name, *rest) for rest in places(value, deep - 1))


def of_csv(text: str) -> Iterator[tuple[str, bytes]]:
    header, *rows = text.splitlines() or [""]
    names = header.split(",")
    yield "other columns", b"a,b\n1,2\n"
    yield "no rows", f"{header}\n".encode()
    for number, name in enumerate(names):
        yield f"without the column {name}", "\n".join([header.replace(name, "other", 1), *rows, ""]).encode()
        cells = rows[0].split(",") if rows else []
        if len(cells) == len(names):
            for value in ("text", "", "-1e400", "99"):
                changed = ",".join([*cells[:number], value, *cells[number + 1 :]])
                yield f"{name} is {value!r}", "\n".join([header, changed, *rows[1:], ""]).encode()


def names(message: str) -> set[str]:
    """The files that a message names; audit.csv lists what is wrong in the data."""
    return {word.strip(":;,()").rsplit("/", 1)[-1] for word in message.split()}


def files_of(work: Workspace) -> list[Path]:
    """One file of each name in each kind of folder."""
    found = sorted(path for end in ("json", "csv") for path in work.root.rglob(f"*.{end}") if not path.is_relative_to(work.raw))
    return list({(path.name, len(path.parts)): path for path in reversed(found)}.values())


@pytest.fixture
def tree(request: pytest.FixtureRequest, work: Workspace, run_step: Callable, monkeypatch: pytest.MonkeyPatch) -> Read:
    make, steps = TREES[request.param]
    quick.evaluations(monkeypatch)
    made_by = make(work) or (steps if request.param in ("task2", "task4") else [])
    for step, *flags in made_by:
        assert step == REPORT[0] or run_step(step, "--root", work.root, "--dataset", "toy", *named(work, flags)).code == 0
    return run_step, steps


def named(work: Workspace, flags: list[str]) -> list[object]:
    return [work.raw if flag == "RAW" else flag for flag in flags]


def problems(work: Workspace, run_step: Callable, steps: Steps, most: int) -> list[str]:
    """What went wrong: a traceback, or a message that does not name the damaged file; `most`: ways of damage for each file."""
    whole, found = work.root.with_name(f"{work.root.name}-whole"), []
    shutil.copytree(work.root, whole, symlinks=True)
    for path in files_of(work):
        for word, content in pick(path, most):
            for step, *flags in steps:
                path.write_bytes(content)
                result = Result(1, "", "")
                try:
                    result = run_step(step, "--root", work.root, "--dataset", "toy", *named(work, flags))
                except Exception as error:  # a traceback
                    found.append(f"{step}: {path.relative_to(work.root)}, {word}: {type(error).__name__}: {error}"[:300])
                else:
                    if result.code not in (0, 2) or (result.code == 2 and not {path.name, "audit.csv"} & names(result.err)):
                        found.append(f"{step}: {path.relative_to(work.root)}, {word}: exit {result.code}: {result.err}"[:400])
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(whole / path.relative_to(work.root), path)
                if (step,) != REPORT and result.code == 0:  # it may have written other results
                    for place in (work.work, work.outputs):
                        shutil.rmtree(place)
                        shutil.copytree(whole / place.relative_to(work.root), place)
    return found


def pick(path: Path, most: int) -> list[tuple[str, bytes]]:
    """Some of the ways, drawn by the name of the file."""
    ways = [*damages(path)]
    chosen = np.random.default_rng([SEED, *path.name.encode()]).permutation(len(ways))[:most]
    return [ways[number] for number in chosen]


@pytest.mark.parametrize("tree", [pytest.param("task1", marks=pytest.mark.slow), "task3"], indirect=True)
def test_a_damaged_file_is_told_by_its_name(tree: Read, work: Workspace) -> None:
    run_step, steps = tree
    assert problems(work, run_step, steps[:1], most=2) == []


@pytest.mark.slow
@pytest.mark.parametrize("tree", [*TREES], indirect=True)
def test_every_step_on_every_damaged_file(tree: Read, work: Workspace) -> None:
    assert problems(work, *tree, most=5) == []
