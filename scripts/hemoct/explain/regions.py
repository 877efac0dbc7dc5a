"""Where a map points, which regions it shows, where the head is: all in the square that a network sees, side in pixels.

A map counts relative to its own maximum. A black map, without any heat, points nowhere and shows no region.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from hemoct.prepare import head as heads

SPECK = 0.1
"""a region with less than this share of the heat of the strongest one is left out"""
NOTHING = np.zeros((0, 6))
GRID = np.linspace(0.05, 0.95, 19)
"""thresholds among which validation chooses"""


@dataclass(frozen=True)
class Shown:
    """What a map, or a detector, says of an image."""

    heat: np.ndarray
    """float32 (side, side), none below 0"""
    peak: tuple[float, float] | None
    """x, y of its maximum"""
    boxes: np.ndarray
    """of its regions: xmin, ymin, xmax, ymax, confidence, 0; float64 (k, 6), the strongest first"""
    region: np.ndarray
    """bool (side, side)"""


@dataclass(frozen=True)
class Truth:
    """What is known of an image."""

    boxes: np.ndarray
    """float64 (k, 4); none where k is 0"""
    mask: np.ndarray | None
    """bool (side, side)"""
    head: np.ndarray
    """bool (side, side), see `head`"""


def enlarge(small: np.ndarray, side: int) -> np.ndarray:
    """A map (k, k) at `side` pixels, interpolated linearly, its maximum 1; black where it has no heat."""
    large = np.asarray(Image.fromarray(small.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)).clip(0)
    highest = large.max()
    return large / highest if highest > 0 else np.zeros_like(large)


def of_heat(heat: np.ndarray, threshold: float) -> Shown:
    """What a map says, whose regions are what reaches the threshold."""
    if not heat.max() > 0:
        return Shown(heat, None, NOTHING, np.zeros(heat.shape, bool))
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    labelled, count = ndimage.label(heat >= threshold)
    numbers = np.arange(1, count + 1)
    sums, highest = (np.asarray(of(heat, labelled, numbers)) for of in (ndimage.sum_labels, ndimage.maximum))
    kept = [number for number in np.argsort(-sums, kind="stable") if sums[number] >= SPECK * sums.max()]
    places = ndimage.find_objects(labelled)
    boxes = [[places[n][1].start, places[n][0].start, places[n][1].stop, places[n][0].stop, highest[n], 0] for n in kept]
    return Shown(heat, (x + 0.5, y + 0.5), np.array(boxes, dtype=float), np.isin(labelled, numbers[kept]))


def of_boxes(boxes: np.ndarray, side: int, threshold: float) -> Shown:
    """What a detector says: heat is the confidence of its boxes (k, 6), the most confident first, the peak the middle of that."""
    heat = np.zeros((side, side), np.float32)
    for box in boxes[::-1]:
        heat = np.maximum(heat, box[4] * within(box[None, :4], side))
    kept = boxes[boxes[:, 4] >= threshold]
    peak = ((boxes[0, 0] + boxes[0, 2]) / 2, (boxes[0, 1] + boxes[0, 3]) / 2) if len(boxes) else None
    return Shown(heat, peak, kept, within(kept[:, :4], side))


def within(boxes: np.ndarray, side: int) -> np.ndarray:
    """The pixels whose middle lies in any of the boxes (k, 4): bool (side, side)."""
    middle, inside = np.arange(side) + 0.5, np.zeros((side, side), bool)
    for xmin, ymin, xmax, ymax in boxes:
        inside |= ((middle >= ymin) & (middle < ymax))[:, None] & ((middle >= xmin) & (middle < xmax))[None]
    return inside


def head(grey: np.ndarray) -> np.ndarray:
    """The head in an image (uint8), or what else is largest and compact in it: bool, none where all is black."""
    found = heads.find(grey, cut=True)
    return np.zeros(grey.shape, bool) if found is None else found.full(found.mask, grey.shape)


def centre(of_head: np.ndarray) -> np.ndarray:
    """A map that sees nothing: a Gaussian in the middle of the head, of half its radius; of the image where there is no head."""
    there = of_head if of_head.any() else np.ones_like(of_head)
    y, x = ndimage.center_of_mass(there)
    spread = max(np.sqrt(there.sum() / np.pi) / 2, 1.0)
    rows, columns = np.ogrid[: there.shape[0], : there.shape[1]]
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2)).astype(np.float32)


def share(heat: np.ndarray, place: np.ndarray | None) -> float:
    """How much of the heat lies in a place; NaN where there is no heat, or no place."""
    total = float(heat.sum(dtype=float))
    return float(heat[place].sum(dtype=float)) / total if total > 0 and place is not None and place.any() else np.nan


def dice(region: np.ndarray, place: np.ndarray | None) -> float:
    """Dice of a region and a place; NaN where there is no place."""
    if place is None or not place.any():
        return np.nan
    return 2 * float((region & place).sum()) / float(region.sum() + place.sum())


def is_at(peak: tuple[float, float] | None, place: np.ndarray) -> float:
    """1 where the peak lies in a place, 0 where it does not, and where a black map has none."""
    if peak is None:
        return 0.0
    x, y = (min(int(value), len(place) - 1) for value in peak)
    return float(place[y, x])


def measure(shown: Shown, truth: Truth) -> dict[str, float]:
    """The values of an image, NaN where undefined; those about boxes only where it has some."""
    boxes = within(truth.boxes, len(shown.heat))
    values = {"pointing": is_at(shown.peak, boxes) if boxes.any() else np.nan, "heat_box": share(shown.heat, boxes)}
    values |= {"heat_mask": share(shown.heat, truth.mask), "heat_head": share(shown.heat, truth.head)}
    values |= {"dice_box": dice(shown.region, boxes), "dice_mask": dice(shown.region, truth.mask)}
    has_peak = shown.peak is not None and truth.head.any()
    values["peak_head"] = is_at(shown.peak, truth.head) if has_peak else np.nan
    return values | {"black": float(shown.peak is None)}


def best_threshold(heats: list[np.ndarray], truths: list[Truth]) -> tuple[float, float]:
    """The threshold of GRID with the highest mean Dice with the boxes, and that Dice."""
    values = [
        np.mean(
            [dice(of_heat(heat, limit).region, within(truth.boxes, len(heat))) for heat, truth in zip(heats, truths, strict=True)]
        )
        for limit in GRID
    ]
    best = int(np.argmax(values))
    return float(GRID[best]), float(values[best])
