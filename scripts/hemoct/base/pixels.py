"""Image files, decoded in one place: turned as EXIF says, whole or not at all; and masks, the same for check and training."""

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hemoct.base import limits
from hemoct.base.errors import UserError

AT_ONCE = 64e6  # pixels that threads decode at the same time; a larger image is decoded alone
THRESHOLD = 128
SOFT_EDGE = 48  # grey values by which JPEG blurs the two values of a mask
LOSSY = {"JPEG", "MPO", "WEBP"}
MOST_CLASSES, HIGHEST_CLASS = 4, 20  # so few and low values beside 255 are numbers of classes, no blurred edge
VOC_BORDER = (224, 224, 192)
"""colour of the value 255 in masks of PASCAL VOC: the border of an object, which nobody labelled"""
MARK = {"lesion": "above 0"}
"""text in a PNG whose every value above 0 is lesion, of one kind or another: masks that a conversion of scans wrote"""
ALPHA = "the mask lies in the alpha channel: its colours are all one"
BLACK_PALETTE = "all colours of the palette are one: the mask was read by its indices"
BORDER = "255 is the border of objects in VOC masks: it was read as no lesion"
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
ENOUGH = 4096  # bytes; what comes before the pixels of a PNG is seldom longer
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""by the colour type of a PNG; a palette is one channel of indices"""

_changed = threading.Condition()
_decoding = 0  # pixels, by all threads


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Image.Image]:
    """The open image; a file that is missing or cannot be decoded stops with its name."""
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":
                image.filename = ""  # else Pillow maps the file of an uncompressed one into memory, by its turned size
            limits.stop_if_large(path, *image.size)
            yield image
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it or run scripts/03_make_labels.py again") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be decoded ({error}); {remedy}") from None


@contextmanager
def _in_turn(image: Image.Image) -> Iterator[None]:
    """Wait until an image may be decoded beside those that other threads decode, see AT_ONCE."""
    global _decoding
    size = image.width * image.height
    with _changed:
        _changed.wait_for(lambda: not _decoding or _decoding + size <= AT_ONCE)
        _decoding += size
    try:
        yield
    finally:
        with _changed:
            _decoding -= size
            _changed.notify_all()


def plain_png(path: Path | str) -> tuple[int, int, int] | None:
    """Width, height and channels of a PNG of one picture that no EXIF turns, from its first bytes; else, or if unsure, None.

    Of hundreds of thousands Pillow would open each in vain.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            before, mark, _ = stream.read(ENOUGH).partition(b"IDAT")
    except OSError:
        return None
    if not mark or not before.startswith(PNG_START) or b"acTL" in before or b"eXIf" in before:
        return None
    width, height, _, colour, _, _, _, check = struct.unpack(">IIBBBBBI", before[16:33])
    if check != zlib.crc32(before[12:29]) or colour not in CHANNELS or not width or not height:
        return None
    limits.stop_if_large(Path(path), width, height)
    return width, height, CHANNELS[colour]


def header(path: Path) -> tuple[int, int, int]:
    """Width, height (turned as `read` does) and channels of an image; nothing is decoded. OSError: it is no image."""
    if quick := plain_png(path):
        return quick
    with Image.open(path) as image:
        limits.stop_if_large(path, *image.size)
        sides = image.size[::-1] if _swaps_sides(image) else image.size
        return *sides, len(image.getbands())


def is_turned(path: Path) -> bool:
    """Whether the pixels lie otherwise in the file than `read` gives them."""
    if plain_png(path):
        return False
    with _opened(path, "replace the file") as image:
        return _orientation(image) != 1


def pages(path: Path) -> int:
    """How many pictures of the same size a file holds: pages of a TIFF, frames of a GIF. A thumbnail beside the image is none."""
    with _opened(path, "replace the file") as image:
        return _pages(image)


def read(path: Path, mode: str) -> np.ndarray:
    """Decode an image whole, in a mode of Pillow: uint8 (height, width) or (height, width, channels)."""
    with _opened(path, "replace the file or take it out of the data set") as image, _in_turn(image):
        if image.mode[0] in "IF":  # converting would clip at 255: a white slice without a word
            raise UserError(f"{path} holds 16 or 32 bit values; window it to 8 bit first (brain: level 40, width 80 HU)")
        if (count := _pages(image)) > 1:
            raise UserError(f"{path} holds {count} pictures, of which only the first would be read; write one file for each")
        return np.asarray(_turned(image).convert(mode))


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts them, from the header alone; 1 for a TIFF, which Pillow turns by itself."""
    known = image.format != "TIFF" and "exif" in image.info
    return image.getexif().get(ExifTags.Base.Orientation, 1) if known else 1


def _swaps_sides(image: Image.Image) -> bool:
    return _orientation(image) in (5, 6, 7, 8)


def _turned(image: Image.Image) -> Image.Image:
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _pages(image: Image.Image) -> int:
    if image.format == "MPO" or not getattr(image, "is_animated", False):  # MPO: a JPEG with a second picture behind it
        return 1
    if image.format != "TIFF":
        return image.n_frames
    size, count = image.size, 0
    for page in range(image.n_frames):
        image.seek(page)
        reduced = image.tag_v2.get(254, 0) & 1  # NewSubfileType: a smaller copy of another page
        count += image.size == size and not reduced
    image.seek(0)
    return count


@dataclass(frozen=True)
class Mask:
    """A decoded mask."""

    levels: np.ndarray
    """one number per pixel (height, width): grey value, or index of a palette"""
    lesion: np.ndarray | None
    """bool (height, width); None where more than two values do not tell which is the lesion"""
    note: str = ""
    """how an unusual mask was read: ALPHA, BLACK_PALETTE, BORDER"""
    marked: bool = False
    """the file says that every value above 0 is lesion, see MARK"""

    @property
    def value(self) -> int:
        """The value of the lesion: 1, 2 ... in masks of class numbers; 255 for white, also 16 bit or blurred, or marked."""
        high = int(self.levels.max())
        return 255 if self.marked or 255 - SOFT_EDGE <= high <= 255 or high == 65535 else high

    @property
    def values(self) -> str:
        """The values that it has, for people."""
        values = [str(level) for level in np.unique(self.levels)]
        return f"{len(values)} grey values ({', '.join(values[:6])}{' ...' if len(values) > 6 else ''})"


def read_mask(path: Path, value: int | None = None) -> Mask:
    """Decode a mask, turned as `read` does.

    Without `value`: all above 0 where the file says so (MARK), else the higher one of two values, nothing in an all-black mask,
    or pixels of at least 128 where black and white are blurred a little as by JPEG. With `value`: the pixels of that very value
    (of a palette image: that index).
    """
    with _opened(path, "replace the mask, or take it out of the data set") as image, _in_turn(image):
        lossy = image.format in LOSSY
        marked = value is None and MARK.items() <= image.info.items()
        levels, note = _levels(_turned(image), indexed=value is not None)
    lesion = levels > 0 if marked else _lesion(levels, lossy) if value is None else levels == value
    return Mask(levels, lesion, note, marked)


def _levels(image: Image.Image, indexed: bool) -> tuple[np.ndarray, str]:
    if image.mode == "P":
        indices = np.asarray(image)
        if indexed:
            return indices, ""
        used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
        palette = np.array(image.getpalette("RGB") + [0] * 768)[:768].reshape(256, 3)
        if len(used) > 1 and (palette[used] == palette[used[0]]).all():
            return indices, BLACK_PALETTE
        grey = np.array(image.convert("L"))
        if 255 in used and tuple(palette[255]) == VOC_BORDER:
            grey[indices == 255] = grey[indices != 255].min(initial=255) if len(used) > 1 else 0
            return grey, BORDER
        return grey, ""
    if image.mode[0] in "LIF" and image.mode != "LA":
        return np.asarray(image), ""
    if image.mode in ("RGBA", "LA", "PA"):
        *colours, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), 2, 0)
        if np.ptp(alpha) and not any(np.ptp(colour) for colour in colours):
            return alpha, ALPHA
    return np.asarray(image.convert("L")), ""


def _lesion(levels: np.ndarray, lossy: bool) -> np.ndarray | None:
    low, high = levels.min(), levels.max()
    highest = levels == high
    if (highest | (levels == low)).all():
        return highest if high > 0 else np.zeros_like(highest)
    if not lossy and _are_classes(levels):
        return None
    white = 255 - SOFT_EDGE <= high <= 255
    if white and not ((levels > SOFT_EDGE) & (levels < 255 - SOFT_EDGE)).any():
        return levels >= THRESHOLD
    middle = (float(low) + float(high)) / 2
    if lossy and high - low >= SOFT_EDGE and not (np.abs(levels - middle) < (high - low) * 0.3).any():
        return levels > middle
    return None


def _are_classes(levels: np.ndarray) -> bool:
    """Whether these are a few numbers of classes beside 255, the border that nobody labelled."""
    below = np.unique(levels[levels < 255])
    return len(below) < MOST_CLASSES and below.max(initial=0) <= HIGHEST_CLASS
