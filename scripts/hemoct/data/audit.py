"""What is wrong or odd in a data set: one pass over its images and masks, then checks on the numbers of that pass.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose bleeding and edema.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from hemoct.base import label_meaning, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images

SIZE = 128  # side of the running-sum images, px
CHUNK = 128  # images in flight: memory stays flat however large the data set
MASK_THRESHOLD = 128
DARK = 10  # grey value up to which a pixel counts as black
NEAR_BLACK = 0.002  # a slice with a smaller share of brighter pixels shows no head
TINY_MASK = 10  # px; the smallest real lesions are larger
BOX_SLACK = 0.5  # px a box may cross the border by: rounding of relative (YOLO) coordinates
SHARED_IMAGES = 2  # identical images that make two patients look like one
EXAMPLES = 5
AUDIT_COLUMNS = ["image_id", "patient", "check", "fatal", "detail"]


class Check(NamedTuple):
    """A fatal finding breaks or falsifies a later step; any other is to be known, not to be mended first."""

    fatal: bool
    explanation: str


CHECKS = {
    "missing_image": Check(True, "labels.csv names an image that is not there"),
    "unreadable_image": Check(True, "the image cannot be decoded whole (truncated or no image)"),
    "unreadable_mask": Check(True, "the mask cannot be decoded whole"),
    "mask_size": Check(True, "mask and image differ in size"),
    "box_invalid": Check(True, "the box has no area: xmax <= xmin, ymax <= ymin, or not a number"),
    "box_outside": Check(True, f"the box leaves the image by more than {BOX_SLACK} px"),
    "box_of_no_image": Check(False, "the box belongs to an image that labels.csv does not have; no step uses it"),
    "missing_mask": Check(False, "other images have a mask, this one has none: not an empty mask, left out by segmentation"),
    "box_without_mask": Check(False, "a box, but an empty mask: a mask can never find this slice"),
    "mask_without_box": Check(False, "mask pixels, but no box"),
    "tiny_mask": Check(False, f"a mask of fewer than {TINY_MASK} pixels: probably a stray click"),
    "identical_across_patients": Check(False, "the same pixels under two patients: a leak when they fall into two folds"),
    "identical_within_patient": Check(False, "the same pixels twice in one patient"),
    "near_black": Check(False, f"less than {NEAR_BLACK:.1%} of the pixels are brighter than {DARK} of 255: no head to see"),
    "wrong_extension": Check(False, "the content is not what the file's extension says"),
    "image_size": Check(False, "the images differ in size"),
    "patient_two_names": Check(False, "perhaps one patient under two names: folds would share them"),
    "slice_gap": Check(False, "slice numbers jump, or do not start at 0 or 1"),
    "slice_repeat": Check(False, "a patient has the same slice number twice"),
    "patient_no_positive": Check(False, "no positive slice in this patient"),
    "patient_no_negative": Check(False, "no negative slice in this patient"),
    "no_patient": Check(False, "no patient identifier: two images of one person may be in two folds"),
    "dropped_annotation": Check(False, "scripts/02_merge_annotations.py could not use the annotation; its boxes are lost"),
    "unknown_label": Check(False, "a label is unknown; the image is left out where that label is used"),
}


@dataclass(frozen=True)
class Study:
    """The tables of one data set."""

    work: Workspace
    dataset: tables.Dataset
    labels: pd.DataFrame
    boxes: pd.DataFrame
    patients: pd.DataFrame | None
    repairs: pd.DataFrame | None

    @property
    def has_patients(self) -> bool:
        """False when each image is its own group because nothing names the patient."""
        source = self.dataset.patient_source
        return not source.startswith("none") if source else bool((self.labels["patient"] != self.labels["image_id"]).any())

    @property
    def mask_note(self) -> str:
        """What masks and boxes mean, for captions."""
        return label_meaning.CAPTION.get(self.dataset.layout, "")


@dataclass
class Survey:
    """What one pass over the pixels leaves: numbers per image and running sums, never the images."""

    images: pd.DataFrame
    """labels.csv plus image_state, mask_state ('' is good), width, height, content, mask_content, digest, bright, mask_pixels"""
    count: np.ndarray
    """(labels, 2): images known to be negative and positive"""
    total: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of grey values, images padded to a square"""
    squares: np.ndarray
    """int64 (labels, 2, SIZE, SIZE): sum of squared grey values"""
    mask_cover: np.ndarray
    """int64 (SIZE, SIZE): how many masks cover a pixel"""


def read_study(work: Workspace) -> Study:
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    boxes = tables.read_boxes(work)
    corners = tables.BOX_COLUMNS[2:]
    boxes[corners] = boxes[corners].apply(pd.to_numeric, errors="coerce").astype(float)
    path = work.work / "repairs.csv"
    has_repairs = path.exists() and path.read_text(encoding="utf-8").count("\n") > 1
    repairs = tables.read_csv(path, ["file", "problem", "repair"]) if has_repairs else None
    return Study(work, dataset, labels, boxes, tables.read_patients(work), repairs)


# ---- the pass over the pixels


def survey(study: Study) -> Survey:
    """Decode every image and every mask once, in threads; memory does not grow with the number of images."""
    labels, names = study.labels, study.dataset.labels
    sums = np.zeros((2, len(names), 2, SIZE, SIZE), dtype=np.int64)
    count = np.zeros((len(names), 2), dtype=int)
    mask_cover = np.zeros((SIZE, SIZE), dtype=np.int64)
    values = labels[names].astype("float").to_numpy()  # unknown is NaN
    measures = []
    for row, (numbers, small, small_mask) in enumerate(_measure_all(study)):
        measures.append(numbers)
        if small is not None:
            for label, value in enumerate(values[row]):
                if value in (0, 1):
                    count[label, int(value)] += 1
                    sums[0, label, int(value)] += small
                    sums[1, label, int(value)] += small**2
        if small_mask is not None:
            mask_cover += small_mask
    table = pd.concat([labels.reset_index(drop=True), pd.DataFrame(measures)], axis=1)
    return Survey(table, count, sums[0], sums[1], mask_cover)


def _measure_all(study: Study) -> Iterator[tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]]:
    pairs = list(zip(study.labels["image"], study.labels["mask"], strict=True))
    with ThreadPoolExecutor(images.WORKERS) as pool, tqdm(total=len(pairs), desc="check images", disable=None) as bar:
        for start in range(0, len(pairs), CHUNK):
            for measured in pool.map(lambda pair: _measure(study.work.raw, *pair), pairs[start : start + CHUNK]):
                yield measured
                bar.update()


def _measure(raw: Path, image: str, mask: str) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
    """Numbers of one image and its mask; the image (int64) and the mask (bool) at SIZE px, None where unreadable."""
    numbers: dict[str, Any] = dict.fromkeys(("width", "height", "bright", "mask_width", "mask_height", "mask_pixels"), np.nan)
    small = small_mask = None
    grey, numbers["content"], numbers["image_state"] = _decode(raw / image)
    numbers["digest"] = ""
    if grey is not None:
        numbers["height"], numbers["width"] = grey.shape
        numbers["bright"] = float((grey > DARK).mean())
        numbers["digest"] = hashlib.blake2b(repr(grey.shape).encode() + grey.tobytes(), digest_size=16).hexdigest()
        small = images.resize(grey, SIZE).astype(np.int64)
    drawn, numbers["mask_content"], numbers["mask_state"] = _decode(raw / mask) if mask else (None, "", "none")
    if drawn is not None:
        inside = drawn >= MASK_THRESHOLD
        numbers["mask_height"], numbers["mask_width"] = inside.shape
        numbers["mask_pixels"] = int(inside.sum())
        small_mask = images.resize(inside.astype(np.uint8) * 255, SIZE) >= MASK_THRESHOLD
    return numbers, small, small_mask


def _decode(path: Path) -> tuple[np.ndarray | None, str, str]:
    """Grey values, the format that the content has, and what is wrong with the file ('' when nothing)."""
    if not path.is_file():
        return None, "", "missing"
    try:
        grey = images.read_grey(path)
    except UserError as error:
        return None, "", str(error).removeprefix(f"{path} ").split(";")[0]
    with Image.open(path) as header:
        return grey, header.format or "", ""


# ---- the checks


def check(study: Study, seen: Survey) -> pd.DataFrame:
    """Every problem of the data set, one row each: image_id, patient, check, fatal, detail; the fatal ones first."""
    found = [
        *_check_files(seen.images),
        *_check_boxes(study, seen.images),
        *_check_masks(study, seen.images),
        *_check_copies(study, seen.images),
        *(_check_slices(seen.images) if study.has_patients else ()),
        *_check_annotations(study),
        *_check_labels(study),
    ]
    order = {name: position for position, name in enumerate(CHECKS)}
    table = pd.concat(found, ignore_index=True)
    return table.sort_values("check", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def _found(check: str, rows: pd.DataFrame, detail: str | pd.Series) -> pd.DataFrame:
    """Rows of audit.csv from rows that have image_id and patient; `detail` may hold a text for more rows than these."""
    if isinstance(detail, pd.Series):
        detail = detail.loc[rows.index]  # pandas would lengthen an empty frame to fit it
    made = rows.reindex(columns=["image_id", "patient"]).assign(check=check, fatal=CHECKS[check].fatal, detail=detail)
    return made[AUDIT_COLUMNS]


def _whole_set(check: str, detail: str) -> pd.DataFrame:
    return _found(check, pd.DataFrame({"image_id": [""], "patient": [""]}), detail)


def _check_files(seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    absent = seen["image_state"] == "missing"
    broken = (seen["image_state"] != "") & ~absent
    yield _found("missing_image", seen[absent], seen["image"])
    yield _found("unreadable_image", seen[broken], seen["image"] + " " + seen["image_state"])
    known = Image.registered_extensions()
    for file, content in (("image", "content"), ("mask", "mask_content")):
        said = seen[file].map(lambda name: known.get(Path(name).suffix.lower(), "no known format"))
        held = seen[content].replace("MPO", "JPEG")  # MPO is JPEG with a second picture behind it
        yield _found("wrong_extension", seen[(held != "") & (held != said)], seen[file] + " is " + seen[content])
    yield _found("near_black", seen[seen["bright"] < NEAR_BLACK], seen["bright"].map("{:.3%} of the pixels are not black".format))
    yield from _check_image_size(seen)


def _check_image_size(seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    readable = seen[seen["image_state"] == ""]
    if readable.empty:
        return
    size = readable["width"].map("{:.0f}".format) + " x " + readable["height"].map("{:.0f}".format)
    counts = size.value_counts()
    if len(counts) < 2:
        return
    if counts.iloc[0] > len(size) / 2:
        yield _found("image_size", readable[size != counts.index[0]], size + f" where most are {counts.index[0]} px")
    else:
        spread = " to ".join(f"{readable['width'].quantile(q):.0f} x {readable['height'].quantile(q):.0f}" for q in (0.05, 0.95))
        yield _whole_set("image_size", f"{len(counts)} sizes; 5th to 95th percentile {spread} px")


def _check_boxes(study: Study, seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    boxes = study.boxes.merge(seen[["image_id", "patient", "width", "height"]], on="image_id", how="left")
    corners = boxes[tables.BOX_COLUMNS[2:]].map("{:.6g}".format).agg(", ".join, axis=1) if len(boxes) else ""
    stray = boxes["patient"].isna()
    valid = (boxes["xmax"] > boxes["xmin"]) & (boxes["ymax"] > boxes["ymin"])
    low = boxes[["xmin", "ymin"]].min(axis=1) < -BOX_SLACK
    high = (boxes["xmax"] > boxes["width"] + BOX_SLACK) | (boxes["ymax"] > boxes["height"] + BOX_SLACK)
    yield _found("box_of_no_image", boxes[stray].fillna({"patient": ""}), corners)
    yield _found("box_invalid", boxes[~stray & ~valid], corners)
    yield _found("box_outside", boxes[~stray & valid & (low | high)], corners)


def _check_masks(study: Study, seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if (seen["mask"] == "").all():
        return
    has_mask, has_box = seen["mask_state"] == "", seen["image_id"].isin(study.boxes["image_id"])
    absent = seen["mask_state"].isin(["none", "missing"])
    whole_patient = absent.groupby(seen["patient"]).transform("all") & study.has_patients
    detail = whole_patient.map({True: "no mask in the whole patient", False: "no mask of this image"})
    yield _found("missing_mask", seen[absent], detail)
    yield _found("unreadable_mask", seen[~has_mask & ~absent], seen["mask"] + " " + seen["mask_state"])
    differs = (seen["width"] != seen["mask_width"]) | (seen["height"] != seen["mask_height"])
    sizes = [seen[name].map("{:.0f}".format) for name in ("width", "height", "mask_width", "mask_height")]
    text = "image " + sizes[0] + " x " + sizes[1] + ", mask " + sizes[2] + " x " + sizes[3] + " px"
    yield _found("mask_size", seen[has_mask & (seen["image_state"] == "") & differs], text)
    pixels = seen["mask_pixels"].map("{:.0f} px of mask".format)
    yield _found("tiny_mask", seen[(seen["mask_pixels"] > 0) & (seen["mask_pixels"] < TINY_MASK)], pixels)
    if has_box.any():
        yield _found("box_without_mask", seen[has_mask & has_box & (seen["mask_pixels"] == 0)], pixels)
        yield _found("mask_without_box", seen[has_mask & ~has_box & (seen["mask_pixels"] > 0)], pixels)


def _check_copies(study: Study, seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Images with the same pixels (hash of the decoded grey values), and patients that may be one."""
    twins = seen[(seen["digest"] != "") & seen["digest"].duplicated(keep=False)]
    groups = twins.groupby("digest")
    look = (twins["bright"] < NEAR_BLACK).map({True: ", near black", False: ""})
    across = groups["patient"].transform("nunique") > 1
    first = groups["image_id"].transform("first")
    size = groups["image_id"].transform("size").astype(str)
    yield _found("identical_across_patients", twins[across], "one of " + size + " copies of " + first + look)
    near = twins.groupby(["digest", "patient"])["image_id"]
    again = near.cumcount() > 0
    yield _found("identical_within_patient", twins[again], "same pixels as " + near.transform("first") + look)
    if study.has_patients:
        pairs = {**_same_name(sorted(seen["patient"].unique())), **_same_images(twins[twins["bright"] >= NEAR_BLACK])}
        rows = [{"image_id": "", "patient": pair[0], "detail": f"perhaps {pair[1]}: {why}"} for pair, why in pairs.items()]
        table = pd.DataFrame(rows, columns=["image_id", "patient", "detail"])
        yield _found("patient_two_names", table, table["detail"])


def _same_images(twins: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Pairs of patients that share several identical images that are not black."""
    shared: Counter[tuple[str, str]] = Counter()
    for _, patients in twins.groupby("digest")["patient"]:
        names = sorted(patients.unique())
        if len(names) <= EXAMPLES:  # an image that many patients have is a test card, not a name
            shared.update(combinations(names, 2))
    return {pair: f"{n} identical images" for pair, n in shared.items() if n >= SHARED_IMAGES}


def _same_name(patients: list[str]) -> dict[tuple[str, str], str]:
    """Pairs of names that are equal without case, separators and leading zeros; a bare number also equals 'letters + number'."""
    forms: dict[str, list[str]] = {}
    for patient in patients:
        form = re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "-", patient.lower()).strip("-")) if patient else ""
        forms.setdefault(re.sub(r"(?<=[a-z])-(?=\d)", "", form), []).append(patient)
    for form in list(forms):
        number = re.fullmatch(r"[a-z]+(\d+)", form)
        if number and number[1] in forms:
            forms[number[1]] += forms[form]
    return {pair: "the names differ only in zeros or a prefix" for same in forms.values() for pair in combinations(same, 2)}


def _check_slices(seen: pd.DataFrame) -> Iterator[pd.DataFrame]:
    rows = seen.dropna(subset="slice").sort_values(["patient", "slice", "image_id"])
    if rows.empty:
        return
    number = rows["slice"].astype(int)
    before = number.groupby(rows["patient"]).shift()
    images_of_patient = rows.groupby("patient")["slice"].transform("size").astype(str)
    late = before.isna() & (number > 1)
    yield _found("slice_gap", rows[late], "the first of " + images_of_patient + " slices is number " + number.astype(str))
    jump = "slice " + number.astype(str) + " follows " + before.map("{:.0f}".format)
    yield _found("slice_gap", rows[number - before > 1], jump)
    yield _found("slice_repeat", rows[number == before], "slice " + number.astype(str) + " twice")


def _check_annotations(study: Study) -> Iterator[pd.DataFrame]:
    if study.repairs is None:
        return
    dropped = study.repairs[study.repairs["repair"].str.startswith("dropped")]
    rows = pd.DataFrame({"image_id": dropped["file"].map(lambda name: Path(name).stem)})
    rows = rows.merge(study.labels[["image_id", "patient"]], on="image_id", how="left").set_index(dropped.index)
    rows.loc[rows["patient"].isna()] = ""  # the name of the file tells no image
    yield _found("dropped_annotation", rows, dropped["file"] + ": " + dropped["problem"])


def _check_labels(study: Study) -> Iterator[pd.DataFrame]:
    labels, names = study.labels, study.dataset.labels
    unknown = labels[names].isna()
    which = unknown.apply(lambda row: ", ".join(row.index[row]), axis=1)
    yield _found("unknown_label", labels[unknown.any(axis=1)], which)
    if not study.has_patients:
        why = study.dataset.patient_source or "each image is its own group"
        yield _whole_set("no_patient", why)
    elif not study.dataset.exclusive:  # of exclusive classes none is the negative one
        positive = (labels[names] == 1).fillna(False).any(axis=1)
        negative = (labels[names] == 0).fillna(False).all(axis=1)
        by_patient = pd.DataFrame({"patient": labels["patient"], "n": 1, "positive": positive, "negative": negative})
        totals = by_patient.groupby("patient", as_index=False).sum()
        totals = totals[totals["n"] > 1].assign(image_id="")
        slices = totals["n"].astype(str) + " slices"
        yield _found("patient_no_positive", totals[totals["positive"] == 0], slices)
        yield _found("patient_no_negative", totals[totals["negative"] == 0], slices)


# ---- the summary


def summarise(study: Study, seen: Survey, found: pd.DataFrame) -> dict[str, Any]:
    """The content of audit.json."""
    labels, dataset = study.labels, study.dataset
    return {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "patient_source": dataset.patient_source or None,
        "labels_mean": study.mask_note or None,
        "images": len(labels),
        "patients": labels["patient"].nunique() if study.has_patients else None,
        "positives": {name: int((labels[name] == 1).sum()) for name in dataset.labels},
        "unknown": {name: int(labels[name].isna().sum()) for name in dataset.labels},
        "repairs": {} if study.repairs is None else study.repairs["problem"].str.split(":").str[0].value_counts().to_dict(),
        "fatal": int(found["fatal"].sum()),
        "checks": {name: _summary_of(name, found[found["check"] == name]) for name in CHECKS},
        "ceiling": ceiling(study, seen),
        "statistics": statistics(study, seen),
    }


def _summary_of(name: str, found: pd.DataFrame) -> dict[str, Any]:
    subject = found["image_id"].where(found["image_id"] != "", found["patient"])
    examples = (subject + ": " + found["detail"]).str.removeprefix(": ")
    return {"count": len(found), **CHECKS[name]._asdict(), "examples": examples.head(EXAMPLES).tolist()}


def ceiling(study: Study, seen: Survey) -> dict[str, Any]:
    """How many slices with a box 'any mask pixel' could find at best. Slices whose mask is missing are left out, counted."""
    boxed = seen.images[seen.images["image_id"].isin(study.boxes["image_id"])]
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


def statistics(study: Study, seen: Survey) -> dict[str, Any]:
    """Quantiles of lesion areas (px, mm2 where the spacing is known), of slices per patient; boxes per slice that has one."""
    table, boxes = seen.images, study.boxes
    per_slice = boxes["image_id"].value_counts().value_counts().sort_index()
    slices = study.labels["patient"].value_counts()
    box, mask = lesion_areas(study, seen)
    return {
        **{f"{kind}_area_{unit}": _quantiles(areas[unit]) for kind, areas in (("box", box), ("mask", mask)) for unit in areas},
        "boxes_per_slice": {str(n): int(count) for n, count in per_slice.items()},
        "slices_per_patient": _quantiles(slices) if study.has_patients else None,
        "width_px": _quantiles(table["width"].dropna()),
        "height_px": _quantiles(table["height"].dropna()),
    }


def lesion_areas(study: Study, seen: Survey) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Areas of all boxes and of all masks that are not empty: columns `px` and, where every spacing is known, `mm2`."""
    table = seen.images.assign(mm2=np.nan)
    if {"spacing_row", "spacing_col"} <= set(table.columns):
        table["mm2"] = table["spacing_row"] * table["spacing_col"]
    boxes = study.boxes.merge(table[["image_id", "mm2"]], on="image_id")
    box = pd.DataFrame({"px": (boxes["xmax"] - boxes["xmin"]) * (boxes["ymax"] - boxes["ymin"]), "mm2": boxes["mm2"]})
    masks = table[table["mask_pixels"] > 0]
    mask = pd.DataFrame({"px": masks["mask_pixels"], "mm2": masks["mm2"]})
    return tuple(_in_mm2(areas[areas["px"] > 0]) for areas in (box, mask))  # type: ignore[return-value]


def _in_mm2(areas: pd.DataFrame) -> pd.DataFrame:
    if areas.empty or areas["mm2"].isna().any():
        return areas[["px"]]
    return areas.assign(mm2=areas["px"] * areas["mm2"])


def _quantiles(values: pd.Series) -> dict[str, float] | None:
    if values.empty:
        return None
    names = {"min": 0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1}
    return {"n": len(values), **{name: round(float(values.quantile(q)), 1) for name, q in names.items()}}
