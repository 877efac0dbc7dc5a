"""Slices as arrays: decode one, cache all of a data set at training size."""

import itertools
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from tqdm import tqdm

from hemoct.base import cache, files, pixels
from hemoct.base.cache import Cached
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes, contents
from hemoct.ingest import annotations as ingest_annotations
from hemoct.prepare.preparation import NOTHING, Preparation

SHARD = 1 << 15  # images in a file of the cache
WORKERS = min(8, max(2, os.cpu_count() or 2))  # threads, as decoding releases the interpreter lock; more than cores wait for it
AHEAD = 64  # slices that are decoded before they are asked for
HELD = 256e6  # bytes of decoded slices that wait to be asked for; of large ones fewer are decoded ahead
SMALL = 2048  # bytes: an image of one colour, or of little in it
FEW = 8  # of them, each as large as its image once it is decoded
WHOLE = {"head": "head", "brain": "closed skull"}
MODES = {1: "L", 3: "RGB"}
"""of Pillow, by the number of channels"""
Source, Read = TypeVar("Source"), TypeVar("Read")


def read_grey(path: Path) -> np.ndarray:
    """Decode an image whole: uint8 grey values, shape (height, width). A broken file stops with its name."""
    return pixels.read(path, "L")


def read_planes(path: Path, channels: int) -> np.ndarray:
    """Decode an image as 1 plane of grey values or 3 of red, green, blue (three CT windows): uint8 (channels, height, width)."""
    return np.atleast_3d(pixels.read(path, MODES[channels])).transpose(2, 0, 1)


def sizes(work: Workspace, labels: pd.DataFrame) -> np.ndarray:
    """Width and height of each image of `labels`, from its header: int (n, 2)."""
    return np.array([size_of(work.raw / name) for name in tqdm(labels["image"], desc="sizes", disable=None)])


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header."""
    try:
        return ingest_annotations.image_header(path)[:2]
    except ingest_annotations.AnnotationError as error:
        raise UserError(f"{path}: {error}; restore it, or take it out and run scripts/03_make_labels.py again") from None


def resize(grey: np.ndarray, size: int) -> np.ndarray:
    """Fit a slice into a square of `size` pixels: aspect ratio kept, black border, antialiased."""
    return np.asarray(ImageOps.pad(Image.fromarray(grey), (size, size), Image.Resampling.BILINEAR, color=0))


def restore(square: np.ndarray, width: int, height: int) -> np.ndarray:
    """The inverse of `resize`: what lies in the square (uint8) at the size of the image, (height, width)."""
    size = len(square)
    if (width, height) == (size, size):
        return square
    scale_x, scale_y, left, top = boxes.letterbox(width, height, size)
    area = (left, top, left + width * scale_x, top + height * scale_y)
    return np.asarray(Image.fromarray(square).resize((width, height), Image.Resampling.BILINEAR, box=area))


def cached(work: Workspace, labels: pd.DataFrame, size: int, channels: int = 1, preparation: Preparation = NOTHING) -> Cached:
    """All images of `labels`, in its order, as read-only uint8 memory maps of shape (n * channels, size, size).

    With 3 `channels` rows 3 i, 3 i + 1 and 3 i + 2 are red, green and blue of image i. Decoded once; a file is keyed by the
    content of its images and how they are prepared, so that changed data make a new one. Each SHARD images, by their place in
    `labels`, have a file: a run that was killed goes on there, and several share the work. Stops at images that are not those
    of images.csv.
    """
    names, fitting = labels["image"].tolist(), _Fitting(size, channels, lambda _: preparation)
    known = contents.checked(work, names)
    name, more = ("grey", b"") if channels == 1 else ("rgb", b"rgb")

    def shard(start: int) -> tuple[Path, cache.Make]:
        here = slice(start, min(start + SHARD, len(names)))
        place = f", {here.stop:,} of {len(names):,}" if len(names) > SHARD else ""

        def make() -> tuple[cache.Shape, Iterator[np.ndarray]]:
            paths = [work.raw / image for image in names[here]]
            return (len(paths) * channels, size, size), fitting.planes(paths, place)

        return work.cache / f"{name}-{size}px-{cache.key(known[here], size, more + preparation.key)}.npy", make

    made = cache.memory_maps([shard(start) for start in range(0, max(1, len(names)), SHARD)])
    fitting.say()
    return made


def decode(sources: Iterable[Source], desc: str = "decode", read: Callable[[Source], Read] = read_grey) -> Iterator[Read]:
    """Decode ahead of use, in order: what `read` makes of each source; of a path by default the image, uint8 (height, width)."""
    sources, ahead = list(sources), _Ahead()
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[Read]] = deque()
        for source in tqdm(sources, desc=desc, disable=None):
            waiting.append(pool.submit(ahead.decoded, read, source))
            while ahead.is_enough(len(waiting)):  # not all at once: a volume of full-size slices need not lie in memory
                yield ahead.taken(waiting.popleft().result())
        while waiting:
            yield ahead.taken(waiting.popleft().result())


class Alike:
    """What small files decode to: of those with the very same bytes, as black masks and maps have, one is decoded."""

    def __init__(self) -> None:
        self._lock, self._made = threading.Lock(), dict[tuple[bytes, tuple[int, int]], np.ndarray]()  # the last used ones last

    def read(self, path: str, size: tuple[int, int], decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """What `decode` makes of a file that belongs to an image of `size` (width, height); not to be written to."""
        try:
            with open(path, "rb", buffering=0) as stream:
                content = stream.read(SMALL)
        except OSError:
            content = b""  # `decode` says what is wrong
        if not 0 < len(content) < SMALL:
            return decode(Path(path))
        with self._lock:
            made = self._made.pop((content, size), None)
            if made is not None:
                self._made[content, size] = made
                return made
        made = decode(Path(path))
        with self._lock:
            self._made[content, size] = made
            if len(self._made) > FEW:
                self._made.pop(next(iter(self._made)))
        return made


class _Ahead:
    """What is decoded ahead of use: AHEAD slices, HELD bytes, or two for each worker that have to be decoded yet."""

    def __init__(self) -> None:
        self._lock, self._done, self._bytes = threading.Lock(), 0, 0

    def decoded(self, read: Callable[[Source], Read], source: Source) -> Read:
        """Decode one, in a worker."""
        made = read(source)
        self._count(made, 1)
        return made

    def taken(self, made: Read) -> Read:
        """One that is not ahead any more."""
        self._count(made, -1)
        return made

    def is_enough(self, waiting: int) -> bool:
        return waiting > AHEAD or self._bytes > HELD or waiting - self._done > 2 * WORKERS

    def _count(self, made: Any, sign: int) -> None:
        size = sum(getattr(part, "nbytes", 0) for part in (made if isinstance(made, tuple) else (made,)))
        with self._lock:
            self._done += sign
            self._bytes += sign * size


def decode_parts(
    paths: list[Path], size: int, together: int, channels: int = 1, prepared: Callable[[Path], Preparation] = lambda path: NOTHING
) -> Iterator[np.ndarray]:
    """Decode files at training size, each as `prepared` says: uint8 (n * channels, size, size), see `cached`, n <= `together`."""
    fitting = _Fitting(size, channels, prepared)
    following = fitting.planes(paths)
    while part := list(itertools.islice(following, together)):
        yield np.concatenate(part)
    fitting.say()


class _Fitting:
    """Decodes images at training size, and counts those in which there was no head, or no brain."""

    def __init__(self, size: int, channels: int, prepared: Callable[[Path], Preparation]) -> None:
        self._size, self._channels, self._prepared = size, channels, prepared
        self._kept_whole, self._decoded = Counter[str](), 0

    def planes(self, paths: list[Path], place: str = "") -> Iterator[np.ndarray]:
        """The planes of each image, (channels, size, size). `place`: which of all images these are, in words."""

        def planes(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
            found = self._prepared(path).apply(read_planes(path, self._channels))
            return np.stack([resize(plane, self._size) for plane in found.planes]), found.kept_whole

        for made, kept_whole in decode(paths, f"decode to {self._size} px{place}", planes):
            self._kept_whole.update(kept_whole)
            self._decoded += 1
            yield made

    def say(self) -> None:
        for name, count in self._kept_whole.items():
            print(f"--prepare {name}: {count} of {self._decoded} images have no {WHOLE[name]} that is seen, and are kept whole")


def grey_statistics(pixels: Cached, rows: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the training slices' grey values in 0..1, from a histogram: one pass, flat memory."""
    counts = np.zeros(256, dtype=np.int64)
    for chunk in np.array_split(rows, max(1, len(rows) // 256)):
        counts += np.bincount(pixels[chunk].reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    return mean, max(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())), 1e-3)


def find(paths: list[Path], also: Callable[[Path], bool] = lambda path: False, what: str = "image") -> dict[Path, bool]:
    """Images, and files that `also` fit, in what a user names, in order of name; and whether each was named itself.

    Hidden files are left out. Stops where there is none, no `what`.
    """
    found: dict[Path, bool] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} is neither a file nor a folder")
        if path.is_file():
            found[path] = True
        for inside in (path / name for name in sorted(files.walk(path))):  # none of a file
            if inside.suffix.lower() in files.IMAGE_SUFFIXES or also(inside):
                found.setdefault(inside, False)
    if not found:
        suffixes = ", ".join(sorted(files.IMAGE_SUFFIXES))
        raise UserError(f"no {what} in {', '.join(map(str, paths))}; images end in {suffixes}")
    return found
