"""Which rule on file names tells patients apart, found by trying the usual ones: it is proposed, and used only when asked for.

A rule is a regular expression that is searched in the file's stem, or in its path without suffix where the rule has a `/`; its
first group is the patient.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

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
"""from the coarsest to the finest, as far as that can be said"""
FEWEST, SINGLES = 5, 0.5
"""a rule is proposed where it finds so many patients (one a fold), of whom less than this share has but one image"""


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
