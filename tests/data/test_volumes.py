"""When a volume is in millilitres, when it is a count of pixels, and which spacings are refused."""

import numpy as np
import pandas as pd
import pytest

from hemoct.base.errors import UserError
from hemoct.data import volumes


def slices(*rows: tuple) -> pd.DataFrame:
    """Rows of (patient, spacing_row, spacing_col, spacing_z) as of labels.csv."""
    frame = pd.DataFrame(rows, columns=["patient", *volumes.SPACINGS])
    frame.insert(0, "image_id", [f"slice{row}" for row in range(len(rows))])
    return frame


def test_millilitres_by_hand():
    """A voxel of 0.5 x 0.4 x 5 mm has 1 mm3: 1,000 of them are 1 ml."""
    factor, unit = volumes.per_slice(slices(("1", 0.5, 0.4, 5), ("1", 0.5, 0.4, 10)))
    np.testing.assert_allclose(factor, [0.001, 0.002])
    assert list(unit) == ["ml", "ml"]


def test_without_spacing_columns_pixels_are_counted():
    factor, unit = volumes.per_slice(slices(("1", 1, 1, 1), ("2", 1, 1, 1)).drop(columns=volumes.SPACINGS))
    assert list(factor) == [1, 1] and list(unit) == ["px", "px"]


@pytest.mark.parametrize("column", volumes.SPACINGS)
def test_one_unknown_spacing_decides_for_its_patient_alone(column: str):
    frame = slices(("1", 1, 1, 5), ("2", 1, 1, 5), ("1", 1, 1, 5), ("2", 1, 1, 5)).astype(dict.fromkeys(volumes.SPACINGS, float))
    frame.loc[2, column] = np.nan
    factor, unit = volumes.per_slice(frame)
    np.testing.assert_allclose(factor, [1, 0.005, 1, 0.005])
    assert list(unit) == ["px", "ml", "px", "ml"]


def test_a_filtered_table_keeps_its_order():
    """Row numbers that do not start at 0, as after a selection, must not shift factors to other slices."""
    frame = slices(("1", 1, 1, 1), ("2", 1, 1, 2), ("3", np.nan, 1, 3))
    factor, unit = volumes.per_slice(frame.iloc[::-1])
    np.testing.assert_allclose(factor, [1, 0.002, 0.001])
    assert list(unit) == ["px", "ml", "ml"]


@pytest.mark.parametrize("wrong", [0, -0.5, "thin", np.inf])
def test_a_wrong_spacing_stops_with_its_slice(wrong: object):
    frame = slices(("1", 1, 1, 5), ("1", 1, 1, 5)).astype(object)
    frame.loc[1, "spacing_z"] = wrong
    with pytest.raises(UserError, match=rf"^mine\.csv: spacing_z of slice1 is {wrong} .*03_make_labels"):
        volumes.per_slice(frame, "mine.csv")
