"""What all readers share: the number of a slice in its file's name."""

import pytest

from hemoct.ingest import reader_tables


@pytest.mark.parametrize(
    ("text", "number"), [("_21", 21), ("13_021", 21), ("-0001", 1), ("ID_4e1a3b912", None), ("_x", None), ("", None)]
)
def test_a_slice_number_stands_alone(text: str, number: int | None):
    assert reader_tables.slice_number(text) == number
