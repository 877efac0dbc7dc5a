"""DICOM files made by code: a head of air, skull and brain, saved with any tags and transfer syntax."""

from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import FileDataset

from hemoct.sources import phantom_dataset

SIZE = 64
AIR, BRAIN, BLOOD, SKULL = -1000, 30, 70, 900


def head(slices: int = 1, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """HU, int16 (slices, size, size): air around a skull, noisy brain in it, and blood at one side, more of it in each slice."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(y, x)
    hu = np.full((slices, size, size), AIR, dtype=np.int16)
    hu[:, radius < 0.42] = SKULL
    hu[:, radius < 0.36] = BRAIN
    for number in range(slices):
        hu[number][np.hypot(y - 0.1, x) < 0.05 + 0.1 * number / slices] = BLOOD
    return hu + random.integers(-3, 4, hu.shape, dtype=np.int16)


def write_series(
    folder: Path, hu: np.ndarray, number: int = 1, edit: Callable[[FileDataset, int], None] | None = None
) -> list[Path]:
    """folder/dicom/NN.dcm, from base to vertex; `edit` changes each file before it is saved. Slices lie as they are shown."""
    # write_dicom turns phantoms, whose forehead is at the left; turned back before, these come out as they went in.
    phantom_dataset.write_dicom(folder, number, np.rot90(hu, 1, axes=(1, 2)) if len(hu) > 1 else _two(hu))
    paths = sorted((folder / "dicom").glob("*.dcm"))
    for path in paths[len(hu) :]:
        path.unlink()
    for index, path in enumerate(paths[: len(hu)]):
        if edit:
            header = pydicom.dcmread(path)
            edit(header, index)
            header.save_as(path, enforce_file_format=True)
    return paths[: len(hu)]


def _two(hu: np.ndarray) -> np.ndarray:
    """A spacing needs two slices."""
    return np.rot90(np.concatenate([hu, hu]), 1, axes=(1, 2))


def store(header: FileDataset, values: np.ndarray, bits: int = 16, signed: bool = False) -> None:
    """Put stored values into a file, `bits` of 16."""
    header.BitsStored, header.HighBit, header.PixelRepresentation = bits, bits - 1, int(signed)
    header.PixelData = values.astype("<i2" if signed else "<u2").tobytes()


def compress(path: Path, syntax: str) -> None:
    """Save a file again in another transfer syntax, through gdcm: what pydicom cannot write."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
