"""PHE-SICH-CT-IDS: numbers in file names, the image sets, MedInfo.xlsx; nothing is guessed."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from hemoct.base.errors import UserError
from hemoct.ingest import layouts, phe_sich


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("set/image13/0013_05.png", "0013_05"),
        ("annotation/annotation13/013_05.xml", "0013_05"),
        ("annotation/annotation13/5.xml", "0013_05"),
        ("set/image163/0163_108.png", "0163_108"),
        ("other/5.xml", None),
        ("annotation13/x_05.xml", None),
    ],
)
def test_phe_identifiers(name: str, image_id: str | None):
    assert phe_sich.phe_id(Path(name)) == image_id


def test_the_jpg_set_is_taken_when_named(tmp_path: Path):
    for kind, suffix in (("SubdatasetB_JPG", "jpg"), ("SubdatasetC_PNG", "png")):
        (tmp_path / kind / "set" / "image1").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / kind / "set" / "image1" / f"0001_00.{suffix}")
    listing = layouts.list_files(tmp_path)
    assert phe_sich.choose_set(tmp_path, listing, None).kind == "png"
    assert phe_sich.choose_set(tmp_path, listing, "jpg").base == Path("SubdatasetB_JPG")
    with pytest.raises(UserError, match="only --image-set jpg"):
        phe_sich.choose_set(tmp_path, [path for path in listing if path.suffix == ".jpg"], "png")


@pytest.mark.parametrize(
    ("text", "side"),
    [("left", "left"), ("R", "right"), ("Right lobe", "right"), ("left and right", None), ("both (left)", None),
     ("brainstem", None), (None, None), ("not left", None)],
)  # fmt: skip
def test_a_side_is_told_in_one_word(text: str | None, side: str | None):
    assert phe_sich.side_of(text) == side


def test_the_patient_column_is_the_one_that_names_most_patients():
    sheet = pd.DataFrame({"age": ["1", "1", "2"], "image": ["image1", "2.0", "003"], "note": ["a", "b", "c"]})
    assert phe_sich.patient_column(sheet, ["0001", "0002", "0003"]) == "image"
    assert phe_sich.patient_column(sheet, ["0007", "0008"]) is None
