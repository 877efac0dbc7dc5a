"""Whole files only: write to a temporary name, rename when complete; fingerprints of inputs."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hemoct.base.errors import UserError, one_line

Kind = TypeVar("Kind")
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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of ours; a damaged file stops with its name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, one_line(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no object")
    return content


def read_into(kind: type[Kind], content: dict[str, Any], path: Path) -> Kind:
    """What `read_json` has read from `path` as a dataclass. Stops where a field is missing, unknown or of another type."""
    hints, known = get_type_hints(kind), {one.name: one for one in fields(kind)}
    required = {name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING}
    wrong = [f"lacks {name}" for name in sorted(required - content.keys())]
    wrong += [f"has {name}, which is not known" for name in sorted(content.keys() - known.keys())]
    wrong += [f"{name} is {value!r:.40}" for name, value in content.items() if name in hints and not _fits(value, hints[name])]
    if wrong:
        raise _damaged(path, wrong[0])
    return kind(**content)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON can be of a type; what lists and dictionaries hold is not looked at but for texts."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    kind = get_origin(hint) or hint
    if hint == list[str]:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return kind is Any or isinstance(value, {float: (int, float), tuple: (list, tuple)}.get(kind, kind))


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}); restore it, or make it again with the step that wrote it")


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _readable(name: str, place: str) -> str:
    """The name of a file, which has to be text: tables hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", errors="replace")
        raise UserError(f"{place}: the name of the file {shown} is not in UTF-8; rename it (convmv does so for many)") from None
    return name


def _unreadable(error: OSError) -> None:
    if isinstance(error, NotADirectoryError):  # a file has nothing below it
        return
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}); check the folder and its permissions")


def walk(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, relative to it, in the same order each time: a folder's files, then its folders.

    Links are followed, each folder once; hidden files and what archives of macOS add are left out. A link to nothing is
    named like a file. A folder that cannot be listed stops: its files would be missing without a word.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        here = Path(place).relative_to(folder)
        for name in sorted(names):
            if not name.startswith("."):
                yield here / _readable(name, place)


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
