"""The content of audit.json: counts and examples of each check, the ceiling of masks, statistics of lesions and slices."""

from typing import Any

import numpy as np
import pandas as pd

from hemoct.audit import drift
from hemoct.audit.checks import CHECKS, OF_PIXELS
from hemoct.audit.reading import Audited

EXAMPLES = 5


def summarise(data: Audited, problems: pd.DataFrame) -> dict[str, Any]:
    """The content of audit.json."""
    labels, dataset = data.images, data.dataset
    sample = {"images": len(data.drawn), "of": len(labels), "checks": [*OF_PIXELS]}
    return {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "patient_source": dataset.patient_source or None,
        "labels_mean": data.mask_note or None,
        "images": len(labels),
        "patients": labels["patient"].nunique() if data.has_patients else None,
        "positives": {name: int((labels[name] == 1).sum()) for name in dataset.labels},
        "unknown": {name: int(labels[name].isna().sum()) for name in dataset.labels},
        **({"sample": sample} if len(data.drawn) < len(labels) else {}),
        "repairs": data.repairs["problem"].str.split(":").str[0].value_counts().to_dict(),
        "fatal": int(problems["fatal"].sum()),
        "checks": {name: _check_summary(name, problems[problems["check"] == name]) for name in CHECKS},
        "ceiling": ceiling(data),
        "statistics": statistics(data),
    }


def _check_summary(name: str, problems: pd.DataFrame) -> dict[str, Any]:
    subject = problems["image_id"].where(problems["image_id"] != "", problems["patient"])
    examples = (subject + ": " + problems["detail"]).str.removeprefix(": ")
    return {"count": len(problems), **CHECKS[name]._asdict(), "examples": examples.head(EXAMPLES).tolist()}


def ceiling(data: Audited) -> dict[str, Any]:
    """How many slices with a box the rule 'any mask pixel' can find at most. Slices without a mask are left out and counted."""
    boxed = data.read[data.read["image_id"].isin(data.boxes["image_id"])]
    scored = boxed[boxed["mask_state"] == ""]
    with_pixels = int((scored["mask_pixels"] > 0).sum())
    return {
        "value": with_pixels / len(scored) if len(scored) else None,
        "reason": None if len(scored) else "no slice has both a box and a mask",
        "explanation": "share of the slices with a box whose mask has any pixel",
        "boxed_slices": len(boxed),
        "without_mask_file": len(boxed) - len(scored),
        "with_mask_pixels": with_pixels,
    }


def statistics(data: Audited) -> dict[str, Any]:
    """Quantiles of lesion areas (px; mm2 if every spacing is known) and of slices per patient; boxes per slice with a box."""
    table = data.images
    per_slice = data.boxes["image_id"].value_counts().value_counts().sort_index()
    box, mask = lesion_areas(data)
    return {
        **{f"{kind}_area_{unit}": _quantiles(areas[unit]) for kind, areas in (("box", box), ("mask", mask)) for unit in areas},
        "boxes_per_slice": {str(n): int(count) for n, count in per_slice.items()},
        "mask_drift": drift.measure(data),
        "slices_per_patient": _quantiles(table["patient"].value_counts()) if data.has_patients else None,
        "width_px": _quantiles(table["width"].dropna()),
        "height_px": _quantiles(table["height"].dropna()),
    }


def lesion_areas(data: Audited) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Areas of all boxes and of all masks that are not empty: columns `px` and, if every spacing is known, `mm2`."""
    table = data.images.assign(mm2=np.nan)
    if {"spacing_row", "spacing_col"} <= set(table.columns):
        table["mm2"] = table["spacing_row"] * table["spacing_col"]
    boxes = data.boxes.merge(table[["image_id", "mm2"]], on="image_id")
    boxes["px"] = (boxes["xmax"] - boxes["xmin"]) * (boxes["ymax"] - boxes["ymin"])
    areas = []
    for lesions in (boxes, table.rename(columns={"mask_pixels": "px"})):
        lesions = lesions.loc[lesions["px"] > 0, ["px", "mm2"]]
        known = len(lesions) > 0 and lesions["mm2"].notna().all()
        areas.append(lesions.assign(mm2=lesions["px"] * lesions["mm2"]) if known else lesions[["px"]])
    return areas[0], areas[1]


def _quantiles(values: pd.Series) -> dict[str, float] | None:
    if values.empty:
        return None
    names = {"min": 0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1}
    return {"n": len(values), **{name: round(float(values.quantile(q)), 1) for name, q in names.items()}}
