"""How much one file may become in memory: the limit that --max-megapixels sets for every step, and that every reader keeps.

A file of a few kilobytes can unpack to more than memory holds. What a file becomes is read in its header, or counted while it is
unpacked, before anything of that size is made.
"""

import io
import zlib
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from hemoct.base.errors import UserError

DEFAULT = 100.0  # megapixels; the largest mammograms have 30
VOLUME = 20  # bytes for each of these pixels: a file of many slices may hold 2 GB, that is 512 x 512 x 3,800 of 16 bits
PACKED = 50  # times its size: what a packed DICOM file or an Excel sheet may become; head CT is packed 20 to 1 at most
BLOCK = 1 << 20

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which no flag raises: this one stands for it
megapixels = DEFAULT
"""of one image, slice or page; set once, by hemoct.base.cli"""


def stop_if_large(path: Path, width: int, height: int) -> None:
    """Stop at an image, a slice or a page of more pixels than are allowed."""
    if width * height > megapixels * 1e6:
        raise UserError(
            f"{path} has {width} x {height} pixels, more than {megapixels:g} million; make it smaller, or raise --max-megapixels"
        )


def stop_if_heavy(path: Path, size: int) -> None:
    """Stop at a file that becomes more than so many bytes."""
    if size > megapixels * 1e6 * VOLUME:
        raise UserError(
            f"{path} becomes {size / 1e9:.1f} GB in memory, more than {megapixels * VOLUME / 1e3:g} GB; split it, or raise "
            "--max-megapixels"
        )


def most_unpacked(path: Path) -> int:
    """The bytes that a packed file may become: 16 bits for each pixel, or PACKED times its size, and VOLUME at most."""
    return int(min(megapixels * 1e6 * VOLUME, max(megapixels * 2e6, PACKED * path.stat().st_size)))


def stop_if_packed(path: Path, size: int) -> None:
    """Stop at a packed file that becomes more than `most_unpacked`."""
    if size > (most := most_unpacked(path)):
        raise UserError(
            f"{path} would unpack to more than {most / 1e6:.0f} MB, far too much for its size; leave it out, or raise "
            "--max-megapixels"
        )


def unpacked(path: Path, stream: BinaryIO) -> BinaryIO:
    """What is left of a stream that unpacks, in memory; stops where it becomes more than `most_unpacked`."""
    content = io.BytesIO(stream.read(most_unpacked(path) + 1))
    stop_if_packed(path, len(content.getbuffer()))
    return content


def stop_if_deflated(path: Path, stream: BinaryIO) -> None:
    """Stop at a raw deflate stream, from where `stream` stands to its end, that becomes too much. It is counted, not kept."""
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not unpacker.eof and (block := unpacker.unconsumed_tail or stream.read(BLOCK)):
        size += len(unpacker.decompress(block, BLOCK))
        stop_if_packed(path, size)
