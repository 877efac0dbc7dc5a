"""The checks of a data set: each problem is one row of audit.csv, under the name of its check."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, compress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from hemoct.audit import drift
from hemoct.audit.reading import DARK, UNREAD, Audited
from hemoct.base import tables
from hemoct.ingest import annotations as ingest_annotations

NEAR_BLACK = 0.002  # a slice with a smaller share of brighter pixels shows no head
TINY_MASK = 10  # px; the smallest real lesions are larger
BOX_SLACK = 0.5  # px by which a box may cross the border: rounding of relative (YOLO) coordinates
LARGE_MASK = 0.5  # share of the image; no lesion of a head covers so much of it
SHARED_IMAGES = 2  # two patients with so many identical images look like one
MOST_SHARING = 5  # an image that more patients have is a test image, and no sign that they are one person
OF_PIXELS = ("unreadable_image", "unreadable_mask", "mask_size", "mask_inverted", "mask_classes", "mask_values", "mask_reading",
             "mask_large", "box_without_mask", "mask_without_box", "tiny_mask", "mask_drift", "identical_across_patients",
             "identical_within_patient", "near_black", "wrong_extension", "image_size")  # fmt: skip
"""checks that know nothing of images outside a sample"""
AUDIT_COLUMNS = ["image_id", "patient", "check", "fatal", "detail"]
WHOLE_SET = pd.DataFrame({"image_id": [""], "patient": [""]})
Problems = tuple[str, pd.DataFrame, str | pd.Series]
"""a check, the rows of labels.csv that it found (or others with image_id and patient), and what is wrong with each"""


class Check(NamedTuple):
    """A fatal problem breaks or falsifies a later step; any other should be known, but need not be repaired first."""

    fatal: bool
    explanation: str


CHECKS = {
    "missing_image": Check(True, "labels.csv names an image that is not there"),
    "unreadable_image": Check(True, "the image cannot be decoded whole (truncated or no image)"),
    "unreadable_mask": Check(True, "the mask cannot be decoded whole"),
    "mask_size": Check(True, "mask and image differ in size"),
    "mask_inverted": Check(
        True,
        "the lesion reaches all corners: a white background? invert it, or name the lesion, here and in task 3: --mask-value 0",
    ),
    "mask_classes": Check(
        True,
        "masks differ in the value of the lesion: two classes? say which one is the lesion, here and in task 3: --mask-value N",
    ),
    "mask_values": Check(False, "the mask has several values: task 3 needs --mask-value N; here all of them count"),
    "mask_reading": Check(False, "the mask is no black and white image; it was read as said here"),
    "mask_large": Check(False, "the mask covers more than half of the image"),
    "box_invalid": Check(True, "the box has no area: xmax <= xmin, ymax <= ymin, or not a number"),
    "box_outside": Check(True, f"the box leaves the image by more than {BOX_SLACK} px"),
    "box_other_size": Check(
        True, "the annotation's <size> is not that of its image: boxes of another copy? scale or redraw them, or correct <size>"
    ),
    "box_of_no_image": Check(False, "the box belongs to an image that labels.csv does not have; no step uses it"),
    "missing_mask": Check(False, "other images have a mask, this one has none: not an empty mask, left out by segmentation"),
    "box_without_mask": Check(False, "a box, but an empty mask: a mask can never find this slice"),
    "mask_without_box": Check(False, "mask pixels, but no box"),
    "tiny_mask": Check(False, f"a mask of fewer than {TINY_MASK} pixels: probably a stray click"),
    "mask_drift": Check(
        False, "masks change with the order of the patients: several annotators, or rules? task 3 learns their mean"
    ),
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


def check(data: Audited) -> pd.DataFrame:
    """Every problem of the data set, one row each: image_id, patient, check, fatal, detail; the fatal ones first."""
    groups = (_check_files, _check_image_size, _check_boxes, _check_masks, _check_mask_values, _check_copies, _check_slices,
              _check_annotations, _check_labels)  # fmt: skip
    order = {name: position for position, name in enumerate(CHECKS)}
    table = pd.concat([_problems(*problems) for group in groups for problems in group(data)], ignore_index=True)
    return table.sort_values("check", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def _problems(check: str, rows: pd.DataFrame, detail: str | pd.Series) -> pd.DataFrame:
    """Rows of audit.csv from rows with image_id and patient; `detail` may have a text for more rows than these."""
    if isinstance(detail, pd.Series):
        detail = detail.loc[rows.index]  # otherwise pandas would lengthen an empty frame to fit it
    table = rows.reindex(columns=["image_id", "patient"]).assign(check=check, fatal=CHECKS[check].fatal, detail=detail)
    return table[AUDIT_COLUMNS]


def _check_files(data: Audited) -> Iterator[Problems]:
    images = data.images
    absent = images["image_state"] == "missing"
    broken = ~images["image_state"].isin(["", "missing", UNREAD])
    yield "missing_image", images[absent], images["image"]
    yield "unreadable_image", images[broken], images["image"] + " " + images["image_state"]
    known = Image.registered_extensions()
    for file, content in (("image", "content"), ("mask", "mask_content")):
        expected = images[file].map(lambda name: known.get(os.path.splitext(name)[1].lower(), "no known format"))
        actual = images[content].replace("MPO", "JPEG")  # MPO is JPEG with a second picture behind it
        wrong = (actual != "") & (actual != expected)
        yield "wrong_extension", images[wrong], images[file] + " is " + images[content]
    black = images[images["bright"] < NEAR_BLACK]
    yield "near_black", black, black["bright"].map("{:.3%} of the pixels are not black".format)


def _check_image_size(data: Audited) -> Iterator[Problems]:
    readable = data.images[data.images["image_state"] == ""]
    if readable.empty:
        return
    size = readable["width"].map("{:.0f}".format) + " x " + readable["height"].map("{:.0f}".format)
    counts = size.value_counts()
    if len(counts) < 2:
        return
    if counts.iloc[0] > len(size) / 2:
        yield "image_size", readable[size != counts.index[0]], size + f" where most are {counts.index[0]} px"
    else:
        spread = " to ".join(f"{readable['width'].quantile(q):.0f} x {readable['height'].quantile(q):.0f}" for q in (0.05, 0.95))
        yield "image_size", WHOLE_SET, f"{len(counts)} sizes; 5th to 95th percentile {spread} px"


def _check_boxes(data: Audited) -> Iterator[Problems]:
    boxes = data.boxes.merge(data.images[["image_id", "patient", "width", "height"]], on="image_id", how="left")
    corners = boxes[tables.BOX_COLUMNS[2:]].map("{:.6g}".format).agg(", ".join, axis=1) if len(boxes) else ""
    without_image = boxes["patient"].isna()
    valid = (boxes["xmax"] > boxes["xmin"]) & (boxes["ymax"] > boxes["ymin"])
    low = boxes[["xmin", "ymin"]].min(axis=1) < -BOX_SLACK
    high = (boxes["xmax"] > boxes["width"] + BOX_SLACK) | (boxes["ymax"] > boxes["height"] + BOX_SLACK)
    yield "box_of_no_image", boxes[without_image].fillna({"patient": ""}), corners
    yield "box_invalid", boxes[~without_image & ~valid], corners
    yield "box_outside", boxes[~without_image & valid & (low | high)], corners


def _check_masks(data: Audited) -> Iterator[Problems]:
    images = data.images
    if (images["mask"] == "").all():
        return
    has_mask, has_box = images["mask_state"] == "", images["image_id"].isin(data.boxes["image_id"])
    absent = images["mask_state"].isin(["none", "missing"])
    whole_patient = absent.groupby(images["patient"]).transform("all") & data.has_patients
    detail = whole_patient.map({True: "no mask in the whole patient", False: "no mask of this image"})
    yield "missing_mask", images[absent], detail
    broken = ~images["mask_state"].isin(["", "none", "missing", UNREAD])
    yield "unreadable_mask", images[broken], images["mask"] + " " + images["mask_state"]
    differs = (images["width"] != images["mask_width"]) | (images["height"] != images["mask_height"])
    other = images[has_mask & (images["image_state"] == "") & differs]
    sizes = [other[name].map("{:.0f}".format).astype(str) for name in ("width", "height", "mask_width", "mask_height")]
    yield "mask_size", other, "image " + sizes[0] + " x " + sizes[1] + ", mask " + sizes[2] + " x " + sizes[3] + " px"
    pixels = images["mask_pixels"].map("{:.0f} px of mask".format)
    yield "tiny_mask", images[(images["mask_pixels"] > 0) & (images["mask_pixels"] < TINY_MASK)], pixels
    if has_box.any():
        yield "box_without_mask", images[has_mask & has_box & (images["mask_pixels"] == 0)], pixels
        yield "mask_without_box", images[has_mask & ~has_box & (images["mask_pixels"] > 0)], pixels
    found = drift.measure(data)
    if found and found["p"] < drift.UNLIKELY:
        yield "mask_drift", WHOLE_SET, drift.words(found)


def _check_mask_values(data: Audited) -> Iterator[Problems]:
    """What a mask holds: which value is the lesion, and whether it may be the background."""
    images = data.images
    share = images["mask_pixels"] / (images["mask_width"] * images["mask_height"])
    large, text = share > LARGE_MASK, share.map("{:.0%} of the image is lesion".format)
    yield "mask_inverted", images[large & images["mask_corners"]], text
    yield "mask_large", images[large & ~images["mask_corners"]], text
    yield "mask_values", images[images["mask_values"] != ""], images["mask_values"]
    yield "mask_reading", images[images["mask_note"] != ""], images["mask_note"]
    counts = images["mask_value"].value_counts().sort_index()
    if len(counts) > 1 and not {*counts.index} <= {1, 255}:  # 0 and 1 mean what black and white mean
        yield "mask_classes", WHOLE_SET, ", ".join(f"{value:.0f} in {count} masks" for value, count in counts.items())


def _check_copies(data: Audited) -> Iterator[Problems]:
    """Images with the same pixels (hash of the decoded grey values), and patients that may be one."""
    images = data.images
    twins = images[(images["digest"] != "") & images["digest"].duplicated(keep=False)]
    groups = twins.groupby("digest")
    black = (twins["bright"] < NEAR_BLACK).map({True: ", near black", False: ""})
    across = groups["patient"].transform("nunique") > 1
    first = groups["image_id"].transform("first")
    size = groups["image_id"].transform("size").astype(str)
    yield "identical_across_patients", twins[across], "one of " + size + " copies of " + first + black
    near = twins.groupby(["digest", "patient"])["image_id"]
    again = near.cumcount() > 0
    yield "identical_within_patient", twins[again], "same pixels as " + near.transform("first") + black
    if data.has_patients:
        pairs = {**_same_name(sorted(images["patient"].unique())), **_same_images(twins[twins["bright"] >= NEAR_BLACK])}
        rows = [("", one, f"perhaps {other}: {why}") for (one, other), why in pairs.items()]
        table = pd.DataFrame(rows, columns=["image_id", "patient", "detail"])
        yield "patient_two_names", table, table["detail"]


def _same_images(twins: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Pairs of patients that share several identical images that are not black."""
    shared: Counter[tuple[str, str]] = Counter()
    for _, patients in twins.groupby("digest")["patient"]:
        names = sorted(patients.unique())
        if len(names) <= MOST_SHARING:
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


def _check_slices(data: Audited) -> Iterator[Problems]:
    rows = data.images.dropna(subset="slice").sort_values(["patient", "slice", "image_id"])
    if rows.empty or not data.has_patients:
        return
    number = rows["slice"].astype(int)
    before = number.groupby(rows["patient"]).shift()
    images_of_patient = rows.groupby("patient")["slice"].transform("size").astype(str)
    late = before.isna() & (number > 1)
    yield "slice_gap", rows[late], "the first of " + images_of_patient + " slices is number " + number.astype(str)
    jump = "slice " + number.astype(str) + " follows " + before.map("{:.0f}".format)
    yield "slice_gap", rows[number - before > 1], jump
    yield "slice_repeat", rows[number == before], "slice " + number.astype(str) + " twice"


def _check_annotations(data: Audited) -> Iterator[Problems]:
    for check, sign in (("dropped_annotation", ingest_annotations.DROPPED), ("box_other_size", ingest_annotations.DOUBTFUL)):
        found = data.repairs[data.repairs["repair"].str.startswith(sign)]
        rows = pd.DataFrame({"image_id": found["file"].map(lambda name: Path(name).stem)})
        rows = rows.merge(data.images[["image_id", "patient"]], on="image_id", how="left").set_index(found.index)
        rows.loc[rows["patient"].isna()] = ""  # no image has the name of this file
        yield check, rows, found["file"] + ": " + found["problem"]


def _check_labels(data: Audited) -> Iterator[Problems]:
    labels, names = data.images, data.dataset.labels
    unknown = labels[names].isna()
    some = unknown[unknown.any(axis=1)]
    which = pd.Series([", ".join(compress(names, row)) for row in some.to_numpy()], some.index, dtype=str)
    yield "unknown_label", labels.loc[some.index], which
    if not data.has_patients:
        yield "no_patient", WHOLE_SET, data.dataset.patient_source or "each image is its own group"
    elif not data.dataset.exclusive:  # of exclusive classes none is the negative one
        positive = (labels[names] == 1).fillna(False).any(axis=1)
        negative = (labels[names] == 0).fillna(False).all(axis=1)
        by_patient = pd.DataFrame({"patient": labels["patient"], "n": 1, "positive": positive, "negative": negative})
        totals = by_patient.groupby("patient", as_index=False).sum()
        totals = totals[totals["n"] > 1].assign(image_id="")
        slices = totals["n"].astype(str) + " slices"
        yield "patient_no_positive", totals[totals["positive"] == 0], slices
        yield "patient_no_negative", totals[totals["negative"] == 0], slices
