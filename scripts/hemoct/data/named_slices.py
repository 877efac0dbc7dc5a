"""CT slices in files of any kind that a user names: images, DICOM files, NIfTI volumes. Imports no torch.

A slice of a volume is named VOLUME/NUMBER, as if the volume were a folder of slices. HU become grey, and grey becomes the planes
that a network sees, on the same way as in scripts/01_get_data.py and the cache: the same slice has the same pixels.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ct import dicom, kinds, nifti, series as ct_series, windows as ct_windows
from hemoct.ct.facts import Facts
from hemoct.ct.windows import Window
from hemoct.data import images, named_images
from hemoct.data.named_images import ImageFiles, Place
from hemoct.data.prepared import Shown
from hemoct.ingest import conversion, conversion_tables, image_names, layouts
from hemoct.prepare.options import UNKNOWN
from hemoct.prepare.preparation import NOTHING, Preparation

BY_CHANNELS = {1: "brain", 3: "brain,subdural,bone"}
"""windows where it is not recorded which ones the training data were made with"""
NO_PLANES = np.zeros((0, 0, 0), np.uint8)
NOTES = {
    "are without any air: look at them; if their intercept got lost, predict again with --intercept -1024": (
        lambda facts: not facts.air
    ),
    "are not axial: the models may never have seen such": lambda facts: facts.plane not in ("", "axial"),
}


@dataclass(frozen=True)
class Reading:
    """How files become planes."""

    channels: int
    """1 grey, or 3 of red, green and blue"""
    window: str
    """one window or three of ct_windows.parse_windows, for files in HU"""
    intercept: float | None = None
    """HU, for DICOM files whose intercept is missing or 0"""
    shown: Shown | None = None
    """how small ones are prepared for networks, see `read_all`; None: not at all"""

    def preparation(self, one: "Slice") -> Preparation:
        """How a slice is prepared. DICOM files and volumes are read with the nose up, as scripts/01_get_data.py does."""
        if self.shown is None:
            return NOTHING
        if one.facts is None:
            return self.shown.of_file(one.path)
        return self.shown.of_scan("up" if one.facts.plane in ("", "axial") else UNKNOWN)

    @property
    def windows(self) -> tuple[Window | None, ...]:
        return ct_windows.parse_windows(self.window)


@dataclass(frozen=True)
class Slice:
    """One slice that was read."""

    path: Path
    """its file; VOLUME/NUMBER of a volume"""
    planes: np.ndarray
    """uint8 (channels, height, width)"""
    facts: Facts | None
    """None of an image"""
    at: int = 0
    """where its planes begin among those that were read together, see `read_all`"""


class Sees(Protocol):
    """What a model says of the slices that it sees (multilabel.networks.MultiLabelSpec)."""

    channels: int
    window: str | None


def reading(work: Workspace, spec: Sees, window: str | None, intercept: float | None) -> tuple[Reading, str]:
    """How to read files for networks of a `spec`, and in words where the window comes from: what they learned from.

    Older models do not tell; the data set of today has to do so for them.
    """
    channels, recorded = spec.channels, spec.window or layouts.recorded_window(work.raw)
    if window is None:
        why = "as the training data were converted" if recorded else "no other is recorded with the training data; see --window"
        return Reading(channels, recorded or BY_CHANNELS[channels], intercept), why
    if channels == 1 and window != recorded and len(ct_windows.parse_windows(window)) == 3:
        raise UserError(f"--window {window}: these models see slices of one channel; give one window")
    return Reading(channels, window, intercept), "given"


def find(paths: list[Path]) -> dict[Path, bool]:
    """Files that may hold slices, and whether they were named themselves, see images.find."""
    return images.find(paths, lambda path: kinds.is_volume(path) or kinds.is_dicom(path),
                       "image, DICOM file or NIfTI volume")  # fmt: skip


def read(path: Path, how: Reading) -> Iterator[Slice]:
    """The slices of one file at their full size. UserError names the file and what is wrong with it."""
    if image_names.is_source(path):
        volume = kinds.is_volume(path)
        found = nifti.read(path) if volume else dicom.read(path, how.intercept, any_modality=None in how.windows)
        for number, (hu, facts) in enumerate(found):
            name = path if facts.stored is None else path / f"{number:03d}"
            hu, facts = conversion.square(path, hu, facts)
            yield Slice(name, _planes(path, hu, facts, how), facts)
    else:
        yield Slice(path, images.read_planes(path, how.channels), None)


def _planes(path: Path, hu: np.ndarray, facts: Facts, how: Reading) -> np.ndarray:
    """HU as images.read_planes would give them back from the image that scripts/01_get_data.py makes of them."""
    shown = Image.fromarray(conversion.to_grey(path, hu, facts, how.windows)).convert(images.MODES[how.channels])
    return np.atleast_3d(shown).transpose(2, 0, 1)


def read_all(found: dict[Path, bool], how: Reading, size: int) -> tuple[list[Slice], dict[Path, str], np.ndarray]:
    """All slices, prepared as `how` says and resized to a square of `size` pixels as for the cache; the problem of each file
    that was passed over; and the planes of all, uint8 (n, size, size), in a file that is mapped: they need not fit in memory.

    A file that was named itself stops when it cannot be read; so does a search that finds no file that can.
    """
    if how.shown is not None:
        how.shown.look_at(path for path in found if not image_names.is_source(path))
    slices: list[Slice] = []
    problems: dict[Path, str] = {}
    results = images.decode(found, f"read at {size} px", partial(_tried, found=found, how=how, size=size))
    with tempfile.TemporaryFile() as stream:
        at = 0
        for path, result in zip(found, results, strict=True):
            if isinstance(result, str):
                problems[path] = result
                continue
            for one in result:
                stream.write(one.planes.tobytes())
                slices.append(replace(one, planes=NO_PLANES, at=at))  # a view would keep all of it
                at += len(one.planes)
        _stop_if_none(slices, problems)
        stream.flush()
        pixels = np.memmap(stream, np.uint8, "r", shape=(at, size, size))
    ends = [one.at for one in slices[1:]] + [at]
    return [replace(one, planes=pixels[one.at : end]) for one, end in zip(slices, ends, strict=True)], problems, pixels


def _stop_if_none(read: list, problems: dict[Path, str]) -> None:
    if not read:
        first, problem = next(iter(problems.items()))
        raise UserError(f"none of {len(problems)} files can be read (first: {first} {problem})")


def _tried(path: Path, found: dict[Path, bool], how: Reading, size: int | None) -> list[Slice] | str:
    try:
        return [one if size is None else _small(one, how, size) for one in read(path, how)]
    except UserError as error:
        if found[path]:
            raise
        return str(error).removeprefix(str(path)).strip()


def _small(one: Slice, how: Reading, size: int) -> Slice:
    planes = how.preparation(one).apply(one.planes).planes
    return replace(one, planes=np.stack([images.resize(plane, size) for plane in planes]))


@dataclass(frozen=True)
class AsImages:
    """Slices of files of any kind, for steps that read images."""

    paths: list[Path]
    """of each slice: its file, or VOLUME/NUMBER"""
    read_as: dict[str, Path]
    """the image that stands for a slice in HU, by its name"""
    places: dict[Path, Place]
    """see `arrange`"""
    spacing: dict[str, tuple[float, float, float]]
    """mm between rows, columns and slices, as the header says, by name"""
    problems: dict[Path, str]


@contextmanager
def as_images(found: dict[Path, bool], how: Reading) -> Iterator[AsImages]:
    """Files of `find`, those in HU as 8-bit images for as long as this is used. How heads lie in them is told to `how.shown`."""
    scans = [path for path in found if kinds.is_volume(path) or kinds.is_dicom(path)]
    with tempfile.TemporaryDirectory(prefix="hemoct-") as folder:
        slices, read_as, problems, folders = [], {}, {}, {}
        decoded = images.decode(scans, "read", partial(_tried, found=found, how=how, size=None))
        for number, (path, of_file) in enumerate(zip(scans, decoded, strict=True)):
            if isinstance(of_file, str):
                problems[path] = of_file
                continue
            for one in of_file:
                place = folders.setdefault(one.path.parent, len(folders))
                image = Path(folder) / str(place) / f"{number:05d}-{one.path.stem}.png"
                image.parent.mkdir(exist_ok=True)
                Image.fromarray(one.planes[0]).save(image, compress_level=1)
                read_as[str(one.path)] = image
                slices.append(replace(one, planes=NO_PLANES))
        places, left = arrange(slices)
        kept = [one for one in slices if one.path not in left]
        if how.shown is not None:
            how.shown.know({read_as[str(one.path)].parent: "up" for one in kept if one.facts.plane in ("", "axial")})
        paths = [path for path in found if path not in scans] + [one.path for one in kept]
        _stop_if_none(paths, problems | left)
        spacing = {str(one.path): sides for one in kept if None not in (sides := _sides(one, places.get(one.path)))}
        yield AsImages(paths, read_as, places, spacing, problems | left)


def look_up(work: Workspace, files: AsImages, specs: Sequence) -> ImageFiles:
    """What the tables know of slices, see named_images.look_up."""
    return named_images.look_up(work, files.paths, specs, files.places, converted(work) if files.places else {}, files.read_as)


def _sides(one: Slice, place: Place | None) -> tuple[float | None, float | None, float | None]:
    between = (place.spacing if place else None) or one.facts.spacing_between or one.facts.thickness
    return one.facts.spacing_row, one.facts.spacing_col, between


def again(how: Reading) -> Callable[[Path], Slice]:
    """What reads a slice at its full size, by its path; the slices of the last volume are kept."""
    held: dict[Path, Slice] = {}

    def one(path: Path) -> Slice:
        if path not in held:
            held.clear()
            held.update((each.path, each) for each in read(path.parent if path.parent.is_file() else path, how))
        return held[path]

    return one


def _is_of_volume(path: Path) -> bool:
    return kinds.is_volume(path.parent) and path.parent.is_file()


def arrange(slices: list[Slice]) -> tuple[dict[Path, Place], dict[Path, str]]:
    """The place of each slice in its series, from base to vertex; and by path why a copy or a scout has none.

    DICOM files go by the rules of ct.series; a volume is a series; images have no place but their file's name.
    """
    series: dict[tuple, list[dict]] = {}
    places: dict[Path, Place] = {}
    left: dict[Path, str] = {}
    for one in slices:
        if one.facts is not None and _is_of_volume(one.path):
            volume = one.path.parent
            places[one.path] = Place(str(volume), volume.name, one.facts.instance)
        elif one.facts is not None:
            folder = os.path.realpath(one.path.parent)
            of = (one.facts.patient, one.facts.study, one.facts.series or folder)
            series.setdefault(of, []).append(asdict(one.facts) | {"image": str(one.path), "folder": folder})
    for of, rows in series.items():
        arranged = ct_series.arrange(rows)
        left |= {Path(row["image"]): problem for row, problem in arranged.left}
        for number, of_pass in enumerate(arranged.passes, 1):
            key = "\0".join((*of, str(number)))
            for place, row in enumerate(of_pass):
                places[Path(row["image"])] = Place(key, Path(rows[0]["folder"]).name, place, row.get("spacing_z"))
    return places, left


def notes(slices: list[Slice], window: str) -> list[str]:
    """What should be known of slices in HU, in words; `window`: in which they were shown."""
    in_hu = [one.facts for one in slices if one.facts is not None]
    count = Counter(note for facts in in_hu for note, applies in NOTES.items() if applies(facts))
    told = [f"{len(in_hu)} slice(s) in HU were shown in window {window}"] if in_hu else []
    return told + [f"{many} slice(s) {note}" for note, many in count.items()]


def converted(work: Workspace) -> dict[str, str]:
    """The image of data/raw/NAME that was made of a DICOM file or a volume's slice, by the path of the latter; links resolved.

    Empty where the data set was not converted.
    """
    mark, table = work.raw / layouts.ORIGIN, work.raw / conversion_tables.TABLE
    source = files.read_json(mark).get("converted") if mark.is_file() else None
    if source is None or not table.is_file():
        return {}
    made = {}
    rows = tables.read_csv(table, ["image", "file"])
    several = rows["file"].duplicated(keep=False)  # of a volume, or frames of one DICOM file
    for image, name, is_one_of in zip(rows["image"], rows["file"], several, strict=True):
        path = os.path.realpath(Path(source) / name)
        if is_one_of or kinds.is_volume(Path(name)):
            path += f"/{Path(image).stem.rpartition('_')[2]}"
        made[path] = os.path.realpath(work.raw / image)
    return made
