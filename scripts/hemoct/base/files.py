"""Whole files only: write to a temporary name, rename when complete; fingerprints of inputs."""

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hemoct.base import schemas
from hemoct.base.errors import UserError, one_line

Kind = TypeVar("Kind")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"}
"""what an image file may end with, in lower case"""
NODE = f"{zlib.crc32(platform.node().encode()):08x}"
"""this machine: on a shared disk the number of a process says little"""
LEFT = re.compile(r"\.tmp-(?P<pid>\d+)(@(?P<node>\w+))?-.+", re.DOTALL)
LONGEST = 200  # bytes
keeps = True
"""False in a process that computes along with another, which writes the files: what it writes goes nowhere"""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); rename it to `path` on success, delete it on any error.

    A process killed in between leaves a `.tmp-*` file at worst (see `sweep`), never half a file under the final name; nor does
    a machine that loses its power, for the content is on the disk before the name is. That costs milliseconds: who writes
    thousands of files leaves it out (`durable`) and calls os.sync before what they belong to gets its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        if keeps:
            os.replace(temporary, path)
        else:
            temporary.unlink()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; put it in the place of `path` on success, delete it on any error.

    A process killed between its two renames leaves the old folder as `.old-*`; the next call puts that back first.
    """
    if not keeps:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    _restore(path)
    sweep(path.parent, below=0)
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
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


def _beside(path: Path, word: str) -> Path:
    """`.tmp-PID@NODE-NAME`, a name that nobody else takes."""
    return path.with_name(f".{word}-{os.getpid()}@{NODE}-{_short(path.name)}")


def _short(name: str) -> str:
    """A name that leaves room before it: none may have above 255 bytes. What it ends with stays, its suffix tells the format."""
    return name if len(name.encode()) <= LONGEST else f"{zlib.crc32(name.encode()):08x}-{name[-40:]}"


def sweep(folder: Path, below: int = 1) -> None:
    """Delete what processes that are gone left half written in a folder, and in those in it, so many levels `below`."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        left = LEFT.fullmatch(entry.name)
        if left and left["node"] in (None, NODE) and not _is_alive(int(left["pid"])):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else Path(entry).unlink(missing_ok=True)
        elif not left and below and entry.is_dir(follow_symlinks=False):
            sweep(Path(entry), below - 1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _restore(path: Path) -> None:
    """Put back the latest `.old-*` of a killed process where `path` is missing; delete those that are replaced."""
    name = re.compile(rf"\.old-\d+(@\w+)?-{re.escape(_short(path.name))}")
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
    """The object in a JSON file of ours, a `schemas.Content`; a damaged file, or one that holds something else, stops."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=lambda read: schemas.Content(read, path))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, one_line(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no object")
    if why := schemas.wrong(path.name, content):
        raise _damaged(path, why)
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
    return kind(**schemas.plain(content))


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
    return schemas.Damaged(f"{path} is damaged ({why}); restore it, or make it again with the step that wrote it")


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
    for place, names in _folders(folder):
        here = Path(place).relative_to(folder)
        for name in names:
            yield here / name


def _folders(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder with files that `walk` meets, and their names."""
    seen: set[str] = set()
    real: dict[str, str] = {}
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        above, name = os.path.split(place)
        plain = above in real and not os.path.islink(place)
        real[place] = f"{real[above]}/{name}" if plain else os.path.realpath(place)
        if real[place] in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add(real[place])
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        shown = [_readable(name, place) for name in sorted(names) if not name.startswith(".")]
        if shown:
            yield place, shown


def fingerprint(path: Path) -> str | None:
    """Identify an input: content hash of a file; names, sizes and times of a folder's files (see `walk`); None if absent.

    The time of the last change of an entry (ctime) is the system's own: copies and archives keep only that of writing.
    """
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return None
    digest = hashlib.sha256()
    for place, names in _folders(path):
        lines = [f"{place.removeprefix(str(path))}\n", *(f"{name}\0{stamp(f'{place}/{name}')}\n" for name in names)]
        digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def stamp(path: str | Path) -> str:
    """What changes whenever a file does, without reading it: size, times, number of its entry; empty where it is not there."""
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing, or a file taken away at this moment; the step that reads it will say so
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
