"""One slice of CT from a DICOM file: Hounsfield units (HU) and the facts of its header.

HU = RescaleSlope * stored value + RescaleIntercept; 1 and 0 if a tag is missing. Slope 1 and intercept 0 are right for values
that are stored as HU (signed, air near -1000), and wrong if the intercept got lost. The pixels show two such errors:
* Unsigned 12 bit, intercept about 0, many values of 3072 and above: HU of -1024 to 3071 were stored and those below 0 wrapped
  around, air is 3096. Some files of RSNA 2019 are like that (J. Howard, 'Cleaning the data for rapid prototyping'). Corrected.
* Nothing below AIR_BELOW: no air, which a head CT always has around the head. `Facts.air` is then False; `intercept` corrects it.
MONOCHROME1 shows low values bright, so stored values are mirrored in their range, unless the slope is negative (the rescale
mirrors them) or the border of the image is air already (values in HU, only the display is inverted).
Padding (PixelPaddingValue, up to PixelPaddingRangeLimit) becomes air.

pydicom decodes RLE itself, python-gdcm JPEG and JPEG-LS, pylibjpeg-openjpeg JPEG 2000 and its high-throughput form.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from hemoct.base.errors import UserError, one_line
from hemoct.ingest.hounsfield import AIR_HU, Window

SUFFIXES = {".dcm", ".dicom", ".dic", ".ima"}
PREAMBLE = 128
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # the start of a file without a preamble: group 0002 or 0008, little endian
AIR_BELOW = -200
"""a head CT without any value below this (HU) has no air, not even fat: its intercept is doubtful"""
WRAP_BITS, WRAP_FROM, WRAP_SHARE, WRAP_INTERCEPT = 12, 3072, 0.01, -100
PLANES = ("sagittal", "coronal", "axial")
# Where Facts come from: texts, whole numbers, and lengths, which are above 0 (some programs write 0 for 'unknown').
TEXTS = {"patient": "PatientID", "study": "StudyInstanceUID", "study_date": "StudyDate", "series": "SeriesInstanceUID"}
TEXTS |= {"sop": "SOPInstanceUID"}
WHOLE = {"series_number": "SeriesNumber", "acquisition": "AcquisitionNumber", "instance": "InstanceNumber"}
LENGTHS = {"thickness": "SliceThickness", "spacing_between": "SpacingBetweenSlices", "width": "WindowWidth"}


@dataclass(frozen=True)
class Facts:
    """What a header says about a slice; None or "" if it says nothing. Lengths in mm."""

    patient: str = ""
    study: str = ""
    study_date: str = ""
    series: str = ""
    series_number: int | None = None
    sop: str = ""
    """SOP Instance UID"""
    acquisition: int | None = None
    instance: int | None = None
    position: float | None = None
    """of the slice along its normal, rising towards the head (axial), the front or the right; with a tilted gantry the distance
    between two positions is that between the planes, which is less than the table moved"""
    plane: str = ""
    """one of PLANES, the nearest"""
    tilt: float | None = None
    """degrees between the normal and the axis of `plane`"""
    spacing_row: float | None = None
    """distance between rows"""
    spacing_col: float | None = None
    thickness: float | None = None
    spacing_between: float | None = None
    level: float | None = None
    """of the window in the file, the first if there are several"""
    width: float | None = None
    rescale: str = "tags"
    """source of the HU: `tags`, `missing` (1 and 0 were used), `given` (by the user), `unwrapped`"""
    air: bool = True
    """whether anything is below AIR_BELOW"""
    unreadable: str = ""
    """names of the tags that are there but hold no value that can be used"""

    @property
    def window(self) -> Window | None:
        """The window that the file names for itself."""
        return None if self.level is None or self.width is None else Window(self.level, self.width)


class Tags:
    """The optional tags of a header. `unreadable` collects those that are there but hold no value that can be used."""

    def __init__(self, header: Dataset) -> None:
        self.header = header
        self.unreadable: dict[str, None] = {}

    def value(self, name: str) -> Any:
        """The value of a tag; None if it is missing, empty or unreadable."""
        try:
            value = self.header.get(name)
        except Exception:  # a value that the type of the tag does not allow: pydicom raises whatever its parser meets
            self.unreadable[name] = None
            return None
        return None if value == "" else value

    def text(self, name: str) -> str:
        value = self.value(name)
        return "" if value is None else " ".join(str(value).split())

    def numbers(self, name: str, count: int) -> list[float]:
        """The first `count` numbers of a tag; [] if they are not all known."""
        value = self.value(name)
        values = list(value) if isinstance(value, MultiValue) else [] if value is None else [value]
        try:
            numbers = [float(each) for each in values[:count]]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) == count and all(map(math.isfinite, numbers)):
            return numbers
        if values:
            self.unreadable[name] = None
        return []

    def number(self, name: str) -> float | None:
        """A number, the first if there are several."""
        return next(iter(self.numbers(name, 1)), None)

    def whole(self, name: str) -> int | None:
        number = self.number(name)
        return None if number is None else int(number)


def read(path: Path, intercept: float | None = None, any_modality: bool = False) -> tuple[np.ndarray, Facts]:
    """HU, float32 (rows, columns), and the facts of one DICOM file; UserError names the file and what is wrong with it.

    `intercept` (HU) is used if RescaleIntercept is missing or 0. `any_modality` also reads files that are no CT and hold no HU.
    """
    header = _read_dataset(path)
    tags = Tags(header)
    _refuse_other_than_slices(path, tags, any_modality)
    stored = _decode(path, header)
    slope, offset, source = _rescale(path, tags, intercept)
    padding = _padding(tags, stored)
    wrapped = _unwrap(header, stored, slope, offset)
    if wrapped is not None:
        stored, source = wrapped, "unwrapped"
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(offset)
    if header.get("PhotometricInterpretation") == "MONOCHROME1" and slope > 0 and not _framed_by_air(hu):
        ends = 2 * _lowest(header) + (1 << header.BitsStored) - 1  # the lowest and the highest value that can be stored, added
        hu = ends * np.float32(slope) + np.float32(2 * offset) - hu
    hu[padding] = AIR_HU
    return hu, _facts(tags, rescale=source, air=bool(hu.min() < AIR_BELOW))


def _read_dataset(path: Path) -> Dataset:
    # Odd values in tags that are not used are common and harmless: no warning for each of 750,000 files.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with path.open("rb") as stream:
            start = stream.read(PREAMBLE + 4)
            if not start:
                _refuse(path, "is empty")
            if start[PREAMBLE:] != b"DICM" and start[:2] not in FIRST_GROUPS:
                _refuse(path, "is no DICOM file")
            stream.seek(0)
            return pydicom.dcmread(stream, force=True)
    except UserError:
        raise
    except Exception as error:  # broken files make the parser fail in many ways
        _refuse(path, f"cannot be read as DICOM ({one_line(error)}); it may be cut off")


def _refuse(path: Path, problem: str, remedy: str = "replace the file or leave it out") -> NoReturn:
    raise UserError(f"{path} {problem}; {remedy}") from None


def _refuse_other_than_slices(path: Path, tags: Tags, any_modality: bool) -> None:
    """Stop at everything that is not a single grey slice of CT."""
    header = tags.header
    modality, kinds = str(header.get("Modality") or ""), header.get("ImageType") or []
    frames, samples = tags.number("NumberOfFrames") or 1, tags.number("SamplesPerPixel") or 1
    if "PixelData" not in header:
        floating = "FloatPixelData" in header or "DoubleFloatPixelData" in header
        _refuse(path, "has pixels in floating point, no CT" if floating else "has no pixels, or is cut off before them")
    missing = [name for name in ("Rows", "Columns", "BitsAllocated") if not tags.number(name)]
    if missing:
        _refuse(path, f"lacks {' and '.join(missing)}")
    colours = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if samples != 1 or not colours.startswith("MONOCHROME"):
        _refuse(path, f"is in colour ({colours}), no CT slice", "leave it out")
    if frames != 1:
        _refuse(path, f"holds {frames:.0f} frames", "split it into files of one slice each, or convert it to NIfTI")
    if "LOCALIZER" in kinds:
        _refuse(path, "is a localizer, no slice", "leave it out")
    if modality not in ("", "CT") and not any_modality:
        _refuse(path, f"has modality {modality}: its values are no HU", "leave it out, or use its own window (--window file)")


def _decode(path: Path, header: Dataset) -> np.ndarray:
    """Stored values as an integer array (rows, columns); pydicom has masked unused bits and extended the sign."""
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if syntax is None:  # a file without a preamble has none: implicit little endian is the default of DICOM
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    defaults = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
    for name, default in {**defaults, "BitsStored": header.BitsAllocated}.items():
        if header.get(name) is None:
            setattr(header, name, default)
    try:
        return np.array(header.pixel_array)
    except Exception as error:  # each decoder has its own ways to fail
        name = syntax.name if syntax is not None else "no transfer syntax"
        _refuse(path, f"cannot be decoded ({name}: {one_line(error)})")


def _rescale(path: Path, tags: Tags, given: float | None) -> tuple[float, float, str]:
    """Slope, intercept and their source, see Facts.rescale."""
    slope, intercept = tags.number("RescaleSlope"), tags.number("RescaleIntercept")
    if slope == 0:
        _refuse(path, "has RescaleSlope 0")
    if given is not None and not intercept:
        return slope or 1.0, given, "given"
    return slope or 1.0, intercept or 0.0, "missing" if slope is None or intercept is None else "tags"


def _lowest(header: Dataset) -> int:
    return -(1 << (header.BitsStored - 1)) if header.PixelRepresentation else 0


def _padding(tags: Tags, stored: np.ndarray) -> np.ndarray:
    """Where the pixels are padding: bool (rows, columns).

    The tag may be signed although the pixels are not, or the other way round: it is converted to the range of stored values.
    """
    first, last = tags.whole("PixelPaddingValue"), tags.whole("PixelPaddingRangeLimit")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    low = _lowest(tags.header)
    ends = [(value - low) % (1 << tags.header.BitsStored) + low for value in (first, first if last is None else last)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _unwrap(header: Dataset, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """HU below 0 that were stored in 12 unsigned bits, corrected; None if there are none (see the top of this module)."""
    unsigned = header.BitsStored == WRAP_BITS and not header.PixelRepresentation
    if not unsigned or slope != 1 or intercept <= WRAP_INTERCEPT or (stored >= WRAP_FROM).mean() < WRAP_SHARE:
        return None
    return np.where(stored >= WRAP_FROM, stored.astype(np.int32) - (1 << WRAP_BITS), stored)


def _framed_by_air(hu: np.ndarray) -> bool:
    """Whether the outermost pixels are mostly air."""
    frame = np.concatenate([hu[0], hu[-1], hu[:, 0], hu[:, -1]])
    return bool(np.median(frame) < AIR_HU / 2)


def _facts(tags: Tags, rescale: str, air: bool) -> Facts:
    position, plane, tilt = _place(tags)
    lengths = {name: tags.number(tag) for name, tag in LENGTHS.items()}
    lengths["spacing_row"], lengths["spacing_col"] = tags.numbers("PixelSpacing", 2) or (None, None)
    return Facts(
        **{name: tags.text(tag) for name, tag in TEXTS.items()},
        **{name: tags.whole(tag) for name, tag in WHOLE.items()},
        **{name: length if length and length > 0 else None for name, length in lengths.items()},
        position=position,
        plane=plane,
        tilt=tilt,
        level=tags.number("WindowCenter"),
        rescale=rescale,
        air=air,
        unreadable=" ".join(tags.unreadable),
    )


def _place(tags: Tags) -> tuple[float | None, str, float | None]:
    """Position along the normal, plane and tilt, from ImagePositionPatient and ImageOrientationPatient.

    Without an orientation the slice is taken to be axial; without a position SliceLocation stands in.
    """
    corner, location = tags.numbers("ImagePositionPatient", 3), tags.number("SliceLocation")
    directions = tags.numbers("ImageOrientationPatient", 6) or [0] * 6
    normal = np.cross(directions[:3], directions[3:])
    length = np.linalg.norm(normal)
    if length < 0.5:  # no orientation, or directions far from a right angle: the tag is broken
        return (corner[2] if corner else location), "", None
    position, plane, tilt = describe_place(normal / length, corner or [0] * 3)
    return (position if corner else location), plane, tilt


def describe_place(normal: np.ndarray, corner: list[float] | np.ndarray) -> tuple[float, str, float]:
    """Position (mm), the nearest of PLANES and the tilt (degrees) of a slice through `corner` with a unit `normal`, both (3,)."""
    axis = int(np.abs(normal).argmax())
    upwards = normal * math.copysign(1, normal[axis])
    return round(float(upwards @ np.asarray(corner)), 4), PLANES[axis], round(math.degrees(math.acos(min(1.0, upwards[axis]))), 2)
