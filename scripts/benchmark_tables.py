"""Measure how the steps that read and write tables grow with the number of images: they should double when it does.

Reads   nothing: hard links to a few small pictures, and a CSV of labels, are laid out in a temporary folder
Writes  nothing; prints seconds and the highest memory of each step for each number of images
Next    python scripts/03_make_labels.py
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)
import numpy as np
from PIL import Image

from hemoct.base import cli
from hemoct.base.workspace import REPOSITORY, Workspace

SLICES = 30  # a patient
SIDE = 64  # px
LINKS = 10_000  # names a picture may have; file systems have a limit
STEPS = {
    "labels": ("03_make_labels.py",),
    "check, a sample": ("04_check_data.py", "--sample", "20000"),
    "check": ("04_check_data.py",),
    "splits": ("05_make_splits.py",),
    "report": ("90_make_report.py",),
    "labels, up to date": ("03_make_labels.py", "--skip-if-done"),
    "check, up to date": ("04_check_data.py", "--skip-if-done"),
    "report, up to date": ("90_make_report.py", "--skip-if-done"),
}
AGAIN = {"labels of twice as many": ("03_make_labels.py",), "splits, extended": ("05_make_splits.py",)}


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=cli.positive_int, nargs="+", default=[75_000, 150_000], metavar="N")
    parser.add_argument("--steps", type=cli.names, metavar="A,B", help=f"of {', '.join([*STEPS, *AGAIN])}; default: all")
    args = cli.parse(parser, argv, __file__)
    for number in args.images:
        with tempfile.TemporaryDirectory() as folder:
            work = Workspace(Path(folder), "benchmark")
            lay_out(work, range(number), args.seed)
            for name, words in STEPS.items():
                show(number, name, work, words, args.steps)
            if not args.steps or {*AGAIN} & {*args.steps}:
                lay_out(work, range(number, 2 * number), args.seed)
                for name, words in AGAIN.items():
                    show(number, name, work, words, args.steps)


def lay_out(work: Workspace, numbers: range, seed: int) -> None:
    """Add images and their rows in labels.csv, every third one positive."""
    work.raw.mkdir(parents=True, exist_ok=True)
    rng, table = np.random.default_rng([seed, numbers.start]), work.raw / "labels.csv"
    with table.open("a", encoding="utf-8") as stream:
        if numbers.start == 0:
            stream.write("image,patient,bleeding\n")
        for number in numbers:
            patient, place = f"P{number // SLICES:06d}", number % SLICES
            name = f"images/{patient}/{patient}_{place:02d}.png"
            path = work.raw / name
            if place == 0 or number == numbers.start:
                path.parent.mkdir(parents=True, exist_ok=True)
            if (number - numbers.start) % LINKS == 0:
                picture = work.raw.parent / f"picture{number}.png"
                Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(picture)
            os.link(picture, path)
            stream.write(f"{name},{patient},{int(number % 3 == 0)}\n")


def show(number: int, name: str, work: Workspace, words: tuple[str, ...], wanted: list[str] | None) -> None:
    """Run a step and print what it took; a step that fails ends the measurement."""
    if wanted and name not in wanted:
        return
    step, *flags = words
    command = [sys.executable, str(REPOSITORY / "scripts" / step), "--dataset", work.dataset, "--root", str(work.root), *flags]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    print(f"{number:7d} images {name:24s} {time.perf_counter() - start:8.1f} s {used.ru_maxrss / 1024:8.0f} MiB", flush=True)
    if child.returncode:
        raise SystemExit(child.returncode)


if __name__ == "__main__":
    cli.exit_cleanly(main)
