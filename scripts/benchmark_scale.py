"""Measure how making a data set grows with the number of DICOM files, and what 752,803 of RSNA 2019 would take.

Time should double with the files, and memory stay flat. Each step is a process of its own: the conversion in shards (the sum of
them, and the run that makes the tables), labels, splits, the working set of task 4, the cached slices made and loaded again.
Files are small copies of a phantom slice with other identifiers and grey values; the cost of one of 512 px is measured apart.
The label table of RSNA 2019, 4.5 million rows, is read by our reader and by a plain pandas `read_csv`, split and pivot.

Reads   nothing: files are written to a temporary folder
Writes  --out FILE; prints seconds and the highest memory of one process, for each number of files, and the extrapolation
Next    python scripts/benchmarking.py
"""

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import benchmark_conversion
import benchmarking
import environment  # noqa: F401 (first of ours: without the environment it says how to activate it)
import numpy as np
from pydicom.uid import generate_uid
from tqdm import tqdm

from hemoct.base import cli
from hemoct.base.workspace import REPOSITORY
from hemoct.data.images import SHARD
from hemoct.ingest import rsna_reader
from hemoct.sources import phantom, phantom_dataset

RSNA_FILES = benchmark_conversion.RSNA_FILES
SLICES = 30  # a patient
SHARDS = 4
LARGE = 512  # px, of RSNA 2019
SHARE = 0.05  # of the images that show a type
REPEATS = 3
LABELS, MADE = "stage_2_train.csv", "data/raw/scale"
PLAIN = """
import pandas as pd, sys
frame = pd.read_csv(sys.argv[1])
frame[["image", "type"]] = frame["ID"].str.rsplit("_", n=1, expand=True)
print(len(frame.pivot(index="image", columns="type", values="Label")))
"""
OURS = """
import sys
from pathlib import Path
from hemoct.ingest import rsna_reader
print(len(rsna_reader.read_truth(Path(sys.argv[1])).names))
"""
CACHE = """
import sys
from pathlib import Path
from hemoct.base.workspace import Workspace
from hemoct.data import slices
print(slices.load(Workspace(Path(sys.argv[1]), "scale"), int(sys.argv[2]), "any").pixels[::97].mean())
"""


LAUNCH = """
import os, sys, time
start = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, used = os.wait4(os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=silent), 0)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""  # from a process that holds nothing: what a parent holds counts as its children's


@dataclass(frozen=True)
class Used:
    """What a process took."""

    clock: float
    processor: float
    seconds: float
    """of processor time, as if the machine had been as fast as it was for the fastest `pace`"""
    memory: float
    """MiB, the most that it or one of its own processes held"""

    def __add__(self, other: "Used") -> "Used":
        both = (self.clock + other.clock, self.processor + other.processor, self.seconds + other.seconds)
        return Used(*both, max(self.memory, other.memory))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    measured: dict[str, dict[int, Used]] = {}
    load = [f"{os.getloadavg()[0]:.1f} before"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "one"
        benchmark_conversion.draw(source, args.sample, LARGE, args.seed, compressed=False)
        _, processor = benchmark_conversion.measure(source, Path(folder) / "converted", workers=1)
        size = benchmark_conversion.size_of(Path(folder) / "converted") / args.sample
    for number in args.files:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "source", number, args.size, args.seed)
            for name, used in steps(Path(folder), args.size):
                measured.setdefault(name, {})[number] = used
                shown = f"{used.clock:8.1f} s, {used.processor:7.1f} of the processor, {used.seconds:7.1f} at its best pace, "
                shown += f"{used.memory:6.0f} MiB"
                print(f"{number:7d} files  {name:38s} {shown}", flush=True)
    rows = growth(measured)
    with tempfile.TemporaryDirectory() as folder:
        rows += label_table(Path(folder) / LABELS, args.rows // len(rsna_reader.LABELS), args.seed)
    load.append(f"{os.getloadavg()[0]:.1f} after")
    said = extrapolation(measured, args.size, processor / args.sample, size)
    said.append(f"* processes that wanted one of the cores: {', '.join(load)} the measurement.")
    print("\n".join(said))
    taken = {name: {str(number): asdict(used) for number, used in each.items()} for name, each in measured.items()}
    benchmarking.publish(args.out, args.command, benchmarking.machine(), rows, {"said": said, "taken": taken})


def parse(argv: list[str] | None):
    parser = cli.parser(__doc__)
    parser.add_argument("--files", type=cli.positive_int, nargs="+", default=[5000, 10_000, 20_000], metavar="N")
    parser.add_argument("--size", type=cli.positive_int, default=64, metavar="PIXELS", help="side of a slice")
    parser.add_argument("--sample", type=cli.positive_int, default=200, metavar="N", help=f"files of {LARGE} px")
    parser.add_argument("--rows", type=cli.positive_int, default=6 * RSNA_FILES, metavar="N", help="of the label table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write what was measured as JSON")
    return cli.parse(parser, argv, __file__)


def draw(folder: Path, number: int, size: int, seed: int) -> None:
    """stage_2_train/ID_xxx.dcm in no order of any kind, and their labels."""
    volume = phantom.draw_volume(phantom.make_head((seed, 1), 2), np.array([0.5, 0.6]), size)
    phantom_dataset.write_dicom(folder, 1, volume.hu)
    template = benchmark_conversion.pydicom.dcmread(folder / "dicom" / "01.dcm")
    marks = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    marks |= {"PatientID": "ID_777777"}
    for name, mark in marks.items():
        setattr(template, name, mark)
    template.ImagePositionPatient = [0, 0, "888.888"]
    template.PixelData = template.PixelData[: -2 * size] + b"~" * (2 * size)  # the last row tells files apart
    template.save_as(folder / "template", enforce_file_format=True)
    content = (folder / "template").read_bytes()
    images = folder / "stage_2_train"
    images.mkdir()
    rng = np.random.default_rng(seed)
    for index, name in enumerate(tqdm(names(number), desc="draw", disable=None)):
        made = content.replace(b"ID_777777", b"ID_%06d" % (index // SLICES)).replace(b"888.888", b"%07.3f" % (index % SLICES * 5))
        for kind, count in (("StudyInstanceUID", SLICES), ("SeriesInstanceUID", SLICES), ("SOPInstanceUID", 1)):
            mark = marks[kind].encode()
            made = made.replace(mark, mark[:-7] + b"%07d" % (index // count))
        row = rng.integers(0, 2000, size, dtype="<u2").tobytes()
        (images / f"{name}.dcm").write_bytes(made.replace(b"~" * (2 * size), row))
    for path in (folder / "template", *(folder / "dicom").iterdir()):
        path.unlink()
    write_labels(folder / LABELS, number, seed)


def names(number: int):
    """ID_xxx of each image; neighbours have nothing in common."""
    return (f"ID_{index * 2_654_435_761 % 16**9:09x}" for index in range(number))


def write_labels(path: Path, number: int, seed: int) -> None:
    """A table as that of RSNA 2019, six rows to an image."""
    shown = np.random.default_rng(seed).random((number, len(rsna_reader.TYPES))) < SHARE
    values = np.column_stack([shown, shown.any(axis=1)]).astype(int).tolist()
    with path.open("w", encoding="utf-8") as stream:
        stream.write("ID,Label\n")
        for name, row in zip(names(number), values, strict=True):
            stream.write("".join(f"{name}_{kind},{value}\n" for kind, value in zip(rsna_reader.LABELS, row, strict=True)))


def steps(root: Path, size: int):
    """Run the steps, one after the other, and yield what each took."""
    of_data = ["--root", str(root), "--dataset", "scale"]
    get = ["scripts/01_get_data.py", "--from", str(root / "source"), *of_data, "--workers", "1"]
    shards = [run(*get, "--shard", f"{number}/{SHARDS}") for number in range(1, SHARDS + 1)]
    yield f"conversion, {SHARDS} shards together", sum(shards, Used(0, 0, 0, 0))
    yield "conversion, the tables of all shards", run(*get)
    yield "labels", run("scripts/03_make_labels.py", *of_data, "--patient-column", "patient")
    yield "splits", run("scripts/05_make_splits.py", *of_data)
    yield "working set", run("task4_multilabel/01_prepare_labels.py", *of_data)
    yield "cached slices, made", run("-c", CACHE, str(root), str(size))
    yield "cached slices, loaded", run("-c", CACHE, str(root), str(size))


def run(*words: str) -> Used:
    """Run Python from the repository; a process that fails ends the measurement."""
    call = [sys.executable, "-I", "-S", "-c", LAUNCH, *words]
    place = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    best_pace()
    before = pace()
    done = subprocess.run(call, cwd=REPOSITORY, env=place, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    clock, processor, memory = map(float, done.stdout.split())
    return Used(clock, processor, processor * best_pace() / ((before + pace()) / 2), memory)


def pace() -> float:
    """Seconds of processor time that a fixed piece of work takes: more where other programs take caches for themselves.

    Measured before and after each process, so that numbers of files that were measured at other times can be compared.
    """
    start = time.process_time()
    for _ in range(20):
        text = json.dumps([{"place": place, "name": str(place)} for place in range(5000)])
        json.loads(text)
        zlib.compress(text.encode(), 1)
    return time.process_time() - start


@functools.cache
def best_pace() -> float:
    return min(pace() for _ in range(10))


def growth(measured: dict[str, dict[int, Used]]) -> list[benchmarking.Row]:
    """A row for each step and number of files: what a file costs there against what it cost at the number before."""
    rows = []
    for name, each in measured.items():
        for fewer, more in itertools.pairwise(sorted(each)):
            cost = [1e3 * each[number].seconds / number for number in (more, fewer)]
            what = f"{name}: {more:,} files against {fewer:,}"
            rows.append(benchmarking.Row(f"{what}, processor time of a file", *cost, cost[1] / cost[0], "ms", 0.9))
            held = [each[number].memory for number in (more, fewer)]
            rows.append(benchmarking.Row(f"{what}, memory", *held, held[1] / held[0], "MiB", 0.9))
    return rows


def label_table(path: Path, images: int, seed: int) -> list[benchmarking.Row]:
    """Our reader against pandas, in turn: the best of REPEATS."""
    write_labels(path, images, seed)
    taken: dict[str, list[Used]] = {"ours": [], "plain": []}
    for _ in range(REPEATS):
        for way, code in (("ours", OURS), ("plain", PLAIN)):
            taken[way].append(run("-c", code, str(path)))
    rows = []
    for field, name, unit in (("clock", "time", "s"), ("processor", "processor time", "s"), ("memory", "memory", "MiB")):
        ours, plain = (min(getattr(used, field) for used in taken[way]) for way in ("ours", "plain"))
        rows.append(benchmarking.Row(f"label table of {6 * images:,} rows, {name}", ours, plain, plain / ours, unit, 3.0))
    return rows


def extrapolation(measured: dict[str, dict[int, Used]], size: int, seconds: float, png: float) -> list[str]:
    """What RSNA 2019 would take: a line through processor time and memory of each step."""
    hours, most = RSNA_FILES * seconds / 3600, max(next(iter(measured.values())))
    said = [
        f"**{RSNA_FILES:,} files, extrapolated**: a straight line through the processor time and the memory of each step, on one "
        f"core of this machine, from files of {size} px, {SLICES} a patient. Processor times are those of the machine at its "
        "best pace (a fixed piece of work, measured before and after each process). Assumptions: what is linear up to "
        f"{most:,} files stays so, and the disk delivers files as fast as they are asked for. On top come, at {LARGE} px, "
        f"{RSNA_FILES * png / 1e9:.0f} GB of PNG that labels (their hashes) and the cache each read once.",
        f"* conversion at {LARGE} px, {1000 * seconds:.1f} ms of processor time a file in a sample: {hours:.1f} h in one job, "
        f"{hours / 16 * 60:.0f} min in 16 shards",
    ]
    for name, each in measured.items():
        numbers = sorted(each)
        lines = [np.polyfit(numbers, [getattr(each[one], field) for one in numbers], 1) for field in ("seconds", "memory")]
        seconds, memory = (float(np.polyval(line, RSNA_FILES)) for line in lines)
        memory = max(memory, *(used.memory for used in each.values()))  # noise may slope down
        said.append(f"* {name}: {seconds / 60:.1f} min, {memory / 1024:.1f} GiB ({1024 * max(lines[1][0], 0):.1f} KiB a file)")
    cached = RSNA_FILES * 224**2 / 1e9
    maps = -(-RSNA_FILES // SHARD)
    said.append(f"* cached slices at 224 px: {cached:.0f} GB on disk, {maps} memory maps, which the system may drop at any time")
    return said


if __name__ == "__main__":
    cli.exit_cleanly(main)
