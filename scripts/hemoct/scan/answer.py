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
    return told + _disagreement(scan) + list(scan.source.notes)


def _disagreement(scan: Scan) -> list[str]:
    """The tasks are models of their own, and nothing makes them agree."""
    if scan.bleeding is None:
        return []
    others = {"boxes": any(map(len, scan.boxes.each))} if scan.boxes else {}
    others |= {scan.masks.means: scan.masks.edema.any()} if scan.masks else {}
    called = bool(scan.bleeding.called.any())
    apart = ", ".join(name for name, found in others.items() if bool(found) != called)
    words = f"slices are called, but without {apart}" if called else f"no slice is called, but there are {apart}"
    return [f"the models disagree: {words}"] * bool(apart)


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
    rows = called if scan.bleeding else boxed
    side = _side(scan) if len(boxed) else None
    said = f"slices {slices(rows)}" if len(rows) else "nowhere"
    more = [f"boxes on slices {slices(boxed)}" if len(boxed) else "no box"] if scan.boxes else ["no model of boxes was given"]
    more += [f"{side} of the image with the nose up; {_patient(scan)}"] if side else []
    return Line("Where", f"{said}, {side}" if side and len(rows) else said, "; ".join(more))


def _side(scan: Scan) -> str | None:
    """On which side of the image's middle the boxes lie when the nose is up; None where that is not known."""
    height, width = scan.source.grey.shape[1:]
    if scan.source.orientation == orientation.UNKNOWN:
        return None
    turned = Geometry(width, height, orientation.turns(scan.source.orientation, "up"))
    boxes = turned.boxes(np.concatenate([of_slice[:, :4] for of_slice in scan.boxes.each]))
    middle = turned.turned_size[0] / 2
    left, right = bool((boxes[:, 2] < middle).any()), bool((boxes[:, 0] > middle).any())
    if left == right:
        return "on both sides" if left else "in the middle"
    return "left" if left else "right"


def _patient(scan: Scan) -> str:
    """Which side of the patient lies at the left of the image with the nose up: the header may say otherwise than is usual."""
    if scan.source.affine is None:
        return "in radiology its left is the patient's right"
    to_right = ((1, 0), (0, 1), (-1, 0), (0, -1))[orientation.turns(scan.source.orientation, "up")]  # column, row
    patient = "left" if scan.source.affine[0, :2] @ to_right > 0 else "right"
    return f"by the header its left is the patient's {patient}"


def _volumes(scan: Scan) -> list[Line]:
    if scan.masks is None:
        return []
    said, reached = [], f"pixels from probability {scan.masks.threshold:.2f} up ({scan.masks.rule})"
    for name, mask, more in (
        (scan.masks.means.capitalize(), scan.masks.edema, reached),
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
