"""Draw a data set of angiograms, eight images of each patient, without any real pixel: vessels as dark lines, some of them ill.

Four images are of the front circulation (the carotid arteries), four of the back (the vertebral and basilar arteries), each from
another angle. A label is 1 on the images in which its lesion is seen: an aneurysm may be in either view, a stenosis is one of the
front, an occlusion one of the back; in one image of four another vessel hides it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import ndimage
from tqdm import tqdm

VERSION = 1
"""raised whenever the same arguments would draw other files"""
VIEWS = {"front": ("aneurysm", "stenosis"), "back": ("aneurysm", "occlusion")}
"""the lesions of each view"""
LABELS = ("aneurysm", "stenosis", "occlusion")
ANGLES = (-32, -11, 11, 32)  # degrees around the axis of the body
SHARES = {"aneurysm": 0.35, "stenosis": 0.3, "occlusion": 0.3}  # of the patients that have it
FINE = 3  # times as many pixels are drawn, then averaged


class Vessel(NamedTuple):
    """A part of a tree. Places in units of half the image side: right, down, towards the viewer."""

    places: np.ndarray
    """float (k, 3)"""
    radius: float
    name: str


def draw_dataset(folder: Path, patients: int = 24, size: int = 256, seed: int = 42) -> None:
    """Write images/*.png and labels.csv: image, patient, group (front, back), LABELS (0 or 1). The same call, the same bytes."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for patient in tqdm(range(1, patients + 1), desc="patients", disable=None):
        rng = np.random.default_rng((seed, patient))
        ill = {label for label in LABELS if rng.random() < SHARES[label]}
        at = rng.choice(list(VIEWS))  # of an aneurysm
        for view, lesions in VIEWS.items():
            vessels, hidden = tree(view, rng), rng.integers(len(ANGLES))
            here = ill & set(lesions) - ({"aneurysm"} if at != view else set())
            place = rng.integers(2)
            for number, angle in enumerate(ANGLES):
                shown = here if number != hidden else set()
                name = f"A{patient:03d}_{view}_{number}.png"
                Image.fromarray(draw(vessels, shown, (place, angle), size, rng)).save(folder / "images" / name)
                truth = {label: int(label in shown) for label in LABELS}
                rows.append({"image": name, "patient": f"A{patient:03d}", "group": view} | truth)
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False, lineterminator="\n")


def tree(view: str, rng: np.random.Generator) -> list[Vessel]:
    """The vessels of a view; no two patients have the same. Those that a lesion may sit on are named `left` and `right`."""

    def about(*place: float) -> np.ndarray:
        return np.array(place) + rng.normal(0, 0.03, 3)

    vessels = []
    trunk = about(0, 0.45, 0)
    for name, side in (("left", -1), ("right", 1)):
        if view == "front":
            fork = about(0.22 * side, 0.25, 0)
            vessels.append(Vessel(_curve(about(0.3 * side, 0.95, 0), about(0.2 * side, 0.6, 0.1), fork), 0.035, "trunk"))
            vessels.append(Vessel(_curve(fork, about(0.08 * side, -0.2, 0.2), about(0.1 * side, -0.6, 0)), 0.02, "up"))
        else:
            fork = trunk + np.array([0, -0.35, 0])
            vessels.append(Vessel(_curve(about(0.2 * side, 0.95, 0), about(0.12 * side, 0.7, -0.1), trunk), 0.028, "trunk"))
            vessels.append(Vessel(_curve(trunk, (trunk + fork) / 2, fork), 0.032, "trunk"))
        end = about(0.68 * side, 0.1 if view == "front" else -0.05, 0.1)
        main = _curve(fork, about(0.45 * side, 0.3 if view == "front" else 0.02, 0.15), end)
        vessels.append(Vessel(main, 0.026, name))
        for start in main[:: max(1, len(main) // 4)][1:]:
            tip = start + np.array([rng.uniform(0, 0.2) * side, rng.uniform(-0.5, -0.25), rng.normal(0, 0.2)])
            vessels.append(Vessel(_curve(start, (start + tip) / 2 + rng.normal(0, 0.06, 3), tip), 0.011, "twig"))
    return vessels


def _curve(start: np.ndarray, bend: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A quadratic Bezier curve: float (24, 3)."""
    t = np.linspace(0, 1, 24)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


def draw(
    vessels: list[Vessel], shown: set[str], place_and_angle: tuple[int, float], size: int, rng: np.random.Generator
) -> np.ndarray:
    """One image, uint8 (size, size). `place`: 0 or 1, the left or the right main vessel is ill; `angle` in degrees."""
    place, angle = place_and_angle
    ill, turned = ("left", "right")[place], np.radians(angle)
    canvas = Image.new("L", (FINE * size,) * 2, 0)
    pen, half = ImageDraw.Draw(canvas), FINE * size / 2

    def seen(points: np.ndarray) -> np.ndarray:
        across = points[..., 0] * np.cos(turned) + points[..., 2] * np.sin(turned)
        return (np.stack([across, points[..., 1]], axis=-1) + 1) * half

    for vessel in vessels:
        radii = np.full(len(vessel.places), vessel.radius)
        if vessel.name == ill and "stenosis" in shown:
            radii[7:15] *= 0.25
        points = seen(vessel.places)
        if vessel.name == ill and "occlusion" in shown:
            points = points[:7]
        for (x, y), radius in zip(points, radii * half, strict=False):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        pen.line([tuple(point) for point in points], fill=255, width=max(1, int(1.4 * radii.min() * half)))
        if vessel.name == ill and "aneurysm" in shown:
            (x, y), radius = seen(vessel.places[3] - np.array([0, 0.06, 0])), 0.075 * half
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    contrast = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    cloud = ndimage.zoom(rng.standard_normal((8, 8)), size / 8, order=3)
    grey = 165 + 9 * cloud - 95 * ndimage.gaussian_filter(contrast, size / 256) + rng.normal(0, 9, (size, size))
    return grey.clip(0, 255).astype(np.uint8)
