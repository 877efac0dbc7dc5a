"""What all readers share: the user's choices, the patient of an image, the file that a row means, the tables they return."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.ingest import annotations as ingest_annotations, conversion_tables, image_names, layouts, table_text
from hemoct.ingest.annotations import AnnotationError, Box
from hemoct.ingest.options import AUTO

LONGEST_NAME = 150  # bytes: figures are called by it
PROBLEM_COLUMNS = ["name", "problem"]
FOLDER = r"([^/]+)/[^/]+$"
RULES = (
    r"^(\d+)[_-]",
    r"^([A-Za-z]+[_-]?\d+)[_-]",
    r"^([^_]+)_",
    r"^([^-]+)-",
    r"^([^_]+_[^_]+)_",
    r"^(.+?)[ _-]*\(?\d+\)?$",
    FOLDER,
)
"""rules on file names that tell patients apart, searched in the file's stem, or in its path without suffix where the rule has a
`/`; the first group is the patient; from the coarsest to the finest, as far as that can be said"""
FEWEST, SINGLES = 5, 0.5
"""a rule is proposed where it finds so many patients (one a fold), of whom less than this share has but one image"""


@dataclass(frozen=True)
class Tables:
    """What a reader returns: labels.csv, boxes.csv, dataset.json; the others only if they have any rows."""

    labels: pd.DataFrame
    boxes: pd.DataFrame
    dataset: tables.Dataset
    patients: pd.DataFrame | None = None
    problems: pd.DataFrame | None = None
    """name, problem: what did not match and was left out; see `problems_frame`"""


@dataclass(frozen=True)
class LabelTable:
    """A table of images and labels whose labels are read and whose files are looked up."""

    raw: Path
    """data/raw/NAME"""
    source: Path
    """the file of the table"""
    rows: pd.DataFrame
    """label columns (Int64), `_name` (the image as the source calls it), `_path` (its file, relative to `raw`, "" if there is
    none), then patient, slice, mask and the optional columns of labels.csv as text"""
    labels: list[str]
    images: list[Path]
    """all images in `raw`, relative to it"""
    layout: str


def problems_frame(problems: dict[str, Iterable[str]]) -> pd.DataFrame:
    """Rows of label_problems.csv from the names that share a problem."""
    return pd.DataFrame([(name, problem) for problem, names in problems.items() for name in names], columns=PROBLEM_COLUMNS)


def image_rows(images: list[Path], regex: str | None) -> tuple[pd.DataFrame, str]:
    """The columns tables.IMAGE_COLUMNS with empty mask and annotation, and the patient source for dataset.json.

    `regex` is searched in each file's stem (see RULES), its first group is the patient; AUTO: the rule that is proposed.
    Without it an image is its own patient.
    """
    frame = pd.DataFrame({"image_id": layouts.image_ids(images), "image": [path.as_posix() for path in images]}, dtype="object")
    frame["mask"] = frame["annotation"] = ""
    if regex is None:
        frame["patient"], frame["slice"] = frame["image_id"], pd.NA
        return frame, tables.NO_PATIENTS
    if regex == AUTO:
        proposal = propose(images)
        if proposal is None:
            raise UserError(f"--patient-regex {AUTO}: no usual rule groups the file names (first: {images[0]}); write the rule")
        print(f"rule for patients, from the file names: {proposal}")
        regex = proposal.rule
    rule = _compiled(regex)
    matches = [rule.search(searched(regex, path)) for path in images]
    unmatched = [path for path, match in zip(images, matches, strict=True) if not match or not match[1]]
    if unmatched:
        raise UserError(
            f"--patient-regex '{regex}' finds no patient in {len(unmatched)} of {len(images)} file names "
            f"(first: {unmatched[0].stem!r}); change it so that it matches them"
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
    """The number at the end of a file's stem if it stands alone: 21 in `13_21`, none in a hash such as `ID_4e1a3b912`."""
    match = re.search(r"(?<![0-9A-Za-z])[0-9]{1,9}$", text)
    return int(match[0]) if match else None


def boxes_frame(boxes: dict[str, Iterable[Box]]) -> pd.DataFrame:
    """Boxes by image_id as rows of boxes.csv."""
    rows = [(image_id, box.name, box.xmin, box.ymin, box.xmax, box.ymax) for image_id, group in boxes.items() for box in group]
    return pd.DataFrame(rows, columns=tables.BOX_COLUMNS)


def presence(frame: pd.DataFrame, boxes: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A label (Int64) for each class: 1 on an image with a box of it, 0 without, NA if the image's `annotation` is not known."""
    counts = pd.crosstab(boxes["image_id"], boxes["class"]).reindex(index=frame["image_id"], columns=names, fill_value=0)
    return (counts.reset_index(drop=True) > 0).astype("Int64").where(frame["annotation"] != "")


def describe(frame: pd.DataFrame, boxes: pd.DataFrame, dataset: tables.Dataset, folder: Path) -> None:
    """Fill in the image size and the counts of a data set; refuse label names that the tables need for themselves."""
    taken = sorted(set(dataset.labels) & tables.RESERVED)
    if taken:
        raise UserError(f"{folder}: the label or class {taken[0]!r} has the name of a column that the tables need; rename it")
    long = [name for name in dataset.labels if len(name.encode()) > LONGEST_NAME]
    if long:
        raise UserError(f"{folder}: the label {long[0][:30]!r} ... has {len(long[0])} letters, too many for a file; rename it")
    if twice := [name for name in dataset.labels if dataset.labels.count(name) > 1]:
        raise UserError(f"{folder}: two labels are called {twice[0]!r}; rename one of them")
    dataset.image_size = _common_size(folder, frame["image"])
    labels = frame[dataset.labels].astype("Int64")
    dataset.counts = {
        **{"images": len(frame), "patients": frame["patient"].nunique()},
        **{"masks": int((frame["mask"] != "").sum()), "boxes": len(boxes)},
        **{f"{name} = 1": int((labels[name] == 1).sum()) for name in dataset.labels},
        "unknown": int(labels.isna().any(axis=1).sum()),
    }


def _common_size(folder: Path, names: Iterable[str]) -> list[int] | None:
    """[width, height] if the headers of all readable images agree. Step 04 reports the unreadable ones."""
    sizes = set()
    for name in tqdm(names, desc="image sizes", disable=None):
        try:
            sizes.add(ingest_annotations.image_header(folder / name)[:2])
        except AnnotationError:
            continue
        if len(sizes) > 1:
            return None
    return list(sizes.pop()) if sizes else None


def images_without_file(table: LabelTable, skip: bool) -> dict[str, list[str]]:
    """The names of images that are missing, by problem. They stop the step unless `skip`; if all are missing it always stops.

    It stops with files of the same name, or else with the name of any file there, and with what to do.
    """
    names = table.rows["_name"]
    missing = names[table.rows["_path"] == ""]
    if missing.empty:
        return {}
    skipped = _skipped_by_conversion(table.raw, missing)
    detail = f"first: {', '.join(missing[:3])}"
    if skipped:
        detail += f"; {len(skipped)} of them were skipped by the conversion, {table.raw / conversion_tables.BAD} says why"
    count, none = f"{len(missing)} of {len(names)} images", len(missing) == len(names)
    if skip and not none:
        print(f"{count} not found and left out ({detail})")
        why = f"skipped by the conversion, see {conversion_tables.BAD}"
        return {"no file": [*missing[~missing.isin(skipped)]], why: [*missing[missing.isin(skipped)]]}
    remedy = "add them"
    first = image_names.plain(missing.iloc[0]).rsplit("/", 1)[-1]
    alike = [path for path in table.images if image_names.plain(path.name) == first]
    alike = [path for path in alike if not image_names.is_beside(path)] or alike
    if alike:
        detail += f"; files of this name: {', '.join(path.as_posix() for path in alike[:3])}"
        remedy = "write the path of the right image into the table, or add it"
    elif none:
        detail += f"; a file there: {table.images[0].as_posix()}" if table.images else "; no image is there"
        remedy += ", or name the column of the images with --image-column" if table.layout == "csv" else ""
    remedy += "" if none else ", or continue without them with --skip-missing"
    raise UserError(f"{table.source}: {count} are not in {table.raw} ({detail}); {remedy}")


def _skipped_by_conversion(raw: Path, names: pd.Series) -> set[str]:
    """The names of files that the conversion of DICOM skipped; none if nothing was converted."""
    table = raw / conversion_tables.BAD
    if not table.is_file():
        return set()
    listed = table_text.read(table)["file"].map(tables.as_written) if table_text.has_rows(table) else ()
    passed_over = {*map(_stem, listed)}
    return {name for name in names if _stem(name) in passed_over}


def _stem(name: str) -> str:
    return image_names.bare(name).rsplit("/", 1)[-1]


# ---- which rule on file names tells patients apart: proposed, and used only when asked for


@dataclass(frozen=True)
class Proposal:
    """A rule, and what it makes of the file names."""

    rule: str
    patients: int
    example: str
    """two files that are taken for one patient"""

    def __str__(self) -> str:
        return f"'{self.rule}' gives {self.patients} patients ({self.example})"


def searched(rule: str, path: Path) -> str:
    """What of an image's path (relative to data/raw/NAME) a rule is searched in."""
    return path.with_suffix("").as_posix() if "/" in rule else path.stem


def propose(images: list[Path], classes: Collection[str] = ()) -> Proposal | None:
    """The rule that groups the images best: the coarsest that matches all and leaves few of them alone; None if there is none.

    `classes` are no patients, though folders may be called like them.
    """
    found = []
    for rule in RULES:
        matches = [re.search(rule, searched(rule, path)) for path in images]
        if not all(matches):
            continue
        patients = [match[1] for match in matches]
        counts = Counter(patients)
        alone = sum(count == 1 for count in counts.values())
        if len(counts) >= FEWEST and not counts.keys() <= {*classes} and alone < SINGLES * len(counts):
            first = next(name for name in patients if counts[name] > 1)
            pair = [path.name for path, name in zip(images, patients, strict=True) if name == first][:2]
            found.append(Proposal(rule, len(counts), f"{' and '.join(pair)} are {first}"))
    return min(found, key=lambda each: each.patients, default=None)
