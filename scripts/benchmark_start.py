"""Measure how soon a step starts: its help, and the data that it works on, before torch is imported.

A training has read and checked its tables by then, those of labels have their decoded images as well; a prediction has found the
images and its models. What comes next, importing torch and timm, is theirs; it is measured too.

Reads   data/work/NAME                  scripts/05_make_splits.py, task4_multilabel/01_prepare_labels.py
        outputs/NAME/taskN/EXPERIMENT   for the predictions of those that are named
Writes  --out FILE: the table as JSON; decoded images are kept for the trainings to come
Next    python scripts/benchmarking.py

    python scripts/benchmark_start.py 1=resnet18,4=resnet18 --out scripts/benchmarks/start.json
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import benchmarking
import environment  # noqa: F401 (first of ours: without the environment it says how to activate it)
from benchmarking import Row
from tqdm import tqdm

from hemoct.base import cli, experiments, tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.workspace import REPOSITORY, Workspace

HELP, WORK = 0.3, 2.0  # s: the longest that is meant
TRAININGS = {
    **{experiments.train_step(task): () for task in (1, 2, 4)}, experiments.train_step(3): ("--region", "slice"),
    "task1_classification/05_train_head.py": (), "task4_multilabel/08_train_head.py": (), "scripts/07_pretrain.py": (),
    "task3_segmentation/09_train_volume.py": (), "task3_segmentation/10_train_multitask.py": (),
}  # fmt: skip
"""steps that train, with the flags that they need for it; task 1's 11_train_volume.py needs labels of studies"""
UNTIL_TORCH = """
import os, runpy, sys, time

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("torch."):  # torch itself is asked for by who looks whether it is installed
            os.write(1, f"\\nuntil {time.time()}".encode())
            os._exit(0)

sys.meta_path.insert(0, Hook())
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("experiments", type=cli.by_task, nargs="?", default={}, metavar="TASK=NAME[,...]", help="that predict")
    parser.add_argument("--repeats", type=cli.positive_int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    place = ["--root", work.root, "--dataset", work.dataset]
    calls = {f"data at hand, {step}": [step, *place, "--fold", "0", *flags] for step, flags in TRAININGS.items()}
    if args.experiments:
        image = work.raw / tables.read_labels(work, tables.read_dataset(work))["image"].iloc[0]
        for task, name in args.experiments.items():
            step = experiments.predict_step(task)
            calls[f"image and models found, {step}"] = [step, image, *place, "--experiment", name]
    steps = sorted(REPOSITORY.glob("*/[0-9][0-9]_*.py"))
    slowest = max(best(lambda step=step: helped(step), args.repeats) for step in tqdm(steps, desc="help", disable=None))
    rows = [row(f"help, the slowest of {len(steps)} steps", slowest, HELP)]
    for what, call in tqdm(calls.items(), disable=None):
        until_torch(call)  # what is decoded once is kept
        rows.append(row(what, best(lambda call=call: until_torch(call), args.repeats), WORK))
    torch = best(lambda: timed([sys.executable, "-c", "import torch, timm"]), args.repeats)
    said = [f"Other is the longest that it may take. Then torch and timm are imported, which takes {torch:.1f} s here."]
    benchmarking.publish(args.out, args.command, benchmarking.machine(), rows, {"said": said})


def row(what: str, seconds: float, longest: float) -> Row:
    return Row(what, seconds, longest, longest / seconds, "s", 1.0)


def best(measure: Callable[[], float], repeats: int) -> float:
    return min(measure() for _ in range(repeats))


def helped(step: Path) -> float:
    return timed([sys.executable, step, "--help"])


def timed(words: Sequence[object]) -> float:
    start = time.perf_counter()
    run(words)
    return time.perf_counter() - start


def until_torch(call: Sequence[object]) -> float:
    """Seconds from the start of a step's process until it asks for torch."""
    step, *words = call
    start = time.time()
    out = run([sys.executable, "-c", UNTIL_TORCH, REPOSITORY / str(step), *words])
    _, found, until = out.rpartition("\nuntil ")
    if not found:
        raise UserError(f"{step} ended without torch: {one_line(out)}")
    return float(until) - start


def run(words: Sequence[object]) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        raise UserError(f"{' '.join(map(str, words[-6:]))}: {one_line(done.stderr)}")
    return done.stdout


if __name__ == "__main__":
    cli.exit_cleanly(main)
