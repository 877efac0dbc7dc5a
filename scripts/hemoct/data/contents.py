"""What the images and masks of a data set are, by their content: images.csv, and whether the files are still those.

A step that trains, predicts or evaluates is made from images.csv, so that other pixels under the old names are other data.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

TABLE = "images.csv"
COLUMNS = ["file", "sha256"]
REMEMBERED = "contents.csv"
WORKERS, TOGETHER = 8, 64  # threads, for reading releases the interpreter lock; files that one of them reads at a time
SMALL = 1 << 24  # bytes
FRESH = 2_000_000_000  # ns; a file that is changed again so soon may keep its times


def write(work: Workspace, labels: pd.DataFrame) -> Path:
    """Write images.csv: each image and mask that labels.csv names, once, with the hash of its bytes."""
    named = pd.concat([labels["image"], labels["mask"]])
    names = sorted(named[named.notna() & (named != "")].unique())
    frame = pd.DataFrame({"file": names, "sha256": hashes(work, names)}, columns=COLUMNS)
    return tables.write_csv(work.work / TABLE, frame)


def checked(work: Workspace, names: Iterable[str]) -> list[str]:
    """The hash of each of these files of data/raw/NAME; stops where one is not the file that images.csv was made of.

    A data set without images.csv, of an older version, is taken as it is.
    """
    names = list(names)
    found = hashes(work, names)
    path = work.work / TABLE
    if not path.exists():
        return found
    frame = tables.read_csv(path, COLUMNS)
    known = dict(zip(frame["file"], frame["sha256"], strict=True))
    others = [name for name, digest in zip(names, found, strict=True) if known.get(name) != digest]
    if others:
        raise UserError(
            f"{work.show(work.raw / others[0])} is not the file that {TABLE} was made of, {len(others)} of {len(names)} are not; "
            f"where the change is meant: {work.command('scripts/03_make_labels.py')} (with the flags of before)"
        )
    return found


def hashes(work: Workspace, names: list[str]) -> list[str]:
    """The SHA-256 of each of these files of data/raw/NAME. Those that have not changed since are not read again."""
    memory = work.cache / REMEMBERED
    old = _remembered(memory)
    stamps = [files.stamp(f"{work.raw}/{name}") for name in names]
    for name, stamp in zip(names, stamps, strict=True):
        if not stamp:
            raise UserError(f"{work.raw / name} is missing; restore it or run scripts/03_make_labels.py again")
    unread = [name for name, stamp in zip(names, stamps, strict=True) if old.get(name, ("", ""))[0] != stamp]
    parts = [unread[start : start + TOGETHER] for start in range(0, len(unread), TOGETHER)]
    with ThreadPoolExecutor(WORKERS) as pool:
        digests = pool.map(lambda part: [_sha256(f"{work.raw}/{name}") for name in part], parts)
        read = dict(zip(unread, itertools.chain.from_iterable(digests), strict=True))
    now = {name: (stamp, read.get(name) or old[name][1]) for name, stamp in zip(names, stamps, strict=True)}
    before = time.time_ns() - FRESH
    kept = old | {name: (stamp, digest) for name, (stamp, digest) in now.items() if int(stamp.split()[2]) < before}
    if kept != old:
        _remember(memory, kept)
    return [now[name][1] for name in names]


def _sha256(path: str) -> str:
    """As files.sha256, whose buffer costs more than a small file."""
    with open(path, "rb", buffering=0) as stream:
        if os.fstat(stream.fileno()).st_size > SMALL:
            return files.sha256(Path(path))
        return hashlib.sha256(stream.read()).hexdigest()


def _remembered(path: Path) -> dict[str, tuple[str, str]]:
    """What was read before: stamp and hash of each file. A damaged file is no loss."""
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return {}
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3 and len(row[2]) == 64}


def _remember(path: Path, known: dict[str, tuple[str, str]]) -> None:
    files.sweep(path.parent, below=0)
    files.write_text(path, "".join(f"{name}\t{stamp}\t{digest}\n" for name, (stamp, digest) in known.items()))
