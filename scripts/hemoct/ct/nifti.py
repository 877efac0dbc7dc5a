"""Slices of a NIfTI volume of CT: HU, where each slice lies, and the same slices of a mask that belongs to the volume.

Slices are shown as in radiology, with the forehead at the top and the patient's right at the left edge, from base to vertex, in
whatever order the volume is stored: equal to the DICOM slices from which it was made, if those were axial. Where voxels are far
longer from front to back, or from side to side, than from base to vertex, the volume was made of coronal or sagittal slices and
is cut into those (head at the top; the patient's right, or the forehead, at the left edge).

A mask is turned by its own affine in the same way, and must then lie on the same grid as its volume. Lengths are those of the
header's unit; where these make no head, those of the unit that does.
"""

import gzip
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from hemoct.base import limits
from hemoct.base.errors import UserError, few, one_line
from hemoct.ct.facts import GREY, TWO_ORIENTATIONS, UNITS, UNORIENTED, Facts, about_pixels, describe_place
from hemoct.ct.hounsfield import AIR_HU

nib.imageglobals.logger.setLevel(logging.CRITICAL)  # its remarks on headers name no file
FIRST_BYTES, VOXELS_AT = 348, {348: ("f", 108), 540: ("q", 168)}
"""of a header; where one of that length (NIfTI-1, NIfTI-2) says where the voxels begin, and in which type"""
FEWEST_VALUES = 9  # a volume with fewer different values is a mask: background and a few labels
MOST_LABELS = 64  # so is one of whole numbers from 0 to this: a head CT, windowed or not, has higher ones
HIGHEST_IN_MASK = 255
MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
HEAD_MM = (5.0, 2000.0)  # the longest side of a volume of a head, or of a part of it
THIN = 1.9  # voxels that are so many times longer along another axis than from base to vertex: not cut axially
CUTS = ((1, 2, 0), (0, 2, 1), (0, 1, 2))  # columns, rows and slices of sagittal, coronal and axial cuts; axes right, front, head


def read(path: Path) -> Iterator[tuple[np.ndarray, Facts]]:
    """HU, float32 (rows, columns), and facts of each slice from the base up; UserError names a file that is no CT volume."""
    return Volume.read(path).slices()


@dataclass(frozen=True)
class Volume:
    """A volume cut into slices, in memory as it is stored, mostly int16; its HU are computed slice by slice."""

    stored: np.ndarray
    """(columns, rows, slices): axes towards the patient's right, front and head, in the order of the cut"""
    affine: np.ndarray
    """of these axes: float (4, 4), mm"""
    cut: tuple[int, int, int]
    """one of CUTS"""
    slope: np.float32
    intercept: np.float32
    reversed: bool
    """whether the file holds the slices from vertex to base"""
    remarks: str
    header: nib.Nifti1Header
    """of the file; with its `own_affine`, in its own unit"""
    own_affine: np.ndarray
    turn: np.ndarray
    """nib.io_orientation: how the file's axes became right, front and head"""

    @classmethod
    def read(cls, path: Path) -> "Volume":
        """Read and turn a volume of CT; UserError names a file that is none."""
        image, stored, affine, remarks = _load(path)
        if (labels := _labels(stored[::2, ::2])) is not None:
            shown = few([f"{value:g}" for value in labels])
            raise UserError(
                f"{path} holds no values but {shown}: a mask, no CT; leave it out, or name it like its volume (NAME_mask.nii.gz)"
            )
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        axis = int(lengths[:2].argmax())
        cut = CUTS[axis if lengths[axis] > THIN * lengths[2] else 2]
        backwards = any(direction < 0 for axis, direction in nib.io_orientation(image.affine) if axis == cut[2])
        slope, intercept = np.float32(image.dataobj.slope), np.float32(image.dataobj.inter)
        if stored.dtype.kind in "iu" and slope == 1 and stored.min() + intercept >= 0 and stored.max() + intercept <= 255:
            remarks = f"{remarks} {GREY}".strip()
        turn = nib.io_orientation(image.affine)
        own = image.header, image.affine, turn
        return cls(*_cut(stored, affine, cut), cut, slope, intercept, backwards, remarks, *own)

    @property
    def shown_affine(self) -> np.ndarray:
        """(column, row, slice, 1) of the slices as they are shown to mm in RAS+: float64 (4, 4)."""
        width, height = self.stored.shape[:2]
        flipped = np.diag([-1.0, -1.0, 1.0, 1.0])
        flipped[:2, 3] = width - 1, height - 1
        return self.affine @ flipped

    def own(self, shown: np.ndarray) -> np.ndarray:
        """What was made of the slices as they are shown, (slices, rows, columns), in the file's own order of voxels: a view."""
        stored = shown.transpose(2, 1, 0)[::-1, ::-1]
        turned = stored.transpose(np.argsort(self.cut)).transpose(self.turn[:, 0].astype(int))
        return turned[tuple(slice(None, None, int(way)) for way in self.turn[:, 1])]

    def mask(self, path: Path) -> np.ndarray:
        """The mask of this volume from its file, cut likewise: uint8 (columns, rows, slices). UserError: it does not fit."""
        image, stored, affine, _ = _load(path)
        stored, affine = _cut(stored, affine, self.cut)
        if stored.shape != self.stored.shape:
            sizes = [" x ".join(map(str, shape)) for shape in (stored.shape, self.stored.shape)]
            raise UserError(f"{path} is a mask of {sizes[0]} voxels, its volume has {sizes[1]}; replace it")
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in stored.shape], [1])).reshape(4, -1)
        apart = np.linalg.norm(((affine - self.affine) @ corners)[:3], axis=0).max()
        if apart > np.linalg.norm(self.affine[:3, :3], axis=0).min() / 2:
            raise UserError(f"{path} is a mask that lies {apart:.3g} mm apart from its volume; save it with the volume's affine")
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        mask = np.empty(stored.shape, np.uint8)
        for number in range(stored.shape[2]):
            values = np.nan_to_num(stored[..., number] * slope + intercept)
            whole = values.round()
            if values.min() < 0 or values.max() > HIGHEST_IN_MASK or np.abs(values - whole).max() > 1e-3:
                raise UserError(
                    f"{path} has values from {values.min():g} to {values.max():g} where a mask has whole numbers from 0 to "
                    f"{HIGHEST_IN_MASK}; number its labels anew"
                )
            mask[..., number] = whole
        return mask

    def slices(self) -> Iterator[tuple[np.ndarray, Facts]]:
        """HU, float32 (rows, columns), and facts of each slice, from the base (back, left) to the head (front, right)."""
        columns, rows, up = self.affine[:3, 0], self.affine[:3, 1], self.affine[:3, 2]
        normal = np.cross(columns, rows)
        normal = normal / np.linalg.norm(normal)
        count = self.stored.shape[2]
        for number in range(count):
            hu = shown(self.stored, number).astype(np.float32) * self.slope + self.intercept
            hu = np.nan_to_num(hu, nan=AIR_HU)
            position, plane, tilt = describe_place(normal, self.affine[:3, 3] + number * up)
            yield (
                hu,
                Facts(
                    instance=number,
                    stored=count - 1 - number if self.reversed else number,
                    position=position,
                    plane=plane,
                    tilt=tilt,
                    spacing_row=float(np.linalg.norm(rows)),
                    spacing_col=float(np.linalg.norm(columns)),
                    spacing_between=float(abs(normal @ up)),
                    remarks=self.remarks,
                    **about_pixels(hu),
                ),
            )


def shown(stored: np.ndarray, number: int) -> np.ndarray:
    """Slice `number` of (columns, rows, slices) as it is shown: (rows, columns), the patient's right (or front) at the left."""
    return stored[::-1, ::-1, number].T


def _load(path: Path) -> tuple[nib.Nifti1Image, np.ndarray, np.ndarray, str]:
    """The image, its stored values with axes towards right, front and head, their affine in mm, and remarks for Facts."""
    try:
        _stop_if_padded(path)
        image = nib.load(path)
        limits.stop_if_large(path, *sorted((1, 1, *image.shape))[-2:])
        limits.stop_if_heavy(path, math.prod(image.shape) * image.dataobj.dtype.itemsize)
        stored = np.asanyarray(image.dataobj.get_unscaled())
        affine, remarks = _in_mm(image, stored.shape)
        if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3] / np.abs(affine[:3, :3]).max()) < 3:
            raise ValueError("its affine is singular")
        turn = nib.io_orientation(affine)
    except UserError:
        raise
    except Exception as error:  # cut off, no NIfTI at all, broken header: the library fails in many ways
        raise UserError(f"{path} cannot be read as NIfTI ({one_line(error)}); replace the file or leave it out") from None
    if stored.ndim > 3:
        stored = stored.reshape(stored.shape[:3] + tuple(size for size in stored.shape[3:] if size > 1))
    if stored.ndim != 3 or stored.dtype.kind not in "iufb" or not stored.size:
        shape = " x ".join(map(str, stored.shape))
        raise UserError(f"{path} is no grey volume ({shape}, {stored.dtype}); leave it out, or split it into volumes")
    return image, nib.apply_orientation(stored, turn), affine @ nib.orientations.inv_ornt_aff(turn, stored.shape), remarks


def _stop_if_padded(path: Path) -> None:
    """Stop at a header whose voxels begin far behind it: all that lies between is read at once."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        start = stream.read(FIRST_BYTES)
    for order in "<>":
        place = VOXELS_AT.get(struct.unpack_from(f"{order}i", start)[0])
        if place:
            limits.stop_if_packed(path, int(struct.unpack_from(order + place[0], start, place[1])[0]))


def _in_mm(image: nib.Nifti1Image, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """The affine in mm, and the remarks that belong to it."""
    remarks = []
    header = image.header
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "unknown"
    longest = (np.linalg.norm(image.affine[:3, :3], axis=0) * (*shape, 1, 1, 1)[:3]).max()
    factors = [MM.get(unit, 1.0), *MM.values()]
    factor = next((each for each in factors if HEAD_MM[0] <= longest * each <= HEAD_MM[1]), factors[0])
    if factor != 1:
        remarks.append(UNITS)
    codes = [int(header[name]) if name in header else 0 for name in ("sform_code", "qform_code")]
    if not any(codes):
        remarks.append(UNORIENTED)
    elif all(codes) and not np.allclose(header.get_sform(), header.get_qform(), atol=0.01 * longest):
        remarks.append(TWO_ORIENTATIONS)
    return np.diag([factor, factor, factor, 1]) @ image.affine, " ".join(remarks)


def _cut(stored: np.ndarray, affine: np.ndarray, cut: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return stored.transpose(cut), affine[:, [*cut, 3]]


def _labels(stored: np.ndarray) -> np.ndarray | None:
    """The values of a volume, sorted, where they are a few labels; None for others. Slice by slice, until that is known."""
    values = np.array([], stored.dtype)
    for number in range(stored.shape[2]):
        values = np.union1d(values, stored[..., number])
        whole = stored.dtype.kind in "iub" or bool((values == values.round()).all())
        if len(values) >= FEWEST_VALUES and not (whole and values[0] >= 0 and values[-1] <= MOST_LABELS):
            return None
    return values


def parts(mask: np.ndarray) -> Iterator[tuple[int, int, int, int, int]]:
    """The connected parts (also by corners) of each value of a mask, uint8 (rows, columns): value, xmin, ymin, xmax, ymax."""
    from scipy import ndimage  # not at the top: few scans have masks

    for value in np.unique(mask[mask > 0]).tolist():
        labelled, _ = ndimage.label(mask == value, structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(labelled):
            yield value, columns.start, rows.start, columns.stop, rows.stop
