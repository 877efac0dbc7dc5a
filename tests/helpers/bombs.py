"""Small files that become far more than memory holds, and a limit of memory for the test that reads them."""

import gzip
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from helpers.dicom_files import head, write_series


@contextmanager
def little_memory(gigabytes: float) -> Iterator[None]:
    """Let this process have so much more memory than it has now; more is a MemoryError."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + int(gigabytes * 1e9), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def dicom_file(folder: Path, edit=lambda header: None) -> Path:
    return write_series(folder, head(1, size=16), edit=lambda header, _: edit(header))[0]


def deflated_dicom(folder: Path) -> Path:
    """1 GB of zeros behind a header, in 1 MB."""

    def deflate(header):
        header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = dicom_file(folder, deflate)
    content = path.read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    packer, zeros = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS), bytes(1 << 24)
    private = struct.pack("<HH2s2xI", 0x7FE1, 0x1010, b"OB", 0xFFFFFFF0)
    packed = packer.compress(plain + private) + b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    path.write_bytes(content[:start] + packed)
    return path


def gzipped_dicom(folder: Path) -> Path:
    path = dicom_file(folder)
    packed = path.with_name("bomb.dcm.gz")
    with gzip.open(packed, "wb") as stream:
        stream.write(path.read_bytes())
        for _ in range(64):
            stream.write(bytes(1 << 24))
    path.unlink()
    return packed


def large_rle(folder: Path) -> Path:
    """A compressed slice of 60,000 x 60,000 pixels by its header."""

    def grow(header):
        header.compress(RLELossless)
        header.Rows = header.Columns = 60_000

    return dicom_file(folder, grow)


def many_frames(folder: Path) -> Path:
    def grow(header):
        header.compress(RLELossless)
        header.Rows = header.Columns = 9_000
        header.NumberOfFrames = 900

    return dicom_file(folder, grow)


def stretched(folder: Path) -> Path:
    """Pixels ten times as long as wide: squared, they are ten times as many."""

    def oblong(header):
        header.Rows = header.Columns = 5_000
        header.PixelData = bytes(2 * 5_000 * 5_000)
        header.PixelSpacing = [1.0, 0.1]

    return dicom_file(folder, oblong)


def nifti(folder: Path) -> Path:
    """A volume of 6 GB by its header; what is packed behind it are zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((1024, 1024, 750))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = folder / "a.nii.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(header.binaryblock + bytes(4) + bytes(1 << 20))
    return path


def far_cell(path: Path) -> Path:
    """A table of two rows, and a cell at the far corner of the sheet."""
    book = openpyxl.Workbook()
    for row in (("number", "side"), (1, "left")):
        book.active.append(row)
    book.active["XFD1048576"] = "x"
    book.save(path)
    return path


def packed_sheet(path: Path) -> Path:
    """An Excel file with a part of 1 GB."""
    far_cell(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed, packed.open("xl/more.xml", "w") as stream:
        for _ in range(64):
            stream.write(bytes(1 << 24))
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A black PNG of any size, in hardly any memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(1), bytes(1 + width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def coded(folder: Path, syntax: str, side: int = 20_000) -> Path:
    """A slice of 16 x 16 pixels by its header, and of `side` squared by that of its JPEG 2000, JPEG or JPEG-LS."""
    size = struct.pack(">HH", side, side)
    frames = {
        "JPEG2000Lossless": b"\xff\x4f\xff\x51\x00\x29\x00\x00" + struct.pack(">IIII", side, side, 0, 0) + bytes(40),
        "JPEGLosslessSV1": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x10" + size + b"\x01\x01\x11\x00" + bytes(40),
        "JPEGLSLossless": b"\xff\xd8\xff\xf7\x00\x0b\x10" + size + b"\x01\x01\x11\x00" + bytes(40),
    }

    def encode(header):
        header.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        header.PixelData = encapsulate([frames[syntax]])
        header["PixelData"].is_undefined_length = True

    return dicom_file(folder, encode)
