"""Where the nose points in axial slices of heads, and how to turn them: found from grey values alone.

Heads are about symmetric in left and right, and longer from front to back: that gives the axis. Front and back differ in three
ways: the skull is narrower in front, air (sinuses, beside the nose) lies in front, a head holder behind. Each slice weighs
these; a patient sums the weights of its slices, and patients vote. Nothing is guessed where they do not agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from hemoct.prepare import head as heads
from hemoct.prepare.options import KNOWN, UNKNOWN

LEAST_AREA = 0.06  # of an image, that a head covers; a vertex is round
MARGIN = 1.0  # by which the weight of a direction exceeds the next: of less certain slices nothing is concluded
AGREED, VOTES = 2 / 3, 5
"""share of the votes that a direction needs, and how many votes there have to be"""
AIR, BRIGHT = 8, 60
SYMMETRY, LENGTH, SKEW, AIR_SHARE, HOLDER = 0.1, 0.1, 0.05, 0.02, 0.25
"""of each sign, what counts as much: measured once on slices with the nose to the left, tried on others with the nose up"""


@dataclass(frozen=True)
class Found:
    """The orientation of a data set, or of a patient."""

    orientation: str
    """one of KNOWN, or UNKNOWN"""
    share: float
    """of the votes for the direction that has most"""
    votes: int

    def __str__(self) -> str:
        agree = f"{self.share:.0%} of {self.votes} agree"
        return f"orientation: {words(self.orientation)} ({agree})"


def words(orientation: str) -> str:
    """An orientation as people read it."""
    return f"nose {orientation}" if orientation in KNOWN else orientation


def turns(present: str | None, wanted: str | None) -> int:
    """Quarter turns against the clock from one orientation to the other: 0..3; 0 where one of them is not known."""
    if present not in KNOWN or wanted not in KNOWN:
        return 0
    return (KNOWN.index(wanted) - KNOWN.index(present)) % 4


def vote(slices: Iterable[tuple[str, np.ndarray | None]]) -> Found:
    """The orientation of slices, (patient, `weights`) each, by a vote of the patients, or of the slices of few.

    UNKNOWN where fewer than AGREED of the votes are for one direction, or there are fewer than VOTES of them.
    """
    sums: dict[str, np.ndarray] = {}
    single = []
    for patient, weight in slices:
        if weight is not None and _is_certain(weight):
            single.append(weight)
            sums[patient] = sums.get(patient, 0) + weight
    each = list(sums.values()) if len(sums) >= VOTES else single
    count = np.bincount([int(weight.argmax()) for weight in each], minlength=4)
    share = float(count.max() / max(1, len(each)))
    sure = len(each) >= VOTES and share >= AGREED
    return Found(KNOWN[count.argmax()] if sure else UNKNOWN, share, len(each))


def _is_certain(weight: np.ndarray) -> bool:
    first, second = np.sort(weight)[:-3:-1]
    return bool(first - second >= MARGIN)


def weights(grey: np.ndarray) -> np.ndarray | None:
    """How much speaks for each direction of KNOWN, float (4,); None where no head is seen, or too little of one."""
    found = heads.find(grey)
    if found is None or found.mask.mean() < LEAST_AREA:
        return None
    rows, columns = np.nonzero(found.mask)
    centre = np.array([rows.mean(), columns.mean()])
    along_y = np.tanh(_symmetry(found, centre) / SYMMETRY) + np.tanh(np.log(np.ptp(rows) / np.ptp(columns)) / LENGTH)
    up, left = (
        np.tanh(-np.array([_skew(rows), _skew(columns)]) / SKEW)
        + np.tanh(_air(found, centre) / AIR_SHARE)
        + np.tanh(_outside(found, centre) / HOLDER)
    )
    return np.array([along_y + up, left - along_y, along_y - up, -left - along_y])


def _symmetry(found: heads.Head, centre: np.ndarray) -> float:
    """How much more a head is like its mirror image in x than in y: -2..2."""
    shown = np.where(found.mask, found.small, 0)
    reach = max(shown.shape)
    row, column = (round(place) for place in centre)
    around = np.pad(shown, reach)[row : row + 2 * reach + 1, column : column + 2 * reach + 1].astype(float)
    around -= around.mean()  # a mirror image has the same mean and variance: what is left of Pearson's correlation
    return float(((around * around[:, ::-1]).sum() - (around * around[::-1]).sum()) / (around * around).sum())


def _skew(places: np.ndarray) -> float:
    """Skewness: below 0 where the narrow end lies at low places."""
    count = np.bincount(places)
    deviation = np.arange(len(count)) - places.mean()
    moments = [np.average(deviation**power, weights=count) for power in (2, 3)]
    return float(moments[1] / moments[0] ** 1.5)


def _air(found: heads.Head, centre: np.ndarray) -> np.ndarray:
    """How far above, and to the left of, the centre the air lies in the head's hull: float (2,)."""
    places = np.argwhere(heads.hull(found.mask) & (found.small < AIR))
    reach = np.sqrt(found.mask.sum() / np.pi)
    return (centre - places).sum(axis=0) / (found.mask.sum() * reach)


def _outside(found: heads.Head, centre: np.ndarray) -> np.ndarray:
    """How far below, and to the right of, the centre bright things lie outside of the head: float (2,)."""
    near = cv2.dilate(found.mask.astype(np.uint8), heads.disc(2)).astype(bool)
    places = np.argwhere((found.small > BRIGHT) & ~near)
    return (places - centre).sum(axis=0) / found.mask.size
