"""Everything that models say of a scan, from one reading: `predict(path, models) -> Scan`. Imports no torch by itself.

    from hemoct.scan.predict import predict
    scan = predict(Path("ct/series"), Path("outputs/phe-sich"))
    scan.bleeding.probability, scan.masks.edema      # float64 (n,), bool (n, rows, columns) in the scan's own matrix
    scan.volume(scan.masks.edema)                    # (12.3, "ml")

Probabilities, boxes and masks are those of the predicting steps of the four tasks on the same slices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hemoct.base.errors import UserError
from hemoct.ct import windows as ct_windows
from hemoct.data import fusion
from hemoct.scan import choose, source
from hemoct.scan.looking import Looking, look_of
from hemoct.scan.reading import Pixels, Wanted
from hemoct.scan.result import Boxes, Scan
from hemoct.scan.runners import Models

NO_MAP = "where the classifier looks is not shown: its network gives no map (of an exported one its last layer alone can)"


@dataclass(frozen=True, kw_only=True)
class How:
    """How a scan is read and what of it is predicted."""

    series: str | None = None
    """one of several series: its number as they are listed, or a part of its words"""
    window: str | None = None
    """in which values are shown instead of those that the models learned from (ct.windows.parse_windows)"""
    intercept: float | None = None
    """HU, for DICOM files whose intercept is missing or 0"""
    orientation: str = "auto"
    """where the nose points; auto: as the header says, or by the grey values of images"""
    spacing: tuple[float, float, float] | None = None
    """mm between rows, columns and slices, for files that do not say it"""
    heat: bool = True
    """whether class activation maps are made"""


def predict(path: Path | str, models: Models | Path | str | Sequence[Path], how: How = How()) -> Scan:
    """What `models` say of the scan at `path`: a folder, a DICOM series, a NIfTI volume or a single file.

    `models`: chosen by scan.choose.models, or the folders from which it is to choose: outputs/NAME of a data set, or a bundle.
    Raises hemoct.base.errors.UserError, one line, where the path holds no scan of a head or the folders no models.
    """
    if not isinstance(models, Models):
        places = [models] if isinstance(models, Path | str) else models
        models = choose.models([Path(place) for place in places], choose.Which())
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading"):
        pixels = read(Path(path), models, how)
    return look(pixels, models, how, seconds)


def read(path: Path, models: Models, how: How) -> Pixels:
    """The scan as the models' networks see it; no network is loaded."""
    first = models.tasks[0]
    _stop_if_too_many_windows(models, how.window)
    detectors = [task.around.detector for task in models.tasks if task.around and task.around.detector]
    each = [look_of(task, how.window) for task in (*models.tasks, *detectors)]
    looks = dict.fromkeys([(1, look_of(first, how.window)[1]), *each])
    return source.read(path, Wanted(
        looks=list(looks), series=how.series, intercept=how.intercept, any_values=how.window is not None,
        orientation=how.orientation, spacing=how.spacing,
    ))  # fmt: skip


def _stop_if_too_many_windows(models: Models, window: str | None) -> None:
    """Three windows as one channel are their mixture, which only those models know that learned from it."""
    grey = [str(task.model.task) for task in models.tasks if task.channels == 1 and task.window != window]
    if window is not None and grey and len(ct_windows.parse_windows(window)) == 3:
        raise UserError(f"--window {window}: the models of task {', '.join(grey)} see slices of one channel; give one window")


def look(pixels: Pixels, models: Models, how: How, seconds: dict[str, float]) -> Scan:
    """What the networks say of a scan that was read. `seconds`: of what was done until now."""
    seen, rows = _known(pixels, models)
    one = Looking(pixels, how.window, rows)
    bleeding, types, heat, found, masks, by_model = None, [], None, None, None, None
    if task := models.of(1):
        with _timed(seconds, "task 1"):
            networks = task.load()
            (bleeding,) = one.labels(task, networks)
        with _timed(seconds, "maps"):
            heat = one.heat(task, networks, bleeding.called) if how.heat else None
    if task := models.of(4):
        with _timed(seconds, "task 4"):
            types = one.labels(task, task.load())
    if task := models.of(2):
        with _timed(seconds, "task 2"):
            by_model = one.detected(task)
            each = fusion.at_threshold(one.fused(by_model), task.thresholds[0])
            found = Boxes([one.unstretched(of_slice) for of_slice in each], task.classes, task.thresholds[0], task.rule)
    if task := models.of(3):
        with _timed(seconds, "task 3"):
            masks = one.masks(task, models.of(2), by_model)
    said = [*one.notes]
    said += ["no masks: they need boxes to look around"] * (masks is None and models.of(3) is not None)
    said += [NO_MAP] * bool(how.heat and heat is None and bleeding is not None and bleeding.called.any())
    pixels.source.notes.extend(dict.fromkeys([*said, *_unmarked(models)]))
    return Scan(pixels.source, [task.model for task in models.tasks], seen, bleeding, types, found, masks, heat, seconds)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - start


def _known(pixels: Pixels, models: Models) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """Which slices a network had in training or validation, bool (n,); and the rows of the slices around each."""
    n = len(pixels.paths)
    seen, around = np.zeros(n, bool), partial(_neighbours, n)
    for work in dict.fromkeys(work for work, _ in models.learned):
        if not (work.work / "labels.csv").exists():
            continue
        from hemoct.data import named_images, named_slices  # tables of a data set: a bundle needs none

        places = {path: named_images.Place("", "scan", row) for row, path in enumerate(pixels.paths)}
        specs = [learned for of, learned in models.learned if of == work]
        known = named_images.look_up(work, pixels.paths, specs, places, named_slices.converted(work))
        row_of = {str(path): row for row, path in enumerate(pixels.paths)}
        order = np.array([row_of[name] for name in known.table["image"]])
        seen[order] |= known.seen
        if (known.table["image_id"] != "").any():
            around = partial(_ordered, order, known.neighbours)
    return seen, around


def _unmarked(models: Models) -> list[str]:
    """Of which models nobody can say what they learned from: without a word, slices of their training would pass for new ones."""
    known = {work.dataset for work, _ in models.learned if (work.work / "labels.csv").exists()}
    lost = [str(task.model.task) for task in models.tasks if task.model.dataset not in known]
    return [f"not known: whether models of task {', '.join(lost)} learned from slices of this scan"] * bool(lost)


def _neighbours(n: int, context: int) -> np.ndarray:
    return np.clip(np.arange(n)[:, None] + np.arange(-context, context + 1), 0, n - 1)


def _ordered(order: np.ndarray, neighbours: Callable[[int], np.ndarray], context: int) -> np.ndarray:
    made = np.empty((len(order), 2 * context + 1), int)
    made[order] = order[neighbours(context)]
    return made
