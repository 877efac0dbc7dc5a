"""What networks say of a scan that was read, as in the predicting steps: prepared, fitted into squares, and turned back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from hemoct.data import boxes as data_boxes, fusion, images, prepared
from hemoct.data.named_slices import BY_CHANNELS
from hemoct.prepare import orientation as orientations
from hemoct.prepare.geometry import Geometry
from hemoct.prepare.preparation import Preparation
from hemoct.scan.reading import Look, Mapped, Pixels
from hemoct.scan.result import Label, Masks
from hemoct.scan.runners import Classifier, Task

BATCH = 64  # slices that a classifier sees at once
CHUNK = 32  # slices of tasks 2 and 3 that lie in memory


def look_of(task: Task, window: str | None) -> Look:
    """What a task's networks see of HU; `window`: given by a user instead of that which they learned from."""
    return task.channels, window or task.window or BY_CHANNELS[task.channels]


@dataclass
class Looking:
    """A scan that networks look at; what they see is prepared once for all that see the same."""

    pixels: Pixels
    window: str | None
    """given by a user, see `look_of`"""
    around: Callable[[int], np.ndarray]
    """the rows of a slice's neighbours, by their number on each side: int (n, 2 * context + 1)"""
    notes: list[str] = field(default_factory=list)
    _squares: dict[tuple, tuple[np.ndarray, list[Geometry]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels.paths)

    def preparation(self, task: Task) -> Preparation:
        """How slices are prepared for a task."""
        present = self.pixels.source.orientation
        turns = orientations.turns(present, task.orientation)
        if turns:
            self.notes.append(f"{orientations.words(present)}; turned for models that know the nose {task.orientation}")
        return Preparation(tuple(task.prepare), turns, prepared.bone(task.window))

    def squares(self, task: Task) -> tuple[np.ndarray, list[Geometry]]:
        """All slices as a task's networks see them, uint8 (n, channels, size, size), and how each was turned and cut."""
        done, shown = self.preparation(task), look_of(task, self.window)
        key = (shown, done, task.size)
        if key not in self._squares:
            mapped, geometry = Mapped(np.uint8), []
            for planes in self.pixels.planes[shown]:
                one = done.apply(planes)
                mapped.add(np.stack([images.resize(plane, task.size) for plane in one.planes]))
                geometry.append(one.geometry)
            self._squares[key] = mapped.array(), geometry
        return self._squares[key]

    def stacks(self, task: Task, rows: np.ndarray) -> np.ndarray:
        """Slices with their neighbours as further planes: uint8 (b, planes, size, size)."""
        of_rows = self.squares(task)[0][self.around(task.context)[rows]]
        return of_rows.reshape(len(rows), -1, task.size, task.size)

    # ---- tasks 1 and 4

    def labels(self, task: Task, networks: Sequence[Classifier]) -> list[Label]:
        """The mean probabilities of the networks."""
        total = 0.0
        batches = [np.arange(start, min(start + BATCH, len(self))) for start in range(0, len(self), BATCH)]
        for network in networks:
            total = total + np.concatenate([network.probabilities(self.stacks(task, rows)) for rows in batches])
        mean = total / len(networks)
        return [
            Label(task.model.task, name, mean[:, column], task.thresholds[column], task.rule)
            for column, name in enumerate(task.classes)
        ]

    def heat(self, task: Task, networks: Sequence[Classifier], called: np.ndarray) -> np.ndarray | None:
        """The class activation map of called slices, the mean of the networks': uint8 (n, rows, columns), or None without any."""
        total: dict[int, np.ndarray] = {}
        for network in networks:
            for rows in np.array_split(np.flatnonzero(called), range(BATCH, int(called.sum()), BATCH)):
                small = network.maps(self.stacks(task, rows)) if len(rows) else []
                if small is None:
                    return None
                for row, one in zip(rows.tolist(), small, strict=True):
                    total[row] = one if row not in total else total[row] + _at_side(one, len(total[row]))
        highest = max((float(one.max()) for one in total.values()), default=0.0)
        if not highest:
            return None
        mapped, geometry = Mapped(np.uint8), self.squares(task)[1]
        nothing = np.zeros(self.pixels.source.grey.shape[1:], np.uint8)
        for row in range(len(self)):
            if row not in total:
                mapped.add(nothing)
                continue
            square = np.rint(_at_side(total[row], task.size).clip(0) * (255 / highest)).astype(np.uint8)
            of_slice = geometry[row].image_back(images.restore(square, *geometry[row].size))
            mapped.add(np.rint(self._stored(of_slice.astype(np.float32))))
        return mapped.array()

    # ---- task 2

    def detected(self, task: Task) -> list[list[np.ndarray]]:
        """Boxes by each network on each slice, (k, 6), in square pixels."""
        done, planes = self.preparation(task), self.pixels.planes[look_of(task, self.window)]
        networks = task.load()
        by_model: list[list[np.ndarray]] = [[] for _ in networks]
        for start in range(0, len(self), CHUNK):
            shown = [done.apply(of_slice[:1]) for of_slice in planes[start : start + CHUNK]]
            for of_model, network in zip(by_model, networks, strict=True):
                found = network.boxes([one.planes[0] for one in shown])
                of_model += [one.geometry.boxes_back(boxes) for one, boxes in zip(shown, found, strict=True)]
        return by_model

    def fused(self, by_model: list[list[np.ndarray]]) -> list[np.ndarray]:
        """The boxes of several networks on each slice as one list."""
        height, width = self.pixels.size
        return [fusion.fuse(list(of_slice), width, height) for of_slice in zip(*by_model, strict=True)]

    def unstretched(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes in square pixels as boxes in pixels of the scan."""
        row, column = self.pixels.scale
        return boxes if row == column == 1 else np.column_stack([boxes[:, :4] / [column, row, column, row], boxes[:, 4:]])

    # ---- task 3

    def masks(self, task: Task, detector: Task | None, by_model: list[list[np.ndarray]] | None) -> Masks | None:
        """Masks of the edema and cores; None where they need boxes and there are none. `by_model`: of `detector`, task 2."""
        each, lesions = None, None
        if task.around is not None:
            own = task.around.detector
            if own is not None and not (detector and own.model.weights == detector.model.weights):
                detector, by_model = own, self.detected(own)
            if detector is None or by_model is None:
                return None
            if own is None or len(by_model) != len(task.model.folds):
                by_model = [self.fused(by_model)] * len(task.model.folds)
            least = task.around.least_confidence
            kept = [[fusion.rounded(boxes) for boxes in of_model] for of_model in by_model]
            each = [fusion.at_threshold(of_model, confidence) for of_model, confidence in zip(kept, least, strict=True)]
        if by_model is not None and detector is not None:
            joined = by_model[0] if all(of is by_model[0] for of in by_model) else self.fused(by_model)
            lesions = fusion.at_threshold([fusion.rounded(boxes) for boxes in joined], detector.thresholds[0])
        level, edema, core = task.thresholds[0], Mapped(np.bool_), Mapped(np.bool_)
        for row, probability in enumerate(self._probabilities(task, each)):
            edema.add(self._stored(probability) >= level)
            if lesions is not None:
                core.add(self._core(task, row, lesions[row]))
        return Masks(edema.array(), core.array() if lesions is not None else None, level / 255, task.rule, task.means)

    def _core(self, task: Task, row: int, boxes: np.ndarray) -> np.ndarray:
        """Bright pixels in boxes, in the window that the segmenter sees: another task may see another."""
        from hemoct.segmentation import hematoma  # pandas and more, where there are masks alone

        if not len(boxes):
            return np.zeros(self.pixels.source.grey.shape[1:], bool)
        found = hematoma.core(np.ascontiguousarray(self.pixels.planes[look_of(task, self.window)][row, 0]), boxes[:, :4])
        return self._stored(found.astype(np.float32)) >= 0.5

    def _stored(self, plane: np.ndarray) -> np.ndarray:
        """A plane in square pixels, float32, in pixels of the scan."""
        size = self.pixels.source.grey.shape[:0:-1]
        return plane if plane.shape[::-1] == size else np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))

    def _probabilities(self, task: Task, each: list[list[np.ndarray]] | None) -> Iterator[np.ndarray]:
        """The mean of the networks' probabilities on each slice, float32 0..255, in square pixels. `each`: boxes by network."""
        networks, (_, geometry) = task.load(), self.squares(task)
        for start in range(0, len(self), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self)))
            stacks = self.stacks(task, rows)
            total = np.zeros((len(rows), *self.pixels.size), np.float32)
            for number, network in enumerate(networks):
                if each is None:
                    of, places = np.arange(len(rows)), np.tile([0.0, 0.0, float(task.size)], (len(rows), 1))
                else:
                    boxes = [self._squared(each[number][row], geometry[row], task.size) for row in rows]
                    of = np.repeat(np.arange(len(rows)), [len(of_slice) for of_slice in boxes])
                    places = data_boxes.around(np.concatenate(boxes), task.around.margin, task.around.least_side)
                patches = network.patches(stacks, of, places)
                for index, square in pasted(of, places, patches, task.size):
                    turned = geometry[rows[index]]
                    total[index] += turned.image_back(images.restore(square, *turned.size))
            yield from total / len(networks)

    @staticmethod
    def _squared(boxes: np.ndarray, geometry: Geometry, size: int) -> np.ndarray:
        return data_boxes.to_letterbox(geometry.boxes(boxes[:, :4]), *geometry.size, size)


def _at_side(small: np.ndarray, side: int) -> np.ndarray:
    """A map at another side."""
    return small if len(small) == side else np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR))


# ---- patches pasted into squares, with the numbers of segmentation.windows.paste


def pasted(rows: np.ndarray, places: np.ndarray, patches: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(row, probabilities 0..255 of the square, uint8 (size, size)) for each slice with a window; no torch."""
    for row in dict.fromkeys(rows.tolist()):
        canvas = np.zeros((size, size), np.float32)
        for place in np.flatnonzero(rows == row):
            _paste(canvas, patches[place].astype(np.float32), places[place].astype(int).tolist())
        yield row, canvas.round().astype(np.uint8)


def _paste(canvas: np.ndarray, patch: np.ndarray, window: list[int]) -> None:
    x, y, side = window
    if len(patch) != side:
        patch = resized(patch, side)
    height, width = canvas.shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    if top < bottom and left < right:
        place = canvas[top:bottom, left:right]
        np.maximum(place, patch[top - y : bottom - y, left - x : right - x], out=place)


def resized(patch: np.ndarray, side: int) -> np.ndarray:
    """A float32 patch (k, k) at `side` pixels: bilinear, corners not aligned, as torch.nn.functional.interpolate.

    To the last bit at some 90 pixels and more, where torch rounds a product and a sum at once, as here.
    """
    many, half = len(patch), np.float32(0.5)
    scale = np.float32(many) / np.float32(side)
    at = np.maximum(scale * (np.arange(side, dtype=np.float32) + half) - half, np.float32(0))
    low = np.minimum(at.astype(int), many - 1)
    high, share = np.minimum(low + 1, many - 1), at - low.astype(np.float32)
    rows = _mixed(patch[:, low], patch[:, high], share[None])
    return _mixed(rows[low], rows[high], share[:, None])


def _mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    rest = (np.float32(1) - share).astype(float)
    return (rest * first + share * second).astype(np.float32)
