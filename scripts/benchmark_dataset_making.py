"""Measure how the time to make a YOLO data set grows with the number of images: it should double when they do.

Reads   nothing: grey images with one box each are written to a temporary folder
Writes  nothing; prints seconds for each number of images (the best of --repeats) and the ratio to the number before
Next    task2_detection/01_make_yolo_dataset.py
"""

import tempfile
import time
from pathlib import Path

import pandas as pd
from PIL import Image

from hemoct.base import cli, tables
from hemoct.base.workspace import Workspace
from hemoct.data import splits
from hemoct.detection import data as detection_data
from hemoct.training.options import Selection

SLICES = 20  # a patient
FOLD = 0


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=cli.positive_int, nargs="+", default=[1000, 2000, 4000], metavar="N")
    parser.add_argument("--repeats", type=cli.positive_int, default=3)
    args = cli.parse(parser, argv, __file__)
    before = None
    for number in args.images:
        with tempfile.TemporaryDirectory() as folder:
            work = Workspace(Path(folder), "benchmark")
            draw(work, number, args.seed)
            seconds = min(measure(work) for _ in range(args.repeats))
        ratio = "" if before is None else f"   {seconds / before[1]:.2f} times the {before[0]} images"
        print(f"{number:6d} images {seconds:8.2f} s{ratio}")
        before = (number, seconds)


def draw(work: Workspace, number: int, seed: int) -> None:
    """Images and tables of `number` slices, every second one with a box."""
    work.raw.mkdir(parents=True)
    rows = []
    for index in range(number):
        patient, position = f"{index // SLICES:04d}", index % SLICES
        name = f"{patient}_{position:02d}"
        Image.new("L", (512, 512), index % 256).save(work.raw / f"{name}.png")
        rows.append([name, patient, position, f"{name}.png", "", "", index % 2])
    labels = pd.DataFrame(rows, columns=[*tables.IMAGE_COLUMNS, "lesion"])
    boxes = labels.loc[labels["lesion"] == 1, ["image_id"]].assign(**{"class": "lesion"}, xmin=100, ymin=120, xmax=180, ymax=170)
    dataset = tables.Dataset(work.dataset, "csv", ["lesion"], classes=["lesion"])
    tables.write_dataset(work, dataset)
    tables.write_labels(work, labels, dataset)
    tables.write_boxes(work, boxes)
    tables.write_splits(work, splits.make(labels, ["lesion"], seed))


def measure(work: Workspace) -> float:
    """Seconds for one fold, from the tables to the last link."""
    start = time.perf_counter()
    data = detection_data.load(work)
    part = data.part_of(FOLD, "patient", "folds")
    target = detection_data.export_folder(work, "yolo", Selection(), FOLD)
    detection_data.write_yolo(target, work, data, part, detection_data.look(work, data))
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.exit_cleanly(main)
