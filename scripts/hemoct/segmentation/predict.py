"""Masks of image files: where to look, the mean probability of several networks, and the tables of what was predicted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import groupby, islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from hemoct.base import experiments, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes, fusion, images, volumes
from hemoct.data.named_images import ImageFiles
from hemoct.data.prepared import AS_THEY_ARE, Shown
from hemoct.detection import predict as detection_predict
from hemoct.detection.predictions import CORNERS, DetectorSpec
from hemoct.prepare.geometry import Geometry
from hemoct.segmentation import hematoma, predictions
from hemoct.segmentation.predictions import SegmenterSpec

if TYPE_CHECKING:
    import torch

    from hemoct.segmentation.windows import Windows

OUTPUTS = ("masks", "overlays", "patients", "predicted.csv", "volumes.csv")
OF_FOLD = {"fold", "mean", "std", "least_confidence"}  # what may differ between the models of an experiment
TRUTH = "truth"
CHUNK = 32  # images that lie in memory at a time


@dataclass(frozen=True)
class Models:
    """The networks that predict together, in the order of the folds, or of the members of an ensemble and their folds."""

    folders: list[Path]
    specs: list[SegmenterSpec]
    detectors: list[Path]
    """the folder of the detector of each model; empty where none is needed"""

    @property
    def files(self) -> list[Path]:
        """What the models are rebuilt from."""
        return experiments.model_files([*self.folders, *self.detectors])


def find_models(work: Workspace, experiment: str, fold: int | None, own_boxes: bool) -> Models:
    """The models of an experiment, or that of `fold` alone. `own_boxes`: a user gives boxes, so that no detector is needed."""
    folders = predictions.model_folders(work, experiment, fold)
    specs = read_specs(folders)
    return Models(folders, specs, [] if own_boxes or specs[0].region == "slice" else _detectors(work, folders, specs))


def read_specs(folders: list[Path]) -> list[SegmenterSpec]:
    """model.json of each folder; stops when the models of an experiment are not of one kind, or those of an ensemble too far."""
    of_kind = [one.name for one in fields(SegmenterSpec) if one.name not in OF_FOLD]
    for _, of_experiment in groupby(folders, key=lambda folder: folder.parent):
        SegmenterSpec.read_all(list(of_experiment), of_kind)
    return SegmenterSpec.read_all(folders, predictions.SHARED)


# ---- where to look: boxes


@dataclass(frozen=True)
class Places:
    """The boxes on image files, (k, 6) each, as of detection.networks.detect."""

    each: list[list[np.ndarray]]
    """by model and image, of at least the model's least confidence"""
    lesions: list[np.ndarray]
    """by image, those of all models as one, of at least the confidence from which a box counts as a lesion"""


def _detectors(work: Workspace, folders: list[Path], specs: list[SegmenterSpec]) -> list[Path]:
    """The detector of the same fold for each model; stops where it has no weights or learned from other patients."""
    experiment = specs[0].boxes
    if experiment in (None, TRUTH):
        raise UserError(f"{work.show(folders[0].parent)} looks around true boxes; give boxes with --boxes-from CSV")
    detectors = [work.task(2) / experiment / folder.name for folder in folders]
    for detector, spec in zip(detectors, specs, strict=True):
        if not (detector / "best.pt").exists():
            raise UserError(
                f"{work.show(detector / 'best.pt')} is missing: these models look around the boxes of that detector; train it "
                f"({experiments.train_step(2)} --experiment {experiment}), or give boxes with --boxes-from CSV"
            )
        of_boxes = DetectorSpec.read(detector)
        if any(getattr(of_boxes, name) != getattr(spec, name) for name in ("splits_sha256", "protocol", "split", "fold")):
            raise UserError(
                f"{work.show(detector)} learned from other patients than the model of its fold (splits.csv, protocol or fold in "
                "model.json differ); train it again, or give boxes with --boxes-from CSV"
            )
    return detectors


def detect(
    paths: list[Path], models: Models, certain: float, batch_size: int, device: torch.device, prepared: Shown = AS_THEY_ARE
) -> Places:
    """The boxes of image files by the detector of each model, rounded as in predictions.csv. `certain`: see Places.lesions.

    `prepared`: how the files are shown to the models.
    """
    different = list(dict.fromkeys(models.detectors))  # the members of an ensemble look around the same boxes
    of_detectors = DetectorSpec.read_all(different, ())[0]
    each = detection_predict.detect(paths, different, batch_size, device, prepared.also_for(of_detectors).image)
    of_detector = dict(zip(different, ([fusion.rounded(of_image) for of_image in boxes] for boxes in each), strict=True))
    of_models = [of_detector[folder] for folder in models.detectors]
    return _places(of_models, detection_predict.fused(each, paths), models.specs, certain)


def given(boxes: list[np.ndarray], specs: list[SegmenterSpec], certain: float) -> Places:
    """The boxes that a user gave, the same for each model. `certain`: see Places.lesions."""
    return _places([boxes] * len(specs), boxes, specs, certain)


def _places(each: list[list[np.ndarray]], joined: list[np.ndarray], specs: list[SegmenterSpec], certain: float) -> Places:
    rounded = [fusion.rounded(of_image) for of_image in joined]
    kept = [fusion.at_threshold(boxes, spec.least_confidence) for boxes, spec in zip(each, specs, strict=True)]
    return Places(kept, fusion.at_threshold(rounded, certain))


def boxes_from(path: Path, shown: ImageFiles) -> tuple[list[np.ndarray], int]:
    """The boxes of a user's table on each image, (k, 6) as of detection.networks.detect, and how many rows are of other images.

    Columns: image, xmin, ymin, xmax, ymax (pixels), perhaps confidence (else 1). `image` is a path, as from here, or as much of
    the end of a path as tells images apart. Rows without a box (of predicted.csv of task 2) are allowed. Stops at what is no
    box, reaches beyond its image, or may be of several images, and when no row is of these images.
    """
    frame = tables.read_csv(path, ["image", *CORNERS])
    rows = _rows_of(path, frame["image"], shown.paths)
    values = frame.reindex(columns=[*CORNERS, "confidence"]).apply(pd.to_numeric, errors="coerce")
    values["confidence"] = values["confidence"].fillna(1.0)
    with_box = (frame[CORNERS].notna().any(axis=1) & (rows >= 0)).to_numpy()
    boxes = [np.zeros((0, 6))] * len(shown.table)
    for row in np.unique(rows[with_box]):
        lines = np.flatnonzero(with_box & (rows == row))
        boxes[row] = np.column_stack([values.to_numpy(dtype=float)[lines], np.zeros(len(lines))])
        width, height = images.size_of(shown.paths[row])
        low, high, confidence = boxes[row][:, :2], boxes[row][:, 2:4], boxes[row][:, 4]
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
    return boxes, int((rows < 0).sum())


def _rows_of(path: Path, names: pd.Series, paths: list[Path]) -> np.ndarray:
    """The row of the image that each name means, -1 where it is none of `paths`: int (n,)."""
    place = {os.path.realpath(image): row for row, image in enumerate(paths)}
    by_name: dict[str, list[int]] = {}
    for row, image in enumerate(paths):
        by_name.setdefault(image.name, []).append(row)
    row_of = {}
    for name in names.unique():
        parts = Path(name).parts
        ending = [row for row in by_name.get(Path(name).name, []) if paths[row].absolute().parts[-len(parts) :] == parts]
        rows = [place[os.path.realpath(name)]] if os.path.realpath(name) in place else ending
        if len(rows) > 1:
            raise UserError(f"{path}: {name} may be {paths[rows[0]]} or {paths[rows[1]]}; name more of the path")
        row_of[name] = rows[0] if rows else -1
    return names.map(row_of).to_numpy(dtype=int)


# ---- what is there: probabilities


def probabilities(
    shown: ImageFiles, folders: list[Path], places: Places | None, batch_size: int, device: torch.device,
    prepared: Shown = AS_THEY_ARE,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Each image, uint8 (height, width), and the mean of the models' probabilities on it, float32 0..255, same shape.

    Each model's are those that training writes, 8 bit at the size of the image; `prepared`: how images are shown to it. All
    models lie in memory, and no more than CHUNK images with the neighbours that the models look at.
    """
    from hemoct.segmentation import networks, train, windows  # not at the top: what can be refused shall not wait for torch

    models = [networks.load(folder, device) for folder in folders]
    context, size = models[0][1].context, models[0][1].source_size
    n, around = len(shown.table), shown.neighbours(context)
    decoded = enumerate(images.decode(shown.paths, desc="segment"))
    held: dict[int, np.ndarray] = {}
    for start in range(0, n, CHUNK):
        rows = range(start, min(start + CHUNK, n))
        low, high = max(0, start - context), min(n, rows.stop + context)
        kept = {row: grey for row, grey in held.items() if row >= low}
        held = kept | dict(islice(decoded, high - low - len(kept)))
        seen = {row: prepared.image(shown.paths[row], held[row]) for row in range(low, high)}
        squares = np.stack([images.resize(grey, size) for grey, _ in seen.values()])
        total = {row: np.zeros(held[row].shape, dtype=np.float32) for row in rows}
        for number, (model, spec) in enumerate(models):
            slices = train.Squares(squares, around[low:high] - low, spec, device)
            if spec.region == "slice":
                of_model = windows.whole_slices(np.array(rows) - low, spec.source_size)
            else:
                of_model = _around_boxes(spec, {row - low: (places.each[number][row], seen[row][1]) for row in rows})
            patches = train.patches(model, slices, of_model, batch_size)
            for index, square in train.pasted(of_model, patches, size):
                geometry = seen[low + index][1]
                total[low + index] += geometry.image_back(images.restore(square, *geometry.size))
        yield from ((held[row], total[row] / len(models)) for row in rows)


def _around_boxes(spec: SegmenterSpec, wanted: dict[int, tuple[np.ndarray, Geometry]]) -> Windows:
    """The windows that a model looks at, of images by their row: boxes (k, 6), and how the image was turned."""
    from hemoct.segmentation.windows import Boxes

    squared = [
        data_boxes.to_letterbox(geometry.boxes(boxes[:, :4]), *geometry.size, spec.source_size)
        for boxes, geometry in wanted.values()
    ]
    rows = np.repeat(list(wanted), [len(boxes) for boxes in squared])
    confidence = np.concatenate([boxes[:, 4] for boxes, _ in wanted.values()])
    return Boxes(rows, np.concatenate(squared), confidence).windows(spec.margin, spec.least_side)


# ---- what was predicted: masks and tables


def write_masks(
    folder: Path, shown: ImageFiles, predicted: Iterable[tuple[np.ndarray, np.ndarray]], level: float, boxes: list | None
) -> pd.DataFrame:
    """Write GROUP/NAME.png of each image, 255 where its probability reaches `level`, else 0; returns predicted.csv.

    `predicted`: see `probabilities`; `boxes`: in which the core is looked for, (k, 4) or more columns an image. Columns: group,
    image, predicted_px; with `boxes` core_px_unvalidated (see hematoma), empty where no core was seen.
    """
    counts = []
    for row, (grey, probability) in enumerate(predicted):
        mask = probability >= level
        path = folder / f"{shown.places[row]}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        core = 0 if boxes is None else np.count_nonzero(hematoma.core(grey, boxes[row][:, :4]))
        counts.append((np.count_nonzero(mask), core or pd.NA))
    counted = pd.DataFrame(counts, columns=["predicted_px", "core_px_unvalidated"]).astype("Int64")
    table = shown.table[["group", "image"]].join(counted)
    return table if boxes is not None else table.drop(columns="core_px_unvalidated")


def per_pixel(
    work: Workspace, shown: ImageFiles, spacing: list[float] | None, known: Mapping[str, tuple] = MappingProxyType({})
) -> pd.DataFrame:
    """What a pixel of each image counts and in which unit: factor, unit (see hemoct.data.volumes).

    `known`: mm between rows, columns and slices by the headers of images for which labels.csv has none, by their names;
    `spacing`: of those for which neither has any.
    """
    of_image = shown.labels.reindex(columns=volumes.SPACINGS).astype(object)
    for row, name in enumerate(shown.table["image"]):
        if name in known and of_image.loc[row].isna().all():
            of_image.loc[row] = known[name]
    if spacing is not None:
        of_image[of_image.isna().all(axis=1)] = spacing
    about = of_image.assign(image_id=shown.table["image"], patient=shown.table["group"])
    factor, unit = volumes.per_slice(about, work.show(work.work / "labels.csv"))
    return pd.DataFrame({"factor": factor, "unit": unit})


def per_group(table: pd.DataFrame, pixel: pd.DataFrame) -> pd.DataFrame:
    """volumes.csv: group, images, positive (images with a predicted pixel), predicted_volume, perhaps the core's, unit.

    `table`: see `write_masks`; `pixel`: see `per_pixel`. A core that was seen on no image has no volume.
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
