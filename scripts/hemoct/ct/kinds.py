"""What kind of scan a file is, by its name and how it begins; nothing that decodes one is imported."""

from pathlib import Path

from PIL import Image

from hemoct.base import files

NIFTI = (".nii.gz", ".nii", ".hdr.gz", ".hdr")
PAIRED = {".hdr": ".img", ".hdr.gz": ".img.gz"}
"""a header and the file beside it that holds its voxels"""
DICOM = {".dcm", ".dicom", ".dic", ".ima"}
GZ = ".gz"
TIFF = {".tif", ".tiff"}
PREAMBLE = 128  # bytes before the mark of a DICOM file
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # the start of a file without a preamble: group 0002 or 0008, little endian
NEITHER = {*files.IMAGE_SUFFIXES, ".csv", ".xml", ".txt", ".json", ".html", ".pdf", ".xlsx", ".zip", ".gz"}


def stem(path: Path) -> Path:
    """The path without .nii or .nii.gz."""
    for suffix in NIFTI:
        if path.name.lower().endswith(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path


def is_volume(path: Path) -> bool:
    """By the name. Of a header with its voxels in a second file the header is the volume."""
    return path.name.lower().endswith(NIFTI)


def is_dicom(path: Path) -> bool:
    """By the suffix, else by how the file begins; a broken file *.dcm counts, so that it is reported."""
    suffix = path.suffix.lower()
    if suffix in DICOM or (suffix == GZ and Path(path.stem).suffix.lower() in DICOM):
        return True
    if suffix in NEITHER or path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            return starts_as_dicom(stream.read(PREAMBLE + 4))
    except OSError:  # a broken link or no permission: nobody can say what it is
        return False


def starts_as_dicom(start: bytes) -> bool:
    """Whether these first PREAMBLE + 4 bytes are those of a DICOM file, with or without a preamble."""
    if start[PREAMBLE : PREAMBLE + 4] == b"DICM":
        return True
    named = start[4:6].isalpha() and start[4:6].isupper()  # the type of the first value, where files name it
    return start[:2] in FIRST_GROUPS and start[3:4] == b"\0" and (named or start[6:8] == b"\0\0")


def is_stack(path: Path) -> bool:
    """Whether this is a TIFF of more than one page."""
    if path.suffix.lower() not in TIFF:
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError):  # a broken file is reported as the picture that it should be
        return False
