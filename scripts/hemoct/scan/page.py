"""scan.html: one file, without network, that can be mailed: the answer, every slice, what was found on it. Imports no torch.

Slices are drawn with the nose up where that is known, so everything that lies on them is turned alike.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from PIL import Image

from hemoct.base import files
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.prepare import orientation
from hemoct.prepare.geometry import Geometry
from hemoct.scan import answer
from hemoct.scan.result import Scan

SIZES = ((48, 512, 80), (100, 384, 75), (sys.maxsize, 224, 65))
"""up to how many slices, the longest side at which each is shown, px, and the quality of WebP: so that a page can be mailed"""
PRESETS = {"brain": "b", "subdural": "s", "bone": "o"}
"""windows of slices in HU, each with its key"""
HEAT = 64  # px of a map's longest side
WARM = np.array([255, 120, 0])
ROUND = 1  # digits of a place in pixels
TEMPLATE = "scan.html"


@dataclass(frozen=True)
class Turned:
    """How slices lie on the page."""

    geometry: Geometry
    side: int
    """px of the longest side of what is embedded"""
    quality: int
    """of its WebP"""

    @property
    def scale(self) -> float:
        return min(1.0, self.side / max(self.geometry.size))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is embedded."""
        width, height = (max(1, round(side * self.scale)) for side in self.geometry.size)
        return width, height

    def image(self, pixels: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(self.geometry.image(pixels)), size or self.size, interpolation=cv2.INTER_AREA)

    def boxes(self, boxes: np.ndarray) -> list[list[float]]:
        """xmin, ymin, xmax, ymax, confidence, class in pixels of what is embedded."""
        found = self.geometry.boxes(boxes)
        found[:, :4] *= self.scale
        return [[*(round(value, ROUND) for value in box[:4]), round(box[4], 3), int(box[5])] for box in found.tolist()]

    def outlines(self, mask: np.ndarray) -> list[list[float]]:
        """x0, y0, x1, y1 ... around each part of a mask, and around each hole, in pixels of what is embedded."""
        if not mask.any():
            return []
        there = np.ascontiguousarray(self.geometry.image(mask)).astype(np.uint8)
        parts, _ = cv2.findContours(there, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        return [((part.reshape(-1) + 0.5) * self.scale).round(ROUND).tolist() for part in parts]


def write(scan: Scan, path: Path) -> Path:
    """Write the page of a scan to `path`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    told = content(scan)
    page = environment.get_template(TEMPLATE).render(
        title=path.resolve().parent.name, source=scan.source, passed_over=Counter(scan.source.passed_over.values()),
        lines=answer.lines(scan), notes=answer.notes(scan), disclaimer=answer.NO_DIAGNOSIS, models=scan.models,
        rows=_rows(scan), columns=scan.labels, curve=_curve(scan),
        data=_in_script(told), has={name: bool(told[name]) and any(told[name]) for name in ("boxes", "edema", "core", "heat")},
        presets={name: PRESETS.get(name) for name in told["presets"]}, seconds=scan.seconds, boxes=scan.boxes, masks=scan.masks,
    )  # fmt: skip
    return files.write_text(path, page)


def content(scan: Scan) -> dict[str, Any]:
    """What the page's script draws, by its names; lists hold one entry a slice."""
    source, n = scan.source, len(scan)
    height, width = source.grey.shape[1:]
    turns = orientation.turns(source.orientation, "up")
    how = Turned(Geometry(width, height, turns), *next(of[1:] for of in SIZES if n <= of[0]))
    wide, high = how.size
    mm = source.spacing[:2] if source.spacing else (1.0, 1.0)
    tall = mm[1] / mm[0] if turns % 2 == 0 else mm[0] / mm[1]
    masks = scan.masks
    return {
        "width": wide, "height": high, "tall": round(tall, 4),
        "presets": _presets(scan, how),
        "probability": scan.bleeding.probability.round(4).tolist() if scan.bleeding else [],
        "called": scan.bleeding.called.astype(int).tolist() if scan.bleeding else [],
        "boxes": [how.boxes(of) for of in scan.boxes.each] if scan.boxes else [],
        "classes": scan.boxes.classes if scan.boxes else [],
        "edema": [how.outlines(of) for of in masks.edema] if masks else [],
        "core": [how.outlines(of) for of in masks.core] if masks and masks.core is not None else [],
        "heat": [_heat(how, of) for of in scan.heat] if scan.heat is not None else [],
        "captions": [_caption(scan, row) for row in range(n)],
    }  # fmt: skip


def _presets(scan: Scan, how: Turned) -> dict[str, list[str]]:
    """Pictures of all slices by the name of a window: of HU those of PRESETS, else what the files hold."""
    source = scan.source
    small = [how.image(of) for of in (source.grey if source.hu is None else source.hu)]
    if source.hu is None:
        return {"as stored": [_webp(grey, how.quality) for grey in small]}
    return {name: [_webp(hounsfield.window(hu, ct_windows.WINDOWS[name]), how.quality) for hu in small] for name in PRESETS}


def _webp(grey: np.ndarray, quality: int) -> str:
    return _as_text(Image.fromarray(grey), "webp", quality=quality, method=2)


def _heat(how: Turned, heat: np.ndarray) -> str:
    """A map as a warm colour whose opacity is the heat; empty where there is none."""
    if not heat.any():
        return ""
    width, height = how.size
    size = tuple(max(1, round(side * HEAT / max(width, height))) for side in (width, height))
    small = how.image(heat, size)
    colours = np.broadcast_to(WARM, (*small.shape, 3))
    return _as_text(Image.fromarray(np.dstack([colours, small]).astype(np.uint8)), "png", optimize=True)


def _as_text(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _in_script(told: dict[str, Any]) -> str:
    """JSON that no content can end the script element of."""
    return json.dumps(told, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _caption(scan: Scan, row: int) -> str:
    """A slice in words, for its picture's alternative text."""
    said = [f"slice {row + 1} of {len(scan)}"]
    said += [f"{label.name} {label.probability[row]:.2f}{' (called)' * bool(label.called[row])}" for label in scan.labels]
    if scan.boxes:
        said.append(f"{len(scan.boxes.each[row])} box(es)")
    if scan.masks:
        said.append(f"{scan.masks.means} {int(scan.masks.edema[row].sum())} px")
    return ", ".join(said) + ("; was in training or validation" if scan.seen[row] else "")


def _rows(scan: Scan) -> list[dict[str, Any]]:
    """The table of slices."""
    return [
        {
            "labels": [(f"{label.probability[row]:.3f}", bool(label.called[row])) for label in scan.labels],
            "boxes": len(scan.boxes.each[row]) if scan.boxes else None,
            "edema": int(scan.masks.edema[row].sum()) if scan.masks else None,
            "core": int(scan.masks.core[row].sum()) if scan.masks and scan.masks.core is not None else None,
            "seen": bool(scan.seen[row]),
        }
        for row in range(len(scan))
    ]  # fmt: skip


def _curve(scan: Scan) -> dict[str, Any] | None:
    """The probability along the scan, in a view of n x 100: points of the line, height of the threshold."""
    if scan.bleeding is None:
        return None
    points = [f"{row + 0.5},{100 - 100 * value:.1f}" for row, value in enumerate(scan.bleeding.probability)]
    return {"n": len(points), "points": " ".join(points), "threshold": round(100 - 100 * scan.bleeding.threshold, 1),
            "called": np.flatnonzero(scan.bleeding.called).tolist()}  # fmt: skip
