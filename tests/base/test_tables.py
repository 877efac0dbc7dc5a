"""The tables that steps exchange: text stays text, and what is missing is empty."""

from pathlib import Path

import pandas as pd

from hemoct.base import files, tables

ODD_NAMES = ["NA", "None", "null", "nan", "N/A", "0013", "1e5", "True", "<NA>"]


def test_names_that_look_like_missing_values_stay(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": [f"{name}_1" for name in ODD_NAMES], "patient": ODD_NAMES, "class": ODD_NAMES})
    tables.write_csv(tmp_path / "a.csv", frame)
    read = tables.read_csv(tmp_path / "a.csv", ["patient"])
    assert read["patient"].tolist() == read["class"].tolist() == ODD_NAMES


def test_numbers_may_be_missing_and_empty_text_is_no_nan(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.csv", "image_id,slice,hemorrhage,mask,group\na,1,NA,,\nb,,1\nc,2,nan,m.png,null\n")
    read = tables.read_csv(tmp_path / "a.csv", ["image_id"])
    assert read["mask"].tolist() == ["", "", "m.png"] and read["group"].tolist() == ["", "", "null"]
    assert read[["slice", "hemorrhage"]].isna().to_numpy().tolist() == [[False, True], [True, False], [False, True]]
    assert pd.api.types.is_float_dtype(read["slice"]) and pd.api.types.is_string_dtype(read["mask"])
