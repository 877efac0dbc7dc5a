"""What the names of NIfTI files say: which one is the mask of which volume, and whose scan a volume is.

A file is a mask if its name has a word such as `mask` or `seg`, or else, unless it is called just `image` or `ct`, if the nearest
of its folders that says what lies in it is one of masks. A mask belongs to the volume whose path is the same without these words
(`images/007` and `masks/007`, `p1/ct` and `p1/seg`, `007` and `007_mask`), or else to the only volume whose name alone is the
same. A table that names volumes and masks in two columns comes first.

A patient is what a known pattern says (sub-01 of BIDS, ID_x_ID_y of RSNA 2019, CQ500-CT-7), or the folder of a few volumes, or
the name without what tells a person's scans apart (baseline, follow-up, a date); else each volume is its own patient.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median

import pandas as pd

from hemoct.base.errors import UserError
from hemoct.ct import kinds, series
from hemoct.ingest import table_text

MASK_WORDS = {
    *("annot", "annotation", "annotations", "derivatives", "ground", "groundtruth", "groundtruths", "gt", "label", "labels"),
    *("labelstr", "labelsts", "lesion", "lesionmask", "lesions", "manual", "mask", "masks", "roi", "rois", "seg"),
    *("segmentation", "segmentations", "segs", "truth", "truths"),
}
IMAGE_WORDS = {
    *("ct", "cts", "data", "image", "images", "imagestr", "imagests", "img", "imgs", "ncct", "nifti", "nii", "original", "raw"),
    *("scan", "scans", "set", "vol", "volume", "volumes"),
}
SPLIT_WORDS = {"fold", "part", "test", "testing", "train", "training", "val", "valid", "validation"}
NNUNET_CHANNEL = "0000"
PATTERNS = (
    (re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)"), "{}"),
    (re.compile(r"(ID_[0-9a-f]{6,})_ID_[0-9a-f]{6,}"), "{}"),
    (re.compile(r"CQ500[-_ ]?CT[-_ ]?(\d+)", re.IGNORECASE), "CQ500-CT-{}"),
)
"""what names a patient wherever it stands in a path, and how the patient is called then"""
SCAN_WORDS = re.compile(
    r"([-_. ](baseline|base|bl|follow-?up|fu|pre|post|admission|discharge|initial|control|first|second|scan|visit|ses|session"
    r"|time|day|tp|t|v|d|h|acq|run|bone|soft|brain|thin|thick|plain|contrast|nc|ce)[-_]?\d*h?"
    r"|[-_. ](19|20)\d\d-?\d\d-?\d\d|[-_. ]\d+h)+$",
    re.IGNORECASE,
)
MOST_SCANS = 4
"""of one person in a folder of its own; a folder of more volumes is one of several people"""


@dataclass(frozen=True)
class Pairs:
    """Volumes and their masks."""

    masks: dict[str, str]
    """by volume"""
    more: dict[str, str]
    """masks of a volume beside the one that is read, and why they are not"""
    tables: list[Path]
    """those that named volumes and masks"""


def pair(folder: Path, volumes: Iterable[str], tables: Iterable[Path]) -> Pairs:
    """Find the mask of each volume; `volumes` and `tables` are all NIfTI files and all tables below `folder`."""
    names = list(volumes)
    listed = {table: _pairs_of(folder, table, names) for table in tables} if names else {}
    of_table = {mask: volume for rows in listed.values() for volume, mask in rows}
    masks = [name for name in names if is_mask(name)]
    if len(masks) == len(names):  # a folder called so above all of them says nothing
        masks = []
    scans = [name for name in names if name not in {*masks, *of_table}]
    by_path, by_name = _index(scans), _index(scans, last=1)
    belongs: dict[str, list[str]] = defaultdict(list)
    for mask in sorted({*masks, *of_table}, key=series.natural):
        key = _key(mask)
        alike = [of_table[mask]] if mask in of_table else by_path[key] or by_name[key[-1:]]
        if not alike and key and key[-1].isdigit():  # image, label_1, label_2: the number is that of the mask
            alike = by_path[key[:-1]]
        if len(alike) == 1:
            belongs[alike[0]].append(mask)
    chosen = {volume: found[0] for volume, found in belongs.items()}
    more = {
        mask: f"is another mask of {volume}; {found[0]} is the one that is read"
        for volume, found in belongs.items()
        for mask in found[1:]
    }
    return Pairs(chosen, more, [table for table, rows in listed.items() if rows])


def is_mask(name: str) -> bool:
    """Whether a file's name, or else the nearest folder that says what lies in it, says that it is a mask."""
    path = PurePosixPath(kinds.stem(Path(name)).as_posix())
    of_name = {*_words(path.name)}
    if of_name & MASK_WORDS or of_name <= IMAGE_WORDS:
        return bool(of_name & MASK_WORDS)
    for part in reversed(path.parts[:-1]):
        words = {*_words(part)}
        if words & (MASK_WORDS | IMAGE_WORDS):
            return bool(words & MASK_WORDS)
    return False


def _words(part: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", part.lower())


def _key(name: str) -> tuple[str, ...]:
    """The path of a file without the words that tell volumes from masks; equal for a volume and its mask."""
    parts = PurePosixPath(kinds.stem(Path(name)).as_posix()).parts
    words = [[word for word in _words(part) if word not in MASK_WORDS | IMAGE_WORDS] for part in parts]
    if words[-1][-1:] == [NNUNET_CHANNEL] and len(words[-1]) > 1:
        words[-1].pop()
    return tuple(" ".join(each) for each in words if each)


def _index(names: list[str], last: int = 0) -> dict[tuple[str, ...], list[str]]:
    """The files by their key, or by so many of its last parts."""
    index = defaultdict(list)
    for name in names:
        index[_key(name)[-last:]].append(name)
    return index


def _pairs_of(folder: Path, table: Path, names: list[str]) -> list[tuple[str, str]]:
    """(volume, mask) of each row of a table with a column of each; [] for other tables."""
    if table.suffix.lower() != ".csv":
        return []
    try:
        rows = table_text.read(folder / table)
    except UserError:  # another kind of table; what reads it says so
        return []
    by_name = _by_name(names)
    found = {column: rows[column].map(lambda cell: _file(cell, table.parent, by_name)) for column in rows}
    columns = [column for column, files in found.items() if (files != "").mean() > 0.5]
    masks = [column for column in columns if MASK_WORDS & {*_words(column)}]
    if len(columns) != 2 or len(masks) != 1:
        return []
    both = pd.DataFrame({"volume": found[next(name for name in columns if name not in masks)], "mask": found[masks[0]]})
    return list(both[(both != "").all(axis=1)].itertuples(index=False, name=None))


def names_scans(folder: Path, table: Path, names: Iterable[str]) -> bool:
    """Whether a table has one row for each scan: a column of NIfTI files."""
    try:
        rows = table_text.read(folder / table)
    except UserError:
        return False
    by_name = _by_name(list(names))
    return any((rows[column].map(lambda cell: _file(cell, table.parent, by_name)) != "").mean() > 0.5 for column in rows)


def _by_name(names: list[str]) -> dict[str, list[str]]:
    """The files by all that a table may call them: path or name, with and without suffix."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for key in {name, PurePosixPath(name).name, kinds.stem(Path(name)).as_posix(), kinds.stem(Path(name)).name}:
            by_name[key].append(name)
    return by_name


def _file(cell: str, folder: Path, by_name: dict[str, list[str]]) -> str:
    """The only file that a cell names, by its path from the table or by its name; "" for none or several."""
    cell = cell.replace("\\", "/")
    for key in ((folder / cell).as_posix(), cell, PurePosixPath(cell).name):
        if len(by_name.get(key, [])) == 1:
            return by_name[key][0]
    return ""


def patients(volumes: list[str]) -> tuple[dict[str, str], str]:
    """The patient of each volume of which something is known, and in words what told it; `volumes`: without masks."""
    known = {name: patient for name in volumes if (patient := _by_pattern(name))}
    rest = [name for name in volumes if name not in known]
    told = ["their names"] if known else []
    for rule, words in ((_by_folder, "their folders"), (_by_scan, "their names without what tells scans apart")):
        if found := rule(rest):
            known |= found
            told.append(words)
            break
    return known, " and ".join(told)


def _by_pattern(name: str) -> str:
    found = ((pattern.search(name), called) for pattern, called in PATTERNS)
    return next((called.format(match[1]) for match, called in found if match), "")


def _by_folder(volumes: list[str]) -> dict[str, str]:
    """The nearest folder that is neither one of images nor of a split, if such folders hold a few volumes each."""
    owners = {name: _owner(PurePosixPath(name)) for name in volumes}
    counts = Counter(owners.values())
    if len(counts) < 2 or None in counts or median(counts.values()) > MOST_SCANS:
        return {}
    numbered = all(re.search(r"\d", owner) for owner in counts)
    if not numbered and any(re.search(r"\d", kinds.stem(Path(name)).name) for name in volumes):
        return {}
    plain = Counter(PurePosixPath(owner).name for owner in counts)
    return {name: owner if plain[PurePosixPath(owner).name] > 1 else PurePosixPath(owner).name for name, owner in owners.items()}


def _owner(path: PurePosixPath) -> str | None:
    """The nearest folder whose name is more than words for images, scans and splits."""
    for folder in path.parents[:-1]:
        words = [word for word in _words(folder.name) if word not in MASK_WORDS | IMAGE_WORDS]
        is_split = bool(SPLIT_WORDS & {*words}) and all(word in SPLIT_WORDS or word.isdigit() for word in words)
        if words and not is_split and not SCAN_WORDS.fullmatch(f"_{folder.name}"):
            return folder.as_posix()
    return None


def _by_scan(volumes: list[str]) -> dict[str, str]:
    """The name without the words for a scan at its end, if that makes one person of some volumes, and not of all."""
    stems = {name: kinds.stem(Path(name)).as_posix() for name in volumes}
    plain = {name: SCAN_WORDS.sub("", stem) for name, stem in stems.items()}
    people = len({*plain.values()})
    return plain if 1 < people < len(volumes) else {}
