"""Arrays that are made once and kept as memory maps, by the content of what they are made of."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.format import write_array_header_1_0

from hemoct.base import files

VERSION = 3
CHUNK = 1 << 20  # bytes
Shape: TypeAlias = tuple[int, ...]
Make: TypeAlias = Callable[[], tuple[Shape, Iterable[np.ndarray]]]


def memory_map(path: Path, make: Make, dtype: str = "|u1") -> np.ndarray:
    """A read-only memory map of what `make` says: shape, and the parts along its first axis, of `dtype`.

    It is called only where `path` is missing or damaged: the file ends with the hash of what stands before. What another process
    is making is waited for.
    """
    return _memory_map(path, make, dtype, wait=True)


def memory_maps(wanted: Sequence[tuple[Path, Make]], dtype: str = "|u1") -> Cached:
    """Several of them, read as one: see `memory_map`. Processes that make the same ones share the work."""
    there = [_memory_map(path, make, dtype, wait=len(wanted) == 1) for path, make in wanted]
    return joined([memory_map(*wanted[place], dtype) if made is None else made for place, made in enumerate(there)])


def _memory_map(path: Path, make: Make, dtype: str, wait: bool) -> np.ndarray | None:
    """None, without `wait`, where another process is making it."""
    if not _is_there(path):
        with _alone(path, wait) as alone:
            if not alone:
                return None
            if not _is_there(path):
                files.sweep(path.parent, below=0)
                _write(path, *make(), dtype)
    return np.load(path, mmap_mode="r")


def _is_there(path: Path) -> bool:
    return path.exists() and _is_whole(path)


@contextlib.contextmanager
def _alone(path: Path, wait: bool) -> Iterator[bool]:
    """Whether this process alone makes `path`; others wait for it, or go on."""
    from filelock import FileLock, Timeout  # where all is there, nothing has to be locked

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock.acquire(blocking=False))
        except Timeout:
            if not wait:
                yield False
                return
            print(f"{path} is being made by another process: waiting for it")
            held.enter_context(lock)
        except NotImplementedError:  # a disk that knows no locks
            pass
        yield True


def _write(path: Path, shape: Shape, parts: Iterable[np.ndarray], dtype: str) -> None:
    """As a stream, not through a memory map: on a full disk that ends in an error with a name, not in a bus error."""
    if path.exists():
        print(f"{path} is damaged: it is made again")
    header = io.BytesIO()
    write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    digest = hashlib.sha256()
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        for part in itertools.chain([header.getvalue()], (np.ascontiguousarray(part, dtype).data for part in parts)):
            digest.update(part)
            stream.write(part)
        stream.write(digest.digest())


def _is_whole(path: Path) -> bool:
    digest, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        return left == 0 and stream.read() == digest.digest()


def key(content: Iterable[str], size: int, more: bytes = b"") -> str:
    """What a cache is known by: the hashes of the files that it is made of, the side in pixels, and `more`."""
    digest = hashlib.sha256(f"{VERSION} {size}".encode() + more)
    digest.update("".join(content).encode())
    return digest.hexdigest()[:16]


class Joined:
    """Memory maps one after the other, which differ in their first axis alone; rows are read from it as from one array."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape: Shape = (int(self._starts[-1]), *parts[0].shape[1:])
        self.dtype, self.nbytes = parts[0].dtype, sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """A row (an int), or a new array of several: a slice, booleans or ints (n,)."""
        if isinstance(rows, tuple) or np.ndim(rows) > 1:
            raise IndexError(f"rows are asked for by one index, of one axis; this is {type(rows).__name__}")
        if isinstance(rows, slice) or np.asarray(rows).dtype == bool:
            rows = np.arange(len(self))[rows]
        rows = np.asarray(rows)
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        rows = rows % len(self)
        place = np.searchsorted(self._starts, rows, side="right") - 1
        if not rows.ndim:
            return self.parts[place][rows - self._starts[place]]
        made = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for number in np.unique(place):
            here = place == number
            made[here] = self.parts[number][rows[here] - self._starts[number]]
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


Cached: TypeAlias = np.ndarray | Joined


def joined(parts: Sequence[np.ndarray]) -> Cached:
    """One array of several, which are not copied; of one it is the array itself."""
    return parts[0] if len(parts) == 1 else Joined(parts)


def names(pixels: Cached) -> list[str]:
    """The files of what `memory_map` or `joined` has made, for `opened`."""
    return [str(part.filename) for part in getattr(pixels, "parts", (pixels,))]


def opened(names: Sequence[str]) -> Cached:
    return joined([np.load(name, mmap_mode="r") for name in names])
