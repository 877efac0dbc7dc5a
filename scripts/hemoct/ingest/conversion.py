"""Convert a folder of DICOM files and NIfTI volumes to 8-bit slices: parallel, resumable, in constant memory.

Files are listed in a journal (see conversion_tables), converted by worker processes, and marked as done when their slices are
written. A conversion that was stopped, for whatever reason, continues with the files that are not done. A file that cannot be
converted is listed with the reason and skipped.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from tqdm import tqdm

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.ingest import conversion_tables, dicom, hounsfield, nifti
from hemoct.ingest.conversion_tables import IMAGES, Converted, Journal, Source
from hemoct.ingest.dicom import Facts
from hemoct.ingest.hounsfield import Window

VERSION = 1
CHUNK = 8  # files a worker takes at once; a kill loses at most two chunks a worker
PNG_LEVEL = 1  # of zlib: higher levels take twice the time and save a tenth of the size
NO_SOURCE = {*files.IMAGE_SUFFIXES, ".csv", ".xml", ".txt", ".json", ".html", ".pdf", ".xlsx", ".zip", ".gz"}


@dataclass(frozen=True)
class Settings:
    """What is converted, and how."""

    source: Path
    target: Path
    windows: tuple[Window | None, ...] = (hounsfield.WINDOWS["brain"],)
    """one (grey) or three (channels); None is the window that the file names for itself"""
    intercept: float | None = None
    """HU, for DICOM files whose intercept is missing or 0"""


def is_volume(path: Path) -> bool:
    return path.name.lower().endswith(nifti.SUFFIXES)


def find(folder: Path) -> Iterator[Path]:
    """DICOM files and NIfTI volumes below a folder, relative to it, always in the same order."""
    for path in files.walk(folder):
        if is_volume(path) or is_dicom(folder / path):
            yield path


def is_dicom(path: Path) -> bool:
    """By the suffix, else by the letters DICM after the preamble; a broken file *.dcm counts, so that it is reported."""
    suffix = path.suffix.lower()
    if suffix in dicom.SUFFIXES or suffix in NO_SOURCE or path.name.upper() == "DICOMDIR":
        return suffix in dicom.SUFFIXES
    try:
        return pydicom.misc.is_dicom(path)
    except OSError:  # a broken link or no permission: nobody can say what it is
        return False


def name_of(path: Path) -> str:
    """Where the slices of a source file go: its path below images/, without the suffix of a DICOM or NIfTI file.

    In `1.2.840.77` the last number is no suffix, though it looks like one.
    """
    plain = path.with_suffix("") if path.suffix.lower() in dicom.SUFFIXES else nifti.stem(path)
    return f"{IMAGES}/{plain.as_posix()}"


def convert(settings: Settings, workers: int) -> conversion_tables.Summary:
    """Convert all files that are not converted yet, then write the tables. Stops when no file could be converted."""
    with closing(Journal(settings.target)) as journal:
        journal.begin(f"{VERSION} {settings.source} {settings.windows} {settings.intercept}")
        for unfinished in (settings.target / IMAGES).rglob(".tmp-*"):  # of workers that were killed
            unfinished.unlink()
        journal.list_sources(settings.source, (Source(path.as_posix(), name_of(path)) for path in find(settings.source)))
        total, done = journal.counts()
        if done:
            print(f"{done} of {total} files are already converted")
        with tqdm(total=total, initial=done, desc="convert", unit="file", disable=None) as bar:
            for results in _converted(journal.waiting(), settings, workers):
                journal.add(results)
                bar.update(len(results))
        summary = conversion_tables.write(journal, settings.target)
    journal.path.unlink()
    return summary


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
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
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


def _start_worker() -> None:
    """A worker ends when its parent ends or is killed; Ctrl-C stops the parent alone; odd files cause no warnings."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


def convert_chunk(chunk: list[Source], settings: Settings) -> list[Converted]:
    return [convert_one(source, settings) for source in chunk]


def convert_one(source: Source, settings: Settings) -> Converted:
    """Write the slices of one file. A file that is no CT is returned with its problem; a full disk is an OSError."""
    path = settings.source / source.path
    written = []
    try:
        for name, hu, facts in _slices(path, source, settings):
            grey = to_grey(path, hu, facts, settings.windows)
            image = f"{name}.png"
            with files.replacing(settings.target / image) as temporary:
                Image.fromarray(grey).save(temporary, format="PNG", compress_level=PNG_LEVEL)
            written.append((image, _identified(facts, source)))
    except UserError as error:
        return Converted(source.path, problem=str(error).removeprefix(str(path)).strip())
    return Converted(source.path, tuple(written))


def _slices(path: Path, source: Source, settings: Settings) -> Iterator[tuple[str, np.ndarray, Facts]]:
    if is_volume(path):
        for number, (hu, facts) in enumerate(nifti.read(path)):
            yield f"{source.name}_{number:03d}", hu, facts
    else:
        # With the file's own window the values need not be HU.
        yield source.name, *dicom.read(path, settings.intercept, any_modality=None in settings.windows)


def _identified(facts: Facts, source: Source) -> Facts:
    """The facts with a patient, a study and a series, which the tables need."""
    place = Path(source.name).relative_to(IMAGES)
    study = facts.study or facts.series or (place.parent if facts.sop else place).as_posix()
    return replace(facts, study=study, series=facts.series or study, patient=facts.patient or study)


def to_grey(path: Path, hu: np.ndarray, facts: Facts, windows: tuple[Window | None, ...]) -> np.ndarray:
    """HU as uint8 grey, see hounsfield.to_grey. None is the file's own window; a file that names none stops."""
    windows = tuple(facts.window if window is None else window for window in windows)
    if None in windows:
        raise UserError(f"{path} names no window of its own; choose another --window")
    return hounsfield.to_grey(hu, windows)
