"""Which file a name in a table means: that of its path, else the only one that a looser rule finds.

Of several files that fit none is taken: images of different patients may have the same name. What another rule than the path has
found is printed. A file in a folder of masks is an image only where its path says so.
"""

import functools
import os.path
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from hemoct.base import files, tables
from hemoct.ct import kinds
from hemoct.ingest import beside, conversion_tables

SUFFIXES = {*files.IMAGE_SUFFIXES, ".dcm", ".dicom"}
NOT_PLAIN = re.compile(r"(?:^|/)\.?(?:/|$)")
"""a path with an empty part or a dot as one: a//b, ./a; others need no object, of which there would be millions"""
MOST_DIGITS = 100  # of a number in a name
Lookup = Callable[[str], str | None]
"""the file of a name; "" if there is none, None if there are several"""
Rule = Callable[[list[str]], Lookup]
"""makes the lookup for the names that earlier rules have not found"""


def is_source(path: Path) -> bool:
    """Whether a file is a DICOM file, a NIfTI volume or a TIFF of several pages, which is no mask."""
    return kinds.is_volume(path) or kinds.is_dicom(path) or (kinds.is_stack(path) and not is_beside(path))


def find_images(raw: Path, listing: list[Path], names: pd.Series) -> list[str]:
    """The image of each name, as path below data/raw/NAME; "" if there is none, or several."""
    images = [path for path in listing if not is_beside(path)]
    rules = {
        "by their path": _by_path(listing, "images"),
        "in another case or with another suffix": _by_path(listing, "images", plain),
        "in another folder": lambda _: _at_the_end(images),
        "as files of another disk": lambda waiting: _other_disk(images, waiting),
        "by their number": lambda _: _lookup(((_number(path.stem), path.as_posix()) for path in images), _number),
        "by the DICOM file that they were converted from": lambda _: _converted(raw),
    }
    return _find(names, rules, "images")


def find_masks(listing: list[Path], names: pd.Series) -> list[str]:
    """The mask of each name, by its path in data/raw/NAME or masks/, else in any folder of masks; "" as in `find_images`."""
    masks = [path for path in listing if is_beside(path)]
    rules = {
        "by their path": _by_path(listing, "masks"),
        "in another case or with another suffix": _by_path(listing, "masks", plain),
        "in another folder": lambda _: _at_the_end(masks),
        "as files of another disk": lambda waiting: _other_disk(masks, waiting),
    }
    return _find(names, rules, "masks")


def find_exactly(listing: list[Path], names: pd.Series) -> list[str]:
    """The image of each name by its path alone."""
    return _find(names, {"by their path": _by_path(listing, "images")}, "images")


def name_keys(name: str) -> set[str]:
    """What a file of this name may be called in a table: its name without folder, suffix and case; its number."""
    last = plain(name).rsplit("/", 1)[-1]
    return {last, _number(last)} - {""}


def is_beside(path: Path) -> bool:
    """Whether a file lies in a folder of masks or labels, not of images."""
    return beside.lies_in(path, beside.MASK_FOLDERS | {"xml"})


def posix(name: str) -> str:
    name = name.replace("\\", "/")
    return PurePosixPath(name).as_posix() if NOT_PLAIN.search(name) else name


def bare(name: str) -> str:
    """A path without the suffix of an image. What follows the last dot of 1.2.840.77 is no suffix."""
    name = posix(name)
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 and name[dot:].lower() in SUFFIXES else name


def plain(name: str) -> str:
    return bare(name).lower()


def _find(names: pd.Series, rules: dict[str, Rule], what: str) -> list[str]:
    found: dict[str, str | None] = dict.fromkeys(filter(None, names), "")
    for words, rule in rules.items():
        waiting = [name for name, path in found.items() if path == ""]
        lookup = rule(waiting) if waiting else None
        new = {name: path for name in waiting if (path := lookup(name)) != ""}
        found |= new
        told = [f"{name} is {path}" for name, path in new.items() if path]
        if told and words != "by their path":
            print(f"{len(told)} of {len(found)} {what} were found {words} (first: {told[0]})")
    return [found.get(name) or "" for name in names]


def _lookup(pairs: Iterable[tuple[str, str]], key: Callable[[str], str]) -> Lookup:
    """Look up the key of a name among pairs of key and path; an empty key is none. Nothing is read before the first name."""

    @functools.cache
    def index() -> dict[str, str | None]:
        made: dict[str, str | None] = {}
        for each, path in pairs:
            made[each] = path if made.get(each, path) == path else None
        made.pop("", None)
        return made

    return lambda name: index().get(key(name), "")


def _first(*lookups: Lookup) -> Lookup:
    """What the first lookup finds that finds anything."""
    return lambda name: next((path for lookup in lookups if (path := lookup(name)) != ""), "")


def _by_path(listing: list[Path], folder: str, key: Callable[[str], str] | None = None) -> Rule:
    """The file at a path in data/raw/NAME or, rather, in its `folder`; with or without suffix, or as `key` compares paths."""
    paths = [path.as_posix() for path in listing]
    inside = [(path.removeprefix(f"{folder}/"), path) for path in paths if path.startswith(f"{folder}/")]
    top = [(path, path) for path in paths]

    def rule(_: list[str]) -> Lookup:
        if key is not None:
            return _first(*(_lookup(((key(place), path) for place, path in group), key) for group in (inside, top)))
        whole = (_lookup(group, posix) for group in (inside, top))
        stems = (_lookup(((bare(place), path) for place, path in group), posix) for group in (inside, top))
        return _first(*whole, *stems)

    return rule


def _at_the_end(images: list[Path]) -> Lookup:
    """The file whose path ends with the name; rather one of the same case and suffix."""
    ends = [(end, path.as_posix()) for path in images for end in _ends(path.as_posix())]
    same, stems = _lookup(ends, posix), _lookup(((bare(end), path) for end, path in ends), posix)
    return _first(same, stems, _lookup(((plain(end), path) for end, path in ends), plain))


def _ends(path: str) -> Iterator[str]:
    """The path, then without its first folder, ... the name of the file."""
    parts = path.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _other_disk(images: list[Path], waiting: list[str]) -> Lookup:
    """Names that begin with folders which are not here: absolute paths, and paths that all begin with the same folders.

    What counts is the longest end of a name that is a file's and no other name's.
    """
    at_the_end, ends = _at_the_end(images), Counter(end for name in waiting for end in _ends(plain(name)))
    relative = [posix(name) for name in waiting if not _is_absolute(name)]
    shared = os.path.commonpath(relative) if len(set(relative)) > 1 else ""

    def lookup(name: str) -> str | None:
        if not _is_absolute(name):
            return at_the_end(posix(name).removeprefix(f"{shared}/")) if shared else ""
        tails = [end for end in _ends(posix(name)) if end and at_the_end(end) != ""]
        if not tails:
            return ""
        return at_the_end(tails[0]) if ends[plain(tails[0])] == 1 else None

    return lookup


def _is_absolute(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)


def _number(name: str) -> str:
    """7 for `007` and `007.png`; nothing for other names."""
    stem = bare(name)
    return str(int(stem)) if stem.isascii() and stem.isdigit() and len(stem) < MOST_DIGITS else ""


def slices_of_files(raw: Path) -> dict[str, list[str]]:
    """The slices of each file that was converted to several, by its path and its name (`scan_key`), where that is one file's."""
    table = raw / conversion_tables.TABLE
    if not table.is_file():
        return {}
    facts = tables.read_csv(table, [], rows=False).reindex(columns=["image", "file"]).dropna()
    several = {file: list(images) for file, images in facts.groupby("file", sort=False)["image"] if len(images) > 1}
    ends = Counter(end for file in several for end in _ends(scan_key(file)))
    return {end: images for file, images in several.items() for end in _ends(scan_key(file)) if ends[end] == 1}


def scan_key(file: str) -> str:
    """`plain` of a scan's file: .nii.gz has two suffixes."""
    return plain(file).removesuffix(".gz").removesuffix(".nii")


def _converted(raw: Path) -> Lookup:
    """The slice that was converted from a DICOM file of this path or this name, or from one with this SOP instance UID."""
    table, headers = raw / conversion_tables.TABLE, raw / conversion_tables.HEADERS
    if not table.is_file():
        return lambda _: ""
    facts = tables.read_csv(table, [])
    origins = [
        (end, image) for image, file in facts.reindex(columns=["image", "file"]).dropna().to_numpy() for end in _ends(file)
    ]
    by_file = _lookup(((plain(end), image) for end, image in origins), plain)
    if not headers.is_file():
        return by_file
    sop = tables.read_csv(headers, []).reindex(columns=["sop", "image"]).dropna().astype(str)
    return _first(by_file, _lookup(sop.itertuples(index=False, name=None), bare))
