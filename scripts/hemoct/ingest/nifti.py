"""Axial slices of a NIfTI volume of CT: HU, and where each slice lies.

Slices are shown as in radiology, with the forehead at the top and the patient's right at the left edge, from base to vertex, in
whatever order the volume is stored: equal to the DICOM slices from which it was made, if those were axial.
"""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from hemoct.base.errors import UserError, one_line
from hemoct.ingest.dicom import AIR_BELOW, Facts, describe_place
from hemoct.ingest.hounsfield import AIR_HU

SUFFIXES = (".nii.gz", ".nii")
FEWEST_VALUES = 9  # a volume with fewer different values is a mask: background and a few labels


def stem(path: Path) -> Path:
    """The path without .nii or .nii.gz."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path


def read(path: Path) -> Iterator[tuple[np.ndarray, Facts]]:
    """HU, float32 (rows, columns), and facts of each axial slice from the base up; UserError names a file that is no CT volume.

    The volume is kept in memory as it is stored, mostly int16, and scaled slice by slice.
    """
    try:
        image = nib.load(path)
        stored, affine = _turn(image)
    except Exception as error:  # cut off, no NIfTI at all, broken header: the library fails in many ways
        raise UserError(f"{path} cannot be read as NIfTI ({one_line(error)}); replace the file or leave it out") from None
    if stored.ndim != 3 or stored.dtype.kind not in "iuf":
        shape = " x ".join(map(str, stored.shape))
        raise UserError(f"{path} is no grey volume ({shape}, {stored.dtype}); leave it out, or split it into volumes")
    values = np.unique(stored[::2, ::2])
    if len(values) < FEWEST_VALUES:
        shown = ", ".join(f"{value:g}" for value in values)
        raise UserError(f"{path} holds no values but {shown}: a mask, no CT; leave it out")
    slope, intercept = np.float32(image.dataobj.slope), np.float32(image.dataobj.inter)
    columns, rows, up = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    normal = np.cross(columns, rows)
    normal = normal / np.linalg.norm(normal)
    for number in range(stored.shape[2]):
        hu = np.nan_to_num(stored[::-1, ::-1, number].T.astype(np.float32) * slope + intercept, nan=AIR_HU)
        position, plane, tilt = describe_place(normal, affine[:3, 3] + number * up)
        yield (
            hu,
            Facts(
                instance=number,
                position=position,
                plane=plane,
                tilt=tilt,
                spacing_row=float(np.linalg.norm(rows)),
                spacing_col=float(np.linalg.norm(columns)),
                spacing_between=float(abs(normal @ up)),
                air=bool(hu.min() < AIR_BELOW),
            ),
        )


def _turn(image: nib.Nifti1Image) -> tuple[np.ndarray, np.ndarray]:
    """Stored values with axes towards the patient's right, front and head, and the affine (4, 4) of these axes."""
    stored = np.asanyarray(image.dataobj.get_unscaled())
    if stored.ndim > 3:
        stored = stored.reshape(stored.shape[:3] + tuple(size for size in stored.shape[3:] if size > 1))
    if stored.ndim != 3:
        return stored, image.affine
    if abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        raise ValueError("its affine is singular")
    turn = nib.io_orientation(image.affine)
    return nib.apply_orientation(stored, turn), image.affine @ nib.orientations.inv_ornt_aff(turn, stored.shape)
