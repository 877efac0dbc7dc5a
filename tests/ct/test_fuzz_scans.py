"""Files of CT with bytes changed at random: read, or refused in one line; never a traceback, never a file without a word."""

import gzip
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest

from helpers.dicom_files import head, write_series
from helpers.fake_sources import save
from hemoct.ingest import conversion
from hemoct.ingest.conversion_tables import Source

HEADER = {"a.dcm": 1500, "IM1": 900, "frames.dcm": 1800, "a.nii": 400, "a.nii.gz": 400}
"""files, and in how many bytes at their beginning most of what matters lies"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    (path,) = write_series(folder, head(1, 16))
    header = pydicom.dcmread(path)
    pydicom.Dataset({element.tag: element for element in header}).save_as(
        folder / "IM1", implicit_vr=False, little_endian=True, enforce_file_format=False
    )
    header.NumberOfFrames, header.PixelData = 2, header.PixelData * 2
    group = pydicom.Dataset()
    group.PlanePositionSequence = [pydicom.Dataset()]
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5]
    header.PerFrameFunctionalGroupsSequence = [group, group]
    header.save_as(folder / "frames.dcm")
    volume = save(folder / "a.nii", head(3, 16)).read_bytes()
    files = {"a.dcm": path.read_bytes(), "a.nii": volume, "a.nii.gz": volume}
    return files | {name: (folder / name).read_bytes() for name in ("IM1", "frames.dcm")}


@pytest.mark.parametrize("name", HEADER)
def test_a_broken_file_is_read_or_refused(tmp_path, whole, name):
    dice, refused = random.Random(f"{name} 15"), 0
    settings = conversion.Settings(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in").mkdir()
    for _ in range(100):
        content = bytearray(whole[name])
        for _ in range(dice.choice((1, 1, 2, 5, 20))):
            content[dice.randrange(min(HEADER[name], len(content)))] = dice.randrange(256)
        if dice.random() < 0.1:
            del content[dice.randrange(len(content)) :]
        packed = gzip.compress(bytes(content), 1) if name.endswith(".gz") else bytes(content)
        (tmp_path / "in" / name).write_bytes(packed)
        done = conversion.convert_one(Source(name, conversion.name_of(Path(name))), settings)
        assert bool(done.slices) != bool(done.problem), content
        refused += bool(done.problem)
        assert "\n" not in done.problem and all(np.isfinite(each.facts.position or 0) for each in done.slices)
    assert 0 < refused < 100
