"""Measure the steps from raw data to the training sets of tasks 2 and 3 against scripts as people write them, without checks.

Both start as processes of their own, in alternation, on the same data set with VOC XML (PHE-SICH-CT-IDS); seconds include
imports. The plain scripts copy where ours link, make one random split of slices where ours make five of patients, and trust
every file.

Reads   data/raw/NAME                                           scripts/01_get_data.py
Writes  nothing in data/: both work in a temporary folder; --out FILE keeps the table as JSON
Next    python scripts/benchmarking.py

    python scripts/benchmark_data_steps.py --repeats 3 --out scripts/benchmarks/data_steps.json
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)
from benchmarking import Row, machine, publish

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY, Workspace

OURS = {  # the step, and what it and the plain script leave
    "merging": ("scripts/02_merge_annotations.py", "merged_annotation", "merged"),
    "labels": ("scripts/03_make_labels.py", "labels.csv", "labels.csv"),
    "mask set": ("task3_segmentation/01_make_seg_dataset.py", "seg_dataset", "seg"),
    "YOLO set": ("task2_detection/01_make_yolo_dataset.py", "yolo_dataset", "yolo"),
}
COMMON = """
import glob, os, random, shutil, sys
raw, out = sys.argv[1:]
images = sorted(glob.glob(raw + "/**/set/**/*.png", recursive=True))
masks = {os.path.basename(p): p for p in glob.glob(raw + "/**/label/**/*.png", recursive=True)}
random.seed(42); random.shuffle(images)
parts = {"train": images[:int(.8 * len(images))], "val": images[int(.8 * len(images)):int(.9 * len(images))],
         "test": images[int(.9 * len(images)):]}
"""
PLAIN = {
    "merging": """
os.makedirs(out + "/merged", exist_ok=True)
for path in glob.glob(raw + "/**/*.xml", recursive=True):
    shutil.copy(path, out + "/merged")
""",
    "labels": """
import pandas as pd, xml.etree.ElementTree as ET
rows = []
for path in glob.glob(out + "/merged/*.xml"):
    root = ET.parse(path).getroot()
    rows.append({"image": os.path.basename(path)[:-4] + ".png", "label": int(root.find("object") is not None)})
pd.DataFrame(rows).to_csv(out + "/labels.csv", index=False)
""",
    "mask set": """
import numpy as np
from PIL import Image
for part, paths in parts.items():
    for kind in ("images", "masks"):
        os.makedirs(f"{out}/seg/{part}/{kind}", exist_ok=True)
    for path in paths:
        name = os.path.basename(path)
        if name in masks:
            shutil.copy(path, f"{out}/seg/{part}/images/{name}")
            mask = np.array(Image.open(masks[name]).convert("L"))
            Image.fromarray(((mask > 127) * 255).astype("uint8")).save(f"{out}/seg/{part}/masks/{name}")
""",
    "YOLO set": """
import xml.etree.ElementTree as ET
from PIL import Image
for part, paths in parts.items():
    for kind in ("images", "labels"):
        os.makedirs(f"{out}/yolo/{part}/{kind}", exist_ok=True)
    for path in paths:
        name = os.path.basename(path)
        xml = f"{out}/merged/{name[:-4]}.xml"
        shutil.copy(path, f"{out}/yolo/{part}/images/{name}")
        width, height = Image.open(path).size
        lines = []
        for box in ET.parse(xml).getroot().iter("bndbox") if os.path.exists(xml) else ():
            left, top, right, bottom = (float(box.find(side).text) for side in ("xmin", "ymin", "xmax", "ymax"))
            lines.append(f"0 {(left + right) / 2 / width} {(top + bottom) / 2 / height} "
                         f"{(right - left) / width} {(bottom - top) / height}")
        with open(f"{out}/yolo/{part}/labels/{name[:-4]}.txt", "w") as file:
            file.write("\\n".join(lines))
""",
}


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--repeats", type=cli.positive_int, default=3, help="rounds that count, behind one that warms up")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the table as JSON")
    args = cli.parse(parser, argv, __file__)
    raw = Workspace.of(args).need(Workspace.of(args).raw, "scripts/01_get_data.py").resolve()
    if not any(raw.rglob("*.xml")):
        raise UserError(f"{raw} holds no VOC XML; the plain scripts read nothing else: take PHE-SICH-CT-IDS")
    with tempfile.TemporaryDirectory() as folder:
        root, plain = Path(folder) / "ours", Path(folder) / "plain"
        (root / "data" / "raw").mkdir(parents=True)
        (root / "data" / "raw" / args.dataset).symlink_to(raw, target_is_directory=True)
        ours = ["--root", str(root), "--dataset", args.dataset]
        rows = []
        for name, (step, left, plain_left) in OURS.items():
            if name == "mask set":
                run([sys.executable, "scripts/05_make_splits.py", *ours])
            words = [sys.executable, step, *ours]
            plain_words = [sys.executable, "-c", COMMON + PLAIN[name], str(raw), str(plain)]
            outputs = root / "data" / "work" / args.dataset / left, plain / plain_left
            seconds = [min(each) for each in rounds((words, plain_words), outputs, args.repeats)]
            rows.append(Row(name, *seconds, seconds[1] / seconds[0], "s"))
    sums = [sum(getattr(row, way) for row in rows) for way in ("ours", "other")]
    rows.append(Row("all four", *sums, sums[1] / sums[0], "s"))
    command = f"python scripts/benchmark_data_steps.py --repeats {args.repeats}"
    publish(args.out, command, machine(), rows, {"images": sum(1 for _ in raw.rglob("set/**/*.png"))})


def rounds(ways: tuple[list[str], ...], outputs: tuple[Path, ...], repeats: int) -> list[list[float]]:
    """Seconds of each command in turn; a first round warms up and does not count. What a command leaves is removed before it."""
    seconds: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats + 1):
        for words, output, kept in zip(ways, outputs, seconds, strict=True):
            shutil.rmtree(output, ignore_errors=True)
            start = time.perf_counter()
            run(words)
            if repeat:
                kept.append(time.perf_counter() - start)
    return seconds


def run(words: list[str]) -> None:
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(words[:2])} ended with exit code {done.returncode}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
