"""A thin-slice CT is predicted in about the memory of a short one: what lies in mapped files need not fit."""

import os
import re
import threading
from pathlib import Path

import numpy as np
import pydicom
import pytest

from helpers import dicom_files, scan_networks
from hemoct.scan import write
from hemoct.scan.predict import predict

STATUS = Path("/proc/self/status")
SIDE, MEGA = 512, 1024


def series(folder: Path, slices: int) -> Path:
    """Thin slices of one head, every second one with blood."""
    (seed, *_) = dicom_files.write_series(folder / "seed", dicom_files.head(2, size=SIDE))
    header = pydicom.dcmread(seed)
    for number in range(slices):
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
        header.InstanceNumber, header.ImagePositionPatient = number + 1, [0, 0, 0.25 * number]
        header.save_as(folder / f"{number:04d}.dcm")
    for path in seed.parent.iterdir():
        path.unlink()
    seed.parent.rmdir()
    return folder


def anonymous() -> int:
    """MB that no file backs."""
    return int(re.search(r"RssAnon:\s+(\d+)", STATUS.read_text())[1]) // MEGA


def peak(folder: Path, out: Path) -> int:
    """MB of anonymous memory that predicting and writing add, in a fork: nothing of before counts."""
    reader, writer = os.pipe()
    if process := os.fork():
        os.close(writer)
        os.waitpid(process, 0)
        return int(os.read(reader, 32) or b"-1")
    highest, before, ended = [0], anonymous(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            highest[0] = max(highest[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    try:
        out.mkdir()
        write.write(predict(folder, scan_networks.models(size=256)), out)
        os.write(writer, str(highest[0] - before).encode())
    finally:
        os._exit(0)


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
def test_twenty_times_the_slices_take_less_than_twice_the_memory(tmp_path):
    short = peak(series(tmp_path / "short", 30), tmp_path / "a")
    long = peak(series(tmp_path / "long", 600), tmp_path / "b")
    print(f"30 slices {short} MB, 600 slices {long} MB, of pixels alone {600 * SIDE * SIDE * np.dtype(np.int16).itemsize >> 20}")
    assert short > 0 and long < 2 * short + 100
    page = (tmp_path / "b" / "scan.html").stat().st_size
    assert page < 20e6, "a page that can be mailed"
