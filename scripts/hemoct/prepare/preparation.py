"""How an image is prepared before a network sees it: turned, then what --prepare names, in that order; what this cut."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hemoct.prepare import head as heads, methods
from hemoct.prepare.geometry import Geometry

BY_GREY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "invert": methods.invert, "median": methods.median, "clahe": methods.clahe,
}  # fmt: skip
"""these look at grey values alone; the others go by the head, which is looked for in the first plane"""
BY_HEAD = ("head", "brain")
"""these leave an image whole in which they see none"""


@dataclass(frozen=True)
class Prepared:
    """An image that was prepared."""

    planes: np.ndarray
    """uint8 (channels, height, width)"""
    geometry: Geometry
    """how it was turned and cut"""
    kept_whole: tuple[str, ...]
    """those of `head` and `brain` that found nothing to go by"""


@dataclass(frozen=True)
class Preparation:
    """What is done with each image; nothing by default."""

    names: tuple[str, ...] = ()
    """of options.NAMES, in their order"""
    turns: int = 0
    """quarter turns against the clock, before all else"""
    bone: int = methods.BONE
    """grey value from which on it is bone"""

    @property
    def key(self) -> bytes:
        """What a cache of prepared images adds to its key; nothing where nothing is done."""
        bone = f" bone {self.bone}" if "brain" in self.names else ""
        return f"prepared {','.join(self.names)} {self.turns}{bone}".encode() if self.names or self.turns else b""

    def apply(self, planes: np.ndarray) -> Prepared:
        """Prepare an image, uint8 (channels, height, width)."""
        geometry = Geometry(*planes.shape[:0:-1], self.turns)
        planes, whole = geometry.image(planes), []
        for name in self.names:
            shape, head = planes.shape[1:], None if name in BY_GREY else heads.find(planes[0], geometry.part is not None)
            if name in BY_GREY:
                planes = np.stack([BY_GREY[name](plane) for plane in planes])
            elif name == "text":
                planes = np.stack([methods.without_text(plane, head) for plane in planes])
            elif name == "brain":
                inside = methods.brain(planes[0], head, self.bone) if head else None
                whole += [name] * (inside is None)
                planes = planes if inside is None else np.where(inside, planes, np.uint8(0))
            elif head is None:
                whole.append(name)
            else:
                planes = np.where(methods.outside(head, shape), np.uint8(0), planes)
                geometry = replace(geometry, part=methods.head_part(head, shape))
                xmin, ymin, xmax, ymax = geometry.box
                planes = planes[:, ymin:ymax, xmin:xmax]
        return Prepared(np.ascontiguousarray(planes), geometry, tuple(whole))

    def grey(self, grey: np.ndarray) -> np.ndarray:
        """Prepare an image of one plane, uint8 (height, width)."""
        return self.apply(grey[None]).planes[0] if self.names or self.turns else grey


NOTHING = Preparation()
