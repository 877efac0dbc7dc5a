"""Measure what one scan costs: the predicting step of each task one by one, 80_predict_scan.py with PyTorch, and with a bundle.

Reads   SCAN, and the models that 80_predict_scan.py would choose (--models, --experiment)
Writes  nothing that stays; prints seconds of wall time and of processors, and the peak of memory, of each command and together
Next    scripts/82_export.py

    python scripts/benchmark_scan.py slices/ --models outputs/demo --models outputs/demo-types
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY, Workspace

if TYPE_CHECKING:
    from hemoct.scan.runners import Task

MEGA = 1024 if sys.platform == "linux" else 1024**2  # of ru_maxrss, which is in KiB there


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall: float
    processors: float
    """s of all of them, of user and system"""
    memory: float
    """MB, at most"""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.processors + other.processors, max(self.memory, other.memory))


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(make_parser(), argv, __file__)
    from hemoct.scan import choose

    places = [place.resolve() for place in args.models or choose.default(Workspace.of(args))]
    models = choose.models(places, choose.Which(experiments=args.experiment or {}))
    for line in models.said:
        print(line)
    works = {work.dataset: work for work, _ in models.learned}
    given = [f"--models={place}" for place in places]
    if args.experiment:
        given += ["--experiment", ",".join(f"{task}={name}" for task, name in args.experiment.items())]
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = args.bundle.resolve() if args.bundle else exported(Path(folder) / "bundle", models.tasks, works)
        for number in range(args.repeats):  # in alternation: a busy machine is busy for all
            out = Path(folder) / str(number)
            ways = {
                "one by one": [one_task(args, task, works[task.model.dataset], out) for task in models.tasks],
                "together, PyTorch": [["scripts/80_predict_scan.py", args.scan.resolve(), *given, "--out", out / "torch"]],
                "together, bundle": [
                    ["scripts/80_predict_scan.py", args.scan.resolve(), f"--models={bundle}", "--out", out / "onnx"]
                ],
            }
            for name, commands in ways.items():
                each = [cost([*command, "--threads", args.threads, "--device", "cpu"]) for command in commands]
                costs.setdefault(name, []).append(sum(each[1:], each[0]))
    say(costs)


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("scan", type=Path, metavar="SCAN", help="folder of images or DICOM files")
    parser.add_argument("--models", type=Path, action="append", metavar="DIR", help="as of 80_predict_scan.py")
    parser.add_argument("--experiment", type=cli.by_task, metavar="TASK=NAME[,...]", help="as of 80_predict_scan.py")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="an exported one; default: one is made of the same models")
    parser.add_argument("--boxes-from", type=Path, metavar="CSV", help="as of task 3's step, where its detector is not there")
    parser.add_argument("--repeats", type=cli.positive_int, default=3)
    parser.add_argument("--threads", type=cli.positive_int, default=len(os.sched_getaffinity(0)), help="of each command")
    return parser


def one_task(args: argparse.Namespace, task: "Task", work: Workspace, out: Path) -> list:
    """The predicting step of a task, as it would be called by hand."""
    model, more = task.model, []
    if model.task == 2 and len(model.folds) > 1:
        more = ["--fuse"]
    if model.task == 3 and task.around is not None and task.around.detector is None:
        if args.boxes_from is None:
            raise UserError("task 3: its detector is not there; give boxes with --boxes-from CSV")
        more = ["--boxes-from", args.boxes_from.resolve()]
    step = f"{experiments.FOLDERS[model.task]}/{experiments.PREDICT[model.task]}"
    place = out / f"task{model.task}{'.csv' if model.task == 1 else ''}"
    where = ["--dataset", model.dataset, "--root", work.root, "--experiment", model.experiment]
    return [step, args.scan.resolve(), *where, "--out", place, *more]


def exported(out: Path, tasks: "list[Task]", works: dict[str, Workspace]) -> Path:
    """A bundle of the same experiments."""
    folders = [works[task.model.dataset].task(task.model.task) / task.model.experiment for task in tasks]
    cost(["scripts/82_export.py", *folders, "--out", out])
    return out


def cost(words: list) -> Cost:
    """Run a step of the repository as a person would; stops where it does."""
    words = [str(word) for word in words]
    with tempfile.TemporaryFile(mode="w+") as spoken:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, stdout=spoken, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
        if process.returncode:
            spoken.seek(0)
            raise UserError(f"{shlex.join(words)} stopped: {' '.join(spoken.read().strip().splitlines()[-1:])}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / MEGA)


def say(costs: dict[str, list[Cost]]) -> None:
    medians = {name: Cost(*(statistics.median(getattr(one, of) for one in each) for of in ("wall", "processors", "memory")))
               for name, each in costs.items()}  # fmt: skip
    first = next(iter(medians.values()))
    print(f"{'':20s} {'wall s':>8s} {'share':>6s} {'cpu s':>8s} {'share':>6s} {'peak MB':>8s}")
    for name, one in medians.items():
        shares = one.wall / first.wall, one.processors / first.processors
        print(f"{name:20s} {one.wall:8.1f} {shares[0]:6.2f} {one.processors:8.1f} {shares[1]:6.2f} {one.memory:8.0f}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
