"""What is known of a scan as files: scan.json, slices.csv, boxes.csv, masks as NIfTI and PNG, a montage, scan.html.

No name, number or date of a patient's header is in any of them, but in scan.json where they are asked for.
"""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from hemoct.base import files, tables
from hemoct.evaluation import overlays
from hemoct.prepare import orientation as orientations
from hemoct.prepare.geometry import Geometry
from hemoct.scan import answer, page
from hemoct.scan.result import Boxes, Scan

OUTPUTS = (
    "scan.html", "scan.json", "slices.csv", "boxes.csv", "scan.nii.gz", "edema.nii.gz", "core.nii.gz", "masks", "montage.png",
)  # fmt: skip
TILES = 60  # slices on the montage, evenly drawn from more
EDEMA, CORE = (80, 200, 255), (255, 220, 60)


def write(scan: Scan, out: Path, identifiers: bool = False) -> list[Path]:
    """Write everything into a folder; returns the paths. `identifiers`: also what the DICOM header says of the patient."""
    written = [
        files.write_json(out / "scan.json", summary(scan, identifiers)),
        tables.write_csv(out / "slices.csv", slices(scan)),
        nifti(scan, scan.source.grey if scan.source.hu is None else scan.source.hu, out / "scan.nii.gz"),
    ]
    if scan.boxes is not None:
        written.append(tables.write_csv(out / "boxes.csv", boxes(scan, scan.boxes)))
    if scan.masks is not None:
        named = {name: mask for name, mask in (("edema", scan.masks.edema), ("core", scan.masks.core)) if mask is not None}
        written += [nifti(scan, mask.view(np.uint8), out / f"{name}.nii.gz") for name, mask in named.items()]
        written += [pngs(scan, named, out / "masks")]
    written.append(montage(scan, out / "montage.png"))
    page.write(scan, out / "scan.html")
    return [*written, out / "scan.html"]


def summary(scan: Scan, identifiers: bool) -> dict[str, Any]:
    """scan.json."""
    source = scan.source
    called = [
        {"task": label.task, "label": label.name, "slices": (np.flatnonzero(label.called) + 1).tolist(),
         "highest": float(label.probability.max()), "threshold": label.threshold, "rule": label.rule} for label in scan.labels
    ]  # fmt: skip
    masks = {} if scan.masks is None else {"edema": scan.masks.edema, "core_unvalidated": scan.masks.core}
    content = {
        "research_use": answer.NO_DIAGNOSIS,
        "answer": [asdict(line) for line in answer.lines(scan)],
        "notes": answer.notes(scan),
        "labels": called,
        "volumes": {name: dict(zip(("value", "unit"), scan.volume(mask), strict=True))
                    for name, mask in masks.items() if mask is not None},
        "boxes": None if scan.boxes is None else {"threshold": scan.boxes.threshold, "rule": scan.boxes.rule},
        "masks": None if scan.masks is None else {
            "means": scan.masks.means, "threshold": scan.masks.threshold, "rule": scan.masks.rule,
        },
        "scan": {
            "kind": source.kind, "series": source.series, "other_series": source.others, "slices": len(scan),
            "rows": source.grey.shape[1], "columns": source.grey.shape[2], "spacing": source.spacing, "window": source.window,
            "nose": source.orientation, "affine": None if source.affine is None else source.affine.tolist(),
            "passed_over": dict(source.passed_over),
        },
        "seen_in_training": int(scan.seen.sum()),
        "models": [asdict(model) for model in scan.models],
        "seconds": {name: round(value, 2) for name, value in scan.seconds.items()},
    }  # fmt: skip
    return content | ({"identifiers": dict(source.about)} if identifiers else {})


def slices(scan: Scan) -> pd.DataFrame:
    """slices.csv: a row a slice, in the order of the scan; of each label its probability, threshold, and whether it is called."""
    frame = pd.DataFrame({"slice": np.arange(1, len(scan) + 1), "name": scan.source.names})
    for label in scan.labels:
        name = f"{label.name}_types" if label.name in frame else label.name
        frame[f"p_{name}"], frame[f"threshold_{name}"] = label.probability, label.threshold
        frame[name] = label.called.astype(int)
    if scan.boxes is not None:
        frame["boxes"] = [len(each) for each in scan.boxes.each]
        frame["highest_box"] = [each[0, 4] if len(each) else np.nan for each in scan.boxes.each]
    if scan.masks is not None:
        frame["edema_px"] = [np.count_nonzero(mask) for mask in scan.masks.edema]
        if scan.masks.core is not None:
            frame["core_px_unvalidated"] = [np.count_nonzero(mask) for mask in scan.masks.core]
    if scan.source.stands_for is not None:
        frame["stands_for_mm"] = scan.source.stands_for
    return frame.assign(seen=scan.seen.astype(int))


def boxes(scan: Scan, found: Boxes) -> pd.DataFrame:
    """boxes.csv: a row a box, in pixels of the scan's own matrix, the most confident of a slice first."""
    rows = [
        [number, name, found.classes[int(box[5])], round(box[4], 5), *box[:4].round(1)]
        for number, (name, of_slice) in enumerate(zip(scan.source.names, found.each, strict=True), 1)
        for box in of_slice
    ]
    return pd.DataFrame(rows, columns=["slice", "name", "class", "confidence", "xmin", "ymin", "xmax", "ymax"])


# ---- images of the whole scan


def nifti(scan: Scan, array: np.ndarray, path: Path) -> Path:
    """An array (n, height, width) as a volume that lies where the scan lies; of a NIfTI volume voxel by voxel."""
    volume = scan.source.volume
    if volume is not None:
        image = nib.Nifti1Image(volume.own(array), volume.own_affine)
        unit = volume.header.get_xyzt_units()[0] if hasattr(volume.header, "get_xyzt_units") else "unknown"
        image.header.set_xyzt_units(unit if unit != "unknown" else "mm")
    else:
        affine = scan.source.affine
        image = nib.Nifti1Image(array.transpose(2, 1, 0), assumed_affine(scan) if affine is None else affine)
        image.header.set_xyzt_units("unknown" if scan.source.spacing is None else "mm")
    with files.replacing(path) as temporary:
        nib.save(image, temporary)
    return path


def assumed_affine(scan: Scan) -> np.ndarray:
    """Where slices without a header lie, as far as their orientation tells: as in radiology, from base to vertex, 1 px apart."""
    across, down, up = scan.source.spacing or (1.0, 1.0, 1.0)
    turned = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), orientations.turns(scan.source.orientation, "up"))
    affine = np.diag([0.0, 0.0, up, 1.0])
    affine[:2, :2] = -turned @ np.diag([across, down])
    return affine


def pngs(scan: Scan, masks: dict[str, np.ndarray], folder: Path) -> Path:
    """masks/edema/001.png ...: 0 and 255, by the number of the slice."""
    empty = _png(np.zeros(scan.source.grey.shape[1:], bool))  # most slices
    with files.replacing_folder(folder) as temporary:
        for name, mask in masks.items():
            (temporary / name).mkdir()
            for number, of_slice in enumerate(mask, 1):
                (temporary / name / f"{number:03d}.png").write_bytes(_png(of_slice) if of_slice.any() else empty)
    return folder


def _png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def montage(scan: Scan, path: Path) -> Path:
    """Slices with the nose up where that is known, boxes, the edge of the edema (blue) and of the core (yellow)."""
    rows = np.unique(np.linspace(0, len(scan) - 1, min(TILES, len(scan))).round().astype(int))
    tiles = [(_tile(scan, row), _caption(scan, row)) for row in rows]
    heading = [f"{scan.source.series}; {line.asked}: {line.said}" for line in answer.lines(scan)[:1]] or [scan.source.series]
    colours = ["red: box"] * (scan.boxes is not None)
    colours += [f"blue: {scan.masks.means}, yellow: core (unvalidated)"] if scan.masks is not None else []
    heading += [", ".join(colours), *(["* in training or validation of a model"] if scan.seen.any() else []), answer.NO_DIAGNOSIS]
    with files.replacing(path) as temporary:
        overlays.sheet(tiles, list(filter(None, heading))).save(temporary, compress_level=3)
    return path


def _tile(scan: Scan, row: int) -> Image.Image:
    height, width = scan.source.grey.shape[1:]
    geometry = Geometry(width, height, orientations.turns(scan.source.orientation, "up"))
    found = geometry.boxes(scan.boxes.each[row]) if scan.boxes is not None else overlays.NO_BOXES
    drawn = overlays.picture(geometry.image(scan.source.grey[row]), found, None, overlays.TILE)
    painted = np.array(drawn)
    shown = [] if scan.masks is None else [(scan.masks.edema, EDEMA), (scan.masks.core, CORE)]
    for mask, colour in shown:
        if mask is not None and mask[row].any():
            small = Image.fromarray(np.ascontiguousarray(geometry.image(mask[row].astype(np.uint8) * 255)))
            inside = np.asarray(small.resize(drawn.size, Image.Resampling.BILINEAR)) >= 128
            painted[inside & ~ndimage.binary_erosion(inside)] = colour
    return Image.fromarray(painted)


def _caption(scan: Scan, row: int) -> str:
    first = f"{row + 1}{' *' if scan.seen[row] else ''}"
    if scan.bleeding is not None:
        first += f"  {scan.bleeding.name} {scan.bleeding.probability[row]:.2f}{' called' if scan.bleeding.called[row] else ''}"
    return f"{first}\n{', '.join(label.name for label in scan.types if label.called[row])}"
