"""Networks of a scan that see blood by its grey value alone, without torch: all four tasks, a fold or more of each."""

import numpy as np

from hemoct.scan.result import Model
from hemoct.scan.runners import Around, Models, Task

BLOOD = (215, 235)
"""grey values of dicom_files.BLOOD in the brain window, and their noise"""
LEAST = 4


def is_blood(grey: np.ndarray) -> np.ndarray:
    return (grey >= BLOOD[0]) & (grey <= BLOOD[1])


class SeesBlood:
    """A classifier, a detector and a segmenter in one."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Of one class: `share` where the middle plane shows more than LEAST pixels of blood."""
        middle = pixels[:, pixels.shape[1] // 2]
        return (is_blood(middle).sum(axis=(1, 2), dtype=float)[:, None] > LEAST) * self.share

    def maps(self, pixels: np.ndarray) -> np.ndarray:
        return is_blood(pixels[:, 0]).astype(np.float32)

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        return [self._box(is_blood(one)) for one in grey]

    def _box(self, blood: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(blood)
        if len(rows) <= LEAST:
            return np.zeros((0, 6))
        return np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, self.share, 0]], dtype=float)

    def patches(self, squares: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Blood in windows of whole pixels, which may reach beyond the square; all of one side."""
        side, reach = int(places[0, 2]) if len(places) else 1, squares.shape[-1]
        wide = np.pad(squares[:, squares.shape[1] // 2], ((0, 0), (reach, reach), (reach, reach)))
        cut = [wide[row, int(y) + reach :, int(x) + reach :][:side, :side] for row, (x, y, _) in zip(rows, places, strict=True)]
        return np.stack([is_blood(one) * np.uint8(255) for one in cut]) if cut else np.zeros((0, 1, 1), np.uint8)


def task(number: int, orientation: str = "up", size: int = 64, folds: int = 1, **more) -> Task:
    """A task whose networks know heads with the nose `orientation`."""
    model = Model(number, f"e{number}", "toy", list(range(folds)), "", [f"{number}{fold}" for fold in range(folds)])
    usual = {
        "model": model, "size": size, "channels": 1, "context": 0, "window": "brain", "prepare": [], "orientation": orientation,
        "classes": {1: ["hemorrhage"], 2: ["a"], 3: [], 4: ["IPH"]}[number], "thresholds": [128.0 if number == 3 else 0.5],
        "rule": "given", "load": lambda: [SeesBlood() for _ in range(folds)],
    }  # fmt: skip
    return Task(**usual | more)


def models(orientation: str = "up", size: int = 64, tasks: tuple[int, ...] = (1, 2, 3, 4)) -> Models:
    return Models([task(number, orientation, size) for number in tasks], [], [], [])


def around(size: int = 64) -> Around:
    """Windows of the whole square around boxes of the scan's own detector."""
    return Around(0.0, size, [0.01], None)
