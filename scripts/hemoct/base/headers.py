"""What the first bytes of an image say, where that is quick and sure: of hundreds of thousands Pillow would open each in vain."""

import struct
import zlib
from pathlib import Path

from hemoct.base import limits

START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
ENOUGH = 4096  # bytes; what comes before the pixels is seldom longer
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""by the colour type of a PNG; a palette is one channel of indices"""


def plain_png(path: Path | str) -> tuple[int, int, int] | None:
    """Width, height and channels of a PNG of one picture that no EXIF turns; else, or if unsure, None."""
    try:
        with open(path, "rb", buffering=0) as stream:
            before, mark, _ = stream.read(ENOUGH).partition(b"IDAT")
    except OSError:
        return None
    if not mark or not before.startswith(START) or b"acTL" in before or b"eXIf" in before:
        return None
    width, height, _, colour, _, _, _, check = struct.unpack(">IIBBBBBI", before[16:33])
    if check != zlib.crc32(before[12:29]) or colour not in CHANNELS or not width or not height:
        return None
    limits.stop_if_large(Path(path), width, height)
    return width, height, CHANNELS[colour]
