"""One trained network, whatever runs it: PyTorch (torch_runners) or ONNX Runtime (onnx_runners). Arrays in, arrays out.

What stands around networks, reading, preparing, resizing, joining of folds, is the same for both and imports no torch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Classifier(Protocol):
    """Tasks 1 and 4."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Of uint8 (b, channels, side, side), grey values as they are cached: float64 (b, classes)."""


class Detector(Protocol):
    """Task 2."""

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        """Of uint8 (h, w) each, of any size: float64 (k, 6) each, as detection.networks.detect gives them."""


class Segmenter(Protocol):
    """Task 3."""

    def patches(self, squares: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Probabilities in windows, uint8 (k, side, side), 255 is 1, as training writes them.

        `squares`: uint8 (n, channels, source_size, source_size); `rows`: int (k,), the square of each window; `places`: float64
        (k, 3), left, top, side of each in its square (segmentation.windows.Windows.places).
        """
