"""The pictures of predicted images: an overlay of each, a sheet of each patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hemoct import images
from hemoct.plots_overlays import TILE, legend, overlay, picture, sheet
from hemoct.predicting import Known, file_names

OVERLAY = 512  # px of an overlay's long side at least
PAGE = 60  # slices on a sheet
SEEN = "in training or validation of a model: what is predicted here is no honest result"


def write(overlays: Path, sheets: Path, known: Known, found: list[np.ndarray]) -> None:
    """One overlay an image, overlays/GROUP/NAME.png, and one sheet a group, sheets/GROUP.png (`.page2` ... after PAGE images).

    Slices are decoded one after the other in the order of `known`: memory does not grow with their number.
    """
    decoded = images.decode(known.paths, desc="draw")
    for group, rows in known.table.groupby("group", sort=False).indices.items():
        names = file_names({row: known.paths[row].stem for row in rows})
        for page, start in enumerate(range(0, len(rows), PAGE), 1):
            tiles = []
            for row in rows[start : start + PAGE]:
                large, small = _pictures(next(decoded), known, row, found[row])
                _save(overlay(large, _caption(known, row, found[row])), overlays / group / f"{names[row]}.png")
                tiles.append((small, _tile_caption(known, row, found[row])))
            name = group if page == 1 else f"{group}.page{page}"
            _save(sheet(tiles, _heading(known, rows, group, found)), sheets / f"{name}.png")


def _pictures(grey: np.ndarray, known: Known, row: int, found: np.ndarray) -> list[Image.Image]:
    """A slice in the size of an overlay (a whole multiple of its own) and in that of a tile."""
    sides = max(grey.shape) * -(-OVERLAY // max(grey.shape)), TILE
    return [picture(grey, found, known.truth[row], side, known.classes, known.truth_class[row]) for side in sides]


def _save(drawn: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path, compress_level=3)  # twice as fast as the default, no larger


def _name(known: Known, row: int) -> str:
    return known.table["image_id"][row] or Path(known.table["image"][row]).name


def _caption(known: Known, row: int, found: np.ndarray) -> list[str]:
    truth = known.truth[row]
    annotated = "" if truth is None else f", {len(truth)} annotated"
    lines = [f"{_name(known, row)}: {len(found)} box(es) predicted{annotated}", legend(known.layout, truth is not None)]
    return [*lines, SEEN] if known.seen[row] else lines


def _tile_caption(known: Known, row: int, found: np.ndarray) -> str:
    best = f"predicted, {found[0, 4]:.2f}" if len(found) else "no box predicted"
    return f"{_name(known, row)}{' *' if known.seen[row] else ''}\n{best}"


def _heading(known: Known, rows: np.ndarray, group: str, found: list[np.ndarray]) -> list[str]:
    annotated = [known.truth[row] for row in rows if known.truth[row] is not None]
    positive = f", annotated on {sum(len(truth) > 0 for truth in annotated)}" if annotated else ""
    lines = [f"{group}: {len(rows)} images, box predicted on {sum(len(found[row]) > 0 for row in rows)}{positive}"]
    lines.append(legend(known.layout, bool(annotated)))
    return [*lines, f"* {SEEN}"] if known.seen[rows].any() else lines
