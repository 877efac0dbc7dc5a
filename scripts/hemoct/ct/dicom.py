"""The slices of CT in a DICOM file, mostly one: Hounsfield units (HU) and the facts of its header.

HU = RescaleSlope * stored value + RescaleIntercept; 1 and 0 if a tag is missing. Slope 1 and intercept 0 are right for values
that are stored as HU (signed, air near -1000), and wrong if the intercept got lost. The pixels show two such errors:
* Unsigned 12 bit, intercept about 0, many values of 3072 and above: HU of -1024 to 3071 were stored and those below 0 wrapped
  around, air is 3096. Some files of RSNA 2019 are like that (J. Howard, 'Cleaning the data for rapid prototyping'). Corrected.
* Nothing below AIR_BELOW: no air, which a head CT always has around the head. `Facts.air` is then False; `intercept` corrects it.
MONOCHROME1 shows low values bright, so stored values are mirrored in their range, unless the slope is negative (the rescale
mirrors them) or the border of the image is air already (values in HU, only the display is inverted).
Padding (PixelPaddingValue, up to PixelPaddingRangeLimit) becomes air.

Files of several frames (enhanced CT) are read frame by frame: position, spacing, rescale and window come from the functional
groups of the frame, then from the shared ones, then from the header. Frames without a position keep the order of the file.

pydicom decodes RLE itself, python-gdcm JPEG and JPEG-LS, pylibjpeg-openjpeg JPEG 2000 and its high-throughput form.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pydicom
from pydicom import filereader
from pydicom.dataset import Dataset

from hemoct.base import limits
from hemoct.base.errors import UserError, one_line
from hemoct.ct import coded, hounsfield
from hemoct.ct.facts import FRAMES, Facts, about_pixels, describe_place
from hemoct.ct.hounsfield import AIR_HU
from hemoct.ct.kinds import GZ, PREAMBLE, starts_as_dicom
from hemoct.ct.tags import Tags

SCOUT = re.compile(r"LOCALI[SZ]ER|SURVIEW|SCOUT|SCANOGRAM|TOPOGRAM", re.IGNORECASE)
SHARED_GROUPS, OWN_GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
OTHER_MODALITIES = {
    "SEG": "is a segmentation (SEG), which is not read",
    "RTSTRUCT": "holds contours (RTSTRUCT), which are not read",
}
# Where Facts come from: texts, whole numbers, and lengths, which are above 0 (some programs write 0 for 'unknown').
TEXTS = {"patient": "PatientID", "study": "StudyInstanceUID", "study_date": "StudyDate", "series": "SeriesInstanceUID"}
TEXTS |= {"sop": "SOPInstanceUID", "description": "SeriesDescription"}
WHOLE = {"series_number": "SeriesNumber", "acquisition": "AcquisitionNumber", "instance": "InstanceNumber"}
LENGTHS = {"thickness": "SliceThickness", "spacing_between": "SpacingBetweenSlices", "width": "WindowWidth"}


def read(path: Path, intercept: float | None = None, any_modality: bool = False) -> Iterator[tuple[np.ndarray, Facts]]:
    """HU, float32 (rows, columns), and the facts of each frame of a DICOM file; UserError names the file and its fault.

    `intercept` (HU) is used if RescaleIntercept is missing or 0. `any_modality` also reads files that are no CT and hold no HU.
    """
    header = _grey_slices(path, any_modality)
    stored = _decode(path, header)
    for number, frame in enumerate(_listed_frames(path, header, len(stored) if stored.ndim == 3 else 1)):
        tags = Tags(frame)
        hu, source = _hu(path, tags, stored[number] if stored.ndim == 3 else stored, intercept)
        yield hu, _facts(tags, number if stored.ndim == 3 else None, source, about_pixels(hu))


def headers(path: Path, any_modality: bool = False) -> Iterator[tuple[Facts, Tags]]:
    """As `read`, without decoding: the facts of each frame, less those that pixels tell, and its tags."""
    header = _grey_slices(path, any_modality)
    count, several = int(header.get("NumberOfFrames") or 1), OWN_GROUPS in header
    for number, frame in enumerate(_listed_frames(path, header, count)):
        tags = Tags(frame)
        size = {"pixel_rows": tags.whole("Rows"), "pixel_columns": tags.whole("Columns")}
        yield _facts(tags, number if several or count > 1 else None, "tags", size), tags


def _grey_slices(path: Path, any_modality: bool) -> Dataset:
    header = _read_dataset(path)
    _refuse_other_than_slices(path, Tags(header), any_modality)
    return header


def _listed_frames(path: Path, header: Dataset, count: int) -> list[Dataset]:
    try:
        return list(_frames(header, count))
    except Exception as error:  # sequences can be broken in as many ways as headers
        _refuse(path, f"has functional groups that cannot be read ({one_line(error)})")


def _hu(path: Path, tags: Tags, stored: np.ndarray, intercept: float | None) -> tuple[np.ndarray, str]:
    """HU, float32 (rows, columns), from stored values; and where they come from, see Facts.rescale."""
    header = tags.header
    slope, offset, source = _rescale(path, tags, intercept)
    padding = hounsfield.is_padding(header, stored, tags.whole("PixelPaddingValue"), tags.whole("PixelPaddingRangeLimit"))
    wrapped = hounsfield.unwrap(header, stored, slope, offset)
    if wrapped is not None:
        stored, source = wrapped, "unwrapped"
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(offset)
    if tags.text("PhotometricInterpretation") == "MONOCHROME1" and slope > 0 and not hounsfield.is_framed_by_air(hu):
        ends = 2 * hounsfield.lowest(header) + (1 << header.BitsStored) - 1  # lowest and highest value that can be stored, added
        hu = ends * np.float32(slope) + np.float32(2 * offset) - hu
    hu[padding] = AIR_HU
    return hu, source


def _frames(header: Dataset, count: int) -> Iterator[Dataset]:
    """The header of each frame, with what the functional groups say in the place where files of one frame have it."""
    own = header.get(OWN_GROUPS) or []
    if count == 1 and not own:
        yield header
        return
    skipped = {*map(pydicom.datadict.tag_for_keyword, ("PixelData", OWN_GROUPS, SHARED_GROUPS))}
    plain = {tag: header.get_item(tag) for tag in list(header.keys()) if tag not in skipped}
    for number in range(count):
        frame = Dataset(dict(plain))
        if count > 1:  # the header's place is that of the first frame at best
            frame.update({"ImagePositionPatient": None, "SliceLocation": None})
        frame.InstanceNumber = number + 1
        for group in (*(header.get(SHARED_GROUPS) or [])[:1], *own[number : number + 1]):
            for macro in group:
                if macro.VR == "SQ" and macro.value:
                    frame.update({tag: macro.value[0][tag] for tag in list(macro.value[0].keys())})
        yield frame


def _read_dataset(path: Path) -> Dataset:
    # Odd values in tags that are not used are common and harmless: no warning for each of 750,000 files.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with gzip.open(path) if path.suffix.lower() == GZ else path.open("rb") as stream:
            start = stream.read(PREAMBLE + 4)
            if not start:
                _refuse(path, "is empty")
            if not starts_as_dicom(start):
                _refuse(path, "is no DICOM file")
            stream.seek(0)
            if path.suffix.lower() == GZ:
                stream = limits.unpacked(path, stream)
            _stop_if_deflated(path, stream, PREAMBLE + 4 if start[PREAMBLE:] == b"DICM" else 0)
            return pydicom.dcmread(stream, force=True)
    except UserError:
        raise
    except Exception as error:  # broken files make the parser fail in many ways
        _refuse(path, f"cannot be read as DICOM ({one_line(error)}); it may be cut off")


def _stop_if_deflated(path: Path, stream: BinaryIO, start: int) -> None:
    """Stop at a file in the deflated transfer syntax that becomes too much: pydicom unpacks it at once, whatever that makes."""
    stream.seek(start)
    meta = filereader.read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)  # type and order of its bytes
    if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
        limits.stop_if_deflated(path, stream)
    stream.seek(0)


def _refuse(path: Path, problem: str, remedy: str = "replace the file or leave it out") -> NoReturn:
    raise UserError(f"{path} {problem}; {remedy}") from None


def _refuse_other_than_slices(path: Path, tags: Tags, any_modality: bool) -> None:
    """Stop at everything that is not a single grey slice of CT."""
    header = tags.header
    modality, kinds = tags.text("Modality"), tags.text("ImageType")
    if modality in OTHER_MODALITIES:
        _refuse(path, OTHER_MODALITIES[modality], "convert it and its series to NIfTI (NAME.nii.gz, NAME_mask.nii.gz)")
    if "PixelData" not in header:
        floating = "FloatPixelData" in header or "DoubleFloatPixelData" in header
        _refuse(path, "has pixels in floating point, no CT" if floating else "has no pixels, or is cut off before them")
    missing = [name for name in ("Rows", "Columns", "BitsAllocated") if not tags.number(name)]
    if missing:
        _refuse(path, f"lacks {' and '.join(missing)}")
    rows, columns, bits = (tags.whole(name) for name in ("Rows", "Columns", "BitsAllocated"))
    limits.stop_if_large(path, columns, rows)
    limits.stop_if_heavy(path, rows * columns * bits // 8 * (tags.whole("NumberOfFrames") or 1))
    colours = tags.text("PhotometricInterpretation") or "MONOCHROME2"
    if (tags.number("SamplesPerPixel") or 1) != 1 or not colours.startswith("MONOCHROME"):
        _refuse(path, f"is in colour ({colours}), no CT slice", "leave it out")
    described = _place(tags)[1] != "axial" and SCOUT.search(tags.text("SeriesDescription"))
    if SCOUT.search(kinds) or described:
        _refuse(path, "is a localizer, no slice", "leave it out")
    if modality not in ("", "CT") and not any_modality:
        _refuse(path, f"has modality {modality}: its values are no HU", "leave it out, or use its own window (--window file)")


def _decode(path: Path, header: Dataset) -> np.ndarray:
    """Stored values as integers (rows, columns), of several frames (frames, rows, columns).

    pydicom has masked unused bits and extended the sign.
    """
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if syntax is None:  # a file without a preamble has none: implicit little endian is the default of DICOM
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    defaults = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
    try:
        for name, default in {**defaults, "BitsStored": header.BitsAllocated}.items():
            if header.get(name) is None:
                setattr(header, name, default)
        if other := coded.sizes(header) - {(header.Columns, header.Rows)}:
            raise ValueError(f"a frame is coded as {other.pop()}, the header says {(header.Columns, header.Rows)}")
        stored = np.array(header.pixel_array)
        return stored[None] if stored.ndim == 2 and OWN_GROUPS in header else stored
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


def _facts(tags: Tags, stored: int | None, rescale: str, pixels: dict[str, Any]) -> Facts:
    """`stored`: the number of a frame; `pixels`: what is known of these."""
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
        unreadable=" ".join(tags.unreadable),
        stored=stored,
        remarks=FRAMES if stored is not None and position is None else "",
        **pixels,
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
