"""One reading of a scan for all tasks: a folder of images, DICOM series, a NIfTI volume, or a single file. Imports no torch."""

import gzip
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hemoct.base import limits, pixels
from hemoct.base.errors import UserError, few
from hemoct.ct import choice, dicom, kinds, nifti, series as ct_series
from hemoct.ct.facts import GREY, UNORIENTED, Facts
from hemoct.ct.series import Row
from hemoct.data import images, named_slices
from hemoct.data.prepared import OF_FOLDER
from hemoct.ingest import beside
from hemoct.prepare import orientation as orientations
from hemoct.scan.reading import Pixels, Reading, Wanted

COLOURED, COLOURED_SHARE = 40, 0.02
"""grey values by which the channels of a pixel differ that is coloured, and the share of such pixels that no grey slice has"""
NUMBERED = re.compile(r"^(.*?)[ _.-]*\d+$")
"""the name of a slice: whose it is, and its number"""
MASK_NAMES = re.compile(r"(^|[ _.-])(mask|seg|label|lesion|roi)s?([ _.-]|$)", re.IGNORECASE)
UNEVEN = 0.1
KINDS = ("dicom", "nifti", "images")


def read(path: Path, wanted: Wanted) -> Pixels:
    """A scan as the user names it; UserError says in one line why it is none. DICOM files come before volumes and images."""
    found = list(named_slices.find([path]))
    of_kind = {kind: [one for one in found if _kind(one) == kind] for kind in KINDS}
    if of_kind["dicom"]:
        return _dicom(path, of_kind["dicom"], wanted)
    if of_kind["nifti"]:
        return _nifti(path, _volume_of(path, of_kind["nifti"], wanted.series), wanted)
    return _images(path, [one for one in found if not _is_mask(path, one)] or found, wanted)


def _kind(path: Path) -> str:
    return "nifti" if kinds.is_volume(path) else "dicom" if kinds.is_dicom(path) else "images"


def _is_mask(folder: Path, path: Path) -> bool:
    return folder.is_dir() and beside.lies_in(path.relative_to(folder), beside.MASK_FOLDERS)


def _short(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder)) if folder.is_dir() else path.name


# ---- images


def _images(path: Path, found: list[Path], wanted: Wanted) -> Pixels:
    found = _of_one(path, sorted(found, key=lambda one: ct_series.natural(str(one))), wanted.series)
    channels = {channels for channels, _ in wanted.looks}
    allowed = max(channels) == 3 or any("," in window for _, window in wanted.looks)
    reading, problems, shape, votes = Reading(wanted), {}, None, []
    given, step = wanted.orientation, max(1, -(-len(found) // OF_FOLDER))
    decoded = images.decode(found, "read", partial(_decoded_image, channels, allowed, path.is_file()))
    for number, (one, planes) in enumerate(zip(found, decoded, strict=True)):
        if isinstance(planes, str):
            problems[_short(path, one)] = planes
            continue
        grey = planes[1][0]
        if shape is not None and grey.shape != shape:
            sizes = [" x ".join(map(str, size[::-1])) for size in (shape, grey.shape)]
            raise UserError(f"{one} is {sizes[1]} px, the images before it are {sizes[0]} px: no single scan; take it out")
        shape = grey.shape
        if given == "auto" and number % step == 0:
            votes.append((str(one), orientations.weights(grey)))
        reading.add_image(one, planes)
    if not reading.names:
        first, problem = next(iter(problems.items()))
        raise UserError(f"{path}: none of {len(problems)} images can be read (first: {first} {problem})")
    many = len(reading.names)
    return reading.pixels(
        path, "images", None, spacing=None, stands_for=None, passed_over=problems,
        orientation=orientations.vote(votes).orientation if given == "auto" else given,
        series=f"{many} image{'s' * (many > 1)}, {shape[1]} x {shape[0]} px",
    )  # fmt: skip


def _of_one(path: Path, found: list[Path], wanted: str | None) -> list[Path]:
    """The images of one scan: of one folder, and of one name before the number. `wanted`: a part of these."""
    groups: dict[str, list[Path]] = {}
    for one in found:
        name = NUMBERED.match(one.stem)
        groups.setdefault(f"{Path(_short(path, one)).parent / (name[1] if name else '')}", []).append(one)
    folders = {one.parent for one in found}
    if len(folders) == 1 and (len(groups) > len(found) / 2 or not all(NUMBERED.match(one.stem) for one in found)):
        groups = {"": found}  # names that tell nothing
    if wanted is not None:
        groups = {name: of for name, of in groups.items() if wanted.lower() in name.lower()}
    if len(groups) != 1:
        named = few(sorted(groups), 4) or "none fits --series"
        raise UserError(f"{path} holds images of {len(groups)} scans or patients ({named}); name one folder, or --series TEXT")
    return next(iter(groups.values()))


def _decoded_image(channels: set[int], coloured: bool, named: bool, path: Path) -> dict[int, np.ndarray] | str:
    """The planes of an image by their channels, the one grey plane among them; the problem of one that is no slice."""
    try:
        rgb = pixels.read(path, "RGB")
        if not coloured and (np.ptp(rgb, axis=-1) > COLOURED).mean() > COLOURED_SHARE:
            raise UserError(f"{path} is in colour, perhaps a screenshot, no slice; export grey slices, or give DICOM")
        planes = {1: pixels.read(path, "L")[None]}
        return planes | ({3: rgb.transpose(2, 0, 1)} if 3 in channels else {})
    except UserError as error:
        if named:
            raise
        return str(error).removeprefix(str(path)).strip()


# ---- DICOM


def _dicom(path: Path, found: list[Path], wanted: Wanted) -> Pixels:
    rows, problems = choice.headers(found, wanted.any_values)
    if not rows:
        first, problem = next(iter(problems.items()))
        raise UserError(f"{path}: none of {len(problems)} DICOM file(s) is a slice of CT (first: {first.name} {problem})")
    patients = {row["patient"]: row["image"] for row in rows if row["patient"]}
    if len(patients) > 1:
        two = [_short(path, Path(name)) for name in list(patients.values())[:2]]
        raise UserError(f"{path} holds {len(patients)} patients (files {two[0]} and {two[1]}); name the folder of one")
    series = choice.candidates(rows)
    place = choice.chosen(series, wanted.series, path)
    taken = series[place]
    problems |= {Path(row["image"]): problem for row, problem in taken.left}
    reading, kept = Reading(wanted), []
    for row, hu, facts in _decoded(taken.rows, wanted.intercept, wanted.any_values, problems):
        reading.add(Path(row["image"]), facts.stored, hu, facts)
        kept.append(row)
    if not kept:
        first, problem = next(iter(problems.items()))
        raise UserError(f"{path}: none of {len(taken.rows)} slices can be decoded (first: {first.name} {problem})")
    gap = choice.Candidate(kept, "", False).spacing or kept[0]["thickness"]
    sides, gaps = (kept[0]["spacing_col"], kept[0]["spacing_row"], gap), [row.get("spacing_z") or gap for row in kept]
    known = None not in sides
    made = reading.pixels(
        path, "dicom", choice.affine(kept), spacing=sides if known else None, stands_for=np.array(gaps) if known else None,
        series=taken.words, others=[each.words for number, each in enumerate(series) if number != place],
        passed_over={_short(path, file): problem for file, problem in problems.items()},
        about={name: kept[0][name] for name in ("patient", "study", "series", "study_date") if kept[0][name]},
    )  # fmt: skip
    if choice.unevenness(kept) > UNEVEN:
        made.source.notes.append("gaps between slices differ: volumes count each slice by its own, NIfTI files have the mean gap")
    return made


def _decoded(
    rows: list[Row], intercept: float | None, any_modality: bool, problems: dict[Path, str]
) -> Iterator[tuple[Row, np.ndarray, Facts]]:
    """The slices of rows in their order, files decoded ahead; those that cannot be decoded are added to `problems`."""
    left = Counter(row["image"] for row in rows)
    decoded = zip(list(left), images.decode(list(left), "read", partial(_frames, intercept, any_modality)), strict=True)
    held: dict[str, dict | str] = {}
    for row in rows:
        name = row["image"]
        while name not in held:
            of_file, frames = next(decoded)
            held[of_file] = frames
        frames, left[name] = held[name], left[name] - 1
        if not left[name]:
            del held[name]
        if isinstance(frames, str):
            problems[Path(name)] = frames
        else:
            yield (row, *frames[row["stored"]])


def _frames(intercept: float | None, any_modality: bool, name: str) -> dict[int | None, tuple[np.ndarray, Facts]] | str:
    try:
        return {facts.stored: (hu, facts) for hu, facts in dicom.read(Path(name), intercept, any_modality)}
    except UserError as error:
        return str(error).removeprefix(name).strip()


# ---- NIfTI


def _volume_of(path: Path, found: list[Path], wanted: str | None) -> Path:
    volumes = [one for one in found if path.is_file() or not (MASK_NAMES.search(kinds.stem(one).name) or _is_mask(path, one))]
    if wanted is not None:
        numbered = volumes[int(wanted) - 1 : int(wanted)] if wanted.isdecimal() else []
        volumes = numbered or [one for one in volumes if wanted.lower() in one.name.lower()]
    if len(volumes) != 1:
        named = few([str(one.relative_to(path)) for one in found], 4)
        raise UserError(f"{path} holds {len(found)} NIfTI file(s) ({named}), {len(volumes) or 'none'} may be meant; name one")
    return volumes[0]


def _nifti(path: Path, file: Path, wanted: Wanted) -> Pixels:
    volume, reading = _mapped_volume(file), Reading(wanted)
    for number, (hu, facts) in enumerate(volume.slices()):
        reading.add(file, number, hu, facts)
    if not wanted.any_values and not any(facts.air for facts in reading.facts):
        what = "whole numbers from 0 to 255" if GREY in volume.remarks.split() else "no value near that of air, -1000 HU"
        raise UserError(f"{file} holds {what}: no CT in HU, perhaps MR; --window LEVEL/WIDTH takes its values as they are")
    first, affine = reading.facts[0], volume.shown_affine
    sides = float(np.linalg.norm(affine[:3, 0])), float(np.linalg.norm(affine[:3, 1])), first.spacing_between
    many = len(reading.facts)
    words = f"{first.plane or 'plane unknown'}, {first.spacing_between:.3g} mm, {many} slice{'s' * (many > 1)}"
    made = reading.pixels(file, "nifti", affine, spacing=sides, stands_for=np.full(many, sides[2]), series=words, volume=volume)
    if UNORIENTED in volume.remarks.split():
        made.source.notes.append("the volume does not say where right and left are: it may be mirrored")
    return made


def _mapped_volume(file: Path) -> nifti.Volume:
    """The volume; a packed one is unpacked into a file that is mapped, so that it need not lie in memory."""
    if not file.name.lower().endswith(".nii.gz"):
        return nifti.Volume.read(file)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "volume.nii"
        try:
            with gzip.open(file) as packed, unpacked.open("wb") as whole:
                shutil.copyfileobj(packed, _Counted(whole, file), 1 << 20)
        except (OSError, EOFError, zlib.error) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise UserError(f"{file} cannot be unpacked ({error}); replace the file") from None
        try:
            return nifti.Volume.read(unpacked)
        except UserError as error:
            raise UserError(str(error).replace(str(unpacked), str(file))) from None


class _Counted:
    """A file that stops where a packed one becomes too much."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream, self.path, self.size = stream, path, 0

    def write(self, part: bytes) -> int:
        self.size += len(part)
        limits.stop_if_packed(self.path, self.size)
        return self.stream.write(part)
