"""What a user may say about a data set and its conversion. Imports nothing that computes: --help shall be quick."""

import argparse
import re
import zlib
from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.options import flag

LAYOUTS = ("phe-sich", "voc", "folders", "csv", "rsna", "yolo", "masks")
ORIGIN = "hemoct_origin.json"  # lies in every data set that 01_get_data.py drew, converted or downloaded
AUTO = "auto"
IMAGE_COLUMNS = ("image", "filename", "image_id")
"""columns of a table that may name the image, in lower case"""


@dataclass(frozen=True)
class Shard:
    """One of `of` parts of the files of a conversion, from 1: each a job of its own, on any machine that sees the folder."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From `3/8`."""
        found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise argparse.ArgumentTypeError(f"{text!r} is no shard; 3/8 is the third of eight")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def that_holds(cls, name: str, of: int) -> "Shard":
        """That of a file by its name, so that no job has to know of another."""
        return cls(zlib.crc32(name.encode()) % of + 1, of)


@dataclass(frozen=True)
class Options:
    """What a user may choose about a data set. Each layout takes some of them (`readers.READERS`)."""

    image_set: str | None = flag(None, "which set of PHE-SICH; default: png if it is there", choices=("png", "jpg"))
    csv: str | None = flag(None, "table (csv, rsna), in data/raw/NAME or elsewhere; default: the only one", metavar="FILE")
    image_column: str | None = flag(None, f"of the table (csv); default: {', '.join(IMAGE_COLUMNS)}", metavar="COLUMN")
    skip_missing: bool = flag(False, "leave out rows without an image (csv, rsna)")
    patient_regex: str | None = flag(
        None,
        "searched in the file's stem, or in its path if the rule has a /; its first group is the patient: '^(\\d+)_'; auto: "
        "the rule that groups the file names best",
        metavar="RULE",
    )
    patient_column: str | None = flag(None, "of the table (csv, rsna); default: patient, if there is one", metavar="COLUMN")
    labels: list[str] | None = flag(
        None, "label columns (csv, rsna), class names by id (yolo), side (phe-sich)", type=cli.names, metavar="A,B"
    )
    map: dict[str, str] | None = flag(
        None, "call labels and classes otherwise, as other data call them: any=hemorrhage; several of one new name are joined",
        type=cli.pairs, metavar="OLD=NEW,...",
    )  # fmt: skip
    without_xml: str = flag(
        "unknown", "what images without an XML show (voc): negative = no object", choices=("unknown", "negative")
    )
    exclusive: bool = flag(False, "exactly one label of each image is 1 (csv): trained with softmax")
