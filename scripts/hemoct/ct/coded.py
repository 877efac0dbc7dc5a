"""The size of a compressed frame by its own header: a decoder takes the memory for it, whatever the file around it says."""

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""markers of JPEG and JPEG-LS that a size follows"""


def sizes(header: Dataset) -> set[tuple[int, int]]:
    """Width and height of the frames of a file, of all that say so; {} where pixels are stored otherwise."""
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        return set()
    frames = generate_frames(header.PixelData, number_of_frames=int(header.get("NumberOfFrames") or 1))
    return {size for frame in frames if (size := _size(frame))}


def _size(frame: bytes) -> tuple[int, int] | None:
    if frame.startswith(JPEG_2000):
        right, bottom, left, top = (int.from_bytes(frame[place : place + 4], "big") for place in (8, 12, 16, 20))
        return right - left, bottom - top
    place = 2 if frame.startswith(JPEG) else len(frame)
    while frame[place : place + 1] == b"\xff" and place + 9 <= len(frame):
        mark, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if mark in SIZES:
            return int.from_bytes(frame[place + 7 : place + 9], "big"), int.from_bytes(frame[place + 5 : place + 7], "big")
        place += 1 if mark == 0xFF else 2 + length
    return None
