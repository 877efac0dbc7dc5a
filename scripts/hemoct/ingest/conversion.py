"""Convert a folder of DICOM files and NIfTI volumes to 8-bit slices: parallel, resumable, in constant memory.

Files are listed in a journal (see conversion_tables), converted by worker processes, and marked as done when their slices are
written. A conversion that was stopped, for whatever reason, continues with the files that are not done. A file that cannot be
converted is listed with the reason and skipped. Slices whose pixels are longer one way than the other are stretched to square
ones, with their masks: a head must not look squashed. Masks keep their values; each of their connected parts gets a box.

Shards are parts of the files, by the hash of their names, each converted by a job with a journal of its own. What is decided
across files (order, series, passes, numbers) is decided when the tables are written, from the journals of all.
"""

import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from hemoct.base import files, limits, pixels
from hemoct.base.errors import UserError
from hemoct.ct import dicom, hounsfield, kinds, nifti, stack, windows as ct_windows
from hemoct.ct.facts import Facts
from hemoct.ct.windows import Window
from hemoct.ingest import conversion_tables, image_names
from hemoct.ingest.conversion_tables import IMAGES, MASKS, Converted, Journal, Source, Written
from hemoct.ingest.options import Shard

VERSION = 2
CHUNK = 8  # files a worker takes at once; a kill loses at most two chunks a worker
PNG_LEVEL = 1  # of zlib: higher levels take twice the time and save a tenth of the size
EVEN = 0.01  # sides of a pixel that differ by less are equal
MOST_STRETCH = 10  # sides that differ more are a broken tag


@dataclass(frozen=True)
class Settings:
    """What is converted, and how."""

    source: Path
    target: Path
    windows: tuple[Window | None, ...] = (ct_windows.WINDOWS["brain"],)
    """one (grey) or three (channels); None is the window that the file names for itself"""
    intercept: float | None = None
    """HU, for DICOM files whose intercept is missing or 0"""
    masks: Mapping[str, str] = field(default_factory=dict)
    """the mask of a volume, by the volume; paths below `source`"""
    patients: Mapping[str, str] = field(default_factory=dict)
    """the patient of a volume: such a file does not say"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """files that are not converted, each with the reason"""


def find(folder: Path) -> Iterator[Path]:
    """DICOM files and NIfTI volumes below a folder, relative to it, always in the same order."""
    for path in files.walk(folder):
        if image_names.is_source(folder / path):
            yield path


def name_of(path: Path) -> str:
    """Where the slices of a source file go: its path below images/, without the suffix of a DICOM or NIfTI file.

    In `1.2.840.77` the last number is no suffix, though it looks like one.
    """
    plain = path.with_suffix("") if path.suffix.lower() == kinds.GZ and not kinds.is_volume(path) else path
    plain = plain.with_suffix("") if plain.suffix.lower() in kinds.DICOM | kinds.TIFF else kinds.stem(plain)
    return f"{IMAGES}/{plain.as_posix()}"


def convert(settings: Settings, workers: int) -> conversion_tables.Summary:
    """Convert all files that are not converted yet, then write the tables. Stops when no file could be converted.

    Where there are shards they must have converted all of them.
    """
    shards = _shards(settings.target)
    with closing(Journal(settings.target)) as journal:
        _list(journal, settings)
        _gather(journal, shards)
        for unfinished in (settings.target / IMAGES).rglob(".tmp-*"):  # of workers that were killed
            unfinished.unlink()
        _work(journal, settings, workers)
        summary = conversion_tables.write(journal, settings.target, settings.left_out)
    os.sync()  # the slices are on the disk before the journals, which know them, are gone
    for path in (*shards.values(), journal.path):
        path.unlink()
    return summary


def convert_shard(settings: Settings, workers: int, shard: Shard) -> str:
    """Convert the files of a shard that are not converted yet; says how many there are. `convert` ends the conversion."""
    if others := [each for each in _shards(settings.target) if each.of != shard.of]:
        raise UserError(f"{settings.target} holds shard {others[0]}: go on with --shard I/{others[0].of}, or delete the folder")
    with closing(Journal(settings.target, f"journal-{shard.number}-of-{shard.of}.sqlite")) as journal:
        _list(journal, settings, shard)
        _work(journal, settings, workers)
        total, _ = journal.counts()
    os.sync()
    return f"shard {shard}: {total} files"


def _list(journal: Journal, settings: Settings, shard: Shard | None = None) -> None:
    plan = json.dumps([settings.masks, settings.patients], sort_keys=True)
    journal.begin(f"{VERSION} {settings.source} {settings.windows} {settings.intercept} {plan} {conversion_tables.FACTS}")
    journal.list_sources(settings.source, _sources(settings, shard))


def _work(journal: Journal, settings: Settings, workers: int) -> None:
    total, done = journal.counts()
    if done:
        print(f"{done} of {total} files are already converted")
    with tqdm(total=total, initial=done, desc="convert", unit="file", disable=None) as bar:
        for results in _converted(journal.waiting(), settings, workers):
            journal.add(results)
            bar.update(len(results))


def _shards(target: Path) -> dict[Shard, Path]:
    """The shards in a folder and their journals, all of one number."""
    found = {path: path.stem.split("-") for path in sorted((target / conversion_tables.FOLDER).glob("journal-*-of-*.sqlite"))}
    shards = {Shard(int(words[1]), int(words[3])): path for path, words in found.items()}
    if len(counts := sorted({shard.of for shard in shards})) > 1:
        raise UserError(f"{target} holds shards of {counts[0]} and of {counts[1]}; delete the journals of one kind")
    return shards


def _gather(journal: Journal, shards: dict[Shard, Path]) -> None:
    """Take over what shards have converted. Stops where one is missing, unfinished, or was made of other files."""
    gone = {shard: file for shard, path in shards.items() if (file := journal.take(path))}
    waiting = next(journal.waiting(), None)
    if gone or (shards and waiting):
        shard = next(iter(gone)) if gone else Shard.that_holds(waiting.name, next(iter(shards)).of)
        what = f"was made of other files, or not to its end (first: {gone.get(shard) or waiting.path})"
        what = what if shard in shards else f"is missing in {journal.path.parents[1]}"
        raise UserError(f"shard {shard} {what}; run the same command with --shard {shard}, then again without it")


def _sources(settings: Settings, shard: Shard | None) -> Iterator[Source]:
    """The files to convert: all but those that are left out and the masks, which are read with their volumes.

    A shard has those whose slices' name says so: `1` and `1.dcm`, which would both be images/1.png, lie in one.
    """
    passed_over = {*settings.masks.values(), *settings.left_out}
    for path in find(settings.source):
        name, slices = path.as_posix(), name_of(path)
        if name not in passed_over and (shard is None or Shard.that_holds(slices, shard.of) == shard):
            yield Source(name, slices, settings.masks.get(name, ""), settings.patients.get(name, ""))


def _converted(jobs: Iterable[Source], settings: Settings, workers: int) -> Iterator[list[Converted]]:
    """Results in chunks, in the order in which they get ready. Never more than two chunks a worker are in progress."""
    jobs = iter(jobs)
    chunks = iter(lambda: list(islice(jobs, CHUNK)), [])
    if workers == 1:
        with warnings.catch_warnings(action="ignore"):
            yield from (convert_chunk(chunk, settings) for chunk in chunks)
        return
    # Not forked: a fork would copy threads and locks of libraries in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(limits.megapixels,))
    running: set[Future[list[Converted]]] = set()
    try:
        for chunk in chunks:
            running.add(pool.submit(convert_chunk, chunk, settings))
            if len(running) >= 2 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps because memory ran out; run the same command again with fewer --workers, "
            "it continues where it stopped"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(megapixels: float) -> None:
    """A worker ends when its parent ends or is killed; Ctrl-C stops the parent alone; odd files cause no warnings."""
    limits.megapixels = megapixels
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


def convert_chunk(chunk: list[Source], settings: Settings) -> list[Converted]:
    return [convert_one(source, settings) for source in chunk]


def convert_one(source: Source, settings: Settings) -> Converted:
    """Write the slices of one file. A file that is no CT is returned with its problem; a full disk is an OSError."""
    path = settings.source / source.path
    mask, written, problem = None, [], ""
    try:
        volume = nifti.Volume.read(path) if kinds.is_volume(path) else None
        if source.mask:
            mask, problem = _mask_of(volume, settings.source / source.mask)
        found = volume.slices() if volume else _slices(path, settings)
        for number, (hu, facts) in enumerate(found):
            name = source.name if facts.stored is None else f"{source.name}_{number:03d}"
            hu, facts = square(path, hu, facts)
            image = _save(settings.target / f"{name}.png", to_grey(path, hu, facts, settings.windows), settings.target)
            of_mask = None if mask is None else stretch(nifti.shown(mask, number), facts, order=0)
            written.append(_written(settings.target, image, of_mask, _identified(facts, source)))
    except UserError as error:
        left = "belongs to a volume that is skipped" if source.mask else ""
        return Converted(source.path, problem=_reason(error, path), mask_problem=left)
    return Converted(source.path, tuple(written), mask_problem=problem)


def _slices(path: Path, settings: Settings) -> Iterator[tuple[np.ndarray, Facts]]:
    if path.suffix.lower() in kinds.TIFF:
        return stack.slices(path)
    # With the file's own window the values need not be HU.
    return dicom.read(path, settings.intercept, any_modality=None in settings.windows)


def _mask_of(volume: nifti.Volume, path: Path) -> tuple[np.ndarray | None, str]:
    """The mask of a volume, or None and why it cannot be used."""
    try:
        return volume.mask(path), ""
    except UserError as error:
        return None, _reason(error, path)


def _reason(error: UserError, path: Path) -> str:
    return str(error).removeprefix(str(path)).strip()


def _save(path: Path, grey: np.ndarray, target: Path, text: PngInfo | None = None) -> str:
    """Write a PNG whole or not at all; returns its path below `target`."""
    with files.replacing(path, durable=False) as temporary:
        Image.fromarray(grey).save(temporary, format="PNG", compress_level=PNG_LEVEL, pnginfo=text)
    return path.relative_to(target).as_posix()


def _written(target: Path, image: str, mask: np.ndarray | None, facts: Facts) -> Written:
    if mask is None:
        return Written(image, facts)
    path, text = target / MASKS / Path(image).relative_to(IMAGES), PngInfo()
    for key, value in pixels.MARK.items():
        text.add_text(key, value)
    return Written(image, facts, _save(path, np.ascontiguousarray(mask), target, text), tuple(nifti.parts(mask)))


def square(path: Path, hu: np.ndarray, facts: Facts) -> tuple[np.ndarray, Facts]:
    """A slice whose pixels are square: stretched along their longer side if they were not."""
    if not facts.spacing_row or not facts.spacing_col:
        return hu, facts
    sides = np.array([facts.spacing_row, facts.spacing_col])
    if not EVEN < sides.max() / sides.min() - 1 < MOST_STRETCH:
        return hu, facts
    before = np.array(hu.shape)
    after = (before * sides / sides.min()).round()
    limits.stop_if_large(path, *after[::-1].astype(int))
    scale, spacing = (after / before).tolist(), (sides * before / after).tolist()
    facts = replace(facts, scale_row=scale[0], scale_col=scale[1], spacing_row=spacing[0], spacing_col=spacing[1])
    return stretch(hu, facts, order=1), facts


def stretch(plane: np.ndarray, facts: Facts, order: int) -> np.ndarray:
    """Pixels of a file (rows, columns) as `square` stretched that slice; order 0 keeps the values of a mask."""
    if facts.scale_row == facts.scale_col == 1:
        return plane
    from scipy import ndimage

    return ndimage.zoom(plane, (facts.scale_row, facts.scale_col), order=order, mode="nearest", grid_mode=True)


def _identified(facts: Facts, source: Source) -> Facts:
    """The facts with a patient, a study and a series, which the tables need."""
    place = Path(source.name).relative_to(IMAGES)
    study = facts.study or facts.series or (place.parent if facts.sop else place).as_posix()
    return replace(facts, study=study, series=facts.series or study, patient=facts.patient or source.patient or study)


def to_grey(path: Path, hu: np.ndarray, facts: Facts, windows: tuple[Window | None, ...]) -> np.ndarray:
    """HU as uint8 grey, see hounsfield.to_grey; uint8 is so already. None is the file's own window; a file without one stops."""
    if hu.dtype == np.uint8:
        return hu
    windows = tuple(facts.window if window is None else window for window in windows)
    if None in windows:
        raise UserError(f"{path} names no window of its own; choose another --window")
    return hounsfield.to_grey(hu, windows)
