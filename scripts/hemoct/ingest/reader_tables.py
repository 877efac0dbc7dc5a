"""What all layouts share when labels are made: the user's choices, the patient of an image, the tables that come out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.ingest import annotations as ingest_annotations
from hemoct.ingest.annotations import AnnotationError, Box

NO_PATIENTS = "none: each image is its own group"
PROBLEM_COLUMNS = ["name", "problem"]


@dataclass(frozen=True)
class Options:
    """What a user may say about a data set. Each layout takes some of them (`label_sources.READERS`)."""

    image_set: str | None = None
    patient_regex: str | None = None
    patient_column: str | None = None
    csv: str | None = None
    image_column: str | None = None
    labels: list[str] | None = None
    exclusive: bool = False
    skip_missing: bool = False


@dataclass(frozen=True)
class Tables:
    """What a layout's reader returns: labels.csv, boxes.csv, dataset.json; where there is something to tell, the others."""

    labels: pd.DataFrame
    boxes: pd.DataFrame
    dataset: tables.Dataset
    patients: pd.DataFrame | None = None
    problems: pd.DataFrame | None = None
    """name, problem: what did not fit together and was passed over; see `problems_frame`"""


def problems_frame(found: dict[str, Iterable[str]]) -> pd.DataFrame:
    """Rows of label_problems.csv from the names that share a problem."""
    return pd.DataFrame([(name, problem) for problem, names in found.items() for name in names], columns=PROBLEM_COLUMNS)


def image_rows(images: list[Path], ids: list[str], regex: str | None) -> tuple[pd.DataFrame, str]:
    """The columns tables.IMAGE_COLUMNS with empty mask and annotation, and the patient source for dataset.json.

    `regex` is searched in each file's stem, its first group is the patient. Without it an image is its own patient.
    """
    frame = pd.DataFrame({"image_id": ids, "image": [path.as_posix() for path in images]}, dtype="object")
    frame["mask"] = frame["annotation"] = ""
    if regex is None:
        frame["patient"], frame["slice"] = frame["image_id"], pd.NA
        return frame, NO_PATIENTS
    rule = _compiled(regex)
    matches = [rule.search(path.stem) for path in images]
    unmatched = [path for path, match in zip(images, matches, strict=True) if not match or not match[1]]
    if unmatched:
        raise UserError(
            f"--patient-regex '{regex}' finds no patient in {len(unmatched)} of {len(images)} file names "
            f"(first: {unmatched[0].stem!r}); widen it"
        )
    frame["patient"] = [match[1] for match in matches]
    frame["slice"] = [slice_number(match.string[match.end(1) :]) for match in matches]
    return frame, f"regex {regex}"


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        rule = re.compile(regex)
    except re.error as error:
        raise UserError(f"--patient-regex '{regex}' is no regular expression ({error})") from None
    if not rule.groups:
        raise UserError(rf"--patient-regex '{regex}' has no group; put the patient's part in brackets, e.g. '^(\d+)_'")
    return rule


def slice_number(text: str) -> int | None:
    """The number that ends a file's stem when it stands alone: 21 in `13_21`, none in a hash such as `ID_4e1a3b912`."""
    found = re.search(r"(?<![0-9A-Za-z])[0-9]{1,9}$", text)
    return int(found[0]) if found else None


def boxes_frame(boxes: dict[str, Iterable[Box]]) -> pd.DataFrame:
    """Boxes by image_id as rows of boxes.csv."""
    rows = [(image_id, box.name, box.xmin, box.ymin, box.xmax, box.ymax) for image_id, found in boxes.items() for box in found]
    return pd.DataFrame(rows, columns=tables.BOX_COLUMNS)


def presence(ids: Iterable[str], boxes: dict[str, list[Box]], name: str | None = None) -> list[int | None]:
    """1 where an image has a box (of class `name`), 0 where it has none, None where its boxes are not known."""
    return [int(any(name in (None, box.name) for box in boxes[image_id])) if image_id in boxes else None for image_id in ids]


def describe(frame: pd.DataFrame, boxes: pd.DataFrame, dataset: tables.Dataset, folder: Path) -> None:
    """Fill in the image size and the counts of a data set; refuse label names that the tables need for themselves."""
    taken = sorted(set(dataset.labels) & tables.RESERVED)
    if taken:
        raise UserError(f"{folder}: the label or class {taken[0]!r} has the name of a column that the tables need; rename it")
    dataset.image_size = _common_size(folder, frame["image"])
    known = frame[dataset.labels].astype("Int64")
    dataset.counts = {
        **{"images": len(frame), "patients": frame["patient"].nunique()},
        **{"masks": int((frame["mask"] != "").sum()), "boxes": len(boxes)},
        **{f"{name} = 1": int((known[name] == 1).sum()) for name in dataset.labels},
        "unknown": int(known.isna().any(axis=1).sum()),
    }


def _common_size(folder: Path, names: Iterable[str]) -> list[int] | None:
    """[width, height] when the headers of all readable images agree. Unreadable ones are the audit's business."""
    sizes = set()
    for name in tqdm(names, desc="image sizes", disable=None):
        try:
            sizes.add(ingest_annotations.image_header(folder / name)[:2])
        except AnnotationError:
            continue
        if len(sizes) > 1:
            return None
    return list(sizes.pop()) if sizes else None
