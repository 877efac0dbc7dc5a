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


def test_what_excel_would_take_for_a_formula_is_text_and_reads_back(tmp_path):
    """In tables for people. Numbers stay numbers, and tables that are joined by identifiers hold these as they are."""
    cells = ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\tx", "-12", "+1", "-0.5", "'=x", "'a", "a-b", "", "-"]
    frame = pd.DataFrame({"patient": cells, "=n": range(len(cells)), "share": [-0.5] * len(cells)})
    path = tables.write_csv(tmp_path / "audit.csv", frame)
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert written["patient"].tolist() == [
        *("'=1+1", "'+cmd|' /C calc'!A0", "'-x", "'@SUM(A1)", "'\tx", "-12", "+1", "-0.5", "''=x", "'a", "a-b", "", "'-"),
    ]
    assert written.columns[1] == "'=n" and set(written["share"]) == {"-0.5"}
    pd.testing.assert_frame_equal(tables.read_csv(path, ["patient", "=n"]), frame, check_dtype=False)
    joined = tables.write_csv(tmp_path / "labels.csv", frame)
    assert pd.read_csv(joined, dtype=str, keep_default_na=False)["patient"].tolist() == cells
    pd.testing.assert_frame_equal(tables.read_csv(joined, ["patient"]), frame, check_dtype=False)


def test_a_table_without_formulas_is_written_as_it_is(tmp_path):
    frame = pd.DataFrame({"patient": ["a", "-1"], "n": [1, 2]})
    assert tables.write_csv(tmp_path / "a.csv", frame).read_text() == "patient,n\na,1\n-1,2\n"
