"""Draw CT slices of heads with hemorrhages, without any real pixel.

Heads are drawn in HU from ellipses and smoothed noise, from base to vertex, with the forehead at the left edge of the image as in
the slices of PHE-SICH-CT-IDS, so that the patient's left is at the top.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from hemoct.ct import windows as ct_windows

HEAD_HOLDER_HU, BONE_HU, AIR_HU = 700, 900, -1000
WHITE_HU, GREY_HU, EDEMA_HU, CSF_HU = 29, 36, 20, 7
NOISE_HU = 2.4
BRAIN = ct_windows.WINDOWS["brain"]
GRAINS = (1.5, 4.0, 5.0, 1.2)  # of the layers of Texture, in pixels of 64


@dataclass(frozen=True)
class Lesion:
    """A hematoma with its edema. Place and sizes in units of the brain's half axes, level 0 (base) to 1 (vertex)."""

    along: float
    """-1 forehead to 1 occiput"""
    across: float
    """-1 patient's left to 1 right"""
    level: float
    radius: float
    half_height: float
    rim: float
    """width of the edema"""
    hu: float


@dataclass(frozen=True)
class Head:
    """One patient's anatomy. Lengths in units of half the image side, angles in radians."""

    rng_key: tuple[int, ...]
    centre: tuple[float, float]
    length: float
    breadth: float
    tilt: float
    ventricles: float
    atrophy: float
    calcified: bool
    thin_holder: bool
    lesion: Lesion | None = None
    types: frozenset[str] = field(default_factory=frozenset)
    sah: float = 1.0
    """amount of blood of a SAH: from 0, sulci as dense as the brain, to 1, dense and swollen"""


@dataclass(frozen=True)
class Volume:
    """`hu` float32, `bleeding` and `edema` bool, all of shape (slices, size, size)."""

    hu: np.ndarray
    bleeding: np.ndarray
    edema: np.ndarray


class Texture(NamedTuple):
    """Smooth noise of one slice that makes borders uneven, each (size, size)."""

    gyri: np.ndarray
    blob: np.ndarray
    rim: np.ndarray
    bones: np.ndarray


class Place(NamedTuple):
    """Where the pixels of one slice lie in the brain, in units of its half axes: arrays of shape (size, size)."""

    level: float
    """0 skull base to 1 vertex"""
    u: np.ndarray
    """-1 forehead to 1 occiput"""
    v: np.ndarray
    """-1 patient's left to 1 right"""
    rho: np.ndarray
    """distance from the centre, 1 at the skull"""


def make_head(key: tuple[int, ...], slices: int) -> Head:
    """A random patient with one hematoma; the same key gives the same patient. Every fifth hematoma or so is hard to see."""
    rng = np.random.default_rng(key)
    hard = rng.random() < 0.2
    # The centre lies on a slice, so that a thin stack cannot miss the hematoma.
    level = round(rng.uniform(0.42, 0.72) * (slices - 1)) / (slices - 1)
    lesion = Lesion(
        along=rng.uniform(-0.35, 0.45),
        across=rng.choice([-1, 1]) * rng.uniform(0.22, 0.55),
        level=level,
        radius=rng.uniform(0.08, 0.11) if hard else rng.uniform(0.11, 0.26),
        half_height=min(rng.uniform(0.10, 0.22) + 0.5 / (slices - 1), 0.98 - level),  # never on the last slice
        rim=rng.uniform(0.05, 0.11),
        hu=rng.uniform(42, 48) if hard else rng.uniform(54, 72),
    )
    length = rng.uniform(0.58, 0.67)
    return Head(
        rng_key=key,
        centre=(rng.uniform(-0.06, 0.06), rng.uniform(-0.12, 0)),
        length=length,
        breadth=length * rng.uniform(0.78, 0.89),
        tilt=rng.normal(0, 0.12),
        ventricles=rng.uniform(0.7, 1.35),
        atrophy=rng.uniform(0.10, 0.24),
        calcified=rng.random() < 0.4,
        thin_holder=rng.random() < 0.4,
        lesion=lesion,
    )


def draw_volume(head: Head, levels: np.ndarray, size: int) -> Volume:
    """Draw the slices at `levels` (0 = skull base, 1 = vertex) with `size` x `size` pixels."""
    rng = np.random.default_rng((*head.rng_key, 1))
    count = len(levels)
    layers = [_smooth_noise(rng, count, size, grain) for grain in GRAINS]
    noise = ndimage.gaussian_filter(rng.standard_normal((count, size, size), dtype=np.float32), (0, 0.5, 0.5))
    noise *= NOISE_HU / noise.std()
    slices = [_draw_slice(head, float(level), Texture(*each)) for level, *each in zip(levels, *layers, strict=True)]
    hu, bleeding, edema = map(np.stack, zip(*slices, strict=True))
    return Volume((hu + noise).astype(np.float32), bleeding, edema)


def _smooth_noise(rng: np.random.Generator, count: int, size: int, grain: float) -> np.ndarray:
    """Noise of unit variance, smooth within and across slices; made on a fixed 64-pixel grid, so that the size changes little."""
    coarse = ndimage.gaussian_filter(rng.standard_normal((count, 64, 64), dtype=np.float32), (1, grain, grain))
    coarse /= coarse.std()
    return np.stack([Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC) for plane in coarse])


def _draw_slice(head: Head, level: float, texture: Texture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One slice without noise: HU, hematoma, edema; each of shape (size, size)."""
    size = len(texture.gyri)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    hu = np.full((size, size), AIR_HU, np.float32)
    hu[_holder(head, x, y)] = HEAD_HOLDER_HU

    # The skull is an ellipsoid: small at base and vertex, and cut at an angle there, which makes its wall look thick.
    shrink = np.sqrt(max(0.0, 1 - ((level - 0.42) / 0.66) ** 2))
    wall = 0.045 + 0.13 * max(0.0, level - 0.78) / 0.22
    dx, dy = x - head.centre[1], y - head.centre[0]
    turned = dx * np.cos(head.tilt) + dy * np.sin(head.tilt), dy * np.cos(head.tilt) - dx * np.sin(head.tilt)
    u = turned[0] / (head.length * shrink) + 0.01 * texture.blob
    v = turned[1] / (head.breadth * shrink) + 0.01 * texture.rim
    v = v * (1 - 0.09 * u)  # narrower at the forehead
    rho = np.hypot(u, v)
    inside = 1 - wall / (head.breadth * shrink)

    hu[abs(rho - 1.1 - 0.012 * texture.blob) < 0.013] = 40  # skin; the fat below it is black in this window
    hu[rho < 1] = BONE_HU
    brain = rho < inside
    place = Place(level, u / inside, v / inside, rho / inside)
    hu[brain] = _tissue(head, place, texture)[brain]
    bleeding, edema = _paint_lesion(head, place, texture, brain, hu)
    return _partial_volume(hu), bleeding, edema


def _partial_volume(hu: np.ndarray) -> np.ndarray:
    """Blur the borders of tissues. Bone and air keep their HU: far outside the window, they would hide thin structures."""
    blurred = ndimage.gaussian_filter(hu.clip(-30, 250), 0.003 * len(hu))
    return np.where((hu > 250) | ((hu == AIR_HU) & (blurred < 0)), hu, blurred)


def _holder(head: Head, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The arc that carries the head, behind the occiput."""
    radius, wall = (0.86, 0.008) if head.thin_holder else (0.92, 0.02)
    opening = -0.3 if head.thin_holder else 0.25
    arc = np.hypot(x + 0.05, y)
    return (abs(arc - radius) < wall) & (x > opening)


def _tissue(head: Head, place: Place, texture: Texture) -> np.ndarray:
    """HU of everything inside the skull."""
    level, u, v, rho = place
    cortex = rho > 0.86 + 0.04 * texture.gyri
    ganglia = (0.32 < level < 0.62) & (
        _ellipse(u + 0.08, abs(v) - 0.30, 0.22, 0.09, 0.15) | _ellipse(u - 0.14, abs(v) - 0.12, 0.15, 0.10)
    )
    hu = np.where(cortex | ganglia, GREY_HU, WHITE_HU) + 0.8 * texture.gyri
    hu = ndimage.gaussian_filter(hu.astype(np.float32), 0.006 * len(hu))
    hu[_sulci(head, place, texture.gyri)] = GREY_HU + 40 * head.sah if "SAH" in head.types else CSF_HU + 5
    hu[_ventricles(head, place)] = 70 if "IVH" in head.types else CSF_HU
    if level > 0.5:
        hu[(abs(v) < 0.013) & (abs(u) > 0.35)] = 46  # falx
    if head.calcified and 0.40 < level < 0.6:  # harmless calcifications, as bright as blood: hard negatives
        hu[_ellipse(u - 0.36, abs(v) - 0.27, 0.045, 0.022)] = 130
        hu[_ellipse(u - 0.26, v, 0.03, 0.03)] = 150
    if level < 0.26:
        _skull_base(place, texture.bones, hu)
    return hu


def _ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float, slant: float = 0.0) -> np.ndarray:
    return (u / a) ** 2 + ((v - slant * u) / b) ** 2 < 1


def _ventricles(head: Head, place: Place) -> np.ndarray:
    """Lateral and third ventricles: bool (size, size)."""
    level, u, v, _ = place
    wide, side = head.ventricles, abs(v)
    space = np.zeros(u.shape, bool)
    if 0.38 < level < 0.56:
        space |= _ellipse(u + 0.36, side - 0.13, 0.19, 0.05 * wide, -0.45)  # frontal horns
        space |= _ellipse(u - 0.40, side - 0.28, 0.20, 0.06 * wide, 0.35)  # atria, occipital horns
        space |= _ellipse(u - 0.02, v, 0.15, 0.018 * wide)  # third ventricle
    if 0.50 < level < 0.70:
        space |= _ellipse(u - 0.02, side - 0.10 - 0.12 * u**2, 0.42, 0.05 * wide)  # bodies
    return space


def _sulci(head: Head, place: Place, gyri: np.ndarray) -> np.ndarray:
    """Fluid between the gyri, in the fissures and basal cisterns, where subarachnoid blood collects: bool (size, size)."""
    level, u, v, rho = place
    side = abs(v)
    filled = 0.06 * head.sah if "SAH" in head.types else 0.0
    space = (abs(gyri) < head.atrophy + filled) & (rho > 0.84 - 0.5 * max(0.0, level - 0.6))
    space |= (side < 0.016 + filled / 4) & (u < -0.62) & (level > 0.3)  # interhemispheric fissure
    if 0.28 < level < 0.6:
        space |= (abs(u + 0.22 + 0.3 * (side - 0.7)) < 0.018 + filled / 3) & (side > 0.55)  # Sylvian fissures
    if 0.26 < level < 0.42:
        space |= _ellipse(u + 0.08, v, 0.10, 0.12) & ~_ellipse(u + 0.02, v, 0.08, 0.07)  # suprasellar cistern
        space |= (abs(u - 0.30) < 0.018) & (side < 0.16)  # quadrigeminal cistern
    return space


def _skull_base(place: Place, bones: np.ndarray, hu: np.ndarray) -> None:
    """Face, orbits, petrous bones and air cells, painted over `hu` in place; they become smaller as the level rises."""
    level, u, v, _ = place
    side, reach = abs(v), (0.26 - level) / 0.26
    face = u < -0.55 + 0.5 * reach - 0.25 * side
    hu[face] = 25 + 6 * bones[face]
    hu[face & (bones > 0.45)] = BONE_HU
    hu[face & (bones < -0.9)] = AIR_HU
    petrous = abs(u - 0.45 + 0.75 * (1 - side)) < 0.06 + 0.10 * reach
    hu[petrous & (side > 0.12) & (bones > -0.9)] = BONE_HU
    if level > 0.08:
        orbit = np.hypot(u + 0.72, side - 0.36)
        hu[orbit < 0.24] = BONE_HU
        hu[orbit < 0.20] = -70
        hu[orbit < 0.15] = 12


def _paint_lesion(head: Head, place: Place, texture: Texture, brain: np.ndarray, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paint hematoma and edema over `hu` in place; return both as bool of the same shape (empty outside the lesion's levels)."""
    nothing = np.zeros(hu.shape, bool)
    lesion = head.lesion
    if lesion is None or abs(place.level - lesion.level) >= lesion.half_height:
        return nothing, nothing
    radius = lesion.radius * np.sqrt(1 - ((place.level - lesion.level) / lesion.half_height) ** 2)
    distance = np.hypot(place.u - lesion.along, place.v - lesion.across)
    distance += radius * (0.20 * texture.blob + 0.27 * texture.gyri)
    tissue = brain & ~_ventricles(head, place)
    bleeding = tissue & (distance < radius)
    edema = tissue & ~bleeding & (distance < radius + lesion.rim * (1 + 0.5 * texture.rim).clip(0.2, 1.6))
    if edema.sum() < 3:
        return nothing, nothing
    hu[edema] = EDEMA_HU
    hu[bleeding] = lesion.hu + 3 * texture.rim[bleeding]
    return bleeding, edema
