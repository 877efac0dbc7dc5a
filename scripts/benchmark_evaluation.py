"""Measure how long the evaluation of an experiment takes: metrics, 2,000 resamples, all tables and figures, imports too.

Each is evaluated anew as a process of its own, in a copy that is gone afterwards; what counts is the best of --repeats.

Reads   outputs/NAME/taskN/EXPERIMENT, and what its evaluation reads
Writes  --out FILE: the table as JSON
Next    python scripts/benchmarking.py

    python scripts/benchmark_evaluation.py 1=resnet18,2=yolov8n,3=unet --out scripts/benchmarks/evaluation.json
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benchmarking
import environment  # noqa: F401 (first of ours: without the environment it says how to activate it)
from tqdm import tqdm

from hemoct.base import cli, experiments, tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.workspace import REPOSITORY, Workspace

LONGEST = 10.0  # s, meant for 3,000 slices


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("experiments", type=cli.by_task, metavar="TASK=NAME[,...]", help="those to evaluate")
    parser.add_argument("--repeats", type=cli.positive_int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    args = cli.parse(parser, argv, __file__)
    work, rows = Workspace.of(args), []
    for task, name in args.experiments.items():
        if name not in (there := experiments.trained(work, task)):
            raise UserError(f"{work.show(work.task(task))} holds no experiment {name}; there are: {', '.join(there)}")
    for task, name in tqdm(args.experiments.items(), disable=None):
        seconds = [evaluated(work, task, name) for _ in range(args.repeats)]
        what = f"evaluation, task {task}, {name}, {predictions(work.task(task) / name):,} predictions"
        rows.append(benchmarking.Row(what, min(seconds), LONGEST, LONGEST / min(seconds), "s", 1.0))
    benchmarking.publish(
        args.out, args.command, benchmarking.machine(), rows, {"said": ["Other is the longest that it may take."]}
    )


def evaluated(work: Workspace, task: int, name: str) -> float:
    """Seconds of an evaluation, in a copy of the experiment that shares its files."""
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=work.outputs) as folder:
        copy = Workspace(Path(folder), work.dataset)
        (copy.root / "data").symlink_to(work.root / "data")
        shutil.copytree(work.task(task) / name, copy.task(task) / name, copy_function=os.link)  # steps replace, never write into
        for other in work.outputs.glob("task[1-4]/*/"):  # an ensemble is checked against its members
            place = copy.task(int(other.parent.name[-1])) / other.name
            place.parent.mkdir(exist_ok=True)
            if not place.exists():
                place.symlink_to(other)
        step = experiments.evaluate_step(task)
        (copy.task(task) / name / f"{Path(step).stem}.run.json").unlink(missing_ok=True)
        words = [sys.executable, REPOSITORY / step, "--dataset", copy.dataset, "--root", copy.root, "--experiment", name]
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"{step} --experiment {name}: {one_line(done.stderr)}")
    return seconds


def predictions(experiment: Path) -> int:
    """How many rows the predictions.csv of the folds of an experiment hold: a slice each, in task 2 a box."""
    return sum(len(tables.read_predictions(fold)) for fold in experiments.folds(experiment, "predictions.csv"))


if __name__ == "__main__":
    cli.exit_cleanly(main)
