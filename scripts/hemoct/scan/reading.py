"""A scan as it is read: slice by slice into mapped files without a name, so that 600 thin slices take no more memory than 30.

HU become grey, and grey the planes that networks see, on the same way as in data.named_slices: the same slice has the same
pixels. Imports no torch.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemoct.base.errors import UserError
from hemoct.ct import windows as ct_windows
from hemoct.ct.facts import Facts
from hemoct.data import images, named_slices
from hemoct.ingest import conversion
from hemoct.prepare.orientation import UNKNOWN
from hemoct.scan.result import Source

Look = tuple[int, str]
"""channels, and the window or windows in which HU are shown (ct.windows.parse_windows)"""
TILTED = 1.0  # degrees
ROUNDED = 0.01  # of the side of a pixel


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a scan is read."""

    looks: list[Look]
    """what networks see of it; grey values for people are of the first"""
    series: str | None = None
    intercept: float | None = None
    """HU, for DICOM files whose intercept is missing or 0"""
    any_values: bool = False
    """whether a window was given for values that are no HU"""
    orientation: str = "auto"
    spacing: tuple[float, float, float] | None = None
    """mm between rows, columns and slices, for files that do not say it"""


@dataclass(frozen=True)
class Pixels:
    """A source as networks see it: in square pixels."""

    source: Source
    planes: dict[Look, np.ndarray]
    """uint8 (n, channels, height, width)"""
    scale: tuple[float, float]
    """by what rows and columns were stretched for square pixels"""
    paths: list[Path]
    """of each slice, as data.named_images knows it"""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what networks see."""
        return next(iter(self.planes.values())).shape[2:]


class Mapped:
    """An array in a file without a name, written part by part."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.shape, self.parts = np.dtype(dtype), (), 0
        self._stream = tempfile.TemporaryFile()  # noqa: SIM115 (held as long as the array)

    def add(self, part: np.ndarray) -> None:
        """Parts are of one shape."""
        self.shape, self.parts = part.shape, self.parts + 1
        self._stream.write(np.ascontiguousarray(part, self.dtype).data)

    def array(self) -> np.ndarray:
        """All parts, read only: (parts, ...)."""
        self._stream.flush()
        return np.memmap(self._stream, self.dtype, "r", shape=(self.parts, *self.shape))


@dataclass
class Reading:
    """What is gathered slice by slice."""

    wanted: Wanted
    paths: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    hu: Mapped = field(default_factory=lambda: Mapped(np.int16))
    stored: Mapped = field(default_factory=lambda: Mapped(np.uint8))
    planes: dict[Look, Mapped] = field(default_factory=dict)
    sides: tuple[float | None, float | None] = (None, None)
    """of a pixel as it is stored, mm"""
    square: tuple[int, ...] = ()
    """rows and columns of a slice in square pixels"""

    def add(self, path: Path, number: int | None, hu: np.ndarray, facts: Facts) -> None:
        """A slice in HU, float32 (rows, columns) as it is stored; `number`: in its file."""
        if self.facts and hu.shape != self.hu.shape:
            sizes = [" x ".join(map(str, shape[::-1])) for shape in (self.hu.shape, hu.shape)]
            raise UserError(f"{path} is {sizes[1]} px, the slices before it are {sizes[0]} px: no single scan; take it out")
        sides = facts.spacing_row, facts.spacing_col
        square, facts = conversion.square(path, hu, facts)
        if self.facts and not (square.shape == self.square and _alike(sides, self.sides)):
            raise UserError(f"{path} has pixels of another size (mm) than the slices before it: no single scan; take it out")
        self.sides, self.square = sides, square.shape
        self.hu.add(np.clip(np.rint(hu), -32768, 32767))
        for look in self.wanted.looks:
            self.planes.setdefault(look, Mapped(np.uint8)).add(_shown(path, square, facts, look))
        if square is not hu:
            self.stored.add(_shown(path, hu, facts, (1, self.wanted.looks[0][1]))[0])
        self._name(path, number)
        self.facts.append(facts)

    def add_image(self, path: Path, planes: dict[int, np.ndarray]) -> None:
        """An image, uint8 (channels, height, width) by its channels."""
        for look in self.wanted.looks:
            self.planes.setdefault(look, Mapped(np.uint8)).add(planes[look[0]])
        if 1 not in {channels for channels, _ in self.wanted.looks}:
            self.stored.add(planes[1][0])
        self._name(path, None)

    def _name(self, path: Path, number: int | None) -> None:
        self.paths.append(path if number is None else path / f"{number:03d}")
        self.names.append(path.name if number is None else f"{path.name}/{number:03d}")

    def pixels(self, path: Path, kind: str, affine: np.ndarray | None, **known: Any) -> Pixels:
        """All that was read. `known`: further fields of Source; a spacing that the files do not say is the given one."""
        planes = {look: mapped.array() for look, mapped in self.planes.items()}
        grey = next((of[:, 0] for (channels, _), of in planes.items() if channels == 1), None)
        spacing, stands_for = known.pop("spacing"), known.pop("stands_for")
        if (spacing is None or stands_for is None) and self.wanted.spacing is not None:
            row, column, between = self.wanted.spacing
            spacing, stands_for = (column, row, between), np.full(len(self.names), between)
        first = self.facts[0] if self.facts else None
        orientation = known.pop("orientation", None) or self._nose(affine)
        usual = {"volume": None, "others": [], "passed_over": {}, "about": {}}
        source = Source(
            path=path, kind=kind, names=self.names, affine=affine, spacing=spacing, stands_for=stands_for,
            orientation=orientation, grey=self.stored.array() if self.stored.parts else grey,
            hu=self.hu.array() if self.facts else None, window=self.wanted.looks[0][1] if self.facts else None,
            **{"notes": self._notes()} | usual | known,
        )  # fmt: skip
        return Pixels(source, planes, (first.scale_row, first.scale_col) if first else (1.0, 1.0), self.paths)

    def _nose(self, affine: np.ndarray | None) -> str:
        """Where the nose points in slices in HU: by their place in the world, else up, as DICOM files of heads lie."""
        if self.wanted.orientation != "auto":
            return self.wanted.orientation
        if any(facts.plane not in ("", "axial") for facts in self.facts):
            return UNKNOWN
        if affine is None:
            return "up"
        across, down = affine[1, :2] / np.linalg.norm(affine[:3, :2], axis=0)  # how far each leads to the front
        if abs(down) >= abs(across):
            return "up" if down < 0 else "down"
        return "right" if across > 0 else "left"

    def _notes(self) -> list[str]:
        told = [note for note, applies in named_slices.NOTES.items() if any(map(applies, self.facts))]
        tilt = max((facts.tilt or 0 for facts in self.facts), default=0)
        return [f"slices {note}" for note in told] + [f"the gantry was tilted by {tilt:.3g} degrees"] * (tilt > TILTED)


def _alike(sides: tuple[float | None, float | None], others: tuple[float | None, float | None]) -> bool:
    """Whether two spacings, as far as both are known, differ by no more than programs round."""
    return all(not (one and other) or abs(one / other - 1) < ROUNDED for one, other in zip(sides, others, strict=True))


def _shown(path: Path, hu: np.ndarray, facts: Facts, look: Look) -> np.ndarray:
    """HU as images.read_planes would give them back from the image that scripts/01_get_data.py makes of them."""
    made = Image.fromarray(conversion.to_grey(path, hu, facts, ct_windows.parse_windows(look[1])))
    return np.atleast_3d(made.convert(images.MODES[look[0]])).transpose(2, 0, 1)
