"""Networks of a bundle, run by ONNX Runtime on the CPU: see hemoct.scan.runners. Imports neither torch nor Ultralytics.

Everything around a graph that it does not hold itself is done as the library does it whose network it was.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hemoct.base.errors import UserError, one_line
from hemoct.data import boxes as data_boxes, fusion

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

BATCH = 4  # slices or windows: more at a time take more memory (four times as many 3.5 times as much) and are no faster
GREY = 114  # of Ultralytics' border
SUPPRESSED = 0.7  # overlap above which Ultralytics drops the less confident box
APART = 7680  # px; boxes of other classes are moved by so much, and suppress nothing
STRIDE = 32


def session(path: Path, threads: int | None) -> InferenceSession:
    """A graph, ready to run with so many threads; None: one for each core that this process may use."""
    import onnxruntime  # not at the top: what is wrong with a bundle is said at once

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions share the cores
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of errors, which have no common class
        raise UserError(f"{path} cannot be run by ONNX Runtime ({one_line(error)}); export the bundle again") from None


class _Network:
    """A graph of a bundle. It is read when it is first needed."""

    def __init__(self, path: Path, image_size: int, threads: int | None) -> None:
        self.path, self.image_size, self.threads = path, image_size, threads

    @cached_property
    def session(self) -> InferenceSession:
        return session(self.path, self.threads)

    def run(self, output: str, **inputs: np.ndarray) -> np.ndarray:
        return self.session.run([output], inputs)[0]


class OnnxClassifier(_Network):
    """Of task 1 or 4."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """See runners.Classifier."""
        return self._of_parts("probabilities", pixels)

    def maps(self, pixels: np.ndarray) -> np.ndarray | None:
        """See runners.Classifier."""
        named = {output.name for output in self.session.get_outputs()}
        return self._of_parts("maps", pixels) if "maps" in named else None

    def _of_parts(self, output: str, pixels: np.ndarray) -> np.ndarray:
        parts = range(0, len(pixels), BATCH)
        return np.concatenate([self.run(output, pixels=np.ascontiguousarray(pixels[at : at + BATCH])) for at in parts])


class OnnxSegmenter(_Network):
    """Of task 3."""

    def patches(self, squares: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See runners.Segmenter."""
        made = [np.zeros((0, self.image_size, self.image_size), np.uint8)]
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            needed, row = np.unique(np.asarray(rows)[part], return_inverse=True)
            squares_of = np.ascontiguousarray(squares[needed])
            made.append(self.run("patches", squares=squares_of, rows=row, places=places[part].astype(np.float32)))
        return np.concatenate(made)


class OnnxBoxes(_Network):
    """Of task 2, torchvision's: one slice at a time, in its square."""

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        """See runners.Detector."""
        from hemoct.data.images import resize

        size = self.image_size
        squared = [self.run("boxes", pixels=resize(each, size)[None, None]) for each in grey]
        return [fusion.strongest(data_boxes.in_pixels(of, each.shape, size)) for of, each in zip(squared, grey, strict=True)]


class OnnxCandidates(_Network):
    """Of task 2, Ultralytics': as its predictor (engine.predictor, data.augment.LetterBox, utils.nms, utils.ops.scale_boxes)."""

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        """See runners.Detector."""
        made = []
        for start in range(0, len(grey), BATCH):
            made += self._of_batch(grey[start : start + BATCH])
        return made

    def _of_batch(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        alike = len({each.shape for each in batch}) == 1
        squared = np.stack([letterbox(each, self.image_size, shrunk=alike) for each in batch])
        candidates = self.run("candidates", pixels=squared[:, None])
        return [self.kept(of, each.shape, squared.shape[1:]) for of, each in zip(candidates, batch, strict=True)]

    @staticmethod
    def kept(candidates: np.ndarray, shape: tuple[int, int], fed: tuple[int, int]) -> np.ndarray:
        """The boxes among candidates (4 + classes, n). `shape`: height and width of the image; `fed`: those of what was fed."""
        least = np.float32(fusion.LEAST_CONFIDENCE)
        place, confidence = candidates[:4].T, candidates[4:].T
        row, number = np.nonzero(confidence > least)  # a box for each class, as in its validation
        half = place[row, 2:] / 2
        corners = np.concatenate([place[row, :2] - half, place[row, :2] + half], axis=1)
        apart = number.astype(np.float32)[:, None] * APART
        kept = fusion.suppressed(corners + apart, confidence[row, number], SUPPRESSED, fusion.MOST_BOXES)
        rows = np.column_stack([corners[kept], confidence[row, number][kept], number[kept].astype(np.float32)])
        rows[:, :4] = in_image(rows[:, :4], shape, fed)
        return fusion.strongest(rows.astype(float))


KINDS = {"classifier": OnnxClassifier, "patches": OnnxSegmenter, "boxes": OnnxBoxes, "candidates": OnnxCandidates}


# ---- Ultralytics' letterbox


def _placed(shape: tuple[int, int], fed: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image of `shape` within what is fed."""
    scale = min(fed[0] / shape[0], fed[1] / shape[1])
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def letterbox(grey: np.ndarray, size: int, shrunk: bool) -> np.ndarray:
    """An image, uint8 (height, width), fitted into a square of `size` px; `shrunk`: less the whole strides of border."""
    height, width = _placed(grey.shape, (size, size))
    if grey.shape != (height, width):
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
    spare = np.array([size - height, size - width])
    spare = (spare % STRIDE if shrunk else spare) / 2
    (top, left), (bottom, right) = (np.round(spare + shift).astype(int) for shift in (-0.1, 0.1))
    return cv2.copyMakeBorder(grey, top, bottom, left, right, cv2.BORDER_CONSTANT, value=GREY)


def in_image(corners: np.ndarray, shape: tuple[int, int], fed: tuple[int, int]) -> np.ndarray:
    """Corners (k, 4) in what was fed, in pixels of the image, cut at its edges. Shapes: height and width."""
    placed = _placed(shape, fed)
    top, left = (round((fed[axis] - placed[axis]) / 2 - 0.1) for axis in (0, 1))
    scale = np.array([placed[1] / shape[1], placed[0] / shape[0]] * 2, dtype=corners.dtype)
    moved = (corners - np.array([left, top, left, top], dtype=corners.dtype)) / scale
    return np.clip(moved, 0, np.array([*shape[::-1]] * 2, dtype=corners.dtype))
