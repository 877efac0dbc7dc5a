"""What the labels of a data set mean, said in one place: in a caption, beside a metric, in a report. Keyed by layout."""

import re

CAPTION = {"phe-sich": "mask = perihematomal edema, not bleeding; box = bleeding and edema"}

BOX = {"phe-sich": "bleeding and edema"}

MASK = {"phe-sich": "perihematomal edema"}
"""what a mask outlines; see `lesion`"""

TARGET = {"phe-sich": "hemorrhage: the slice has a box; boxes enclose bleeding and edema, masks outline the edema alone"}

REPORT = {
    "phe-sich": "The masks outline the perihematomal edema (PHE), the dark rim around the bleeding, not the bleeding itself. "
    "The boxes enclose bleeding and edema; a slice is positive when it has a box. There are no labels for a hemorrhage's type. "
    "'Hemorrhage from masks' is therefore a proxy, and slices with a box but an empty mask can never be found by it.",
}

ANY = "any"
"""the label that says whether there is any of the others"""
NORMAL = re.compile(r"normal|negative|none|healthy|(no|non|without)([_ -].*)?", re.IGNORECASE)
"""names of labels that say that there is nothing"""

SIDE = "side_"
"""how labels begin that tell left from right; they would be wrong in a mirrored image"""


def lesion(layout: str | None) -> str:
    """What the masks outline, in words; `lesion` where it is not told."""
    return MASK.get(layout, "lesion")
