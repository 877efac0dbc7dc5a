"""What is small on disk and vast in memory is refused in one line, before that memory is taken."""

import gzip
import struct
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from helpers import bombs
from helpers.refusals import refused
from hemoct.base import limits, pixels
from hemoct.base.errors import UserError
from hemoct.ct import dicom, nifti, stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
GIGABYTES = 0.8  # beside what is there already


@pytest.fixture(autouse=True)
def default(monkeypatch):
    monkeypatch.setattr(limits, "megapixels", limits.DEFAULT)


@pytest.mark.parametrize(
    "make", [bombs.deflated_dicom, bombs.gzipped_dicom, bombs.large_rle, bombs.many_frames], ids=lambda make: make.__name__
)
def test_a_dicom_bomb_is_refused(tmp_path, make):
    path = make(tmp_path)
    assert path.stat().st_size < 3e6
    with bombs.little_memory(GIGABYTES), pytest.raises(UserError, match=r"(unpack to more than|million|GB).*--max-megapixels"):
        list(dicom.read(path))


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLosslessSV1", "JPEGLSLossless"])
def test_a_frame_that_is_coded_larger_than_its_header_says_is_refused(tmp_path, syntax):
    path = bombs.coded(tmp_path, syntax)
    with bombs.little_memory(0.2), pytest.raises(UserError, match=r"coded as \(20000, 20000\), the header says \(16, 16\)"):
        list(dicom.read(path))


def test_a_nifti_bomb_is_refused(tmp_path):
    with bombs.little_memory(GIGABYTES), pytest.raises(UserError, match=r"becomes 6.3 GB.*--max-megapixels"):
        nifti.Volume.read(bombs.nifti(tmp_path))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_nifti_whose_voxels_lie_far_behind_is_refused(tmp_path, kind):
    path = tmp_path / "a.nii"
    nib.save(kind(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    place = 108 if kind is nib.Nifti1Image else 168
    content[place : place + 8] = struct.pack("<f4x", 3e9) if kind is nib.Nifti1Image else struct.pack("<q", 3_000_000_000)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match="unpack to more than 200 MB"):
        nifti.Volume.read(path)


def test_an_image_is_refused_by_its_header_and_the_limit_is_a_flag(tmp_path, monkeypatch):
    path = bombs.png(tmp_path / "a.png", 13_300, 13_300)
    for read in (pixels.header, pixels.read_mask, lambda path: pixels.read(path, "L")):
        with bombs.little_memory(GIGABYTES), pytest.raises(UserError, match=r"13300 x 13300 pixels, more than 100 million"):
            read(path)
    monkeypatch.setattr(limits, "megapixels", 180)
    assert pixels.read(path, "L").shape == (13_300, 13_300)


def test_pages_of_a_stack_are_read_one_by_one(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(np.zeros((4000, 4000), np.uint8)) for _ in range(40)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    with bombs.little_memory(0.3):
        assert sum(page.shape == (4000, 4000) for page, _ in stack.slices(path)) == 40


@pytest.mark.slow
def test_twelve_large_images_are_checked_in_little_memory(tmp_path, run_step):
    """Each is allowed; eight threads decode them one after the other."""
    folder = tmp_path / "in"
    for number in range(12):
        bombs.png(folder / "AB"[number % 2] / f"{number}.png", 9_900, 9_900)
    words = ("--root", tmp_path, "--dataset", "toy")
    assert run_step("scripts/01_get_data.py", "--from", folder, *words).code == 0
    assert run_step("scripts/03_make_labels.py", *words).code == 0
    with bombs.little_memory(3.5):
        result = run_step("scripts/04_check_data.py", *words)
    assert "toy: 12 images" in result.out, result.err
    assert refused(run_step("scripts/03_make_labels.py", *words, "--max-megapixels", 90), "9900 x 9900", "--max-megapixels")
