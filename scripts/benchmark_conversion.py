"""Measure how fast DICOM files become PNG slices, and what that means for the 752,803 files of RSNA 2019.

Reads   nothing: uncompressed 16-bit slices of a phantom head are written to a temporary folder (--compressed: JPEG 2000)
Writes  nothing; prints for each number of --workers slices per second by the clock; for one worker also by processor time, which
        other programs on the machine do not disturb, with the hours and the disk that RSNA 2019 takes at that rate
Next    scripts/01_get_data.py --from DIR
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless, generate_uid
from tqdm import tqdm

from hemoct.base import cli
from hemoct.ingest import conversion, conversion_tables
from hemoct.sources import phantom, phantom_dataset

RSNA_FILES = 752_803  # stage_2_train; its files are not compressed
LEVELS = (0.4, 0.5, 0.6)  # of the head, where a slice is fullest


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        draw(source, args.files, args.size, args.seed, args.compressed)
        kind = "JPEG 2000" if args.compressed else "uncompressed"
        print(f"{args.files} {kind} slices of {args.size} x {args.size} pixels")
        for workers in args.workers:
            target = Path(folder) / f"target-{workers}"
            clock, processor = measure(source, target, workers)
            print(f"{workers:3d} workers: {args.files / clock:8.1f} slices/s by the clock")
            if workers == 1:
                report(processor / args.files, size_of(target) / args.files)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--files", type=cli.positive_int, default=200, metavar="N")
    parser.add_argument("--size", type=cli.positive_int, default=512, metavar="PIXELS", help="side of a slice")
    parser.add_argument("--compressed", action="store_true", help="files in JPEG 2000, lossless")
    parser.add_argument("--workers", type=cli.positive_int, nargs="+", default=[1], metavar="N", help="processes; 1 is this one")
    return cli.parse(parser, argv, __file__)


def draw(folder: Path, number: int, size: int, seed: int, compressed: bool) -> None:
    """Files of a few phantom slices, each with a name and a place of its own; 30 make a patient."""
    volume = phantom.draw_volume(phantom.make_head((seed, 1), len(LEVELS)), np.array(LEVELS), size)
    phantom_dataset.write_dicom(folder, 1, volume.hu)
    templates = [pydicom.dcmread(path) for path in sorted((folder / "dicom").glob("*.dcm"))]
    for header in templates if compressed else ():
        header.compress(JPEG2000Lossless)
    for path in (folder / "dicom").glob("*.dcm"):
        path.unlink()
    for index in tqdm(range(number), desc="draw", disable=None):
        header = templates[index % len(templates)]
        header.PatientID, header.ImagePositionPatient[2] = f"{index // 30:06d}", 5.0 * (index % 30)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.save_as(folder / "dicom" / f"{index:06d}.dcm")


def measure(source: Path, target: Path, workers: int) -> tuple[float, float]:
    """Seconds by the clock and of this process, from the listing of the files to the tables."""
    clock, processor = time.perf_counter(), time.process_time()
    conversion.convert(conversion.Settings(source, target), workers)
    return time.perf_counter() - clock, time.process_time() - processor


def size_of(target: Path) -> int:
    """Bytes of the images of a conversion."""
    return sum(path.stat().st_size for path in (target / conversion_tables.IMAGES).rglob("*.png"))


def report(seconds: float, size: float) -> None:
    """Print what one slice takes and what RSNA 2019 takes."""
    hours, cores = RSNA_FILES * seconds / 3600, os.cpu_count() or 1
    print(f"one core: {1 / seconds:.1f} slices/s of processor time, {1000 * seconds:.1f} ms a slice")
    shown = f"{hours:.1f} h on one core, {hours / cores:.1f} h on {cores}, {hours / 16:.1f} h on 16"
    print(f"RSNA 2019, {RSNA_FILES:,} files: {shown}; {RSNA_FILES * size / 1e9:.0f} GB of PNG")


if __name__ == "__main__":
    cli.exit_cleanly(main)
