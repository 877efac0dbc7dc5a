"""Whole files only: write to a temporary name, rename when complete; fingerprints of inputs."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"}
"""what an image file may end with, in lower case"""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); rename it to `path` on success, delete it on any error.

    A process killed in between leaves a `.tmp-*` file at worst, never half a file under the final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` on success, delete it on any error.

    A process killed between its two renames leaves the old folder as `.old-*`; the next call puts that back first.
    """
    _restore(path)
    temporary, old = (path.with_name(f".{word}-{os.getpid()}-{path.name}") for word in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _restore(path: Path) -> None:
    """Put back the latest `.old-*` of a killed process where `path` is missing; delete those that are replaced."""
    name = re.compile(rf"\.old-\d+-{re.escape(path.name)}")
    left = [path_left for path_left in path.parent.glob(".old-*") if name.fullmatch(path_left.name)]
    if left and not path.exists():
        latest = max(left, key=lambda path_left: path_left.stat().st_mtime_ns)
        left.remove(latest)
        os.replace(latest, path)
    for path_left in left:
        shutil.rmtree(path_left, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write JSON that any reader accepts: NaN and infinity are errors here, a missing value is null."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(folder: Path, onerror: Callable[[OSError], Any] | None = None) -> Iterator[Path]:
    """Every file below `folder`, relative to it, in the same order each time: a folder's files, then its folders.

    Links are followed, each folder once; hidden files and what archives of macOS add are left out. A link to nothing is
    named like a file. `onerror` is called for a folder that cannot be listed, which is passed over otherwise.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=onerror):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        here = Path(place).relative_to(folder)
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def fingerprint(path: Path) -> str | None:
    """Identify an input: content hash of a file; names, sizes and times of a folder's files (see `walk`); None if absent."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return None
    digest = hashlib.sha256()
    for name in walk(path):
        try:
            status = (path / name).stat()
            line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:  # a link to nothing, or a file taken away at this moment; the step that reads it will say so
            line = f"{name}\0\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
