"""What a scan comes to, in words: the answer that the step prints, the page begins with and scan.json holds. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemoct.prepare import orientation
from hemoct.prepare.geometry import Geometry
from hemoct.scan.result import Label, Scan

NO_DIAGNOSIS = "Research use. No diagnosis: made by models that no one has approved for patients."
YES, NO, PLAIN = "yes", "no", "plain"


@dataclass(frozen=True)
class Line:
    """One answer."""

    asked: str
    said: str
    more: str
    """where that comes from, or what it cannot mean"""
    kind: str = PLAIN
    """YES or NO where it is a decision"""


def lines(scan: Scan) -> list[Line]:
    """The answers, the most asked first: bleeding, where, how much, of which kind; those that a model was given for."""
    said = [_bleeding(scan, scan.bleeding)] if scan.bleeding else []
    said += [_where(scan)] if scan.bleeding or scan.boxes else []
    said += _volumes(scan)
    said += [_types(scan)] if scan.types else []
    return said


def notes(scan: Scan) -> list[str]:
    """What a reader has to know before believing the answers."""
    told = []
    if scan.seen.any():
        told.append(f"{scan.seen.sum()} of {len(scan)} slices were in training or validation of a model: no honest result")
    if scan.source.orientation == orientation.UNKNOWN:
        told.append("the orientation of the head is unknown: taken as the models know it")
    if scan.source.spacing is None:
        told.append("the spacing is unknown: sizes are pixels, no ml")
    return told + list(scan.source.notes)


def slices(rows: np.ndarray) -> str:
    """Numbers of slices from 1, neighbours together: `3-5, 9`."""
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return ", ".join(f"{group[0] + 1}-{group[-1] + 1}" if len(group) > 1 else f"{group[0] + 1}" for group in groups)


def _bleeding(scan: Scan, label: Label) -> Line:
    top, called = int(label.probability.argmax()), int(label.called.sum())
    highest = f"highest probability {label.probability[top]:.2f}, on slice {top + 1} of {len(scan)}"
    more = f"{highest}; called from {label.threshold:.2f} up ({label.rule})"
    if not called:
        return Line(label.name, "no slice is called", more, NO)
    return Line(label.name, f"yes, on {called} of {len(scan)} slices", more, YES)


def _where(scan: Scan) -> Line:
    called = np.flatnonzero(scan.bleeding.called) if scan.bleeding else np.zeros(0, int)
    boxed = np.flatnonzero([len(of_slice) > 0 for of_slice in scan.boxes.each]) if scan.boxes else np.zeros(0, int)
    words = [f"slices {slices(called)}"] if len(called) else []
    words += [side] if len(boxed) and (side := _side(scan)) else []
    more = f"boxes on slices {slices(boxed)}" if len(boxed) else "no box" if scan.boxes else "no model of boxes was given"
    return Line("Where", "; ".join(words) or (more if len(boxed) else "nowhere"), more)


def _side(scan: Scan) -> str:
    """On which side of the image's middle the boxes lie when the nose is up; empty where that is not known."""
    height, width = scan.source.grey.shape[1:]
    if scan.source.orientation == orientation.UNKNOWN:
        return ""
    turned = Geometry(width, height, orientation.turns(scan.source.orientation, "up"))
    boxes = turned.boxes(np.concatenate([of_slice[:, :4] for of_slice in scan.boxes.each]))
    middle = turned.turned_size[0] / 2
    left, right = (boxes[:, 2] < middle).any(), (boxes[:, 0] > middle).any()
    across = ((boxes[:, 0] <= middle) & (boxes[:, 2] >= middle)).any()
    if left and right:
        return "both sides"
    if across:
        return "across the middle" if not (left or right) else f"mostly {_patient(left)}"
    return _patient(left)


def _patient(left: bool) -> str:
    """The patient's right lies at the left of the image in radiology."""
    return f"{'left' if left else 'right'} in the image (the patient's {'right' if left else 'left'}, in radiological convention)"


def _volumes(scan: Scan) -> list[Line]:
    if scan.masks is None:
        return []
    said = []
    for name, mask, more in (
        ("Edema", scan.masks.edema, f"pixels from probability {scan.masks.threshold:.2f} up ({scan.masks.rule})"),
        ("Bleeding core", scan.masks.core, "bright core of the boxes: an estimate that nobody has validated"),
    ):
        if mask is not None:
            value, unit = scan.volume(mask)
            shown = f"{value:.1f} {unit}" if unit == "ml" else f"{value:.0f} {unit}"
            said.append(Line(name, shown, more))
    return said


def _types(scan: Scan) -> Line:
    called = [label for label in scan.types if label.called.any()]
    words = [f"{label.name} ({int(label.called.sum())} slices, up to {label.probability.max():.2f})" for label in called]
    more = "; ".join(dict.fromkeys(label.rule for label in scan.types))
    return Line("Types", ", ".join(words) or "none is called", more, YES if called else NO)
