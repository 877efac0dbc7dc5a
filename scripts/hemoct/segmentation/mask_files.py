"""Masks predicted on image files: boxes that a user gives, tables of what was found. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images, volumes
from hemoct.data.named_images import ImageFiles
from hemoct.detection.scene import CORNERS
from hemoct.segmentation import hematoma

OUTPUTS = ("masks", "overlays", "patients", "predicted.csv", "volumes.csv")


def boxes_from(path: Path, shown: ImageFiles) -> tuple[list[np.ndarray], int]:
    """The boxes of a user's table on each image, (k, 6) as of detectors.detect, and how many rows are of other images.

    Columns: image, xmin, ymin, xmax, ymax (pixels), perhaps confidence (else 1). `image` is a path, as from here, or as much of
    the end of a path as tells images apart. Rows without a box (of predicted.csv of task 2) are allowed. Stops at what is no
    box, reaches beyond its image, or may be of several images, and when no row is of these images.
    """
    frame = tables.read_csv(path, ["image", *CORNERS])
    rows = _rows_of(path, frame["image"], shown.paths)
    values = frame.reindex(columns=[*CORNERS, "confidence"]).apply(pd.to_numeric, errors="coerce")
    values["confidence"] = values["confidence"].fillna(1.0)
    given = (frame[CORNERS].notna().any(axis=1) & (rows >= 0)).to_numpy()
    found = [np.zeros((0, 6))] * len(shown.table)
    for row in np.unique(rows[given]):
        lines = np.flatnonzero(given & (rows == row))
        found[row] = np.column_stack([values.to_numpy(dtype=float)[lines], np.zeros(len(lines))])
        width, height = images.size_of(shown.paths[row])
        low, high, confidence = found[row][:, :2], found[row][:, 2:4], found[row][:, 4]
        inside = (low >= -hematoma.SLACK).all(axis=1) & (high <= np.array([width, height]) + hematoma.SLACK).all(axis=1)
        wrong = ~(inside & (high > low).all(axis=1) & (confidence >= 0) & (confidence <= 1))
        if wrong.any():
            line = lines[wrong.argmax()]
            raise UserError(
                f"{path}, row {line + 1}: {', '.join(map(str, frame.loc[line, CORNERS]))} is no box in {frame['image'][line]} "
                f"({width} x {height} px) with a confidence from 0 to 1; correct it"
            )
    if (rows < 0).all():
        raise UserError(f"{path} names none of the images (its first is {frame['image'][0]}); name them as on the command line")
    return found, int((rows < 0).sum())


def _rows_of(path: Path, names: pd.Series, paths: list[Path]) -> np.ndarray:
    """The row of the image that each name means, -1 where it is none of `paths`: int (k,)."""
    place = {os.path.realpath(one): row for row, one in enumerate(paths)}
    by_name: dict[str, list[int]] = {}
    for row, one in enumerate(paths):
        by_name.setdefault(one.name, []).append(row)
    found = {}
    for name in names.unique():
        parts = Path(name).parts
        ending = [row for row in by_name.get(Path(name).name, []) if paths[row].absolute().parts[-len(parts) :] == parts]
        rows = [place[os.path.realpath(name)]] if os.path.realpath(name) in place else ending
        if len(rows) > 1:
            raise UserError(f"{path}: {name} may be {paths[rows[0]]} or {paths[rows[1]]}; name more of the path")
        found[name] = rows[0] if rows else -1
    return names.map(found).to_numpy(dtype=int)


def per_pixel(work: Workspace, shown: ImageFiles, spacing: list[float] | None) -> pd.DataFrame:
    """What a pixel of each image counts and in which unit: factor, unit (see hemoct.data.volumes).

    `spacing`: mm between rows, columns and slices of the images for which labels.csv tells none.
    """
    of_image = shown.labels.reindex(columns=volumes.SPACINGS).astype(object)
    if spacing is not None:
        of_image[of_image.isna().all(axis=1)] = spacing
    about = of_image.assign(image_id=shown.table["image"], patient=shown.table["group"])
    factor, unit = volumes.per_slice(about, work.show(work.work / "labels.csv"))
    return pd.DataFrame({"factor": factor, "unit": unit})


def truth(work: Workspace, shown: ImageFiles) -> list[Path | None]:
    """The annotated mask of each image, None where there is no file."""
    names = shown.labels.reindex(columns=["mask"])["mask"].fillna("")
    return [work.raw / name if name else None for name in names]


def write(
    folder: Path,
    shown: ImageFiles,
    found: Iterable[tuple[np.ndarray, np.ndarray]],
    level: float,
    boxes: list[np.ndarray] | None,
) -> pd.DataFrame:
    """Write GROUP/NAME.png of each image, 255 where its probability reaches `level`, else 0; returns predicted.csv.

    `found`: image and probability 0..255, both (height, width), in the order of `shown`; `boxes`: in which the core is looked
    for, (k, 4) or more columns an image. Columns: group, image, predicted_px; with `boxes` core_px_unvalidated (see hematoma),
    empty where no core was seen.
    """
    counts = []
    for row, (grey, probability) in enumerate(found):
        mask = probability >= level
        path = folder / f"{shown.places[row]}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        core = 0 if boxes is None else np.count_nonzero(hematoma.core(grey, boxes[row][:, :4]))
        counts.append((np.count_nonzero(mask), core or pd.NA))
    counted = pd.DataFrame(counts, columns=["predicted_px", "core_px_unvalidated"]).astype("Int64")
    table = shown.table[["group", "image"]].join(counted)
    return table if boxes is not None else table.drop(columns="core_px_unvalidated")


def per_group(table: pd.DataFrame, pixel: pd.DataFrame) -> pd.DataFrame:
    """volumes.csv: group, images, positive (images with a predicted pixel), predicted_volume, perhaps the core's, unit.

    `table`: see `write`; `pixel`: see `per_pixel`. A core that was seen on no image has no volume.
    """
    table = table.join(pixel).assign(positive=table["predicted_px"] > 0)
    measured = {name: name.replace("_px", "_volume") for name in table.columns if "_px" in name}
    for pixels, volume in measured.items():
        table[volume] = table[pixels].astype("Float64") * table["factor"]
    groups = table.groupby("group", sort=False)
    return pd.DataFrame(
        {"images": groups.size(), "positive": groups["positive"].sum()}
        | {volume: groups[volume].sum(min_count=1) for volume in measured.values()}
        | {"unit": groups["unit"].first()}
    ).reset_index()
