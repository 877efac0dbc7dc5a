"""What most of the time of a step is spent on, made short where a test is about something else."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from hemoct.detection import lesions
from hemoct.evaluation import bootstrap


def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but saved as a single pixel."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Image.new("L", (1, 1)).save(path, "PNG"))


def evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals rest on a hundred resamples, and figures are drawn but not rendered."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 100)
    figures(monkeypatch)


def linking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `evaluations`, and boxes are linked by one of four pairs of shares."""
    monkeypatch.setattr(lesions, "SHARES", {"confidence": (0.0, 0.3), "corners": (0.0, 0.3)})
    evaluations(monkeypatch)
